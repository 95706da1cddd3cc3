//! The directories that a cluster is restored into: whether they may be used, and making them ready.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use fs_err as fs;
use pgark_postgres::control::CONTROL_FILE_PATH;
use pgark_postgres::process::{Running, running};
use pgark_system::directory::Directory;
use pgark_system::durable;
use rustix::fs::{Gid, OFlags, Uid};

use super::layout::{Layout, Link, LinkKind};
use super::recovery;
use super::settings::{RestoreSettings, RestoreTarget};
use crate::error::{Error, ErrorKind, Result};

/// The file that says that a restore is under way, or was interrupted. The directory may be used for another one then.
pub(super) const MARKER: &str = "pgark.restore";

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

/// The names in the data directory that stay as they are, whatever the backup has.
pub(super) fn kept(settings: &RestoreSettings) -> &'static [&'static str] {
    if settings.target == RestoreTarget::Preserve { &recovery::FILES } else { &[] }
}

/// Makes sure that the data directory may be used. Nothing is touched yet.
///
/// # Errors
/// [`ErrorKind::PostgresRunning`], [`ErrorKind::PathNotEmpty`]; or what the file system says.
pub(super) fn judge(directory: &Path, delta: bool, force: bool, kept: &[&str]) -> Result<Mode> {
    ensure_stopped(directory)?;
    let mode = match (delta, force) {
        (true, _) => Mode::Delta,
        (false, true) => Mode::Replace,
        (false, false) => Mode::Empty,
    };
    let names = match Directory::open(directory) {
        Ok(open) => open.names()?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(mode),
        Err(error) => return Err(error.into()),
    };
    if names.iter().all(|name| is_of_a_restore(name) || kept.iter().any(|kept| name == kept)) {
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

/// Makes sure that what lies where a link is to lead may be replaced: nothing, or what this very data directory has
/// there. A link from another one, perhaps of a running server, can't be seen from here.
///
/// # Errors
/// [`ErrorKind::PathNotEmpty`], [`ErrorKind::FileExists`]; or what the file system says.
pub(super) fn judge_link(layout: &Layout, link: &Link, mode: Mode, version_directory: &str) -> Result<()> {
    let own = link.own_part(version_directory);
    let is_free = match link.kind {
        LinkKind::File => fs::symlink_metadata(&own).is_err_and(|error| error.kind() == io::ErrorKind::NotFound),
        LinkKind::Tablespace(_) | LinkKind::Directory => is_empty(&own)?,
    };
    let leads_there = fs::read_link(layout.name_path(&link.path)).is_ok_and(|target| target == link.text);
    if is_free || mode != Mode::Empty && leads_there {
        return Ok(());
    }
    let own = own.display();
    let error = match link.kind {
        LinkKind::Tablespace(_) => {
            let message = format!("unable to restore to tablespace '{own}' because it contains files");
            Error::new(ErrorKind::PathNotEmpty, message)
        }
        LinkKind::Directory => {
            let message = format!("unable to restore to path '{own}' because it contains files");
            Error::new(ErrorKind::PathNotEmpty, message)
        }
        LinkKind::File => {
            let message = format!("unable to restore file '{own}' because it already exists");
            Error::new(ErrorKind::FileExists, message)
        }
    };
    Err(error.hint(match mode {
        Mode::Empty if leads_there => "try using --delta if this is what you intended",
        _ => "check that no other cluster uses it, and remove it if it is left over",
    }))
}

fn is_empty(directory: &Path) -> Result<bool> {
    match Directory::open(directory) {
        Ok(open) => Ok(open.names()?.is_empty()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(error) => Err(error.into()),
    }
}

/// Makes a directory that files are restored below, and those above it, if they are missing. They get this owner.
///
/// # Errors
/// What the file system says.
pub(super) fn create(directory: &Path, owner: Option<(Uid, Gid)>) -> Result<()> {
    let missing: Vec<&Path> = directory.ancestors().take_while(|above| !above.exists()).collect();
    durable::create_directory_all(directory, 0o700)
        .map_err(|error| Error::new(ErrorKind::PathCreate, error.to_string()).source(error))?;
    let Some((user, group)) = owner else { return Ok(()) };
    for made in missing {
        rustix::fs::fchown(Directory::open(made)?, Some(user), Some(group)).map_err(io::Error::from)?;
    }
    Ok(())
}

/// Makes the data directory one that no server starts on, till [`finish`].
///
/// # Errors
/// What the file system says.
pub(super) fn begin(directory: &Directory, layout: &Layout) -> Result<()> {
    let marker = OsStr::new(MARKER);
    if directory.look(marker)?.is_some_and(|look| !look.is_file()) {
        directory.remove(marker)?;
    }
    directory.file(marker, OFlags::WRONLY | OFlags::CREATE, 0o600)?.sync_all()?;
    directory.sync()?;
    let (global, control) = control_file();
    match directory.look(global)? {
        Some(look) if look.is_directory() => remove_durably(&directory.child(global)?, control),
        Some(look) if look.is_link() => {
            let link = layout.link(Path::new(global));
            let leads_there = |link: &&Link| directory.read_link(global).is_ok_and(|target| target == link.text);
            match link.filter(leads_there) {
                Some(link) => remove_durably(&Directory::open(&link.place)?, control),
                // What it leads to is none of ours.
                None => remove_durably(directory, global),
            }
        }
        _ => Ok(()),
    }
}

fn control_file() -> (&'static OsStr, &'static OsStr) {
    let (directory, name) = CONTROL_FILE_PATH.split_once('/').unwrap_or_default();
    (OsStr::new(directory), OsStr::new(name))
}

fn remove_durably(directory: &Directory, name: &OsStr) -> Result<()> {
    directory.remove(name)?;
    Ok(directory.sync()?)
}

/// Takes back what [`begin`] has put there.
///
/// # Errors
/// What the file system says.
pub(super) fn finish(directory: &Directory) -> Result<()> {
    remove_durably(directory, OsStr::new(MARKER))
}

/// The WAL segments in the data directory that its server has not archived and that go with the restore: the archive
/// does not have them.
///
/// # Errors
/// What the file system says.
pub(super) fn unarchived_wal(directory: &Path, layout: &Layout) -> Result<Vec<String>> {
    let wal = Path::new("pg_wal");
    // What an old link leads to stays as it is, unless it is to be used again.
    let stays =
        fs::symlink_metadata(directory.join(wal)).is_ok_and(|found| found.is_symlink()) && layout.link(wal).is_none();
    let status = directory.join("pg_wal/archive_status");
    if stays || !status.is_dir() {
        return Ok(Vec::new());
    }
    let names: Vec<OsString> = Directory::open(&status)?.names()?;
    let ready = names.iter().filter_map(|name| name.to_str()?.strip_suffix(".ready"));
    Ok(ready.filter(|file| directory.join(wal).join(file).exists()).map(ToOwned::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_interrupted_restore_has_left_is_no_obstacle() {
        let place = tempfile::tempdir().unwrap();
        fs::write(place.path().join(format!("{}01", durable::TEMPORARY_PREFIX)), "").unwrap();
        assert_eq!(judge(place.path(), false, false, &[]).unwrap(), Mode::Empty);
        fs::write(place.path().join(MARKER), "").unwrap();
        assert_eq!(judge(place.path(), true, false, &[]).unwrap(), Mode::Delta);
        fs::write(place.path().join("postgresql.conf"), "").unwrap();
        assert_eq!(judge(place.path(), false, false, &[]).unwrap_err().kind(), ErrorKind::PathNotEmpty);
        assert_eq!(judge(place.path(), true, false, &[]).unwrap(), Mode::Delta);
        assert_eq!(judge(place.path(), false, false, &["postgresql.conf"]).unwrap(), Mode::Empty);
    }

    #[test]
    fn a_directory_of_something_else_is_never_cleared() {
        let place = tempfile::tempdir().unwrap();
        fs::write(place.path().join("thesis.txt"), "").unwrap();
        for (delta, force) in [(false, false), (true, false), (false, true)] {
            assert_eq!(judge(place.path(), delta, force, &[]).unwrap_err().kind(), ErrorKind::PathNotEmpty);
        }
        fs::write(place.path().join("PG_VERSION"), "17\n").unwrap();
        assert_eq!(judge(place.path(), true, false, &[]).unwrap(), Mode::Delta);
        assert_eq!(judge(place.path(), false, true, &[]).unwrap(), Mode::Replace);
    }
}
