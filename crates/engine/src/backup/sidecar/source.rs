//! The directories of sidecars: whether they can be backed up.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use fs_err as fs;
use pgark_system::directory::Directory;

use crate::error::{ErrorKind, Result};
use crate::sidecar::{Neighbour, SidecarSettings, neighbours, overlap, resolve};

/// A directory that is backed up as a sidecar.
#[derive(Clone, Debug)]
pub(in crate::backup) struct SourceDirectory {
    /// The sidecar's name.
    pub(in crate::backup) name: String,
    /// Its path, as it is configured.
    pub(in crate::backup) path: PathBuf,
    /// The directory.
    pub(in crate::backup) root: Arc<Directory>,
}

/// Opens the directories of sidecars, ascending by name. `apart` are directories that none of them may share anything with,
/// besides the data directory and what its links lead to.
///
/// # Errors
/// Where one is missing, is no directory, or lies where something else is backed up.
pub(in crate::backup) fn open(
    sidecars: &[SidecarSettings],
    data_directory: &Path,
    apart: &[PathBuf],
) -> Result<Vec<SourceDirectory>> {
    if sidecars.is_empty() {
        return Ok(Vec::new());
    }
    let mut neighbours = neighbours(data_directory)?;
    // A repository that does not exist yet, or is not on this host, is nothing to share files with.
    let repositories = apart.iter().filter_map(|path| fs::canonicalize(path).ok());
    neighbours.extend(repositories.map(|path| Neighbour { what: "the repository".to_owned(), path }));
    let mut directories = Vec::new();
    for sidecar in sidecars {
        let resolved = resolve(sidecar)?;
        if let Some(other) = overlap(&resolved, &neighbours) {
            let (what, name) = (&other.what, &sidecar.name);
            let message = format!("shares files with {what} '{}'", other.path.display());
            return Err(sidecar.error(ErrorKind::OptionInvalidValue, message).hint(format!(
                "set sidecar-{name}-path to a directory beside it: what lies in it must be backed up once"
            )));
        }
        let root = Arc::new(Directory::open(&resolved)?);
        neighbours.push(Neighbour { what: format!("sidecar '{}'", sidecar.name), path: resolved });
        directories.push(SourceDirectory { name: sidecar.name.clone(), path: sidecar.path.clone(), root });
    }
    directories.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(directories)
}
