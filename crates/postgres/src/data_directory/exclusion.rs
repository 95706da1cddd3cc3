//! What a backup leaves out.
//!
//! From `src/backend/backup/basebackup.c` in PostgreSQL, with what pgBackRest leaves out beyond it.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::Version;
use crate::relation::{DatabaseDirectory, RelationFileName, is_temporary_relation, number, version_directory};
use crate::wal::relation::Fork;

/// The directories in the data directory whose contents mean nothing to a server that was started anew.
const TRANSIENT_DIRECTORIES: [&str; 7] =
    ["pg_dynshmem", "pg_notify", "pg_replslot", "pg_serial", "pg_snapshots", "pg_stat_tmp", "pg_subtrans"];

/// The files in the data directory that belong to the running server, to an earlier backup, or to an earlier recovery.
const TRANSIENT_FILES: [&str; 11] = [
    "backup_label",
    "backup_label.old",
    "backup_manifest",
    "backup_manifest.tmp",
    "current_logfiles.tmp",
    "postgresql.auto.conf.tmp",
    "postmaster.opts",
    "postmaster.pid",
    "recovery.signal",
    "standby.signal",
    "tablespace_map",
];

/// What an exclusion is decided by, apart from the path.
#[derive(Clone, Debug)]
pub struct Context {
    /// The cluster's version.
    pub version: Version,
    /// Whether the server runs: then the archive provides the WAL, and `pg_wal` is left empty.
    pub online: bool,
    /// What the user leaves out (`exclude`): paths relative to the data directory; one that ends with a slash means what
    /// is in the directory and not the directory.
    pub exclude: Vec<PathBuf>,
}

/// What a name in a directory stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// A plain file, or a link to one.
    File,
    /// A directory, or a link to one.
    Directory,
    /// A socket, pipe or device.
    Special,
}

/// That something is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exclusion {
    /// How much of it.
    pub scope: Scope,
    /// Why.
    pub reason: Reason,
}

/// How much is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// The file, or the directory with all that is in it.
    Whole,
    /// What is in the directory; the directory itself stays.
    Contents,
}

/// Why something is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// It means nothing to a server that was started anew.
    Transient,
    /// It is WAL, which the archive provides.
    Wal,
    /// It is a temporary file or a temporary relation.
    Temporary,
    /// It belongs to an unlogged relation, of which only the init fork is of use.
    Unlogged,
    /// It belongs to another version or another cluster, which shares the tablespace's directory.
    OtherVersion,
    /// It is neither a file nor a directory.
    SpecialFile,
    /// The user wants it left out.
    User,
}

impl fmt::Display for Reason {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Transient => "it means nothing to a server that is started anew",
            Self::Wal => "it is WAL, which the archive has",
            Self::Temporary => "it is temporary",
            Self::Unlogged => "it belongs to an unlogged relation, which is empty after a restore",
            Self::OtherVersion => "it belongs to another version or cluster",
            Self::SpecialFile => "it is neither a file nor a directory",
            Self::User => "it is excluded by the configuration",
        })
    }
}

impl Exclusion {
    const fn whole(reason: Reason) -> Self {
        Self { scope: Scope::Whole, reason }
    }

    const fn contents(reason: Reason) -> Self {
        Self { scope: Scope::Contents, reason }
    }
}

/// Whether a backup leaves out what lies at `path`, relative to the data directory.
///
/// `unlogged` holds the relations in the same directory that have an init fork; see [`unlogged_relations`].
pub fn exclusion(path: &Path, kind: FileKind, unlogged: &BTreeSet<u32>, context: &Context) -> Option<Exclusion> {
    let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else {
        return None;
    };
    by_user(path, kind, context)
        .or_else(|| by_kind(kind))
        .or_else(|| by_name(name))
        .or_else(|| in_root(directory, name, kind))
        .or_else(|| in_wal(directory, name, kind, context))
        .or_else(|| in_tablespace(directory, name, context))
        .or_else(|| in_database(directory, name, kind, unlogged))
}

/// The relations whose init fork is among these file names: those that are unlogged.
pub fn unlogged_relations<'names>(names: impl Iterator<Item = &'names OsStr>) -> BTreeSet<u32> {
    let files = names.filter_map(RelationFileName::parse);
    files.filter(|file| file.fork == Fork::Init).map(|file| file.number).collect()
}

