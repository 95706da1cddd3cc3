//! Creating and opening repositories, stanzas and sessions.

use std::sync::Arc;

use pgark_repository::key_slot::KeySlot;
use pgark_repository::names;
use pgark_repository::repository::Cluster;
use pgark_repository::session::{Session, SessionKind, sessions};
use pgark_repository::{Encryption, Error, Repository};
use pgark_storage::fault::{Effect, Fault, FaultyStorage};
use pgark_storage::{ErrorKind, Key, LocalStorage, MemoryStorage, Operation, PutMode, Storage};
use ulid::Ulid;

use crate::backups::cluster;
use crate::draft::{Draft, DraftBlock};
use crate::room::{PASSPHRASE, Room, create, passphrase};
use crate::sample::{label, stanza};

fn memory() -> Arc<dyn Storage> {
    Arc::new(MemoryStorage::new())
}

fn slots(storage: &dyn Storage) -> Vec<Key> {
    let entries = storage.list_directory(Some(&names::key_slots().unwrap())).unwrap();
    entries.iter().map(|entry| names::key_slot(Ulid::from_string(&entry.name).unwrap()).unwrap()).collect()
}

#[test]
fn a_repository_is_created_once_and_opened_after_that() {
    for encryption in [Encryption::None, passphrase(PASSPHRASE)] {
        let storage = memory();
        let error = Repository::open(Arc::clone(&storage), &encryption).unwrap_err();
        assert!(matches!(error, Error::NoRepository { .. }), "{error}");
        let created = create(Arc::clone(&storage), &encryption).unwrap();
        let again = create(Arc::clone(&storage), &encryption).unwrap();
        let opened = Repository::open(Arc::clone(&storage), &encryption).unwrap();
        for repository in [again, opened] {
            assert_eq!(repository.descriptor(), created.descriptor());
            assert_eq!(repository.vault().hash(b"x"), created.vault().hash(b"x"));
        }
        assert_eq!(slots(&*storage).len(), usize::from(matches!(encryption, Encryption::Passphrase(_))));
        assert_eq!(created.descriptor().program, "pgark 0.0.0");
        assert!(created.descriptor().storage.conditional_create);
    }
}

