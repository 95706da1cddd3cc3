//! WAL records: the header, the block references and the main data (PostgreSQL `src/include/access/xlogrecord.h`,
//! decoded as `DecodeXLogRecord` in `src/backend/access/transam/xlogreader.c` does).

use thiserror::Error;

use super::bytes::Cursor;
use super::event::{RM_XLOG, XLOG_SWITCH};
use super::relation::{Fork, RelationFork, RelationLocator};
use crate::{Lsn, Version};

/// Length of the header of a record in bytes.
pub const HEADER_LENGTH: usize = 24;
/// Where the checksum lies in the header: the bytes before it are covered by it, after those of the body.
const CRC_OFFSET: usize = 20;
/// No record is as long as this: PostgreSQL before 16 cannot allocate it, later versions stop at 1020 MiB.
const MAXIMUM_LENGTH: u32 = 0x3FFF_FFFF;
/// Size of a data page in bytes; pgark supports no other.
const PAGE_SIZE: u16 = 8192;

const MAXIMUM_BLOCK_ID: u8 = 32;
const TOP_LEVEL_XID_ID: u8 = 252;
const ORIGIN_ID: u8 = 253;
const LONG_DATA_ID: u8 = 254;
const SHORT_DATA_ID: u8 = 255;

const BLOCK_FORK_MASK: u8 = 0x0F;
const BLOCK_HAS_IMAGE: u8 = 0x10;
const BLOCK_HAS_DATA: u8 = 0x20;
const BLOCK_WILL_INIT: u8 = 0x40;
const BLOCK_SAME_RELATION: u8 = 0x80;

const IMAGE_HAS_HOLE: u8 = 0x01;

/// The record changes files of relations beyond the blocks it references (`XLR_SPECIAL_REL_UPDATE`).
const SPECIAL_RELATION_UPDATE: u8 = 0x01;
/// The bits of `info` that belong to the resource manager.
const RESOURCE_MANAGER_INFO: u8 = 0xF0;

/// The header of a record (`XLogRecord`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordHeader {
    /// Length of the whole record in bytes, this header included.
    pub total_length: u32,
    /// The transaction, or 0.
    pub xid: u32,
    /// Where the record before this one begins.
    pub previous: Lsn,
    /// Flags: the high four bits belong to the resource manager.
    pub info: u8,
    /// The resource manager that wrote the record and replays it.
    pub resource_manager: u8,
    /// CRC-32C of the bytes after the header, then of the header up to this field.
    pub crc: u32,
}

impl RecordHeader {
    /// Reads the header at the start of `bytes`; `None` if they are too short or the length is none of a record.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let mut cursor = Cursor(bytes);
        let header = Self {
            total_length: cursor.u32()?,
            xid: cursor.u32()?,
            previous: Lsn(cursor.u64()?),
            info: cursor.u8()?,
            resource_manager: cursor.u8()?,
            crc: cursor.take(2).and_then(|_| cursor.u32())?,
        };
        is_record_length(header.total_length).then_some(header)
    }

    /// Whether the rest of the segment in which the record ends is not used.
    pub(super) fn is_switch(&self) -> bool {
        self.resource_manager == RM_XLOG && self.info & RESOURCE_MANAGER_INFO == XLOG_SWITCH
    }
}

/// Whether a record can have this length.
pub(super) fn is_record_length(length: u32) -> bool {
    length as usize >= HEADER_LENGTH && length <= MAXIMUM_LENGTH
}

/// Whether the checksum of the whole record in `bytes` is right.
pub fn has_valid_crc(bytes: &[u8]) -> bool {
    let Some(header) = RecordHeader::parse(bytes).filter(|header| header.total_length as usize == bytes.len()) else {
        return false;
    };
    let body = crc32c::crc32c(&bytes[HEADER_LENGTH..]);
    crc32c::crc32c_append(body, &bytes[..CRC_OFFSET]) == header.crc
}

/// Why a record with a valid checksum cannot be decoded.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum RecordError {
    /// The header is none, or its length is not that of the record.
    #[error("its header is damaged")]
    Header,
    /// The parts are longer than the record, or shorter.
    #[error("its length does not fit its parts")]
    Length,
    /// A part begins with an id that this version does not have.
    #[error("it has a part with the unknown id {0}")]
    UnknownPart(u8),
    /// The block references are not in ascending order.
    #[error("its block references are out of order at id {0}")]
    BlockOrder(u8),
    /// A block reference contradicts itself.
    #[error("its block reference {0} contradicts itself")]
    Block(u8),
    /// A block reference names a fork that does not exist.
    #[error("its block reference {0} names an unknown fork")]
    UnknownFork(u8),
    /// The data of the resource manager is too short or out of range.
    #[error("the data of resource manager {0} is too short or out of range")]
    MainData(u8),
}

