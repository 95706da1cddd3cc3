//! Symbolic links in the data directory: where they may lead.

use std::io;
use std::path::{Path, PathBuf};

use fs_err as fs;

use super::DataDirectoryError;

/// Where the links found so far lead. Nothing may be reached twice: a backup would store it twice, a restore would write
/// it twice, and a link to a directory above itself would never end.
#[derive(Debug)]
pub(super) struct Links {
    /// The data directory and what links lead to, with all links on the way to them resolved.
    destinations: Vec<PathBuf>,
}

impl Links {
    pub(super) fn new(data_directory: &Path) -> io::Result<Self> {
        Ok(Self { destinations: vec![fs::canonicalize(data_directory)?] })
    }

    /// Notes the link at `link` with the text `target`, which leads to something. Of that only `part` belongs to the
    /// cluster, or all of it.
    pub(super) fn add(&mut self, link: &Path, target: &Path, part: Option<&str>) -> Result<(), DataDirectoryError> {
        let next = link.parent().unwrap_or(link).join(target);
        if fs::symlink_metadata(next)?.is_symlink() {
            return Err(DataDirectoryError::LinkToLink { link: link.to_owned(), target: target.to_owned() });
        }
        let mut destination = fs::canonicalize(link)?;
        destination.extend(part);
        let overlaps = |known: &&PathBuf| known.starts_with(&destination) || destination.starts_with(known);
        if let Some(other) = self.destinations.iter().find(overlaps) {
            let (link, target) = (link.to_owned(), target.to_owned());
            return Err(DataDirectoryError::OverlappingLink { link, target, other: other.clone() });
        }
        self.destinations.push(destination);
        Ok(())
    }
}
