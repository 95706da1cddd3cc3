//! WAL made by hand, for what no server at hand writes: every version, and records and borders as a test needs them.

use super::event::{RM_DBASE, RM_SMGR, RM_XACT, RM_XLOG};
use super::name::SegmentSize;
use super::record::HEADER_LENGTH;
use super::relation::{Fork, RelationFork, RelationLocator};
use crate::{Lsn, Version};

pub(super) const SIZE: u64 = 1 << 20;
const PAGE: u64 = 8192;

pub(super) fn relation(number: u32) -> RelationLocator {
    RelationLocator { tablespace: 1663, database: 5, number }
}

pub(super) fn main_fork(number: u32) -> RelationFork {
    RelationFork { relation: relation(number), fork: Fork::Main }
}

/// Numbers one after the other, as a struct of the server has them.
pub(super) fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

pub(super) fn locator_bytes(relation: RelationLocator) -> Vec<u8> {
    words(&[relation.tablespace, relation.database, relation.number])
}

/// A record before it has a place.
#[derive(Clone, Debug, Default)]
pub(super) struct TestRecord {
    pub(super) resource_manager: u8,
    pub(super) info: u8,
    pub(super) xid: u32,
    pub(super) headers: Vec<u8>,
    pub(super) payload: Vec<u8>,
    pub(super) main_data: Vec<u8>,
}

impl TestRecord {
    pub(super) fn new(resource_manager: u8, info: u8) -> Self {
        Self { resource_manager, info, xid: 700, ..Self::default() }
    }

    pub(super) fn main_data(mut self, bytes: impl AsRef<[u8]>) -> Self {
        self.main_data.extend_from_slice(bytes.as_ref());
        self
    }

    /// Any header bytes, for parts that have no method here.
    pub(super) fn header(mut self, bytes: impl AsRef<[u8]>) -> Self {
        self.headers.extend_from_slice(bytes.as_ref());
        self
    }

    pub(super) fn payload(mut self, bytes: impl AsRef<[u8]>) -> Self {
        self.payload.extend_from_slice(bytes.as_ref());
        self
    }

    /// A reference without image and data.
    pub(super) fn block(self, id: u8, fork: RelationFork, block: u32) -> Self {
        let header = [id, fork.fork.number(), 0, 0];
        self.header(header).header(locator_bytes(fork.relation)).header(block.to_le_bytes())
    }

    /// The whole record.
    pub(super) fn bytes(&self, previous: Lsn) -> Vec<u8> {
        let mut body = self.headers.clone();
        match u8::try_from(self.main_data.len()) {
            Ok(0) => {}
            Ok(length) => body.extend([255, length]),
            Err(_) => {
                body.push(254);
                body.extend((self.main_data.len() as u32).to_le_bytes());
            }
        }
        body.extend_from_slice(&self.payload);
        body.extend_from_slice(&self.main_data);
        let mut bytes = words(&[(HEADER_LENGTH + body.len()) as u32, self.xid]);
        bytes.extend(previous.0.to_le_bytes());
        bytes.extend([self.info, self.resource_manager, 0, 0]);
        let crc = crc32c::crc32c_append(crc32c::crc32c(&body), &bytes);
        bytes.extend(crc.to_le_bytes());
        bytes.extend(body);
        bytes
    }
}

/// A commit at `seconds` after 2000-01-01 that drops `dropped`.
pub(super) fn commit(seconds: i64, dropped: &[RelationLocator]) -> TestRecord {
    let time = (seconds * 1_000_000).to_le_bytes();
    if dropped.is_empty() {
        return TestRecord::new(RM_XACT, 0x00).main_data(time);
    }
    let record = TestRecord::new(RM_XACT, 0x81).main_data(time).main_data(words(&[0x4, dropped.len() as u32]));
    dropped.iter().fold(record, |record, relation| record.main_data(locator_bytes(*relation)))
}

pub(super) fn truncate(number: u32, blocks: u32, flags: u32) -> TestRecord {
    let data = [words(&[blocks]), locator_bytes(relation(number)), words(&[flags])].concat();
    TestRecord::new(RM_SMGR, 0x21).main_data(data)
}

