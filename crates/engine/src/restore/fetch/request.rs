//! Requests to the repository: how pieces are put together into them, and how several are kept under way.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam_channel::{Receiver, Sender, bounded};
use pgark_repository::Repository;

use super::Wanted;
use super::pack::OpenPack;
use crate::error::{Error, ErrorKind, Result};

/// Bytes that are fetched though nothing needs them, rather than making two requests.
const GAP_BYTES: u64 = 64 << 10;

/// Bytes that are fetched with one request. More of them under way at once serve better than longer ones.
pub(super) const REQUEST_BYTES: u64 = 2 << 20;

/// One range of a pack to be fetched, and what is needed of it.
#[derive(Debug)]
pub(super) struct Request<'restore> {
    pub(super) pack: Arc<OpenPack<'restore>>,
    /// The bytes of the pack.
    pub(super) range: Range<u64>,
    /// The pieces in it, in the order of their blocks.
    pub(super) pieces: Vec<Wanted>,
}

/// A request that was answered.
#[derive(Debug)]
pub(super) struct Answer<'restore> {
    pub(super) request: Request<'restore>,
    /// The bytes of the range.
    pub(super) stored: Vec<u8>,
}

impl<'restore> Request<'restore> {
    /// The requests for these pieces of one pack, which are in the order of its blocks: as few as are reasonable.
    ///
    /// # Errors
    /// Where the pack has no such block.
    pub(super) fn cut(pack: &Arc<OpenPack<'restore>>, pieces: Vec<Wanted>) -> Result<Vec<Self>> {
        let mut requests: Vec<Self> = Vec::new();
        for wanted in pieces {
            let range = pack.pack.container().range(wanted.piece.block)?;
            match requests.last_mut() {
                Some(last)
                    if range.start <= last.range.end + GAP_BYTES && range.end - last.range.start <= REQUEST_BYTES =>
                {
                    last.range.end = last.range.end.max(range.end);
                    last.pieces.push(wanted);
                }
                _ => requests.push(Self { pack: Arc::clone(pack), range, pieces: vec![wanted] }),
            }
        }
        Ok(requests)
    }

    /// Fetches the range.
    ///
    /// # Errors
    /// The storage's.
    pub(super) fn fetch(self, repository: &Repository, fetched: &AtomicU64) -> Result<Answer<'restore>> {
        let length = usize::try_from(self.range.end - self.range.start)
            .map_err(|_| Error::new(ErrorKind::Runtime, "a request is too long for this machine"))?;
        let stored = repository.storage().get_range(self.pack.pack.name(), self.range.start, length)?;
        fetched.fetch_add(length as u64, Ordering::Relaxed);
        Ok(Answer { request: self, stored })
    }
}

impl Answer<'_> {
    /// The stored bytes of a block of the range; none if they are not in it.
    pub(super) fn block(&mut self, range: &Range<u64>) -> Option<&mut [u8]> {
        let start = usize::try_from(range.start.checked_sub(self.request.range.start)?).ok()?;
        let end = usize::try_from(range.end.checked_sub(self.request.range.start)?).ok()?;
        self.stored.get_mut(start..end)
    }
}

/// A request on its way to a thread that waits for the storage, and the way back for the answer.
pub(super) type Errand<'restore> = (Request<'restore>, Sender<Result<Answer<'restore>>>);

/// Does errands till there are no more.
pub(super) fn run_errands(repository: &Repository, fetched: &AtomicU64, errands: Receiver<Errand<'_>>) {
    for (request, answers) in errands {
        // A worker that is gone has failed, and says why.
        let _unheard = answers.send(request.fetch(repository, fetched));
    }
}

/// The requests that one worker has sent and not yet worked on.
#[derive(Debug)]
pub(super) struct UnderWay<'restore> {
    errands: Sender<Errand<'restore>>,
    answer_sender: Sender<Result<Answer<'restore>>>,
    answers: Receiver<Result<Answer<'restore>>>,
    count: usize,
    limit: usize,
}

impl<'restore> UnderWay<'restore> {
    /// At most `limit` requests at once.
    pub(super) fn new(errands: Sender<Errand<'restore>>, limit: usize) -> Self {
        let (answer_sender, answers) = bounded(limit);
        Self { errands, answer_sender, answers, count: 0, limit }
    }

    /// Whether another request may be sent.
    pub(super) fn has_room(&self) -> bool {
        self.count < self.limit
    }

    /// Whether there is nothing to wait for.
    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Sends a request.
    ///
    /// # Errors
    /// Where nobody takes it any more.
    pub(super) fn send(&mut self, request: Request<'restore>) -> Result<()> {
        self.count += 1;
        self.errands.send((request, self.answer_sender.clone())).map_err(|_| ended_early())
    }

    /// Waits for the next answer, whichever comes first.
    ///
    /// # Errors
    /// The storage's.
    pub(super) fn receive(&mut self) -> Result<Answer<'restore>> {
        self.count -= 1;
        self.answers.recv().map_err(|_| ended_early())?
    }
}

fn ended_early() -> Error {
    Error::new(ErrorKind::Runtime, "the threads that fetch from the repository ended early")
}
