//! Reading and writing past the page cache, for whoever moves much that nobody will soon ask for again: the kernel neither
//! copies it nor finds room for it. It takes buffers, places and lengths that are aligned, and a file system that can do it.

use std::io;
use std::ops::{Deref, DerefMut, Range};
use std::os::fd::AsFd;

use rustix::fs::OFlags;
use rustix::io::Errno;

use crate::memory::{self, HUGE_PAGE_BYTES};
use crate::page_cache::{NeutralReads, ResidentPages};

/// What buffers, places in files and lengths are multiples of. No disk in use wants more.
pub const ALIGNMENT: usize = 4096;

/// Memory that the disk can read to and write from, for one content after the other.
#[derive(Debug, Default)]
pub struct Buffer {
    memory: Vec<u8>,
    /// Where in it the content is.
    content: Range<usize>,
}

impl Buffer {
    /// Makes room for a content of `length` bytes, which begins at a multiple of [`ALIGNMENT`]. What it is at first nobody
    /// knows. Memory is only asked for if there is too little.
    pub fn make_room(&mut self, length: usize) {
        // Disks take few pieces of memory at once: a huge page is one, where the same in small pages is hundreds. On one disk
        // this made reads twice as fast.
        let wanted = if length < HUGE_PAGE_BYTES / 2 { ALIGNMENT } else { HUGE_PAGE_BYTES };
        if self.memory.len() < length + wanted {
            self.memory = memory::zeros(length + wanted);
        }
        // Where memory is left from a longer content, this one begins where that one did: what lies before was never used, and
        // takes a huge page more once it is.
        let is_ample = self.memory.len() >= length + HUGE_PAGE_BYTES;
        let alignment = if is_ample { HUGE_PAGE_BYTES } else { wanted };
        // Memory of which this can't be said does not exist; the kernel refuses it.
        let start = self.memory.as_ptr().align_offset(alignment).min(alignment);
        self.content = start..start + length;
    }

    /// Keeps a part of the content only, given by its place in it.
    ///
    /// # Panics
    /// Where it is no part of it.
    fn keep(&mut self, part: Range<usize>) {
        assert!(part.start <= part.end && part.end <= self.content.len(), "a part lies in what it is of");
        self.content = self.content.start + part.start..self.content.start + part.end;
    }
}

/// The content is these bytes.
impl From<Vec<u8>> for Buffer {
    fn from(memory: Vec<u8>) -> Self {
        let content = 0..memory.len();
        Self { memory, content }
    }
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.memory[self.content.clone()]
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.memory[self.content.clone()]
    }
}

/// Says whether reads and writes by this handle are to go past the page cache. Gives whether they do: some file systems
/// can't, and others say so only at the first read or write, by [`is_refused`]. The handle must be its caller's alone.
///
/// # Errors
/// What the file system says.
pub fn set(file: impl AsFd, is_direct: bool) -> io::Result<bool> {
    let flags = rustix::fs::fcntl_getfl(&file)?;
    let wanted = if is_direct { flags | OFlags::DIRECT } else { flags - OFlags::DIRECT };
    if wanted == flags {
        return Ok(is_direct);
    }
    match rustix::fs::fcntl_setfl(&file, wanted) {
        Ok(()) => Ok(is_direct),
        Err(Errno::INVAL) if is_direct => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}

/// Whether an error says that the file system can't read or write past the page cache, or not in pieces like these.
pub fn is_refused(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported)
}

/// Gives a file that is to be written room for all of it, and its length. A disk then finds each piece a place at once, and
/// several pieces can be on their way. It is only a help: what is wrong shows again where it is written.
pub fn allocate(file: impl AsFd, length: u64) {
    let _refused = rustix::fs::fallocate(file, rustix::fs::FallocateFlags::empty(), 0, length);
}

