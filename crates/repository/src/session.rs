//! Sessions: who is at work on a stanza. Section 4.3 of `docs/format.md`.

use jiff::Timestamp;
use pgark_storage::{Key, PutMode};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use ulid::Ulid;

use crate::container::ObjectKind;
use crate::document;
use crate::error::{Error, Malformed, Result};
use crate::names::{self, Label, StanzaName};
use crate::repository::Repository;

/// What a session does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SessionKind {
    /// Takes a backup.
    Backup,
}

/// The document of a session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionDocument {
    /// The session's identity, also in the names of the packs that it writes.
    pub id: Ulid,
    /// What it does.
    pub kind: SessionKind,
    /// The host it runs on.
    pub host: String,
    /// Its process id there.
    pub process: u32,
    /// When it began.
    pub started: Timestamp,
    /// When it last said that it is alive.
    pub renewed: Timestamp,
    /// The backups whose packs it relies on.
    pub relies_on: Vec<Label>,
}

/// A session under way. It is ended with [`Session::end`]; one that is dropped stays in the repository, as after a
/// kill.
#[derive(Debug)]
pub struct Session<'repository> {
    repository: &'repository Repository,
    name: Key,
    document: SessionDocument,
}

impl<'repository> Session<'repository> {
    /// Begins a session.
    ///
    /// # Errors
    /// Where it can't be written.
    pub fn begin(
        repository: &'repository Repository,
        stanza: &StanzaName,
        kind: SessionKind,
        host: String,
        relies_on: Vec<Label>,
    ) -> Result<Self> {
        repository.check_writable()?;
        let id = pgark_system::random::ulid().map_err(Error::Random)?;
        let now = pgark_system::clock::now();
        let document =
            SessionDocument { id, kind, host, process: std::process::id(), started: now, renewed: now, relies_on };
        let session = Self { repository, name: names::session(stanza, id)?, document };
        session.write(PutMode::Create)?;
        Ok(session)
    }

    /// The session's identity.
    pub fn id(&self) -> Ulid {
        self.document.id
    }

    /// Says that the session is alive.
    ///
    /// # Errors
    /// Where it can't be written.
    pub fn renew(&mut self) -> Result<()> {
        self.document.renewed = pgark_system::clock::now();
        self.write(PutMode::Replace)
    }

    /// Ends the session.
    ///
    /// # Errors
    /// Where it can't be deleted.
    pub fn end(self) -> Result<()> {
        Ok(self.repository.storage().delete(&self.name)?)
    }

    fn write(&self, mode: PutMode) -> Result<()> {
        let (storage, vault) = (self.repository.storage(), self.repository.vault());
        document::write(storage, vault, ObjectKind::Session, &self.name, &self.document, mode)
    }
}

/// The sessions of a stanza.
///
/// # Errors
/// Where they can't be read. One that ends meanwhile is left out.
pub fn sessions(repository: &Repository, stanza: &StanzaName) -> Result<Vec<SessionDocument>> {
    let directory = names::sessions(stanza)?;
    let mut sessions = Vec::new();
    for entry in repository.storage().list_directory(Some(&directory))? {
        let Some(id) = names::ulid(&entry.name) else { continue };
        let name = names::session(stanza, id)?;
        match document::read(repository.storage(), repository.vault(), ObjectKind::Session, &name) {
            Ok(document) => sessions.push(known(&name, document)?),
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error),
        }
    }
    Ok(sessions)
}

/// The document of a session, unless a newer program does there what this one does not know.
fn known(name: &Key, document: Value) -> Result<SessionDocument> {
    #[derive(Deserialize)]
    struct Needs {
        kind: String,
    }
    let unreadable =
        |error: serde_json::Error| Malformed::new(format!("its document can't be read: {error}")).in_object(name);
    let Needs { kind } = Needs::deserialize(&document).map_err(unreadable)?;
    if serde_json::from_value::<SessionKind>(Value::from(kind.as_str())).is_err() {
        let what = format!("it is a session of kind '{kind}'");
        return Err(Error::Unsupported { object: name.to_string(), what });
    }
    SessionDocument::deserialize(document).map_err(unreadable)
}
