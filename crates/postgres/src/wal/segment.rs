//! What archiving keeps of a segment besides its bytes: block summary, time index, and the records at its borders.

use super::bytes::{DecodeError, Decoder, Encoder};
use super::edges::Edges;
use super::event::Event;
use super::name::{SegmentSize, Timeline};
use super::reader::{Problem, SegmentError, SegmentHeader, SegmentReader, WalEnd};
use super::record::{Record, RecordError};
use super::summary::{BlockSummary, Summary, Unusable};
use super::times::TimeIndex;
use crate::{Lsn, Version};

/// What is known of a segment without its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentAnalysis {
    /// What its first page says.
    pub header: SegmentHeader,
    /// The newest timeline that the pages and records name: not that of the first page where a promotion happened in
    /// between. The segment may be that of a newer timeline still, if it was copied for a promotion and nothing was
    /// added to it, but never that of an older one.
    pub last_timeline: Timeline,
    /// Why the valid WAL ends.
    pub end: WalEnd,
    /// Where the valid WAL ends, as an offset in the segment in bytes; the segment's size if it is complete.
    pub end_offset: u32,
    /// Which blocks the records change that begin and end in the segment.
    pub summary: Summary,
    /// When transactions ended in the segment, by the records that begin and end in it.
    pub times: TimeIndex,
    /// The records that cross its borders.
    pub edges: Edges,
}

/// Reads the segment in `bytes` once. A record that is not understood makes the block summary unusable and changes
/// nothing else.
///
/// # Errors
///
/// The bytes are not a whole WAL segment of a version that pgark knows.
pub fn analyse(bytes: &[u8]) -> Result<SegmentAnalysis, SegmentError> {
    let mut reader = SegmentReader::new(bytes)?;
    let header = *reader.header();
    let mut digest = Digest::default();
    while let Some(record) = reader.next_record() {
        digest.absorb(&header, record.lsn, record.bytes);
    }
    Ok(SegmentAnalysis {
        header,
        last_timeline: digest.times.last_timeline().max(Some(reader.last_timeline())).unwrap_or(header.timeline),
        end: reader.end().unwrap_or(WalEnd::Full),
        end_offset: reader.end_offset(),
        summary: digest.summary,
        times: digest.times,
        edges: Edges::of(&reader),
    })
}

/// Block summary and time index of some records.
#[derive(Clone, Debug)]
pub(super) struct Digest {
    pub(super) summary: Summary,
    pub(super) times: TimeIndex,
}

impl Default for Digest {
    fn default() -> Self {
        Self { summary: Summary::empty(), times: TimeIndex::default() }
    }
}

impl Digest {
    /// Adds a record of a cluster whose segments have `header`.
    pub(super) fn absorb(&mut self, header: &SegmentHeader, lsn: Lsn, bytes: &[u8]) {
        match decode(lsn, header.version, bytes) {
            Ok((record, event)) => {
                self.summary.absorb(&record, &event);
                self.times.absorb(header.size, &record, &event);
            }
            Err(problem) => self.summary.spoil(Unusable { lsn, reason: problem.to_string() }),
        }
    }
}

/// The record and what it means.
#[inline]
pub(super) fn decode(lsn: Lsn, version: Version, bytes: &[u8]) -> Result<(Record<'_>, Event<'_>), RecordError> {
    let record = Record::decode(lsn, version, bytes)?;
    let event = Event::decode(&record)?;
    Ok((record, event))
}

const WHAT: &str = "segment analysis";
const FORMAT: u8 = 1;

impl SegmentAnalysis {
    /// Where the valid WAL ends.
    pub fn end_lsn(&self) -> Lsn {
        Lsn(self.header.start.0.saturating_add(u64::from(self.end_offset)))
    }

    /// The analysis in its stored form. `docs/format.md` says it byte by byte.
    pub fn encode(&self) -> Vec<u8> {
        let header = &self.header;
        let mut encoder = Encoder::new(FORMAT);
        encoder.varint(header.version.major());
        encoder.varint(header.system_id);
        encoder.varint(header.timeline.0);
        encoder.varint(self.last_timeline.0);
        encoder.varint(header.size.bytes());
        encoder.varint(header.page_size);
        encoder.varint(header.number);
        encoder.byte(end_code(self.end));
        encoder.varint(self.end_offset);
        encoder.bytes(&self.summary.encode());
        encoder.bytes(&self.times.encode());
        encoder.bytes(&self.edges.encode());
        encoder.finish()
    }

