//! Walking a sidecar while others work in it.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::io;
use std::ops::ControlFlow;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use pgark_system::directory::{Directory, Look};
use pgark_system::termination;

use super::source::SourceDirectory;
use crate::error::Result;

/// Something in a sidecar.
#[derive(Clone, Debug)]
pub(in crate::backup) struct Found {
    /// The sidecar's name, then the path below its directory.
    pub(in crate::backup) path: Vec<u8>,
    /// What the file system says of it.
    pub(in crate::backup) look: Look,
    /// The names of its extended attributes.
    pub(in crate::backup) attributes: Vec<OsString>,
    /// What it is.
    pub(in crate::backup) kind: FoundKind,
}

/// What something in a sidecar is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::backup) enum FoundKind {
    /// A directory.
    Directory,
    /// A regular file, and all its names below the directory of the sidecar.
    File {
        /// The names; any of them will do.
        names: Vec<PathBuf>,
    },
    /// A symbolic link, which is never followed.
    Link {
        /// Its text.
        target: Vec<u8>,
    },
    /// Another name of a file that came before.
    SameAs {
        /// The path under which it came.
        path: Vec<u8>,
    },
}

/// Which file it is, whatever its name.
type Identity = (u64, u64);

/// Finds what is in a sidecar, and tells `visit` of each as it comes by: each directory before what is in it, names in the
/// order of their bytes. Memory holds the names of the directories on the way to one file, and those of files that have
/// several. What vanishes on the way is passed over, and what is neither file nor directory nor link is left out.
///
/// # Errors
/// Where something can't be read; what `visit` breaks with.
pub(super) fn walk<B>(
    sidecar: &SourceDirectory,
    visit: &mut dyn FnMut(Found) -> ControlFlow<B>,
) -> Result<ControlFlow<B>> {
    let mut names: HashMap<Identity, Vec<PathBuf>> = HashMap::new();
    // Names of one file may be far apart, and the first one may be gone when it is to be read.
    let _whole: ControlFlow<()> = descend(&sidecar.root, Path::new(""), &mut |path, _, _, look| {
        if look.is_file() && look.has_other_names() {
            names.entry(look.identity()).or_default().push(path.to_owned());
        }
        Ok(ControlFlow::Continue(()))
    })?;
    let mut first: HashMap<Identity, Vec<u8>> = HashMap::new();
    let look = sidecar.root.look_at_itself()?;
    let attributes = sidecar.root.own_attribute_names();
    let root = Found { path: sidecar.name.clone().into_bytes(), look, attributes, kind: FoundKind::Directory };
    if let ControlFlow::Break(value) = visit(root) {
        return Ok(ControlFlow::Break(value));
    }
    descend(&sidecar.root, Path::new(""), &mut |path, directory, name, look| {
        let full = [sidecar.name.as_bytes(), b"/", path.as_os_str().as_bytes()].concat();
        let kind = if look.is_directory() {
            FoundKind::Directory
        } else if look.is_link() {
            let Some(target) = unless_gone(directory.read_link(name))? else { return Ok(ControlFlow::Continue(())) };
            FoundKind::Link { target: target.into_os_string().as_bytes().to_vec() }
        } else if !look.is_file() {
            let place = directory.path().join(name);
            tracing::warn!("'{}' is left out: it is neither file nor directory nor link", place.display());
            return Ok(ControlFlow::Continue(()));
        } else if let Some(path) = first.get(&look.identity()) {
            FoundKind::SameAs { path: path.clone() }
        } else {
            let others = names.remove(&look.identity()).unwrap_or_default();
            if look.has_other_names() {
                first.insert(look.identity(), full.clone());
            }
            let others = others.into_iter().filter(|other| other != path);
            FoundKind::File { names: std::iter::once(path.to_owned()).chain(others).collect() }
        };
        Ok(visit(Found { path: full, look: *look, attributes: directory.attribute_names(name), kind }))
    })
}

