//! The background that pushes.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, unbounded};
use pgark_postgres::wal::name::WalFileName;
use pgark_repository::container::BlockEncoder;
use pgark_system::clock::{self, Stopwatch};
use pgark_system::termination;

use super::super::spool::{Settled, Source, Spool, Trouble};
use super::super::{AsyncSettings, PUSH_LOCK, acquire, places, spool_error};
use super::queue::{Job, Outcome, Queue};
use crate::archive_push::{self, PushSettings, WalFile, combine, drop_warning, ready_files};
use crate::control::{ControlSettings, ensure_not_stopped};
use crate::dropped;
use crate::error::{Error, ErrorKind, Result};
use crate::parallel::Pool;
use crate::stanza::{OpenRepository, RepositorySettings};

/// How many files each worker may have under way: while the storage takes its time for one, it compresses another.
const FILES_OF_A_WORKER: usize = 2;

/// How often it is looked for files that have become ready.
const SCAN_INTERVAL: Duration = Duration::from_secs(1);

/// What a background is to push.
#[derive(Debug)]
pub struct BackgroundSettings {
    /// The directory `pg_wal`.
    pub wal_directory: PathBuf,
    /// How files are pushed, and where.
    pub push: PushSettings,
    /// Bytes of WAL that may wait before it is dropped; it never is if `None`.
    pub queue_max: Option<u64>,
    /// Bytes after which it ends.
    pub batch_size: u64,
    /// What it shares with the foreground.
    pub shared: AsyncSettings,
}

/// Pushes what is ready, and ends when nothing is left that can be pushed. Another one that is at work is left to it.
///
/// # Errors
/// What keeps it from pushing anything. What keeps it from pushing one file, or to one repository, is left as word.
pub fn run(settings: &BackgroundSettings) -> Result<()> {
    let stanza = &settings.push.stanza;
    let spool = Spool::new(&settings.shared.spool_path, stanza);
    let Some(_lock) = acquire(&settings.shared, stanza, PUSH_LOCK, &settings.push.repositories, "archive-push")? else {
        return Ok(());
    };
    let pushed = push_all(settings, &spool);
    if let Err(error) = &pushed
        && let Err(lost) = spool.write_failure(None, error)
    {
        tracing::warn!("unable to leave word of an error in the spool: {lost}");
    }
    pushed
}

fn push_all(settings: &BackgroundSettings, spool: &Spool) -> Result<()> {
    spool.prepare_out().and_then(|()| spool.forget_failures()).map_err(spool_error)?;
    let files = OpenFiles {
        directory: &settings.wal_directory,
        header_check: settings.push.header_check,
        open: Mutex::default(),
        spare: Mutex::default(),
    };
    let lanes: Vec<Lane<'_>> =
        settings.push.repositories.iter().map(|repository| Lane::new(&settings.push, repository, &files)).collect();
    let workers = settings.push.workers.max(1);
    let under_way = workers * FILES_OF_A_WORKER;
    thread::scope(|scope| {
        let (sender, events) = unbounded();
        let mut jobs = Vec::new();
        for (number, lane) in lanes.iter().enumerate() {
            let (give, take) = unbounded();
            jobs.push(give);
            for worker in 1..=under_way {
                let (take, sender) = (take.clone(), sender.clone());
                let name = format!("P{:02}", number * under_way + worker);
                thread::Builder::new().name(name).spawn_scoped(scope, move || lane.work(number, &take, &sender))?;
            }
        }
        let queue = Queue::new(lanes.len(), workers, under_way, settings.batch_size);
        let mut course = Course {
            settings,
            spool,
            queue,
            places: places(&settings.push.repositories),
            words: BTreeMap::new(),
            failures: BTreeMap::new(),
            clock: Stopwatch::start(),
        };
        course.run(&jobs, &events)
    })
}

/// What a worker has to say of a job.
struct Event {
    lane: usize,
    name: WalFileName,
    result: Result<(), Failure>,
}

/// Why a file was not pushed, and whether others can be.
struct Failure {
    outcome: Outcome,
    error: Error,
}

/// A repository, with what its workers share.
struct Lane<'push> {
    settings: &'push PushSettings,
    repository: &'push RepositorySettings,
    files: &'push OpenFiles<'push>,
    opened: Mutex<Option<Arc<OpenRepository>>>,
    /// Turns to compress a file, of which each worker has one, and what compresses it.
    turns: Pool<Option<BlockEncoder>>,
}

