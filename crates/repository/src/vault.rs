//! Hashes and encryption: section 3 of `docs/format.md`.

use blake3::Hasher;
use pgark_storage::Key;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use zeroize::Zeroizing;

use crate::error::{Cipher, Malformed};

/// Bytes that sealing adds to a block.
pub(crate) const TAG_LENGTH: usize = 16;

/// A hash of plain bytes.
pub type Hash = [u8; 32];

/// The hash of one page: the first 16 bytes of its [`Hash`](type@Hash).
pub type PageHash = [u8; 16];

/// The identity of a repository.
pub type RepositoryId = [u8; 16];

/// What hashes and seals the objects of one repository.
pub struct Vault {
    repository: RepositoryId,
    keys: Option<Keys>,
}

struct Keys {
    master: Zeroizing<[u8; 32]>,
    hash: Zeroizing<[u8; 32]>,
}

impl std::fmt::Debug for Vault {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Vault").field("cipher", &self.cipher()).finish_non_exhaustive()
    }
}

impl Vault {
    /// The vault of a repository without encryption.
    pub fn plain(repository: RepositoryId) -> Self {
        Self { repository, keys: None }
    }

    /// The vault of an encrypted repository.
    pub fn encrypted(repository: RepositoryId, master: Zeroizing<[u8; 32]>) -> Self {
        let mut hasher = Hasher::new_derive_key("pgark v1 hash key");
        hasher.update(&*master).update(&repository);
        let hash = Zeroizing::new(*hasher.finalize().as_bytes());
        Self { repository, keys: Some(Keys { master, hash }) }
    }

    /// The repository's identity.
    pub fn repository(&self) -> RepositoryId {
        self.repository
    }

    /// How the repository is encrypted.
    pub fn cipher(&self) -> Cipher {
        if self.keys.is_some() { Cipher::Aes256Gcm } else { Cipher::None }
    }

    /// A hasher for bytes that come in pieces.
    pub fn hasher(&self) -> Hasher {
        match &self.keys {
            None => Hasher::new(),
            Some(keys) => Hasher::new_keyed(&keys.hash),
        }
    }

    /// The hash of `bytes`.
    pub fn hash(&self, bytes: &[u8]) -> Hash {
        match &self.keys {
            None => *blake3::hash(bytes).as_bytes(),
            Some(keys) => *blake3::keyed_hash(&keys.hash, bytes).as_bytes(),
        }
    }

    /// The hash by which a page is recognised.
    pub fn page_hash(&self, page: &[u8]) -> PageHash {
        let mut short = [0; 16];
        short.copy_from_slice(&self.hash(page)[..16]);
        short
    }

    /// What seals the blocks of the object `name` that was written with `salt`; `None` without encryption.
    pub(crate) fn seal_for(&self, name: &Key, salt: &[u8; 32]) -> Option<Seal> {
        let keys = self.keys.as_ref()?;
        let mut hasher = Hasher::new_derive_key("pgark v1 object key");
        hasher.update(&*keys.master).update(&self.repository).update(salt).update(name.as_str().as_bytes());
        let key = Zeroizing::new(*hasher.finalize().as_bytes());
        Some(Seal { key: aes_256_gcm(&key), salt: *salt })
    }
}

/// AES-256-GCM with `key`.
pub(crate) fn aes_256_gcm(key: &[u8; 32]) -> LessSafeKey {
    LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key).expect("a key of AES-256 has 32 bytes"))
}

/// Seals and opens the blocks of one object.
pub(crate) struct Seal {
    key: LessSafeKey,
    salt: [u8; 32],
}

impl std::fmt::Debug for Seal {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Seal").finish_non_exhaustive()
    }
}

impl Seal {
    /// Encrypts the bytes of block `number` in place and appends the tag. A number is used once in an object.
    pub(crate) fn seal(&self, number: u64, bytes: &mut Vec<u8>) {
        self.key
            .seal_in_place_append_tag(nonce(number), Aad::from(self.associated_data(number)), bytes)
            .expect("a block is far below the 64 GiB that AES-GCM can seal");
    }

    /// Decrypts block `number` in place and gives its plain bytes.
    pub(crate) fn open<'a>(&self, number: u64, bytes: &'a mut [u8]) -> Result<&'a [u8], Malformed> {
        self.key
            .open_in_place(nonce(number), Aad::from(self.associated_data(number)), bytes)
            .map(|plain| &*plain)
            .map_err(|_| Malformed::new("a block does not decrypt"))
    }

    fn associated_data(&self, number: u64) -> [u8; 40] {
        let mut data = [0; 40];
        data[..32].copy_from_slice(&self.salt);
        data[32..].copy_from_slice(&number.to_le_bytes());
        data
    }
}

fn nonce(number: u64) -> Nonce {
    let mut nonce = [0; 12];
    nonce[..8].copy_from_slice(&number.to_le_bytes());
    Nonce::assume_unique_for_key(nonce)
}
