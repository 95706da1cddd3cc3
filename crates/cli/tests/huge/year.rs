//! The repository of a cluster of ten terabytes after a year of hourly backups.
//!
//! Manifests have all their entries and pack lists, and page maps are in packs, as a backup writes them. Packs with pages are
//! sparse files of the right length, but for one that has the pages which the next backup compares, and those with the pages
//! of a table that is restored.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::Path;
use std::sync::Arc;

use fs_err as fs;
use pgark_repository::codec::Compression;
use pgark_repository::container::WriteOptions;
use pgark_repository::manifest::{
    Attributes, Content, Entry, EntryKind, Manifest, ManifestDocument, ManifestWriter, MapLocation, PackUse,
};
use pgark_repository::map::{PageMap, Run, Source};
use pgark_repository::pack::{FramePages, PackFrame, PackWriter};
use pgark_repository::{Encryption, Label, LabelKind, PAGE_SIZE, PackId, Repository, StanzaName, names};
use pgark_storage::LocalStorage;
use pgark_testkit::give_to_test_user;

use crate::common::{STANZA, Site};

/// Pages of a relation segment.
pub(crate) const SEGMENT_PAGES: u32 = 131_072;
/// Segments of each table. The last one is changed all the time, the others never were.
pub(crate) const SEGMENTS: u32 = 10;

/// Segments of the table that is restored. All of them are changed all the time.
pub(crate) const WORN_SEGMENTS: u32 = 2;

/// Pages that one task of a backup reads, which come into one pack.
const TASK_PAGES: u32 = 4096;
const TASKS: u32 = SEGMENT_PAGES / TASK_PAGES;
const FRAME_PAGES: u16 = 16;
const BASE_PACKS: u32 = 30_000;
/// How many backups the pages of what changes come from, and how many packs each has written.
const HOURS: u32 = 500;
const PACKS_AN_HOUR: u32 = 20;
/// As many more packs of an hour are needed by the backups of so many hours only.
const SHORT_LIVED_HOURS: u32 = 24;
const PACK_BYTES: u64 = 120 << 20;
/// Backups in the set of a full one.
const SET: u32 = 7 * 24;
/// When blocks of page maps are written, as a backup does it.
const MAPS_BLOCK_BYTES: usize = 64 << 10;

/// The name of a file of a table.
pub(crate) fn segment(path: &str, number: u32) -> String {
    if number == 0 { path.to_owned() } else { format!("{path}.{number}") }
}

/// xorshift64*, so that each run is like the others.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u32) -> u32 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let high = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32;
        u32::try_from((high * u64::from(limit)) >> 32).unwrap()
    }

    fn shuffle(&mut self, numbers: &mut [u32]) {
        for last in (1..numbers.len()).rev() {
            numbers.swap(last, self.below(u32::try_from(last + 1).unwrap()) as usize);
        }
    }
}

/// A pack that is not really there: what lists say of it.
struct Feigned {
    id: PackId,
    root: [u8; 32],
    next_block: u32,
}

/// A frame of the table that is restored.
struct WornFrame {
    segment: u32,
    pages: Vec<u32>,
    /// Those of its pages that lie elsewhere by now.
    stale: BTreeSet<u32>,
}

struct Builder<'site> {
    repository: &'site Repository,
    stanza: StanzaName,
    random: Random,
    base: Vec<Feigned>,
    hourly: Vec<Vec<Feigned>>,
    short_lived: Vec<Vec<Feigned>>,
    /// What the newest backup uses of each pack.
    uses: BTreeMap<PackId, u32>,
    /// The packs that are really there.
    written: BTreeMap<PackId, PackUse>,
    maps: Option<(PackWriter<'site>, Vec<u8>)>,
    map_session: PackId,
}

/// Writes the backups, and removes the `original` one, from whose manifest all else is taken.
pub(crate) fn write(site: &Site, original: &str, paths: &[String], worn: &str, backups: u32) {
    let storage = LocalStorage::open(&site.repository()).unwrap();
    let repository = Repository::open(Arc::new(storage), &Encryption::None).unwrap();
    let original: Label = original.parse().unwrap();
    let mut builder = Builder::new(&repository);
    let manifest = Manifest::open(&repository, &builder.stanza, &original).unwrap();
    let (entries, late) = builder.entries(&manifest, paths, worn);
    for number in 0..backups {
        builder.write_manifest(number, backups, manifest.document(), &entries, &late);
    }
    builder.feign_packs(site);
    fs::remove_dir_all(site.repository().join("stanza/demo/backup").join(original.as_str())).unwrap();
    give_all(&site.repository());
}

fn give_all(path: &Path) {
    give_to_test_user(path);
    if path.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            give_all(&entry.unwrap().path());
        }
    }
}