    /// Reads the stored form.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut decoder = Decoder::new(WHAT, FORMAT, bytes)?;
        let major = decoder.varint_u32()?;
        let version = Version::ALL.into_iter().find(|version| version.major() == major);
        let version = version.ok_or(decoder.invalid("its PostgreSQL version is unknown"))?;
        let system_id = decoder.varint()?;
        let timeline = Timeline(decoder.varint_u32()?);
        let last_timeline = Timeline(decoder.varint_u32()?);
        let size = SegmentSize::new(decoder.varint()?);
        let size = size.map_err(|_| decoder.invalid("its size is none of a segment"))?;
        let page_size = decoder.varint_u32()?;
        let number = decoder.varint()?;
        let start = size.start_of(number).ok_or(decoder.invalid("its number is out of range"))?;
        let end = ENDS.get(usize::from(decoder.byte()?)).copied();
        let end = end.ok_or(decoder.invalid("its end is of an unknown kind"))?;
        let end_offset = decoder.varint_u32()?;
        let summary = Summary::decode(decoder.bytes()?, BlockSummary::maximum_blocks(size))?;
        let times = TimeIndex::decode(decoder.bytes()?)?;
        let edges = Edges::decode(decoder.bytes()?)?;
        decoder.finish()?;
        let header = SegmentHeader { version, system_id, timeline, number, start, size, page_size };
        Ok(Self { header, last_timeline, end, end_offset, summary, times, edges })
    }
}

/// Every end, at the place of its stored form.
const ENDS: [WalEnd; 9] = [
    WalEnd::Full,
    WalEnd::Switch,
    WalEnd::Unwritten,
    WalEnd::Recycled,
    WalEnd::Invalid(Problem::PageHeader),
    WalEnd::Invalid(Problem::Continuation),
    WalEnd::Invalid(Problem::RecordLength),
    WalEnd::Invalid(Problem::PreviousRecord),
    WalEnd::Invalid(Problem::Checksum),
];

fn end_code(end: WalEnd) -> u8 {
    match end {
        WalEnd::Full => 0,
        WalEnd::Switch => 1,
        WalEnd::Unwritten => 2,
        WalEnd::Recycled => 3,
        WalEnd::Invalid(Problem::PageHeader) => 4,
        WalEnd::Invalid(Problem::Continuation) => 5,
        WalEnd::Invalid(Problem::RecordLength) => 6,
        WalEnd::Invalid(Problem::PreviousRecord) => 7,
        WalEnd::Invalid(Problem::Checksum) => 8,
    }
}

#[cfg(test)]
#[expect(clippy::cast_possible_truncation, reason = "the numbers of these tests are small")]
mod tests {
    use super::super::testing::{SIZE, TestRecord, TestWal, commit, main_fork, message, relation, size};
    use super::*;

    fn wal() -> (TestWal, Lsn) {
        let mut wal = TestWal::new(Version::V16);
        wal.append(&TestRecord::new(10, 0).block(0, main_fork(9), 4));
        let last = wal.append(&commit(5, &[relation(10)]));
        (wal, last)
    }

    #[test]
    fn a_segment_in_one_go() {
        let (wal, last) = wal();
        let end = wal.next_lsn();
        let bytes = wal.segments().swap_remove(0);
        let analysis = analyse(&bytes).unwrap();
        let header = SegmentHeader {
            version: Version::V16,
            system_id: 4711,
            timeline: Timeline(1),
            number: 7,
            start: Lsn(7 * SIZE),
            size: size(),
            page_size: 8192,
        };
        assert_eq!((analysis.header, analysis.end, analysis.end_lsn()), (header, WalEnd::Unwritten, end));
        let summary = analysis.summary.usable().unwrap();
        assert!(summary.get(main_fork(9)).is_some_and(|changes| changes.contains(4) && !changes.contains(5)));
        assert!(summary.get(main_fork(10)).is_some_and(|changes| changes.limit() == Some(0)));
        assert_eq!(analysis.times.notable()[0].lsn, last);
        assert_eq!((analysis.edges.tail, analysis.edges.last_record), (None, Some(last)));
    }

