//! Objects that no honest program writes, with hashes that fit: newer formats, and lies about lengths and counts.

use pgark_repository::container::ObjectKind;
use pgark_repository::manifest::Manifest;
use pgark_repository::names;
use pgark_repository::pack::Pack;
use pgark_repository::session::sessions;
use pgark_repository::{Encryption, Error, PackId, Repository, note, removal};
use pgark_storage::{Key, MemoryStorage, PutMode, Storage as _};
use std::sync::Arc;
use ulid::Ulid;

use crate::allocation;
use crate::backups::document;
use crate::draft::{Draft, DraftBlock};
use crate::room::Room;
use crate::sample::{FULL, label, stanza};

const NAME: &str = "stanza/demo/cluster/1";

/// What becomes of an object that was drafted for the name of a cluster.
fn read(room: &Room, object: &[u8]) -> Result<Vec<Vec<u8>>, Error> {
    let name = Key::parse(NAME).unwrap();
    room.replace(&name, object);
    room.read_whole(&name, ObjectKind::Cluster)
}

fn draft(room: &Room) -> Draft {
    let blocks = vec![DraftBlock::new(1, b"{}"), DraftBlock::new(2, b"content")];
    Draft::new(*b"PGARKCLU", room.repository.vault().repository(), blocks)
}

fn assert_damaged(result: Result<Vec<Vec<u8>>, Error>, part: &str) {
    match result {
        Err(Error::Damaged { object, what }) => assert!(object == NAME && what.contains(part), "{object}: {what}"),
        other => panic!("{part}: {other:?}"),
    }
}

fn assert_unsupported(result: Result<Vec<Vec<u8>>, Error>, part: &str) {
    match result {
        Err(Error::Unsupported { object, what }) => assert!(object == NAME && what.contains(part), "{object}: {what}"),
        other => panic!("{part}: {other:?}"),
    }
}

#[test]
fn an_honest_draft_is_read() {
    let room = Room::plain();
    assert_eq!(read(&room, &draft(&room).write(NAME)).unwrap(), [b"{}".to_vec(), b"content".to_vec()]);
    let nothing = Draft { blocks: Vec::new(), ..draft(&room) };
    assert_eq!(read(&room, &nothing.write(NAME)).unwrap(), Vec::<Vec<u8>>::new());
}

#[test]
fn what_a_newer_program_wrote_is_said_to_be_so() {
    let room = Room::plain();
    assert_unsupported(read(&room, &Draft { version: 2, ..draft(&room) }.write(NAME)), "version 2");
    assert_unsupported(read(&room, &Draft { version: 0, ..draft(&room) }.write(NAME)), "version 0");
    assert_unsupported(read(&room, &Draft { suite: 2, ..draft(&room) }.write(NAME)), "suite 2");
    assert_unsupported(read(&room, &Draft { features: 1 << 31, ..draft(&room) }.write(NAME)), "0x80000000");
}

#[test]
fn what_is_no_such_object_is_damaged() {
    let room = Room::plain();
    assert_damaged(read(&room, &Draft { magic: *b"PGARKXYZ", ..draft(&room) }.write(NAME)), "first bytes");
    assert_damaged(read(&room, &Draft { magic: *b"PGARKPAC", ..draft(&room) }.write(NAME)), "it is a Pack");
    assert_damaged(read(&room, &Draft { suite: 1, ..draft(&room) }.write(NAME)), "not encrypted as");
    assert_damaged(read(&room, &Draft { repository: [7; 16], ..draft(&room) }.write(NAME)), "another repository");
    assert_damaged(read(&room, &draft(&room).write("stanza/demo/cluster/2")), "not the object of this name");
    let encrypted = Room::encrypted();
    assert_damaged(read(&encrypted, &draft(&encrypted).write(NAME)), "not encrypted as");
}

