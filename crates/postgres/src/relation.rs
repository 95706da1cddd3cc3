//! Which files of a data directory hold pages of relations.
//!
//! Names: `GetRelationPath` in PostgreSQL's `src/common/relpath.c`, and `parse_filename_for_nontemp_relation` in
//! `src/backend/storage/file/reinit.c`.

use std::ffi::OsStr;
use std::path::{Component, Path};

use crate::Version;
use crate::wal::relation::{Fork, RelationFork, RelationLocator};

/// The oid of the tablespace `pg_default`, in `base` (PostgreSQL `src/include/catalog/pg_tablespace.dat`).
pub const DEFAULT_TABLESPACE: u32 = 1663;

/// The oid of the tablespace `pg_global`, in `global`.
pub const GLOBAL_TABLESPACE: u32 = 1664;

/// One file of a relation. Its pages carry checksums, in a cluster that has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RelationFile {
    /// The relation and its fork, as the WAL names them.
    pub fork: RelationFork,
    /// Which segment of the fork: 0 for the first.
    pub segment: u32,
}

/// A directory that holds relations: those of one database in one tablespace, or those that all databases share.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DatabaseDirectory {
    /// The tablespace's oid.
    pub tablespace: u32,
    /// The database's oid; 0 for the relations that all databases share.
    pub database: u32,
}

impl DatabaseDirectory {
    /// Recognises `global`, `base/<oid>` and `pg_tblspc/<oid>/PG_<major>_<catalog version>/<oid>`, relative to the data
    /// directory.
    pub fn parse(path: &Path) -> Option<Self> {
        let parts: Vec<&str> = path.components().map(text).collect::<Option<_>>()?;
        match parts[..] {
            ["global"] => Some(Self { tablespace: GLOBAL_TABLESPACE, database: 0 }),
            ["base", database] => Some(Self { tablespace: DEFAULT_TABLESPACE, database: number(database)? }),
            ["pg_tblspc", tablespace, version, database] if is_version_directory(version) => {
                Some(Self { tablespace: number(tablespace)?, database: number(database)? })
            }
            _ => None,
        }
    }
}

impl RelationFile {
    /// Recognises the path of a relation's file, relative to the data directory. Everything else gives `None`: other
    /// files in the same directories (`pg_control`, `pg_filenode.map`, `pg_internal.init`, `PG_VERSION`), temporary
    /// relations, and every name that PostgreSQL does not give.
    pub fn parse(path: &Path) -> Option<Self> {
        let name = RelationFileName::parse(path.file_name()?)?;
        let DatabaseDirectory { tablespace, database } = DatabaseDirectory::parse(path.parent()?)?;
        let relation = RelationLocator { tablespace, database, number: name.number };
        Some(Self { fork: RelationFork { relation, fork: name.fork }, segment: name.segment })
    }

    /// The number of the file's first page, counted over all segments of the fork; `None` past the 32-bit range.
    ///
    /// `segment_pages` is [`crate::control::ControlFile::relation_segment_pages`].
    pub fn first_block(&self, segment_pages: u32) -> Option<u32> {
        self.segment.checked_mul(segment_pages)
    }
}

/// The file name of a relation that is not temporary: `<number>[_fsm|_vm|_init][.<segment>]`.
pub(crate) struct RelationFileName {
    pub(crate) number: u32,
    pub(crate) fork: Fork,
    segment: u32,
}

impl RelationFileName {
    pub(crate) fn parse(name: &OsStr) -> Option<Self> {
        Self::parse_text(name.to_str()?)
    }

    fn parse_text(name: &str) -> Option<Self> {
        let (name, segment) = match name.split_once('.') {
            Some((name, segment)) => (name, number(segment)?),
            None => (name, 0),
        };
        let (digits, fork) = match name.split_once('_') {
            None => (name, Fork::Main),
            Some((digits, "fsm")) => (digits, Fork::FreeSpaceMap),
            Some((digits, "vm")) => (digits, Fork::VisibilityMap),
            Some((digits, "init")) => (digits, Fork::Init),
            Some(_) => return None,
        };
        Some(Self { number: number(digits)?, fork, segment })
    }
}

/// Whether this is the file name of a temporary relation: `t<backend>_` before the name of a relation's file.
///
/// Backends count from 0 since PostgreSQL 17.
pub(crate) fn is_temporary_relation(name: &OsStr) -> bool {
    let parts = name.to_str().and_then(|name| name.strip_prefix('t')).and_then(|name| name.split_once('_'));
    let is_backend = |text: &str| text == "0" || number(text).is_some();
    parts.is_some_and(|(backend, name)| is_backend(backend) && RelationFileName::parse_text(name).is_some())
}

/// The directory of a version within a tablespace, such as `PG_17_202406281`.
pub fn version_directory(version: Version) -> String {
    format!("PG_{}_{}", version.major(), version.catalog_version())
}

