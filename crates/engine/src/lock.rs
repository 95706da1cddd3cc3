//! The lock files that keep two commands of one kind off a stanza on one host.

use std::path::{Path, PathBuf};
use std::time::Duration;

use fs_err as fs;
use pgark_repository::StanzaName;
use pgark_system::lock::FileLock;
use pgark_system::{clock, durable};
use rustix::process::Pid;
use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind, Result};

/// How long somebody may hold the lock without being at work.
const LOOK_TIME: Duration = Duration::from_millis(50);

/// What a lock file says of the process that holds it. The members have pgBackRest's names.
#[derive(Serialize, Deserialize)]
struct Holder {
    pid: u32,
}

/// The stanza of a lock file's name, `<stanza>-<kind>-<repository>.lock`. It may have dashes in it, the rest has none.
pub(crate) fn stanza_of(file_name: &str) -> Option<StanzaName> {
    let (rest, repository) = file_name.strip_suffix(".lock")?.rsplit_once('-')?;
    let (stanza, _kind) = rest.rsplit_once('-')?;
    repository.parse::<u32>().ok()?;
    stanza.parse().ok()
}

/// The lock file of a kind of command.
pub(crate) fn path(lock_path: &Path, stanza: &StanzaName, kind: &str, repository: u32) -> PathBuf {
    lock_path.join(format!("{stanza}-{kind}-{repository}.lock"))
}

/// Makes the directory of lock files where it is missing.
///
/// # Errors
/// [`ErrorKind::PathCreate`]
pub(crate) fn create_directory(lock_path: &Path) -> Result<()> {
    durable::create_directory_all(lock_path, 0o770).map_err(|error| {
        Error::new(ErrorKind::PathCreate, error.to_string()).hint("set lock-path to a directory that can be written")
    })
}

/// Takes the lock `<stanza>-<kind>-<repository>.lock` below `lock_path`, pgBackRest's name for it.
///
/// # Errors
/// [`ErrorKind::LockAcquire`] where another process holds it.
pub(crate) fn acquire(lock_path: &Path, stanza: &StanzaName, kind: &str, repository: u32) -> Result<FileLock> {
    create_directory(lock_path)?;
    let path = path(lock_path, stanza, kind, repository);
    // Somebody who only looks whether a command runs holds the lock for a moment.
    let lock = clock::wait_for(LOOK_TIME, LOOK_TIME / 5, || FileLock::try_acquire(&path))?;
    let Some(mut lock) = lock else {
        let message = format!("unable to acquire lock on file '{}': another process holds it", path.display());
        return Err(Error::new(ErrorKind::LockAcquire, message).hint("is another pgark process running?"));
    };
    let holder = serde_json::to_vec(&Holder { pid: std::process::id() }).map_err(std::io::Error::from)?;
    lock.write(&holder)?;
    Ok(lock)
}

/// The process that holds a lock, as its file says.
pub(crate) fn holder(path: &Path) -> Option<Pid> {
    let holder: Holder = serde_json::from_slice(&fs::read(path).ok()?).ok()?;
    Pid::from_raw(i32::try_from(holder.pid).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_of_one_stanza_even_where_names_begin_alike() {
        for (name, stanza) in [
            ("demo-backup-1.lock", Some("demo")),
            ("demo-two-restore-12.lock", Some("demo-two")),
            ("demo.stop", None),
            ("demo-1.lock", None),
            ("demo-backup-x.lock", None),
            ("-backup-1.lock", None),
        ] {
            let found = stanza_of(name).map(|stanza| stanza.to_string());
            assert_eq!(found.as_deref(), stanza, "{name}");
        }
    }
}
