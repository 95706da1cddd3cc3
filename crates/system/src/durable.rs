//! Files that survive a power cut.
//!
//! Every durable file goes the same way: written under a temporary name in its own directory, synced, given its name,
//! the directory synced. A crash at any point leaves either no file of that name or the whole one; what else it can
//! leave is a temporary file, told by [`TEMPORARY_PREFIX`].

use fs_err::os::unix::fs::OpenOptionsExt;
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use fs_err as fs;

use crate::{leftovers, random};

/// How the names of unfinished files begin. Whoever lists a directory leaves them out.
pub const TEMPORARY_PREFIX: &str = ".pgark-tmp-";

/// What becomes of a file that has the name already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Existing {
    /// Nothing: [`DurableFile::commit`] fails with [`io::ErrorKind::AlreadyExists`].
    Keep,
    /// The new file takes its place.
    Replace,
}

/// A file under way to being durable. Dropped before [`DurableFile::commit`], it leaves nothing behind.
#[derive(Debug)]
pub struct DurableFile {
    file: fs::File,
    temporary: PathBuf,
    target: PathBuf,
    committed: bool,
}

impl DurableFile {
    /// Starts a file that will be called `target`, with the permission bits `mode` (less the umask).
    ///
    /// # Errors
    /// Fails where the directory does not exist or can't be written.
    pub fn create(target: &Path, mode: u32) -> io::Result<Self> {
        let directory = parent(target)?;
        let name = format!("{TEMPORARY_PREFIX}{}", random::ulid()?);
        let temporary = directory.join(name);
        let mut options = fs::OpenOptions::new();
        options.read(true).write(true).create_new(true).mode(mode);
        let file = options.open(&temporary)?;
        leftovers::register(&temporary);
        Ok(Self { file, temporary, target: target.to_owned(), committed: false })
    }

    /// The file, for reading back what was written.
    pub fn file(&self) -> &fs::File {
        &self.file
    }

    /// Syncs the file, gives it its name and syncs the directory.
    ///
    /// # Errors
    /// [`io::ErrorKind::AlreadyExists`] with [`Existing::Keep`]; else what the file system says. The temporary file is
    /// removed in any case. A failed sync is final: the kernel may have dropped the data, so there is no second try.
    pub fn commit(mut self, existing: Existing) -> io::Result<()> {
        self.file.sync_all()?;
        self.publish(existing)?;
        sync_directory(parent(&self.target)?)
    }

    /// Gives the file its name without making it durable, for files that are made anew after a crash. It still appears
    /// whole or not at all, unless the machine itself goes down.
    ///
    /// # Errors
    /// As [`DurableFile::commit`].
    pub fn commit_unsynced(mut self, existing: Existing) -> io::Result<()> {
        self.publish(existing)
    }

    fn publish(&mut self, existing: Existing) -> io::Result<()> {
        match existing {
            Existing::Replace => fs::rename(&self.temporary, &self.target)?,
            Existing::Keep => {
                // A link fails where the name is taken, which a rename would not.
                fs::hard_link(&self.temporary, &self.target)?;
                fs::remove_file(&self.temporary)?;
            }
        }
        self.committed = true;
        Ok(())
    }
}

impl Write for DurableFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for DurableFile {
    fn drop(&mut self) {
        leftovers::unregister(&self.temporary);
        if !self.committed {
            // Nothing more can be done about a leftover here; its prefix tells what it is.
            let _leftover = fs::remove_file(&self.temporary);
        }
    }
}

/// Writes a whole file durably; see [`DurableFile`].
///
/// # Errors
/// As [`DurableFile::create`] and [`DurableFile::commit`].
pub fn write(target: &Path, bytes: &[u8], mode: u32, existing: Existing) -> io::Result<()> {
    let mut file = DurableFile::create(target, mode)?;
    file.write_all(bytes)?;
    file.commit(existing)
}

/// Creates `directory` and the parents that are missing, each of them durable, with the permission bits `mode`.
///
/// # Errors
/// What the file system says; a directory that exists is success.
pub fn create_directory_all(directory: &Path, mode: u32) -> io::Result<()> {
    if directory.is_dir() {
        return Ok(());
    }
    let above = parent(directory)?;
    create_directory_all(above, mode)?;
    match make_directory(directory, mode) {
        Ok(()) => sync_directory(above),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && directory.is_dir() => Ok(()),
        Err(error) => Err(error),
    }
}

fn make_directory(directory: &Path, mode: u32) -> io::Result<()> {
    std::fs::DirBuilder::new().mode(mode).create(directory).map_err(|error| {
        io::Error::new(error.kind(), format!("failed to create directory '{}': {error}", directory.display()))
    })
}

/// Syncs a directory, so that the names in it survive a power cut.
///
/// # Errors
/// What the file system says.
pub fn sync_directory(directory: &Path) -> io::Result<()> {
    fs::File::open(directory)?.sync_all()
}

/// Syncs everything on the file system that `path` lies on.
///
/// # Errors
/// What the file system says.
pub fn sync_file_system(path: &Path) -> io::Result<()> {
    let file = fs::File::open(path)?;
    rustix::fs::syncfs(file.file())
        .map_err(|error| io::Error::other(format!("failed to sync the file system of '{}': {error}", path.display())))
}

fn parent(path: &Path) -> io::Result<&Path> {
    match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Ok(Path::new(".")),
        Some(parent) => Ok(parent),
        None => {
            Err(io::Error::new(io::ErrorKind::InvalidInput, format!("'{}' has no directory above it", path.display())))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(directory: &Path) -> Vec<String> {
        let mut names: Vec<_> =
            fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_committed_file_is_whole_and_alone() {
        let directory = tempfile::tempdir().unwrap();
        write(&directory.path().join("file"), b"content", 0o640, Existing::Keep).unwrap();
        assert_eq!(fs::read(directory.path().join("file")).unwrap(), b"content");
        assert_eq!(names(directory.path()), ["file"]);
    }

    #[test]
    fn an_existing_file_is_kept_unless_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        write(&path, b"first", 0o640, Existing::Keep).unwrap();
        let error = write(&path, b"second", 0o640, Existing::Keep).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&path).unwrap(), b"first");
        write(&path, b"third", 0o640, Existing::Replace).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"third");
        assert_eq!(names(directory.path()), ["file"]);
    }

    #[test]
    fn an_abandoned_file_leaves_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let mut file = DurableFile::create(&directory.path().join("file"), 0o640).unwrap();
        file.write_all(b"half").unwrap();
        drop(file);
        assert!(names(directory.path()).is_empty());
    }

    #[test]
    fn directories_are_created_with_their_parents() {
        let directory = tempfile::tempdir().unwrap();
        let deep = directory.path().join("a/b/c");
        create_directory_all(&deep, 0o750).unwrap();
        create_directory_all(&deep, 0o750).unwrap();
        assert!(deep.is_dir());
    }
}