    #[test]
    fn a_record_that_is_not_understood_makes_only_the_summary_unusable() {
        let unknown = [
            (TestRecord::new(130, 0x01), "resource manager 130 changes files in an unknown way (info 0x01)"),
            (TestRecord::new(10, 0).header([77; 9]), "it has a part with the unknown id 77"),
            (TestRecord::new(2, 0x21).main_data([1, 2]), "the data of resource manager 2 is too short or out of range"),
        ];
        for (record, reason) in unknown {
            let (mut wal, _) = wal();
            let lsn = wal.append(&record);
            wal.append(&commit(9, &[]));
            let analysis = analyse(&wal.segments()[0]).unwrap();
            assert_eq!(analysis.summary, Summary::Unusable(Unusable { lsn, reason: reason.to_owned() }));
            assert_eq!(analysis.times.ends().map(|ends| ends.commits), Some(2));
            assert_eq!(SegmentAnalysis::decode(&analysis.encode()), Ok(analysis));
        }
    }

    #[test]
    fn custom_resource_managers_have_ordinary_blocks() {
        let (mut wal, _) = wal();
        wal.append(&TestRecord::new(200, 0x10).block(0, main_fork(77), 3));
        let analysis = analyse(&wal.segments()[0]).unwrap();
        assert!(analysis.summary.usable().unwrap().get(main_fork(77)).is_some_and(|changes| changes.contains(3)));
    }

    /// The stored form of format 1 around its parts, which every later version must read.
    const GOLDEN: &[u8] = &[
        1, 18, 231, 36, 1, 1, // format, version, system identifier, timelines
        128, 128, 64, 128, 64, 8, // sizes of segment and page, number
        0, 128, 128, 64, // full, the end
        5, 1, 0, 2, 1, 0, // block summary, empty
        5, 1, 0, 0, 0, 0, // time index, empty
        21, 1, 2, 173, 24, 173, 24, 0, // edges: 3117 bytes of a record, of which none is kept here
        1, 216, 152, 128, 4, 162, 128, 64, 192, 207, 63,
        0, // 1,042,368 of 1,048,610 bytes of a record at 0x800C58
        0, 0, // no record in between
    ];

    #[test]
    fn the_stored_form_stays_as_it_is() {
        let mut wal = TestWal::new(Version::V18);
        wal.append(&message(SIZE as usize));
        wal.append(&message(SIZE as usize + 5));
        let mut analysis = analyse(&wal.segments()[1]).unwrap();
        assert_eq!(SegmentAnalysis::decode(&analysis.encode()), Ok(analysis.clone()));
        // What is kept of the records would be long; it is not looked at here.
        analysis.edges.head_bytes.truncate(0);
        analysis.edges.tail_bytes.truncate(0);
        assert_eq!(analysis.encode(), GOLDEN);
    }

    #[test]
    fn every_end_has_its_place() {
        assert!(ENDS.iter().enumerate().all(|(place, end)| usize::from(end_code(*end)) == place));
    }

    #[test]
    fn damaged_forms_are_refused() {
        let (wal, _) = wal();
        let stored = analyse(&wal.segments()[0]).unwrap().encode();
        for length in 0..stored.len() {
            assert!(SegmentAnalysis::decode(&stored[..length]).is_err(), "{length}");
        }
        for index in 0..stored.len() {
            for bit in 0..8 {
                let mut damaged = stored.clone();
                damaged[index] ^= 1 << bit;
                if let Ok(analysis) = SegmentAnalysis::decode(&damaged) {
                    assert_eq!(SegmentAnalysis::decode(&analysis.encode()), Ok(analysis));
                }
            }
        }
        assert!(matches!(SegmentAnalysis::decode(&[9]), Err(DecodeError::UnknownFormat { found: 9, .. })));
    }
}
