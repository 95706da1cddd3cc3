//! Leaving the page cache to the database: reading and writing files without pushing out what it needs there.

use std::io;
use std::num::NonZeroU64;
use std::ops::Range;
use std::os::fd::AsFd;
use std::sync::OnceLock;

use rustix::fs::Advice;
use rustix::io::{Errno, ReadWriteFlags};

/// `RWF_DONTCACHE`, Linux 6.14 `include/uapi/linux/fs.h`: pages that were not in the page cache before do not stay there.
const DONT_CACHE: ReadWriteFlags = ReadWriteFlags::from_bits_retain(0x80);

/// The first Linux whose [`DONT_CACHE`] is relied on: before, a page that was being written at the same time could be
/// dropped ("mm/filemap: gate dropbehind invalidate on folio !dirty && !writeback").
const KERNEL_THAT_DROPS_BEHIND: (u32, u32) = (6, 16);

/// Reads of one part of a file, or of all of it, after which those of its pages are in the page cache that were there
/// before. Threads that read from the same part share one.
///
/// Where the kernel can't do this by itself, what was there is looked up before the first read, and what each read has
/// brought is dropped after it. So a page that somebody else reads in between is dropped too; it is never the other way
/// round.
#[derive(Debug)]
pub struct NeutralReads {
    part: Range<u64>,
    /// The pages that were there before; none as long as the kernel sees to it.
    before: OnceLock<ResidentPages>,
}

impl NeutralReads {
    /// Reads of `part`, in bytes; what lies beyond it can be read too.
    pub fn of(part: Range<u64>) -> Self {
        Self { part, before: OnceLock::new() }
    }

    /// Reads till the buffer is full or the file ends. Gives how many bytes were read.
    ///
    /// # Errors
    /// What the file system says.
    pub fn read_at(&self, file: impl AsFd, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        if self.before.get().is_none() && kernel_drops_behind() {
            match fill(buffer, offset, |rest, offset| {
                let mut rest = [io::IoSliceMut::new(rest)];
                rustix::io::preadv2(&file, &mut rest, offset, DONT_CACHE)
            }) {
                Err(Errno::OPNOTSUPP) => {}
                read => return Ok(read?),
            }
        }
        self.read_and_drop(file.as_fd(), buffer, offset)
    }

    fn read_and_drop(&self, file: impl AsFd, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let before = self.before.get_or_init(|| ResidentPages::of(&file, self.part.clone()));
        let read = fill(buffer, offset, |rest, offset| rustix::io::pread(&file, rest, offset))?;
        for absent in before.absent(offset..offset + read as u64) {
            release(&file, absent);
        }
        Ok(read)
    }
}

/// Tells the kernel whether to read ahead of what is read by this handle. Where it does, it may bring in again what
/// another handle has read and left already. Only advice.
pub fn read_ahead(file: impl AsFd, is_wanted: bool) {
    let advice = if is_wanted { Advice::Normal } else { Advice::Random };
    let _refused = rustix::fs::fadvise(file, 0, None, advice);
}

/// Tells the kernel that a part of a file, in bytes, will not be read soon: what is dirty starts on its way to the disk,
/// what is clean leaves the page cache. Only advice, so that a refusal does not matter.
pub fn release(file: impl AsFd, part: Range<u64>) {
    if let Some(length) = part.end.checked_sub(part.start).and_then(NonZeroU64::new) {
        let _refused = rustix::fs::fadvise(file, part.start, Some(length), Advice::DontNeed);
    }
}

/// Which pages of a part of a file are in the page cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResidentPages {
    /// The number of the first page.
    first: u64,
    /// For each page whether it is there.
    resident: Vec<bool>,
}

impl ResidentPages {
    /// Looks at a part of a file, in bytes. Where the system does not tell, all of it counts as there.
    pub fn of(file: impl AsFd, part: Range<u64>) -> Self {
        let page = page_size();
        let first = part.start / page;
        let count = usize::try_from(part.end.div_ceil(page).saturating_sub(first)).unwrap_or(0);
        let resident = look(file, first * page, count).unwrap_or_else(|_| vec![true; count]);
        Self { first, resident }
    }

    /// For each page, whether it is there.
    pub fn pages(&self) -> &[bool] {
        &self.resident
    }

    /// The parts of `range`, in bytes, that were not there, in whole pages.
    fn absent(&self, range: Range<u64>) -> Vec<Range<u64>> {
        let page = page_size();
        let mut parts: Vec<Range<u64>> = Vec::new();
        for number in range.start / page..range.end.div_ceil(page) {
            let index = number.checked_sub(self.first).and_then(|index| usize::try_from(index).ok());
            // What was not looked at is nobody's business.
            if index.and_then(|index| self.resident.get(index)) != Some(&false) {
                continue;
            }
            let start = number * page;
            match parts.last_mut() {
                Some(last) if last.end == start => last.end += page,
                _ => parts.push(start..start + page),
            }
        }
        parts
    }
}

fn page_size() -> u64 {
    rustix::param::page_size() as u64
}

