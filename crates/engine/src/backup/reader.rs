//! Reading a range of a file into frames: what a worker of a backup does.

use std::collections::BTreeMap;
use std::io;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use fs_err as fs;
use pgark_postgres::Lsn;
use pgark_postgres::page::{self, PageState};
use pgark_repository::manifest::PageRange;
use pgark_repository::map::{PageMap, Run, Source};
use pgark_repository::pack::{FramePages, PackFrame, PackWriter};
use pgark_repository::{PAGE_SIZE, PackId};
use pgark_system::pace::Pacer;
use pgark_system::page_cache::{self, NeutralReads};
use pgark_system::termination;

use super::packs::Packs;
use crate::error::Result;

/// Pages in a frame. At 128 KiB compression has gained what larger frames would (zstd level 3 on JSON rows: a ratio of
/// 3.50 at 64 KiB, 3.48 at 128, 3.22 at 256, 3.41 at 512; on rows of pgbench 36, 38, 37, 41), with fewer frames than at
/// 64 KiB, and one page read alone still costs little.
pub(super) const FRAME_PAGES: u16 = 16;

/// Bytes read from a file at once.
const BUFFER_BYTES: usize = 1 << 20;

/// Pages before the end of a range from which on the kernel does not read ahead any more, where another worker reads on.
/// Few disks are read farther ahead.
const READ_AHEAD_PAGES: u32 = 1024;

/// How long after a page did not match its checksum it is read again: long enough for a write under way to end.
const SECOND_READ_PAUSE: Duration = Duration::from_millis(10);

/// A file to be read, as the walk found it.
#[derive(Debug)]
pub(super) struct SourceFile {
    /// Its path relative to the data directory, as bytes.
    pub(super) name: Vec<u8>,
    /// Where it is.
    pub(super) path: PathBuf,
    /// Its size in bytes when the walk came by.
    pub(super) size: u64,
    /// If it is a file of a relation: the number of its first block in the relation.
    pub(super) relation_block: Option<u32>,
    /// How it is read: by several workers at once, and without a trace in the page cache.
    reads: NeutralReads,
}

impl SourceFile {
    /// See the fields.
    pub(super) fn new(name: Vec<u8>, path: PathBuf, size: u64, relation_block: Option<u32>) -> Self {
        Self { name, path, size, relation_block, reads: NeutralReads::of(0..size) }
    }
}

/// A part of a file, small enough that one large file keeps all workers busy.
#[derive(Clone, Debug)]
pub(super) struct Range {
    /// The order of the ranges over the whole backup.
    pub(super) sequence: u64,
    /// The file.
    pub(super) file: Arc<SourceFile>,
    /// The first page.
    pub(super) first_page: u32,
    /// How many pages, at least one.
    pub(super) pages: u32,
}

impl Range {
    /// Whether the file goes on after it.
    fn is_followed(&self) -> bool {
        (u64::from(self.first_page) + u64::from(self.pages)) * (PAGE_SIZE as u64) < self.file.size
    }
}

/// What reading a range has given.
#[derive(Debug, Default)]
pub(super) struct RangeRead {
    /// Bytes that the file had in the range. Fewer than the range's if a file that is no relation has shrunk.
    pub(super) bytes: u64,
    /// Where the pages lie.
    pub(super) map: PageMap,
    /// Stored bytes by pack.
    pub(super) stored: BTreeMap<PackId, u64>,
    /// Pages that did not match their checksums.
    pub(super) damaged: Vec<PageRange>,
}

/// How page checksums are judged.
pub(super) struct ChecksumRule<'backup> {
    /// Where the backup starts.
    pub(super) start: Lsn,
    /// Where WAL is being written now; asked only when a page does not match.
    pub(super) current: &'backup (dyn Fn() -> Option<Lsn> + Sync),
}

/// Reads ranges, one after the other, into packs of its own.
pub(super) struct RangeReader<'backup> {
    packs: &'backup Packs<'backup>,
    checksums: Option<&'backup ChecksumRule<'backup>>,
    pacer: &'backup Pacer,
    pack: Option<PackWriter<'backup>>,
    buffer: Vec<u8>,
    open: Option<(Arc<SourceFile>, fs::File)>,
}

impl<'backup> RangeReader<'backup> {
    /// A reader that checks page checksums if there is a rule for them, and keeps to a pace.
    pub(super) fn new(
        packs: &'backup Packs<'backup>,
        checksums: Option<&'backup ChecksumRule<'backup>>,
        pacer: &'backup Pacer,
    ) -> Self {
        Self { packs, checksums, pacer, pack: None, buffer: vec![0; BUFFER_BYTES], open: None }
    }

