//! Removing what is left of directories that have no objects any more.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::OwnedFd;

use pgark_system::durable::TEMPORARY_PREFIX;
use rustix::fs::{AtFlags, Dir, Mode, OFlags, openat, unlinkat};
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

fn clear(directory: &OwnedFd) -> io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let readable = openat(directory, ".", flags, Mode::empty())?;
    // All names first: a directory that changes while it is read may show a name twice or never.
    let entries = Dir::new(readable)?.map(|entry| entry.map(|entry| entry.file_name().to_owned()));
    let names: Vec<CString> = entries.collect::<Result<_, _>>()?;
    for name in names.iter().filter(|name| !matches!(name.to_bytes(), b"." | b"..")) {
        if name.to_bytes().starts_with(TEMPORARY_PREFIX.as_bytes()) {
            ignore(unlinkat(directory, name.as_c_str(), AtFlags::empty()), &[Errno::NOENT, Errno::ISDIR])?;
            continue;
        }
        match openat(directory, name.as_c_str(), flags, Mode::empty()) {
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
