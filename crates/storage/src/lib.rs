//! Object storage under one small trait.
//!
//! A repository is a set of named objects below one root. [`Storage`] is what pgark asks of the place that holds them,
//! chosen so that an object store and a file system can both give it: objects are written whole, appear at once or not
//! at all, are read by range, and are listed by directory-like prefix. The trait is synchronous, because the data path
//! is plain threads; a driver that talks to a network keeps its own runtime behind it.
//!
//! What every driver promises, and [`conformance`] tests:
//!
//! - **Durable before acknowledged.** When [`Storage::put`], [`ObjectWriter::finish`] or [`Storage::delete`] return
//!   `Ok`, the result survives a power cut.
//! - **Whole or absent.** No reader and no listing ever sees a part of an object, whatever became of its writer.
//! - **Create is exclusive.** Of any number of writers that create one name, exactly one succeeds. Where a storage
//!   cannot do that, [`probe`] finds out, and the driver looks at the name before it writes, so that only writers at the
//!   same moment are not told from each other.
//! - **Absent is proven.** [`ErrorKind::NotFound`], `None` and an empty listing are only given where the storage itself
//!   was reached and said so. An unmounted disk or a lost connection is another error, so that it never looks like an
//!   empty archive.
//! - **Bounded memory.** Nothing is allocated on the word of a length that was not checked, and a stream holds a fixed
//!   buffer whatever its length.
//!
//! An error in writing may be ambiguous: the connection broke, or a sync failed, after the object had taken effect.
//! Whoever must know reads the name back.
//!
//! A name must not be both an object and a directory of other objects (`a` beside `a/b`): a file system cannot hold
//! both. Drivers on which it is possible need not refuse it.

pub mod conformance;
mod error;
pub mod fault;
mod key;
pub mod local;
pub mod memory;
mod network;
mod operation;
mod probe;
pub mod s3;
mod secret;
mod settings;

use std::fmt::Debug;
use std::ops::ControlFlow;

use jiff::Timestamp;
use pgark_system::direct::Buffer;

pub use crate::error::{Error, ErrorKind, Origin, Result};
pub use crate::key::{Key, KeyError};
pub use crate::local::LocalStorage;
pub use crate::memory::MemoryStorage;
pub use crate::network::{Endpoint, EndpointError, Scheme, Traffic, Trust, post_json, traffic};
pub use crate::operation::Operation;
pub use crate::probe::{Capabilities, probe};
pub use crate::s3::{S3Settings, S3Storage};
pub use crate::secret::Secret;
pub use crate::settings::StorageSettings;

/// What a storage says of one object without its content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectInfo {
    /// Its name.
    pub key: Key,
    /// Its length in bytes.
    pub size: u64,
    /// When it was written, by the storage's clock, which may differ from this machine's.
    pub modified: Timestamp,
}

/// The end of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tail {
    /// The last bytes of the object: as many as were asked for, or all it has.
    pub bytes: Vec<u8>,
    /// The length of the whole object in bytes.
    pub size: u64,
}

/// One name in a directory-like listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The last segment of the name.
    pub name: String,
    /// What the name stands for.
    pub kind: EntryKind,
}

/// What an [`Entry`] stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// Names that go on below this one. On a file system a directory may be empty.
    Directory,
    /// An object.
    Object(ObjectInfo),
}

/// What [`Storage::put`] does where the name is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PutMode {
    /// Nothing: it fails with [`ErrorKind::AlreadyExists`].
    Create,
    /// The new object takes the place of the old one, in one step.
    Replace,
}

/// A place that holds the objects of one repository. See the crate's documentation for what every driver promises.
pub trait Storage: Send + Sync + Debug {
    /// The storage as a message names it: `repository path '/var/lib/pgark'`.
    fn describe(&self) -> String;

    /// What is known of an object, or `None` where there is none.
    ///
    /// # Errors
    /// Anything but [`ErrorKind::NotFound`].
    fn head(&self, key: &Key) -> Result<Option<ObjectInfo>>;

    /// The whole object, of at most `limit` bytes.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`]; [`ErrorKind::TooLarge`] past the limit, before anything is allocated for it.
    fn get(&self, key: &Key, limit: u64) -> Result<Vec<u8>>;

    /// Exactly `length` bytes from `offset` on. A range of no bytes is answered with as many checks.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`]; [`ErrorKind::TooShort`] where the object ends before the range does, before anything is
    /// allocated for it.
    fn get_range(&self, key: &Key, offset: u64, length: usize) -> Result<Vec<u8>>;