/// An object of the right lengths whose trailer says something else.
#[test]
fn a_trailer_that_lies_is_refused_before_anything_is_allocated_for_it() {
    let room = Room::plain();
    let lies: [(&str, usize, &[u8]); 12] = [
        ("count of blocks", 72, &u32::MAX.to_le_bytes()),
        ("count of blocks at the limit", 72, &(1_u32 << 20).to_le_bytes()),
        ("one block more", 72, &3_u32.to_le_bytes()),
        ("codec of the index", 76, &[9]),
        ("zeros", 77, &[1]),
        ("offset of the index", 80, &u64::MAX.to_le_bytes()),
        ("offset of the index in the header", 80, &3_u64.to_le_bytes()),
        ("stored length of the index", 88, &u32::MAX.to_le_bytes()),
        ("plain length of the index", 92, &u32::MAX.to_le_bytes()),
        ("length of the object", 128, &u64::MAX.to_le_bytes()),
        ("zeros at the end", 159, &[1]),
        ("header", 11, &[1]),
    ];
    let mut index_of_too_many_blocks = [0; 24];
    let count = (1_u32 << 20) + 1;
    index_of_too_many_blocks[..4].copy_from_slice(&count.to_le_bytes());
    index_of_too_many_blocks[4] = 1;
    index_of_too_many_blocks[8..16].copy_from_slice(&73_u64.to_le_bytes());
    index_of_too_many_blocks[16..20].copy_from_slice(&96_u32.to_le_bytes());
    index_of_too_many_blocks[20..].copy_from_slice(&(count * 48).to_le_bytes());
    let lies = lies.into_iter().chain([("more blocks than there can be", 72, &index_of_too_many_blocks[..])]);
    for (what, offset, bytes) in lies {
        let object = draft(&room).write_with(
            NAME,
            |_| {},
            |trailer| trailer[offset..offset + bytes.len()].copy_from_slice(bytes),
        );
        let (result, largest) = allocation::largest(|| read(&room, &object));
        assert!(matches!(result, Err(Error::Damaged { .. })), "{what}: {result:?}");
        assert!(largest < 4096, "{what}: {largest} bytes");
    }
}

#[test]
fn an_index_that_lies_is_refused_before_anything_is_allocated_for_it() {
    let room = Room::plain();
    let lies: [(&str, usize, &[u8]); 9] = [
        ("stored length", 0, &u32::MAX.to_le_bytes()),
        ("stored length, one more", 0, &3_u32.to_le_bytes()),
        ("stored length, one less", 0, &1_u32.to_le_bytes()),
        ("plain length", 4, &u32::MAX.to_le_bytes()),
        ("plain length over the limit", 4, &((16_u32 << 20) + 1).to_le_bytes()),
        ("plain length over the limit, compressed", 4, &[1, 0, 0, 1, 1]),
        ("codec", 8, &[3]),
        ("kind", 9, &[200]),
        ("zeros", 15, &[1]),
    ];
    for (what, offset, bytes) in lies {
        let object =
            draft(&room).write_with(NAME, |index| index[offset..offset + bytes.len()].copy_from_slice(bytes), |_| {});
        let (result, largest) = allocation::largest(|| read(&room, &object));
        assert!(matches!(result, Err(Error::Damaged { .. })), "{what}: {result:?}");
        assert!(largest < 4096, "{what}: {largest} bytes");
    }
}

/// Bytes that no block owns.
#[test]
fn a_gap_between_blocks_and_index_is_refused() {
    let room = Room::plain();
    let mut honest = draft(&room);
    honest.blocks[1] = DraftBlock::new(2, b"content and more");
    let shorter = DraftBlock::new(2, b"content");
    let object = honest.write_with(
        NAME,
        |index| {
            index[48..52].copy_from_slice(&shorter.plain_length.to_le_bytes());
            index[52..56].copy_from_slice(&shorter.plain_length.to_le_bytes());
            index[64..].copy_from_slice(&shorter.hash);
        },
        |_| {},
    );
    assert_damaged(read(&room, &object), "do not reach its index");
}

