//! Block summaries of many segments, from what was kept of each of them or from the segments themselves.

use std::ops::Range;

use thiserror::Error;

use super::reader::SegmentHeader;
use super::segment::{Digest, SegmentAnalysis};
use super::sequence::{Carry, RecordStream, SegmentEnd, SequenceError};
use super::summary::Summary;
use super::times::TimeIndex;
use crate::Lsn;

/// What a record adds that begins in one segment and ends in another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Crossing {
    /// Where the record begins.
    pub lsn: Lsn,
    /// Which blocks it changes.
    pub summary: Summary,
    /// What the time index of a segment would say of it. Offsets are those in the segment where it begins.
    pub times: TimeIndex,
}

/// The block summary of segments that follow on one another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Joined {
    /// Which blocks the records change that begin in the range and end in these segments.
    pub summary: Summary,
    /// The range of the WAL that the summary covers. A record that begins before the end of the last segment and goes
    /// on after it lies outside.
    pub range: Range<Lsn>,
}

/// Joins the analyses of segments that follow on one another.
#[derive(Clone, Debug)]
pub struct Joiner {
    carry: Carry,
    summary: Summary,
    start: Option<Lsn>,
}

impl Default for Joiner {
    fn default() -> Self {
        Self { carry: Carry::default(), summary: Summary::empty(), start: None }
    }
}

impl Joiner {
    /// Adds the next segment. Returns the record that crossed into it and ended in it, which neither segment's own
    /// summary and time index have.
    ///
    /// # Errors
    ///
    /// The segment does not follow on the one before, or a record is longer than what analyses keep of it.
    pub fn push(&mut self, analysis: &SegmentAnalysis) -> Result<Option<Crossing>, SequenceError> {
        let SegmentAnalysis { header, edges, .. } = analysis;
        self.start.get_or_insert(header.start);
        let crossing = self.carry.enter(header, edges.head, &edges.head_bytes)?.map(|record| {
            let mut digest = Digest::default();
            digest.absorb(header, record.lsn, &record.bytes);
            Crossing { lsn: record.lsn, summary: digest.summary, times: digest.times }
        });
        self.carry.leave(&SegmentEnd {
            end: analysis.end,
            end_offset: analysis.end_offset,
            tail: edges.tail,
            tail_bytes: &edges.tail_bytes,
            first_link: edges.first_link,
            last_record: edges.last_record,
        })?;
        if let Some(crossing) = &crossing {
            self.summary.merge(&crossing.summary);
        }
        self.summary.merge(&analysis.summary);
        Ok(crossing)
    }

    /// Where the next record begins that is not in the summary: as the end of [`Joined::range`], but after the header of
    /// its page.
    pub fn next_record(&self) -> Lsn {
        self.carry.next_record()
    }

    /// The summary of all segments.
    pub fn finish(self) -> Joined {
        let end = self.carry.reached();
        Joined { summary: self.summary, range: self.start.unwrap_or(end)..end }
    }
}

/// Joins the analyses of segments that follow on one another, in their order.
///
/// # Errors
///
/// Those of [`Joiner::push`].
pub fn summarise<'a>(analyses: impl IntoIterator<Item = &'a SegmentAnalysis>) -> Result<Joined, SequenceError> {
    let mut joiner = Joiner::default();
    for analysis in analyses {
        joiner.push(analysis)?;
    }
    Ok(joiner.finish())
}

/// The WAL that was given does not cover the range that was asked for.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum RangeError {
    /// The segments cannot be read one after the other.
    #[error(transparent)]
    Sequence(#[from] SequenceError),
    /// The first segment begins after the range does.
    #[error("the WAL from {start} on was asked for, but the first segment begins at {found}")]
    BeginsLater {
        /// Where the range begins.
        start: Lsn,
        /// Where the first segment begins.
        found: Lsn,
    },
    /// The last segment ends before the range does.
    #[error("the WAL up to {end} was asked for, but it is there only up to {reached}")]
    EndsEarlier {
        /// Where the range ends.
        end: Lsn,
        /// How far the WAL reaches.
        reached: Lsn,
    },
}

