//! Directories that are held open, and what is in them: reached by its name, never through a symbolic link.
//!
//! A path is looked up anew each time it is used, and whoever can write to one of the directories on its way can lead it
//! elsewhere by a link. What begins at a [`Directory`] stays below it: each part of a path is opened by itself, from the
//! directory that was opened before it, and a link is an error.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Component, Path, PathBuf};

use fs_err as fs;
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

/// How every directory is opened.
const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// A directory that is held open.
#[derive(Debug)]
pub struct Directory {
    handle: OwnedFd,
    path: PathBuf,
}

/// As long as a list of names of extended attributes can be (`XATTR_LIST_MAX`).
const ATTRIBUTE_NAMES_LENGTH: usize = 64 << 10;

/// What a name stands for; of a link, the link itself.
#[derive(Clone, Copy, Debug)]
pub struct Look(Stat);

impl Look {
    /// Whether it is a plain file.
    pub fn is_file(&self) -> bool {
        self.kind() == FileType::RegularFile
    }

    /// Whether it is a directory.
    pub fn is_directory(&self) -> bool {
        self.kind() == FileType::Directory
    }

    /// Whether it is a symbolic link.
    pub fn is_link(&self) -> bool {
        self.kind() == FileType::Symlink
    }

    /// Whether the same file has other names too, here or elsewhere: who writes to it changes it under all of them.
    pub fn has_other_names(&self) -> bool {
        self.0.st_nlink > 1
    }

    /// Its length in bytes.
    pub fn size(&self) -> u64 {
        u64::try_from(self.0.st_size).unwrap_or(0)
    }

    /// The permission bits of its mode, with set-user-id, set-group-id and sticky bit.
    pub fn permissions(&self) -> u32 {
        self.0.st_mode & 0o7777
    }

    /// The numbers of the user and the group that it belongs to.
    pub fn owner(&self) -> (u32, u32) {
        (self.0.st_uid, self.0.st_gid)
    }

    /// When its content was last changed: seconds since 1970, and nanoseconds.
    pub fn modified(&self) -> (i64, u32) {
        (self.0.st_mtime, u32::try_from(self.0.st_mtime_nsec).unwrap_or(0))
    }

    /// When its content or its attributes were last changed: seconds since 1970, and nanoseconds.
    pub fn changed(&self) -> (i64, u32) {
        (self.0.st_ctime, u32::try_from(self.0.st_ctime_nsec).unwrap_or(0))
    }

    /// Which file it is, whatever its name: the numbers of the file system and of the file there.
    pub fn identity(&self) -> (u64, u64) {
        (self.0.st_dev, self.0.st_ino)
    }

    fn kind(&self) -> FileType {
        FileType::from_raw_mode(self.0.st_mode)
    }
}

impl Directory {
    /// Opens the directory at `path`. Links on the way to it are followed, and `path` itself may be one.
    ///
    /// # Errors
    /// What the file system says.
    pub fn open(path: &Path) -> io::Result<Self> {
        Self::open_at(CWD, path.as_os_str(), path.to_owned(), OFlags::empty())
    }

    /// Opens a directory in this one.
    ///
    /// # Errors
    /// Where it is a link or no directory; else what the file system says.
    pub fn child(&self, name: &OsStr) -> io::Result<Self> {
        ensure_name(name)?;
        Self::open_at(self.handle.as_fd(), name, self.path.join(name), OFlags::NOFOLLOW)
    }

    /// Opens the directory at `path` below this one; an empty path is this one.
    ///
    /// # Errors
    /// Where a part of the path is a link, no directory, or leads up; else what the file system says.
    pub fn below(&self, path: &Path) -> io::Result<Self> {
        let mut found: Option<Self> = None;
        for part in path.components() {
            let Component::Normal(name) = part else { return Err(no_name(path.as_os_str())) };
            found = Some(found.as_ref().unwrap_or(self).child(name)?);
        }
        found.map_or_else(|| self.again(), Ok)
    }

    /// Another handle of the same directory.
    fn again(&self) -> io::Result<Self> {
        Self::open_at(self.handle.as_fd(), OsStr::new("."), self.path.clone(), OFlags::empty())
    }

    fn open_at(above: BorrowedFd<'_>, name: &OsStr, path: PathBuf, flags: OFlags) -> io::Result<Self> {
        match rustix::fs::openat(above, name, DIRECTORY | flags, Mode::empty()) {
            Ok(handle) => Ok(Self { handle, path }),
            Err(errno) => Err(failed("open directory", &path, errno)),
        }
    }

