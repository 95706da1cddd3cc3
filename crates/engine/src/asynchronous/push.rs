//! `archive-push` in asynchronous mode: answering PostgreSQL from the spool.

mod background;
mod queue;

use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus};

use pgark_postgres::wal::name::WalFileName;
use pgark_system::lock::is_held;
use pgark_system::{clock, termination};

pub use self::background::{BackgroundSettings, run as background};
use super::spool::{Settled, Source, Spool};
use super::{AsyncSettings, POLL_INTERVAL, PUSH_LOCK, Start, lock_file, log_hint, places, spool_error};
use crate::archive_push::{self, ArchivePushSettings};
use crate::error::{Error, ErrorKind, Result};
use crate::wal_path::wal_path;

/// How many backgrounds are started for one file, where each ends well and says nothing of it.
const STARTS_MAX: u32 = 3;

/// Says that the file is archived, once word of it is there: every repository has it then. Where nobody is at work a
/// background is started, which pushes this file and all others that are ready.
///
/// Where there is no way to leave word, or PostgreSQL does not wait for the file, it is pushed here and now.
///
/// # Errors
/// What kept the background from pushing the file; [`ErrorKind::ArchiveTimeout`] where it takes too long.
pub fn run(push: &ArchivePushSettings, settings: &AsyncSettings, start: Start<'_>) -> Result<()> {
    let data_directory = push.data_directory.as_ref().ok_or_else(|| {
        Error::new(ErrorKind::OptionRequired, "archive-push command in async mode requires option: pg1-path")
    })?;
    let path = wal_path(&push.file, data_directory)?;
    let name = archive_push::name_of(&path)?;
    let stanza = &push.push.stanza;
    let waiter = Waiter {
        settings,
        name,
        source: Source::of(&path)?,
        places: places(&push.push.repositories),
        spool: Spool::new(&settings.spool_path, stanza),
        lock: lock_file(settings, stanza, PUSH_LOCK, &push.push.repositories),
    };
    let settled = match waiter.look() {
        Ok(Some(settled)) => settled,
        Ok(None) if !archive_push::is_ready(&path, name) => return archive_push::run(push),
        Ok(None) => match waiter.spool.prepare_out() {
            Ok(()) => waiter.wait(&path, start)?,
            Err(error) => return without_spool(push, name, error),
        },
        Err(error) => return without_spool(push, name, error),
    };
    for warning in settled.warnings {
        tracing::warn!("{warning}");
    }
    tracing::info!("pushed WAL file '{name}' to the archive asynchronously");
    Ok(())
}

/// Archiving goes on without a spool, only slower.
fn without_spool(push: &ArchivePushSettings, name: WalFileName, error: std::io::Error) -> Result<()> {
    let error = spool_error(error);
    let hints: Vec<_> = error.hints().iter().map(|hint| format!("\nHINT: {hint}")).collect();
    tracing::warn!("WAL file '{name}' is pushed without the spool: {error}{}", hints.concat());
    archive_push::run(push)
}

/// A foreground that waits for word of one file.
struct Waiter<'wait> {
    settings: &'wait AsyncSettings,
    name: WalFileName,
    source: Source,
    places: Vec<String>,
    spool: Spool,
    lock: PathBuf,
}

impl Waiter<'_> {
    /// Word that this file, and no other of its name, is in each of these repositories.
    fn look(&self) -> std::io::Result<Option<Settled>> {
        let settled = self.spool.settled(self.name)?;
        Ok(settled.filter(|settled| settled.file == self.source && settled.covers(&self.places)))
    }

    fn wait(&self, path: &Path, start: Start<'_>) -> Result<Settled> {
        let directory = path.parent().unwrap_or(path).to_string_lossy().into_owned();
        let mut background = Background { running: None, starts: 0 };
        let found = clock::wait_for(self.settings.timeout, POLL_INTERVAL, || {
            self.ask(&mut background, &directory, &mut *start)
        });
        let found: Result<Option<Settled>> = found;
        if let Some(settled) = found? {
            return Ok(settled);
        }
        termination::check()?;
        let message = format!(
            "unable to push WAL file '{}' to the archive asynchronously after {}ms",
            self.name,
            self.settings.timeout.as_millis()
        );
        Err(Error::new(ErrorKind::ArchiveTimeout, message).hint(log_hint(&self.settings.log_file)))
    }

    /// Looks for word once, and sees to it that somebody is at work.
    fn ask(
        &self,
        background: &mut Background,
        directory: &str,
        start: &mut dyn FnMut(&str) -> std::io::Result<Child>,
    ) -> Result<Option<Settled>> {
        // Whoever has ended has left all the word there is going to be.
        let ended = background.ended()?;
        let is_idle = background.running.is_none() && !is_held(&self.lock);
        if let Some(settled) = self.look().map_err(spool_error)? {
            return Ok(Some(settled));
        }
        let failure = self.spool.failure(self.name).map_err(spool_error)?;
        match (failure, ended) {
            // It is of an earlier attempt.
            (Some(_), None) if is_idle && background.starts == 0 => {}
            (Some(failure), _) => return Err(failure.into()),
            (None, Some(status)) if !status.success() => return Err(self.said_nothing(status)),
            (None, _) => {}
        }
        if is_idle {
            if background.starts == STARTS_MAX {
                let message = format!("the asynchronous process does not push WAL file '{}'", self.name);
                return Err(Error::new(ErrorKind::Runtime, message).hint(log_hint(&self.settings.log_file)));
            }
            self.spool.forget_failure(self.name).map_err(spool_error)?;
            background.running = Some(start(directory)?);
            background.starts += 1;
        }
        Ok(None)
    }

    fn said_nothing(&self, status: ExitStatus) -> Error {
        let message = format!("the asynchronous process ended before it had pushed WAL file '{}': {status}", self.name);
        Error::new(ErrorKind::Runtime, message).hint(log_hint(&self.settings.log_file))
    }
}

/// The background that a foreground has started.
struct Background {
    running: Option<Child>,
    starts: u32,
}

impl Background {
    /// How the background has ended, if it has since this was last asked.
    fn ended(&mut self) -> Result<Option<ExitStatus>> {
        let Some(child) = &mut self.running else { return Ok(None) };
        let ended = child.try_wait()?;
        if ended.is_some() {
            self.running = None;
        }
        Ok(ended)
    }
}
