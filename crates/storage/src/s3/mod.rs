//! Repositories in S3 and in what speaks its language.
//!
//! - Requests are signed with the hash of what they carry, so that a service that checks it refuses what was damaged on
//!   the way. Nothing is sent in chunks with trailers, which many services do not know.
//! - An object is created by one request that the service refuses where the name is taken (`If-None-Match`). An answer
//!   that got lost makes that ambiguous: then what is there is read back and compared. A service that knows no such
//!   requests is looked at before the object is written; two writers at the same moment are not told from each other
//!   then. [`probe`](crate::probe) finds out, and [`Storage::adopt`] tells the driver.
//! - A stream up to the size of a part is one such request. A longer one is an upload in parts, whose last request makes
//!   the object and is refused where the name is taken.
//! - An object is absent only where S3 says that it knows no such key. A missing bucket, a refusal and an answer that is
//!   not one of S3 are errors.

mod client;
mod credentials;
mod document;
mod failure;
mod settings;
mod writer;

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use object_store::GetRange;
use object_store::path::Path;
use tokio::runtime::Runtime;

pub use self::credentials::{CredentialSettings, KeySource};
pub use self::settings::{S3Settings, ServerEncryption, UriStyle};

use self::client::{DELETED_AT_ONCE, Meta, Page, S3Client};
use self::writer::S3Writer;
use crate::error::{Error, ErrorKind, Result};
use crate::key::Key;
use crate::network::{Failure, Patience, runtime};
use crate::operation::Operation;
use crate::{Capabilities, Entry, EntryKind, ObjectInfo, ObjectWriter, PutMode, Storage, Tail};

/// The largest object that S3 holds. A longer range is not asked for.
const OBJECT_LIMIT: u64 = 50 << 40;

/// A request takes some tens of milliseconds before its first byte comes, about as long as a worker needs for what one
/// brings; a few more under way hide that.
const REQUESTS_AHEAD: usize = 3;

/// A repository in a bucket. See the module's documentation for how it works.
#[derive(Clone, Debug)]
pub struct S3Storage(Arc<Bucket>);

/// What a storage and its writers share.
#[derive(Debug)]
struct Bucket {
    client: S3Client,
    patience: Patience,
    runtime: &'static Runtime,
    /// What the names of all objects begin with, with a slash at its end; or nothing.
    prefix: String,
    description: String,
    part_size: usize,
    /// Whether the service refuses to create what exists.
    conditional_create: AtomicBool,
}

impl S3Storage {
    /// A repository in a bucket. Nothing is asked of the service yet.
    ///
    /// # Errors
    /// [`ErrorKind::Settings`] where the settings make no sense or certificates can't be read.
    pub fn open(settings: &S3Settings) -> Result<Self> {
        let failed = |failure: Failure| failure.of(Operation::Open, None, settings.describe());
        let runtime = runtime().map_err(|error| failed(Failure::new(ErrorKind::Io, error.to_string())))?;
        let path = settings.path.trim_matches('/');
        let prefix = if path.is_empty() { String::new() } else { format!("{path}/") };
        Ok(Self(Arc::new(Bucket {
            client: S3Client::new(settings).map_err(failed)?,
            patience: Patience::new(settings.io_timeout),
            runtime,
            prefix,
            description: settings.describe(),
            part_size: settings.part_size.max(S3Settings::PART_SIZE_MIN),
            conditional_create: AtomicBool::new(true),
        })))
    }
}

impl Bucket {
    fn error(&self, failure: Failure, operation: Operation, key: Option<&Key>) -> Error {
        let named = failure.object.as_deref().and_then(|name| self.key(name));
        let is_denied = failure.is_code("AccessDenied");
        let failure = if is_denied { failure.hint(failure::right(operation)) } else { failure };
        failure.of(operation, named.as_ref().or(key), self.description.clone())
    }

    /// The name of an object in the bucket.
    fn path(&self, operation: Operation, key: &Key) -> Result<Path> {
        Path::parse(format!("{}{key}", self.prefix))
            .map_err(|error| self.error(Failure::new(ErrorKind::Invalid, error.to_string()), operation, Some(key)))
    }

