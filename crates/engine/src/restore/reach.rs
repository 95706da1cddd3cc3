//! What can be reached with the WAL in the archive.

use std::collections::{BTreeSet, HashMap};

use jiff::Timestamp;
use pgark_postgres::Lsn;
use pgark_postgres::recovery::TargetTimeline;
use pgark_postgres::wal::find::{FoundTransaction, TransactionSearch, Wanted};
use pgark_postgres::wal::history::TimelineHistory;
use pgark_postgres::wal::join::{Crossing, Joiner};
use pgark_postgres::wal::name::{SegmentName, SegmentSize, Timeline, WalFileName};
use pgark_postgres::wal::segment::SegmentAnalysis;
use pgark_postgres::wal::times::{NotableEvent, TimeIndex};
use pgark_repository::wal::Archive;

use crate::error::{Error, ErrorKind, Result};

/// The WAL of one archive, seen along the history of one timeline.
#[derive(Debug)]
pub(super) struct Reach<'repository> {
    archive: Archive<'repository>,
    size: SegmentSize,
    history: TimelineHistory,
    directories: HashMap<String, BTreeSet<String>>,
}

/// A segment, with the record that begins in it and ends in the next one.
struct Read {
    segment: SegmentName,
    analysis: SegmentAnalysis,
    crossing: Option<Crossing>,
}

impl Read {
    fn times(&self) -> impl Iterator<Item = &TimeIndex> {
        std::iter::once(&self.analysis.times).chain(self.crossing.as_ref().map(|crossing| &crossing.times))
    }
}

/// How far recovery can get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct WindowEnd {
    /// Where the last record begins that can be replayed.
    pub(super) lsn: Lsn,
    /// The latest time at which a transaction ended; `None` if none did.
    pub(super) time: Option<Timestamp>,
}

impl<'repository> Reach<'repository> {
    /// The WAL along the history of the timeline that recovery from a backup on `start` would follow.
    ///
    /// # Errors
    /// Where a history file can't be read or understood.
    pub(super) fn new(
        archive: Archive<'repository>,
        size: SegmentSize,
        start: Timeline,
        wish: Option<TargetTimeline>,
    ) -> Result<Self> {
        let timeline = match wish {
            Some(TargetTimeline::Current) => start,
            Some(TargetTimeline::Number(timeline)) => timeline,
            Some(TargetTimeline::Latest) | None => newest_timeline(&archive, start)?,
        };
        let history = read_history(&archive, start, timeline)?;
        Ok(Self { archive, size, history, directories: HashMap::new() })
    }

    /// Whether a backup that is consistent at `lsn` of `timeline` lies on this history.
    pub(super) fn contains(&self, timeline: Timeline, lsn: Lsn) -> bool {
        self.history.contains(timeline) && self.history.switch_of(timeline).is_none_or(|switch| lsn <= switch)
    }

    /// Where this history leaves `timeline`, if it comes by it.
    pub(super) fn leaves(&self, timeline: Timeline) -> Option<Lsn> {
        self.history.switch_of(timeline)
    }

    /// The timeline that recovery would end on.
    pub(super) fn timeline(&self) -> Timeline {
        self.history.timeline()
    }

    /// The timelines in the archive that recovery from a backup which is consistent at `lsn` of `start` could follow
    /// instead of this one, oldest first, each with where it parts from this one.
    ///
    /// # Errors
    /// Where a history file can't be read or understood.
    pub(super) fn branches(&self, start: Timeline, lsn: Lsn) -> Result<Vec<(Self, Lsn)>> {
        let histories = self.archive.histories()?;
        let numbers = histories.iter().filter_map(|file| match file.parse() {
            Ok(WalFileName::History(timeline)) => Some(timeline),
            _ => None,
        });
        let mut timelines: BTreeSet<Timeline> = numbers.chain([start]).collect();
        timelines.remove(&self.timeline());
        let mut branches = Vec::new();
        for timeline in timelines {
            let history = read_history(&self.archive, start, timeline)?;
            let parts = history.parts_from(&self.history);
            let branch = Self { archive: self.archive.clone(), size: self.size, history, directories: HashMap::new() };
            if branch.contains(start, lsn) {
                branches.push((branch, parts));
            }
        }
        Ok(branches)
    }

