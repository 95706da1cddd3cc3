//! The data directory: what lies in it and its tablespaces, and what of that a backup takes.

mod exclusion;
mod links;
mod walk;

use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use thiserror::Error;

pub use exclusion::{Context, Exclusion, FileKind, Reason, Scope, exclusion, tablespace_oid, unlogged_relations};
pub use walk::walk;

use crate::control::CONTROL_FILE_PATH;

/// A file or directory that belongs into a backup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Where it lies, relative to the data directory; empty for the data directory itself. What lies behind a link has
    /// the path that leads through the link.
    pub path: PathBuf,
    /// Whether it is a file or a directory.
    pub kind: EntryKind,
    /// If the name is a symbolic link, its text: `kind` and the attributes are those of what it leads to.
    pub link: Option<PathBuf>,
    /// The permission bits, with set-user-id, set-group-id and sticky bit.
    pub mode: u32,
    /// The owner's number.
    pub user: u32,
    /// The group's number.
    pub group: u32,
    /// When the content was last changed.
    pub modified: Timestamp,
}

/// What an [`Entry`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// A plain file of this many bytes, when it was looked at.
    File {
        /// The size in bytes.
        size: u64,
    },
    /// A directory.
    Directory,
}

impl Entry {
    /// Whether this is the control file, which a backup takes last: see [`crate::control::ControlFile::read_image`].
    pub fn is_control_file(&self) -> bool {
        self.path == Path::new(CONTROL_FILE_PATH)
    }
}

/// Something that was left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftOut {
    /// Where it lies, relative to the data directory.
    pub path: PathBuf,
    /// How much was left out, and why.
    pub exclusion: Exclusion,
}

/// What a walk comes by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// What belongs into a backup.
    Entry(Entry),
    /// What was left out. Of a directory that was left out, not what is in it.
    LeftOut(LeftOut),
}

/// A data directory as a walk has found it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contents {
    /// What belongs into a backup, in the order of the walk.
    pub entries: Vec<Entry>,
    /// What was left out, in the same order.
    pub left_out: Vec<LeftOut>,
}

impl Contents {
    /// Collects what [`walk`] finds. Memory grows with the number of files.
    ///
    /// # Errors
    /// As [`walk`].
    pub fn of(data_directory: &Path, context: &Context) -> Result<Self, DataDirectoryError> {
        let mut contents = Self::default();
        walk(data_directory, context, &mut |found| {
            match found {
                Found::Entry(entry) => contents.entries.push(entry),
                Found::LeftOut(left_out) => contents.left_out.push(left_out),
            }
            ControlFlow::Continue(())
        })?;
        Ok(contents)
    }
}

/// The data directory can't be taken into a backup as it is.
#[derive(Debug, Error)]
pub enum DataDirectoryError {
    /// Something can't be read.
    #[error("failed to walk the data directory")]
    Read(#[from] io::Error),
    /// A link leads nowhere.
    #[error("link '{link}' leads to '{target}', which does not exist")]
    DanglingLink {
        /// The link.
        link: PathBuf,
        /// Its text.
        target: PathBuf,
    },
    /// A link leads to a link.
    #[error("link '{link}' leads to '{target}', which is a link itself")]
    LinkToLink {
        /// The link.
        link: PathBuf,
        /// Its text.
        target: PathBuf,
    },
    /// A link leads to where the data directory or another link lies, so that files would be taken twice.
    #[error("link '{link}' leads to '{target}', which overlaps '{other}'")]
    OverlappingLink {
        /// The link.
        link: PathBuf,
        /// Where it leads.
        target: PathBuf,
        /// The data directory, or where another link leads.
        other: PathBuf,
    },
    /// A tablespace is not where its link says.
    #[error("tablespace {oid} has no directory '{directory}'")]
    TablespaceMissing {
        /// The tablespace's oid, as the link is named.
        oid: u32,
        /// The directory that should be there.
        directory: PathBuf,
    },
}

impl DataDirectoryError {
    /// What to do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Read(_) => "does this program run as the user that PostgreSQL runs as?",
            Self::DanglingLink { .. } => "mount what it leads to, or remove the link",
            Self::LinkToLink { .. } => "have the first link lead to where the second does",
            Self::OverlappingLink { .. } => "have the link lead elsewhere",
            Self::TablespaceMissing { .. } => "is its file system mounted?",
        }
    }
}
