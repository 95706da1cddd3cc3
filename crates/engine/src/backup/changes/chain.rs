//! Segments one after the other, and the gaps between them.

use std::ops::{Range, RangeInclusive};

use pgark_postgres::Lsn;
use pgark_postgres::wal::SequenceError;
use pgark_postgres::wal::join::Joiner;
use pgark_postgres::wal::name::SegmentSize;
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

    /// The segments that are to be pushed: that of the end too where the range has nothing of it. The server is writing
    /// it, and its first record says which one must come before it.
    pub(super) fn numbers(&self, size: SegmentSize) -> RangeInclusive<u64> {
        size.segment_of(self.range.start)..=size.segment_of(self.range.end)
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

#[cfg(test)]
mod tests {
    use pgark_postgres::Version;
    use pgark_postgres::wal::Edges;
    use pgark_postgres::wal::name::Timeline;
    use pgark_postgres::wal::reader::{Head, SegmentHeader, Tail, WalEnd};
    use pgark_postgres::wal::relation::{Fork, RelationFork, RelationLocator};
    use pgark_postgres::wal::summary::{BlockSummary, Unusable};
    use pgark_postgres::wal::times::TimeIndex;

    use super::*;

    const MIB: u64 = 1 << 20;

    fn fork() -> RelationFork {
        RelationFork { relation: RelationLocator { tablespace: 1663, database: 5, number: 9 }, fork: Fork::Main }
    }

    fn blocks(blocks: &[u32]) -> Summary {
        let mut summary = BlockSummary::default();
        for block in blocks {
            summary.mark(fork(), *block);
        }
        Summary::Usable(summary)
    }

    /// A segment that is full and changes the block of its number.
    fn segment(number: u32) -> SegmentAnalysis {
        let start = Lsn(u64::from(number) * MIB);
        let size = SegmentSize::new(MIB).unwrap();
        let timeline = Timeline(1);
        let (number, block) = (u64::from(number), number);
        let header =
            SegmentHeader { version: Version::V17, system_id: 1, timeline, number, start, size, page_size: 8192 };
        let edges = Edges {
            head: Head::None,
            head_bytes: Vec::new(),
            tail: None,
            tail_bytes: Vec::new(),
            first_link: None,
            last_record: None,
        };
        SegmentAnalysis {
            header,
            last_timeline: timeline,
            end: WalEnd::Full,
            end_offset: size.bytes(),
            summary: blocks(&[block]),
            times: TimeIndex::default(),
            edges,
        }
    }

    /// A segment that ends in a record of which so many bytes are kept, and goes on with one.
    fn long(number: u32, head: Option<u32>, tail: Option<u32>) -> SegmentAnalysis {
        let mut segment = segment(number);
        let lsn = Lsn(segment.header.end().0 - 0x1000);
        if let Some(available) = head {
            segment.edges.head = Head::Continued { remaining: available, available };
        }
        segment.edges.tail = tail.map(|available| Tail { lsn, total_length: 1 << 24, available });
        segment
    }

    fn chain(range: Range<u64>, links: Vec<Link>) -> (Summary, Vec<Gap>) {
        let mut chain = Chain::new(Lsn(range.start)..Lsn(range.end));
        let numbers: Vec<u64> = chain.numbers(SegmentSize::new(MIB).unwrap()).collect();
        assert_eq!(numbers.len(), links.len());
        for link in links {
            chain.push(link).unwrap();
        }
        chain.finish()
    }

    fn gap(range: Range<u64>, reason: &str) -> Gap {
        Gap { range: Lsn(range.start)..Lsn(range.end), cause: Cause::Missing(reason.to_owned()) }
    }

    fn missing(reason: &str) -> Link {
        Err(reason.to_owned())
    }

    #[test]
    fn segments_without_a_gap_are_joined() {
        let all = || (3..=5).map(|number| Ok(segment(number))).collect::<Vec<Link>>();
        assert_eq!(chain(3 * MIB + 100..5 * MIB + 100, all()), (blocks(&[3, 4, 5]), vec![]));
        let last = SegmentAnalysis { end: WalEnd::Unwritten, end_offset: 40, ..segment(6) };
        let with_last: Vec<Link> = all().into_iter().chain([Ok(last)]).collect();
        assert_eq!(chain(3 * MIB + 100..6 * MIB + 40, with_last), (blocks(&[3, 4, 5, 6]), vec![]));
        assert_eq!(chain(3 * MIB + 40..3 * MIB + 40, vec![Ok(segment(3))]), (blocks(&[3]), vec![]));
    }

    /// Would lose: what the records change that begin before or in a missing segment, or go on after it.
    #[test]
    fn a_gap_reaches_from_the_last_record_that_is_known_to_the_next_segment() {
        let range = 3 * MIB + 100..7 * MIB + 100;
        let links = vec![Ok(segment(3)), missing("4"), missing("5"), Ok(segment(6)), Ok(segment(7))];
        let expected = (blocks(&[3, 6, 7]), vec![gap(4 * MIB + 40..6 * MIB, "4")]);
        assert_eq!(chain(range.clone(), links), expected);
        let links = vec![Ok(long(3, None, Some(100))), missing("4"), Ok(segment(5)), missing("6"), Ok(segment(7))];
        let gaps = vec![gap(4 * MIB - 0x1000..5 * MIB, "4"), gap(6 * MIB + 40..7 * MIB, "6")];
        assert_eq!(chain(range.clone(), links), (blocks(&[3, 5, 7]), gaps));
        let links = vec![missing("3"), Ok(segment(4)), Ok(segment(5)), missing("6"), missing("7")];
        let gaps = vec![gap(3 * MIB + 100..4 * MIB, "3"), gap(6 * MIB + 40..7 * MIB + 100, "6")];
        assert_eq!(chain(range.clone(), links), (blocks(&[4, 5]), gaps));
        let links = (3..=7).map(|number| missing(&number.to_string())).collect();
        assert_eq!(chain(range.clone(), links), (blocks(&[]), vec![gap(range, "3")]));
    }

    #[test]
    fn wal_that_ends_early_leaves_a_gap() {
        let short = |number| SegmentAnalysis { end: WalEnd::Unwritten, end_offset: 0x5008, ..segment(number) };
        let links = vec![Ok(short(3)), Ok(segment(4))];
        let (summary, gaps) = chain(3 * MIB + 100..4 * MIB + 100, links);
        assert_eq!(summary, blocks(&[3, 4]));
        assert_eq!(gaps.len(), 1);
        assert_eq!(gaps[0].range, Lsn(3 * MIB + 0x5008)..Lsn(4 * MIB));
        // The last segment is being written.
        assert_eq!(chain(3 * MIB + 100..3 * MIB + 0x5008, vec![Ok(short(3))]), (blocks(&[3]), vec![]));
        let (_, gaps) = chain(3 * MIB + 100..3 * MIB + 0x5009, vec![Ok(short(3))]);
        assert_eq!(
            gaps,
            [gap(3 * MIB + 0x5008..3 * MIB + 0x5009, "the WAL in pg_wal and in the archive ends at 0/305008")]
        );
    }

    /// Would lose: what a record changes that is longer than what is kept of it.
    #[test]
    fn a_long_record_is_a_gap_of_its_own() {
        let links = vec![Ok(long(3, None, Some(0x1000))), Ok(long(4, Some(0x500), None)), Ok(segment(5))];
        let gap = Gap { range: Lsn(4 * MIB - 0x1000)..Lsn(4 * MIB), cause: Cause::LongRecord };
        assert_eq!(chain(3 * MIB + 100..5 * MIB + 100, links), (blocks(&[3, 4, 5]), vec![gap]));
    }

    #[test]
    fn what_is_not_understood_or_does_not_follow_is_told() {
        let reason = Unusable { lsn: Lsn(7), reason: "unknown".to_owned() };
        let unusable = SegmentAnalysis { summary: Summary::Unusable(reason.clone()), ..segment(4) };
        let links = vec![Ok(segment(3)), Ok(unusable), missing("5"), Ok(segment(6))];
        let (summary, _) = chain(3 * MIB + 100..6 * MIB + 100, links);
        assert_eq!(summary, Summary::Unusable(reason));

        let mut foreign = segment(4);
        foreign.header.system_id = 2;
        let mut unlinked = segment(4);
        unlinked.edges.first_link = Some(Lsn(3 * MIB + 0x500));
        for wrong in [foreign, unlinked] {
            let mut chain = Chain::new(Lsn(3 * MIB)..Lsn(5 * MIB));
            let mut first = segment(3);
            first.edges.last_record = Some(Lsn(3 * MIB + 0x400));
            chain.push(Ok(first)).unwrap();
            let Err(Stop::Doubt(reason)) = chain.push(Ok(wrong)) else { panic!("it follows") };
            assert!(reason.contains("is of another cluster"), "{reason}");
        }
    }
}
