//! Reading a container: its end first, then the blocks that are wanted.

use std::ops::Range;

use pgark_storage::{Key, Storage, Tail};

use super::layout::{
    BlockKind, HEADER_LENGTH, Header, HeaderError, ObjectKind, RECORD_LENGTH, Record, TRAILER_LENGTH, Trailer,
};
use super::writer::{hash, root};
use crate::bytes::Reader;
use crate::codec::Decoder;
use crate::error::{Error, Malformed, Result};
use crate::vault::{Hash, RepositoryId, Seal, Vault};

/// How much of an object's end is asked for first. Small objects come whole, and of most others the index and tables.
const TAIL_LENGTH: usize = 64 << 10;

/// An open container: its index is read and checked, its blocks are fetched when asked for.
#[derive(Debug)]
pub struct Container<'vault> {
    vault: &'vault Vault,
    name: Key,
    kind: ObjectKind,
    seal: Option<Seal>,
    records: Vec<Record>,
    /// Where each block begins, and one more: where the last one ends.
    offsets: Vec<u64>,
    length: u64,
    root: Hash,
    /// The end of the object, as far as it was fetched with the trailer.
    tail: Vec<u8>,
}

impl<'vault> Container<'vault> {
    /// Opens the object `name`, which must be a `kind`.
    ///
    /// # Errors
    /// Not found, damaged, of an unknown format, of another repository; or the storage's error.
    pub fn open(storage: &dyn Storage, vault: &'vault Vault, kind: ObjectKind, name: &Key) -> Result<Self> {
        Self::with_tail(storage, vault, kind, name, Self::fetch_tail(storage, name)?)
    }

    /// Opens the object `name`, of which more is wanted than its tables: so much of its end is fetched with them.
    ///
    /// # Errors
    /// As [`Container::open`].
    pub(crate) fn open_with(
        storage: &dyn Storage,
        vault: &'vault Vault,
        kind: ObjectKind,
        name: &Key,
        bytes: usize,
    ) -> Result<Self> {
        Self::with_tail(storage, vault, kind, name, storage.get_tail(name, bytes)?)
    }

    /// The end of an object, with which it is opened.
    pub(crate) fn fetch_tail(storage: &dyn Storage, name: &Key) -> Result<Tail> {
        Ok(storage.get_tail(name, TAIL_LENGTH)?)
    }

    /// Opens the object `name`, whose end the caller has fetched.
    ///
    /// # Errors
    /// As [`Container::open`].
    pub(crate) fn with_tail(
        storage: &dyn Storage,
        vault: &'vault Vault,
        kind: ObjectKind,
        name: &Key,
        tail: Tail,
    ) -> Result<Self> {
        let trailer = read_trailer(vault, kind, name, &tail)?;
        let root = tail.bytes[tail.bytes.len() - 32..].try_into().unwrap_or_default();
        let seal = if kind.is_always_plain() { None } else { vault.seal_for(name, &trailer.header.salt) };
        let mut container = Self {
            vault,
            name: name.clone(),
            kind,
            seal,
            records: Vec::new(),
            offsets: vec![HEADER_LENGTH as u64],
            length: tail.size,
            root,
            tail: tail.bytes,
        };
        let index_end = trailer.index_offset + u64::from(trailer.index_stored_length);
        let index = container.fetch(storage, trailer.index_offset..index_end)?;
        container.read_index(&trailer, index).map_err(|error| error.in_object(name))?;
        Ok(container)
    }

    /// Bytes of the whole object.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// The hash that vouches for the whole object.
    pub fn root(&self) -> Hash {
        self.root
    }

    /// The object's name.
    pub fn name(&self) -> &Key {
        &self.name
    }

    /// How many blocks there are.
    pub fn block_count(&self) -> u32 {
        u32::try_from(self.records.len()).unwrap_or(u32::MAX)
    }

