//! A directory on a local or mounted file system.
//!
//! An object is a file under its own name. It is written under a temporary name beside it and synced, then linked to
//! its name, and the directory synced ([`pgark_system::durable`]); so what a killed writer leaves is a temporary file
//! that no listing shows. Directories come with the first object in them and go with the last.
//!
//! Every operation opens the root anew and goes down from there one segment at a time, following no symbolic link. That
//! the root could be opened, and lies on the file system it lay on at first, is what makes "no such object" a proof; a
//! disk that is no longer mounted is [`ErrorKind::RootMissing`].

mod list;
mod stream;
mod sweep;
mod tree;
mod writer;

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::ops::ControlFlow;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use pgark_system::direct::{self, Buffer};
use pgark_system::durable::{self, DurableFile};
use pgark_system::page_cache::NeutralReads;
use rustix::fs::AtFlags;
use rustix::io::Errno;

use crate::error::{Error, ErrorKind, Result, kind_of, kind_of_write};
use crate::key::Key;
use crate::operation::Operation;
use crate::{Entry, ObjectInfo, ObjectWriter, PutMode, Storage, Tail};

/// Permissions as pgBackRest gives them: the group may read.
const FILE_MODE: u32 = 0o640;
const DIRECTORY_MODE: u32 = 0o750;

/// From how many bytes on what is read and written leaves no trace in the page cache.
const LARGE_BYTES: u64 = 256 << 10;

/// How often a directory is created anew that others keep deleting as empty.
const DIRECTORY_ATTEMPTS: usize = 10;

/// A repository in a directory of a local or mounted file system. See the module's documentation for how it works.
#[derive(Debug)]
pub struct LocalStorage {
    place: Place,
    /// The file system of the root when it was opened.
    device: u64,
    /// Directories that are known to be durable, with all above them.
    prepared: Mutex<BTreeSet<Key>>,
}

/// Where the root is, for paths and messages.
#[derive(Clone, Debug)]
struct Place(PathBuf);

impl Place {
    fn path(&self, key: Option<&Key>) -> PathBuf {
        key.map_or_else(|| self.0.clone(), |key| self.0.join(key.as_str()))
    }

    fn describe(&self) -> String {
        format!("repository path '{}'", self.0.display())
    }

    fn error(&self, kind: ErrorKind, operation: Operation, key: Option<&Key>, source: io::Error) -> Error {
        Error::new(kind, operation, key, self.describe(), source)
    }

    /// The root, opened.
    fn open(&self, operation: Operation, key: Option<&Key>) -> Result<OwnedFd> {
        tree::open_root(&self.0).map_err(|error| {
            let kind = match kind_of(&error) {
                ErrorKind::NotFound | ErrorKind::Invalid => ErrorKind::RootMissing,
                kind => kind,
            };
            self.error(kind, operation, key, error)
        })
    }

    fn device(&self, operation: Operation, key: Option<&Key>, root: &OwnedFd) -> Result<u64> {
        let status = rustix::fs::fstat(root).map_err(|errno| {
            let error = io::Error::from(errno);
            self.error(kind_of(&error), operation, key, error)
        })?;
        Ok(status.st_dev)
    }
}

impl LocalStorage {
    /// Opens the repository in the directory `path`, which must exist.
    ///
    /// # Errors
    /// [`ErrorKind::RootMissing`] where it does not exist or is no directory.
    pub fn open(path: &Path) -> Result<Self> {
        let place = Self::place(path)?;
        let device = place.device(Operation::Open, None, &place.open(Operation::Open, None)?)?;
        Ok(Self { place, device, prepared: Mutex::default() })
    }

    /// Creates the directory `path` and those above it, where they are missing, and opens the repository in it.
    ///
    /// # Errors
    /// What the file system says.
    pub fn create_root(path: &Path) -> Result<Self> {
        let place = Self::place(path)?;
        durable::create_directory_all(&place.0, DIRECTORY_MODE)
            .map_err(|error| place.error(kind_of(&error), Operation::Open, None, error))?;
        Self::open(path)
    }

