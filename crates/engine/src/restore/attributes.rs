//! Mode, owner and time of restored files.

use std::os::fd::AsFd;
use std::path::Path;

use fs_err as fs;
use pgark_repository::manifest::{Attributes, ManifestDocument};
use pgark_system::directory::Directory;
use rustix::fs::{AtFlags, Gid, Mode, Stat, Timespec, Timestamps, UTIME_OMIT, Uid};

use super::place::Place;
use crate::error::{Error, ErrorKind, Result};

/// The bits by which a program runs as its owner. No file of a cluster has them, and a restore by root makes none.
const SET_ID_BITS: u32 = 0o6000;

/// The numbers that the names of users and groups have on this host.
#[derive(Debug)]
pub(super) struct Owners {
    users: Vec<Option<u32>>,
    groups: Vec<Option<u32>>,
    /// Who has what this host knows no name of: the owner that the data directory had, for one who may give files away.
    /// `None` for everybody else.
    substitute: Option<(u32, u32)>,
}

impl Owners {
    /// Looks up the names that a manifest has. What this host does not know goes to the owner that `data_directory` has,
    /// or to who runs this, if it does not exist.
    pub(super) fn new(users: &[String], groups: &[String], data_directory: &Path) -> Self {
        let (user, group) = (rustix::process::geteuid(), rustix::process::getegid());
        let owner =
            rustix::fs::stat(data_directory).map_or((user.as_raw(), group.as_raw()), |stat| (stat.st_uid, stat.st_gid));
        Self {
            users: users.iter().map(|name| uzers::get_user_by_name(name).map(|user| user.uid())).collect(),
            groups: groups.iter().map(|name| uzers::get_group_by_name(name).map(|one| one.gid())).collect(),
            substitute: user.is_root().then_some(owner),
        }
    }

    /// Says which names of the manifest this host does not know.
    pub(super) fn warn_of_unknown(&self, document: &ManifestDocument) {
        let Some((user, group)) = self.substitute else { return };
        for (what, names, numbers, number) in
            [("user", &document.users, &self.users, user), ("group", &document.groups, &self.groups, group)]
        {
            for (name, _) in names.iter().zip(numbers).filter(|(_, number)| number.is_none()) {
                tracing::warn!("{what} '{name}' of the backup does not exist here: {number} gets its files");
            }
        }
    }

    /// The owner that something is to have; none where it stays with whoever made it.
    pub(super) fn of(&self, attributes: &Attributes) -> Option<(Uid, Gid)> {
        let (user, group) = self.substitute?;
        let user = number(&self.users, attributes.user).unwrap_or(user);
        let group = number(&self.groups, attributes.group).unwrap_or(group);
        Some((Uid::from_raw(user), Gid::from_raw(group)))
    }
}

/// Gives a directory the attributes that it had.
///
/// # Errors
/// What the file system says. That another user's directory can't be given away by one who is not root is no error.
pub(super) fn set_on_directory(
    directory: &Directory,
    attributes: &Attributes,
    nanoseconds: u32,
    owners: &Owners,
) -> Result<()> {
    set_on(directory, directory.path(), attributes.mode, attributes, nanoseconds, owners)
}

/// Gives a file the attributes that it had.
///
/// # Errors
/// As [`set_on_directory`].
pub(super) fn set_on_file(file: &fs::File, attributes: &Attributes, nanoseconds: u32, owners: &Owners) -> Result<()> {
    set_on(file.file(), file.path(), file_mode(attributes), attributes, nanoseconds, owners)
}

/// Whether a file that was found so has the attributes that it had.
pub(super) fn are_right_on_file(found: &Stat, attributes: &Attributes, nanoseconds: u32, owners: &Owners) -> bool {
    Change::of(found, file_mode(attributes), attributes, nanoseconds, owners) == Change::default()
}

fn file_mode(attributes: &Attributes) -> u32 {
    attributes.mode & !SET_ID_BITS
}

/// Gives a link the owner that what it leads to has.
///
/// # Errors
/// What the file system says.
pub(super) fn set_on_link(place: &Place, attributes: &Attributes, owners: &Owners) -> Result<()> {
    let Some((user, group)) = owners.of(attributes) else { return Ok(()) };
    let (directory, name) = place.parent()?;
    rustix::fs::chownat(&*directory, name, Some(user), Some(group), AtFlags::SYMLINK_NOFOLLOW)
        .map_err(|error| failed("owner", &place.full_path(), error))
}

/// Gives a link the time that it had.
///
/// # Errors
/// What the file system says.
pub(super) fn set_time_of_link(place: &Place, attributes: &Attributes, nanoseconds: u32) -> Result<()> {
    let (directory, name) = place.parent()?;
    let times = times(attributes, nanoseconds);
    rustix::fs::utimensat(&*directory, name, &times, AtFlags::SYMLINK_NOFOLLOW)
        .map_err(|error| failed("time", &place.full_path(), error))
}

/// The time of the last access stays, that of the last change is set.
fn times(attributes: &Attributes, nanoseconds: u32) -> Timestamps {
    Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        last_modification: Timespec { tv_sec: attributes.modified, tv_nsec: nanoseconds.into() },
    }
}

/// What has to be set on something.
#[derive(Debug, Default, PartialEq, Eq)]
struct Change {
    owner: Option<(Uid, Gid)>,
    mode: Option<Mode>,
    /// Whether its time is to be set.
    time: bool,
}

impl Change {
    /// What is not as it is to be: looking costs less than setting.
    fn of(found: &Stat, mode: u32, attributes: &Attributes, nanoseconds: u32, owners: &Owners) -> Self {
        let has = |user: Uid, group: Gid| (user.as_raw(), group.as_raw()) == (found.st_uid, found.st_gid);
        let owner = owners.of(attributes).filter(|(user, group)| !has(*user, *group));
        let mode = Mode::from_raw_mode(mode);
        // A new owner may have cost some bits of the mode.
        let is_to_be_set = owner.is_some() || Mode::from_raw_mode(found.st_mode) != mode;
        let time = (found.st_mtime, found.st_mtime_nsec) != (attributes.modified, nanoseconds.into());
        Self { owner, mode: is_to_be_set.then_some(mode), time }
    }
}

/// Sets what is not as it is to be.
fn set_on(
    object: impl AsFd,
    path: &Path,
    mode: u32,
    attributes: &Attributes,
    nanoseconds: u32,
    owners: &Owners,
) -> Result<()> {
    let found = rustix::fs::fstat(&object).map_err(|error| failed("status", path, error))?;
    let change = Change::of(&found, mode, attributes, nanoseconds, owners);
    if let Some((user, group)) = change.owner {
        rustix::fs::fchown(&object, Some(user), Some(group)).map_err(|error| failed("owner", path, error))?;
    }
    if let Some(mode) = change.mode {
        rustix::fs::fchmod(&object, mode).map_err(|error| failed("mode", path, error))?;
    }
    if change.time {
        rustix::fs::futimens(&object, &times(attributes, nanoseconds)).map_err(|error| failed("time", path, error))?;
    }
    Ok(())
}

fn failed(what: &str, path: &Path, error: rustix::io::Errno) -> Error {
    let message = format!("failed to set the {what} of '{}': {}", path.display(), std::io::Error::from(error));
    Error::new(ErrorKind::FileWrite, message)
}

fn number(numbers: &[Option<u32>], position: u32) -> Option<u32> {
    let index = usize::try_from(position.checked_sub(1)?).ok()?;
    numbers.get(index).copied().flatten()
}
