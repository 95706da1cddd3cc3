//! What is wrong, with what, for whom.

use std::collections::BTreeMap;

use pgark_repository::{Error as RepositoryError, Label};
use pgark_storage::ErrorKind as StorageErrorKind;

use crate::error::{Error, Result};

/// What kind of thing is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FindingKind {
    /// An object is not there.
    Missing,
    /// An object's bytes are not those that were written.
    Damaged,
    /// An object has another length than it should have.
    Size,
    /// An object can't be read from the storage.
    Unreadable,
    /// An object was written by a newer program.
    Unsupported,
    /// Whole objects contradict each other.
    Inconsistent,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The name of the object.
    pub object: String,
    /// What kind of thing is wrong.
    pub kind: FindingKind,
    /// What is wrong, without the object's name; empty where the kind says it all.
    pub what: String,
    /// What to do.
    pub hint: String,
    /// The backups that can't be restored, or not wholly.
    pub backups: Vec<Label>,
    /// The backups that can be restored, but not recovered past it.
    pub cut_short: Vec<Label>,
    /// The files of backups that it takes away, at most `FILES_NAMED` by name.
    pub files: AffectedFiles,
}

/// Files that are named of all that are affected.
pub(super) const FILES_NAMED: usize = 5;

/// Files of backups that can't be restored.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AffectedFiles {
    /// How many, those of each backup counted.
    pub count: u64,
    /// The first of them, each once.
    pub first: Vec<String>,
}

impl AffectedFiles {
    pub(super) fn merge(&mut self, other: Self) {
        self.count += other.count;
        for path in other.first {
            if self.first.len() < FILES_NAMED && !self.first.contains(&path) {
                self.first.push(path);
            }
        }
    }

    pub(super) fn add(&mut self, path: &[u8]) {
        self.count += 1;
        let path = String::from_utf8_lossy(path);
        if self.first.len() < FILES_NAMED && !self.first.iter().any(|known| *known == path) {
            self.first.push(path.into_owned());
        }
    }
}

/// How many things of each kind are wrong.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts(BTreeMap<FindingKind, u64>);

impl Counts {
    /// Counts things of a kind.
    pub fn add(&mut self, kind: FindingKind, count: u64) {
        *self.0.entry(kind).or_default() += count;
    }

    /// How many there are of a kind.
    pub fn of(&self, kind: FindingKind) -> u64 {
        self.0.get(&kind).copied().unwrap_or_default()
    }

    /// How many there are.
    pub fn total(&self) -> u64 {
        self.0.values().sum()
    }
}

/// What is wrong with an object that could not be read as it should be.
#[derive(Debug)]
pub(super) struct Flaw {
    pub(super) kind: FindingKind,
    pub(super) what: String,
}

impl Flaw {
    pub(super) fn inconsistent(what: impl Into<String>) -> Self {
        Self { kind: FindingKind::Inconsistent, what: what.into() }
    }

    pub(super) fn size(what: impl Into<String>) -> Self {
        Self { kind: FindingKind::Size, what: what.into() }
    }

    pub(super) fn missing() -> Self {
        Self { kind: FindingKind::Missing, what: String::new() }
    }

    /// What an error says about the object.
    ///
    /// # Errors
    /// The error itself, where it says nothing about the object: the storage does not answer, for instance.
    pub(super) fn of(error: RepositoryError) -> Result<Self> {
        let (kind, what) = match error {
            RepositoryError::Damaged { what, .. } => (FindingKind::Damaged, what),
            RepositoryError::Unsupported { what, .. } => (FindingKind::Unsupported, what),
            RepositoryError::Storage(error) => match error.kind() {
                StorageErrorKind::NotFound => return Ok(Self::missing()),
                StorageErrorKind::TooShort | StorageErrorKind::TooLarge => (FindingKind::Size, error.to_string()),
                StorageErrorKind::Io | StorageErrorKind::Denied => (FindingKind::Unreadable, error.to_string()),
                _ => return Err(error.into()),
            },
            error => return Err(error.into()),
        };
        Ok(Self { kind, what })
    }

    /// The finding that this is, not yet with whom it concerns.
    pub(super) fn at(self, part: Part, object: impl Into<String>) -> Finding {
        Finding {
            object: object.into(),
            hint: hint(part, self.kind).to_owned(),
            kind: self.kind,
            what: self.what,
            backups: Vec::new(),
            cut_short: Vec::new(),
            files: AffectedFiles::default(),
        }
    }
}

/// What part of a repository an object belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Manifest,
    Pack,
    Wal,
    Other,
}

/// What to do about a finding.
fn hint(part: Part, kind: FindingKind) -> &'static str {
    match (part, kind) {
        (_, FindingKind::Unreadable) => "check the storage and its permissions, then verify again",
        (_, FindingKind::Unsupported) => "upgrade pgark on this host",
        (Part::Pack, _) => {
            "restore the object from a copy of the repository; a new backup stores anew what can't be used any more"
        }
        (Part::Manifest, _) => {
            "restore the object from a copy of the repository; else take a new backup, for this one can't be relied on"
        }
        (Part::Wal, _) => {
            "restore the segment from a copy of the repository; else take a new backup now, so that a recovery can begin after it"
        }
        (Part::Other, _) => "restore the object from a copy of the repository",
    }
}

/// What comes of looking at something: a flaw is no error, but where the storage fails nothing can be said.
pub(super) fn flaw_or_error<T>(result: Result<T, RepositoryError>) -> Result<Result<T, Flaw>, Error> {
    match result {
        Ok(value) => Ok(Ok(value)),
        Err(error) => Flaw::of(error).map(Err),
    }
}