    fn place(path: &Path) -> Result<Place> {
        match std::path::absolute(path) {
            Ok(path) => Ok(Place(path)),
            Err(error) => Err(Place(path.to_owned()).error(ErrorKind::Invalid, Operation::Open, None, error)),
        }
    }

    /// The root, proven to be there. While it is held, its file system cannot be unmounted.
    fn root(&self, operation: Operation, key: Option<&Key>) -> Result<OwnedFd> {
        let root = self.place.open(operation, key)?;
        if self.place.device(operation, key, &root)? == self.device {
            return Ok(root);
        }
        let reason = "its file system is not the one that was mounted when it was opened";
        Err(self.place.error(ErrorKind::RootMissing, operation, key, io::Error::other(reason)))
    }

    /// An object opened for reading, and its size.
    fn open_object(&self, operation: Operation, key: &Key) -> Result<(OwnedFd, u64)> {
        let root = self.root(operation, Some(key))?;
        match tree::open_object(&root, key) {
            Ok(Some(found)) => Ok(found),
            Ok(None) => Err(self.read_error(operation, key, io::Error::new(io::ErrorKind::NotFound, "no such object"))),
            Err(error) => Err(self.read_error(operation, key, error)),
        }
    }

    /// An object opened for reading this range, which it has.
    fn open_range(&self, key: &Key, offset: u64, length: usize) -> Result<OwnedFd> {
        let (object, size) = self.open_object(Operation::GetRange, key)?;
        if offset.checked_add(length as u64).is_some_and(|end| end <= size) {
            return Ok(object);
        }
        let reason = io::Error::other(format!("it has {size} bytes, {length} were asked for at {offset}"));
        Err(self.place.error(ErrorKind::TooShort, Operation::GetRange, Some(key), reason))
    }

    fn read_error(&self, operation: Operation, key: &Key, error: io::Error) -> Error {
        self.place.error(kind_of(&error), operation, Some(key), error)
    }

    fn read(&self, operation: Operation, key: &Key, object: &OwnedFd, offset: u64, length: usize) -> Result<Vec<u8>> {
        let mut bytes = vec![0; length];
        read_exact_at(object, &mut bytes, offset).map_err(|error| self.read_error(operation, key, error))?;
        Ok(bytes)
    }

