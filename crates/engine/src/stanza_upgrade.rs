//! Telling a stanza of the cluster that `pg_upgrade` has made.

use std::path::PathBuf;

use pgark_postgres::client::ConnectSettings;
use pgark_postgres::control::ControlFile;
use pgark_repository::StanzaName;
use pgark_repository::repository::Cluster;

use crate::error::Result;
use crate::lock::{self, Locks};
use crate::stanza::{Identity, RepositorySettings, Stanza};
use crate::stanza_create::{cluster, read_control_file};

/// The stanza that is to be upgraded.
#[derive(Debug)]
pub struct StanzaUpgradeSettings {
    /// The stanza.
    pub stanza: StanzaName,
    /// The data directory of the new cluster.
    pub data_directory: PathBuf,
    /// The running server, if it is to be asked as well.
    pub connection: Option<ConnectSettings>,
    /// The repositories.
    pub repositories: Vec<RepositorySettings>,
    /// Where lock files are.
    pub locks: Locks,
}

/// Makes the cluster of the data directory the current one of the stanza, in every repository. The clusters before it
/// stay, with their backups and their archives. Where it is the current one already, that is success.
///
/// # Errors
/// [`crate::ErrorKind::FileMissing`] where there is no such stanza; or what the storage or the server says.
pub fn run(settings: &StanzaUpgradeSettings) -> Result<()> {
    let control = read_control_file(&settings.data_directory, settings.connection.as_ref())?;
    for repository in &settings.repositories {
        let _lock = lock::acquire(&settings.locks, &settings.stanza, "backup", repository.key, "stanza-upgrade")?;
        upgrade(&settings.stanza, repository, &control)?;
    }
    Ok(())
}

fn upgrade(name: &StanzaName, settings: &RepositorySettings, control: &ControlFile) -> Result<()> {
    tracing::info!("stanza-upgrade for stanza '{name}' on repo{}", settings.key);
    let repository = settings.open()?;
    let stanza = Stanza::open(&repository, name)?;
    let Some(next) = next_cluster(&stanza.clusters()?, control) else {
        tracing::info!("stanza '{name}' on repo{} is already up to date", settings.key);
        return Ok(());
    };
    Ok(stanza.repository().add_cluster(name, &next)?)
}

/// The cluster to add to those that the stanza has had, if it is not the last of them. One that comes back, as after an
/// upgrade that was given up, goes on with the archive that it had, so that recovery finds all its WAL in one place.
fn next_cluster(known: &[Cluster], control: &ControlFile) -> Option<Cluster> {
    let identity = Identity::of(control);
    let last = known.last()?;
    if identity.is(last) {
        return None;
    }
    let before = known.iter().find(|cluster| identity.is(cluster));
    let archive_of = before.map(|before| before.archive().number);
    Some(Cluster { archive_of, ..cluster(last.id + 1, control) })
}
