//! A storage in memory, for the tests of what lies above.

use std::collections::BTreeMap;
use std::ops::{Bound, ControlFlow};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use pgark_system::clock;

use crate::error::{Error, ErrorKind, Result};
use crate::key::Key;
use crate::operation::Operation;
use crate::{Entry, EntryKind, ObjectInfo, ObjectWriter, PutMode, Storage, Tail};

/// A storage in memory. It keeps what every driver promises, and like a file system refuses a name that is both an
/// object and a directory. Streams are held in memory whole.
#[derive(Debug, Default)]
pub struct MemoryStorage {
    objects: Arc<Mutex<BTreeMap<Key, Object>>>,
    requests_ahead: usize,
}

#[derive(Clone, Debug)]
struct Object {
    bytes: Arc<[u8]>,
    modified: Timestamp,
}

impl MemoryStorage {
    /// An empty storage.
    pub fn new() -> Self {
        Self::default()
    }

    /// A storage that wants so many [`Storage::requests_ahead`], as one does whose answers take their time.
    #[must_use]
    pub fn with_requests_ahead(self, requests_ahead: usize) -> Self {
        Self { requests_ahead, ..self }
    }

    fn objects(&self) -> MutexGuard<'_, BTreeMap<Key, Object>> {
        lock(&self.objects)
    }

    /// The content of an object.
    fn read(&self, operation: Operation, key: &Key) -> Result<Arc<[u8]>> {
        let objects = self.objects();
        match objects.get(key) {
            Some(object) => Ok(Arc::clone(&object.bytes)),
            None if below(&objects, Some(key)).next().is_some() => {
                Err(error(ErrorKind::Invalid, operation, Some(key), "it is a directory"))
            }
            None => Err(error(ErrorKind::NotFound, operation, Some(key), "there is no such object")),
        }
    }
}

impl Storage for MemoryStorage {
    fn describe(&self) -> String {
        description()
    }

    fn head(&self, key: &Key) -> Result<Option<ObjectInfo>> {
        let objects = self.objects();
        if objects.get(key).is_none() && below(&objects, Some(key)).next().is_some() {
            return Err(error(ErrorKind::Invalid, Operation::Head, Some(key), "it is a directory"));
        }
        Ok(objects.get(key).map(|object| info(key, object)))
    }

    fn get(&self, key: &Key, limit: u64) -> Result<Vec<u8>> {
        let bytes = self.read(Operation::Get, key)?;
        if bytes.len() as u64 > limit {
            let reason = format!("it has {} bytes, the limit is {limit}", bytes.len());
            return Err(error(ErrorKind::TooLarge, Operation::Get, Some(key), reason));
        }
        Ok(bytes.to_vec())
    }

    fn get_range(&self, key: &Key, offset: u64, length: usize) -> Result<Vec<u8>> {
        let bytes = self.read(Operation::GetRange, key)?;
        let range = usize::try_from(offset).ok().and_then(|start| Some(start..start.checked_add(length)?));
        if let Some(bytes) = range.and_then(|range| bytes.get(range)) {
            return Ok(bytes.to_vec());
        }
        let reason = format!("it has {} bytes, {length} were asked for at {offset}", bytes.len());
        Err(error(ErrorKind::TooShort, Operation::GetRange, Some(key), reason))
    }

    fn get_tail(&self, key: &Key, length: usize) -> Result<Tail> {
        let bytes = self.read(Operation::GetTail, key)?;
        let start = bytes.len().saturating_sub(length);
        Ok(Tail { bytes: bytes[start..].to_vec(), size: bytes.len() as u64 })
    }

    fn put(&self, key: &Key, bytes: &[u8], mode: PutMode) -> Result<()> {
        insert(&self.objects, Operation::Put, key, bytes.into(), mode)
    }

    fn create(&self, key: &Key) -> Result<Box<dyn ObjectWriter>> {
        Ok(Box::new(MemoryWriter { objects: Arc::clone(&self.objects), key: key.clone(), bytes: Vec::new() }))
    }

    fn list(&self, prefix: Option<&Key>, visit: &mut dyn FnMut(ObjectInfo) -> ControlFlow<()>) -> Result<()> {
        // Collected first, so that the visitor may call the storage.
        let found: Vec<_> = below(&self.objects(), prefix).map(|(key, object)| info(key, object)).collect();
        let _broken_off = found.into_iter().try_for_each(visit);
        Ok(())
    }