    /// Starts a file that will become `key`, in a directory that is durable.
    fn start(&self, operation: Operation, key: &Key) -> Result<DurableFile> {
        let mut attempt = 1;
        loop {
            let root = self.root(operation, Some(key))?;
            let prepared = key.parent().map_or(Ok(()), |directory| self.prepare(&root, &directory));
            match prepared.and_then(|()| DurableFile::create(&self.place.path(Some(key)), FILE_MODE)) {
                Ok(file) => return Ok(file),
                // Whoever deleted the last object in the directory removed it just now.
                Err(error) if error.kind() == io::ErrorKind::NotFound && attempt < DIRECTORY_ATTEMPTS => attempt += 1,
                // What exists is not the object, which nobody has asked for yet, but a file in a directory's place.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    return Err(self.place.error(ErrorKind::Invalid, operation, Some(key), error));
                }
                Err(error) => return Err(self.place.error(kind_of_write(&error), operation, Some(key), error)),
            }
        }
    }

    /// Creates a directory where it is missing, and makes it durable with all above it. One that exists may have been
    /// created by a process that was killed before it could sync it, so each is synced once by every process.
    fn prepare(&self, root: &OwnedFd, directory: &Key) -> io::Result<()> {
        let present = tree::directory(root, Some(directory))?.is_some();
        let mut prepared = self.prepared();
        if present && prepared.contains(directory) {
            return Ok(());
        }
        if !present {
            prepared.clear();
        }
        let mut missing: Vec<_> = std::iter::successors(Some(directory.clone()), Key::parent)
            .take_while(|ancestor| !prepared.contains(ancestor))
            .collect();
        while let Some(ancestor) = missing.pop() {
            durable::create_directory_all(&self.place.path(Some(&ancestor)), DIRECTORY_MODE)?;
            durable::sync_directory(&self.place.path(ancestor.parent().as_ref()))?;
            prepared.insert(ancestor);
        }
        Ok(())
    }

    fn prepared(&self) -> MutexGuard<'_, BTreeSet<Key>> {
        self.prepared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the name of an object away. `None` where its directory is missing, too.
    fn unlink(&self, root: &OwnedFd, key: &Key) -> Result<Option<()>> {
        let failed = |error| self.read_error(Operation::Delete, key, error);
        let Some(directory) = tree::directory(root, key.parent().as_ref()).map_err(failed)? else { return Ok(None) };
        match rustix::fs::unlinkat(&directory, key.name(), AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(Some(())),
            Err(errno) => Err(failed(errno.into())),
        }
    }

    /// Removes a directory if it is empty. `false` where it stays.
    fn remove_if_empty(&self, root: &OwnedFd, directory: &Key) -> Result<bool> {
        let failed = |error| self.read_error(Operation::Delete, directory, error);
        let Some(above) = tree::directory(root, directory.parent().as_ref()).map_err(failed)? else { return Ok(true) };
        let removed = rustix::fs::unlinkat(&above, directory.name(), AtFlags::REMOVEDIR);
        Ok(matches!(removed, Ok(()) | Err(Errno::NOENT)))
    }

    /// Makes deletions in a directory durable.
    fn sync(&self, directory: Option<&Key>) -> Result<()> {
        match durable::sync_directory(&self.place.path(directory)) {
            // Another deleter has removed it meanwhile, and syncs the one above.
            Err(error) if error.kind() == io::ErrorKind::NotFound && directory.is_some() => Ok(()),
            Err(error) => Err(self.place.error(kind_of(&error), Operation::Delete, directory, error)),
            Ok(()) => Ok(()),
        }
    }
}

impl Storage for LocalStorage {
    fn describe(&self) -> String {
        self.place.describe()
    }

    fn head(&self, key: &Key) -> Result<Option<ObjectInfo>> {
        let root = self.root(Operation::Head, Some(key))?;
        tree::object_info(&root, key).map_err(|error| self.read_error(Operation::Head, key, error))
    }

    fn get(&self, key: &Key, limit: u64) -> Result<Vec<u8>> {
        let (object, size) = self.open_object(Operation::Get, key)?;
        match usize::try_from(size) {
            Ok(length) if size <= limit => self.read(Operation::Get, key, &object, 0, length),
            _ => {
                let reason = io::Error::other(format!("it has {size} bytes, the limit is {limit}"));
                Err(self.place.error(ErrorKind::TooLarge, Operation::Get, Some(key), reason))
            }
        }
    }

    fn get_range(&self, key: &Key, offset: u64, length: usize) -> Result<Vec<u8>> {
        let object = self.open_range(key, offset, length)?;
        self.read(Operation::GetRange, key, &object, offset, length)
    }

    fn get_range_into(&self, key: &Key, offset: u64, length: usize, buffer: &mut Buffer) -> Result<()> {
        let object = self.open_range(key, offset, length)?;
        let part = offset..offset + length as u64;
        let read = if length as u64 >= LARGE_BYTES {
            direct::read(&object, &NeutralReads::of(part.clone()), buffer, part).and_then(|()| match buffer.len() {
                read if read == length => Ok(()),
                _ => Err(became_shorter()),
            })
        } else {
            buffer.make_room(length);
            read_exact_at(&object, buffer, offset)
        };
        read.map_err(|error| self.read_error(Operation::GetRange, key, error))
    }

    fn get_tail(&self, key: &Key, length: usize) -> Result<Tail> {
        let (object, size) = self.open_object(Operation::GetTail, key)?;
        let length = usize::try_from(size).map_or(length, |size| size.min(length));
        let bytes = self.read(Operation::GetTail, key, &object, size - length as u64, length)?;
        Ok(Tail { bytes, size })
    }

