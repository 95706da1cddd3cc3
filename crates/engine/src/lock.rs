//! The lock files that keep two commands of one kind off a stanza on one host.

use std::path::Path;

use pgark_repository::StanzaName;
use pgark_system::durable;
use pgark_system::lock::FileLock;

use crate::error::{Error, ErrorKind, Result};

/// Takes the lock `<stanza>-<kind>-<repository>.lock` below `lock_path`, pgBackRest's name for it.
///
/// # Errors
/// [`ErrorKind::LockAcquire`] where another process holds it.
pub(crate) fn acquire(lock_path: &Path, stanza: &StanzaName, kind: &str, repository: u32) -> Result<FileLock> {
    durable::create_directory_all(lock_path, 0o770).map_err(|error| {
        Error::new(ErrorKind::PathCreate, error.to_string()).hint("set lock-path to a directory that can be written")
    })?;
    let path = lock_path.join(format!("{stanza}-{kind}-{repository}.lock"));
    let Some(mut lock) = FileLock::try_acquire(&path)? else {
        let message = format!("unable to acquire lock on file '{}': another process holds it", path.display());
        return Err(Error::new(ErrorKind::LockAcquire, message).hint("is another pgark process running?"));
    };
    lock.write(format!("{{\"pid\":{}}}", std::process::id()).as_bytes())?;
    Ok(lock)
}
