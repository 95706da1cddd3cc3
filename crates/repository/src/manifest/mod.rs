//! Manifests: one backup each. Section 7 of `docs/format.md`.

mod document;
mod entry;
mod pack_list;
mod reader;
mod sidecar;
mod writer;

pub use document::{
    BackupPoint, ClusterIdentity, DamagedFile, Database, ManifestDocument, PageRange, Sidecar, Tablespace, Totals,
    Unexplained,
};
pub use entry::{Attributes, Content, Entry, EntryKind, MapLocation};
pub use pack_list::{PackList, PackUse};
pub use reader::{Manifest, MapReader};
pub use sidecar::{SidecarEntry, SidecarKind, Stamp};
pub use writer::ManifestWriter;
