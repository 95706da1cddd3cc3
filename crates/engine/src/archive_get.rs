//! Getting one WAL file out of the repositories.

use std::io::Write;
use std::path::{Path, PathBuf};

use pgark_postgres::control::ControlFile;
use pgark_postgres::wal::name::WalFileName;
use pgark_repository::StanzaName;
use pgark_repository::wal::Archive;
use pgark_system::durable::{DurableFile, Existing};
use pgark_system::termination;

use crate::archive_push::combine;
use crate::error::{Error, ErrorKind, Result};
use crate::stanza::{Identity, OpenRepository, RepositorySettings, Stanza};
use crate::wal_path::wal_path;

/// What is wanted.
#[derive(Debug)]
pub struct ArchiveGetSettings {
    /// The stanza.
    pub stanza: StanzaName,
    /// The WAL file: `%f`.
    pub file: String,
    /// Where it is to go: `%p`.
    pub destination: PathBuf,
    /// The data directory, to which `destination` may be relative.
    pub data_directory: PathBuf,
    /// The repositories, in the order in which they are asked.
    pub repositories: Vec<RepositorySettings>,
}

/// What has become of the wish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gotten {
    /// The file is at its destination; it came from this repository.
    From(u32),
    /// The file is at its destination; it had been fetched into the spool.
    FromSpool,
    /// Every repository was asked, answered, and has no such file.
    Absent,
}

/// Fetches the file from the first repository that has it.
///
/// PostgreSQL takes an absent segment for the end of the archive and opens the database there. So [`Gotten::Absent`] is
/// said only if every repository was read and proved to lack the file; anything else is an error.
///
/// # Errors
/// What kept a repository from answering, if none of the others has the file.
pub fn run(settings: &ArchiveGetSettings) -> Result<Gotten> {
    let name = name_of(&settings.file)?;
    let identity = Identity::of(&ControlFile::read(&settings.data_directory)?);
    let destination = wal_path(&settings.destination, &settings.data_directory)?;
    let mut errors = Vec::new();
    for repository in &settings.repositories {
        termination::check()?;
        match get(settings, repository, identity, name, &destination) {
            Ok(true) => {
                warn_of(&errors);
                tracing::info!("found {name} in the repo{} archive", repository.key);
                return Ok(Gotten::From(repository.key));
            }
            Ok(false) => {}
            Err(error) => errors.push((repository.key, error)),
        }
    }
    combine(errors)?;
    tracing::info!("unable to find {name} in the archive");
    Ok(Gotten::Absent)
}

/// The WAL file that is meant.
///
/// # Errors
/// [`ErrorKind::ParameterInvalid`] where it is not the name of one.
pub(crate) fn name_of(file: &str) -> Result<WalFileName> {
    file.parse().map_err(|error| {
        Error::new(ErrorKind::ParameterInvalid, format!("'{file}' can't be in the archive"))
            .hint("pass the name of a WAL file: archive-get %f %p")
            .source(error)
    })
}

fn warn_of(errors: &[(u32, Error)]) {
    for (key, error) in errors {
        tracing::warn!("repo{key}: {}", error.full_message());
    }
}

/// Whether the repository has the file, which is at its destination then.
fn get(
    settings: &ArchiveGetSettings,
    from: &RepositorySettings,
    identity: Identity,
    name: WalFileName,
    destination: &Path,
) -> Result<bool> {
    get_from(&from.open_for(&settings.stanza)?, &settings.stanza, identity, name, destination)
}

/// Whether an open repository has the file, which is at its destination then.
///
/// # Errors
/// [`ErrorKind::ArchiveMismatch`] where the stanza never had this cluster; damage, or the storage's error.
pub(crate) fn get_from(
    repository: &OpenRepository,
    stanza: &StanzaName,
    identity: Identity,
    name: WalFileName,
    destination: &Path,
) -> Result<bool> {
    let stanza = Stanza::open(repository, stanza)?;
    let Some(cluster) = stanza.cluster_of(identity)? else {
        let message = format!(
            "stanza '{}' on repo{} has no archive of PostgreSQL {}, system-id {}",
            stanza.name(),
            repository.key,
            identity.version,
            identity.system_id
        );
        return Err(Error::new(ErrorKind::ArchiveMismatch, message).hint("is this the correct stanza?"));
    };
    match fetch(&stanza.archive(&cluster), name, destination) {
        Ok(()) => Ok(true),
        Err(Fetch::Repository(error)) if error.is_not_found() => Ok(false),
        Err(Fetch::Repository(error)) => Err(error.into()),
        Err(Fetch::Destination(error)) => Err(error.into()),
    }
}

/// What went wrong: only the repository can say that the file is absent.
enum Fetch {
    Repository(pgark_repository::Error),
    Destination(std::io::Error),
}

fn fetch(archive: &Archive<'_>, name: WalFileName, destination: &Path) -> Result<(), Fetch> {
    let file = name.to_string();
    let create = || DurableFile::create(destination, 0o600).map_err(Fetch::Destination);
    let mut target;
    match name {
        WalFileName::Segment(_) | WalFileName::Partial(_) => {
            let segment = archive.whole_segment(&file).map_err(Fetch::Repository)?;
            target = create()?;
            for data in segment.data() {
                target.write_all(&data.map_err(Fetch::Repository)?).map_err(Fetch::Destination)?;
            }
        }
        WalFileName::History(_) | WalFileName::BackupHistory { .. } => {
            let content = archive.history(&file).map_err(Fetch::Repository)?;
            target = create()?;
            target.write_all(&content).map_err(Fetch::Destination)?;
        }
    }
    // Until the file is whole it has another name, so that PostgreSQL never replays half a segment. After a power cut
    // PostgreSQL asks again for what it had not made durable itself.
    target.commit_unsynced(Existing::Replace).map_err(Fetch::Destination)
}
