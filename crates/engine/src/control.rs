//! Stop files: what keeps commands on this host from running, for one stanza or for all.

use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};

use fs_err as fs;
use fs_err::os::unix::fs::OpenOptionsExt;
use pgark_repository::StanzaName;
use pgark_system::lock::is_held;
use rustix::process::{Pid, Signal, kill_process};

use crate::error::{Error, ErrorKind, Result};
use crate::lock;

/// What a stop file is for.
#[derive(Clone, Debug)]
pub struct ControlSettings {
    /// The stanza; all of them if `None`.
    pub stanza: Option<StanzaName>,
    /// Where lock files and stop files are.
    pub lock_path: PathBuf,
}

/// Keeps commands from running until [`start`]; with `end_running` also ends those that run.
///
/// # Errors
/// Where the stop file can't be written.
pub fn stop(settings: &ControlSettings, end_running: bool) -> Result<()> {
    lock::create_directory(&settings.lock_path)?;
    let path = stop_file(&settings.lock_path, settings.stanza.as_ref());
    let created = fs::OpenOptions::new().write(true).create_new(true).mode(0o640).open(&path);
    match created {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let whose = settings.stanza.as_ref().map_or("all stanzas".to_owned(), |stanza| format!("stanza {stanza}"));
            tracing::warn!("stop file already exists for {whose}");
        }
        Err(error) => return Err(Error::new(ErrorKind::FileWrite, error.to_string()).source(error)),
    }
    if end_running { end_commands(settings) } else { Ok(()) }
}

/// Takes back what [`stop`] has forbidden. Where nothing was forbidden, a warning says so.
///
/// # Errors
/// Where the stop file can't be removed.
pub fn start(settings: &ControlSettings) -> Result<()> {
    if remove_stop_file(&settings.lock_path, settings.stanza.as_ref())? {
        return Ok(());
    }
    let whose = settings.stanza.as_ref().map(|stanza| format!(" for stanza {stanza}")).unwrap_or_default();
    tracing::warn!("stop file does not exist{whose}");
    Ok(())
}

/// Makes sure that no stop file forbids a command on this stanza.
///
/// # Errors
/// [`ErrorKind::Stop`]
pub fn ensure_not_stopped(settings: &ControlSettings) -> Result<()> {
    let start = |option: &str| format!("run 'pgark{option} start' to allow it again");
    if let Some(stanza) = &settings.stanza
        && is_stopped(&settings.lock_path, stanza)?
    {
        let message = format!("stop file exists for stanza {stanza}");
        return Err(Error::new(ErrorKind::Stop, message).hint(start(&format!(" --stanza={stanza}"))));
    }
    if exists(&stop_file(&settings.lock_path, None))? {
        return Err(Error::new(ErrorKind::Stop, "stop file exists for all stanzas").hint(start("")));
    }
    Ok(())
}

/// Whether there is a stop file of this stanza; that of all stanzas does not count.
pub(crate) fn is_stopped(lock_path: &Path, stanza: &StanzaName) -> Result<bool> {
    exists(&stop_file(lock_path, Some(stanza)))
}

/// Removes a stop file; gives whether there was one.
pub(crate) fn remove_stop_file(lock_path: &Path, stanza: Option<&StanzaName>) -> Result<bool> {
    match fs::remove_file(stop_file(lock_path, stanza)) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(Error::new(ErrorKind::FileRemove, error.to_string()).source(error)),
    }
}

/// pgBackRest's name for it.
fn stop_file(lock_path: &Path, stanza: Option<&StanzaName>) -> PathBuf {
    lock_path.join(format!("{}.stop", stanza.map_or("all", StanzaName::as_str)))
}

fn exists(path: &Path) -> Result<bool> {
    match fs::metadata(path) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(Error::new(ErrorKind::FileOpen, error.to_string()).source(error)),
    }
}

/// Sends a signal to every process that holds a lock of the stanza, or of any stanza.
fn end_commands(settings: &ControlSettings) -> Result<()> {
    let mut ended = HashSet::new();
    for (path, stanza) in lock_files(&settings.lock_path)? {
        let is_meant = settings.stanza.as_ref().is_none_or(|wanted| *wanted == stanza);
        // A file that nobody holds was left behind, and the process id in it may be anybody's by now.
        if !is_meant || !is_held(&path) {
            continue;
        }
        match lock::holder(&path) {
            // One process may hold several locks.
            Some(process) if ended.insert(process) => end(process),
            Some(_) => {}
            None => tracing::warn!("unable to read lock file {}", path.display()),
        }
    }
    Ok(())
}

fn end(process: Pid) {
    let number = process.as_raw_pid();
    match kill_process(process, Signal::TERM) {
        Ok(()) => tracing::info!("sent term signal to process {number}"),
        Err(error) => tracing::warn!("unable to send term signal to process {number}: {error}"),
    }
}

/// The lock files in a directory with their stanzas, in the order of their names.
fn lock_files(lock_path: &Path) -> Result<Vec<(PathBuf, StanzaName)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(lock_path)? {
        let entry = entry?;
        if let Some(stanza) = entry.file_name().to_str().and_then(lock::stanza_of) {
            found.push((entry.path(), stanza));
        }
    }
    found.sort_by(|one, other| one.0.cmp(&other.0));
    Ok(found)
}
