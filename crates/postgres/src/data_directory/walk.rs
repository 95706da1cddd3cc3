//! Walking a data directory while its server works.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::Metadata;
use std::io;
use std::ops::ControlFlow;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use fs_err as fs;
use jiff::Timestamp;

use super::exclusion::{Context, FileKind, Scope, exclusion, tablespace_oid, unlogged_relations};
use super::links::Links;
use super::{DataDirectoryError, Entry, EntryKind, Found, LeftOut};
use crate::relation::{DatabaseDirectory, version_directory};

/// The permission bits of a mode, without those that tell the kind of file.
const PERMISSION_BITS: u32 = 0o7777;

/// Finds what a backup of `data_directory` takes and what it leaves out, and tells `visit` of each as it comes by: each
/// directory before what is in it, names in the order of their bytes. Ends early, without an error, when `visit` breaks.
/// Memory holds the names of the directories on the way to one file, whatever the size of the cluster.
///
/// The server may be at work: a file that vanishes on the way is passed over, and a size is what the file had at that
/// moment. Two walks over files that rest find the same.
///
/// # Errors
/// Fails where something can't be read, and on links that lead nowhere, to links, or into one another.
pub fn walk(
    data_directory: &Path,
    context: &Context,
    visit: &mut dyn FnMut(Found) -> ControlFlow<()>,
) -> Result<(), DataDirectoryError> {
    let metadata = fs::metadata(data_directory)?;
    let names = names_in(data_directory)?;
    let links = Links::new(data_directory)?;
    let mut walk = Walk { data_directory, context, links, visit };
    let root = entry(PathBuf::new(), EntryKind::Directory, None, &metadata);
    match walk.tell(Found::Entry(root)).and_then(|()| walk.all_of(Path::new(""), &names)) {
        Ok(()) | Err(Stop::Enough) => Ok(()),
        Err(Stop::Failed(error)) => Err(error),
    }
}

struct Walk<'walk> {
    data_directory: &'walk Path,
    context: &'walk Context,
    links: Links,
    visit: &'walk mut dyn FnMut(Found) -> ControlFlow<()>,
}

/// Why a walk ends before it is through.
enum Stop {
    Enough,
    Failed(DataDirectoryError),
}

impl<E: Into<DataDirectoryError>> From<E> for Stop {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

impl Walk<'_> {
    fn tell(&mut self, found: Found) -> Result<(), Stop> {
        if (self.visit)(found).is_break() { Err(Stop::Enough) } else { Ok(()) }
    }

    /// Takes what is in a directory.
    fn all_of(&mut self, directory: &Path, names: &[OsString]) -> Result<(), Stop> {
        let unlogged = match DatabaseDirectory::parse(directory) {
            Some(_) => unlogged_relations(names.iter().map(OsString::as_os_str)),
            None => BTreeSet::new(),
        };
        names.iter().try_for_each(|name| self.one(directory.join(name), &unlogged))
    }

    /// Takes one name, with all that is in it.
    fn one(&mut self, path: PathBuf, unlogged: &BTreeSet<u32>) -> Result<(), Stop> {
        let full = self.data_directory.join(&path);
        let Some(look) = unless_gone(Look::at(&full))? else { return Ok(()) };
        let exclusion = exclusion(&path, look.kind(), unlogged, self.context);
        if let Some(exclusion) = exclusion {
            self.tell(Found::LeftOut(LeftOut { path: path.clone(), exclusion }))?;
        }
        if exclusion.is_some_and(|exclusion| exclusion.scope == Scope::Whole) {
            return Ok(());
        }
        self.check_link(&path, &full, &look)?;
        if look.kind() == FileKind::File {
            let kind = EntryKind::File { size: look.metadata.len() };
            return self.tell(Found::Entry(entry(path, kind, look.link, &look.metadata)));
        }
        // The names are read first: a database that was dropped meanwhile leaves no empty directory.
        let names = if exclusion.is_some() { Some(Vec::new()) } else { self.names_of(&path, &full)? };
        let Some(names) = names else { return Ok(()) };
        self.tell(Found::Entry(entry(path.clone(), EntryKind::Directory, look.link, &look.metadata)))?;
        self.all_of(&path, &names)
    }

    /// Refuses a link that may not be followed.
    fn check_link(&mut self, path: &Path, full: &Path, look: &Look) -> Result<(), DataDirectoryError> {
        let Some(target) = &look.link else { return Ok(()) };
        if look.metadata.is_symlink() {
            return Err(DataDirectoryError::DanglingLink { link: full.to_owned(), target: target.clone() });
        }
        let version_directory = tablespace_oid(path).map(|_oid| version_directory(self.context.version));
        self.links.add(full, target, version_directory.as_deref())
    }

    /// The names in a directory, or `None` if it vanished. A tablespace whose directory is empty is not taken for one
    /// that was emptied: more likely its file system is not mounted.
    fn names_of(&self, path: &Path, full: &Path) -> Result<Option<Vec<OsString>>, DataDirectoryError> {
        let names = unless_gone(names_in(full))?;
        if let (Some(oid), Some(names)) = (tablespace_oid(path), &names) {
            let directory = version_directory(self.context.version);
            if !names.iter().any(|name| *name == *directory) {
                return Err(DataDirectoryError::TablespaceMissing { oid, directory: full.join(directory) });
            }
        }
        Ok(names)
    }
}

/// What a look at a name shows.
struct Look {
    /// Its text, if it is a link.
    link: Option<PathBuf>,
    /// The attributes of what a link leads to; those of the link itself, if it leads nowhere.
    metadata: Metadata,
}

impl Look {
    fn at(full: &Path) -> io::Result<Self> {
        let metadata = fs::symlink_metadata(full)?;
        if !metadata.is_symlink() {
            return Ok(Self { link: None, metadata });
        }
        let link = Some(fs::read_link(full)?);
        let metadata = unless_gone(fs::metadata(full))?.unwrap_or(metadata);
        Ok(Self { link, metadata })
    }

    /// A link that leads nowhere counts as a file, so that it can be left out by its name.
    fn kind(&self) -> FileKind {
        if self.metadata.is_dir() {
            FileKind::Directory
        } else if self.metadata.is_file() || self.metadata.is_symlink() {
            FileKind::File
        } else {
            FileKind::Special
        }
    }
}

fn entry(path: PathBuf, kind: EntryKind, link: Option<PathBuf>, metadata: &Metadata) -> Entry {
    Entry {
        path,
        kind,
        link,
        mode: metadata.mode() & PERMISSION_BITS,
        user: metadata.uid(),
        group: metadata.gid(),
        modified: modified(metadata),
    }
}

/// A time that a [`Timestamp`] can't hold is beyond the year 9999, or nonsense: the nearest one will do.
fn modified(metadata: &Metadata) -> Timestamp {
    let nanoseconds = i32::try_from(metadata.mtime_nsec()).unwrap_or(0);
    let nearest = if metadata.mtime() < 0 { Timestamp::MIN } else { Timestamp::MAX };
    Timestamp::new(metadata.mtime(), nanoseconds).unwrap_or(nearest)
}

/// The names in a directory, in the order of their bytes.
fn names_in(directory: &Path) -> io::Result<Vec<OsString>> {
    let names: io::Result<Vec<OsString>> = fs::read_dir(directory)?.map(|entry| Ok(entry?.file_name())).collect();
    let mut names = names?;
    names.sort_unstable();
    Ok(names)
}

/// Turns the error that says that something does not exist into `None`.
fn unless_gone<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
