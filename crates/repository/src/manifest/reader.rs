//! Reading a manifest.

use std::collections::{BTreeMap, VecDeque};

use pgark_storage::Key;

use super::document::ManifestDocument;
use super::entry::{Content, Entry, EntryKind, MapLocation};
use super::pack_list::{PackList, PackUse};
use super::sidecar::SidecarEntry;
use crate::bytes::Reader;
use crate::container::{BlockKind, Container, ObjectKind};
use crate::document;
use crate::error::{Malformed, Result};
use crate::map::{PageMap, page_count};
use crate::names::{self, Label, PackId, StanzaName};
use crate::pack::Pack;
use crate::repository::Repository;

/// An open manifest: its document is read, its entries are read when asked for.
#[derive(Debug)]
pub struct Manifest<'repository> {
    repository: &'repository Repository,
    stanza: StanzaName,
    container: Container<'repository>,
    document: ManifestDocument,
}

impl<'repository> Manifest<'repository> {
    /// Opens the manifest of the backup `label`.
    ///
    /// # Errors
    /// Not found, damaged, or the storage's error.
    pub fn open(repository: &'repository Repository, stanza: &StanzaName, label: &Label) -> Result<Self> {
        let name = names::manifest(stanza, label)?;
        let container = Container::open(repository.storage(), repository.vault(), ObjectKind::Manifest, &name)?;
        let document: ManifestDocument = document::read_in(repository.storage(), &container)?;
        if document.label != *label {
            return Err(container.damaged(format!("it is the manifest of {}", document.label)));
        }
        Ok(Self { repository, stanza: stanza.clone(), container, document })
    }

    /// Opens the manifest that is the object `name`.
    ///
    /// # Errors
    /// As [`Manifest::open`].
    pub fn open_object(repository: &'repository Repository, name: &Key) -> Result<Self> {
        let (stanza, label) = names::parse_manifest(name)
            .ok_or_else(|| Malformed::new("it is a manifest under a name that no manifest has").in_object(name))?;
        Self::open(repository, &stanza, &label)
    }

    /// What it says of the backup as a whole.
    pub fn document(&self) -> &ManifestDocument {
        &self.document
    }

    /// Bytes of the manifest itself.
    pub fn length(&self) -> u64 {
        self.container.length()
    }

    /// The packs that the backup needs.
    ///
    /// # Errors
    /// Damage, or the storage's error.
    pub fn packs(&self) -> Result<BTreeMap<PackId, PackUse>> {
        // Made of all at once, since they are in order: much faster than one by one.
        Ok(self.pack_list()?.iter().collect())
    }

    /// The packs that the backup needs, to go through them once.
    ///
    /// # Errors
    /// Damage, or the storage's error.
    pub fn pack_list(&self) -> Result<PackList> {
        let bytes = self.block(self.container.only(BlockKind::PackList)?)?;
        PackList::decode(bytes).map_err(|error| self.damaged(error))
    }

    /// Bytes of the list that [`Manifest::pack_list`] reads: it grows with the cluster.
    ///
    /// # Errors
    /// Damage.
    pub fn pack_list_length(&self) -> Result<u32> {
        self.container.plain_length(self.container.only(BlockKind::PackList)?)
    }

    /// The entries, block by block: at most some thousands are in memory at once. Late files are not among them.
    pub fn entries(&self) -> impl Iterator<Item = Result<Vec<Entry>>> + '_ {
        self.container.blocks_of(BlockKind::Files).map(|block| self.decode_entries(block))
    }

    /// The entries of sidecars, block by block, likewise.
    pub fn sidecar_entries(&self) -> impl Iterator<Item = Result<Vec<SidecarEntry>>> + '_ {
        self.container.blocks_of(BlockKind::SidecarFiles).map(|block| self.decode_with(block, SidecarEntry::decode))
    }

    /// The entries of the files that a restore writes last, in that order.
    ///
    /// # Errors
    /// Damage, or the storage's error.
    pub fn late_entries(&self) -> Result<Vec<Entry>> {
        self.decode_entries(self.container.only(BlockKind::LateFiles)?)
    }

    /// Checks what nobody reads to restore the backup: that the object begins as it should, and that the file index says
    /// of each block of entries which path is the first in it, as `first_paths` does.
    ///
    /// # Errors
    /// Damage, or the storage's error.
    pub fn check_frame(&self, first_paths: &[Vec<u8>]) -> Result<()> {
        self.container.check_header(self.repository.storage())?;
        let index = self.block(self.container.only(BlockKind::FileIndex)?)?;
        let found = decode_index(&index).map_err(|error| self.damaged(error))?;
        let blocks = self.container.blocks_of(BlockKind::Files);
        if found.into_iter().eq(blocks.zip(first_paths.iter().map(Vec::as_slice))) {
            Ok(())
        } else {
            Err(self.container.damaged("its file index is not that of its entries"))
        }
    }

    /// The object's name.
    pub fn name(&self) -> &Key {
        self.container.name()
    }

    /// Reads page maps; it keeps the blocks that it read last, since neighbours in a manifest have their maps beside each
    /// other.
    pub fn maps<'manifest>(&'manifest self, packs: &'manifest BTreeMap<PackId, PackUse>) -> MapReader<'manifest> {
        MapReader { manifest: self, packs, blocks: VecDeque::new() }
    }

    fn decode_entries(&self, block: u32) -> Result<Vec<Entry>> {
        self.decode_with(block, Entry::decode)
    }

    fn decode_with<T>(&self, block: u32, decode: impl Fn(&mut Reader<'_>) -> Result<T, Malformed>) -> Result<Vec<T>> {
        let bytes = self.block(block)?;
        let mut reader = Reader::new(&bytes);
        let mut entries = Vec::new();
        while !reader.is_empty() {
            entries.push(decode(&mut reader).map_err(|error| self.damaged(error))?);
        }
        Ok(entries)
    }

    fn block(&self, number: u32) -> Result<Vec<u8>> {
        self.container.block(self.repository.storage(), number)
    }

    fn damaged(&self, error: Malformed) -> crate::Error {
        error.in_object(self.container.name())
    }
}

