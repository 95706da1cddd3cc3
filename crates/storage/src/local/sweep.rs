//! Removing what is left of directories that have no objects any more.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::OwnedFd;

use jiff::Timestamp;
use pgark_system::durable::TEMPORARY_PREFIX;
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, openat, unlinkat};
use rustix::io::Errno;

use super::tree;
use crate::key::Key;

/// Removes the unfinished files and the empty directories below `prefix`, itself included. What has an object or
/// anything else in it stays.
pub(super) fn below(root: &OwnedFd, prefix: &Key) -> io::Result<()> {
    if let Some(directory) = tree::directory(root, Some(prefix))? {
        clear(&directory)?;
    }
    let Some(above) = tree::directory(root, prefix.parent().as_ref())? else { return Ok(()) };
    let name = CString::new(prefix.name()).map_err(io::Error::other)?;
    remove_if_empty(&above, &name)
}

/// Removes the unfinished files below `prefix` that were last written to before a time, and gives how many.
pub(super) fn unfinished(root: &OwnedFd, prefix: &Key, before: Timestamp) -> io::Result<u64> {
    match tree::directory(root, Some(prefix))? {
        Some(directory) => remove_older(&directory, before),
        None => Ok(0),
    }
}

fn remove_older(directory: &OwnedFd, before: Timestamp) -> io::Result<u64> {
    let mut removed = 0;
    for (name, kind) in names(directory)? {
        if is_unfinished(&name) {
            let Some(status) = name.to_str().ok().map(|name| tree::status(directory, name)).transpose()?.flatten()
            else {
                continue;
            };
            if status.st_mtime < before.as_second() {
                unlink(directory, &name)?;
                removed += 1;
            }
        } else if matches!(kind, FileType::Directory | FileType::Unknown) {
            match openat(directory, name.as_c_str(), DIRECTORY, Mode::empty()) {
                Ok(below) => removed += remove_older(&below, before)?,
                Err(Errno::NOTDIR | Errno::LOOP | Errno::NOENT) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }
    Ok(removed)
}

const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// The names in a directory. All of them first: a directory that changes while it is read may show a name twice or never.
fn names(directory: &OwnedFd) -> io::Result<Vec<(CString, FileType)>> {
    let readable = openat(directory, ".", DIRECTORY, Mode::empty())?;
    let entries = Dir::new(readable)?.map(|entry| entry.map(|entry| (entry.file_name().to_owned(), entry.file_type())));
    let mut names: Vec<(CString, FileType)> = entries.collect::<Result<_, _>>()?;
    names.retain(|(name, _)| !matches!(name.to_bytes(), b"." | b".."));
    Ok(names)
}

fn is_unfinished(name: &CStr) -> bool {
    name.to_bytes().starts_with(TEMPORARY_PREFIX.as_bytes())
}

fn unlink(directory: &OwnedFd, name: &CStr) -> io::Result<()> {
    ignore(unlinkat(directory, name, AtFlags::empty()), &[Errno::NOENT, Errno::ISDIR])
}

fn clear(directory: &OwnedFd) -> io::Result<()> {
    for (name, _) in &names(directory)? {
        if is_unfinished(name) {
            unlink(directory, name)?;
            continue;
        }
        match openat(directory, name.as_c_str(), DIRECTORY, Mode::empty()) {
            Ok(below) => {
                clear(&below)?;
                remove_if_empty(directory, name)?;
            }
            Err(Errno::NOTDIR | Errno::LOOP | Errno::NOENT) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}

fn remove_if_empty(directory: &OwnedFd, name: &CStr) -> io::Result<()> {
    let removed = unlinkat(directory, name, AtFlags::REMOVEDIR);
    ignore(removed, &[Errno::NOENT, Errno::NOTEMPTY, Errno::EXIST, Errno::NOTDIR])
}

fn ignore(result: Result<(), Errno>, harmless: &[Errno]) -> io::Result<()> {
    match result {
        Err(errno) if !harmless.contains(&errno) => Err(errno.into()),
        _ => Ok(()),
    }
}
