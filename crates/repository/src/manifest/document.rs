//! What a manifest says of the backup as a whole.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::names::{Label, LabelKind};

/// The document of a manifest: all that `info` shows, and all that a restore needs besides the files.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ManifestDocument {
    /// The backup's label.
    pub label: Label,
    /// Its type.
    #[serde(rename = "type")]
    pub kind: LabelKind,
    /// The backup that was its reference. Nothing depends on it: every backup stands alone.
    pub prior: Option<Label>,
    /// The cluster that was backed up.
    pub cluster: ClusterIdentity,
    /// Where in the write-ahead log the backup begins.
    pub start: BackupPoint,
    /// Where it is consistent.
    pub stop: BackupPoint,
    /// Whether the server was running; without, there is no WAL to recover.
    pub online: bool,
    /// Whether the cluster has page checksums.
    pub page_checksums: bool,
    /// How frames were to be compressed, as `zst:3`.
    pub compression: String,
    /// What the user wrote on it.
    pub annotations: BTreeMap<String, String>,
    /// The databases, ascending by name.
    pub databases: Vec<Database>,
    /// The tablespaces besides PostgreSQL's own, ascending by oid.
    pub tablespaces: Vec<Tablespace>,
    /// Names of users that own files; entries count from 1.
    pub users: Vec<String>,
    /// Names of groups of files; entries count from 1.
    pub groups: Vec<String>,
    /// The files with damaged pages, ascending.
    pub damaged_files: Vec<DamagedFile>,
    /// Whether all pages are as the cluster had them, hint bits included, and the server logged every change of a page in
    /// the WAL, so that a later backup on the timeline differs only in pages that the WAL in between names.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub hints_logged: bool,
    /// Pages that differ from the backup before although no WAL says so, if there are any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unexplained: Option<Unexplained>,
    /// The directories outside the cluster that were backed up with it, ascending by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sidecars: Vec<Sidecar>,
    /// Sums over the files.
    pub totals: Totals,
    /// The program that took the backup.
    pub program: String,
}

/// Which cluster a backup is of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterIdentity {
    /// Which of the stanza's clusters, from 1.
    pub id: u32,
    /// PostgreSQL's major version.
    pub version: String,
    /// PostgreSQL's system identifier, in decimal.
    pub system_id: String,
    /// `PG_CONTROL_VERSION`.
    pub control_version: u32,
    /// `CATALOG_VERSION_NO`.
    pub catalog_version: u32,
    /// Bytes in a WAL segment.
    pub wal_segment_size: u32,
}

/// A point of a backup in time and in the write-ahead log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupPoint {
    /// The time, by the database host's clock.
    pub time: Timestamp,
    /// The LSN, as `0/5000028`; in an offline backup that of the shutdown checkpoint.
    pub lsn: Option<String>,
    /// The timeline.
    pub timeline: u32,
    /// The WAL segment; none for an offline backup.
    pub wal_segment: Option<String>,
}

/// A database.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Database {
    /// Its name.
    pub name: String,
    /// Its oid.
    pub oid: u32,
}

/// A tablespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tablespace {
    /// Its oid.
    pub oid: u32,
    /// Its name.
    pub name: String,
    /// Where it was.
    pub path: String,
}

/// A directory outside the cluster that was backed up with it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sidecar {
    /// Its name, with which the paths of its entries begin.
    pub name: String,
    /// Where it was.
    pub path: String,
    /// Regular files, each counted once whatever names it has.
    pub files: u64,
    /// Bytes of all files.
    pub size: u64,
}

/// A file with pages that are not as they should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DamagedFile {
    /// Its path in the data directory, as text.
    pub path: String,
    /// The pages, counted from the file's beginning.
    pub pages: Vec<PageRange>,
}

/// Pages that have changed although no WAL says so.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unexplained {
    /// How many there are.
    pub pages: u64,
    /// The first of them, ascending by file.
    pub files: Vec<DamagedFile>,
}

/// Consecutive pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PageRange {
    /// The first page.
    pub first: u32,
    /// How many pages.
    pub count: u32,
}

/// Sums over the files of a backup; `files` and `size` without those of sidecars.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// Regular files.
    pub files: u64,
    /// Bytes of all files.
    pub size: u64,
    /// Bytes read from the cluster.
    pub read: u64,
    /// Bytes of frames and maps in the repository that this backup needs, shares of frames included.
    pub stored: u64,
    /// Bytes that this backup added to the repository.
    pub added: u64,
}
