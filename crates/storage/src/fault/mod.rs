//! A storage that fails as told, for tests.
//!
//! [`FaultyStorage`] wraps another storage and carries out a script of [`Fault`]s. Nothing in it is random: the same
//! calls meet the same faults. To try a crash at every step, run once and count [`FaultyStorage::log`], then run again
//! for each `n` with `Fault::new(Effect::Crash).skipping(n)` and look at the wrapped storage afterwards.

use std::fmt;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use pgark_system::direct::Buffer;

use crate::error::{Error, ErrorKind, Result};
use crate::key::Key;
use crate::operation::Operation;
use crate::{Capabilities, Entry, ObjectInfo, ObjectWriter, PutMode, Storage, Tail};

/// Something that another program does to the storage in the middle of an operation.
pub type Interruption = Arc<dyn Fn(&dyn Storage) + Send + Sync>;

/// What a fault does to an operation.
#[derive(Clone)]
pub enum Effect {
    /// It fails and has done nothing.
    Fail(ErrorKind),
    /// It takes effect and then reports an error: the answer that was lost.
    FailAfterwards(ErrorKind),
    /// A put or finish leaves only the first `length` bytes under the name, as a storage would that is not atomic, and
    /// reports an error.
    Tear {
        /// How many bytes remain.
        length: usize,
        /// The kind of the error.
        kind: ErrorKind,
    },
    /// A put or finish replaces what has the name, as a storage does that ignores conditions.
    IgnoreCondition,
    /// A read gives a wrong byte at `offset` of its result, counted round where the result is shorter.
    FlipByte {
        /// Where in the result.
        offset: usize,
    },
    /// A read gives only the first `length` bytes of its result, and calls it success.
    Truncate {
        /// How many bytes remain.
        length: usize,
    },
    /// It and every operation after it fail, having done nothing: the process was killed here.
    Crash,
    /// Something else happens just before it: the wrapped storage is handed to a function. For races between two
    /// programs, in the order that a test wants.
    Interleave(Interruption),
}

impl Effect {
    fn applies_to(&self, operation: Operation) -> bool {
        match self {
            Self::Fail(_) | Self::FailAfterwards(_) | Self::Crash | Self::Interleave(_) => true,
            Self::Tear { .. } | Self::IgnoreCondition => matches!(operation, Operation::Put | Operation::Finish),
            Self::FlipByte { .. } | Self::Truncate { .. } => {
                matches!(operation, Operation::Get | Operation::GetRange | Operation::GetTail)
            }
        }
    }
}

impl fmt::Debug for Effect {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fail(kind) => write!(formatter, "Fail({kind:?})"),
            Self::FailAfterwards(kind) => write!(formatter, "FailAfterwards({kind:?})"),
            Self::Tear { length, kind } => write!(formatter, "Tear({length}, {kind:?})"),
            Self::IgnoreCondition => formatter.write_str("IgnoreCondition"),
            Self::FlipByte { offset } => write!(formatter, "FlipByte({offset})"),
            Self::Truncate { length } => write!(formatter, "Truncate({length})"),
            Self::Crash => formatter.write_str("Crash"),
            Self::Interleave(_) => formatter.write_str("Interleave"),
        }
    }
}

/// An effect, and the operations it meets: unless narrowed, the first to which the effect can apply.
#[derive(Clone, Debug)]
pub struct Fault {
    effect: Effect,
    operation: Option<Operation>,
    key_part: String,
    skip: usize,
    repeats: bool,
}

impl Fault {
    /// A fault that meets the first operation to which `effect` can apply, once.
    pub fn new(effect: Effect) -> Self {
        Self { effect, operation: None, key_part: String::new(), skip: 0, repeats: false }
    }

    /// Only operations of this kind.
    #[must_use]
    pub fn on(self, operation: Operation) -> Self {
        Self { operation: Some(operation), ..self }
    }

    /// Only objects, or prefixes of a listing, whose name contains `part`.
    #[must_use]
    pub fn key_containing(self, part: &str) -> Self {
        Self { key_part: part.to_owned(), ..self }
    }

    /// Lets the first `count` operations pass that it would meet.
    #[must_use]
    pub fn skipping(self, count: usize) -> Self {
        Self { skip: count, ..self }
    }

    /// Meets every such operation from then on, not only one.
    #[must_use]
    pub fn repeatedly(self) -> Self {
        Self { repeats: true, ..self }
    }

