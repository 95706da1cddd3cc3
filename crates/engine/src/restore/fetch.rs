//! Fetching frames from packs and writing their pages to files.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread;

use crossbeam_channel::{Receiver, Sender, bounded};
use fs_err as fs;
use fs_err::os::unix::fs::FileExt;
use pgark_repository::codec::Decoder;
use pgark_repository::manifest::PackUse;
use pgark_repository::map::{PageMap, Piece, Source};
use pgark_repository::pack::Pack;
use pgark_repository::vault::PageHash;
use pgark_repository::{PAGE_SIZE, PackId, Repository, StanzaName};
use rustix::fs::OFlags;

use super::place::Place;
use crate::error::{Error, ErrorKind, Result};

/// Pieces that are put in the order of the packs together. It bounds memory.
const BATCH_PIECES: usize = 32_768;

/// Bytes that are fetched with one request.
const REQUEST_BYTES: u64 = 4 << 20;

/// Bytes that are fetched though nothing needs them, rather than making two requests.
const GAP_BYTES: u64 = 64 << 10;

/// Packs whose indexes are kept in memory.
const OPEN_PACKS: usize = 8;

/// A file that pages are written to.
#[derive(Debug)]
pub(super) struct TargetFile {
    /// Where it is.
    pub(super) place: Place,
    /// Its size in bytes, to which it has been set already.
    pub(super) size: u64,
    /// Whether it was there before, so that its pages may be right already.
    pub(super) existed: bool,
}

/// A part of a file that lies in one frame.
struct Wanted {
    file: Arc<TargetFile>,
    piece: Piece,
}

/// Work for one worker.
enum Task<'restore> {
    /// Pieces of one pack, in the order of its blocks.
    Frames { pack: Arc<OpenPack<'restore>>, pieces: Vec<Wanted> },
    /// Pages that must be zero, of a file that was there before.
    Zeros { file: Arc<TargetFile>, first_page: u32, pages: u32 },
}

/// A pack with its page hashes, once they were needed.
struct OpenPack<'restore> {
    pack: Pack<'restore>,
    hashes: OnceLock<HashMap<u32, Vec<PageHash>>>,
}

impl fmt::Debug for OpenPack<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("OpenPack").field("name", self.pack.name()).finish_non_exhaustive()
    }
}

impl OpenPack<'_> {
    /// The hashes of the pages in a frame.
    fn page_hashes(&self, block: u32) -> Result<&[PageHash]> {
        if self.hashes.get().is_none() {
            let frames = self.pack.frames_with_hashes()?;
            let hashes = frames.into_iter().map(|(frame, hashes)| (frame.block, hashes)).collect();
            // Another worker may have been quicker with the same.
            let _same = self.hashes.set(hashes);
        }
        let hashes = self.hashes.get().and_then(|hashes| hashes.get(&block));
        hashes.map(Vec::as_slice).ok_or_else(|| self.damaged(block, "has no page hashes"))
    }

    fn damaged(&self, block: u32, what: &str) -> Error {
        Error::new(ErrorKind::Checksum, format!("object '{}' is damaged: frame {block} {what}", self.pack.name()))
            .hint("use another backup or repository")
    }
}

/// What is restored from.
#[derive(Clone, Copy, Debug)]
pub(super) struct From<'restore> {
    pub(super) repository: &'restore Repository,
    pub(super) stanza: &'restore StanzaName,
    pub(super) packs: &'restore BTreeMap<PackId, PackUse>,
}

/// Hands pieces out to workers.
pub(super) struct Dispatcher<'restore> {
    from: From<'restore>,
    tasks: Sender<Task<'restore>>,
    batch: Vec<Wanted>,
    open: Vec<(PackId, Arc<OpenPack<'restore>>)>,
}

/// Runs `feed`, which adds files to the dispatcher, while workers fetch and write what it adds. Gives the bytes that
/// were fetched, once everything is written.
///
/// # Errors
/// The first error of a worker, else that of `feed`.
pub(super) fn fetch<'restore>(
    from: From<'restore>,
    workers: usize,
    feed: impl FnOnce(&mut Dispatcher<'restore>) -> Result<()>,
) -> Result<u64> {
    let fetched = AtomicU64::new(0);
    let (tasks, queue) = bounded::<Task<'restore>>(2 * workers);
    thread::scope(|scope| {
        let handles = (1..=workers)
            .map(|worker| {
                let (queue, fetched) = (queue.clone(), &fetched);
                thread::Builder::new()
                    .name(format!("P{worker:02}"))
                    .spawn_scoped(scope, move || work(from, queue, fetched))
            })
            .collect::<std::io::Result<Vec<_>>>()?;
        drop(queue);
        let mut dispatcher = Dispatcher { from, tasks, batch: Vec::new(), open: Vec::new() };
        let fed = feed(&mut dispatcher).and_then(|()| dispatcher.flush());
        drop(dispatcher);
        let worked = handles.into_iter().map(|handle| match handle.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        });
        // A worker's error is the cause of one that the dispatcher has, so it comes first.
        worked.collect::<Result<Vec<()>>>()?;
        fed
    })?;
    Ok(fetched.into_inner())
}

