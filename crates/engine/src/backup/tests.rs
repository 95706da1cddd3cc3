//! Whatever a file is, was and is planned to be read of it: its map leads to what it is.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::thread;

use crossbeam_channel::unbounded;
use fs_err as fs;
use pgark_repository::codec::Compression;
use pgark_repository::container::WriteOptions;
use pgark_repository::map::{PageMap, Source};
use pgark_repository::pack::Pack;
use pgark_repository::{Encryption, PAGE_SIZE, PackId, Repository, StanzaName};
use pgark_storage::{Capabilities, MemoryStorage};
use pgark_system::pace::Pacer;
use proptest::prelude::*;
use ulid::Ulid;

use super::adoption::Adoption;
use super::packs::Packs;
use super::pages::PageSet;
use super::plan::FilePlan;
use super::reader::Reader;
use super::reference::Emptied;
use super::stock::Stock;
use super::tables::TableCache;
use super::taker::{Rules, Taker};
use super::task::{SourceFile, cut};

const NAME: &[u8] = b"base/5/16384";
const OPTIONS: WriteOptions = WriteOptions { compression: Compression::None, verify: false };

struct Room {
    repository: Repository,
    stanza: StanzaName,
    directory: tempfile::TempDir,
}

impl Room {
    fn new() -> Self {
        let capabilities = Capabilities { conditional_create: true };
        let repository =
            Repository::create(Arc::new(MemoryStorage::new()), &Encryption::None, capabilities, "test").unwrap();
        Self { repository, stanza: "demo".parse().unwrap(), directory: tempfile::tempdir().unwrap() }
    }

    fn stock(&self) -> Stock<'_> {
        Stock::empty(TableCache::new(&self.repository, &self.stanza, 1))
    }

    /// What the packs of a session are.
    fn packs(&self, session: u8) -> Vec<PackId> {
        let stored = pgark_repository::garbage::packs(&self.repository, &self.stanza).unwrap();
        stored.into_keys().filter(|pack| pack.session == Ulid::from_bytes([session; 16])).collect()
    }

    /// Reads a file by a plan; gives its map and how many pages were stored.
    fn read(&self, session: u8, content: &[u8], plan: &FilePlan, old: &PageMap, stock: &Stock<'_>) -> (PageMap, u32) {
        let path = self.directory.path().join("file");
        fs::write(&path, content).unwrap();
        let packs = Packs::new(&self.repository, &self.stanza, Ulid::from_bytes([session; 16]), OPTIONS);
        let pacer = Pacer::unlimited();
        let rules = Rules { checksums: None, audit_since: None, pacer: &pacer };
        let adopted = stock.adoption.packs_of(NAME);
        let file = SourceFile::new(NAME.to_vec(), path, content.len() as u64, Some(0));
        let file = Arc::new(SourceFile { is_compared: false, adopted, ..file });
        let pages = u32::try_from(content.len().div_ceil(PAGE_SIZE)).unwrap();
        let mut map = PageMap::default();
        let (sender, tasks) = unbounded();
        for task in cut(&file, pages, plan, old, 0) {
            sender.send(task).unwrap();
        }
        drop(sender);
        let (reader, ahead) = Reader::new(tasks, &pacer);
        let mut taker = Taker::new(&packs, stock, &rules, ahead.buffers);
        thread::scope(|scope| {
            scope.spawn(|| reader.run());
            for opened in ahead.opened {
                let (_, read) = taker.take(&opened.unwrap()).unwrap();
                map.append(&read.expect("the file is there").map);
            }
        });
        taker.finish().unwrap();
        let stored = packs.written().values().map(|pack| pack.pages).sum();
        (map, stored)
    }

    /// The bytes that a map leads to.
    fn content(&self, map: &PageMap, length: usize) -> Vec<u8> {
        let mut content = vec![0; length];
        let mut frames: HashMap<(PackId, u32), Vec<u8>> = HashMap::new();
        for piece in map.pieces() {
            let frame = frames.entry((piece.pack, piece.block)).or_insert_with(|| {
                let pack = Pack::open(&self.repository, &self.stanza, piece.pack, None).unwrap();
                pack.container().block(self.repository.storage(), piece.block).unwrap()
            });
            let (first, slot) = (piece.first_page as usize * PAGE_SIZE, usize::from(piece.slot) * PAGE_SIZE);
            let end = length.min(first + piece.pages as usize * PAGE_SIZE);
            content[first..end].copy_from_slice(&frame[slot..slot + end - first]);
        }
        content
    }
}

/// A file whose pages are these versions of themselves; version 0 is a page of zeros.
fn file(versions: &[u8]) -> Vec<u8> {
    let page = |(number, version): (usize, &u8)| {
        let mut page = vec![*version; PAGE_SIZE];
        if *version > 0 {
            page[100..108].copy_from_slice(&number.to_le_bytes());
        }
        page
    };
    versions.iter().enumerate().flat_map(page).collect()
}

fn whole(pages: usize) -> FilePlan {
    let read = PageSet::all(u32::try_from(pages).unwrap());
    FilePlan { read, rewrite: PageSet::default(), expected: None }
}

