//! The way of recovery through the timelines, as the histories show it that it was given.
//!
//! PostgreSQL asks for the histories of the timelines before it asks for their segments, and reads each segment from the
//! newest timeline of its way that has it. So a history that it was given is kept in the spool, until it is told that
//! this timeline, or an older one, is not in the archive. Whether PostgreSQL follows it does not show before it asks for
//! its segments: what was fetched for nothing is removed then.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::path::Path;

use fs_err as fs;
use pgark_postgres::wal::history::TimelineHistory;
use pgark_postgres::wal::name::{SegmentName, SegmentSize, Timeline, WalFileName};
use pgark_system::durable::{DurableFile, Existing};

use super::super::spool;

/// The timelines that recovery goes through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Route {
    history: TimelineHistory,
    size: SegmentSize,
}

impl Route {
    /// The way that leads past a segment and then furthest, by these histories; along its own timeline where none of
    /// them has it.
    pub(super) fn past(
        segment: SegmentName,
        size: SegmentSize,
        histories: impl IntoIterator<Item = TimelineHistory>,
    ) -> Self {
        let routes = histories.into_iter().map(|history| Self { history, size });
        let leading = routes.filter(|route| route.has(segment)).max_by_key(|route| route.history.timeline());
        leading.unwrap_or_else(|| Self { history: TimelineHistory::without_ancestors(segment.timeline), size })
    }

    /// Whether recovery that goes this way asks for the segment.
    pub(super) fn has(&self, segment: SegmentName) -> bool {
        segment.number(self.size).is_some_and(|number| self.history.segment(number, self.size) == Some(segment))
    }

    /// The segment that comes after this one.
    pub(super) fn after(&self, segment: SegmentName) -> Option<SegmentName> {
        self.history.segment(segment.number(self.size)?.checked_add(1)?, self.size)
    }

    /// Whether recovery that asks for this segment stays on an older timeline than this way does.
    pub(super) fn is_left_by(&self, segment: SegmentName) -> bool {
        let here = segment.number(self.size).and_then(|number| self.history.segment(number, self.size));
        here.is_some_and(|here| segment.timeline < here.timeline)
    }

    /// Of the segments that are there, those that a recovery which asks for `next` now is not going to ask for soon:
    /// older ones, those off the way, and those too far ahead.
    pub(super) fn obsolete(
        &self,
        present: &BTreeSet<SegmentName>,
        next: SegmentName,
        capacity: usize,
    ) -> BTreeSet<SegmentName> {
        let Some(first) = next.number(self.size) else { return present.clone() };
        let wanted = first..first.saturating_add(capacity as u64);
        let is_wanted = |segment: &SegmentName| {
            self.has(*segment) && segment.number(self.size).is_some_and(|number| wanted.contains(&number))
        };
        present.iter().filter(|segment| !is_wanted(segment)).copied().collect()
    }
}

/// The timelines whose histories lie in the spool.
pub(super) fn kept(directory: &Path) -> io::Result<BTreeSet<Timeline>> {
    let mut timelines = BTreeSet::new();
    for entry in fs::read_dir(directory)? {
        if let Some(Ok(WalFileName::History(timeline))) = entry?.file_name().to_str().map(str::parse) {
            timelines.insert(timeline);
        }
    }
    Ok(timelines)
}

/// The histories that lie in the spool. One that is damaged shows no way.
pub(super) fn histories(directory: &Path) -> io::Result<Vec<TimelineHistory>> {
    let mut histories = Vec::new();
    for timeline in kept(directory)? {
        let text = fs::read(directory.join(timeline.history_file_name()))?;
        histories.extend(TimelineHistory::parse(timeline, &String::from_utf8_lossy(&text)).ok());
    }
    Ok(histories)
}

/// Keeps the history of a timeline that PostgreSQL was given, which lies at `given`.
pub(super) fn keep(directory: &Path, timeline: Timeline, given: &Path) -> io::Result<()> {
    let mut file = DurableFile::create(&directory.join(timeline.history_file_name()), 0o640)?;
    file.write_all(&fs::read(given)?)?;
    file.commit_unsynced(Existing::Replace)
}

