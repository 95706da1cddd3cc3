//! A storage whose clock is the simulation's, and between any two operations of which others get their turn.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::rc::Rc;
use std::sync::{Mutex, MutexGuard};

use jiff::Timestamp;
use pgark_storage::{Entry, EntryKind, Key, MemoryStorage, ObjectInfo, ObjectWriter, PutMode, Result, Storage, Tail};

use super::world::World;

thread_local! {
    /// The world that the storages of this thread are in: a storage must be `Sync`, and a world is not.
    static WORLD: RefCell<Option<Rc<World>>> = const { RefCell::new(None) };
}

/// Lets operations of this thread's storages be interleaved with what happens in this world; with nothing, if there is none.
pub(super) fn enter(world: Option<Rc<World>>) {
    WORLD.with_borrow_mut(|current| *current = world);
}

fn world() -> Option<Rc<World>> {
    WORLD.with_borrow(Clone::clone)
}

#[derive(Debug, Default)]
pub(super) struct SimulatedStorage {
    inner: MemoryStorage,
    times: Mutex<BTreeMap<Key, Timestamp>>,
}

impl SimulatedStorage {
    fn times(&self) -> MutexGuard<'_, BTreeMap<Key, Timestamp>> {
        self.times.lock().unwrap()
    }

    /// Something else may happen here.
    fn interrupt() {
        if let Some(world) = world() {
            world.interleave();
        }
    }

    fn written(&self, key: &Key) {
        let now = world().map_or(Timestamp::UNIX_EPOCH, |world| world.storage_time());
        self.times().insert(key.clone(), now);
    }

    fn dated(&self, info: ObjectInfo) -> ObjectInfo {
        ObjectInfo { modified: self.times()[&info.key], ..info }
    }
}

impl Storage for SimulatedStorage {
    fn describe(&self) -> String {
        "simulated repository".to_owned()
    }

    fn head(&self, key: &Key) -> Result<Option<ObjectInfo>> {
        Self::interrupt();
        Ok(self.inner.head(key)?.map(|info| self.dated(info)))
    }

    fn get(&self, key: &Key, limit: u64) -> Result<Vec<u8>> {
        Self::interrupt();
        self.inner.get(key, limit)
    }

    fn get_range(&self, key: &Key, offset: u64, length: usize) -> Result<Vec<u8>> {
        Self::interrupt();
        self.inner.get_range(key, offset, length)
    }

    fn get_tail(&self, key: &Key, length: usize) -> Result<Tail> {
        Self::interrupt();
        self.inner.get_tail(key, length)
    }

    fn put(&self, key: &Key, bytes: &[u8], mode: PutMode) -> Result<()> {
        Self::interrupt();
        self.inner.put(key, bytes, mode)?;
        self.written(key);
        Ok(())
    }

    fn create(&self, key: &Key) -> Result<Box<dyn ObjectWriter>> {
        Self::interrupt();
        let now = world().map_or(Timestamp::UNIX_EPOCH, |world| world.storage_time());
        // No reader sees a stream before it is finished, so that its time may as well be that of its beginning.
        self.times().insert(key.clone(), now);
        self.inner.create(key)
    }

    fn list(&self, prefix: Option<&Key>, visit: &mut dyn FnMut(ObjectInfo) -> ControlFlow<()>) -> Result<()> {
        Self::interrupt();
        self.inner.list(prefix, &mut |info| visit(self.dated(info)))
    }

    fn list_directory(&self, prefix: Option<&Key>) -> Result<Vec<Entry>> {
        Self::interrupt();
        let mut entries = self.inner.list_directory(prefix)?;
        for entry in &mut entries {
            if let EntryKind::Object(info) = &entry.kind {
                entry.kind = EntryKind::Object(self.dated(info.clone()));
            }
        }
        Ok(entries)
    }

    fn delete_all(&self, keys: &[Key]) -> Result<()> {
        keys.iter().try_for_each(|key| {
            Self::interrupt();
            self.inner.delete(key)
        })
    }
}
