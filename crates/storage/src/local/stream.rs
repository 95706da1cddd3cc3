//! Large objects written past the page cache, by a thread of their own: so whoever makes them neither waits for the disk nor
//! copies every byte once more.

use std::io;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};

use fs_err as fs;
use fs_err::os::unix::fs::FileExt;
use pgark_system::direct::{self, Buffer};
use pgark_system::page_cache;

/// What is written at once: what a huge page has, of which the disk needs few.
const PIECE_BYTES: usize = 2 << 20;

/// Buffers of a stream: one that is being filled, and one that is being written.
const BUFFERS: usize = 2;

/// How many bytes are written, where they go through the page cache, before the kernel is asked to bring them to the disk, so
/// that the sync at the end finds little left to do.
const WRITEBACK_WINDOW: u64 = 8 << 20;

/// A file that is being appended to. Dropped, it leaves what is there and writes no more.
#[derive(Debug)]
pub(super) struct Stream {
    /// What is being filled, and how much of it is.
    piece: Buffer,
    filled: usize,
    full: Option<SyncSender<Buffer>>,
    empty: Receiver<Buffer>,
    thread: Option<JoinHandle<io::Result<()>>>,
}

impl Stream {
    /// Appends to a file from the byte `offset` on, which must be a multiple of [`direct::ALIGNMENT`] and the file's end. The
    /// handle must be the stream's alone as long as it is there.
    ///
    /// # Errors
    /// Where there is no thread to be had.
    pub(super) fn begin(file: fs::File, offset: u64) -> io::Result<Self> {
        let (full, pieces) = sync_channel(BUFFERS);
        let (done, empty) = sync_channel(BUFFERS);
        for _ in 1..BUFFERS {
            done.send(Buffer::default()).expect("all buffers have room");
        }
        let appender = Appender { file, offset, handed_on: offset, is_direct: true };
        let thread = thread::Builder::new().name("write".to_owned()).spawn(move || appender.run(&pieces, &done))?;
        let mut piece = Buffer::default();
        piece.make_room(PIECE_BYTES);
        Ok(Self { piece, filled: 0, full: Some(full), empty, thread: Some(thread) })
    }

    /// Appends bytes, which are on their way when this returns.
    ///
    /// # Errors
    /// What the file system said to bytes that were appended before.
    pub(super) fn append(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let room = &mut self.piece[self.filled..];
            let (now, later) = bytes.split_at(bytes.len().min(room.len()));
            room[..now.len()].copy_from_slice(now);
            self.filled += now.len();
            bytes = later;
            if self.filled == PIECE_BYTES {
                self.hand_over()?;
            }
        }
        Ok(())
    }

    /// Waits till all is written but for the last bytes, which are given back.
    ///
    /// # Errors
    /// What the file system said.
    pub(super) fn finish(mut self) -> io::Result<Vec<u8>> {
        self.join()?;
        Ok(self.piece[..self.filled].to_vec())
    }

    /// Gives the full piece to the thread, and takes an empty one.
    fn hand_over(&mut self) -> io::Result<()> {
        let piece = std::mem::take(&mut self.piece);
        let given = self.full.as_ref().is_some_and(|full| full.send(piece).is_ok());
        match self.empty.recv() {
            Ok(empty) if given => self.piece = empty,
            // The thread ends early only where it fails.
            _ => return self.join().and_then(|()| Err(io::Error::other("a thread that writes ended early"))),
        }
        self.piece.make_room(PIECE_BYTES);
        self.filled = 0;
        Ok(())
    }

    fn join(&mut self) -> io::Result<()> {
        self.full = None;
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(written)) => written,
            Some(Err(panic)) => std::panic::resume_unwind(panic),
            None => Ok(()),
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.full = None;
        // Nobody wants to know any more how it went.
        let _unheard = self.thread.take().map(JoinHandle::join);
    }
}

/// Writes what comes, one piece after the other.
struct Appender {
    file: fs::File,
    offset: u64,
    /// Up to where bytes were handed on to the disk that went through the page cache.
    handed_on: u64,
    is_direct: bool,
}

impl Appender {
    fn run(mut self, pieces: &Receiver<Buffer>, done: &SyncSender<Buffer>) -> io::Result<()> {
        for piece in pieces {
            self.write(&piece)?;
            // A stream that ends does not want it.
            let _unwanted = done.send(piece);
        }
        direct::set(&self.file, false)?;
        Ok(())
    }