impl<'push> Lane<'push> {
    fn new(
        settings: &'push PushSettings,
        repository: &'push RepositorySettings,
        files: &'push OpenFiles<'push>,
    ) -> Self {
        Self { settings, repository, files, opened: Mutex::new(None), turns: Pool::new(settings.workers.max(1)) }
    }

    fn work(&self, lane: usize, jobs: &Receiver<Job>, events: &Sender<Event>) {
        for job in jobs {
            let pushed = catch_unwind(AssertUnwindSafe(|| self.push(job)));
            let result = pushed.unwrap_or_else(|_| Err(worker_failed(job.name)));
            if events.send(Event { lane, name: job.name, result }).is_err() {
                return;
            }
        }
    }

    fn push(&self, job: Job) -> Result<(), Failure> {
        let mut turn = self.turns.lend();
        let file = self.files.read(job.name).map_err(|error| Failure { outcome: Outcome::FileFailed, error })?;
        let pushed = self.open().and_then(|repository| {
            let sent = thread::scope(|scope| {
                // Its records are read while it is compressed, where a worker has more than one thread for it.
                if job.compressing > 1 {
                    scope.spawn(|| file.analysis().len());
                }
                let encoder = turn.get_or_insert_with(|| BlockEncoder::of_wal(self.settings.write));
                archive_push::send(self.settings, &file, &repository, encoder, job.compressing)
            });
            self.files.close(file);
            drop(turn);
            sent?.finish()
        });
        pushed.map_err(|error| {
            let outcome = outcome_of(error.kind());
            if outcome == Outcome::RepositoryFailed {
                *self.opened.lock().unwrap_or_else(PoisonError::into_inner) = None;
            }
            Failure { outcome, error }
        })
    }

    /// The repository, which the first worker opens for all.
    fn open(&self) -> Result<Arc<OpenRepository>> {
        let mut opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(repository) = &*opened {
            return Ok(Arc::clone(repository));
        }
        let repository = Arc::new(self.repository.open_for(&self.settings.stanza)?);
        *opened = Some(Arc::clone(&repository));
        Ok(repository)
    }
}

/// Whether an error is about the file that was pushed, or about the repository.
fn outcome_of(kind: ErrorKind) -> Outcome {
    match kind {
        ErrorKind::ArchiveDuplicate | ErrorKind::ArchiveMismatch | ErrorKind::Checksum => Outcome::FileFailed,
        _ => Outcome::RepositoryFailed,
    }
}

fn worker_failed(name: WalFileName) -> Failure {
    let message = format!("the program has failed on WAL file '{name}'");
    Failure { outcome: Outcome::RepositoryFailed, error: Error::new(ErrorKind::Runtime, message) }
}

/// The WAL files that are being pushed: lanes that are at the same one read it once.
struct OpenFiles<'push> {
    directory: &'push Path,
    header_check: bool,
    open: Mutex<BTreeMap<WalFileName, Weak<WalFile>>>,
    /// The memory of files that are done with, for those that come next: new memory costs more than filling it.
    spare: Mutex<Vec<Vec<u8>>>,
}

impl OpenFiles<'_> {
    fn read(&self, name: WalFileName) -> Result<Arc<WalFile>> {
        let known = |open: &BTreeMap<WalFileName, Weak<WalFile>>| open.get(&name).and_then(Weak::upgrade);
        if let Some(file) = known(&self.open.lock().unwrap_or_else(PoisonError::into_inner)) {
            return Ok(file);
        }
        let buffer = self.spare.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default();
        let file = Arc::new(archive_push::read(&self.directory.join(name.to_string()), self.header_check, buffer)?);
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        // Another lane may have been quicker.
        if let Some(file) = known(&open) {
            return Ok(file);
        }
        open.retain(|_, file| file.strong_count() > 0);
        open.insert(name, Arc::downgrade(&file));
        Ok(file)
    }

    /// Takes back a file of which all bytes are on their way.
    fn close(&self, file: Arc<WalFile>) {
        if let Some(file) = Arc::into_inner(file) {
            self.spare.lock().unwrap_or_else(PoisonError::into_inner).push(file.into_buffer());
        }
    }
}

/// A run of the background, as its main thread sees it: it alone decides, and it alone leaves word.
struct Course<'push> {
    settings: &'push BackgroundSettings,
    spool: &'push Spool,
    queue: Queue,
    /// How the spool names the repository of each lane.
    places: Vec<String>,
    /// What is known of each file.
    words: BTreeMap<WalFileName, Settled>,
    /// Why files could not be pushed, by lane.
    failures: BTreeMap<WalFileName, BTreeMap<usize, Trouble>>,
    clock: Stopwatch,
}

