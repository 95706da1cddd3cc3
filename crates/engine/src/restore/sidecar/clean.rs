//! Removing what does not belong, before a sidecar is restored over what is there.

use std::cmp::Ordering;
use std::ffi::OsStr;
use std::iter::Peekable;
use std::os::unix::ffi::OsStrExt;

use pgark_repository::manifest::{SidecarEntry, SidecarKind};
use pgark_system::directory::Directory;

use super::super::contents::{as_path, compare};
use crate::error::Result;

/// Removes from the directory of the sidecar `name` what `entries` do not name, or what is of another kind than they say.
/// Gives how much that was. Both are walked side by side in the same order. No link is followed.
///
/// # Errors
/// Those of `entries`, and what the file system says.
pub(super) fn remove_foreign(
    directory: &Directory,
    name: &str,
    entries: impl Iterator<Item = Result<SidecarEntry>>,
) -> Result<u64> {
    let mut entries = entries.peekable();
    // The first entry is the directory itself.
    entries.next().transpose()?;
    let mut clearing = Clearing { entries, removed: 0 };
    clearing.directory(directory, name.as_bytes())?;
    Ok(clearing.removed)
}

struct Clearing<I: Iterator<Item = Result<SidecarEntry>>> {
    entries: Peekable<I>,
    removed: u64,
}

impl<I: Iterator<Item = Result<SidecarEntry>>> Clearing<I> {
    /// Goes through one directory, whose entry has been passed.
    fn directory(&mut self, directory: &Directory, path: &[u8]) -> Result<()> {
        for name in directory.names()? {
            let child = [path, b"/", name.as_bytes()].concat();
            match self.entry(&child)? {
                Some(entry) => self.judge(directory, &name, &entry)?,
                None => self.remove(directory, &name)?,
            }
        }
        Ok(())
    }

    /// The entry of this path. Those before it are passed: the directory lacks them.
    fn entry(&mut self, path: &[u8]) -> Result<Option<SidecarEntry>> {
        let is_reached = |entry: &Result<SidecarEntry>| {
            entry.as_ref().map_or(true, |entry| compare(&entry.path, path) != Ordering::Greater)
        };
        while let Some(entry) = self.entries.next_if(is_reached) {
            let entry = entry?;
            if entry.path == path {
                return Ok(Some(entry));
            }
        }
        Ok(None)
    }

    /// Keeps what is of the kind that it should be.
    fn judge(&mut self, directory: &Directory, name: &OsStr, entry: &SidecarEntry) -> Result<()> {
        let Some(look) = directory.look(name)? else { return Ok(()) };
        match &entry.kind {
            SidecarKind::Directory if look.is_directory() => self.directory(&directory.child(name)?, &entry.path),
            // Who writes to a file that has other names changes it under all of them: it is made anew.
            SidecarKind::File { .. } if look.is_file() && !look.has_other_names() => Ok(()),
            SidecarKind::Link { target } if look.is_link() && directory.read_link(name)? == as_path(target) => Ok(()),
            _ => self.remove(directory, name),
        }
    }

    fn remove(&mut self, directory: &Directory, name: &OsStr) -> Result<()> {
        tracing::debug!("remove '{}', which is not in the backup", directory.path().join(name).display());
        self.removed += 1;
        Ok(directory.remove(name)?)
    }
}
