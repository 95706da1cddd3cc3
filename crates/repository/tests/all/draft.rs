//! Writes plain containers by sections 2 and 3 of `docs/format.md`, not by the code that is tested: also such as no
//! honest program writes, with hashes that fit all the same. The fuzz targets build on it, too.

const HEADER_LENGTH: usize = 64;
const VOUCHED_LENGTH: usize = 160;

/// One block and what the index says of it.
#[derive(Clone, Debug)]
pub(crate) struct DraftBlock {
    pub(crate) kind: u8,
    pub(crate) codec: u8,
    pub(crate) stored: Vec<u8>,
    pub(crate) plain_length: u32,
    pub(crate) hash: [u8; 32],
}

impl DraftBlock {
    /// A block that is not compressed.
    pub(crate) fn new(kind: u8, plain: &[u8]) -> Self {
        let plain_length = u32::try_from(plain.len()).unwrap();
        Self { kind, codec: 0, stored: plain.to_vec(), plain_length, hash: *blake3::hash(plain).as_bytes() }
    }
}

/// A container to be written.
#[derive(Clone, Debug)]
pub(crate) struct Draft {
    pub(crate) magic: [u8; 8],
    pub(crate) version: u16,
    pub(crate) suite: u8,
    pub(crate) features: u32,
    pub(crate) repository: [u8; 16],
    pub(crate) blocks: Vec<DraftBlock>,
}

impl Draft {
    pub(crate) fn new(magic: [u8; 8], repository: [u8; 16], blocks: Vec<DraftBlock>) -> Self {
        Self { magic, version: 1, suite: 0, features: 0, repository, blocks }
    }

    /// The object under the name `name`.
    pub(crate) fn write(&self, name: &str) -> Vec<u8> {
        self.write_with(name, |_| {}, |_| {})
    }

    /// The object, with an index and a trailer that were changed before what vouches for them was computed.
    pub(crate) fn write_with(
        &self,
        name: &str,
        change_index: impl FnOnce(&mut Vec<u8>),
        change_trailer: impl FnOnce(&mut [u8; VOUCHED_LENGTH]),
    ) -> Vec<u8> {
        let header = self.header();
        let mut object = header.to_vec();
        for block in &self.blocks {
            object.extend_from_slice(&block.stored);
        }
        let mut index = self.index();
        change_index(&mut index);
        let mut trailer = self.trailer(header, object.len(), &index);
        change_trailer(&mut trailer);
        object.extend_from_slice(&index);
        object.extend_from_slice(&trailer);
        let mut material = u32::try_from(name.len()).unwrap().to_le_bytes().to_vec();
        material.extend_from_slice(name.as_bytes());
        material.extend_from_slice(&trailer);
        object.extend_from_slice(blake3::hash(&material).as_bytes());
        object
    }

    fn header(&self) -> [u8; HEADER_LENGTH] {
        let mut header = [0; HEADER_LENGTH];
        header[..8].copy_from_slice(&self.magic);
        header[8..10].copy_from_slice(&self.version.to_le_bytes());
        header[10] = self.suite;
        header[12..16].copy_from_slice(&self.features.to_le_bytes());
        header[16..32].copy_from_slice(&self.repository);
        header[32..].copy_from_slice(&[0x5A; 32]);
        header
    }

    fn index(&self) -> Vec<u8> {
        let mut index = Vec::new();
        for block in &self.blocks {
            index.extend(u32::try_from(block.stored.len()).unwrap().to_le_bytes());
            index.extend(block.plain_length.to_le_bytes());
            index.extend([block.codec, block.kind, 0, 0, 0, 0, 0, 0]);
            index.extend(block.hash);
        }
        index
    }

    fn trailer(&self, header: [u8; HEADER_LENGTH], index_offset: usize, index: &[u8]) -> [u8; VOUCHED_LENGTH] {
        let index_length = u32::try_from(index.len()).unwrap();
        let object_length = index_offset + index.len() + VOUCHED_LENGTH + 32;
        let mut trailer = [0; VOUCHED_LENGTH];
        trailer[..HEADER_LENGTH].copy_from_slice(&header);
        trailer[64..72].copy_from_slice(b"PGARKEND");
        trailer[72..76].copy_from_slice(&u32::try_from(self.blocks.len()).unwrap().to_le_bytes());
        trailer[80..88].copy_from_slice(&(index_offset as u64).to_le_bytes());
        trailer[88..92].copy_from_slice(&index_length.to_le_bytes());
        trailer[92..96].copy_from_slice(&index_length.to_le_bytes());
        trailer[96..128].copy_from_slice(blake3::hash(index).as_bytes());
        trailer[128..136].copy_from_slice(&(object_length as u64).to_le_bytes());
        trailer
    }
}
