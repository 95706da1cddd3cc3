//! The way down from the root to an object, one segment at a time, following no symbolic link.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use jiff::Timestamp;
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, Stat, fstat, openat, statat};
use rustix::io::Errno;

use crate::ObjectInfo;
use crate::key::Key;

/// How a directory is held: no more than a place to go on from, which needs no permission to list it.
const PLACE: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// Opens the root of a repository. It may be a symbolic link, unlike anything below it.
pub(super) fn open_root(path: &Path) -> io::Result<OwnedFd> {
    Ok(openat(CWD, path, PLACE, Mode::empty())?)
}

/// The directory of that name below the root, or the root itself; `None` where there is none.
pub(super) fn directory(root: &OwnedFd, key: Option<&Key>) -> io::Result<Option<OwnedFd>> {
    let mut directory = openat(root, ".", PLACE, Mode::empty())?;
    for segment in key.iter().flat_map(|key| key.segments()) {
        match subdirectory(&directory, segment)? {
            Some(below) => directory = below,
            None => return Ok(None),
        }
    }
    Ok(Some(directory))
}

/// The directory `name` in `directory`; `None` where there is none.
pub(super) fn subdirectory(directory: impl AsFd, name: &str) -> io::Result<Option<OwnedFd>> {
    match openat(&directory, name, PLACE | OFlags::NOFOLLOW, Mode::empty()) {
        Ok(below) => Ok(Some(below)),
        Err(Errno::NOENT) => Ok(None),
        Err(Errno::NOTDIR | Errno::LOOP) => match status(&directory, name)? {
            // Nothing lies below an object.
            Some(status) if FileType::from_raw_mode(status.st_mode) != FileType::RegularFile => {
                Err(not_expected(&status, name))
            }
            _ => Ok(None),
        },
        Err(errno) => Err(errno.into()),
    }
}

/// What the file system says of `name` in `directory`, itself where it is a symbolic link; `None` where there is none.
pub(super) fn status(directory: impl AsFd, name: &str) -> io::Result<Option<Stat>> {
    match statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(status) => Ok(Some(status)),
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

/// What is known of an object; `None` where there is none.
pub(super) fn object_info(root: &OwnedFd, key: &Key) -> io::Result<Option<ObjectInfo>> {
    let Some(directory) = directory(root, key.parent().as_ref())? else { return Ok(None) };
    status(&directory, key.name())?.map(|status| info(key.clone(), &status)).transpose()
}

/// What the status of a file says of the object.
pub(super) fn info(key: Key, status: &Stat) -> io::Result<ObjectInfo> {
    let size = object_size(status, key.name())?;
    // A time that no calendar has is as good as the farthest one.
    let modified = i32::try_from(status.st_mtime_nsec)
        .ok()
        .and_then(|nanoseconds| Timestamp::new(status.st_mtime, nanoseconds).ok())
        .unwrap_or(if status.st_mtime < 0 { Timestamp::MIN } else { Timestamp::MAX });
    Ok(ObjectInfo { key, size, modified })
}

/// An object opened for reading, and its size in bytes; `None` where there is none.
pub(super) fn open_object(root: &OwnedFd, key: &Key) -> io::Result<Option<(OwnedFd, u64)>> {
    let Some(directory) = directory(root, key.parent().as_ref())? else { return Ok(None) };
    // NONBLOCK: something that is no file, such as a pipe, must not stop us here.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    match openat(&directory, key.name(), flags, Mode::empty()) {
        Ok(object) => {
            let size = object_size(&fstat(&object)?, key.name())?;
            Ok(Some((object, size)))
        }
        Err(Errno::NOENT) => Ok(None),
        Err(errno @ (Errno::LOOP | Errno::NXIO)) => match status(&directory, key.name())? {
            Some(status) => Err(not_expected(&status, key.name())),
            None => Err(errno.into()),
        },
        Err(errno) => Err(errno.into()),
    }
}

/// The size of an object in bytes, or why what has its name is no object.
fn object_size(status: &Stat, name: &str) -> io::Result<u64> {
    match u64::try_from(status.st_size) {
        Ok(size) if FileType::from_raw_mode(status.st_mode) == FileType::RegularFile => Ok(size),
        _ => Err(not_expected(status, name)),
    }
}

/// The error for something that lies where a file or directory was expected.
pub(super) fn not_expected(status: &Stat, name: &str) -> io::Error {
    let what = match FileType::from_raw_mode(status.st_mode) {
        FileType::Directory => "a directory, not an object",
        FileType::Symlink => "a symbolic link, which is not followed",
        _ => "neither a file nor a directory",
    };
    io::Error::new(io::ErrorKind::InvalidInput, format!("'{name}' is {what}"))
}
