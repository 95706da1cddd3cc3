//! A file that pages are written to: made when its first page comes, given its length and attributes after its last.

use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use fs_err as fs;
use pgark_repository::PAGE_SIZE;
use pgark_repository::manifest::Attributes;
use pgark_repository::map::PageMap;
use pgark_system::direct::{self, Buffer};
use pgark_system::page_cache::NeutralReads;
use rustix::fs::{OFlags, Stat};

use super::attributes::{self, Owners};
use super::place::Place;
use super::telling::{FileTold, Telling};
use crate::error::Result;

/// From which size on a file is given its room on the disk at once.
const ALLOCATED_BYTES: u64 = 1 << 20;

/// What is to become of the bytes of a file that is there already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Present {
    /// They go: the file begins as one without content.
    Discarded,
    /// They stay where they are right.
    Reused,
}

/// A file that pages are written to.
#[derive(Debug)]
pub(super) struct TargetFile {
    place: Place,
    size: u64,
    attributes: Attributes,
    /// The nanoseconds of its time.
    nanoseconds: u32,
    present: Present,
    /// Whether all of it will be written, without holes.
    is_dense: bool,
    /// Whether there are bytes in it that are reused; none as long as nobody has looked.
    reused: Mutex<Option<bool>>,
    /// How it is read.
    reads: NeutralReads,
    /// What there is to tell of it, if somebody listens.
    told: Option<Arc<FileTold>>,
    /// Its parts that are still to be done. Whoever adds parts counts as one.
    parts: AtomicUsize,
    /// Whether something was written to it.
    is_written: AtomicBool,
}

/// An opened [`TargetFile`].
#[derive(Debug)]
pub(super) struct OpenFile {
    /// Its handle, for reading and writing.
    pub(super) handle: Arc<fs::File>,
    /// Whether it has bytes that may be right already. If not, all that was not written is zero.
    pub(super) is_reused: bool,
    /// What it was when it was opened, if that is known.
    pub(super) found: Option<Stat>,
}

impl TargetFile {
    /// The file at `place`, which is to have `size` bytes and these attributes. It is made when it is first opened.
    pub(super) fn new(place: Place, size: u64, attributes: Attributes, present: Present) -> Self {
        Self {
            place,
            size,
            attributes,
            nanoseconds: 0,
            present,
            is_dense: false,
            reused: Mutex::new(None),
            reads: NeutralReads::of(0..size),
            told: None,
            parts: AtomicUsize::new(1),
            is_written: AtomicBool::new(false),
        }
    }

    /// The same, with so many nanoseconds in its time.
    pub(super) fn with_nanoseconds(self, nanoseconds: u32) -> Self {
        Self { nanoseconds, ..self }
    }

    /// The same, of which it is told where its pages come from, which is what the map says.
    pub(super) fn told_by(self, telling: &Telling, map: &PageMap) -> Self {
        let expect = || telling.expect(&self.place.full_path(), self.size, self.may_be_reused(), map);
        let told = telling.is_wanted().then(expect);
        Self { told, ..self }
    }

    /// What there is to tell of it, if somebody listens.
    pub(super) fn told(&self) -> Option<&Arc<FileTold>> {
        self.told.as_ref()
    }

    /// The same, of which all will be written if `is_dense`: then it may be given its room before.
    pub(super) fn with_density(self, is_dense: bool) -> Self {
        Self { is_dense, ..self }
    }

    /// Its size in bytes.
    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// Whether what is there already may be right.
    pub(super) fn may_be_reused(&self) -> bool {
        self.present == Present::Reused
    }

    /// Whether a file is there.
    ///
    /// # Errors
    /// What the file system says.
    pub(super) fn is_there(&self) -> io::Result<bool> {
        let (directory, name) = self.place.parent()?;
        Ok(directory.look(name)?.is_some())
    }

    /// Counts one part more that is to be done.
    pub(super) fn add_part(&self) {
        self.parts.fetch_add(1, Ordering::Relaxed);
    }

    /// Notes that something is written to it, before the part that it belongs to is done.
    pub(super) fn note_write(&self) {
        self.is_written.store(true, Ordering::Relaxed);
    }

    /// Counts a part as done. Gives whether it was the last: then the file is to be completed.
    pub(super) fn end_part(&self) -> bool {
        // Whoever completes the file sees all that was done to it.
        self.parts.fetch_sub(1, Ordering::AcqRel) == 1
    }

