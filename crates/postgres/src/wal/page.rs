//! Headers of WAL pages (PostgreSQL `src/include/access/xlog_internal.h`, `XLogPageHeaderData` and
//! `XLogLongPageHeaderData`).

use super::bytes::Cursor;
use super::name::{SegmentSize, Timeline};
use crate::{Lsn, Version};

/// Length of the header of every page but the first of a segment, in bytes.
pub const SHORT_HEADER_LENGTH: usize = 24;
/// Length of the header of the first page of a segment, in bytes.
pub const LONG_HEADER_LENGTH: usize = 40;

/// The page begins in the middle of a record.
const FIRST_IS_CONTINUATION: u16 = 0x0001;
/// The header is the long one.
const LONG_HEADER: u16 = 0x0002;
/// The record that would go on here was lost in a crash and is overwritten.
const FIRST_IS_OVERWRITTEN_CONTINUATION: u16 = 0x0008;
/// Every bit that PostgreSQL 13 to 18 know, among them 0x0004, "backup blocks may be removed", which says nothing here.
const ALL_FLAGS: u16 = 0x000F;

/// The header of a WAL page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageHeader {
    /// The version whose magic the page carries.
    pub version: Version,
    /// The timeline on which the page was begun.
    pub timeline: Timeline,
    /// Where the page lies in the WAL.
    pub address: Lsn,
    /// How the page begins.
    pub first: FirstRecord,
    /// What only the first page of a segment says.
    pub long: Option<LongHeader>,
}

/// How a page begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FirstRecord {
    /// With a record of its own.
    Own,
    /// In the middle of a record.
    Continued {
        /// How many bytes of the record are still to come, those of this page and of later ones.
        remaining: u32,
    },
    /// With a record of its own, in place of the rest of a record that was cut short by a crash.
    Overwritten,
}

/// What the first page of a segment says beyond the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LongHeader {
    /// The system identifier of the cluster.
    pub system_id: u64,
    /// The size of the segment.
    pub segment_size: SegmentSize,
    /// The size of a WAL page in bytes, a power of two from 1 KiB to 64 KiB.
    pub page_size: u32,
}

impl PageHeader {
    /// Reads the header at the start of `bytes`. `None` where they are too short, the magic is none of a known
    /// version, or a field has a value that PostgreSQL refuses.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let mut cursor = Cursor(bytes);
        let version = Version::from_wal_page_magic(cursor.u16()?)?;
        let flags = cursor.u16()?;
        let timeline = Timeline(cursor.u32()?);
        let address = Lsn(cursor.u64()?);
        let remaining = cursor.u32()?;
        cursor.take(4)?;
        let first = match flags {
            _ if flags & !ALL_FLAGS != 0 => return None,
            _ if flags & FIRST_IS_OVERWRITTEN_CONTINUATION != 0 => FirstRecord::Overwritten,
            _ if flags & FIRST_IS_CONTINUATION != 0 => FirstRecord::Continued { remaining },
            _ => FirstRecord::Own,
        };
        let long = if flags & LONG_HEADER == 0 { None } else { Some(LongHeader::parse(&mut cursor)?) };
        Some(Self { version, timeline, address, first, long })
    }

    /// The length of this header in bytes.
    pub fn length(&self) -> usize {
        if self.long.is_some() { LONG_HEADER_LENGTH } else { SHORT_HEADER_LENGTH }
    }
}

impl LongHeader {
    fn parse(cursor: &mut Cursor<'_>) -> Option<Self> {
        let system_id = cursor.u64()?;
        let segment_size = SegmentSize::new(u64::from(cursor.u32()?)).ok()?;
        let page_size = cursor.u32()?;
        let is_valid = page_size.is_power_of_two() && (1 << 10..=1 << 16).contains(&page_size);
        is_valid.then_some(Self { system_id, segment_size, page_size })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn header(magic: u16, flags: u16, remaining: u32) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend(magic.to_le_bytes());
        bytes.extend(flags.to_le_bytes());
        bytes.extend(7_u32.to_le_bytes());
        bytes.extend(0x500_0000_u64.to_le_bytes());
        bytes.extend(remaining.to_le_bytes());
        bytes.extend([0; 4]);
        bytes.extend(42_u64.to_le_bytes());
        bytes.extend((16_u32 << 20).to_le_bytes());
        bytes.extend(8192_u32.to_le_bytes());
        bytes
    }

    #[test]
    fn flags_of_every_version() {
        for version in Version::ALL {
            let magic = version.wal_page_magic();
            let parsed = |flags| PageHeader::parse(&header(magic, flags, 99));
            assert_eq!(parsed(0x0000).unwrap().first, FirstRecord::Own);
            assert_eq!(parsed(0x0004).unwrap().first, FirstRecord::Own);
            assert_eq!(parsed(0x0005).unwrap().first, FirstRecord::Continued { remaining: 99 });
            assert_eq!(parsed(0x000C).unwrap().first, FirstRecord::Overwritten);
            assert_eq!(parsed(0x0010), None);
            assert_eq!(parsed(0x0006).unwrap().length(), LONG_HEADER_LENGTH);
            assert_eq!(parsed(0x0004).unwrap().length(), SHORT_HEADER_LENGTH);
        }
        assert_eq!(PageHeader::parse(&header(0xD121, 0, 0)), None);
    }

    #[test]
    fn the_long_header_is_read() {
        let parsed = PageHeader::parse(&header(0xD118, 0x0006, 0)).unwrap();
        assert_eq!((parsed.version, parsed.timeline, parsed.address), (Version::V18, Timeline(7), Lsn(0x500_0000)));
        let long = LongHeader { system_id: 42, segment_size: SegmentSize::DEFAULT, page_size: 8192 };
        assert_eq!(parsed.long, Some(long));
        assert_eq!(PageHeader::parse(&header(0xD118, 0x0006, 0)[..39]), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_parsed_or_refused(mut bytes: Vec<u8>, magic in 0..6_usize) {
            bytes.splice(0..0, Version::ALL[magic].wal_page_magic().to_le_bytes());
            if let Some(page) = PageHeader::parse(&bytes) {
                prop_assert!(page.length() <= bytes.len());
            }
        }
    }
}