    /// Reads a range; `None` if the file is gone, which is fine: WAL replay removes it too.
    ///
    /// # Errors
    /// Where the file can't be read or the repository can't be written.
    pub(super) fn read(&mut self, range: &Range) -> Result<Option<RangeRead>> {
        if !self.open_file(&range.file)? {
            return Ok(None);
        }
        let mut read = RangeRead::default();
        let end = range.first_page + range.pages;
        let mut page = range.first_page;
        let step = u32::try_from(BUFFER_BYTES / PAGE_SIZE).expect("a buffer has few pages");
        if range.first_page > 0 {
            self.read_ahead(true);
        }
        while page < end {
            termination::check()?;
            if range.is_followed() && end - page == READ_AHEAD_PAGES {
                self.read_ahead(false);
            }
            let pages = step.min(end - page);
            let wanted = wanted_bytes(&range.file, page, pages);
            self.pacer.wait(wanted as u64)?;
            let mut filled = self.fill(wanted, u64::from(page) * PAGE_SIZE as u64)?;
            if filled < wanted && range.file.relation_block.is_some() {
                // The relation was truncated meanwhile: replay will do the same, and expects a page where it writes.
                self.buffer[filled..wanted].fill(0);
                filled = wanted;
            }
            self.store(&range.file, page, filled, &mut read)?;
            read.bytes += filled as u64;
            if filled < wanted {
                break;
            }
            page += pages;
        }
        Ok(Some(read))
    }

    /// Makes the last pack durable.
    ///
    /// # Errors
    /// Where the repository can't be written.
    pub(super) fn finish(mut self) -> Result<()> {
        self.pack.take().map_or(Ok(()), |pack| self.packs.finish(pack))
    }

    /// Reads a small file that is given as bytes, as [`RangeReader::read`] does one on disk.
    ///
    /// # Errors
    /// As [`RangeReader::read`].
    pub(super) fn read_bytes(&mut self, name: &[u8], bytes: &[u8]) -> Result<RangeRead> {
        let file = SourceFile::new(name.to_vec(), PathBuf::new(), bytes.len() as u64, None);
        let mut read = RangeRead { bytes: bytes.len() as u64, ..RangeRead::default() };
        let mut page = 0;
        for chunk in bytes.chunks(BUFFER_BYTES) {
            self.buffer[..chunk.len()].copy_from_slice(chunk);
            self.store(&file, page, chunk.len(), &mut read)?;
            page += u32::try_from(chunk.len().div_ceil(PAGE_SIZE)).expect("a buffer has few pages");
        }
        Ok(read)
    }

