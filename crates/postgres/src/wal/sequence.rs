//! Segments one after the other: that each follows on the one before, and the records that cross from one to the next.

use thiserror::Error;

use super::page::{LONG_HEADER_LENGTH, SHORT_HEADER_LENGTH};
use super::reader::{Head, RawRecord, SegmentError, SegmentHeader, SegmentReader, Tail, WalEnd};
use super::record::{RecordHeader, has_valid_crc};
use crate::Lsn;

/// Segments do not follow on one another.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum SequenceError {
    /// A segment cannot be read.
    #[error("a WAL segment cannot be read: {0}")]
    Segment(#[from] SegmentError),
    /// A segment is missing, or they are out of order.
    #[error("the WAL segment that begins at {expected} is missing: the one that begins at {found} came in its place")]
    Gap {
        /// Where the next segment had to begin.
        expected: Lsn,
        /// Where it begins.
        found: Lsn,
    },
    /// The segments are not of one cluster, or their timelines go back.
    #[error("the WAL segment that begins at {start} is of another cluster, version or timeline than the one before")]
    Foreign {
        /// Where the segment begins.
        start: Lsn,
    },
    /// The WAL ends before the end of a segment, but another one follows.
    #[error("the WAL ends at {lsn}, before the end of its segment, so that the segment after it does not follow on it")]
    BrokenOff {
        /// Where it ends.
        lsn: Lsn,
    },
    /// The next segment does not go on with the record at the end of the one before.
    #[error("the record at {lsn} is not continued by the WAL segment that begins at {start}")]
    NotContinued {
        /// Where the record begins.
        lsn: Lsn,
        /// Where the segment begins.
        start: Lsn,
    },
    /// A record is longer than what analyses keep of it.
    #[error("the record at {lsn} is too long to be joined from what is kept of it: read the WAL segments themselves")]
    TooLong {
        /// Where the record begins.
        lsn: Lsn,
    },
}

/// A record that began in one segment and ended in another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct CrossingRecord {
    pub(super) lsn: Lsn,
    pub(super) bytes: Vec<u8>,
}

/// What is carried from one segment to the next.
#[derive(Clone, Debug, Default)]
pub(super) struct Carry(Option<Carried>);

#[derive(Clone, Debug)]
struct Carried {
    header: SegmentHeader,
    /// Where the valid WAL of the segment ends, and why.
    end_lsn: Lsn,
    end: WalEnd,
    /// Where the last whole record begins.
    last_record: Option<Lsn>,
    open: OpenRecord,
    /// Whether the record that crossed into the segment leaves the rest of it unused, which the segment alone cannot
    /// tell.
    is_switched: bool,
}

/// What may go on at the start of the next segment.
#[derive(Clone, Debug)]
enum OpenRecord {
    /// A record that began before the first segment, perhaps.
    Unknown,
    /// Nothing.
    None,
    /// A record of which these bytes are known; not all that came so far, if `is_cut`.
    Known { lsn: Lsn, total_length: u32, bytes: Vec<u8>, is_cut: bool },
}

/// How a segment ends.
pub(super) struct SegmentEnd<'a> {
    pub(super) end: WalEnd,
    pub(super) end_offset: u32,
    pub(super) tail: Option<Tail>,
    pub(super) tail_bytes: &'a [u8],
    pub(super) first_link: Option<Lsn>,
    pub(super) last_record: Option<Lsn>,
}

impl Carry {
    /// Enters the next segment, and completes the record that crosses into it, if one does and ends in it.
    pub(super) fn enter(
        &mut self,
        header: &SegmentHeader,
        head: Head,
        head_bytes: &[u8],
    ) -> Result<Option<CrossingRecord>, SequenceError> {
        let carried = match &mut self.0 {
            Some(carried) => {
                carried.check_follows(header)?;
                carried.header = *header;
                carried
            }
            None => self.0.insert(Carried {
                header: *header,
                end_lsn: header.start,
                end: WalEnd::Full,
                last_record: None,
                open: OpenRecord::Unknown,
                is_switched: false,
            }),
        };
        let open = std::mem::replace(&mut carried.open, OpenRecord::None);
        let (open, complete) = open.continue_with(header.start, head, head_bytes)?;
        carried.open = open;
        carried.is_switched = false;
        if let Some(record) = &complete {
            carried.last_record = Some(record.lsn);
            carried.is_switched = RecordHeader::parse(&record.bytes).is_some_and(|header| header.is_switch());
        }
        Ok(complete)
    }

