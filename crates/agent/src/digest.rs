//! What the `info` command tells of a stanza, as values: as much of it as a page and metrics show.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What a repository has of a stanza.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RepositoryDigest {
    /// Which of the configured repositories.
    pub key: u32,
    /// pgBackRest's code of how it is: 0 where all is well.
    pub code: u8,
    /// The same in words.
    pub message: String,
    /// How it is encrypted.
    pub cipher: String,
    /// Bytes of the packs that its backups need; `None` where that can't be known.
    pub pack_bytes: Option<u64>,
    /// The last WAL segment in its archive.
    pub last_segment: Option<String>,
    /// Its backups, oldest first.
    pub backups: Vec<BackupDigest>,
    /// The moments that can be reached.
    pub windows: Vec<WindowDigest>,
    /// WAL segments that are missing.
    pub missing: Vec<MissingDigest>,
}

/// A backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BackupDigest {
    /// Its label.
    pub label: String,
    /// `full`, `diff` or `incr`.
    pub kind: String,
    /// When it began.
    pub started: Timestamp,
    /// When it ended.
    pub ended: Timestamp,
    /// Bytes of the cluster.
    pub size: u64,
    /// Bytes that were read of it.
    pub read: u64,
    /// Bytes of the repository that it needs.
    pub stored: u64,
    /// Bytes that it has added to the repository.
    pub added: u64,
    /// Bytes of the repository that only it needs; `None` where that can't be known.
    pub exclusive: Option<u64>,
    /// Whether it has pages that were damaged in the cluster.
    pub damaged: bool,
    /// The first WAL segment that it needs.
    pub first_segment: Option<String>,
}

/// Moments that can be reached, all of them from one backup on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct WindowDigest {
    /// The timeline.
    pub timeline: u32,
    /// The backup with which it begins.
    pub backup: String,
    /// The first moment.
    pub start: Timestamp,
    /// When the last transaction in it ended; `None` where none did of late.
    pub stop: Option<Timestamp>,
}

/// WAL segments that are missing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MissingDigest {
    /// The first.
    pub first: String,
    /// The last.
    pub last: String,
    /// How many.
    pub count: u64,
    /// Whether retention has removed them, on purpose.
    pub by_retention: bool,
}

impl RepositoryDigest {
    /// The newest backup; of a kind, if one is given.
    pub(crate) fn newest(&self, kind: Option<&str>) -> Option<&BackupDigest> {
        self.backups
            .iter()
            .filter(|backup| kind.is_none_or(|kind| backup.kind == kind))
            .max_by_key(|backup| backup.ended)
    }

    /// The window that reaches furthest, which is where the cluster is now.
    pub(crate) fn newest_window(&self) -> Option<&WindowDigest> {
        self.windows.iter().max_by_key(|window| (window.timeline, window.stop.unwrap_or(window.start)))
    }

    /// What is missing though nobody wanted it to be.
    pub(crate) fn gaps(&self) -> impl Iterator<Item = &MissingDigest> {
        self.missing.iter().filter(|missing| !missing.by_retention)
    }

    /// Whether all is well with the repository.
    pub(crate) fn is_well(&self) -> bool {
        self.code == 0
    }
}

/// Takes what `info --output=json` says of one stanza. What is not as expected is left out.
pub(crate) fn digest(info: &Value) -> Vec<RepositoryDigest> {
    let list = |name: &str| info[name].as_array().into_iter().flatten();
    let mut repositories: Vec<_> = list("repo").filter_map(|found| told::Repository::deserialize(found).ok()).collect();
    repositories.sort_by_key(|repository| repository.key);
    let mut digests: Vec<_> = repositories.into_iter().map(RepositoryDigest::from).collect();
    for archive in list("archive").filter_map(|found| told::Archive::deserialize(found).ok()) {
        let key = archive.database.repository;
        let Some(digest) = digests.iter_mut().find(|digest| digest.key == key) else { continue };
        digest.last_segment = archive.max.or(digest.last_segment.take());
        digest.windows.extend(archive.pgark.window.iter().filter_map(told::Window::digest));
        digest.missing.extend(archive.pgark.missing.into_iter().map(MissingDigest::from));
    }
    for backup in list("backup").filter_map(|found| told::Backup::deserialize(found).ok()) {
        let key = backup.database.repository;
        let Some(digest) = digests.iter_mut().find(|digest| digest.key == key) else { continue };
        digest.backups.extend(backup.digest());
    }
    for digest in &mut digests {
        digest.backups.sort_by(|one, other| (one.ended, &one.label).cmp(&(other.ended, &other.label)));
    }
    digests
}

