//! Properties of whole objects: what is written is read, and no changed byte is ever believed.

use std::collections::BTreeMap;

use pgark_repository::codec::Compression;
use pgark_repository::container::{BlockEncoder, ObjectKind, WriteOptions};
use pgark_repository::manifest::{
    Attributes, Content, Entry, EntryKind, Manifest, ManifestWriter, MapLocation, PackUse,
};
use pgark_repository::map::{PageMap, Run, Source};
use pgark_repository::pack::{FramePages, Pack, PackFrame, PackWriter};
use pgark_repository::wal::{Archive, SentSegment, Stored, WalDocument};
use pgark_repository::{Error, PAGE_SIZE, PackId, Result, names};
use proptest::collection::{btree_map, btree_set, vec};
use proptest::prelude::*;
use proptest::sample::Index;
use ulid::Ulid;

use crate::backups::{cluster, document};
use crate::restore;
use crate::room::Room;
use crate::sample::{FULL, SEGMENT, label, stanza, wal_document};

fn compression() -> impl Strategy<Value = Compression> {
    prop_oneof![Just(Compression::None), Just(Compression::Lz4), (-7..=5).prop_map(Compression::Zstd)]
}

fn room() -> impl Strategy<Value = Room> {
    any::<bool>().prop_map(|encrypted| if encrypted { Room::encrypted() } else { Room::plain() })
}

/// Bytes of a compressible and an incompressible part.
fn bytes(most: usize) -> impl Strategy<Value = Vec<u8>> {
    (0..=most, vec(any::<u8>(), 0..200)).prop_map(|(length, seed)| {
        let noise = seed.len() * 10;
        let mut bytes = vec![b'x'; length];
        blake3::Hasher::new().update(&seed).finalize_xof().fill(&mut bytes[..noise.min(length)]);
        bytes
    })
}

fn pack_id() -> impl Strategy<Value = PackId> {
    (any::<u128>(), any::<u32>()).prop_map(|(session, number)| PackId { session: Ulid(session), number })
}

/// A frame's path, pages and bytes.
fn frame() -> impl Strategy<Value = (Vec<u8>, FramePages, Vec<u8>)> {
    let pages = prop_oneof![
        (0..1_u32 << 31, 1..=64_u16).prop_map(|(first, count)| FramePages::Contiguous { first, count }),
        btree_set(any::<u32>(), 1..=64).prop_map(|pages| FramePages::Scattered(pages.into_iter().collect())),
    ];
    (vec(any::<u8>(), 0..20), pages, bytes(64 * PAGE_SIZE), 0..PAGE_SIZE).prop_map(|(path, pages, mut plain, cut)| {
        plain.resize(pages.count() * PAGE_SIZE - cut, 0);
        (path, pages, plain)
    })
}

fn run() -> impl Strategy<Value = Run> {
    let frames = (0_u32..4, 0_u32..1 << 20, 1_u16..=64, any::<u16>()).prop_map(|(number, block, stride, slot)| {
        let pack = PackId { session: Ulid(1), number };
        Source::Frames { pack, block, slot: slot % stride, stride }
    });
    (1_u32..5000, prop_oneof![1 => Just(Source::Zeros), 4 => frames]).prop_map(|(pages, source)| Run { pages, source })
}

fn entry_kind() -> impl Strategy<Value = EntryKind> {
    let mapped = vec(run(), 1..20).prop_map(|runs| {
        let mut map = PageMap::default();
        for run in runs {
            map.push(run);
        }
        (map.page_count() * PAGE_SIZE as u64, Content::Map(map))
    });
    let located = (1..1_u64 << 44, pack_id(), any::<(u32, u32, u32)>()).prop_map(|(size, pack, rest)| {
        let (block, offset, length) = rest;
        (size, Content::At(MapLocation { pack, block, offset, length }))
    });
    let content = prop_oneof![mapped, located, Just((0, Content::None))];
    let file = (content, any::<bool>()).prop_map(|((size, content), page_checksums)| EntryKind::File {
        size,
        page_checksums,
        content,
        damaged: Vec::new(),
    });
    prop_oneof![4 => file, 1 => Just(EntryKind::Directory)]
}

fn entries() -> impl Strategy<Value = Vec<Entry>> {
    let attributes = any::<(u32, u32, u32, i64)>();
    let link = proptest::option::of(vec(any::<u8>(), 1..40));
    btree_map("[a-z]{1,9}(/[a-z]{1,9}){0,3}", (link, attributes, entry_kind()), 0..60).prop_map(|entries| {
        let entry = |(path, (link, (mode, user, group, modified), kind)): (String, (_, _, _))| Entry {
            path: path.into_bytes(),
            link,
            attributes: Attributes { mode, user, group, modified },
            kind,
        };
        entries.into_iter().map(entry).collect()
    })
}

fn pack_uses() -> impl Strategy<Value = BTreeMap<PackId, PackUse>> {
    let pack_use = any::<(u64, u64, u32, [u8; 32])>().prop_map(|(length, used, references, root)| PackUse {
        length,
        used,
        references,
        root,
    });
    btree_map(pack_id(), pack_use, 0..40)
}

