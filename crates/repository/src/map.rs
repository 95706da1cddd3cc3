//! Page maps: where each page of a file lies. Section 6 of `docs/format.md`.

use std::collections::BTreeMap;

use crate::PAGE_SIZE;
use crate::bytes::{Reader, Write};
use crate::error::Malformed;
use crate::names::PackId;

/// The most pages in a frame.
pub const MAXIMUM_FRAME_PAGES: u16 = 64;

/// Where the pages of a run lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// Nowhere: all their bytes are zero.
    Zeros,
    /// In frames of a pack.
    Frames {
        /// The pack.
        pack: PackId,
        /// The block of the frame with the run's first page.
        block: u32,
        /// The place of the run's first page in it.
        slot: u16,
        /// Pages in each frame of the run, 1 to 64.
        stride: u16,
    },
}

/// Consecutive pages of a file that lie one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// How many pages, at least 1.
    pub pages: u32,
    /// Where they lie.
    pub source: Source,
}

/// Where the pages of one file lie, from the first to the last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PageMap {
    runs: Vec<Run>,
}

/// A part of a run that lies in one frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// The first page's number in the file.
    pub first_page: u32,
    /// How many pages.
    pub pages: u32,
    /// The pack.
    pub pack: PackId,
    /// The frame's block.
    pub block: u32,
    /// The first page's place in the frame.
    pub slot: u16,
    /// Pages in each frame of its run; the frame itself may have fewer.
    pub stride: u16,
}

/// How many pages a file of `size` bytes has; `None` for a file too large for page numbers of 32 bits.
pub fn page_count(size: u64) -> Option<u32> {
    u32::try_from(size.div_ceil(PAGE_SIZE as u64)).ok()
}

impl PageMap {
    /// The runs, from the file's first page on, without gaps.
    pub fn runs(&self) -> &[Run] {
        &self.runs
    }

    /// Appends pages after the last ones, and joins them to the last run where they go on with it.
    pub fn push(&mut self, run: Run) {
        if run.pages == 0 {
            return;
        }
        if let Some(last) = self.runs.last_mut()
            && continues(last, &run)
        {
            last.pages += run.pages;
        } else {
            self.runs.push(run);
        }
    }

    /// Appends all runs of another map.
    pub fn append(&mut self, other: &Self) {
        for run in &other.runs {
            self.push(*run);
        }
    }

    /// How many pages there are.
    pub fn page_count(&self) -> u64 {
        self.runs.iter().map(|run| u64::from(run.pages)).sum()
    }

