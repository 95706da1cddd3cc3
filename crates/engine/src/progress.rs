//! How far long work is: one notion of it, which lock files, bars and log lines read.
//!
//! Who works counts, which takes an addition; who shows it asks when it likes to. Nothing is pushed, so that work costs the
//! same whether somebody looks or not.

use std::borrow::Cow;
use std::ops::Deref;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Bytes.
    Bytes,
    /// Steps of a plan.
    Steps,
}

/// How far one piece of work is.
#[derive(Debug)]
pub struct Progress {
    /// Names the work among all of this process.
    pub id: u64,
    /// The command, as `backup`.
    pub command: &'static str,
    /// The repository that it works at.
    pub repository: u32,
    /// What is counted.
    pub unit: Unit,
    /// 0 as long as it is not known.
    total: AtomicU64,
    done: AtomicU64,
    note: Mutex<Cow<'static, str>>,
}

/// How far work is at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sample {
    /// How much there is to be done in all, once that is known.
    pub total: Option<u64>,
    /// How much of it is done: never more than all.
    pub done: u64,
    /// What else there is to say, as what is being waited for; empty for nothing.
    pub note: Cow<'static, str>,
}

impl Progress {
    /// Says how much there is to be done in all.
    pub fn expect(&self, total: u64) {
        self.total.store(total, Ordering::Relaxed);
    }

    /// Says that so much more is done.
    pub fn advance(&self, more: u64) {
        self.done.fetch_add(more, Ordering::Relaxed);
    }

    /// Says what is being done that can't be counted, or what else somebody who looks should know. Empty for nothing.
    pub fn note(&self, note: impl Into<Cow<'static, str>>) {
        *self.lock_note() = note.into();
    }

    /// How far it is now.
    pub fn sample(&self) -> Sample {
        let total = Some(self.total.load(Ordering::Relaxed)).filter(|total| *total > 0);
        // Files may grow meanwhile.
        let done = self.done.load(Ordering::Relaxed).min(total.unwrap_or(u64::MAX));
        Sample { total, done, note: self.lock_note().clone() }
    }

    fn lock_note(&self) -> MutexGuard<'_, Cow<'static, str>> {
        self.note.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The long work that a process is at.
#[derive(Clone, Debug, Default)]
pub struct Board(Arc<Mutex<Works>>);

#[derive(Debug, Default)]
struct Works {
    begun: u64,
    at_work: Vec<Arc<Progress>>,
}

impl Board {
    /// Begins work, which is on the board as long as the result lives.
    pub fn begin(&self, command: &'static str, repository: u32, unit: Unit) -> Work {
        let mut works = self.works();
        works.begun += 1;
        let (total, done, note) = Default::default();
        let progress = Arc::new(Progress { id: works.begun, command, repository, unit, total, done, note });
        works.at_work.push(Arc::clone(&progress));
        Work { board: self.clone(), progress }
    }

    /// The work that is on the board, in the order in which it was begun.
    pub fn at_work(&self) -> Vec<Arc<Progress>> {
        self.works().at_work.clone()
    }

    fn works(&self) -> MutexGuard<'_, Works> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Work that is on a board.
#[derive(Debug)]
pub struct Work {
    board: Board,
    progress: Arc<Progress>,
}

impl Work {
    /// How far it is, for somebody who goes on looking.
    pub fn progress(&self) -> Arc<Progress> {
        Arc::clone(&self.progress)
    }
}

impl Deref for Work {
    type Target = Progress;

    fn deref(&self) -> &Progress {
        &self.progress
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        self.board.works().at_work.retain(|other| other.id != self.progress.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_is_on_the_board_while_it_lasts() {
        let board = Board::default();
        let first = board.begin("verify", 1, Unit::Bytes);
        let second = board.begin("verify", 2, Unit::Bytes);
        let keys = || board.at_work().iter().map(|progress| progress.repository).collect::<Vec<_>>();
        assert_eq!(keys(), [1, 2]);
        drop(first);
        assert_eq!(keys(), [2]);
        drop(second);
        assert!(keys().is_empty());
    }

    #[test]
    fn no_more_is_done_than_there_is() {
        let work = Board::default().begin("backup", 1, Unit::Bytes);
        work.advance(70);
        assert_eq!(work.sample(), Sample { done: 70, ..Sample::default() });
        work.expect(100);
        assert_eq!(work.sample(), Sample { total: Some(100), done: 70, note: "".into() });
        work.advance(u64::from(u32::MAX));
        work.note("waiting for WAL");
        assert_eq!(work.sample(), Sample { total: Some(100), done: 100, note: "waiting for WAL".into() });
    }
}