    fn write(&mut self, piece: &[u8]) -> io::Result<()> {
        self.is_direct = self.is_direct && direct::set(&self.file, true)?;
        if self.is_direct {
            match self.file.write_all_at(piece, self.offset) {
                Err(error) if direct::is_refused(&error) => self.is_direct = false,
                written => {
                    written?;
                    self.offset += piece.len() as u64;
                    self.handed_on = self.offset;
                    return Ok(());
                }
            }
        }
        direct::set(&self.file, false)?;
        self.file.write_all_at(piece, self.offset)?;
        self.offset += piece.len() as u64;
        if self.offset - self.handed_on >= WRITEBACK_WINDOW {
            // From one window before: what was handed on then is on the disk by now and leaves the page cache.
            page_cache::release(&self.file, self.handed_on.saturating_sub(WRITEBACK_WINDOW)..self.offset);
            self.handed_on = self.offset;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use pgark_system::page_cache::ResidentPages;

    use super::*;

    fn content(length: usize) -> Vec<u8> {
        (0..length).map(|index| u8::try_from((index / 3 + index / PIECE_BYTES) % 251).unwrap()).collect()
    }

    /// Streams of lengths around those of pieces, which are whole in the end, in files that begin with something else.
    fn check_streams(directory: &Path) {
        let lengths = [0, 1, PIECE_BYTES - 1, PIECE_BYTES, PIECE_BYTES + 1, 11 * PIECE_BYTES + 12_345];
        let check = |length: usize| {
            let path = directory.join(length.to_string());
            fs::write(&path, [7; direct::ALIGNMENT]).unwrap();
            let file = fs::File::options().read(true).write(true).open(&path).unwrap();
            file.sync_all().unwrap();
            let content = content(length);
            let mut stream = Stream::begin(file.try_clone().unwrap(), direct::ALIGNMENT as u64).unwrap();
            for part in content.chunks(700_001) {
                stream.append(part).unwrap();
            }
            let rest = stream.finish().unwrap();
            assert_eq!(rest.len(), length % PIECE_BYTES);
            file.write_all_at(&rest, (direct::ALIGNMENT + length - rest.len()) as u64).unwrap();
            let (before, streamed) = (&[7; direct::ALIGNMENT], &content);
            let read = fs::read(&path).unwrap();
            assert!(read.starts_with(before) && read[direct::ALIGNMENT..] == *streamed, "{length} bytes");
        };
        lengths.into_iter().for_each(check);
    }

    #[test]
    fn streams_of_any_length_are_whole_on_a_disk_and_in_memory() {
        // Beside this program, which is on a disk: /tmp may be in memory.
        let program = std::env::current_exe().unwrap();
        check_streams(tempfile::tempdir_in(program.parent().unwrap()).unwrap().path());
        check_streams(tempfile::tempdir_in("/dev/shm").unwrap().path());
    }

    #[test]
    fn what_was_streamed_to_a_disk_is_not_in_the_page_cache() {
        let program = std::env::current_exe().unwrap();
        let directory = tempfile::tempdir_in(program.parent().unwrap()).unwrap();
        let file =
            fs::File::options().read(true).write(true).create_new(true).open(directory.path().join("file")).unwrap();
        let mut stream = Stream::begin(file.try_clone().unwrap(), 0).unwrap();
        stream.append(&content(5 * PIECE_BYTES)).unwrap();
        assert!(stream.finish().unwrap().is_empty());
        let resident = ResidentPages::of(&file, 0..5 * PIECE_BYTES as u64);
        assert!(!resident.pages().contains(&true));
    }

    #[test]
    fn a_full_disk_is_told_of_and_nobody_waits_for_it() {
        // It can't be written past the page cache either.
        let full = || fs::File::options().write(true).open("/dev/full").unwrap();
        let mut stream = Stream::begin(full(), 0).unwrap();
        let piece = content(PIECE_BYTES);
        let error = (0..10).find_map(|_| stream.append(&piece).err()).unwrap();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);

        let mut stream = Stream::begin(full(), 0).unwrap();
        stream.append(&piece).unwrap();
        assert_eq!(stream.finish().unwrap_err().kind(), io::ErrorKind::StorageFull);
        let mut dropped = Stream::begin(full(), 0).unwrap();
        dropped.append(&piece).unwrap();
    }
}