    /// The first segment from that of `from` on that the archive lacks.
    ///
    /// # Errors
    /// The storage's error.
    pub(super) fn first_missing(&mut self, from: Lsn) -> Result<u64> {
        let mut number = self.size.segment_of(from);
        while let Some(segment) = self.history.segment(number, self.size) {
            if !self.has(segment)? {
                break;
            }
            number += 1;
        }
        Ok(number)
    }

    /// How far recovery from `from` can get, or `None` if not even the first segment is there.
    ///
    /// # Errors
    /// Damage, or the storage's error.
    pub(super) fn end(&mut self, from: Lsn) -> Result<Option<WindowEnd>> {
        let mut end: Option<WindowEnd> = None;
        self.backwards(from, |read| {
            let last_record = read.analysis.edges.last_record.unwrap_or(read.analysis.header.start);
            let end = end.get_or_insert(WindowEnd { lsn: last_record, time: None });
            end.time = read.times().filter_map(|times| times.ends()).map(|ends| ends.latest).max();
            Ok(end.time.is_some())
        })?;
        Ok(end)
    }

    /// Whether a transaction ended after `time`, or at it if `or_at`: only then does recovery know that it is there.
    ///
    /// # Errors
    /// Damage, or the storage's error.
    pub(super) fn has_end_after(&mut self, from: Lsn, time: Timestamp, or_at: bool) -> Result<bool> {
        let mut found = false;
        self.backwards(from, |read| {
            let ends = read.times().filter_map(|times| times.ends());
            found = ends.map(|ends| ends.latest).any(|latest| latest > time || or_at && latest == time);
            Ok(found)
        })?;
        Ok(found)
    }

    /// Where restore points of this name lie, latest first.
    ///
    /// # Errors
    /// Damage, or the storage's error.
    pub(super) fn restore_points(&mut self, from: Lsn, wanted: &str) -> Result<Vec<Lsn>> {
        let mut found = Vec::new();
        self.backwards(from, |read| {
            let notable = read.times().flat_map(TimeIndex::notable);
            let points = notable.filter(
                |notable| matches!(&notable.what, NotableEvent::RestorePoint { name } if name.as_str() == wanted),
            );
            found.extend(points.map(|notable| notable.lsn));
            Ok(false)
        })?;
        found.sort_unstable_by(|one, other| other.cmp(one));
        Ok(found)
    }

    /// Where the transaction `xid` ended; more than once if transaction ids have started over. Latest first.
    ///
    /// # Errors
    /// Damage, or the storage's error.
    pub(super) fn ends_of_transaction(&mut self, from: Lsn, xid: u32) -> Result<Vec<Lsn>> {
        let mut candidates = Vec::new();
        self.backwards(from, |read| {
            if read.times().filter_map(|times| times.ends()).any(|ends| ends.may_contain(xid)) {
                candidates.push((read.segment, read.crossing.is_some()));
            }
            Ok(false)
        })?;
        let mut found = Vec::new();
        for (segment, goes_on) in candidates {
            found.extend(self.search(segment, goes_on, Wanted::Transaction(xid))?.map(|found| found.lsn));
        }
        Ok(found)
    }

