//! Cleaning: storing pages anew that have not changed, so that what a backup needs does not thin out.
//!
//! Pages are stored in frames, which are fetched whole. Where most pages of a frame have been replaced by newer ones, a
//! restore fetches it for a few, and its pack stays for their sake. So the rest of such a frame moves into a new one: each
//! page is moved at most once for each page of its frame that changed, and a restore fetches less than twice the bytes
//! that it needs.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use pgark_repository::PackId;
use pgark_repository::map::PageMap;

use super::pages::PageSet;

/// What a map uses of one frame.
#[derive(Clone, Copy, Debug, Default)]
struct FrameUse {
    /// Pages of the frame that go on being used.
    live: u32,
    /// The most pages that it can have.
    stride: u16,
}

/// The frames of one map: each by the number that its pack has there, and its block.
type Frames = HashMap<(u32, u32), FrameUse, BuildHasherDefault<FrameHasher>>;

/// Spreads the two numbers of a frame. A map may have a hundred thousand pieces, for each of which its frame is looked up.
#[derive(Default)]
struct FrameHasher(u64);

impl Hasher for FrameHasher {
    fn finish(&self) -> u64 {
        let product = self.0.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        product ^ (product >> 32)
    }

    fn write_u32(&mut self, number: u32) {
        self.0 = (self.0 << 32) | u64::from(number);
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u32((*byte).into());
        }
    }
}

/// The pages of a file that are to be stored anew although they have not changed.
///
/// `map` is the file's map in the reference, `read` are the pages that are read because they may have changed, and `pages`
/// is how many the file has now. `is_emptied` says which packs are to be emptied. `frame_pages` says how many pages a frame
/// has; it is asked only of frames that may have too few, and may not know: then the frame is left as it is.
pub fn rewrites(
    map: &PageMap,
    read: &PageSet,
    pages: u32,
    is_emptied: &dyn Fn(PackId) -> bool,
    frame_pages: &mut dyn FnMut(PackId, u32) -> Option<usize>,
) -> PageSet {
    let mut frames = Frames::default();
    for piece in map.numbered_pieces() {
        let frame = frames.entry((piece.pack, piece.block)).or_default();
        frame.stride = frame.stride.max(piece.stride);
        let end = (piece.first_page + piece.pages).min(pages);
        if piece.first_page < end {
            frame.live += end - piece.first_page - read.count_in(piece.first_page..end);
        }
    }
    frames.retain(|(pack, block), frame| {
        let pack = map.pack(*pack);
        let is_thin = |count: usize| frame.live as usize * 2 < count;
        let is_rewritten =
            is_emptied(pack) || is_thin(frame.stride.into()) && frame_pages(pack, *block).is_some_and(is_thin);
        frame.live > 0 && is_rewritten
    });
    if frames.is_empty() {
        return PageSet::default();
    }
    let rewritten = map.numbered_pieces().filter(|piece| frames.contains_key(&(piece.pack, piece.block)));
    rewritten.map(|piece| piece.first_page..(piece.first_page + piece.pages).min(pages)).collect()
}

#[cfg(test)]
mod year;

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use pgark_repository::map::{Run, Source};
    use proptest::prelude::*;
    use ulid::Ulid;

    use super::*;

    fn pack(number: u32) -> PackId {
        PackId { session: Ulid::from_bytes([1; 16]), number }
    }

    fn run(pages: u32, block: u32, slot: u16) -> Run {
        Run { pages, source: Source::Frames { pack: pack(0), block, slot, stride: 16 } }
    }

    fn map(runs: &[Run]) -> PageMap {
        let mut map = PageMap::default();
        for run in runs {
            map.push(*run);
        }
        map
    }

    fn cleaned(map: &PageMap, read: std::ops::Range<u32>, pages: u32) -> String {
        let read = std::iter::once(read).collect();
        rewrites(map, &read, pages, &|_| false, &mut |_, _| Some(16)).to_string()
    }

    #[test]
    fn the_rest_of_a_frame_moves_when_it_is_less_than_half() {
        let whole = map(&[run(48, 0, 0)]);
        assert_eq!(cleaned(&whole, 16..24, 48), "none");
        assert_eq!(cleaned(&whole, 16..25, 48), "16-31", "what is read is among them: it is stored whatever it is");
        assert_eq!(cleaned(&whole, 0..16, 48), "none", "nothing is left to move");
        assert_eq!(cleaned(&whole, 0..0, 39), "32-38", "the file was cut off in a frame");
        assert_eq!(cleaned(&whole, 0..0, 40), "none");
    }

    #[test]
    fn a_frame_that_was_short_from_the_start_stays() {
        let short = map(&[run(35, 0, 0)]);
        let mut asked = Vec::new();
        let found = rewrites(&short, &PageSet::default(), 35, &|_| false, &mut |pack, block| {
            asked.push((pack, block));
            Some(3)
        });
        assert_eq!((found.to_string().as_str(), asked), ("none", vec![(pack(0), 2)]));
        let unknown = rewrites(&short, &PageSet::default(), 35, &|_| false, &mut |_, _| None);
        assert_eq!(unknown, PageSet::default());
    }

    #[test]
    fn a_pack_is_emptied_whatever_its_frames_are() {
        let found =
            rewrites(&map(&[run(48, 0, 0)]), &PageSet::default(), 48, &|found| found == pack(0), &mut |_, _| None);
        assert_eq!(found.to_string(), "0-47");
    }

    proptest! {
        /// However a file changes, no frame is kept of which less than half is used, and what is moved are pages of such
        /// frames only.
        #[test]
        fn no_frame_is_kept_for_a_few_pages(
            scattered in proptest::collection::vec((0_u32..40, 0_u16..8), 1..120),
            read in proptest::collection::vec((0_u32..120, 1_u32..9), 0..30),
            pages in 0_u32..130,
        ) {
            let mut map = PageMap::default();
            for (block, slot) in &scattered {
                map.push(Run { pages: 1, source: Source::Frames { pack: pack(0), block: *block, slot: *slot, stride: 8 } });
            }
            let mut read = read;
            read.sort_unstable();
            let read: PageSet = read.into_iter().map(|(first, count)| first..first + count).collect();
            let rewritten = rewrites(&map, &read, pages, &|_| false, &mut |_, _| Some(8));
            let mut live: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
            for piece in map.pieces() {
                for page in (piece.first_page..piece.first_page + piece.pages).filter(|page| *page < pages) {
                    if !read.contains(page) {
                        live.entry(piece.block).or_default().push(page);
                    }
                }
            }
            for own in live.values() {
                let moved = own.iter().filter(|page| rewritten.contains(**page)).count();
                prop_assert_eq!(moved, if own.len() * 2 < 8 { own.len() } else { 0 });
            }
            let last = rewritten.ranges().last().map_or(0, |range| range.end);
            prop_assert!(last <= pages);
        }
    }
}