    /// The numbers of the blocks of one kind, ascending.
    pub fn blocks_of(&self, kind: BlockKind) -> impl Iterator<Item = u32> + '_ {
        (0..).zip(&self.records).filter(move |(_, record)| record.kind == kind).map(|(number, _)| number)
    }

    /// The one block of a kind that occurs once.
    ///
    /// # Errors
    /// [`Error::Damaged`] where there is none or more than one.
    pub fn only(&self, kind: BlockKind) -> Result<u32> {
        let mut blocks = self.blocks_of(kind);
        match (blocks.next(), blocks.next()) {
            (Some(number), None) => Ok(number),
            _ => Err(self.damaged(format!("it does not have exactly one block of kind {}", kind.number()))),
        }
    }

    /// Bytes of block `number` before they were encoded.
    ///
    /// # Errors
    /// [`Error::Damaged`] where there is no such block.
    pub fn plain_length(&self, number: u32) -> Result<u32> {
        Ok(self.record(number)?.plain_length)
    }

    /// Where block `number` lies in the object.
    ///
    /// # Errors
    /// [`Error::Damaged`] where there is no such block.
    pub fn range(&self, number: u32) -> Result<Range<u64>> {
        self.record(number)?;
        let index = number as usize;
        Ok(self.offsets[index]..self.offsets[index + 1])
    }

    /// The kind of block `number`.
    ///
    /// # Errors
    /// [`Error::Damaged`] where there is no such block.
    pub fn kind_of(&self, number: u32) -> Result<BlockKind> {
        Ok(self.record(number)?.kind)
    }

    /// Fetches, decodes and checks block `number`.
    ///
    /// # Errors
    /// [`Error::Damaged`], or the storage's error.
    pub fn block(&self, storage: &dyn Storage, number: u32) -> Result<Vec<u8>> {
        let mut stored = self.fetch(storage, self.range(number)?)?;
        let mut plain = Vec::new();
        self.decode(number, &mut stored, &mut Decoder::default(), &mut plain)?;
        Ok(plain)
    }

    /// Fetches, decodes and checks blocks, ascending, those that lie side by side with one request of at most
    /// `request_bytes` (a single block may be longer).
    pub(crate) fn blocks<'read>(
        &'read self,
        storage: &'read dyn Storage,
        numbers: Vec<u32>,
        request_bytes: u64,
    ) -> impl Iterator<Item = Result<Vec<u8>>> + 'read {
        let mut fetched = Fetched::default();
        let mut decoder = Decoder::default();
        (0..numbers.len()).map(move |index| {
            let range = self.range(numbers[index])?;
            if !fetched.holds(&range) {
                fetched = self.fetch_ahead(storage, &numbers[index..], request_bytes)?;
            }
            let mut plain = Vec::new();
            self.decode(numbers[index], fetched.part(&range), &mut decoder, &mut plain)?;
            Ok(plain)
        })
    }

    /// Fetches the first of these blocks, and with it those that follow it side by side.
    fn fetch_ahead(&self, storage: &dyn Storage, numbers: &[u32], request_bytes: u64) -> Result<Fetched> {
        let mut whole: Option<Range<u64>> = None;
        for number in numbers {
            let next = self.range(*number)?;
            whole = match whole {
                None => Some(next),
                // What is at hand already is not fetched with what is not.
                Some(ref whole) if self.is_at_hand(&next) != self.is_at_hand(whole) => break,
                Some(whole) if next.start == whole.end && next.end - whole.start <= request_bytes => {
                    Some(whole.start..next.end)
                }
                Some(_) => break,
            };
        }
        let range = whole.unwrap_or_default();
        Ok(Fetched { offset: range.start, bytes: self.fetch(storage, range)? })
    }

    /// Decodes and checks block `number`, whose stored bytes the caller has fetched. They are decrypted in place.
    ///
    /// # Errors
    /// [`Error::Damaged`].
    pub fn decode(&self, number: u32, stored: &mut [u8], decoder: &mut Decoder, plain: &mut Vec<u8>) -> Result<()> {
        plain.resize(self.plain_length(number)? as usize, 0);
        self.decode_to(number, stored, decoder, plain)
    }

    /// The same to where the bytes are wanted: as many as [`Container::plain_length`] says.
    ///
    /// # Errors
    /// [`Error::Damaged`].
    pub fn decode_to(&self, number: u32, stored: &mut [u8], decoder: &mut Decoder, plain: &mut [u8]) -> Result<()> {
        let record = self.record(number)?;
        self.decode_record(u64::from(number), record, stored, decoder, plain)
            .map_err(|error| Malformed::new(format!("block {number}: {error}")).in_object(&self.name))
    }

    /// Checks that the object begins as its end says it does; whoever reads blocks only never sees these bytes.
    ///
    /// # Errors
    /// [`Error::Damaged`], or the storage's error.
    pub fn check_header(&self, storage: &dyn Storage) -> Result<()> {
        self.compare_header(&self.fetch(storage, 0..HEADER_LENGTH as u64)?)
    }

    /// Checks that these first bytes of the object are those that its end has, too.
    pub(super) fn compare_header(&self, header: &[u8]) -> Result<()> {
        let copy_at = self.tail.len() - TRAILER_LENGTH;
        if *header == self.tail[copy_at..copy_at + HEADER_LENGTH] {
            Ok(())
        } else {
            Err(self.damaged("its header and its trailer do not agree"))
        }
    }

    /// Bytes of block `number` in the object.
    pub(super) fn stored_length(&self, number: u32) -> Result<usize> {
        Ok(self.record(number)?.stored_length as usize)
    }

    /// The error that this object is damaged.
    pub(crate) fn damaged(&self, what: impl Into<String>) -> Error {
        Malformed::new(what).in_object(&self.name)
    }

    fn record(&self, number: u32) -> Result<&Record> {
        self.records.get(number as usize).ok_or_else(|| self.damaged(format!("it has no block {number}")))
    }

    /// Bytes of the object: from what is at hand already, else from the storage. The range lies in the object.
    pub(super) fn fetch(&self, storage: &dyn Storage, range: Range<u64>) -> Result<Vec<u8>> {
        let length = usize::try_from(range.end - range.start).map_err(|_| self.damaged("a range is too long"))?;
        if self.is_at_hand(&range) {
            let start = self.tail.len() - usize::try_from(self.length - range.start).unwrap_or(usize::MAX);
            return Ok(self.tail[start..start + length].to_vec());
        }
        Ok(storage.get_range(&self.name, range.start, length)?)
    }

    /// Whether a range was fetched with the object's end.
    fn is_at_hand(&self, range: &Range<u64>) -> bool {
        range.start >= self.length - self.tail.len() as u64
    }

    fn read_index(&mut self, trailer: &Trailer, mut stored: Vec<u8>) -> Result<(), Malformed> {
        let record = Record {
            stored_length: trailer.index_stored_length,
            plain_length: trailer.index_plain_length,
            codec: trailer.index_codec,
            kind: BlockKind::Document,
            hash: trailer.index_hash,
        };
        let mut index = vec![0; record.plain_length as usize];
        let number = u64::from(trailer.block_count);
        self.decode_record(number, &record, &mut stored, &mut Decoder::default(), &mut index)?;
        let mut reader = Reader::new(&index);
        self.records.reserve_exact(index.len() / RECORD_LENGTH);
        self.offsets.reserve_exact(index.len() / RECORD_LENGTH);
        let mut offset = HEADER_LENGTH as u64;
        while !reader.is_empty() {
            let record = Record::decode(&mut reader)?;
            offset += u64::from(record.stored_length);
            self.records.push(record);
            self.offsets.push(offset);
        }
        if offset == trailer.index_offset { Ok(()) } else { Err(Malformed::new("its blocks do not reach its index")) }
    }

    fn decode_record(
        &self,
        number: u64,
        record: &Record,
        stored: &mut [u8],
        decoder: &mut Decoder,
        plain: &mut [u8],
    ) -> Result<(), Malformed> {
        if stored.len() != record.stored_length as usize {
            return Err(Malformed::new("another length than the index says"));
        }
        let encoded = match &self.seal {
            None => &*stored,
            Some(seal) => seal.open(number, stored)?,
        };
        decoder.decode(record.codec, encoded, plain)?;
        if hash(self.vault, self.kind, plain) == record.hash {
            Ok(())
        } else {
            Err(Malformed::new("its hash is another than the index says"))
        }
    }
}