    fn put(&self, key: &Key, bytes: &[u8], mode: PutMode) -> Result<()> {
        let mut file = self.start(Operation::Put, key)?;
        file.write_all(bytes)
            .map_err(|error| self.place.error(kind_of_write(&error), Operation::Put, Some(key), error))?;
        writer::commit(file, bytes.len() as u64, &self.place, Operation::Put, key, mode)
    }

    fn create(&self, key: &Key) -> Result<Box<dyn ObjectWriter>> {
        let file = self.start(Operation::Create, key)?;
        Ok(Box::new(writer::LocalWriter::new(file, self.place.clone(), key.clone())))
    }

    fn list(&self, prefix: Option<&Key>, visit: &mut dyn FnMut(ObjectInfo) -> ControlFlow<()>) -> Result<()> {
        let root = self.root(Operation::List, prefix)?;
        list::below(&self.place, &root, prefix, visit)
    }

    fn list_directory(&self, prefix: Option<&Key>) -> Result<Vec<Entry>> {
        let root = self.root(Operation::ListDirectory, prefix)?;
        list::directory(&self.place, &root, prefix)
    }

    fn persist(&self, key: &Key) -> Result<()> {
        let root = self.root(Operation::Persist, Some(key))?;
        let directory = key.parent();
        let prepared = directory.as_ref().map_or(Ok(()), |directory| self.prepare(&root, directory));
        prepared
            .and_then(|()| durable::sync_directory(&self.place.path(directory.as_ref())))
            .map_err(|error| self.place.error(kind_of(&error), Operation::Persist, Some(key), error))
    }

    fn sweep(&self, prefix: &Key) -> Result<()> {
        let root = self.root(Operation::Sweep, Some(prefix))?;
        sweep::below(&root, prefix)
            .map_err(|error| self.place.error(kind_of(&error), Operation::Sweep, Some(prefix), error))?;
        let mut above = prefix.parent();
        while let Some(directory) = above {
            if !self.remove_if_empty(&root, &directory)? {
                return self.sync(Some(&directory));
            }
            above = directory.parent();
        }
        self.sync(None)
    }

    fn remove_unfinished(&self, prefix: &Key, before: Timestamp) -> Result<u64> {
        let root = self.root(Operation::RemoveUnfinished, Some(prefix))?;
        sweep::unfinished(&root, prefix, before)
            .map_err(|error| self.place.error(kind_of(&error), Operation::RemoveUnfinished, Some(prefix), error))
    }

    fn delete_all(&self, keys: &[Key]) -> Result<()> {
        let Some(first) = keys.first() else { return Ok(()) };
        let root = self.root(Operation::Delete, Some(first))?;
        let mut touched = BTreeSet::new();
        for key in keys {
            if self.unlink(&root, key)?.is_some() {
                touched.insert(key.parent());
            }
        }
        // The last in order first: so a directory comes before the one it lies in.
        while let Some(directory) = touched.pop_last() {
            match &directory {
                Some(key) if self.remove_if_empty(&root, key)? => drop(touched.insert(key.parent())),
                _ => self.sync(directory.as_ref())?,
            }
        }
        Ok(())
    }
}

/// Fills `buffer` from `offset` on.
fn read_exact_at(object: impl AsFd, buffer: &mut [u8], offset: u64) -> io::Result<()> {
    let length = buffer.len() as u64;
    if length >= LARGE_BYTES {
        let read = NeutralReads::of(offset..offset + length).read_at(object, buffer, offset)?;
        return if read == buffer.len() { Ok(()) } else { Err(became_shorter()) };
    }
    let mut done = 0;
    while done < buffer.len() {
        match rustix::io::pread(&object, &mut buffer[done..], offset + done as u64) {
            Ok(0) => return Err(became_shorter()),
            Ok(count) => done += count,
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}

fn became_shorter() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "it became shorter while it was read")
}

#[cfg(test)]
mod tests;