/// What does not shrink is stored as it is; a compressed form that grew hides something.
#[test]
fn a_block_that_is_longer_than_what_it_decodes_to_is_refused() {
    let room = Room::plain();
    let plain = DraftBlock::new(1, b"{}");
    let compressed = zstd::bulk::compress(b"{}", 3).unwrap();
    let skipped = [&0x184D_2A50_u32.to_le_bytes()[..], &32_u32.to_le_bytes(), &[7; 32]].concat();
    let block = DraftBlock { codec: 1, stored: [skipped, compressed].concat(), ..plain };
    assert_damaged(read(&room, &Draft { blocks: vec![block], ..draft(&room) }.write(NAME)), "a block of");
}

/// A block may claim 16 MiB, and no more is ever allocated for it, however well it compresses.
#[test]
fn a_block_that_grows_past_its_length_is_refused() {
    let room = Room::plain();
    let plain = vec![0; 24 << 20];
    let zstd = zstd::bulk::compress(&plain, 3).unwrap();
    let lz4 = lz4_flex::block::compress(&plain);
    for (codec, stored) in [(1, zstd), (2, lz4)] {
        for plain_length in [0, 1, 1000, 8192, 16 << 20] {
            if plain_length as usize + 16 < stored.len() {
                continue;
            }
            let hash = *blake3::hash(&plain).as_bytes();
            let block = DraftBlock { kind: 1, codec, stored: stored.clone(), plain_length, hash };
            let object = Draft { blocks: vec![block], ..draft(&room) }.write(NAME);
            let (result, largest) = allocation::largest(|| read(&room, &object));
            assert_damaged(result, "block 0");
            assert!(largest <= (plain_length as usize).max(2 * object.len()).max(4096), "{largest} bytes");
        }
    }
}

#[test]
fn a_block_that_is_shorter_than_its_length_or_has_another_hash_is_refused() {
    let room = Room::plain();
    let good = DraftBlock::new(1, b"some text of a block, some text of a block");
    let longer = DraftBlock { plain_length: good.plain_length + 1, ..good.clone() };
    let other = DraftBlock { hash: [0; 32], ..good.clone() };
    for block in [longer, other] {
        assert_damaged(
            read(&room, &Draft { blocks: vec![good.clone(), block], ..draft(&room) }.write(NAME)),
            "block 1",
        );
    }
}

/// The descriptor of a repository that a newer program made, with `change` made to its document.
fn descriptor(change: impl FnOnce(&mut serde_json::Value)) -> Result<Repository, Error> {
    let room = Room::plain();
    let mut document = serde_json::to_value(room.repository.descriptor()).unwrap();
    change(&mut document);
    let block = DraftBlock::new(1, document.to_string().as_bytes());
    let object = Draft::new(*b"PGARKREP", room.repository.vault().repository(), vec![block]).write("pgark.repo");
    let storage = MemoryStorage::new();
    storage.put(&names::descriptor().unwrap(), &object, PutMode::Create).unwrap();
    Repository::open(Arc::new(storage), &Encryption::None)
}

#[test]
fn members_that_are_not_known_are_passed_over() {
    descriptor(|document| document["colour"] = "blue".into()).unwrap();
}

