//! Removing what does not belong, before a cluster is restored over what is there.

use std::cmp::Ordering;
use std::ffi::OsStr;
use std::iter::Peekable;
use std::os::unix::ffi::OsStrExt;

use pgark_repository::manifest::{Entry, EntryKind};
use pgark_system::directory::Directory;

use super::contents::{as_path, compare};
use super::destination::MARKER;
use super::layout::{Layout, Link, LinkKind};
use crate::error::Result;

/// Removes everything from the data directory and from what its links lead to, but what is named in `kept`.
///
/// What links lead to comes first: that they lead there says that it may be removed, should this be interrupted.
///
/// # Errors
/// What the file system says.
pub(super) fn empty(directory: &Directory, layout: &Layout, version_directory: &str, kept: &[&str]) -> Result<()> {
    for link in layout.links().filter(|link| link.place.exists()) {
        match link.kind {
            LinkKind::Tablespace(_) => Directory::open(&link.place)?.remove(OsStr::new(version_directory))?,
            LinkKind::Directory => Directory::open(&link.place)?.empty()?,
            LinkKind::File => Directory::open(link.root())?.remove(link.place.file_name().unwrap_or_default())?,
        }
    }
    for name in directory.names()? {
        if name != MARKER && !kept.iter().any(|kept| name == *kept) {
            directory.remove(&name)?;
        }
    }
    Ok(())
}

/// Removes from the data directory, and from what its links lead to, what `entries` do not name, or what is of another
/// kind than they say. Gives how much that was.
///
/// Both are walked side by side in the same order, so that neither has to be held in memory. No link is followed but
/// those of the layout that lead where they are to lead. Of a tablespace only the version's directory is looked at: other
/// clusters may have theirs beside it.
///
/// # Errors
/// Those of `entries`, and what the file system says.
pub(super) fn remove_foreign(
    directory: &Directory,
    layout: &Layout,
    kept: &[&str],
    entries: impl Iterator<Item = Result<Entry>>,
) -> Result<u64> {
    let mut entries = entries.peekable();
    // The first entry is the directory itself.
    entries.next().transpose()?;
    let mut clearing = Clearing { layout, kept, entries, removed: 0 };
    clearing.directory(directory, b"", false)?;
    Ok(clearing.removed)
}

struct Clearing<'clearing, I: Iterator<Item = Result<Entry>>> {
    layout: &'clearing Layout,
    kept: &'clearing [&'clearing str],
    entries: Peekable<I>,
    removed: u64,
}

impl<I: Iterator<Item = Result<Entry>>> Clearing<'_, I> {
    /// Goes through one directory, whose entry has been passed.
    fn directory(&mut self, directory: &Directory, path: &[u8], is_tablespace: bool) -> Result<()> {
        for name in directory.names()? {
            let child = join(path, name.as_bytes());
            if path.is_empty() && (name == MARKER || self.kept.iter().any(|kept| name == *kept)) {
                continue;
            }
            self.pass_until(&child)?;
            let expected = match self.entries.peek() {
                Some(Ok(entry)) if entry.path == child => self.entries.next().transpose()?,
                Some(Err(_)) => self.entries.next().transpose()?,
                _ => None,
            };
            match expected {
                None if is_tablespace => {}
                None => self.remove(directory, &name)?,
                Some(entry) => self.judge(directory, &name, &entry)?,
            }
        }
        Ok(())
    }

    /// Passes entries that the directory lacks.
    fn pass_until(&mut self, path: &[u8]) -> Result<()> {
        while let Some(entry) = self
            .entries
            .next_if(|entry| entry.as_ref().map_or(true, |entry| compare(&entry.path, path) == Ordering::Less))
        {
            entry?;
        }
        Ok(())
    }

    /// Keeps what is of the kind that it should be.
    fn judge(&mut self, directory: &Directory, name: &OsStr, entry: &Entry) -> Result<()> {
        let Some(look) = directory.look(name)? else { return Ok(()) };
        if let Some(link) = self.layout.link(as_path(&entry.path)) {
            let is_right = look.is_link() && directory.read_link(name)? == link.text;
            return if is_right { self.linked(link, entry) } else { self.remove(directory, name) };
        }
        match entry.kind {
            EntryKind::Directory if look.is_directory() => self.directory(&directory.child(name)?, &entry.path, false),
            // A file that has a name elsewhere as well is somebody else's too.
            EntryKind::File { .. } if look.is_file() && !look.has_other_names() => Ok(()),
            _ => self.remove(directory, name),
        }
    }

    /// Goes on behind a link.
    fn linked(&mut self, link: &Link, entry: &Entry) -> Result<()> {
        if !link.place.exists() {
            return Ok(());
        }
        let root = Directory::open(link.root())?;
        if link.kind != LinkKind::File {
            return self.directory(&root, &entry.path, matches!(link.kind, LinkKind::Tablespace(_)));
        }
        let name = link.place.file_name().unwrap_or_default();
        match root.look(name)? {
            Some(look) if !look.is_file() || look.has_other_names() => self.remove(&root, name),
            _ => Ok(()),
        }
    }

    fn remove(&mut self, directory: &Directory, name: &OsStr) -> Result<()> {
        tracing::debug!("remove '{}', which is not in the backup", directory.path().join(name).display());
        self.removed += 1;
        Ok(directory.remove(name)?)
    }
}

