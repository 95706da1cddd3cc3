//! Reading the records of one segment (what `src/backend/access/transam/xlogreader.c` of PostgreSQL does).

use std::ops::Range;

use thiserror::Error;

use super::event::RM_XLOG;
use super::name::{SegmentSize, Timeline};
use super::page::{FirstRecord, LONG_HEADER_LENGTH, PageHeader, SHORT_HEADER_LENGTH};
use super::record::{RecordHeader, has_valid_crc, is_record_length};
use crate::{Lsn, Version};

/// Records begin at multiples of this.
const ALIGNMENT: usize = 8;
/// The operation of the record after which the rest of a segment is not used.
const XLOG_SWITCH: u8 = 0x40;

/// The bytes are not a WAL segment that this program can read.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum SegmentError {
    /// The magic at the start is none of PostgreSQL 13 to 18, or the page header is damaged.
    #[error("the file does not begin with the header of a WAL segment of PostgreSQL 13 to 18")]
    Header,
    /// The file has not the size that its header gives.
    #[error(
        "the file has {found} bytes, but its header says that the segment has {expected}: it was cut short or padded"
    )]
    Length {
        /// The size in the header, in bytes.
        expected: u32,
        /// The size of the file, in bytes.
        found: u64,
    },
    /// The first page does not lie at the start of a segment.
    #[error("the first page says that it lies at {address}, where no segment of {size} bytes begins")]
    Address {
        /// The position in the first page.
        address: Lsn,
        /// The size in the header, in bytes.
        size: u32,
    },
}

/// What the first page says of its segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentHeader {
    /// The version that wrote the segment.
    pub version: Version,
    /// The system identifier of the cluster.
    pub system_id: u64,
    /// The timeline of the first page. A segment in which a promotion happened begins with pages of the old timeline.
    pub timeline: Timeline,
    /// The number of the segment from the beginning of the WAL.
    pub number: u64,
    /// Where the segment begins.
    pub start: Lsn,
    /// Its size.
    pub size: SegmentSize,
    /// The size of a WAL page in bytes.
    pub page_size: u32,
}

impl SegmentHeader {
    /// Reads the header of the segment whose bytes begin with `bytes`.
    pub fn parse(bytes: &[u8]) -> Result<Self, SegmentError> {
        let page = PageHeader::parse(bytes).ok_or(SegmentError::Header)?;
        let long = page.long.ok_or(SegmentError::Header)?;
        let size = long.segment_size;
        if size.offset_of(page.address) != 0 {
            return Err(SegmentError::Address { address: page.address, size: size.bytes() });
        }
        Ok(Self {
            version: page.version,
            system_id: long.system_id,
            timeline: page.timeline,
            number: size.segment_of(page.address),
            start: page.address,
            size,
            page_size: long.page_size,
        })
    }

    /// Where the segment ends: the first position after it. At the very end of the range, the range's end.
    pub fn end(&self) -> Lsn {
        Lsn(self.start.0.saturating_add(u64::from(self.size.bytes())))
    }
}

/// Why no further record is read from a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WalEnd {
    /// The segment is full: its last record ends with it, or goes on in the next segment.
    Full,
    /// The server left the rest of the segment unused.
    Switch,
    /// Nothing was written from here on: the bytes are zero.
    Unwritten,
    /// The next page is left over from an older segment in whose file this one was written.
    Recycled,
    /// What follows is no valid WAL. After a crash this is how it ends; elsewhere the segment is damaged.
    Invalid(Problem),
}

impl WalEnd {
    /// Whether the WAL goes on at the start of the next segment.
    pub fn is_complete(self) -> bool {
        matches!(self, Self::Full | Self::Switch)
    }
}

/// What is wrong with the bytes after the last valid record.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum Problem {
    /// The header of a page is not valid.
    #[error("the page header is not valid")]
    PageHeader,
    /// A page does not continue the record of the page before it as it should.
    #[error("the page does not go on with the record that was begun before it")]
    Continuation,
    /// The length of a record is impossible.
    #[error("the length of the record is impossible")]
    RecordLength,
    /// A record does not point back at the record before it.
    #[error("the record does not point back at the record before it")]
    PreviousRecord,
    /// The checksum of a record is wrong.
    #[error("the checksum of the record is wrong")]
    Checksum,
}

