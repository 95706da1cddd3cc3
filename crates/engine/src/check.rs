//! Checking that WAL gets from the server into every repository.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use fs_err as fs;
use pgark_postgres::client::{ArchiveMode, ClusterFacts, ConnectSettings, Connection};
use pgark_postgres::control::ControlFile;
use pgark_postgres::wal::name::SegmentName;
use pgark_repository::StanzaName;
use pgark_repository::wal::{Archive, ContentHash};
use pgark_system::clock;

use crate::error::{Error, ErrorKind, Result};
use crate::info::{self, MissingWal};
use crate::sidecar::{SidecarSettings, resolve};
use crate::stanza::{Identity, RepositorySettings, Stanza};

/// The extension of PostgresML, which has models in a directory outside the data directory.
const EXTENSION_WITH_MODELS: &str = "pgml";

/// How often the archive is asked for a segment.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// What is to be checked.
#[derive(Debug)]
pub struct CheckSettings {
    /// The stanza.
    pub stanza: StanzaName,
    /// The data directory.
    pub data_directory: PathBuf,
    /// The running server.
    pub connection: ConnectSettings,
    /// The repositories.
    pub repositories: Vec<RepositorySettings>,
    /// The directories outside the data directory that are backed up with it.
    pub sidecars: Vec<SidecarSettings>,
    /// Whether to check that WAL is archived.
    pub archive_check: bool,
    /// Whether to check that `archive_mode` is one that serves.
    pub archive_mode_check: bool,
    /// How long to wait for the WAL segment.
    pub archive_timeout: Duration,
}

/// A segment that was archived, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckedSegment {
    /// The segment.
    pub segment: String,
    /// The repository that has it.
    pub repository: u32,
}

/// Checks the repositories and the server, switches to a new WAL segment and waits until each repository has the old
/// one.
///
/// # Errors
/// The first thing that is wrong.
pub fn run(settings: &CheckSettings) -> Result<Vec<CheckedSegment>> {
    let control = ControlFile::read(&settings.data_directory)?;
    let mut connection = Connection::open(&settings.connection)?;
    let target = connection.target().clone();
    connection.facts().ensure_same(&target, &settings.data_directory, &control)?;
    ensure_archiving(connection.facts(), settings.archive_check, settings.archive_mode_check)?;

    check_sidecars(settings, &mut connection)?;

    let repositories = settings.repositories.iter().map(RepositorySettings::open).collect::<Result<Vec<_>>>()?;
    let mut stanzas = Vec::new();
    for repository in &repositories {
        tracing::info!("check repo{} configuration (primary)", repository.key);
        let stanza = Stanza::open(repository, &settings.stanza)?;
        stanza.expect_current(Identity::of(&control), ErrorKind::FileInvalid, "PostgreSQL")?;
        stanzas.push(stanza);
    }
    let checked = check_archives(settings, &stanzas, &mut connection);
    // Only now: what is missing at the end of an archive shows when there is a segment behind it.
    for stanza in &stanzas {
        warn_of_missing_wal(stanza);
    }
    checked
}

