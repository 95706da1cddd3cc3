//! Which WAL an archive has, along the timelines, and what is missing of it for whom.

mod runs;

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use pgark_postgres::Lsn;
use pgark_postgres::wal::history::TimelineHistory;
use pgark_postgres::wal::name::{SegmentName, SegmentSize, Timeline};
use pgark_repository::Label;
use pgark_repository::manifest::ManifestDocument;

pub(crate) use self::runs::Runs;

/// The segments of an archive and the histories of its timelines.
#[derive(Debug)]
pub(crate) struct Coverage {
    size: SegmentSize,
    segments: BTreeMap<Timeline, Runs>,
    histories: BTreeMap<Timeline, TimelineHistory>,
}

/// What of a backup matters to the WAL it needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BackupSpan {
    pub(crate) label: Label,
    pub(crate) timeline: Timeline,
    /// Where it is consistent.
    pub(crate) consistent: Lsn,
    /// The first segment that a recovery reads.
    pub(crate) first: u64,
    /// The last segment without which it is not consistent; none for an offline backup, which is as it is.
    pub(crate) last: Option<u64>,
}

/// Segments that are missing on a timeline, and what for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Gap {
    pub(crate) timeline: Timeline,
    pub(crate) numbers: RangeInclusive<u64>,
    /// The backups that can't be made consistent without it.
    pub(crate) broken: Vec<Label>,
    /// The backups that can't be recovered past it.
    pub(crate) cut_short: Vec<Label>,
    /// Whether it looks like the work of retention: all that lies between the end of one backup and the beginning of the
    /// next is gone, and nothing else.
    pub(crate) is_thinned: bool,
}

impl BackupSpan {
    /// The span of a backup; `None` where its positions make no sense.
    pub(crate) fn of(document: &ManifestDocument) -> Option<Self> {
        let size = SegmentSize::new(u64::from(document.cluster.wal_segment_size)).ok()?;
        let position = |lsn: &Option<String>| lsn.as_deref()?.parse::<Lsn>().ok();
        let consistent = position(&document.stop.lsn)?;
        let is_online = document.start.wal_segment.is_some();
        let start = if is_online { position(&document.start.lsn)? } else { consistent };
        Some(Self {
            label: document.label.clone(),
            timeline: Timeline(document.stop.timeline),
            consistent,
            first: size.segment_of(start),
            last: is_online.then(|| size.segment_before(consistent)),
        })
    }
}

impl Coverage {
    /// An archive with segments of this size.
    pub(crate) fn new(size: SegmentSize) -> Self {
        Self { size, segments: BTreeMap::new(), histories: BTreeMap::new() }
    }

    /// Adds a segment; one that no cluster with segments of this size has is left out.
    pub(crate) fn add_segment(&mut self, segment: SegmentName) {
        if let Some(number) = segment.number(self.size) {
            self.segments.entry(segment.timeline).or_default().add(number);
        }
    }

    /// Adds the history of a timeline.
    pub(crate) fn add_history(&mut self, history: TimelineHistory) {
        self.histories.insert(history.timeline(), history);
    }

    /// The timelines whose segments are there, but not how they came about, with the backups that were taken before they
    /// began and can't be recovered along them therefore.
    pub(crate) fn unknown_histories(&self, backups: &[BackupSpan]) -> Vec<(Timeline, Vec<Label>)> {
        let unknown = self.segments.keys().filter(|timeline| !self.histories.contains_key(timeline));
        let with_earlier = unknown.map(|timeline| {
            let earlier = backups.iter().filter(|backup| backup.timeline < *timeline);
            (*timeline, earlier.map(|backup| backup.label.clone()).collect::<Vec<_>>())
        });
        with_earlier.filter(|(_, earlier)| !earlier.is_empty()).collect()
    }

    /// Bytes in a segment.
    pub(crate) fn size(&self) -> SegmentSize {
        self.size
    }