impl Course<'_> {
    fn run(&mut self, jobs: &[Sender<Job>], events: &Receiver<Event>) -> Result<()> {
        let mut scanned_at = self.scan()?;
        self.tell_of_queue();
        let mut is_scanned = true;
        loop {
            self.give_out(jobs);
            if self.queue.is_at_rest(self.clock.elapsed()) {
                if is_scanned {
                    return Ok(());
                }
                (scanned_at, is_scanned) = (self.scan()?, true);
                continue;
            }
            match events.recv_timeout(SCAN_INTERVAL) {
                Ok(event) => {
                    self.take(event)?;
                    is_scanned = false;
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(Error::new(ErrorKind::Runtime, "all workers have ended"));
                }
            }
            if self.clock.elapsed() >= scanned_at + SCAN_INTERVAL {
                (scanned_at, is_scanned) = (self.scan()?, true);
            }
        }
    }

    fn tell_of_queue(&self) {
        let mut names = self.words.keys().filter(|name| !self.queue.is_complete(**name));
        let Some(first) = names.next() else { return };
        let count = 1 + names.clone().count();
        let last = names.next_back().map(|last| format!("...{last}")).unwrap_or_default();
        tracing::info!("push {count} WAL file(s) to archive: {first}{last}");
    }

    fn give_out(&mut self, jobs: &[Sender<Job>]) {
        let now = self.clock.elapsed();
        for (lane, jobs) in jobs.iter().enumerate() {
            while let Some(job) = self.queue.next(lane, now) {
                // Workers take jobs as long as this end is there.
                let _always_taken = jobs.send(job);
            }
        }
    }

    /// Looks at what PostgreSQL waits for; gives when it was looked.
    fn scan(&mut self) -> Result<Duration> {
        termination::check()?;
        let (stanza, lock_path) = (self.settings.push.stanza.clone(), self.settings.shared.lock_path.clone());
        ensure_not_stopped(&ControlSettings { stanza: Some(stanza), lock_path })?;
        let ready = ready_files(&self.settings.wal_directory)?;
        self.spool.forget_all_but(&ready).map_err(spool_error)?;
        self.queue.retain(&ready);
        self.words.retain(|name, _| ready.contains(name));
        self.failures.retain(|name, _| ready.contains(name));
        for name in ready {
            if !self.queue.knows(name) {
                self.add(name)?;
            }
        }
        self.drop_excess()?;
        Ok(self.clock.elapsed())
    }

    fn add(&mut self, name: WalFileName) -> Result<()> {
        let source = match Source::of(&self.settings.wal_directory.join(name.to_string())) {
            Ok(source) => source,
            // PostgreSQL has had its answer while it was looked.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let settled = self.spool.settled(name).map_err(spool_error)?;
        let is_complete = settled.is_some();
        let word = match settled {
            Some(settled) => Some(settled),
            None => self.spool.partly_settled(name).map_err(spool_error)?,
        };
        let word = match word {
            Some(word) if word.file == source => word,
            other => {
                let warnings: Vec<_> = other.iter().map(|_| other_file_warning(name, &self.spool.out())).collect();
                for warning in &warnings {
                    tracing::warn!("{warning}");
                }
                Settled { file: source, repositories: BTreeSet::new(), warnings }
            }
        };
        let lanes = 0..self.places.len();
        let settled: BTreeSet<usize> = lanes.filter(|lane| word.repositories.contains(&self.places[*lane])).collect();
        self.queue.add(name, source.size, settled);
        self.words.insert(name, word);
        // A repository is not configured any more that the file was waiting for.
        if self.queue.is_complete(name) && !is_complete { self.leave_word(name) } else { Ok(()) }
    }

    fn drop_excess(&mut self) -> Result<()> {
        let Some(limit) = self.settings.queue_max else { return Ok(()) };
        for (name, lanes) in self.queue.drop_excess(limit) {
            let keys: BTreeSet<_> = lanes.iter().map(|lane| self.key(*lane)).collect();
            let names: Vec<_> = keys.iter().map(|key| format!("repo{key}")).collect();
            let whose =
                if lanes.len() == self.places.len() { String::new() } else { format!(" for {}", names.join(", ")) };
            let warning = drop_warning(name, limit, &whose);
            tracing::warn!("{warning}");
            let BackgroundSettings { push, shared, .. } = self.settings;
            dropped::note(&shared.lock_path, &push.stanza, name, &keys, clock::now());
            if let Some(word) = self.words.get_mut(&name) {
                word.warnings.push(warning);
            }
            self.leave_word(name)?;
        }
        Ok(())
    }

    fn take(&mut self, event: Event) -> Result<()> {
        let Event { lane, name, result } = event;
        let now = self.clock.elapsed();
        match result {
            Ok(()) => {
                self.queue.note(lane, name, Outcome::Stored, now);
                self.failures.entry(name).or_default().remove(&lane);
                self.leave_word(name)
            }
            Err(Failure { outcome, error }) => {
                let was_failing = self.queue.is_failing(lane);
                self.queue.note(lane, name, outcome, now);
                self.tell_of_failure(lane, name, &error, outcome, was_failing);
                let failures = self.failures.entry(name).or_default();
                failures.insert(lane, Trouble::from(&error));
                let failures: Vec<_> = failures.clone().into_iter().collect();
                let errors = failures.into_iter().map(|(lane, trouble)| (self.key(lane), trouble.into())).collect();
                match combine(errors) {
                    Err(error) if self.words.contains_key(&name) => {
                        self.spool.write_failure(Some(name), &error).map_err(spool_error)
                    }
                    _ => Ok(()),
                }
            }
        }
    }

    /// Every failure is in the log; of a repository that is down, the first is an error, and what follows from it is not.
    fn tell_of_failure(&self, lane: usize, name: WalFileName, error: &Error, outcome: Outcome, was_failing: bool) {
        let hints: Vec<_> = error.hints().iter().map(|hint| format!("\nHINT: {hint}")).collect();
        let text = format!(
            "could not push WAL file '{name}' to the repo{} archive (will be retried): {}{}",
            self.key(lane),
            error.full_message(),
            hints.concat()
        );
        if was_failing && outcome == Outcome::RepositoryFailed {
            tracing::debug!("{text}");
        } else {
            tracing::warn!("{text}");
        }
    }

    /// Leaves word of how far the repositories are with a file.
    fn leave_word(&mut self, name: WalFileName) -> Result<()> {
        let Some(word) = self.words.get_mut(&name) else { return Ok(()) };
        word.repositories.extend(self.queue.settled(name).iter().map(|lane| self.places[*lane].clone()));
        self.spool.write_settled(name, word, self.queue.is_complete(name)).map_err(spool_error)
    }

    fn key(&self, lane: usize) -> u32 {
        self.settings.push.repositories[lane].key
    }
}