/// Summarises an exact range of the WAL from the segments themselves: the records that begin in it, as PostgreSQL's
/// summarizer does.
#[derive(Clone, Debug)]
pub struct RangeSummariser {
    range: Range<Lsn>,
    stream: RecordStream,
    digest: Digest,
    has_begun: bool,
}

impl RangeSummariser {
    /// Begins to summarise the records that begin in `range`.
    pub fn new(range: Range<Lsn>) -> Self {
        Self { range, stream: RecordStream::default(), digest: Digest::default(), has_begun: false }
    }

    /// Reads the next segment; the first one must hold the start of the range. Whether further segments are needed.
    ///
    /// # Errors
    ///
    /// The first segment begins too late, or a segment cannot be read or does not follow on the one before.
    pub fn push(&mut self, bytes: &[u8]) -> Result<bool, RangeError> {
        let header = SegmentHeader::parse(bytes).map_err(SequenceError::from)?;
        if !self.has_begun && header.start > self.range.start {
            return Err(RangeError::BeginsLater { start: self.range.start, found: header.start });
        }
        self.has_begun = true;
        let Self { range, digest, stream, .. } = self;
        stream.push(bytes, |header, record| {
            if range.contains(&record.lsn) {
                digest.absorb(header, record.lsn, record.bytes);
            }
        })?;
        Ok(self.stream.next_record() < self.range.end)
    }

    /// The summary of the range.
    ///
    /// # Errors
    ///
    /// The WAL ends before the range does.
    pub fn finish(self) -> Result<Summary, RangeError> {
        let (end, reached) = (self.range.end, self.stream.next_record());
        if reached < end { Err(RangeError::EndsEarlier { end, reached }) } else { Ok(self.digest.summary) }
    }
}

#[cfg(test)]
#[expect(clippy::cast_possible_truncation, reason = "the numbers of these tests are small")]
mod tests {
    use proptest::prelude::*;

    use super::super::segment::analyse;
    use super::super::testing::{SIZE, TestRecord, TestWal, commit, main_fork, message, relation, truncate};
    use super::*;
    use crate::Version;

    fn analyses(segments: &[Vec<u8>]) -> Vec<SegmentAnalysis> {
        segments.iter().map(|segment| analyse(segment).unwrap()).collect()
    }

    fn exact(segments: &[Vec<u8>], range: Range<Lsn>) -> Result<Summary, RangeError> {
        let mut summariser = RangeSummariser::new(range);
        for segment in segments {
            if !summariser.push(segment)? {
                break;
            }
        }
        summariser.finish()
    }

    /// A commit that drops so many relations that its record crosses a border wherever it begins.
    fn crossing_commit() -> TestRecord {
        commit(7, &(0..90_000).map(relation).collect::<Vec<_>>())
    }

    #[test]
    fn a_crossing_record_is_in_neither_summary_but_in_their_join() {
        let mut wal = TestWal::new(Version::V17);
        wal.append(&TestRecord::new(10, 0).block(0, main_fork(1_000_000), 4));
        let lsn = wal.append(&crossing_commit());
        wal.append(&truncate(1_000_001, 5, 0x1));
        let segments = wal.segments();
        let analyses = analyses(&segments);
        let mut joiner = Joiner::default();
        assert_eq!(joiner.push(&analyses[0]), Ok(None));
        let crossing = joiner.push(&analyses[1]).unwrap().unwrap();
        assert_eq!((crossing.lsn, crossing.summary.usable().unwrap().iter().count()), (lsn, 270_000));
        assert_eq!(crossing.times.ends().map(|ends| ends.commits), Some(1));
        let joined = joiner.finish();
        let end = analyses[1].end_lsn();
        assert_eq!(joined.range, Lsn(SIZE * 7)..end);
        assert_eq!(joined.summary.usable().unwrap().iter().count(), 270_002);
        assert_eq!(exact(&segments, joined.range), Ok(joined.summary));
        assert_eq!(summarise(&analyses[..1]).unwrap().range, Lsn(SIZE * 7)..lsn);
    }