    /// The segments of each timeline, in the order of the timelines.
    pub(crate) fn segments(&self) -> &BTreeMap<Timeline, Runs> {
        &self.segments
    }

    /// Whether a segment is there.
    pub(crate) fn has(&self, segment: SegmentName) -> bool {
        let runs = self.segments.get(&segment.timeline);
        segment.number(self.size).zip(runs).is_some_and(|(number, runs)| runs.contains(number))
    }

    /// The history of a timeline; a timeline without a history file is one without ancestors.
    pub(crate) fn history(&self, timeline: Timeline) -> TimelineHistory {
        self.histories.get(&timeline).cloned().unwrap_or_else(|| TimelineHistory::without_ancestors(timeline))
    }

    /// The segment before this one for a recovery along `timeline`.
    pub(crate) fn before(&self, timeline: Timeline, number: u64) -> Option<SegmentName> {
        self.history(timeline).segment(number.checked_sub(1)?, self.size)
    }

    /// The timelines that a recovery may end on: those that have segments, and those of backups.
    pub(crate) fn timelines(&self, backups: &[BackupSpan]) -> Vec<Timeline> {
        let mut timelines: Vec<_> = self.segments.keys().copied().collect();
        timelines.extend(backups.iter().map(|backup| backup.timeline));
        timelines.sort_unstable();
        timelines.dedup();
        timelines
    }

    /// The backups from which a recovery can go along `timeline`.
    pub(crate) fn starts<'backup>(
        &self,
        timeline: Timeline,
        backups: &'backup [BackupSpan],
    ) -> Vec<&'backup BackupSpan> {
        let history = self.history(timeline);
        let is_on_the_way = |backup: &&BackupSpan| {
            history.contains(backup.timeline)
                && history.switch_of(backup.timeline).is_none_or(|switch| backup.consistent <= switch)
        };
        backups.iter().filter(is_on_the_way).collect()
    }

    /// The last segment of a recovery along `timeline`: the last that is there, or that a backup on it needs.
    pub(crate) fn end(&self, timeline: Timeline, backups: &[BackupSpan]) -> Option<u64> {
        let archived = self.segments.get(&timeline).and_then(Runs::last);
        let needed = backups.iter().filter(|backup| backup.timeline == timeline).filter_map(|backup| backup.last).max();
        archived.max(needed)
    }

    /// The segments that a recovery along `timeline` reads, as ranges of timelines, oldest first.
    pub(crate) fn way(&self, timeline: Timeline, numbers: RangeInclusive<u64>) -> Vec<(Timeline, RangeInclusive<u64>)> {
        let path = self.history(timeline).path();
        let begins: Vec<u64> = path.iter().map(|span| self.size.segment_of(span.start)).collect();
        let mut way = Vec::new();
        for (place, span) in path.iter().enumerate() {
            // A promotion copies the segment in which it happens, so that the newest timeline has it.
            let end = begins.get(place + 1).map_or(Some(u64::MAX), |next| next.checked_sub(1));
            let Some(end) = end else { continue };
            let part = begins[place].max(*numbers.start())..=end.min(*numbers.end());
            if !part.is_empty() {
                way.push((span.timeline, part));
            }
        }
        way
    }

    /// What is missing of these numbers for a recovery along `timeline`.
    pub(crate) fn missing(
        &self,
        timeline: Timeline,
        numbers: RangeInclusive<u64>,
    ) -> Vec<(Timeline, RangeInclusive<u64>)> {
        let none = Runs::default();
        let mut missing = Vec::new();
        for (timeline, part) in self.way(timeline, numbers) {
            let runs = self.segments.get(&timeline).unwrap_or(&none);
            missing.extend(runs.missing(part).into_iter().map(|gap| (timeline, gap)));
        }
        missing
    }

    /// The segments that are there and that recoveries from these backups read.
    pub(crate) fn needed(&self, backups: &[BackupSpan]) -> BTreeMap<Timeline, Runs> {
        let mut needed: BTreeMap<Timeline, Runs> = BTreeMap::new();
        for timeline in self.timelines(backups) {
            let first = self.starts(timeline, backups).iter().map(|backup| backup.first).min();
            let Some((first, end)) = first.zip(self.end(timeline, backups)) else { continue };
            for (on, part) in self.way(timeline, first..=end) {
                let there = self.segments.get(&on).map(|runs| runs.within(&part)).unwrap_or_default();
                let runs = needed.entry(on).or_default();
                there.into_iter().flatten().for_each(|number| runs.add(number));
            }
        }
        needed
    }

    /// Every gap that matters to one of these backups.
    pub(crate) fn gaps(&self, backups: &[BackupSpan]) -> Vec<Gap> {
        let mut gaps: Vec<Gap> = Vec::new();
        for timeline in self.timelines(backups) {
            let starts = self.starts(timeline, backups);
            let first = starts.iter().map(|backup| backup.first).min();
            let Some((first, end)) = first.zip(self.end(timeline, backups)) else { continue };
            for (on, numbers) in self.missing(timeline, first..=end) {
                let gap = gap(on, numbers, &starts);
                match gaps.iter_mut().find(|known| (known.timeline, &known.numbers) == (gap.timeline, &gap.numbers)) {
                    Some(known) => known.merge(gap),
                    None => gaps.push(gap),
                }
            }
        }
        gaps.retain(|gap| !gap.broken.is_empty() || !gap.cut_short.is_empty());
        gaps
    }

    /// The backups whose recovery comes by a segment: those that need it to be consistent, and the others.
    pub(crate) fn concerned(
        &self,
        timeline: Timeline,
        number: u64,
        backups: &[BackupSpan],
    ) -> (Vec<Label>, Vec<Label>) {
        let mut all = gap(timeline, number..=number, &[]);
        for along in self.timelines(backups) {
            let is_on_the_way = self.way(along, number..=number).iter().any(|(on, _)| *on == timeline);
            if is_on_the_way && self.end(along, backups).is_some_and(|end| end >= number) {
                all.merge(gap(timeline, number..=number, &self.starts(along, backups)));
            }
        }
        (all.broken, all.cut_short)
    }
}