    /// Opens the file, and makes it if nobody did before.
    ///
    /// # Errors
    /// What the file system says.
    pub(super) fn open(&self) -> io::Result<OpenFile> {
        let mut reused = self.reused.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(is_reused) = *reused {
            return Ok(OpenFile { handle: Arc::new(self.place.open(OFlags::RDWR)?), is_reused, found: None });
        }
        let handle = self.make()?;
        let found = rustix::fs::fstat(&handle)?;
        let is_reused = self.may_be_reused() && found.st_size > 0;
        if is_reused {
            // Even where this changes nothing, the file would get a new time, which has to be written and set back.
            if u64::try_from(found.st_size) != Ok(self.size) {
                handle.set_len(self.size)?;
            }
        } else if self.is_dense && self.size >= ALLOCATED_BYTES {
            direct::allocate(&handle, self.size);
        }
        *reused = Some(is_reused);
        Ok(OpenFile { handle: Arc::new(handle), is_reused, found: Some(found) })
    }

    /// Opens the file for the first time.
    fn make(&self) -> io::Result<fs::File> {
        let (directory, name) = self.place.parent()?;
        let flags = match self.present {
            Present::Discarded => OFlags::RDWR | OFlags::CREATE | OFlags::TRUNC,
            Present::Reused => OFlags::RDWR | OFlags::CREATE,
        };
        // What the mode lacks for writing or has beyond that is set right at the end.
        let mode = self.attributes.mode & 0o777 | 0o600;
        match directory.file(name, flags, mode) {
            // A file may be one that even its owner can only read, or not at all.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied && directory.look(name)?.is_some() => {
                directory.remove(name)?;
                directory.file(name, flags, mode)
            }
            opened => opened,
        }
    }

    /// Reads what the opened file has of a part, in bytes, without a trace in the page cache.
    ///
    /// # Errors
    /// What the file system says.
    pub(super) fn read(&self, open: &OpenFile, buffer: &mut Buffer, part: Range<u64>) -> io::Result<()> {
        direct::read(&*open.handle, &self.reads, buffer, part)
    }

    /// Reads what the opened file has of some bytes from `offset` on, as few as are soon read. Gives how many it has.
    ///
    /// # Errors
    /// What the file system says.
    pub(super) fn read_short(&self, open: &OpenFile, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        self.reads.read_at(&*open.handle, bytes, offset)
    }

    /// Gives the file its length and attributes, once all that it holds is written.
    ///
    /// # Errors
    /// What the file system says.
    pub(super) fn complete(&self, handle: &fs::File, owners: &Owners) -> Result<()> {
        if handle.metadata()?.len() != self.size {
            handle.set_len(self.size)?;
        }
        attributes::set_on_file(handle, &self.attributes, self.nanoseconds, owners)
    }

    /// Whether it had its length and attributes already when it was found so, and has them still: a write gives it a new time. To be
    /// asked once all parts are done.
    pub(super) fn is_complete(&self, found: &Stat, owners: &Owners) -> bool {
        !self.is_written.load(Ordering::Relaxed)
            && u64::try_from(found.st_size) == Ok(self.size)
            && attributes::are_right_on_file(found, &self.attributes, self.nanoseconds, owners)
    }
}

/// Where these pages lie in a file of `size` bytes; its last page may be shorter.
pub(super) fn byte_range(size: u64, pages: Range<u32>) -> Range<u64> {
    let start = u64::from(pages.start) * PAGE_SIZE as u64;
    let end = u64::from(pages.end) * PAGE_SIZE as u64;
    start..end.min(size.max(start))
}

#[cfg(test)]
mod tests {
    use super::super::place::Root;
    use super::*;

    #[test]
    fn a_file_that_was_written_to_is_not_what_it_was_found_to_be() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("file"), "right").unwrap();
        let root = Arc::new(Root::open(directory.path()).unwrap());
        let attributes = Attributes { mode: 0o640, modified: 1_000_000_000, ..Attributes::default() };
        let file = || TargetFile::new(Place::new(&root, "file".into()), 5, attributes, Present::Reused);
        let owners = Owners::new(&[], &[], directory.path());
        let looked_at = file();
        let found = looked_at.open().unwrap().found.unwrap();
        assert!(!looked_at.is_complete(&found, &owners), "its time is another");
        looked_at.complete(&looked_at.open().unwrap().handle, &owners).unwrap();
        let looked_at = file();
        let found = looked_at.open().unwrap().found.unwrap();
        assert!(looked_at.is_complete(&found, &owners));
        looked_at.note_write();
        assert!(!looked_at.is_complete(&found, &owners), "its time is no longer what it was");
    }
}