/// A decoded record. It borrows the bytes it was decoded from.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    /// Where the record begins.
    pub lsn: Lsn,
    /// The version that wrote it.
    pub version: Version,
    /// The header.
    pub header: RecordHeader,
    /// The data of the resource manager.
    pub main_data: &'a [u8],
    /// The replication origin, if it came from one.
    pub origin: Option<u16>,
    /// The transaction above the subtransaction in the header, where the record says so (14 and later).
    pub top_level_xid: Option<u32>,
    /// The headers of the parts, those of the block references first.
    block_headers: &'a [u8],
    /// Images and data of the block references.
    block_payload: &'a [u8],
}

impl<'a> Record<'a> {
    /// Decodes the whole record in `bytes`, which begins at `lsn`. The checksum is not looked at.
    #[inline]
    pub fn decode(lsn: Lsn, version: Version, bytes: &'a [u8]) -> Result<Self, RecordError> {
        let header = RecordHeader::parse(bytes).ok_or(RecordError::Header)?;
        if header.total_length as usize != bytes.len() {
            return Err(RecordError::Header);
        }
        let body = &bytes[HEADER_LENGTH..];
        let parts = Parts::read(body, version)?;
        let (block_payload, main_data) =
            parts.payload.split_at_checked(parts.block_payload).ok_or(RecordError::Length)?;
        Ok(Self {
            lsn,
            version,
            header,
            main_data,
            origin: parts.origin,
            top_level_xid: parts.top_level_xid,
            block_headers: &body[..body.len() - parts.payload.len()],
            block_payload,
        })
    }

    /// The bits of `info` that say what the resource manager did.
    pub fn operation(&self) -> u8 {
        self.header.info & RESOURCE_MANAGER_INFO
    }

    /// Whether the record changes files of relations beyond the blocks it references.
    pub fn has_special_update(&self) -> bool {
        self.header.info & SPECIAL_RELATION_UPDATE != 0
    }

    /// The blocks that the record references, in the order of their ids.
    pub fn blocks(&self) -> Blocks<'a> {
        Blocks {
            headers: Cursor(self.block_headers),
            payload: Cursor(self.block_payload),
            version: self.version,
            relation: None,
        }
    }
}

/// What the headers at the front of a record's body say.
#[derive(Debug, Default)]
struct Parts<'a> {
    origin: Option<u16>,
    top_level_xid: Option<u32>,
    /// Total length of images and data of the block references in bytes.
    block_payload: usize,
    /// What follows the headers.
    payload: &'a [u8],
}

impl<'a> Parts<'a> {
    /// Reads headers until what is left is exactly what they announced.
    #[inline]
    fn read(body: &'a [u8], version: Version) -> Result<Self, RecordError> {
        let mut cursor = Cursor(body);
        let mut parts = Parts::default();
        let mut announced = 0;
        let mut next_block_id = 0;
        let mut relation = None;
        while cursor.remaining() > announced {
            let id = cursor.u8().ok_or(RecordError::Length)?;
            match id {
                0..=MAXIMUM_BLOCK_ID => {
                    if id < next_block_id {
                        return Err(RecordError::BlockOrder(id));
                    }
                    next_block_id = id + 1;
                    let block = BlockHeader::parse(id, &mut cursor, version, &mut relation)?;
                    parts.block_payload += block.payload_length();
                    announced += block.payload_length();
                }
                SHORT_DATA_ID => {
                    announced += usize::from(cursor.u8().ok_or(RecordError::Length)?);
                    break;
                }
                LONG_DATA_ID => {
                    announced = announced.saturating_add(cursor.u32().ok_or(RecordError::Length)? as usize);
                    break;
                }
                ORIGIN_ID => parts.origin = Some(cursor.u16().ok_or(RecordError::Length)?),
                TOP_LEVEL_XID_ID if version >= Version::V14 => {
                    parts.top_level_xid = Some(cursor.u32().ok_or(RecordError::Length)?);
                }
                _ => return Err(RecordError::UnknownPart(id)),
            }
        }
        if cursor.remaining() != announced {
            return Err(RecordError::Length);
        }
        parts.payload = cursor.0;
        Ok(parts)
    }
}

