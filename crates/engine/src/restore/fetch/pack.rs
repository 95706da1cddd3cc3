//! The packs that a restore reads.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fmt;
use std::sync::{Arc, OnceLock};
use std::thread;

use pgark_repository::PackId;
use pgark_repository::manifest::PackUse;
use pgark_repository::pack::Pack;
use pgark_repository::vault::PageHash;
use pgark_repository::{Repository, StanzaName};

use crate::error::{Error, ErrorKind, Result};

/// Bytes of indexes and page hashes that are kept in memory. The files of a backup come in the order in which each of the
/// backups before it stored them, so that of every one of these a pack or two are in use at a time.
const KEPT_BYTES: usize = 24 << 20;

/// About what a block takes in memory: its record in the index, and with page hashes those of its pages.
const INDEX_BYTES: usize = 64;
const HASHES_BYTES: usize = 320;

/// About what a pack takes besides: the end of it that was fetched first.
const PACK_BYTES: usize = 64 << 10;

/// A pack with its page hashes, once they were needed.
pub(super) struct OpenPack<'restore> {
    pub(super) pack: Pack<'restore>,
    hashes: OnceLock<HashMap<u32, Vec<PageHash>>>,
}

impl fmt::Debug for OpenPack<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("OpenPack").field("name", self.pack.name()).finish_non_exhaustive()
    }
}

impl OpenPack<'_> {
    /// Fetches the hashes of all pages, if that was not done before.
    pub(super) fn fetch_page_hashes(&self) -> Result<()> {
        if self.hashes.get().is_none() {
            let frames = self.pack.frames_with_hashes()?;
            let hashes = frames.into_iter().map(|(frame, hashes)| (frame.block, hashes)).collect();
            // Another worker may have been quicker with the same.
            let _same = self.hashes.set(hashes);
        }
        Ok(())
    }

    /// The hashes of the pages in a frame.
    pub(super) fn page_hashes(&self, block: u32) -> Result<&[PageHash]> {
        self.fetch_page_hashes()?;
        let hashes = self.hashes.get().and_then(|hashes| hashes.get(&block));
        hashes.map(Vec::as_slice).ok_or_else(|| self.damaged(block, "has no page hashes"))
    }

    /// The error that a frame is not as it should be.
    pub(super) fn damaged(&self, block: u32, what: &str) -> Error {
        Error::new(ErrorKind::Checksum, format!("object '{}' is damaged: frame {block} {what}", self.pack.name()))
            .hint("use another backup or repository")
    }
}

/// Opens packs, and keeps the last ones.
#[derive(Debug)]
pub(super) struct Packs<'restore> {
    repository: &'restore Repository,
    stanza: &'restore StanzaName,
    listed: &'restore BTreeMap<PackId, PackUse>,
    /// Whether page hashes are needed, too, and count.
    with_hashes: bool,
    /// Those that are open, the one that was used last at the end.
    open: VecDeque<(PackId, Arc<OpenPack<'restore>>)>,
    /// Those that will be wanted next, in this order.
    upcoming: VecDeque<PackId>,
}

impl<'restore> Packs<'restore> {
    /// Packs of a stanza, which are those that a manifest lists.
    pub(super) fn new(
        repository: &'restore Repository,
        stanza: &'restore StanzaName,
        listed: &'restore BTreeMap<PackId, PackUse>,
    ) -> Self {
        Self { repository, stanza, listed, with_hashes: false, open: VecDeque::new(), upcoming: VecDeque::new() }
    }

    /// Says that page hashes will be needed.
    pub(super) fn expect_hashes(&mut self) {
        self.with_hashes = true;
    }

    /// Says which packs will be wanted, in the order in which they will be.
    pub(super) fn announce(&mut self, packs: impl IntoIterator<Item = PackId>) {
        self.upcoming = packs.into_iter().collect();
    }

    /// Opens a pack, if it is not open; and with it those that come next, where each would take its time.
    ///
    /// # Errors
    /// Where one is not listed, missing or damaged.
    pub(super) fn get(&mut self, id: PackId) -> Result<Arc<OpenPack<'restore>>> {
        if let Some((_, pack)) = self.open.back().filter(|(last, _)| *last == id) {
            return Ok(Arc::clone(pack));
        }
        if let Some(place) = self.open.iter().position(|(open, _)| *open == id)
            && let Some(used) = self.open.remove(place)
        {
            let pack = Arc::clone(&used.1);
            self.open.push_back(used);
            return Ok(pack);
        }
        let wanted = self.wanted_with(id);
        let mut opened = self.open_all(&wanted)?;
        // The one that is asked for was used last.
        opened.reverse();
        self.open.extend(wanted.into_iter().rev().zip(opened));
        self.make_room();
        let (_, pack) = self.open.back().ok_or_else(|| Error::new(ErrorKind::Runtime, "no pack was opened"))?;
        Ok(Arc::clone(pack))
    }

    /// The pack and those after it that are opened together.
    fn wanted_with(&mut self, id: PackId) -> Vec<PackId> {
        while self.upcoming.front().is_some_and(|next| *next != id) {
            self.upcoming.pop_front();
        }
        self.upcoming.pop_front();
        let is_open = |id: &PackId| self.open.iter().any(|(open, _)| open == id);
        let next = self.upcoming.iter().copied().filter(|next| !is_open(next));
        std::iter::once(id).chain(next.take(self.repository.storage().requests_ahead())).collect()
    }

    fn open_all(&self, wanted: &[PackId]) -> Result<Vec<Arc<OpenPack<'restore>>>> {
        if let [only] = wanted {
            return Ok(vec![self.open(*only)?]);
        }
        thread::scope(|scope| {
            let opening: Vec<_> = wanted.iter().map(|id| scope.spawn(|| self.open(*id))).collect();
            let opened = opening.into_iter().map(|pack| match pack.join() {
                Ok(opened) => opened,
                Err(panic) => std::panic::resume_unwind(panic),
            });
            opened.collect()
        })
    }

    fn open(&self, id: PackId) -> Result<Arc<OpenPack<'restore>>> {
        let root = self.listed.get(&id).map(|pack| pack.root).ok_or_else(|| {
            Error::new(ErrorKind::Checksum, format!("pack {id} is needed but is not in the manifest's list"))
        })?;
        let pack = Pack::open(self.repository, self.stanza, id, Some(root))?;
        Ok(Arc::new(OpenPack { pack, hashes: OnceLock::new() }))
    }

    /// Forgets the packs that were not used for long, though not the last one.
    fn make_room(&mut self) {
        let block_bytes = if self.with_hashes { INDEX_BYTES + HASHES_BYTES } else { INDEX_BYTES };
        let bytes = |pack: &OpenPack<'_>| PACK_BYTES + pack.pack.container().block_count() as usize * block_bytes;
        let mut total: usize = self.open.iter().map(|(_, pack)| bytes(pack)).sum();
        while total > KEPT_BYTES
            && self.open.len() > 1
            && let Some((_, oldest)) = self.open.pop_front()
        {
            total -= bytes(&oldest);
        }
    }
}
