//! Requests to the repository and to files that are there: how pieces are put together into them, and how several are kept
//! under way.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam_channel::{Receiver, Sender, bounded};
use pgark_system::direct::Buffer;

use super::look::{self, Found, Look};
use super::pack::OpenPack;
use super::{From, Wanted};
use crate::error::{Error, ErrorKind, Result};

/// Bytes that are fetched though nothing needs them, rather than making two requests.
const GAP_BYTES: u64 = 64 << 10;

/// Bytes that are fetched with one request. More of them under way at once serve better than longer ones. With what a disk reads
/// around them they fit into a huge page.
pub(super) const REQUEST_BYTES: u64 = (2 << 20) - (8 << 10);

/// Long looks at files that may be under way for one worker at once.
const LONG_LOOKS_UNDER_WAY: usize = 2;

/// Requests with short looks that may be under way for one worker at once. Most of their time they wait for a disk that does many
/// such things at once, and they take little memory.
const SHORT_LOOKS_UNDER_WAY: usize = 8;

/// What some pieces are to be had from.
#[derive(Debug)]
pub(super) enum Source {
    /// These bytes of their pack.
    Pack(Range<u64>),
    /// Their files, which may have them right already.
    Files(Vec<Look>),
}

/// What a request asks of who does it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Pack,
    LongLook,
    ShortLooks,
}

impl Source {
    fn kind(&self) -> Kind {
        match self {
            Self::Pack(_) => Kind::Pack,
            Self::Files(looks) if looks.iter().all(Look::is_short) => Kind::ShortLooks,
            Self::Files(_) => Kind::LongLook,
        }
    }
}

/// Some pieces of one pack, to be fetched together.
#[derive(Debug)]
pub(super) struct Request<'restore> {
    pub(super) pack: Arc<OpenPack<'restore>>,
    pub(super) source: Source,
    /// The pieces in it, in the order of their blocks; of files, in the order of the looks at them.
    pub(super) pieces: Vec<Wanted>,
}

/// A request that was answered.
#[derive(Debug)]
pub(super) struct Answer<'restore> {
    pub(super) kind: Kind,
    pub(super) pack: Arc<OpenPack<'restore>>,
    pub(super) origin: Origin,
    pub(super) pieces: Vec<Wanted>,
    pub(super) bytes: Buffer,
}

/// What an answer comes from: each [`Source`], as it was found.
#[derive(Debug)]
pub(super) enum Origin {
    Pack(Range<u64>),
    Files(Vec<Found>),
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
        let mut requests: Vec<(Vec<Look>, Vec<Wanted>)> = Vec::new();
        let mut pieces = pieces.into_iter();
        while let Some(look) = Look::next(pieces.as_slice()) {
            let looked_for = pieces.by_ref().take(look.pieces);
            match requests.last_mut() {
                Some((looks, pieces)) if look.belongs_to(looks) => {
                    pieces.extend(looked_for);
                    looks.push(look);
                }
                _ => requests.push((vec![look], looked_for.collect())),
            }
        }
        let request = |(looks, pieces)| Self { pack: Arc::clone(pack), source: Source::Files(looks), pieces };
        requests.into_iter().map(request).collect()
    }

    /// Fetches what is wanted into a buffer.
    ///
    /// # Errors
    /// The storage's, or the file system's.
    fn fetch(self, from: &From<'_>, fetched: &AtomicU64, mut buffer: Buffer) -> Result<Answer<'restore>> {
        let kind = self.source.kind();
        let origin = match self.source {
            Source::Pack(range) => {
                let length = usize::try_from(range.end - range.start)
                    .map_err(|_| Error::new(ErrorKind::Runtime, "a request is too long for this machine"))?;
                from.repository.storage().get_range_into(self.pack.pack.name(), range.start, length, &mut buffer)?;
                fetched.fetch_add(length as u64, Ordering::Relaxed);
                Origin::Pack(range)
            }
            Source::Files(looks) => Origin::Files(look::look_at(looks, from.pacer, &mut buffer)?),
        };
        Ok(Answer { kind, pack: self.pack, origin, pieces: self.pieces, bytes: buffer })
    }
}

