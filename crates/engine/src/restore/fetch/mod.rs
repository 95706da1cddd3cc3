//! Fetching frames from packs and writing their pages to files.
//!
//! The caller's thread hands out work in the order in which it lies in the packs. Workers decode, and compare files that are
//! there. Further threads wait in their place for the storage and for what these files hold, so that the next request of each
//! worker is under way meanwhile, and several where an answer takes its time. Others write.

mod load;
mod look;
mod pack;
mod request;
mod worker;
mod write_behind;
mod writer;

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use crossbeam_channel::{Sender, bounded};
use fs_err as fs;
use pgark_repository::manifest::PackUse;
use pgark_repository::map::{PageMap, Piece, Source};
use pgark_repository::{PAGE_SIZE, PackId, Repository, StanzaName};
use pgark_system::pace::Pacer;
use rustix::fs::Stat;

use self::pack::{OpenPack, Packs};
use self::request::{Errand, REQUEST_BYTES, UnderWay, run_errands};
use self::worker::Worker;
use self::writer::{Round, WRITERS};
use super::attributes::Owners;
use super::target::{TargetFile, byte_range};
use super::telling::Telling;
use crate::error::{Error, ErrorKind, Result};
use crate::progress::Progress;

/// Pieces that are put in the order of the packs together. It bounds memory.
const BATCH_PIECES: usize = 131_072;

/// From how many pieces on a batch ends with a file. Files that lie in many pieces are then done one after the other, so that each
/// can be on its way to the disk while the next one is restored.
const FILE_PIECES: usize = 16_384;

/// Stored bytes of the frames of one task where files are there already: what is right in them is not fetched, and read in
/// long pieces. Workers that each stay at one place longer leave the disk more in order.
const JUDGED_BYTES: u64 = 8 << 20;

/// Pieces in one task, so that many small files in few bytes keep all workers busy.
const TASK_PIECES: usize = 512;

/// Requests that each worker has under way while it works on an answer, at least. A disk has something to do meanwhile, too, and
/// does not keep a worker waiting once it takes longer than usual.
const AHEAD: usize = 2;

/// A part of a file that lies in one frame.
#[derive(Debug)]
struct Wanted {
    file: Arc<TargetFile>,
    piece: Piece,
}

/// Work for one worker.
#[derive(Debug)]
enum Task<'restore> {
    /// Pieces of one pack, in the order of its blocks.
    Frames { pack: Arc<OpenPack<'restore>>, pieces: Vec<Wanted> },
    /// Pages that must be zero, of a file that may have been there before.
    Zeros { file: Arc<TargetFile>, first_page: u32, pages: u32 },
    /// A file of which nothing is left to be written.
    Complete(Arc<TargetFile>),
}

/// What is restored from, who owns what, and how fast it may go.
#[derive(Clone, Copy, Debug)]
pub(super) struct From<'restore> {
    pub(super) repository: &'restore Repository,
    pub(super) stanza: &'restore StanzaName,
    pub(super) packs: &'restore BTreeMap<PackId, PackUse>,
    pub(super) owners: &'restore Owners,
    /// At what pace the disk is read and written.
    pub(super) pacer: &'restore Pacer,
    /// How far the restore is: bytes of files that are as they are to be.
    pub(super) progress: &'restore Progress,
    /// Who tells of files.
    pub(super) telling: &'restore Telling,
}

impl From<'_> {
    /// Sends a file on its way to the disk, gives it its length and attributes, and tells of it, once all of it is written.
    fn complete(&self, file: &TargetFile, handle: &fs::File) -> Result<()> {
        if !file.may_be_reused() {
            write_behind::hand_on_whole(handle, file.size());
        }
        file.complete(handle, self.owners)?;
        self.tell(file);
        Ok(())
    }

    /// The same for a file whose last part was right already, and which was found so. It is opened only if something is to be
    /// changed.
    fn complete_found(&self, file: &TargetFile, found: Option<&Stat>) -> Result<()> {
        if !found.is_some_and(|found| file.is_complete(found, self.owners)) {
            file.complete(&file.open()?.handle, self.owners)?;
        }
        self.tell(file);
        Ok(())
    }

    fn tell(&self, file: &TargetFile) {
        if let Some(told) = file.told() {
            self.telling.done(Arc::clone(told), self.progress);
        }
    }
}