    /// Leaves the segment that was entered last.
    pub(super) fn leave(&mut self, segment: &SegmentEnd<'_>) -> Result<(), SequenceError> {
        let Some(carried) = &mut self.0 else { return Ok(()) };
        let start = carried.header.start;
        if let (Some(last), Some(link)) = (carried.last_record, segment.first_link)
            && last != link
        {
            return Err(SequenceError::Foreign { start });
        }
        carried.last_record = segment.last_record.or(carried.last_record);
        carried.end = segment.end;
        carried.end_lsn = Lsn(start.0.saturating_add(u64::from(segment.end_offset)));
        if carried.is_switched && segment.last_record.is_none() {
            carried.end = WalEnd::Switch;
            carried.end_lsn = carried.header.end();
        }
        if let Some(Tail { lsn, total_length, available }) = segment.tail {
            let bytes = segment.tail_bytes.to_vec();
            let is_cut = bytes.len() < available as usize;
            carried.open = OpenRecord::Known { lsn, total_length, bytes, is_cut };
        }
        Ok(())
    }

    /// Up to where every record is known: where the WAL ends, or the record begins of which the end is still to come.
    pub(super) fn reached(&self) -> Lsn {
        match &self.0 {
            None => Lsn::INVALID,
            Some(Carried { open: OpenRecord::Known { lsn, .. }, .. }) => *lsn,
            Some(carried) => carried.end_lsn,
        }
    }

    /// As [`Carry::reached`], but where the next record begins. Where it would begin a page, that is after the header of
    /// the page, whether the page is there already or not; PostgreSQL names either position.
    pub(super) fn next_record(&self) -> Lsn {
        let reached = self.reached();
        let Some(Carried { header, .. }) = &self.0 else { return reached };
        let page_header = match reached.0 % u64::from(header.page_size) {
            0 if header.size.offset_of(reached) == 0 => LONG_HEADER_LENGTH,
            0 => SHORT_HEADER_LENGTH,
            _ => 0,
        };
        Lsn(reached.0.saturating_add(page_header as u64))
    }
}

impl Carried {
    fn check_follows(&self, header: &SegmentHeader) -> Result<(), SequenceError> {
        let last = &self.header;
        let (expected, found) = (last.end(), header.start);
        if expected != found {
            return Err(SequenceError::Gap { expected, found });
        }
        let is_of_one_cluster = last.version == header.version
            && last.system_id == header.system_id
            && last.size == header.size
            && last.timeline <= header.timeline;
        if !is_of_one_cluster {
            return Err(SequenceError::Foreign { start: header.start });
        }
        if !self.end.is_complete() {
            return Err(SequenceError::BrokenOff { lsn: self.end_lsn });
        }
        Ok(())
    }
}

impl OpenRecord {
    /// Adds what the segment at `start` has of the record. What is open after it, and the record if it is complete.
    fn continue_with(
        self,
        start: Lsn,
        head: Head,
        head_bytes: &[u8],
    ) -> Result<(Self, Option<CrossingRecord>), SequenceError> {
        match (self, head) {
            (Self::Unknown, Head::Continued { remaining, available }) if available < remaining => {
                Ok((Self::Unknown, None))
            }
            (Self::Unknown, _) | (Self::None, Head::None) | (Self::Known { .. }, Head::Overwritten) => {
                Ok((Self::None, None))
            }
            (Self::None, _) => Err(SequenceError::NotContinued { lsn: start, start }),
            (Self::Known { lsn, .. }, Head::None) => Err(SequenceError::NotContinued { lsn, start }),
            (Self::Known { lsn, total_length, mut bytes, is_cut }, Head::Continued { remaining, available }) => {
                if is_cut || head_bytes.len() < available as usize {
                    return Err(SequenceError::TooLong { lsn });
                }
                if bytes.len() + remaining as usize != total_length as usize {
                    return Err(SequenceError::NotContinued { lsn, start });
                }
                bytes.extend_from_slice(head_bytes);
                if available < remaining {
                    return Ok((Self::Known { lsn, total_length, bytes, is_cut }, None));
                }
                if !has_valid_crc(&bytes) {
                    return Err(SequenceError::BrokenOff { lsn });
                }
                Ok((Self::None, Some(CrossingRecord { lsn, bytes })))
            }
        }
    }
}