    /// Whether the file could be opened, or was open; not if it is gone.
    fn open_file(&mut self, file: &Arc<SourceFile>) -> Result<bool> {
        if self.open.as_ref().is_some_and(|(open, _)| Arc::ptr_eq(open, file)) {
            return Ok(true);
        }
        self.open = None;
        match fs::File::open(&file.path) {
            Ok(handle) => {
                self.open = Some((Arc::clone(file), handle));
                Ok(true)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether the kernel is to read ahead in the open file.
    fn read_ahead(&self, is_wanted: bool) {
        if let Some((_, file)) = &self.open {
            page_cache::read_ahead(file, is_wanted);
        }
    }

    /// Fills the buffer's first `wanted` bytes from the open file; fewer at its end.
    fn fill(&mut self, wanted: usize, offset: u64) -> Result<usize> {
        let Some((source, file)) = &self.open else { return Ok(0) };
        Ok(source.reads.read_at(file, &mut self.buffer[..wanted], offset)?)
    }

    /// Stores the buffer's first `length` bytes, which begin with page `first_page` of the file.
    fn store(&mut self, file: &SourceFile, first_page: u32, length: usize, read: &mut RangeRead) -> Result<()> {
        self.check_pages(file, first_page, length, read)?;
        let mut frame = Frame { first_page, start: 0, end: 0 };
        for start in (0..length).step_by(PAGE_SIZE) {
            let end = length.min(start + PAGE_SIZE);
            let is_zero = is_zero(&self.buffer[start..end]);
            if is_zero || frame.pages() == FRAME_PAGES {
                self.store_frame(file, frame, read)?;
                frame = Frame { first_page: first_page + page_index(start), start, end: start };
            }
            if is_zero {
                read.map.push(Run { pages: 1, source: Source::Zeros });
                frame = Frame { first_page: frame.first_page + 1, start: end, end };
            } else {
                frame.end = end;
            }
        }
        self.store_frame(file, frame, read)
    }

    fn store_frame(&mut self, file: &SourceFile, frame: Frame, read: &mut RangeRead) -> Result<()> {
        let count = frame.pages();
        if count == 0 {
            return Ok(());
        }
        let plain = &self.buffer[frame.start..frame.end];
        let vault = self.packs.repository().vault();
        let page_hashes: Vec<_> = plain.chunks(PAGE_SIZE).map(|page| vault.page_hash(page)).collect();
        let mut pack = match self.pack.take() {
            Some(pack) => pack,
            None => self.packs.begin()?,
        };
        let pages = FramePages::Contiguous { first: frame.first_page, count };
        let (block, stored) =
            pack.append_frame(PackFrame { path: &file.name, pages: &pages, plain, page_hashes: &page_hashes })?;
        *read.stored.entry(pack.id()).or_default() += u64::from(stored);
        let source = Source::Frames { pack: pack.id(), block, slot: 0, stride: FRAME_PAGES };
        read.map.push(Run { pages: u32::from(count), source });
        if pack.is_full() {
            self.packs.finish(pack)?;
        } else {
            self.pack = Some(pack);
        }
        Ok(())
    }

    /// Checks the pages in the buffer against their checksums, and notes those that are damaged.
    fn check_pages(&mut self, file: &SourceFile, first_page: u32, length: usize, read: &mut RangeRead) -> Result<()> {
        let (Some(rule), Some(relation_block)) = (self.checksums, file.relation_block) else { return Ok(()) };
        for start in (0..length - length % PAGE_SIZE).step_by(PAGE_SIZE) {
            let number = first_page + page_index(start);
            let block = relation_block + number;
            if matches(&self.buffer[start..start + PAGE_SIZE], block) || self.second_look(rule, start, number, block)? {
                continue;
            }
            tracing::debug!("page {number} of '{}' does not match its checksum", file.path.display());
            match read.damaged.last_mut() {
                Some(last) if last.first + last.count == number => last.count += 1,
                _ => read.damaged.push(PageRange { first: number, count: 1 }),
            }
        }
        Ok(())
    }

    /// Reads a page again that did not match. Whether it is fine after all: it matches now, it is being changed, or it
    /// was written after the backup's start, so that WAL replay restores it. What is stored is what was read last.
    fn second_look(&mut self, rule: &ChecksumRule<'_>, start: usize, number: u32, block: u32) -> Result<bool> {
        std::thread::sleep(SECOND_READ_PAUSE);
        let Some((source, file)) = &self.open else { return Ok(false) };
        let mut again = [0; PAGE_SIZE];
        if source.reads.read_at(file, &mut again, u64::from(number) * PAGE_SIZE as u64)? < PAGE_SIZE {
            return Ok(true);
        }
        let held = &mut self.buffer[start..start + PAGE_SIZE];
        let changed = *held != again;
        held.copy_from_slice(&again);
        let until = (rule.current)().unwrap_or(Lsn::INVALID);
        Ok(matches(&again, block) || page::accept_mismatch(page::lsn(&again), &during(rule.start, until), changed))
    }
}

fn during(start: Lsn, until: Lsn) -> RangeInclusive<Lsn> {
    start..=until
}

/// Consecutive pages in the buffer that become one frame.
#[derive(Clone, Copy, Debug)]
struct Frame {
    first_page: u32,
    start: usize,
    end: usize,
}

impl Frame {
    fn pages(self) -> u16 {
        u16::try_from((self.end - self.start).div_ceil(PAGE_SIZE)).unwrap_or(u16::MAX)
    }
}

fn page_index(offset: usize) -> u32 {
    u32::try_from(offset / PAGE_SIZE).expect("a buffer has few pages")
}

fn wanted_bytes(file: &SourceFile, page: u32, pages: u32) -> usize {
    let left = file.size.saturating_sub(u64::from(page) * PAGE_SIZE as u64);
    usize::try_from(left.min(u64::from(pages) * PAGE_SIZE as u64)).expect("a buffer's bytes fit")
}

fn matches(page: &[u8], block: u32) -> bool {
    let Ok(page) = page.try_into() else { return true };
    matches!(page::verify(page, block), PageState::Intact | PageState::New)
}

fn is_zero(page: &[u8]) -> bool {
    match page.try_into() {
        Ok(page) => page::is_zero(page),
        Err(_) => page.iter().all(|byte| *byte == 0),
    }
}
