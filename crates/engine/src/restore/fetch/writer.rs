//! Writing what a worker gathers. Each worker has a writer, a thread of its own, so that neither waits for the other. Long
//! stretches of new files are written past the page cache, which takes little of a processor; the others through it.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crossbeam_channel::{Receiver, Sender, bounded};
use fs_err as fs;
use fs_err::os::unix::fs::FileExt;
use pgark_system::direct;

use super::load::{LOAD_BYTES, Load, Stretch, direct_bytes};
use super::write_behind::WriteBehind;
use super::{From, Shared};
use crate::error::{Error, ErrorKind, Result};
use crate::restore::target::{OpenFile, TargetFile};

/// Loads that a worker and its writer have together: one with each of them and one on its way. Nothing else holds what is not
/// written yet.
const LOADS: usize = 3;

/// A worker's way to its writer.
#[derive(Debug)]
pub(super) struct Loads {
    full: Sender<Load>,
    empty: Receiver<Load>,
    /// The one that is being filled.
    load: Option<Load>,
}

impl Loads {
    /// Room for at most [`LOAD_BYTES`] of a file, which are to be filled in before anything else is done with this. Waits till
    /// there is some.
    ///
    /// # Errors
    /// Where the writer is gone.
    pub(super) fn room(&mut self, file: &Arc<TargetFile>, offset: u64, length: usize) -> Result<&mut [u8]> {
        if self.load.as_ref().is_some_and(|load| !load.has_room(file, offset, length)) {
            self.finish()?;
        }
        let load = match self.load.take() {
            Some(load) => load,
            None => self.empty.recv().map_err(|_| ended_early())?,
        };
        Ok(self.load.insert(load).take_room(file, offset, length))
    }

    /// Has bytes of any number written at `offset` of a file.
    ///
    /// # Errors
    /// Where the writer is gone.
    pub(super) fn write(&mut self, file: &Arc<TargetFile>, offset: u64, bytes: &[u8]) -> Result<()> {
        for (start, bytes) in (offset..).step_by(LOAD_BYTES).zip(bytes.chunks(LOAD_BYTES)) {
            self.room(file, start, bytes.len())?.copy_from_slice(bytes);
        }
        Ok(())
    }

    /// Gives the writer what has not been given to it yet.
    ///
    /// # Errors
    /// Where it is gone.
    pub(super) fn finish(&mut self) -> Result<()> {
        match self.load.take() {
            Some(load) => self.full.send(load).map_err(|_| ended_early()),
            None => Ok(()),
        }
    }
}

fn ended_early() -> Error {
    Error::new(ErrorKind::Runtime, "a thread that writes files ended early")
}

/// Writes loads.
pub(super) struct Writer<'restore> {
    from: From<'restore>,
    shared: &'restore Shared,
    full: Receiver<Load>,
    empty: Sender<Load>,
    open: Option<(Arc<TargetFile>, OpenFile)>,
    /// What is on its way to the disk through the page cache.
    written: WriteBehind,
}

impl<'restore> Writer<'restore> {
    /// A writer, and the way to it for its worker.
    pub(super) fn new(from: From<'restore>, shared: &'restore Shared) -> (Self, Loads) {
        let (full_sender, full) = bounded(LOADS);
        let (empty_sender, empty) = bounded(LOADS);
        for _ in 0..LOADS {
            empty_sender.send(Load::new()).expect("all loads have room");
        }
        let writer = Self { from, shared, full, empty: empty_sender, open: None, written: WriteBehind::default() };
        (writer, Loads { full: full_sender, empty, load: None })
    }

    /// Writes what comes, till the worker is gone or something fails.
    ///
    /// # Errors
    /// What the file system says.
    pub(super) fn work(mut self) -> Result<()> {
        while let Ok(mut load) = self.full.recv()
            && !self.shared.has_failed()
        {
            let written = self.write(&load);
            if written.is_err() {
                self.shared.failed.store(true, Ordering::Relaxed);
                return written;
            }
            load.clear();
            // A worker that has nothing more to write does not want it.
            let _unwanted = self.empty.send(load);
        }
        Ok(())
    }

    fn write(&mut self, load: &Load) -> Result<()> {
        for (stretch, bytes) in load.stretches() {
            self.write_stretch(stretch, bytes)?;
            for _ in 0..stretch.parts {
                if stretch.file.end_part() {
                    let handle = Arc::clone(&self.open(&stretch.file)?.handle);
                    self.from.complete(&stretch.file, &handle)?;
                    self.open = None;
                }
            }
        }
        Ok(())
    }

    fn write_stretch(&mut self, stretch: &Stretch, bytes: &[u8]) -> Result<()> {
        self.from.pacer.wait(bytes.len() as u64)?;
        let open = self.open(&stretch.file)?;
        // What is reused may be in the page cache, and is read through it.
        let past = if open.is_reused { 0 } else { direct_bytes(stretch.offset, bytes.len()) };
        let handle = Arc::clone(&open.handle);
        let past = if past > 0 && write_directly(&handle, &bytes[..past], stretch.offset)? { past } else { 0 };
        if past < bytes.len() {
            let offset = stretch.offset + past as u64;
            handle.write_all_at(&bytes[past..], offset)?;
            self.written.note(&handle, offset..stretch.offset + bytes.len() as u64);
        }
        Ok(())
    }

    fn open(&mut self, file: &Arc<TargetFile>) -> io::Result<&OpenFile> {
        let same = self.open.take().filter(|(open, _)| Arc::ptr_eq(open, file));
        let open = match same {
            Some(open) => open,
            None => (Arc::clone(file), file.open()?),
        };
        Ok(&self.open.insert(open).1)
    }
}

/// Writes bytes past the page cache. Gives whether that can be done.
fn write_directly(handle: &fs::File, bytes: &[u8], offset: u64) -> io::Result<bool> {
    if !direct::set(handle, true)? {
        return Ok(false);
    }
    let written = match handle.write_all_at(bytes, offset) {
        Ok(()) => true,
        Err(error) if direct::is_refused(&error) => false,
        Err(error) => return Err(error),
    };
    direct::set(handle, false)?;
    Ok(written)
}
