//! WAL that was dropped because more waited than is allowed. Word of it lies beside the lock files, for the agent: the archive
//! shows the gap only when something comes after it.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

use fs_err as fs;
use jiff::{SignedDuration, Timestamp};
use pgark_postgres::wal::name::WalFileName;
use pgark_repository::StanzaName;
use pgark_system::durable::{self, Existing};
use serde::{Deserialize, Serialize};

use crate::lock;

/// For how long nothing is dropped before what is dropped next is another loss.
const PAUSE: SignedDuration = SignedDuration::from_hours(1);

/// WAL that a repository goes without.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dropped {
    /// The first file.
    pub first: String,
    /// The last file.
    pub last: String,
    /// How many there are.
    pub files: u64,
    /// When the first was dropped.
    pub since: Timestamp,
    /// When the last was dropped.
    pub until: Timestamp,
}

/// What was dropped last, by repository.
pub type DroppedWal = BTreeMap<u32, Dropped>;

/// What was dropped last of a stanza's WAL on this host; nothing where there is no word of it.
pub fn read(lock_path: &Path, stanza: &StanzaName) -> DroppedWal {
    let bytes = fs::read(path(lock_path, stanza)).unwrap_or_default();
    serde_json::from_slice(&bytes).unwrap_or_default()
}

/// Leaves word of a file that these repositories go without. Nothing depends on it but who is told.
pub(crate) fn note(
    lock_path: &Path,
    stanza: &StanzaName,
    name: WalFileName,
    repositories: &BTreeSet<u32>,
    now: Timestamp,
) {
    let mut known = read(lock_path, stanza);
    for key in repositories {
        known.insert(*key, added(known.get(key), name, now));
    }
    let write = || -> io::Result<()> {
        durable::create_directory_all(lock_path, lock::DIRECTORY_MODE)?;
        let bytes = serde_json::to_vec(&known)?;
        durable::write(&path(lock_path, stanza), &bytes, 0o640, Existing::Replace)
    };
    if let Err(error) = write() {
        tracing::warn!("unable to leave word of dropped WAL for the agent: {error}");
    }
}

fn added(known: Option<&Dropped>, name: WalFileName, now: Timestamp) -> Dropped {
    let (last, until) = (name.to_string(), now);
    match known.filter(|known| now.duration_since(known.until) < PAUSE) {
        Some(known) => Dropped {
            first: known.first.clone(),
            files: known.files.saturating_add(1),
            since: known.since,
            last,
            until,
        },
        None => Dropped { first: last.clone(), files: 1, since: now, last, until },
    }
}

fn path(lock_path: &Path, stanza: &StanzaName) -> PathBuf {
    lock_path.join(format!("{stanza}.dropped"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_dropped_in_one_go_is_one_loss() {
        let directory = tempfile::tempdir().unwrap();
        let (locks, stanza) = (directory.path().join("lock"), "demo".parse().unwrap());
        assert_eq!(read(&locks, &stanza), DroppedWal::new());
        let time = |second| Timestamp::from_second(second).unwrap();
        let note = |number: u32, keys: &[u32], second| {
            let name = format!("0000000100000000{number:08X}").parse().unwrap();
            note(&locks, &stanza, name, &keys.iter().copied().collect(), time(second));
        };
        note(1, &[1, 2], 1000);
        note(2, &[2], 1001);
        let dropped = |first: u32, last: u32, files, since, until| Dropped {
            first: format!("0000000100000000{first:08X}"),
            last: format!("0000000100000000{last:08X}"),
            files,
            since: time(since),
            until: time(until),
        };
        let of_first = dropped(1, 1, 1, 1000, 1000);
        assert_eq!(read(&locks, &stanza), BTreeMap::from([(1, of_first.clone()), (2, dropped(1, 2, 2, 1000, 1001))]));
        note(9, &[2], 1001 + 3600);
        assert_eq!(read(&locks, &stanza), BTreeMap::from([(1, of_first), (2, dropped(9, 9, 1, 4601, 4601))]));
        fs::write(path(&locks, &stanza), "{").unwrap();
        assert_eq!(read(&locks, &stanza), DroppedWal::new());
    }
}