#[test]
fn a_repository_that_needs_more_than_this_program_knows_is_not_opened() {
    for change in [
        |document: &mut serde_json::Value| document["format"] = 2.into(),
        |document: &mut serde_json::Value| document["features"]["read"] = vec!["holograms"].into(),
        |document: &mut serde_json::Value| {
            *document = serde_json::json!({"format": 1, "features": {"read": ["rot13"], "write": [], "expire": []}});
        },
        |document: &mut serde_json::Value| *document = serde_json::json!({"format": 2}),
    ] {
        match descriptor(change) {
            Err(Error::Unsupported { object, .. }) => assert_eq!(object, "pgark.repo"),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_descriptor_that_contradicts_itself_is_refused() {
    let error = descriptor(|document| document["id"] = "00".repeat(16).into()).unwrap_err();
    assert!(matches!(error, Error::Damaged { .. }), "{error}");
}

#[test]
fn a_repository_may_be_read_where_it_may_not_be_written() {
    let repository = descriptor(|document| document["features"]["write"] = vec!["holograms"].into()).unwrap();
    assert!(repository.stanzas().unwrap().is_empty());
    match repository.add_cluster(&stanza(), &crate::backups::cluster()) {
        Err(Error::Unsupported { object, what }) => assert!(object == "pgark.repo" && what.contains("holograms")),
        other => panic!("{other:?}"),
    }
    for what in ["write", "expire"] {
        let repository = descriptor(|document| document["features"][what] = vec!["holograms"].into()).unwrap();
        match removal::remove_stanza::<Error>(&repository, &stanza(), &mut || Ok(())) {
            Err(Error::Unsupported { object, what }) => assert!(object == "pgark.repo" && what.contains("holograms")),
            other => panic!("{other:?}"),
        }
    }
}

/// The name of an object in a fresh repository, with a document that a newer program may have written.
fn written_later(magic: [u8; 8], name: &Key, document: &serde_json::Value) -> Room {
    let room = Room::plain();
    let block = DraftBlock::new(1, document.to_string().as_bytes());
    let object = Draft::new(magic, room.repository.vault().repository(), vec![block]).write(name.as_str());
    room.storage.put(name, &object, PutMode::Create).unwrap();
    room
}

#[test]
fn a_session_of_a_kind_that_is_not_known_is_of_a_newer_program_and_not_damaged() {
    let id = Ulid::from_bytes([1; 16]);
    let name = names::session(&stanza(), id).unwrap();
    let document = serde_json::json!({"id": id, "kind": "teleport", "targets": 9});
    let room = written_later(*b"PGARKSES", &name, &document);
    match sessions(&room.repository, &stanza()) {
        Err(Error::Unsupported { object, what }) => {
            assert_eq!((object.as_str(), what.as_str()), (name.as_str(), "it is a session of kind 'teleport'"));
        }
        other => panic!("{other:?}"),
    }
    let room = written_later(*b"PGARKSES", &name, &serde_json::json!({"id": id, "kind": "backup"}));
    assert!(matches!(sessions(&room.repository, &stanza()), Err(Error::Damaged { .. })));
}

#[test]
fn a_note_of_a_kind_that_is_not_known_is_passed_over() {
    let id = Ulid::from_bytes([1; 16]);
    let name = names::note(&stanza(), &label(FULL), id).unwrap();
    let document = serde_json::json!({"id": id, "written": "2026-11-22T12:00:00Z", "program": "pgark 9.0.0",
        "kind": "drill", "minutes": 7});
    let room = written_later(*b"PGARKNOT", &name, &document);
    let first = [("why".to_owned(), "import".to_owned())].into();
    let found = note::annotations(&room.repository, &stanza(), &label(FULL), &[id], &first).unwrap();
    assert_eq!(found, first);
}

/// A manifest whose blocks are these, opened.
fn manifest_error(blocks: &[(u8, Vec<u8>)]) -> Option<Error> {
    let room = Room::plain();
    let (stanza, label) = (stanza(), label(FULL));
    let name = names::manifest(&stanza, &label).unwrap();
    let mut blocks: Vec<_> = blocks.iter().map(|(kind, plain)| DraftBlock::new(*kind, plain)).collect();
    blocks.push(DraftBlock::new(1, &serde_json::to_vec(&document(&label)).unwrap()));
    let object = Draft::new(*b"PGARKMAN", room.repository.vault().repository(), blocks).write(name.as_str());
    room.replace(&name, &object);
    let manifest = Manifest::open(&room.repository, &stanza, &label).unwrap();
    let (result, largest) = allocation::largest(|| {
        manifest.packs()?;
        manifest.late_entries()?;
        manifest.entries().try_for_each(|entries| entries.map(drop))
    });
    assert!(largest < 1 << 17, "{largest} bytes");
    result.err()
}

#[test]
fn counts_in_a_manifest_are_not_believed() {
    let entry_until_content = b"\x01\x01a\0\0\0\0\0\x80\x80\x04\0\x01";
    let most = b"\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\x01";
    let lies: [(&str, Vec<u8>); 6] = [
        ("length of a path", [&b"\x01"[..], most].concat()),
        ("length of a link", [&b"\x02\x01a"[..], most].concat()),
        ("length of a map", [&entry_until_content[..], most].concat()),
        ("packs of a map", [&entry_until_content[..], &[10], most].concat()),
        ("runs of a map", [&entry_until_content[..], &[11, 0], most].concat()),
        ("damaged ranges", [&entry_until_content[..], &[4, 0, 1, 8, 0], most].concat()),
    ];
    for (what, bytes) in lies {
        let blocks = [(32, bytes), (35, Vec::new()), (33, Vec::new()), (34, Vec::new())];
        let error = manifest_error(&blocks).expect(what);
        assert!(matches!(error, Error::Damaged { .. }), "{what}: {error}");
    }
}

/// Entries that a writer never makes.
#[test]
fn entries_that_contradict_themselves_are_refused() {
    let attributes = b"\x01a\0\0\0\0\0";
    let file = |rest: &[u8]| [&b"\x01"[..], attributes, rest].concat();
    let page = b"\x80\x40";
    let map = b"\x04\0\x01\x01\0";
    let with_map = |damaged: &[u8]| file(&[&page[..], &[0, 1], map, damaged].concat());
    let flaws: [(&str, Vec<u8>); 15] = [
        ("unknown kind", [&b"\x03"[..], attributes].concat()),
        ("a path that leads out", b"\x02\x05../..\0\0\0\0\0".to_vec()),
        ("an absolute path", b"\x02\x02/a\0\0\0\0\0".to_vec()),
        ("mode over 32 bits", b"\x02\x01a\0\x80\x80\x80\x80\x10\0\0\0".to_vec()),
        ("a varint with padding", b"\x02\x01a\0\x80\0\0\0\0".to_vec()),
        ("unknown flags", file(&[0, 2, 0, 0])),
        ("unknown content", file(&[0, 0, 3, 0])),
        ("a size without content", file(&[&page[..], &[0, 0, 0]].concat())),
        ("more pages than have numbers", file(b"\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\x01\0\x02")),
        ("a map of two pages", file(&[&page[..], &[0, 1], b"\x04\0\x01\x02\0", &[0]].concat())),
        ("a map that is longer than its runs", file(&[&page[..], &[0, 1], b"\x05\0\x01\x01\0\0", &[0]].concat())),
        ("damage past the end", with_map(&[1, 0, 2])),
        ("damage behind the end", with_map(&[1, 1, 1])),
        ("damage of no pages", with_map(&[1, 0, 0])),
        ("damage twice", with_map(&[2, 0, 1, 0, 1])),
    ];
    let others = |entries: &[u8]| [(32, entries.to_vec()), (35, Vec::new()), (33, Vec::new()), (34, Vec::new())];
    for (what, entry) in flaws {
        let error = manifest_error(&others(&entry)).expect(what);
        assert!(matches!(error, Error::Damaged { .. }), "{what}: {error}");
    }
    assert!(manifest_error(&others(&with_map(&[1, 0, 1]))).is_none());
    assert!(manifest_error(&others(&file(&[0, 0, 0, 0]))).is_none());
}

#[test]
fn a_manifest_without_its_parts_or_with_one_twice_is_refused() {
    let whole = [(32, Vec::new()), (35, Vec::new()), (33, Vec::new()), (34, Vec::new())];
    for without in [1, 3] {
        let mut blocks = whole.to_vec();
        blocks.remove(without);
        assert!(manifest_error(&blocks).unwrap().to_string().contains("exactly one block"));
        let mut blocks = whole.to_vec();
        blocks.push(whole[without].clone());
        assert!(manifest_error(&blocks).unwrap().to_string().contains("exactly one block"));
    }
    let mut torn = whole.to_vec();
    torn[3].1 = vec![0; 71];
    assert!(matches!(manifest_error(&torn), Some(Error::Damaged { .. })));
    torn[3].1 = vec![0; 144];
    assert!(manifest_error(&torn).unwrap().to_string().contains("do not ascend"));
}

/// A pack with these tables (page list, file table, page hashes, frame table) after one frame of two pages.
fn pack_error(tables: [&[u8]; 4]) -> Option<String> {
    let room = Room::plain();
    let stanza = stanza();
    let id = PackId { session: Ulid::from_bytes([1; 16]), number: 0 };
    let name = names::pack(&stanza, id).unwrap();
    let mut blocks = vec![DraftBlock::new(16, &[7; 8192 + 100])];
    blocks.extend([21, 20, 19, 18].iter().zip(tables).map(|(kind, plain)| DraftBlock::new(*kind, plain)));
    let object = Draft::new(*b"PGARKPAC", room.repository.vault().repository(), blocks).write(name.as_str());
    room.replace(&name, &object);
    let pack = Pack::open(&room.repository, &stanza, id, None).unwrap();
    match pack.frames_with_hashes() {
        Ok(_) => None,
        Err(Error::Damaged { object, what }) => {
            assert_eq!(object, name.as_str());
            Some(what)
        }
        Err(error) => panic!("{error}"),
    }
}

fn frame(block: u32, file: u32, first: u32, count: u16, flags: u16) -> Vec<u8> {
    [&block.to_le_bytes()[..], &file.to_le_bytes(), &first.to_le_bytes(), &count.to_le_bytes(), &flags.to_le_bytes()]
        .concat()
}

#[test]
fn tables_of_a_pack_that_do_not_fit_its_frames_are_refused() {
    let (files, hashes, list) = (&b"\x01a"[..], &[9; 32][..], &[1, 0, 0, 0, 5, 0, 0, 0][..]);
    assert_eq!(pack_error([&[], files, hashes, &frame(0, 0, 7, 2, 0)]), None);
    assert_eq!(pack_error([list, files, hashes, &frame(0, 0, 0, 2, 1)]), None);
    let wrong = [
        ("a block that is not there", frame(5, 0, 0, 2, 0)),
        ("a file that is not there", frame(0, 1, 0, 2, 0)),
        ("no pages", frame(0, 0, 0, 0, 0)),
        ("more pages than a frame has", frame(0, 0, 0, 65, 0)),
        ("more pages than the frame's bytes", frame(0, 0, 0, 3, 0)),
        ("fewer pages than the frame's bytes", frame(0, 0, 0, 1, 0)),
        ("pages past the last number", frame(0, 0, u32::MAX, 2, 0)),
        ("unknown flags", frame(0, 0, 0, 2, 2)),
        ("pages past the page list", frame(0, 0, 1, 2, 1)),
        ("pages far past the page list", frame(0, 0, u32::MAX, 2, 1)),
        ("half an entry", frame(0, 0, 0, 2, 0)[..8].to_vec()),
    ];
    for (what, frames) in wrong {
        assert!(pack_error([list, files, hashes, &frames]).is_some(), "{what}");
    }
    let one = frame(0, 0, 0, 2, 0);
    for (what, tables) in [
        ("pages that do not ascend", [&[5, 0, 0, 0, 1, 0, 0, 0][..], files, hashes, &frame(0, 0, 0, 2, 1)]),
        ("too few hashes", [list, files, &hashes[16..], &one]),
        ("half a hash", [list, files, &[9; 33], &one]),
        ("a block that is no frame", [list, files, &hashes[16..], &frame(1, 0, 0, 1, 0)]),
        ("half a path", [list, b"\x05a", hashes, &one]),
        ("a length past everything", [list, b"\xFF\xFF\xFF\xFF\x0F", hashes, &one]),
    ] {
        assert!(pack_error(tables).is_some(), "{what}");
    }
}