/// Forgets the history of a timeline that PostgreSQL was told to be absent: it goes no further, to newer ones neither.
pub(super) fn forget_from(directory: &Path, timeline: Timeline) -> io::Result<()> {
    for timeline in kept(directory)?.range(timeline..) {
        spool::remove(&directory.join(timeline.history_file_name()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: SegmentSize = SegmentSize::DEFAULT;

    fn segment(name: &str) -> SegmentName {
        name.parse().unwrap()
    }

    fn of_timeline(timeline: u32, numbers: &[u32]) -> Vec<SegmentName> {
        numbers.iter().map(|number| segment(&format!("{timeline:08X}00000000{number:08X}"))).collect()
    }

    fn history(timeline: u32, text: &str) -> TimelineHistory {
        TimelineHistory::parse(Timeline(timeline), text).unwrap()
    }

    /// Timeline 2 leaves the first in segment 5, and 3 leaves 2 in segment 7; 4 leaves the first in segment 3.
    fn known() -> Vec<TimelineHistory> {
        let second = "1\t0/5000060\tx\n";
        vec![history(2, second), history(3, &format!("{second}2\t0/7000000\tx\n")), history(4, "1\t0/3000000\tx\n")]
    }

    fn way(first: SegmentName, histories: Vec<TimelineHistory>) -> Vec<SegmentName> {
        let route = Route::past(first, SIZE, histories);
        std::iter::successors(Some(first), |segment| route.after(*segment)).take(6).collect()
    }

    #[test]
    fn the_way_goes_on_to_the_newest_timeline_that_can_be_reached() {
        let [first, ..] = of_timeline(1, &[3, 4])[..] else { unreachable!() };
        // Timeline 4 has left before.
        let expected = [of_timeline(1, &[4]), of_timeline(2, &[5, 6]), of_timeline(3, &[7, 8, 9])].concat();
        assert_eq!(way(segment("000000010000000000000004"), known()), expected);
        let expected = [of_timeline(1, &[2]), of_timeline(4, &[3, 4, 5, 6, 7])].concat();
        assert_eq!(way(segment("000000010000000000000002"), known()), expected);
        assert_eq!(way(first, Vec::new()), of_timeline(1, &[3, 4, 5, 6, 7, 8]));
    }

    #[test]
    fn who_stays_on_a_timeline_is_followed_there() {
        // It asks for a segment that the newer timelines have, too.
        assert_eq!(way(segment("000000010000000000000006"), known()), of_timeline(1, &[6, 7, 8, 9, 10, 11]));
        let route = Route::past(segment("000000010000000000000004"), SIZE, known());
        assert!(route.is_left_by(segment("000000010000000000000005")));
        assert!(!route.is_left_by(segment("000000010000000000000004")));
        // Some servers ask a timeline for a segment before it begins.
        assert!(!route.is_left_by(segment("000000030000000000000004")));
    }

    #[test]
    fn what_recovery_does_not_ask_for_is_obsolete() {
        let route = Route::past(segment("000000010000000000000004"), SIZE, known());
        let wanted = [of_timeline(1, &[4]), of_timeline(2, &[5, 6])].concat();
        let unwanted = [of_timeline(1, &[2, 3, 5]), of_timeline(2, &[4]), of_timeline(3, &[6, 7])].concat();
        let present = wanted.iter().chain(&unwanted).copied().collect();
        let obsolete = route.obsolete(&present, segment("000000010000000000000004"), 3);
        assert_eq!(obsolete, unwanted.into_iter().collect());
    }

    #[test]
    fn histories_are_kept_until_a_timeline_is_absent() {
        let directory = tempfile::tempdir().unwrap();
        let given = directory.path().join("RECOVERYHISTORY");
        for known in known() {
            let lines = known.switches().iter().map(|switch| format!("{}\t{}\tx\n", switch.timeline, switch.lsn));
            fs::write(&given, lines.collect::<String>()).unwrap();
            keep(directory.path(), known.timeline(), &given).unwrap();
        }
        assert_eq!(histories(directory.path()).unwrap().len(), 3);
        fs::write(directory.path().join("00000004.history"), "\0\0\0").unwrap();
        assert_eq!(histories(directory.path()).unwrap().len(), 2);
        forget_from(directory.path(), Timeline(3)).unwrap();
        assert_eq!(kept(directory.path()).unwrap(), BTreeSet::from([Timeline(2)]));
    }
}
