//! Page maps: where each page of a file lies. Section 6 of `docs/format.md`.

mod codec;
mod packs;

use std::fmt;

use self::packs::{NOWHERE, PackNumbers};
use crate::PAGE_SIZE;
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
#[derive(Clone, Default)]
pub struct PageMap {
    packs: PackNumbers,
    runs: Vec<HeldRun>,
}

/// A run as a map holds it, which may have a hundred thousand of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct HeldRun {
    pages: u32,
    /// The number of the pack; [`NOWHERE`] for zeros, of which all that follows is 0.
    pack: u32,
    block: u32,
    slot: u16,
    stride: u16,
}

/// A part of a run that lies in one frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece<Pack = PackId> {
    /// The first page's number in the file.
    pub first_page: u32,
    /// How many pages.
    pub pages: u32,
    /// The pack.
    pub pack: Pack,
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
    /// A map without pages, which is to be made of parts of `other` mostly: that goes fast if packs have the same numbers.
    #[must_use]
    pub fn beside(other: &Self) -> Self {
        let mut map = Self::default();
        map.packs.share(&other.packs);
        map
    }

    /// The runs, from the file's first page on, without gaps.
    pub fn runs(&self) -> impl ExactSizeIterator<Item = Run> + '_ {
        self.runs.iter().map(|run| Run { pages: run.pages, source: self.source(run) })
    }

    /// Whether it has no pages.
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// About how many bytes of memory it takes.
    pub fn memory(&self) -> usize {
        size_of::<HeldRun>() * self.runs.len() + size_of::<PackId>() * self.packs.len()
    }

    /// Appends pages after the last ones, and joins them to the last run where they go on with it.
    pub fn push(&mut self, run: Run) {
        let pages = run.pages;
        if pages == 0 {
            return;
        }
        let run = match run.source {
            Source::Zeros => HeldRun::zeros(pages),
            Source::Frames { pack, block, slot, stride } => {
                let last = self.runs.last().map(|last| last.pack).filter(|last| *last != NOWHERE);
                let last = last.filter(|last| self.packs.pack(*last) == pack);
                let pack = last.unwrap_or_else(|| self.packs.number_of(pack));
                HeldRun { pages, pack, block, slot, stride }
            }
        };
        append_run(&mut self.runs, run);
    }

    /// Appends all runs of another map.
    pub fn append(&mut self, other: &Self) {
        other.cursor().copy(u32::MAX, self);
    }

    /// How many pages there are.
    pub fn page_count(&self) -> u64 {
        self.runs.iter().map(|run| u64::from(run.pages)).sum()
    }

    /// The frames in which the pages lie, in the order of the pages; zero pages are in none.
    pub fn pieces(&self) -> impl Iterator<Item = Piece> + '_ {
        self.numbered_pieces().map(|piece| {
            let Piece { first_page, pages, pack, block, slot, stride } = piece;
            Piece { first_page, pages, pack: self.pack(pack), block, slot, stride }
        })
    }

    /// The same with numbers in the place of packs: each pack has one in this map, which takes less time to work with.
    pub fn numbered_pieces(&self) -> impl Iterator<Item = Piece<u32>> + '_ {
        let mut first_page = 0;
        self.runs.iter().flat_map(move |run| {
            let start = first_page;
            first_page += run.pages;
            RunPieces { run: *run, start, done: 0 }
        })
    }

    /// The pack that has a number in this map.
    ///
    /// # Panics
    /// Where none has.
    pub fn pack(&self, number: u32) -> PackId {
        self.packs.pack(number)
    }

    /// How many pages lie in each pack, in the order of the packs.
    pub fn pages_by_pack(&self) -> Vec<(PackId, u32)> {
        let pages = self.pages_by_number();
        let numbers = self.packs.ascending().into_iter();
        let counted = numbers.map(|number| (self.packs.pack(number), pages[number as usize]));
        counted.filter(|(_, pages)| *pages > 0).collect()
    }

    /// The packs in which pages lie, ascending.
    pub fn packs(&self) -> Vec<PackId> {
        self.pages_by_pack().into_iter().map(|(pack, _)| pack).collect()
    }

    /// Looks at the pages one after the other.
    pub fn cursor(&self) -> Cursor<'_> {
        Cursor { map: self, next: 0, done: 0 }
    }

    /// How many pages lie in each pack, by the packs' numbers.
    fn pages_by_number(&self) -> Vec<u32> {
        let mut pages = vec![0; self.packs.len()];
        for run in self.runs.iter().filter(|run| run.pack != NOWHERE) {
            pages[run.pack as usize] += run.pages;
        }
        pages
    }

    fn source(&self, run: &HeldRun) -> Source {
        let HeldRun { pack, block, slot, stride, .. } = *run;
        match pack {
            NOWHERE => Source::Zeros,
            _ => Source::Frames { pack: self.packs.pack(pack), block, slot, stride },
        }
    }

    /// Appends runs that follow each other in a map with these packs.
    fn extend(&mut self, packs: &PackNumbers, runs: &[HeldRun]) {
        let Some((first, rest)) = runs.split_first() else { return };
        self.packs.share(packs);
        let in_common = self.packs.in_common(packs);
        let mut last = (NOWHERE, NOWHERE);
        let mut own = |run: &HeldRun| {
            let pack = match run.pack {
                pack if pack < in_common || pack == NOWHERE => pack,
                pack if pack == last.0 => last.1,
                pack => {
                    last = (pack, self.packs.number_of(packs.pack(pack)));
                    last.1
                }
            };
            HeldRun { pack, ..*run }
        };
        append_run(&mut self.runs, own(first));
        // The others go on with those before them no more than they did there.
        self.runs.extend(rest.iter().map(own));
    }
}

