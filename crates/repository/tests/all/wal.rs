//! The archive: a segment is stored once, and the same segment again is no error.

use std::sync::Arc;

use pgark_repository::codec::Compression;
use pgark_repository::container::{BlockEncoder, WriteOptions};
use pgark_repository::names;
use pgark_repository::wal::{Archive, SentSegment, Stored, WalDocument};
use pgark_repository::{ArchiveId, Encryption, Error, Repository, Result};
use pgark_storage::fault::{Effect, Fault, FaultyStorage, Interruption};
use pgark_storage::{ErrorKind, MemoryStorage, Operation, Storage};

use crate::backups::cluster;
use crate::draft::{Draft, DraftBlock};
use crate::room::{PASSPHRASE, Room, create, passphrase};
use crate::sample::{ANALYSIS, BACKUP_HISTORY, HISTORY, PARTIAL, SEGMENT, stanza, wal_bytes, wal_document};

const OPTIONS: WriteOptions = WriteOptions { compression: Compression::Zstd(1), verify: true };

fn archive(repository: &Repository) -> Archive<'_> {
    Archive::new(repository, stanza(), cluster().archive())
}

fn store(archive: &Archive<'_>, segment: &str, bytes: &[u8]) -> Result<Stored> {
    let document = WalDocument { size: bytes.len() as u64, ..wal_document(segment) };
    archive.send_segment(&document, bytes, || ANALYSIS.to_vec(), &mut BlockEncoder::of_wal(OPTIONS), 1)?.finish()
}

fn data(archive: &Archive<'_>, segment: &str) -> Vec<u8> {
    archive.segment(segment).unwrap().data().collect::<Result<Vec<_>>>().unwrap().concat()
}