/// The members as `info` names them.
mod told {
    use jiff::Timestamp;
    use serde::Deserialize;

    use super::{BackupDigest, MissingDigest, RepositoryDigest, WindowDigest};

    #[derive(Deserialize)]
    pub(super) struct Repository {
        pub(super) key: u32,
        #[serde(default)]
        cipher: String,
        status: Status,
        #[serde(default)]
        pgark: Details,
    }

    #[derive(Deserialize)]
    struct Status {
        code: u8,
        message: String,
    }

    #[derive(Default, Deserialize)]
    struct Details {
        #[serde(rename = "pack-size")]
        pack_size: Option<u64>,
    }

    impl From<Repository> for RepositoryDigest {
        fn from(told: Repository) -> Self {
            let Repository { key, cipher, status: Status { code, message }, pgark } = told;
            let (last_segment, pack_bytes) = (None, pgark.pack_size);
            let (backups, windows, missing) = Default::default();
            Self { key, code, message, cipher, pack_bytes, last_segment, backups, windows, missing }
        }
    }

    #[derive(Deserialize)]
    pub(super) struct Database {
        #[serde(rename = "repo-key")]
        pub(super) repository: u32,
    }

    #[derive(Deserialize)]
    struct Span<T> {
        start: T,
        stop: T,
    }

    #[derive(Deserialize)]
    pub(super) struct Archive {
        pub(super) database: Database,
        pub(super) max: Option<String>,
        #[serde(default)]
        pub(super) pgark: ArchiveDetails,
    }

    #[derive(Default, Deserialize)]
    pub(super) struct ArchiveDetails {
        #[serde(default)]
        pub(super) missing: Vec<Missing>,
        #[serde(default)]
        pub(super) window: Vec<Window>,
    }

    #[derive(Deserialize)]
    pub(super) struct Missing {
        #[serde(rename = "by-retention")]
        by_retention: bool,
        count: u64,
        first: String,
        last: String,
    }

    impl From<Missing> for MissingDigest {
        fn from(told: Missing) -> Self {
            let Missing { by_retention, count, first, last } = told;
            Self { first, last, count, by_retention }
        }
    }

    #[derive(Deserialize)]
    pub(super) struct Window {
        backup: String,
        timeline: u32,
        timestamp: Span<Option<i64>>,
    }

    impl Window {
        pub(super) fn digest(&self) -> Option<WindowDigest> {
            let time = |second: Option<i64>| Timestamp::from_second(second?).ok();
            let (timeline, backup) = (self.timeline, self.backup.clone());
            Some(WindowDigest { timeline, backup, start: time(self.timestamp.start)?, stop: time(self.timestamp.stop) })
        }
    }

    #[derive(Deserialize)]
    pub(super) struct Backup {
        archive: Span<Option<String>>,
        pub(super) database: Database,
        error: bool,
        info: Sizes,
        label: String,
        #[serde(default)]
        pgark: BackupDetails,
        timestamp: Span<i64>,
        #[serde(rename = "type")]
        kind: String,
    }

    #[derive(Default, Deserialize)]
    struct BackupDetails {
        exclusive: Option<u64>,
    }

    #[derive(Deserialize)]
    struct Sizes {
        delta: u64,
        repository: RepositorySizes,
        size: u64,
    }

    #[derive(Deserialize)]
    struct RepositorySizes {
        delta: u64,
        size: u64,
    }

