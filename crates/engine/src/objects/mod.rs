//! Looking into a repository: the names of its objects, and what they hold.

mod decoded;

use std::io::Write;
use std::path::Path;

use pgark_storage::{Entry, EntryKind, Key, ObjectInfo, Storage};

use crate::error::{Error, ErrorKind, Result};
use crate::stanza::RepositorySettings;

/// Bytes that are fetched at once.
const CHUNK_BYTES: u64 = 4 << 20;

/// The place in a repository that a user means by `path`: relative to the repository, or absolute and then below
/// `base`, where the repository lies. `None` is the repository itself.
///
/// # Errors
/// [`ErrorKind::ParameterInvalid`] for a path that could lead out of the repository, or that no object has.
pub fn place(path: &str, base: &Path) -> Result<Option<Key>> {
    let invalid = |message: String| Error::new(ErrorKind::ParameterInvalid, message);
    let shown = path.escape_debug();
    if path.contains("//") {
        return Err(invalid(format!("path '{shown}' cannot contain //")));
    }
    let trimmed = path.strip_suffix('/').unwrap_or(path);
    let relative = if path.starts_with('/') {
        let base = base.to_string_lossy();
        let base = base.trim_end_matches('/');
        let below = trimmed.strip_prefix(base).filter(|rest| rest.is_empty() || rest.starts_with('/'));
        below.map(|rest| rest.trim_start_matches('/')).ok_or_else(|| {
            let base = if base.is_empty() { "/" } else { base };
            invalid(format!("absolute path '{shown}' is not in base path '{base}'"))
        })?
    } else {
        trimmed
    };
    if relative.is_empty() {
        return Ok(None);
    }
    Key::parse(relative).map(Some).map_err(|error| {
        invalid(format!("path '{shown}' is not valid")).source(error).hint("name it as repo-ls shows it")
    })
}

/// In which order names are listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Each directory before what is in it.
    Ascending,
    /// Each directory after what is in it.
    Descending,
}

/// A name that is listed.
#[derive(Debug)]
pub struct Listed<'list> {
    /// The path below the place that is listed; `.` for that place itself.
    pub path: &'list str,
    /// What it is.
    pub kind: &'list EntryKind,
}

/// Lists what lies at `place`: itself, if it is an object; else itself as a directory and what is in it, and with
/// `deeper` also what is in that.
///
/// # Errors
/// The storage's error. A place that has nothing is listed as an empty directory, because on an object store there is
/// nothing else to be told.
pub fn list(
    settings: &RepositorySettings,
    place: Option<&Key>,
    deeper: bool,
    order: Order,
    visit: &mut dyn FnMut(Listed<'_>) -> Result<()>,
) -> Result<()> {
    let storage = settings.storage()?;
    if let Some(info) = object_at(&*storage, place)? {
        return visit(Listed { path: ".", kind: &EntryKind::Object(info) });
    }
    visit(Listed { path: ".", kind: &EntryKind::Directory })?;
    Lister { storage: &*storage, deeper, order, visit }.list(place, "")
}

/// The object at a place, if it is one. A directory of that name is none.
fn object_at(storage: &dyn Storage, place: Option<&Key>) -> Result<Option<ObjectInfo>> {
    let Some(key) = place else { return Ok(None) };
    let siblings = storage.list_directory(key.parent().as_ref())?;
    Ok(siblings.into_iter().find(|entry| entry.name == key.name()).and_then(|entry| match entry.kind {
        EntryKind::Object(info) => Some(info),
        EntryKind::Directory => None,
    }))
}

struct Lister<'list> {
    storage: &'list dyn Storage,
    deeper: bool,
    order: Order,
    visit: &'list mut dyn FnMut(Listed<'_>) -> Result<()>,
}

