//! Opening and creating a repository.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::thread;

use jiff::Timestamp;
use pgark_storage::{Capabilities, ErrorKind, Key, PutMode, Storage, Tail};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use ulid::Ulid;
use zeroize::Zeroizing;

use crate::container::{BlockKind, Container, ObjectKind};
use crate::document;
use crate::error::{Cipher, Error, Malformed, Result};
use crate::key_slot::KeySlot;
use crate::names::{self, ArchiveId, Label, StanzaName};
use crate::vault::{RepositoryId, Vault};

/// How the configuration says a repository is encrypted.
pub enum Encryption {
    /// Not at all.
    None,
    /// With a master key that this pass phrase unwraps.
    Passphrase(Zeroizing<String>),
}

impl std::fmt::Debug for Encryption {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_tuple("Encryption").field(&self.cipher()).finish()
    }
}

impl Encryption {
    fn cipher(&self) -> Cipher {
        match self {
            Self::None => Cipher::None,
            Self::Passphrase(_) => Cipher::Aes256Gcm,
        }
    }
}

/// The document of the descriptor. Section 4.1 of `docs/format.md`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Descriptor {
    /// The version of the format.
    pub format: u32,
    /// The repository's id, 32 hexadecimal digits.
    pub id: String,
    /// How the repository is encrypted.
    pub cipher: Cipher,
    /// What a program must know.
    pub features: Features,
    /// What the storage can do, found by trying.
    pub storage: StorageAbilities,
    /// When the repository was created.
    pub created: Timestamp,
    /// The program that created it.
    pub program: String,
}

/// The feature that a program must know to write: whoever takes a backup heeds the log of garbage, and confirms the
/// backup after its manifest has appeared. Repositories that were created before it was known do not ask for it.
const HEEDS_GARBAGE: &str = "gc";

/// Names of features that a program must know to read, to write, to remove.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Features {
    /// To read anything.
    pub read: Vec<String>,
    /// To write anything.
    pub write: Vec<String>,
    /// To remove anything.
    pub expire: Vec<String>,
}

/// What the storage was found to be able to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StorageAbilities {
    /// Of several writers that create one name, exactly one succeeds.
    pub conditional_create: bool,
}

/// The document of a cluster. Section 4.2 of `docs/format.md`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cluster {
    /// Which of the stanza's clusters, from 1.
    pub id: u32,
    /// PostgreSQL's major version.
    pub version: String,
    /// PostgreSQL's system identifier, in decimal.
    pub system_id: String,
    /// `PG_CONTROL_VERSION`.
    pub control_version: u32,
    /// `CATALOG_VERSION_NO`.
    pub catalog_version: u32,
    /// When the stanza got this cluster.
    pub created: Timestamp,
    /// The number of the cluster whose archive this one goes on with, where the stanza has had the same cluster before;
    /// otherwise it has an archive of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub archive_of: Option<u32>,
}

impl Cluster {
    /// The cluster's archive.
    pub fn archive(&self) -> ArchiveId {
        ArchiveId { version: self.version.clone(), number: self.archive_of.unwrap_or(self.id) }
    }
}

/// An open repository.
#[derive(Debug)]
pub struct Repository {
    storage: Arc<dyn Storage>,
    vault: Vault,
    descriptor: Descriptor,
}

impl Repository {
    /// Opens the repository that is in `storage`.
    ///
    /// # Errors
    /// [`Error::NoRepository`], [`Error::CipherMismatch`], [`Error::WrongPassphrase`], [`Error::Unsupported`], damage,
    /// or the storage's error.
    pub fn open(storage: Arc<dyn Storage>, encryption: &Encryption) -> Result<Self> {
        let (vault, descriptor) = open(&*storage, encryption)?;
        Ok(Self { storage, vault, descriptor })
    }

