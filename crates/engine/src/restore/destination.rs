//! The directory that a cluster is restored into: whether it may be used, and clearing away what does not belong.

use std::cmp::Ordering;
use std::ffi::OsStr;
use std::fs::FileType;
use std::io;
use std::iter::Peekable;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use fs_err as fs;
use pgark_postgres::control::CONTROL_FILE_PATH;
use pgark_postgres::process::{Running, running};
use pgark_repository::manifest::{Entry, EntryKind};
use pgark_system::durable::{self, Existing};

use crate::error::{Error, ErrorKind, Result};

/// The file that says that a restore is under way, or was interrupted. The directory may be used for another one then.
const MARKER: &str = "pgark.restore";

/// What is to become of files in the directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// There must be none.
    Empty,
    /// All are removed.
    Replace,
    /// Those that belong are used where they are right.
    Delta,
}

/// Makes sure that the directory may be used, and makes it if it is missing.
///
/// # Errors
/// [`ErrorKind::PostgresRunning`], [`ErrorKind::PathNotEmpty`]; or what the file system says.
pub(super) fn open(directory: &Path, delta: bool, force: bool) -> Result<Mode> {
    ensure_stopped(directory)?;
    durable::create_directory_all(directory, 0o700)
        .map_err(|error| Error::new(ErrorKind::PathCreate, error.to_string()).source(error))?;
    let mode = match (delta, force) {
        (true, _) => Mode::Delta,
        (false, true) => Mode::Replace,
        (false, false) => Mode::Empty,
    };
    let names = names_in(directory)?;
    if names.iter().all(|name| is_of_a_restore(name)) {
        return Ok(mode);
    }
    let not_empty = || {
        let message = format!("unable to restore to path '{}' because it contains files", directory.display());
        Error::new(ErrorKind::PathNotEmpty, message)
    };
    if mode == Mode::Empty {
        return Err(not_empty().hint("try using --delta if this is what you intended"));
    }
    if !directory.join("PG_VERSION").exists() && !directory.join(MARKER).exists() {
        tracing::warn!(
            "--delta or --force specified but unable to find 'PG_VERSION' or '{MARKER}' in '{}' to confirm that this is a valid $PGDATA directory",
            directory.display()
        );
        return Err(not_empty().hint("check pg-path, and empty the directory if the cluster belongs there"));
    }
    Ok(mode)
}

/// Whether a restore that was interrupted before it came to anything has left this.
fn is_of_a_restore(name: &OsStr) -> bool {
    name == MARKER || name.as_bytes().starts_with(durable::TEMPORARY_PREFIX.as_bytes())
}

fn ensure_stopped(directory: &Path) -> Result<()> {
    let error = match running(directory)? {
        Running::No => return Ok(()),
        Running::Yes(_) => Error::new(ErrorKind::PostgresRunning, "unable to restore while PostgreSQL is running"),
        Running::Stale(_) => Error::new(
            ErrorKind::PostgresRunning,
            "unable to restore: PostgreSQL was not shut down cleanly, or runs elsewhere",
        ),
    };
    let hint = format!("presence of 'postmaster.pid' in '{}' indicates PostgreSQL is running", directory.display());
    Err(error.hint(hint).hint("remove 'postmaster.pid' only if PostgreSQL is not running"))
}

