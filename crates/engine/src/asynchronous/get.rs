//! `archive-get` in asynchronous mode: giving PostgreSQL what was fetched ahead.

mod background;
mod route;
mod window;

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use fs_err as fs;
use pgark_postgres::control::ControlFile;
use pgark_postgres::wal::name::{SegmentName, SegmentSize, Timeline, WalFileName};
use pgark_system::durable::{DurableFile, Existing};
use pgark_system::lock::is_held;
use pgark_system::{clock, process};
use serde::{Deserialize, Serialize};

pub use self::background::{BackgroundSettings, run as background};
use self::route::Route;
use super::spool::{self, Spool};
use super::{AsyncSettings, GET_LOCK, POLL_INTERVAL, Start, lock_file, places, spool_error};
use crate::archive_get::{self, ArchiveGetSettings, Gotten};
use crate::error::Result;
use crate::stanza::{Identity, RepositorySettings};
use crate::wal_path::wal_path;

/// The file that says what the segments in the spool are of.
const ORIGIN_FILE: &str = "origin";
/// What the name of a note ends with that says that the background fetches a segment.
const FETCHING_SUFFIX: &str = ".fetching";
/// What the name of a note ends with that says that a foreground fetches a segment itself.
const TAKEN_SUFFIX: &str = ".taken";

/// What segments in the spool are of. They count only where it is what the foreground expects.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Origin {
    version: String,
    system_id: String,
    /// The repositories, in the order in which they are asked.
    repositories: Vec<String>,
    /// The kernel's id of the time since the machine was started: what was not synced counts only until it goes down.
    boot: Option<String>,
}

impl Origin {
    fn new(identity: Identity, repositories: &[RepositorySettings]) -> Self {
        Self {
            version: identity.version.to_string(),
            system_id: identity.system_id.to_string(),
            repositories: places(repositories),
            boot: process::boot_id(),
        }
    }

    /// Removes what is in the spool of another origin.
    fn clear_others(&self, directory: &Path) -> io::Result<()> {
        let found: Option<Self> = spool::read(&directory.join(ORIGIN_FILE))?;
        let Some(why) = found.and_then(|found| found.differs(self)) else { return Ok(()) };
        tracing::warn!(
            "what is in '{}' {why}: it is removed\nHINT: does another cluster or another program use the same spool-path?",
            directory.display()
        );
        clear(directory)
    }

    /// Makes the spool one of this origin, with nothing in it that can't be told to be of it.
    fn adopt(&self, directory: &Path) -> io::Result<()> {
        self.clear_others(directory)?;
        let place = directory.join(ORIGIN_FILE);
        if spool::read::<Self>(&place)?.is_none() {
            clear(directory)?;
            spool::write(&place, self)?;
        }
        Ok(())
    }

    /// Why segments of another origin are of no use; nothing where they are.
    fn differs(&self, other: &Self) -> Option<&'static str> {
        if (&self.version, &self.system_id) != (&other.version, &other.system_id) {
            Some("is of another cluster")
        } else if self.repositories != other.repositories {
            Some("comes from other repositories")
        } else if self.boot.is_none() || self.boot != other.boot {
            Some("was fetched before this machine was started")
        } else {
            None
        }
    }
}

/// Gives PostgreSQL the segment out of the spool, or waits for the background that is fetching it, or fetches it here
/// and now. Then it sees to it that those after it are fetched.
///
/// That a segment is absent is never taken from the spool: the repositories are asked each time.
///
/// # Errors
/// As [`archive_get::run`].
pub fn run(get: &ArchiveGetSettings, settings: &AsyncSettings, queue_max: u64, start: Start<'_>) -> Result<Gotten> {
    let segment = match archive_get::name_of(&get.file)? {
        WalFileName::Segment(segment) => segment,
        WalFileName::History(timeline) => return run_for_history(get, settings, timeline),
        WalFileName::Partial(_) | WalFileName::BackupHistory { .. } => return archive_get::run(get),
    };
    let control = ControlFile::read(&get.data_directory)?;
    let size = control.wal_segment_size;
    let capacity = usize::try_from(queue_max / u64::from(size.bytes())).unwrap_or(usize::MAX);
    let taker = Taker {
        settings,
        directory: Spool::new(&settings.spool_path, &get.stanza).incoming(),
        lock: lock_file(settings, &get.stanza, GET_LOCK, &get.repositories),
        origin: Origin::new(Identity::of(&control), &get.repositories),
        segment,
        size,
    };
    if capacity == 0 || !taker.can_be_used(&Spool::new(&settings.spool_path, &get.stanza)) {
        return archive_get::run(get);
    }
    let destination = wal_path(&get.destination, &get.data_directory)?;
    let gotten = if taker.take(&destination)? {
        tracing::info!("found {segment} in the archive asynchronously");
        Gotten::FromSpool
    } else {
        let _taken = taker.note_taken();
        archive_get::run(get)?
    };
    if gotten != Gotten::Absent {
        taker.look_ahead(capacity, start);
    }
    Ok(gotten)
}