/// A record as it was found: its bytes without page headers, the checksum verified.
#[derive(Clone, Copy, Debug)]
pub struct RawRecord<'r> {
    /// Where it begins.
    pub lsn: Lsn,
    /// Where the next one begins, or the page before the next one; after a switch, the next segment.
    pub end: Lsn,
    /// Its bytes.
    pub bytes: &'r [u8],
}

/// What a segment has, at its start, of a record that began in a segment before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Head {
    /// Nothing: the segment begins with a record of its own.
    None,
    /// The record was cut short by a crash, and this segment overwrites the rest.
    Overwritten,
    /// Bytes of the record.
    Continued {
        /// How many bytes of the record were still to come at the start of the segment.
        remaining: u32,
        /// How many of them are in this segment; fewer where the record goes on in the next one or the WAL breaks off.
        available: u32,
    },
}

/// The record that begins in a segment and ends in a later one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tail {
    /// Where it begins.
    pub lsn: Lsn,
    /// Its length in bytes.
    pub total_length: u32,
    /// How many of its bytes are in this segment.
    pub available: u32,
}

/// Where the bytes of a whole record are.
enum Place {
    /// In one page of the segment.
    Page(Range<usize>),
    /// In the buffer, put together from several pages.
    Assembled,
}

/// Where the bytes of a record lead, page by page.
enum Followed {
    /// The record ends in this segment; the next one may begin at this offset.
    Whole(usize),
    /// The segment ends first.
    Beyond,
    /// The page at this offset begins with another record instead.
    Overwritten(usize),
    /// The pages are not what they should be.
    Broken(WalEnd),
}

/// Reads the records that begin and end in one segment, and tells what crosses its borders.
#[derive(Debug)]
pub struct SegmentReader<'a> {
    bytes: &'a [u8],
    header: SegmentHeader,
    head: Head,
    tail: Option<Tail>,
    end: Option<WalEnd>,
    /// Where the next record begins, or the page in which it does.
    offset: usize,
    /// The last record that was read, to check that the next one points back at it.
    last_record: Option<Lsn>,
    /// Where the first record points back to.
    first_link: Option<Lsn>,
    last_timeline: Timeline,
    /// The bytes of a record that lies on several pages.
    assembled: Vec<u8>,
}

impl<'a> SegmentReader<'a> {
    /// Begins to read the segment in `bytes`.
    pub fn new(bytes: &'a [u8]) -> Result<Self, SegmentError> {
        let header = SegmentHeader::parse(bytes)?;
        let (expected, found) = (header.size.bytes(), bytes.len() as u64);
        if u64::from(expected) != found {
            return Err(SegmentError::Length { expected, found });
        }
        let mut reader = Self {
            bytes,
            header,
            head: Head::None,
            tail: None,
            end: None,
            offset: 0,
            last_record: None,
            first_link: None,
            last_timeline: header.timeline,
            assembled: Vec::new(),
        };
        reader.read_head();
        Ok(reader)
    }

    /// What the first page says of the segment.
    pub fn header(&self) -> &SegmentHeader {
        &self.header
    }

    /// What the segment has of a record that began before it.
    pub fn head(&self) -> Head {
        self.head
    }

    /// Up to `limit` bytes of the record that began before the segment.
    pub fn head_bytes(&self, limit: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        if let Head::Continued { available, .. } = self.head {
            self.copy(0, limit.min(available as usize), &mut bytes);
        }
        bytes
    }

    /// The record that ends in a later segment; known when the last record has been read.
    pub fn tail(&self) -> Option<Tail> {
        self.tail
    }

    /// Up to `limit` bytes of the record that ends in a later segment.
    pub fn tail_bytes(&self, limit: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        if let Some(tail) = self.tail {
            let start = self.header.size.offset_of(tail.lsn) as usize;
            self.copy(start, limit.min(tail.available as usize), &mut bytes);
        }
        bytes
    }

    /// Why no further record is read; known when the last record has been read.
    pub fn end(&self) -> Option<WalEnd> {
        self.end
    }

