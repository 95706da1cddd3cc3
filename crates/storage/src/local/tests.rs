use std::os::unix::fs::PermissionsExt;
use std::thread;

use fs_err as fs;
use pgark_system::durable::TEMPORARY_PREFIX;

use super::*;
use crate::EntryKind;

struct Repository {
    directory: tempfile::TempDir,
    storage: LocalStorage,
}

fn repository() -> Repository {
    let directory = tempfile::tempdir().unwrap();
    let storage = LocalStorage::open(directory.path()).unwrap();
    Repository { directory, storage }
}

impl Repository {
    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn put(&self, name: &str) {
        self.storage.put(&key(name), b"content", PutMode::Create).unwrap();
    }
}

fn key(text: &str) -> Key {
    Key::parse(text).unwrap()
}

fn names_below(storage: &LocalStorage, prefix: Option<&str>) -> Result<Vec<String>> {
    let mut names = Vec::new();
    storage.list(prefix.map(key).as_ref(), &mut |object| {
        names.push(object.key.to_string());
        ControlFlow::Continue(())
    })?;
    Ok(names)
}

/// What every operation on `name` fails with.
fn every_operation(storage: &LocalStorage, name: &str) -> Vec<Error> {
    let key = key(name);
    vec![
        storage.head(&key).unwrap_err(),
        storage.get(&key, 9).unwrap_err(),
        storage.get_range(&key, 0, 1).unwrap_err(),
        storage.get_tail(&key, 1).unwrap_err(),
        storage.put(&key, b"", PutMode::Create).unwrap_err(),
        storage.put(&key, b"", PutMode::Replace).unwrap_err(),
        storage.create(&key).unwrap_err(),
        storage.list(Some(&key), &mut |_| ControlFlow::Continue(())).unwrap_err(),
        storage.list_directory(Some(&key)).unwrap_err(),
        storage.delete(&key).unwrap_err(),
    ]
}

#[test]
fn keeps_what_every_driver_promises() {
    let directory = tempfile::tempdir().unwrap();
    let number = std::cell::Cell::new(0);
    crate::conformance::run(|| {
        number.set(number.get() + 1);
        Box::new(LocalStorage::create_root(&directory.path().join(number.get().to_string())).unwrap())
    });
}

#[test]
fn a_missing_root_is_no_empty_repository() {
    let repository = repository();
    repository.put("a/b");
    fs::rename(repository.directory.path(), repository.directory.path().with_extension("away")).unwrap();
    for error in every_operation(&repository.storage, "a/b") {
        assert_eq!(error.kind(), ErrorKind::RootMissing, "{error}");
        assert!(error.hint().is_some());
    }
    assert_eq!(LocalStorage::open(repository.directory.path()).unwrap_err().kind(), ErrorKind::RootMissing);
    assert!(!repository.directory.path().exists(), "a write created the root");
    fs::rename(repository.directory.path().with_extension("away"), repository.directory.path()).unwrap();
    assert_eq!(repository.storage.get(&key("a/b"), 9).unwrap(), b"content");
}

#[test]
fn a_root_that_is_a_file_is_missing() {
    let repository = repository();
    repository.put("file");
    let error = LocalStorage::open(&repository.path("file")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::RootMissing);
    assert_eq!(error.to_string(), format!("failed to open repository path '{}'", repository.path("file").display()));
}

#[test]
fn the_root_may_be_a_symbolic_link() {
    let repository = repository();
    repository.put("real/object");
    fs::os::unix::fs::symlink("real", repository.path("link")).unwrap();
    let storage = LocalStorage::open(&repository.path("link")).unwrap();
    assert_eq!(storage.get(&key("object"), 9).unwrap(), b"content");
    storage.put(&key("other"), b"", PutMode::Create).unwrap();
    assert!(repository.path("real/other").exists());
}

#[test]
fn symbolic_links_are_not_followed() {
    let repository = repository();
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("secret"), b"secret").unwrap();
    fs::os::unix::fs::symlink(outside.path(), repository.path("link")).unwrap();
    for error in every_operation(&repository.storage, "link/secret") {
        assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
        assert!(std::error::Error::source(&error).unwrap().to_string().contains("symbolic link"));
    }
    for error in every_operation(&repository.storage, "link/new/object") {
        assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
    }
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 1, "something was written outside");
    assert_eq!(fs::read(outside.path().join("secret")).unwrap(), b"secret");
}

#[test]
fn a_link_to_a_file_is_no_object() {
    let repository = repository();
    repository.put("real");
    fs::os::unix::fs::symlink("real", repository.path("link")).unwrap();
    assert_eq!(repository.storage.get(&key("link"), 9).unwrap_err().kind(), ErrorKind::Invalid);
    assert_eq!(repository.storage.head(&key("link")).unwrap_err().kind(), ErrorKind::Invalid);
}

#[test]
fn a_listing_that_meets_a_link_does_not_pass_as_complete() {
    let repository = repository();
    repository.put("a/b/1");
    fs::rename(repository.path("a/b"), repository.path("elsewhere")).unwrap();
    fs::os::unix::fs::symlink("../elsewhere", repository.path("a/b")).unwrap();
    assert_eq!(names_below(&repository.storage, Some("a")).unwrap_err().kind(), ErrorKind::Invalid);
    assert_eq!(repository.storage.list_directory(Some(&key("a"))).unwrap_err().kind(), ErrorKind::Invalid);
}

