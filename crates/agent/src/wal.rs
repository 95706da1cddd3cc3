//! WAL that waits in the data directory to be archived.

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread;
use std::time::Duration;

use fs_err as fs;
use jiff::Timestamp;
use serde::Serialize;

/// How often it is looked at.
const LOOK_INTERVAL: Duration = Duration::from_secs(10);

/// WAL that is not archived yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct WaitingWal {
    /// How many segments wait.
    pub segments: u64,
    /// Since when the first of them does.
    pub oldest: Option<Timestamp>,
}

/// Looks again and again, on a thread of its own: a disk that hangs must not stop who asks. It ends when it is dropped.
#[derive(Debug)]
pub(crate) struct WalWatch(Arc<Mutex<Option<WaitingWal>>>);

impl WalWatch {
    /// Begins to look at a data directory.
    pub(crate) fn begin(data_directory: &Path) -> Self {
        let seen = Arc::new(Mutex::new(None));
        let (place, directory) = (Arc::downgrade(&seen), data_directory.join("pg_wal/archive_status"));
        if let Err(error) = thread::Builder::new().name("wal".to_owned()).spawn(move || watch(&place, &directory)) {
            tracing::warn!("unable to look at waiting WAL: {error}");
        }
        Self(seen)
    }

    /// What was seen last; `None` where the directory can't be read, as on another host.
    pub(crate) fn read(&self) -> Option<WaitingWal> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn watch(place: &Weak<Mutex<Option<WaitingWal>>>, directory: &Path) {
    loop {
        let found = look(directory).ok();
        let Some(place) = place.upgrade() else { return };
        *place.lock().unwrap_or_else(PoisonError::into_inner) = found;
        drop(place);
        thread::sleep(LOOK_INTERVAL);
    }
}

/// Counts the segments that the server has marked as ready.
fn look(directory: &Path) -> io::Result<WaitingWal> {
    let mut waiting = WaitingWal::default();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if !entry.file_name().as_encoded_bytes().ends_with(b".ready") {
            continue;
        }
        waiting.segments += 1;
        // It may have been archived meanwhile.
        let Ok(modified) = entry.metadata().and_then(|metadata| metadata.modified()) else { continue };
        let Ok(since) = Timestamp::try_from(modified) else { continue };
        waiting.oldest = Some(waiting.oldest.map_or(since, |oldest| oldest.min(since)));
    }
    Ok(waiting)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_that_are_ready_wait() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(look(directory.path()).unwrap(), WaitingWal::default());
        for (name, second) in [("000000010000000000000002.ready", 2000), ("000000010000000000000003.ready", 3000)] {
            let file = fs::File::create(directory.path().join(name)).unwrap();
            let modified = std::time::UNIX_EPOCH + Duration::from_secs(second);
            file.file().set_modified(modified).unwrap();
        }
        fs::write(directory.path().join("000000010000000000000001.done"), "").unwrap();
        let oldest = Timestamp::from_second(2000).ok();
        assert_eq!(look(directory.path()).unwrap(), WaitingWal { segments: 2, oldest });
        assert!(look(&directory.path().join("none")).is_err());
    }
}