    #[test]
    fn a_range_holds_the_records_that_begin_in_it() {
        let mut wal = TestWal::new(Version::V15);
        let lsns: Vec<Lsn> =
            (0..4).map(|block| wal.append(&TestRecord::new(10, 0).block(0, main_fork(9), block))).collect();
        let segments = wal.segments();
        let blocks = |range| -> Vec<u32> {
            match exact(&segments, range) {
                Ok(Summary::Usable(summary)) => {
                    summary.get(main_fork(9)).map(|changes| changes.blocks().iter().collect()).unwrap_or_default()
                }
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(blocks(lsns[1]..lsns[3]), [1, 2]);
        // From the start of the page to the middle of a record.
        assert_eq!(blocks(Lsn(SIZE * 7)..Lsn(lsns[1].0 + 1)), [0, 1]);
        assert_eq!(blocks(lsns[3]..lsns[3]), [0_u32; 0]);
    }

    #[test]
    fn a_range_must_be_covered() {
        let mut wal = TestWal::new(Version::V15);
        let first = wal.append(&message(10));
        let last = wal.append(&message(3 * SIZE as usize));
        let segments = wal.segments();
        let start = Lsn(SIZE * 8);
        let later = Err(RangeError::BeginsLater { start: first, found: start });
        assert_eq!(exact(&segments[1..], first..last), later);
        assert_eq!(exact(&segments[..1], first..last), Ok(Summary::empty()));
        // The last record begins in the range and ends after the segments.
        let earlier = Err(RangeError::EndsEarlier { end: start, reached: last });
        assert_eq!(exact(&segments[..1], first..start), earlier);
        assert_eq!(exact(&segments[..3], first..start), earlier);
        assert_eq!(exact(&segments, first..start), Ok(Summary::empty()));
    }

    #[test]
    fn a_range_may_end_before_or_behind_the_header_of_a_page() {
        let mut wal = TestWal::new(Version::V15);
        let first = wal.append(&message(8192 - 40 - 29));
        let segments = wal.segments();
        let page = SIZE * 7 + 8192;
        for end in [page, page + 24] {
            assert_eq!(exact(&segments, first..Lsn(end)), Ok(Summary::empty()));
        }
        assert!(exact(&segments, first..Lsn(page + 25)).is_err());
    }

    #[test]
    fn a_record_of_which_too_little_is_kept_is_not_guessed() {
        let mut wal = TestWal::new(Version::V17);
        wal.append(&message(100));
        let lsn = wal.append(&crossing_commit());
        wal.append(&message(100));
        let mut analyses = analyses(&wal.segments());
        analyses[0].edges.tail_bytes.truncate(1000);
        assert_eq!(summarise(&analyses), Err(SequenceError::TooLong { lsn }));
        assert!(summarise(&analyses[..1]).is_ok());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn joined_analyses_say_what_the_segments_say(
            records in prop::collection::vec((0..5_u8, 1..5_u32, 0..100_u32, 0..150_000_usize), 10..60),
        ) {
            let mut wal = TestWal::new(Version::V18);
            for (kind, number, block, length) in records {
                wal.append(&match kind {
                    0 => truncate(number, block, 0x7),
                    1 => commit(i64::from(block), &vec![relation(number); length / 12]),
                    2 => message(length),
                    _ => TestRecord::new(10, 0).block(0, main_fork(number), block).main_data(vec![1; length]),
                });
            }
            let segments = wal.segments();
            let stored: Vec<_> = analyses(&segments).iter().map(SegmentAnalysis::encode).collect();
            let analyses: Vec<_> = stored.iter().map(|bytes| SegmentAnalysis::decode(bytes).unwrap()).collect();
            for first in 0..segments.len() {
                let joined = summarise(&analyses[first..]).unwrap();
                prop_assert_eq!(exact(&segments[first..], joined.range), Ok(joined.summary));
            }
        }
    }
}