fn session() -> PackId {
    PackId { session: pgark_system::random::ulid().unwrap(), number: 0 }
}

fn feigned(count: u32) -> Vec<Feigned> {
    let session = session();
    let pack = |number| {
        let id = PackId { number, ..session };
        Feigned { id, root: pgark_system::random::bytes().unwrap(), next_block: 0 }
    };
    (0..count).map(pack).collect()
}

const OPTIONS: WriteOptions = WriteOptions { compression: Compression::Zstd(3), verify: false };

impl<'site> Builder<'site> {
    fn new(repository: &'site Repository) -> Self {
        Self {
            repository,
            stanza: STANZA.parse().unwrap(),
            random: Random(1),
            base: feigned(BASE_PACKS),
            hourly: (0..HOURS).map(|_| feigned(PACKS_AN_HOUR)).collect(),
            short_lived: (0..HOURS + SHORT_LIVED_HOURS).map(|_| feigned(PACKS_AN_HOUR)).collect(),
            uses: BTreeMap::new(),
            written: BTreeMap::new(),
            maps: None,
            map_session: session(),
        }
    }

    /// The entries of the newest backup: those of the original one, with the huge tables as they are to be.
    fn entries(&mut self, original: &Manifest<'_>, paths: &[String], worn: &str) -> (Vec<Entry>, Vec<Entry>) {
        let packs = original.packs().unwrap();
        self.uses = packs.iter().map(|(id, pack)| (*id, pack.references)).collect();
        self.written = packs;
        let changed = self.write_last_pages(paths);
        let segments = u32::try_from(paths.len()).unwrap() * SEGMENTS;
        let mut entries = Vec::new();
        for entry in original.entries().flat_map(Result::unwrap) {
            match paths.iter().position(|path| path.as_bytes() == entry.path) {
                None if entry.path == worn.as_bytes() => {
                    for (number, map) in (0..).zip(self.worn_maps(worn)) {
                        entries.push(self.segment(&entry, &segment(worn, number), &map));
                    }
                }
                None => entries.push(entry),
                Some(table) => {
                    for number in 0..SEGMENTS {
                        let map = if number + 1 == SEGMENTS {
                            self.changed_map(table, changed)
                        } else {
                            self.base_map(u32::try_from(table).unwrap() * SEGMENTS + number, segments)
                        };
                        entries.push(self.segment(&entry, &segment(&paths[table], number), &map));
                    }
                }
            }
        }
        self.finish_maps();
        entries
            .sort_by_cached_key(|entry| entry.path.split(|byte| *byte == b'/').map(<[u8]>::to_vec).collect::<Vec<_>>());
        (entries, original.late_entries().unwrap())
    }

    fn segment(&mut self, like: &Entry, path: &str, map: &PageMap) -> Entry {
        for (pack, pages) in map.pages_by_pack() {
            *self.uses.entry(pack).or_default() += pages;
        }
        let size = u64::from(SEGMENT_PAGES) * PAGE_SIZE as u64;
        let content = Content::At(self.store_map(&map.encode()));
        let kind = EntryKind::File { size, page_checksums: true, content, damaged: Vec::new() };
        Entry { path: path.as_bytes().to_vec(), link: None, attributes: Attributes { ..like.attributes }, kind }
    }

    /// Where the pages lie of a segment that was stored once and never changed.
    fn base_map(&mut self, segment: u32, segments: u32) -> PageMap {
        let mut map = PageMap::default();
        for task in 0..TASKS {
            let pack = self.base.len() * (segment * TASKS + task) as usize / (segments * TASKS) as usize;
            let pack = &mut self.base[pack];
            let source = Source::Frames { pack: pack.id, block: pack.next_block, slot: 0, stride: FRAME_PAGES };
            pack.next_block += TASK_PAGES / u32::from(FRAME_PAGES);
            map.push(Run { pages: TASK_PAGES, source });
        }
        map
    }

    /// Where the pages lie of a segment that changes all the time: in frames of many backups, each of which has lost some
    /// of its pages to later ones. The last pages lie in a pack that is really there, in the frame with the table's number.
    fn changed_map(&mut self, table: usize, last: PackId) -> PageMap {
        let mut places = vec![Source::Zeros; SEGMENT_PAGES as usize];
        let last_frame = SEGMENT_PAGES - u32::from(FRAME_PAGES);
        for task in 0..TASKS {
            let mut pages: Vec<u32> = (task * TASK_PAGES..((task + 1) * TASK_PAGES).min(last_frame)).collect();
            self.random.shuffle(&mut pages);
            let mut rest = &mut pages[..];
            while !rest.is_empty() {
                // Never less than half of a frame: cleaning would not leave it so.
                let count = match rest.len() {
                    length @ ..=16 => length,
                    length @ ..=24 => length - 8,
                    _ => 9 + self.random.below(8) as usize,
                };
                let (own, others) = rest.split_at_mut(count);
                own.sort_unstable();
                self.place(u32::try_from(table).unwrap() + task, own, &mut places);
                rest = others;
            }
        }
        for (slot, place) in (0..).zip(&mut places[last_frame as usize..]) {
            let block = u32::try_from(table).unwrap();
            *place = Source::Frames { pack: last, block, slot, stride: FRAME_PAGES };
        }
        let mut map = PageMap::default();
        for source in places {
            map.push(Run { pages: 1, source });
        }
        map
    }

