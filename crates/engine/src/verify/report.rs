//! What verifying has found out.

use jiff::Timestamp;
use pgark_repository::{Label, StanzaName};

use super::finding::{Counts, Finding, FindingKind};
pub use super::inventory::Orphans;
use crate::error::Result;
pub use crate::info::MissingWal;

/// How much was looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// Which objects there are, and how long they are.
    Listings,
    /// Every byte.
    Whole,
    /// Every byte of as much as there was time for.
    Bounded,
}

/// What was found out about a stanza.
#[derive(Debug)]
pub struct VerifyReport {
    /// The stanza.
    pub stanza: StanzaName,
    /// How much was looked at.
    pub depth: Depth,
    /// What was found out in each repository, by the keys of their configuration, or why nothing could be.
    pub repositories: Vec<(u32, Result<RepositoryReport>)>,
}

impl VerifyReport {
    /// How many things are wrong.
    pub fn findings(&self) -> usize {
        self.repositories.iter().flat_map(|(_, found)| found).map(|found| found.findings.len()).sum()
    }
}

/// What was found out about a stanza in one repository.
#[derive(Debug)]
pub struct RepositoryReport {
    /// Its archives, oldest first.
    pub archives: Vec<ArchiveReport>,
    /// The backups, oldest first.
    pub backups: Vec<BackupReport>,
    /// Packs that no backup needs.
    pub orphans: Orphans,
    /// How much was looked at, and when.
    pub progress: Progress,
    /// What is wrong.
    pub findings: Vec<Finding>,
}

/// What was found out about an archive.
#[derive(Debug)]
pub struct ArchiveReport {
    /// Its name, such as `17-1`.
    pub id: String,
    /// WAL segments in it.
    pub segments: u64,
    /// Those that were looked at.
    pub checked: u64,
    /// What is wrong with segments.
    pub counts: Counts,
    /// Segments that are missing for a backup.
    pub gaps: Vec<MissingWal>,
}

impl ArchiveReport {
    /// The segments that were looked at and are as they were written.
    pub fn valid(&self) -> u64 {
        let flawed = self.counts.total() - self.counts.of(FindingKind::Missing);
        self.checked.saturating_sub(flawed)
    }
}

/// How it is with a backup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BackupStatus {
    /// All it needs was looked at and is as it was written.
    Valid,
    /// Something that it needs is not.
    Invalid,
    /// It can be restored to its end, but not recovered to the end of the archive.
    CutShort,
    /// All it needs is there. It was not looked at.
    Present,
    /// What was looked at is as it was written. Some has never been looked at.
    Partly,
}

/// What was found out about a backup.
#[derive(Debug)]
pub struct BackupReport {
    /// Its label.
    pub label: Label,
    /// How it is with it.
    pub status: BackupStatus,
    /// The files in it; none where its manifest was not looked at.
    pub files: Option<u64>,
    /// The files that can't be restored.
    pub flawed_files: u64,
    /// What is wrong that concerns it.
    pub counts: Counts,
}

/// How much was looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Objects that the backups need.
    pub objects: u64,
    /// How many of them were looked at in this run.
    pub checked: u64,
    /// Bytes of these.
    pub bytes: u64,
    /// How many have never been looked at.
    pub never: u64,
    /// When that was looked at which has not been for the longest time.
    pub oldest: Option<Timestamp>,
}