/// Gives PostgreSQL the history of a timeline, or says that it is absent, and keeps it in mind for what is fetched ahead.
fn run_for_history(get: &ArchiveGetSettings, settings: &AsyncSettings, timeline: Timeline) -> Result<Gotten> {
    let gotten = archive_get::run(get)?;
    let given = wal_path(&get.destination, &get.data_directory)?;
    let origin = Origin::new(Identity::of(&ControlFile::read(&get.data_directory)?), &get.repositories);
    let spool = Spool::new(&settings.spool_path, &get.stanza);
    let directory = spool.incoming();
    let kept = spool.prepare_incoming().and_then(|()| origin.adopt(&directory)).and_then(|()| match gotten {
        Gotten::Absent => route::forget_from(&directory, timeline),
        Gotten::From(_) | Gotten::FromSpool => route::keep(&directory, timeline, &given),
    });
    if let Err(error) = kept {
        tracing::warn!("WAL of timeline {timeline} is not fetched before it is asked for: {error}");
    }
    Ok(gotten)
}

/// A foreground that takes one segment.
struct Taker<'take> {
    settings: &'take AsyncSettings,
    directory: PathBuf,
    lock: PathBuf,
    origin: Origin,
    segment: SegmentName,
    size: SegmentSize,
}

impl Taker<'_> {
    /// Whether there is a spool, with nothing in it that is of no use. Recovery goes on without one, only slower.
    fn can_be_used(&self, spool: &Spool) -> bool {
        let ready = self.origin.clear_others(&self.directory).and_then(|()| spool.prepare_incoming());
        if let Err(error) = &ready {
            let error = spool_error(io::Error::new(error.kind(), error.to_string()));
            let hints: Vec<_> = error.hints().iter().map(|hint| format!("\nHINT: {hint}")).collect();
            tracing::warn!("WAL file '{}' is fetched without the spool: {error}{}", self.segment, hints.concat());
        }
        ready.is_ok()
    }

    /// Whether the segments in the spool are those of this cluster and these repositories.
    fn is_trusted(&self) -> io::Result<bool> {
        let found: Option<Origin> = spool::read(&self.directory.join(ORIGIN_FILE))?;
        Ok(found.is_some_and(|found| found.differs(&self.origin).is_none()))
    }

    /// Takes the segment out of the spool, and waits for it where it is being fetched.
    fn take(&self, destination: &Path) -> Result<bool> {
        if !self.is_trusted().map_err(spool_error)? {
            return Ok(false);
        }
        let place = self.directory.join(self.segment.to_string());
        let fetching = self.directory.join(format!("{}{FETCHING_SUFFIX}", self.segment));
        let taken: Result<Option<bool>> = clock::wait_for(self.settings.timeout, POLL_INTERVAL / 4, || {
            // In this order: when the note is gone, the segment is there.
            let is_being_fetched = fetching.exists() && is_held(&self.lock);
            if self.is_whole(&place) {
                return Ok(Some(move_file(&place, destination)?));
            }
            Ok(if is_being_fetched { None } else { Some(false) })
        });
        Ok(taken?.unwrap_or(false))
    }

    fn is_whole(&self, place: &Path) -> bool {
        fs::metadata(place).is_ok_and(|metadata| metadata.len() == u64::from(self.size.bytes()))
    }

    /// Tells the background that this segment need not be fetched, as long as the result lives.
    fn note_taken(&self) -> Note {
        let path = self.directory.join(format!("{}{TAKEN_SUFFIX}", self.segment));
        if let Err(error) = fs::write(&path, "") {
            // Then it may be fetched twice.
            tracing::debug!("{error}");
        }
        Note(path)
    }

    /// Removes what recovery has left behind, and starts a background where more than half of the room is free. Recovery
    /// has its segment, whatever becomes of this.
    fn look_ahead(&self, capacity: usize, start: Start<'_>) {
        let looked = segments_in(&self.directory).and_then(|present| {
            let route = Route::past(self.segment, self.size, route::histories(&self.directory)?);
            let Some(next) = route.after(self.segment) else { return Ok(()) };
            let obsolete = route.obsolete(&present, next, capacity);
            obsolete.iter().try_for_each(|segment| spool::remove(&self.directory.join(segment.to_string())))?;
            let left = present.len() - obsolete.len();
            if left * 2 <= capacity && !is_held(&self.lock) {
                start(&next.to_string())?;
            }
            Ok(())
        });
        if let Err(error) = looked {
            tracing::warn!("unable to fetch WAL ahead: {error}");
        }
    }
}