fn other_file_warning(name: WalFileName, directory: &Path) -> String {
    format!(
        "'{}' has word of another WAL file '{name}' than there is in pg_wal: the file is pushed\nHINT: does another cluster or another program use the same spool-path?",
        directory.display()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a buffer held before is nothing of the file that is read into it.
    #[test]
    fn the_memory_of_a_file_is_used_again() {
        let directory = tempfile::tempdir().unwrap();
        let (long, short) = ("00000002.history", "00000003.history");
        for (name, content) in [(long, "1\t0/5000060\tx\n"), (short, "\n")] {
            fs_err::write(directory.path().join(name), content).unwrap();
        }
        let files = OpenFiles {
            directory: directory.path(),
            header_check: true,
            open: Mutex::default(),
            spare: Mutex::default(),
        };
        let first = files.read(long.parse().unwrap()).unwrap();
        let again = files.read(long.parse().unwrap()).unwrap();
        assert!(Arc::ptr_eq(&first, &again), "two lanes share it");
        files.close(first);
        assert!(files.spare.lock().unwrap().is_empty(), "somebody has it still");
        files.close(again);
        let other = files.read(short.parse().unwrap()).unwrap();
        assert!(files.spare.lock().unwrap().is_empty());
        assert_eq!(Arc::into_inner(other).unwrap().into_buffer(), b"\n");
    }

    #[test]
    fn an_error_about_one_file_keeps_no_other_file_waiting() {
        for kind in [ErrorKind::ArchiveDuplicate, ErrorKind::ArchiveMismatch, ErrorKind::Checksum] {
            assert_eq!(outcome_of(kind), Outcome::FileFailed);
        }
        for kind in [ErrorKind::HostConnect, ErrorKind::Service, ErrorKind::FileWrite, ErrorKind::RepositoryInvalid] {
            assert_eq!(outcome_of(kind), Outcome::RepositoryFailed);
        }
    }
}
