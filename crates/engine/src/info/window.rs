//! Which moments of a cluster can be reached with what is in an archive, along each timeline.

use jiff::Timestamp;
use pgark_postgres::Lsn;
use pgark_postgres::wal::history::TimelineHistory;
use pgark_postgres::wal::join::Joiner;
use pgark_postgres::wal::name::{SegmentName, SegmentSize, Timeline, WalFileName};
use pgark_postgres::wal::segment::SegmentAnalysis;
use pgark_repository::Label;
use pgark_repository::manifest::ManifestDocument;
use pgark_repository::wal::Archive;

use crate::coverage::{BackupSpan, Coverage, Runs};
use crate::error::Result;
use crate::parallel;

/// Segments that are looked at for the time of the last transaction before a window's end.
const SEGMENTS_FOR_TIME: usize = 16;

/// Moments that can be reached, all of them from one backup on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window {
    /// The timeline on which it ends.
    pub timeline: Timeline,
    /// The backup with which it begins.
    pub backup: Label,
    /// Where this backup is consistent, and when it ended.
    pub start: (Lsn, Timestamp),
    /// Where the last record begins that can be replayed, and when the last transaction ended; no time where none did of
    /// late.
    pub stop: (Lsn, Option<Timestamp>),
}

/// WAL segments that are missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MissingWal {
    /// The first.
    pub first: SegmentName,
    /// The last.
    pub last: SegmentName,
    /// How many.
    pub count: u64,
    /// Whether retention has removed them: they lie between two backups, the earlier of which can be restored to its end
    /// all the same.
    pub by_retention: bool,
}

/// What can be reached with an archive, and what is missing of it.
///
/// # Errors
/// Where the archive can't be listed.
pub(super) fn find(
    archive: &Archive<'_>,
    backups: &[&ManifestDocument],
    threads: usize,
) -> Result<(Vec<Window>, Vec<MissingWal>)> {
    let spans: Vec<(BackupSpan, Timestamp)> =
        backups.iter().filter_map(|backup| Some((BackupSpan::of(backup)?, backup.stop.time))).collect();
    let newest = backups.last().and_then(|backup| SegmentSize::new(u64::from(backup.cluster.wal_segment_size)).ok());
    let (Some(size), Some(first)) = (newest, spans.iter().map(|(span, _)| span.first).min()) else {
        return Ok((Vec::new(), Vec::new()));
    };
    let coverage = list(archive, size, first, threads)?;
    let only_spans: Vec<BackupSpan> = spans.iter().map(|(span, _)| span.clone()).collect();
    let mut windows = Vec::new();
    for timeline in coverage.ends(&only_spans) {
        for (span, end) in coverage.reachable(timeline, &only_spans) {
            let time = spans.iter().find(|(known, _)| known == span).map(|(_, time)| *time).unwrap_or_default();
            let window = Window {
                timeline: coverage.timeline_of(timeline, end),
                backup: span.label.clone(),
                start: (span.consistent, time),
                stop: last_point(archive, &coverage, timeline, span.first..=end),
            };
            if !windows.contains(&window) {
                windows.push(window);
            }
        }
    }
    let missing = coverage.gaps(&only_spans).into_iter().filter_map(|gap| {
        let name = |number: u64| SegmentName::new(gap.timeline, number, size);
        let (first, last) = (*gap.numbers.start(), *gap.numbers.end());
        let (first_name, last_name) = name(first).zip(name(last))?;
        Some(MissingWal { first: first_name, last: last_name, count: last - first + 1, by_retention: gap.is_thinned })
    });
    let missing = missing.collect();
    Ok((windows, missing))
}

/// Lists the segments from `first` on, directory by directory, many at once.
fn list(archive: &Archive<'_>, size: SegmentSize, first: u64, threads: usize) -> Result<Coverage> {
    let mut coverage = Coverage::new(size);
    let is_wanted = |directory: &String| {
        // The last segment that can lie in the directory.
        format!("{directory}{:08X}", u32::MAX / size.bytes())
            .parse::<SegmentName>()
            .is_ok_and(|last| last.number(size).is_some_and(|last| last >= first))
    };
    let directories: Vec<String> = archive.directories()?.into_iter().filter(is_wanted).collect();
    parallel::for_each(
        &directories,
        threads,
        |directory| archive.files(directory),
        |_, files| {
            for file in files? {
                if let Ok(WalFileName::Segment(segment)) = file.parse() {
                    coverage.add_segment(segment);
                }
            }
            Ok(())
        },
    )?;
    for file in archive.histories()? {
        if let Ok(WalFileName::History(timeline)) = file.parse()
            && let Ok(bytes) = archive.history(&file)
            && let Ok(history) = TimelineHistory::parse(timeline, &String::from_utf8_lossy(&bytes))
        {
            coverage.add_history(history);
        }
    }
    Ok(coverage)
}