    /// The first end of a transaction whose record does not begin before `from`.
    ///
    /// # Errors
    /// Damage, or the storage's error.
    pub(super) fn first_end(&mut self, from: Lsn) -> Result<Option<FoundTransaction>> {
        let end = self.first_missing(from)?;
        let mut next: Option<SegmentAnalysis> = None;
        for number in self.size.segment_of(from)..end {
            let Some(segment) = self.history.segment(number, self.size) else { break };
            let analysis = next.take().map_or_else(|| self.analysis(segment), Ok)?;
            next = match self.after(segment).filter(|_| number + 1 < end) {
                Some(after) => Some(self.analysis(after)?),
                None => None,
            };
            let crossing = next.as_ref().and_then(|next| crossing(&analysis, next));
            let read = Read { segment, analysis, crossing };
            if read.times().any(|times| times.ends().is_some())
                && let Some(found) = self.search(segment, read.crossing.is_some(), Wanted::From(from))?
            {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    fn search(&self, segment: SegmentName, goes_on: bool, wanted: Wanted) -> Result<Option<FoundTransaction>> {
        let mut search = TransactionSearch::new(wanted);
        let next = goes_on.then(|| self.after(segment)).flatten();
        for segment in std::iter::once(segment).chain(next) {
            let name = segment.to_string();
            let mut bytes = Vec::new();
            for data in self.archive.whole_segment(&name)?.data() {
                bytes.extend_from_slice(&data?);
            }
            let found = search.push(&bytes).map_err(|error| not_understood(&name, &error.to_string()))?;
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }

    fn after(&self, segment: SegmentName) -> Option<SegmentName> {
        self.history.segment(segment.number(self.size)? + 1, self.size)
    }

    /// Visits the segments that can be replayed from `from` on, the last one first, until `visit` says that it is enough.
    fn backwards(&mut self, from: Lsn, mut visit: impl FnMut(&Read) -> Result<bool>) -> Result<()> {
        let first = self.size.segment_of(from);
        let mut next: Option<SegmentAnalysis> = None;
        for number in (first..self.first_missing(from)?).rev() {
            let Some(segment) = self.history.segment(number, self.size) else { continue };
            let analysis = self.analysis(segment)?;
            let crossing = next.as_ref().and_then(|next| crossing(&analysis, next));
            let read = Read { segment, analysis, crossing };
            if visit(&read)? {
                return Ok(());
            }
            next = Some(read.analysis);
        }
        Ok(())
    }

    fn analysis(&self, segment: SegmentName) -> Result<SegmentAnalysis> {
        let name = segment.to_string();
        let stored = self.archive.segment(&name)?.analysis()?;
        SegmentAnalysis::decode(&stored).map_err(|error| not_understood(&name, &error.to_string()))
    }

    fn has(&mut self, segment: SegmentName) -> Result<bool> {
        let directory = segment.directory();
        if !self.directories.contains_key(&directory) {
            let files = self.archive.files(&directory)?.into_iter().collect();
            self.directories.insert(directory.clone(), files);
        }
        Ok(self.directories.get(&directory).is_some_and(|files| files.contains(&segment.to_string())))
    }
}

fn not_understood(segment: &str, why: &str) -> Error {
    Error::new(ErrorKind::Format, format!("what the archive says of WAL segment '{segment}' can't be read: {why}"))
        .hint("use --set to choose the backup and --type=default to recover without a target")
}

/// The record that begins in one segment and ends in the next, where what is kept of both suffices to read it.
fn crossing(segment: &SegmentAnalysis, next: &SegmentAnalysis) -> Option<Crossing> {
    let mut joiner = Joiner::default();
    joiner.push(segment).ok()?;
    joiner.push(next).ok()?
}

/// The newest timeline, found as PostgreSQL finds it (`findNewestTimeLine` in `src/backend/access/transam/timeline.c`):
/// the last that has a history file, counting up from `start` without gaps.
fn newest_timeline(archive: &Archive<'_>, start: Timeline) -> Result<Timeline> {
    let histories: BTreeSet<String> = archive.histories()?.into_iter().collect();
    let mut newest = start;
    while let Some(next) = newest.0.checked_add(1).map(Timeline) {
        if !histories.contains(&next.history_file_name()) {
            break;
        }
        newest = next;
    }
    Ok(newest)
}

/// The history of a timeline for a recovery that begins on `start`.
fn read_history(archive: &Archive<'_>, start: Timeline, timeline: Timeline) -> Result<TimelineHistory> {
    let file = timeline.history_file_name();
    let bytes = match archive.history(&file) {
        Ok(bytes) => bytes,
        // The first timeline has no history file; and that of the timeline where recovery begins is not needed.
        Err(error) if error.is_not_found() && (timeline == start || timeline == Timeline(1)) => {
            return Ok(TimelineHistory::without_ancestors(timeline));
        }
        Err(error) if error.is_not_found() => {
            let message = format!("timeline {timeline} is not in the archive: it has no history file '{file}'");
            return Err(Error::new(ErrorKind::FileMissing, message)
                .hint("use --target-timeline=latest for the newest, or current for that of the backup"));
        }
        Err(error) => return Err(error.into()),
    };
    TimelineHistory::parse(timeline, &String::from_utf8_lossy(&bytes)).map_err(|error| {
        Error::new(ErrorKind::Format, format!("timeline history file '{file}' can't be read: {error}"))
            .hint("restore the file from a copy of the archive")
    })
}