/// Reads the page maps of a manifest's files, wherever they lie.
#[derive(Debug)]
pub struct MapReader<'manifest> {
    manifest: &'manifest Manifest<'manifest>,
    packs: &'manifest BTreeMap<PackId, PackUse>,
    /// The blocks that were read last, the latest at the end: maps that were written by several backups lie in several
    /// packs, and are asked for in turns.
    blocks: VecDeque<(PackId, u32, Vec<u8>)>,
}

/// Bytes of blocks of maps that are kept in memory, besides the block that was read last.
const KEPT_BYTES: usize = 2 << 20;

impl MapReader<'_> {
    /// The page map of an entry; an empty one for what is no file.
    ///
    /// # Errors
    /// Damage, or the storage's error.
    pub fn map(&mut self, entry: &Entry) -> Result<PageMap> {
        match &entry.kind {
            EntryKind::File { content, size, .. } => self.map_of(content, *size),
            EntryKind::Directory => Ok(PageMap::default()),
        }
    }

    /// The page map of a file with this content, of so many bytes.
    ///
    /// # Errors
    /// Damage, or the storage's error.
    pub fn map_of(&mut self, content: &Content, size: u64) -> Result<PageMap> {
        match content {
            Content::None => Ok(PageMap::default()),
            Content::Map(map) => Ok(map.clone()),
            Content::At(location) => self.read(location, size),
        }
    }

    fn read(&mut self, location: &MapLocation, size: u64) -> Result<PageMap> {
        let damaged = |what: &str| self.manifest.damaged(Malformed::new(what));
        let pages = page_count(size).ok_or_else(|| damaged("a file is too large"))?;
        let is_kept = |(pack, block, _): &(PackId, u32, Vec<u8>)| (*pack, *block) == (location.pack, location.block);
        if !self.blocks.iter().any(is_kept) {
            let pack_use =
                self.packs.get(&location.pack).ok_or_else(|| damaged("a map in a pack that is not listed"))?;
            let root = Some(pack_use.root);
            let pack = Pack::open(self.manifest.repository, &self.manifest.stanza, location.pack, root)?;
            if pack.container().kind_of(location.block)? != BlockKind::Maps {
                return Err(damaged("a map in a block that has none"));
            }
            let bytes = pack.container().block(self.manifest.repository.storage(), location.block)?;
            while self.blocks.iter().map(|(_, _, kept)| kept.len()).sum::<usize>() > KEPT_BYTES {
                self.blocks.pop_front();
            }
            self.blocks.push_back((location.pack, location.block, bytes));
        }
        let bytes = self.blocks.iter().find(|block| is_kept(block)).map_or(&[][..], |(_, _, bytes)| bytes);
        let start = location.offset as usize;
        let map = bytes.get(start..start + location.length as usize).ok_or_else(|| damaged("a map past its block"))?;
        PageMap::decode(map, pages).map_err(|error| self.manifest.damaged(error))
    }
}

/// The blocks of file entries with the first path in each.
fn decode_index(bytes: &[u8]) -> Result<Vec<(u32, &[u8])>, Malformed> {
    let mut reader = Reader::new(bytes);
    let mut index = Vec::new();
    while !reader.is_empty() {
        index.push((reader.varint_u32()?, reader.counted()?));
    }
    Ok(index)
}
