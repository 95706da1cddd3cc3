//! Manifests: every entry comes back, maps are found wherever they lie, and a backup is committed once.

use std::collections::BTreeMap;
use std::sync::Arc;

use pgark_repository::codec::Compression;
use pgark_repository::container::{BlockKind, Container, ObjectKind, WriteOptions};
use pgark_repository::manifest::{
    Attributes, Content, Entry, EntryKind, Manifest, ManifestDocument, ManifestWriter, MapLocation, PackUse, PageRange,
};
use pgark_repository::map::{PageMap, Run, Source};
use pgark_repository::pack::PackWriter;
use pgark_repository::{Encryption, Error, Label, PackId, Repository, Result, names};
use pgark_storage::fault::{Effect, Fault, FaultyStorage};
use pgark_storage::{ErrorKind, Key, MemoryStorage, Operation, PutMode};
use ulid::Ulid;

use crate::backups::document;
use crate::draft::{Draft, DraftBlock};
use crate::restore;
use crate::room::{Room, create};
use crate::sample::{FULL, INCREMENTAL, label, stanza};

fn pack_id(number: u32) -> PackId {
    PackId { session: Ulid::from_bytes([1; 16]), number }
}

/// A map of `pages` pages in frames of pack `number`.
fn map(number: u32, pages: u32) -> PageMap {
    let mut map = PageMap::default();
    map.push(Run { pages, source: Source::Frames { pack: pack_id(number), block: 3, slot: 5, stride: 16 } });
    map
}

fn file(path: String, content: Content, pages: u32) -> Entry {
    let attributes = Attributes { mode: 0o600, user: pages, group: 0, modified: -i64::from(pages) };
    let size = u64::from(pages) * 8192;
    let kind = EntryKind::File { size, page_checksums: pages.is_multiple_of(2), content, damaged: Vec::new() };
    Entry { path: path.into_bytes(), link: None, attributes, kind }
}

/// Many files, their maps in the manifest or elsewhere, in the order of their paths.
fn many_entries() -> Vec<Entry> {
    let mut entries = Vec::new();
    for number in 0..12_000_u32 {
        let path = format!("base/{:03}/{number:06}", number / 100);
        let content = match number % 4 {
            0 => Content::At(MapLocation { pack: pack_id(number / 500), block: 7, offset: number, length: 31 }),
            _ => Content::Map(map(number / 500, number % 300 + 1)),
        };
        let mut entry = file(path, content, number % 300 + 1);
        if number % 1000 == 0 {
            entry.link = Some(format!("/mnt/{number}").into_bytes());
        }
        if let EntryKind::File { damaged, .. } = &mut entry.kind
            && number % 300 >= 20
        {
            *damaged = vec![PageRange { first: 0, count: 3 }, PageRange { first: 7, count: 13 }];
        }
        entries.push(entry);
    }
    entries
}

/// A backup whose manifest is there is a backup, even if the answer that it was written got lost: to report it as failed
/// would have its packs taken for rubbish.
#[test]
fn a_manifest_that_took_effect_is_no_failure() {
    let storage = FaultyStorage::new(Arc::new(MemoryStorage::new()));
    let repository = create(Arc::new(storage.clone()), &Encryption::None).unwrap();
    for (text, effect) in
        [(FULL, Effect::FailAfterwards(ErrorKind::Unavailable)), (INCREMENTAL, Effect::Fail(ErrorKind::Unavailable))]
    {
        let took_effect = matches!(effect, Effect::FailAfterwards(_));
        storage.inject(Fault::new(effect).on(Operation::Finish));
        let written = write(&repository, text, &many_entries()[..3], &[], &BTreeMap::new());
        assert_eq!(written.is_ok(), took_effect, "{written:?}");
        assert_eq!(repository.backups(&stanza()).unwrap().contains(&label(text)), took_effect);
    }
    assert_eq!(storage.fired(), 2);
}

fn write(
    repository: &Repository,
    text: &str,
    entries: &[Entry],
    late: &[Entry],
    packs: &BTreeMap<PackId, PackUse>,
) -> Result<Label> {
    let label = label(text);
    let mut manifest = ManifestWriter::new(repository, &stanza(), &label)?;
    for entry in entries {
        manifest.add(entry)?;
    }
    for entry in late {
        manifest.add_late(entry);
    }
    manifest.commit(&document(&label), packs)?;
    Ok(label)
}