fn set(pages: impl IntoIterator<Item = usize>) -> PageSet {
    pages.into_iter().map(|page| u32::try_from(page).unwrap()).map(|page| page..page + 1).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn the_map_of_a_file_leads_to_what_it_is(
        before in proptest::collection::vec(0_u8..4, 0..80),
        now in proptest::collection::vec(0_u8..4, 1..80),
        in_vain in proptest::collection::btree_set(0_usize..80, 0..20),
        rewritten in proptest::collection::btree_set(0_usize..80, 0..20),
        tail in 1..=PAGE_SIZE,
        interrupted: bool,
    ) {
        let room = Room::new();
        let (old, _) = room.read(1, &file(&before), &whole(before.len()), &PageMap::default(), &room.stock());
        prop_assert_eq!(room.content(&old, before.len() * PAGE_SIZE), file(&before));

        let mut content = file(&now);
        content.truncate((now.len() - 1) * PAGE_SIZE + tail);
        let is_changed = |page: &usize| {
            before.get(*page) != Some(&now[*page]) || page + 1 == now.len() && tail < PAGE_SIZE
        };
        let changed: BTreeSet<usize> = (0..now.len()).filter(is_changed).collect();
        let there = |pages: &BTreeSet<usize>| pages.iter().copied().filter(|page| *page < now.len()).collect::<BTreeSet<_>>();
        let (in_vain, rewritten) = (there(&in_vain), there(&rewritten));
        let read: BTreeSet<usize> = changed.iter().chain(&in_vain).chain(&rewritten).copied().collect();
        let plan = FilePlan { read: set(read.iter().copied()), rewrite: set(rewritten.iter().copied()), expected: None };

        let mut stock = room.stock();
        if interrupted {
            room.read(2, &content, &whole(now.len()), &PageMap::default(), &stock);
            stock.adoption = Adoption::of(&room.packs(2), &stock.tables, 2).unwrap();
        }
        let (map, stored) = room.read(3, &content, &plan, &old, &stock);
        if read.is_empty() {
            return Ok(());
        }
        prop_assert_eq!(map.page_count(), now.len() as u64);
        prop_assert_eq!(room.content(&map, content.len()), &content[..]);
        let is_zero = |page: &usize| now[*page] == 0;
        let to_store = changed.union(&rewritten).filter(|page| !is_zero(page)).count();
        prop_assert_eq!(stored as usize, if interrupted { 0 } else { to_store });
    }

    #[test]
    fn pages_in_packs_that_are_lost_are_stored_anew(
        before in proptest::collection::vec(1_u8..4, 1..60),
        is_known: bool,
    ) {
        let room = Room::new();
        let (old, _) = room.read(1, &file(&before), &whole(before.len()), &PageMap::default(), &room.stock());
        let mut stock = room.stock();
        let lost = room.packs(1);
        if is_known {
            stock.unusable.extend(lost.iter().copied());
        } else {
            let names = lost.iter().map(|pack| pgark_repository::names::pack(&room.stanza, *pack).unwrap());
            room.repository.storage().delete_all(&names.collect::<Vec<_>>()).unwrap();
        }
        let (map, stored) = room.read(2, &file(&before), &whole(before.len()), &old, &stock);
        prop_assert_eq!(stored as usize, before.len());
        prop_assert_eq!(room.content(&map, before.len() * PAGE_SIZE), file(&before));
    }
}

#[test]
fn tables_are_read_once_and_forgotten_when_there_are_many() {
    let room = Room::new();
    let content = file(&[1; 20]);
    let (map, _) = room.read(1, &content, &whole(20), &PageMap::default(), &room.stock());
    let Some(Source::Frames { pack, block, .. }) = map.cursor().source() else { panic!("the page lies in a pack") };
    let stock = room.stock();
    let first = stock.tables(pack).unwrap().expect("the pack is there");
    let again = stock.tables(pack).unwrap().expect("the pack is there");
    assert!(Arc::ptr_eq(&first, &again));
    assert_eq!(
        (first.frame_pages(block), first.frame_pages(block + 1), first.frame_pages(9)),
        (Some(16), Some(4), None)
    );
    let hash = room.repository.vault().page_hash(&content[17 * PAGE_SIZE..18 * PAGE_SIZE]);
    assert_eq!((first.hash(block + 1, 1), first.hash(block + 1, 4)), (Some(hash), None));
    let small = TableCache::with_limit(&room.repository, &room.stanza, 1);
    room.read(2, &content, &whole(20), &PageMap::default(), &room.stock());
    let kept = small.get(pack, None).unwrap().expect("the pack is there");
    small.get(room.packs(2)[0], None).unwrap().expect("the pack is there");
    assert!(!Arc::ptr_eq(&kept, &small.get(pack, None).unwrap().expect("the pack is there")), "it was kept");
}

#[test]
fn packs_of_which_little_is_used_are_emptied() {
    let room = Room::new();
    room.read(1, &file(&[1; 20]), &whole(20), &PageMap::default(), &room.stock());
    let stock = room.stock();
    let id = room.packs(1)[0];
    let all = stock.tables(id).unwrap().expect("the pack is there").whole();
    let emptied = |used: u64| {
        let packs = BTreeMap::from([(id, pgark_repository::manifest::PackUse { used, ..all })]);
        Emptied::among(&packs, &BTreeSet::new(), &stock.tables).unwrap()
    };
    assert!(emptied(all.length / 4 + 1).packs.is_empty());
    let emptied = emptied(all.length / 4 - 1);
    assert_eq!((emptied.packs, emptied.files.len()), ([id].into(), 1));
}
