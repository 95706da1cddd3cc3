//! The tables of packs: which pages their frames hold, and with which hashes.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use pgark_repository::manifest::PackUse;
use pgark_repository::pack::{FrameEntry, FramePages, Pack};
use pgark_repository::vault::{Hash, PageHash};
use pgark_repository::{PackId, Repository, StanzaName};

use crate::error::{Error, ErrorKind, Result};

/// Bytes of tables that are kept in memory, and more for each worker: as many packs as are in use at once.
const KEPT_BYTES: usize = 16 << 20;
const KEPT_BYTES_A_WORKER: usize = 12 << 20;

/// What a pack says of its frames.
#[derive(Debug)]
pub(super) struct PackTables {
    /// The frames, in the order of their blocks, each with the place of its first page's hash.
    frames: Vec<(FrameEntry, u32)>,
    hashes: Vec<PageHash>,
    /// The keys of the files' paths.
    files: Vec<u64>,
    /// All of the pack.
    whole: PackUse,
    /// About how much memory they take.
    bytes: usize,
}

impl PackTables {
    fn read(pack: &Pack<'_>) -> Result<Self> {
        let files = pack.files()?.iter().map(|path| path_key(path)).collect();
        let (mut frames, mut hashes) = (Vec::new(), Vec::new());
        for (frame, own) in pack.frames_with_hashes()? {
            frames.push((frame, u32::try_from(hashes.len()).unwrap_or(u32::MAX)));
            hashes.extend(own);
        }
        frames.sort_unstable_by_key(|(frame, _)| frame.block);
        let references = u32::try_from(hashes.len()).unwrap_or(u32::MAX);
        let (length, root) = (pack.container().length(), pack.container().root());
        let whole = PackUse { length, used: length, references, root };
        let mut tables = Self { frames, hashes, files, whole, bytes: 0 };
        tables.bytes = tables.measure();
        Ok(tables)
    }

    /// The hash of the page in a slot of a frame.
    pub(super) fn hash(&self, block: u32, slot: u16) -> Option<PageHash> {
        let (frame, first) = self.frame(block)?;
        let is_there = usize::from(slot) < frame.pages.count();
        is_there.then(|| self.hashes.get(*first as usize + usize::from(slot)).copied()).flatten()
    }

    /// How many pages a frame has.
    pub(super) fn frame_pages(&self, block: u32) -> Option<usize> {
        self.frame(block).map(|(frame, _)| frame.pages.count())
    }

    /// All of the pack, page maps aside.
    pub(super) fn whole(&self) -> PackUse {
        self.whole
    }

    /// The keys of the paths of the files that have frames here.
    pub(super) fn files(&self) -> &[u64] {
        &self.files
    }

    /// Tells of the pages of the files with this key: number, hash, block, slot, pages of the frame.
    pub(super) fn pages_of(&self, key: u64, tell: &mut dyn FnMut(u32, PageHash, u32, u16, u16)) {
        for (frame, first) in &self.frames {
            if self.files.get(frame.file as usize) != Some(&key) {
                continue;
            }
            let count = u16::try_from(frame.pages.count()).unwrap_or(u16::MAX);
            for (slot, hash) in (0..count).zip(&self.hashes[*first as usize..]) {
                let page = match &frame.pages {
                    FramePages::Contiguous { first, .. } => first + u32::from(slot),
                    FramePages::Scattered(pages) => pages[usize::from(slot)],
                };
                tell(page, *hash, frame.block, slot, count);
            }
        }
    }

    fn frame(&self, block: u32) -> Option<&(FrameEntry, u32)> {
        let place = self.frames.binary_search_by_key(&block, |(frame, _)| frame.block).ok()?;
        self.frames.get(place)
    }

    fn measure(&self) -> usize {
        let scattered = self.frames.iter().map(|(frame, _)| match &frame.pages {
            FramePages::Contiguous { .. } => 0,
            FramePages::Scattered(pages) => pages.len() * size_of::<u32>(),
        });
        scattered.sum::<usize>()
            + self.frames.len() * size_of::<(FrameEntry, u32)>()
            + self.hashes.len() * size_of::<PageHash>()
            + self.files.len() * size_of::<u64>()
    }
}