/// Reads a part of a file, in bytes, till the file ends, and leaves the page cache as it was: past it where nothing of the part
/// is there, else as [`NeutralReads`] do. The content of `buffer` is what was read. The handle must be the caller's alone.
///
/// # Errors
/// What the file system says.
pub fn read(file: impl AsFd, reads: &NeutralReads, buffer: &mut Buffer, part: Range<u64>) -> io::Result<()> {
    let alignment = ALIGNMENT as u64;
    let length = in_memory(part.end.saturating_sub(part.start))?;
    let around = part.start / alignment * alignment..part.end.next_multiple_of(alignment);
    let skipped = in_memory(part.start - around.start)?;
    let is_resident = |file| ResidentPages::of(file, around.clone()).pages().iter().any(|resident| *resident);
    if length > 0 && !is_resident(file.as_fd()) && set(&file, true)? {
        buffer.make_room(in_memory(around.end - around.start)?);
        match read_directly(&file, buffer, around.start) {
            Ok(read) => {
                let read = read + read_rest(&file, reads, &mut buffer[read..], around.start + read as u64)?;
                let start = skipped.min(read);
                buffer.keep(start..(skipped + length).min(read));
                return Ok(());
            }
            Err(error) if is_refused(&error) => {}
            Err(error) => return Err(error),
        }
    }
    read_through_cache(file, reads, buffer, part)
}

/// Reads the same through the page cache, whatever the handle was used for before.
///
/// # Errors
/// What the file system says.
pub fn read_through_cache(
    file: impl AsFd,
    reads: &NeutralReads,
    buffer: &mut Buffer,
    part: Range<u64>,
) -> io::Result<()> {
    set(&file, false)?;
    buffer.make_room(in_memory(part.end.saturating_sub(part.start))?);
    let read = reads.read_at(&file, buffer, part.start)?;
    buffer.keep(0..read);
    Ok(())
}

/// Reads till the buffer is full, or past the page cache nothing more can be asked for: there fewer bytes may come than were
/// asked for, and behind them is no place to go on from.
fn read_directly(file: impl AsFd, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() && filled.is_multiple_of(ALIGNMENT) {
        match rustix::io::pread(&file, &mut buffer[filled..], offset + filled as u64) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(filled)
}

/// Reads what a direct read has left of its buffer, which is nothing where the file ends there. That is not taken for granted:
/// who takes a page for truncated away counts on it.
fn read_rest(file: impl AsFd, reads: &NeutralReads, rest: &mut [u8], offset: u64) -> io::Result<usize> {
    if rest.is_empty() {
        return Ok(0);
    }
    set(&file, false)?;
    reads.read_at(&file, rest, offset)
}

fn in_memory(length: u64) -> io::Result<usize> {
    usize::try_from(length)
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "too many bytes to be read at once"))
}

#[cfg(test)]
mod tests {
    use fs_err as fs;

    use super::*;
    use crate::page_cache::release;

    /// Beside this program, which is on a disk: /tmp may be in memory.
    fn directory_on_disk() -> tempfile::TempDir {
        tempfile::tempdir_in(std::env::current_exe().unwrap().parent().unwrap()).unwrap()
    }

    fn content(length: usize) -> Vec<u8> {
        (0..length).map(|index| u8::try_from((index / 3 + index / 4096) % 251).unwrap()).collect()
    }

    fn check_reads(directory: &tempfile::TempDir, is_cached: bool) {
        let path = directory.path().join("file");
        let content = content(3 * ALIGNMENT + 1234);
        fs::write(&path, &content).unwrap();
        let file = fs::File::open(&path).unwrap();
        file.sync_all().unwrap();
        if !is_cached {
            release(&file, 0..u64::MAX / 2);
        }
        let length = content.len();
        let resident = || ResidentPages::of(&file, 0..length as u64);
        let before = resident();
        let mut buffer = Buffer::default();
        for part in [
            0..length,
            0..0,
            1..2,
            ALIGNMENT..2 * ALIGNMENT,
            ALIGNMENT - 1..2 * ALIGNMENT + 1,
            5000..length + 1,
            0..10 * ALIGNMENT,
            length - 1..length,
            length..length + 5,
            length + ALIGNMENT..length + ALIGNMENT + 5,
        ] {
            let file = fs::File::open(&path).unwrap();
            let reads = NeutralReads::of(0..length as u64);
            read(&file, &reads, &mut buffer, part.start as u64..part.end as u64).unwrap();
            assert!(*buffer == content[part.start.min(length)..part.end.min(length)], "{part:?}");
        }
        assert_eq!(resident(), before);
    }

    #[test]
    fn every_part_of_a_file_is_read_and_the_page_cache_stays_as_it_was() {
        let on_disk = directory_on_disk();
        check_reads(&on_disk, false);
        check_reads(&on_disk, true);
        check_reads(&tempfile::tempdir_in("/dev/shm").unwrap(), true);
    }