    /// Opens the repository that is in `storage`, and meanwhile asks for the newest cluster of a stanza, the one that it
    /// has now; `None` where there is no such stanza.
    ///
    /// # Errors
    /// As both.
    pub fn open_for(
        storage: Arc<dyn Storage>,
        encryption: &Encryption,
        stanza: &StanzaName,
    ) -> Result<(Self, Option<Cluster>)> {
        let newest = || -> Result<Option<StoredCluster>> {
            let numbers = cluster_numbers(&*storage, stanza)?;
            numbers.last().map(|number| fetch_cluster(&*storage, stanza, *number)).transpose()
        };
        let (opened, stored) = beside(|| open(&*storage, encryption), newest);
        let (vault, descriptor) = opened?;
        let repository = Self { storage, vault, descriptor };
        let newest = stored?.map(|stored| repository.read_cluster(stored)).transpose()?;
        Ok((repository, newest))
    }

    /// Creates a repository in `storage`, or opens the one that is there already.
    ///
    /// # Errors
    /// As [`Repository::open`], and where it can't be written.
    pub fn create(
        storage: Arc<dyn Storage>,
        encryption: &Encryption,
        capabilities: Capabilities,
        program: &str,
    ) -> Result<Self> {
        match Self::open(Arc::clone(&storage), encryption) {
            Err(Error::NoRepository { .. }) => {}
            opened => return opened,
        }
        storage.adopt(capabilities);
        let id: RepositoryId = pgark_system::random::bytes().map_err(Error::Random)?;
        if let Encryption::Passphrase(passphrase) = encryption {
            write_key_slot(&*storage, id, passphrase)?;
        }
        let descriptor = Descriptor {
            format: 1,
            id: hexadecimal(&id),
            cipher: encryption.cipher(),
            features: Features { write: vec![HEEDS_GARBAGE.to_owned()], ..Features::default() },
            storage: StorageAbilities { conditional_create: capabilities.conditional_create },
            created: pgark_system::clock::now(),
            program: program.to_owned(),
        };
        let vault = Vault::plain(id);
        let name = names::descriptor()?;
        match document::write(&*storage, &vault, ObjectKind::Descriptor, &name, &descriptor, PutMode::Create) {
            // Another stanza-create was quicker: its repository is the one.
            Err(Error::Storage(error)) if error.kind() == ErrorKind::AlreadyExists => {}
            written => written?,
        }
        Self::open(storage, encryption)
    }

    /// Where the objects are.
    pub fn storage(&self) -> &dyn Storage {
        &*self.storage
    }

    /// What hashes and seals them.
    pub fn vault(&self) -> &Vault {
        &self.vault
    }

    /// What the only block of a kind holds, of an object that has one such block.
    ///
    /// # Errors
    /// Not found, damaged, or the storage's error.
    pub fn only_block(&self, kind: ObjectKind, name: &Key, block: BlockKind) -> Result<Vec<u8>> {
        let plain = Vault::plain(self.vault.repository());
        let vault = if kind.is_always_plain() { &plain } else { &self.vault };
        let container = Container::open(self.storage(), vault, kind, name)?;
        container.block(self.storage(), container.only(block)?)
    }

    /// What the repository says of itself.
    pub fn descriptor(&self) -> &Descriptor {
        &self.descriptor
    }

    /// Checks that this program knows all that it must know to write.
    pub(crate) fn check_writable(&self) -> Result<()> {
        let unknown = unknown(&self.descriptor.features.write);
        if unknown.is_empty() {
            return Ok(());
        }
        let what = format!("it may be read, but to write it takes features {unknown:?}");
        Err(Error::Unsupported { object: names::descriptor()?.to_string(), what })
    }

    /// Checks that this program knows all that it must know to remove.
    ///
    /// # Errors
    /// [`Error::Unsupported`] where it does not.
    pub fn check_removable(&self) -> Result<()> {
        let unknown = unknown(&self.descriptor.features.expire);
        if unknown.is_empty() {
            return self.check_writable();
        }
        let what = format!("it may be read, but to remove from it takes features {unknown:?}");
        Err(Error::Unsupported { object: names::descriptor()?.to_string(), what })
    }

    /// The names of the stanzas, ascending.
    ///
    /// # Errors
    /// The storage's error.
    pub fn stanzas(&self) -> Result<Vec<StanzaName>> {
        let entries = self.storage.list_directory(Some(&names::stanzas()?))?;
        Ok(entries.into_iter().filter_map(|entry| entry.name.parse().ok()).collect())
    }

