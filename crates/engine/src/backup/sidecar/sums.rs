//! What there is of each sidecar, and its entries.

use std::collections::{BTreeMap, HashSet};

use pgark_repository::manifest::{Attributes, EntryKind, Sidecar, SidecarEntry, SidecarKind, Stamp};

use super::source::SourceDirectory;
use super::walk::{Found, FoundKind};

/// Counts the files of sidecars.
#[derive(Debug, Default)]
pub(in crate::backup) struct Sums {
    /// Files and bytes, by the names of the sidecars.
    counted: BTreeMap<Vec<u8>, (u64, u64)>,
    /// Files with several names that were gone when they were to be read.
    gone: HashSet<Vec<u8>>,
}

impl Sums {
    /// The entry of what was found, which has this content if it is a file; none of what is said to be the same as a file
    /// that is gone.
    pub(in crate::backup) fn entry(
        &mut self,
        found: &Found,
        attributes: Attributes,
        content: EntryKind,
    ) -> Option<SidecarEntry> {
        let kind = match (&found.kind, content) {
            (_, EntryKind::File { size, content, .. }) => {
                let sums = self.counted.entry(SidecarEntry::sidecar_of(&found.path).to_vec()).or_default();
                *sums = (sums.0 + 1, sums.1 + size);
                SidecarKind::File { size, content }
            }
            (FoundKind::Link { target }, _) => SidecarKind::Link { target: target.clone() },
            (FoundKind::SameAs { path }, _) if self.gone.contains(path) => return None,
            (FoundKind::SameAs { path }, _) => SidecarKind::SameAs { path: path.clone() },
            (FoundKind::Directory | FoundKind::File { .. }, _) => SidecarKind::Directory,
        };
        Some(SidecarEntry { path: found.path.clone(), attributes, stamp: stamp(found), kind })
    }

    /// Notes that a file is gone.
    pub(in crate::backup) fn pass_over(&mut self, found: &Found) {
        if found.look.has_other_names() {
            self.gone.insert(found.path.clone());
        }
    }

    /// What a manifest says of the sidecars.
    pub(in crate::backup) fn into_sidecars(self, directories: &[SourceDirectory]) -> Vec<Sidecar> {
        let sidecar = |directory: &SourceDirectory| {
            let (files, size) = self.counted.get(directory.name.as_bytes()).copied().unwrap_or_default();
            Sidecar { name: directory.name.clone(), path: directory.path.to_string_lossy().into_owned(), files, size }
        };
        directories.iter().map(sidecar).collect()
    }
}

/// What tells a later backup that a file is as it was.
pub(super) fn stamp(found: &Found) -> Stamp {
    let ((_, modified_nanoseconds), (changed, changed_nanoseconds)) = (found.look.modified(), found.look.changed());
    Stamp { modified_nanoseconds, changed, changed_nanoseconds, inode: found.look.identity().1 }
}