/// Reads the records of segments that follow on one another, those that cross from one to the next too.
#[derive(Clone, Debug, Default)]
pub struct RecordStream {
    carry: Carry,
}

impl RecordStream {
    /// Reads the next segment and shows each record to `visit`. A record that goes on in the segment after it comes
    /// with that one. A record that began before the first segment never comes.
    ///
    /// # Errors
    ///
    /// The bytes are no segment, or it does not follow on the one before. Records may have been visited before that is
    /// seen.
    pub fn push(
        &mut self,
        bytes: &[u8],
        mut visit: impl FnMut(&SegmentHeader, &RawRecord<'_>),
    ) -> Result<(), SequenceError> {
        let mut reader = SegmentReader::new(bytes)?;
        let header = *reader.header();
        if let Some(record) = self.carry.enter(&header, reader.head(), &reader.head_bytes(usize::MAX))? {
            let end = Lsn(header.start.0.saturating_add(u64::from(reader.end_offset())));
            visit(&header, &RawRecord { lsn: record.lsn, end, bytes: &record.bytes });
        }
        while let Some(record) = reader.next_record() {
            visit(&header, &record);
        }
        self.carry.leave(&SegmentEnd {
            end: reader.end().unwrap_or(WalEnd::Full),
            end_offset: reader.end_offset(),
            tail: reader.tail(),
            tail_bytes: &reader.tail_bytes(usize::MAX),
            first_link: reader.first_link(),
            last_record: reader.last_record(),
        })
    }

    /// Up to where every record has been visited.
    pub fn reached(&self) -> Lsn {
        self.carry.reached()
    }

    /// Where the next record begins that was not visited.
    pub(super) fn next_record(&self) -> Lsn {
        self.carry.next_record()
    }
}

#[cfg(test)]
#[expect(clippy::cast_possible_truncation, reason = "the numbers of these tests are small")]
mod tests {
    use proptest::prelude::*;

    use super::super::testing::{SIZE, TestWal, message};
    use super::*;
    use crate::Version;

    /// Every record of the segments: position and length.
    fn read<'a>(segments: impl IntoIterator<Item = &'a Vec<u8>>) -> Result<Vec<(Lsn, usize)>, SequenceError> {
        let mut stream = RecordStream::default();
        let mut records = Vec::new();
        for segment in segments {
            stream.push(segment, |_, record| records.push((record.lsn, record.bytes.len())))?;
        }
        Ok(records)
    }

    fn segments(count: usize) -> Vec<Vec<u8>> {
        let mut wal = TestWal::new(Version::V17);
        for _ in 0..count * 10 {
            wal.append(&message(SIZE as usize / 10));
        }
        wal.segments()
    }

    #[test]
    fn a_gap_is_seen() {
        let segments = segments(3);
        assert!(read(&segments).is_ok());
        let gap = SequenceError::Gap { expected: Lsn(SIZE * 8), found: Lsn(SIZE * 9) };
        assert_eq!(read([&segments[0], &segments[2]]), Err(gap));
        let back = SequenceError::Gap { expected: Lsn(SIZE * 9), found: Lsn(SIZE * 8) };
        assert_eq!(read([&segments[1], &segments[1]]), Err(back));
    }

    #[test]
    fn segments_of_other_clusters_do_not_follow() {
        let segments = segments(3);
        let foreign = Err(SequenceError::Foreign { start: Lsn(SIZE * 8) });
        // The system identifier, and the timeline of every page, which goes back.
        let mut other = segments[1].clone();
        other[24] ^= 1;
        assert_eq!(read([&segments[0], &other]), foreign);
        let mut newer = segments[0].clone();
        newer.chunks_mut(8192).for_each(|page| page[4] = 2);
        assert_eq!(read([&newer, &segments[1]]), foreign);
    }

