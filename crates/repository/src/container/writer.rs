//! Writing a container as a stream.

use std::borrow::BorrowMut;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;

use pgark_storage::{Key, ObjectWriter};

use super::layout::{
    BlockKind, HEADER_LENGTH, Header, MAXIMUM_BLOCKS, MAXIMUM_PLAIN_LENGTH, ObjectKind, RECORD_LENGTH, Record,
    TRAILER_LENGTH, Trailer,
};
use crate::codec::{Codec, Compression, Decoder, Encoder};
use crate::error::{Cipher, Error, Result};
use crate::thrift::Content;
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

/// Writes one container, block by block, with an encoder of its own or one that is lent.
#[derive(Debug)]
pub(crate) struct ContainerWriter<'vault, S, E = BlockEncoder> {
    object: Object<'vault>,
    encoder: E,
    written: WrittenBlocks,
    sink: S,
}

/// The blocks that the sink has.
#[derive(Debug)]
struct WrittenBlocks {
    records: Vec<Record>,
    /// Where the next one begins.
    offset: u64,
}

/// What the stored form of a block depends on beside the block.
#[derive(Debug)]
struct Object<'vault> {
    vault: &'vault Vault,
    name: Key,
    header: Header,
    seal: Option<Seal>,
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
        sink: S,
    ) -> Result<Self> {
        Self::begin(vault, kind, 0, name, BlockEncoder::new(options), sink)
    }

    /// Begins the object `name`, whose readers must know the features of these bits.
    ///
    /// # Errors
    /// As [`ContainerWriter::new`].
    pub(crate) fn with_features(
        vault: &'vault Vault,
        kind: ObjectKind,
        features: u32,
        name: Key,
        options: WriteOptions,
        sink: S,
    ) -> Result<Self> {
        Self::begin(vault, kind, features, name, BlockEncoder::new(options), sink)
    }
}

impl<'vault, S: Sink, E: BorrowMut<BlockEncoder>> ContainerWriter<'vault, S, E> {
    /// Begins the object `name`, whose blocks `encoder` encodes.
    ///
    /// # Errors
    /// As [`ContainerWriter::new`].
    pub(crate) fn begin(
        vault: &'vault Vault,
        kind: ObjectKind,
        features: u32,
        name: Key,
        encoder: E,
        mut sink: S,
    ) -> Result<Self> {
        let salt = pgark_system::random::bytes().map_err(Error::Random)?;
        let cipher = if kind.is_always_plain() { Cipher::None } else { vault.cipher() };
        let header = Header { kind, cipher, features, repository: vault.repository(), salt };
        sink.write(&header.encode())?;
        let seal = if kind.is_always_plain() { None } else { vault.seal_for(&name, &salt) };
        Ok(Self {
            object: Object { vault, name, header, seal },
            encoder,
            written: WrittenBlocks { records: Vec::new(), offset: HEADER_LENGTH as u64 },
            sink,
        })
    }

    /// The name of the object.
    pub(crate) fn name(&self) -> &Key {
        &self.object.name
    }

    /// Bytes written so far.
    pub(crate) fn offset(&self) -> u64 {
        self.written.offset
    }

    /// Blocks written so far.
    pub(crate) fn block_count(&self) -> usize {
        self.written.records.len()
    }

    /// Appends a block and gives its number and its stored length in bytes.
    ///
    /// # Errors
    /// [`Error::Limit`] for a block or a count over the format's limits, [`Error::VerifyWrite`], or the sink's error.
    pub(crate) fn append(&mut self, kind: BlockKind, plain: &[u8]) -> Result<(u32, u32)> {
        let number = self.written.next_number();
        let encoder = self.encoder.borrow_mut();
        let record = encoder.encode_block(&self.object, number, kind, plain)?;
        self.sink.write(&encoder.stored)?;
        self.written.note(record);
        Ok((number, record.stored_length))
    }

    /// Appends blocks of one kind, which so many threads encode at once.
    ///
    /// # Errors
    /// As [`ContainerWriter::append`].
    pub(crate) fn append_all(&mut self, kind: BlockKind, blocks: &[&[u8]], workers: usize) -> Result<()> {
        let workers = workers.min(blocks.len());
        if workers <= 1 {
            return blocks.iter().try_for_each(|plain| self.append(kind, plain).map(drop));
        }
        let Self { object, encoder, written, sink } = self;
        let (object, encoder, first) = (&*object, (*encoder).borrow(), written.next_number());
        let (options, content) = (encoder.options, encoder.content);
        let next = AtomicUsize::new(0);
        thread::scope(|scope| {
            let (sender, encoded) = mpsc::sync_channel(workers);
            for _ in 0..workers {
                let (next, sender) = (&next, sender.clone());
                scope.spawn(move || {
                    let mut encoder = BlockEncoder::of(options, content);
                    let numbered = |index| Some((number_after(first, index), *blocks.get(index)?));
                    while let Some((number, plain)) = numbered(next.fetch_add(1, Ordering::Relaxed)) {
                        let record = encoder.encode_block(object, number, kind, plain);
                        let block = record.map(|record| (number, record, std::mem::take(&mut encoder.stored)));
                        // Nobody listens any more where another block has failed.
                        let Ok(()) = sender.send(block) else { return };
                    }
                });
            }
            drop(sender);
            write_in_order(written, sink, encoded)
        })
    }