impl PartialEq for PageMap {
    /// Two maps are equal if their runs are, whatever numbers the packs have.
    fn eq(&self, other: &Self) -> bool {
        self.runs().eq(other.runs())
    }
}

impl Eq for PageMap {}

impl fmt::Debug for PageMap {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_list().entries(self.runs()).finish()
    }
}

impl HeldRun {
    fn zeros(pages: u32) -> Self {
        Self { pages, pack: NOWHERE, block: 0, slot: 0, stride: 0 }
    }

    /// `pages` of its pages, without the first `done`.
    fn part(self, done: u32, pages: u32) -> Self {
        if done == 0 || self.pack == NOWHERE {
            return Self { pages, ..self };
        }
        let (frames, slot) = place_after(self.slot, self.stride, done);
        Self { pages, block: self.block.saturating_add(frames), slot, ..self }
    }

    /// The block of the frame with the last page, which may be more than there can be.
    fn last_block(self) -> u64 {
        let last = u64::from(self.slot) + u64::from(self.pages) - 1;
        let stride = u64::from(self.stride.max(1));
        // Most runs stay in one frame, and a division takes long.
        u64::from(self.block) + if last < stride { 0 } else { last / stride }
    }
}

/// How many frames on, and in which slot, the page lies that comes `pages` after the one in `slot`.
fn place_after(slot: u16, stride: u16, pages: u32) -> (u32, u16) {
    let place = u64::from(slot) + u64::from(pages);
    let frames = u32::try_from(place / u64::from(stride)).unwrap_or(u32::MAX);
    (frames, u16::try_from(place % u64::from(stride)).unwrap_or(u16::MAX))
}

impl Source {
    /// Where the page lies that comes `pages` after the one that lies here, in the same run.
    #[must_use]
    pub fn after(self, pages: u32) -> Self {
        match self {
            Self::Zeros => Self::Zeros,
            Self::Frames { pack, block, slot, stride } => {
                let (frames, slot) = place_after(slot, stride, pages);
                Self::Frames { pack, block: block.saturating_add(frames), slot, stride }
            }
        }
    }
}

