//! Finding out what a storage can do.

use std::thread;

use pgark_system::random;

use crate::error::{Error, ErrorKind, Result};
use crate::key::Key;
use crate::operation::Operation;
use crate::{PutMode, Storage};

/// Writers that race for one name, and how often. Servers that check and write in two steps were seen to let several
/// win in nearly every round.
const RACING_WRITERS: usize = 4;
const RACES: usize = 5;

/// What a storage was seen to do. Kept in the repository's descriptor, so that nobody has to try again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// Creating an object fails where the name is taken, and has exactly one winner when writers race.
    pub conditional_create: bool,
}

/// Tries what the storage can do, with small objects named `pgark.probe-*` in its root that are deleted again. It must
/// be allowed to write, read and delete.
///
/// # Errors
/// What the storage says.
pub fn probe(storage: &dyn Storage) -> Result<Capabilities> {
    let mut conditional_create = true;
    for _ in 0..RACES {
        let key = probe_key(storage)?;
        let result = race(storage, &key);
        storage.delete(&key)?;
        match result {
            // A storage that knows no exclusive creation may say so.
            Err(error) if error.kind() == ErrorKind::Unsupported => {
                return Ok(Capabilities { conditional_create: false });
            }
            // Others answer to what they do not know as to a mistake: then the same is done without it.
            Err(error) if error.kind() == ErrorKind::Io && replaces(storage)? => {
                return Ok(Capabilities { conditional_create: false });
            }
            result => conditional_create &= result?,
        }
    }
    Ok(Capabilities { conditional_create })
}

/// Whether the storage takes an object whatever is there.
fn replaces(storage: &dyn Storage) -> Result<bool> {
    let key = probe_key(storage)?;
    let put = storage.put(&key, &content_of(0), PutMode::Replace);
    Ok(put.and_then(|()| storage.delete(&key)).is_ok())
}

/// A name that no other probe uses.
fn probe_key(storage: &dyn Storage) -> Result<Key> {
    let nonce =
        random::ulid().map_err(|error| Error::new(ErrorKind::Io, Operation::Put, None, storage.describe(), error))?;
    Ok(Key::parse(&format!("pgark.probe-{nonce}")).expect("letters and digits make a key"))
}

/// Whether exactly one of the writers that create `key` at once succeeds, the object is that one's, and a later writer
/// is refused.
fn race(storage: &dyn Storage, key: &Key) -> Result<bool> {
    let results = thread::scope(|scope| {
        let writers: Vec<_> =
            (0..RACING_WRITERS).map(|writer| scope.spawn(move || create(storage, key, writer))).collect();
        writers.into_iter().map(|writer| writer.join().expect("a writer does not panic")).collect::<Result<Vec<_>>>()
    })?;
    let winners: Vec<_> = (0..RACING_WRITERS).filter(|&writer| results[writer]).collect();
    let late = create(storage, key, RACING_WRITERS)?;
    let content = storage.get(key, 1024)?;
    Ok(!late && winners.len() == 1 && content == content_of(winners[0]))
}

/// Whether `writer` could create `key`.
fn create(storage: &dyn Storage, key: &Key, writer: usize) -> Result<bool> {
    match storage.put(key, &content_of(writer), PutMode::Create) {
        Ok(()) => Ok(true),
        Err(error) if error.is_already_exists() => Ok(false),
        Err(error) => Err(error),
    }
}

fn content_of(writer: usize) -> Vec<u8> {
    format!("writer {writer}").into_bytes()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::MemoryStorage;
    use crate::fault::{Effect, Fault, FaultyStorage};

    #[test]
    fn a_storage_that_creates_exclusively_is_known() {
        let storage = MemoryStorage::new();
        assert_eq!(probe(&storage).unwrap(), Capabilities { conditional_create: true });
        assert!(storage.list_directory(None).unwrap().is_empty(), "the probe left something behind");
    }

    #[test]
    fn a_storage_that_ignores_conditions_is_found_out() {
        let storage = FaultyStorage::new(Arc::new(MemoryStorage::new()));
        storage.inject(Fault::new(Effect::IgnoreCondition).repeatedly());
        assert_eq!(probe(&storage).unwrap(), Capabilities { conditional_create: false });
        assert!(storage.list_directory(None).unwrap().is_empty(), "the probe left something behind");
    }

    #[test]
    fn a_storage_that_lets_one_more_writer_win_is_found_out() {
        let storage = FaultyStorage::new(Arc::new(MemoryStorage::new()));
        storage.inject(Fault::new(Effect::IgnoreCondition).on(Operation::Put).skipping(RACING_WRITERS));
        assert_eq!(probe(&storage).unwrap(), Capabilities { conditional_create: false });
        assert_eq!(storage.fired(), 1);
    }

    #[test]
    fn a_storage_that_refuses_conditions_is_found_out() {
        let storage = FaultyStorage::new(Arc::new(MemoryStorage::new()));
        storage.inject(Fault::new(Effect::Fail(ErrorKind::Unsupported)).on(Operation::Put).repeatedly());
        assert_eq!(probe(&storage).unwrap(), Capabilities { conditional_create: false });
    }

    #[test]
    fn a_storage_that_takes_a_condition_for_a_mistake_is_found_out() {
        let storage = FaultyStorage::new(Arc::new(MemoryStorage::new()));
        for _ in 0..RACING_WRITERS {
            storage.inject(Fault::new(Effect::Fail(ErrorKind::Io)).on(Operation::Put));
        }
        assert_eq!(probe(&storage).unwrap(), Capabilities { conditional_create: false });
        assert!(storage.list_directory(None).unwrap().is_empty(), "the probe left something behind");
        storage.inject(Fault::new(Effect::Fail(ErrorKind::Io)).on(Operation::Put).repeatedly());
        assert_eq!(probe(&storage).unwrap_err().kind(), ErrorKind::Io);
    }

    #[test]
    fn a_storage_that_refuses_is_an_error() {
        let storage = FaultyStorage::new(Arc::new(MemoryStorage::new()));
        storage.inject(Fault::new(Effect::Fail(ErrorKind::Denied)).on(Operation::Put));
        assert_eq!(probe(&storage).unwrap_err().kind(), ErrorKind::Denied);
    }
}