#[test]
fn a_directory_is_no_object() {
    let repository = repository();
    repository.put("a/b");
    let directory = key("a");
    let storage = &repository.storage;
    let errors = [
        storage.head(&directory).unwrap_err(),
        storage.get(&directory, 9).unwrap_err(),
        storage.get_range(&directory, 0, 1).unwrap_err(),
        storage.get_tail(&directory, 1).unwrap_err(),
        storage.put(&directory, b"", PutMode::Create).unwrap_err(),
        storage.put(&directory, b"", PutMode::Replace).unwrap_err(),
        storage.delete(&directory).unwrap_err(),
        // Nor an object a directory.
        storage.put(&key("a/b/c"), b"", PutMode::Create).unwrap_err(),
        storage.put(&key("a/b/c/d"), b"", PutMode::Create).unwrap_err(),
    ];
    for error in errors {
        assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
    }
    assert_eq!(names_below(storage, None).unwrap(), ["a/b"]);
}

#[test]
fn a_pipe_stops_nobody() {
    let repository = repository();
    let made = rustix::fs::mkfifoat(rustix::fs::CWD, repository.path("pipe"), rustix::fs::Mode::RUSR);
    made.unwrap();
    assert_eq!(repository.storage.get(&key("pipe"), 9).unwrap_err().kind(), ErrorKind::Invalid);
    assert_eq!(names_below(&repository.storage, None).unwrap_err().kind(), ErrorKind::Invalid);
}

#[test]
fn leftovers_and_impossible_names_are_not_listed() {
    let repository = repository();
    repository.put("a/b");
    fs::write(repository.path(&format!("a/{TEMPORARY_PREFIX}01H")), b"half").unwrap();
    fs::write(repository.path("a/line\nbreak"), b"").unwrap();
    assert_eq!(names_below(&repository.storage, None).unwrap(), ["a/b"]);
    let entries = repository.storage.list_directory(Some(&key("a"))).unwrap();
    assert_eq!(entries.len(), 1);
    assert!(matches!(&entries[0].kind, EntryKind::Object(info) if info.key == key("a/b")));
}

#[test]
fn files_and_directories_have_pgbackrests_permissions() {
    let repository = repository();
    repository.put("a/b");
    let mode = |name| fs::metadata(repository.path(name)).unwrap().permissions().mode() & 0o7777;
    let masked = rustix::process::umask(rustix::fs::Mode::empty());
    let _restored = rustix::process::umask(masked);
    assert_eq!(mode("a/b"), FILE_MODE & !masked.bits());
    assert_eq!(mode("a"), DIRECTORY_MODE & !masked.bits());
}

#[test]
fn directories_go_with_their_last_object() {
    let repository = repository();
    for name in ["a/b/c/1", "a/b/2", "d/3"] {
        repository.put(name);
    }
    fs::write(repository.path(&format!("d/{TEMPORARY_PREFIX}01H")), b"half").unwrap();
    repository.storage.delete_all(&[key("a/b/c/1"), key("d/3")]).unwrap();
    assert!(!repository.path("a/b/c").exists());
    assert!(repository.path("a/b").exists());
    repository.storage.delete(&key("a/b/2")).unwrap();
    assert!(!repository.path("a").exists());
    assert!(repository.path("d").exists(), "a stream may be under way in it");
    assert!(repository.directory.path().exists());
}

#[test]
fn writers_survive_that_their_directory_is_removed_as_empty() {
    let repository = repository();
    let storage = &repository.storage;
    thread::scope(|scope| {
        for thread in 0..4 {
            scope.spawn(move || {
                for number in 0..50 {
                    let name = key(&format!("a/b/{thread}-{number}"));
                    storage.put(&name, b"x", PutMode::Create).unwrap();
                    assert!(storage.head(&name).unwrap().is_some());
                    storage.delete(&name).unwrap();
                }
            });
        }
    });
    assert!(!repository.path("a").exists());
}

#[test]
fn unfinished_files_go_when_nobody_has_written_to_them_for_long() {
    let repository = repository();
    repository.put("a/object");
    let names = ["a", "a/b", "a/b/c"].map(|directory| repository.path(&format!("{directory}/{TEMPORARY_PREFIX}x")));
    fs::create_dir_all(repository.path("a/b/c")).unwrap();
    fs::create_dir_all(repository.path("beside")).unwrap();
    let beside = repository.path(&format!("beside/{TEMPORARY_PREFIX}x"));
    for path in names.iter().chain([&beside]) {
        fs::write(path, "half").unwrap();
    }
    let now = pgark_system::clock::now();
    let hours = |hours| jiff::SignedDuration::from_hours(hours);
    assert_eq!(repository.storage.remove_unfinished(&key("a"), now - hours(1)).unwrap(), 0);
    assert_eq!(repository.storage.remove_unfinished(&key("none"), now + hours(1)).unwrap(), 0);
    assert_eq!(repository.storage.remove_unfinished(&key("a"), now + hours(1)).unwrap(), 3);
    assert!(beside.exists() && !names.iter().any(|path| path.exists()));
    assert_eq!(names_below(&repository.storage, None).unwrap(), ["a/object"]);
}

#[test]
fn another_process_may_remove_and_create_directories() {
    let repository = repository();
    repository.put("a/b/1");
    fs::remove_dir_all(repository.path("a")).unwrap();
    repository.put("a/b/2");
    let other = LocalStorage::open(repository.directory.path()).unwrap();
    other.delete(&key("a/b/2")).unwrap();
    repository.put("a/b/3");
    assert_eq!(names_below(&other, None).unwrap(), ["a/b/3"]);
}
