//! Mode, owner and time of restored files.

use std::path::Path;

use pgark_repository::manifest::Attributes;
use rustix::fs::{AtFlags, CWD, Gid, Mode, Timespec, Timestamps, UTIME_OMIT, Uid};

use crate::error::{Error, ErrorKind, Result};

/// The numbers that the names of users and groups have on this host.
#[derive(Debug)]
pub(super) struct Owners {
    users: Vec<Option<u32>>,
    groups: Vec<Option<u32>>,
    is_root: bool,
}

impl Owners {
    /// Looks up the names of a manifest. One that this host does not know leaves files with the owner they are made by.
    pub(super) fn new(users: &[String], groups: &[String]) -> Self {
        Self {
            users: users.iter().map(|name| uzers::get_user_by_name(name).map(|user| user.uid())).collect(),
            groups: groups.iter().map(|name| uzers::get_group_by_name(name).map(|group| group.gid())).collect(),
            is_root: rustix::process::geteuid().is_root(),
        }
    }
}

/// Gives a file the attributes that it had.
///
/// # Errors
/// What the file system says. That another user's file can't be given away by one who is not root is no error.
pub(super) fn set(path: &Path, attributes: &Attributes, owners: &mut Owners) -> Result<()> {
    let failed = |what: &str, error: rustix::io::Errno| {
        Error::new(ErrorKind::FileWrite, format!("failed to set the {what} of '{}': {error}", path.display()))
    };
    if owners.is_root {
        let user = number(&owners.users, attributes.user).map(Uid::from_raw);
        let group = number(&owners.groups, attributes.group).map(Gid::from_raw);
        rustix::fs::chown(path, user, group).map_err(|error| failed("owner", error))?;
    }
    rustix::fs::chmod(path, Mode::from_raw_mode(attributes.mode)).map_err(|error| failed("mode", error))?;
    let times = Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        last_modification: Timespec { tv_sec: attributes.modified, tv_nsec: 0 },
    };
    rustix::fs::utimensat(CWD, path, &times, AtFlags::empty()).map_err(|error| failed("time", error))
}

fn number(numbers: &[Option<u32>], position: u32) -> Option<u32> {
    let index = usize::try_from(position.checked_sub(1)?).ok()?;
    numbers.get(index).copied().flatten()
}
