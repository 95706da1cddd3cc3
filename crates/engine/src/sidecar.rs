//! Sidecars: directories outside the data directory that are backed up and restored with the cluster.

use std::io;
use std::path::{Path, PathBuf};

use fs_err as fs;
use rustix::fs::FileType;
use rustix::io::Errno;

use crate::error::{Error, ErrorKind, Result};

/// A sidecar, as it is configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SidecarSettings {
    /// Its name.
    pub name: String,
    /// Its directory.
    pub path: PathBuf,
}

impl SidecarSettings {
    /// An error about it.
    pub(crate) fn error(&self, kind: ErrorKind, what: impl std::fmt::Display) -> Error {
        Error::new(kind, format!("sidecar '{}': path '{}' {what}", self.name, self.path.display()))
    }
}

/// A directory that a sidecar must not share anything with, and what it is.
#[derive(Clone, Debug)]
pub(crate) struct Neighbour {
    /// What it is: `the data directory`.
    pub(crate) what: String,
    /// Where it is, without links.
    pub(crate) path: PathBuf,
}

/// The first of these that lies in `path`, or that `path` lies in; paths are without links.
pub(crate) fn overlap<'neighbours>(
    path: &Path,
    neighbours: &'neighbours [Neighbour],
) -> Option<&'neighbours Neighbour> {
    neighbours.iter().find(|other| path.starts_with(&other.path) || other.path.starts_with(path))
}

/// The data directory, and what links in it and those of its tablespaces lead to; what of them exists.
///
/// # Errors
/// What the file system says.
pub(crate) fn neighbours(data_directory: &Path) -> Result<Vec<Neighbour>> {
    let mut found = Vec::new();
    match fs::canonicalize(data_directory) {
        Ok(path) => found.push(Neighbour { what: "the data directory".to_owned(), path }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error.into()),
    }
    for directory in [data_directory.to_owned(), data_directory.join("pg_tblspc")] {
        let Ok(entries) = fs::read_dir(&directory) else { continue };
        for entry in entries {
            let path = entry?.path();
            let is_link = fs::symlink_metadata(&path).is_ok_and(|metadata| metadata.is_symlink());
            if let Some(target) = is_link.then(|| fs::canonicalize(&path).ok()).flatten() {
                found.push(Neighbour { what: format!("what '{}' leads to,", path.display()), path: target });
            }
        }
    }
    Ok(found)
}

/// A path without links, which must exist; a loop of links is told as such.
///
/// # Errors
/// [`ErrorKind::PathMissing`] with what to do next; or what the file system says.
pub(crate) fn resolve(sidecar: &SidecarSettings) -> Result<PathBuf> {
    let SidecarSettings { name, path } = sidecar;
    match rustix::fs::stat(path) {
        Ok(found) if FileType::from_raw_mode(found.st_mode) == FileType::Directory => Ok(fs::canonicalize(path)?),
        Ok(_) | Err(Errno::NOTDIR) => Err(sidecar
            .error(ErrorKind::PathMissing, "is no directory")
            .hint(format!("set sidecar-{name}-path to the directory that the file is in"))),
        Err(Errno::NOENT) => Err(sidecar
            .error(ErrorKind::PathMissing, "does not exist")
            .hint(format!("create it, or take sidecar-{name}-path out of the configuration"))),
        Err(Errno::LOOP) => Err(sidecar
            .error(ErrorKind::LinkDestination, "is a symbolic link that leads back to itself")
            .hint(format!("set sidecar-{name}-path to a directory"))),
        Err(errno) => Err(sidecar
            .error(ErrorKind::FileRead, format!("can't be looked at: {}", io::Error::from(errno)))
            .hint("does this program run as the user that the directory belongs to?")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_overlap_where_one_lies_in_the_other() {
        let neighbours = [("one", "/var/lib/one"), ("two", "/srv")]
            .map(|(what, path)| Neighbour { what: what.to_owned(), path: path.into() });
        let found = |path: &str| overlap(Path::new(path), &neighbours).map(|other| other.what.as_str());
        assert_eq!(found("/var/lib/one"), Some("one"));
        assert_eq!(found("/var/lib/one/cache"), Some("one"));
        assert_eq!(found("/var/lib"), Some("one"));
        assert_eq!(found("/srv/models"), Some("two"));
        assert_eq!(found("/"), Some("one"));
        assert_eq!(found("/var/lib/one.cache"), None);
        assert_eq!(found("/var/cache"), None);
    }

    #[test]
    fn what_is_no_directory_is_told() {
        let place = tempfile::tempdir().unwrap();
        let sidecar = |name: &str| SidecarSettings { name: "models".to_owned(), path: place.path().join(name) };
        fs::create_dir(place.path().join("directory")).unwrap();
        fs::write(place.path().join("file"), "").unwrap();
        for (target, link) in [("directory", "link"), ("two", "one"), ("one", "two"), ("self", "self")] {
            fs_err::os::unix::fs::symlink(place.path().join(target), place.path().join(link)).unwrap();
        }
        assert_eq!(resolve(&sidecar("link")).unwrap(), resolve(&sidecar("directory")).unwrap());
        for (name, message) in [
            ("missing", "does not exist"),
            ("file", "is no directory"),
            ("one", "leads back to itself"),
            ("self", "leads back to itself"),
        ] {
            let error = resolve(&sidecar(name)).unwrap_err();
            assert!(error.to_string().contains(message), "{name}: {error}");
            assert!(error.to_string().starts_with("sidecar 'models': path '"), "{name}: {error}");
            assert_eq!(error.hints().len(), 1, "{name}");
        }
    }
}