    /// The clusters of a stanza, oldest first; none where there is no such stanza.
    ///
    /// # Errors
    /// Damage, or the storage's error.
    pub fn clusters(&self, stanza: &StanzaName) -> Result<Vec<Cluster>> {
        let read = |number| self.read_cluster(fetch_cluster(self.storage(), stanza, number)?);
        cluster_numbers(self.storage(), stanza)?.into_iter().map(read).collect()
    }

    fn read_cluster(&self, StoredCluster { number, name, tail }: StoredCluster) -> Result<Cluster> {
        let container = Container::with_tail(self.storage(), &self.vault, ObjectKind::Cluster, &name, tail)?;
        container.check_header(self.storage())?;
        let cluster: Cluster = document::read_in(self.storage(), &container)?;
        if cluster.id == number {
            Ok(cluster)
        } else {
            Err(Malformed::new(format!("it says that it is cluster {}", cluster.id)).in_object(&name))
        }
    }

    /// Adds a cluster to a stanza. This makes the stanza, if it is the first.
    ///
    /// # Errors
    /// Already exists where another was quicker; or the storage's error.
    pub fn add_cluster(&self, stanza: &StanzaName, cluster: &Cluster) -> Result<()> {
        self.check_writable()?;
        let name = names::cluster(stanza, cluster.id)?;
        document::write(self.storage(), &self.vault, ObjectKind::Cluster, &name, cluster, PutMode::Create)
    }

    /// The labels of the complete backups of a stanza, oldest first.
    ///
    /// # Errors
    /// The storage's error.
    pub fn backups(&self, stanza: &StanzaName) -> Result<Vec<Label>> {
        Ok(self.backups_with_notes(stanza)?.into_keys().collect())
    }

    /// The labels of the complete backups of a stanza, oldest first, each with the notes on it, oldest first.
    ///
    /// # Errors
    /// The storage's error.
    pub fn backups_with_notes(&self, stanza: &StanzaName) -> Result<BTreeMap<Label, Vec<Ulid>>> {
        let mut backups: BTreeMap<Label, Vec<Ulid>> = BTreeMap::new();
        let mut notes = Vec::new();
        self.storage.list(Some(&names::backups(stanza)?), &mut |object| {
            if let Some(label) = names::label_of_manifest(stanza, &object.key) {
                backups.insert(label, Vec::new());
            }
            notes.extend(names::label_and_note(stanza, &object.key));
            ControlFlow::Continue(())
        })?;
        for (label, note) in notes {
            // Without a manifest there is no backup, only what is left of one.
            if let Some(notes) = backups.get_mut(&label) {
                notes.push(note);
            }
        }
        Ok(backups)
    }
}

/// The features that this program does not know.
fn unknown(features: &[String]) -> Vec<&String> {
    features.iter().filter(|feature| *feature != HEEDS_GARBAGE).collect()
}

/// A cluster of a stanza as it is stored, which can be fetched before the repository is open.
struct StoredCluster {
    number: u32,
    name: Key,
    tail: Tail,
}

/// The numbers of the clusters of a stanza, oldest first.
fn cluster_numbers(storage: &dyn Storage, stanza: &StanzaName) -> Result<Vec<u32>> {
    let entries = storage.list_directory(Some(&names::clusters(stanza)?))?;
    let mut numbers: Vec<u32> = entries.iter().filter_map(|entry| names::number(&entry.name)).collect();
    numbers.sort_unstable();
    Ok(numbers)
}

fn fetch_cluster(storage: &dyn Storage, stanza: &StanzaName, number: u32) -> Result<StoredCluster> {
    let name = names::cluster(stanza, number)?;
    let tail = Container::fetch_tail(storage, &name)?;
    Ok(StoredCluster { number, name, tail })
}

