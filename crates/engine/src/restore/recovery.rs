//! Telling the restored server how far to recover.

use std::io::{self, Write};

use jiff::tz::TimeZone;
use pgark_postgres::recovery::{
    AUTO_CONFIGURATION_FILE, InvalidSetting, Recovery, RecoveryTarget, SignalFile, auto_configuration,
};
use pgark_repository::manifest::ManifestDocument;
use pgark_system::clock;
use rustix::fs::{Gid, Mode, OFlags, Uid};

use super::place::Place;
use super::settings::{RestoreSettings, RestoreTarget};
use crate::error::{Error, ErrorKind, Result};

/// The files that say how a server recovers.
pub(super) const FILES: [&str; 3] = [AUTO_CONFIGURATION_FILE, SignalFile::Recovery.name(), SignalFile::Standby.name()];

/// What of a directory's permissions the files in it get.
const READING_AND_WRITING: u32 = 0o644;

/// Makes sure that the settings that are asked for make sense.
///
/// # Errors
/// [`ErrorKind::OptionInvalid`].
pub(super) fn check(settings: &RestoreSettings) -> Result<()> {
    let kind = match settings.target {
        RestoreTarget::Preserve => "preserve",
        RestoreTarget::None => "none",
        _ => return recovery(settings).map_or(Ok(()), |recovery| recovery.settings().map(drop).map_err(invalid)),
    };
    if !settings.archive_off {
        return Ok(());
    }
    let message = format!("option 'archive-mode' = 'off' is not valid with option 'type' = '{kind}'");
    Err(Error::new(ErrorKind::OptionInvalid, message).hint("this type of restore writes no settings"))
}

/// The recovery that is asked for; none where the settings in the data directory stay, or are not needed.
pub(super) fn recovery(settings: &RestoreSettings) -> Option<Recovery> {
    let exclusive = settings.exclusive;
    let target = match &settings.target {
        RestoreTarget::None | RestoreTarget::Preserve => return None,
        RestoreTarget::Default | RestoreTarget::Unspecified => RecoveryTarget::EndOfArchive,
        RestoreTarget::Standby => RecoveryTarget::Standby,
        RestoreTarget::Immediate => RecoveryTarget::Immediate,
        RestoreTarget::Time { text, .. } => RecoveryTarget::Time { time: text.clone(), exclusive },
        RestoreTarget::Transaction(xid) => RecoveryTarget::Transaction { id: u64::from(*xid), exclusive },
        RestoreTarget::Lsn(lsn) => RecoveryTarget::Lsn { lsn: *lsn, exclusive },
        RestoreTarget::Name(name) => RecoveryTarget::Name(name.clone()),
    };
    Some(Recovery {
        target,
        timeline: settings.timeline,
        action: settings.action,
        restore_command: settings.restore_command.clone(),
        archive_off: settings.archive_off,
        options: settings.recovery_options.clone(),
    })
}

fn invalid(error: InvalidSetting) -> Error {
    Error::new(ErrorKind::OptionInvalid, error.to_string()).source(error)
}

/// Says that a server will not get the WAL that it needs, if nothing tells it to.
pub(super) fn warn_if_none(settings: &RestoreSettings, document: &ManifestDocument) {
    let directory = &settings.data_directory;
    let has = |name: &str| directory.join(name).exists();
    let is_told = match settings.target {
        RestoreTarget::Preserve => has(SignalFile::Recovery.name()) || has(SignalFile::Standby.name()),
        RestoreTarget::None => false,
        _ => true,
    };
    if settings.target == RestoreTarget::Preserve && !has(AUTO_CONFIGURATION_FILE) {
        tracing::warn!(
            "recovery type is preserve but recovery file does not exist at '{}'",
            directory.join(AUTO_CONFIGURATION_FILE).display()
        );
    }
    if !is_told && document.online {
        tracing::warn!(
            "backup set {} was taken online, and without recovery settings PostgreSQL does not get the WAL that it needs\nHINT: use another --type, or put the WAL into pg_wal by hand",
            document.label
        );
    }
}

/// Writes the settings with which the server recovers to `settings`, `postgresql.auto.conf` or where it leads, and
/// beside `signal` the file that tells the server to. The files get the owner of `like`, and its permissions.
///
/// # Errors
/// What the file system says.
pub(super) fn write(
    recovery: Option<&Recovery>,
    settings: &Place,
    signal: impl Fn(&str) -> Place,
    like: &Place,
) -> Result<()> {
    let existing = match settings.open(OFlags::RDONLY) {
        Ok(mut file) => {
            let mut existing = Vec::new();
            io::Read::read_to_end(&mut file, &mut existing)?;
            existing
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound && recovery.is_none() => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            tracing::warn!("{AUTO_CONFIGURATION_FILE} does not exist -- creating to contain recovery settings");
            Vec::new()
        }
        Err(error) => return Err(error.into()),
    };
    let now = clock::now().to_zoned(TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S").to_string();
    let content = auto_configuration(&existing, recovery, &now).map_err(invalid)?;
    tracing::info!("write updated {}", settings.full_path().display());
    write_like(settings, &content, like)?;
    match recovery {
        Some(recovery) => write_like(&signal(recovery.signal_file().name()), b"", like),
        None => Ok(()),
    }
}

/// Writes a file anew.
fn write_like(place: &Place, content: &[u8], like: &Place) -> Result<()> {
    let (directory, name) = place.parent()?;
    directory.remove(name)?;
    let mut file = directory.file(name, OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL, 0o600)?;
    file.write_all(content)?;
    let like = rustix::fs::fstat(&*like.directory()?).map_err(io::Error::from)?;
    if rustix::process::geteuid().is_root() {
        let owner = (Uid::from_raw(like.st_uid), Gid::from_raw(like.st_gid));
        rustix::fs::fchown(file.file(), Some(owner.0), Some(owner.1)).map_err(io::Error::from)?;
    }
    rustix::fs::fchmod(file.file(), Mode::from_raw_mode(like.st_mode & READING_AND_WRITING))
        .map_err(io::Error::from)?;
    Ok(())
}
