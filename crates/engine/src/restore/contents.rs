//! What is in a backup, seen as a whole before any of it is restored: its entries make sense together, and these are the
//! links, tablespaces and databases among them.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use pgark_postgres::control::CONTROL_FILE_PATH;
use pgark_postgres::data_directory::tablespace_oid;
use pgark_postgres::label::{BACKUP_LABEL_FILE, TABLESPACE_MAP_FILE};
use pgark_postgres::relation::DatabaseDirectory;
use pgark_repository::manifest::{Attributes, Entry, EntryKind, ManifestDocument};

use crate::error::{Error, ErrorKind, Result};

/// The files that a restore writes last. None of them is among the other entries.
const LATE_FILES: [&str; 3] = [BACKUP_LABEL_FILE, TABLESPACE_MAP_FILE, CONTROL_FILE_PATH];

/// What is in a backup.
#[derive(Debug, Default)]
pub(crate) struct Contents {
    /// The attributes of the data directory.
    pub(super) attributes: Attributes,
    /// The directory that a cluster of the backup's version has in a tablespace, such as `PG_17_202406281`.
    pub(super) version_directory: String,
    /// Links, and what else was asked for, by their paths.
    pub(super) named: BTreeMap<PathBuf, Named>,
    /// The tablespaces that lie in the data directory itself.
    pub(super) tablespaces_in_place: BTreeSet<u32>,
    /// The oids of the databases that have files.
    pub(super) databases: BTreeSet<u32>,
}

/// A link, or what else was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Named {
    /// Where the link led; none if it is no link.
    pub(super) target: Option<PathBuf>,
    /// Whether it is, or led to, a directory.
    pub(super) is_directory: bool,
}

impl Contents {
    /// Goes through all entries. `asked` are paths that are wanted among the named ones, if they are there.
    ///
    /// # Errors
    /// [`ErrorKind::Format`] where the entries are not those of a cluster; those of `entries`.
    pub(crate) fn read(
        document: &ManifestDocument,
        entries: impl Iterator<Item = Result<Entry>>,
        late: &[Entry],
        asked: &BTreeSet<PathBuf>,
    ) -> Result<Self> {
        let unsound = |what: String| {
            let message = format!("the manifest of backup set {} makes no sense: {what}", document.label);
            Error::new(ErrorKind::Format, message).hint("use another backup set or repository")
        };
        let version_directory = version_directory(document).map_err(unsound)?;
        let mut contents = Self { version_directory: version_directory.clone(), ..Self::default() };
        let mut order = Order { version_directory, above: Vec::new() };
        for entry in entries {
            let entry = entry?;
            order.next(&entry).map_err(unsound)?;
            contents.note(&entry, asked);
        }
        if order.above.is_empty() {
            return Err(unsound("it has no entries".to_owned()));
        }
        check_late(late).map_err(unsound)?;
        Ok(contents)
    }

    fn note(&mut self, entry: &Entry, asked: &BTreeSet<PathBuf>) {
        let path = as_path(&entry.path);
        let is_directory = entry.kind == EntryKind::Directory;
        if entry.path.is_empty() {
            self.attributes = entry.attributes;
        }
        if entry.link.is_some() || asked.contains(path) {
            let target = entry.link.as_deref().map(|target| as_path(target).to_owned());
            self.named.insert(path.to_owned(), Named { target, is_directory });
        }
        if !is_directory {
            return;
        }
        if let Some(oid) = tablespace_oid(path)
            && entry.link.is_none()
        {
            self.tablespaces_in_place.insert(oid);
        }
        if let Some(directory) = DatabaseDirectory::parse(path)
            && directory.database != 0
        {
            self.databases.insert(directory.database);
        }
    }
}

/// The directory in a tablespace, if the version makes sense.
fn version_directory(document: &ManifestDocument) -> Result<String, String> {
    let version = &document.cluster.version;
    let major: u32 = version.parse().map_err(|_| format!("'{version}' is no version of PostgreSQL"))?;
    Ok(format!("PG_{major}_{}", document.cluster.catalog_version))
}

/// The bytes of a path in a manifest as a path.
pub(super) fn as_path(bytes: &[u8]) -> &Path {
    Path::new(OsStr::from_bytes(bytes))
}

/// Makes sure that entries come as a walk through sorted directories finds them, each in a directory that came before.
struct Order {
    version_directory: String,
    /// The directories on the way to the entry before, outermost first.
    above: Vec<Above>,
}

struct Above {
    path: Vec<u8>,
    /// The path of the last entry in it.
    last: Vec<u8>,
    is_tablespace: bool,
}

impl Order {
    fn next(&mut self, entry: &Entry) -> Result<(), String> {
        let path = entry.path.as_slice();
        let text = || String::from_utf8_lossy(path);
        let is_root = path.is_empty();
        if is_root != self.above.is_empty() || is_root && (entry.link.is_some() || entry.kind != EntryKind::Directory) {
            return Err("it does not begin with the data directory".to_owned());
        }
        if !is_root {
            let parent = path.iter().rposition(|byte| *byte == b'/').map_or(&[][..], |slash| &path[..slash]);
            self.above.truncate(self.above.iter().position(|above| above.path == parent).map_or(0, |depth| depth + 1));
            let Some(above) = self.above.last_mut() else {
                return Err(format!("'{}' lies in no directory", text()));
            };
            if compare(&above.last, path) != Ordering::Less {
                return Err(format!("'{}' comes twice, or too late", text()));
            }
            if above.is_tablespace && !path.ends_with(format!("/{}", self.version_directory).as_bytes()) {
                return Err(format!("'{}' is not of this cluster", text()));
            }
            above.last = path.to_vec();
        }
        if LATE_FILES.iter().any(|late| late.as_bytes() == path) {
            return Err(format!("'{}' is among the files that are not written last", text()));
        }
        if entry.kind == EntryKind::Directory {
            let is_tablespace = entry.link.is_some() && tablespace_oid(as_path(path)).is_some();
            self.above.push(Above { path: path.to_vec(), last: Vec::new(), is_tablespace });
        }
        Ok(())
    }
}

