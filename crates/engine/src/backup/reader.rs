//! Reading pages, finding those that are not in the repository yet, and storing them: what a worker of a backup does.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use fs_err as fs;
use pgark_postgres::Lsn;
use pgark_postgres::page;
use pgark_repository::PAGE_SIZE;
use pgark_repository::manifest::PageRange;
use pgark_repository::map::{PageMap, Run, Source};
use pgark_system::pace::Pacer;
use pgark_system::{page_cache, termination};

use super::audit;
use super::checksums::ChecksumRule;
use super::frames::{FrameWriter, Placed};
use super::packs::Packs;
use super::stock::{Lookup, Old, Stock};
use super::task::{SourceFile, Task};
use crate::error::{Error, ErrorKind, Result};

/// Pages that are read from a file at once: 1 MiB.
const BUFFER_PAGES: u32 = 128;

/// Pages between two that are wanted which are read too rather than making two reads: about as many as a disk gives in
/// the time that another read would take.
const GAP_PAGES: u32 = 16;

/// Pages before the end of a task from which on the kernel does not read ahead any more, where another worker reads on.
/// Few disks are read farther ahead.
const READ_AHEAD_PAGES: u32 = 1024;

/// What doing a task has given.
#[derive(Debug, Default)]
pub(super) struct TaskRead {
    /// Bytes that were read from the cluster.
    pub(super) bytes: u64,
    /// Where the file ends, if it is no relation and has shrunk.
    pub(super) end: Option<u64>,
    /// Where the pages of the task's part lie.
    pub(super) map: PageMap,
    /// Whether any of them lies elsewhere than in the reference.
    pub(super) is_changed: bool,
    /// Pages that did not match their checksums.
    pub(super) damaged: Vec<PageRange>,
    /// Pages that have changed although the WAL does not name them.
    pub(super) unexplained: Vec<PageRange>,
}

/// How pages are read and judged.
pub(super) struct Rules<'backup> {
    /// How page checksums are judged; `None` if there are none, or they are not to be checked.
    pub(super) checksums: Option<ChecksumRule<'backup>>,
    /// Where the reference begins: an older page does not change without WAL. Nothing is told of if it is `None`.
    pub(super) audit_since: Option<Lsn>,
    /// At what pace all workers read together.
    pub(super) pacer: &'backup Pacer,
}

/// Does tasks, one after the other.
pub(super) struct Reader<'backup, 'repository> {
    packs: &'backup Packs<'repository>,
    stock: &'backup Stock<'backup>,
    rules: &'backup Rules<'backup>,
    frames: FrameWriter<'backup, 'repository>,
    buffer: Vec<u8>,
    open: Option<(Arc<SourceFile>, fs::File)>,
}

/// What is held in the buffer.
struct Held {
    /// The number of the first page.
    first_page: u32,
    /// How many bytes there are.
    length: usize,
    /// How many of them the file has; what follows are zeros in the place of pages that were truncated away meanwhile.
    in_file: usize,
}

impl<'backup, 'repository> Reader<'backup, 'repository> {
    /// A reader that stores into packs of its own.
    pub(super) fn new(
        packs: &'backup Packs<'repository>,
        stock: &'backup Stock<'backup>,
        rules: &'backup Rules<'backup>,
    ) -> Self {
        let buffer = vec![0; BUFFER_PAGES as usize * PAGE_SIZE];
        Self { packs, stock, rules, frames: FrameWriter::new(packs), buffer, open: None }
    }

    /// Does a task; `None` if the file is gone, which is fine: WAL replay removes it too.
    ///
    /// # Errors
    /// Where the file can't be read or the repository can't be read or written.
    pub(super) fn read(&mut self, task: &Task) -> Result<Option<TaskRead>> {
        if !self.open_file(&task.file)? {
            return Ok(None);
        }
        let mut read = TaskRead::default();
        let (mut placed, mut lookup) = (Vec::new(), Lookup::new(self.stock, task));
        self.expect_reads(task);
        self.frames.set_compared(task.file.is_compared);
        for chunk in chunks(task.read.ranges()) {
            termination::check()?;
            if task.is_sequential() && is_followed(task) && task.part.end - chunk.start == READ_AHEAD_PAGES {
                self.read_ahead(false);
            }
            let wanted = byte_count(&task.file, &chunk);
            self.rules.pacer.wait(wanted as u64)?;
            let in_file = self.fill(wanted, chunk.start)?;
            let is_relation = task.file.relation_block.is_some();
            if in_file < wanted && is_relation {
                // The relation was truncated meanwhile: replay will do the same, and expects a page where it writes.
                self.buffer[in_file..wanted].fill(0);
            }
            let length = if is_relation { wanted } else { in_file };
            read.bytes += in_file as u64;
            let held = Held { first_page: chunk.start, length, in_file };
            self.take(&held, &chunk, &mut lookup, task, &mut placed, &mut read)?;
            if length < wanted {
                read.end = Some(u64::from(chunk.start) * PAGE_SIZE as u64 + length as u64);
                break;
            }
        }
        self.frames.flush(&task.file.name, &mut placed)?;
        complete(task, placed, read).map(Some)
    }

