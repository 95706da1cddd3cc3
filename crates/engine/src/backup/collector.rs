//! Putting what the workers found into the manifest, in the order of the files.

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use pgark_postgres::data_directory::Entry as FoundEntry;
use pgark_postgres::relation::RelationFile;
use pgark_repository::PackId;
use pgark_repository::manifest::{
    Attributes, Content, DamagedFile, Entry, EntryKind, Manifest, ManifestWriter, MapLocation, PackUse, PageRange,
    Totals, Unexplained,
};
use pgark_repository::map::PageMap;
use pgark_repository::pack::PackWriter;

use super::audit::Findings;
use super::entries::{PackCounts, counts, counts_of};
use super::hand_out::{Member, OldContent};
use super::owners::Names;
use super::packs::Packs;
use super::sidecar::Sums;
use super::stock::Stock;
use super::taker::TaskRead;
use super::uses::Uses;
use crate::error::{Error, ErrorKind, Result};

/// The longest page map that stands in the manifest itself, in bytes; longer ones are put together in packs.
const INLINE_MAP_BYTES: usize = 96;

/// Bytes of page maps that are stored as one block.
const MAPS_BLOCK_BYTES: usize = 64 << 10;

/// Bytes of page maps that wait for each other, at most, to be compressed at once.
const WAITING_BYTES: usize = 4 << 20;

/// Page maps that were put together, and the pack that they come into.
#[derive(Debug)]
struct MapBlocks<'repository> {
    pack: PackWriter<'repository>,
    blocks: Vec<Vec<u8>>,
}

/// Collects the parts of a backup's manifest.
#[derive(Debug)]
pub(super) struct Collector<'backup, 'repository> {
    packs: &'backup Packs<'repository>,
    stock: &'backup Stock<'backup>,
    manifest: ManifestWriter<'backup>,
    maps: Option<MapBlocks<'repository>>,
    /// How many threads compress maps.
    workers: usize,
    /// How many maps are in each pack that this backup writes.
    maps_in: BTreeMap<PackId, u32>,
    uses: Uses,
    users: Names,
    groups: Names,
    damaged_files: Vec<DamagedFile>,
    unexplained: Findings,
    totals: Totals,
    sidecars: Sums,
}

/// All that is known of a backup once its files are read.
#[derive(Debug)]
pub(super) struct Collected<'backup> {
    pub(super) manifest: ManifestWriter<'backup>,
    pub(super) packs: BTreeMap<PackId, PackUse>,
    pub(super) users: Vec<String>,
    pub(super) groups: Vec<String>,
    pub(super) damaged_files: Vec<DamagedFile>,
    pub(super) unexplained: Option<Unexplained>,
    pub(super) totals: Totals,
    /// What there is of each sidecar.
    pub(super) sidecars: Sums,
}

/// What the tasks of one file have given, put together.
#[derive(Debug)]
pub(super) struct FileRead {
    size: u64,
    bytes: u64,
    map: PageMap,
    is_changed: bool,
    damaged: Vec<PageRange>,
    unexplained: Vec<PageRange>,
    has_ended: bool,
}

impl FileRead {
    /// Of a file of this size. `map` is where its first pages lie.
    pub(super) fn new(size: u64, map: PageMap) -> Self {
        let (damaged, unexplained) = (Vec::new(), Vec::new());
        Self { size, bytes: 0, map, is_changed: false, damaged, unexplained, has_ended: false }
    }

    /// Its size.
    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// Bytes that were read.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Where its pages lie.
    pub(super) fn map(&self) -> &PageMap {
        &self.map
    }

    /// The pages that did not match their checksums.
    pub(super) fn damaged(&self) -> &[PageRange] {
        &self.damaged
    }

    /// Whether it is what the reference has of it.
    pub(super) fn is_as(&self, old: &OldContent) -> bool {
        !self.is_changed && old.size == self.size
    }

    /// Whether the file was shorter than the walk had found it.
    pub(super) fn has_shrunk(&self) -> bool {
        self.has_ended
    }

    /// Appends what the next task has given.
    pub(super) fn append(&mut self, task: TaskRead) {
        self.bytes += task.bytes;
        if self.has_ended {
            return;
        }
        if self.map.is_empty() {
            self.map = task.map;
        } else {
            self.map.append(&task.map);
        }
        self.is_changed |= task.is_changed;
        append_ranges(&mut self.damaged, &task.damaged);
        append_ranges(&mut self.unexplained, &task.unexplained);
        if let Some(end) = task.end {
            self.size = end;
            self.has_ended = true;
        }
    }
}

fn append_ranges(ranges: &mut Vec<PageRange>, others: &[PageRange]) {
    for range in others {
        match ranges.last_mut() {
            Some(last) if last.first + last.count == range.first => last.count += range.count,
            _ => ranges.push(*range),
        }
    }
}