/// Makes the directory one that no server starts on, till [`finish`].
///
/// # Errors
/// What the file system says.
pub(super) fn begin(directory: &Path) -> Result<()> {
    durable::write(&directory.join(MARKER), b"pgark restores this cluster\n", 0o600, Existing::Replace)?;
    let control = directory.join(CONTROL_FILE_PATH);
    match fs::remove_file(&control) {
        Ok(()) => Ok(durable::sync_directory(&directory.join("global"))?),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Takes back what [`begin`] has put there.
///
/// # Errors
/// What the file system says.
pub(super) fn finish(directory: &Path) -> Result<()> {
    fs::remove_file(directory.join(MARKER))?;
    Ok(durable::sync_directory(directory)?)
}

/// Removes everything from the directory but the marker.
///
/// # Errors
/// What the file system says.
pub(super) fn empty(directory: &Path) -> Result<()> {
    for name in names_in(directory)? {
        if name.as_bytes() != MARKER.as_bytes() {
            let path = directory.join(name);
            let kind = fs::symlink_metadata(&path)?.file_type();
            remove(&path, kind)?;
        }
    }
    Ok(())
}

/// Whether this entry is the link of a tablespace, which is restored as a link.
fn is_tablespace_link(entry: &Entry) -> bool {
    let oid = entry.path.strip_prefix(b"pg_tblspc/");
    entry.link.is_some() && oid.is_some_and(|oid| !oid.is_empty() && oid.iter().all(u8::is_ascii_digit))
}

/// A tablespace that lies outside the data directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TablespaceLink {
    /// Its link in the data directory.
    pub(super) link: PathBuf,
    /// Where the link leads, as it is written there.
    pub(super) target: PathBuf,
}

impl TablespaceLink {
    /// The tablespace of an entry, if it is the link of one.
    pub(super) fn of(directory: &Path, entry: &Entry) -> Option<Self> {
        let target = entry.link.as_ref().filter(|_| is_tablespace_link(entry))?;
        Some(Self {
            link: directory.join(OsStr::from_bytes(&entry.path)),
            target: PathBuf::from(OsStr::from_bytes(target)),
        })
    }

    /// Makes sure that what is in the tablespace may be replaced: nothing, or what this very data directory has there. A
    /// link from another one, perhaps of a running server, can't be seen from here.
    ///
    /// # Errors
    /// [`ErrorKind::PathNotEmpty`]; or what the file system says.
    pub(super) fn ensure_usable(&self, mode: Mode, version_directory: &str) -> Result<()> {
        let own = self.place().join(version_directory);
        if is_empty(&own)? || mode != Mode::Empty && self.leads_there() {
            return Ok(());
        }
        let message = format!("unable to restore to tablespace '{}' because it contains files", own.display());
        let hint = match mode {
            Mode::Empty if self.leads_there() => "try using --delta if this is what you intended",
            _ => "check that no other cluster uses this directory, and remove it if it is left over",
        };
        Err(Error::new(ErrorKind::PathNotEmpty, message).hint(hint))
    }

    fn leads_there(&self) -> bool {
        fs::read_link(&self.link).is_ok_and(|target| target == self.target)
    }

    /// Removes what the cluster has in the tablespace.
    ///
    /// # Errors
    /// What the file system says.
    pub(super) fn empty(&self, version_directory: &str) -> Result<()> {
        let own = self.place().join(version_directory);
        if own.exists() { Ok(fs::remove_dir_all(&own)?) } else { Ok(()) }
    }

    /// Makes the tablespace a place to restore into: its directory is there, and the link leads to it.
    ///
    /// # Errors
    /// What the file system says.
    pub(super) fn prepare(&self) -> Result<()> {
        let place = self.place();
        durable::create_directory_all(&place, 0o700)
            .map_err(|error| Error::new(ErrorKind::PathCreate, error.to_string()).source(error))?;
        if let Some(parent) = self.link.parent() {
            fs::create_dir_all(parent)?;
        }
        if self.leads_there() {
            return Ok(());
        }
        match fs::symlink_metadata(&self.link) {
            Ok(found) => remove(&self.link, found.file_type())?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error.into()),
        }
        Ok(fs_err::os::unix::fs::symlink(&self.target, &self.link)?)
    }

    /// The directory that the link leads to. A relative target counts from where the link lies.
    fn place(&self) -> PathBuf {
        self.link.parent().map_or_else(|| self.target.clone(), |parent| parent.join(&self.target))
    }
}

