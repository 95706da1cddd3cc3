//! How much memory the page maps of files under way may take.
//!
//! After a year of incremental backups the map of one segment takes megabytes. So it is not only the number of files that
//! has to be bounded between the walk, which is ahead, and the manifest, which follows.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use pgark_repository::map::PageMap;

/// Bytes of maps that may be under way; more only where a single file has more.
const LIMIT: usize = 40 << 20;

/// Bytes that a file's map takes while it is under way: as it was, and as it will be.
pub(super) fn weight(map: &PageMap) -> usize {
    2 * map.memory()
}

/// The room that there is.
#[derive(Debug, Default)]
pub(super) struct Room {
    taken: Mutex<Taken>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Taken {
    bytes: usize,
    is_closed: bool,
}

impl Room {
    /// Waits till there is room for so many bytes, and takes it. Whether there ever will be.
    pub(super) fn take(&self, bytes: usize) -> bool {
        let is_full = |taken: &mut Taken| !taken.is_closed && taken.bytes > 0 && taken.bytes + bytes > LIMIT;
        let waited = self.changed.wait_while(self.taken(), is_full);
        let mut taken = waited.unwrap_or_else(PoisonError::into_inner);
        taken.bytes += bytes;
        !taken.is_closed
    }

    /// Gives back what was taken.
    pub(super) fn give(&self, bytes: usize) {
        self.taken().bytes -= bytes;
        self.changed.notify_all();
    }

    /// Sees to it that nobody waits any more when what is given here is dropped.
    pub(super) fn closing(&self) -> Closing<'_> {
        Closing(self)
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whoever gives back holds it, and drops it when nothing will be given back any more.
#[derive(Debug)]
pub(super) struct Closing<'room>(&'room Room);

impl Drop for Closing<'_> {
    fn drop(&mut self) {
        self.0.taken().is_closed = true;
        self.0.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn who_wants_more_than_there_is_waits_till_others_give() {
        let room = Room::default();
        assert!(room.take(2 * LIMIT), "a single one that is too large");
        thread::scope(|scope| {
            let waiting = scope.spawn(|| room.take(1));
            thread::sleep(std::time::Duration::from_millis(20));
            assert!(!waiting.is_finished());
            room.give(2 * LIMIT);
            assert!(waiting.join().unwrap());
            assert!(room.take(LIMIT - 1), "there is room for both");
            let waiting = scope.spawn(|| room.take(1));
            drop(room.closing());
            assert!(!waiting.join().unwrap());
        });
    }
}
