//! Telling what becomes of each file, in the order of the plan, whatever the order is in which workers are done with them:
//! at level detail a line for each file, which sums up its frames, and at debug one for each frame that is wanted.
//!
//! A file that is done waits for those before it. They are no more than what is handed out at once, so that what waits does
//! not grow with the cluster. Where nobody listens nothing is counted.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use pgark_repository::map::{PageMap, Source};
use tracing::Level;

use super::UNFINISHED_SUFFIX;
use crate::lock::percentage;
use crate::progress::Progress;
use crate::size::{human_size, pages};

/// Tells of files in the order in which it was told that they come.
#[derive(Debug)]
pub(super) struct Telling {
    is_wanted: bool,
    queue: Mutex<Queue>,
}

#[derive(Debug, Default)]
struct Queue {
    /// How many files have come.
    come: u64,
    /// How many of them were told of.
    told: u64,
    /// Those that are done before others that came earlier.
    waiting: BTreeMap<u64, Arc<FileTold>>,
}

/// What there is to tell of one file.
#[derive(Debug)]
pub(super) struct FileTold {
    number: u64,
    /// The path under which the file ends up.
    path: String,
    size: u64,
    /// Whether there may be right pages already.
    may_be_reused: bool,
    fetched: AtomicU64,
    right: AtomicU64,
    zero_pages: u64,
}

impl Telling {
    /// Tells of files if somebody listens.
    pub(super) fn new() -> Self {
        Self { is_wanted: tracing::enabled!(Level::DEBUG), queue: Mutex::default() }
    }

    /// Whether somebody listens.
    pub(super) fn is_wanted(&self) -> bool {
        self.is_wanted
    }

    /// Notes that a file is the next one in the order.
    pub(super) fn expect(&self, path: &Path, size: u64, may_be_reused: bool, map: &PageMap) -> Arc<FileTold> {
        let path = path.to_string_lossy();
        let path = path.strip_suffix(UNFINISHED_SUFFIX).unwrap_or(&path);
        if tracing::enabled!(Level::TRACE) {
            tell_frames(path, map);
        }
        let zeros = map.runs().filter(|run| run.source == Source::Zeros);
        let zero_pages = zeros.map(|run| u64::from(run.pages)).sum();
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        let number = queue.come;
        queue.come += 1;
        let (fetched, right) = Default::default();
        let path = path.to_owned();
        Arc::new(FileTold { number, path, size, may_be_reused, fetched, right, zero_pages })
    }

    /// Tells that a file is done, when all before it are.
    pub(super) fn done(&self, file: Arc<FileTold>, progress: &Progress) {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        queue.done(file, &mut |file| {
            let sample = progress.sample();
            let share = sample.total.map(|total| format!(", {}", percentage(total, sample.done))).unwrap_or_default();
            let (path, size) = (&file.path, human_size(file.size));
            tracing::debug!("restore file '{path}' ({size}{share}) {}", file.outcome());
        });
    }
}

impl Queue {
    fn done(&mut self, file: Arc<FileTold>, tell: &mut impl FnMut(&FileTold)) {
        self.waiting.insert(file.number, file);
        while let Some(next) = self.waiting.remove(&self.told) {
            tell(&next);
            self.told += 1;
        }
    }
}

impl FileTold {
    /// Counts a frame that was fetched.
    pub(super) fn fetched(&self) {
        self.fetched.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a frame whose pages were right.
    pub(super) fn right(&self) {
        self.right.fetch_add(1, Ordering::Relaxed);
    }

    fn outcome(&self) -> String {
        let (fetched, right) = (self.fetched.load(Ordering::Relaxed), self.right.load(Ordering::Relaxed));
        let zeros = match self.zero_pages {
            0 => String::new(),
            pages => format!(", zeros {pages} page(s)"),
        };
        match (fetched, right) {
            _ if self.size == 0 => "is empty".to_owned(),
            (0, 0) => "is all zeros".to_owned(),
            (0, right) => format!("exists and matches the backup: right {right} frame(s){zeros}"),
            (fetched, 0) if !self.may_be_reused => format!("fetched {fetched} frame(s){zeros}"),
            (fetched, right) => format!("fetched {fetched} frame(s), right already {right} frame(s){zeros}"),
        }
    }
}

fn tell_frames(path: &str, map: &PageMap) {
    for piece in map.pieces() {
        let pages = pages(piece.first_page, piece.pages);
        tracing::trace!("{pages} of '{path}' wanted from frame {} of pack {}", piece.block, piece.pack);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(number: u64) -> FileTold {
        let (path, fetched, right) = Default::default();
        FileTold { number, path, size: 8192, may_be_reused: true, fetched, right, zero_pages: 0 }
    }

    #[test]
    fn files_are_told_of_in_their_order() {
        let (mut queue, mut told) = (Queue::default(), Vec::new());
        for number in [2, 0, 1, 5, 4, 3] {
            queue.done(Arc::new(file(number)), &mut |file| told.push(file.number));
        }
        assert_eq!(told, [0, 1, 2, 3, 4, 5]);
        assert!(queue.waiting.is_empty());
    }

    #[test]
    fn the_outcome_sums_up_the_frames() {
        let told = file(0);
        assert_eq!(told.outcome(), "is all zeros");
        told.right();
        assert_eq!(told.outcome(), "exists and matches the backup: right 1 frame(s)");
        told.fetched();
        told.fetched();
        assert_eq!(told.outcome(), "fetched 2 frame(s), right already 1 frame(s)");
        let told = FileTold { may_be_reused: false, zero_pages: 3, ..file(0) };
        told.fetched();
        assert_eq!(told.outcome(), "fetched 1 frame(s), zeros 3 page(s)");
        assert_eq!(FileTold { size: 0, ..file(0) }.outcome(), "is empty");
    }
}