impl<'restore> Dispatcher<'restore> {
    /// Adds a file, whose pages lie where the map says.
    ///
    /// # Errors
    /// Where a pack can't be opened.
    pub(super) fn add(&mut self, file: TargetFile, map: &PageMap) -> Result<()> {
        let file = Arc::new(file);
        if file.existed {
            self.add_zeros(&file, map)?;
        }
        for piece in map.pieces() {
            self.batch.push(Wanted { file: Arc::clone(&file), piece });
            if self.batch.len() >= BATCH_PIECES {
                self.flush()?;
            }
        }
        Ok(())
    }

    fn add_zeros(&mut self, file: &Arc<TargetFile>, map: &PageMap) -> Result<()> {
        let mut first_page = 0;
        for run in map.runs() {
            if run.source == Source::Zeros {
                self.send(Task::Zeros { file: Arc::clone(file), first_page, pages: run.pages })?;
            }
            first_page += run.pages;
        }
        Ok(())
    }

    /// Hands out what was added, pack by pack, in requests of a good size.
    fn flush(&mut self) -> Result<()> {
        let mut batch = std::mem::take(&mut self.batch);
        batch.sort_by_key(|wanted| (wanted.piece.pack, wanted.piece.block, wanted.piece.slot));
        let mut pieces: Vec<Wanted> = Vec::new();
        for wanted in batch {
            if let Some(first) = pieces.first()
                && !self.fits(&first.piece, &wanted.piece)?
            {
                let full = std::mem::take(&mut pieces);
                self.send_frames(full)?;
            }
            pieces.push(wanted);
        }
        self.send_frames(pieces)
    }

    /// Whether a piece can be fetched with the request that begins with another.
    fn fits(&mut self, first: &Piece, piece: &Piece) -> Result<bool> {
        if first.pack != piece.pack {
            return Ok(false);
        }
        let pack = self.pack(piece.pack)?;
        let container = pack.pack.container();
        Ok(container.range(piece.block)?.end - container.range(first.block)?.start <= REQUEST_BYTES)
    }

    fn send_frames(&mut self, pieces: Vec<Wanted>) -> Result<()> {
        let Some(first) = pieces.first() else { return Ok(()) };
        let pack = self.pack(first.piece.pack)?;
        self.send(Task::Frames { pack, pieces })
    }

    fn send(&self, task: Task<'restore>) -> Result<()> {
        self.tasks.send(task).map_err(|_| Error::new(ErrorKind::Runtime, "the workers of the restore ended early"))
    }

    fn pack(&mut self, id: PackId) -> Result<Arc<OpenPack<'restore>>> {
        if let Some((_, pack)) = self.open.iter().find(|(open, _)| *open == id) {
            return Ok(Arc::clone(pack));
        }
        let root = self.from.packs.get(&id).map(|pack| pack.root).ok_or_else(|| {
            Error::new(ErrorKind::Checksum, format!("pack {id} is needed but is not in the manifest's list"))
        })?;
        let pack = Pack::open(self.from.repository, self.from.stanza, id, Some(root))?;
        let pack = Arc::new(OpenPack { pack, hashes: OnceLock::new() });
        if self.open.len() >= OPEN_PACKS {
            self.open.remove(0);
        }
        self.open.push((id, Arc::clone(&pack)));
        Ok(pack)
    }
}

fn work(from: From<'_>, queue: Receiver<Task<'_>>, fetched: &AtomicU64) -> Result<()> {
    let mut worker = Worker {
        from,
        fetched,
        decoder: Decoder::default(),
        plain: Vec::new(),
        decoded: None,
        local: vec![0; PAGE_SIZE],
        open: None,
    };
    queue.into_iter().try_for_each(|task| worker.run(task))
}

struct Worker<'restore> {
    from: From<'restore>,
    fetched: &'restore AtomicU64,
    decoder: Decoder,
    /// The plain bytes of the frame that was decoded last.
    plain: Vec<u8>,
    decoded: Option<u32>,
    local: Vec<u8>,
    open: Option<(Arc<TargetFile>, fs::File)>,
}

