//! The lock files that keep two commands of one kind off a stanza on one host.

use std::path::{Path, PathBuf};
use std::time::Duration;

use pgark_repository::StanzaName;
use pgark_system::lock::FileLock;
use pgark_system::{clock, durable};

use crate::error::{Error, ErrorKind, Result};

/// How long somebody may hold the lock without being at work.
const LOOK_TIME: Duration = Duration::from_millis(50);

/// The lock file of a kind of command.
pub(crate) fn path(lock_path: &Path, stanza: &StanzaName, kind: &str, repository: u32) -> PathBuf {
    lock_path.join(format!("{stanza}-{kind}-{repository}.lock"))
}

/// Takes the lock `<stanza>-<kind>-<repository>.lock` below `lock_path`, pgBackRest's name for it.
///
/// # Errors
/// [`ErrorKind::LockAcquire`] where another process holds it.
pub(crate) fn acquire(lock_path: &Path, stanza: &StanzaName, kind: &str, repository: u32) -> Result<FileLock> {
    durable::create_directory_all(lock_path, 0o770).map_err(|error| {
        Error::new(ErrorKind::PathCreate, error.to_string()).hint("set lock-path to a directory that can be written")
    })?;
    let path = path(lock_path, stanza, kind, repository);
    // Somebody who only looks whether a command runs holds the lock for a moment.
    let lock = clock::wait_for(LOOK_TIME, LOOK_TIME / 5, || FileLock::try_acquire(&path))?;
    let Some(mut lock) = lock else {
        let message = format!("unable to acquire lock on file '{}': another process holds it", path.display());
        return Err(Error::new(ErrorKind::LockAcquire, message).hint("is another pgark process running?"));
    };
    lock.write(format!("{{\"pid\":{}}}", std::process::id()).as_bytes())?;
    Ok(lock)
}
