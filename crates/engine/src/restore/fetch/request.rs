//! Requests to the repository and to files that are there: how pieces are put together into them, and how several are kept
//! under way.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam_channel::{Receiver, Sender, bounded};
use pgark_system::direct::Buffer;

use super::pack::OpenPack;
use super::{From, Wanted, look};
use crate::error::{Error, ErrorKind, Result};

/// Bytes that are fetched though nothing needs them, rather than making two requests.
const GAP_BYTES: u64 = 64 << 10;

/// Bytes that are fetched with one request. More of them under way at once serve better than longer ones. With what a disk reads
/// around them they fit into a huge page.
pub(super) const REQUEST_BYTES: u64 = (2 << 20) - (8 << 10);

/// Requests to files that may be under way for one worker at once.
const LOOKS_UNDER_WAY: usize = 2;

/// What some pieces are to be had from.
#[derive(Clone, Debug)]
pub(super) enum Source {
    /// These bytes of their pack.
    Pack(Range<u64>),
    /// These pages of their file, which may be right already.
    File(Range<u32>),
}

/// Some pieces of one pack, to be fetched together.
#[derive(Debug)]
pub(super) struct Request<'restore> {
    pub(super) pack: Arc<OpenPack<'restore>>,
    pub(super) source: Source,
    /// The pieces in it, in the order of their blocks; of a file, those of one file.
    pub(super) pieces: Vec<Wanted>,
}

/// A request that was answered.
#[derive(Debug)]
pub(super) struct Answer<'restore> {
    pub(super) request: Request<'restore>,
    /// The bytes; of a file, as many as it has.
    pub(super) bytes: Buffer,
}

impl<'restore> Request<'restore> {
    /// The requests for these pieces of one pack, which are in the order of its blocks: as few as are reasonable.
    ///
    /// # Errors
    /// Where the pack has no such block.
    pub(super) fn cut(pack: &Arc<OpenPack<'restore>>, pieces: Vec<Wanted>) -> Result<Vec<Self>> {
        let mut requests: Vec<(Range<u64>, Vec<Wanted>)> = Vec::new();
        for wanted in pieces {
            let range = pack.pack.container().range(wanted.piece.block)?;
            match requests.last_mut() {
                Some((last, pieces))
                    if range.start <= last.end + GAP_BYTES && range.end - last.start <= REQUEST_BYTES =>
                {
                    last.end = last.end.max(range.end);
                    pieces.push(wanted);
                }
                _ => requests.push((range, vec![wanted])),
            }
        }
        let request = |(range, pieces)| Self { pack: Arc::clone(pack), source: Source::Pack(range), pieces };
        Ok(requests.into_iter().map(request).collect())
    }

    /// The requests that look at what files have of these pieces.
    pub(super) fn look(pack: &Arc<OpenPack<'restore>>, pieces: Vec<Wanted>) -> Vec<Self> {
        let mut requests = Vec::new();
        let mut pieces = pieces.into_iter();
        while let Some((count, pages)) = look::together(pieces.as_slice()) {
            let pieces = pieces.by_ref().take(count).collect();
            requests.push(Self { pack: Arc::clone(pack), source: Source::File(pages), pieces });
        }
        requests
    }

    /// Fetches what is wanted into a buffer.
    ///
    /// # Errors
    /// The storage's, or the file system's.
    fn fetch(self, from: &From<'_>, fetched: &AtomicU64, mut buffer: Buffer) -> Result<Answer<'restore>> {
        match &self.source {
            Source::Pack(range) => {
                let length = usize::try_from(range.end - range.start)
                    .map_err(|_| Error::new(ErrorKind::Runtime, "a request is too long for this machine"))?;
                from.repository.storage().get_range_into(self.pack.pack.name(), range.start, length, &mut buffer)?;
                fetched.fetch_add(length as u64, Ordering::Relaxed);
            }
            Source::File(pages) => {
                if let Some(Wanted { file, .. }) = self.pieces.first() {
                    look::read(file, pages.clone(), from.pacer, &mut buffer)?;
                }
            }
        }
        Ok(Answer { request: self, bytes: buffer })
    }
}

impl Answer<'_> {
    /// The stored bytes of a block of the pack, which lies there; none if they are not in the answer.
    pub(super) fn block(&mut self, range: &Range<u64>) -> Option<&mut [u8]> {
        let Source::Pack(fetched) = &self.request.source else { return None };
        let start = usize::try_from(range.start.checked_sub(fetched.start)?).ok()?;
        let end = usize::try_from(range.end.checked_sub(fetched.start)?).ok()?;
        self.bytes.get_mut(start..end)
    }
}

/// A request on its way to a thread that waits for the answer, memory for it, and the way back.
#[derive(Debug)]
pub(super) struct Errand<'restore> {
    request: Request<'restore>,
    buffer: Buffer,
    answers: Sender<Result<Answer<'restore>>>,
}

/// Does errands till there are no more.
pub(super) fn run_errands(from: &From<'_>, fetched: &AtomicU64, errands: Receiver<Errand<'_>>) {
    for Errand { request, buffer, answers } in errands {
        // A worker that is gone has failed, and says why.
        let _unheard = answers.send(request.fetch(from, fetched, buffer));
    }
}

/// The requests that one worker has sent and not yet worked on.
#[derive(Debug)]
pub(super) struct UnderWay<'restore> {
    errands: Sender<Errand<'restore>>,
    answer_sender: Sender<Result<Answer<'restore>>>,
    answers: Receiver<Result<Answer<'restore>>>,
    /// How many there are, and how many of them are to files.
    count: usize,
    looks: usize,
    limit: usize,
    /// Memory of answers that were worked on.
    spare: Vec<Buffer>,
}

impl<'restore> UnderWay<'restore> {
    /// At most `limit` requests at once.
    pub(super) fn new(errands: Sender<Errand<'restore>>, limit: usize) -> Self {
        let (answer_sender, answers) = bounded(limit);
        Self { errands, answer_sender, answers, count: 0, looks: 0, limit, spare: Vec::new() }
    }

    /// Whether another request may be sent.
    pub(super) fn has_room(&self) -> bool {
        self.count < self.limit
    }

    /// Whether this request may be sent.
    pub(super) fn has_room_for(&self, request: &Request<'_>) -> bool {
        self.has_room() && (matches!(request.source, Source::Pack(_)) || self.looks < LOOKS_UNDER_WAY)
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
        self.looks += usize::from(matches!(request.source, Source::File(_)));
        let buffer = self.spare.pop().unwrap_or_default();
        let errand = Errand { request, buffer, answers: self.answer_sender.clone() };
        self.errands.send(errand).map_err(|_| ended_early())
    }

    /// Waits for the next answer, whichever comes first.
    ///
    /// # Errors
    /// The storage's, or the file system's.
    pub(super) fn receive(&mut self) -> Result<Answer<'restore>> {
        let answer = self.answers.recv().map_err(|_| ended_early())??;
        self.count -= 1;
        self.looks -= usize::from(matches!(answer.request.source, Source::File(_)));
        Ok(answer)
    }

    /// Keeps the memory of an answer for the next request.
    pub(super) fn keep(&mut self, buffer: Buffer) {
        self.spare.push(buffer);
    }
}

fn ended_early() -> Error {
    Error::new(ErrorKind::Runtime, "the threads that wait for storage ended early")
}