    /// The frames in which the pages lie, in the order of the pages; zero pages are in none.
    pub fn pieces(&self) -> impl Iterator<Item = Piece> + '_ {
        let mut first_page = 0;
        self.runs.iter().flat_map(move |run| {
            let start = first_page;
            first_page += run.pages;
            RunPieces { run: *run, start, done: 0 }
        })
    }

    /// How many pages lie in each pack, in the order of the packs.
    pub fn pages_by_pack(&self) -> BTreeMap<PackId, u32> {
        let mut pages = BTreeMap::new();
        for run in &self.runs {
            if let Source::Frames { pack, .. } = run.source {
                *pages.entry(pack).or_default() += run.pages;
            }
        }
        pages
    }

    /// Looks at the pages one after the other.
    pub fn cursor(&self) -> Cursor<'_> {
        Cursor { runs: &self.runs, done: 0 }
    }

    /// The stored form.
    pub fn encode(&self) -> Vec<u8> {
        let packs = self.packs();
        let mut bytes = Vec::new();
        bytes.put_varint(packs.len() as u64);
        for pack in &packs {
            bytes.extend(pack.session.to_bytes());
            bytes.extend(pack.number.to_le_bytes());
        }
        bytes.put_varint(self.runs.len() as u64);
        for run in &self.runs {
            bytes.put_varint(u64::from(run.pages));
            match run.source {
                Source::Zeros => bytes.put_varint(0),
                Source::Frames { pack, block, slot, stride } => {
                    let position = packs.binary_search(&pack).map_or(0, |position| position as u64 + 1);
                    bytes.put_varint(position);
                    bytes.put_varint(u64::from(block));
                    bytes.put_varint(u64::from(slot));
                    bytes.put_varint(u64::from(stride));
                }
            }
        }
        bytes
    }

    /// Reads the stored form of the map of a file with `pages` pages.
    ///
    /// # Errors
    /// Where the bytes are no map, or the map of a file with another number of pages.
    pub fn decode(bytes: &[u8], pages: u32) -> Result<Self, Malformed> {
        let mut reader = Reader::new(bytes);
        let pack_count = reader.count(20)?;
        let mut packs = Vec::with_capacity(pack_count);
        for _ in 0..pack_count {
            packs.push(PackId { session: ulid::Ulid::from_bytes(reader.array()?), number: reader.u32()? });
        }
        let run_count = reader.count(2)?;
        let mut runs = Vec::with_capacity(run_count);
        let mut total = 0_u64;
        for _ in 0..run_count {
            let run = decode_run(&mut reader, &packs)?;
            total += u64::from(run.pages);
            runs.push(run);
        }
        reader.finish()?;
        if total != u64::from(pages) {
            return Err(Malformed::new(format!("a page map of {total} pages where the file has {pages}")));
        }
        Ok(Self { runs })
    }

    /// The packs in which pages lie, ascending.
    pub fn packs(&self) -> Vec<PackId> {
        let mut packs: Vec<_> = self
            .runs
            .iter()
            .filter_map(|run| match run.source {
                Source::Frames { pack, .. } => Some(pack),
                Source::Zeros => None,
            })
            .collect();
        packs.sort_unstable();
        packs.dedup();
        packs
    }
}

impl Source {
    /// Where the page lies that comes `pages` after the one that lies here, in the same run.
    #[must_use]
    pub fn after(self, pages: u32) -> Self {
        match self {
            Self::Zeros => Self::Zeros,
            Self::Frames { pack, block, slot, stride } => {
                let place = u64::from(slot) + u64::from(pages);
                let frames = u32::try_from(place / u64::from(stride)).unwrap_or(u32::MAX);
                let slot = u16::try_from(place % u64::from(stride)).unwrap_or(u16::MAX);
                Self::Frames { pack, block: block.saturating_add(frames), slot, stride }
            }
        }
    }
}

/// A place in a map, which moves towards its end.
#[derive(Clone, Debug)]
pub struct Cursor<'map> {
    /// The run with the next page, and those after it.
    runs: &'map [Run],
    /// How many pages of the first of them are behind.
    done: u32,
}

impl Cursor<'_> {
    /// Where the next page lies; `None` at the end.
    pub fn source(&self) -> Option<Source> {
        self.runs.first().map(|run| run.source.after(self.done))
    }

    /// Goes past so many pages, or to the end.
    pub fn skip(&mut self, pages: u32) {
        self.advance(pages, &mut |_| {});
    }

    /// Goes past so many pages, or to the end, and appends them to `map`.
    pub fn copy(&mut self, pages: u32, map: &mut PageMap) {
        self.advance(pages, &mut |run| map.push(run));
    }

    fn advance(&mut self, mut pages: u32, pass: &mut dyn FnMut(Run)) {
        while pages > 0
            && let Some(run) = self.runs.first()
        {
            let count = pages.min(run.pages - self.done);
            pass(Run { pages: count, source: run.source.after(self.done) });
            pages -= count;
            self.done += count;
            if self.done == run.pages {
                self.runs = &self.runs[1..];
                self.done = 0;
            }
        }
    }
}