/// A place in a map, which moves towards its end.
#[derive(Clone, Debug)]
pub struct Cursor<'map> {
    map: &'map PageMap,
    /// The run with the next page.
    next: usize,
    /// How many pages of it are behind.
    done: u32,
}

impl Cursor<'_> {
    /// Where the next page lies; `None` at the end.
    pub fn source(&self) -> Option<Source> {
        self.map.runs.get(self.next).map(|run| self.map.source(run).after(self.done))
    }

    /// Goes past so many pages, or to the end.
    pub fn skip(&mut self, pages: u32) {
        self.advance(pages, &mut |_| {});
    }

    /// Goes past so many pages, or to the end, and appends them to `map`.
    pub fn copy(&mut self, pages: u32, map: &mut PageMap) {
        let packs = &self.map.packs;
        self.advance(pages, &mut |runs| map.extend(packs, runs));
    }

    /// Goes past so many pages, or to the end: first what is left of a run, then whole runs, then a part of one.
    fn advance(&mut self, mut pages: u32, pass: &mut dyn FnMut(&[HeldRun])) {
        if self.done > 0 {
            pages -= self.advance_in_run(pages, pass);
        }
        let rest = &self.map.runs[self.next.min(self.map.runs.len())..];
        let is_whole = |run: &&HeldRun| {
            let fits = run.pages <= pages;
            pages -= if fits { run.pages } else { 0 };
            fits
        };
        let whole = rest.iter().take_while(is_whole).count();
        pass(&rest[..whole]);
        self.next += whole;
        self.advance_in_run(pages, pass);
    }

    /// Goes past so many pages, or to the end of the run. How many pages that were.
    fn advance_in_run(&mut self, pages: u32, pass: &mut dyn FnMut(&[HeldRun])) -> u32 {
        let Some(run) = self.map.runs.get(self.next).filter(|_| pages > 0) else { return 0 };
        let count = pages.min(run.pages - self.done);
        pass(&[run.part(self.done, count)]);
        self.done += count;
        if self.done == run.pages {
            self.next += 1;
            self.done = 0;
        }
        count
    }
}

/// Appends a run to others, or makes the last of them longer if it goes on with that.
fn append_run(runs: &mut Vec<HeldRun>, run: HeldRun) {
    match runs.last_mut() {
        Some(last) if continues(last, &run) => last.pages += run.pages,
        _ => runs.push(run),
    }
}

fn continues(last: &HeldRun, next: &HeldRun) -> bool {
    if last.pack != next.pack || last.pages.checked_add(next.pages).is_none() {
        return false;
    }
    if last.pack == NOWHERE {
        return true;
    }
    // The next run must begin where this one ends. How many pages its frames have matters only if it goes past the first
    // of them; but that one must not seem smaller than it is.
    let next_fits = next.stride == last.stride
        || next.stride < last.stride && u64::from(next.slot) + u64::from(next.pages) <= u64::from(next.stride);
    if !next_fits {
        return false;
    }
    let end = u64::from(last.slot) + u64::from(last.pages);
    let stride = u64::from(last.stride);
    u64::from(last.block) + end / stride == u64::from(next.block) && end % stride == u64::from(next.slot)
}

/// Cuts a run at the borders of its frames.
struct RunPieces {
    run: HeldRun,
    start: u32,
    done: u32,
}

impl Iterator for RunPieces {
    type Item = Piece<u32>;

