//! What the local driver does when the machine fails it: a killed process, a full disk, an unmounted one, one that may
//! not be written.
//!
//! A test that needs a process of its own runs itself again, with the variable `ROLE` naming the directory to work in.
//! Mounting needs a mount namespace; where the kernel allows none, these tests fail rather than pass for nothing.

#![expect(clippy::unwrap_used, reason = "tests, and what they share")]

use std::io::{BufRead, BufReader};
use std::ops::ControlFlow;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use fs_err as fs;
use pgark_storage::{ErrorKind, Key, LocalStorage, PutMode, Storage};

const ROLE: &str = "PGARK_TEST_DIRECTORY";

fn key(text: &str) -> Key {
    Key::parse(text).unwrap()
}

fn names(storage: &LocalStorage) -> Vec<String> {
    let mut names = Vec::new();
    storage
        .list(None, &mut |object| {
            names.push(object.key.to_string());
            ControlFlow::Continue(())
        })
        .unwrap();
    names
}

/// The directory to work in, in the process that plays the other part.
fn role() -> Option<PathBuf> {
    std::env::var_os(ROLE).map(PathBuf::from)
}

/// A command, run before by `wrapper` if there is one, that runs the test `name` of this program in its other part.
fn other_part(wrapper: &[&str], name: &str, directory: &Path) -> Command {
    let program = std::env::current_exe().unwrap();
    let mut command = match wrapper {
        [] => Command::new(&program),
        [first, rest @ ..] => {
            let mut command = Command::new(first);
            command.args(rest).arg(&program);
            command
        }
    };
    command.args(["--exact", name, "--nocapture"]).env(ROLE, directory);
    command
}

/// Runs the test `name` again in a mount namespace of its own, where it is root.
fn run_with_mounts(name: &str) {
    let directory = tempfile::tempdir().unwrap();
    let wrapper: &[&str] = if rustix::process::geteuid().is_root() {
        &["unshare", "--mount"]
    } else {
        &["unshare", "--user", "--map-root-user", "--mount"]
    };
    let status = other_part(wrapper, name, directory.path()).status().unwrap();
    assert!(status.success(), "failed in a mount namespace (are namespaces allowed here?): {status}");
}

fn mount(directory: &Path, options: &str) {
    let status = Command::new("mount").args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(directory).status().unwrap();
    assert!(status.success(), "mount failed: {status}");
}

#[test]
fn a_killed_stream_leaves_nothing_visible() {
    if let Some(directory) = role() {
        let storage = LocalStorage::open(&directory).unwrap();
        let mut writer = storage.create(&key("pack/1")).unwrap();
        for _ in 0..16 {
            writer.write(&vec![7; 1024 * 1024]).unwrap();
        }
        println!("under way");
        loop {
            std::thread::park();
        }
    }
    let directory = tempfile::tempdir().unwrap();
    let mut child = other_part(&[], "a_killed_stream_leaves_nothing_visible", directory.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap() == "under way"));
    assert_eq!(fs::read_dir(directory.path().join("pack")).unwrap().count(), 1, "nothing was under way");
    child.kill().unwrap();
    child.wait().unwrap();

    let storage = LocalStorage::open(directory.path()).unwrap();
    assert!(names(&storage).is_empty());
    assert!(storage.list_directory(Some(&key("pack"))).unwrap().is_empty());
    assert!(storage.head(&key("pack/1")).unwrap().is_none());
    storage.put(&key("pack/1"), b"new", PutMode::Create).unwrap();
    assert_eq!(names(&storage), ["pack/1"]);
}

/// Long enough that a kill often falls into the middle of a write.
fn content(number: usize) -> Vec<u8> {
    format!("{number} ").repeat(40_000 + number).into_bytes()
}

#[test]
fn what_was_acknowledged_before_a_kill_is_whole() {
    if let Some(directory) = role() {
        let storage = LocalStorage::open(&directory).unwrap();
        for number in 0.. {
            storage.put(&key(&format!("wal/{}/{number}", number % 3)), &content(number), PutMode::Create).unwrap();
            println!("acknowledged {number}");
        }
    }
    for milliseconds in [1, 7, 20, 45, 90] {
        let directory = tempfile::tempdir().unwrap();
        let mut child = other_part(&[], "what_was_acknowledged_before_a_kill_is_whole", directory.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert!(lines.any(|line| line.unwrap().starts_with("acknowledged")), "the writer did not start");
        std::thread::sleep(Duration::from_millis(milliseconds));
        child.kill().unwrap();
        child.wait().unwrap();
        // The last line may be torn.
        let acknowledged = 1 + lines.filter(|line| line.as_ref().unwrap().starts_with("acknowledged")).count();

        let storage = LocalStorage::open(directory.path()).unwrap();
        let found = names(&storage);
        assert!(found.len() >= acknowledged, "{acknowledged} acknowledged, {} found", found.len());
        for name in found {
            let number = name.rsplit_once('/').unwrap().1.parse().unwrap();
            assert!(storage.get(&key(&name), 10_000_000).unwrap() == content(number), "{name} is not whole");
        }
    }
}

#[test]
fn a_full_disk_is_said_and_leaves_nothing_visible() {
    let Some(directory) = role() else { return run_with_mounts("a_full_disk_is_said_and_leaves_nothing_visible") };
    mount(&directory, "size=4m");
    let storage = LocalStorage::open(&directory).unwrap();
    storage.put(&key("filler"), &vec![1; 2 * 1024 * 1024], PutMode::Create).unwrap();

    let error = storage.put(&key("a/put"), &vec![2; 3 * 1024 * 1024], PutMode::Create).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NoSpace, "{error}");
    assert!(error.hint().is_some());

    let mut writer = storage.create(&key("a/stream")).unwrap();
    let error = (0..100).find_map(|_| writer.write(&vec![3; 100_000]).err()).expect("more was written than fits");
    assert_eq!(error.kind(), ErrorKind::NoSpace, "{error}");
    // Room afterwards does not make the stream whole again.
    storage.delete(&key("filler")).unwrap();
    assert!(writer.write(b"more").is_err());
    assert!(writer.finish().is_err());
    assert!(names(&storage).is_empty());

    // What still lies in the buffer meets the full disk only at the end.
    storage.put(&key("filler"), &vec![1; 4 * 1024 * 1024 - 100_000], PutMode::Create).unwrap();
    let mut writer = storage.create(&key("a/stream")).unwrap();
    writer.write(&vec![3; 200_000]).unwrap();
    let error = writer.finish().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NoSpace, "{error}");
    assert_eq!(names(&storage), ["filler"]);
    storage.delete(&key("filler")).unwrap();
    storage.put(&key("a/put"), &vec![2; 3 * 1024 * 1024], PutMode::Create).unwrap();
}