    /// The key of a name in the bucket, if it is one of ours.
    fn key(&self, name: &str) -> Option<Key> {
        name.strip_prefix(&self.prefix).and_then(|name| Key::parse(name).ok())
    }

    /// What the names below a prefix begin with.
    fn below(&self, prefix: Option<&Key>) -> String {
        prefix.map_or_else(|| self.prefix.clone(), |key| format!("{}{key}/", self.prefix))
    }

    fn creates_exclusively(&self) -> bool {
        self.conditional_create.load(Ordering::Relaxed)
    }

    async fn head(&self, path: &Path) -> Result<Option<Meta>, Failure> {
        self.patience.attempt(|_| self.client.head(path)).await
    }

    async fn read(&self, path: &Path, range: Option<GetRange>, limit: u64) -> Result<client::Part, Failure> {
        self.patience.attempt(|_| self.client.read(path, range.clone(), limit)).await
    }

    /// Writes an object that must not exist.
    async fn create(&self, path: &Path, bytes: &Bytes) -> Result<(), Failure> {
        self.patience
            .attempt(|ambiguous| async move {
                let exclusive = self.creates_exclusively();
                let created = if !exclusive && self.client.head(path).await?.is_some() {
                    Err(taken())
                } else {
                    self.client.put(path, bytes.clone(), exclusive).await
                };
                match created {
                    // An earlier attempt may have written it.
                    Err(failure) if failure.kind == ErrorKind::AlreadyExists && ambiguous => {
                        if self.holds(path, bytes).await? { Ok(()) } else { Err(failure) }
                    }
                    created => created,
                }
            })
            .await
    }

    /// Whether an object has this content.
    async fn holds(&self, path: &Path, bytes: &Bytes) -> Result<bool, Failure> {
        match self.client.read(path, None, bytes.len() as u64).await {
            Ok(part) => Ok(part.bytes == bytes),
            Err(failure) if is_other(&failure) => Ok(false),
            Err(failure) => Err(failure),
        }
    }

    /// Whether an object has this size and ends in these bytes.
    async fn ends_in(&self, path: &Path, size: u64, bytes: &Bytes) -> Result<bool, Failure> {
        let length = bytes.len() as u64;
        match self.client.read(path, Some(GetRange::Suffix(length)), length).await {
            Ok(part) => Ok(part.meta.size == size && part.bytes == bytes),
            Err(failure) if is_other(&failure) => Ok(false),
            Err(failure) => Err(failure),
        }
    }

    /// Deletes objects, at most as many as one request takes.
    async fn delete(&self, paths: &[Path]) -> Result<(), Failure> {
        if let [path] = paths {
            return self.patience.attempt(|_| self.client.delete(path)).await;
        }
        match self.patience.attempt(|_| self.client.delete_all(paths)).await {
            // Not every service knows requests on many objects.
            Err(failure) if failure.kind == ErrorKind::Unsupported => {
                for path in paths {
                    self.patience.attempt(|_| self.client.delete(path)).await?;
                }
                Ok(())
            }
            deleted => deleted,
        }
    }

    /// Gives up every upload of names that begin with `prefix`.
    async fn abort_uploads(&self, prefix: &str) -> Result<(), Failure> {
        let mut before = Vec::new();
        loop {
            let uploads = self.patience.attempt(|_| self.client.uploads(prefix)).await?;
            // A service may go on listing what was given up a moment ago.
            if uploads.is_empty() || uploads == before {
                return Ok(());
            }
            for (path, id) in &uploads {
                let aborted = self.patience.attempt(|_| self.client.abort_upload(path, id)).await;
                aborted.or_else(|failure| if failure.is_code("NoSuchUpload") { Ok(()) } else { Err(failure) })?;
            }
            before = uploads;
        }
    }