    /// The same into a buffer, whose content is these bytes then. So a driver need not ask for new memory each time.
    ///
    /// # Errors
    /// Those of [`Storage::get_range`]. What the buffer holds then nobody knows.
    fn get_range_into(&self, key: &Key, offset: u64, length: usize, buffer: &mut Buffer) -> Result<()> {
        // Memory that this driver can't fill is not kept while it waits.
        *buffer = Buffer::default();
        *buffer = self.get_range(key, offset, length)?.into();
        Ok(())
    }

    /// The last `length` bytes, or all there are, with the size of the object: one request, one state of the object.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`].
    fn get_tail(&self, key: &Key, length: usize) -> Result<Tail>;

    /// Writes a whole object from memory. It is durable on return.
    ///
    /// # Errors
    /// [`ErrorKind::AlreadyExists`] with [`PutMode::Create`]; [`ErrorKind::NoSpace`].
    fn put(&self, key: &Key, bytes: &[u8], mode: PutMode) -> Result<()>;

    /// Starts an object that is written as a stream and must not exist when it is finished.
    ///
    /// # Errors
    /// A driver may, but need not, fail with [`ErrorKind::AlreadyExists`] here already.
    fn create(&self, key: &Key) -> Result<Box<dyn ObjectWriter>>;

    /// Calls `visit` for every object below `prefix` (below the root for `None`), at any depth, in the order of their
    /// names, until it breaks. `a/b` does not list `a/bc`, nor an object `a/b` itself. Objects that are written or
    /// deleted meanwhile may or may not be seen.
    ///
    /// # Errors
    /// A prefix without objects is no error.
    fn list(&self, prefix: Option<&Key>, visit: &mut dyn FnMut(ObjectInfo) -> ControlFlow<()>) -> Result<()>;

    /// The names one level below `prefix` (below the root for `None`), in their order.
    ///
    /// # Errors
    /// A prefix without objects is no error.
    fn list_directory(&self, prefix: Option<&Key>) -> Result<Vec<Entry>>;

    /// Takes to account what [`probe`] found out earlier, as the descriptor of the repository tells. A driver that was
    /// told nothing relies on the storage to do what a repository wants of it.
    fn adopt(&self, _capabilities: Capabilities) {}

    /// How many requests beside the one whose answer is being worked on are worth having under way for each worker: none
    /// where answers come at once, as from a local disk.
    fn requests_ahead(&self) -> usize {
        0
    }

    /// Makes sure that an object which was found is durable. On a file system a writer that was killed may have left one
    /// that is visible and would not survive a power cut; on an object store what is visible is durable.
    ///
    /// # Errors
    /// What the storage says.
    fn persist(&self, _key: &Key) -> Result<()> {
        Ok(())
    }

    /// Deletes objects, in no certain order. One that is absent counts as deleted. All are gone durably on return.
    ///
    /// # Errors
    /// Some may be deleted then and some not; it can be called again with the same names.
    fn delete_all(&self, keys: &[Key]) -> Result<()>;

    /// Removes what lies below `prefix` on a file system and is no object: unfinished files and empty directories.
    /// Nobody may be writing there. An object store has nothing of that kind.
    ///
    /// # Errors
    /// What the storage says.
    fn sweep(&self, _prefix: &Key) -> Result<()> {
        Ok(())
    }

    /// Removes the unfinished files below `prefix` that nobody has written to since `before`, by the storage's clock; gives
    /// how many. Somebody may be writing there: one whose unfinished file is gone fails. An object store has no such files
    /// that would have to be looked for.
    ///
    /// # Errors
    /// What the storage says.
    fn remove_unfinished(&self, _prefix: &Key, _before: Timestamp) -> Result<u64> {
        Ok(0)
    }

    /// Deletes one object; see [`Storage::delete_all`].
    ///
    /// # Errors
    /// An object that is absent is no error.
    fn delete(&self, key: &Key) -> Result<()> {
        self.delete_all(std::slice::from_ref(key))
    }
}

/// An object being written. Nothing of it is visible before [`ObjectWriter::finish`]; dropped before that, it leaves
/// nothing visible. Memory is bounded whatever its length.
pub trait ObjectWriter: Send + Debug {
    /// Appends bytes. After an error the object is lost: every further call fails.
    ///
    /// # Errors
    /// [`ErrorKind::NoSpace`] and what else the storage says.
    fn write(&mut self, bytes: &[u8]) -> Result<()>;

    /// Makes the object appear under its name. It is durable on return.
    ///
    /// # Errors
    /// [`ErrorKind::AlreadyExists`] where the name was taken meanwhile.
    fn finish(self: Box<Self>) -> Result<()>;
}