impl<'backup, 'repository> Collector<'backup, 'repository> {
    pub(super) fn new(
        packs: &'backup Packs<'repository>,
        stock: &'backup Stock<'backup>,
        manifest: ManifestWriter<'backup>,
        workers: usize,
    ) -> Self {
        Self {
            packs,
            stock,
            manifest,
            maps: None,
            workers,
            maps_in: BTreeMap::new(),
            uses: Uses::of(&stock.packs),
            users: Names::users(),
            groups: Names::groups(),
            damaged_files: Vec::new(),
            unexplained: Findings::default(),
            totals: Totals::default(),
            sidecars: Sums::default(),
        }
    }

    /// Adds what has no content: a directory, or a link of a sidecar.
    pub(super) fn add_bare(&mut self, found: &Member) -> Result<()> {
        self.add(found, EntryKind::Directory)
    }

    /// Adds a file that is as it was in the reference.
    pub(super) fn keep_file(&mut self, found: &Member, old: OldContent) -> Result<()> {
        let page_checksums = match found {
            Member::Cluster(found) => RelationFile::parse(&found.path).is_some(),
            Member::Sidecar(_) => false,
        };
        let kind = EntryKind::File { size: old.size, page_checksums, content: old.content, damaged: old.damaged };
        self.add(found, kind)
    }

    /// Notes that a file is gone: what is said to be the same is left out, too.
    pub(super) fn pass_over(&mut self, found: &Member) {
        if let Member::Sidecar(found) = found {
            self.sidecars.pass_over(found);
        }
    }

    fn add(&mut self, found: &Member, kind: EntryKind) -> Result<()> {
        match found {
            Member::Cluster(found) => {
                if let EntryKind::File { size, damaged, .. } = &kind {
                    self.count_file(&found.path, *size, damaged);
                }
                let entry = self.entry(found, kind);
                Ok(self.manifest.add(&entry)?)
            }
            Member::Sidecar(found) => {
                let attributes = Attributes {
                    mode: found.look.permissions(),
                    user: self.users.position(found.look.owner().0),
                    group: self.groups.position(found.look.owner().1),
                    modified: found.look.modified().0,
                };
                match self.sidecars.entry(found, attributes, kind) {
                    Some(entry) => Ok(self.manifest.add_sidecar(&entry)?),
                    None => Ok(()),
                }
            }
        }
    }

    /// Adds a file that was read. `old` is what the reference has of it.
    pub(super) fn add_file(
        &mut self,
        found: &Member,
        read: FileRead,
        page_checksums: bool,
        old: Option<OldContent>,
    ) -> Result<()> {
        self.totals.read += read.bytes;
        if let Member::Cluster(found) = found {
            self.unexplained.add(&found.path.to_string_lossy(), &read.unexplained);
        }
        let content = match old {
            Some(old) if read.is_as(&old) && !self.stock.must_move(&old.content) => old.content,
            old => {
                let (content, counts) = self.content(read.size, read.map)?;
                self.uses.replace(&old.map_or_else(Vec::new, |old| old.counts), &counts);
                content
            }
        };
        self.add(found, EntryKind::File { size: read.size, page_checksums, content, damaged: read.damaged })
    }

    /// Adds a file that a restore writes last, with its size and map. It has the attributes of `like`.
    pub(super) fn add_late(&mut self, name: &str, like: &FoundEntry, size: u64, map: PageMap) -> Result<()> {
        self.totals.read += size;
        self.count_file(Path::new(name), size, &[]);
        let (content, counts) = self.content(size, map)?;
        self.uses.add(&counts);
        let kind = EntryKind::File { size, page_checksums: false, content, damaged: Vec::new() };
        let entry = Entry { path: name.as_bytes().to_vec(), link: None, ..self.entry(like, kind) };
        self.manifest.add_late(&entry);
        Ok(())
    }

    /// Counts what the reference used of packs and this backup does not.
    pub(super) fn release(&mut self, counts: &PackCounts) {
        self.uses.release(counts);
    }

    /// Counts that the files which a restore writes last are stored anew in every backup.
    pub(super) fn release_late(&mut self, manifest: &Manifest<'_>, packs: &BTreeMap<PackId, PackUse>) -> Result<()> {
        let mut maps = manifest.maps(packs);
        for entry in manifest.late_entries()? {
            self.release(&counts_of(&mut maps, &entry));
        }
        Ok(())
    }