    /// The path by which it was opened, for messages.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The names in it, in the order of their bytes.
    ///
    /// # Errors
    /// What the file system says.
    pub fn names(&self) -> io::Result<Vec<OsString>> {
        let read = |errno| failed("read directory", &self.path, errno);
        let mut names = Vec::new();
        for entry in rustix::fs::Dir::read_from(&self.handle).map_err(read)? {
            let name = entry.map_err(read)?.file_name().to_bytes().to_vec();
            if !matches!(name.as_slice(), b"." | b"..") {
                names.push(OsString::from_vec(name));
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    /// What the name stands for, or `None` if there is nothing.
    ///
    /// # Errors
    /// What the file system says.
    pub fn look(&self, name: &OsStr) -> io::Result<Option<Look>> {
        ensure_name(name)?;
        match rustix::fs::statat(&self.handle, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(Look(stat))),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(failed("look at", &self.path.join(name), errno)),
        }
    }

    /// What the directory itself is.
    ///
    /// # Errors
    /// What the file system says.
    pub fn look_at_itself(&self) -> io::Result<Look> {
        rustix::fs::fstat(&self.handle).map(Look).map_err(|errno| failed("look at", &self.path, errno))
    }

    /// The names of the extended attributes of what the name stands for, of a link those of the link itself. There are none
    /// where they can't be looked at.
    pub fn attribute_names(&self, name: &OsStr) -> Vec<OsString> {
        // There is no such call that takes a directory and a name. `/proc` leads to the directory that is open.
        let path = Path::new("/proc/self/fd").join(self.handle.as_raw_fd().to_string()).join(name);
        attribute_names(|list| rustix::fs::llistxattr(&path, list))
    }

    /// The names of the extended attributes of the directory itself.
    pub fn own_attribute_names(&self) -> Vec<OsString> {
        attribute_names(|list| rustix::fs::flistxattr(&self.handle, list))
    }

    /// The text of a link.
    ///
    /// # Errors
    /// Where it is none; else what the file system says.
    pub fn read_link(&self, name: &OsStr) -> io::Result<PathBuf> {
        ensure_name(name)?;
        match rustix::fs::readlinkat(&self.handle, name, Vec::new()) {
            Ok(target) => Ok(OsString::from_vec(target.into_bytes()).into()),
            Err(errno) => Err(failed("read link", &self.path.join(name), errno)),
        }
    }

    /// Opens a file, with these flags and, if it is made by that, these permission bits (less the umask).
    ///
    /// # Errors
    /// Where it is a link; else what the file system says.
    pub fn file(&self, name: &OsStr, flags: OFlags, mode: u32) -> io::Result<fs::File> {
        ensure_name(name)?;
        // Nothing waits for the other end of a pipe that somebody has put there.
        let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let path = self.path.join(name);
        match rustix::fs::openat(&self.handle, name, flags, Mode::from_raw_mode(mode)) {
            Ok(file) => Ok(fs::File::from_parts(file.into(), path)),
            Err(errno) => Err(failed("open file", &path, errno)),
        }
    }

    /// Makes a directory, with these permission bits (less the umask), unless the name is taken. Gives whether it was
    /// made.
    ///
    /// # Errors
    /// What the file system says.
    pub fn make_directory(&self, name: &OsStr, mode: u32) -> io::Result<bool> {
        ensure_name(name)?;
        match rustix::fs::mkdirat(&self.handle, name, Mode::from_raw_mode(mode)) {
            Ok(()) => Ok(true),
            Err(Errno::EXIST) => Ok(false),
            Err(errno) => Err(failed("create directory", &self.path.join(name), errno)),
        }
    }

    /// Makes a link with the text `target`.
    ///
    /// # Errors
    /// What the file system says, also where the name is taken.
    pub fn make_link(&self, name: &OsStr, target: &Path) -> io::Result<()> {
        ensure_name(name)?;
        rustix::fs::symlinkat(target, &self.handle, name)
            .map_err(|errno| failed("create link", &self.path.join(name), errno))
    }

    /// Gives the file `name` of this directory another name in the directory `to`: a hard link.
    ///
    /// # Errors
    /// What the file system says, also where the other name is taken.
    pub fn make_hard_link(&self, name: &OsStr, to: &Self, other_name: &OsStr) -> io::Result<()> {
        ensure_name(name)?;
        ensure_name(other_name)?;
        rustix::fs::linkat(&self.handle, name, &to.handle, other_name, AtFlags::empty())
            .map_err(|errno| failed("create hard link", &to.path.join(other_name), errno))
    }

    /// Gives what is called `from` the name `to`.
    ///
    /// # Errors
    /// What the file system says.
    pub fn rename(&self, from: &OsStr, to: &OsStr) -> io::Result<()> {
        ensure_name(from)?;
        ensure_name(to)?;
        rustix::fs::renameat(&self.handle, from, &self.handle, to)
            .map_err(|errno| failed("rename", &self.path.join(from), errno))
    }

    /// Removes what has this name: a directory with all that is in it, of a link the link itself.
    ///
    /// # Errors
    /// What the file system says; that there is nothing is success.
    pub fn remove(&self, name: &OsStr) -> io::Result<()> {
        let Some(look) = self.look(name)? else { return Ok(()) };
        if look.is_directory() {
            self.child(name)?.empty()?;
        }
        let flags = if look.is_directory() { AtFlags::REMOVEDIR } else { AtFlags::empty() };
        match rustix::fs::unlinkat(&self.handle, name, flags) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(failed("remove", &self.path.join(name), errno)),
        }
    }

    /// Removes everything that is in it.
    ///
    /// # Errors
    /// What the file system says.
    pub fn empty(&self) -> io::Result<()> {
        self.names()?.iter().try_for_each(|name| self.remove(name))
    }

    /// Syncs it, so that the names in it survive a power cut.
    ///
    /// # Errors
    /// What the file system says.
    pub fn sync(&self) -> io::Result<()> {
        rustix::fs::fsync(&self.handle).map_err(|errno| failed("sync directory", &self.path, errno))
    }

    /// Syncs everything on the file system that it lies on.
    ///
    /// # Errors
    /// What the file system says.
    pub fn sync_file_system(&self) -> io::Result<()> {
        rustix::fs::syncfs(&self.handle).map_err(|errno| failed("sync the file system of", &self.path, errno))
    }
}

impl AsFd for Directory {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.handle.as_fd()
    }
}