impl Answer<'_> {
    /// The stored bytes of a block of the pack, which lies there; none if they are not in the answer.
    pub(super) fn block(&mut self, range: &Range<u64>) -> Option<&mut [u8]> {
        let Origin::Pack(fetched) = &self.origin else { return None };
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
    count: Count,
    limit: usize,
    /// Memory of answers that were worked on: of long ones, and of short ones, which would hold on to more than they need.
    spare: Vec<Buffer>,
    short_spare: Vec<Buffer>,
}

/// How many requests there are.
#[derive(Debug, Default)]
struct Count {
    packs: usize,
    long_looks: usize,
    short_looks: usize,
}

impl Count {
    fn of(&mut self, kind: Kind) -> &mut usize {
        match kind {
            Kind::Pack => &mut self.packs,
            Kind::LongLook => &mut self.long_looks,
            Kind::ShortLooks => &mut self.short_looks,
        }
    }

    fn long(&self) -> usize {
        self.packs + self.long_looks
    }
}

impl<'restore> UnderWay<'restore> {
    /// At most `limit` requests at once whose answers are long, and some with short ones.
    pub(super) fn new(errands: Sender<Errand<'restore>>, limit: usize) -> Self {
        let (answer_sender, answers) = bounded(Self::capacity(limit));
        let (spare, short_spare) = (Vec::new(), Vec::new());
        Self { errands, answer_sender, answers, count: Count::default(), limit, spare, short_spare }
    }

    /// How many requests of all kinds there may be at once.
    pub(super) fn capacity(limit: usize) -> usize {
        limit + SHORT_LOOKS_UNDER_WAY
    }

    /// How many of them are worth being done at the same time.
    pub(super) fn concurrency(limit: usize) -> usize {
        limit.max(SHORT_LOOKS_UNDER_WAY)
    }

    /// Whether another request may be sent.
    pub(super) fn has_room(&self) -> bool {
        self.count.long() < self.limit && self.count.short_looks < SHORT_LOOKS_UNDER_WAY
    }

    /// Whether this request may be sent.
    pub(super) fn has_room_for(&self, request: &Request<'_>) -> bool {
        match request.source.kind() {
            Kind::Pack => self.count.long() < self.limit,
            Kind::LongLook => self.count.long() < self.limit && self.count.long_looks < LONG_LOOKS_UNDER_WAY,
            Kind::ShortLooks => self.count.short_looks < SHORT_LOOKS_UNDER_WAY,
        }
    }

    /// Whether there is nothing to wait for.
    pub(super) fn is_empty(&self) -> bool {
        self.count.long() + self.count.short_looks == 0
    }

    /// Sends a request.
    ///
    /// # Errors
    /// Where nobody takes it any more.
    pub(super) fn send(&mut self, request: Request<'restore>) -> Result<()> {
        let kind = request.source.kind();
        *self.count.of(kind) += 1;
        let buffer = self.spare(kind).pop().unwrap_or_default();
        let errand = Errand { request, buffer, answers: self.answer_sender.clone() };
        self.errands.send(errand).map_err(|_| ended_early())
    }

    /// Waits for the next answer, whichever comes first.
    ///
    /// # Errors
    /// The storage's, or the file system's.
    pub(super) fn receive(&mut self) -> Result<Answer<'restore>> {
        let answer = self.answers.recv().map_err(|_| ended_early())??;
        *self.count.of(answer.kind) -= 1;
        Ok(answer)
    }

    /// Keeps the memory of an answer for the next request.
    pub(super) fn keep(&mut self, kind: Kind, buffer: Buffer) {
        self.spare(kind).push(buffer);
    }

    fn spare(&mut self, kind: Kind) -> &mut Vec<Buffer> {
        match kind {
            Kind::Pack | Kind::LongLook => &mut self.spare,
            Kind::ShortLooks => &mut self.short_spare,
        }
    }
}

fn ended_early() -> Error {
    Error::new(ErrorKind::Runtime, "the threads that wait for storage ended early")
}
