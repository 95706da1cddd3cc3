//! The fixed parts of a container, as bytes.

use pgark_storage::{ErrorKind, Key, Storage};

use crate::bytes::Reader;
use crate::codec::Codec;
use crate::error::{Cipher, Malformed, Result};
use crate::vault::{Hash, RepositoryId, TAG_LENGTH};

pub(crate) const FORMAT_VERSION: u16 = 1;
pub(crate) const HEADER_LENGTH: usize = 64;
pub(crate) const RECORD_LENGTH: usize = 48;
pub(crate) const TRAILER_LENGTH: usize = 192;
const TRAILER_MAGIC: &[u8; 8] = b"PGARKEND";

/// The feature bit of a manifest that has sidecars: whoever does not know them would restore half of the backup.
pub(crate) const SIDECARS: u32 = 1;

/// The most plain bytes that a block can have.
pub const MAXIMUM_PLAIN_LENGTH: usize = 16 << 20;

/// The most blocks that a container can have.
pub(crate) const MAXIMUM_BLOCKS: u32 = 1 << 20;

/// What an object is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ObjectKind {
    /// The repository's descriptor.
    Descriptor,
    /// A key slot.
    KeySlot,
    /// A cluster of a stanza.
    Cluster,
    /// A pack.
    Pack,
    /// A manifest.
    Manifest,
    /// A WAL segment.
    Wal,
    /// A timeline history file or a backup history file.
    Auxiliary,
    /// A session.
    Session,
    /// A note on a backup.
    Note,
    /// An entry of the log of garbage.
    Garbage,
    /// What was verified when.
    Checked,
}

impl ObjectKind {
    const ALL: [Self; 11] = [
        Self::Descriptor,
        Self::KeySlot,
        Self::Cluster,
        Self::Pack,
        Self::Manifest,
        Self::Wal,
        Self::Auxiliary,
        Self::Session,
        Self::Note,
        Self::Garbage,
        Self::Checked,
    ];

    fn magic(self) -> &'static [u8; 8] {
        match self {
            Self::Descriptor => b"PGARKREP",
            Self::KeySlot => b"PGARKKEY",
            Self::Cluster => b"PGARKCLU",
            Self::Pack => b"PGARKPAC",
            Self::Manifest => b"PGARKMAN",
            Self::Wal => b"PGARKWAL",
            Self::Auxiliary => b"PGARKAUX",
            Self::Session => b"PGARKSES",
            Self::Note => b"PGARKNOT",
            Self::Garbage => b"PGARKGCM",
            Self::Checked => b"PGARKCHK",
        }
    }

    /// What the object `name` is, by its first bytes; `None` where it is nothing of this format.
    ///
    /// # Errors
    /// Not found, or the storage's error.
    pub fn of(storage: &dyn Storage, name: &Key) -> Result<Option<Self>> {
        match storage.get_range(name, 0, 8) {
            Ok(magic) => Ok(Self::ALL.into_iter().find(|kind| kind.magic()[..] == magic[..])),
            Err(error) if error.kind() == ErrorKind::TooShort => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// The feature bits of objects of this kind that this program knows.
    fn known_features(self) -> u32 {
        match self {
            Self::Manifest => SIDECARS,
            _ => 0,
        }
    }

    /// Whether objects of this kind are plain even in an encrypted repository: those that are read before the key.
    pub(crate) fn is_always_plain(self) -> bool {
        matches!(self, Self::Descriptor | Self::KeySlot)
    }
}

/// What a block holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlockKind {
    /// JSON.
    Document,
    /// A file as PostgreSQL gave it.
    Content,
    /// Pages of one file.
    Frame,
    /// Page maps.
    Maps,
    /// A pack's frame table.
    FrameTable,
    /// A pack's page hashes.
    PageHashes,
    /// A pack's file table.
    FileTable,
    /// A pack's page list.
    PageList,
    /// A manifest's file entries.
    Files,
    /// A manifest's file index.
    FileIndex,
    /// A manifest's pack list.
    PackList,
    /// A manifest's late file entries.
    LateFiles,
    /// A manifest's entries of sidecars.
    SidecarFiles,
    /// A part of a WAL segment.
    WalData,
    /// What the records of a WAL segment say: block summary, time index, edges.
    WalAnalysis,
    /// The packs that an entry of the log of garbage names.
    PackNames,
}

