//! Builds WAL segments of the fuzzer's records: page headers, checksums and links are right, what is in the records
//! is not.

use arbitrary::Arbitrary;
use pgark_postgres::Version;

/// Bytes in a segment, the fewest that PostgreSQL allows.
pub const SEGMENT: usize = 1 << 20;
const PAGE: usize = 8192;
/// The first segment that is built.
const FIRST_SEGMENT: u64 = 5;
const RECORD_HEADER: usize = 24;

/// A record but for what can be computed.
#[derive(Arbitrary, Clone, Debug)]
pub struct Content {
    /// The transaction.
    pub xid: u32,
    /// Flags.
    pub info: u8,
    /// The resource manager; taken modulo a little more than there are.
    pub resource_manager: u8,
    /// All that follows the header.
    pub body: Vec<u8>,
}

impl Content {
    /// The record after the one that begins at `previous`.
    ///
    /// # Panics
    /// Where it is longer than any record.
    #[must_use]
    pub fn bytes(&self, previous: u64) -> Vec<u8> {
        let length = u32::try_from(RECORD_HEADER + self.body.len()).expect("less than two segments");
        let mut record = Vec::with_capacity(length as usize);
        record.extend(length.to_le_bytes());
        record.extend(self.xid.to_le_bytes());
        record.extend(previous.to_le_bytes());
        record.extend([self.info, self.resource_manager % 24, 0, 0]);
        let crc = crc32c::crc32c_append(crc32c::crc32c(&self.body), &record);
        record.extend(crc.to_le_bytes());
        record.extend_from_slice(&self.body);
        record
    }
}

/// Records one after the other, laid out over the pages of two segments.
#[derive(Debug)]
pub struct Builder {
    version: Version,
    bytes: Vec<u8>,
    previous: u64,
}

impl Builder {
    /// Begins segments of a version.
    #[must_use]
    pub fn new(version: Version) -> Self {
        Self { version, bytes: Vec::with_capacity(2 * SEGMENT), previous: 0 }
    }

    /// Appends a record.
    pub fn push(&mut self, content: &Content) {
        self.bytes.resize(self.bytes.len().next_multiple_of(8), 0);
        if self.bytes.len() + 2 * content.body.len() + 2 * PAGE > 2 * SEGMENT {
            return;
        }
        self.begin_page(0);
        let start = FIRST_SEGMENT * SEGMENT as u64 + self.bytes.len() as u64;
        let record = content.bytes(self.previous);
        self.previous = start;
        self.append(&record);
    }

    fn append(&mut self, mut rest: &[u8]) {
        while !rest.is_empty() {
            let room = PAGE - self.bytes.len() % PAGE;
            let (now, later) = rest.split_at(room.min(rest.len()));
            self.bytes.extend_from_slice(now);
            rest = later;
            if !rest.is_empty() {
                self.begin_page(u32::try_from(rest.len()).expect("less than two segments"));
            }
        }
    }

    /// Writes a page header if a page begins here; `remaining` are the bytes of a record that goes on in it.
    fn begin_page(&mut self, remaining: u32) {
        if !self.bytes.len().is_multiple_of(PAGE) {
            return;
        }
        let is_first = self.bytes.len().is_multiple_of(SEGMENT);
        let address = FIRST_SEGMENT * SEGMENT as u64 + self.bytes.len() as u64;
        let flags = u16::from(remaining > 0) | u16::from(is_first) << 1;
        self.bytes.extend(self.version.wal_page_magic().to_le_bytes());
        self.bytes.extend(flags.to_le_bytes());
        self.bytes.extend(1_u32.to_le_bytes());
        self.bytes.extend(address.to_le_bytes());
        self.bytes.extend(remaining.to_le_bytes());
        self.bytes.extend([0; 4]);
        if is_first {
            self.bytes.extend(7_549_000_000_000_000_001_u64.to_le_bytes());
            self.bytes.extend(u32::try_from(SEGMENT).expect("1 MiB").to_le_bytes());
            self.bytes.extend(u32::try_from(PAGE).expect("8 KiB").to_le_bytes());
        }
    }

    /// The segments, filled up with zeros.
    #[must_use]
    pub fn finish(mut self) -> Vec<u8> {
        self.begin_page(0);
        self.bytes.resize(self.bytes.len().next_multiple_of(SEGMENT), 0);
        self.bytes
    }
}
