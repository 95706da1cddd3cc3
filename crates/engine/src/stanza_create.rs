//! Creating a stanza, and the repository it is in.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use pgark_postgres::client::{ConnectSettings, Connection};
use pgark_postgres::control::ControlFile;
use pgark_repository::repository::Cluster;
use pgark_repository::{Repository, StanzaName};
use pgark_storage::probe;
use pgark_system::clock;

use crate::error::{Error, ErrorKind, Result};
use crate::lock::{self, Locks};
use crate::stanza::{Identity, RepositorySettings, UPGRADE_HINT};

/// The stanza that is to be created.
#[derive(Debug)]
pub struct StanzaCreateSettings {
    /// The stanza.
    pub stanza: StanzaName,
    /// The data directory.
    pub data_directory: PathBuf,
    /// The running server, if it is to be asked as well.
    pub connection: Option<ConnectSettings>,
    /// The repositories.
    pub repositories: Vec<RepositorySettings>,
    /// Where lock files are.
    pub locks: Locks,
    /// This program and its version.
    pub program: String,
}

/// Creates the stanza in every repository. Where it exists for this cluster already, that is success.
///
/// # Errors
/// [`ErrorKind::FileInvalid`] where the stanza is another cluster's; or what the storage or the server says.
pub fn run(settings: &StanzaCreateSettings) -> Result<()> {
    let control = read_control_file(&settings.data_directory, settings.connection.as_ref())?;
    for repository in &settings.repositories {
        let _lock = lock::acquire(&settings.locks, &settings.stanza, "backup", repository.key, "stanza-create")?;
        create(settings, repository, &control)?;
    }
    Ok(())
}

/// The control file of a data directory. The server is asked whether it is its own, if there is a connection.
///
/// # Errors
/// Where the file can't be read, or the server is another cluster's.
pub(crate) fn read_control_file(data_directory: &Path, connect: Option<&ConnectSettings>) -> Result<ControlFile> {
    let control = ControlFile::read(data_directory)?;
    if let Some(connect) = connect {
        let connection = Connection::open(connect)?;
        connection.facts().ensure_same(connection.target(), data_directory, &control)?;
    }
    Ok(control)
}

fn create(settings: &StanzaCreateSettings, to: &RepositorySettings, control: &ControlFile) -> Result<()> {
    let (stanza, key) = (&settings.stanza, to.key);
    tracing::info!("stanza-create for stanza '{stanza}' on repo{key}");
    let repository = open_or_create(settings, to)?;
    let identity = Identity::of(control);
    let clusters = repository.clusters(stanza)?;
    match clusters.last() {
        Some(current) if identity.is(current) => {
            tracing::info!("stanza '{stanza}' already exists on repo{key} and is valid");
            Ok(())
        }
        Some(current) => Err(Error::new(
            ErrorKind::FileInvalid,
            format!(
                "stanza '{stanza}' exists on repo{key} for PostgreSQL {}, system-id {}, but the data directory is of PostgreSQL {}, system-id {}",
                current.version, current.system_id, identity.version, identity.system_id
            ),
        )
        .hint("is this the correct stanza?")
        .hint(UPGRADE_HINT)),
        None => Ok(repository.add_cluster(stanza, &cluster(1, control))?),
    }
}

/// The repository. What its storage can do is found out when it is created, and never again.
fn open_or_create(settings: &StanzaCreateSettings, to: &RepositorySettings) -> Result<Repository> {
    let storage = to.storage.create()?;
    match Repository::open(Arc::clone(&storage), &to.encryption) {
        Err(pgark_repository::Error::NoRepository { .. }) => {
            let capabilities = probe(&*storage)?;
            Ok(Repository::create(storage, &to.encryption, capabilities, &settings.program)?)
        }
        opened => Ok(opened?),
    }
}

/// The document of the cluster `id` of a stanza, with an archive of its own.
pub(crate) fn cluster(id: u32, control: &ControlFile) -> Cluster {
    Cluster {
        id,
        version: control.version.to_string(),
        system_id: control.system_identifier.to_string(),
        control_version: control.version.control_version(),
        catalog_version: control.version.catalog_version(),
        created: clock::now(),
        archive_of: None,
    }
}