impl BlockKind {
    const ALL: [Self; 16] = [
        Self::Document,
        Self::Content,
        Self::Frame,
        Self::Maps,
        Self::FrameTable,
        Self::PageHashes,
        Self::FileTable,
        Self::PageList,
        Self::Files,
        Self::FileIndex,
        Self::PackList,
        Self::LateFiles,
        Self::SidecarFiles,
        Self::WalData,
        Self::WalAnalysis,
        Self::PackNames,
    ];

    pub(crate) fn number(self) -> u8 {
        match self {
            Self::Document => 1,
            Self::Content => 2,
            Self::Frame => 16,
            Self::Maps => 17,
            Self::FrameTable => 18,
            Self::PageHashes => 19,
            Self::FileTable => 20,
            Self::PageList => 21,
            Self::Files => 32,
            Self::FileIndex => 33,
            Self::PackList => 34,
            Self::LateFiles => 35,
            Self::SidecarFiles => 36,
            Self::WalData => 48,
            Self::WalAnalysis => 49,
            Self::PackNames => 64,
        }
    }

    fn from_number(number: u8) -> Result<Self, Malformed> {
        Self::ALL
            .into_iter()
            .find(|kind| kind.number() == number)
            .ok_or_else(|| Malformed::new(format!("unknown block kind {number}")))
    }
}

/// Why an object can't be read: it is damaged, or it is of a newer format.
#[derive(Debug)]
pub(crate) enum HeaderError {
    Malformed(Malformed),
    Unsupported(String),
}

impl From<Malformed> for HeaderError {
    fn from(error: Malformed) -> Self {
        Self::Malformed(error)
    }
}

/// The first 64 bytes of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) kind: ObjectKind,
    pub(crate) cipher: Cipher,
    /// What a reader must know, a bit each.
    pub(crate) features: u32,
    pub(crate) repository: RepositoryId,
    pub(crate) salt: [u8; 32],
}

impl Header {
    pub(crate) fn encode(&self) -> [u8; HEADER_LENGTH] {
        let mut bytes = [0; HEADER_LENGTH];
        bytes[..8].copy_from_slice(self.kind.magic());
        bytes[8..10].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
        bytes[10] = match self.cipher {
            Cipher::None => 0,
            Cipher::Aes256Gcm => 1,
        };
        bytes[12..16].copy_from_slice(&self.features.to_le_bytes());
        bytes[16..32].copy_from_slice(&self.repository);
        bytes[32..].copy_from_slice(&self.salt);
        bytes
    }

    pub(crate) fn decode(bytes: &[u8; HEADER_LENGTH]) -> Result<Self, HeaderError> {
        let mut reader = Reader::new(bytes);
        let magic: [u8; 8] = reader.array()?;
        let kind = ObjectKind::ALL
            .into_iter()
            .find(|kind| *kind.magic() == magic)
            .ok_or_else(|| Malformed::new("its first bytes are not those of an object of pgark"))?;
        let version = reader.u16()?;
        if version != FORMAT_VERSION {
            return Err(HeaderError::Unsupported(format!("its format has version {version}, this program knows 1")));
        }
        let cipher = match reader.u8()? {
            0 => Cipher::None,
            1 => Cipher::Aes256Gcm,
            suite => return Err(HeaderError::Unsupported(format!("it is encrypted with unknown suite {suite}"))),
        };
        reader.zeros(1)?;
        let features = reader.u32()?;
        let unknown = features & !kind.known_features();
        if unknown != 0 {
            return Err(HeaderError::Unsupported(format!("it needs unknown features {unknown:#010x}")));
        }
        Ok(Self { kind, cipher, features, repository: reader.array()?, salt: reader.array()? })
    }
}

/// What the index says of one block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) stored_length: u32,
    pub(crate) plain_length: u32,
    pub(crate) codec: Codec,
    pub(crate) kind: BlockKind,
    pub(crate) hash: Hash,
}

impl Record {
    pub(crate) fn encode(&self, bytes: &mut Vec<u8>) {
        bytes.extend(self.stored_length.to_le_bytes());
        bytes.extend(self.plain_length.to_le_bytes());
        bytes.extend([self.codec.number(), self.kind.number(), 0, 0, 0, 0, 0, 0]);
        bytes.extend(self.hash);
    }

    pub(crate) fn decode(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let stored_length = reader.u32()?;
        let plain_length = reader.u32()?;
        let codec = Codec::from_number(reader.u8()?)?;
        let kind = BlockKind::from_number(reader.u8()?)?;
        reader.zeros(6)?;
        let hash = reader.array()?;
        let maximum = MAXIMUM_PLAIN_LENGTH as u64;
        if u64::from(plain_length) > maximum || u64::from(stored_length) > u64::from(plain_length) + TAG_LENGTH as u64 {
            return Err(Malformed::new(format!("a block of {stored_length} stored and {plain_length} plain bytes")));
        }
        Ok(Self { stored_length, plain_length, codec, kind, hash })
    }
}

