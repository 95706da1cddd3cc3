//! Reading files ahead of the worker that takes their pages. Each worker has a reader, a thread of its own, so that it does
//! not wait for the disk, nor the disk for it.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use crossbeam_channel::{Receiver, SendError, Sender, bounded};
use fs_err as fs;
use pgark_repository::PAGE_SIZE;
use pgark_system::direct::{self, Buffer};
use pgark_system::pace::Pacer;
use pgark_system::{page_cache, termination};

use super::task::{SourceFile, Task};
use crate::error::Result;

/// Pages that are read from a file at once: 1 MiB.
const BUFFER_PAGES: u32 = 128;

/// Reads of so many bytes go past the page cache, where nothing of the part is in it. They take less of a processor, and are
/// no slower although the kernel reads nothing ahead for them.
const DIRECT_BYTES: usize = BUFFER_PAGES as usize * PAGE_SIZE;

/// Buffers that a reader and its worker have together: one with each of them and one on its way. Nothing else holds pages
/// that were not taken yet.
const BUFFERS: usize = 3;

/// Pages between two that are wanted which are read too rather than making two reads: about as many as a disk gives in
/// the time that another read would take.
const GAP_PAGES: u32 = 16;

/// Pages before the end of a task from which on the kernel does not read ahead any more, where another reader reads on.
/// Few disks are read farther ahead.
const READ_AHEAD_PAGES: u32 = 1024;

/// A task whose file was opened.
#[derive(Debug)]
pub(super) enum Opened {
    /// The file of the task with this number is gone, which is fine: WAL replay removes it too.
    Gone(u64),
    /// It is there.
    There {
        /// The task.
        task: Arc<Task>,
        /// What is read for the task, in the order of the pages.
        chunks: Receiver<Result<Chunk>>,
    },
}

/// Pages that were read at once.
#[derive(Debug)]
pub(super) struct Chunk {
    /// Which pages.
    pub(super) pages: Range<u32>,
    /// Holds them from its beginning on. It goes back to the reader.
    pub(super) buffer: Buffer,
    /// How many bytes there are.
    pub(super) length: usize,
    /// How many of them the file has; what follows are zeros in the place of pages that were truncated away meanwhile.
    pub(super) in_file: usize,
    /// Where the file ends, if it is no relation and has shrunk. Then nothing follows.
    pub(super) file_end: Option<u64>,
}

/// Reads what one worker takes.
pub(super) struct Reader<'backup> {
    tasks: Receiver<Task>,
    pacer: &'backup Pacer,
    opened: Sender<Result<Opened>>,
    buffers: Receiver<Buffer>,
    open: Option<(Arc<SourceFile>, Arc<fs::File>)>,
}

/// The worker's end of a reader.
pub(super) struct ReadAhead {
    /// Tasks, in the order in which the reader got them.
    pub(super) opened: Receiver<Result<Opened>>,
    /// Where buffers go back to.
    pub(super) buffers: Sender<Buffer>,
}

/// The worker takes no more: it has failed, and says so itself.
#[derive(Debug)]
struct WorkerGone;

impl<T> From<SendError<T>> for WorkerGone {
    fn from(_: SendError<T>) -> Self {
        Self
    }
}

impl<'backup> Reader<'backup> {
    /// A reader for tasks that come through a channel, at the pace that all share.
    pub(super) fn new(tasks: Receiver<Task>, pacer: &'backup Pacer) -> (Self, ReadAhead) {
        let (opened_sender, opened) = bounded(BUFFERS);
        let (buffer_sender, buffers) = bounded(BUFFERS);
        for _ in 0..BUFFERS {
            buffer_sender.send(Buffer::default()).expect("all buffers have room");
        }
        let reader = Self { tasks, pacer, opened: opened_sender, buffers, open: None };
        (reader, ReadAhead { opened, buffers: buffer_sender })
    }

    /// Reads until there are no more tasks, or nobody takes what is read.
    pub(super) fn run(mut self) {
        while let Ok(task) = self.tasks.recv() {
            if let Err(WorkerGone) = self.read(task) {
                return;
            }
        }
    }