fn check_late(late: &[Entry]) -> Result<(), String> {
    let mut wanted = LATE_FILES.iter();
    for entry in late {
        let is_next = wanted.any(|file| file.as_bytes() == entry.path);
        if !is_next || entry.kind == EntryKind::Directory {
            return Err(format!("'{}' is among the files that are written last", String::from_utf8_lossy(&entry.path)));
        }
    }
    match late.last() {
        Some(last) if last.path == CONTROL_FILE_PATH.as_bytes() => Ok(()),
        _ => Err(format!("'{CONTROL_FILE_PATH}' is missing")),
    }
}

/// The order in which a walk through sorted directories finds paths.
pub(super) fn compare(one: &[u8], other: &[u8]) -> Ordering {
    one.split(|byte| *byte == b'/').cmp(other.split(|byte| *byte == b'/'))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    const VERSION_DIRECTORY: &str = "PG_17_1";

    /// One letter says what an entry is: `f` a file, `d` a directory, `l` a link to a directory.
    fn entry(kind: char, path: &str) -> Entry {
        let link = (kind == 'l').then(|| b"/elsewhere".to_vec());
        let kind = if kind == 'f' {
            let content = pgark_repository::manifest::Content::None;
            EntryKind::File { size: 0, page_checksums: false, content, damaged: Vec::new() }
        } else {
            EntryKind::Directory
        };
        Entry { path: path.as_bytes().to_vec(), link, attributes: Attributes::default(), kind }
    }

    fn is_ordered(entries: &[(char, &str)]) -> bool {
        let mut order = Order { version_directory: VERSION_DIRECTORY.to_owned(), above: Vec::new() };
        entries.iter().all(|(kind, path)| order.next(&entry(*kind, path)).is_ok())
    }

    #[test]
    fn entries_of_a_walk_are_taken() {
        assert!(is_ordered(&[
            ('d', ""),
            ('f', "PG_VERSION"),
            ('d', "base"),
            ('d', "base/1"),
            ('f', "base/1/1"),
            ('f', "base/1/10"),
            ('d', "base/5"),
            // By their bytes `base-x` comes before `base/1`, in a walk after it.
            ('d', "base-x"),
            ('d', "global"),
            ('d', "pg_tblspc"),
            ('l', "pg_tblspc/16400"),
            ('d', "pg_tblspc/16400/PG_17_1"),
            ('f', "pg_tblspc/16400/PG_17_1/x"),
            ('d', "pg_tblspc/16401"),
            ('f', "pg_tblspc/16401/in-place"),
            ('l', "pg_wal"),
            ('f', "pg_wal/x"),
        ]));
    }

    #[test]
    fn what_is_found_is_what_options_are_about() {
        let mut contents = Contents::default();
        let asked = BTreeSet::from([PathBuf::from("log"), PathBuf::from("nothing")]);
        for (kind, path) in [
            ('d', ""),
            ('d', "base/1"),
            ('d', "base/16384"),
            ('d', "base/16384/16385"),
            ('d', "base/pgsql_tmp"),
            ('d', "global"),
            ('d', "log"),
            ('l', "pg_tblspc/16400"),
            ('d', "pg_tblspc/16400/PG_17_1/16386"),
            ('d', "pg_tblspc/16401"),
            ('l', "pg_wal"),
        ] {
            contents.note(&entry(kind, path), &asked);
        }
        let named: Vec<_> =
            contents.named.iter().map(|(path, named)| (path.to_str(), named.target.is_some())).collect();
        assert_eq!(named, [(Some("log"), false), (Some("pg_tblspc/16400"), true), (Some("pg_wal"), true)]);
        assert_eq!(contents.tablespaces_in_place, [16401].into());
        assert_eq!(contents.databases, [1, 16384, 16386].into());
    }

    proptest! {
        /// Whatever entries a manifest has: those that are taken name every path once, and each lies in a directory.
        #[test]
        fn entries_that_are_taken_make_a_tree(
            entries in proptest::collection::vec(("[fddl]", "(a|b|a/a|a/b|b/a|a/a/a|a/a/b|a-a)?"), 0..8),
            is_tidy: bool,
        ) {
            let mut entries: Vec<(char, &str)> =
                entries.iter().map(|(kind, path)| (kind.chars().next().unwrap(), path.as_str())).collect();
            if is_tidy {
                entries.push(('d', ""));
                entries.sort_by(|one, other| compare(one.1.as_bytes(), other.1.as_bytes()));
                entries.dedup_by_key(|entry| entry.1);
                entries[0].0 = 'd';
            }
            let mut known: BTreeMap<&str, bool> = BTreeMap::new();
            let mut walked = true;
            for (number, (kind, path)) in entries.iter().enumerate() {
                let parent = path.rsplit_once('/').map_or("", |(parent, _)| parent);
                let is_placed = if number == 0 { path.is_empty() && *kind == 'd' } else { known.get(parent) == Some(&true) };
                walked &= is_placed && known.insert(path, *kind != 'f').is_none();
            }
            let sorted = entries.windows(2).all(|pair| compare(pair[0].1.as_bytes(), pair[1].1.as_bytes()).is_lt());
            // The data directory comes first, and compares as the empty name.
            prop_assert_eq!(is_ordered(&entries), walked && sorted);
        }
    }
}
