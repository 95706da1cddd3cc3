//! Sessions: who is at work on a stanza. Section 4.3 of `docs/format.md`.

mod liveness;

use jiff::Timestamp;
use pgark_storage::{EntryKind, Key, PutMode};
use pgark_system::process::Machine;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use ulid::Ulid;

pub use self::liveness::{DEAD_AFTER, Sessions, TAKEN_OVER_AFTER, Turn, is_alive};
use crate::container::ObjectKind;
use crate::document;
use crate::error::{Error, Malformed, Result};
use crate::names::{self, Label, StanzaName};
use crate::repository::Repository;

/// What a session does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SessionKind {
    /// Takes a backup: writes packs, and points at packs that are there.
    Backup,
    /// Removes what retention does not ask for, and garbage. It points at nothing.
    Expire,
    /// Reads the backups that it relies on, and nothing else.
    Restore,
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
    /// Where that process can be looked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine: Option<Machine>,
    /// When it began.
    pub started: Timestamp,
    /// When it last said that it is alive.
    pub renewed: Timestamp,
    /// The backups whose packs it relies on.
    pub relies_on: Vec<Label>,
    /// The last entry of the log of garbage that it has taken into account, 0 where there was none. As long as it has
    /// none, it has not read the log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seen: Option<u64>,
    /// The sessions that ended without a manifest and whose packs it may point at.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub adopts: Vec<Ulid>,
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
    /// Until it has [taken the log of garbage into account](Session::note_seen), no pack is removed from the stanza.
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
        let document = SessionDocument {
            id,
            kind,
            host,
            process: std::process::id(),
            machine: Machine::of_this_process(),
            started: now,
            renewed: now,
            relies_on,
            seen: None,
            adopts: Vec::new(),
        };
        Self::begin_as(repository, stanza, document)
    }

    /// Begins a session that says this of itself.
    ///
    /// # Errors
    /// Where it can't be written.
    pub fn begin_as(
        repository: &'repository Repository,
        stanza: &StanzaName,
        document: SessionDocument,
    ) -> Result<Self> {
        let session = Self { repository, name: names::session(stanza, document.id)?, document };
        session.write(PutMode::Create)?;
        Ok(session)
    }

    /// The session that said this of itself the last time, which goes on.
    ///
    /// # Errors
    /// Where it can't have a name.
    pub fn resume(repository: &'repository Repository, stanza: &StanzaName, document: SessionDocument) -> Result<Self> {
        Ok(Self { repository, name: names::session(stanza, document.id)?, document })
    }

    /// The session's identity.
    pub fn id(&self) -> Ulid {
        self.document.id
    }

    /// What the session says of itself.
    pub fn document(&self) -> &SessionDocument {
        &self.document
    }

    /// Says that the session is alive.
    ///
    /// # Errors
    /// [`Error::SessionLost`] where it was taken for dead and removed meanwhile; or where it can't be written.
    pub fn renew(&mut self) -> Result<()> {
        if self.repository.storage().head(&self.name)?.is_none() {
            return Err(Error::SessionLost { object: self.name.to_string() });
        }
        self.document.renewed = pgark_system::clock::now();
        self.write(PutMode::Replace)
    }

    /// Says that the session has taken the log of garbage into account up to the entry `seen`, 0 where there is none.
    ///
    /// # Errors
    /// As [`Session::renew`].
    pub fn note_seen(&mut self, seen: u64) -> Result<()> {
        self.document.seen = Some(seen);
        self.renew()
    }

    /// Says on which backups the session relies.
    ///
    /// # Errors
    /// As [`Session::renew`].
    pub fn rely_on(&mut self, backups: Vec<Label>) -> Result<()> {
        self.document.relies_on = backups;
        self.renew()
    }

    /// Says of which sessions the session may point at packs. It must not point at one before.
    ///
    /// # Errors
    /// As [`Session::renew`].
    pub fn adopt(&mut self, sessions: Vec<Ulid>) -> Result<()> {
        self.document.adopts = sessions;
        self.renew()
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

/// A session as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredSession {
    /// What it says of itself.
    pub document: SessionDocument,
    /// When that was written, by the storage's clock.
    pub modified: Timestamp,
}

/// The sessions of a stanza.
///
/// # Errors
/// Where they can't be read. One that ends meanwhile is left out.
pub fn sessions(repository: &Repository, stanza: &StanzaName) -> Result<Vec<SessionDocument>> {
    Ok(stored_sessions(repository, stanza)?.into_iter().map(|stored| stored.document).collect())
}

/// The sessions of a stanza, each with the time when it was last renewed by the storage's clock.
///
/// # Errors
/// As [`sessions`].
pub fn stored_sessions(repository: &Repository, stanza: &StanzaName) -> Result<Vec<StoredSession>> {
    let directory = names::sessions(stanza)?;
    let mut sessions = Vec::new();
    for entry in repository.storage().list_directory(Some(&directory))? {
        let (Some(id), EntryKind::Object(info)) = (names::ulid(&entry.name), &entry.kind) else { continue };
        let name = names::session(stanza, id)?;
        match read(repository, &name) {
            Ok(document) => sessions.push(StoredSession { document, modified: info.modified }),
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error),
        }
    }
    Ok(sessions)
}

/// The document of the session that is the object `name`.
pub(crate) fn read(repository: &Repository, name: &Key) -> Result<SessionDocument> {
    known(name, document::read(repository.storage(), repository.vault(), ObjectKind::Session, name)?)
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
