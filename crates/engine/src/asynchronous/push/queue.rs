//! What is pushed next, what of it is settled, and what is dropped: a value that is told what happens and asked what to do.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use pgark_postgres::wal::name::WalFileName;

/// How long a repository is left in peace that has failed, while the others go on.
const PAUSE: Duration = Duration::from_secs(5);

/// The files that PostgreSQL waits for, and how far each repository is with them. Each repository goes through the files
/// by itself, in a *lane*, so that one that is slow or down keeps none of the others waiting.
#[derive(Debug)]
pub(super) struct Queue {
    files: BTreeMap<Turn, File>,
    lanes: Vec<Lane>,
    /// Workers of each lane.
    workers: usize,
    /// How many files each lane may have under way.
    at_once: usize,
    /// Bytes that may be begun still.
    budget: u64,
}

/// The order in which PostgreSQL asks for files: histories first, without which nobody finds the timelines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Turn(u8, WalFileName);

impl Turn {
    fn of(name: WalFileName) -> Self {
        Self(u8::from(!matches!(name, WalFileName::History(_))), name)
    }
}

#[derive(Debug)]
struct File {
    size: u64,
    /// The lanes that are done with it: they have stored it, or go without it.
    settled: BTreeSet<usize>,
    /// Whether it was begun, and counts against the budget.
    is_begun: bool,
}

#[derive(Debug, Default)]
struct Lane {
    waiting: BTreeSet<Turn>,
    under_way: BTreeSet<Turn>,
    /// When the repository failed last, if it has not worked since.
    failed_at: Option<Duration>,
}

/// A file to be pushed by a lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Job {
    pub(super) name: WalFileName,
    /// How many threads may compress it.
    pub(super) compressing: usize,
}

/// What became of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The repository holds the file durably.
    Stored,
    /// This file can't be pushed; others may be.
    FileFailed,
    /// The repository is of no use, at least for a while.
    RepositoryFailed,
}

impl Queue {
    /// An empty queue with so many lanes of so many workers each, which have `at_once` files under way together. It begins
    /// with no more files when it has begun with `budget` bytes.
    pub(super) fn new(lanes: usize, workers: usize, at_once: usize, budget: u64) -> Self {
        let lanes = (0..lanes).map(|_| Lane::default()).collect();
        Self { files: BTreeMap::new(), lanes, workers: workers.max(1), at_once: at_once.max(1), budget }
    }

    /// Whether the file is known.
    pub(super) fn knows(&self, name: WalFileName) -> bool {
        self.files.contains_key(&Turn::of(name))
    }

    /// Adds a file with the lanes that are done with it already.
    pub(super) fn add(&mut self, name: WalFileName, size: u64, settled: BTreeSet<usize>) {
        let turn = Turn::of(name);
        for (number, lane) in self.lanes.iter_mut().enumerate() {
            if !settled.contains(&number) {
                lane.waiting.insert(turn);
            }
        }
        self.files.insert(turn, File { size, settled, is_begun: false });
    }

    /// Forgets the files that PostgreSQL does not wait for any more.
    pub(super) fn retain(&mut self, ready: &BTreeSet<WalFileName>) {
        self.files.retain(|turn, _| ready.contains(&turn.1));
        for lane in &mut self.lanes {
            lane.waiting.retain(|turn| ready.contains(&turn.1));
        }
    }

    /// The lanes that are done with a file.
    pub(super) fn settled(&self, name: WalFileName) -> BTreeSet<usize> {
        self.files.get(&Turn::of(name)).map(|file| file.settled.clone()).unwrap_or_default()
    }

    /// Whether every lane is done with a file.
    pub(super) fn is_complete(&self, name: WalFileName) -> bool {
        self.files.get(&Turn::of(name)).is_some_and(|file| file.settled.len() == self.lanes.len())
    }

