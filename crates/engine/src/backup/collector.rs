//! Putting what the workers read into the manifest, in the order of the files.

use std::collections::BTreeMap;
use std::mem;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use pgark_postgres::data_directory::Entry as FoundEntry;
use pgark_repository::PackId;
use pgark_repository::manifest::{
    Attributes, Content, DamagedFile, Entry, EntryKind, ManifestWriter, MapLocation, PackUse, PageRange, Totals,
};
use pgark_repository::map::PageMap;
use pgark_repository::pack::{PackWriter, WrittenPack};

use super::owners::Names;
use super::packs::Packs;
use super::reader::RangeRead;
use crate::error::{Error, ErrorKind, Result};

/// The longest page map that stands in the manifest itself, in bytes; longer ones are put together in packs.
const INLINE_MAP_BYTES: usize = 96;

/// Bytes of page maps that are stored as one block.
const MAPS_BLOCK_BYTES: usize = 64 << 10;

/// Collects the parts of a backup's manifest.
#[derive(Debug)]
pub(super) struct Collector<'backup> {
    packs: &'backup Packs<'backup>,
    manifest: ManifestWriter<'backup>,
    maps: Option<(PackWriter<'backup>, Vec<u8>)>,
    stored: BTreeMap<PackId, u64>,
    users: Names,
    groups: Names,
    damaged_files: Vec<DamagedFile>,
    totals: Totals,
}

/// All that is known of a backup once its files are read.
#[derive(Debug)]
pub(super) struct Collected<'backup> {
    pub(super) manifest: ManifestWriter<'backup>,
    pub(super) packs: BTreeMap<PackId, PackUse>,
    pub(super) users: Vec<String>,
    pub(super) groups: Vec<String>,
    pub(super) damaged_files: Vec<DamagedFile>,
    pub(super) totals: Totals,
}

/// What the ranges of one file have given, put together.
#[derive(Debug, Default)]
pub(super) struct FileRead {
    size: u64,
    map: PageMap,
    damaged: Vec<PageRange>,
    ended: bool,
}

impl FileRead {
    /// Appends the next range, which has `wanted` bytes unless the file has ended before.
    pub(super) fn append(&mut self, read: &RangeRead, wanted: u64) {
        if self.ended {
            return;
        }
        self.size += read.bytes;
        self.map.append(&read.map);
        for range in &read.damaged {
            match self.damaged.last_mut() {
                Some(last) if last.first + last.count == range.first => last.count += range.count,
                _ => self.damaged.push(*range),
            }
        }
        self.ended = read.bytes < wanted;
    }
}

impl<'backup> Collector<'backup> {
    pub(super) fn new(packs: &'backup Packs<'backup>, manifest: ManifestWriter<'backup>) -> Self {
        Self {
            packs,
            manifest,
            maps: None,
            stored: BTreeMap::new(),
            users: Names::users(),
            groups: Names::groups(),
            damaged_files: Vec::new(),
            totals: Totals::default(),
        }
    }

    /// Counts what a range has stored, whether or not its file is in the manifest in the end.
    pub(super) fn count(&mut self, read: &RangeRead) {
        self.totals.read += read.bytes;
        for (pack, bytes) in &read.stored {
            *self.stored.entry(*pack).or_default() += bytes;
        }
    }

    /// Adds a directory.
    pub(super) fn add_directory(&mut self, found: &FoundEntry) -> Result<()> {
        let entry = self.entry(found, EntryKind::Directory);
        Ok(self.manifest.add(&entry)?)
    }

    /// Adds a file.
    pub(super) fn add_file(&mut self, found: &FoundEntry, read: FileRead, page_checksums: bool) -> Result<()> {
        let kind = self.file(&found.path, read, page_checksums)?;
        let entry = self.entry(found, kind);
        Ok(self.manifest.add(&entry)?)
    }

