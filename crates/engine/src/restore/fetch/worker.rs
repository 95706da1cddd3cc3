//! What a worker of a restore does: it has frames fetched, decodes them, and gives their pages to those who write.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crossbeam_channel::Receiver;
use pgark_repository::PAGE_SIZE;
use pgark_repository::codec::Decoder;
use pgark_repository::map::Piece;
use pgark_system::direct::Buffer;
use pgark_system::termination;

use super::load::LOAD_BYTES;
use super::look::Found;
use super::pack::OpenPack;
use super::request::{Answer, Origin, Request, UnderWay};
use super::writer::Loads;
use super::{From, Shared, Task, Wanted, length_of, look};
use crate::error::Result;
use crate::restore::target::{TargetFile, byte_range};

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
    /// What is to be worked on next.
    answer: Option<Answer<'restore>>,
    decoder: Decoder,
    /// The plain bytes of a frame.
    plain: Vec<u8>,
    /// Bytes that a file has where it is to have zeros.
    local: Buffer,
    /// The way to those who write.
    loads: Loads,
}

impl<'restore> Worker<'restore> {
    /// A worker that does `tasks`.
    pub(super) fn new(
        from: From<'restore>,
        shared: &'restore Shared,
        tasks: Receiver<Task<'restore>>,
        under_way: UnderWay<'restore>,
        loads: Loads,
    ) -> Self {
        Self {
            from,
            shared,
            tasks,
            requests: VecDeque::new(),
            under_way,
            answer: None,
            decoder: Decoder::default(),
            plain: Vec::new(),
            local: Buffer::default(),
            loads,
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
            } else if let Some(answer) = self.answer.take() {
                self.take_answer(answer)?;
            } else if !self.under_way.is_empty() {
                // Before it is worked on, the next request takes its place.
                self.answer = Some(self.under_way.receive()?);
            } else {
                return self.loads.finish();
            }
        }
        Ok(())
    }

    /// The next request to send, if there is one that may be sent now.
    fn next_request(&mut self) -> Option<Request<'restore>> {
        let may_be_sent = self.requests.front().is_some_and(|request| self.under_way.has_room_for(request));
        if may_be_sent { self.requests.pop_front() } else { None }
    }

    /// The next task, if there is time for one. With nothing else to do it is waited for.
    fn next_task(&self) -> Option<Task<'restore>> {
        if !self.requests.is_empty() || !self.under_way.has_room() {
            None
        } else if self.under_way.is_empty() && self.answer.is_none() {
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
                let (there, absent): (Vec<_>, Vec<_>) =
                    pieces.into_iter().partition(|wanted| wanted.file.may_be_reused());
                self.requests.extend(Request::look(&pack, there));
                self.requests.extend(Request::cut(&pack, absent)?);
                Ok(())
            }
        }
    }

    fn take_answer(&mut self, mut answer: Answer<'restore>) -> Result<()> {
        if let Origin::Files(found) = &answer.origin {
            let mut pieces = answer.pieces.into_iter();
            let mut missing = Vec::new();
            for found in found {
                let looked_for = pieces.by_ref().take(found.look.pieces);
                self.compare(&answer.pack, looked_for, found, &answer.bytes[found.bytes.clone()], &mut missing)?;
            }
            self.requests.extend(Request::cut(&answer.pack, missing)?);
        } else {
            self.write_answer(&mut answer)?;
        }
        self.under_way.keep(answer.kind, answer.bytes);
        Ok(())
    }

    /// Compares pieces with what was found of them, and notes those that have to be fetched.
    fn compare(
        &self,
        pack: &OpenPack<'_>,
        pieces: impl Iterator<Item = Wanted>,
        found: &Found,
        local: &[u8],
        missing: &mut Vec<Wanted>,
    ) -> Result<()> {
        for wanted in pieces {
            if local.is_empty() || !self.is_right(pack, wanted.piece, local, found.look.first_page())? {
                missing.push(wanted);
                continue;
            }
            self.advance(&wanted.file, wanted.piece);
            wanted.file.told().inspect(|told| told.right());
            if wanted.file.end_part() {
                self.from.complete_found(&wanted.file, found.file.as_ref())?;
            }
        }
        Ok(())
    }

    /// Whether the pages of a piece are what the file has from a page on.
    fn is_right(&self, pack: &OpenPack<'_>, piece: Piece, local: &[u8], first_page: u32) -> Result<bool> {
        let first = usize::from(piece.slot);
        let expected = pack
            .page_hashes(piece.block)?
            .get(first..first + piece.pages as usize)
            .ok_or_else(|| pack.damaged(piece.block, "has fewer pages than expected"))?;
        let vault = self.from.repository.vault();
        let mut pages = local.chunks(PAGE_SIZE).skip((piece.first_page - first_page) as usize);
        Ok(expected.iter().all(|hash| pages.next().is_some_and(|page| vault.page_hash(page) == *hash)))
    }

    /// Gives the pages that an answer was wanted for to those who write.
    fn write_answer(&mut self, answer: &mut Answer<'restore>) -> Result<()> {
        let pack = Arc::clone(&answer.pack);
        let mut pieces = std::mem::take(&mut answer.pieces).into_iter().peekable();
        let mut decoded = None;
        while let Some(Wanted { file, piece }) = pieces.next() {
            let is_wanted_again = pieces.peek().is_some_and(|next| next.piece.block == piece.block);
            if decoded == Some(piece.block) {
                self.write_pages(&pack, &file, piece)?;
                self.handed_on(&file, piece)?;
                continue;
            }
            let container = pack.pack.container();
            let stored = answer
                .block(&container.range(piece.block)?)
                .ok_or_else(|| pack.damaged(piece.block, "is not where it should be"))?;
            let part = byte_range(file.size(), piece.first_page..piece.first_page + piece.pages);
            let length = container.plain_length(piece.block)? as usize;
            if piece.slot == 0 && length as u64 == part.end - part.start && length <= LOAD_BYTES && !is_wanted_again {
                // All of the frame, and nothing else needs it: it is decoded where it is written from.
                let room = self.loads.room(&file, part.start, length)?;
                container.decode_to(piece.block, stored, &mut self.decoder, room)?;
            } else {
                container.decode(piece.block, stored, &mut self.decoder, &mut self.plain)?;
                decoded = Some(piece.block);
                self.write_pages(&pack, &file, piece)?;
            }
            self.handed_on(&file, piece)?;
        }
        Ok(())
    }

    /// Notes that all of a piece was handed on to the writer, which holds little at once.
    fn handed_on(&self, file: &TargetFile, piece: Piece) -> Result<()> {
        self.advance(file, piece);
        file.told().inspect(|told| told.fetched());
        self.end_part(file)
    }

    /// Counts that pages are as they are to be.
    fn advance(&self, file: &TargetFile, piece: Piece) {
        self.from.progress.advance(length_of(file, piece.first_page..piece.first_page + piece.pages));
    }

    /// Gives pages of the frame that was decoded last to those who write.
    fn write_pages(&mut self, pack: &OpenPack<'_>, file: &Arc<TargetFile>, piece: Piece) -> Result<()> {
        let start = usize::from(piece.slot) * PAGE_SIZE;
        let part = byte_range(file.size(), piece.first_page..piece.first_page + piece.pages);
        let length = usize::try_from(part.end - part.start).unwrap_or(usize::MAX);
        let bytes = start.checked_add(length).and_then(|end| self.plain.get(start..end));
        let bytes = bytes.ok_or_else(|| pack.damaged(piece.block, "has fewer pages than expected"))?;
        self.loads.write(file, part.start, bytes)
    }

    /// Writes zeros where the file has something else.
    fn write_zeros(&mut self, file: &Arc<TargetFile>, first_page: u32, pages: u32) -> Result<()> {
        let end = first_page + pages;
        for first in (first_page..end).step_by(ZERO_PAGES as usize) {
            let pages = first..end.min(first + ZERO_PAGES);
            look::read(file, pages.clone(), self.from.pacer, &mut self.local)?;
            if self.local.iter().any(|byte| *byte != 0) {
                self.local.fill(0);
                self.loads.write(file, byte_range(file.size(), pages).start, &self.local)?;
            }
        }
        self.from.progress.advance(length_of(file, first_page..end));
        self.end_part(file)
    }

    fn end_part(&self, file: &TargetFile) -> Result<()> {
        if file.end_part() { self.complete(file) } else { Ok(()) }
    }

    fn complete(&self, file: &TargetFile) -> Result<()> {
        self.from.complete(file, &file.open()?.handle)
    }
}