/// Whether the error says that a pack, or a part of it, is gone.
fn is_loss(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::FileMissing | ErrorKind::Checksum | ErrorKind::Format)
}

/// A short key for a path. Two paths may have the same: whoever finds a file by it compares content too.
pub(super) fn path_key(path: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    path.hash(&mut hasher);
    hasher.finish()
}

/// The tables of a pack, once somebody has read them; `None` if they can't be used.
type Slot = Arc<OnceLock<Option<Arc<PackTables>>>>;

/// Reads the tables of packs when they are needed, and keeps the last ones, up to a number of bytes.
#[derive(Debug)]
pub(super) struct TableCache<'repository> {
    repository: &'repository Repository,
    stanza: &'repository StanzaName,
    limit: usize,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    slots: BTreeMap<PackId, (u64, Slot)>,
    /// Counts the uses, so that it is known which was longest ago.
    uses: u64,
}

impl<'repository> TableCache<'repository> {
    pub(super) fn new(repository: &'repository Repository, stanza: &'repository StanzaName, workers: usize) -> Self {
        Self::with_limit(repository, stanza, KEPT_BYTES + workers * KEPT_BYTES_A_WORKER)
    }

    /// A cache that keeps so many bytes, or the one pack that was used last.
    pub(super) fn with_limit(
        repository: &'repository Repository,
        stanza: &'repository StanzaName,
        limit: usize,
    ) -> Self {
        Self { repository, stanza, limit, kept: Mutex::default() }
    }

    /// The tables of a pack, which must have this root, if that is known. `None` where the pack is missing or damaged, which
    /// is told once.
    ///
    /// # Errors
    /// The storage's.
    pub(super) fn get(&self, id: PackId, root: Option<Hash>) -> Result<Option<Arc<PackTables>>> {
        let slot = self.slot(id);
        if let Some(tables) = slot.get() {
            return Ok(tables.clone());
        }
        let mut result = Ok(());
        let tables = slot.get_or_init(|| match self.read(id, root) {
            Ok(tables) => tables,
            Err(error) => {
                result = Err(error);
                None
            }
        });
        let tables = tables.clone();
        if let Some(tables) = &tables {
            self.make_room(id, tables.bytes);
        }
        result.map(|()| tables)
    }

    fn read(&self, id: PackId, root: Option<Hash>) -> Result<Option<Arc<PackTables>>> {
        let read = Pack::open(self.repository, self.stanza, id, root)
            .map_err(Into::into)
            .and_then(|pack| PackTables::read(&pack));
        match read {
            Ok(tables) => Ok(Some(Arc::new(tables))),
            Err(error) if is_loss(&error) => {
                // What is not read is pointed at as before: only a backup that reads everything can mend all of it.
                tracing::warn!(
                    "what is read of pack {id} is stored anew: {}\nHINT: run 'verify' to see what else is damaged, and take a full backup with --no-reuse",
                    error.full_message()
                );
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    fn slot(&self, id: PackId) -> Slot {
        let mut kept = self.lock();
        kept.uses += 1;
        let uses = kept.uses;
        let (last_use, slot) = kept.slots.entry(id).or_default();
        *last_use = uses;
        Arc::clone(slot)
    }

    /// Forgets tables that were not used for long, though not those of `id`.
    fn make_room(&self, id: PackId, bytes: usize) {
        let mut kept = self.lock();
        let size = |slot: &Slot| slot.get().and_then(Option::as_ref).map_or(0, |tables| tables.bytes);
        let mut total: usize = kept.slots.iter().filter(|(own, _)| **own != id).map(|(_, (_, slot))| size(slot)).sum();
        while total + bytes > self.limit {
            let used = kept.slots.iter().filter(|(own, (_, slot))| **own != id && size(slot) > 0);
            let Some((oldest, freed)) =
                used.min_by_key(|(_, (last, _))| *last).map(|(own, (_, slot))| (*own, size(slot)))
            else {
                return;
            };
            kept.slots.remove(&oldest);
            total -= freed;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        // Whoever panicked while holding it has left a whole map.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
