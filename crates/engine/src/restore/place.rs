//! Where files are restored to: below the data directory, or below what a link leads to. Nothing else is written, since
//! no link is followed on the way from there to a file.

use std::collections::{BTreeMap, VecDeque};
use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use fs_err as fs;
use pgark_system::directory::Directory;
use rustix::fs::OFlags;

use super::layout::{Layout, Location};

/// Directories below a root that are held open: files of one directory come one after the other, to every worker.
const OPEN_DIRECTORIES: usize = 16;

/// A directory that files are restored below.
#[derive(Debug)]
pub(super) struct Root {
    directory: Arc<Directory>,
    /// The directories below it that were opened last.
    open: Mutex<VecDeque<(PathBuf, Arc<Directory>)>>,
}

impl Root {
    /// Opens the directory at `path`, following links: it is where the user wants it to be.
    ///
    /// # Errors
    /// What the file system says.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        Ok(Self { directory: Arc::new(Directory::open(path)?), open: Mutex::default() })
    }

    /// The directory itself.
    pub(super) fn directory(&self) -> &Arc<Directory> {
        &self.directory
    }

    /// The directory at `path` below it. Those that are asked for may not be replaced any more.
    fn below(&self, path: &Path) -> io::Result<Arc<Directory>> {
        if path.as_os_str().is_empty() {
            return Ok(Arc::clone(&self.directory));
        }
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, directory)) = open.iter().find(|(known, _)| known == path) {
            return Ok(Arc::clone(directory));
        }
        let directory = Arc::new(self.directory.below(path)?);
        if open.len() >= OPEN_DIRECTORIES {
            open.pop_front();
        }
        open.push_back((path.to_owned(), Arc::clone(&directory)));
        Ok(directory)
    }
}

/// A file or directory to restore: a root, or something below one.
#[derive(Clone, Debug)]
pub(super) struct Place {
    root: Arc<Root>,
    path: PathBuf,
}

impl Place {
    /// What lies at `path` below `root`; `root` itself, if `path` is empty.
    pub(super) fn new(root: &Arc<Root>, path: PathBuf) -> Self {
        Self { root: Arc::clone(root), path }
    }

    /// Whether it is a root.
    pub(super) fn is_root(&self) -> bool {
        self.path.as_os_str().is_empty()
    }

    /// Its path, for messages.
    pub(super) fn full_path(&self) -> PathBuf {
        self.root.directory.path().join(&self.path)
    }

    /// The directory that it lies in, and its name there.
    ///
    /// # Errors
    /// Where the directory is missing or lies behind a link.
    pub(super) fn parent(&self) -> io::Result<(Arc<Directory>, &OsStr)> {
        let name = self.path.file_name().ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidInput, format!("'{}' is no file", self.full_path().display()))
        })?;
        Ok((self.root.below(self.path.parent().unwrap_or(Path::new("")))?, name))
    }

    /// The directory that it is.
    ///
    /// # Errors
    /// Where it is none, or lies behind a link.
    pub(super) fn directory(&self) -> io::Result<Arc<Directory>> {
        self.root.below(&self.path)
    }

    /// Opens the file that it is.
    ///
    /// # Errors
    /// Where it lies behind a link or is one; else what the file system says.
    pub(super) fn open(&self, flags: OFlags) -> io::Result<fs::File> {
        let (directory, name) = self.parent()?;
        directory.file(name, flags, 0)
    }

    /// Another file in the same directory, whose name is longer by `suffix`.
    pub(super) fn beside(&self, suffix: &str) -> Self {
        let mut path = self.path.clone().into_os_string();
        path.push(suffix);
        Self { root: Arc::clone(&self.root), path: path.into() }
    }
}

/// The opened roots of a layout.
#[derive(Debug)]
pub(super) struct Places<'layout> {
    layout: &'layout Layout,
    data_directory: Arc<Root>,
    /// What links lead to, by the paths of the links.
    linked: BTreeMap<&'layout Path, Arc<Root>>,
}

impl<'layout> Places<'layout> {
    /// Opens what links lead to, which must be there.
    ///
    /// # Errors
    /// What the file system says.
    pub(super) fn open(layout: &'layout Layout, data_directory: Arc<Root>) -> io::Result<Self> {
        let links = layout.links().map(|link| Ok((link.path.as_path(), Arc::new(Root::open(link.root())?))));
        Ok(Self { layout, data_directory, linked: links.collect::<io::Result<_>>()? })
    }

    /// The data directory.
    pub(super) fn data_directory(&self) -> Place {
        Place::new(&self.data_directory, PathBuf::new())
    }

    /// All roots, each once.
    pub(super) fn roots(&self) -> impl Iterator<Item = &Arc<Root>> {
        std::iter::once(&self.data_directory).chain(self.linked.values())
    }

    /// Where what this path leads to lies.
    pub(super) fn content(&self, path: &Path) -> Place {
        self.at(self.layout.content(path))
    }

    /// Where the name of this path lies: of a link, the link itself.
    pub(super) fn name(&self, path: &Path) -> Place {
        self.at(self.layout.name(path))
    }

    fn at(&self, location: Location<'_>) -> Place {
        let linked = location.link.and_then(|link| self.linked.get(link.path.as_path()));
        Place::new(linked.unwrap_or(&self.data_directory), location.below)
    }
}
