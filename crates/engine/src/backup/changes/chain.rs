//! Segments one after the other, and the gaps between them.

use std::ops::{Range, RangeInclusive};

use pgark_postgres::Lsn;
use pgark_postgres::wal::SequenceError;
use pgark_postgres::wal::join::Joiner;
use pgark_postgres::wal::name::SegmentSize;
use pgark_postgres::wal::page::LONG_HEADER_LENGTH;
use pgark_postgres::wal::segment::SegmentAnalysis;

use pgark_postgres::wal::summary::Summary;

use super::{Stop, doubt};

/// A range of the WAL of which the analyses of segments do not tell what it changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Gap {
    /// The records that begin here are not known.
    pub(super) range: Range<Lsn>,
    /// Why.
    pub(super) cause: Cause,
}

/// Why there is a gap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// It has one record only, which is longer than what analyses keep: the segments themselves have it.
    LongRecord,
    /// Segments are missing, or can't be used: the first of them, and what is wrong with it.
    Missing(String),
}

/// A segment, or why it is not there.
pub(super) type Link = Result<SegmentAnalysis, String>;

/// Joins what segments change that follow on one another, as far as they do.
#[derive(Debug)]
pub(super) struct Chain {
    range: Range<Lsn>,
    summary: Summary,
    /// The segments since the last gap.
    joiner: Option<Joiner>,
    /// Up to where every record is known, or lies in a gap.
    reached: Lsn,
    gaps: Vec<Gap>,
    /// Why the segments since `reached` are missing.
    missing: Option<String>,
}

impl Chain {
    /// Begins to join the records that begin in `range`.
    pub(super) fn new(range: Range<Lsn>) -> Self {
        let reached = range.start;
        Self { range, summary: Summary::empty(), joiner: None, reached, gaps: Vec::new(), missing: None }
    }

    /// The segments that have the records of the range.
    pub(super) fn numbers(&self, size: SegmentSize) -> RangeInclusive<u64> {
        let Range { start, end } = self.range;
        // A record that would begin a segment lies behind the header of its first page.
        let begins_segment = size.offset_of(end) as usize <= LONG_HEADER_LENGTH;
        let last = if begins_segment { size.segment_of(end).saturating_sub(1) } else { size.segment_of(end) };
        size.segment_of(start)..=last
    }

    /// Adds the next segment.
    ///
    /// # Errors
    /// Where it can't be one of the same WAL as the one before.
    pub(super) fn push(&mut self, link: Link) -> Result<(), Stop> {
        match link {
            Ok(analysis) => self.join(&analysis),
            Err(reason) => {
                self.leave();
                self.missing.get_or_insert(reason);
                Ok(())
            }
        }
    }

    fn join(&mut self, analysis: &SegmentAnalysis) -> Result<(), Stop> {
        let start = analysis.header.start;
        let mut joiner = self.joiner.take().unwrap_or_default();
        let before = joiner.next_record();
        let cause = match joiner.push(analysis) {
            Ok(_) => {
                self.close(start);
                self.joiner = Some(joiner);
                return Ok(());
            }
            Err(SequenceError::TooLong { .. }) => Cause::LongRecord,
            Err(error @ SequenceError::BrokenOff { .. }) => Cause::Missing(error.to_string()),
            Err(error) => return doubt(error.to_string()),
        };
        // What was joined before the segment stays; the record that crosses into it lies in the gap.
        self.summary.merge(&joiner.finish().summary);
        self.reached = self.reached.max(before);
        self.add_gap(start, cause);
        let mut joiner = Joiner::default();
        joiner.push(analysis).map_err(|error| Stop::Doubt(error.to_string()))?;
        self.joiner = Some(joiner);
        Ok(())
    }

    /// Ends the run of segments that follow on one another.
    fn leave(&mut self) {
        if let Some(joiner) = self.joiner.take() {
            self.reached = self.reached.max(joiner.next_record());
            self.summary.merge(&joiner.finish().summary);
        }
    }

    /// Ends the gap that is open, if one is, before `end`.
    fn close(&mut self, end: Lsn) {
        if let Some(reason) = self.missing.take() {
            self.add_gap(end, Cause::Missing(reason));
        }
    }

    fn add_gap(&mut self, end: Lsn, cause: Cause) {
        let range = self.reached..end.min(self.range.end);
        if !range.is_empty() {
            self.gaps.push(Gap { range, cause });
        }
        self.reached = self.reached.max(end);
    }

    /// What the segments change, and the gaps between them.
    pub(super) fn finish(mut self) -> (Summary, Vec<Gap>) {
        self.leave();
        let (end, reached) = (self.range.end, self.reached);
        if reached < end {
            self.missing.get_or_insert_with(|| format!("the WAL in pg_wal and in the archive ends at {reached}"));
        }
        self.close(end);
        (self.summary, self.gaps)
    }
}