fn by_user(path: &Path, kind: FileKind, context: &Context) -> Option<Exclusion> {
    // Comparing the bytes, since Path takes no notice of a slash at the end.
    let path = path.as_os_str().as_bytes();
    let is_excluded =
        |pattern: &[u8]| context.exclude.iter().any(|excluded| excluded.as_os_str().as_bytes() == pattern);
    if is_excluded(path) {
        Some(Exclusion::whole(Reason::User))
    } else if kind == FileKind::Directory && is_excluded(&[path, b"/"].concat()) {
        Some(Exclusion::contents(Reason::User))
    } else {
        None
    }
}

fn by_kind(kind: FileKind) -> Option<Exclusion> {
    (kind == FileKind::Special).then_some(Exclusion::whole(Reason::SpecialFile))
}

/// `pgsql_tmp` holds the temporary files of queries, `pg_internal.init` caches catalogs; both appear in many directories
/// and with many endings.
fn by_name(name: &OsStr) -> Option<Exclusion> {
    if name.as_bytes().starts_with(b"pgsql_tmp") {
        Some(Exclusion::whole(Reason::Temporary))
    } else if name.as_bytes().starts_with(b"pg_internal.init") || name == ".DS_Store" {
        Some(Exclusion::whole(Reason::Transient))
    } else {
        None
    }
}

fn in_root(directory: &Path, name: &OsStr, kind: FileKind) -> Option<Exclusion> {
    let is_in = |names: &[&str]| names.iter().any(|known| name == *known);
    match kind {
        _ if !directory.as_os_str().is_empty() => None,
        FileKind::Directory if is_in(&TRANSIENT_DIRECTORIES) => Some(Exclusion::contents(Reason::Transient)),
        FileKind::File if is_in(&TRANSIENT_FILES) => Some(Exclusion::whole(Reason::Transient)),
        _ => None,
    }
}

/// The directories that a server expects in `pg_wal` stay, empty.
fn in_wal(directory: &Path, name: &OsStr, kind: FileKind, context: &Context) -> Option<Exclusion> {
    if !context.online || directory != Path::new("pg_wal") {
        return None;
    }
    let has_summaries = context.version >= Version::V17;
    if kind == FileKind::Directory && (name == "archive_status" || (has_summaries && name == "summaries")) {
        Some(Exclusion::contents(Reason::Wal))
    } else {
        Some(Exclusion::whole(Reason::Wal))
    }
}

/// In a tablespace's directory only the directory of this very version belongs to the cluster.
fn in_tablespace(directory: &Path, name: &OsStr, context: &Context) -> Option<Exclusion> {
    let is_tablespace = tablespace_oid(directory).is_some();
    let is_other = is_tablespace && name != version_directory(context.version).as_str();
    is_other.then_some(Exclusion::whole(Reason::OtherVersion))
}

/// The oid, if this is the path of a tablespace: `pg_tblspc/<oid>`.
pub fn tablespace_oid(path: &Path) -> Option<u32> {
    let oid = path.strip_prefix("pg_tblspc").ok()?;
    number(oid.to_str()?)
}