fn packs(count: u32) -> BTreeMap<PackId, PackUse> {
    let pack = |number: u32| PackUse {
        length: u64::MAX,
        used: u64::from(number),
        references: number,
        root: [number.to_le_bytes()[0]; 32],
    };
    (0..count).map(|number| (pack_id(number), pack(number))).collect()
}

/// What lies in the blocks of file entries: for each, its number and the bytes in it.
fn file_blocks(room: &Room, label: &Label) -> Vec<(u32, u32)> {
    let name = names::manifest(&stanza(), label).unwrap();
    let container = Container::open(&*room.storage, room.repository.vault(), ObjectKind::Manifest, &name).unwrap();
    container.blocks_of(BlockKind::Files).map(|block| (block, container.plain_length(block).unwrap())).collect()
}

#[test]
fn many_entries_come_back_as_they_were_added() {
    let entries = many_entries();
    let late = ["backup_label", "tablespace_map", "global/pg_control"];
    let late = late.map(|path| file(path.to_owned(), Content::Map(map(0, 1)), 1));
    for room in Room::all() {
        let label = write(&room.repository, FULL, &entries, &late, &packs(300)).unwrap();
        let manifest = Manifest::open(&room.repository, &stanza(), &label).unwrap();
        let found: Vec<_> = manifest.entries().collect::<Result<Vec<_>>>().unwrap();
        let blocks = file_blocks(&room, &label);
        assert!(found.len() > 1 && found.len() == blocks.len(), "{} blocks", blocks.len());
        assert!(found.concat() == entries, "{}", room.name);
        assert_eq!(manifest.late_entries().unwrap(), late);
        assert_eq!(manifest.packs().unwrap(), packs(300));
        assert_eq!(*manifest.document(), document(&label));
        assert_eq!(manifest.length(), room.bytes(&names::manifest(&stanza(), &label).unwrap()).len() as u64);
        assert!(blocks.iter().all(|(_, length)| *length <= 256 << 10), "{blocks:?}");
    }
}

/// A reader that wants one file looks its block up in the file index.
#[test]
fn the_file_index_has_the_first_path_of_each_block() {
    let room = Room::plain();
    let label = write(&room.repository, FULL, &many_entries(), &[], &packs(0)).unwrap();
    let manifest = Manifest::open(&room.repository, &stanza(), &label).unwrap();
    let mut expected = Vec::new();
    for ((block, _), entries) in file_blocks(&room, &label).into_iter().zip(manifest.entries()) {
        let path = &entries.unwrap()[0].path;
        expected.push(u8::try_from(block).unwrap());
        expected.push(u8::try_from(path.len()).unwrap());
        expected.extend_from_slice(path);
    }
    let name = names::manifest(&stanza(), &label).unwrap();
    let container = Container::open(&*room.storage, room.repository.vault(), ObjectKind::Manifest, &name).unwrap();
    let index = container.block(&*room.storage, container.only(BlockKind::FileIndex).unwrap()).unwrap();
    assert!(index == expected);
}

#[test]
fn an_entry_that_is_longer_than_a_block_has_one_of_its_own() {
    let room = Room::plain();
    let mut long = PageMap::default();
    for number in 0..60_000 {
        long.push(Run { pages: 1, source: Source::Frames { pack: pack_id(0), block: number * 2, slot: 0, stride: 1 } });
    }
    let entries = [
        file("a".into(), Content::Map(map(0, 9)), 9),
        file("b".into(), Content::Map(long), 60_000),
        file("c".into(), Content::Map(map(0, 9)), 9),
    ];
    let label = write(&room.repository, FULL, &entries, &[], &packs(1)).unwrap();
    let manifest = Manifest::open(&room.repository, &stanza(), &label).unwrap();
    let found: Vec<_> = manifest.entries().map(Result::unwrap).collect();
    assert_eq!(found.iter().map(Vec::len).collect::<Vec<_>>(), [1, 1, 1]);
    assert!(found.concat() == entries);
}

