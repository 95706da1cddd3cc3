//! What a worker of a restore does: it has frames fetched, decodes them, and writes their pages to files.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crossbeam_channel::Receiver;
use fs_err::os::unix::fs::FileExt;
use pgark_repository::PAGE_SIZE;
use pgark_repository::codec::Decoder;
use pgark_system::termination;

use super::pack::OpenPack;
use super::request::{Answer, Request, UnderWay};
use super::write_behind::WriteBehind;
use super::{From, Shared, Task, Wanted, look};
use crate::error::Result;
use crate::restore::target::{OpenFile, TargetFile};

/// Pages that are looked at together where they are to be zero; all of them are written if any is not.
const ZERO_PAGES: u32 = 64;

/// A worker of a restore.
pub(super) struct Worker<'restore> {
    from: From<'restore>,
    shared: &'restore Shared,
    tasks: Receiver<Task<'restore>>,
    /// Requests to be sent.
    requests: VecDeque<Request<'restore>>,
    /// Requests that were sent; others wait for the answers.
    under_way: UnderWay<'restore>,
    decoder: Decoder,
    /// The plain bytes of a frame.
    plain: Vec<u8>,
    /// Bytes that a file has.
    local: Vec<u8>,
    open: Option<(Arc<TargetFile>, OpenFile)>,
    /// What is on its way to the disk.
    written: WriteBehind,
}

impl<'restore> Worker<'restore> {
    /// A worker that does `tasks`.
    pub(super) fn new(
        from: From<'restore>,
        shared: &'restore Shared,
        tasks: Receiver<Task<'restore>>,
        under_way: UnderWay<'restore>,
    ) -> Self {
        Self {
            from,
            shared,
            tasks,
            requests: VecDeque::new(),
            under_way,
            decoder: Decoder::default(),
            plain: Vec::new(),
            local: Vec::new(),
            open: None,
            written: WriteBehind::default(),
        }
    }

    /// Works till there are no more tasks, or a worker fails.
    ///
    /// # Errors
    /// Where something can't be fetched, is damaged, or can't be written.
    pub(super) fn work(mut self) -> Result<()> {
        let worked = self.work_till_the_end();
        if worked.is_err() {
            self.shared.failed.store(true, Ordering::Relaxed);
        }
        worked
    }

    fn work_till_the_end(&mut self) -> Result<()> {
        while !self.shared.has_failed() {
            termination::check()?;
            if let Some(request) = self.next_request() {
                self.under_way.send(request)?;
            } else if let Some(task) = self.next_task() {
                self.begin(task)?;
            } else if !self.under_way.is_empty() {
                let answer = self.under_way.receive()?;
                self.write_answer(answer)?;
            } else {
                return Ok(());
            }
        }
        Ok(())
    }