    /// Writes the index and the trailer, and gives back the sink, which the caller makes durable, and the encoder.
    ///
    /// # Errors
    /// As [`ContainerWriter::append`].
    pub(crate) fn finish(mut self) -> Result<(S, Written, E)> {
        let WrittenBlocks { records, offset } = &self.written;
        let mut index = Vec::with_capacity(records.len() * RECORD_LENGTH);
        for record in records {
            record.encode(&mut index);
        }
        let encoder = self.encoder.borrow_mut();
        let index_codec = encoder.encode(&self.object, records.len() as u64, &index)?;
        self.sink.write(&encoder.stored)?;
        let index_stored_length = length_u32(encoder.stored.len());
        let length = offset + u64::from(index_stored_length) + TRAILER_LENGTH as u64;
        let trailer = Trailer {
            header: self.object.header.clone(),
            block_count: length_u32(records.len()),
            index_codec,
            index_offset: *offset,
            index_stored_length,
            index_plain_length: length_u32(index.len()),
            index_hash: self.object.hash(&index),
            object_length: length,
        }
        .encode();
        let root = root(self.object.vault, self.object.header.kind, &self.object.name, &trailer);
        self.sink.write(&trailer)?;
        self.sink.write(&root)?;
        Ok((self.sink, Written { length, root }, self.encoder))
    }
}

impl WrittenBlocks {
    fn next_number(&self) -> u32 {
        number_after(0, self.records.len())
    }

    /// Counts a block that was written.
    fn note(&mut self, record: Record) {
        self.offset += u64::from(record.stored_length);
        self.records.push(record);
    }
}

/// Writes encoded blocks in the order of their numbers, of which the next must be the next block's.
fn write_in_order(
    written: &mut WrittenBlocks,
    sink: &mut impl Sink,
    encoded: impl IntoIterator<Item = Result<(u32, Record, Vec<u8>)>>,
) -> Result<()> {
    let mut waiting = BTreeMap::new();
    for block in encoded {
        let (number, record, stored) = block?;
        waiting.insert(number, (record, stored));
        while let Some((record, stored)) = waiting.remove(&written.next_number()) {
            sink.write(&stored)?;
            written.note(record);
        }
    }
    Ok(())
}

impl Object<'_> {
    fn hash(&self, plain: &[u8]) -> Hash {
        hash(self.vault, self.header.kind, plain)
    }
}

/// Brings blocks into their stored form, one after the other. What it takes memory for is used again for each block, and
/// for each object if it is lent to the writers of several.
#[derive(Debug)]
pub struct BlockEncoder {
    options: WriteOptions,
    content: Content,
    encoder: Encoder,
    check: Option<Decoder>,
    /// The stored form of the last block.
    stored: Vec<u8>,
    decoded: Vec<u8>,
}

impl BlockEncoder {
    /// One that encodes blocks so.
    pub fn new(options: WriteOptions) -> Self {
        Self::of(options, Content::Any)
    }

    /// One that encodes the blocks of packs so.
    pub fn of_pages(options: WriteOptions) -> Self {
        Self::of(options, Content::Pages)
    }

    /// One that encodes the blocks of WAL objects so.
    pub fn of_wal(options: WriteOptions) -> Self {
        Self::of(options, Content::Wal)
    }

    fn of(options: WriteOptions, content: Content) -> Self {
        Self {
            options,
            content,
            encoder: Encoder::new(options.compression, content),
            check: options.verify.then(Decoder::default),
            stored: Vec::new(),
            decoded: Vec::new(),
        }
    }

    /// Leaves the stored form of a block in `stored`, and gives its record.
    fn encode_block(&mut self, object: &Object<'_>, number: u32, kind: BlockKind, plain: &[u8]) -> Result<Record> {
        if plain.len() > MAXIMUM_PLAIN_LENGTH || number >= MAXIMUM_BLOCKS {
            return Err(Error::Limit {
                what: format!("block {number} of '{}' is over the format's limits", object.name),
            });
        }
        let hash = object.hash(plain);
        let codec = self.encode(object, u64::from(number), plain)?;
        let stored_length = length_u32(self.stored.len());
        Ok(Record { stored_length, plain_length: length_u32(plain.len()), codec, kind, hash })
    }

    /// Leaves the stored form of `plain` in `stored`.
    fn encode(&mut self, object: &Object<'_>, number: u64, plain: &[u8]) -> Result<Codec> {
        let codec = self.encoder.encode(plain, &mut self.stored);
        if let Some(seal) = &object.seal {
            seal.seal(number, &mut self.stored);
        }
        if self.check.is_some() && !self.comes_back(object, number, codec, plain) {
            return Err(Error::VerifyWrite { object: object.name.to_string() });
        }
        Ok(codec)
    }

    fn comes_back(&mut self, object: &Object<'_>, number: u64, codec: Codec, plain: &[u8]) -> bool {
        let Some(decoder) = &mut self.check else { return true };
        let mut opened;
        let encoded = match &object.seal {
            None => &self.stored[..],
            Some(seal) => {
                opened = self.stored.clone();
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
        self.decoded.resize(plain.len(), 0);
        decoder.decode(codec, encoded, &mut self.decoded).is_ok() && self.decoded == plain
    }
}

/// The number `count` blocks after `first`; one past all limits where there is none.
fn number_after(first: u32, count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX).saturating_add(first)
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