/// What the threads of a restore share.
#[derive(Debug, Default)]
struct Shared {
    /// Bytes that were fetched.
    fetched: AtomicU64,
    /// Whether a worker has failed, so that there is no use in going on.
    failed: AtomicBool,
}

impl Shared {
    fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Relaxed)
    }
}

/// Hands pieces out to workers.
pub(super) struct Dispatcher<'restore> {
    packs: Packs<'restore>,
    shared: &'restore Shared,
    progress: &'restore Progress,
    telling: &'restore Telling,
    tasks: Sender<Task<'restore>>,
    batch: Vec<Wanted>,
}

/// Runs `feed`, which adds files to the dispatcher, while workers fetch and write what it adds. Gives the bytes that
/// were fetched, once everything is written.
///
/// # Errors
/// The first error of a worker, else that of `feed`.
pub(super) fn fetch(
    from: From<'_>,
    workers: usize,
    feed: impl FnOnce(&mut Dispatcher<'_>) -> Result<()>,
) -> Result<u64> {
    let shared = Shared::default();
    let requests_ahead = from.repository.storage().requests_ahead();
    let ahead = requests_ahead.max(AHEAD);
    thread::scope(|scope| {
        let (tasks, queue) = bounded::<Task<'_>>(2 * workers);
        // Room for all that is under way, so that no worker waits to send a request.
        let (errand_sender, errands) = bounded::<Errand<'_>>(workers * UnderWay::capacity(ahead + 1));
        let spawn = |name: String| thread::Builder::new().name(name);
        for number in 1..=workers * UnderWay::concurrency(ahead + 1) {
            let (errands, shared) = (errands.clone(), &shared);
            spawn(format!("F{number:02}")).spawn_scoped(scope, move || run_errands(&from, &shared.fetched, errands))?;
        }
        let (mut writers, mut threads) = (Vec::new(), Vec::new());
        let round = Round::new(workers, requests_ahead > 0);
        for number in 1..=workers * WRITERS {
            let writer = round.writer(from, &shared);
            writers.push(spawn(format!("W{number:02}")).spawn_scoped(scope, move || writer.work())?);
        }
        for number in 1..=workers {
            let under_way = UnderWay::new(errand_sender.clone(), ahead + 1);
            let worker = Worker::new(from, &shared, queue.clone(), under_way, round.loads());
            threads.push(spawn(format!("P{number:02}")).spawn_scoped(scope, move || worker.work())?);
        }
        // Only those who use these hold them from here on, so that each side sees when the other is gone.
        drop((queue, errand_sender, errands, round));
        let packs = Packs::new(from.repository, from.stanza, from.packs);
        let mut dispatcher = Dispatcher {
            packs,
            shared: &shared,
            progress: from.progress,
            telling: from.telling,
            tasks,
            batch: Vec::new(),
        };
        let fed = feed(&mut dispatcher).and_then(|()| dispatcher.flush());
        drop(dispatcher);
        let worked = writers.into_iter().chain(threads).map(|handle| match handle.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        });
        // What writes may be the cause of a worker's error, and a worker of one that the dispatcher has.
        worked.collect::<Result<Vec<()>>>()?;
        fed
    })?;
    Ok(shared.fetched.into_inner())
}