/// The fields in front of a block's image and data.
#[derive(Debug)]
struct BlockHeader {
    target: RelationFork,
    block: u32,
    will_init: bool,
    data_length: u16,
    image: Option<ImageHeader>,
}

impl BlockHeader {
    /// Reads what follows the id; `relation` is that of the block before, for blocks that share it.
    #[inline]
    fn parse(
        id: u8,
        cursor: &mut Cursor<'_>,
        version: Version,
        relation: &mut Option<RelationLocator>,
    ) -> Result<Self, RecordError> {
        let flags = cursor.u8().ok_or(RecordError::Length)?;
        let data_length = cursor.u16().ok_or(RecordError::Length)?;
        if (flags & BLOCK_HAS_DATA != 0) != (data_length != 0) {
            return Err(RecordError::Block(id));
        }
        let image = match flags & BLOCK_HAS_IMAGE {
            0 => None,
            _ => Some(ImageHeader::parse(id, cursor, version)?),
        };
        let locator = match flags & BLOCK_SAME_RELATION {
            0 => parse_relation(cursor).ok_or(RecordError::Length)?,
            _ => relation.ok_or(RecordError::Block(id))?,
        };
        *relation = Some(locator);
        let fork = Fork::from_number(u32::from(flags & BLOCK_FORK_MASK)).ok_or(RecordError::UnknownFork(id))?;
        Ok(Self {
            target: RelationFork { relation: locator, fork },
            block: cursor.u32().ok_or(RecordError::Length)?,
            will_init: flags & BLOCK_WILL_INIT != 0,
            data_length,
            image,
        })
    }

    fn payload_length(&self) -> usize {
        usize::from(self.data_length) + self.image.as_ref().map_or(0, |image| usize::from(image.length))
    }
}

/// Tablespace, database and number, as every record has them.
pub(super) fn parse_relation(cursor: &mut Cursor<'_>) -> Option<RelationLocator> {
    let (tablespace, database, number) = (cursor.u32()?, cursor.u32()?, cursor.u32()?);
    Some(RelationLocator { tablespace, database, number })
}

/// The fields that describe a block's image.
#[derive(Debug)]
struct ImageHeader {
    length: u16,
    hole_offset: u16,
    hole_length: u16,
    compression: Compression,
    apply: bool,
}

impl ImageHeader {
    fn parse(id: u8, cursor: &mut Cursor<'_>, version: Version) -> Result<Self, RecordError> {
        let length = cursor.u16().ok_or(RecordError::Length)?;
        let hole_offset = cursor.u16().ok_or(RecordError::Length)?;
        let info = cursor.u8().ok_or(RecordError::Length)?;
        let has_hole = info & IMAGE_HAS_HOLE != 0;
        let (compression, apply) = image_flags(info, version).ok_or(RecordError::Block(id))?;
        let hole_length = match compression {
            Compression::None => PAGE_SIZE.checked_sub(length).ok_or(RecordError::Block(id))?,
            _ if has_hole => cursor.u16().ok_or(RecordError::Length)?,
            _ => 0,
        };
        let hole_fits =
            if has_hole { hole_offset != 0 && hole_length != 0 } else { hole_offset == 0 && hole_length == 0 };
        let is_shorter = has_hole || compression != Compression::None;
        if !hole_fits || is_shorter != (length < PAGE_SIZE) {
            return Err(RecordError::Block(id));
        }
        Ok(Self { length, hole_offset, hole_length, compression, apply })
    }
}

/// How the image is compressed and whether replay applies it; the bits were shuffled in 15.
fn image_flags(info: u8, version: Version) -> Option<(Compression, bool)> {
    if version <= Version::V14 {
        let compression = if info & 0x02 == 0 { Compression::None } else { Compression::Pglz };
        return Some((compression, info & 0x04 != 0));
    }
    let compression = match info & 0x1C {
        0x00 => Compression::None,
        0x04 => Compression::Pglz,
        0x08 => Compression::Lz4,
        0x10 => Compression::Zstd,
        _ => return None,
    };
    Some((compression, info & 0x02 != 0))
}