    /// What a lane is to do next, if there is anything and it may have more under way.
    pub(super) fn next(&mut self, lane: usize, now: Duration) -> Option<Job> {
        let (workers, at_once, budget) = (self.workers, self.at_once, self.budget);
        let lane = self.lanes.get_mut(lane)?;
        // One that has failed is tried with one file first.
        let allowed = match lane.failed_at {
            None => at_once,
            Some(failed_at) => usize::from(now >= failed_at + PAUSE),
        };
        if lane.under_way.len() >= allowed {
            return None;
        }
        let turn = *lane.waiting.first()?;
        let file = self.files.get_mut(&turn)?;
        if !file.is_begun && budget == 0 {
            return None;
        }
        if !file.is_begun {
            file.is_begun = true;
            self.budget = budget.saturating_sub(file.size.max(1));
        }
        lane.waiting.remove(&turn);
        lane.under_way.insert(turn);
        let files = workers.min(lane.under_way.len() + lane.waiting.len());
        Some(Job { name: turn.1, compressing: workers / files })
    }

    /// Takes note of what became of a job.
    pub(super) fn note(&mut self, lane: usize, name: WalFileName, outcome: Outcome, now: Duration) {
        let turn = Turn::of(name);
        let file = self.files.get_mut(&turn);
        let Some(state) = self.lanes.get_mut(lane) else { return };
        state.under_way.remove(&turn);
        match outcome {
            Outcome::Stored => {
                state.failed_at = None;
                if let Some(file) = file {
                    file.settled.insert(lane);
                }
            }
            Outcome::FileFailed => {}
            Outcome::RepositoryFailed => {
                state.failed_at = Some(now);
                if file.is_some_and(|file| !file.settled.contains(&lane)) {
                    state.waiting.insert(turn);
                }
            }
        }
    }

    /// Whether nothing is under way, and nothing is to be begun now.
    pub(super) fn is_at_rest(&mut self, now: Duration) -> bool {
        let may_begin = |lane: &Lane| lane.failed_at.is_none_or(|failed_at| now >= failed_at + PAUSE);
        let can_begin = |lane: &Lane| {
            let first = lane.waiting.first().and_then(|turn| self.files.get(turn));
            first.is_some_and(|file| file.is_begun || self.budget > 0)
        };
        self.lanes.iter().all(|lane| lane.under_way.is_empty() && !(may_begin(lane) && can_begin(lane)))
    }

    /// Whether a lane has failed and not worked since.
    pub(super) fn is_failing(&self, lane: usize) -> bool {
        self.lanes.get(lane).is_some_and(|lane| lane.failed_at.is_some())
    }