#[test]
fn an_offline_backup_has_no_write_ahead_log() {
    for room in Room::all() {
        let label = label(INCREMENTAL);
        let mut expected = ManifestDocument { online: false, prior: None, ..document(&label) };
        for point in [&mut expected.start, &mut expected.stop] {
            point.lsn = None;
            point.wal_segment = None;
        }
        let manifest = ManifestWriter::new(&room.repository, &stanza(), &label).unwrap();
        let written = manifest.commit(&expected, &BTreeMap::new()).unwrap();
        let manifest = Manifest::open(&room.repository, &stanza(), &label).unwrap();
        assert_eq!(*manifest.document(), expected, "{}", room.name);
        assert_eq!(manifest.length(), written.length);
        assert!(manifest.packs().unwrap().is_empty() && restore::entries(&manifest).unwrap().is_empty());
    }
}

#[test]
fn a_label_is_committed_once() {
    for room in Room::all() {
        let label = write(&room.repository, FULL, &[], &[], &packs(1)).unwrap();
        let error = write(&room.repository, FULL, &[], &[], &packs(2)).unwrap_err();
        assert!(matches!(&error, Error::Storage(error) if error.is_already_exists()), "{error}");
        let manifest = Manifest::open(&room.repository, &stanza(), &label).unwrap();
        assert_eq!(manifest.packs().unwrap(), packs(1), "{}", room.name);
    }
}

#[test]
fn only_what_has_a_manifest_is_a_backup() {
    for room in Room::all() {
        let later = "20261123-120531F";
        for text in [later, INCREMENTAL, FULL] {
            write(&room.repository, text, &[], &[], &packs(0)).unwrap();
        }
        for name in ["20261124-120531F/note", "20261122-120531F_20261124-000000D/manifest.copy", "latest/manifest"] {
            let name = Key::parse(&format!("stanza/demo/backup/{name}")).unwrap();
            room.storage.put(&name, b"", PutMode::Create).unwrap();
        }
        let labels = room.repository.backups(&stanza()).unwrap();
        assert_eq!(labels, [FULL, INCREMENTAL, later].map(label), "{}", room.name);
        assert!(room.repository.backups(&"other".parse().unwrap()).unwrap().is_empty());
    }
}

#[test]
fn a_manifest_must_have_the_label_of_its_name() {
    let room = Room::plain();
    let name = names::manifest(&stanza(), &label(FULL)).unwrap();
    let json = serde_json::to_vec(&document(&label(INCREMENTAL))).unwrap();
    let draft = Draft::new(*b"PGARKMAN", room.repository.vault().repository(), vec![DraftBlock::new(1, &json)]);
    room.replace(&name, &draft.write(name.as_str()));
    let error = Manifest::open(&room.repository, &stanza(), &label(FULL)).unwrap_err();
    assert!(error.to_string().contains("it is the manifest of 20261122-120531F_20261123-010000I"), "{error}");
    let error = Manifest::open(&room.repository, &stanza(), &label(INCREMENTAL)).unwrap_err();
    assert!(error.is_not_found());
}

/// Writes packs of map blocks: `count` packs with two blocks each, of `maps` maps. Gives where each map lies.
fn write_maps(repository: &Repository, count: u32, maps: u32) -> (Vec<MapLocation>, BTreeMap<PackId, PackUse>) {
    let (mut locations, mut packs) = (Vec::new(), BTreeMap::new());
    for number in 0..count {
        let pack = pack_id(number);
        let options = WriteOptions { compression: Compression::Zstd(3), verify: true };
        let mut writer = PackWriter::new(repository, &stanza(), pack, options).unwrap();
        for block in 0..2 {
            let mut bytes = Vec::new();
            for pages in 1..=maps {
                let map = map(number, pages).encode();
                let (offset, length) = (u32::try_from(bytes.len()).unwrap(), u32::try_from(map.len()).unwrap());
                locations.push(MapLocation { pack, block, offset, length });
                bytes.extend(map);
            }
            assert_eq!(writer.next_block(), block);
            writer.append_maps(&[&bytes], 1).unwrap();
        }
        let written = writer.finish().unwrap().written;
        packs.insert(pack, PackUse { length: written.length, used: 0, references: 0, root: written.root });
    }
    (locations, packs)
}

