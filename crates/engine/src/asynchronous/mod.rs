//! Asynchronous archiving.
//!
//! PostgreSQL asks for one WAL file after the other and waits for each answer: the process that it starts is in the
//! *foreground*. A second one, in the *background*, goes on by itself ([`push::background`], [`get::background`]): it
//! pushes whatever is ready, or fetches ahead, many files at once. There is one of each kind for a stanza on a host; a lock
//! file says whether it is at work.
//!
//! They leave word for each other in the spool (`asynchronous::spool`). All of it may be lost or be out of date at any
//! time: word counts only as far as whoever reads it can tell that it is of the file, the cluster and the repositories at
//! hand. Without it a process asks the repositories. So nothing in the spool needs to be synced.

pub mod get;
pub mod push;
pub(crate) mod spool;

use std::io;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::Duration;

use pgark_repository::StanzaName;

use crate::error::{Error, ErrorKind, Result};
use crate::lock::{self, Lock, Locks};
use crate::stanza::RepositorySettings;

/// How often a foreground looks for word, at the most.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// What foreground and background have in common.
#[derive(Debug)]
pub struct AsyncSettings {
    /// The directory of the spool, below which each stanza has its own.
    pub spool_path: PathBuf,
    /// Where lock files are.
    pub lock_path: PathBuf,
    /// How long a foreground waits for a background.
    pub timeout: Duration,
    /// The log of the background, for hints.
    pub log_file: PathBuf,
}

/// Starts a background, with the parameter that it begins with. It is not waited for.
pub type Start<'start> = &'start mut dyn FnMut(&str) -> io::Result<Child>;

/// The kind of a lock file of a background that pushes: pgBackRest's word.
const PUSH_LOCK: &str = "archive";
/// The kind of a lock file of a background that fetches. It has one of its own, so that the two do not wait for each other.
const GET_LOCK: &str = "prefetch";

/// The lock file of a background: named after the first repository, as there is one background for all.
fn lock_file(
    settings: &AsyncSettings,
    stanza: &StanzaName,
    kind: &str,
    repositories: &[RepositorySettings],
) -> PathBuf {
    lock::path(&settings.lock_path, stanza, kind, first_key(repositories))
}

/// Takes the lock of a background that does `command`; `None` where another one has it.
fn acquire(
    settings: &AsyncSettings,
    stanza: &StanzaName,
    kind: &str,
    repositories: &[RepositorySettings],
    command: &str,
) -> Result<Option<Lock>> {
    let locks = Locks { directory: settings.lock_path.clone(), wait: Duration::ZERO };
    match lock::acquire(&locks, stanza, kind, first_key(repositories), command) {
        Ok(lock) => Ok(Some(lock)),
        Err(error) if error.kind() == ErrorKind::LockAcquire => {
            tracing::info!("another process is at work: {error}");
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

fn first_key(repositories: &[RepositorySettings]) -> u32 {
    repositories.first().map_or(1, |first| first.key)
}

/// The repositories as the spool names them.
fn places(repositories: &[RepositorySettings]) -> Vec<String> {
    repositories.iter().map(|repository| repository.storage.describe()).collect()
}

/// A hint on where the background says more.
fn log_hint(log_file: &Path) -> String {
    format!("check '{}' for errors", log_file.display())
}

/// An error in using the spool.
fn spool_error(error: io::Error) -> Error {
    Error::from(error).hint("is spool-path a directory that can be written, with space left on its file system?")
}