    /// Calls `visit` with every page of a listing.
    fn pages(
        &self,
        operation: Operation,
        prefix: Option<&Key>,
        mut visit: impl FnMut(Page) -> ControlFlow<()>,
    ) -> Result<()> {
        let (names, by_directory) = (self.below(prefix), operation == Operation::ListDirectory);
        let mut token = None;
        loop {
            let attempts = self.patience.attempt(|_| self.client.list(&names, by_directory, token.clone()));
            let page = self.runtime.block_on(attempts).map_err(|failure| self.error(failure, operation, prefix))?;
            token.clone_from(&page.next);
            if visit(page).is_break() || token.is_none() {
                return Ok(());
            }
        }
    }
}

/// Whether a failure to read an object shows that it is not the one that was written.
fn is_other(failure: &Failure) -> bool {
    matches!(failure.kind, ErrorKind::NotFound | ErrorKind::TooLarge | ErrorKind::TooShort)
}

fn taken() -> Failure {
    Failure::new(ErrorKind::AlreadyExists, "the name is taken")
}

impl Storage for S3Storage {
    fn describe(&self) -> String {
        self.0.description.clone()
    }

    fn head(&self, key: &Key) -> Result<Option<ObjectInfo>> {
        let bucket = &*self.0;
        let path = bucket.path(Operation::Head, key)?;
        let found = bucket.runtime.block_on(bucket.head(&path));
        let found = found.map_err(|failure| bucket.error(failure, Operation::Head, Some(key)))?;
        Ok(found.map(|meta| info(key.clone(), meta)))
    }

    fn get(&self, key: &Key, limit: u64) -> Result<Vec<u8>> {
        let bucket = &*self.0;
        let path = bucket.path(Operation::Get, key)?;
        let read = bucket.runtime.block_on(bucket.read(&path, None, limit));
        read.map(|part| part.bytes.into()).map_err(|failure| bucket.error(failure, Operation::Get, Some(key)))
    }

    fn get_range(&self, key: &Key, offset: u64, length: usize) -> Result<Vec<u8>> {
        let bucket = &*self.0;
        let path = bucket.path(Operation::GetRange, key)?;
        let read = bucket.runtime.block_on(read_range(bucket, &path, offset, length as u64));
        read.map(Into::into).map_err(|failure| bucket.error(failure, Operation::GetRange, Some(key)))
    }

    fn get_tail(&self, key: &Key, length: usize) -> Result<Tail> {
        let bucket = &*self.0;
        let path = bucket.path(Operation::GetTail, key)?;
        let read = bucket.runtime.block_on(read_tail(bucket, &path, length as u64));
        read.map_err(|failure| bucket.error(failure, Operation::GetTail, Some(key)))
    }

    fn put(&self, key: &Key, bytes: &[u8], mode: PutMode) -> Result<()> {
        let bucket = &*self.0;
        let path = bucket.path(Operation::Put, key)?;
        let bytes = Bytes::copy_from_slice(bytes);
        let written = bucket.runtime.block_on(async {
            match mode {
                PutMode::Create => bucket.create(&path, &bytes).await,
                PutMode::Replace => bucket.patience.attempt(|_| bucket.client.put(&path, bytes.clone(), false)).await,
            }
        });
        written.map_err(|failure| bucket.error(failure, Operation::Put, Some(key)))
    }

    fn create(&self, key: &Key) -> Result<Box<dyn ObjectWriter>> {
        let path = self.0.path(Operation::Create, key)?;
        Ok(Box::new(S3Writer::new(Arc::clone(&self.0), key.clone(), path)))
    }

    fn list(&self, prefix: Option<&Key>, visit: &mut dyn FnMut(ObjectInfo) -> ControlFlow<()>) -> Result<()> {
        self.0.pages(Operation::List, prefix, |page| {
            let mut objects = page.objects.into_iter().filter_map(|(name, meta)| Some(info(self.0.key(&name)?, meta)));
            objects.by_ref().filter(|object| object.key.is_below(prefix)).try_for_each(&mut *visit)
        })
    }