    /// Adds a file that a restore writes last. It has the attributes of `like`.
    pub(super) fn add_late(&mut self, name: &str, like: &FoundEntry, read: FileRead) -> Result<()> {
        let kind = self.file(Path::new(name), read, false)?;
        let entry = Entry { path: name.as_bytes().to_vec(), link: None, ..self.entry(like, kind) };
        self.manifest.add_late(&entry);
        Ok(())
    }

    /// Makes the page maps durable; the packs of the workers are already.
    pub(super) fn finish(mut self) -> Result<Collected<'backup>> {
        if let Some((pack, _)) = self.flush_maps()? {
            self.packs.finish(pack)?;
        }
        let written = self.packs.written();
        self.totals.added = written.values().map(|pack| pack.written.length).sum();
        let packs = self.stored.iter().map(|(id, used)| Ok((*id, pack_use(&written, *id, *used)?)));
        let packs: BTreeMap<PackId, PackUse> = packs.collect::<Result<_>>()?;
        self.totals.stored = packs.values().map(|pack| pack.used).sum();
        Ok(Collected {
            packs,
            manifest: self.manifest,
            users: self.users.into_names(),
            groups: self.groups.into_names(),
            damaged_files: self.damaged_files,
            totals: self.totals,
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

    fn file(&mut self, path: &Path, read: FileRead, page_checksums: bool) -> Result<EntryKind> {
        self.totals.files += 1;
        self.totals.size += read.size;
        if !read.damaged.is_empty() {
            let path = path.to_string_lossy().into_owned();
            self.damaged_files.push(DamagedFile { path, pages: read.damaged.clone() });
        }
        let content = self.content(read.size, read.map)?;
        Ok(EntryKind::File { size: read.size, page_checksums, content, damaged: read.damaged })
    }

    fn content(&mut self, size: u64, map: PageMap) -> Result<Content> {
        if size == 0 {
            return Ok(Content::None);
        }
        let encoded = map.encode();
        if encoded.len() <= INLINE_MAP_BYTES {
            return Ok(Content::Map(map));
        }
        let (pack, maps) = match self.maps.take() {
            Some(maps) => maps,
            None => (self.packs.begin()?, Vec::new()),
        };
        let (pack, maps) = self.maps.insert((pack, maps));
        let location = MapLocation {
            pack: pack.id(),
            block: pack.next_block(),
            offset: length_u32(maps.len())?,
            length: length_u32(encoded.len())?,
        };
        maps.extend_from_slice(&encoded);
        if maps.len() >= MAPS_BLOCK_BYTES {
            self.maps = self.flush_maps()?;
        }
        Ok(Content::At(location))
    }

    /// Writes the maps that were put together; gives back the pack if it takes more of them.
    fn flush_maps(&mut self) -> Result<Option<(PackWriter<'backup>, Vec<u8>)>> {
        let Some((mut pack, mut maps)) = self.maps.take() else { return Ok(None) };
        if !maps.is_empty() {
            let (_, stored) = pack.append_maps(&mem::take(&mut maps))?;
            *self.stored.entry(pack.id()).or_default() += u64::from(stored);
        }
        if pack.is_full() {
            self.packs.finish(pack)?;
            return Ok(None);
        }
        Ok(Some((pack, maps)))
    }
}

fn length_u32(length: usize) -> Result<u32> {
    u32::try_from(length).map_err(|_| Error::new(ErrorKind::Runtime, "a page map of over 4 GiB"))
}

/// The frames that are used take their share of the pack's tables with them.
fn pack_use(written: &BTreeMap<PackId, WrittenPack>, id: PackId, used: u64) -> Result<PackUse> {
    let pack = written
        .get(&id)
        .ok_or_else(|| Error::new(ErrorKind::Runtime, format!("pack {id} is needed but was not finished")))?;
    let length = pack.written.length;
    let share = u128::from(length) * u128::from(used) / u128::from(pack.content.max(1));
    Ok(PackUse { length, used: u64::try_from(share).unwrap_or(length), root: pack.written.root })
}