    #[test]
    fn one_handle_reads_past_the_page_cache_and_through_it() {
        let on_disk = directory_on_disk();
        let path = on_disk.path().join("file");
        let content = content(20 * ALIGNMENT + 1234);
        fs::write(&path, &content).unwrap();
        let file = fs::File::open(&path).unwrap();
        file.sync_all().unwrap();
        release(&file, 0..u64::MAX / 2);
        let tail = 19 * ALIGNMENT + 7;
        rustix::io::pread(fs::File::open(&path).unwrap(), &mut [0; 10], tail as u64).unwrap();
        let (reads, mut buffer) = (NeutralReads::of(0..content.len() as u64), Buffer::default());
        for part in [0..2 * ALIGNMENT, tail..content.len(), 1..ALIGNMENT] {
            read(&file, &reads, &mut buffer, part.start as u64..part.end as u64).unwrap();
            assert!(*buffer == content[part.clone()], "{part:?}");
        }
    }

    #[test]
    fn a_read_that_brought_less_is_gone_on_with_till_the_file_ends() {
        let on_disk = directory_on_disk();
        let path = on_disk.path().join("file");
        let content = content(5 * ALIGNMENT + 100);
        fs::write(&path, &content).unwrap();
        let file = fs::File::open(&path).unwrap();
        assert!(set(&file, true).unwrap());
        let reads = NeutralReads::of(0..content.len() as u64);
        // From a place from which no direct read could go on.
        let mut rest = vec![0; 2 * ALIGNMENT];
        assert_eq!(read_rest(&file, &reads, &mut rest, 700).unwrap(), rest.len());
        assert!(rest == content[700..700 + rest.len()]);
        assert_eq!(read_rest(&file, &reads, &mut rest, content.len() as u64 - 3).unwrap(), 3);
        assert_eq!(read_rest(&file, &reads, &mut [], 0).unwrap(), 0);
    }

    #[test]
    fn what_can_not_be_read_directly_is_told_apart() {
        // The kernel has no direct way to these.
        let file = fs::File::open("/proc/self/status").unwrap();
        assert!(!set(&file, true).unwrap() && !set(&file, false).unwrap());
        let mut buffer = Buffer::default();
        read(&file, &NeutralReads::of(0..0), &mut buffer, 0..5).unwrap();
        assert_eq!(&*buffer, b"Name:");

        let on_disk = directory_on_disk();
        fs::write(on_disk.path().join("file"), content(2 * ALIGNMENT)).unwrap();
        let file = fs::File::open(on_disk.path().join("file")).unwrap();
        assert!(set(&file, true).unwrap());
        let error = rustix::io::pread(&file, &mut [0; 100], 7).unwrap_err();
        assert!(is_refused(&error.into()));
        assert!(!is_refused(&io::Error::from(io::ErrorKind::StorageFull)));
    }

    #[test]
    fn a_buffer_is_aligned_whatever_it_held() {
        let mut buffer = Buffer::from(vec![1, 2, 3]);
        assert_eq!(&*buffer, [1, 2, 3]);
        for length in [0, 1, ALIGNMENT, 5 * ALIGNMENT + 1, 10] {
            buffer.make_room(length);
            assert!(buffer.len() == length && buffer.as_ptr().addr().is_multiple_of(ALIGNMENT));
            buffer.fill(7);
        }
        buffer[2..4].copy_from_slice(&[8, 9]);
        buffer.keep(2..5);
        assert_eq!(&*buffer, [8, 9, 7]);
    }

    #[test]
    fn a_buffer_uses_no_more_memory_for_short_contents_after_long_ones() {
        let mut buffer = Buffer::default();
        buffer.make_room(HUGE_PAGE_BYTES);
        let place = buffer.as_ptr();
        for length in [1, ALIGNMENT, HUGE_PAGE_BYTES / 2 + 1, HUGE_PAGE_BYTES] {
            buffer.make_room(length);
            assert_eq!(buffer.as_ptr(), place, "{length}");
        }
    }

    #[test]
    fn room_is_given_where_a_file_system_can() {
        for directory in [directory_on_disk(), tempfile::tempdir_in("/dev/shm").unwrap()] {
            let file = fs::File::create(directory.path().join("file")).unwrap();
            allocate(&file, 100_000);
            assert_eq!(file.metadata().unwrap().len(), 100_000);
        }
        allocate(fs::File::open("/proc/self/status").unwrap(), 100);
    }
}