/// What segments that are missing mean to the backups from which a recovery comes by them.
fn gap(timeline: Timeline, numbers: RangeInclusive<u64>, starts: &[&BackupSpan]) -> Gap {
    let is_broken = |backup: &BackupSpan| {
        backup.first <= *numbers.end() && backup.last.is_some_and(|last| *numbers.start() <= last)
    };
    let before = numbers.start().checked_sub(1);
    let after = numbers.end().checked_add(1);
    let is_thinned = starts.iter().any(|backup| backup.last == before && before.is_some())
        && starts.iter().any(|backup| Some(backup.first) == after)
        && !starts.iter().any(|backup| is_broken(backup));
    let comes_by = starts.iter().filter(|backup| backup.first <= *numbers.end());
    let (broken, cut_short): (Vec<&BackupSpan>, Vec<&BackupSpan>) = comes_by.partition(|backup| is_broken(backup));
    let labels = |backups: Vec<&BackupSpan>| backups.into_iter().map(|backup| backup.label.clone()).collect();
    Gap { timeline, broken: labels(broken), cut_short: labels(cut_short), is_thinned, numbers }
}

impl Gap {
    /// Adds what the same gap means on another way.
    fn merge(&mut self, other: Self) {
        self.is_thinned &= other.is_thinned;
        for (own, others) in [(&mut self.broken, other.broken), (&mut self.cut_short, other.cut_short)] {
            own.extend(others);
            own.sort_unstable();
            own.dedup();
        }
        self.cut_short.retain(|label| self.broken.binary_search(label).is_err());
    }
}

#[cfg(test)]
mod tests;