fn is_empty(directory: &Path) -> Result<bool> {
    match fs::read_dir(directory) {
        Ok(mut names) => Ok(names.next().is_none()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(error) => Err(error.into()),
    }
}

/// The WAL segments in the directory that its server has not archived: they go, and the archive does not have them.
///
/// # Errors
/// What the file system says.
pub(super) fn unarchived_wal(directory: &Path) -> Result<Vec<String>> {
    let status = directory.join("pg_wal/archive_status");
    if !status.is_dir() {
        return Ok(Vec::new());
    }
    let names = names_in(&status)?;
    let ready = names.iter().filter_map(|name| name.to_str()?.strip_suffix(".ready"));
    Ok(ready.filter(|file| directory.join("pg_wal").join(file).exists()).map(ToOwned::to_owned).collect())
}

/// Removes from the directory what `entries` do not name, or what is of another kind than they say.
///
/// Both are walked side by side in the same order, so that neither has to be held in memory. No link is followed but
/// those of tablespaces that lead where the manifest says, and of those only the version's directory is looked at: other
/// clusters may have theirs beside it.
///
/// # Errors
/// Those of `entries`, and what the file system says.
pub(super) fn remove_foreign(directory: &Path, entries: impl Iterator<Item = Result<Entry>>) -> Result<u64> {
    let mut entries = entries.peekable();
    // The first entry is the directory itself.
    entries.next().transpose()?;
    let mut clearing = Clearing { root: directory, entries, removed: 0 };
    clearing.directory(b"", false)?;
    Ok(clearing.removed)
}

struct Clearing<'clearing, I: Iterator<Item = Result<Entry>>> {
    root: &'clearing Path,
    entries: Peekable<I>,
    removed: u64,
}

impl<I: Iterator<Item = Result<Entry>>> Clearing<'_, I> {
    /// Goes through one directory, whose entry has been passed.
    fn directory(&mut self, path: &[u8], is_tablespace: bool) -> Result<()> {
        for name in names_in(&self.full(path))? {
            let child = join(path, name.as_bytes());
            if child == MARKER.as_bytes() {
                continue;
            }
            self.pass_until(&child)?;
            let expected = match self.entries.peek() {
                Some(Ok(entry)) if entry.path == child => self.entries.next().transpose()?,
                Some(Err(_)) => self.entries.next().transpose()?,
                _ => None,
            };
            match expected {
                None if is_tablespace => {}
                None => self.remove(&child)?,
                Some(entry) => self.judge(&entry)?,
            }
        }
        Ok(())
    }

    /// Passes entries that the directory lacks.
    fn pass_until(&mut self, path: &[u8]) -> Result<()> {
        while let Some(entry) = self
            .entries
            .next_if(|entry| entry.as_ref().map_or(true, |entry| compare(&entry.path, path) == Ordering::Less))
        {
            entry?;
        }
        Ok(())
    }

    /// Keeps what is of the kind that it should be.
    fn judge(&mut self, entry: &Entry) -> Result<()> {
        let path = self.full(&entry.path);
        let kind = fs::symlink_metadata(&path)?.file_type();
        let is_tablespace = is_tablespace_link(entry);
        let is_right = match &entry.kind {
            EntryKind::Directory if is_tablespace => {
                kind.is_symlink()
                    && entry.link.as_deref() == Some(fs::read_link(&path)?.as_os_str().as_bytes())
                    && path.is_dir()
            }
            EntryKind::Directory => kind.is_dir(),
            EntryKind::File { .. } => kind.is_file(),
        };
        if !is_right {
            return self.remove(&entry.path);
        }
        match entry.kind {
            EntryKind::Directory => self.directory(&entry.path, is_tablespace),
            EntryKind::File { .. } => Ok(()),
        }
    }

    fn remove(&mut self, path: &[u8]) -> Result<()> {
        let full = self.full(path);
        tracing::debug!("remove '{}', which is not in the backup", full.display());
        self.removed += 1;
        let kind = fs::symlink_metadata(&full)?.file_type();
        remove(&full, kind)
    }

    fn full(&self, path: &[u8]) -> PathBuf {
        self.root.join(OsStr::from_bytes(path))
    }
}

fn remove(path: &Path, kind: FileType) -> Result<()> {
    // A symbolic link is no directory here: only the link goes.
    if kind.is_dir() { Ok(fs::remove_dir_all(path)?) } else { Ok(fs::remove_file(path)?) }
}