#[test]
fn an_unmounted_disk_is_no_empty_repository() {
    let Some(directory) = role() else { return run_with_mounts("an_unmounted_disk_is_no_empty_repository") };
    mount(&directory, "size=1m");
    let storage = LocalStorage::open(&directory).unwrap();
    storage.put(&key("wal/1"), b"segment", PutMode::Create).unwrap();
    let status = Command::new("umount").arg(&directory).status().unwrap();
    assert!(status.success(), "umount failed, is something held open? {status}");

    let key = key("wal/1");
    let errors = [
        storage.head(&key).unwrap_err(),
        storage.get(&key, 99).unwrap_err(),
        storage.put(&key, b"", PutMode::Create).unwrap_err(),
        storage.delete(&key).unwrap_err(),
        storage.list(None, &mut |_| ControlFlow::Continue(())).unwrap_err(),
    ];
    for error in errors {
        assert_eq!(error.kind(), ErrorKind::RootMissing, "{error}");
    }
    assert_eq!(fs::read_dir(&directory).unwrap().count(), 0, "something was written below the mount point");
}

#[test]
fn a_read_only_disk_denies() {
    let Some(directory) = role() else { return run_with_mounts("a_read_only_disk_denies") };
    mount(&directory, "size=1m");
    let storage = LocalStorage::open(&directory).unwrap();
    storage.put(&key("a/b"), b"x", PutMode::Create).unwrap();
    let status = Command::new("mount").args(["-o", "remount,bind,ro"]).arg(&directory).status().unwrap();
    assert!(status.success());
    assert_eq!(storage.put(&key("a/c"), b"", PutMode::Create).unwrap_err().kind(), ErrorKind::Denied);
    assert_eq!(storage.delete(&key("a/b")).unwrap_err().kind(), ErrorKind::Denied);
    assert_eq!(storage.get(&key("a/b"), 9).unwrap(), b"x");
}

#[test]
fn what_may_not_be_read_is_denied_not_absent() {
    use std::os::unix::fs::PermissionsExt;

    if let Some(directory) = role() {
        let storage = LocalStorage::open(&directory).unwrap();
        let denied = [
            storage.get(&key("open/secret"), 9).unwrap_err(),
            storage.get(&key("closed/object"), 9).unwrap_err(),
            storage.head(&key("closed/absent")).unwrap_err(),
            storage.put(&key("closed/new"), b"", PutMode::Create).unwrap_err(),
            storage.list(None, &mut |_| ControlFlow::Continue(())).unwrap_err(),
            storage.list_directory(Some(&key("closed"))).unwrap_err(),
            storage.delete(&key("open/secret")).unwrap_err(),
        ];
        for error in denied {
            assert_eq!(error.kind(), ErrorKind::Denied, "{error}");
        }
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let storage = LocalStorage::open(directory.path()).unwrap();
    for name in ["open/secret", "closed/object"] {
        storage.put(&key(name), b"x", PutMode::Create).unwrap();
    }
    let permit = |name: &str, mode| {
        fs::set_permissions(directory.path().join(name), std::fs::Permissions::from_mode(mode)).unwrap();
    };
    permit("", 0o755);
    permit("open", 0o555);
    permit("open/secret", 0);
    permit("closed", 0);
    // Permissions mean nothing to root, so that the other part is played by nobody.
    let program = directory.path().join("program");
    fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    let mut command = Command::new(&program);
    command.args(["--exact", "what_may_not_be_read_is_denied_not_absent", "--nocapture"]).env(ROLE, directory.path());
    if rustix::process::geteuid().is_root() {
        command.uid(65534).gid(65534);
    }
    let status = command.status().unwrap();
    permit("open", 0o755);
    permit("closed", 0o755);
    assert!(status.success(), "{status}");
}