/// The repository that an object says it belongs to. Opening the object with a vault of this repository proves that it
/// says so itself.
pub(crate) fn owner(name: &Key, tail: &Tail) -> Result<RepositoryId> {
    let (_, trailer) = decode_trailer(name, tail)?;
    Ok(trailer.header.repository)
}

/// Stored bytes of several blocks.
#[derive(Debug, Default)]
struct Fetched {
    offset: u64,
    bytes: Vec<u8>,
}

impl Fetched {
    fn holds(&self, range: &Range<u64>) -> bool {
        self.offset <= range.start && range.end <= self.offset + self.bytes.len() as u64
    }

    /// The bytes of a range that it holds.
    fn part(&mut self, range: &Range<u64>) -> &mut [u8] {
        let place = |offset: u64| usize::try_from(offset - self.offset).expect("what is held fits into memory");
        let (start, end) = (place(range.start), place(range.end));
        &mut self.bytes[start..end]
    }
}

fn read_trailer(vault: &Vault, kind: ObjectKind, name: &Key, tail: &Tail) -> Result<Trailer> {
    let (bytes, trailer) = decode_trailer(name, tail)?;
    check_identity(vault, kind, name, &trailer.header)?;
    if root(vault, kind, name, &bytes[..Trailer::VOUCHED_LENGTH]) != bytes[Trailer::VOUCHED_LENGTH..] {
        let what = "its root does not vouch for it: it was changed, or it is not the object of this name";
        return Err(Malformed::new(what).in_object(name));
    }
    Ok(trailer)
}

fn decode_trailer<'tail>(name: &Key, tail: &'tail Tail) -> Result<(&'tail [u8; TRAILER_LENGTH], Trailer)> {
    let bytes: &[u8; TRAILER_LENGTH] = tail
        .bytes
        .last_chunk()
        .ok_or_else(|| Malformed::new("it is shorter than any object of pgark").in_object(name))?;
    let trailer = Trailer::decode(bytes, tail.size).map_err(|error| match error {
        HeaderError::Malformed(error) => error.in_object(name),
        HeaderError::Unsupported(what) => Error::Unsupported { object: name.to_string(), what },
    })?;
    Ok((bytes, trailer))
}

fn check_identity(vault: &Vault, kind: ObjectKind, name: &Key, header: &Header) -> Result<()> {
    let cipher = if kind.is_always_plain() { crate::error::Cipher::None } else { vault.cipher() };
    let what = if header.kind != kind {
        format!("it is a {:?}, not a {kind:?}", header.kind)
    } else if header.repository != vault.repository() {
        "it belongs to another repository".to_owned()
    } else if header.cipher != cipher {
        "it is not encrypted as the repository is".to_owned()
    } else {
        return Ok(());
    };
    Err(Malformed::new(what).in_object(name))
}