impl Lister<'_> {
    /// Lists one directory. The names of one directory on each level are in memory.
    fn list(&mut self, directory: Option<&Key>, prefix: &str) -> Result<()> {
        let mut entries = self.storage.list_directory(directory)?;
        if self.order == Order::Descending {
            entries.reverse();
        }
        entries.iter().try_for_each(|entry| self.list_entry(directory, prefix, entry))
    }

    fn list_entry(&mut self, directory: Option<&Key>, prefix: &str, entry: &Entry) -> Result<()> {
        let path = format!("{prefix}{}", entry.name);
        let goes_on = self.deeper && entry.kind == EntryKind::Directory;
        if goes_on && self.order == Order::Descending {
            self.go_on(directory, &path, &entry.name)?;
        }
        (self.visit)(Listed { path: &path, kind: &entry.kind })?;
        if goes_on && self.order == Order::Ascending {
            self.go_on(directory, &path, &entry.name)?;
        }
        Ok(())
    }

    fn go_on(&mut self, directory: Option<&Key>, path: &str, name: &str) -> Result<()> {
        let key = directory.map_or_else(|| Key::parse(name), |directory| directory.join(name));
        // What is listed has a name that an object can have.
        let key = key.map_err(|error| Error::new(ErrorKind::Runtime, error.to_string()))?;
        self.list(Some(&key), &format!("{path}/"))
    }
}

/// Writes an object: what it holds, or with `raw` what is stored, byte for byte.
///
/// # Errors
/// [`ErrorKind::FileMissing`] where there is no such object; [`ErrorKind::Format`] where it is none of pgark's and not
/// asked for raw; damage; or the storage's error, or the sink's.
pub fn get(settings: &RepositorySettings, key: &Key, raw: bool, sink: &mut dyn Write) -> Result<()> {
    if raw {
        return copy(&*settings.storage()?, key, sink);
    }
    let repository = settings.open()?;
    decoded::write(&repository.repository, key, sink)
}

fn copy(storage: &dyn Storage, key: &Key, sink: &mut dyn Write) -> Result<()> {
    let size = match storage.head(key)? {
        Some(info) => info.size,
        None => return Err(missing(storage, key)),
    };
    let mut offset = 0;
    while offset < size {
        let length = CHUNK_BYTES.min(size - offset);
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        put(sink, &storage.get_range(key, offset, length)?)?;
        offset += length as u64;
    }
    Ok(())
}

fn missing(storage: &dyn Storage, key: &Key) -> Error {
    let message = format!("unable to open missing file '{key}' for read in {}", storage.describe());
    Error::new(ErrorKind::FileMissing, message).hint("repo-ls shows what there is")
}

fn put(sink: &mut dyn Write, bytes: &[u8]) -> Result<()> {
    sink.write_all(bytes)
        .map_err(|error| Error::new(ErrorKind::FileWrite, "failed to write to standard output").source(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place_of(path: &str) -> Result<Option<String>> {
        Ok(place(path, Path::new("/var/lib/pgark"))?.map(|key| key.to_string()))
    }

    #[test]
    fn a_path_may_be_relative_or_below_the_repository() {
        for path in ["", "/var/lib/pgark", "/var/lib/pgark/"] {
            assert_eq!(place_of(path).unwrap(), None, "{path}");
        }
        for path in ["stanza/demo", "stanza/demo/", "/var/lib/pgark/stanza/demo", "/var/lib/pgark/stanza/demo/"] {
            assert_eq!(place_of(path).unwrap().as_deref(), Some("stanza/demo"), "{path}");
        }
        assert_eq!(place("/a/b", Path::new("/")).unwrap().unwrap().as_str(), "a/b");
    }

    #[test]
    fn no_path_leads_out_of_the_repository() {
        for path in [
            "..",
            "stanza/../../etc/passwd",
            "./stanza",
            "/etc/passwd",
            "/var/lib/pgarkive",
            "/var/lib/pgark/../x",
            "a//b",
            "//",
            "a\nb",
            ".pgark-tmp-1",
        ] {
            let error = place_of(path).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ParameterInvalid, "{path}: {error}");
        }
    }
}
