//! Locks between processes of one host, on files.

use fs_err::os::unix::fs::OpenOptionsExt;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use fs_err as fs;
use rustix::fs::FlockOperation;

use crate::leftovers;

/// An exclusive lock on a file (`flock`). It ends with the process or when dropped; the file is removed then.
#[derive(Debug)]
pub struct FileLock {
    file: fs::File,
    path: PathBuf,
    /// The longest that the file has said.
    length: usize,
}

impl FileLock {
    /// Takes the lock, or gives `None` when another process holds it.
    ///
    /// # Errors
    /// What the file system says.
    pub fn try_acquire(path: &Path) -> io::Result<Option<Self>> {
        loop {
            let mut options = fs::OpenOptions::new();
            options.read(true).write(true).create(true).truncate(false).mode(0o640);
            let file = options.open(path)?;
            match rustix::fs::flock(file.file(), FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => {}
                Err(rustix::io::Errno::WOULDBLOCK) => return Ok(None),
                Err(error) => return Err(io::Error::other(format!("failed to lock '{}': {error}", path.display()))),
            }
            // The holder before may have removed the file between our open and our lock: then the lock is on a file
            // that nobody else will find.
            if is_the_file_at(&file, path)? {
                leftovers::register(path);
                file.set_len(0)?;
                return Ok(Some(Self { file, path: path.to_owned(), length: 0 }));
            }
        }
    }

    /// Replaces what the lock file says, for those who want to know who holds it. What is shorter than before is filled up
    /// with blanks, so that nobody finds the file empty meanwhile.
    ///
    /// # Errors
    /// What the file system says.
    pub fn write(&mut self, content: &[u8]) -> io::Result<()> {
        self.length = self.length.max(content.len());
        let mut padded = content.to_vec();
        padded.resize(self.length, b' ');
        self.file.file().write_all_at(&padded, 0)
    }
}

impl Drop for FileLock {
    fn drop(&mut self) {
        leftovers::unregister(&self.path);
        // A file that stays behind does no harm: the lock itself ends with the descriptor.
        let _left_behind = fs::remove_file(&self.path);
    }
}

/// Whether another process holds the lock. A holder is not disturbed; where there is none, the lock is taken for no longer
/// than it takes to find that out. A file that can't be read counts as not locked.
pub fn is_held(path: &Path) -> bool {
    let Ok(file) = fs::File::open(path) else { return false };
    rustix::fs::flock(file.file(), FlockOperation::NonBlockingLockShared) == Err(rustix::io::Errno::WOULDBLOCK)
}

fn is_the_file_at(file: &fs::File, path: &Path) -> io::Result<bool> {
    use std::os::unix::fs::MetadataExt;
    let held = file.metadata()?;
    match fs::metadata(path) {
        Ok(found) => Ok(found.dev() == held.dev() && found.ino() == held.ino()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_held_once_and_can_be_taken_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("demo-backup-1.lock");
        let mut first = FileLock::try_acquire(&path).unwrap().unwrap();
        first.write(b"{}").unwrap();
        assert!(FileLock::try_acquire(&path).unwrap().is_none());
        assert!(is_held(&path));
        drop(first);
        assert!(!is_held(&path));
        assert!(!path.exists());
        assert!(FileLock::try_acquire(&path).unwrap().is_some());
    }
}