    fn matches(&self, operation: Operation, key: Option<&Key>) -> bool {
        self.operation.is_none_or(|wanted| wanted == operation)
            && self.effect.applies_to(operation)
            && key.map_or("", Key::as_str).contains(&self.key_part)
    }
}

/// One operation that was carried out or failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogEntry {
    /// What was done.
    pub operation: Operation,
    /// On which object or prefix.
    pub key: Option<Key>,
    /// How it failed; `None` where it succeeded.
    pub error: Option<ErrorKind>,
}

/// A storage that fails as told, and remembers what was asked of it.
#[derive(Clone, Debug)]
pub struct FaultyStorage {
    inner: Arc<dyn Storage>,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    faults: Vec<Fault>,
    fired: usize,
    crashed: bool,
    log: Vec<LogEntry>,
}

impl State {
    /// The effect of the first fault that meets this operation. Faults that are still to skip some count it.
    fn next_effect(&mut self, operation: Operation, key: Option<&Key>) -> Option<Effect> {
        if self.crashed {
            return Some(Effect::Crash);
        }
        let mut ready = None;
        for (index, fault) in self.faults.iter_mut().enumerate() {
            if !fault.matches(operation, key) {
                continue;
            }
            if fault.skip > 0 {
                fault.skip -= 1;
            } else if ready.is_none() {
                ready = Some(index);
            }
        }
        let index = ready?;
        self.fired += 1;
        let effect = self.faults[index].effect.clone();
        self.crashed = matches!(effect, Effect::Crash);
        if !self.faults[index].repeats {
            self.faults.remove(index);
        }
        Some(effect)
    }
}

impl FaultyStorage {
    /// Wraps a storage. Without faults it only keeps the log.
    pub fn new(inner: Arc<dyn Storage>) -> Self {
        Self { inner, state: Arc::default() }
    }

    /// Adds a fault to the script. Where several meet one operation, the first added has its effect.
    pub fn inject(&self, fault: Fault) {
        self.state().faults.push(fault);
    }

    /// How many faults had their effect. A test that injects one asserts that it did.
    pub fn fired(&self) -> usize {
        self.state().fired
    }

    /// All operations so far, in the order in which they ended.
    pub fn log(&self) -> Vec<LogEntry> {
        self.state().log.clone()
    }

    /// How many operations of one kind there were so far, failed or not.
    pub fn count(&self, operation: Operation) -> usize {
        self.state().log.iter().filter(|entry| entry.operation == operation).count()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn error(&self, kind: ErrorKind, operation: Operation, key: Option<&Key>) -> Error {
        Error::new(kind, operation, key, self.describe(), "injected fault")
    }

    /// Carries out `act` with the effect that it must see to itself, if any, and logs how it ended.
    fn perform<T>(
        &self,
        operation: Operation,
        key: Option<&Key>,
        act: impl FnOnce(Option<&Effect>) -> Result<T>,
    ) -> Result<T> {
        let effect = self.state().next_effect(operation, key);
        let result = match &effect {
            Some(Effect::Fail(kind)) => Err(self.error(*kind, operation, key)),
            Some(Effect::Crash) => Err(self.error(ErrorKind::Unavailable, operation, key)),
            Some(Effect::FailAfterwards(kind)) => act(None).and_then(|_| Err(self.error(*kind, operation, key))),
            Some(Effect::Interleave(interruption)) => {
                interruption(&*self.inner);
                act(None)
            }
            effect => act(effect.as_ref()),
        };
        let error = result.as_ref().err().map(Error::kind);
        self.state().log.push(LogEntry { operation, key: key.cloned(), error });
        result
    }

    /// Cuts off the object that was just written, and gives the error that goes with it.
    fn tear(&self, operation: Operation, key: &Key, length: usize, kind: ErrorKind) -> Result<()> {
        let whole = self.inner.get(key, u64::MAX)?;
        self.inner.put(key, &whole[..length.min(whole.len())], PutMode::Replace)?;
        Err(self.error(kind, operation, Some(key)))
    }
}

impl Storage for FaultyStorage {
    fn describe(&self) -> String {
        self.inner.describe()
    }

    fn head(&self, key: &Key) -> Result<Option<ObjectInfo>> {
        self.perform(Operation::Head, Some(key), |_| self.inner.head(key))
    }

    fn get(&self, key: &Key, limit: u64) -> Result<Vec<u8>> {
        self.perform(Operation::Get, Some(key), |effect| Ok(damage(self.inner.get(key, limit)?, effect)))
    }

