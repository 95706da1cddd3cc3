//! The golden files: repositories that an earlier program wrote, read by this one. `tests/golden/README.md`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fs_err as fs;
use pgark_repository::wal::Archive;
use pgark_repository::{Encryption, Repository};
use pgark_storage::{LocalStorage, Storage};

use crate::book::{Backup, Book};
use crate::room::{PASSPHRASE, objects, passphrase};
use crate::{arranged, backups, dump, restore, sample, sidecar};

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/v1")
}

fn open(name: &str) -> Repository {
    let encryption = if name.starts_with("plain") { Encryption::None } else { passphrase(PASSPHRASE) };
    let storage = LocalStorage::open(&directory().join(name)).unwrap();
    Repository::open(Arc::new(storage), &encryption).unwrap()
}

/// The files of a backup by path.
fn files(backup: &str) -> BTreeMap<Vec<u8>, Vec<u8>> {
    sample::items(backup).into_iter().filter_map(|item| Some((item.path, item.content?))).collect()
}

fn bytes(storage: &dyn Storage) -> BTreeMap<String, Vec<u8>> {
    let names = objects(storage).into_iter().map(|(name, _)| name);
    names.map(|name| (name.to_string(), storage.get(&name, u64::MAX).unwrap())).collect()
}

#[test]
fn they_say_what_they_said_when_they_were_written() {
    for name in ["", "-garbage", "-sidecar", "-arranged"]
        .iter()
        .flat_map(|kind| ["plain", "encrypted"].map(|suite| format!("{suite}{kind}")))
    {
        let expected = fs::read_to_string(directory().join(format!("{name}.txt"))).unwrap();
        let found = dump::repository(&open(&name)).unwrap();
        for (line, (found, expected)) in (1..).zip(found.lines().zip(expected.lines())) {
            assert_eq!(found, expected, "line {line} of {name}.txt");
        }
        assert_eq!(found.len(), expected.len(), "{name}.txt");
    }
}

#[test]
fn they_hold_what_was_backed_up() {
    for name in ["plain", "encrypted"] {
        let repository = open(name);
        for text in [sample::FULL, sample::INCREMENTAL] {
            let found = restore::files(&repository, &sample::stanza(), &sample::label(text)).unwrap();
            assert_eq!(found, files(text), "{text}, {name}");
        }
        let archive = Archive::new(&repository, sample::stanza(), backups::cluster().archive());
        for segment in [sample::SEGMENT, sample::PARTIAL] {
            let data: Result<Vec<_>, _> = archive.segment(segment).unwrap().data().collect();
            assert!(data.unwrap().concat() == sample::wal_bytes(segment), "{segment}, {name}");
        }
        for file in [sample::HISTORY, sample::BACKUP_HISTORY] {
            assert_eq!(archive.history(file).unwrap(), sample::wal_bytes(file), "{file}, {name}");
        }
    }
}

/// Whoever has `docs/format.md` and no pgark gets everything back.
#[test]
fn they_can_be_read_by_the_page_that_says_the_format() {
    for (name, passphrase) in [("plain", None), ("encrypted", Some(PASSPHRASE))] {
        let objects = bytes(open(name).storage());
        let book = Book::open(&objects, passphrase);
        for text in [sample::FULL, sample::INCREMENTAL] {
            let backup = Backup::open(&book, &objects, "demo", text);
            assert_eq!(backup.files(), files(text), "{text}, {name}");
            assert_eq!(backup.file_index(), [(0, Vec::new())]);
            assert_eq!(backup.manifest.document()["label"], text);
        }
        for (segment, analysis) in [(sample::SEGMENT, sample::ANALYSIS), (sample::PARTIAL, &[])] {
            let key = format!("stanza/demo/wal/17-2/0000000100000000/{segment}");
            let object = book.read(&key, &objects[&key]);
            let data = object.blocks.iter().filter(|block| block.kind == 48);
            let data: Vec<u8> = data.flat_map(|block| block.plain.clone()).collect();
            assert!(data == sample::wal_bytes(segment), "{segment}, {name}");
            assert_eq!(object.document()["hash"], blake3::Hash::from_bytes(book.hash(&data)).to_hex().as_str());
            assert_eq!(object.only(49), analysis);
        }
    }
}