/// The last 192 bytes of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Trailer {
    pub(crate) header: Header,
    pub(crate) block_count: u32,
    pub(crate) index_codec: Codec,
    pub(crate) index_offset: u64,
    pub(crate) index_stored_length: u32,
    pub(crate) index_plain_length: u32,
    pub(crate) index_hash: Hash,
    pub(crate) object_length: u64,
}

impl Trailer {
    /// Bytes of the trailer that the root vouches for: all but the root itself.
    pub(crate) const VOUCHED_LENGTH: usize = TRAILER_LENGTH - 32;

    pub(crate) fn encode(&self) -> [u8; Self::VOUCHED_LENGTH] {
        let mut bytes = [0; Self::VOUCHED_LENGTH];
        bytes[..64].copy_from_slice(&self.header.encode());
        bytes[64..72].copy_from_slice(TRAILER_MAGIC);
        bytes[72..76].copy_from_slice(&self.block_count.to_le_bytes());
        bytes[76] = self.index_codec.number();
        bytes[80..88].copy_from_slice(&self.index_offset.to_le_bytes());
        bytes[88..92].copy_from_slice(&self.index_stored_length.to_le_bytes());
        bytes[92..96].copy_from_slice(&self.index_plain_length.to_le_bytes());
        bytes[96..128].copy_from_slice(&self.index_hash);
        bytes[128..136].copy_from_slice(&self.object_length.to_le_bytes());
        bytes
    }

    /// Decodes and checks a trailer against the length that the storage says the object has.
    pub(crate) fn decode(bytes: &[u8; TRAILER_LENGTH], object_length: u64) -> Result<Self, HeaderError> {
        let mut reader = Reader::new(bytes);
        // The magic first: an object that was cut off has no header here to complain about.
        if bytes[64..72] != *TRAILER_MAGIC {
            return Err(Malformed::new("it does not end as an object of pgark ends").into());
        }
        let header = Header::decode(&reader.array()?)?;
        reader.take(TRAILER_MAGIC.len())?;
        let block_count = reader.u32()?;
        let index_codec = Codec::from_number(reader.u8()?)?;
        reader.zeros(3)?;
        let trailer = Self {
            header,
            block_count,
            index_codec,
            index_offset: reader.u64()?,
            index_stored_length: reader.u32()?,
            index_plain_length: reader.u32()?,
            index_hash: reader.array()?,
            object_length: reader.u64()?,
        };
        reader.zeros(24)?;
        trailer.check(object_length)?;
        Ok(trailer)
    }

    fn check(&self, object_length: u64) -> Result<(), Malformed> {
        let end = self
            .index_offset
            .checked_add(u64::from(self.index_stored_length))
            .and_then(|end| end.checked_add(TRAILER_LENGTH as u64));
        let index_length = u64::from(self.block_count) * RECORD_LENGTH as u64;
        let sound = self.object_length == object_length
            && end == Some(object_length)
            && self.index_offset >= HEADER_LENGTH as u64
            && self.block_count <= MAXIMUM_BLOCKS
            && u64::from(self.index_plain_length) == index_length
            && u64::from(self.index_stored_length) <= index_length + TAG_LENGTH as u64;
        if sound { Ok(()) } else { Err(Malformed::new("the lengths in its trailer do not add up")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(kind: ObjectKind, features: u32) -> Result<Header, String> {
        let header = Header { kind, cipher: Cipher::None, features, repository: [1; 16], salt: [2; 32] };
        Header::decode(&header.encode()).map_err(|error| match error {
            HeaderError::Unsupported(what) => what,
            HeaderError::Malformed(error) => panic!("{error}"),
        })
    }

    #[test]
    fn a_feature_that_is_not_known_is_refused_as_such() {
        assert_eq!(header(ObjectKind::Manifest, 0).unwrap().features, 0);
        assert_eq!(header(ObjectKind::Manifest, SIDECARS).unwrap().features, SIDECARS);
        // What a program says that is older than a feature.
        assert_eq!(header(ObjectKind::Manifest, 3).unwrap_err(), "it needs unknown features 0x00000002");
        assert_eq!(header(ObjectKind::Pack, SIDECARS).unwrap_err(), "it needs unknown features 0x00000001");
    }
}