    /// Drops files where more than `limit` bytes wait, and gives them with the lanes that go without them.
    ///
    /// What waits is counted from the oldest file on that keeps PostgreSQL waiting: those before it go as soon as it asks
    /// for them. Only lanes that lack this oldest file lose anything; they lose all that they lack, since what comes after a
    /// gap is of no use to them, and every file more that has to be tried takes time.
    pub(super) fn drop_excess(&mut self, limit: u64) -> Vec<(WalFileName, BTreeSet<usize>)> {
        let lanes = self.lanes.len();
        let Some((&oldest, file)) = self.files.iter().find(|(_, file)| file.settled.len() < lanes) else {
            return Vec::new();
        };
        if self.files.range(oldest..).map(|(_, file)| file.size).sum::<u64>() <= limit {
            return Vec::new();
        }
        let late: BTreeSet<usize> = (0..lanes).filter(|lane| !file.settled.contains(lane)).collect();
        for lane in &late {
            self.lanes[*lane].waiting.clear();
        }
        let mut dropped = Vec::new();
        for (turn, file) in self.files.range_mut(oldest..) {
            let without: BTreeSet<usize> = late.difference(&file.settled).copied().collect();
            if !without.is_empty() {
                file.settled.extend(&without);
                dropped.push((turn.1, without));
            }
        }
        dropped
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SIZE: u64 = 16 << 20;
    const START: Duration = Duration::ZERO;

    fn segment(number: u32) -> WalFileName {
        format!("0000000100000000{number:08X}").parse().unwrap()
    }

    fn queue(lanes: usize, workers: usize, files: u32) -> Queue {
        let mut queue = Queue::new(lanes, workers, workers, u64::MAX);
        (1..=files).for_each(|number| queue.add(segment(number), SIZE, BTreeSet::new()));
        queue
    }

    fn names(queue: &mut Queue, lane: usize, now: Duration) -> Vec<String> {
        std::iter::from_fn(|| queue.next(lane, now)).map(|job| job.name.to_string()).collect()
    }

    #[test]
    fn the_oldest_files_come_first_and_histories_before_them() {
        let mut queue = queue(1, 3, 5);
        queue.add("00000002.history".parse().unwrap(), 50, BTreeSet::new());
        let expected = ["00000002.history".to_owned(), segment(1).to_string(), segment(2).to_string()];
        assert_eq!(names(&mut queue, 0, START), expected);
        queue.note(0, segment(1), Outcome::Stored, START);
        assert_eq!(names(&mut queue, 0, START), [segment(3).to_string()]);
        assert!(queue.is_complete(segment(1)) && !queue.is_complete(segment(2)));
    }

    #[test]
    fn workers_that_have_no_file_of_their_own_compress_with_the_others() {
        let compressing = |files| queue(1, 8, files).next(0, START).unwrap().compressing;
        assert_eq!([1, 2, 3, 8, 100].map(compressing), [8, 4, 2, 1, 1]);
    }

    #[test]
    fn more_files_may_be_under_way_than_are_compressed() {
        let mut queue = Queue::new(1, 2, 4, u64::MAX);
        (1..=5).for_each(|number| queue.add(segment(number), SIZE, BTreeSet::new()));
        let jobs: Vec<_> = std::iter::from_fn(|| queue.next(0, START)).collect();
        assert_eq!(jobs.iter().map(|job| job.name).collect::<Vec<_>>(), [1, 2, 3, 4].map(segment));
        assert!(jobs.iter().all(|job| job.compressing == 1));
        // One that has failed is tried with one file first.
        (1..=4).for_each(|number| queue.note(0, segment(number), Outcome::RepositoryFailed, START));
        assert_eq!(names(&mut queue, 0, PAUSE), [segment(1).to_string()]);
    }

    #[test]
    fn a_lane_that_fails_keeps_no_other_from_going_on() {
        let mut queue = queue(2, 2, 4);
        assert_eq!([0, 1].map(|lane| names(&mut queue, lane, START).len()), [2, 2]);
        for number in [1, 2] {
            queue.note(0, segment(number), Outcome::RepositoryFailed, START);
            queue.note(1, segment(number), Outcome::Stored, START);
        }
        assert_eq!(names(&mut queue, 0, START), [""; 0]);
        assert_eq!(names(&mut queue, 1, START), [3, 4].map(|number| segment(number).to_string()));
        assert!(queue.is_failing(0) && !queue.is_at_rest(START));
        // It is tried with one file, and then with all workers.
        assert_eq!(names(&mut queue, 0, PAUSE), [segment(1).to_string()]);
        queue.note(0, segment(1), Outcome::Stored, PAUSE);
        assert_eq!(names(&mut queue, 0, PAUSE), [2, 3].map(|number| segment(number).to_string()));
        assert_eq!(queue.settled(segment(1)), BTreeSet::from([0, 1]));
        assert_eq!(queue.settled(segment(2)), BTreeSet::from([1]));
    }

    #[test]
    fn nobody_waits_for_a_lane_that_fails() {
        let mut queue = queue(2, 2, 1);
        for lane in [0, 1] {
            queue.next(lane, START);
        }
        queue.note(1, segment(1), Outcome::Stored, START);
        assert!(!queue.is_at_rest(START));
        queue.note(0, segment(1), Outcome::RepositoryFailed, START);
        assert!(queue.is_at_rest(START) && !queue.is_at_rest(PAUSE));
    }

    #[test]
    fn a_file_that_fails_is_not_tried_again_and_others_are() {
        let mut queue = queue(1, 1, 2);
        queue.next(0, START);
        queue.note(0, segment(1), Outcome::FileFailed, START);
        assert_eq!(names(&mut queue, 0, START), [segment(2).to_string()]);
        queue.note(0, segment(2), Outcome::Stored, START);
        assert!(queue.is_at_rest(START) && !queue.is_complete(segment(1)));
    }

    #[test]
    fn a_budget_ends_a_run_but_not_before_one_file() {
        let mut queue = Queue::new(2, 4, 4, SIZE + 1);
        (1..=5).for_each(|number| queue.add(segment(number), SIZE, BTreeSet::new()));
        assert_eq!(names(&mut queue, 0, START).len(), 2);
        // What one lane has begun, the other may still do.
        assert_eq!(names(&mut queue, 1, START).len(), 2);
        for lane in [0, 1] {
            for number in [1, 2] {
                queue.note(lane, segment(number), Outcome::Stored, START);
            }
        }
        assert!(queue.is_at_rest(START));
        let mut small = Queue::new(1, 4, 4, 1);
        small.add(segment(1), SIZE, BTreeSet::new());
        assert_eq!(names(&mut small, 0, START).len(), 1);
    }

    #[test]
    fn only_who_holds_postgresql_up_loses_files() {
        let mut queue = queue(2, 8, 4);
        for number in [1, 2, 3] {
            queue.next(1, START);
            queue.note(1, segment(number), Outcome::Stored, START);
        }
        assert_eq!(queue.drop_excess(4 * SIZE), []);
        let dropped = queue.drop_excess(4 * SIZE - 1);
        let first: Vec<_> = (1..=3).map(|number| (segment(number), BTreeSet::from([0]))).collect();
        assert_eq!(dropped[..3], first);
        // The last one lacks in both, but the second repository has not held anything up.
        assert_eq!(dropped[3], (segment(4), BTreeSet::from([0])));
        assert_eq!(names(&mut queue, 0, START), [""; 0]);
        assert_eq!(names(&mut queue, 1, START), [segment(4).to_string()]);
        assert!(queue.is_complete(segment(3)) && !queue.is_complete(segment(4)));
    }

    /// PostgreSQL may be slow in asking for what is there already.
    #[test]
    fn what_is_settled_does_not_count_as_waiting() {
        let mut queue = queue(1, 8, 0);
        (1..=10).for_each(|number| queue.add(segment(number), SIZE, BTreeSet::from([0])));
        queue.add(segment(11), SIZE, BTreeSet::new());
        assert_eq!(queue.drop_excess(SIZE), []);
        // One that fails again and again holds up all that come after it.
        let mut queue = Queue::new(1, 8, 8, u64::MAX);
        queue.add(segment(1), SIZE, BTreeSet::new());
        (2..=10).for_each(|number| queue.add(segment(number), SIZE, BTreeSet::from([0])));
        assert_eq!(queue.drop_excess(5 * SIZE), [(segment(1), BTreeSet::from([0]))]);
    }

    #[test]
    fn what_postgresql_does_not_wait_for_is_forgotten() {
        let mut queue = queue(1, 1, 3);
        queue.next(0, START);
        queue.retain(&BTreeSet::from([segment(3)]));
        queue.note(0, segment(1), Outcome::RepositoryFailed, START);
        assert!(!queue.knows(segment(1)));
        assert_eq!(names(&mut queue, 0, PAUSE), [segment(3).to_string()]);
    }

    proptest! {
        /// Whatever happens in whatever order, a file is complete only if each lane has stored it.
        #[test]
        fn only_what_every_lane_has_stored_is_complete(events in prop::collection::vec((0..3_usize, 0..3_u8), 1..200)) {
            let mut queue = queue(3, 2, 10);
            let mut stored: BTreeMap<WalFileName, BTreeSet<usize>> = BTreeMap::new();
            let mut now = START;
            for (lane, kind) in events {
                now += PAUSE;
                let Some(job) = queue.next(lane, now) else { continue };
                prop_assert!(!stored.get(&job.name).is_some_and(|lanes| lanes.contains(&lane)), "pushed twice");
                let outcome = [Outcome::Stored, Outcome::FileFailed, Outcome::RepositoryFailed][usize::from(kind)];
                if outcome == Outcome::Stored {
                    stored.entry(job.name).or_default().insert(lane);
                }
                queue.note(lane, job.name, outcome, now);
                for number in 1..=10 {
                    let lanes = stored.get(&segment(number)).map_or(0, BTreeSet::len);
                    prop_assert_eq!(queue.is_complete(segment(number)), lanes == 3);
                }
            }
        }
    }
}