fn continues(last: &Run, next: &Run) -> bool {
    let total_fits = last.pages.checked_add(next.pages).is_some();
    total_fits
        && match (last.source, next.source) {
            (Source::Zeros, Source::Zeros) => true,
            (
                Source::Frames { pack, block, slot, stride },
                Source::Frames { pack: next_pack, block: next_block, slot: next_slot, stride: next_stride },
            ) => {
                let end = u64::from(slot) + u64::from(last.pages);
                let stride_pages = u64::from(stride);
                // The next run must begin where this one ends. How many pages its frames have matters only if it goes
                // past the first of them; but that one must not seem smaller than it is.
                let next_fits = next_stride == stride
                    || next_stride < stride && u64::from(next_slot) + u64::from(next.pages) <= u64::from(next_stride);
                pack == next_pack
                    && next_fits
                    && u64::from(block) + end / stride_pages == u64::from(next_block)
                    && end % stride_pages == u64::from(next_slot)
            }
            _ => false,
        }
}

fn decode_run(reader: &mut Reader<'_>, packs: &[PackId]) -> Result<Run, Malformed> {
    let pages = reader.varint_u32()?;
    if pages == 0 {
        return Err(Malformed::new("a run of no pages"));
    }
    let position = reader.varint()?;
    if position == 0 {
        return Ok(Run { pages, source: Source::Zeros });
    }
    let pack = usize::try_from(position - 1)
        .ok()
        .and_then(|position| packs.get(position))
        .ok_or_else(|| Malformed::new("a run in a pack that is not listed"))?;
    let block = reader.varint_u32()?;
    let slot = u16::try_from(reader.varint()?).unwrap_or(u16::MAX);
    let stride = u16::try_from(reader.varint()?).unwrap_or(u16::MAX);
    let last_block = u64::from(block) + (u64::from(slot) + u64::from(pages) - 1) / u64::from(stride.max(1));
    if !(1..=MAXIMUM_FRAME_PAGES).contains(&stride) || slot >= stride || last_block > u64::from(u32::MAX) {
        return Err(Malformed::new(format!("a run at slot {slot} of frames of {stride} pages from block {block}")));
    }
    Ok(Run { pages, source: Source::Frames { pack: *pack, block, slot, stride } })
}

/// Cuts a run at the borders of its frames.
struct RunPieces {
    run: Run,
    start: u32,
    done: u32,
}

impl Iterator for RunPieces {
    type Item = Piece;

    fn next(&mut self) -> Option<Piece> {
        let Source::Frames { pack, block, slot, stride } = self.run.source else { return None };
        if self.done >= self.run.pages {
            return None;
        }
        let position = u64::from(slot) + u64::from(self.done);
        let (frame, slot) = (position / u64::from(stride), position % u64::from(stride));
        // Both fit: decoding and the format's limits keep blocks below 32 bits, and a slot is below the stride.
        let block = block + u32::try_from(frame).ok()?;
        let slot = u16::try_from(slot).ok()?;
        let pages = (self.run.pages - self.done).min(u32::from(stride - slot));
        let piece = Piece { first_page: self.start + self.done, pages, pack, block, slot, stride };
        self.done += pages;
        Some(piece)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use ulid::Ulid;

    use super::*;

    fn run() -> impl Strategy<Value = Run> {
        let frames = (0_u32..3, 0_u32..1000, 1_u16..=64, 0_u16..64).prop_map(|(number, block, stride, slot)| {
            let pack = PackId { session: Ulid::from_bytes([1; 16]), number };
            Source::Frames { pack, block, slot: slot % stride, stride }
        });
        (1_u32..200, prop_oneof![Just(Source::Zeros), frames]).prop_map(|(pages, source)| Run { pages, source })
    }

    /// Where each page lies, one by one.
    fn places(runs: &[Run]) -> Vec<Option<(PackId, u32, u16)>> {
        let mut places = Vec::new();
        for run in runs {
            for page in 0..run.pages {
                places.push(match run.source {
                    Source::Zeros => None,
                    Source::Frames { pack, block, slot, stride } => {
                        let position = u32::from(slot) + page;
                        let slot = position % u32::from(stride);
                        Some((pack, block + position / u32::from(stride), u16::try_from(slot).unwrap()))
                    }
                });
            }
        }
        places
    }

    proptest! {
        #[test]
        fn every_page_keeps_its_place(runs in proptest::collection::vec(run(), 0..30)) {
            let mut map = PageMap::default();
            for run in &runs {
                map.push(*run);
            }
            let expected = places(&runs);
            prop_assert_eq!(&places(map.runs()), &expected);
            let pages = u32::try_from(expected.len()).unwrap();
            let back = PageMap::decode(&map.encode(), pages).unwrap();
            prop_assert_eq!(&back, &map);
            prop_assert!(PageMap::decode(&map.encode(), pages + 1).is_err());

            let mut from_pieces = vec![None; expected.len()];
            for piece in back.pieces() {
                for page in 0..piece.pages {
                    let slot = piece.slot + u16::try_from(page).unwrap();
                    from_pieces[(piece.first_page + page) as usize] = Some((piece.pack, piece.block, slot));
                }
            }
            prop_assert_eq!(from_pieces, expected);
        }

        #[test]
        fn a_cursor_finds_and_copies_every_page(
            runs in proptest::collection::vec(run(), 0..20),
            steps in proptest::collection::vec((any::<bool>(), 0_u32..300), 0..20),
        ) {
            let mut map = PageMap::default();
            for run in &runs {
                map.push(*run);
            }
            let expected = places(map.runs());
            let (mut cursor, mut at) = (map.cursor(), 0);
            let place = |source: Source| places(&[Run { pages: 1, source }])[0];
            for (is_copied, pages) in steps {
                prop_assert_eq!(cursor.source().map(place), expected.get(at).copied());
                let end = expected.len().min(at + pages as usize);
                let mut copied = PageMap::default();
                if is_copied { cursor.copy(pages, &mut copied) } else { cursor.skip(pages) }
                if is_copied {
                    prop_assert_eq!(places(copied.runs()), expected[at..end].to_vec());
                }
                at = end;
            }
            let frames = expected.iter().flatten().count();
            prop_assert_eq!(map.pages_by_pack().values().sum::<u32>() as usize, frames);
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300), pages: u32) {
            if let Ok(map) = PageMap::decode(&bytes, pages) {
                prop_assert_eq!(map.page_count(), u64::from(pages));
                prop_assert!(map.pieces().take(10_000).all(|piece| piece.pages > 0));
            }
        }
    }