/// A disk that is not mounted is no empty repository.
#[test]
fn a_directory_that_is_gone_is_not_taken_for_an_empty_one() {
    let directory = tempfile::tempdir().unwrap();
    let storage: Arc<dyn Storage> = Arc::new(LocalStorage::open(directory.path()).unwrap());
    directory.close().unwrap();
    for result in [Repository::open(Arc::clone(&storage), &Encryption::None), create(storage, &Encryption::None)] {
        match result {
            Err(Error::Storage(error)) => assert_eq!(error.kind(), ErrorKind::RootMissing),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn only_the_pass_phrase_opens_an_encrypted_repository() {
    let room = Room::encrypted();
    for wrong in ["", "correct horse battery stapl", "Correct horse battery staple"] {
        let error = Repository::open(Arc::clone(&room.storage), &passphrase(wrong)).unwrap_err();
        assert!(matches!(error, Error::WrongPassphrase { .. }), "{error}");
        let error = create(Arc::clone(&room.storage), &passphrase(wrong)).unwrap_err();
        assert!(matches!(error, Error::WrongPassphrase { .. }), "{error}");
    }
    assert_eq!(slots(&*room.storage).len(), 1);
}

#[test]
fn configuration_and_repository_must_agree_on_encryption() {
    for (room, encryption, message) in [
        (Room::plain(), passphrase(PASSPHRASE), "has cipher 'none', but the configuration says 'aes-256-gcm'"),
        (Room::encrypted(), Encryption::None, "has cipher 'aes-256-gcm', but the configuration says 'none'"),
    ] {
        let before = room.objects();
        for result in
            [Repository::open(Arc::clone(&room.storage), &encryption), create(Arc::clone(&room.storage), &encryption)]
        {
            let error = result.unwrap_err();
            assert!(matches!(error, Error::CipherMismatch { .. }) && error.to_string().contains(message), "{error}");
        }
        assert_eq!(room.objects(), before);
    }
}

/// A key slot that is made by the page, so that a second pass phrase can be tried.
fn add_slot(room: &Room, name: &Key, repository: [u8; 16], passphrase: &str, master: &[u8; 32]) {
    let slot = KeySlot::wrap(repository, name, passphrase, master).unwrap();
    let block = DraftBlock::new(1, &serde_json::to_vec(&slot).unwrap());
    room.replace(name, &Draft::new(*b"PGARKKEY", repository, vec![block]).write(name.as_str()));
}

fn slot_name(first_byte: u8) -> Key {
    names::key_slot(Ulid::from_bytes([first_byte; 16])).unwrap()
}

#[test]
fn key_slots_of_an_interrupted_creation_are_passed_over() {
    let room = Room::encrypted();
    let interrupted = Room::encrypted();
    for slot in slots(&*interrupted.storage) {
        room.replace(&slot, &interrupted.bytes(&slot));
    }
    // These lie before and after the repository's own, and would give other keys.
    for first_byte in [0, 0xFF] {
        add_slot(&room, &slot_name(first_byte), [first_byte; 16], PASSPHRASE, &[9; 32]);
    }
    let opened = Repository::open(Arc::clone(&room.storage), &passphrase(PASSPHRASE)).unwrap();
    assert_eq!(opened.vault().hash(b"x"), room.repository.vault().hash(b"x"));
    let error = Repository::open(Arc::clone(&room.storage), &passphrase("wrong")).unwrap_err();
    assert!(matches!(error, Error::WrongPassphrase { .. }), "{error}");
}

#[test]
fn any_slot_that_opens_will_do() {
    let room = Room::encrypted();
    let id = room.repository.vault().repository();
    let [own] = &slots(&*room.storage)[..] else { panic!("one slot") };
    let block = &room.read_whole(own, pgark_repository::container::ObjectKind::KeySlot).unwrap()[0];
    let slot: KeySlot = serde_json::from_slice(block).unwrap();
    let master = slot.unwrap(id, own, PASSPHRASE).unwrap().unwrap();
    add_slot(&room, &slot_name(0), id, "another", &master);
    for text in [PASSPHRASE, "another"] {
        let opened = Repository::open(Arc::clone(&room.storage), &passphrase(text)).unwrap();
        assert_eq!(opened.vault().hash(b"x"), room.repository.vault().hash(b"x"));
    }
    // A slot is damaged: the others still open, and where none does, the damage is what is said.
    room.replace(&slot_name(0), b"nothing like a slot");
    Repository::open(Arc::clone(&room.storage), &passphrase(PASSPHRASE)).unwrap();
    let error = Repository::open(Arc::clone(&room.storage), &passphrase("another")).unwrap_err();
    assert!(matches!(&error, Error::Damaged { object, .. } if *object == slot_name(0).to_string()), "{error}");
}

#[test]
fn a_slot_that_would_exhaust_the_machine_or_is_not_known_is_refused() {
    let room = Room::encrypted();
    let id = room.repository.vault().repository();
    let [own] = &slots(&*room.storage)[..] else { panic!("one slot") };
    let block = &room.read_whole(own, pgark_repository::container::ObjectKind::KeySlot).unwrap()[0];
    let slot: serde_json::Value = serde_json::from_slice(block).unwrap();
    let open = |member: &str, value: serde_json::Value| {
        let mut slot = slot.clone();
        slot[member] = value;
        let block = DraftBlock::new(1, slot.to_string().as_bytes());
        room.replace(own, &Draft::new(*b"PGARKKEY", id, vec![block]).write(own.as_str()));
        Repository::open(Arc::clone(&room.storage), &passphrase(PASSPHRASE)).unwrap_err()
    };
    for (member, value) in [
        ("memory_kib", u32::MAX.into()),
        ("memory_kib", ((1_u32 << 20) + 1).into()),
        ("memory_kib", ((8_u32 << 10) - 1).into()),
        ("passes", 17.into()),
        ("passes", 0.into()),
        ("lanes", 17.into()),
        ("lanes", 0.into()),
        ("salt", "AAAA".into()),
        ("nonce", "not base64".into()),
        ("wrapped", "".into()),
    ] {
        let error = open(member, value);
        assert!(matches!(error, Error::Damaged { .. }), "{member}: {error}");
    }
    assert!(matches!(open("kdf", "scrypt".into()), Error::Unsupported { .. }));
    assert!(matches!(open("passes", 3.into()), Error::WrongPassphrase { .. }));
}

/// Two `stanza-create` at once: both end with the same repository.
#[test]
fn of_two_that_create_one_repository_wins_and_both_have_it() {
    for text in [None, Some(PASSPHRASE)] {
        let encryption = move || text.map_or(Encryption::None, passphrase);
        let inner = Arc::new(MemoryStorage::new());
        let storage = FaultyStorage::new(Arc::clone(&inner) as Arc<dyn Storage>);
        let rival_inner = Arc::clone(&inner);
        let rival = Effect::Interleave(Arc::new(move |_| {
            create(Arc::clone(&rival_inner) as Arc<dyn Storage>, &encryption()).unwrap();
        }));
        storage.inject(Fault::new(rival).on(Operation::Put).key_containing("pgark.repo"));
        let created = create(Arc::new(storage.clone()), &encryption()).unwrap();
        assert_eq!(storage.fired(), 1);
        let opened = Repository::open(inner, &encryption()).unwrap();
        assert_eq!(created.descriptor(), opened.descriptor());
        assert_eq!(created.vault().hash(b"x"), opened.vault().hash(b"x"));
    }
}

#[test]
fn a_stanza_has_the_clusters_that_were_added() {
    for room in Room::all() {
        let repository = &room.repository;
        assert!(repository.stanzas().unwrap().is_empty());
        assert!(repository.clusters(&stanza()).unwrap().is_empty());
        assert!(repository.backups(&stanza()).unwrap().is_empty());
        let clusters: Vec<_> = (1..=11).map(|id| Cluster { id, version: (9 + id).to_string(), ..cluster() }).collect();
        for cluster in &clusters {
            repository.add_cluster(&stanza(), cluster).unwrap();
        }
        repository.add_cluster(&"another.one".parse().unwrap(), &clusters[0]).unwrap();
        assert_eq!(repository.clusters(&stanza()).unwrap(), clusters, "{}", room.name);
        let stanzas = repository.stanzas().unwrap();
        assert_eq!(stanzas, ["another.one".parse().unwrap(), stanza()], "{}", room.name);

        let error = repository.add_cluster(&stanza(), &Cluster { version: "x".into(), ..cluster() }).unwrap_err();
        assert!(matches!(&error, Error::Storage(error) if error.is_already_exists()), "{error}");
        assert_eq!(repository.clusters(&stanza()).unwrap(), clusters, "{}", room.name);
    }
}

#[test]
fn a_cluster_must_have_the_number_of_its_name() {
    let room = Room::plain();
    let document = serde_json::to_vec(&cluster()).unwrap();
    let name = names::cluster(&stanza(), 7).unwrap();
    let draft = Draft::new(*b"PGARKCLU", room.repository.vault().repository(), vec![DraftBlock::new(1, &document)]);
    room.replace(&name, &draft.write(name.as_str()));
    let error = room.repository.clusters(&stanza()).unwrap_err();
    assert_eq!(error.to_string(), "object 'stanza/demo/cluster/7' is damaged: it says that it is cluster 2");
}

#[test]
fn a_session_is_seen_from_its_beginning_to_its_end() {
    for room in Room::all() {
        let repository = &room.repository;
        let relies_on = vec![label("20261122-120531F")];
        let kind = SessionKind::Backup;
        let mut session = Session::begin(repository, &stanza(), kind, "db1".into(), relies_on.clone()).unwrap();
        let other = Session::begin(repository, &stanza(), kind, "db2".into(), Vec::new()).unwrap();
        let [first, second] = &sessions(repository, &stanza()).unwrap()[..] else { panic!("two sessions") };
        let (found, _) = if first.id == session.id() { (first, second) } else { (second, first) };
        assert_eq!((found.id, &*found.host, &found.relies_on), (session.id(), "db1", &relies_on), "{}", room.name);
        assert_eq!((found.process, found.renewed), (std::process::id(), found.started));
        other.end().unwrap();

        session.renew().unwrap();
        let [renewed] = &sessions(repository, &stanza()).unwrap()[..] else { panic!("one session") };
        assert!(renewed.renewed > found.renewed && renewed.started == found.started, "{}", room.name);
        session.end().unwrap();
        assert!(sessions(repository, &stanza()).unwrap().is_empty());
    }
}

/// A session may end between the listing and the reading of it.
#[test]
fn a_session_that_ends_meanwhile_is_left_out() {
    let inner = Arc::new(MemoryStorage::new());
    let storage = FaultyStorage::new(Arc::clone(&inner) as Arc<dyn Storage>);
    let repository = create(Arc::new(storage.clone()), &Encryption::None).unwrap();
    let session = Session::begin(&repository, &stanza(), SessionKind::Backup, "db1".into(), Vec::new()).unwrap();
    let name = names::session(&stanza(), session.id()).unwrap();
    let ending = Effect::Interleave(Arc::new(move |inner| inner.delete(&name).unwrap()));
    storage.inject(Fault::new(ending).on(Operation::GetTail).key_containing("session"));
    assert!(sessions(&repository, &stanza()).unwrap().is_empty());
    assert_eq!(storage.fired(), 1);
}

/// What others put below the repository's path is none of its business.
#[test]
fn names_that_are_not_the_formats_are_passed_over() {
    let room = Room::encrypted();
    room.repository.add_cluster(&stanza(), &cluster()).unwrap();
    let [own] = &slots(&*room.storage)[..] else { panic!("one slot") };
    let ulid = own.name().to_lowercase();
    for name in [
        "archive/demo/archive.info",
        "stanza/-x/y",
        "stanza/demo/cluster/02",
        "stanza/demo/cluster/+2",
        "stanza/demo/cluster/two",
        "stanza/demo/session/x",
        &format!("stanza/demo/session/{ulid}"),
        "stanza/demo/backup/x/y",
        "key/notes",
        &format!("key/{ulid}"),
    ] {
        room.storage.put(&Key::parse(name).unwrap(), b"something else", PutMode::Create).unwrap();
    }
    let repository = Repository::open(Arc::clone(&room.storage), &passphrase(PASSPHRASE)).unwrap();
    assert_eq!(repository.clusters(&stanza()).unwrap(), [cluster()]);
    assert!(sessions(&repository, &stanza()).unwrap().is_empty());
    assert!(repository.backups(&stanza()).unwrap().is_empty());
    assert_eq!(repository.stanzas().unwrap(), [stanza()]);
}