    fn read(&mut self, task: Task) -> Result<(), WorkerGone> {
        let file = match self.open_file(&task.file) {
            Ok(Some(file)) => file,
            Ok(None) => return Ok(self.opened.send(Ok(Opened::Gone(task.sequence)))?),
            Err(error) => return Ok(self.opened.send(Err(error.into()))?),
        };
        let (sender, chunks) = bounded(BUFFERS);
        let task = Arc::new(task);
        self.opened.send(Ok(Opened::There { task: Arc::clone(&task), chunks }))?;
        expect_reads(&task, &file);
        for pages in cut(task.read.ranges()) {
            let buffer = self.buffers.recv().map_err(|_| WorkerGone)?;
            let chunk = self.read_chunk(&task, &file, pages, buffer);
            let is_last = chunk.as_ref().map_or(true, |chunk| chunk.file_end.is_some());
            sender.send(chunk)?;
            if is_last {
                break;
            }
        }
        Ok(())
    }

    /// The file, which may be open already; `None` if it is gone.
    fn open_file(&mut self, source: &Arc<SourceFile>) -> io::Result<Option<Arc<fs::File>>> {
        if let Some((open, file)) = &self.open
            && Arc::ptr_eq(open, source)
        {
            return Ok(Some(Arc::clone(file)));
        }
        self.open = None;
        let file = source.open()?.map(Arc::new);
        self.open = file.clone().map(|file| (Arc::clone(source), file));
        Ok(file)
    }

    fn read_chunk(&self, task: &Task, file: &fs::File, pages: Range<u32>, mut buffer: Buffer) -> Result<Chunk> {
        termination::check()?;
        if task.is_sequential() && is_followed(task) && task.part.end - pages.start == READ_AHEAD_PAGES {
            page_cache::read_ahead(file, false);
        }
        let start = u64::from(pages.start) * PAGE_SIZE as u64;
        let wanted = byte_count(&task.file, &pages);
        self.pacer.wait(wanted as u64)?;
        let (reads, part) = (&task.file.reads, start..start + wanted as u64);
        if wanted >= DIRECT_BYTES {
            direct::read(file, reads, &mut buffer, part)?;
        } else {
            direct::read_through_cache(file, reads, &mut buffer, part)?;
        }
        let in_file = buffer.len();
        let is_relation = task.file.relation_block.is_some();
        // The relation was truncated meanwhile: replay will do the same, and expects a page where it writes.
        let length = if is_relation { wanted } else { in_file };
        if length > in_file {
            let mut pages = buffer.to_vec();
            pages.resize(length, 0);
            buffer = Buffer::from(pages);
        }
        let file_end = (length < wanted).then(|| start + length as u64);
        Ok(Chunk { pages, buffer, length, in_file, file_end })
    }
}

/// Tells the kernel whether pages will be read one after the other.
fn expect_reads(task: &Task, file: &fs::File) {
    match task.is_sequential() {
        true if task.part.start > 0 => page_cache::read_ahead(file, true),
        true => {}
        false => page_cache::read_ahead(file, false),
    }
}

