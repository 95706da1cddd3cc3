//! Putting pages of one file into frames of a pack.

use pgark_repository::PAGE_SIZE;
use pgark_repository::map::{PageMap, Run, Source};
use pgark_repository::pack::{FramePages, PackFrame};
use pgark_repository::vault::PageHash;

use super::packs::{Packs, Place};
use crate::error::Result;

/// Pages in a frame. At 128 KiB compression has gained what larger frames would (zstd level 3 on JSON rows: a ratio of
/// 3.50 at 64 KiB, 3.48 at 128, 3.22 at 256, 3.41 at 512; on rows of pgbench 36, 38, 37, 41), with fewer frames than at
/// 64 KiB, and one page read alone still costs little.
pub(super) const FRAME_PAGES: usize = 16;

/// Puts pages into frames, and frames into packs of its own.
pub(super) struct FrameWriter<'backup, 'repository> {
    packs: &'backup Packs<'repository>,
    /// Where pages go that are not compared in every backup.
    place: Place<'repository>,
    /// Whether the frame that is being filled has pages that are.
    is_compared: bool,
    /// The frame that is being filled: numbers, hashes and bytes of its pages.
    numbers: Vec<u32>,
    hashes: Vec<PageHash>,
    plain: Vec<u8>,
}

/// Where a page lies.
pub(super) type Placed = (u32, Source);

impl<'backup, 'repository> FrameWriter<'backup, 'repository> {
    pub(super) fn new(packs: &'backup Packs<'repository>) -> Self {
        let plain = Vec::with_capacity(FRAME_PAGES * PAGE_SIZE);
        Self { packs, place: Place::default(), is_compared: true, numbers: Vec::new(), hashes: Vec::new(), plain }
    }

    /// Whether the pages that are added from now on are of a file that every backup compares.
    pub(super) fn set_compared(&mut self, is_compared: bool) {
        self.is_compared = is_compared;
    }

    /// Adds a page of the file `name`; pages come ascending. Where pages lie is appended to `placed` once it is known, in
    /// [`FrameWriter::flush`] at the latest, which ends the pages of a file.
    pub(super) fn push(
        &mut self,
        name: &[u8],
        number: u32,
        page: &[u8],
        hash: PageHash,
        placed: &mut Vec<Placed>,
    ) -> Result<()> {
        self.numbers.push(number);
        self.hashes.push(hash);
        self.plain.extend_from_slice(page);
        if self.numbers.len() == FRAME_PAGES { self.flush(name, placed) } else { Ok(()) }
    }

    /// Stores the pages that were added.
    pub(super) fn flush(&mut self, name: &[u8], placed: &mut Vec<Placed>) -> Result<()> {
        if self.numbers.is_empty() {
            return Ok(());
        }
        let pages = frame_pages(&self.numbers);
        let frame = PackFrame { path: name, pages: &pages, plain: &self.plain, page_hashes: &self.hashes };
        let (pack, block) = self.packs.append(&mut self.place, self.is_compared, frame)?;
        let stride = u16::try_from(self.numbers.len()).unwrap_or(u16::MAX);
        let place = |slot| Source::Frames { pack, block, slot, stride };
        placed.extend((0..).zip(&self.numbers).map(|(slot, number)| (*number, place(slot))));
        self.numbers.clear();
        self.hashes.clear();
        self.plain.clear();
        Ok(())
    }

    /// Stores a small file that is given as bytes, and is compared.
    ///
    /// # Errors
    /// Where the repository can't be written.
    pub(super) fn store_bytes(&mut self, name: &[u8], bytes: &[u8]) -> Result<PageMap> {
        let mut placed = Vec::new();
        self.set_compared(true);
        for (number, page) in (0..).zip(bytes.chunks(PAGE_SIZE)) {
            let hash = self.packs.repository().vault().page_hash(page);
            self.push(name, number, page, hash, &mut placed)?;
        }
        self.flush(name, &mut placed)?;
        let mut map = PageMap::default();
        for (_, source) in placed {
            map.push(Run { pages: 1, source });
        }
        Ok(map)
    }

    /// Makes the last pack durable.
    ///
    /// # Errors
    /// Where the repository can't be written.
    pub(super) fn finish(self) -> Result<()> {
        self.packs.finish_place(self.place)
    }
}

/// The pages of a frame as its pack says them.
fn frame_pages(numbers: &[u32]) -> FramePages {
    match (numbers, u16::try_from(numbers.len())) {
        ([first, .., last], Ok(count)) if last - first == u32::from(count) - 1 => {
            FramePages::Contiguous { first: *first, count }
        }
        ([only], _) => FramePages::Contiguous { first: *only, count: 1 },
        _ => FramePages::Scattered(numbers.to_vec()),
    }
}