/// How the image of a page is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    None,
    /// PostgreSQL's own.
    Pglz,
    /// LZ4 (15 and later).
    Lz4,
    /// Zstandard (15 and later).
    Zstd,
}

/// The image of a page in a record. Between the bytes before the hole and those after it lie zeros.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockImage<'a> {
    /// The page without its hole, compressed.
    pub bytes: &'a [u8],
    /// How it is compressed.
    pub compression: Compression,
    /// Where the hole begins in the page, in bytes; 0 if there is none.
    pub hole_offset: u16,
    /// Length of the hole in bytes; 0 if there is none.
    pub hole_length: u16,
    /// Whether replay restores the page from it; otherwise it serves consistency checks.
    pub apply: bool,
}

/// A block that a record references.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockReference<'a> {
    /// The id of the reference in its record, 0 to 32.
    pub id: u8,
    /// Relation and fork.
    pub target: RelationFork,
    /// Number of the block in the fork.
    pub block: u32,
    /// Whether replay initialises the page instead of reading it.
    pub will_init: bool,
    /// The image of the page, if the record carries one.
    pub image: Option<BlockImage<'a>>,
    /// What the resource manager recorded for the block.
    pub data: &'a [u8],
}

/// The blocks that a record references.
#[derive(Clone, Debug)]
pub struct Blocks<'a> {
    headers: Cursor<'a>,
    payload: Cursor<'a>,
    version: Version,
    relation: Option<RelationLocator>,
}

impl<'a> Iterator for Blocks<'a> {
    type Item = BlockReference<'a>;

    /// The headers were checked when the record was decoded, so that nothing but their end stops the iteration.
    fn next(&mut self) -> Option<BlockReference<'a>> {
        loop {
            let id = self.headers.u8()?;
            match id {
                0..=MAXIMUM_BLOCK_ID => {
                    let header = BlockHeader::parse(id, &mut self.headers, self.version, &mut self.relation).ok()?;
                    return self.with_payload(id, &header);
                }
                ORIGIN_ID => self.headers.take(2)?,
                TOP_LEVEL_XID_ID => self.headers.take(4)?,
                _ => return None,
            };
        }
    }
}

impl<'a> Blocks<'a> {
    fn with_payload(&mut self, id: u8, header: &BlockHeader) -> Option<BlockReference<'a>> {
        let image = match &header.image {
            None => None,
            Some(image) => Some(BlockImage {
                bytes: self.payload.take(usize::from(image.length))?,
                compression: image.compression,
                hole_offset: image.hole_offset,
                hole_length: image.hole_length,
                apply: image.apply,
            }),
        };
        let data = self.payload.take(usize::from(header.data_length))?;
        Some(BlockReference {
            id,
            target: header.target,
            block: header.block,
            will_init: header.will_init,
            image,
            data,
        })
    }
}

#[cfg(test)]
#[expect(clippy::cast_possible_truncation, reason = "the numbers of these tests are small")]
mod tests {
    use proptest::prelude::*;

    use super::super::testing::{TestRecord, locator_bytes, main_fork, message, relation, words};
    use super::*;