/// Cuts pages into reads, each of which a buffer holds, with what lies between pages that are close to each other.
fn cut(wanted: &[Range<u32>]) -> Vec<Range<u32>> {
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

#[cfg(test)]
mod tests {
    use std::thread;
    use std::time::Duration;

    use pgark_repository::map::PageMap;
    use proptest::prelude::*;

    use super::super::pages::PageSet;
    use super::super::plan::FilePlan;
    use super::super::task;
    use super::*;

    proptest! {
        #[test]
        fn all_that_is_wanted_is_read_once_and_fits_the_buffer(
            ranges in proptest::collection::vec((0_u32..5000, 1_u32..300), 0..60),
        ) {
            let mut ranges = ranges;
            ranges.sort_unstable();
            let wanted: PageSet = ranges.into_iter().map(|(first, count)| first..first + count).collect();
            let chunks = cut(wanted.ranges());
            let mut end = 0;
            for chunk in &chunks {
                prop_assert!(chunk.start >= end && chunk.end > chunk.start && chunk.end - chunk.start <= BUFFER_PAGES);
                prop_assert!(wanted.contains(chunk.start) && wanted.contains(chunk.end - 1));
                end = chunk.end;
            }
            let read: u32 = chunks.iter().map(|chunk| wanted.count_in(chunk.clone())).sum();
            prop_assert_eq!(read, wanted.count());
        }
    }

    /// The worker's end of a reader that is given a file whole. Of `pages` pages that the walk saw it has so many bytes now.
    fn read(pages: u32, bytes: usize, relation_block: Option<u32>, take: impl FnOnce(ReadAhead)) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        fs::write(&path, vec![1; bytes]).unwrap();
        read_path(path, pages, relation_block, take);
    }

    fn read_path(path: std::path::PathBuf, pages: u32, relation_block: Option<u32>, take: impl FnOnce(ReadAhead)) {
        let source = SourceFile::new(Vec::new(), path, u64::from(pages) * PAGE_SIZE as u64, relation_block);
        let plan = FilePlan { read: PageSet::all(pages), rewrite: PageSet::default(), expected: None };
        let all = task::cut(&Arc::new(source), pages, &plan, &PageMap::default(), 7);
        let (sender, tasks) = bounded(all.len());
        for task in all {
            sender.send(task).unwrap();
        }
        drop(sender);
        let pacer = Pacer::unlimited();
        let (reader, ahead) = Reader::new(tasks, &pacer);
        thread::scope(|scope| {
            scope.spawn(|| reader.run());
            take(ahead);
        });
    }

    fn chunks(ahead: &ReadAhead) -> Receiver<Result<Chunk>> {
        match ahead.opened.recv().unwrap().unwrap() {
            Opened::There { chunks, .. } => chunks,
            Opened::Gone(sequence) => panic!("the file of task {sequence} is there"),
        }
    }

    /// What the chunks of a task are, whose buffers go back: bytes, bytes in the file, and where the file ends.
    fn taken(ahead: &ReadAhead) -> Vec<(usize, usize, Option<u64>)> {
        let take = |chunk: Result<Chunk>| {
            let chunk = chunk.unwrap();
            let (from_file, rest) = chunk.buffer[..chunk.length].split_at(chunk.in_file);
            assert!(from_file.iter().all(|byte| *byte == 1) && rest.iter().all(|byte| *byte == 0));
            let _needed_till_all_is_read = ahead.buffers.send(chunk.buffer);
            (chunk.length, chunk.in_file, chunk.file_end)
        };
        chunks(ahead).into_iter().map(take).collect()
    }

    #[test]
    fn a_relation_that_was_truncated_is_read_on_as_zeros_and_another_file_ends() {
        let (mebibyte, page) = (1 << 20, PAGE_SIZE);
        let bytes = mebibyte + 3 * page + 5;
        let shrunk = |relation| {
            let mut chunks = Vec::new();
            read(4 * BUFFER_PAGES, bytes, relation, |ahead| chunks = taken(&ahead));
            chunks
        };
        let rest = 3 * page + 5;
        let whole = (mebibyte, mebibyte, None);
        assert_eq!(shrunk(Some(0)), [whole, (mebibyte, rest, None), (mebibyte, 0, None), (mebibyte, 0, None)]);
        assert_eq!(shrunk(None), [whole, (rest, rest, Some(bytes as u64))]);
    }

    #[test]
    fn a_file_that_is_gone_is_told_of() {
        let nowhere = tempfile::tempdir().unwrap().path().join("file");
        read_path(nowhere, 1, None, |ahead| {
            assert!(matches!(ahead.opened.recv().unwrap().unwrap(), Opened::Gone(7)));
            assert!(ahead.opened.recv().is_err());
        });
    }

    #[test]
    fn no_more_is_read_than_the_buffers_hold_and_all_ends_with_the_worker() {
        let pages = task::TASK_PAGES + BUFFER_PAGES;
        read(pages, pages as usize * PAGE_SIZE, Some(0), |ahead| {
            let first = chunks(&ahead);
            let held: Vec<_> = (0..BUFFERS).map(|_| first.recv().unwrap().unwrap()).collect();
            assert!(first.recv_timeout(Duration::from_millis(50)).is_err());
            drop(held);
            // The reader waits for a buffer now, and must not do so for ever.
        });
    }
}
