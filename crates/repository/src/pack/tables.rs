//! The tables at the end of a pack.

use crate::PAGE_SIZE;
use crate::bytes::{Reader, Write};
use crate::error::Malformed;
use crate::map::MAXIMUM_FRAME_PAGES;

const SCATTERED: u16 = 1;

/// Bytes of one entry of the frame table.
pub(super) const ENTRY_LENGTH: usize = 16;

/// Which pages a frame holds, in slot order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FramePages {
    /// Consecutive pages.
    Contiguous {
        /// The first page's number in the file.
        first: u32,
        /// How many, 1 to 64.
        count: u16,
    },
    /// These pages, ascending, 1 to 64.
    Scattered(Vec<u32>),
}

impl FramePages {
    /// How many pages.
    pub fn count(&self) -> usize {
        match self {
            Self::Contiguous { count, .. } => usize::from(*count),
            Self::Scattered(pages) => pages.len(),
        }
    }

    /// Whether `length` plain bytes can be these pages: 1 to 64, ascending, all but the last one whole.
    pub(super) fn is_sound(&self, length: usize) -> bool {
        let ascend = match self {
            Self::Contiguous { first, count } => first.checked_add(u32::from(*count)).is_some(),
            Self::Scattered(pages) => pages.is_sorted_by(|earlier, later| earlier < later),
        };
        ascend
            && self.count() <= usize::from(MAXIMUM_FRAME_PAGES)
            && length > 0
            && length.div_ceil(PAGE_SIZE) == self.count()
    }
}

/// One frame of a pack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FrameEntry {
    /// The frame's block.
    pub block: u32,
    /// The file's position in the pack's file table.
    pub file: u32,
    /// The pages in it.
    pub pages: FramePages,
}

/// Appends an entry to the stored frame table, and the numbers of scattered pages to the page list.
pub(super) fn encode(entry: &FrameEntry, frames: &mut Vec<u8>, page_list: &mut Vec<u8>) {
    let (first, flags) = match &entry.pages {
        FramePages::Contiguous { first, .. } => (*first, 0),
        FramePages::Scattered(pages) => {
            let position = u32::try_from(page_list.len() / 4).expect("a pack's limits keep its page list small");
            for page in pages {
                page_list.extend(page.to_le_bytes());
            }
            (position, SCATTERED)
        }
    };
    let count = u16::try_from(entry.pages.count()).expect("a frame has at most 64 pages");
    frames.extend(entry.block.to_le_bytes());
    frames.extend(entry.file.to_le_bytes());
    frames.extend(first.to_le_bytes());
    frames.extend(count.to_le_bytes());
    frames.extend(flags.to_le_bytes());
}

/// Reads the stored frame table and page list of a pack with `blocks` blocks and `files` files. Whether the pages fit
/// the frames is not known here: [`FramePages::is_sound`].
pub(super) fn decode(frames: &[u8], page_list: &[u8], blocks: u32, files: usize) -> Result<Vec<FrameEntry>, Malformed> {
    let mut reader = Reader::new(frames);
    let mut entries = Vec::with_capacity(frames.len() / ENTRY_LENGTH);
    while !reader.is_empty() {
        let (block, file, first) = (reader.u32()?, reader.u32()?, reader.u32()?);
        let (count, flags) = (reader.u16()?, reader.u16()?);
        if block >= blocks || file as usize >= files {
            return Err(Malformed::new(format!("a frame of file {file} in block {block}")));
        }
        let pages = match flags {
            0 => FramePages::Contiguous { first, count },
            SCATTERED => FramePages::Scattered(scattered(page_list, first, count)?),
            _ => return Err(Malformed::new(format!("a frame with flags {flags}"))),
        };
        entries.push(FrameEntry { block, file, pages });
    }
    Ok(entries)
}

fn scattered(page_list: &[u8], position: u32, count: u16) -> Result<Vec<u32>, Malformed> {
    let start = position as usize * 4;
    let numbers = page_list
        .get(start..start + usize::from(count) * 4)
        .ok_or_else(|| Malformed::new("a frame whose pages are not in the page list"))?;
    Ok(numbers.chunks_exact(4).map(|bytes| u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])).collect())
}

/// The stored file table.
pub(super) fn encode_files<'a>(paths: impl Iterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut bytes = Vec::new();
    for path in paths {
        bytes.put_counted(path);
    }
    bytes
}

/// Reads the stored file table.
pub(super) fn decode_files(bytes: &[u8]) -> Result<Vec<Vec<u8>>, Malformed> {
    let mut reader = Reader::new(bytes);
    let mut paths = Vec::new();
    while !reader.is_empty() {
        paths.push(reader.counted()?.to_vec());
    }
    Ok(paths)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pages() -> impl Strategy<Value = FramePages> {
        prop_oneof![
            (0_u32..1 << 31, 1_u16..=64).prop_map(|(first, count)| FramePages::Contiguous { first, count }),
            proptest::collection::btree_set(any::<u32>(), 1..=64)
                .prop_map(|pages| FramePages::Scattered(pages.into_iter().collect())),
        ]
    }

    proptest! {
        #[test]
        fn the_frame_table_goes_both_ways(frames in proptest::collection::vec((0_u32..50, 0_u32..9, pages()), 0..40)) {
            let entries: Vec<_> =
                frames.into_iter().map(|(block, file, pages)| FrameEntry { block, file, pages }).collect();
            let (mut table, mut page_list) = (Vec::new(), Vec::new());
            for entry in &entries {
                encode(entry, &mut table, &mut page_list);
            }
            prop_assert_eq!(decode(&table, &page_list, 50, 9).unwrap(), entries);
        }

        #[test]
        fn arbitrary_tables_never_panic(
            table in proptest::collection::vec(any::<u8>(), 0..200),
            page_list in proptest::collection::vec(any::<u8>(), 0..200),
        ) {
            let _may_fail = decode(&table, &page_list, 1 << 30, 1 << 30);
            let _may_fail = decode_files(&table);
        }
    }
}