    /// Makes the page maps durable; the packs of the workers are already.
    pub(super) fn finish(mut self) -> Result<Collected<'backup>> {
        if let Some(maps) = self.maps.take()
            && let Some(maps) = self.write_maps(maps)?
        {
            let _encoder = self.packs.finish(maps.pack)?;
        }
        let written = self.packs.written();
        self.totals.added = written.values().map(|pack| pack.written.length).sum();
        let own = |id: PackId| {
            let pack = written.get(&id)?;
            let (length, root) = (pack.written.length, pack.written.root);
            let references = pack.pages + self.maps_in.get(&id).copied().unwrap_or(0);
            Some(PackUse { length, used: length, references, root })
        };
        let Stock { packs, adoption, unusable, .. } = self.stock;
        let known = |id: PackId| own(id).or_else(|| packs.get(&id).copied()).or_else(|| adoption.pack(id));
        let packs = self.uses.into_packs(unusable, known)?;
        let taken_over = packs.iter().filter(|(id, _)| adoption.pack(**id).is_some());
        self.totals.added += taken_over.map(|(_, pack)| pack.length).sum::<u64>();
        self.totals.stored = packs.values().map(|pack| pack.used).sum();
        Ok(Collected {
            packs,
            manifest: self.manifest,
            users: self.users.into_names(),
            groups: self.groups.into_names(),
            damaged_files: self.damaged_files,
            unexplained: self.unexplained.into_unexplained(),
            totals: self.totals,
            sidecars: self.sidecars,
        })
    }

    fn entry(&mut self, found: &FoundEntry, kind: EntryKind) -> Entry {
        Entry {
            path: found.path.as_os_str().as_bytes().to_vec(),
            link: found.link.as_ref().map(|target| target.as_os_str().as_bytes().to_vec()),
            attributes: Attributes {
                mode: found.mode,
                user: self.users.position(found.user),
                group: self.groups.position(found.group),
                modified: found.modified.as_second(),
            },
            kind,
        }
    }

    fn count_file(&mut self, path: &Path, size: u64, damaged: &[PageRange]) {
        self.totals.files += 1;
        self.totals.size += size;
        if !damaged.is_empty() {
            let path = path.to_string_lossy().into_owned();
            self.damaged_files.push(DamagedFile { path, pages: damaged.to_vec() });
        }
    }

    /// Finds a place for the map of a file, and counts what the file uses.
    fn content(&mut self, size: u64, map: PageMap) -> Result<(Content, PackCounts)> {
        if size == 0 {
            return Ok((Content::None, Vec::new()));
        }
        let encoded = map.encode();
        if encoded.len() <= INLINE_MAP_BYTES {
            let counts = counts(&Content::None, &map);
            return Ok((Content::Map(map), counts));
        }
        let content = Content::At(self.store_map(&encoded)?);
        let counts = counts(&content, &map);
        Ok((content, counts))
    }

    fn store_map(&mut self, encoded: &[u8]) -> Result<MapLocation> {
        let mut maps = match self.maps.take() {
            Some(maps) => maps,
            None => MapBlocks { pack: self.packs.begin()?, blocks: Vec::new() },
        };
        let (pack, next) = (maps.pack.id(), maps.pack.next_block());
        let (number, block) = maps.open_block();
        let location = MapLocation {
            pack,
            block: next.saturating_add(length_u32(number)?),
            offset: length_u32(block.len())?,
            length: length_u32(encoded.len())?,
        };
        block.extend_from_slice(encoded);
        *self.maps_in.entry(location.pack).or_default() += 1;
        self.maps = if maps.is_full(self.workers) { self.write_maps(maps)? } else { Some(maps) };
        Ok(location)
    }

    /// Writes the blocks of maps that were put together; gives back the pack if it takes more of them.
    fn write_maps(&mut self, mut maps: MapBlocks<'repository>) -> Result<Option<MapBlocks<'repository>>> {
        let blocks: Vec<&[u8]> = maps.blocks.iter().map(Vec::as_slice).collect();
        maps.pack.append_maps(&blocks, self.workers)?;
        maps.blocks.clear();
        if maps.pack.is_full() {
            let _encoder = self.packs.finish(maps.pack)?;
            return Ok(None);
        }
        Ok(Some(maps))
    }
}

impl MapBlocks<'_> {
    /// The block that the next map comes into, and its place among those that are put together.
    fn open_block(&mut self) -> (usize, &mut Vec<u8>) {
        if self.blocks.last().is_none_or(|block| block.len() >= MAPS_BLOCK_BYTES) {
            self.blocks.push(Vec::new());
        }
        let last = self.blocks.len() - 1;
        (last, &mut self.blocks[last])
    }

    /// Whether each worker has a block to compress, or there are so many bytes that it is time anyway.
    fn is_full(&self, workers: usize) -> bool {
        let full = self.blocks.iter().filter(|block| block.len() >= MAPS_BLOCK_BYTES).count();
        full >= workers || self.blocks.iter().map(Vec::len).sum::<usize>() >= WAITING_BYTES
    }
}

fn length_u32(length: usize) -> Result<u32> {
    u32::try_from(length).map_err(|_| Error::new(ErrorKind::Runtime, "a page map of over 4 GiB"))
}
