//! Listings of directories.

use std::io;
use std::ops::ControlFlow;
use std::os::fd::OwnedFd;

use pgark_system::durable::TEMPORARY_PREFIX;
use rustix::fs::{Dir, FileType, Mode, OFlags, Stat, openat};

use super::{Place, tree};
use crate::error::{Error, Result, kind_of};
use crate::key::Key;
use crate::operation::Operation;
use crate::{Entry, EntryKind, ObjectInfo};

/// A name in a directory that can be a part of a key.
struct Name {
    key: Key,
    is_directory: bool,
}

/// Visits every object below `prefix` in the order of the keys. Holds the names of one directory of each level.
pub(super) fn below(
    place: &Place,
    root: &OwnedFd,
    prefix: Option<&Key>,
    visit: &mut dyn FnMut(ObjectInfo) -> ControlFlow<()>,
) -> Result<()> {
    let failed = |error| failure(place, Operation::List, prefix, error);
    if let Some(directory) = tree::directory(root, prefix).map_err(failed)? {
        let _broken_off = descend(place, &directory, prefix, visit)?;
    }
    Ok(())
}

fn descend(
    place: &Place,
    directory: &OwnedFd,
    prefix: Option<&Key>,
    visit: &mut dyn FnMut(ObjectInfo) -> ControlFlow<()>,
) -> Result<ControlFlow<()>> {
    let names = names(directory, prefix).map_err(|error| failure(place, Operation::List, prefix, error))?;
    for Name { key, is_directory } in names {
        let failed = |error| failure(place, Operation::List, Some(&key), error);
        // What has gone since its name was read is left out.
        let flow = if is_directory {
            match tree::subdirectory(directory, key.name()).map_err(failed)? {
                Some(below) => descend(place, &below, Some(&key), visit)?,
                None => continue,
            }
        } else {
            match tree::status(directory, key.name()).map_err(failed)? {
                Some(status) => visit(tree::info(key.clone(), &status).map_err(failed)?),
                None => continue,
            }
        };
        if flow.is_break() {
            return Ok(flow);
        }
    }
    Ok(ControlFlow::Continue(()))
}

/// The names in the directory `prefix`, in their order.
pub(super) fn directory(place: &Place, root: &OwnedFd, prefix: Option<&Key>) -> Result<Vec<Entry>> {
    let failed = |error| failure(place, Operation::ListDirectory, prefix, error);
    let Some(directory) = tree::directory(root, prefix).map_err(failed)? else { return Ok(Vec::new()) };
    let mut entries = Vec::new();
    for Name { key, is_directory } in names(&directory, prefix).map_err(failed)? {
        let name = key.name().to_owned();
        if is_directory {
            entries.push(Entry { name, kind: EntryKind::Directory });
        } else if let Some(status) = tree::status(&directory, &name).map_err(failed)? {
            entries.push(Entry { name, kind: EntryKind::Object(tree::info(key, &status).map_err(failed)?) });
        }
    }
    entries.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(entries)
}

/// The names in a directory that can be parts of keys, in the order of the keys below them: `a-b` comes before `a/c`.
/// Unfinished files and names that no key has are left out, for they are no objects.
fn names(directory: &OwnedFd, prefix: Option<&Key>) -> io::Result<Vec<Name>> {
    let readable = openat(directory, ".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let mut names = Vec::new();
    for entry in Dir::new(readable)? {
        let entry = entry?;
        let Some((name, key)) = entry.file_name().to_str().ok().and_then(|name| Some((name, key_of(prefix, name)?)))
        else {
            continue;
        };
        let is_directory = match entry.file_type() {
            FileType::RegularFile => false,
            FileType::Directory => true,
            // Some file systems do not say.
            FileType::Unknown => match tree::status(directory, name)? {
                Some(status) => is_directory(&status, name)?,
                None => continue,
            },
            // A link instead of a directory must not make a listing look complete.
            _ => match tree::status(directory, name)? {
                Some(status) => return Err(tree::not_expected(&status, name)),
                None => continue,
            },
        };
        names.push(Name { key, is_directory });
    }
    names.sort_by(|one, other| sort_text(one).cmp(sort_text(other)));
    Ok(names)
}

fn is_directory(status: &Stat, name: &str) -> io::Result<bool> {
    match FileType::from_raw_mode(status.st_mode) {
        FileType::Directory => Ok(true),
        FileType::RegularFile => Ok(false),
        _ => Err(tree::not_expected(status, name)),
    }
}

/// The bytes by which a name is sorted: those of a directory end in the slash that follows it in keys.
fn sort_text(name: &Name) -> impl Iterator<Item = u8> {
    let slash: &[u8] = if name.is_directory { b"/" } else { b"" };
    name.key.name().bytes().chain(slash.iter().copied())
}

fn key_of(prefix: Option<&Key>, name: &str) -> Option<Key> {
    // A key refuses these, too; said here because it is the reason.
    if name.starts_with(TEMPORARY_PREFIX) {
        return None;
    }
    prefix.map_or_else(|| Key::parse(name), |prefix| prefix.join(name)).ok()
}

fn failure(place: &Place, operation: Operation, key: Option<&Key>, error: io::Error) -> Error {
    place.error(kind_of(&error), operation, key, error)
}