pub(super) fn database(info: u8, numbers: &[u32]) -> TestRecord {
    TestRecord::new(RM_DBASE, info | 0x01).main_data(words(numbers))
}

pub(super) fn switch() -> TestRecord {
    TestRecord::new(RM_XLOG, 0x40)
}

/// A record of `length` bytes of main data that means nothing.
pub(super) fn message(length: usize) -> TestRecord {
    TestRecord::new(21, 0x00).main_data(vec![b'm'; length])
}

/// Lays records out in segments of 1 MiB as the server does.
#[derive(Debug)]
pub(super) struct TestWal {
    version: Version,
    timeline: u32,
    first: u64,
    bytes: Vec<u8>,
    previous: Lsn,
}

impl TestWal {
    pub(super) fn new(version: Version) -> Self {
        Self { version, timeline: 1, first: SIZE * 7, bytes: Vec::new(), previous: Lsn(SIZE * 7 - 64) }
    }

    fn position(&self) -> u64 {
        self.first + self.bytes.len() as u64
    }

    /// Where the next record begins.
    pub(super) fn next_lsn(&self) -> Lsn {
        let position = self.position();
        let header = match position {
            _ if position.is_multiple_of(SIZE) => 40,
            _ if position.is_multiple_of(PAGE) => 24,
            _ => 0,
        };
        Lsn(position + header)
    }

    /// Appends a record and says where it begins.
    pub(super) fn append(&mut self, record: &TestRecord) -> Lsn {
        let lsn = self.next_lsn();
        let bytes = record.bytes(self.previous);
        self.write(&bytes, 0);
        self.previous = lsn;
        if record.resource_manager == RM_XLOG && record.info == 0x40 {
            self.pad(SIZE);
        }
        lsn
    }

    /// Begins a record, writes all but its last `lost` bytes, at least a page, and goes on as after a crash at the next
    /// page.
    pub(super) fn append_lost(&mut self, record: &TestRecord, lost: usize) {
        let bytes = record.bytes(self.previous);
        self.write(&bytes[..bytes.len() - lost], lost);
        self.pad(PAGE);
        self.page_header(0, 0x0008);
    }

    fn write(&mut self, mut bytes: &[u8], lost: usize) {
        let total = bytes.len();
        while !bytes.is_empty() {
            if self.position().is_multiple_of(PAGE) {
                let is_continued = bytes.len() < total;
                let remaining = if is_continued { bytes.len() + lost } else { 0 };
                self.page_header(remaining as u32, u16::from(is_continued));
            }
            let left = (PAGE - self.position() % PAGE) as usize;
            let (now, rest) = bytes.split_at(left.min(bytes.len()));
            self.bytes.extend_from_slice(now);
            bytes = rest;
        }
        self.pad(8);
    }

    fn page_header(&mut self, remaining: u32, flags: u16) {
        let address = self.position();
        let is_first = address.is_multiple_of(SIZE);
        let flags = flags | 0x0004 | if is_first { 0x0002 } else { 0 };
        self.bytes.extend(self.version.wal_page_magic().to_le_bytes());
        self.bytes.extend(flags.to_le_bytes());
        self.bytes.extend(self.timeline.to_le_bytes());
        self.bytes.extend(address.to_le_bytes());
        self.bytes.extend(words(&[remaining, 0]));
        if is_first {
            self.bytes.extend(4711_u64.to_le_bytes());
            self.bytes.extend(words(&[SIZE as u32, PAGE as u32]));
        }
    }

    fn pad(&mut self, multiple: u64) {
        let length = self.position().next_multiple_of(multiple) - self.first;
        self.bytes.resize(length as usize, 0);
    }

    /// The segments; the rest of the last one is zero.
    pub(super) fn segments(mut self) -> Vec<Vec<u8>> {
        self.pad(SIZE);
        self.bytes.chunks(SIZE as usize).map(<[u8]>::to_vec).collect()
    }
}

pub(super) fn size() -> SegmentSize {
    SegmentSize::new(SIZE).unwrap()
}