    impl Backup {
        pub(super) fn digest(self) -> Option<BackupDigest> {
            Some(BackupDigest {
                started: Timestamp::from_second(self.timestamp.start).ok()?,
                ended: Timestamp::from_second(self.timestamp.stop).ok()?,
                label: self.label,
                kind: self.kind,
                size: self.info.size,
                read: self.info.delta,
                stored: self.info.repository.size,
                added: self.info.repository.delta,
                exclusive: self.pgark.exclusive,
                damaged: self.error,
                first_segment: self.archive.start,
            })
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// What `info` tells of a stanza in two repositories, the second of which can't be read.
    pub(crate) fn info() -> Value {
        serde_json::json!({
            "archive": [{
                "database": {"id": 1, "repo-key": 1}, "id": "17-1",
                "min": "000000010000000000000002", "max": "00000001000000000000000A",
                "pgark": {
                    "missing": [
                        {"by-retention": true, "count": 1, "first": "000000010000000000000003", "last": "000000010000000000000003"},
                        {"by-retention": false, "count": 2, "first": "000000010000000000000005", "last": "000000010000000000000006"},
                    ],
                    "window": [{
                        "backup": "20261122-023310F", "lsn": {"start": "0/2000028", "stop": "0/A000000"}, "timeline": 1,
                        "timestamp": {"start": 1_795_314_800, "stop": 1_795_320_000},
                    }],
                },
            }],
            "backup": [
                {
                    "archive": {"start": "000000010000000000000008", "stop": "000000010000000000000008"},
                    "backrest": {"format": 5, "version": "0.1.0"}, "database": {"id": 1, "repo-key": 1}, "error": true,
                    "info": {"delta": 4096, "repository": {"delta": 1024, "size": 51200}, "size": 204_800},
                    "label": "20261122-023310F_20261122-030000I", "pgark": {"exclusive": 512},
                    "prior": "20261122-023310F", "timestamp": {"start": 1_795_316_400, "stop": 1_795_316_410},
                    "type": "incr",
                },
                {
                    "archive": {"start": "000000010000000000000002", "stop": "000000010000000000000002"},
                    "backrest": {"format": 5, "version": "0.1.0"}, "database": {"id": 1, "repo-key": 1}, "error": false,
                    "info": {"delta": 204_800, "repository": {"delta": 51200, "size": 51200}, "size": 204_800},
                    "label": "20261122-023310F", "pgark": {"exclusive": null}, "prior": null,
                    "timestamp": {"start": 1_795_314_790, "stop": 1_795_314_800}, "type": "full",
                },
            ],
            "cipher": "none", "db": [], "name": "main",
            "repo": [
                {"cipher": "none", "key": 1, "pgark": {"pack-size": 52_224}, "status": {"code": 0, "message": "ok"}},
                {"cipher": "aes-256-gcm", "key": 2, "status": {"code": 99, "message": "other: no such host"}},
            ],
            "status": {"code": 4, "message": "different across repos"},
        })
    }

    #[test]
    fn what_info_tells_is_sorted_by_repository() {
        let digests = digest(&info());
        let [first, second] = &digests[..] else { panic!("{digests:?}") };
        let labels: Vec<_> = first.backups.iter().map(|backup| backup.label.as_str()).collect();
        assert_eq!(labels, ["20261122-023310F", "20261122-023310F_20261122-030000I"]);
        assert_eq!(first.newest(None).unwrap().label, labels[1]);
        assert_eq!(first.newest(Some("full")).unwrap().label, labels[0]);
        assert_eq!((first.gaps().count(), first.pack_bytes), (1, Some(52_224)));
        assert_eq!(first.newest_window().unwrap().stop, Timestamp::from_second(1_795_320_000).ok());
        assert!(first.is_well() && !second.is_well() && second.backups.is_empty());
    }

    #[test]
    fn what_is_not_as_expected_is_left_out() {
        assert!(digest(&Value::Null).is_empty());
        let mut info = info();
        info["backup"][0]["timestamp"]["stop"] = "yesterday".into();
        info["archive"][0]["database"] = Value::Null;
        let digests = digest(&info);
        assert_eq!((digests[0].backups.len(), digests[0].windows.len()), (1, 0));
    }
}