#[test]
fn maps_are_found_wherever_they_lie() {
    for room in Room::all() {
        let (locations, packs) = write_maps(&room.repository, 3, 50);
        let mut entries = Vec::new();
        for (number, location) in locations.iter().enumerate() {
            let pages = u32::try_from(number % 50).unwrap() + 1;
            entries.push(file(format!("at/{number:04}"), Content::At(*location), pages));
            entries.push(file(format!("in/{number:04}"), Content::Map(map(9, pages)), pages));
        }
        entries.push(file("none".into(), Content::None, 0));
        let label = write(&room.repository, FULL, &entries, &[], &packs).unwrap();
        let manifest = Manifest::open(&room.repository, &stanza(), &label).unwrap();
        let found = restore::entries(&manifest).unwrap();
        let mut maps = manifest.maps(&packs);
        for entry in &found {
            let EntryKind::File { size, content, .. } = &entry.kind else { panic!("a file") };
            let pages = u32::try_from(size / 8192).unwrap();
            let number = if let Content::At(location) = content { location.pack.number } else { 9 };
            let expected = if pages == 0 { PageMap::default() } else { map(number, pages) };
            assert_eq!(maps.map(entry).unwrap(), expected, "{}", room.name);
        }
        let directory = Entry { kind: EntryKind::Directory, ..entries[0].clone() };
        assert_eq!(maps.map(&directory).unwrap(), PageMap::default());
    }
}

#[test]
fn a_block_of_maps_is_fetched_once_for_all_its_files() {
    let storage = FaultyStorage::new(Arc::new(MemoryStorage::new()));
    let repository = create(Arc::new(storage.clone()), &Encryption::None).unwrap();
    let (locations, packs) = write_maps(&repository, 1, 50);
    let entry = |(number, location): (usize, &MapLocation)| {
        file(format!("{number:04}"), Content::At(*location), u32::try_from(number).unwrap() % 50 + 1)
    };
    let entries: Vec<_> = locations.iter().enumerate().map(entry).collect();
    let label = write(&repository, FULL, &entries, &[], &packs).unwrap();
    let manifest = Manifest::open(&repository, &stanza(), &label).unwrap();
    let mut maps = manifest.maps(&packs);
    let before = storage.count(Operation::GetTail);
    for entry in &entries {
        maps.map(entry).unwrap();
    }
    assert_eq!(storage.count(Operation::GetTail) - before, 2);
}

#[test]
fn a_map_that_is_not_where_the_manifest_says_is_damage() {
    let room = Room::plain();
    let (locations, packs) = write_maps(&room.repository, 1, 50);
    let good = locations[49];
    let label = write(&room.repository, FULL, &[], &[], &packs).unwrap();
    let manifest = Manifest::open(&room.repository, &stanza(), &label).unwrap();
    let error = |location: MapLocation, pages: u32, packs: &BTreeMap<PackId, PackUse>| {
        let entry = file("x".into(), Content::At(location), pages);
        let result = manifest.maps(packs).map(&entry);
        assert!(!matches!(result, Err(Error::Storage(_))), "{result:?}");
        result.map(|_| ()).map_err(|error| error.to_string())
    };
    assert_eq!(error(good, 50, &packs), Ok(()));
    let mut other_root = packs.clone();
    other_root.get_mut(&pack_id(0)).unwrap().root = [0; 32];
    for (location, pages, packs, message) in [
        (good, 50, &BTreeMap::new(), "a map in a pack that is not listed"),
        (good, 50, &other_root, "another pack than the one that the manifest names"),
        (good, 49, &packs, "a page map of 50 pages where the file has 49"),
        (MapLocation { block: 2, ..good }, 50, &packs, "a map in a block that has none"),
        (MapLocation { block: 99, ..good }, 50, &packs, "it has no block 99"),
        (MapLocation { offset: good.offset + 1, ..good }, 50, &packs, "a map past its block"),
        (MapLocation { offset: u32::MAX, length: u32::MAX, ..good }, 50, &packs, "a map past its block"),
        (MapLocation { length: 0, ..good }, 50, &packs, "bytes expected"),
    ] {
        let error = error(location, pages, packs).unwrap_err();
        assert!(error.contains(message), "{error}");
    }
}