fn join(directory: &[u8], name: &[u8]) -> Vec<u8> {
    if directory.is_empty() { name.to_vec() } else { [directory, b"/", name].concat() }
}

#[cfg(test)]
mod tests {
    use fs_err as fs;
    use fs_err::os::unix::fs::symlink;
    use pgark_repository::manifest::{Attributes, Content};

    use super::*;
    use crate::restore::contents::Contents;
    use crate::restore::settings::Relocation;

    fn entry(path: &str, kind: EntryKind) -> Entry {
        Entry { path: path.as_bytes().to_vec(), link: None, attributes: Attributes::default(), kind }
    }

    fn file(path: &str) -> Entry {
        entry(path, EntryKind::File { size: 0, page_checksums: false, content: Content::None, damaged: Vec::new() })
    }

    fn directory(path: &str) -> Entry {
        entry(path, EntryKind::Directory)
    }

    #[test]
    fn only_what_belongs_stays() {
        let place = tempfile::tempdir().unwrap();
        let root = place.path().join("data");
        for path in ["base/1", "base/2/deep", "base.old", "global"] {
            fs::create_dir_all(root.join(path)).unwrap();
        }
        for path in ["base/1/1", "base/1/9", "base/2/deep/x", "base.old/y", "PG_VERSION", "wrong", MARKER, "kept"] {
            fs::write(root.join(path), "").unwrap();
        }
        let outside = place.path().join("outside");
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("precious"), "").unwrap();
        symlink(&outside, root.join("global/link")).unwrap();
        symlink(&outside, root.join("pg_wal")).unwrap();
        symlink(outside.join("precious"), root.join("base/1/3")).unwrap();
        fs::hard_link(outside.join("precious"), root.join("base/1/4")).unwrap();

        let entries = [
            directory(""),
            file("PG_VERSION"),
            directory("base"),
            directory("base/1"),
            file("base/1/1"),
            file("base/1/2"),
            file("base/1/3"),
            file("base/1/4"),
            directory("global"),
            directory("pg_wal"),
            file("pg_wal/precious"),
            directory("wrong"),
        ];
        let layout = Layout::new(&root, &Contents::default(), &[], &Relocation::default(), "PG_17_1").unwrap();
        let opened = Directory::open(&root).unwrap();
        let removed = remove_foreign(&opened, &layout, &["kept"], entries.into_iter().map(Ok)).unwrap();
        assert_eq!(removed, 8);
        let all = ["base/1/1", "base/1/3", "base/1/4", "base/1/9", "base/2", "base.old", "global/link", "pg_wal"];
        let all = all.into_iter().chain(["PG_VERSION", "wrong", "kept", MARKER]);
        let left: Vec<&str> = all.filter(|path| fs::symlink_metadata(root.join(path)).is_ok()).collect();
        assert_eq!(left, ["base/1/1", "PG_VERSION", "kept", MARKER]);
        assert!(outside.join("precious").exists());
    }
}