/// The names that a call lists, each with a zero byte after it.
fn attribute_names(list: impl FnOnce(&mut [u8]) -> rustix::io::Result<usize>) -> Vec<OsString> {
    let mut names = vec![0; ATTRIBUTE_NAMES_LENGTH];
    let length = list(&mut names).unwrap_or(0).min(names.len());
    let names = names[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty());
    names.map(|name| OsString::from_vec(name.to_vec())).collect()
}

/// A name is one part of a path, and leads down.
fn ensure_name(name: &OsStr) -> io::Result<()> {
    let bytes = name.as_encoded_bytes();
    if bytes.is_empty() || bytes == b"." || bytes == b".." || bytes.contains(&b'/') || bytes.contains(&0) {
        return Err(no_name(name));
    }
    Ok(())
}

fn no_name(name: &OsStr) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, format!("'{}' is no name of something in a directory", name.display()))
}

fn failed(what: &str, path: &Path, errno: Errno) -> io::Error {
    let error = io::Error::from(errno);
    let why = match errno {
        Errno::LOOP => "it is a symbolic link, and none is followed here".to_owned(),
        Errno::NOTDIR => "it is no directory; a symbolic link is not followed here".to_owned(),
        _ => error.to_string(),
    };
    // The kind of a link that is not followed has no name yet.
    let kind = if errno == Errno::LOOP { io::ErrorKind::NotADirectory } else { error.kind() };
    io::Error::new(kind, format!("failed to {what} '{}': {why}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    /// A directory with a file, a directory and a link in it, and a directory outside that the link leads to.
    fn place() -> (tempfile::TempDir, Directory, PathBuf) {
        let place = tempfile::tempdir().unwrap();
        let (inside, outside) = (place.path().join("inside"), place.path().join("outside"));
        fs::create_dir_all(inside.join("directory/deep")).unwrap();
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("precious"), "untouched").unwrap();
        fs::write(inside.join("file"), "").unwrap();
        fs_err::os::unix::fs::symlink(&outside, inside.join("link")).unwrap();
        fs_err::os::unix::fs::symlink(outside.join("precious"), inside.join("directory/link")).unwrap();
        (place, Directory::open(&inside).unwrap(), outside)
    }

    fn name(text: &str) -> &OsStr {
        OsStr::new(text)
    }

    #[test]
    fn nothing_is_reached_through_a_link() {
        let (_place, directory, outside) = place();
        assert!(directory.child(name("link")).is_err());
        assert!(directory.below(Path::new("link")).is_err());
        assert!(directory.below(Path::new("link/deeper")).is_err());
        let deep = directory.below(Path::new("directory")).unwrap();
        for flags in [OFlags::RDONLY, OFlags::WRONLY | OFlags::TRUNC, OFlags::WRONLY | OFlags::CREATE] {
            let error = deep.file(name("link"), flags, 0o600).unwrap_err();
            assert!(error.to_string().contains("is a symbolic link"), "{error}");
        }
        assert_eq!(fs::read_to_string(outside.join("precious")).unwrap(), "untouched");
    }

    #[test]
    fn a_link_is_removed_and_what_it_leads_to_stays() {
        let (_place, directory, outside) = place();
        directory.remove(name("link")).unwrap();
        directory.remove(name("directory")).unwrap();
        assert_eq!(directory.names().unwrap(), ["file"]);
        directory.empty().unwrap();
        assert!(directory.names().unwrap().is_empty());
        directory.remove(name("gone")).unwrap();
        assert_eq!(fs::read_to_string(outside.join("precious")).unwrap(), "untouched");
    }

    #[test]
    fn names_that_lead_elsewhere_are_refused() {
        let (_place, directory, _outside) = place();
        for bad in ["", ".", "..", "a/b", "/etc", "../outside", "a\0b"] {
            assert!(directory.child(name(bad)).is_err(), "{bad}");
            assert!(directory.file(name(bad), OFlags::CREATE | OFlags::WRONLY, 0o600).is_err(), "{bad}");
            assert!(directory.make_directory(name(bad), 0o700).is_err(), "{bad}");
            assert!(directory.make_link(name(bad), Path::new("x")).is_err(), "{bad}");
            assert!(directory.rename(name("file"), name(bad)).is_err(), "{bad}");
            assert!(directory.remove(name(bad)).is_err(), "{bad}");
        }
        for bad in ["../outside", "/etc", "directory/../../outside"] {
            assert!(directory.below(Path::new(bad)).is_err(), "{bad}");
        }
    }

    #[test]
    fn files_directories_and_links_are_made() {
        let (_place, directory, outside) = place();
        assert!(directory.make_directory(name("new"), 0o700).unwrap());
        assert!(!directory.make_directory(name("new"), 0o700).unwrap());
        let new = directory.child(name("new")).unwrap();
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
        new.file(name("a"), flags, 0o600).unwrap().write_all(b"text").unwrap();
        assert_eq!(new.file(name("a"), flags, 0o600).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        new.rename(name("a"), name("b")).unwrap();
        new.make_link(name("c"), &outside).unwrap();
        new.sync().unwrap();
        assert_eq!(new.names().unwrap(), ["b", "c"]);
        assert_eq!(new.read_link(name("c")).unwrap(), outside);
        assert!(new.look(name("b")).unwrap().unwrap().is_file());
        assert!(new.look(name("c")).unwrap().unwrap().is_link());
        assert!(new.look(name("d")).unwrap().is_none());
        assert_eq!(directory.below(Path::new("")).unwrap().names().unwrap(), ["directory", "file", "link", "new"]);
    }

    #[test]
    fn a_file_gets_another_name_and_a_link_is_not_followed_for_it() {
        let (_place, directory, outside) = place();
        let deep = directory.below(Path::new("directory/deep")).unwrap();
        directory.make_hard_link(name("file"), &deep, name("other")).unwrap();
        let look = |directory: &Directory, text| directory.look(name(text)).unwrap().unwrap();
        assert_eq!(look(&directory, "file").identity(), look(&deep, "other").identity());
        let inside = directory.below(Path::new("directory")).unwrap();
        inside.make_hard_link(name("link"), &deep, name("link")).unwrap();
        assert!(look(&deep, "link").is_link());
        let precious = Directory::open(&outside).unwrap();
        assert!(!look(&precious, "precious").has_other_names());
    }

    #[test]
    fn a_file_with_two_names_is_told_from_one_with_one() {
        let (_place, directory, outside) = place();
        assert!(!directory.look(name("file")).unwrap().unwrap().has_other_names());
        fs::hard_link(outside.join("precious"), directory.path().join("other")).unwrap();
        assert!(directory.look(name("other")).unwrap().unwrap().has_other_names());
    }
}
