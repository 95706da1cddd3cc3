//! The packs that a restore reads.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Arc, OnceLock};

use pgark_repository::PackId;
use pgark_repository::manifest::PackUse;
use pgark_repository::pack::Pack;
use pgark_repository::vault::PageHash;
use pgark_repository::{Repository, StanzaName};

use crate::error::{Error, ErrorKind, Result};

/// Packs whose indexes are kept in memory.
const OPEN_PACKS: usize = 8;

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
    /// The hashes of the pages in a frame.
    pub(super) fn page_hashes(&self, block: u32) -> Result<&[PageHash]> {
        if self.hashes.get().is_none() {
            let frames = self.pack.frames_with_hashes()?;
            let hashes = frames.into_iter().map(|(frame, hashes)| (frame.block, hashes)).collect();
            // Another worker may have been quicker with the same.
            let _same = self.hashes.set(hashes);
        }
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
    open: Vec<(PackId, Arc<OpenPack<'restore>>)>,
}

impl<'restore> Packs<'restore> {
    /// Packs of a stanza, which are those that a manifest lists.
    pub(super) fn new(
        repository: &'restore Repository,
        stanza: &'restore StanzaName,
        listed: &'restore BTreeMap<PackId, PackUse>,
    ) -> Self {
        Self { repository, stanza, listed, open: Vec::new() }
    }

    /// Opens a pack, if it is not open.
    ///
    /// # Errors
    /// Where it is not listed, missing or damaged.
    pub(super) fn get(&mut self, id: PackId) -> Result<Arc<OpenPack<'restore>>> {
        if let Some((_, pack)) = self.open.iter().find(|(open, _)| *open == id) {
            return Ok(Arc::clone(pack));
        }
        let root = self.listed.get(&id).map(|pack| pack.root).ok_or_else(|| {
            Error::new(ErrorKind::Checksum, format!("pack {id} is needed but is not in the manifest's list"))
        })?;
        let pack = Pack::open(self.repository, self.stanza, id, Some(root))?;
        let pack = Arc::new(OpenPack { pack, hashes: OnceLock::new() });
        if self.open.len() >= OPEN_PACKS {
            self.open.remove(0);
        }
        self.open.push((id, Arc::clone(&pack)));
        Ok(pack)
    }
}
