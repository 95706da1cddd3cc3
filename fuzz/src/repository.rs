//! A plain repository in memory that holds what a target puts into it.

use std::sync::{Arc, OnceLock};

use pgark_repository::{Encryption, Repository, StanzaName};
use pgark_storage::{Key, MemoryStorage, PutMode, Storage};

use crate::draft::{Draft, DraftBlock};

/// The id of the repositories here.
pub(crate) const ID: [u8; 16] = [0x1D; 16];

/// A repository that holds one object besides its descriptor.
///
/// # Panics
/// Where a repository with a sound descriptor is not opened.
#[must_use]
pub fn repository(name: &Key, bytes: &[u8]) -> Repository {
    static DESCRIPTOR: OnceLock<Vec<u8>> = OnceLock::new();
    let descriptor = DESCRIPTOR.get_or_init(|| {
        let document = serde_json::json!({
            "format": 1, "id": "1d".repeat(16), "cipher": "none", "program": "pgark 0.0.0",
            "features": {"read": [], "write": [], "expire": []}, "storage": {"conditional_create": true},
            "created": "2026-11-22T12:00:00Z",
        });
        object(*b"PGARKREP", "pgark.repo", [(1, document.to_string().as_bytes())])
    });
    let storage = MemoryStorage::new();
    let root = Key::parse("pgark.repo").expect("a name");
    storage.put(&root, descriptor, PutMode::Create).expect("memory takes it");
    storage.put(name, bytes, PutMode::Create).expect("memory takes it");
    Repository::open(Arc::new(storage), &Encryption::None).expect("the descriptor is sound")
}

/// The stanza of the objects here.
#[must_use]
pub fn stanza() -> StanzaName {
    "demo".parse().expect("a name")
}

/// A container of these blocks, each with its kind, uncompressed.
#[must_use]
pub fn object<'a>(magic: [u8; 8], name: &str, blocks: impl IntoIterator<Item = (u8, &'a [u8])>) -> Vec<u8> {
    let blocks = blocks.into_iter().map(|(kind, plain)| DraftBlock::new(kind, plain)).collect();
    Draft::new(magic, ID, blocks).write(name)
}
