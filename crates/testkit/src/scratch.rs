//! Directories for test data.
//!
//! All of one process lie below one directory directly in the directory for temporary files, which goes with the last
//! of them. A process that was killed leaves its own behind; the next one removes it, knowing by a lock (`flock`) on
//! the directory that nobody uses it.

use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use fs_err as fs;
use pgark_system::random;
use rustix::fs::FlockOperation;

use crate::process::run;
use crate::user::give_to_test_user;

const PREFIX: &str = "pgark-test-";

/// A socket's path ends after 107 bytes; what lies between this and the socket takes the rest.
const LONGEST_BASE_BYTES: usize = 75;

/// A directory that belongs to the test user and vanishes with this value.
#[derive(Debug)]
pub struct Scratch {
    path: PathBuf,
    _base: Arc<Base>,
}

impl Scratch {
    /// Creates an empty directory.
    #[expect(clippy::new_without_default, reason = "a directory is made, which a default would not tell")]
    pub fn new() -> Self {
        let base = Base::of_this_process();
        let path = base.path.join(random_name());
        make_directory(&path, 0o755);
        Self { path, _base: base }
    }

    /// Where the directory is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Creates the directory `name` in it, for the test user alone, and gives its path.
    pub fn directory(&self, name: &str) -> PathBuf {
        let path = self.path.join(name);
        make_directory(&path, 0o700);
        path
    }

    /// Writes the file `name` in it, which the test user owns, and gives its path.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path.join(name);
        fs::write(&path, content).expect("a scratch file can be written");
        give_to_test_user(&path);
        path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What can't be removed now goes with the base directory, or is removed by a later process.
        let _left_behind = fs::remove_dir_all(&self.path);
    }
}

/// The directory of one process. The lock on it ends with the process.
#[derive(Debug)]
struct Base {
    path: PathBuf,
    _lock: fs::File,
}

impl Base {
    fn of_this_process() -> Arc<Self> {
        static CURRENT: Mutex<Weak<Base>> = Mutex::new(Weak::new());
        let mut current = CURRENT.lock().unwrap_or_else(PoisonError::into_inner);
        current.upgrade().unwrap_or_else(|| {
            let base = Arc::new(Self::create());
            *current = Arc::downgrade(&base);
            base
        })
    }

    fn create() -> Self {
        let parent = std::env::temp_dir();
        remove_abandoned(&parent);
        let name = format!("{PREFIX}{}", random_name());
        let path = parent.join(&name);
        assert!(path.as_os_str().len() <= LONGEST_BASE_BYTES, "TMPDIR is too long for the path of a socket below it");
        // It gets its name when it is locked, or another process could take it for abandoned.
        let unlocked = parent.join(format!(".{name}"));
        make_directory(&unlocked, 0o755);
        let lock = fs::File::open(&unlocked).expect("the directory can be opened");
        rustix::fs::flock(lock.file(), FlockOperation::NonBlockingLockExclusive).expect("the directory can be locked");
        fs::rename(&unlocked, &path).expect("the directory can be renamed");
        scatter(&lock);
        Self { path, _lock: lock }
    }
}

impl Drop for Base {
    fn drop(&mut self) {
        remove_tree(&self.path);
    }
}

fn random_name() -> String {
    let random: [u8; 4] = random::bytes().expect("the system has randomness");
    format!("{:08x}", u32::from_le_bytes(random))
}

/// Has ext4 spread what is made in the directory over the disk. Without a journal ext4 takes long to find an inode where
/// many were freed in the last minutes, and each cluster is a thousand files that come and go.
fn scatter(directory: &fs::File) {
    // Other file systems know no such flag, and need none.
    if let Ok(flags) = rustix::fs::ioctl_getflags(directory) {
        let _unknown_flag = rustix::fs::ioctl_setflags(directory, flags | rustix::fs::IFlags::TOPDIR);
    }
}

fn make_directory(path: &Path, mode: u32) {
    std::fs::DirBuilder::new()
        .mode(mode)
        .create(path)
        .unwrap_or_else(|error| panic!("failed to create directory '{}': {error}", path.display()));
    give_to_test_user(path);
}

fn remove_abandoned(parent: &Path) {
    let Ok(entries) = fs::read_dir(parent) else { return };
    let ours = entries.flatten().filter(|entry| entry.file_name().as_encoded_bytes().starts_with(PREFIX.as_bytes()));
    for path in ours.map(|entry| entry.path()) {
        // Another user's can't be removed, another process's may be gone by now: both are no concern of ours.
        let Ok(directory) = fs::File::open(&path) else { continue };
        if rustix::fs::flock(directory.file(), FlockOperation::NonBlockingLockExclusive).is_ok() {
            remove_tree(&path);
        }
    }
}

fn remove_tree(path: &Path) {
    for mount in mounts_below(path) {
        let _finished = run(Command::new("umount").arg("--lazy").arg(mount));
    }
    let _left_behind = fs::remove_dir_all(path);
}

fn mounts_below(path: &Path) -> Vec<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let points = mounts.lines().filter_map(|line| line.split(' ').nth(1)).map(PathBuf::from);
    points.filter(|point| point.starts_with(path)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_killed_process_left_is_removed_and_what_is_in_use_is_not() {
        let parent = Scratch::new();
        let [abandoned, used, foreign] = ["pgark-test-1", "pgark-test-2", "other"].map(|name| parent.directory(name));
        fs::write(abandoned.join("file"), "content").unwrap();
        let user = fs::File::open(&used).unwrap();
        rustix::fs::flock(user.file(), FlockOperation::LockExclusive).unwrap();
        remove_abandoned(parent.path());
        assert!(!abandoned.exists() && used.exists() && foreign.exists());
    }
}
