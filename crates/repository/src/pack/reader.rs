//! Reading a pack.

use pgark_storage::Key;

use super::tables::{self, FrameEntry};
use crate::container::{BlockKind, Container, ObjectKind};
use crate::error::{Malformed, Result};
use crate::names::{self, PackId, StanzaName};
use crate::repository::Repository;
use crate::vault::{Hash, PageHash};

/// An open pack: its index is read, its tables and frames are fetched when asked for.
#[derive(Debug)]
pub struct Pack<'repository> {
    pub(super) repository: &'repository Repository,
    pub(super) container: Container<'repository>,
}

impl<'repository> Pack<'repository> {
    /// Opens the pack `id` of a stanza. With `root`, the pack must be the one that a manifest vouches for.
    ///
    /// # Errors
    /// Not found, damaged, or the storage's error.
    pub fn open(
        repository: &'repository Repository,
        stanza: &StanzaName,
        id: PackId,
        root: Option<Hash>,
    ) -> Result<Self> {
        let name = names::pack(stanza, id)?;
        let container = Container::open(repository.storage(), repository.vault(), ObjectKind::Pack, &name)?;
        if root.is_some_and(|root| root != container.root()) {
            return Err(container.damaged("it is another pack than the one that the manifest names"));
        }
        Ok(Self { repository, container })
    }

    /// Opens the pack that is the object `name`.
    ///
    /// # Errors
    /// As [`Pack::open`].
    pub fn open_object(repository: &'repository Repository, name: &Key) -> Result<Self> {
        let (stanza, id) = names::parse_pack(name)
            .ok_or_else(|| Malformed::new("it is a pack under a name that no pack has").in_object(name))?;
        Self::open(repository, &stanza, id, None)
    }

    /// The container, for fetching and decoding frames.
    pub fn container(&self) -> &Container<'repository> {
        &self.container
    }

    /// The pack's object name.
    pub fn name(&self) -> &Key {
        self.container.name()
    }

    /// The files that have frames in this pack, in the order of their numbers.
    ///
    /// # Errors
    /// [`crate::Error::Damaged`], or the storage's error.
    pub fn files(&self) -> Result<Vec<Vec<u8>>> {
        let table = self.table(BlockKind::FileTable)?;
        tables::decode_files(&table).map_err(|error| error.in_object(self.name()))
    }

    /// The frames, in the order of their blocks.
    ///
    /// # Errors
    /// [`crate::Error::Damaged`], or the storage's error.
    pub fn frames(&self) -> Result<Vec<FrameEntry>> {
        let table = self.table(BlockKind::FrameTable)?;
        let page_list = self.table(BlockKind::PageList)?;
        let file_count = self.files()?.len();
        let frames = tables::decode(&table, &page_list, self.container.block_count(), file_count)
            .map_err(|error| error.in_object(self.name()))?;
        for frame in &frames {
            let is_frame = self.container.kind_of(frame.block)? == BlockKind::Frame;
            if !is_frame || !frame.pages.is_sound(self.container.plain_length(frame.block)? as usize) {
                return Err(self.container.damaged(format!("block {} is not as its frame table says", frame.block)));
            }
        }
        Ok(frames)
    }

    /// The frames, each with the hashes of its pages in slot order.
    ///
    /// # Errors
    /// [`crate::Error::Damaged`], or the storage's error.
    pub fn frames_with_hashes(&self) -> Result<Vec<(FrameEntry, Vec<PageHash>)>> {
        let frames = self.frames()?;
        let table = self.table(BlockKind::PageHashes)?;
        let (hashes, rest) = table.as_chunks::<{ size_of::<PageHash>() }>();
        let page_count: usize = frames.iter().map(|frame| frame.pages.count()).sum();
        if hashes.len() != page_count || !rest.is_empty() {
            return Err(self.container.damaged("it has not as many page hashes as pages"));
        }
        let mut hashes = hashes;
        let mut result = Vec::with_capacity(frames.len());
        for frame in frames {
            let (own, others) = hashes.split_at(frame.pages.count());
            hashes = others;
            result.push((frame, own.to_vec()));
        }
        Ok(result)
    }

    fn table(&self, kind: BlockKind) -> Result<Vec<u8>> {
        self.container.block(self.repository.storage(), self.container.only(kind)?)
    }
}
