//! The lock files that keep two commands of one kind off a stanza on one host, and tell how far the one that runs is.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crossbeam_channel::{RecvTimeoutError, Sender, bounded};

use fs_err as fs;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use pgark_repository::StanzaName;
use pgark_system::lock::{FileLock, is_held};
use pgark_system::{clock, durable, random, termination};
use rustix::process::Pid;
use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind, Result};
use crate::progress::Progress;

/// How long somebody may hold the lock without being at work.
const LOOK_TIME: Duration = Duration::from_millis(50);

/// How often who waits for a lock asks for it.
const ASK_INTERVAL: Duration = Duration::from_secs(1);

/// How often a lock file tells how far the work is.
const TELL_INTERVAL: Duration = Duration::from_millis(500);

/// The kind of the lock by which one agent keeps others off a stanza. `stop` has the commands end that an agent has begun,
/// not the agent itself.
pub const AGENT: &str = "agent";

/// Where lock files are, and what becomes of a command that finds one held.
#[derive(Clone, Debug)]
pub struct Locks {
    /// The directory.
    pub directory: PathBuf,
    /// How long to wait for whoever holds a lock.
    pub wait: Duration,
}

/// What a lock file says of the process that holds it: pgBackRest's members, in its order, and two of our own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// The command that is at work.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cmd: Option<String>,
    /// Names this execution among all.
    #[serde(rename = "execId", default, skip_serializing_if = "Option::is_none")]
    exec_id: Option<String>,
    /// How much is done, in hundredths of a per cent.
    #[serde(rename = "pctCplt", default, skip_serializing_if = "Option::is_none")]
    hundredths: Option<u64>,
    /// The process.
    pub pid: u32,
    /// Since when it holds the lock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// Bytes there are to be worked on in all, once that is known.
    #[serde(rename = "sz", default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// Bytes of them that are done.
    #[serde(rename = "szCplt", default, skip_serializing_if = "Option::is_none")]
    pub size_complete: Option<u64>,
}

impl Holder {
    fn of_this_process(command: &str) -> Result<Self> {
        let pid = std::process::id();
        let random = u32::from_le_bytes(random::bytes()?);
        Ok(Self {
            cmd: Some(command.to_owned()),
            exec_id: Some(format!("{pid}-{random:08x}")),
            hundredths: None,
            pid,
            since: Some(clock::now()),
            size: None,
            size_complete: None,
        })
    }

    /// How many bytes there are in all to be worked on, and how many of them are done, once that is known.
    pub fn progress(&self) -> Option<(u64, u64)> {
        self.size.zip(self.size_complete)
    }

    /// How much is done, as pgBackRest writes it: `45.67%`.
    pub fn percentage(&self) -> Option<String> {
        Some(percentage(self.size?, self.size_complete?))
    }

    fn set_progress(&mut self, size: u64, done: u64) {
        self.size = Some(size);
        self.size_complete = Some(done);
        self.hundredths = Some(hundredths(size, done));
    }
}

/// How much of `size` is done, as pgBackRest writes it: `45.67%`.
pub fn percentage(size: u64, done: u64) -> String {
    let hundredths = hundredths(size, done);
    format!("{}.{:02}%", hundredths / 100, hundredths % 100)
}

fn hundredths(size: u64, done: u64) -> u64 {
    let hundredths = u128::from(done) * 10_000 / u128::from(size.max(1));
    u64::try_from(hundredths).unwrap_or(10_000).min(10_000)
}

impl fmt::Display for Holder {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "process {}", self.pid)?;
        if let Some(command) = &self.cmd {
            write!(formatter, " ({command})")?;
        }
        formatter.write_str(" holds it")?;
        if let Some(since) = self.since {
            write!(formatter, " since {}", since.to_zoned(TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S"))?;
        }
        match self.percentage() {
            Some(percentage) => write!(formatter, ", {percentage} complete"),
            None => Ok(()),
        }
    }
}

/// A lock that is held. It ends with the process or when dropped.
#[derive(Debug)]
pub struct Lock {
    file: Arc<Mutex<LockFile>>,
}

#[derive(Debug)]
struct LockFile {
    file: FileLock,
    holder: Holder,
}

impl LockFile {
    /// Writes who holds the lock. Nothing depends on it.
    fn tell(&mut self) {
        let written = serde_json::to_vec(&self.holder).map_err(std::io::Error::from);
        if let Err(error) = written.and_then(|holder| self.file.write(&holder)) {
            tracing::debug!("unable to write lock file: {error}");
        }
    }
}

/// Has a lock file tell how far work is, as long as it lives.
#[derive(Debug)]
pub(crate) struct Following {
    thread: Option<(Sender<()>, JoinHandle<()>)>,
}

impl Drop for Following {
    fn drop(&mut self) {
        if let Some((stop, thread)) = self.thread.take() {
            drop(stop);
            // It holds the lock's file, which others may take from here on. One that has panicked holds it no more.
            let _ended = thread.join();
        }
    }
}

impl Lock {
    /// Has the file tell now and then how far the work is.
    pub(crate) fn follow(&self, progress: Arc<Progress>) -> Following {
        let (stop, stopped) = bounded::<()>(0);
        let file = Arc::clone(&self.file);
        let follow = move || {
            let mut told = None;
            while stopped.recv_timeout(TELL_INTERVAL) == Err(RecvTimeoutError::Timeout) {
                let sample = progress.sample();
                let known = sample.total.map(|total| (total, sample.done));
                if let Some((total, done)) = known.filter(|_| known != told) {
                    let mut file = lock_file(&file);
                    file.holder.set_progress(total, done);
                    file.tell();
                    told = known;
                }
            }
        };
        match thread::Builder::new().name("lock".to_owned()).spawn(follow) {
            Ok(thread) => Following { thread: Some((stop, thread)) },
            Err(error) => {
                tracing::debug!("the lock file does not tell of progress: {error}");
                Following { thread: None }
            }
        }
    }