    /// The next request to send, if there is one that may be sent now.
    fn next_request(&mut self) -> Option<Request<'restore>> {
        if self.under_way.has_room() { self.requests.pop_front() } else { None }
    }

    /// The next task, if there is time for one. With nothing else to do it is waited for.
    fn next_task(&self) -> Option<Task<'restore>> {
        if !self.under_way.has_room() {
            None
        } else if self.under_way.is_empty() {
            self.tasks.recv().ok()
        } else {
            self.tasks.try_recv().ok()
        }
    }

    fn begin(&mut self, task: Task<'restore>) -> Result<()> {
        match task {
            Task::Zeros { file, first_page, pages } => self.write_zeros(&file, first_page, pages),
            Task::Complete(file) => self.complete(&file),
            Task::Frames { pack, pieces } => {
                let missing = self.missing(&pack, pieces)?;
                self.requests.extend(Request::cut(&pack, missing)?);
                Ok(())
            }
        }
    }

    /// Looks at what files have already, and keeps the pieces that have to be fetched.
    fn missing(&mut self, pack: &OpenPack<'_>, pieces: Vec<Wanted>) -> Result<Vec<Wanted>> {
        let mut missing = Vec::with_capacity(pieces.len());
        let mut pieces = pieces.into_iter();
        while let Some((count, pages)) = look::together(pieces.as_slice()) {
            let together: Vec<Wanted> = pieces.by_ref().take(count).collect();
            let Some(file) = together.first().map(|first| Arc::clone(&first.file)) else { break };
            if !file.may_be_reused() || !self.open(&file)?.is_reused {
                missing.extend(together);
                continue;
            }
            self.look(&file, pages.start, pages.end - pages.start)?;
            for wanted in together {
                if self.is_right(pack, &wanted, pages.start)? {
                    self.advance(&wanted);
                    file.told().inspect(|told| told.right());
                    self.end_part(&file)?;
                } else {
                    missing.push(wanted);
                }
            }
        }
        Ok(missing)
    }

    /// Whether the pages are among those that were looked at, from `first_looked` on.
    fn is_right(&self, pack: &OpenPack<'_>, wanted: &Wanted, first_looked: u32) -> Result<bool> {
        let piece = wanted.piece;
        let first = usize::from(piece.slot);
        let expected = pack
            .page_hashes(piece.block)?
            .get(first..first + piece.pages as usize)
            .ok_or_else(|| pack.damaged(piece.block, "has fewer pages than expected"))?;
        let vault = self.from.repository.vault();
        let mut pages = self.local.chunks(PAGE_SIZE).skip((piece.first_page - first_looked) as usize);
        Ok(expected.iter().all(|hash| pages.next().is_some_and(|page| vault.page_hash(page) == *hash)))
    }

    /// Reads what a file has of these pages.
    fn look(&mut self, file: &Arc<TargetFile>, first_page: u32, pages: u32) -> Result<()> {
        let (offset, length) = byte_range(file, first_page, pages);
        self.from.pacer.wait(length as u64)?;
        let mut local = std::mem::take(&mut self.local);
        local.resize(length, 0);
        let read = self.open(file).and_then(|open| file.read_at(open, &mut local, offset));
        local.truncate(*read.as_ref().unwrap_or(&0));
        self.local = local;
        read?;
        Ok(())
    }

    /// Writes the pages that an answer was wanted for.
    fn write_answer(&mut self, mut answer: Answer<'restore>) -> Result<()> {
        let pack = Arc::clone(&answer.request.pack);
        let mut decoded = None;
        for wanted in std::mem::take(&mut answer.request.pieces) {
            let block = wanted.piece.block;
            if decoded != Some(block) {
                let container = pack.pack.container();
                let range = container.range(block)?;
                let stored = answer.block(&range).ok_or_else(|| pack.damaged(block, "is not where it should be"))?;
                container.decode(block, stored, &mut self.decoder, &mut self.plain)?;
                decoded = Some(block);
            }
            self.write(&pack, &wanted)?;
            self.advance(&wanted);
            wanted.file.told().inspect(|told| told.fetched());
            self.end_part(&wanted.file)?;
        }
        Ok(())
    }

    fn write(&mut self, pack: &OpenPack<'_>, wanted: &Wanted) -> Result<()> {
        let piece = wanted.piece;
        let start = usize::from(piece.slot) * PAGE_SIZE;
        let (offset, length) = byte_range(&wanted.file, piece.first_page, piece.pages);
        let plain = std::mem::take(&mut self.plain);
        let bytes = plain
            .get(start..start + length)
            .ok_or_else(|| pack.damaged(piece.block, "has fewer pages than expected"))?;
        let written = self.write_bytes(&wanted.file, bytes, offset);
        self.plain = plain;
        written
    }

    fn write_bytes(&mut self, file: &Arc<TargetFile>, bytes: &[u8], offset: u64) -> Result<()> {
        self.from.pacer.wait(bytes.len() as u64)?;
        let handle = Arc::clone(&self.open(file)?.handle);
        handle.write_all_at(bytes, offset)?;
        self.written.note(&handle, offset..offset + bytes.len() as u64);
        Ok(())
    }

    /// Writes zeros where the file has something else.
    fn write_zeros(&mut self, file: &Arc<TargetFile>, first_page: u32, pages: u32) -> Result<()> {
        if self.open(file)?.is_reused {
            let end = first_page + pages;
            for first in (first_page..end).step_by(ZERO_PAGES as usize) {
                let count = ZERO_PAGES.min(end - first);
                self.look(file, first, count)?;
                if self.local.iter().any(|byte| *byte != 0) {
                    self.local.fill(0);
                    let local = std::mem::take(&mut self.local);
                    let written = self.write_bytes(file, &local, byte_range(file, first, count).0);
                    self.local = local;
                    written?;
                }
            }
        }
        self.from.progress.advance(byte_range(file, first_page, pages).1 as u64);
        self.end_part(file)
    }

    /// Counts that pages are as they are to be.
    fn advance(&self, wanted: &Wanted) {
        let bytes = byte_range(&wanted.file, wanted.piece.first_page, wanted.piece.pages).1;
        self.from.progress.advance(bytes as u64);
    }

    fn end_part(&mut self, file: &Arc<TargetFile>) -> Result<()> {
        if file.end_part() { self.complete(file) } else { Ok(()) }
    }

    fn complete(&mut self, file: &Arc<TargetFile>) -> Result<()> {
        let owners = self.from.owners;
        file.complete(&self.open(file)?.handle, owners)?;
        self.open = None;
        if let Some(told) = file.told() {
            self.from.telling.done(Arc::clone(told), self.from.progress);
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

/// Where these pages lie in their file, and how many bytes they have; the last page may be shorter.
pub(super) fn byte_range(file: &TargetFile, first_page: u32, pages: u32) -> (u64, usize) {
    let start = u64::from(first_page) * PAGE_SIZE as u64;
    let end = (start + u64::from(pages) * PAGE_SIZE as u64).min(file.size().max(start));
    (start, usize::try_from(end - start).unwrap_or(usize::MAX))
}