    /// Where the valid WAL ends as an offset in the segment, in bytes; so far, until the last record has been read.
    /// The size of the segment if it is complete.
    pub fn end_offset(&self) -> u32 {
        match self.end {
            Some(end) if end.is_complete() => self.header.size.bytes(),
            _ => narrow(self.offset),
        }
    }

    /// Where the first record of the segment says that the record before it begins.
    pub fn first_link(&self) -> Option<Lsn> {
        self.first_link
    }

    /// Where the last whole record that was read begins.
    pub fn last_record(&self) -> Option<Lsn> {
        self.last_record
    }

    /// The timeline of the last page that was read.
    pub fn last_timeline(&self) -> Timeline {
        self.last_timeline
    }

    /// The next record that begins and ends in the segment.
    pub fn next_record(&mut self) -> Option<RawRecord<'_>> {
        let (lsn, place) = loop {
            if self.end.is_some() {
                return None;
            }
            match self.step() {
                Ok(Some(found)) => break found,
                Ok(None) => {}
                Err(end) => self.end = Some(end),
            }
        };
        let end = if self.end == Some(WalEnd::Switch) { self.header.end() } else { self.position(self.offset) };
        let bytes = match place {
            Place::Page(range) => &self.bytes[range],
            Place::Assembled => &self.assembled[..],
        };
        Some(RawRecord { lsn, end, bytes })
    }

    /// Follows the record that began in the segment before to its end.
    fn read_head(&mut self) {
        let remaining = match PageHeader::parse(self.bytes).map(|page| page.first) {
            Some(FirstRecord::Continued { remaining }) => remaining,
            Some(FirstRecord::Overwritten) => {
                self.head = Head::Overwritten;
                return;
            }
            _ => return,
        };
        let (available, followed) = self.follow(0, remaining as usize);
        self.head = Head::Continued { remaining, available: narrow(available) };
        match followed {
            Followed::Whole(next) => self.offset = next,
            Followed::Beyond => {
                self.offset = self.bytes.len();
                self.end = Some(WalEnd::Full);
            }
            Followed::Overwritten(page) => {
                self.head = Head::Overwritten;
                self.offset = page;
            }
            Followed::Broken(end) => self.end = Some(end),
        }
    }

    /// Reads one record. `None` where a record turned out to be overwritten; the next one is in its place.
    fn step(&mut self) -> Result<Option<(Lsn, Place)>, WalEnd> {
        if self.offset >= self.bytes.len() {
            return Err(WalEnd::Full);
        }
        let start = self.next_start()?;
        let lsn = self.position(start);
        let total_length = self.record_length(start)?;
        let length = total_length as usize;
        let page_end = self.page_end(start);
        if length <= page_end - start {
            let range = start..start + length;
            self.accept(lsn, &self.bytes[range.clone()])?;
            self.offset = (start + length).next_multiple_of(ALIGNMENT);
            return Ok(Some((lsn, Place::Page(range))));
        }
        let (available, followed) = self.follow(page_end, length - (page_end - start));
        match followed {
            Followed::Whole(next) => {
                self.assemble(lsn, start, length)?;
                self.offset = next;
                Ok(Some((lsn, Place::Assembled)))
            }
            Followed::Overwritten(page) => {
                self.offset = page;
                Ok(None)
            }
            Followed::Beyond => {
                self.tail = Some(Tail { lsn, total_length, available: narrow(page_end - start + available) });
                Err(WalEnd::Full)
            }
            Followed::Broken(end) => Err(end),
        }
    }

    /// Where the next record begins: behind the header of its page, if it is the first there.
    fn next_start(&mut self) -> Result<usize, WalEnd> {
        if !self.offset.is_multiple_of(self.page_size()) {
            return Ok(self.offset);
        }
        let page = self.check_page(self.offset)?;
        match page.first {
            FirstRecord::Continued { .. } => Err(WalEnd::Invalid(Problem::Continuation)),
            FirstRecord::Own | FirstRecord::Overwritten => Ok(self.offset + page.length()),
        }
    }

    /// The length at the start of a record, which lies on one page however the record does.
    fn record_length(&self, start: usize) -> Result<u32, WalEnd> {
        let field = self.bytes.get(start..).and_then(<[u8]>::first_chunk).copied();
        match field.map_or(0, u32::from_le_bytes) {
            0 => Err(WalEnd::Unwritten),
            length if is_record_length(length) => Ok(length),
            _ => Err(WalEnd::Invalid(Problem::RecordLength)),
        }
    }

    /// Puts the record at `start`, which lies on several pages, together.
    fn assemble(&mut self, lsn: Lsn, start: usize, length: usize) -> Result<(), WalEnd> {
        let mut assembled = std::mem::take(&mut self.assembled);
        assembled.clear();
        self.copy(start, length, &mut assembled);
        let accepted = self.accept(lsn, &assembled);
        self.assembled = assembled;
        accepted
    }

    /// Checks a whole record and remembers where it begins.
    fn accept(&mut self, lsn: Lsn, bytes: &[u8]) -> Result<(), WalEnd> {
        let header = RecordHeader::parse(bytes).ok_or(WalEnd::Invalid(Problem::RecordLength))?;
        let follows = self.last_record.map_or(header.previous < lsn, |last| header.previous == last);
        if !follows {
            return Err(WalEnd::Invalid(Problem::PreviousRecord));
        }
        if !has_valid_crc(bytes) {
            return Err(WalEnd::Invalid(Problem::Checksum));
        }
        self.first_link.get_or_insert(header.previous);
        self.last_record = Some(lsn);
        if header.resource_manager == RM_XLOG && header.info & 0xF0 == XLOG_SWITCH {
            self.end = Some(WalEnd::Switch);
        }
        Ok(())
    }

    /// Follows a record that has `remaining` bytes from the page at `offset` on: how many of them are in the segment,
    /// and where they lead.
    fn follow(&mut self, mut offset: usize, mut remaining: usize) -> (usize, Followed) {
        let wanted = remaining;
        while offset < self.bytes.len() {
            let page = match self.check_page(offset) {
                Ok(page) => page,
                Err(end) => return (wanted - remaining, Followed::Broken(end)),
            };
            match page.first {
                FirstRecord::Continued { remaining: stated } if stated > 0 && stated as usize == remaining => {}
                FirstRecord::Overwritten => return (wanted - remaining, Followed::Overwritten(offset)),
                _ => return (wanted - remaining, Followed::Broken(WalEnd::Invalid(Problem::Continuation))),
            }
            let payload = self.page_size() - page.length();
            if remaining <= payload {
                return (wanted, Followed::Whole((offset + page.length() + remaining).next_multiple_of(ALIGNMENT)));
            }
            remaining -= payload;
            offset += self.page_size();
        }
        (wanted - remaining, Followed::Beyond)
    }

    /// Reads the header of the page at `offset` and checks that it belongs there.
    fn check_page(&mut self, offset: usize) -> Result<PageHeader, WalEnd> {
        let bytes = &self.bytes[offset..];
        let Some(page) = PageHeader::parse(bytes) else {
            let is_zero = bytes.iter().take(SHORT_HEADER_LENGTH).all(|byte| *byte == 0);
            return Err(if is_zero { WalEnd::Unwritten } else { WalEnd::Invalid(Problem::PageHeader) });
        };
        if page.address != self.position(offset) {
            return Err(WalEnd::Recycled);
        }
        let belongs = page.version == self.header.version
            && page.long.is_some() == (offset == 0)
            && page.timeline >= self.last_timeline;
        if !belongs {
            return Err(WalEnd::Invalid(Problem::PageHeader));
        }
        self.last_timeline = page.timeline;
        Ok(page)
    }

    /// Appends `length` bytes of a record from `offset` on to `target`, without the headers of pages between. The pages
    /// were followed before.
    fn copy(&self, mut offset: usize, mut length: usize, target: &mut Vec<u8>) {
        while length > 0 && offset < self.bytes.len() {
            if offset.is_multiple_of(self.page_size()) {
                offset += if offset == 0 { LONG_HEADER_LENGTH } else { SHORT_HEADER_LENGTH };
            }
            let taken = length.min(self.page_end(offset) - offset);
            target.extend_from_slice(&self.bytes[offset..offset + taken]);
            offset += taken;
            length -= taken;
        }
    }

    fn page_size(&self) -> usize {
        self.header.page_size as usize
    }

    /// The end of the page that holds the byte at `offset`.
    fn page_end(&self, offset: usize) -> usize {
        (offset / self.page_size() + 1) * self.page_size()
    }

    fn position(&self, offset: usize) -> Lsn {
        Lsn(self.header.start.0.saturating_add(offset as u64))
    }
}