/// Where the last record begins in these segments on the way to `timeline`, and when the last transaction ended. What
/// can't be read is not told: it is for verify to find out.
fn last_point(
    archive: &Archive<'_>,
    coverage: &Coverage,
    timeline: Timeline,
    numbers: std::ops::RangeInclusive<u64>,
) -> (Lsn, Option<Timestamp>) {
    let history = coverage.history(timeline);
    let size = coverage.size();
    let mut last = size.start_of(*numbers.end()).unwrap_or(Lsn::INVALID);
    let mut next: Option<SegmentAnalysis> = None;
    for number in numbers.rev().take(SEGMENTS_FOR_TIME) {
        let read = history.segment(number, size).and_then(|segment| analysis(archive, segment));
        let Some(analysis) = read else { break };
        if next.is_none() {
            last = analysis.edges.last_record.unwrap_or(analysis.header.start);
        }
        let crossing = next.as_ref().and_then(|next| {
            let mut joiner = Joiner::default();
            joiner.push(&analysis).ok()?;
            joiner.push(next).ok()?
        });
        let times = std::iter::once(&analysis.times).chain(crossing.as_ref().map(|crossing| &crossing.times));
        let latest = times.filter_map(|times| times.ends()).map(|ends| ends.latest).max();
        if latest.is_some() {
            return (last, latest);
        }
        next = Some(analysis);
    }
    (last, None)
}

fn analysis(archive: &Archive<'_>, segment: SegmentName) -> Option<SegmentAnalysis> {
    let stored = archive.segment(&segment.to_string()).ok()?.analysis().ok()?;
    SegmentAnalysis::decode(&stored).ok()
}

impl Coverage {
    /// The timelines on which recoveries can end that no other timeline goes on with.
    fn ends(&self, spans: &[BackupSpan]) -> Vec<Timeline> {
        let timelines = self.timelines(spans);
        let is_left_behind = |timeline: &Timeline| {
            timelines.iter().filter(|other| *other != timeline).any(|other| {
                let left = self.history(*other).switch_of(*timeline);
                left.is_some_and(|left| {
                    let last = self.segments().get(timeline).and_then(Runs::last);
                    last.is_none_or(|last| last < self.size().segment_of(left))
                })
            })
        };
        timelines.iter().copied().filter(|timeline| !is_left_behind(timeline)).collect()
    }

    /// The stretches of WAL without a gap on the way to `timeline`, each with the first backup that can be recovered in
    /// it.
    fn reachable<'span>(&self, timeline: Timeline, spans: &'span [BackupSpan]) -> Vec<(&'span BackupSpan, u64)> {
        let starts = self.starts(timeline, spans);
        let first = starts.iter().map(|span| span.first).min();
        let end = self.segments().get(&timeline).and_then(Runs::last);
        let Some((first, end)) = first.zip(end) else { return Vec::new() };
        let mut stretches = Vec::new();
        let mut begin = first;
        for (_, gap) in self.missing(timeline, first..=end) {
            stretches.push(begin..=gap.start().saturating_sub(1));
            begin = gap.end().saturating_add(1);
        }
        stretches.push(begin..=end);
        let first_in = |stretch: &std::ops::RangeInclusive<u64>| {
            let fits = |span: &&&BackupSpan| {
                stretch.contains(&span.first) && stretch.contains(&span.last.unwrap_or(span.first))
            };
            starts.iter().filter(fits).min_by_key(|span| span.consistent).copied()
        };
        stretches.into_iter().filter_map(|stretch| Some((first_in(&stretch)?, *stretch.end()))).collect()
    }

    /// The timeline of the segment that a recovery along `timeline` reads for this number.
    fn timeline_of(&self, timeline: Timeline, number: u64) -> Timeline {
        self.history(timeline).segment(number, self.size()).map_or(timeline, |segment| segment.timeline)
    }
}
