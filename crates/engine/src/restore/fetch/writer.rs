//! Writing what workers gather. Threads of their own write it, so that neither waits for the other. Long stretches of new files
//! are written past the page cache, which takes little of a processor; the others through it.

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

/// Threads that write, for each worker. Even on a fast disk a write takes its time: what the kernel has to do for it waits for a
/// processor, and the workers keep them all busy.
pub(super) const WRITERS: usize = 3;

/// Loads for each worker: one that it fills, one with each thread that writes, and three on their way. Nothing else holds what is not
/// written yet.
const LOADS: usize = 7;

/// The same where the repository is not on a disk: from there less comes than a disk takes, and the requests that are under way
/// take more memory.
const LOADS_FROM_AFAR: usize = 3;

/// Where loads go round: full ones to those who write, empty ones back to the workers. Whoever has time takes the next.
#[derive(Debug)]
pub(super) struct Round {
    full: (Sender<Load>, Receiver<Load>),
    empty: (Sender<Load>, Receiver<Load>),
}

impl Round {
    /// With all the loads that so many workers need.
    pub(super) fn new(workers: usize, is_from_afar: bool) -> Self {
        let loads = workers * if is_from_afar { LOADS_FROM_AFAR } else { LOADS };
        let round = Self { full: bounded(loads), empty: bounded(loads) };
        for _ in 0..loads {
            round.empty.0.send(Load::new()).expect("all loads have room");
        }
        round
    }

    /// A worker's part in it.
    pub(super) fn loads(&self) -> Loads {
        Loads { full: self.full.0.clone(), empty: self.empty.1.clone(), load: None }
    }

    /// One who writes.
    pub(super) fn writer<'restore>(&self, from: From<'restore>, shared: &'restore Shared) -> Writer<'restore> {
        let (full, empty) = (self.full.1.clone(), self.empty.0.clone());
        Writer { from, shared, full, empty, open: None, written: WriteBehind::default() }
    }
}

/// A worker's way to those who write.
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
    /// Where those who write are gone.
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
    /// Where those who write are gone.
    pub(super) fn write(&mut self, file: &Arc<TargetFile>, offset: u64, bytes: &[u8]) -> Result<()> {
        for (start, bytes) in (offset..).step_by(LOAD_BYTES).zip(bytes.chunks(LOAD_BYTES)) {
            self.room(file, start, bytes.len())?.copy_from_slice(bytes);
        }
        Ok(())
    }

    /// Gives those who write what has not been given to them yet.
    ///
    /// # Errors
    /// Where they are gone.
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

impl Writer<'_> {
    /// Writes what comes, till the workers are gone. Once something has failed, nothing more is written; but loads go round,
    /// so that no worker waits for one in vain.
    ///
    /// # Errors
    /// What the file system says.
    pub(super) fn work(mut self) -> Result<()> {
        let mut outcome = Ok(());
        while let Ok(mut load) = self.full.recv() {
            if !self.shared.has_failed() {
                outcome = self.write(&load);
            }
            if outcome.is_err() {
                self.shared.failed.store(true, Ordering::Relaxed);
            }
            load.clear();
            // A worker that has nothing more to write does not want it.
            let _unwanted = self.empty.send(load);
        }
        outcome
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
        stretch.file.note_write();
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