    fn get_range(&self, key: &Key, offset: u64, length: usize) -> Result<Vec<u8>> {
        self.perform(Operation::GetRange, Some(key), |effect| {
            Ok(damage(self.inner.get_range(key, offset, length)?, effect))
        })
    }

    fn get_range_into(&self, key: &Key, offset: u64, length: usize, buffer: &mut Buffer) -> Result<()> {
        self.perform(Operation::GetRange, Some(key), |effect| {
            self.inner.get_range_into(key, offset, length, buffer)?;
            if effect.is_some() {
                *buffer = damage(buffer.to_vec(), effect).into();
            }
            Ok(())
        })
    }

    fn get_tail(&self, key: &Key, length: usize) -> Result<Tail> {
        self.perform(Operation::GetTail, Some(key), |effect| {
            let Tail { bytes, size } = self.inner.get_tail(key, length)?;
            Ok(Tail { bytes: damage(bytes, effect), size })
        })
    }

    fn put(&self, key: &Key, bytes: &[u8], mode: PutMode) -> Result<()> {
        self.perform(Operation::Put, Some(key), |effect| match effect {
            Some(Effect::IgnoreCondition) => self.inner.put(key, bytes, PutMode::Replace),
            Some(Effect::Tear { length, kind }) => {
                self.inner.put(key, bytes, mode)?;
                self.tear(Operation::Put, key, *length, *kind)
            }
            _ => self.inner.put(key, bytes, mode),
        })
    }

    fn create(&self, key: &Key) -> Result<Box<dyn ObjectWriter>> {
        self.perform(Operation::Create, Some(key), |_| {
            let inner = self.inner.create(key)?;
            Ok(Box::new(FaultyWriter { storage: self.clone(), key: key.clone(), inner }) as Box<dyn ObjectWriter>)
        })
    }

    fn list(&self, prefix: Option<&Key>, visit: &mut dyn FnMut(ObjectInfo) -> ControlFlow<()>) -> Result<()> {
        self.perform(Operation::List, prefix, |_| self.inner.list(prefix, visit))
    }

    fn list_directory(&self, prefix: Option<&Key>) -> Result<Vec<Entry>> {
        self.perform(Operation::ListDirectory, prefix, |_| self.inner.list_directory(prefix))
    }

    fn requests_ahead(&self) -> usize {
        self.inner.requests_ahead()
    }

    fn adopt(&self, capabilities: Capabilities) {
        self.inner.adopt(capabilities);
    }

    fn persist(&self, key: &Key) -> Result<()> {
        self.perform(Operation::Persist, Some(key), |_| self.inner.persist(key))
    }

    fn delete_all(&self, keys: &[Key]) -> Result<()> {
        keys.iter().try_for_each(|key| self.perform(Operation::Delete, Some(key), |_| self.inner.delete(key)))
    }

    fn sweep(&self, prefix: &Key) -> Result<()> {
        self.perform(Operation::Sweep, Some(prefix), |_| self.inner.sweep(prefix))
    }

    fn remove_unfinished(&self, prefix: &Key, before: Timestamp) -> Result<u64> {
        let operation = Operation::RemoveUnfinished;
        self.perform(operation, Some(prefix), |_| self.inner.remove_unfinished(prefix, before))
    }
}

#[derive(Debug)]
struct FaultyWriter {
    storage: FaultyStorage,
    key: Key,
    inner: Box<dyn ObjectWriter>,
}

impl ObjectWriter for FaultyWriter {
    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let Self { storage, key, inner } = self;
        storage.perform(Operation::Write, Some(key), |_| inner.write(bytes))
    }

    fn finish(self: Box<Self>) -> Result<()> {
        let Self { storage, key, inner } = *self;
        storage.perform(Operation::Finish, Some(&key), |effect| match effect {
            Some(Effect::IgnoreCondition) => {
                storage.inner.delete(&key)?;
                inner.finish()
            }
            Some(Effect::Tear { length, kind }) => {
                inner.finish()?;
                storage.tear(Operation::Finish, &key, *length, *kind)
            }
            _ => inner.finish(),
        })
    }
}

/// What a read gives under `effect`.
fn damage(mut bytes: Vec<u8>, effect: Option<&Effect>) -> Vec<u8> {
    match effect {
        Some(Effect::FlipByte { offset }) if !bytes.is_empty() => {
            let position = offset % bytes.len();
            bytes[position] ^= 0xff;
        }
        Some(Effect::Truncate { length }) => bytes.truncate(*length),
        _ => {}
    }
    bytes
}

#[cfg(test)]
mod tests;