/// Switches to a new WAL segment, and waits until each repository has the old one.
fn check_archives(
    settings: &CheckSettings,
    stanzas: &[Stanza<'_>],
    connection: &mut Connection,
) -> Result<Vec<CheckedSegment>> {
    if !settings.archive_check {
        return Ok(Vec::new());
    }
    if connection.facts().in_recovery {
        tracing::info!("switch wal not performed because no primary was found");
        return Ok(Vec::new());
    }
    let segment = connection.switch_wal()?;
    // Read at once: when it is archived, the server may make another segment of the file.
    let path = settings.data_directory.join("pg_wal").join(segment.to_string());
    let archives: Vec<_> = stanzas.iter().map(|stanza| (stanza.key(), stanza.archive(stanza.current()))).collect();
    let hashes = archives.iter().map(|(_, archive)| hash_segment(archive, &path)).collect::<Result<Vec<_>>>()?;
    let mut checked = Vec::new();
    for ((repository, archive), hash) in archives.iter().zip(&hashes) {
        tracing::info!("check repo{repository} archive for WAL (primary)");
        wait_for_segment(archive, segment, settings.archive_timeout)?;
        ensure_same(archive, segment, hash.as_ref())?;
        tracing::info!("WAL segment {segment} successfully archived to '{}' on repo{repository}", archive.id());
        checked.push(CheckedSegment { segment: segment.to_string(), repository: *repository });
    }
    Ok(checked)
}

/// Makes sure that sidecars are there, and tells of a cluster that should have one.
fn check_sidecars(settings: &CheckSettings, connection: &mut Connection) -> Result<()> {
    for sidecar in &settings.sidecars {
        resolve(sidecar)?;
    }
    if !settings.sidecars.is_empty() {
        return Ok(());
    }
    let names: Vec<String> = connection.databases_to_connect_to()?;
    for database in names {
        let there = ConnectSettings { database: database.clone(), ..settings.connection.clone() };
        match Connection::open(&there).and_then(|mut connection| connection.has_extension(EXTENSION_WITH_MODELS)) {
            Ok(true) => {
                tracing::warn!(
                    "extension '{EXTENSION_WITH_MODELS}' is installed in database '{database}', and no backup has the models \
                     that it has fetched: they lie outside the data directory\nHINT: set sidecar-huggingface-path to the \
                     directory that they are in, for example /var/lib/postgresql/.cache/huggingface"
                );
                return Ok(());
            }
            Ok(false) => {}
            Err(error) => {
                tracing::debug!(
                    "extensions of database '{database}' are not known: {}",
                    Error::from(error).full_message()
                );
            }
        }
    }
    Ok(())
}

/// Warns of WAL that no recovery gets past.
fn warn_of_missing_wal(stanza: &Stanza<'_>) {
    let missing = match info::missing_since_newest_backup(stanza) {
        Ok(missing) => missing,
        Err(error) => {
            tracing::warn!("unable to look for missing WAL on repo{}: {}", stanza.key(), error.full_message());
            return;
        }
    };
    for MissingWal { first, last, count, .. } in missing {
        tracing::warn!(
            "WAL is missing on repo{}: {first} to {last}, segments: {count}\nHINT: recovery can't get past it: take a backup now\nHINT: was it dropped because more waited than archive-push-queue-max? PostgreSQL's log tells",
            stanza.key()
        );
    }
}

/// Makes sure that the server archives its WAL at all.
pub(crate) fn ensure_archiving(facts: &ClusterFacts, archive_check: bool, archive_mode_check: bool) -> Result<()> {
    if !archive_check {
        return Ok(());
    }
    match facts.archive_mode {
        ArchiveMode::Off => {
            return Err(Error::new(ErrorKind::ArchiveDisabled, "archive_mode must be enabled")
                .hint("set archive_mode = on and archive_command, and restart PostgreSQL"));
        }
        ArchiveMode::Always if archive_mode_check => {
            return Err(Error::new(ErrorKind::FeatureNotSupported, "archive_mode=always not supported").hint(
                "a standby would push what its primary pushes: set archive_mode = on, or --no-archive-mode-check",
            ));
        }
        ArchiveMode::Always | ArchiveMode::On => {}
    }
    let by_library = facts.archive_library.as_deref().is_some_and(|library| !library.is_empty());
    if by_library || facts.archive_command.contains("archive-push") {
        return Ok(());
    }
    let message = format!("archive_command '{}' must contain 'archive-push'", facts.archive_command);
    Err(Error::new(ErrorKind::ArchiveCommandInvalid, message)
        .hint("set archive_command = 'pgark --stanza=NAME archive-push %p' and reload PostgreSQL"))
}

/// The hash of a segment in `pg_wal`, as the archive knows it, if the server has not removed it yet.
pub(crate) fn hash_segment(archive: &Archive<'_>, path: &Path) -> Result<Option<ContentHash>> {
    match fs::File::open(path).and_then(|file| archive.hash_content(file)) {
        Ok(hash) => Ok(Some(hash)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Makes sure that the archive has the bytes with this hash under the name of the segment.
fn ensure_same(archive: &Archive<'_>, segment: SegmentName, hash: Option<&ContentHash>) -> Result<()> {
    let archived = archive.segment(&segment.to_string())?;
    if hash.is_none_or(|hash| archived.has_content(hash)) {
        return Ok(());
    }
    Err(foreign_wal(&format!("archive {} has another WAL segment {segment} than pg_wal", archive.id())))
}

/// The archive has the WAL of another cluster, or of another life of this one, under the names of this cluster's.
pub(crate) fn foreign_wal(message: &str) -> Error {
    Error::new(ErrorKind::ArchiveDuplicate, message)
        .hint(
            "was the cluster set back to an older copy of its data directory, such as a snapshot of a disk? what it has \
             written since has the names of WAL that was archived before",
        )
        .hint("to keep what the cluster has now, archive to a new stanza (stanza-create), and take a full backup there")
        .hint("to go back to what the archive has, restore the cluster")
}

/// Waits until a segment is in the archive.
///
/// # Errors
/// [`ErrorKind::ArchiveTimeout`]; or the storage's error.
pub(crate) fn wait_for_segment(archive: &Archive<'_>, segment: SegmentName, timeout: Duration) -> Result<()> {
    let name = segment.to_string();
    let found = clock::wait_for(timeout, POLL_INTERVAL, || Ok(archive.contains(&name)?.then_some(())));
    let found: Result<Option<()>> = found;
    found?.ok_or_else(|| {
        let message = format!("WAL segment {segment} was not archived before the {}ms timeout", timeout.as_millis());
        Error::new(ErrorKind::ArchiveTimeout, message)
            .hint("check the archive_command to ensure that all options are correct (especially --stanza)")
            .hint("check the PostgreSQL server log for errors")
            .hint("run the 'stanza-create' command if it was not run before archiving began")
            .hint("run the 'start' command if the stanza was stopped")
    })
}