    /// Goes on with another command, of whose progress nothing is known.
    pub fn pass_to(&self, command: &str) {
        let mut file = lock_file(&self.file);
        let holder = Holder { hundredths: None, size: None, size_complete: None, ..file.holder.clone() };
        file.holder = Holder { cmd: Some(command.to_owned()), ..holder };
        file.tell();
    }
}

fn lock_file(file: &Mutex<LockFile>) -> MutexGuard<'_, LockFile> {
    file.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The stanza of the name of a command's lock file, `<stanza>-<kind>-<repository>.lock`. It may have dashes in it, the rest has none.
pub(crate) fn stanza_of(file_name: &str) -> Option<StanzaName> {
    let (rest, repository) = file_name.strip_suffix(".lock")?.rsplit_once('-')?;
    let (stanza, kind) = rest.rsplit_once('-')?;
    if kind == AGENT {
        return None;
    }
    repository.parse::<u32>().ok()?;
    stanza.parse().ok()
}

/// The lock file of a kind of command.
pub(crate) fn path(lock_path: &Path, stanza: &StanzaName, kind: &str, repository: u32) -> PathBuf {
    lock_path.join(format!("{stanza}-{kind}-{repository}.lock"))
}

/// The permission bits of the directory of lock files.
pub(crate) const DIRECTORY_MODE: u32 = 0o770;

/// Makes the directory of lock files where it is missing.
///
/// # Errors
/// [`ErrorKind::PathCreate`]
pub(crate) fn create_directory(lock_path: &Path) -> Result<()> {
    durable::create_directory_all(lock_path, DIRECTORY_MODE).map_err(|error| {
        Error::new(ErrorKind::PathCreate, error.to_string()).hint("set lock-path to a directory that can be written")
    })
}

/// Takes the lock `<stanza>-<kind>-<repository>.lock`, pgBackRest's name for it, for a command. If another process holds
/// it, waits for so long as the locks are to be waited for.
///
/// # Errors
/// [`ErrorKind::LockAcquire`] where another process holds it still; [`ErrorKind::Terminated`] where this one was asked to
/// end meanwhile.
pub fn acquire(locks: &Locks, stanza: &StanzaName, kind: &str, repository: u32, command: &str) -> Result<Lock> {
    create_directory(&locks.directory)?;
    let path = path(&locks.directory, stanza, kind, repository);
    // Somebody who only looks whether a command runs holds the lock for a moment.
    let mut lock = clock::wait_for(LOOK_TIME, LOOK_TIME / 5, || FileLock::try_acquire(&path))?;
    if lock.is_none() && !locks.wait.is_zero() {
        tracing::info!("wait for lock on file '{}': {}", path.display(), who(&path));
        lock = clock::wait_for(locks.wait, ASK_INTERVAL, || FileLock::try_acquire(&path))?;
        termination::check()?;
    }
    let Some(file) = lock else { return Err(refusal(&path, locks.wait)) };
    let holder = Holder::of_this_process(command)?;
    let mut file = LockFile { file, holder };
    file.tell();
    Ok(Lock { file: Arc::new(Mutex::new(file)) })
}

fn refusal(path: &Path, waited: Duration) -> Error {
    let message = format!("unable to acquire lock on file '{}': {}", path.display(), who(path));
    let error = Error::new(ErrorKind::LockAcquire, message).hint("is another pgark process running?");
    let advice = if waited.is_zero() {
        "with --lock-wait, as --lock-wait=1h, the command waits until the other has ended"
    } else {
        "the other had not ended when lock-wait was over: set it higher"
    };
    error.hint(advice)
}

/// Who holds a lock, as far as can be told.
fn who(path: &Path) -> String {
    read(path).map_or_else(|| "another process holds it".to_owned(), |holder| holder.to_string())
}

/// The process that holds a lock, as its file says.
pub(crate) fn holder(path: &Path) -> Option<Pid> {
    Pid::from_raw(i32::try_from(read(path)?.pid).ok()?)
}

/// A lock that somebody holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// Who it is, if the file tells.
    pub holder: Option<Holder>,
}

impl Held {
    /// How far it is; see [`Holder::progress`].
    pub fn progress(&self) -> Option<(u64, u64)> {
        self.holder.as_ref()?.progress()
    }
}

/// Whether somebody holds the lock of this kind on a repository.
pub fn look(lock_path: &Path, stanza: &StanzaName, kind: &str, repository: u32) -> Option<Held> {
    let path = path(lock_path, stanza, kind, repository);
    is_held(&path).then(|| Held { holder: read(&path) })
}

/// What a process says in the lock files that it holds, for one of them.
pub fn of_process(lock_path: &Path, process: u32) -> Option<Holder> {
    let entries = fs::read_dir(lock_path).ok()?;
    let files = entries.filter_map(|entry| Some(entry.ok()?.path()));
    let mut files = files.filter(|path| path.extension().is_some_and(|extension| extension == "lock"));
    files.find_map(|path| read(&path).filter(|holder| holder.pid == process && is_held(&path)))
}

fn read(path: &Path) -> Option<Holder> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

#[cfg(test)]
mod tests;