/// A note in the spool, which is removed with this value.
struct Note(PathBuf);

impl Drop for Note {
    fn drop(&mut self) {
        let _stays_behind = fs::remove_file(&self.0);
    }
}

/// The segments that lie in the spool.
fn segments_in(directory: &Path) -> io::Result<BTreeSet<SegmentName>> {
    let mut segments = BTreeSet::new();
    for entry in fs::read_dir(directory)? {
        segments.extend(entry?.file_name().to_str().and_then(|name| name.parse::<SegmentName>().ok()));
    }
    Ok(segments)
}

/// Removes all files of a directory that may be missing.
fn clear(directory: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        spool::remove(&entry?.path())?;
    }
    Ok(())
}

/// Moves a file, or copies it to another file system. It need not be durable: after a crash PostgreSQL asks again. Gives
/// whether it was there still.
fn move_file(from: &Path, to: &Path) -> Result<bool> {
    match fs::rename(from, to) {
        Ok(()) => return Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound && !from.exists() => return Ok(false),
        Err(error) if error.kind() == io::ErrorKind::CrossesDevices => {}
        Err(error) => return Err(error.into()),
    }
    let mut source = fs::File::open(from)?;
    let mut target = DurableFile::create(to, 0o600)?;
    io::copy(&mut source, &mut target)?;
    target.commit_unsynced(Existing::Replace)?;
    spool::remove(from)?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin() -> Origin {
        Origin {
            version: "17".to_owned(),
            system_id: "7710969416003719438".to_owned(),
            repositories: vec!["/one".to_owned(), "/two".to_owned()],
            boot: Some("7e1f".to_owned()),
        }
    }

    #[test]
    fn segments_count_only_where_they_come_from_where_they_should() {
        assert_eq!(origin().differs(&origin()), None);
        for (other, why) in [
            (Origin { system_id: "1".to_owned(), ..origin() }, "another cluster"),
            (Origin { version: "18".to_owned(), ..origin() }, "another cluster"),
            (Origin { repositories: vec!["/two".to_owned()], ..origin() }, "other repositories"),
            (Origin { boot: Some("7e20".to_owned()), ..origin() }, "before this machine"),
        ] {
            assert!(other.differs(&origin()).unwrap().contains(why), "{other:?}");
        }
        // Where it can't be told, nothing is trusted.
        let untold = Origin { boot: None, ..origin() };
        assert!(untold.differs(&untold).is_some());
    }

    #[test]
    fn a_segment_is_moved_once() {
        let directory = tempfile::tempdir().unwrap();
        let [from, to] = ["from", "to"].map(|name| directory.path().join(name));
        fs::write(&from, "segment").unwrap();
        fs::write(&to, "older").unwrap();
        assert!(move_file(&from, &to).unwrap());
        assert_eq!(fs::read(&to).unwrap(), b"segment");
        assert!(!move_file(&from, &to).unwrap());
        assert!(move_file(&to, &directory.path().join("nowhere/to")).is_err());
    }
}
