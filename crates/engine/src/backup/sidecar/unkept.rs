//! What files of a sidecar have that a backup does not keep: their extended attributes, access control lists among them.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use super::source::SourceDirectory;
use super::walk::Found;

/// Attributes that the system gives to every file by itself, and gives again to what is restored.
const OF_THE_SYSTEM: [&str; 6] =
    ["security.apparmor", "security.evm", "security.ima", "security.selinux", "system.nfs4_acl", "security.SMACK64"];

/// How many names are told.
const TOLD: usize = 8;

/// What was come by in one sidecar.
#[derive(Debug, Default)]
pub(super) struct Unkept {
    names: BTreeSet<OsString>,
    files: u64,
    first: Option<PathBuf>,
}

impl Unkept {
    /// Notes what a file or directory has.
    pub(super) fn note(&mut self, directory: &SourceDirectory, found: &Found) {
        let is_own = |name: &&OsString| {
            let name = name.to_string_lossy();
            !OF_THE_SYSTEM.contains(&&*name) && !name.starts_with("trusted.overlay.")
        };
        let mut own = found.attributes.iter().filter(is_own).peekable();
        if own.peek().is_none() {
            return;
        }
        self.names.extend(own.cloned());
        self.files += 1;
        self.first.get_or_insert_with(|| {
            let below = found.path.get(directory.name.len() + 1..).unwrap_or_default();
            directory.path.join(std::ffi::OsStr::from_bytes(below))
        });
    }

    /// What there is to tell.
    pub(super) fn message(&self, directory: &SourceDirectory) -> Option<String> {
        let first = self.first.as_ref()?;
        let names: Vec<_> = self.names.iter().take(TOLD).map(|name| name.to_string_lossy()).collect();
        let more = if self.names.len() > TOLD { " and others" } else { "" };
        Some(format!(
            "sidecar '{}': extended attributes are not kept: {}{more}, of {} files and directories, the first of them \
             '{}'\nHINT: set them again after a restore, access control lists (system.posix_acl_*) too",
            directory.name,
            names.join(", "),
            self.files,
            first.display()
        ))
    }
}
