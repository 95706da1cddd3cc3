//! The background that fetches ahead.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use fs_err as fs;
use pgark_postgres::control::ControlFile;
use pgark_postgres::wal::name::{SegmentName, Timeline, WalFileName};
use pgark_repository::StanzaName;
use pgark_system::clock::Stopwatch;
use pgark_system::termination;

use super::super::spool::{self, Spool, Trouble};
use super::super::{AsyncSettings, GET_LOCK, acquire, spool_error};
use super::route::{self, Route};
use super::window::{Next, Window};
use super::{FETCHING_SUFFIX, Note, ORIGIN_FILE, Origin, TAKEN_SUFFIX, segments_in};
use crate::archive_get::{self, get_from};
use crate::archive_push::combine;
use crate::error::Result;
use crate::stanza::{Identity, OpenRepository, RepositorySettings};

/// How long it waits for room: recovery mostly takes the next segment sooner.
const LINGER: Duration = Duration::from_secs(2);
/// How often it looks for room.
const LOOK_INTERVAL: Duration = Duration::from_millis(10);

/// What a background is to fetch.
#[derive(Debug)]
pub struct BackgroundSettings {
    /// The stanza.
    pub stanza: StanzaName,
    /// The first segment.
    pub first: String,
    /// The data directory.
    pub data_directory: PathBuf,
    /// The repositories, in the order in which they are asked.
    pub repositories: Vec<RepositorySettings>,
    /// How many workers fetch.
    pub workers: usize,
    /// Bytes that may lie in the spool.
    pub queue_max: u64,
    /// What it shares with the foreground.
    pub shared: AsyncSettings,
}

/// Fetches segments into the spool, and more as recovery takes them; ends when there are no more, or nobody takes any.
/// Another one that is at work is left to it.
///
/// # Errors
/// What keeps it from fetching. A foreground that needs the segment finds out by itself.
pub fn run(settings: &BackgroundSettings) -> Result<()> {
    let first: SegmentName = match archive_get::name_of(&settings.first)? {
        WalFileName::Segment(segment) => segment,
        _ => return Ok(()),
    };
    let Some(_lock) = acquire(&settings.shared, &settings.stanza, GET_LOCK, &settings.repositories, "archive-get")?
    else {
        return Ok(());
    };
    let control = ControlFile::read(&settings.data_directory)?;
    let size = control.wal_segment_size;
    let identity = Identity::of(&control);
    let capacity = usize::try_from(settings.queue_max / u64::from(size.bytes())).unwrap_or(usize::MAX);
    let spool = Spool::new(&settings.shared.spool_path, &settings.stanza);
    let directory = spool.incoming();
    spool.prepare_incoming().map_err(spool_error)?;
    Origin::new(identity, &settings.repositories).adopt(&directory).map_err(spool_error)?;
    remove_unfinished(&directory).map_err(spool_error)?;
    let timelines = route::kept(&directory).map_err(spool_error)?;
    let route = Route::past(first, size, route::histories(&directory).map_err(spool_error)?);
    for segment in route.obsolete(&segments_in(&directory).map_err(spool_error)?, first, capacity) {
        spool::remove(&directory.join(segment.to_string())).map_err(spool_error)?;
    }
    tracing::info!("get WAL file(s) from archive, from {first} on");
    let fetcher = Fetcher {
        stanza: &settings.stanza,
        identity,
        directory,
        timelines,
        sources: settings.repositories.iter().map(Source::new).collect(),
        course: Mutex::new(Course {
            window: Window::new(first, route, capacity),
            waited_since: Stopwatch::start(),
            result: Ok(()),
        }),
    };
    thread::scope(|scope| -> Result<()> {
        for number in 1..=settings.workers.clamp(1, capacity.max(1)) {
            let worker = thread::Builder::new().name(format!("P{number:02}"));
            worker.spawn_scoped(scope, || fetcher.work())?;
        }
        Ok(())
    })?;
    termination::check()?;
    fetcher.course.into_inner().unwrap_or_else(PoisonError::into_inner).result
}

/// Removes what an earlier background has left unfinished.
fn remove_unfinished(directory: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let is_whole = matches!(name.parse(), Ok(WalFileName::Segment(_) | WalFileName::History(_)));
        if name != ORIGIN_FILE && !is_whole && !name.ends_with(TAKEN_SUFFIX) {
            spool::remove(&entry.path())?;
        }
    }
    Ok(())
}