fn assert_conflict(result: Result<Stored>, object: &str) {
    match result {
        Err(Error::Conflict { object: found }) => assert!(found.ends_with(object), "{found}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_segment_comes_back_with_all_that_is_kept_beside_it() {
    for room in Room::all() {
        let archive = archive(&room.repository);
        for (segment, blocks, analysis) in [(SEGMENT, 2, ANALYSIS), (PARTIAL, 1, b"")] {
            let bytes = wal_bytes(segment);
            assert!(!archive.contains(segment).unwrap());
            let stored = archive
                .send_segment(
                    &wal_document(segment),
                    &bytes,
                    || analysis.to_vec(),
                    &mut BlockEncoder::of_wal(OPTIONS),
                    1,
                )
                .and_then(SentSegment::finish)
                .unwrap();
            assert_eq!(stored, Stored::New);
            assert!(archive.contains(segment).unwrap());
            let object = archive.segment(segment).unwrap();
            let data: Vec<_> = object.data().collect::<Result<_>>().unwrap();
            assert_eq!(data.len(), blocks);
            assert!(data.concat() == bytes, "{segment}, {}", room.name);
            let hash = blake3::Hash::from_bytes(room.repository.vault().hash(&bytes)).to_hex();
            assert_eq!(*object.document(), WalDocument { hash: hash.to_string(), ..wal_document(segment) });
            assert_eq!(object.analysis().unwrap(), analysis);
            assert!(object.has_content(&archive.hash_content(&bytes[..]).unwrap()), "{}", room.name);
            assert!(!object.has_content(&archive.hash_content(&bytes[1..]).unwrap()), "{}", room.name);
        }
    }
}

/// Whoever takes a segment for archived before its storage says so loses it with the next power cut.
#[test]
fn a_segment_that_was_sent_is_there_only_when_that_is_finished() {
    for room in Room::all() {
        let archive = archive(&room.repository);
        let (bytes, document) = (wal_bytes(SEGMENT), wal_document(SEGMENT));
        for workers in [1, 4] {
            let send = |bytes: &[u8]| {
                archive.send_segment(
                    &document,
                    bytes,
                    || ANALYSIS.to_vec(),
                    &mut BlockEncoder::of_wal(OPTIONS),
                    workers,
                )
            };
            drop(send(&bytes).unwrap());
            assert!(!archive.contains(SEGMENT).unwrap(), "{}", room.name);
            // Who is quicker has stored it; the other one finds it there, or something else.
            let [first, same, other] = [&bytes, &bytes, &wal_bytes(PARTIAL)].map(|bytes| send(bytes).unwrap());
            assert!(!archive.contains(SEGMENT).unwrap(), "{}", room.name);
            assert_eq!(first.finish().unwrap(), Stored::New);
            assert_eq!(same.finish().unwrap(), Stored::Already);
            assert_conflict(other.finish(), SEGMENT);
            assert!(data(&archive, SEGMENT) == bytes, "{}", room.name);
            let name = names::wal_file(&stanza(), archive.id(), SEGMENT).unwrap();
            room.repository.storage().delete_all(&[name]).unwrap();
        }
    }
}

#[test]
fn the_same_segment_again_is_success_and_another_is_refused() {
    for room in Room::all() {
        let archive = archive(&room.repository);
        let bytes = wal_bytes(PARTIAL);
        for segment in [SEGMENT, PARTIAL] {
            assert_eq!(store(&archive, segment, &bytes).unwrap(), Stored::New);
            let name = names::wal_file(&stanza(), archive.id(), segment).unwrap();
            let object = room.bytes(&name);
            assert_eq!(store(&archive, segment, &bytes).unwrap(), Stored::Already);
            assert_conflict(store(&archive, segment, &bytes[1..]), segment);
            let mut other = bytes.clone();
            other[17] ^= 1;
            assert_conflict(store(&archive, segment, &other), segment);
            assert!(room.bytes(&name) == object, "{}", room.name);
        }
        // The whole segment and the one that ended early live beside each other.
        assert_eq!(archive.files("0000000100000000").unwrap(), [SEGMENT, PARTIAL]);
    }
}

/// An archive that holds a damaged object must not say that the segment is safe.
#[test]
fn a_damaged_object_is_not_taken_for_the_segment() {
    let room = Room::plain();
    let archive = archive(&room.repository);
    store(&archive, SEGMENT, &wal_bytes(PARTIAL)).unwrap();
    let name = names::wal_file(&stanza(), archive.id(), SEGMENT).unwrap();
    let whole = room.bytes(&name);
    let cut_short = whole[..whole.len() - 1].to_vec();
    let mut flipped = whole.clone();
    flipped[100] ^= 1;
    for damaged in [cut_short, flipped] {
        room.replace(&name, &damaged);
        let error = store(&archive, SEGMENT, &wal_bytes(PARTIAL)).unwrap_err();
        assert!(matches!(error, Error::Damaged { .. }), "{error}");
    }
}

/// The answer was lost after the segment was stored; PostgreSQL tries again.
#[test]
fn after_a_lost_answer_the_next_attempt_finds_the_segment() {
    for encryption in [Encryption::None, passphrase(PASSPHRASE)] {
        let storage = FaultyStorage::new(Arc::new(MemoryStorage::new()));
        let repository = create(Arc::new(storage.clone()), &encryption).unwrap();
        let archive = archive(&repository);
        let lost = Fault::new(Effect::FailAfterwards(ErrorKind::Unavailable));
        storage.inject(lost.clone().on(Operation::Finish));
        let error = store(&archive, SEGMENT, &wal_bytes(SEGMENT)).unwrap_err();
        assert!(matches!(&error, Error::Storage(error) if error.is_temporary()), "{error}");
        assert_eq!(store(&archive, SEGMENT, &wal_bytes(SEGMENT)).unwrap(), Stored::Already);
        assert!(data(&archive, SEGMENT) == wal_bytes(SEGMENT));

        storage.inject(lost.on(Operation::Put));
        archive.store_history(HISTORY, b"x").unwrap_err();
        assert_eq!(archive.store_history(HISTORY, b"x").unwrap(), Stored::Already);
        assert_eq!(storage.fired(), 2);
    }
}

#[test]
fn after_a_failure_nothing_is_there_and_the_next_attempt_stores_the_segment() {
    for operation in [Operation::Create, Operation::Write, Operation::Finish] {
        let storage = FaultyStorage::new(Arc::new(MemoryStorage::new()));
        let repository = create(Arc::new(storage.clone()), &Encryption::None).unwrap();
        let archive = archive(&repository);
        storage.inject(Fault::new(Effect::Fail(ErrorKind::NoSpace)).on(operation));
        let error = store(&archive, SEGMENT, &wal_bytes(PARTIAL)).unwrap_err();
        assert!(matches!(&error, Error::Storage(error) if error.kind() == ErrorKind::NoSpace), "{error}");
        assert!(!archive.contains(SEGMENT).unwrap());
        assert_eq!(store(&archive, SEGMENT, &wal_bytes(PARTIAL)).unwrap(), Stored::New);
    }
}

/// A push that was killed may have left an object that a power cut would take away.
#[test]
fn what_is_there_already_counts_only_once_it_is_durable() {
    let storage = FaultyStorage::new(Arc::new(MemoryStorage::new()));
    let repository = create(Arc::new(storage.clone()), &Encryption::None).unwrap();
    let archive = archive(&repository);
    store(&archive, SEGMENT, &wal_bytes(PARTIAL)).unwrap();
    archive.store_history(HISTORY, b"x").unwrap();
    storage.inject(Fault::new(Effect::Fail(ErrorKind::Io)).on(Operation::Persist).repeatedly());
    for error in
        [store(&archive, SEGMENT, &wal_bytes(PARTIAL)).unwrap_err(), archive.store_history(HISTORY, b"x").unwrap_err()]
    {
        assert!(matches!(&error, Error::Storage(error) if error.kind() == ErrorKind::Io), "{error}");
    }
    assert_eq!(storage.fired(), 2);
}

/// On object storage every request is a round trip that recovery waits for.
#[test]
fn a_segment_comes_with_few_requests() {
    let storage = FaultyStorage::new(Arc::new(MemoryStorage::new()));
    let repository = create(Arc::new(storage.clone()), &Encryption::None).unwrap();
    let archive = archive(&repository);
    // Bytes that do not shrink, so that it is longer than one request.
    let mut bytes = vec![0; 16 << 20];
    blake3::Hasher::new().finalize_xof().fill(&mut bytes);
    store(&archive, SEGMENT, &bytes).unwrap();
    let before = storage.log().len();
    assert!(data(&archive, SEGMENT) == bytes);
    let requests: Vec<_> = storage.log()[before..].iter().map(|entry| entry.operation).collect();
    assert_eq!(requests, [Operation::GetTail, Operation::GetRange, Operation::GetRange]);
}

/// Another process stores a segment of the same name just before `operation` of ours.
fn race(operation: Operation, theirs: Vec<u8>) -> (FaultyStorage, Result<Stored>) {
    let inner = Arc::new(MemoryStorage::new());
    let storage = FaultyStorage::new(Arc::clone(&inner) as Arc<dyn Storage>);
    let repository = create(Arc::new(storage.clone()), &Encryption::None).unwrap();
    let rival: Interruption = Arc::new(move |_| {
        let repository = create(Arc::clone(&inner) as Arc<dyn Storage>, &Encryption::None).unwrap();
        assert_eq!(store(&archive(&repository), SEGMENT, &theirs).unwrap(), Stored::New);
    });
    storage.inject(Fault::new(Effect::Interleave(rival)).on(operation).key_containing("wal"));
    let stored = store(&archive(&repository), SEGMENT, &wal_bytes(PARTIAL));
    assert_eq!(storage.fired(), 1);
    (storage, stored)
}

#[test]
fn of_two_that_store_the_same_segment_both_succeed() {
    for operation in [Operation::Create, Operation::Write, Operation::Finish] {
        assert_eq!(race(operation, wal_bytes(PARTIAL)).1.unwrap(), Stored::Already, "{operation:?}");
    }
}

/// Two clusters that archive to one stanza: the second must never be told that its segment is safe.
#[test]
fn of_two_that_store_different_segments_one_is_refused() {
    for operation in [Operation::Create, Operation::Write, Operation::Finish] {
        let (storage, stored) = race(operation, b"another cluster's".to_vec());
        assert_conflict(stored, SEGMENT);
        let repository = create(Arc::new(storage), &Encryption::None).unwrap();
        assert_eq!(data(&archive(&repository), SEGMENT), b"another cluster's", "{operation:?}");
    }
}

/// A driver may say that a name is taken when the object is begun already.
#[test]
fn a_name_that_is_taken_at_the_beginning_is_treated_as_at_the_end() {
    let storage = FaultyStorage::new(Arc::new(MemoryStorage::new()));
    let repository = create(Arc::new(storage.clone()), &Encryption::None).unwrap();
    let archive = archive(&repository);
    store(&archive, SEGMENT, &wal_bytes(PARTIAL)).unwrap();
    for (bytes, same) in [(wal_bytes(PARTIAL), true), (wal_bytes(HISTORY), false)] {
        storage.inject(Fault::new(Effect::Fail(ErrorKind::AlreadyExists)).on(Operation::Create));
        match store(&archive, SEGMENT, &bytes) {
            Ok(Stored::Already) => assert!(same),
            Err(Error::Conflict { .. }) => assert!(!same),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(storage.fired(), 2);
}

#[test]
fn history_files_are_kept_as_they_are() {
    for room in Room::all() {
        let archive = archive(&room.repository);
        for file in [HISTORY, BACKUP_HISTORY] {
            let bytes = wal_bytes(file);
            assert!(archive.history(file).unwrap_err().is_not_found());
            assert_eq!(archive.store_history(file, &bytes).unwrap(), Stored::New);
            assert_eq!(archive.store_history(file, &bytes).unwrap(), Stored::Already);
            assert_conflict(archive.store_history(file, b"other"), file);
            assert_eq!(archive.history(file).unwrap(), bytes, "{}", room.name);
            assert!(archive.contains(file).unwrap());
        }
        archive.store_history("0000000A.history", b"").unwrap();
        assert_eq!(archive.history("0000000A.history").unwrap(), b"");
        assert_eq!(archive.histories().unwrap(), [HISTORY, "0000000A.history"]);
        assert_eq!(archive.directories().unwrap(), ["0000000100000000"]);
        assert_eq!(archive.files("0000000100000000").unwrap(), [BACKUP_HISTORY]);
    }
}

#[test]
fn listings_are_in_order_and_of_one_archive() {
    for room in Room::all() {
        let segments = ["0000000100000000000000FF", "000000010000000100000000", "000000020000000100000001"];
        for segment in segments.iter().rev() {
            store(&archive(&room.repository), segment, b"x").unwrap();
        }
        let older = ArchiveId { version: "16".into(), number: 1 };
        let other = Archive::new(&room.repository, stanza(), older);
        store(&other, SEGMENT, b"y").unwrap();
        let archive = archive(&room.repository);
        let directories = archive.directories().unwrap();
        assert_eq!(directories, ["0000000100000000", "0000000100000001", "0000000200000001"], "{}", room.name);
        for (directory, segment) in directories.iter().zip(segments) {
            assert_eq!(archive.files(directory).unwrap(), [segment]);
        }
        assert!(archive.histories().unwrap().is_empty());
        assert!(archive.files("0000000900000000").unwrap().is_empty());
        assert!(!archive.contains(SEGMENT).unwrap() && other.contains(SEGMENT).unwrap());
    }
}

/// `archive-get` may only say "not there" where that is proven.
#[test]
fn a_storage_that_does_not_answer_is_not_an_empty_archive() {
    for kind in [ErrorKind::Unavailable, ErrorKind::RootMissing, ErrorKind::Denied, ErrorKind::Io] {
        let storage = FaultyStorage::new(Arc::new(MemoryStorage::new()));
        let repository = create(Arc::new(storage.clone()), &Encryption::None).unwrap();
        let archive = archive(&repository);
        storage.inject(Fault::new(Effect::Fail(kind)).repeatedly());
        let errors = [
            archive.segment(SEGMENT).map(drop).unwrap_err(),
            archive.contains(SEGMENT).map(drop).unwrap_err(),
            archive.history(HISTORY).map(drop).unwrap_err(),
            archive.directories().map(drop).unwrap_err(),
            archive.histories().map(drop).unwrap_err(),
            archive.files("0000000100000000").map(drop).unwrap_err(),
            store(&archive, SEGMENT, b"x").map(drop).unwrap_err(),
        ];
        for error in errors {
            assert!(!error.is_not_found(), "{error}");
            assert!(matches!(&error, Error::Storage(error) if error.kind() == kind), "{error}");
        }
    }
}

#[test]
fn names_that_are_no_files_of_the_archive_are_refused() {
    let room = Room::plain();
    let archive = archive(&room.repository);
    for file in
        ["", "short", "../../../../etc/passwd", "00000001000000000000000\u{e9}/..", "a//b.history", "../x.history"]
    {
        let error = store(&archive, file, b"x").unwrap_err();
        assert!(matches!(error, Error::Limit { .. }), "{file}: {error}");
    }
}

/// An object whose document and data disagree was not written by pgark, whatever its hashes say.
#[test]
fn a_segment_that_is_not_as_long_as_it_says_is_damaged() {
    let room = Room::plain();
    let archive = archive(&room.repository);
    let name = names::wal_file(&stanza(), archive.id(), SEGMENT).unwrap();
    for (size, is_good) in [(7, true), (6, false), (8, false)] {
        let document = serde_json::to_vec(&WalDocument { size, ..wal_document(SEGMENT) }).unwrap();
        let blocks = [(48, &b"con"[..]), (48, b"tent"), (49, b""), (1, &document)];
        let blocks = blocks.map(|(kind, plain)| DraftBlock::new(kind, plain)).to_vec();
        let draft = Draft::new(*b"PGARKWAL", room.repository.vault().repository(), blocks);
        room.replace(&name, &draft.write(name.as_str()));
        assert_eq!(archive.segment(SEGMENT).is_ok(), is_good, "{size}");
    }
}