    /// Gives some pages places in one frame of one pack.
    fn place(&mut self, share: u32, pages: &[u32], places: &mut [Source]) {
        let hour = self.random.below(HOURS) as usize;
        let pack = &mut self.hourly[hour][(share % PACKS_AN_HOUR) as usize];
        let mut slots: Vec<u32> = (0..u32::from(FRAME_PAGES)).collect();
        self.random.shuffle(&mut slots);
        let slots = &mut slots[..pages.len()];
        slots.sort_unstable();
        for (page, slot) in pages.iter().zip(slots) {
            let slot = u16::try_from(*slot).unwrap();
            places[*page as usize] =
                Source::Frames { pack: pack.id, block: pack.next_block, slot, stride: FRAME_PAGES };
        }
        pack.next_block += 1;
    }

    /// Where the pages lie of the segments of the table that is restored: in frames of many backups as well, which are
    /// really there.
    fn worn_maps(&mut self, path: &str) -> Vec<PageMap> {
        let mut frames: Vec<Vec<WornFrame>> = (0..HOURS).map(|_| Vec::new()).collect();
        for segment in 0..WORN_SEGMENTS {
            for task in 0..TASKS {
                let mut pages: Vec<u32> = (task * TASK_PAGES..(task + 1) * TASK_PAGES).collect();
                self.random.shuffle(&mut pages);
                let mut rest = VecDeque::from(pages);
                while !rest.is_empty() {
                    let mut pages: Vec<u32> = rest.drain(..rest.len().min(usize::from(FRAME_PAGES))).collect();
                    // A later frame has what was changed since, less than half of this one.
                    let changed = if rest.is_empty() { 0 } else { self.random.below(8) as usize };
                    let stale: BTreeSet<u32> = pages[..changed].iter().copied().collect();
                    rest.extend(&stale);
                    pages.sort_unstable();
                    let hour = self.random.below(HOURS) as usize;
                    frames[hour].push(WornFrame { segment, pages, stale });
                }
            }
        }
        let mut places = vec![vec![Source::Zeros; SEGMENT_PAGES as usize]; WORN_SEGMENTS as usize];
        for frames in &frames {
            self.write_worn(path, frames, &mut places);
        }
        let map = |places: Vec<Source>| {
            let mut map = PageMap::default();
            for source in places {
                map.push(Run { pages: 1, source });
            }
            map
        };
        places.into_iter().map(map).collect()
    }

    /// Writes the pack of one backup, and notes where its pages lie.
    fn write_worn(&mut self, path: &str, frames: &[WornFrame], places: &mut [Vec<Source>]) {
        let mut writer = PackWriter::new(self.repository, &self.stanza, session(), OPTIONS).unwrap();
        for WornFrame { segment, pages, stale } in frames {
            let path = self::segment(path, *segment);
            let page = |page: &u32| format!("{segment:08}{page:08}").into_bytes().repeat(PAGE_SIZE / 16);
            let plain: Vec<u8> = pages.iter().flat_map(page).collect();
            let hashes: Vec<_> = plain.chunks(PAGE_SIZE).map(|page| self.repository.vault().page_hash(page)).collect();
            let listed = FramePages::Scattered(pages.clone());
            let frame = PackFrame { path: path.as_bytes(), pages: &listed, plain: &plain, page_hashes: &hashes };
            let (block, _) = writer.append_frame(frame).unwrap();
            let stride = u16::try_from(pages.len()).unwrap();
            for (slot, page) in (0..).zip(pages).filter(|(_, page)| !stale.contains(page)) {
                let source = Source::Frames { pack: writer.id(), block, slot, stride };
                places[*segment as usize][*page as usize] = source;
            }
        }
        self.finish_pack(writer);
    }