/// The segments that foregrounds are fetching themselves.
fn taken_in(directory: &Path) -> std::io::Result<BTreeSet<SegmentName>> {
    let mut taken = BTreeSet::new();
    for entry in fs::read_dir(directory)? {
        let name = entry?.file_name();
        let segment = name.to_str().and_then(|name| name.strip_suffix(TAKEN_SUFFIX));
        taken.extend(segment.and_then(|segment| segment.parse::<SegmentName>().ok()));
    }
    Ok(taken)
}

/// What the workers share.
struct Fetcher<'fetch> {
    stanza: &'fetch StanzaName,
    identity: Identity,
    directory: PathBuf,
    /// The timelines by whose histories it goes.
    timelines: BTreeSet<Timeline>,
    sources: Vec<Source<'fetch>>,
    course: Mutex<Course>,
}

struct Course {
    window: Window,
    /// When a segment was begun last.
    waited_since: Stopwatch,
    result: Result<()>,
}

/// A repository, with what is known of it.
struct Source<'fetch> {
    settings: &'fetch RepositorySettings,
    state: Mutex<State>,
}

enum State {
    Closed,
    Open(Arc<OpenRepository>),
    Failed(Trouble),
}

impl<'fetch> Source<'fetch> {
    fn new(settings: &'fetch RepositorySettings) -> Self {
        Self { settings, state: Mutex::new(State::Closed) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The repository, which the first worker opens for all. One that has failed is not asked again.
    fn open(&self, stanza: &StanzaName) -> Result<Arc<OpenRepository>> {
        let mut state = self.state();
        let repository = match &*state {
            State::Open(repository) => Arc::clone(repository),
            State::Failed(trouble) => return Err(trouble.clone().into()),
            State::Closed => Arc::new(self.settings.open_for(stanza)?),
        };
        *state = State::Open(Arc::clone(&repository));
        Ok(repository)
    }
}

impl Fetcher<'_> {
    fn course(&self) -> MutexGuard<'_, Course> {
        self.course.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn work(&self) {
        while let Some((segment, _note)) = self.next() {
            let fetched = self.fetch(segment);
            let mut course = self.course();
            match fetched {
                Ok(true) => course.window.fetched(segment),
                Ok(false) => {
                    tracing::info!("unable to find {segment} in the archive");
                    course.window.end(segment);
                }
                Err(error) => {
                    course.window.end(segment);
                    course.result = Err(error);
                }
            }
        }
    }

    /// The next segment, once there is room for it, with the note that it is being fetched; nothing where it is time to
    /// end.
    fn next(&self) -> Option<(SegmentName, Note)> {
        loop {
            termination::check().ok()?;
            let mut course = self.course();
            match self.look(&mut course) {
                Ok(Next::Fetch(segment)) => {
                    course.waited_since = Stopwatch::start();
                    let note = Note(self.directory.join(format!("{segment}{FETCHING_SUFFIX}")));
                    if let Err(error) = fs::write(&note.0, "") {
                        course.window.end(segment);
                        course.result = Err(spool_error(error));
                        return None;
                    }
                    return Some((segment, note));
                }
                Ok(Next::Full) if course.waited_since.elapsed() < LINGER => {}
                Ok(Next::Full | Next::Ended) => return None,
                Err(error) => {
                    course.result = Err(spool_error(error));
                    return None;
                }
            }
            drop(course);
            thread::sleep(LOOK_INTERVAL);
        }
    }

    fn look(&self, course: &mut Course) -> std::io::Result<Next> {
        let present = segments_in(&self.directory)?;
        let taken = taken_in(&self.directory)?;
        let is_left = taken.iter().any(|segment| course.window.route().is_left_by(*segment));
        if is_left || route::kept(&self.directory)? != self.timelines {
            // The next foreground starts another one, which goes where recovery goes.
            course.window.leave();
        }
        Ok(course.window.next(&present, |segment| taken.contains(&segment)))
    }

    /// Whether one of the repositories has the segment, which is in the spool then.
    fn fetch(&self, segment: SegmentName) -> Result<bool> {
        let place = self.directory.join(segment.to_string());
        let mut errors = Vec::new();
        for source in &self.sources {
            let fetched = source.open(self.stanza).and_then(|repository| {
                get_from(&repository, self.stanza, self.identity, WalFileName::Segment(segment), &place)
            });
            match fetched {
                Ok(true) => {
                    tracing::debug!("found {segment} in the repo{} archive", source.settings.key);
                    return Ok(true);
                }
                Ok(false) => {}
                Err(error) => {
                    let mut state = source.state();
                    if !matches!(*state, State::Failed(_)) {
                        tracing::warn!("repo{}: {}", source.settings.key, error.full_message());
                        *state = State::Failed(Trouble::from(&error));
                    }
                    errors.push((source.settings.key, error));
                }
            }
        }
        combine(errors).map(|()| false)
    }
}