/// Whether the name has the form of [`version_directory`], for whatever version.
pub(crate) fn is_version_directory(name: &str) -> bool {
    let numbers = name.strip_prefix("PG_").and_then(|rest| rest.split_once('_'));
    // Until version 9.6 there was a point in the major version.
    numbers.is_some_and(|(major, catalog)| number(&major.replace('.', "")).is_some() && number(catalog).is_some())
}

/// A number as PostgreSQL writes one into a file name: decimal, at least 1, no leading zero.
pub(crate) fn number(digits: &str) -> Option<u32> {
    let is_number = digits.bytes().all(|digit| digit.is_ascii_digit()) && !digits.starts_with('0');
    is_number.then(|| digits.parse().ok()).flatten()
}

fn text(component: Component<'_>) -> Option<&str> {
    match component {
        Component::Normal(name) => name.to_str(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStrExt;

    use super::*;

    fn file(tablespace: u32, database: u32, number: u32, fork: Fork, segment: u32) -> RelationFile {
        let relation = RelationLocator { tablespace, database, number };
        RelationFile { fork: RelationFork { relation, fork }, segment }
    }

    #[test]
    fn relation_files_are_recognised() {
        use Fork::{FreeSpaceMap, Init, Main, VisibilityMap};
        for (path, expected) in [
            ("global/1262", file(1664, 0, 1262, Main, 0)),
            ("global/1262_fsm", file(1664, 0, 1262, FreeSpaceMap, 0)),
            ("base/5/16384", file(1663, 5, 16384, Main, 0)),
            ("base/5/16384.1", file(1663, 5, 16384, Main, 1)),
            ("base/5/16384_vm", file(1663, 5, 16384, VisibilityMap, 0)),
            ("base/5/16384_fsm.12", file(1663, 5, 16384, FreeSpaceMap, 12)),
            ("base/5/16384_init", file(1663, 5, 16384, Init, 0)),
            ("base/4294967295/4294967295", file(1663, u32::MAX, u32::MAX, Main, 0)),
            ("pg_tblspc/16400/PG_15_202209061/5/16384.3", file(16400, 5, 16384, Main, 3)),
        ] {
            assert_eq!(RelationFile::parse(Path::new(path)), Some(expected), "{path}");
        }
    }

    #[test]
    fn other_files_are_not() {
        for path in [
            "",
            "16384",
            "base",
            "base/16384",
            "base/5/PG_VERSION",
            "base/5/pg_filenode.map",
            "base/5/pg_internal.init",
            "base/5/t3_16384",
            "base/5/016384",
            "base/5/0",
            "base/5/16384.",
            "base/5/16384.0",
            "base/5/16384.01",
            "base/5/16384.1.2",
            "base/5/16384.1_fsm",
            "base/5/16384_",
            "base/5/16384_fsm_fsm",
            "base/5/+16384",
            "base/5/4294967296",
            "base/x/16384",
            "base/5/6/16384",
            "global/pg_control",
            "global/5/16384",
            "pg_tblspc/16400/16384",
            "pg_tblspc/16400/PG_15_202209061/16384",
            "pg_tblspc/16400/PG_15/5/16384",
            "pg_tblspc/x/PG_15_202209061/5/16384",
            "pg_xact/0000",
            "/base/5/16384",
            "../base/5/16384",
        ] {
            assert_eq!(RelationFile::parse(Path::new(path)), None, "{path}");
        }
        let strange = Path::new(OsStr::from_bytes(b"base/5/16384\xFF"));
        assert_eq!(RelationFile::parse(strange), None);
    }

    #[test]
    fn temporary_relations_are_recognised() {
        for name in ["t3_16384", "t0_16384", "t12_16384_fsm.2", "t3_16384.1"] {
            assert!(is_temporary_relation(OsStr::new(name)), "{name}");
        }
        for name in ["16384", "t_16384", "t03_16384", "t3_", "t3_x", "t3", "T3_16384", "t3_16384_other", "t3_t4_5"] {
            assert!(!is_temporary_relation(OsStr::new(name)), "{name}");
        }
    }

    #[test]
    fn blocks_are_counted_over_all_segments() {
        let file = RelationFile::parse(Path::new("base/5/16384.2")).unwrap();
        assert_eq!(file.first_block(131_072), Some(262_144));
        let file = RelationFile::parse(Path::new("base/5/16384.40000")).unwrap();
        assert_eq!(file.first_block(131_072), None);
    }

    #[test]
    fn version_directories_are_recognised() {
        assert_eq!(version_directory(Version::V17), "PG_17_202406281");
        for name in ["PG_17_202406281", "PG_9.6_201608131", "PG_10_201707211"] {
            assert!(is_version_directory(name), "{name}");
        }
        for name in ["PG_17", "PG_17_", "PG__202406281", "17_202406281", "PG_17_202406281_x", "lost+found"] {
            assert!(!is_version_directory(name), "{name}");
        }
    }
}