/// The log of garbage and the sessions, likewise.
#[test]
fn the_log_of_garbage_is_what_the_page_says() {
    for (name, passphrase) in [("plain-garbage", None), ("encrypted-garbage", Some(PASSPHRASE))] {
        let objects = bytes(open(name).storage());
        let book = Book::open(&objects, passphrase);
        let entry = |number: u64| {
            let key = format!("stanza/demo/gc/{number:020}");
            book.read(&key, &objects[&key])
        };
        assert!(!objects.contains_key(&format!("stanza/demo/gc/{:020}", 1)), "{name}");
        let kinds: Vec<u8> = entry(2).blocks.iter().map(|block| block.kind).collect();
        assert_eq!(kinds, [64, 1], "{name}");
        assert_eq!(entry(2).only(64), [&[2; 16][..], &[255; 4], &[255; 16], &[0; 4]].concat(), "{name}");
        assert_eq!(entry(3).only(64), [&[1; 16][..], &[0; 4], &[1; 16], &[7, 0, 0, 0]].concat(), "{name}");
        assert_eq!((&entry(2).document()["kind"], &entry(3).document()["kind"]), (&"mark".into(), &"sweep".into()));
        assert_eq!(entry(3).document()["number"], 3, "{name}");
        let sessions = objects.iter().filter(|(key, _)| key.contains("/session/"));
        let sessions: Vec<_> = sessions.map(|(key, object)| book.read(key, object).document()).collect();
        let backup = sessions.iter().find(|session| session["kind"] == "backup").unwrap();
        assert_eq!((&backup["seen"], backup["adopts"].as_array().unwrap().len()), (&3.into(), 1), "{name}");
        assert!(backup["machine"]["process_started"].is_u64(), "{name}");
    }
}

/// The entries of a sidecar, likewise.
#[test]
fn a_sidecar_is_what_the_page_says() {
    let golden = ["plain-sidecar", "encrypted-sidecar"].map(|name| (name, bytes(open(name).storage())));
    let today = crate::room::Room::all().into_iter().map(|room| {
        sidecar::write(&room.repository).unwrap();
        (room.name, bytes(&*room.storage))
    });
    for (name, objects) in golden.into_iter().chain(today) {
        let passphrase = name.starts_with("encrypted").then_some(PASSPHRASE);
        let book = Book::open(&objects, passphrase);
        let backup = Backup::open(&book, &objects, "demo", sample::FULL);
        let (lines, files) = backup.sidecars();
        assert_eq!(
            lines,
            [
                "cache: directory, 640, -86400.123456789, 1795000000.000000000, 4000000000",
                "cache/blobs: directory, 640, -86399.123456789, 1795000001.000000001, 4000000001",
                "cache/blobs/model: file of 9192, 640, -86398.123456789, 1795000002.000000002, 4000000002",
                "cache/blobs/other: same as cache/blobs/model, 640, -86397.123456789, 1795000003.000000003, 4000000003",
                "cache/latest: link to blobs/model, 640, -86396.123456789, 1795000004.000000004, 4000000004",
                "cache/odd\\xff\\n: file of 0, 640, -86395.123456789, 1795000005.000000005, 4000000005",
            ],
            "{name}"
        );
        let expected = [(b"cache/blobs/model".to_vec(), sidecar::content()), (b"cache/odd\xff\n".to_vec(), Vec::new())];
        assert_eq!(files, expected.into(), "{name}");
        assert_eq!(backup.manifest.document()["sidecars"][0]["name"], "cache");
        assert!(backup.files().is_empty() && backup.file_index() == [(0, Vec::new())], "{name}");
    }
}

/// Frames in every arrangement, likewise.
#[test]
fn arrangements_are_what_the_page_says() {
    let expected: BTreeMap<_, _> =
        arranged::items().into_iter().filter_map(|item| Some((item.path, item.content?))).collect();
    for name in ["plain-arranged", "encrypted-arranged"] {
        let repository = open(name);
        let found = restore::files(&repository, &sample::stanza(), &sample::label(sample::FULL)).unwrap();
        assert!(found == expected, "{name}");
    }
    let golden = ["plain-arranged", "encrypted-arranged"].map(|name| (name, bytes(open(name).storage())));
    let today = crate::room::Room::all().into_iter().map(|room| {
        arranged::write(&room.repository).unwrap();
        (room.name, bytes(&*room.storage))
    });
    for (name, objects) in golden.into_iter().chain(today) {
        let book = Book::open(&objects, name.starts_with("encrypted").then_some(PASSPHRASE));
        let backup = Backup::open(&book, &objects, "demo", sample::FULL);
        assert!(backup.files() == expected, "{name}");
        let (_, pack) = objects.iter().find(|(key, _)| key.contains("/pack/")).unwrap();
        let frames = book.read(objects.keys().find(|key| key.contains("/pack/")).unwrap(), pack).blocks;
        for codec in [3, 4, 5] {
            assert!(frames.iter().any(|frame| frame.kind == 16 && frame.codec == codec), "codec {codec}, {name}");
        }
    }
}

/// What this program writes today is what the page says, too; the golden files may be old.
#[test]
fn the_page_says_what_is_written_today() {
    for room in crate::room::Room::all() {
        sample::write(&room.repository).unwrap();
        sample::write_garbage(&room.repository).unwrap();
        let objects = bytes(&*room.storage);
        let book = Book::open(&objects, room.name.starts_with("encrypted").then_some(PASSPHRASE));
        for (name, object) in &objects {
            book.read(name, object);
        }
        for text in [sample::FULL, sample::INCREMENTAL] {
            let backup = Backup::open(&book, &objects, "demo", text);
            assert_eq!(backup.files(), files(text), "{text}, {}", room.name);
        }
    }
}