    fn next(&mut self) -> Option<Piece<u32>> {
        let left = self.run.pages - self.done;
        if left == 0 || self.run.pack == NOWHERE {
            return None;
        }
        // What it leads to fits: decoding and the format's limits keep blocks below 32 bits.
        let HeldRun { pack, block, slot, stride, .. } = self.run.part(self.done, left);
        let pages = left.min(u32::from(stride - slot));
        let piece = Piece { first_page: self.start + self.done, pages, pack, block, slot, stride };
        self.done += pages;
        Some(piece)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use ulid::Ulid;

    use crate::bytes::Write as _;

    use super::*;

    fn run() -> impl Strategy<Value = Run> {
        let frames = (0_u32..3, 0_u32..1000, 1_u16..=64, 0_u16..64).prop_map(|(number, block, stride, slot)| {
            let pack = PackId { session: Ulid::from_bytes([1; 16]), number };
            Source::Frames { pack, block, slot: slot % stride, stride }
        });
        (1_u32..200, prop_oneof![Just(Source::Zeros), frames]).prop_map(|(pages, source)| Run { pages, source })
    }

    /// Where each page lies, one by one.
    fn places(runs: impl IntoIterator<Item = Run>) -> Vec<Option<(PackId, u32, u16)>> {
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
            let expected = places(runs.clone());
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
            let map = PageMap::decode(&map.encode(), u32::try_from(expected.len()).unwrap()).unwrap();
            let (mut cursor, mut at) = (map.cursor(), 0);
            let place = |source: Source| places([Run { pages: 1, source }])[0];
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
            prop_assert_eq!(map.pages_by_pack().iter().map(|(_, pages)| *pages as usize).sum::<usize>(), frames);
        }

        /// Whatever numbers the packs have in each of them.
        #[test]
        fn a_map_can_be_made_of_parts_of_others(
            one in proptest::collection::vec(run(), 0..20),
            other in proptest::collection::vec(run(), 0..20),
            is_beside: bool,
            steps in proptest::collection::vec((any::<bool>(), 0_u32..300, proptest::option::of(run())), 0..20),
        ) {
            let stored = |runs: &[Run]| {
                let mut map = PageMap::default();
                for run in runs {
                    map.push(*run);
                }
                let pages = u32::try_from(map.page_count()).unwrap();
                (PageMap::decode(&map.encode(), pages).unwrap(), places(map.runs()))
            };
            let maps = [stored(&one), stored(&other)];
            let mut cursors = [(maps[0].0.cursor(), 0), (maps[1].0.cursor(), 0)];
            let mut made = if is_beside { PageMap::beside(&maps[0].0) } else { PageMap::default() };
            let mut expected = Vec::new();
            for (which, pages, pushed) in steps {
                if let Some(run) = pushed {
                    made.push(run);
                    expected.extend(places([run]));
                }
                let places = &maps[usize::from(which)].1;
                let (cursor, at) = &mut cursors[usize::from(which)];
                let end = places.len().min(*at + pages as usize);
                cursor.copy(pages, &mut made);
                expected.extend_from_slice(&places[*at..end]);
                *at = end;
            }
            prop_assert_eq!(&places(made.runs()), &expected);
            let back = PageMap::decode(&made.encode(), u32::try_from(expected.len()).unwrap()).unwrap();
            prop_assert_eq!(&back, &made);
            prop_assert_eq!(back.packs(), made.packs());
            prop_assert!(made.packs().is_sorted_by(|pack, next| pack < next));
            prop_assert_eq!(back.pages_by_pack(), made.pages_by_pack());
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
    fn packs_may_be_listed_in_any_order_and_twice() {
        let pack = |number| PackId { session: Ulid::from_bytes([1; 16]), number };
        let mut bytes = vec![3];
        for number in [7_u32, 2, 7] {
            bytes.extend([1; 16]);
            bytes.extend(number.to_le_bytes());
        }
        bytes.extend([3, 1, 1, 0, 0, 1, 2, 2, 0, 0, 2, 1, 3, 5, 0, 1]);
        let map = PageMap::decode(&bytes, 4).unwrap();
        assert_eq!(map.pages_by_pack(), [(pack(2), 2), (pack(7), 2)]);
        assert_eq!(PageMap::decode(&map.encode(), 4).unwrap(), map);
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