fn names_in(directory: &Path) -> Result<Vec<std::ffi::OsString>> {
    let mut names =
        fs::read_dir(directory)?.map(|entry| entry.map(|entry| entry.file_name())).collect::<io::Result<Vec<_>>>()?;
    names.sort();
    Ok(names)
}

fn join(directory: &[u8], name: &[u8]) -> Vec<u8> {
    if directory.is_empty() { name.to_vec() } else { [directory, b"/", name].concat() }
}

/// The order in which a walk through sorted directories finds paths.
fn compare(one: &[u8], other: &[u8]) -> Ordering {
    one.split(|byte| *byte == b'/').cmp(other.split(|byte| *byte == b'/'))
}

#[cfg(test)]
mod tests {
    use pgark_repository::manifest::{Attributes, Content};

    use super::*;

    fn entry(path: &str, kind: EntryKind) -> Entry {
        Entry { path: path.as_bytes().to_vec(), link: None, attributes: Attributes::default(), kind }
    }

    fn file(path: &str) -> Entry {
        entry(path, EntryKind::File { size: 0, page_checksums: false, content: Content::None, damaged: Vec::new() })
    }

    fn directory(path: &str) -> Entry {
        entry(path, EntryKind::Directory)
    }

    #[test]
    fn only_what_belongs_stays() {
        let place = tempfile::tempdir().unwrap();
        let root = place.path();
        for path in ["base/1", "base/2/deep", "base.old", "global"] {
            fs::create_dir_all(root.join(path)).unwrap();
        }
        for path in ["base/1/1", "base/1/9", "base/2/deep/x", "base.old/y", "PG_VERSION", "wrong", MARKER] {
            fs::write(root.join(path), "").unwrap();
        }
        let outside = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("precious"), "").unwrap();
        fs_err::os::unix::fs::symlink(outside.path(), root.join("global/link")).unwrap();

        let entries = [
            directory(""),
            file("PG_VERSION"),
            directory("base"),
            directory("base/1"),
            file("base/1/1"),
            file("base/1/2"),
            directory("global"),
            directory("wrong"),
        ];
        remove_foreign(root, entries.into_iter().map(Ok)).unwrap();
        let mut left: Vec<String> = Vec::new();
        for path in ["base", "base/1/1", "base/1/9", "base/2", "base.old", "global/link", "PG_VERSION", "wrong", MARKER]
        {
            if fs::symlink_metadata(root.join(path)).is_ok() {
                left.push(path.to_owned());
            }
        }
        assert_eq!(left, ["base", "base/1/1", "PG_VERSION", MARKER]);
        assert!(outside.path().join("precious").exists());
    }

    #[test]
    fn what_an_interrupted_restore_has_left_is_no_obstacle() {
        let place = tempfile::tempdir().unwrap();
        fs::write(place.path().join(format!("{}01", durable::TEMPORARY_PREFIX)), "").unwrap();
        assert_eq!(open(place.path(), false, false).unwrap(), Mode::Empty);
        fs::write(place.path().join(MARKER), "").unwrap();
        assert_eq!(open(place.path(), true, false).unwrap(), Mode::Delta);
        fs::write(place.path().join("postgresql.conf"), "").unwrap();
        assert_eq!(open(place.path(), false, false).unwrap_err().kind(), ErrorKind::PathNotEmpty);
        assert_eq!(open(place.path(), true, false).unwrap(), Mode::Delta);
    }

    #[test]
    fn a_directory_of_something_else_is_never_cleared() {
        let place = tempfile::tempdir().unwrap();
        fs::write(place.path().join("thesis.txt"), "").unwrap();
        for (delta, force) in [(false, false), (true, false), (false, true)] {
            assert_eq!(open(place.path(), delta, force).unwrap_err().kind(), ErrorKind::PathNotEmpty);
        }
        fs::write(place.path().join("PG_VERSION"), "17\n").unwrap();
        assert_eq!(open(place.path(), true, false).unwrap(), Mode::Delta);
        assert_eq!(open(place.path(), false, true).unwrap(), Mode::Replace);
    }
}
