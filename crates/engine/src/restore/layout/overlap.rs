//! That no two things are restored to one place, nor one into the other.

use std::io;
use std::path::{Component, Path, PathBuf};

use fs_err as fs;

use super::{Layout, Link};
use crate::error::{Error, ErrorKind, Result};

/// Makes sure that what links lead to lies apart from the data directory and from each other.
///
/// # Errors
/// [`ErrorKind::LinkDestination`]; or what the file system says.
pub(super) fn check(layout: &Layout, version_directory: &str) -> Result<()> {
    let data_directory = without_links(&layout.data_directory)?;
    let mut others: Vec<(PathBuf, &Link)> = Vec::new();
    for link in layout.links() {
        let own = link.own_part(version_directory);
        if link.place.starts_with(&data_directory) {
            return Err(destination(format!("{} is in PGDATA", described(link))));
        }
        if data_directory.starts_with(&own) {
            return Err(destination(format!("PGDATA is in the {}", described(link))));
        }
        for (other, other_link) in &others {
            let what = match (own.starts_with(other), other.starts_with(&own)) {
                (true, true) => "is the same as",
                (true, false) => "is in",
                (false, true) => "has in it",
                (false, false) => continue,
            };
            return Err(destination(format!("{} {what} the {}", described(link), described(other_link))));
        }
        others.push((own, link));
    }
    Ok(())
}

fn described(link: &Link) -> String {
    format!("link '{}' destination '{}'", link.path.display(), link.text.display())
}

fn destination(message: String) -> Error {
    Error::new(ErrorKind::LinkDestination, message).hint("give every link and tablespace a place of its own")
}

/// The path without links and `..` in it, though the last parts of it may not exist yet.
///
/// # Errors
/// What the file system says.
pub(in crate::restore) fn without_links(path: &Path) -> Result<PathBuf> {
    for ancestor in path.ancestors() {
        let mut resolved = match fs::canonicalize(ancestor) {
            Ok(resolved) => resolved,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error.into()),
        };
        for part in path.strip_prefix(ancestor).unwrap_or(path).components() {
            match part {
                Component::ParentDir => {
                    resolved.pop();
                }
                part => resolved.push(part),
            }
        }
        return Ok(resolved);
    }
    Ok(path.to_owned())
}
