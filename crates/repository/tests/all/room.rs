//! Repositories to test in.

use std::ops::ControlFlow;
use std::sync::Arc;

use pgark_repository::container::{Container, ObjectKind};
use pgark_repository::{Encryption, Repository, Result};
use pgark_storage::{Capabilities, Key, LocalStorage, MemoryStorage, PutMode, Storage};
use tempfile::TempDir;
use zeroize::Zeroizing;

pub(crate) const PASSPHRASE: &str = "correct horse battery staple";
pub(crate) const CAPABILITIES: Capabilities = Capabilities { conditional_create: true };

/// A repository with the storage that it lies in.
#[derive(Debug)]
pub(crate) struct Room {
    pub(crate) name: &'static str,
    pub(crate) storage: Arc<dyn Storage>,
    pub(crate) repository: Repository,
    _directory: Option<TempDir>,
}

pub(crate) fn passphrase(text: &str) -> Encryption {
    Encryption::Passphrase(Zeroizing::new(text.to_owned()))
}

pub(crate) fn create(storage: Arc<dyn Storage>, encryption: &Encryption) -> Result<Repository> {
    Repository::create(storage, encryption, CAPABILITIES, "pgark 0.0.0")
}

impl Room {
    fn new(name: &'static str, storage: Arc<dyn Storage>, encryption: &Encryption, directory: Option<TempDir>) -> Self {
        let repository = create(Arc::clone(&storage), encryption).unwrap();
        Self { name, storage, repository, _directory: directory }
    }

    pub(crate) fn plain() -> Self {
        Self::new("plain, in memory", Arc::new(MemoryStorage::new()), &Encryption::None, None)
    }

    pub(crate) fn encrypted() -> Self {
        Self::new("encrypted, in memory", Arc::new(MemoryStorage::new()), &passphrase(PASSPHRASE), None)
    }

    fn on_disk(name: &'static str, encryption: &Encryption) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let storage = Arc::new(LocalStorage::open(directory.path()).unwrap());
        Self::new(name, storage, encryption, Some(directory))
    }

    /// One of each kind.
    pub(crate) fn all() -> Vec<Self> {
        vec![
            Self::plain(),
            Self::encrypted(),
            Self::on_disk("plain, on a disk", &Encryption::None),
            Self::on_disk("encrypted, on a disk", &passphrase(PASSPHRASE)),
        ]
    }

    pub(crate) fn replace(&self, name: &Key, bytes: &[u8]) {
        self.storage.put(name, bytes, PutMode::Replace).unwrap();
    }

    pub(crate) fn bytes(&self, name: &Key) -> Vec<u8> {
        self.storage.get(name, u64::MAX).unwrap()
    }

    /// All objects, with their kinds.
    pub(crate) fn objects(&self) -> Vec<(Key, ObjectKind)> {
        objects(&*self.storage)
    }

    /// Reads an object from its first byte to its last: all its blocks.
    pub(crate) fn read_whole(&self, name: &Key, kind: ObjectKind) -> Result<Vec<Vec<u8>>> {
        let container = Container::open(&*self.storage, self.repository.vault(), kind, name)?;
        container.check_header(&*self.storage)?;
        (0..container.block_count()).map(|number| container.block(&*self.storage, number)).collect()
    }
}

/// The names of all objects in a storage, with their kinds.
pub(crate) fn objects(storage: &dyn Storage) -> Vec<(Key, ObjectKind)> {
    let mut objects = Vec::new();
    storage
        .list(None, &mut |info| {
            let kind = kind_of(&info.key);
            objects.push((info.key, kind));
            ControlFlow::Continue(())
        })
        .unwrap();
    objects
}

/// What an object of this name is, by section 1 of the format.
fn kind_of(name: &Key) -> ObjectKind {
    let parts: Vec<_> = name.as_str().split('/').collect();
    match parts[..] {
        ["pgark.repo"] => ObjectKind::Descriptor,
        ["key", _] => ObjectKind::KeySlot,
        ["stanza", _, "cluster", _] => ObjectKind::Cluster,
        ["stanza", _, "gc", _] => ObjectKind::Garbage,
        ["stanza", _, "checked", _] => ObjectKind::Checked,
        ["stanza", _, "session", _] => ObjectKind::Session,
        ["stanza", _, "pack", _, _] => ObjectKind::Pack,
        ["stanza", _, "backup", _, "manifest"] => ObjectKind::Manifest,
        ["stanza", _, "backup", _, "note", _] => ObjectKind::Note,
        ["stanza", _, "wal", _, _] => ObjectKind::Auxiliary,
        ["stanza", _, "wal", _, _, file] if file.ends_with(".backup") => ObjectKind::Auxiliary,
        ["stanza", _, "wal", _, _, _] => ObjectKind::Wal,
        _ => panic!("'{name}' is no name of the format"),
    }
}