    fn list_directory(&self, prefix: Option<&Key>) -> Result<Vec<Entry>> {
        let mut entries = Vec::new();
        self.0.pages(Operation::ListDirectory, prefix, |page| {
            let directories = page.directories.into_iter().filter_map(|name| {
                let name = self.0.key(&name)?.name().to_owned();
                Some(Entry { name, kind: EntryKind::Directory })
            });
            entries.extend(directories);
            let objects = page.objects.into_iter().filter_map(|(name, meta)| {
                let key = self.0.key(&name).filter(|key| key.is_below(prefix))?;
                Some(Entry { name: key.name().to_owned(), kind: EntryKind::Object(info(key, meta)) })
            });
            entries.extend(objects);
            ControlFlow::Continue(())
        })?;
        entries.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(entries)
    }

    fn requests_ahead(&self) -> usize {
        REQUESTS_AHEAD
    }

    fn adopt(&self, capabilities: Capabilities) {
        self.0.conditional_create.store(capabilities.conditional_create, Ordering::Relaxed);
    }

    fn delete_all(&self, keys: &[Key]) -> Result<()> {
        let bucket = &*self.0;
        for batch in keys.chunks(DELETED_AT_ONCE) {
            let first = batch.first();
            let paths = batch.iter().map(|key| bucket.path(Operation::Delete, key)).collect::<Result<Vec<_>>>()?;
            let deleted = bucket.runtime.block_on(bucket.delete(&paths));
            deleted.map_err(|failure| bucket.error(failure, Operation::Delete, first))?;
        }
        Ok(())
    }

    fn sweep(&self, prefix: &Key) -> Result<()> {
        let bucket = &*self.0;
        let swept = bucket.runtime.block_on(bucket.abort_uploads(&bucket.below(Some(prefix))));
        match swept {
            // Not all may do it, not all services can; it is the same to readers, and rules of the bucket do it too.
            Err(failure) if matches!(failure.kind, ErrorKind::Denied | ErrorKind::Unsupported) => {
                let hint = failure::right(Operation::Sweep);
                tracing::warn!(
                    "uploads below '{prefix}' that were broken off can't be removed: {failure}\nHINT: {hint}"
                );
                Ok(())
            }
            swept => swept.map_err(|failure| bucket.error(failure, Operation::Sweep, Some(prefix))),
        }
    }
}

async fn read_range(bucket: &Bucket, path: &Path, offset: u64, length: u64) -> Result<Bytes, Failure> {
    let too_short = |size: u64| {
        let reason = format!("it has {size} bytes, {length} were asked for at {offset}");
        Failure::new(ErrorKind::TooShort, reason)
    };
    let end = offset.checked_add(length).filter(|end| *end <= OBJECT_LIMIT);
    let Some(end) = end.filter(|_| length > 0) else {
        // Nothing to read, or more than there can be: S3 knows no such range.
        return match bucket.head(path).await? {
            None => Err(Failure::new(ErrorKind::NotFound, "there is no such object")),
            Some(meta) if length == 0 && offset <= meta.size => Ok(Bytes::new()),
            Some(meta) => Err(too_short(meta.size)),
        };
    };
    let part = bucket.read(path, Some(GetRange::Bounded(offset..end)), length).await?;
    if part.bytes.len() as u64 == length { Ok(part.bytes) } else { Err(too_short(part.meta.size)) }
}

async fn read_tail(bucket: &Bucket, path: &Path, length: u64) -> Result<Tail, Failure> {
    let length = length.min(OBJECT_LIMIT);
    if length > 0 {
        match bucket.read(path, Some(GetRange::Suffix(length)), length).await {
            // An object of no bytes has no range at all.
            Err(failure) if failure.kind == ErrorKind::TooShort => {}
            read => return read.map(|part| Tail { bytes: part.bytes.into(), size: part.meta.size }),
        }
    }
    match bucket.head(path).await? {
        None => Err(Failure::new(ErrorKind::NotFound, "there is no such object")),
        Some(meta) if meta.size == 0 || length == 0 => Ok(Tail { bytes: Vec::new(), size: meta.size }),
        Some(meta) => {
            let reason = format!("its last {length} bytes were refused, but it has {}", meta.size);
            Err(Failure::new(ErrorKind::Unsupported, reason))
        }
    }
}

fn info(key: Key, meta: Meta) -> ObjectInfo {
    ObjectInfo { key, size: meta.size, modified: meta.modified }
}