    /// Makes the last pack durable.
    ///
    /// # Errors
    /// Where the repository can't be written.
    pub(super) fn finish(self) -> Result<()> {
        self.frames.finish()
    }

    /// Whether the file could be opened, or was open; not if it is gone.
    fn open_file(&mut self, file: &Arc<SourceFile>) -> Result<bool> {
        if self.open.as_ref().is_some_and(|(open, _)| Arc::ptr_eq(open, file)) {
            return Ok(true);
        }
        self.open = None;
        self.open = file.open()?.map(|handle| (Arc::clone(file), handle));
        Ok(self.open.is_some())
    }

    /// Tells the kernel whether pages will be read one after the other.
    fn expect_reads(&self, task: &Task) {
        match task.is_sequential() {
            true if task.part.start > 0 => self.read_ahead(true),
            true => {}
            false => self.read_ahead(false),
        }
    }

    fn read_ahead(&self, is_wanted: bool) {
        if let Some((_, file)) = &self.open {
            page_cache::read_ahead(file, is_wanted);
        }
    }

    /// Fills the buffer's first `wanted` bytes from the open file; fewer at its end.
    fn fill(&mut self, wanted: usize, first_page: u32) -> Result<usize> {
        let Some((source, file)) = &self.open else { return Ok(0) };
        Ok(source.reads.read_at(file, &mut self.buffer[..wanted], u64::from(first_page) * PAGE_SIZE as u64)?)
    }

    /// Takes the wanted pages among those in the buffer.
    fn take(
        &mut self,
        held: &Held,
        chunk: &Range<u32>,
        lookup: &mut Lookup<'_>,
        task: &Task,
        placed: &mut Vec<Placed>,
        read: &mut TaskRead,
    ) -> Result<()> {
        for number in task.read.within(chunk).ranges().iter().cloned().flatten() {
            let start = (number - held.first_page) as usize * PAGE_SIZE;
            let end = held.length.min(start + PAGE_SIZE);
            if start >= end {
                break;
            }
            self.check_page(&task.file, start..end, number, read)?;
            let old = lookup.old(number)?;
            if is_zero(&self.buffer[start..end]) {
                if old != Old::Zeros {
                    placed.push((number, Source::Zeros));
                }
                continue;
            }
            let page = &self.buffer[start..end];
            let hash = self.packs.repository().vault().page_hash(page);
            if old == Old::Page(hash) {
                if !task.rewrite.contains(number) {
                    continue;
                }
            } else if old != Old::Unknown && end <= held.in_file && self.is_unexplained(task, number, page) {
                push(&mut read.unexplained, number);
            }
            match lookup.adopted(number, hash)? {
                Some(source) => placed.push((number, source)),
                None => self.frames.push(&task.file.name, number, page, hash, placed)?,
            }
        }
        Ok(())
    }

    /// Checks a page against its checksum, and notes it if it is damaged.
    fn check_page(&mut self, file: &SourceFile, at: Range<usize>, number: u32, read: &mut TaskRead) -> Result<()> {
        let (Some(rule), Some(relation_block)) = (&self.rules.checksums, file.relation_block) else { return Ok(()) };
        if at.len() < PAGE_SIZE {
            return Ok(());
        }
        let open = &self.open;
        let again = || -> io::Result<Option<page::Page>> {
            let Some((source, file)) = open else { return Ok(None) };
            let mut again = [0; PAGE_SIZE];
            let bytes = source.reads.read_at(file, &mut again, u64::from(number) * PAGE_SIZE as u64)?;
            Ok((bytes == PAGE_SIZE).then_some(again))
        };
        if !rule.is_fine(&mut self.buffer[at], relation_block.saturating_add(number), again)? {
            tracing::debug!("page {number} of '{}' does not match its checksum", file.path.display());
            push(&mut read.damaged, number);
        }
        Ok(())
    }

    /// Whether a page that differs from the reference's should not.
    fn is_unexplained(&self, task: &Task, number: u32, page: &[u8]) -> bool {
        let (Some(expected), Some(since)) = (&task.expected, self.rules.audit_since) else { return false };
        let block = task.file.relation_block.unwrap_or(0).saturating_add(number);
        !expected.contains(number) && page.try_into().is_ok_and(|page| audit::is_unexplained(page, block, since))
    }
}

/// Puts the map of a task's part together, of what was found and of what the reference has.
fn complete(task: &Task, mut placed: Vec<Placed>, mut read: TaskRead) -> Result<TaskRead> {
    let end = read.end.map_or(task.part.end, |end| u32::try_from(end.div_ceil(PAGE_SIZE as u64)).unwrap_or(u32::MAX));
    read.is_changed = !placed.is_empty() || end < task.part.end;
    placed.sort_unstable_by_key(|(number, _)| *number);
    read.map = patched(&(task.part.start..end), &task.old, &placed);
    if read.map.page_count() == u64::from(end - task.part.start) {
        return Ok(read);
    }
    let message = format!("pages of '{}' are neither read nor known", task.file.path.display());
    Err(Error::new(ErrorKind::Runtime, message).hint("take a backup with --no-reuse, and report this"))
}

