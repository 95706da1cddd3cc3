//! The tables of packs, by which page maps are checked: the last ones are kept, within a bound.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use pgark_repository::map::Piece;
use pgark_repository::pack::{FrameEntry, FramePages, Pack};
use pgark_repository::{Error as RepositoryError, PAGE_SIZE, PackId, Repository, StanzaName};

use super::finding::{Flaw, flaw_or_error};
use crate::error::Result;

/// What the tables of one pack say.
#[derive(Debug)]
pub(super) struct Table {
    /// In the order of the blocks, each with the frame's plain length.
    frames: Vec<(FrameEntry, u32)>,
    files: Vec<Vec<u8>>,
}

impl Table {
    fn read(repository: &Repository, stanza: &StanzaName, id: PackId) -> Result<Self, RepositoryError> {
        let pack = Pack::open(repository, stanza, id, None)?;
        let container = pack.container();
        let frames = pack.frames()?.into_iter().map(|frame| {
            let length = container.plain_length(frame.block)?;
            Ok((frame, length))
        });
        let mut frames = frames.collect::<Result<Vec<_>, RepositoryError>>()?;
        frames.sort_by_key(|(frame, _)| frame.block);
        Ok(Self { frames, files: pack.files()? })
    }

    /// Bytes that it takes in memory, about.
    fn weight(&self) -> usize {
        let pages =
            |frame: &FrameEntry| if let FramePages::Scattered(pages) = &frame.pages { pages.len() * 4 } else { 0 };
        let frames: usize = self.frames.iter().map(|(frame, _)| size_of::<(FrameEntry, u32)>() + pages(frame)).sum();
        let files: usize = self.files.iter().map(|path| size_of::<Vec<u8>>() + path.len()).sum();
        size_of::<Self>() + frames + files
    }

    /// Checks that pages of a file of `size` bytes lie where its map says. A file of a sidecar may point at pages of
    /// another one: it may have had another path.
    ///
    /// # Errors
    /// What lies there instead.
    pub(super) fn check(&self, path: &[u8], size: u64, piece: &Piece) -> Result<(), String> {
        let Piece { first_page, pages, block, slot, .. } = *piece;
        let at = |what: String| format!("page {first_page} is said to lie in block {block} at slot {slot}, {what}");
        let found = self.frames.binary_search_by_key(&block, |(frame, _)| frame.block);
        let (frame, plain_length) =
            found.map(|place| &self.frames[place]).map_err(|_| at("which is no frame".into()))?;
        let file = self.files.get(frame.file as usize).map(Vec::as_slice).unwrap_or_default();
        let is_of_sidecar = |path: &[u8]| path.starts_with(b"/");
        if file != path && !(is_of_sidecar(file) && is_of_sidecar(path)) {
            return Err(at(format!("which holds pages of '{}'", String::from_utf8_lossy(file))));
        }
        let (slot, end) = (usize::from(slot), usize::from(slot) + pages as usize);
        if end > frame.pages.count() {
            return Err(at(format!("but the frame has only {} pages", frame.pages.count())));
        }
        let is_right = match &frame.pages {
            FramePages::Contiguous { first, .. } => u64::from(*first) + slot as u64 == u64::from(first_page),
            FramePages::Scattered(list) => list[slot..end].iter().copied().eq(first_page..first_page + pages),
        };
        if !is_right {
            return Err(at("which holds another page of the file".into()));
        }
        // Only the frame's last page can be short, and only the file's last page may be.
        let available = u64::from(*plain_length).min((end * PAGE_SIZE) as u64) - (slot * PAGE_SIZE) as u64;
        let begin = u64::from(first_page) * PAGE_SIZE as u64;
        let needed = (u64::from(pages) * PAGE_SIZE as u64).min(size.saturating_sub(begin));
        if available < needed {
            return Err(at(format!("where only {available} of {needed} bytes are")));
        }
        Ok(())
    }
}

/// Tables that were read, or what is wrong with the pack.
pub(super) type Known = Arc<Result<Table, Flaw>>;

/// The tables of a stanza's packs.
#[derive(Debug)]
pub(super) struct Tables<'verify> {
    repository: &'verify Repository,
    stanza: &'verify StanzaName,
    limit: usize,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    tables: BTreeMap<PackId, (u64, Known)>,
    weight: usize,
    uses: u64,
}

impl<'verify> Tables<'verify> {
    /// At most `limit` bytes of tables are kept, but the one that is in use.
    pub(super) fn new(repository: &'verify Repository, stanza: &'verify StanzaName, limit: usize) -> Self {
        Self { repository, stanza, limit, kept: Mutex::default() }
    }

    /// The tables of a pack.
    ///
    /// # Errors
    /// Where the storage does not answer; a pack that is missing or damaged is a flaw.
    pub(super) fn get(&self, id: PackId) -> Result<Known> {
        if let Some(known) = self.kept().recall(id) {
            return Ok(known);
        }
        let read = || flaw_or_error(Table::read(self.repository, self.stanza, id));
        let known = Arc::new(match read()? {
            Ok(table) => Ok(table),
            // What was read wrongly once must not be kept.
            Err(_) => read()?,
        });
        self.kept().keep(id, &known, self.limit);
        Ok(known)
    }

    fn kept(&self) -> std::sync::MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn weight(known: &Known) -> usize {
    known.as_ref().as_ref().map_or(size_of::<Flaw>(), Table::weight)
}

impl Kept {
    fn recall(&mut self, id: PackId) -> Option<Known> {
        self.uses += 1;
        let (used, known) = self.tables.get_mut(&id)?;
        *used = self.uses;
        Some(Arc::clone(known))
    }

    fn keep(&mut self, id: PackId, known: &Known, limit: usize) {
        self.weight += weight(known);
        if let Some((_, same)) = self.tables.insert(id, (self.uses, Arc::clone(known))) {
            self.weight -= weight(&same);
        }
        while self.weight > limit && self.tables.len() > 1 {
            let oldest = self.tables.iter().filter(|(other, _)| **other != id).min_by_key(|(_, (used, _))| *used);
            let Some(oldest) = oldest.map(|(id, _)| *id) else { return };
            if let Some((_, gone)) = self.tables.remove(&oldest) {
                self.weight -= weight(&gone);
            }
        }
    }
}