    fn list_directory(&self, prefix: Option<&Key>) -> Result<Vec<Entry>> {
        let mut entries = BTreeMap::new();
        for (key, object) in below(&self.objects(), prefix) {
            let rest = prefix.map_or(Some(key.as_str()), |prefix| key.below(prefix)).unwrap_or_default();
            let (name, kind) = match rest.split_once('/') {
                Some((name, _)) => (name, EntryKind::Directory),
                None => (rest, EntryKind::Object(info(key, object))),
            };
            entries.insert(name.to_owned(), kind);
        }
        Ok(entries.into_iter().map(|(name, kind)| Entry { name, kind }).collect())
    }

    fn requests_ahead(&self) -> usize {
        self.requests_ahead
    }

    fn delete_all(&self, keys: &[Key]) -> Result<()> {
        let mut objects = self.objects();
        for key in keys {
            objects.remove(key);
        }
        Ok(())
    }
}

#[derive(Debug)]
struct MemoryWriter {
    objects: Arc<Mutex<BTreeMap<Key, Object>>>,
    key: Key,
    bytes: Vec<u8>,
}

impl ObjectWriter for MemoryWriter {
    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<()> {
        insert(&self.objects, Operation::Finish, &self.key, self.bytes.into(), PutMode::Create)
    }
}

fn insert(
    objects: &Mutex<BTreeMap<Key, Object>>,
    operation: Operation,
    key: &Key,
    bytes: Arc<[u8]>,
    mode: PutMode,
) -> Result<()> {
    let mut objects = lock(objects);
    if mode == PutMode::Create && objects.contains_key(key) {
        return Err(error(ErrorKind::AlreadyExists, operation, Some(key), "the name is taken"));
    }
    let mut ancestors = std::iter::successors(key.parent(), Key::parent);
    if ancestors.any(|ancestor| objects.contains_key(&ancestor)) || below(&objects, Some(key)).next().is_some() {
        return Err(error(ErrorKind::Invalid, operation, Some(key), "a name cannot be both an object and a directory"));
    }
    objects.insert(key.clone(), Object { bytes, modified: clock::now() });
    Ok(())
}

/// The objects below `prefix`, in order.
fn below<'a>(
    objects: &'a BTreeMap<Key, Object>,
    prefix: Option<&'a Key>,
) -> impl Iterator<Item = (&'a Key, &'a Object)> {
    // Names that begin with the prefix follow it; between it and those below it only names like `a-b` can lie.
    let start = prefix.map_or(Bound::Unbounded, Bound::Excluded);
    objects
        .range::<Key, _>((start, Bound::Unbounded))
        .take_while(move |(key, _)| prefix.is_none_or(|prefix| key.as_str().starts_with(prefix.as_str())))
        .filter(move |(key, _)| key.is_below(prefix))
}

fn info(key: &Key, object: &Object) -> ObjectInfo {
    ObjectInfo { key: key.clone(), size: object.bytes.len() as u64, modified: object.modified }
}

fn description() -> String {
    "repository in memory".to_owned()
}

fn error(kind: ErrorKind, operation: Operation, key: Option<&Key>, reason: impl Into<String>) -> Error {
    Error::new(kind, operation, key, description(), reason.into())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_what_every_driver_promises() {
        crate::conformance::run(|| Box::new(MemoryStorage::new()));
    }

    #[test]
    fn a_name_is_not_both_object_and_directory() {
        let storage = MemoryStorage::new();
        let (above, below) = (Key::parse("a").unwrap(), Key::parse("a/b").unwrap());
        storage.put(&above, b"", PutMode::Create).unwrap();
        assert_eq!(storage.put(&below, b"", PutMode::Create).unwrap_err().kind(), ErrorKind::Invalid);
        storage.delete(&above).unwrap();
        storage.put(&below, b"", PutMode::Create).unwrap();
        assert_eq!(storage.put(&above, b"", PutMode::Replace).unwrap_err().kind(), ErrorKind::Invalid);
        assert_eq!(storage.get(&above, 9).unwrap_err().kind(), ErrorKind::Invalid);
        assert_eq!(storage.head(&above).unwrap_err().kind(), ErrorKind::Invalid);
    }
}
