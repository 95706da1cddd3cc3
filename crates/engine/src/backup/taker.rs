//! Taking pages that were read: finding those that are not in the repository yet, and storing them. What a worker of a
//! backup does.

use std::io;
use std::ops::Range;

use crossbeam_channel::{Receiver, Sender};
use pgark_postgres::Lsn;
use pgark_postgres::page;
use pgark_repository::PAGE_SIZE;
use pgark_repository::manifest::PageRange;
use pgark_repository::map::{PageMap, Run, Source};
use pgark_system::direct::Buffer;
use pgark_system::pace::Pacer;

use super::audit;
use super::checksums::ChecksumRule;
use super::frames::{FrameWriter, Placed};
use super::packs::Packs;
use super::reader::{Chunk, Opened};
use super::stock::{Lookup, Old, Stock};
use super::task::Task;
use crate::error::{Error, ErrorKind, Result};

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

/// Takes pages of one task after the other.
pub(super) struct Taker<'backup, 'repository> {
    packs: &'backup Packs<'repository>,
    stock: &'backup Stock<'backup>,
    rules: &'backup Rules<'backup>,
    frames: FrameWriter<'backup, 'repository>,
    /// Where buffers go back to.
    buffers: Sender<Buffer>,
}

/// A task whose pages are being taken.
struct UnderWay<'task> {
    task: &'task Task,
    lookup: Lookup<'task>,
    placed: Vec<Placed>,
    read: TaskRead,
}

impl<'backup, 'repository> Taker<'backup, 'repository> {
    /// One that stores into packs of its own, and gives buffers back.
    pub(super) fn new(
        packs: &'backup Packs<'repository>,
        stock: &'backup Stock<'backup>,
        rules: &'backup Rules<'backup>,
        buffers: Sender<Buffer>,
    ) -> Self {
        Self { packs, stock, rules, frames: FrameWriter::new(packs), buffers }
    }

    /// Takes what is read for a task. Gives the number of the task and what doing it has given: nothing if the file is
    /// gone.
    ///
    /// # Errors
    /// Where the file can't be read or the repository can't be read or written.
    pub(super) fn take(&mut self, opened: &Opened) -> Result<(u64, Option<TaskRead>)> {
        match opened {
            Opened::Gone(sequence) => Ok((*sequence, None)),
            Opened::There { task, chunks } => Ok((task.sequence, Some(self.take_task(task, chunks)?))),
        }
    }

    /// Makes the last pack durable.
    ///
    /// # Errors
    /// Where the repository can't be written.
    pub(super) fn finish(self) -> Result<()> {
        self.frames.finish()
    }

    fn take_task(&mut self, task: &Task, chunks: &Receiver<Result<Chunk>>) -> Result<TaskRead> {
        let lookup = Lookup::new(self.stock, task);
        let mut under_way = UnderWay { task, lookup, placed: Vec::new(), read: TaskRead::default() };
        self.frames.set_compared(task.file.is_compared);
        for chunk in chunks {
            let mut chunk = chunk?;
            self.take_pages(&mut chunk, &mut under_way)?;
            under_way.read.bytes += chunk.in_file as u64;
            under_way.read.end = chunk.file_end;
            // A reader that has read everything needs no buffers any more.
            let _unneeded = self.buffers.send(chunk.buffer);
        }
        let UnderWay { mut placed, read, .. } = under_way;
        self.frames.flush(&task.file.name, &mut placed)?;
        complete(task, placed, read)
    }

    /// Takes the wanted pages among those that were read.
    fn take_pages(&mut self, chunk: &mut Chunk, under_way: &mut UnderWay<'_>) -> Result<()> {
        let wanted = under_way.task.read.within(&chunk.pages);
        for number in wanted.ranges().iter().cloned().flatten() {
            let start = (number - chunk.pages.start) as usize * PAGE_SIZE;
            let end = chunk.length.min(start + PAGE_SIZE);
            if start >= end {
                break;
            }
            let page = &mut chunk.buffer[start..end];
            self.check_page(page, number, under_way)?;
            self.take_page(page, number, end <= chunk.in_file, under_way)?;
        }
        Ok(())
    }

    /// Finds out where a page lies, and stores it if it lies nowhere.
    fn take_page(&mut self, page: &[u8], number: u32, is_in_file: bool, under_way: &mut UnderWay<'_>) -> Result<()> {
        let UnderWay { task, lookup, placed, read, .. } = under_way;
        let old = lookup.old(number)?;
        if is_zero(page) {
            if old != Old::Zeros {
                placed.push((number, Source::Zeros));
            }
            return Ok(());
        }
        let hash = self.packs.repository().vault().page_hash(page);
        if old == Old::Page(hash) {
            if !task.rewrite.contains(number) {
                return Ok(());
            }
        } else if old != Old::Unknown && is_in_file && self.is_unexplained(task, number, page) {
            push(&mut read.unexplained, number);
        }
        match lookup.adopted(number, hash)? {
            Some(source) => placed.push((number, source)),
            None => self.frames.push(&task.file.name, number, page, hash, placed)?,
        }
        Ok(())
    }

    /// Checks a page against its checksum, and notes it if it is damaged.
    fn check_page(&self, page: &mut [u8], number: u32, under_way: &mut UnderWay<'_>) -> Result<()> {
        let source = &under_way.task.file;
        let (Some(rule), Some(relation_block)) = (&self.rules.checksums, source.relation_block) else { return Ok(()) };
        if page.len() < PAGE_SIZE {
            return Ok(());
        }
        let again = || -> io::Result<Option<page::Page>> {
            // Not by the reader's handle, which may go past the page cache.
            let Some(file) = source.open()? else { return Ok(None) };
            let mut again = [0; PAGE_SIZE];
            let bytes = source.reads.read_at(file, &mut again, u64::from(number) * PAGE_SIZE as u64)?;
            Ok((bytes == PAGE_SIZE).then_some(again))
        };
        if !rule.is_fine(page, relation_block.saturating_add(number), again)? {
            push(&mut under_way.read.damaged, number);
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
    let (mut map, mut old, mut at) = (PageMap::beside(old), old.cursor(), part.start);
    for (page, source) in placed {
        old.copy(page - at, &mut map);
        old.skip(1);
        map.push(Run { pages: 1, source: *source });
        at = page + 1;
    }
    old.copy(part.end.saturating_sub(at), &mut map);
    map
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

    use super::*;

    proptest! {
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