    /// Writes the last pages of each table.
    fn write_last_pages(&mut self, paths: &[String]) -> PackId {
        let mut writer = PackWriter::new(self.repository, &self.stanza, session(), OPTIONS).unwrap();
        for (table, path) in paths.iter().enumerate() {
            let path = segment(path, SEGMENTS - 1);
            let plain: Vec<u8> = (0..u32::from(FRAME_PAGES))
                .flat_map(|page| format!("{table:08}{page:08}").into_bytes().repeat(PAGE_SIZE / 16))
                .collect();
            let hashes: Vec<_> = plain.chunks(PAGE_SIZE).map(|page| self.repository.vault().page_hash(page)).collect();
            let first = SEGMENT_PAGES - u32::from(FRAME_PAGES);
            let pages = FramePages::Contiguous { first, count: FRAME_PAGES };
            let frame = PackFrame { path: path.as_bytes(), pages: &pages, plain: &plain, page_hashes: &hashes };
            let (block, _) = writer.append_frame(frame).unwrap();
            assert_eq!(block as usize, table);
        }
        self.finish_pack(writer)
    }

    fn finish_pack(&mut self, writer: PackWriter<'_>) -> PackId {
        let pack = writer.finish().unwrap();
        let (length, root) = (pack.written.length, pack.written.root);
        self.written.insert(pack.id, PackUse { length, used: length, references: 0, root });
        pack.id
    }

    /// Stores a map as a backup does.
    fn store_map(&mut self, encoded: &[u8]) -> MapLocation {
        let (writer, maps) = self.maps.get_or_insert_with(|| {
            self.map_session.number += 1;
            let writer = PackWriter::new(self.repository, &self.stanza, self.map_session, OPTIONS).unwrap();
            (writer, Vec::new())
        });
        let location = MapLocation {
            pack: writer.id(),
            block: writer.next_block(),
            offset: u32::try_from(maps.len()).unwrap(),
            length: u32::try_from(encoded.len()).unwrap(),
        };
        maps.extend_from_slice(encoded);
        *self.uses.entry(location.pack).or_default() += 1;
        if maps.len() >= MAPS_BLOCK_BYTES {
            writer.append_maps(&[&std::mem::take(maps)], 1).unwrap();
            if writer.is_full() {
                self.finish_maps();
            }
        }
        location
    }

    fn finish_maps(&mut self) {
        let Some((mut writer, maps)) = self.maps.take() else { return };
        if !maps.is_empty() {
            writer.append_maps(&[&maps], 1).unwrap();
        }
        self.finish_pack(writer);
    }

    /// Writes the manifest of one of the backups: they have the same entries, and each needs packs that were there then.
    fn write_manifest(
        &self,
        number: u32,
        backups: u32,
        original: &ManifestDocument,
        entries: &[Entry],
        late: &[Entry],
    ) {
        let hour = HOURS - backups.min(HOURS) + number;
        let mut document = original.clone();
        document.label = label(number);
        document.kind = document.label.kind();
        document.prior = number.checked_sub(1).map(label);
        let feigned_use = |pack: &Feigned| {
            let references = self.uses.get(&pack.id).copied().unwrap_or(1);
            (pack.id, PackUse { length: PACK_BYTES, used: PACK_BYTES, references, root: pack.root })
        };
        let used = |pack: &&Feigned| self.uses.contains_key(&pack.id);
        let mut packs: BTreeMap<PackId, PackUse> = self.written.clone();
        for (id, pack) in &mut packs {
            pack.references = self.uses[id];
        }
        let hours = self.hourly.iter().take(hour as usize + 1).flatten();
        packs.extend(self.base.iter().chain(hours).filter(used).map(feigned_use));
        // The newest backup must not name a pack that nothing of it is in.
        if number + 1 < backups {
            let hours = hour as usize..(hour + SHORT_LIVED_HOURS) as usize;
            packs.extend(self.short_lived[hours].iter().flatten().map(feigned_use));
        }
        let mut writer = ManifestWriter::new(self.repository, &self.stanza, &document.label).unwrap();
        for entry in entries {
            writer.add(entry).unwrap();
        }
        for entry in late {
            writer.add_late(entry);
        }
        writer.commit(&document, &packs).unwrap();
    }

    /// Makes sparse files of the packs that are not really there.
    fn feign_packs(&self, site: &Site) {
        let all = self.base.iter().chain(self.hourly.iter().flatten()).chain(self.short_lived.iter().flatten());
        for pack in all {
            let path = site.repository().join(names::pack(&self.stanza, pack.id).unwrap().as_str());
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::File::create(&path).unwrap().set_len(PACK_BYTES).unwrap();
        }
    }
}

/// The label of a backup: one every hour, a full one every week.
fn label(number: u32) -> Label {
    let time = |number: u32| {
        let (day, hour) = (number / 24, number % 24);
        format!("2020{:02}{:02}-{hour:02}0000", 1 + day / 28, 1 + day % 28)
    };
    let full = format!("{}F", time(number / SET * SET));
    let text = if number.is_multiple_of(SET) { full } else { format!("{full}_{}I", time(number)) };
    let label: Label = text.parse().unwrap();
    assert_eq!(label.kind() == LabelKind::Full, number.is_multiple_of(SET));
    label
}
