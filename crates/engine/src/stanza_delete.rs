//! Removing a stanza from a repository.

use std::path::PathBuf;

use pgark_postgres::process::{Running, running};
use pgark_repository::{StanzaName, removal, session};
use pgark_system::termination;

use crate::control;
use crate::error::{Error, ErrorKind, Result};
use crate::lock::{self, Locks};
use crate::stanza::{OpenRepository, RepositorySettings};

/// The stanza that is to be removed.
#[derive(Debug)]
pub struct StanzaDeleteSettings {
    /// The stanza.
    pub stanza: StanzaName,
    /// The data directory.
    pub data_directory: PathBuf,
    /// The repository it is removed from.
    pub repository: RepositorySettings,
    /// Whether to go on although PostgreSQL or somebody else seems to be at work.
    pub force: bool,
    /// Where lock files are.
    pub locks: Locks,
    /// This host.
    pub host: String,
}

/// Removes the stanza, with every backup and the whole archive, and then the stop file. Where there is nothing of it,
/// that is success.
///
/// # Errors
/// [`ErrorKind::FileMissing`] where `stop` was not run; [`ErrorKind::PostgresRunning`] and [`ErrorKind::LockAcquire`]
/// where somebody may be at work; or the storage's error. After an error it may be run again.
pub fn run(settings: &StanzaDeleteSettings) -> Result<()> {
    let (stanza, key) = (&settings.stanza, settings.repository.key);
    let repository = settings.repository.open()?;
    if !removal::has_objects(&repository.repository, stanza)? {
        tracing::info!("stanza '{stanza}' does not exist on repo{key}, there is nothing to delete");
        return Ok(());
    }
    ensure_nobody_is_at_work(settings, &repository)?;
    let _backup = lock::acquire(&settings.locks, stanza, "backup", key, "stanza-delete")?;
    let _restore = lock::acquire(&settings.locks, stanza, "restore", key, "stanza-delete")?;
    let removed = removal::remove_stanza::<Error>(&repository.repository, stanza, &mut || Ok(termination::check()?))?;
    control::remove_stop_file(&settings.locks.directory, Some(stanza))?;
    tracing::info!("deleted stanza '{stanza}' on repo{key}, {removed} objects");
    Ok(())
}

fn ensure_nobody_is_at_work(settings: &StanzaDeleteSettings, repository: &OpenRepository) -> Result<()> {
    let stanza = &settings.stanza;
    if !control::is_stopped(&settings.locks.directory, stanza)? {
        let message = format!("stop file does not exist for stanza '{stanza}'");
        return Err(Error::new(ErrorKind::FileMissing, message)
            .hint("has the pgark stop command been run on this server for this stanza?"));
    }
    if settings.force {
        return Ok(());
    }
    if !matches!(running(&settings.data_directory)?, Running::No) {
        let message = format!(
            "postmaster.pid exists - looks like PostgreSQL is running. To delete stanza '{stanza}' on repo{}, shut down \
             PostgreSQL for stanza '{stanza}' and try again, or use --force.",
            repository.key
        );
        return Err(Error::new(ErrorKind::PostgresRunning, message));
    }
    ensure_no_other_host(settings, repository)
}

/// Commands on this host are kept away by lock files. Those on other hosts are known by their sessions.
fn ensure_no_other_host(settings: &StanzaDeleteSettings, repository: &OpenRepository) -> Result<()> {
    let sessions = session::sessions(&repository.repository, &settings.stanza)?;
    let Some(other) = sessions.into_iter().find(|session| session.host != settings.host) else { return Ok(()) };
    let message = format!(
        "process {} on host '{}' is at work on stanza '{}' on repo{}: it last said so at {}",
        other.process, other.host, settings.stanza, repository.key, other.renewed
    );
    Err(Error::new(ErrorKind::LockAcquire, message)
        .hint("wait until it has ended; if it does not run any more, use --force"))
}