fn in_database(directory: &Path, name: &OsStr, kind: FileKind, unlogged: &BTreeSet<u32>) -> Option<Exclusion> {
    if kind != FileKind::File || DatabaseDirectory::parse(directory).is_none() {
        return None;
    }
    if is_temporary_relation(name) {
        return Some(Exclusion::whole(Reason::Temporary));
    }
    let file = RelationFileName::parse(name)?;
    let is_useless = file.fork != Fork::Init && unlogged.contains(&file.number);
    is_useless.then_some(Exclusion::whole(Reason::Unlogged))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn context() -> Context {
        Context {
            version: Version::V17,
            online: true,
            exclude: vec!["base/5/junk".into(), "log/".into(), "pg_stat/".into()],
        }
    }

    fn excluded(path: &str, kind: FileKind) -> Option<(Scope, Reason)> {
        let unlogged = BTreeSet::from([16400]);
        exclusion(Path::new(path), kind, &unlogged, &context()).map(|found| (found.scope, found.reason))
    }

    #[test]
    fn what_a_server_makes_anew_is_left_out() {
        for directory in TRANSIENT_DIRECTORIES {
            assert_eq!(excluded(directory, FileKind::Directory), Some((Scope::Contents, Reason::Transient)));
        }
        for file in TRANSIENT_FILES {
            assert_eq!(excluded(file, FileKind::File), Some((Scope::Whole, Reason::Transient)));
        }
        for file in ["global/pg_internal.init", "base/5/pg_internal.init.4711", ".DS_Store", "base/.DS_Store"] {
            assert_eq!(excluded(file, FileKind::File), Some((Scope::Whole, Reason::Transient)));
        }
    }

    #[test]
    fn temporary_files_are_left_out() {
        let temporary = Some((Scope::Whole, Reason::Temporary));
        assert_eq!(excluded("base/pgsql_tmp", FileKind::Directory), temporary);
        assert_eq!(excluded("base/pgsql_tmp4711.0", FileKind::File), temporary);
        assert_eq!(excluded("base/5/t3_16384", FileKind::File), temporary);
        assert_eq!(excluded("pg_tblspc/16385/PG_17_202406281/5/t3_16384_fsm.1", FileKind::File), temporary);
        assert_eq!(excluded("pg_tblspc/16385/PG_17_202406281/pgsql_tmp", FileKind::Directory), temporary);
        assert_eq!(excluded("log/t3_16384", FileKind::File), None);
    }

    #[test]
    fn an_unlogged_relation_keeps_its_init_fork_only() {
        let unlogged = Some((Scope::Whole, Reason::Unlogged));
        for name in ["16400", "16400.1", "16400_fsm", "16400_vm"] {
            assert_eq!(excluded(&format!("base/5/{name}"), FileKind::File), unlogged, "{name}");
        }
        assert_eq!(excluded("base/5/16400_init", FileKind::File), None);
        assert_eq!(excluded("base/5/16401", FileKind::File), None);
        assert_eq!(excluded("log/16400", FileKind::File), None);
    }

    #[test]
    fn init_forks_tell_unlogged_relations() {
        let names = ["16400", "16400_init", "16401", "PG_VERSION", "16402_init.1"].map(OsStr::new);
        assert_eq!(unlogged_relations(names.into_iter()), BTreeSet::from([16400, 16402]));
    }

    #[test]
    fn of_the_wal_only_empty_directories_stay() {
        let (whole, contents) = (Some((Scope::Whole, Reason::Wal)), Some((Scope::Contents, Reason::Wal)));
        assert_eq!(excluded("pg_wal", FileKind::Directory), None);
        assert_eq!(excluded("pg_wal/000000010000000000000001", FileKind::File), whole);
        assert_eq!(excluded("pg_wal/00000002.history", FileKind::File), whole);
        assert_eq!(excluded("pg_wal/lost+found", FileKind::Directory), whole);
        assert_eq!(excluded("pg_wal/archive_status", FileKind::Directory), contents);
        assert_eq!(excluded("pg_wal/summaries", FileKind::Directory), contents);
        let older = Context { version: Version::V16, ..context() };
        let found = exclusion(Path::new("pg_wal/summaries"), FileKind::Directory, &BTreeSet::new(), &older);
        assert_eq!(found, Some(Exclusion::whole(Reason::Wal)));
        let offline = Context { online: false, ..context() };
        let segment = Path::new("pg_wal/000000010000000000000001");
        assert_eq!(exclusion(segment, FileKind::File, &BTreeSet::new(), &offline), None);
    }

    #[test]
    fn other_versions_in_a_tablespace_are_left_out() {
        let other = Some((Scope::Whole, Reason::OtherVersion));
        assert_eq!(excluded("pg_tblspc/16385/PG_17_202406281", FileKind::Directory), None);
        assert_eq!(excluded("pg_tblspc/16385/PG_16_202307071", FileKind::Directory), other);
        assert_eq!(excluded("pg_tblspc/16385/lost+found", FileKind::Directory), other);
        assert_eq!(excluded("pg_tblspc/16385", FileKind::Directory), None);
    }

    #[test]
    fn the_user_leaves_out_whole_entries_or_contents() {
        assert_eq!(excluded("base/5/junk", FileKind::File), Some((Scope::Whole, Reason::User)));
        assert_eq!(excluded("log", FileKind::Directory), Some((Scope::Contents, Reason::User)));
        assert_eq!(excluded("pg_stat", FileKind::File), None);
        assert_eq!(excluded("base/5/junk2", FileKind::File), None);
    }

    #[test]
    fn what_a_cluster_consists_of_stays() {
        for file in [
            "PG_VERSION",
            "postgresql.conf",
            "postgresql.auto.conf",
            "global/pg_control",
            "global/pg_filenode.map",
            "base/5/16384",
            "base/5/backup_label",
            "pg_xact/0000",
            "pg_multixact/members/0000",
            "pg_logical/replorigin_checkpoint",
            "tablespace_map.old",
        ] {
            assert_eq!(excluded(file, FileKind::File), None, "{file}");
        }
        assert_eq!(excluded("", FileKind::Directory), None);
        assert_eq!(excluded("some/socket", FileKind::Special), Some((Scope::Whole, Reason::SpecialFile)));
    }
}