    fn decode(version: Version, bytes: &[u8]) -> Result<Record<'_>, RecordError> {
        Record::decode(Lsn(0x100_0028), version, bytes)
    }

    /// A block with an image of `length` bytes, `info` as the version has it, and after it what `info` asks for.
    fn image(length: u16, hole_offset: u16, info: u8, rest: &[u8]) -> Vec<u8> {
        let header =
            [&[0, BLOCK_HAS_IMAGE, 0, 0][..], &length.to_le_bytes(), &hole_offset.to_le_bytes(), &[info], rest];
        let record = TestRecord::new(10, 0).header(header.concat());
        let record =
            record.header(locator_bytes(relation(9))).header(words(&[3])).payload(vec![b'i'; usize::from(length)]);
        record.main_data(b"main").bytes(Lsn(0))
    }

    fn decoded_image(version: Version, bytes: &[u8]) -> Result<(Compression, bool, u16, u16), RecordError> {
        let record = decode(version, bytes)?;
        let block = record.blocks().next().unwrap();
        let image = block.image.unwrap();
        assert_eq!((block.block, record.main_data), (3, &b"main"[..]));
        assert!(image.bytes.iter().all(|byte| *byte == b'i'));
        Ok((image.compression, image.apply, image.hole_offset, image.hole_length))
    }

    #[test]
    fn the_bits_of_images_differ_between_versions() {
        use Compression::{Lz4, None, Pglz, Zstd};
        let hole = 1000_u16.to_le_bytes();
        for version in [Version::V13, Version::V14] {
            let decoded = |info, rest: &[u8]| decoded_image(version, &image(300, 40, info, rest));
            assert_eq!(decoded(0x01, &[]), Ok((None, false, 40, 7892)));
            assert_eq!(decoded(0x05, &[]), Ok((None, true, 40, 7892)));
            assert_eq!(decoded(0x03, &hole), Ok((Pglz, false, 40, 1000)));
            assert_eq!(decoded(0x07, &hole), Ok((Pglz, true, 40, 1000)));
            assert_eq!(decoded_image(version, &image(300, 0, 0x06, &[])), Ok((Pglz, true, 0, 0)));
            assert_eq!(decoded_image(version, &image(8192, 0, 0x04, &[])), Ok((None, true, 0, 0)));
        }
        for version in [Version::V15, Version::V16, Version::V17, Version::V18] {
            let decoded = |info, rest: &[u8]| decoded_image(version, &image(300, 40, info, rest));
            assert_eq!(decoded(0x01, &[]), Ok((None, false, 40, 7892)));
            assert_eq!(decoded(0x03, &[]), Ok((None, true, 40, 7892)));
            assert_eq!(decoded(0x07, &hole), Ok((Pglz, true, 40, 1000)));
            assert_eq!(decoded(0x0B, &hole), Ok((Lz4, true, 40, 1000)));
            assert_eq!(decoded(0x13, &hole), Ok((Zstd, true, 40, 1000)));
            assert_eq!(decoded_image(version, &image(300, 0, 0x0A, &[])), Ok((Lz4, true, 0, 0)));
            assert_eq!(decoded_image(version, &image(8192, 0, 0x02, &[])), Ok((None, true, 0, 0)));
            assert_eq!(decoded(0x0F, &hole), Err(RecordError::Block(0)));
        }
    }

    #[test]
    fn images_that_contradict_themselves_are_refused() {
        let refused = |bytes: Vec<u8>| assert_eq!(decode(Version::V17, &bytes).err(), Some(RecordError::Block(0)));
        // A hole without a place, of no length, of a whole page; no hole, but a place; too short without a hole.
        refused(image(300, 0, 0x03, &[]));
        refused(image(8192, 40, 0x03, &[]));
        refused(image(300, 40, 0x07, &[0, 0]));
        refused(image(8192, 40, 0x02, &[]));
        refused(image(300, 0, 0x02, &[]));
        refused(image(8192, 0, 0x06, &[]));
        refused(image(8193, 0, 0x02, &[]));
    }

    #[test]
    fn parts_of_every_kind_are_read() {
        let record = TestRecord::new(10, 0x21)
            .header([7, BLOCK_HAS_DATA | BLOCK_WILL_INIT, 2, 0])
            .header(locator_bytes(relation(9)))
            .header(words(&[1]))
            .header([8, BLOCK_SAME_RELATION | BLOCK_HAS_DATA | 2, 3, 0])
            .header(words(&[2]))
            .header([ORIGIN_ID, 0x34, 0x12])
            .header([TOP_LEVEL_XID_ID, 1, 2, 0, 0])
            .payload(b"abcde")
            .main_data(vec![b'm'; 300]);
        let bytes = record.bytes(Lsn(0x100_0000));
        assert!(has_valid_crc(&bytes));
        let record = decode(Version::V14, &bytes).unwrap();
        assert_eq!((record.origin, record.top_level_xid), (Some(0x1234), Some(0x201)));
        assert_eq!((record.operation(), record.has_special_update()), (0x20, true));
        assert_eq!((record.header.previous, record.header.xid), (Lsn(0x100_0000), 700));
        assert_eq!(record.main_data, [b'm'; 300]);
        let blocks: Vec<_> = record.blocks().collect();
        assert_eq!(blocks.iter().map(|block| (block.id, block.block)).collect::<Vec<_>>(), [(7, 1), (8, 2)]);
        assert_eq!((blocks[0].data, blocks[1].data), (&b"ab"[..], &b"cde"[..]));
        assert_eq!((blocks[0].will_init, blocks[1].will_init), (true, false));
        assert_eq!(blocks[1].target, RelationFork { relation: relation(9), fork: Fork::VisibilityMap });
        // 13 has no part with the id of the top-level transaction.
        assert_eq!(decode(Version::V13, &bytes).err(), Some(RecordError::UnknownPart(TOP_LEVEL_XID_ID)));
    }

    #[test]
    fn a_record_without_main_data_ends_with_its_blocks() {
        // An id of 255 in the payload is not taken for a header.
        let record = TestRecord::new(10, 0).header([0, BLOCK_HAS_DATA, 2, 0]).header(locator_bytes(relation(9)));
        let bytes = record.header(words(&[1])).payload([255, 255]).bytes(Lsn(0));
        let record = decode(Version::V18, &bytes).unwrap();
        assert_eq!(record.blocks().map(|block| block.data).collect::<Vec<_>>(), [[255, 255]]);
        assert!(record.main_data.is_empty());
    }

    #[test]
    fn damaged_parts_are_refused() {
        let refused =
            |record: TestRecord, error| assert_eq!(decode(Version::V18, &record.bytes(Lsn(0))).err(), Some(error));
        let block = |id| TestRecord::new(10, 0).block(1, main_fork(9), 1).block(id, main_fork(9), 2);
        refused(block(1), RecordError::BlockOrder(1));
        refused(block(0), RecordError::BlockOrder(0));
        refused(TestRecord::new(10, 0).header([33, 0, 0, 0]), RecordError::UnknownPart(33));
        refused(TestRecord::new(10, 0).header([251; 9]), RecordError::UnknownPart(251));
        refused(TestRecord::new(10, 0).header([0, 4, 0, 0]).header([0; 16]), RecordError::UnknownFork(0));
        refused(TestRecord::new(10, 0).header([0, BLOCK_SAME_RELATION, 0, 0]).header([0; 4]), RecordError::Block(0));
        refused(TestRecord::new(10, 0).header([0, BLOCK_HAS_DATA, 0, 0]).header([0; 16]), RecordError::Block(0));
        refused(TestRecord::new(10, 0).header([0, 0, 1, 0]).header([0; 16]), RecordError::Block(0));
        refused(message(9).payload([1]), RecordError::Length);
        refused(TestRecord::new(10, 0).header([255, 9, 1]), RecordError::Length);
        refused(TestRecord::new(10, 0).header([254, 255, 255, 255, 255]), RecordError::Length);
        refused(TestRecord::new(10, 0).header([0, 0]), RecordError::Length);
        assert_eq!(decode(Version::V18, &[0; 23]).err(), Some(RecordError::Header));
        assert_eq!(decode(Version::V18, &message(9).bytes(Lsn(0))[..34]).err(), Some(RecordError::Header));
    }

    #[test]
    fn a_wrong_checksum_is_seen_wherever_the_damage_is() {
        let bytes = message(50).bytes(Lsn(7));
        assert!(has_valid_crc(&bytes));
        for index in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[index] ^= 0x10;
            assert!(!has_valid_crc(&damaged), "{index}");
        }
    }

    proptest! {
        #[test]
        fn any_body_is_decoded_or_refused(body: Vec<u8>, version in 0..6_usize) {
            let mut bytes = words(&[(HEADER_LENGTH + body.len()) as u32]);
            bytes.resize(HEADER_LENGTH, 0);
            bytes.extend(body);
            if let Ok(record) = decode(Version::ALL[version], &bytes) {
                let payload: usize = record
                    .blocks()
                    .map(|block| block.data.len() + block.image.map_or(0, |image| image.bytes.len()))
                    .sum();
                prop_assert_eq!(payload, record.block_payload.len());
            }
        }

        #[test]
        fn any_record_of_blocks_is_read_back(blocks in prop::collection::vec((1..9_u32, 0..4_u32, any::<u32>()), 0..33)) {
            let references = blocks.iter().map(|(number, fork, block)| {
                let fork = Fork::from_number(*fork).unwrap();
                (RelationFork { relation: relation(*number), fork }, *block)
            });
            let record = references.clone().enumerate().fold(TestRecord::new(10, 0), |record, (id, (fork, block))| {
                record.block(id as u8, fork, block)
            });
            let bytes = record.main_data(b"x").bytes(Lsn(0));
            let record = decode(Version::V16, &bytes).unwrap();
            prop_assert!(record.blocks().map(|block| (block.target, block.block)).eq(references));
        }
    }
}