/// Whether each of `count` pages of a file is in the page cache, from the byte `offset` on, where a page begins.
#[expect(unsafe_code, reason = "there is no safe way to ask for it: mincore wants a mapping")]
fn look(file: impl AsFd, offset: u64, count: usize) -> io::Result<Vec<bool>> {
    use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

    let length = count.saturating_mul(rustix::param::page_size());
    if length == 0 {
        return Ok(Vec::new());
    }
    let mut resident = vec![0_u8; count];
    // SAFETY: the kernel chooses the address, and nobody reads or writes the mapping.
    let mapping = unsafe { mmap(std::ptr::null_mut(), length, ProtFlags::empty(), MapFlags::SHARED, file, offset)? };
    // SAFETY: the mapping has `length` bytes, which are `count` pages, and the vector has a byte for each.
    let looked = match unsafe { libc::mincore(mapping, length, resident.as_mut_ptr()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    };
    // SAFETY: it was mapped above with this length, and there is no reference into it.
    unsafe { munmap(mapping, length)? };
    looked?;
    Ok(resident.into_iter().map(|byte| byte & 1 == 1).collect())
}

/// Reads till the buffer is full or the file ends.
fn fill(
    buffer: &mut [u8],
    offset: u64,
    mut read: impl FnMut(&mut [u8], u64) -> Result<usize, Errno>,
) -> Result<usize, Errno> {
    let mut filled = 0;
    while filled < buffer.len() {
        match read(&mut buffer[filled..], offset + filled as u64) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(filled)
}

fn kernel_drops_behind() -> bool {
    static ANSWER: OnceLock<bool> = OnceLock::new();
    *ANSWER.get_or_init(|| {
        let name = rustix::system::uname();
        version(&name.release().to_string_lossy()).is_some_and(|version| version >= KERNEL_THAT_DROPS_BEHIND)
    })
}

/// The first two numbers of a kernel's release, such as `6.18.44-1-amd64`.
fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|character: char| !character.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use fs_err as fs;

    use super::*;

    const PAGES: usize = 512;

    /// A file on disk of whose pages only every seventh and a run are in the page cache.
    fn partly_cached(directory: &tempfile::TempDir) -> fs::File {
        let path = directory.path().join("file");
        let page = rustix::param::page_size();
        let content: Vec<u8> = (0..PAGES * page).map(|index| u8::try_from(index / page % 251).unwrap()).collect();
        fs::write(&path, content).unwrap();
        let file = fs::File::open(&path).unwrap();
        file.sync_all().unwrap();
        release(&file, 0..u64::MAX / 2);
        assert_eq!(count(&resident(&file)), 0, "temporary files must be on a disk here, not in memory");
        // Without reading ahead, so that only these come.
        read_ahead(&file, false);
        for number in (0..PAGES).filter(|number| number % 7 == 0 || (100..200).contains(number)) {
            let mut byte = [0];
            rustix::io::pread(&file, &mut byte, (number * page) as u64).unwrap();
        }
        read_ahead(&file, true);
        file
    }

    fn resident(file: &fs::File) -> ResidentPages {
        ResidentPages::of(file, 0..file.metadata().unwrap().len())
    }

    fn count(pages: &ResidentPages) -> usize {
        pages.pages().iter().filter(|resident| **resident).count()
    }

    fn check(read: impl Fn(&NeutralReads, &fs::File, &mut [u8], u64) -> io::Result<usize>) {
        // Beside this program, which is on a disk: /tmp may be in memory.
        let program = std::env::current_exe().unwrap();
        let directory = tempfile::tempdir_in(program.parent().unwrap()).unwrap();
        let file = partly_cached(&directory);
        let before = resident(&file);
        assert!((150..PAGES / 2).contains(&count(&before)), "{}", count(&before));
        let length = file.metadata().unwrap().len();
        let reads = NeutralReads::of(0..length);
        let mut buffer = vec![0; 300_000];
        let mut content = Vec::new();
        loop {
            let count = read(&reads, &file, &mut buffer, content.len() as u64).unwrap();
            content.extend_from_slice(&buffer[..count]);
            if count < buffer.len() {
                break;
            }
        }
        assert_eq!(resident(&file), before);
        assert!(content == fs::read(file.path()).unwrap());
    }

    #[test]
    fn reading_leaves_the_page_cache_as_it_was() {
        check(|reads, file, buffer, offset| reads.read_at(file, buffer, offset));
    }

    #[test]
    fn kernels_that_do_not_drop_behind_are_helped() {
        check(|reads, file, buffer, offset| reads.read_and_drop(file, buffer, offset));
    }

    #[test]
    fn only_pages_that_were_looked_at_and_absent_are_dropped() {
        let page = page_size();
        let before = ResidentPages { first: 2, resident: vec![false, true, false, false] };
        assert_eq!(before.absent(0..10 * page), [2 * page..3 * page, 4 * page..6 * page]);
        assert_eq!(before.absent(2 * page + 1..4 * page + 2), [2 * page..3 * page, 4 * page..5 * page]);
        assert!(before.absent(3 * page..4 * page).is_empty());
    }

    #[test]
    fn kernels_are_told_apart_by_their_releases() {
        assert_eq!(version("6.18.44-fc-v509"), Some((6, 18)));
        assert_eq!(version("5.14.0-362.el9.x86_64"), Some((5, 14)));
        assert_eq!(version("7.0-rc1"), Some((7, 0)));
        assert_eq!(version("odd"), None);
        assert!((6, 16) <= (6, 18) && (6, 9) < KERNEL_THAT_DROPS_BEHIND && (7, 0) > KERNEL_THAT_DROPS_BEHIND);
    }
}