impl Worker<'_> {
    fn run(&mut self, task: Task<'_>) -> Result<()> {
        match task {
            Task::Zeros { file, first_page, pages } => self.zeros(&file, first_page, pages),
            Task::Frames { pack, mut pieces } => {
                let mut failed = None;
                pieces.retain(|wanted| match self.is_right(&pack, wanted) {
                    Ok(is_right) => !is_right,
                    Err(error) => {
                        failed.get_or_insert(error);
                        false
                    }
                });
                failed.map_or(Ok(()), Err)?;
                self.frames(&pack, &pieces)
            }
        }
    }

    /// Whether the pages are in the file already.
    fn is_right(&mut self, pack: &OpenPack<'_>, wanted: &Wanted) -> Result<bool> {
        if !wanted.file.existed {
            return Ok(false);
        }
        let piece = wanted.piece;
        let hashes = pack.page_hashes(piece.block)?;
        for index in 0..piece.pages {
            let slot = usize::from(piece.slot) + index as usize;
            let expected =
                hashes.get(slot).ok_or_else(|| pack.damaged(piece.block, "has fewer pages than expected"))?;
            let range = page_range(&wanted.file, piece.first_page + index);
            let length = usize::try_from(range.end - range.start).unwrap_or(PAGE_SIZE).min(PAGE_SIZE);
            let mut local = std::mem::take(&mut self.local);
            let read = self.file(&wanted.file)?.read_exact_at(&mut local[..length], range.start);
            let is_right = read.is_ok() && self.from.repository.vault().page_hash(&local[..length]) == *expected;
            self.local = local;
            read?;
            if !is_right {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Fetches the frames of these pieces with as few requests as are reasonable.
    fn frames(&mut self, pack: &OpenPack<'_>, mut pieces: &[Wanted]) -> Result<()> {
        let container = pack.pack.container();
        while let Some(first) = pieces.first() {
            let mut range = container.range(first.piece.block)?;
            let mut count = 0;
            for wanted in pieces {
                let next = container.range(wanted.piece.block)?;
                if next.start > range.end + GAP_BYTES {
                    break;
                }
                range.end = range.end.max(next.end);
                count += 1;
            }
            let (now, later) = pieces.split_at(count);
            self.request(pack, range, now)?;
            pieces = later;
        }
        Ok(())
    }

    fn request(&mut self, pack: &OpenPack<'_>, range: Range<u64>, pieces: &[Wanted]) -> Result<()> {
        let length = usize::try_from(range.end - range.start)
            .map_err(|_| Error::new(ErrorKind::Runtime, "a request is too long for this machine"))?;
        let mut stored = self.from.repository.storage().get_range(pack.pack.name(), range.start, length)?;
        self.fetched.fetch_add(length as u64, Ordering::Relaxed);
        self.decoded = None;
        for wanted in pieces {
            let block = wanted.piece.block;
            if self.decoded != Some(block) {
                let place = pack.pack.container().range(block)?;
                let start = usize::try_from(place.start - range.start).unwrap_or(usize::MAX);
                let end = usize::try_from(place.end - range.start).unwrap_or(usize::MAX);
                let stored =
                    stored.get_mut(start..end).ok_or_else(|| pack.damaged(block, "is not where it should be"))?;
                pack.pack.container().decode(block, stored, &mut self.decoder, &mut self.plain)?;
                self.decoded = Some(block);
            }
            self.write(pack, wanted)?;
        }
        Ok(())
    }

    fn write(&mut self, pack: &OpenPack<'_>, wanted: &Wanted) -> Result<()> {
        let piece = wanted.piece;
        let start = usize::from(piece.slot) * PAGE_SIZE;
        let offset = u64::from(piece.first_page) * PAGE_SIZE as u64;
        let length = (u64::from(piece.pages) * PAGE_SIZE as u64).min(wanted.file.size.saturating_sub(offset));
        let end = start + usize::try_from(length).unwrap_or(usize::MAX - start);
        let plain = std::mem::take(&mut self.plain);
        let bytes = plain.get(start..end).ok_or_else(|| pack.damaged(piece.block, "has fewer pages than expected"))?;
        let written = self.file(&wanted.file)?.write_all_at(bytes, offset);
        self.plain = plain;
        Ok(written?)
    }

    /// Writes zeros where the file has something else.
    fn zeros(&mut self, file: &Arc<TargetFile>, first_page: u32, pages: u32) -> Result<()> {
        for page in first_page..first_page + pages {
            let range = page_range(file, page);
            let length = usize::try_from(range.end - range.start).unwrap_or(PAGE_SIZE).min(PAGE_SIZE);
            let mut local = std::mem::take(&mut self.local);
            let handle = self.file(file)?;
            handle.read_exact_at(&mut local[..length], range.start)?;
            if local[..length].iter().any(|byte| *byte != 0) {
                local[..length].fill(0);
                handle.write_all_at(&local[..length], range.start)?;
            }
            self.local = local;
        }
        Ok(())
    }

    fn file(&mut self, file: &Arc<TargetFile>) -> Result<&fs::File> {
        if self.open.as_ref().is_none_or(|(open, _)| !Arc::ptr_eq(open, file)) {
            let handle = file.place.open(OFlags::RDWR)?;
            self.open = Some((Arc::clone(file), handle));
        }
        match &self.open {
            Some((_, handle)) => Ok(handle),
            None => Err(Error::new(
                ErrorKind::FileOpen,
                format!("failed to open file '{}'", file.place.full_path().display()),
            )),
        }
    }
}

/// The bytes of a page in its file; the last page may be shorter.
fn page_range(file: &TargetFile, page: u32) -> Range<u64> {
    let start = u64::from(page) * PAGE_SIZE as u64;
    start..(start + PAGE_SIZE as u64).min(file.size.max(start))
}