/// How many bytes the files of sidecars have, as far as that can be found out.
pub(in crate::backup) fn size(sidecars: &[SourceDirectory]) -> u64 {
    let mut size = 0;
    for sidecar in sidecars {
        // The walk that the backup goes by meets with the same error, and tells of it.
        let _unknown = walk(sidecar, &mut |found| {
            if let FoundKind::File { .. } = found.kind {
                size += found.look.size();
            }
            if termination::requested().is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
    }
    size
}

/// What is told of each name: its path below the root, the directory that it is in, the name, and a look at it.
type Visit<'visit, B> = dyn FnMut(&Path, &Directory, &OsStr, &Look) -> Result<ControlFlow<B>> + 'visit;

/// Goes through a directory and all that are in it. Only one is open at a time, however deep they are.
fn descend<B>(root: &Directory, path: &Path, visit: &mut Visit<'_, B>) -> Result<ControlFlow<B>> {
    let Some(names) = names_of(root, path)? else { return Ok(ControlFlow::Continue(())) };
    let mut open = None;
    for name in names {
        let directory = match open.take() {
            Some(directory) => directory,
            None => match unless_gone(root.below(path))? {
                Some(directory) => directory,
                None => break,
            },
        };
        let Some(look) = directory.look(&name)? else {
            open = Some(directory);
            continue;
        };
        let below = path.join(&name);
        if let ControlFlow::Break(value) = visit(&below, &directory, &name, &look)? {
            return Ok(ControlFlow::Break(value));
        }
        if !look.is_directory() {
            open = Some(directory);
            continue;
        }
        drop(directory);
        if let ControlFlow::Break(value) = descend(root, &below, visit)? {
            return Ok(ControlFlow::Break(value));
        }
    }
    Ok(ControlFlow::Continue(()))
}

fn names_of(root: &Directory, path: &Path) -> Result<Option<Vec<OsString>>> {
    match unless_gone(root.below(path))? {
        Some(directory) => Ok(Some(directory.names()?)),
        None => Ok(None),
    }
}

/// Turns the errors that say that something is not there any more, or is something else now, into `None`.
fn unless_gone<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    use io::ErrorKind::{InvalidInput, NotADirectory, NotFound};
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if matches!(error.kind(), NotFound | NotADirectory | InvalidInput) => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use fs_err as fs;
    use fs_err::os::unix::fs::symlink;

    use super::*;

    fn sidecar(root: &Path) -> SourceDirectory {
        let root = Arc::new(Directory::open(root).unwrap());
        SourceDirectory { name: "cache".to_owned(), path: root.path().to_owned(), root }
    }

    /// What a walk finds, one line each.
    fn lines(root: &Path) -> Vec<String> {
        let mut lines = Vec::new();
        let ended: ControlFlow<()> = walk(&sidecar(root), &mut |found| {
            let path = String::from_utf8_lossy(&found.path).into_owned();
            lines.push(match found.kind {
                FoundKind::Directory => format!("{path}/"),
                FoundKind::File { names } => format!("{path} {} {names:?}", found.look.size()),
                FoundKind::Link { target } => format!("{path} -> {}", String::from_utf8_lossy(&target)),
                FoundKind::SameAs { path: first } => format!("{path} = {}", String::from_utf8_lossy(&first)),
            });
            ControlFlow::Continue(())
        })
        .unwrap();
        assert!(ended.is_continue());
        lines
    }

    #[test]
    fn all_is_found_in_order_and_links_are_not_followed() {
        let place = tempfile::tempdir().unwrap();
        let root = place.path();
        fs::create_dir_all(root.join("b/deep")).unwrap();
        fs::write(root.join("b/deep/file"), "four").unwrap();
        fs::hard_link(root.join("b/deep/file"), root.join("a")).unwrap();
        fs::hard_link(root.join("b/deep/file"), root.join("b.x")).unwrap();
        symlink("..", root.join("b/loop")).unwrap();
        symlink("self", root.join("self")).unwrap();
        rustix::fs::mknodat(rustix::fs::CWD, root.join("pipe"), rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        let names = r#"["a", "b/deep/file", "b.x"]"#;
        assert_eq!(
            lines(root),
            [
                "cache/".to_owned(),
                format!("cache/a 4 {names}"),
                "cache/b/".to_owned(),
                "cache/b/deep/".to_owned(),
                "cache/b/deep/file = cache/a".to_owned(),
                "cache/b/loop -> ..".to_owned(),
                "cache/b.x = cache/a".to_owned(),
                "cache/self -> self".to_owned(),
            ]
        );
    }

    #[test]
    fn a_name_elsewhere_is_nothing_to_be_the_same_as() {
        let place = tempfile::tempdir().unwrap();
        let root = place.path().join("root");
        fs::create_dir(&root).unwrap();
        fs::write(place.path().join("outside"), "x").unwrap();
        fs::hard_link(place.path().join("outside"), root.join("inside")).unwrap();
        assert_eq!(lines(&root), ["cache/".to_owned(), r#"cache/inside 1 ["inside"]"#.to_owned()]);
    }

    #[test]
    fn what_visits_ends_the_walk() {
        let place = tempfile::tempdir().unwrap();
        fs::create_dir_all(place.path().join("a/b")).unwrap();
        let mut seen = 0;
        let ended = walk(&sidecar(place.path()), &mut |found| {
            seen += 1;
            if found.path == b"cache/a" { ControlFlow::Break("enough") } else { ControlFlow::Continue(()) }
        });
        assert_eq!((ended.unwrap(), seen), (ControlFlow::Break("enough"), 2));
    }
}
