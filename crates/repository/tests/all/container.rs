//! Damage: whatever becomes of an object's bytes or its name, it is refused, and what is read is never wrong.

use std::sync::Arc;

use pgark_repository::codec::Compression;
use pgark_repository::container::{BlockEncoder, ObjectKind, WriteOptions};
use pgark_repository::session::{Session, SessionKind};
use pgark_repository::wal::{Archive, SentSegment, WalDocument};
use pgark_repository::{Error, Repository};
use pgark_storage::{Key, Storage};
use ulid::Ulid;

use crate::backups::{Backup, Item, Taken, cluster};
use crate::room::{PASSPHRASE, Room, passphrase};
use crate::sample::{self, ANALYSIS, BACKUP_HISTORY, FULL, HISTORY, INCREMENTAL, label, stanza};

/// At least two small objects of each kind of which there can be two.
pub(crate) fn fill(room: &Room, compression: Compression) {
    let (repository, stanza) = (&room.repository, &stanza());
    for id in [1, 2] {
        let cluster = pgark_repository::repository::Cluster { id, ..cluster() };
        repository.add_cluster(stanza, &cluster).unwrap();
        let _left_open = Session::begin(repository, stanza, SessionKind::Backup, "db1".into(), Vec::new()).unwrap();
    }
    let archive = Archive::new(repository, stanza.clone(), cluster().archive());
    for segment in ["000000010000000000000004", "000000010000000000000005"] {
        let bytes = segment.repeat(20).into_bytes();
        let document = WalDocument { size: bytes.len() as u64, ..sample::wal_document(segment) };
        archive
            .send_segment(
                &document,
                &bytes,
                || ANALYSIS.to_vec(),
                &mut BlockEncoder::of_wal(WriteOptions { compression, verify: true }),
                1,
            )
            .and_then(SentSegment::finish)
            .unwrap();
    }
    archive.store_history(HISTORY, &sample::wal_bytes(HISTORY)).unwrap();
    archive.store_history(BACKUP_HISTORY, &sample::wal_bytes(BACKUP_HISTORY)).unwrap();
    let mut taken = Taken::default();
    for (session, text) in [(1, FULL), (2, INCREMENTAL)] {
        let session = Ulid::from_bytes([session; 16]);
        let backup = Backup { repository, stanza, label: label(text), session, compression };
        let items = [
            Item::directory(""),
            Item { map_in_pack: true, ..Item::file("base/5/1259", text.repeat(15).into_bytes()) },
            Item { late: true, ..Item::file("global/pg_control", text.repeat(9).into_bytes()) },
        ];
        taken = backup.take(&items, &taken).unwrap();
    }
}

/// The error says that the object is damaged, or of a kind that this program does not know, and names it.
fn assert_refused(room: &Room, name: &Key, kind: ObjectKind, change: &str) {
    match room.read_whole(name, kind) {
        Err(Error::Damaged { object, .. } | Error::Unsupported { object, .. }) => assert_eq!(object, name.as_str()),
        other => panic!("{}: '{name}', {change}: {other:?}", room.name),
    }
}

#[test]
fn every_changed_byte_is_found() {
    for room in [Room::plain(), Room::encrypted()] {
        fill(&room, Compression::None);
        for (name, kind) in room.objects() {
            // The manifest's blocks are always compressed.
            if kind == ObjectKind::Manifest && room.name.starts_with("plain") {
                continue;
            }
            let whole = room.bytes(&name);
            for position in 0..whole.len() {
                for mask in [0x01, 0x80, 0xFF] {
                    let mut changed = whole.clone();
                    changed[position] ^= mask;
                    room.replace(&name, &changed);
                    assert_refused(&room, &name, kind, &format!("byte {position} changed by {mask:#04x}"));
                }
            }
            room.replace(&name, &whole);
            room.read_whole(&name, kind).unwrap();
        }
    }
}

/// Compressed bytes have more than one form that gives the same plain bytes: that one is taken for another is no harm.
#[test]
fn a_changed_byte_of_a_compressed_block_is_found_or_changes_nothing() {
    for compression in [Compression::Zstd(3), Compression::Lz4] {
        let room = Room::plain();
        fill(&room, compression);
        for (name, kind) in room.objects() {
            let whole = room.bytes(&name);
            let content = room.read_whole(&name, kind).unwrap();
            let mut refused = 0;
            for position in 0..whole.len() {
                let mut changed = whole.clone();
                changed[position] ^= 0x10;
                room.replace(&name, &changed);
                match room.read_whole(&name, kind) {
                    Ok(found) => assert!(found == content, "'{name}', byte {position}"),
                    Err(Error::Damaged { object, .. } | Error::Unsupported { object, .. }) => {
                        assert_eq!(object, name.as_str());
                        refused += 1;
                    }
                    Err(error) => panic!("'{name}', byte {position}: {error}"),
                }
            }
            assert!(refused * 100 > whole.len() * 98, "'{name}': {refused} of {} bytes", whole.len());
            room.replace(&name, &whole);
        }
    }
}

