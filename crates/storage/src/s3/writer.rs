//! Objects written as a stream.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use object_store::path::Path;
use tokio::task::JoinHandle;

use super::{Bucket, taken};
use crate::ObjectWriter;
use crate::error::{Error, ErrorKind, Result};
use crate::key::Key;
use crate::network::Failure;
use crate::operation::Operation;

/// The most parts that an upload may have.
const PARTS_MAX: usize = 10_000;
/// How long giving up an upload may take, once.
const ABORT_TIMEOUT: Duration = Duration::from_secs(5);

/// An object of an [`S3Storage`](super::S3Storage) under way. While one part is sent, the next is filled: two parts is
/// all the memory it takes.
#[derive(Debug)]
pub(super) struct S3Writer {
    bucket: Arc<Bucket>,
    key: Key,
    path: Path,
    /// The part that is being filled.
    part: Vec<u8>,
    /// Bytes written so far.
    size: u64,
    upload: Option<Upload>,
    failed: bool,
}

/// An upload in parts.
#[derive(Debug)]
struct Upload {
    id: String,
    /// What the service calls the parts that it has.
    parts: Vec<String>,
    /// The part on its way.
    sending: Option<JoinHandle<Result<String, Failure>>>,
}

impl S3Writer {
    pub(super) fn new(bucket: Arc<Bucket>, key: Key, path: Path) -> Self {
        Self { bucket, key, path, part: Vec::new(), size: 0, upload: None, failed: false }
    }

    /// Appends bytes. A full part stays until more comes, so that there is always a last part to finish with.
    fn append(&mut self, mut bytes: &[u8]) -> Result<(), Failure> {
        while !bytes.is_empty() {
            if self.part.len() == self.bucket.part_size {
                let part = std::mem::take(&mut self.part);
                self.send(part.into())?;
            }
            if self.part.capacity() == 0 {
                // Only what is written to of it takes memory.
                self.part.reserve_exact(self.bucket.part_size);
            }
            let (now, later) = bytes.split_at(bytes.len().min(self.bucket.part_size - self.part.len()));
            self.part.extend_from_slice(now);
            self.size += now.len() as u64;
            bytes = later;
        }
        Ok(())
    }

    /// Sends a part on its way, after the one before has arrived.
    fn send(&mut self, bytes: Bytes) -> Result<(), Failure> {
        let (bucket, path) = (Arc::clone(&self.bucket), self.path.clone());
        let upload = if let Some(upload) = &mut self.upload {
            upload
        } else {
            let begin = bucket.patience.attempt(|_| bucket.client.begin_upload(&path));
            let id = bucket.runtime.block_on(begin)?;
            self.upload.insert(Upload { id, parts: Vec::new(), sending: None })
        };
        upload.arrive(&bucket)?;
        let (id, index) = (upload.id.clone(), upload.parts.len());
        if index >= PARTS_MAX {
            let reason = format!("it has more than {PARTS_MAX} parts of {} bytes", bucket.part_size);
            return Err(Failure::new(ErrorKind::TooLarge, reason).hint("set repoN-storage-upload-chunk-size higher"));
        }
        let runtime = bucket.runtime;
        upload.sending = Some(runtime.spawn(async move {
            bucket.patience.attempt(|_| bucket.client.put_part(&path, &id, index, bytes.clone())).await
        }));
        Ok(())
    }

    /// Makes the object appear.
    fn complete(&mut self) -> Result<(), Failure> {
        let (bucket, last) = (Arc::clone(&self.bucket), Bytes::from(std::mem::take(&mut self.part)));
        if self.upload.is_none() {
            return bucket.runtime.block_on(bucket.create(&self.path, &last));
        }
        self.send(last.clone())?;
        if let Some(upload) = &mut self.upload {
            upload.arrive(&bucket)?;
            bucket.runtime.block_on(upload.complete(&bucket, &self.path, self.size, &last))?;
        }
        self.upload = None;
        Ok(())
    }

    fn error(&self, operation: Operation, failure: Failure) -> Error {
        self.bucket.error(failure, operation, Some(&self.key))
    }
}

impl ObjectWriter for S3Writer {
    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        if self.failed {
            return Err(self.error(Operation::Write, lost()));
        }
        self.append(bytes).map_err(|failure| {
            self.failed = true;
            self.error(Operation::Write, failure)
        })
    }

    fn finish(mut self: Box<Self>) -> Result<()> {
        if self.failed {
            return Err(self.error(Operation::Finish, lost()));
        }
        self.complete().map_err(|failure| self.error(Operation::Finish, failure))
    }
}

impl Drop for S3Writer {
    /// Gives up what was not finished. Where that fails, the service keeps the parts until a rule of the bucket removes
    /// them; nothing of them is visible.
    fn drop(&mut self) {
        let Some(upload) = self.upload.take() else { return };
        if let Some(sending) = upload.sending {
            sending.abort();
        }
        let abort = self.bucket.client.abort_upload(&self.path, &upload.id);
        let aborted = self.bucket.runtime.block_on(async { tokio::time::timeout(ABORT_TIMEOUT, abort).await });
        match aborted {
            Ok(Ok(())) => {}
            Ok(Err(failure)) => tracing::debug!("the upload of '{}' can't be given up: {failure}", self.key),
            Err(_) => tracing::debug!("the upload of '{}' can't be given up in time", self.key),
        }
    }
}

impl Upload {
    /// Waits for the part on its way.
    fn arrive(&mut self, bucket: &Bucket) -> Result<(), Failure> {
        let Some(sending) = self.sending.take() else { return Ok(()) };
        let sent = bucket.runtime.block_on(sending);
        let part = sent.map_err(|error| Failure::new(ErrorKind::Io, format!("a part was not sent: {error}")))??;
        self.parts.push(part);
        Ok(())
    }

    /// Makes an object of the parts, of this size and with these bytes at its end, which must not exist.
    async fn complete(&self, bucket: &Bucket, path: &Path, size: u64, last: &Bytes) -> Result<(), Failure> {
        bucket
            .patience
            .attempt(|ambiguous| async move {
                let exclusive = bucket.creates_exclusively();
                if !exclusive && !ambiguous && bucket.client.head(path).await?.is_some() {
                    return Err(taken());
                }
                let completed = bucket.client.complete_upload(path, &self.id, &self.parts, exclusive).await;
                match completed {
                    // An earlier attempt may have made it: then the upload is no more.
                    Err(failure) if ambiguous && is_over(&failure) => {
                        if bucket.ends_in(path, size, last).await? {
                            Ok(())
                        } else {
                            Err(failure)
                        }
                    }
                    completed => completed,
                }
            })
            .await
    }
}

/// Whether a failure may mean that the object has been made.
fn is_over(failure: &Failure) -> bool {
    failure.kind == ErrorKind::AlreadyExists || failure.is_code("NoSuchUpload")
}

fn lost() -> Failure {
    Failure::new(ErrorKind::Io, "a write before has failed")
}
