//! WAL objects, and the history files beside them. Section 8 of `docs/format.md`.

use std::io::{self, Read};
use std::ops::ControlFlow;
use std::sync::OnceLock;
use std::thread;

use pgark_storage::{EntryKind, ErrorKind, Key, ObjectWriter, PutMode};
use serde::{Deserialize, Serialize};

use crate::codec::Compression;
use crate::container::{BlockEncoder, BlockKind, Container, ContainerWriter, ObjectKind, WriteOptions};
use crate::document::{read_in, to_json};
use crate::error::{Error, Result};
use crate::inventory;
use crate::names::{self, ArchiveId, StanzaName};
use crate::repository::{Repository, hexadecimal};
use crate::vault::{Hash, Vault};

/// Bytes of the segment in each block.
const DATA_BLOCK_BYTES: usize = 1 << 20;

/// Stored bytes that are fetched with one request: most segments are smaller when they are compressed.
const REQUEST_BYTES: usize = 8 << 20;

/// Of an object all of whose bytes are wanted, as many are fetched with its index: a block more, so that what is left of
/// 16 MiB that do not compress is one request.
const OPENING_BYTES: usize = REQUEST_BYTES + DATA_BLOCK_BYTES;

/// The document of a WAL object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WalDocument {
    /// PostgreSQL's major version.
    pub version: String,
    /// PostgreSQL's system identifier, in decimal.
    pub system_id: String,
    /// The timeline.
    pub timeline: u32,
    /// The file's name: a segment, or a `.partial` one.
    pub segment: String,
    /// Its length in bytes.
    pub size: u64,
    /// The hash of all its bytes, 64 hexadecimal digits; [`Archive::send_segment`] fills it in.
    pub hash: String,
}

/// What became of a file that was to be stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stored {
    /// It is in the archive now.
    New,
    /// It was there already, with the same content.
    Already,
}

/// The hash of a segment's bytes, as an archive knows it: that of another repository may have another one for them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContentHash(String);

/// The archive of one cluster of a stanza.
#[derive(Clone, Debug)]
pub struct Archive<'repository> {
    repository: &'repository Repository,
    stanza: StanzaName,
    id: ArchiveId,
}

impl<'repository> Archive<'repository> {
    /// The archive `id` of a stanza; nothing is read yet.
    pub fn new(repository: &'repository Repository, stanza: StanzaName, id: ArchiveId) -> Self {
        Self { repository, stanza, id }
    }