impl Dispatcher<'_> {
    /// Adds a file, whose pages lie where the map says.
    ///
    /// # Errors
    /// Where a pack can't be opened, or a worker has failed.
    pub(super) fn add(&mut self, file: TargetFile, map: &PageMap) -> Result<()> {
        let frames = map.runs().filter(|run| run.source != Source::Zeros);
        let is_dense = frames.map(|run| u64::from(run.pages) * PAGE_SIZE as u64).sum::<u64>() >= file.size();
        let file = Arc::new(file.with_density(is_dense).told_by(self.telling, map));
        // What neither a frame brings nor somebody looks at is as it is to be as soon as the file has its length.
        let mut without_work = file.size();
        if file.may_be_reused() {
            self.packs.expect_hashes();
            without_work -= self.add_zeros(&file, map)?;
        }
        for piece in map.pieces() {
            without_work -= length_of(&file, piece.first_page..piece.first_page + piece.pages);
            file.add_part();
            self.batch.push(Wanted { file: Arc::clone(&file), piece });
            if self.batch.len() >= BATCH_PIECES {
                self.flush()?;
            }
        }
        self.progress.advance(without_work);
        if file.end_part() {
            self.send(Task::Complete(file))?;
        }
        if self.batch.len() >= FILE_PIECES { self.flush() } else { Ok(()) }
    }

    /// Has it looked after that pages are zero which are to be. Gives how many bytes they have.
    fn add_zeros(&mut self, file: &Arc<TargetFile>, map: &PageMap) -> Result<u64> {
        let (mut first_page, mut bytes) = (0, 0);
        for run in map.runs() {
            if run.source == Source::Zeros {
                file.add_part();
                bytes += length_of(file, first_page..first_page + run.pages);
                self.send(Task::Zeros { file: Arc::clone(file), first_page, pages: run.pages })?;
            }
            first_page += run.pages;
        }
        Ok(bytes)
    }

    /// Hands out what was added, pack by pack, in tasks of a good size.
    fn flush(&mut self) -> Result<()> {
        let mut batch = std::mem::take(&mut self.batch);
        batch.sort_unstable_by_key(|wanted| (wanted.piece.pack, wanted.piece.block, wanted.piece.slot));
        let by_pack = batch.chunk_by(|one, next| one.piece.pack == next.piece.pack);
        self.packs.announce(by_pack.filter_map(|same| Some(same.first()?.piece.pack)));
        let mut pieces: Vec<Wanted> = Vec::new();
        for wanted in batch {
            if let Some(first) = pieces.first()
                && (pieces.len() >= TASK_PIECES || !self.fits(first, &wanted)?)
            {
                let full = std::mem::take(&mut pieces);
                self.send_frames(full)?;
            }
            pieces.push(wanted);
        }
        self.send_frames(pieces)
    }

    /// Whether a piece belongs into the task that begins with another.
    fn fits(&mut self, first: &Wanted, wanted: &Wanted) -> Result<bool> {
        let limit = if first.file.may_be_reused() { JUDGED_BYTES } else { REQUEST_BYTES };
        let (first, piece) = (&first.piece, &wanted.piece);
        if first.pack != piece.pack {
            return Ok(false);
        }
        let pack = self.packs.get(piece.pack)?;
        let container = pack.pack.container();
        Ok(container.range(piece.block)?.end - container.range(first.block)?.start <= limit)
    }

    fn send_frames(&mut self, pieces: Vec<Wanted>) -> Result<()> {
        let Some(first) = pieces.first() else { return Ok(()) };
        let pack = self.packs.get(first.piece.pack)?;
        // While the workers have something to do.
        if first.file.may_be_reused() && first.file.is_there()? {
            pack.fetch_page_hashes()?;
        }
        self.send(Task::Frames { pack, pieces })
    }
}

impl<'restore> Dispatcher<'restore> {
    fn send(&self, task: Task<'restore>) -> Result<()> {
        let ended_early = || Error::new(ErrorKind::Runtime, "the workers of the restore ended early");
        if self.shared.has_failed() {
            return Err(ended_early());
        }
        self.tasks.send(task).map_err(|_| ended_early())
    }
}

/// How many bytes these pages of a file have.
fn length_of(file: &TargetFile, pages: Range<u32>) -> u64 {
    let part = byte_range(file.size(), pages);
    part.end - part.start
}

#[cfg(test)]
mod tests;