/// The map of a part of a file: where pages were found to lie now, and where the others lay before. The old map is that of
/// the same part.
pub(super) fn patched(part: &Range<u32>, old: &PageMap, placed: &[Placed]) -> PageMap {
    let (mut map, mut old, mut at) = (PageMap::default(), old.cursor(), part.start);
    for (page, source) in placed {
        old.copy(page - at, &mut map);
        old.skip(1);
        map.push(Run { pages: 1, source: *source });
        at = page + 1;
    }
    old.copy(part.end.saturating_sub(at), &mut map);
    map
}

/// Cuts pages into reads, each of which the buffer holds, with what lies between pages that are close to each other.
fn chunks(wanted: &[Range<u32>]) -> Vec<Range<u32>> {
    let mut chunks: Vec<Range<u32>> = Vec::new();
    for range in wanted {
        let mut start = range.start;
        if let Some(last) = chunks.last_mut()
            && range.start - last.end <= GAP_PAGES
            && range.start - last.start < BUFFER_PAGES
        {
            last.end = range.end.min(last.start + BUFFER_PAGES);
            start = last.end;
        }
        while start < range.end {
            let end = range.end.min(start + BUFFER_PAGES);
            chunks.push(start..end);
            start = end;
        }
    }
    chunks
}

/// Whether the file goes on after the task's part.
fn is_followed(task: &Task) -> bool {
    u64::from(task.part.end) * (PAGE_SIZE as u64) < task.file.size
}

fn byte_count(file: &SourceFile, pages: &Range<u32>) -> usize {
    let start = u64::from(pages.start) * PAGE_SIZE as u64;
    let end = (u64::from(pages.end) * PAGE_SIZE as u64).min(file.size);
    usize::try_from(end.saturating_sub(start)).expect("a buffer's bytes fit")
}

fn push(ranges: &mut Vec<PageRange>, page: u32) {
    match ranges.last_mut() {
        Some(last) if last.first + last.count == page => last.count += 1,
        _ => ranges.push(PageRange { first: page, count: 1 }),
    }
}

fn is_zero(page: &[u8]) -> bool {
    match page.try_into() {
        Ok(page) => page::is_zero(page),
        Err(_) => page.iter().all(|byte| *byte == 0),
    }
}

#[cfg(test)]
mod tests {
    use pgark_repository::PackId;
    use proptest::prelude::*;

    use super::super::pages::PageSet;
    use super::*;

    proptest! {
        #[test]
        fn all_that_is_wanted_is_read_once_and_fits_the_buffer(
            ranges in proptest::collection::vec((0_u32..5000, 1_u32..300), 0..60),
        ) {
            let mut ranges = ranges;
            ranges.sort_unstable();
            let wanted: PageSet = ranges.into_iter().map(|(first, count)| first..first + count).collect();
            let chunks = chunks(wanted.ranges());
            let mut end = 0;
            for chunk in &chunks {
                prop_assert!(chunk.start >= end && chunk.end > chunk.start && chunk.end - chunk.start <= BUFFER_PAGES);
                prop_assert!(wanted.contains(chunk.start) && wanted.contains(chunk.end - 1));
                end = chunk.end;
            }
            let read: u32 = chunks.iter().map(|chunk| wanted.count_in(chunk.clone())).sum();
            prop_assert_eq!(read, wanted.count());
        }

        #[test]
        fn a_patched_map_has_each_page_where_it_was_found_last(
            old_pages in 0_u32..100,
            pages in 1_u32..100,
            changed in proptest::collection::btree_set(0_u32..100, 0..40),
        ) {
            let place = |number: u32, page: u32| {
                let pack = PackId { session: ulid::Ulid::from_bytes([1; 16]), number };
                Source::Frames { pack, block: page, slot: 0, stride: 1 }
            };
            let mut old = PageMap::default();
            for page in 0..old_pages {
                old.push(Run { pages: 1, source: place(0, page) });
            }
            let is_placed = |page: &u32| changed.contains(page) || *page >= old_pages;
            let placed: Vec<Placed> = (0..pages).filter(is_placed).map(|page| (page, place(1, page))).collect();
            let map = patched(&(0..pages), &old, &placed);
            prop_assert_eq!(map.page_count(), u64::from(pages));
            for piece in map.pieces() {
                for page in piece.first_page..piece.first_page + piece.pages {
                    prop_assert_eq!(piece.pack.number, u32::from(is_placed(&page)));
                    prop_assert_eq!(piece.block + page - piece.first_page, page);
                }
            }
        }
    }
}
