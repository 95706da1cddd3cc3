//! Objects written as a stream.

use std::io::{self, BufWriter, Write};

use fs_err::os::unix::fs::FileExt;
use pgark_system::durable::{DurableFile, Existing};
use pgark_system::page_cache;

use super::stream::Stream;
use super::{LARGE_BYTES, Place};
use crate::error::{Error, ErrorKind, Result, kind_of_write};
use crate::key::Key;
use crate::operation::Operation;
use crate::{ObjectWriter, PutMode};

/// Small writes are gathered up to this many bytes.
const BUFFER: usize = 256 * 1024;

/// How many bytes go through the page cache before it is clear that the object is a large one, of which the rest goes past it.
const SMALL_BYTES: u64 = 4 << 20;

/// An object of a [`LocalStorage`](super::LocalStorage) under way.
#[derive(Debug)]
pub(super) struct LocalWriter {
    /// Only flushed once there is a stream.
    file: BufWriter<DurableFile>,
    stream: Option<Stream>,
    place: Place,
    key: Key,
    written: u64,
    failed: bool,
}

impl LocalWriter {
    pub(super) fn new(file: DurableFile, place: Place, key: Key) -> Self {
        let file = BufWriter::with_capacity(BUFFER, file);
        Self { file, stream: None, place, key, written: 0, failed: false }
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let small = usize::try_from(SMALL_BYTES.saturating_sub(self.written)).unwrap_or(usize::MAX);
        let (small, rest) = bytes.split_at(bytes.len().min(small));
        self.file.write_all(small)?;
        if !rest.is_empty() {
            self.stream()?.append(rest)?;
        }
        self.written += bytes.len() as u64;
        Ok(())
    }

    /// What all goes to that follows on [`SMALL_BYTES`].
    fn stream(&mut self) -> io::Result<&mut Stream> {
        let stream = if let Some(stream) = self.stream.take() {
            stream
        } else {
            self.file.flush()?;
            let file = self.file.get_ref().file().try_clone()?;
            page_cache::release(&file, 0..SMALL_BYTES);
            Stream::begin(file, SMALL_BYTES)?
        };
        Ok(self.stream.insert(stream))
    }

    /// Gives all that was appended to the kernel.
    fn flush(&mut self) -> io::Result<()> {
        if let Some(stream) = self.stream.take() {
            let rest = stream.finish()?;
            let file = self.file.get_ref().file();
            file.write_all_at(&rest, self.written - rest.len() as u64)?;
        }
        self.file.flush()
    }

    fn error(&self, operation: Operation, error: io::Error) -> Error {
        self.place.error(kind_of_write(&error), operation, Some(&self.key), error)
    }
}

impl ObjectWriter for LocalWriter {
    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        if self.failed {
            return Err(self.error(Operation::Write, lost()));
        }
        self.append(bytes).map_err(|error| {
            self.failed = true;
            self.error(Operation::Write, error)
        })
    }

    fn finish(mut self: Box<Self>) -> Result<()> {
        if self.failed {
            return Err(self.error(Operation::Finish, lost()));
        }
        self.flush().map_err(|error| self.error(Operation::Finish, error))?;
        let Self { file, place, key, written, .. } = *self;
        let (file, _flushed) = file.into_parts();
        commit(file, written, &place, Operation::Finish, &key, PutMode::Create)
    }
}

/// Gives a written file of `length` bytes its name.
pub(super) fn commit(
    file: DurableFile,
    length: u64,
    place: &Place,
    operation: Operation,
    key: &Key,
    mode: PutMode,
) -> Result<()> {
    let same_file = file.file().try_clone();
    let existing = match mode {
        PutMode::Create => Existing::Keep,
        PutMode::Replace => Existing::Replace,
    };
    file.commit(existing).map_err(|error| {
        let kind = commit_kind(mode, error.kind(), place.path(Some(key)).is_dir());
        place.error(kind.unwrap_or_else(|| kind_of_write(&error)), operation, Some(key), error)
    })?;
    // Now that it is on the disk it leaves the page cache, where a small one does no harm and is soon read again.
    if length >= LARGE_BYTES
        && let Ok(same_file) = same_file
    {
        page_cache::release(&same_file, 0..length);
    }
    Ok(())
}

/// What an error of the last step means beyond what its kind says, where it does.
fn commit_kind(mode: PutMode, error: io::ErrorKind, is_directory: bool) -> Option<ErrorKind> {
    match (mode, error) {
        (PutMode::Create, io::ErrorKind::AlreadyExists) if is_directory => Some(ErrorKind::Invalid),
        // The directory has let us create the file a moment ago; what is refused is the link.
        (PutMode::Create, io::ErrorKind::PermissionDenied) => Some(ErrorKind::Unsupported),
        _ => None,
    }
}

fn lost() -> io::Error {
    io::Error::other("a write before has failed")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_system_without_links_is_told_from_one_that_may_not_be_written() {
        // What vfat answers to a link.
        let refused = io::ErrorKind::PermissionDenied;
        assert_eq!(commit_kind(PutMode::Create, refused, false), Some(ErrorKind::Unsupported));
        assert_eq!(commit_kind(PutMode::Replace, refused, false), None);
        assert_eq!(commit_kind(PutMode::Create, io::ErrorKind::AlreadyExists, false), None);
        assert_eq!(commit_kind(PutMode::Create, io::ErrorKind::ReadOnlyFilesystem, false), None);
    }
}