    /// The repository that it is in.
    pub fn repository(&self) -> &'repository Repository {
        self.repository
    }

    /// Which archive it is.
    pub fn id(&self) -> &ArchiveId {
        &self.id
    }

    /// Compresses a segment and hands it to the storage. It is in the archive when [`SentSegment::finish`] says so, and
    /// not before: that waits for the storage, and needs the segment's bytes no more.
    ///
    /// `analysis` gives what its records say, in the encoding that the `postgres` crate gives it; nothing if it could not
    /// be read. It is asked when the bytes are stored, so that they can be read by another thread meanwhile. `encoder`
    /// compresses, with so many `workers` at once.
    ///
    /// # Errors
    /// The storage's error.
    pub fn send_segment(
        &self,
        document: &WalDocument,
        bytes: &[u8],
        analysis: impl FnOnce() -> Vec<u8>,
        encoder: &mut BlockEncoder,
        workers: usize,
    ) -> Result<SentSegment<'repository>> {
        self.repository.check_writable()?;
        let name = names::wal_file(&self.stanza, &self.id, &document.segment)?;
        let segment = Segment { vault: self.repository.vault(), document, bytes, hash: OnceLock::new() };
        let written = thread::scope(|scope| {
            // Where several threads compress, another one hashes all of it meanwhile. Who needs the hash sooner waits.
            if workers > 1 {
                scope.spawn(|| segment.hash().len());
            }
            self.write_segment(&name, &segment, analysis, encoder, workers)
        });
        let sink = match written {
            Ok(sink) => Ok(sink),
            Err(Error::Storage(error)) if error.kind() == ErrorKind::AlreadyExists => Err(error),
            Err(error) => return Err(error),
        };
        Ok(SentSegment { archive: self.clone(), document: segment.document(), name, sink })
    }

    fn write_segment(
        &self,
        name: &Key,
        segment: &Segment<'_>,
        analysis: impl FnOnce() -> Vec<u8>,
        encoder: &mut BlockEncoder,
        workers: usize,
    ) -> Result<Box<dyn ObjectWriter>> {
        let sink = self.repository.storage().create(name)?;
        let vault = self.repository.vault();
        let mut writer = ContainerWriter::begin(vault, ObjectKind::Wal, 0, name.clone(), encoder, sink)?;
        let blocks: Vec<&[u8]> = segment.bytes.chunks(DATA_BLOCK_BYTES).collect();
        if workers > 1 {
            writer.append_all(BlockKind::WalData, &blocks, workers)?;
        } else {
            // What was just compressed is in the processor's cache still.
            let mut hasher = segment.vault.hasher();
            for block in blocks {
                writer.append(BlockKind::WalData, block)?;
                hasher.update(block);
            }
            segment.hash.get_or_init(|| *hasher.finalize().as_bytes());
        }
        writer.append(BlockKind::WalAnalysis, &analysis())?;
        writer.append(BlockKind::Document, &to_json(name, &segment.document())?)?;
        Ok(writer.finish()?.0)
    }

    /// What is stored under the name already, if anything. It counts only if all of it can be read and it is durable: a
    /// push that was killed may have left it, and PostgreSQL forgets the segment when it is told that it is archived.
    fn existing(&self, name: &Key, document: &WalDocument) -> Result<Option<Stored>> {
        let existing = match WalObject::open_whole(self.repository, name) {
            Ok(existing) => existing,
            Err(error) if error.is_not_found() => return Ok(None),
            Err(error) => return Err(error),
        };
        if existing.document != *document {
            return Err(Error::Conflict { object: name.to_string() });
        }
        existing.data().try_for_each(|data| data.map(drop))?;
        self.repository.storage().persist(name)?;
        Ok(Some(Stored::Already))
    }

    /// Opens an archived segment, or a `.partial` one.
    ///
    /// # Errors
    /// Not found, damaged, or the storage's error.
    pub fn segment(&self, segment: &str) -> Result<WalObject<'repository>> {
        WalObject::open(self.repository, &names::wal_file(&self.stanza, &self.id, segment)?)
    }

    /// Opens an archived segment all of whose bytes are wanted: most come with the one request that opens it.
    ///
    /// # Errors
    /// As [`Archive::segment`].
    pub fn whole_segment(&self, segment: &str) -> Result<WalObject<'repository>> {
        WalObject::open_whole(self.repository, &names::wal_file(&self.stanza, &self.id, segment)?)
    }

    /// Whether a file is in the archive.
    ///
    /// # Errors
    /// The storage's error; a file that is proven absent is none.
    pub fn contains(&self, file: &str) -> Result<bool> {
        Ok(self.repository.storage().head(&names::wal_file(&self.stanza, &self.id, file)?)?.is_some())
    }

    /// What the hash of these bytes is that the document of a segment has, if they are those of a whole segment.
    ///
    /// # Errors
    /// Where they can't be read.
    pub fn hash_content(&self, bytes: impl Read) -> io::Result<ContentHash> {
        let mut hasher = self.repository.vault().hasher();
        hasher.update_reader(bytes)?;
        Ok(ContentHash(hexadecimal(hasher.finalize().as_bytes())))
    }

    /// Puts a timeline history file or a backup history file into the archive. It is durable on return.
    ///
    /// # Errors
    /// [`Error::Conflict`] where the archive has other content under this name; or the storage's error.
    pub fn store_history(&self, file: &str, bytes: &[u8]) -> Result<Stored> {
        self.repository.check_writable()?;
        let name = names::wal_file(&self.stanza, &self.id, file)?;
        let options = WriteOptions { compression: Compression::None, verify: true };
        let mut writer =
            ContainerWriter::new(self.repository.vault(), ObjectKind::Auxiliary, name.clone(), options, Vec::new())?;
        writer.append(BlockKind::Content, bytes)?;
        let (object, ..) = writer.finish()?;
        match self.repository.storage().put(&name, &object, PutMode::Create) {
            Ok(()) => Ok(Stored::New),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                if self.history(file)? != bytes {
                    return Err(Error::Conflict { object: name.to_string() });
                }
                self.repository.storage().persist(&name)?;
                Ok(Stored::Already)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// The content of an archived history file.
    ///
    /// # Errors
    /// Not found, damaged, or the storage's error.
    pub fn history(&self, file: &str) -> Result<Vec<u8>> {
        let name = names::wal_file(&self.stanza, &self.id, file)?;
        let storage = self.repository.storage();
        let container = Container::open(storage, self.repository.vault(), ObjectKind::Auxiliary, &name)?;
        container.block(storage, container.only(BlockKind::Content)?)
    }

    /// Reads a whole history file and checks every byte of it.
    ///
    /// # Errors
    /// Not found, damaged, or the storage's error.
    pub fn check_history(&self, file: &str) -> Result<()> {
        inventory::check(self.repository, ObjectKind::Auxiliary, &names::wal_file(&self.stanza, &self.id, file)?)
    }

    /// The directories of the archive, ascending: the first 16 digits of the names of the segments in each.
    ///
    /// # Errors
    /// The storage's error.
    pub fn directories(&self) -> Result<Vec<String>> {
        let entries = self.repository.storage().list_directory(Some(&names::archive(&self.stanza, &self.id)?))?;
        let directories = entries.into_iter().filter(|entry| matches!(entry.kind, EntryKind::Directory));
        Ok(directories.map(|entry| entry.name).collect())
    }

    /// The history files of the archive's timelines, ascending.
    ///
    /// # Errors
    /// The storage's error.
    pub fn histories(&self) -> Result<Vec<String>> {
        let entries = self.repository.storage().list_directory(Some(&names::archive(&self.stanza, &self.id)?))?;
        let files = entries.into_iter().filter(|entry| matches!(entry.kind, EntryKind::Object(_)));
        Ok(files.map(|entry| entry.name).filter(|name| name.ends_with(".history")).collect())
    }

    /// Visits every file of the archive with its name, where it lies, and its size in the repository. Those of one
    /// directory come together, in the order of their names.
    ///
    /// # Errors
    /// The storage's error.
    pub fn list(&self, visit: &mut dyn FnMut(&Key, u64)) -> Result<()> {
        let all = names::archive(&self.stanza, &self.id)?;
        self.repository.storage().list(Some(&all), &mut |object| {
            visit(&object.key, object.size);
            ControlFlow::Continue(())
        })?;
        Ok(())
    }

    /// The name of the object that a file of the archive is.
    ///
    /// # Errors
    /// Where it is not the name of a WAL file.
    pub fn object_name(&self, file: &str) -> Result<Key> {
        names::wal_file(&self.stanza, &self.id, file)
    }

    /// The names of the files in a directory of the archive, ascending.
    ///
    /// # Errors
    /// The storage's error.
    pub fn files(&self, directory: &str) -> Result<Vec<String>> {
        let name = names::wal_directory(&self.stanza, &self.id, directory)?;
        let entries = self.repository.storage().list_directory(Some(&name))?;
        Ok(entries.into_iter().map(|entry| entry.name).collect())
    }
}

/// A segment on its way to the storage.
struct Segment<'segment> {
    vault: &'segment Vault,
    /// Without the hash.
    document: &'segment WalDocument,
    bytes: &'segment [u8],
    hash: OnceLock<Hash>,
}

