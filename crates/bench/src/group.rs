//! What is measured: the groups of a run, the tasks in them, and the programs that do the tasks.

use serde::{Deserialize, Serialize};

/// The data that a group works on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Data {
    /// Rows, JSON and vectors, about a third each.
    Mixed,
    /// Many small files.
    Files,
    /// Segments of WAL.
    Wal,
    /// What [`Data::Mixed`] is, and changes between backups.
    Changes,
    /// Many segments of WAL that wait to be archived.
    #[serde(rename = "wal-async")]
    WalQueue,
    /// Thousands of small segments of WAL that wait to be archived.
    #[serde(rename = "wal-many")]
    WalMany,
}

impl Data {
    pub(crate) const ALL: [Self; 6] =
        [Self::Mixed, Self::Files, Self::Wal, Self::Changes, Self::WalQueue, Self::WalMany];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Mixed => "mixed",
            Self::Files => "files",
            Self::Wal => "wal",
            Self::Changes => "changes",
            Self::WalQueue => "wal-async",
            Self::WalMany => "wal-many",
        }
    }
}

/// Where the repository lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Storage {
    Disk,
    S3,
}

impl Storage {
    pub(crate) const ALL: [Self; 2] = [Self::Disk, Self::S3];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Disk => "disk",
            Self::S3 => "s3",
        }
    }
}

/// What is measured in one go, alternating between the programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Group {
    pub(crate) data: Data,
    pub(crate) storage: Storage,
}

impl Group {
    /// All groups, in the order in which they are measured and reported. How much of a change is stored does not depend
    /// on where, so that it is measured in one place; and many segments at once are for where each takes its time.
    pub(crate) fn all() -> Vec<Self> {
        let groups = Storage::ALL.iter().flat_map(|&storage| Data::ALL.map(|data| Self { data, storage }));
        let is_measured = |group: &Self| {
            !matches!(
                (group.data, group.storage),
                (Data::Changes, Storage::S3) | (Data::WalQueue | Data::WalMany, Storage::Disk)
            )
        };
        groups.filter(is_measured).collect()
    }

    pub(crate) fn name(self) -> String {
        format!("{}-{}", self.data.name(), self.storage.name())
    }

    pub(crate) fn parse(name: &str) -> Result<Self, String> {
        Self::all().into_iter().find(|group| group.name() == name).ok_or_else(|| format!("there is no group '{name}'"))
    }
}

/// What a program is asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Task {
    /// A full backup into an empty repository.
    Backup,
    /// The same, of frames that are not decoded again: as the other programs do it.
    UncheckedBackup,
    /// An incremental backup after few pages have changed.
    Incremental,
    /// A full backup after another one, with nothing changed between them.
    UnchangedFull,
    /// One of many full backups, with few pages changed between them.
    DailyFull,
    /// A restore into a directory that does not exist.
    Restore,
    /// A restore with `--delta` into a directory that needs no change.
    DeltaRestore,
    /// Archiving one segment.
    ArchivePush,
    /// Fetching one segment.
    ArchiveGet,
    /// Archiving all segments that wait, asynchronously.
    ArchivePushQueue,
}

impl Task {
    pub(crate) const ALL: [Self; 10] = [
        Self::Backup,
        Self::UncheckedBackup,
        Self::Incremental,
        Self::UnchangedFull,
        Self::DailyFull,
        Self::Restore,
        Self::DeltaRestore,
        Self::ArchivePush,
        Self::ArchiveGet,
        Self::ArchivePushQueue,
    ];

    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Backup => "full backup",
            Self::UncheckedBackup => "full backup, nothing decoded again",
            Self::Incremental => "incremental backup, 1 % changed",
            Self::UnchangedFull => "second full backup, nothing changed",
            Self::DailyFull => "daily full backup, 1 % changed a day",
            Self::Restore => "restore",
            Self::DeltaRestore => "delta restore, nothing changed",
            Self::ArchivePush => "archive-push, one segment",
            Self::ArchiveGet => "archive-get, one segment",
            Self::ArchivePushQueue => "archive-push, asynchronous, all that wait",
        }
    }
}

/// A program that is measured, or the machine itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Peer {
    Pgark,
    PgBackRest,
    PgBaseBackup,
}

impl Peer {
    pub(crate) const ALL: [Self; 3] = [Self::Pgark, Self::PgBackRest, Self::PgBaseBackup];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Pgark => "pgark",
            Self::PgBackRest => "pgBackRest",
            Self::PgBaseBackup => "pg_basebackup",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_group_is_found_by_its_name() {
        assert_eq!(Group::all().len(), 9);
        for group in Group::all() {
            assert_eq!(Group::parse(&group.name()), Ok(group));
        }
    }
}
