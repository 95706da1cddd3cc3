//! Reading the records of one segment (what `src/backend/access/transam/xlogreader.c` of PostgreSQL does).

use std::ops::Range;

use thiserror::Error;

use super::name::{SegmentSize, Timeline};
use super::page::{FirstRecord, LONG_HEADER_LENGTH, PageHeader, SHORT_HEADER_LENGTH};
use super::record::{RecordHeader, has_valid_crc, is_record_length};
use crate::{Lsn, Version};

/// Records begin at multiples of this.
const ALIGNMENT: usize = 8;

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
        if header.is_switch() {
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
mod tests;