impl Segment<'_> {
    /// The hash of all bytes.
    fn hash(&self) -> &Hash {
        self.hash.get_or_init(|| self.vault.hash(self.bytes))
    }

    fn document(&self) -> WalDocument {
        WalDocument { hash: hexadecimal(self.hash()), ..self.document.clone() }
    }
}

/// A segment that the storage was handed.
#[derive(Debug)]
pub struct SentSegment<'repository> {
    archive: Archive<'repository>,
    name: Key,
    document: WalDocument,
    /// What makes it appear, or how the storage said that the name is taken.
    sink: std::result::Result<Box<dyn ObjectWriter>, pgark_storage::Error>,
}

impl SentSegment<'_> {
    /// Waits until the segment is in the archive: it is durable on return.
    ///
    /// # Errors
    /// [`Error::Conflict`] where the archive has other content under this name; or the storage's error.
    pub fn finish(self) -> Result<Stored> {
        // Creating finds out by itself whether the segment is there already, which is rare.
        match self.sink.and_then(ObjectWriter::finish) {
            Ok(()) => Ok(Stored::New),
            // Another process was quicker, or our own first attempt took effect though it seemed to fail.
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                self.archive.existing(&self.name, &self.document)?.ok_or_else(|| error.into())
            }
            Err(error) => Err(error.into()),
        }
    }
}

