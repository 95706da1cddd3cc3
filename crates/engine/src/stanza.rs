//! Opening what the commands work on: repositories, stanzas, and the cluster of a stanza that is meant.

use std::borrow::Cow;
use std::sync::Arc;

use pgark_postgres::Version;
use pgark_postgres::control::ControlFile;
use pgark_repository::repository::Cluster;
use pgark_repository::wal::Archive;
use pgark_repository::{Encryption, Repository, StanzaName};
use pgark_storage::{Storage, StorageSettings};

use crate::error::{Error, ErrorKind, Result};

/// What to do where a stanza has another cluster than PostgreSQL.
pub(crate) const UPGRADE_HINT: &str = "if PostgreSQL was upgraded, run stanza-upgrade";

/// Where a repository is and how it is encrypted.
#[derive(Debug)]
pub struct RepositorySettings {
    /// Which of the configured repositories, from 1: the number in `repo1-path`.
    pub key: u32,
    /// Where it is.
    pub storage: StorageSettings,
    /// How it is encrypted.
    pub encryption: Encryption,
}

/// An open repository.
#[derive(Debug)]
pub struct OpenRepository {
    /// Which of the configured repositories.
    pub key: u32,
    /// The repository.
    pub repository: Repository,
    /// The newest cluster of the stanza that it was opened for.
    newest: Option<(StanzaName, Option<Cluster>)>,
}

impl RepositorySettings {
    /// Opens the storage that the repository is in, or may be in.
    ///
    /// # Errors
    /// Where there is no such storage, or it can't be read.
    pub fn storage(&self) -> Result<Arc<dyn Storage>> {
        Ok(self.storage.open()?)
    }

    /// Opens the repository.
    ///
    /// # Errors
    /// Where it does not exist, can't be read, or does not open with the pass phrase.
    pub fn open(&self) -> Result<OpenRepository> {
        let repository = Repository::open(self.storage()?, &self.encryption)?;
        Ok(OpenRepository { key: self.key, repository, newest: None })
    }

    /// Opens the repository to work on one stanza: what it takes to open that is asked for at once, and nothing else.
    ///
    /// # Errors
    /// As [`RepositorySettings::open`].
    pub fn open_for(&self, stanza: &StanzaName) -> Result<OpenRepository> {
        let (repository, newest) = Repository::open_for(self.storage()?, &self.encryption, stanza)?;
        Ok(OpenRepository { key: self.key, repository, newest: Some((stanza.clone(), newest)) })
    }
}

/// Which cluster a data directory or a WAL file is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// PostgreSQL's version.
    pub version: Version,
    /// PostgreSQL's system identifier.
    pub system_id: u64,
}

impl Identity {
    /// The cluster that a control file is of.
    pub fn of(control: &ControlFile) -> Self {
        Self { version: control.version, system_id: control.system_identifier }
    }

    /// Whether the stanza's cluster is this one.
    pub fn is(&self, cluster: &Cluster) -> bool {
        cluster.version == self.version.to_string() && cluster.system_id == self.system_id.to_string()
    }
}

/// A stanza of an open repository, with the clusters that it has had.
#[derive(Debug)]
pub struct Stanza<'repository> {
    repository: &'repository Repository,
    key: u32,
    name: StanzaName,
    /// The clusters that it has had, oldest first, or only the newest.
    clusters: Vec<Cluster>,
    has_all: bool,
}

impl<'repository> Stanza<'repository> {
    /// Opens a stanza.
    ///
    /// # Errors
    /// [`ErrorKind::FileMissing`] where the repository has no such stanza; or the storage's error.
    pub fn open(repository: &'repository OpenRepository, name: &StanzaName) -> Result<Self> {
        let (clusters, has_all) = match &repository.newest {
            Some((stanza, newest)) if stanza == name => (newest.iter().cloned().collect(), false),
            _ => (repository.repository.clusters(name)?, true),
        };
        if clusters.is_empty() {
            return Err(missing_stanza(repository, name));
        }
        Ok(Self { repository: &repository.repository, key: repository.key, name: name.clone(), clusters, has_all })
    }

    /// The repository that it is in.
    pub fn repository(&self) -> &'repository Repository {
        self.repository
    }

    /// Which of the configured repositories it is in.
    pub fn key(&self) -> u32 {
        self.key
    }

    /// Its name.
    pub fn name(&self) -> &StanzaName {
        &self.name
    }

    /// The clusters that it has had, oldest first; there is one at least.
    ///
    /// # Errors
    /// Damage, or the storage's error, where the repository was opened for the stanza and has read only the newest.
    pub fn clusters(&self) -> Result<Cow<'_, [Cluster]>> {
        if self.has_all {
            return Ok(Cow::Borrowed(&self.clusters));
        }
        Ok(Cow::Owned(self.repository.clusters(&self.name)?))
    }

    /// The newest of its clusters that is this one.
    ///
    /// # Errors
    /// As [`Stanza::clusters`].
    pub fn cluster_of(&self, identity: Identity) -> Result<Option<Cluster>> {
        if identity.is(self.current()) {
            return Ok(Some(self.current().clone()));
        }
        Ok(self.clusters()?.iter().rev().find(|cluster| identity.is(cluster)).cloned())
    }

    /// The cluster that it has now.
    pub fn current(&self) -> &Cluster {
        self.clusters.last().expect("a stanza is opened only with a cluster")
    }

    /// The archive of one of its clusters.
    pub fn archive(&self, cluster: &Cluster) -> Archive<'repository> {
        Archive::new(self.repository, self.name.clone(), cluster.archive())
    }

    /// The current cluster, which must be this one.
    ///
    /// # Errors
    /// `kind`, where it is another.
    pub fn expect_current(&self, identity: Identity, kind: ErrorKind, what: &str) -> Result<&Cluster> {
        let current = self.current();
        if identity.is(current) {
            return Ok(current);
        }
        let message = format!(
            "{what} version {}, system-id {} does not match stanza '{}' on repo{} version {}, system-id {}",
            identity.version, identity.system_id, self.name, self.key, current.version, current.system_id
        );
        Err(Error::new(kind, message).hint("is this the correct stanza?").hint(UPGRADE_HINT))
    }
}

fn missing_stanza(repository: &OpenRepository, name: &StanzaName) -> Error {
    let message = format!(
        "stanza '{name}' does not exist on repo{} ({})",
        repository.key,
        repository.repository.storage().describe()
    );
    Error::new(ErrorKind::FileMissing, message)
        .hint("has a stanza-create been performed?")
        .hint("is the option --stanza, or the section in the configuration file, spelt as it was then?")
}
