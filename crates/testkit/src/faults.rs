//! Damage: to files, permissions and file systems.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use fs_err as fs;

use crate::process::run;
use crate::scratch::Scratch;
use crate::user::{give_to_test_user, is_root};

/// Inverts every bit of the byte at `offset`. Panics when the file is shorter.
#[track_caller]
pub fn flip_byte(path: &Path, offset: u64) {
    use std::os::unix::fs::FileExt;
    let file = fs::OpenOptions::new().read(true).write(true).open(path).expect("the file can be opened");
    let mut byte = [0];
    file.file().read_exact_at(&mut byte, offset).expect("the file reaches to the byte");
    file.file().write_all_at(&[!byte[0]], offset).expect("the byte can be written");
}

/// Cuts the file off after `length` bytes. Panics when it is no longer than that already.
#[track_caller]
pub fn truncate(path: &Path, length: u64) {
    let file = fs::OpenOptions::new().write(true).open(path).expect("the file can be opened");
    assert!(file.metadata().expect("an open file has metadata").len() > length, "nothing to cut off");
    file.set_len(length).expect("the file can be cut");
}

/// Permission bits that were changed for a while. Dropping puts the old ones back.
#[derive(Debug)]
#[must_use = "the old mode comes back when this is dropped"]
pub struct ChangedMode {
    path: PathBuf,
    before: u32,
}

/// Changes the permission bits of a file or directory.
pub fn set_mode(path: &Path, mode: u32) -> ChangedMode {
    let before = fs::metadata(path).expect("the file is there").permissions().mode() & 0o7777;
    fs::set_permissions(path, PermissionsExt::from_mode(mode)).expect("the mode can be changed");
    ChangedMode { path: path.to_owned(), before }
}

impl Drop for ChangedMode {
    fn drop(&mut self) {
        // The file may be gone by now.
        let _gone = fs::set_permissions(&self.path, PermissionsExt::from_mode(self.before));
    }
}

/// A file system of a few MiB, to run full.
#[derive(Debug)]
pub struct SmallFileSystem {
    path: PathBuf,
    mounted: bool,
    _scratch: Scratch,
}

impl SmallFileSystem {
    /// Mounts a file system of `size_mib` MiB for the test user.
    ///
    /// Only root may. Where it can't be done there is a plain directory instead, a line on standard error says so, and
    /// [`SmallFileSystem::is_limited`] is false.
    pub fn new(size_mib: u32) -> Self {
        let scratch = Scratch::new();
        let path = scratch.directory("small");
        let mounted = is_root() && mount(&path, size_mib);
        if !mounted {
            report_unlimited(&path);
        }
        Self { path, mounted, _scratch: scratch }
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it really can run full.
    pub fn is_limited(&self) -> bool {
        self.mounted
    }
}

impl Drop for SmallFileSystem {
    fn drop(&mut self) {
        if self.mounted {
            let _finished = run(Command::new("umount").arg("--lazy").arg(&self.path));
        }
    }
}

fn mount(path: &Path, size_mib: u32) -> bool {
    let mut mount = Command::new("mount");
    mount.args(["-t", "tmpfs", "-o", &format!("size={size_mib}m,mode=700"), "pgark-test"]).arg(path);
    let mounted = run(&mut mount).code() == Some(0);
    if mounted {
        give_to_test_user(path);
    }
    mounted
}

#[expect(clippy::print_stderr, reason = "a weaker test must not pass for the real one")]
fn report_unlimited(path: &Path) {
    eprintln!("NOT LIMITED: no file system can be mounted here; '{}' is a plain directory", path.display());
}