/// An archived segment.
#[derive(Debug)]
pub struct WalObject<'repository> {
    repository: &'repository Repository,
    container: Container<'repository>,
    document: WalDocument,
}

impl<'repository> WalObject<'repository> {
    /// Opens the WAL object `name`.
    ///
    /// # Errors
    /// Not found, damaged, or the storage's error.
    pub fn open(repository: &'repository Repository, name: &Key) -> Result<Self> {
        Self::of(repository, Container::open(repository.storage(), repository.vault(), ObjectKind::Wal, name)?)
    }

    /// Opens the WAL object `name`, all of whose bytes are wanted.
    ///
    /// # Errors
    /// As [`WalObject::open`].
    pub fn open_whole(repository: &'repository Repository, name: &Key) -> Result<Self> {
        let (storage, vault) = (repository.storage(), repository.vault());
        Self::of(repository, Container::open_with(storage, vault, ObjectKind::Wal, name, OPENING_BYTES)?)
    }

    fn of(repository: &'repository Repository, container: Container<'repository>) -> Result<Self> {
        let storage = repository.storage();
        let document: WalDocument = read_in(storage, &container)?;
        let plain: Result<Vec<u64>> =
            container.blocks_of(BlockKind::WalData).map(|block| container.plain_length(block).map(u64::from)).collect();
        if plain?.iter().sum::<u64>() != document.size {
            return Err(container.damaged("its data blocks are not as long as its document says"));
        }
        Ok(Self { repository, container, document })
    }

    /// What it says of itself.
    pub fn document(&self) -> &WalDocument {
        &self.document
    }

    /// Whether the segment's bytes are those that [`Archive::hash_content`] has read.
    pub fn has_content(&self, hash: &ContentHash) -> bool {
        self.document.hash == hash.0
    }

    /// Bytes of the object in the repository.
    pub fn length(&self) -> u64 {
        self.container.length()
    }

    /// The segment's bytes, in blocks of 1 MiB, each checked.
    pub fn data(&self) -> impl Iterator<Item = Result<Vec<u8>>> + '_ {
        let blocks: Vec<u32> = self.container.blocks_of(BlockKind::WalData).collect();
        self.container.blocks(self.repository.storage(), blocks, REQUEST_BYTES as u64)
    }

    /// Reads the whole object and checks every byte of it; gives what [`WalObject::analysis`] gives, or nothing where
    /// `go_on`, which is asked before each block, says no.
    ///
    /// # Errors
    /// Damage, or the storage's error.
    pub fn check(&self, go_on: &dyn Fn() -> bool) -> Result<Option<Vec<u8>>> {
        let mut hasher = self.repository.vault().hasher();
        let mut analysis = None;
        let mut flaw = Ok(());
        let swept = self.container.sweep(self.repository.storage(), &mut |number, block| {
            match block.and_then(|plain| Ok((self.container.kind_of(number)?, plain))) {
                Ok((BlockKind::WalData, plain)) => {
                    hasher.update(plain);
                }
                Ok((BlockKind::WalAnalysis, plain)) => analysis = Some(plain.to_vec()),
                Ok(_) => {}
                Err(error) => flaw = Err(error),
            }
            if flaw.is_ok() && go_on() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
        flaw?;
        if swept.is_break() {
            return Ok(None);
        }
        self.container.only(BlockKind::WalAnalysis)?;
        if hexadecimal(hasher.finalize().as_bytes()) != self.document.hash {
            return Err(self.container.damaged("the hash of the segment is another than its document says"));
        }
        Ok(analysis)
    }

    /// What the segment's records say, as it was stored; empty if the segment could not be read then.
    ///
    /// # Errors
    /// Damage, or the storage's error.
    pub fn analysis(&self) -> Result<Vec<u8>> {
        self.container.block(self.repository.storage(), self.container.only(BlockKind::WalAnalysis)?)
    }
}
