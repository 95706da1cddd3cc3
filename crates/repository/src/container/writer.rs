//! Writing a container as a stream.

use pgark_storage::{Key, ObjectWriter};

use super::layout::{
    BlockKind, HEADER_LENGTH, Header, MAXIMUM_BLOCKS, MAXIMUM_PLAIN_LENGTH, ObjectKind, RECORD_LENGTH, Record,
    TRAILER_LENGTH, Trailer,
};
use crate::codec::{Codec, Compression, Decoder, Encoder};
use crate::error::{Cipher, Error, Result};
use crate::vault::{Hash, Seal, Vault};

/// Where the bytes of a container go.
pub(crate) trait Sink {
    fn write(&mut self, bytes: &[u8]) -> Result<()>;
}

impl Sink for Vec<u8> {
    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.extend_from_slice(bytes);
        Ok(())
    }
}

impl Sink for Box<dyn ObjectWriter> {
    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        Ok((**self).write(bytes)?)
    }
}

/// How the blocks of an object are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WriteOptions {
    /// How they are compressed.
    pub compression: Compression,
    /// Whether each is decoded again and compared before it is written.
    pub verify: bool,
}

/// What a finished container is known by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Written {
    /// Bytes of the whole object.
    pub length: u64,
    /// The hash that vouches for the whole object.
    pub root: Hash,
}

/// Writes one container, block by block.
#[derive(Debug)]
pub(crate) struct ContainerWriter<'vault, S> {
    vault: &'vault Vault,
    name: Key,
    header: Header,
    seal: Option<Seal>,
    encoder: Encoder,
    check: Option<Decoder>,
    records: Vec<Record>,
    offset: u64,
    scratch: Vec<u8>,
    decoded: Vec<u8>,
    sink: S,
}

impl<'vault, S: Sink> ContainerWriter<'vault, S> {
    /// Begins the object `name`, to be written to `sink`.
    ///
    /// # Errors
    /// Where there is no randomness for the salt, or the sink fails.
    pub(crate) fn new(
        vault: &'vault Vault,
        kind: ObjectKind,
        name: Key,
        options: WriteOptions,
        mut sink: S,
    ) -> Result<Self> {
        let salt = pgark_system::random::bytes().map_err(Error::Random)?;
        let cipher = if kind.is_always_plain() { Cipher::None } else { vault.cipher() };
        let header = Header { kind, cipher, repository: vault.repository(), salt };
        sink.write(&header.encode())?;
        let seal = if kind.is_always_plain() { None } else { vault.seal_for(&name, &salt) };
        Ok(Self {
            vault,
            name,
            header,
            seal,
            encoder: Encoder::new(options.compression),
            check: options.verify.then(Decoder::default),
            records: Vec::new(),
            offset: HEADER_LENGTH as u64,
            scratch: Vec::new(),
            decoded: Vec::new(),
            sink,
        })
    }

    /// The name of the object.
    pub(crate) fn name(&self) -> &Key {
        &self.name
    }

    /// Bytes written so far.
    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    /// Blocks written so far.
    pub(crate) fn block_count(&self) -> usize {
        self.records.len()
    }

    /// Appends a block and gives its number and its stored length in bytes.
    ///
    /// # Errors
    /// [`Error::Limit`] for a block or a count over the format's limits, [`Error::VerifyWrite`], or the sink's error.
    pub(crate) fn append(&mut self, kind: BlockKind, plain: &[u8]) -> Result<(u32, u32)> {
        let number = u32::try_from(self.records.len()).unwrap_or(u32::MAX);
        if plain.len() > MAXIMUM_PLAIN_LENGTH || number >= MAXIMUM_BLOCKS {
            return Err(Error::Limit {
                what: format!("block {number} of '{}' is over the format's limits", self.name),
            });
        }
        let hash = self.hash(plain);
        let codec = self.encode(u64::from(number), plain)?;
        self.sink.write(&self.scratch)?;
        let stored_length = length_u32(self.scratch.len());
        self.offset += u64::from(stored_length);
        self.records.push(Record { stored_length, plain_length: length_u32(plain.len()), codec, kind, hash });
        Ok((number, stored_length))
    }

    /// Writes the index and the trailer, and gives back the sink, which the caller makes durable.
    ///
    /// # Errors
    /// As [`ContainerWriter::append`].
    pub(crate) fn finish(mut self) -> Result<(S, Written)> {
        let mut index = Vec::with_capacity(self.records.len() * RECORD_LENGTH);
        for record in &self.records {
            record.encode(&mut index);
        }
        let index_codec = self.encode(self.records.len() as u64, &index)?;
        self.sink.write(&self.scratch)?;
        let index_stored_length = length_u32(self.scratch.len());
        let length = self.offset + u64::from(index_stored_length) + TRAILER_LENGTH as u64;
        let trailer = Trailer {
            header: self.header.clone(),
            block_count: length_u32(self.records.len()),
            index_codec,
            index_offset: self.offset,
            index_stored_length,
            index_plain_length: length_u32(index.len()),
            index_hash: self.hash(&index),
            object_length: length,
        }
        .encode();
        let root = root(self.vault, self.header.kind, &self.name, &trailer);
        self.sink.write(&trailer)?;
        self.sink.write(&root)?;
        Ok((self.sink, Written { length, root }))
    }

    fn hash(&self, plain: &[u8]) -> Hash {
        hash(self.vault, self.header.kind, plain)
    }

    /// Leaves the stored form of `plain` in `scratch`.
    fn encode(&mut self, number: u64, plain: &[u8]) -> Result<Codec> {
        let (codec, encoded) = self.encoder.encode(plain);
        self.scratch.clear();
        self.scratch.extend_from_slice(encoded);
        if let Some(seal) = &self.seal {
            seal.seal(number, &mut self.scratch);
        }
        if self.check.is_some() && !self.comes_back(number, codec, plain) {
            return Err(Error::VerifyWrite { object: self.name.to_string() });
        }
        Ok(codec)
    }

    fn comes_back(&mut self, number: u64, codec: Codec, plain: &[u8]) -> bool {
        let Some(decoder) = &mut self.check else { return true };
        let mut opened;
        let encoded = match &self.seal {
            None => &self.scratch[..],
            Some(seal) => {
                opened = self.scratch.clone();
                match seal.open(number, &mut opened) {
                    Ok(encoded) => encoded,
                    Err(_) => return false,
                }
            }
        };
        // What is stored as it is was copied once, and compared here is that copy.
        if codec == Codec::None {
            return encoded == plain;
        }
        decoder.decode(codec, encoded, plain.len(), &mut self.decoded).is_ok() && self.decoded == plain
    }
}

/// The hash of plain bytes in an object of this kind: those that are read before the key have no keyed hash.
pub(super) fn hash(vault: &Vault, kind: ObjectKind, plain: &[u8]) -> Hash {
    if kind.is_always_plain() { *blake3::hash(plain).as_bytes() } else { vault.hash(plain) }
}

/// The root of an object: what vouches for all of it and for its name.
pub(super) fn root(vault: &Vault, kind: ObjectKind, name: &Key, trailer: &[u8]) -> Hash {
    let name = name.as_str().as_bytes();
    let mut material = Vec::with_capacity(4 + name.len() + trailer.len());
    material.extend(length_u32(name.len()).to_le_bytes());
    material.extend_from_slice(name);
    material.extend_from_slice(trailer);
    hash(vault, kind, &material)
}

/// A length that the format's limits keep far below 4 GiB.
fn length_u32(length: usize) -> u32 {
    u32::try_from(length).expect("the format's limits keep lengths below 4 GiB")
}