    #[test]
    fn a_file_read_from_front_to_back_is_one_run() {
        let pack = PackId { session: Ulid::from_bytes([1; 16]), number: 0 };
        let mut map = PageMap::default();
        for block in 0..100 {
            let pages = if block == 99 { 3 } else { 16 };
            let source = Source::Frames { pack, block, slot: 0, stride: 16 };
            map.push(Run { pages, source });
        }
        assert_eq!(map.runs().len(), 1);
        assert_eq!(map.page_count(), 99 * 16 + 3);
        assert_eq!(map.pieces().count(), 100);
    }

    #[test]
    fn runs_that_no_frames_can_hold_are_refused() {
        let decode = |pages: u32, block: u64, slot: u64, stride: u64| {
            let mut bytes = vec![1];
            bytes.extend([0; 20]);
            for number in [1, u64::from(pages), 1, block, slot, stride] {
                bytes.put_varint(number);
            }
            PageMap::decode(&bytes, pages)
        };
        assert!(decode(1, 0, 0, 1).is_ok());
        assert!(decode(100, u64::from(u32::MAX) - 2, 63, 64).is_ok());
        for (pages, block, slot, stride) in [
            (0, 0, 0, 1),
            (1, 0, 0, 0),
            (1, 0, 0, 65),
            (1, 0, 16, 16),
            (1, 0, 1 << 16, 16),
            (1, 0, 0, (1 << 16) + 1),
            (1, 1 << 32, 0, 1),
            (2, u64::from(u32::MAX), 0, 1),
            (100, u64::from(u32::MAX) - 1, 63, 64),
        ] {
            assert!(decode(pages, block, slot, stride).is_err(), "{pages} pages, {block}, {slot}, {stride}");
        }
        assert!(PageMap::decode(&[0, 1, 1, 1, 0, 0, 1], 1).is_err(), "a pack that is not listed");
        assert!(PageMap::decode(&[0, 1, 1, 0, 9], 1).is_err(), "a byte after the end");
    }
}
