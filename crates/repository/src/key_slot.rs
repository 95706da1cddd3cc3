//! Key slots: the master key, wrapped with a pass phrase. Section 3.1 of `docs/format.md`.

use argon2::{Algorithm, Argon2, Params, Version};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use pgark_storage::Key;
use ring::aead::{Aad, Nonce};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::error::{Error, Malformed, Result};
use crate::vault::{RepositoryId, aes_256_gcm};

/// What the pass phrase of a new slot costs an attacker, and each command: OWASP's recommendation for Argon2id. It can
/// be raised at any time, since a slot says what it was made with.
const MEMORY_KIB: u32 = 19_456;
const PASSES: u32 = 2;
const LANES: u32 = 1;

/// The document of a key slot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeySlot {
    kdf: String,
    memory_kib: u32,
    passes: u32,
    lanes: u32,
    salt: String,
    nonce: String,
    wrapped: String,
}

impl KeySlot {
    /// Wraps `master` with `passphrase`, for the slot `name` of the repository.
    ///
    /// # Errors
    /// Where there is no randomness, or no memory for Argon2id.
    pub fn wrap(repository: RepositoryId, name: &Key, passphrase: &str, master: &[u8; 32]) -> Result<Self> {
        let salt: [u8; 16] = pgark_system::random::bytes().map_err(Error::Random)?;
        let nonce: [u8; 12] = pgark_system::random::bytes().map_err(Error::Random)?;
        let parameters = parameters(MEMORY_KIB, PASSES, LANES).map_err(|error| error.in_object(name))?;
        let key = stretch(passphrase, &salt, parameters).map_err(|error| error.in_object(name))?;
        let mut wrapped = master.to_vec();
        aes_256_gcm(&key)
            .seal_in_place_append_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(associated_data(repository, name)),
                &mut wrapped,
            )
            .expect("32 bytes can be sealed");
        Ok(Self {
            kdf: "argon2id".to_owned(),
            memory_kib: MEMORY_KIB,
            passes: PASSES,
            lanes: LANES,
            salt: BASE64.encode(salt),
            nonce: BASE64.encode(nonce),
            wrapped: BASE64.encode(wrapped),
        })
    }

    /// The master key, or `None` where the pass phrase is not this slot's.
    ///
    /// # Errors
    /// [`Error::Damaged`], [`Error::Unsupported`].
    pub fn unwrap(
        &self,
        repository: RepositoryId,
        name: &Key,
        passphrase: &str,
    ) -> Result<Option<Zeroizing<[u8; 32]>>> {
        if self.kdf != "argon2id" {
            let what = format!("its key derivation is '{}'", self.kdf);
            return Err(Error::Unsupported { object: name.to_string(), what });
        }
        self.open(repository, name, passphrase).map_err(|error| error.in_object(name))
    }

    fn open(
        &self,
        repository: RepositoryId,
        name: &Key,
        passphrase: &str,
    ) -> Result<Option<Zeroizing<[u8; 32]>>, Malformed> {
        let salt: [u8; 16] = decode("salt", &self.salt)?;
        let nonce: [u8; 12] = decode("nonce", &self.nonce)?;
        let mut wrapped: [u8; 48] = decode("wrapped", &self.wrapped)?;
        let key = stretch(passphrase, &salt, parameters(self.memory_kib, self.passes, self.lanes)?)?;
        let opened = aes_256_gcm(&key).open_in_place(
            Nonce::assume_unique_for_key(nonce),
            Aad::from(associated_data(repository, name)),
            &mut wrapped,
        );
        let Ok(opened) = opened else { return Ok(None) };
        let mut master = Zeroizing::new([0; 32]);
        master.copy_from_slice(opened);
        Ok(Some(master))
    }
}

fn parameters(memory_kib: u32, passes: u32, lanes: u32) -> Result<Params, Malformed> {
    let within = (8 << 10..=1 << 20).contains(&memory_kib) && (1..=16).contains(&passes) && (1..=16).contains(&lanes);
    if !within {
        return Err(Malformed::new("the parameters of its key derivation are out of range"));
    }
    Params::new(memory_kib, passes, lanes, Some(32)).map_err(|error| Malformed::new(error.to_string()))
}

fn stretch(passphrase: &str, salt: &[u8], parameters: Params) -> Result<Zeroizing<[u8; 32]>, Malformed> {
    let mut key = Zeroizing::new([0; 32]);
    Argon2::new(Algorithm::Argon2id, Version::V0x13, parameters)
        .hash_password_into(passphrase.as_bytes(), salt, &mut *key)
        .map_err(|error| Malformed::new(error.to_string()))?;
    Ok(key)
}

fn associated_data(repository: RepositoryId, name: &Key) -> Vec<u8> {
    [&repository[..], name.as_str().as_bytes()].concat()
}

fn decode<const N: usize>(member: &str, text: &str) -> Result<[u8; N], Malformed> {
    BASE64
        .decode(text)
        .ok()
        .and_then(|bytes| bytes.try_into().ok())
        .ok_or_else(|| Malformed::new(format!("its member '{member}' is not {N} bytes in base64")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_pass_phrase_opens_a_slot_and_only_in_its_place() {
        let name = Key::parse("key/01").unwrap();
        let slot = KeySlot::wrap([7; 16], &name, "correct horse", &[9; 32]).unwrap();
        assert_eq!(slot.unwrap([7; 16], &name, "correct horse").unwrap().map(|key| *key), Some([9; 32]));
        assert!(slot.unwrap([7; 16], &name, "battery staple").unwrap().is_none());
        assert!(slot.unwrap([8; 16], &name, "correct horse").unwrap().is_none());
        assert!(slot.unwrap([7; 16], &Key::parse("key/02").unwrap(), "correct horse").unwrap().is_none());
    }

    #[test]
    fn parameters_that_would_exhaust_the_machine_are_refused() {
        assert!(parameters(MEMORY_KIB, PASSES, LANES).is_ok());
        assert!(parameters(u32::MAX, 1, 1).is_err());
        assert!(parameters(MEMORY_KIB, 1000, 1).is_err());
        assert!(parameters(1, 1, 1).is_err());
    }
}