/// Does two things at once.
fn beside<One, Other: Send>(one: impl FnOnce() -> One, other: impl FnOnce() -> Other + Send) -> (One, Other) {
    thread::scope(|scope| {
        let other = scope.spawn(other);
        let one = one();
        (one, other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    })
}

/// What opening a repository brings.
fn open(storage: &dyn Storage, encryption: &Encryption) -> Result<(Vault, Descriptor)> {
    // What does not depend on an answer is asked for meanwhile: on a network the answers are what takes the time.
    let wants_slots = matches!(encryption, Encryption::Passphrase(_));
    let names = || if wants_slots { slots(storage) } else { Ok(Vec::new()) };
    let (read, slots) = beside(|| read_descriptor(storage), names);
    let (id, descriptor) = read?;
    storage.adopt(Capabilities { conditional_create: descriptor.storage.conditional_create });
    let found = descriptor.cipher;
    let vault = match encryption {
        _ if found != encryption.cipher() => {
            let storage = storage.describe();
            return Err(Error::CipherMismatch { storage, found, configured: encryption.cipher() });
        }
        Encryption::None => Vault::plain(id),
        Encryption::Passphrase(passphrase) => Vault::encrypted(id, unlock(storage, id, &slots?, passphrase)?),
    };
    Ok((vault, descriptor))
}

/// What is asked of a descriptor before the rest of it: a newer one may have a form that this program does not know.
#[derive(Deserialize)]
struct Needs {
    format: u32,
    #[serde(default)]
    features: Features,
}

fn read_descriptor(storage: &dyn Storage) -> Result<(RepositoryId, Descriptor)> {
    let name = names::descriptor()?;
    let (id, document): (_, Value) = match document::read_plain(storage, ObjectKind::Descriptor, &name) {
        Err(error) if error.is_not_found() => return Err(Error::NoRepository { storage: storage.describe() }),
        read => read?,
    };
    let unreadable =
        |error: serde_json::Error| Malformed::new(format!("its document can't be read: {error}")).in_object(&name);
    let needs = Needs::deserialize(&document).map_err(unreadable)?;
    if needs.format != 1 || !needs.features.read.is_empty() {
        let what = format!("format {} with features {:?}", needs.format, needs.features.read);
        return Err(Error::Unsupported { object: name.to_string(), what });
    }
    let descriptor = Descriptor::deserialize(&document).map_err(unreadable)?;
    if descriptor.id == hexadecimal(&id) {
        Ok((id, descriptor))
    } else {
        Err(Malformed::new("its document has another id than its header").in_object(&name))
    }
}

fn write_key_slot(storage: &dyn Storage, id: RepositoryId, passphrase: &str) -> Result<()> {
    let master = Zeroizing::new(pgark_system::random::bytes().map_err(Error::Random)?);
    let name = names::key_slot(pgark_system::random::ulid().map_err(Error::Random)?)?;
    let slot = KeySlot::wrap(id, &name, passphrase, &master)?;
    document::write(storage, &Vault::plain(id), ObjectKind::KeySlot, &name, &slot, PutMode::Create)
}

/// The names of the key slots.
fn slots(storage: &dyn Storage) -> Result<Vec<Key>> {
    let entries = storage.list_directory(Some(&names::key_slots()?))?;
    entries.iter().filter_map(|entry| names::ulid(&entry.name)).map(names::key_slot).collect()
}

/// The master key, from any slot that the pass phrase opens.
fn unlock(storage: &dyn Storage, id: RepositoryId, slots: &[Key], passphrase: &str) -> Result<Zeroizing<[u8; 32]>> {
    let mut flaw = None;
    for slot in slots {
        match open_slot(storage, id, slot, passphrase) {
            Ok(Some(master)) => return Ok(master),
            Ok(None) => {}
            // Another slot may open.
            Err(error @ (Error::Damaged { .. } | Error::Unsupported { .. })) => flaw = flaw.or(Some(error)),
            Err(error) => return Err(error),
        }
    }
    Err(flaw.unwrap_or_else(|| Error::WrongPassphrase { storage: storage.describe() }))
}

/// The master key from one slot, or `None` where the pass phrase is not this slot's.
fn open_slot(
    storage: &dyn Storage,
    id: RepositoryId,
    name: &Key,
    passphrase: &str,
) -> Result<Option<Zeroizing<[u8; 32]>>> {
    let (owner, slot): (_, KeySlot) = document::read_plain(storage, ObjectKind::KeySlot, name)?;
    // A slot of another id was left by a stanza-create that was interrupted before it wrote the descriptor.
    if owner == id { slot.unwrap(id, name, passphrase) } else { Ok(None) }
}

/// Bytes as hexadecimal digits.
pub(crate) fn hexadecimal(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _infallible = write!(text, "{byte:02x}");
        text
    })
}