/// Changes a byte of every object in turn, or cuts it there: it is refused, or what it holds is what it held.
fn assert_no_change_is_believed(room: &Room, position: Index, mask: u8) {
    for (name, kind) in room.objects() {
        let whole = room.bytes(&name);
        let content = room.read_whole(&name, kind).unwrap();
        let position = position.index(whole.len());
        let mut changed = whole.clone();
        changed[position] ^= mask;
        for object in [&changed[..], &whole[..position], &[&whole[..position], &whole[position + 1..]].concat()] {
            room.replace(&name, object);
            match room.read_whole(&name, kind) {
                Ok(found) => assert!(found == content, "'{name}', byte {position}"),
                Err(Error::Damaged { object, .. } | Error::Unsupported { object, .. }) => {
                    assert_eq!(object, name.as_str());
                }
                Err(error) => panic!("'{name}', byte {position}: {error}"),
            }
        }
        room.replace(&name, &whole);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn packs_go_both_ways(
        room in room(),
        id in pack_id(),
        compression in compression(),
        verify: bool,
        frames in vec(frame(), 0..12),
        position: Index,
        mask in 1..=u8::MAX,
    ) {
        let repository = &room.repository;
        let options = WriteOptions { compression, verify };
        let mut writer = PackWriter::new(repository, &stanza(), id, options).unwrap();
        let hashes = |plain: &[u8]| -> Vec<_> {
            plain.chunks(PAGE_SIZE).map(|page| repository.vault().page_hash(page)).collect()
        };
        for (path, pages, plain) in &frames {
            writer.append_frame(PackFrame { path, pages, plain, page_hashes: &hashes(plain) }).unwrap();
        }
        let written = writer.finish().unwrap().written;
        let pack = Pack::open(repository, &stanza(), id, Some(written.root)).unwrap();
        let files = pack.files().unwrap();
        let found = pack.frames_with_hashes().unwrap();
        prop_assert_eq!(found.len(), frames.len());
        for ((entry, found_hashes), (path, pages, plain)) in found.iter().zip(&frames) {
            prop_assert_eq!(&files[entry.file as usize], path);
            prop_assert_eq!(&entry.pages, pages);
            prop_assert_eq!(found_hashes, &hashes(plain));
            prop_assert!(pack.container().block(&*room.storage, entry.block).unwrap() == *plain);
        }
        assert_no_change_is_believed(&room, position, mask);
    }

    #[test]
    fn manifests_go_both_ways(
        room in room(),
        entries in entries(),
        late in entries(),
        packs in pack_uses(),
        position: Index,
        mask in 1..=u8::MAX,
    ) {
        let label = label(FULL);
        let mut writer = ManifestWriter::new(&room.repository, &stanza(), &label).unwrap();
        entries.iter().try_for_each(|entry| writer.add(entry)).unwrap();
        for entry in &late {
            writer.add_late(entry);
        }
        writer.commit(&document(&label), &packs).unwrap();
        let manifest = Manifest::open(&room.repository, &stanza(), &label).unwrap();
        prop_assert_eq!(restore::entries(&manifest).unwrap(), [entries, late].concat());
        prop_assert_eq!(manifest.packs().unwrap(), packs);
        prop_assert_eq!(manifest.document(), &document(&label));
        assert_no_change_is_believed(&room, position, mask);
    }

    #[test]
    fn segments_go_both_ways(
        room in room(),
        content in bytes(3 << 20),
        analysis in bytes(100_000),
        compression in compression(),
        verify: bool,
        workers in 1_usize..4,
        position: Index,
        mask in 1..=u8::MAX,
    ) {
        let archive = Archive::new(&room.repository, stanza(), cluster().archive());
        let document = WalDocument { size: content.len() as u64, ..wal_document(SEGMENT) };
        let options = WriteOptions { compression, verify };
        let send = || archive.send_segment(&document, &content, || analysis.clone(), &mut BlockEncoder::of_wal(options), workers);
        let store = || send().and_then(SentSegment::finish).unwrap();
        prop_assert_eq!(store(), Stored::New);
        prop_assert_eq!(store(), Stored::Already);
        let object = archive.segment(SEGMENT).unwrap();
        prop_assert!(object.data().collect::<Result<Vec<_>>>().unwrap().concat() == content);
        prop_assert!(object.analysis().unwrap() == analysis);
        assert_no_change_is_believed(&room, position, mask);
    }

    /// Bytes that are no object at all, under the name of each kind.
    #[test]
    fn arbitrary_bytes_are_no_object(
        beginning in vec(any::<u8>(), 0..80),
        middle in vec(any::<u8>(), 0..400),
        with_end: bool,
    ) {
        let room = Room::plain();
        let mut bytes = [beginning, middle].concat();
        if with_end && bytes.len() >= 192 {
            let end = bytes.len() - 128;
            bytes[end..end + 8].copy_from_slice(b"PGARKEND");
        }
        let name = names::cluster(&stanza(), 1).unwrap();
        room.replace(&name, &bytes);
        for kind in [ObjectKind::Cluster, ObjectKind::Pack, ObjectKind::Manifest, ObjectKind::Descriptor] {
            let error = room.read_whole(&name, kind).unwrap_err();
            prop_assert!(matches!(error, Error::Damaged { .. } | Error::Unsupported { .. }), "{}", error);
        }
    }
}
