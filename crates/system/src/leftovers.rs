//! Files that must not outlive the process: unfinished ones and lock files. Whoever makes one registers it, and takes it
//! off the list when it is finished or removed. A process that is ended by force removes what is on the list.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use fs_err as fs;

static PATHS: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

/// Puts a file on the list.
pub(crate) fn register(path: &Path) {
    paths().insert(path.to_owned());
}

/// Takes a file off the list.
pub(crate) fn unregister(path: &Path) {
    paths().remove(path);
}

/// Removes every file on the list, for a process that ends at once. Whatever still writes to one of them can't give it
/// its name any more.
pub fn remove_all() {
    remove_where(|_| true);
}

fn remove_where(is_meant: impl Fn(&Path) -> bool) {
    paths().retain(|path| {
        if is_meant(path) {
            // If it stays, nothing more can be done about it here.
            let _left_behind = fs::remove_file(path);
        }
        !is_meant(path)
    });
}

fn paths() -> MutexGuard<'static, BTreeSet<PathBuf>> {
    PATHS.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::durable::{DurableFile, Existing};
    use crate::lock::FileLock;

    #[test]
    fn what_is_unfinished_is_removed_and_what_is_finished_stays() {
        let directory = tempfile::tempdir().unwrap();
        let place = |name: &str| directory.path().join(name);
        let finished = DurableFile::create(&place("finished"), 0o640).unwrap();
        finished.commit(Existing::Keep).unwrap();
        let mut unfinished = DurableFile::create(&place("unfinished"), 0o640).unwrap();
        unfinished.write_all(b"half").unwrap();
        let _lock = FileLock::try_acquire(&place("lock")).unwrap().unwrap();
        remove_where(|path| path.starts_with(directory.path()));
        let left: Vec<_> = fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["finished"]);
        unfinished.commit(Existing::Keep).unwrap_err();
        assert!(!place("unfinished").exists());
    }
}