    #[test]
    fn a_segment_with_another_past_does_not_follow() {
        // Both have no record across the border, but their last records before it differ.
        let with_last = |length: usize| {
            let mut wal = TestWal::new(Version::V17);
            wal.append(&message(length));
            wal.append(&super::super::testing::switch());
            wal.append(&message(7));
            wal.segments()
        };
        let (one, other) = (with_last(100), with_last(5000));
        assert_eq!(read([&one[0], &one[1]]).map(|records| records.len()), Ok(3));
        assert_eq!(read([&one[0], &other[1]]), Err(SequenceError::Foreign { start: Lsn(SIZE * 8) }));
    }

    #[test]
    fn nothing_follows_where_the_wal_breaks_off() {
        let mut segments = segments(2);
        segments[0][SIZE as usize / 2..].fill(0);
        assert!(matches!(read(&segments), Err(SequenceError::BrokenOff { lsn }) if lsn < Lsn(SIZE * 7 + SIZE / 2)));
    }

    #[test]
    fn a_record_must_go_on_as_it_began() {
        let segments = segments(2);
        let mut wal = TestWal::new(Version::V17);
        wal.append(&message(100));
        wal.append(&super::super::testing::switch());
        wal.append(&message(100));
        let switched = wal.segments();
        assert!(matches!(read([&segments[0], &switched[1]]), Err(SequenceError::NotContinued { .. })));
        assert!(matches!(read([&switched[0], &segments[1]]), Err(SequenceError::NotContinued { .. })));
        // Damage in the part of the record that lies in the second segment.
        let mut damaged = segments.clone();
        damaged[1][50] ^= 1;
        assert!(matches!(read(&damaged), Err(SequenceError::BrokenOff { .. })));
    }

    #[test]
    fn a_switch_may_cross_a_border_too() {
        for left in [8_u64, 16] {
            let mut wal = TestWal::new(Version::V17);
            // What the headers of 128 pages and of the record itself leave.
            wal.append(&message((SIZE - left) as usize - 40 - 127 * 24 - 29));
            assert_eq!(wal.next_lsn(), Lsn(SIZE * 8 - left));
            let switch = wal.append(&super::super::testing::switch());
            let last = wal.append(&message(5));
            assert_eq!(last, Lsn(SIZE * 9 + 40));
            let segments = wal.segments();
            let records = read(&segments).unwrap();
            assert_eq!(records[1..], [(switch, 24), (last, 31)]);
            let mut stream = RecordStream::default();
            for segment in &segments[..2] {
                stream.push(segment, |_, _| ()).unwrap();
            }
            assert_eq!(stream.reached(), Lsn(SIZE * 9));
        }
    }

    #[test]
    fn reading_may_begin_in_the_middle_of_a_record() {
        let mut wal = TestWal::new(Version::V17);
        wal.append(&message(3 * SIZE as usize));
        let last = wal.append(&message(10));
        let segments = wal.segments();
        assert_eq!(read(&segments).map(|records| records.len()), Ok(2));
        for first in 1..4 {
            assert_eq!(read(&segments[first..]), Ok(vec![(last, 36)]), "{first}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn every_record_is_seen_once(
            records in prop::collection::vec((prop_oneof![0..400_usize, 0..500_000_usize], 0..10_u8), 1..30),
        ) {
            let mut wal = TestWal::new(Version::V18);
            let mut expected = Vec::new();
            for (length, kind) in records {
                if kind == 0 && length > 20_000 {
                    wal.append_lost(&message(length), length - 10_000);
                } else {
                    let record = message(length);
                    expected.push((wal.append(&record), record.bytes(Lsn(0)).len()));
                }
            }
            let segments = wal.segments();
            let found = read(&segments);
            // The last record may go on after the last segment that was made; it never does, for that one is padded.
            prop_assert_eq!(found, Ok(expected));
        }
    }
}