#[test]
fn an_object_that_was_cut_off_or_grew_is_refused() {
    for room in [Room::plain(), Room::encrypted()] {
        fill(&room, Compression::Zstd(3));
        for (name, kind) in room.objects() {
            let whole = room.bytes(&name);
            for length in 0..whole.len() {
                room.replace(&name, &whole[..length]);
                assert_refused(&room, &name, kind, &format!("cut to {length}"));
                room.replace(&name, &whole[whole.len() - length..]);
                assert_refused(&room, &name, kind, &format!("only its last {length}"));
            }
            let trailer = &whole[whole.len() - 192..];
            for added in [&[0][..], &[0; 16], &[0xFF; 192], trailer, &whole] {
                room.replace(&name, &[&whole, added].concat());
                assert_refused(&room, &name, kind, &format!("{} bytes added", added.len()));
                room.replace(&name, &[added, &whole].concat());
                assert_refused(&room, &name, kind, &format!("{} bytes put before", added.len()));
            }
            room.replace(&name, &whole);
        }
    }
}

#[test]
fn an_object_is_only_good_under_its_own_name() {
    for room in [Room::plain(), Room::encrypted()] {
        fill(&room, Compression::Zstd(3));
        let objects = room.objects();
        let mut swaps = 0;
        for (name, kind) in &objects {
            let own = room.bytes(name);
            for (other, other_kind) in objects.iter().filter(|(other, _)| other != name) {
                room.replace(name, &room.bytes(other));
                assert_refused(&room, name, *kind, &format!("'{other}' in its place"));
                if other_kind == kind {
                    swaps += 1;
                }
            }
            room.replace(name, &own);
        }
        // Both ways, for: cluster, session, WAL object, history, pack, manifest.
        assert_eq!(swaps, 12, "{}", room.name);
    }
}

#[test]
fn an_object_of_another_repository_is_refused() {
    for (room, other) in [
        (Room::plain(), Room::plain()),
        (Room::encrypted(), Room::encrypted()),
        (Room::plain(), Room::encrypted()),
        (Room::encrypted(), Room::plain()),
    ] {
        fill(&room, Compression::Zstd(3));
        fill(&other, Compression::Zstd(3));
        for (name, kind) in room.objects() {
            // Sessions and key slots have names that no other repository has.
            if other.storage.head(&name).unwrap().is_none() || name.as_str() == "pgark.repo" {
                continue;
            }
            room.replace(&name, &other.bytes(&name));
            let error = room.read_whole(&name, kind).unwrap_err();
            assert!(error.to_string().contains("belongs to another repository"), "{name}: {error}");
        }
    }
}

/// The descriptor and the key slots are read in their own way, before there is a key.
#[test]
fn a_repository_opens_as_it_was_or_not_at_all() {
    for (room, encryption) in
        [(Room::plain(), pgark_repository::Encryption::None), (Room::encrypted(), passphrase(PASSPHRASE))]
    {
        let descriptor = room.repository.descriptor().clone();
        for (name, kind) in room.objects() {
            let whole = room.bytes(&name);
            let header = 0..64;
            let trailer = whole.len() - 192..whole.len();
            let document = (80..trailer.start).step_by(5);
            for position in header.chain(document).chain(trailer) {
                let mut changed = whole.clone();
                changed[position] ^= 0x01;
                room.replace(&name, &changed);
                match Repository::open(Arc::clone(&room.storage), &encryption) {
                    Err(Error::Damaged { object, .. } | Error::Unsupported { object, .. }) => {
                        assert_eq!(object, name.as_str());
                    }
                    Ok(opened) => panic!("{kind:?}, byte {position}: {:?}", opened.descriptor()),
                    Err(error) => panic!("{kind:?}, byte {position}: {error}"),
                }
            }
            for length in [0, 1, 31, 32, 64, 191, 192, 255, 256, whole.len() - 1] {
                room.replace(&name, &whole[..length]);
                let error = Repository::open(Arc::clone(&room.storage), &encryption).unwrap_err();
                assert!(matches!(error, Error::Damaged { .. }), "{kind:?} of {length} bytes: {error}");
            }
            room.replace(&name, &whole);
        }
        let opened = Repository::open(Arc::clone(&room.storage), &encryption).unwrap();
        assert_eq!(*opened.descriptor(), descriptor);
    }
}

#[test]
fn a_hint_says_what_to_do() {
    let room = Room::plain();
    let name = Key::parse("pgark.repo").unwrap();
    room.replace(&name, b"PGARKREP");
    let error = room.read_whole(&name, ObjectKind::Descriptor).unwrap_err();
    assert_eq!(error.to_string(), "object 'pgark.repo' is damaged: it is shorter than any object of pgark");
    assert!(error.hint().unwrap().contains("restore the object"));
    let storage: &dyn Storage = &*room.storage;
    storage.delete(&name).unwrap();
    assert!(room.read_whole(&name, ObjectKind::Descriptor).unwrap_err().is_not_found());
}