/// A length within a segment, whose size has 32 bits.
fn narrow(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

#[cfg(test)]
#[expect(clippy::cast_possible_truncation, reason = "the numbers of these tests are small")]
mod tests {
    use proptest::prelude::*;

    use super::super::segment::{SegmentAnalysis, analyse};
    use super::super::testing::{SIZE, TestWal, message, size, switch};
    use super::*;

    /// Every record of a segment, and the reader after the last.
    fn read(bytes: &[u8]) -> (Vec<(Lsn, Lsn, usize)>, SegmentReader<'_>) {
        let mut reader = SegmentReader::new(bytes).unwrap();
        let mut records = Vec::new();
        while let Some(record) = reader.next_record() {
            records.push((record.lsn, record.end, record.bytes.len()));
        }
        (records, reader)
    }

    fn lsns(bytes: &[u8]) -> Vec<Lsn> {
        read(bytes).0.iter().map(|record| record.0).collect()
    }

    /// Records that lie on one page, on two and on many, and end exactly with a page.
    fn wal(version: Version) -> (TestWal, Vec<Lsn>) {
        let mut wal = TestWal::new(version);
        // The fourth record ends with the first page: 24, 32 and 336 bytes come before it.
        let lengths = [0, 1, 300, 8192 - 40 - 24 - 32 - 336 - 29, 50_000, 8192 - 24 - 29, 20];
        let lsns = lengths.map(|length| wal.append(&message(length))).to_vec();
        (wal, lsns)
    }

    #[test]
    fn records_of_every_version_are_read_until_the_zeros() {
        for version in Version::ALL {
            let (wal, expected) = wal(version);
            let end = wal.next_lsn();
            let segments = wal.segments();
            let (records, reader) = read(&segments[0]);
            assert_eq!(records.iter().map(|record| record.0).collect::<Vec<_>>(), expected);
            assert_eq!((reader.end(), reader.header().version), (Some(WalEnd::Unwritten), version));
            assert_eq!(records.last().map(|record| record.1), Some(end));
            assert_eq!(Lsn(SIZE * 7 + u64::from(reader.end_offset())), end);
            // Each record ends where the next begins, or where its page does.
            for pair in records.windows(2) {
                let is_next = pair[0].1 == pair[1].0;
                assert!(is_next || pair[0].1.0 + 24 == pair[1].0.0, "{pair:?}");
            }
        }
    }

    #[test]
    fn a_switch_completes_the_segment() {
        let (mut wal, mut expected) = wal(Version::V15);
        expected.push(wal.append(&switch()));
        let next = wal.append(&message(5));
        let segments = wal.segments();
        let (records, reader) = read(&segments[0]);
        assert_eq!(records.iter().map(|record| record.0).collect::<Vec<_>>(), expected);
        assert_eq!((reader.end(), reader.end_offset()), (Some(WalEnd::Switch), SIZE as u32));
        assert_eq!(records.last().map(|record| record.1), Some(Lsn(SIZE * 8)));
        assert_eq!(lsns(&segments[1]), [next]);
    }

    #[test]
    fn records_cross_the_borders_of_segments() {
        let mut wal = TestWal::new(Version::V17);
        let first = wal.append(&message(100));
        let long = wal.append(&message(2_500_000));
        let last = wal.append(&message(100));
        let segments = wal.segments();
        let (_, begins) = read(&segments[0]);
        let tail = begins.tail().unwrap();
        assert_eq!((lsns(&segments[0]), tail.lsn, begins.end()), (vec![first], long, Some(WalEnd::Full)));
        assert_eq!((tail.total_length, begins.tail_bytes(usize::MAX).len()), (2_500_029, tail.available as usize));
        let (records, middle) = read(&segments[1]);
        let remaining = tail.total_length - tail.available;
        let available = SIZE as u32 - 40 - 127 * 24;
        assert!(records.is_empty());
        assert_eq!((middle.head(), middle.end()), (Head::Continued { remaining, available }, Some(WalEnd::Full)));
        assert_eq!((middle.tail(), middle.first_link()), (None, None));
        let (_, ends) = read(&segments[2]);
        let remaining = remaining - available;
        assert_eq!(
            (lsns(&segments[2]), ends.head()),
            (vec![last], Head::Continued { remaining, available: remaining })
        );
        assert_eq!(ends.head_bytes(usize::MAX).len(), remaining as usize);
        assert_eq!(ends.head_bytes(10), b"mmmmmmmmmm");
        assert_eq!((ends.first_link(), ends.last_record()), (Some(long), Some(last)));
    }

    #[test]
    fn a_record_that_was_cut_short_is_overwritten() {
        let mut wal = TestWal::new(Version::V14);
        let first = wal.append(&message(100));
        wal.append_lost(&message(50_000), 20_000);
        let second = wal.append(&message(100));
        // Now one that is cut short at the end of the segment.
        wal.append(&message(SIZE as usize - 60_000));
        wal.append_lost(&message(60_000), 30_000);
        let third = wal.append(&message(100));
        let segments = wal.segments();
        let (records, reader) = read(&segments[0]);
        assert_eq!((records.len(), records[0].0, records[1].0), (3, first, second));
        assert!(reader.tail().is_some());
        let (_, reader) = read(&segments[1]);
        assert_eq!((lsns(&segments[1]), reader.head()), (vec![third], Head::Overwritten));
    }

    /// Damages the WAL at a record and says why it ends there.
    fn end_after(damage: impl FnOnce(&mut Vec<u8>, usize)) -> (usize, WalEnd) {
        let (wal, expected) = wal(Version::V18);
        let mut bytes = wal.segments().swap_remove(0);
        // The fifth record lies on pages 1 to 7.
        damage(&mut bytes, size().offset_of(expected[4]) as usize);
        let (records, reader) = read(&bytes);
        assert_eq!(u64::from(reader.end_offset()), records.last().map_or(0, |record| record.1.0 - SIZE * 7));
        (records.len(), reader.end().unwrap())
    }

    #[test]
    fn damage_ends_the_wal_before_the_record() {
        let invalid = |problem| (4, WalEnd::Invalid(problem));
        assert_eq!(end_after(|bytes, at| bytes[at + 24] ^= 1), invalid(Problem::Checksum));
        assert_eq!(end_after(|bytes, at| bytes[at + 8] ^= 1), invalid(Problem::PreviousRecord));
        assert_eq!(end_after(|bytes, at| bytes[at] ^= 1), invalid(Problem::Continuation));
        assert_eq!(end_after(|bytes, at| bytes[at + 3] = 0xFF), invalid(Problem::RecordLength));
        assert_eq!(
            end_after(|bytes, at| bytes[at..at + 4].copy_from_slice(&[23, 0, 0, 0])),
            invalid(Problem::RecordLength)
        );
        assert_eq!(end_after(|bytes, at| bytes[at..at + 4].fill(0)), (4, WalEnd::Unwritten));
        // Headers of the record's third page: magic, flags, timeline, address.
        let third_page = 3 * 8192;
        assert_eq!(end_after(|bytes, _| bytes[third_page] ^= 1), invalid(Problem::PageHeader));
        assert_eq!(end_after(|bytes, _| bytes[third_page + 2] = 0x10), invalid(Problem::PageHeader));
        assert_eq!(end_after(|bytes, _| bytes[third_page + 2] = 0x04), invalid(Problem::Continuation));
        assert_eq!(end_after(|bytes, _| bytes[third_page + 4] = 0), invalid(Problem::PageHeader));
        assert_eq!(end_after(|bytes, _| bytes[third_page + 16] ^= 1), invalid(Problem::Continuation));
        assert_eq!(end_after(|bytes, _| bytes[third_page + 10] ^= 1), (4, WalEnd::Recycled));
        assert_eq!(end_after(|bytes, _| bytes[third_page..third_page + 24].fill(0)), (4, WalEnd::Unwritten));
    }

    #[test]
    fn a_page_that_goes_on_with_a_record_begins_none() {
        let (wal, expected) = wal(Version::V18);
        let mut bytes = wal.segments().swap_remove(0);
        // The fourth record ends with the first page, so that the second one begins with the fifth.
        assert_eq!(size().offset_of(expected[4]), 8192 + 24);
        bytes[8192 + 2] |= 1;
        assert_eq!((lsns(&bytes).len(), read(&bytes).1.end()), (4, Some(WalEnd::Invalid(Problem::Continuation))));
    }

    #[test]
    fn a_head_whose_pages_are_damaged_has_no_records_after_it() {
        let mut wal = TestWal::new(Version::V18);
        wal.append(&message(SIZE as usize + 50_000));
        wal.append(&message(9));
        let mut bytes = wal.segments().swap_remove(1);
        assert_eq!(lsns(&bytes).len(), 1);
        bytes[16] ^= 1;
        let (records, reader) = read(&bytes);
        assert!(records.is_empty());
        assert_eq!((reader.end(), reader.end_offset()), (Some(WalEnd::Invalid(Problem::Continuation)), 0));
    }

    #[test]
    fn what_is_no_segment_is_refused() {
        let (wal, _) = wal(Version::V18);
        let bytes = wal.segments().swap_remove(0);
        let error = |bytes: &[u8]| SegmentReader::new(bytes).err();
        assert_eq!(error(&[]), Some(SegmentError::Header));
        assert_eq!(error(&vec![0; SIZE as usize]), Some(SegmentError::Header));
        assert_eq!(error(&bytes[..39]), Some(SegmentError::Header));
        let length = |found| Some(SegmentError::Length { expected: SIZE as u32, found });
        assert_eq!(error(&bytes[..8192]), length(8192));
        assert_eq!(error(&[&bytes[..], &[0]].concat()), length(SIZE + 1));
        let with = |index: usize, value: u8| {
            let mut damaged = bytes.clone();
            damaged[index] = value;
            error(&damaged)
        };
        assert_eq!(with(0, 0x21), Some(SegmentError::Header));
        assert_eq!(with(2, 0x04), Some(SegmentError::Header));
        assert_eq!(with(32, 1), Some(SegmentError::Header));
        assert_eq!(with(37, 0x21), Some(SegmentError::Header));
        let address = Lsn(SIZE * 7 + 0x2000);
        assert_eq!(with(9, 0x20), Some(SegmentError::Address { address, size: SIZE as u32 }));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn records_of_any_length_are_read(lengths in prop::collection::vec(prop_oneof![0..400_usize, 0..40_000_usize], 1..120)) {
            let mut wal = TestWal::new(Version::V16);
            let expected: Vec<Lsn> = lengths.iter().map(|length| wal.append(&message(*length))).collect();
            let mut found = Vec::new();
            for segment in wal.segments() {
                let (records, reader) = read(&segment);
                found.extend(records.iter().map(|record| record.0));
                found.extend(reader.tail().map(|tail| tail.lsn));
            }
            prop_assert_eq!(found, expected);
        }

        #[test]
        fn damage_anywhere_is_survived(
            lengths in prop::collection::vec(0..30_000_usize, 60..100),
            damage in prop::collection::vec((prop_oneof![0..64_usize, 0..SIZE as usize], any::<u8>()), 1..20),
            zeros in 0..SIZE as usize,
        ) {
            let mut wal = TestWal::new(Version::V15);
            for length in lengths {
                wal.append(&message(length));
            }
            for mut bytes in wal.segments() {
                for (index, value) in &damage {
                    bytes[*index] = *value;
                }
                // The tail of a segment that a crash left zero.
                bytes[zeros..].fill(0);
                if let Ok(analysis) = analyse(&bytes) {
                    prop_assert!(analysis.end_offset <= analysis.header.size.bytes());
                    prop_assert_eq!(SegmentAnalysis::decode(&analysis.encode()), Ok(analysis));
                }
            }
        }

        #[test]
        fn arbitrary_pages_are_survived(pages in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 128)) {
            let (wal, _) = wal(Version::V13);
            let mut bytes = wal.segments().swap_remove(0);
            for (page, noise) in bytes.chunks_mut(8192).zip(pages) {
                page[40..40 + noise.len()].copy_from_slice(&noise);
            }
            prop_assert!(analyse(&bytes).is_ok());
        }
    }
}
