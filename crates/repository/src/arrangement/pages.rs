//! Pages of relations, of which is stored how far they are from what they could be expected to say.
//!
//! A line pointer says where its tuple begins, which is most times right below the one before. A tuple of a table says its
//! own place, its ctid, as long as no newer version follows it. And its first column is often a number, one more than that
//! of the tuple before. None of these repeats, so that zstd finds nothing in them. What they differ by from the expected is
//! mostly the same. (PostgreSQL 13 to 18: `bufpage.h`, `itemid.h`, `htup_details.h`.)

use crate::PAGE_SIZE;

type Page = [u8; PAGE_SIZE];

const HEADER_LENGTH: usize = 24;
const LINE_POINTER_LENGTH: usize = 4;
/// `pd_lower`, `pd_special` and `pd_pagesize_version` in a page.
const LOWER_AT: usize = 12;
const SPECIAL_AT: usize = 16;
const SIZE_AND_VERSION_AT: usize = 18;
/// A page of 8192 bytes in the layout of version 4.
const SIZE_AND_VERSION: u16 = 0x2004;
/// The least that the header of a tuple takes, and in it `t_ctid`, which are the halves of the block number and the number
/// of the line pointer, and `t_hoff`, where the columns begin.
const TUPLE_HEADER_LENGTH: u32 = 24;
const CTID_BLOCK_AT: [usize; 2] = [12, 14];
const CTID_NUMBER_AT: usize = 16;
const COLUMNS_AT: usize = 22;
/// What is subtracted of the columns.
const FIRST_COLUMN_LENGTH: usize = 8;
/// `MAXALIGN`.
const ALIGNMENT: u32 = 8;
/// In a line pointer: the offset of the tuple, the flags that say that there is one (`LP_NORMAL`), and its length.
const OFFSET_MASK: u32 = 0x7FFF;
const FLAGS_AT: u32 = 15;
const NORMAL: u32 = 1;
const LENGTH_AT: u32 = 17;

/// Whether there is a page among the bytes that can be said relatively.
pub(super) fn are_there(bytes: &[u8]) -> bool {
    bytes.as_chunks::<PAGE_SIZE>().0.iter().any(|page| line_pointers(page).is_some())
}

/// Makes the pages among the bytes relative.
pub(super) fn make_relative(bytes: &mut [u8]) {
    bytes.as_chunks_mut::<PAGE_SIZE>().0.iter_mut().for_each(shift::<true>);
}

/// Undoes [`make_relative`].
pub(super) fn make_absolute(bytes: &mut [u8]) {
    bytes.as_chunks_mut::<PAGE_SIZE>().0.iter_mut().for_each(shift::<false>);
}

/// Where the line pointers of the page end, if there are any: `pd_lower`.
fn line_pointers(page: &Page) -> Option<usize> {
    let end = usize::from(word(page, LOWER_AT));
    let is_page = word(page, SIZE_AND_VERSION_AT) == SIZE_AND_VERSION
        && (HEADER_LENGTH + LINE_POINTER_LENGTH..=PAGE_SIZE).contains(&end)
        && end.is_multiple_of(LINE_POINTER_LENGTH);
    is_page.then_some(end)
}

/// Subtracts what is expected, or adds it again. The bytes may be any: what is added depends on nothing that is changed, or
/// on what was added to before. `docs/format.md`, section 2.2.1, says why.
fn shift<const RELATIVE: bool>(page: &mut Page) {
    let Some(end) = line_pointers(page) else { return };
    let special = word(page, SPECIAL_AT);
    let mut table = (usize::from(special) == PAGE_SIZE).then(Table::default);
    let mut before = u32::from(special);
    for (number, at) in (1_u16..).zip((HEADER_LENGTH..end).step_by(LINE_POINTER_LENGTH)) {
        let stored = u32::from_le_bytes([page[at], page[at + 1], page[at + 2], page[at + 3]]);
        let length = stored >> LENGTH_AT;
        if length == 0 {
            continue;
        }
        let padded = length.next_multiple_of(ALIGNMENT);
        let expected = before.wrapping_sub(padded);
        let shifted =
            if RELATIVE { stored.wrapping_sub(expected) } else { stored.wrapping_add(expected) } & OFFSET_MASK;
        page[at..at + 4].copy_from_slice(&((stored & !OFFSET_MASK) | shifted).to_le_bytes());
        let offset = if RELATIVE { stored & OFFSET_MASK } else { shifted };
        if let Some(table) = &mut table {
            let is_tuple = (stored >> FLAGS_AT) & 3 == NORMAL
                && length >= TUPLE_HEADER_LENGTH
                && offset.is_multiple_of(ALIGNMENT)
                && offset as usize >= end;
            let tuple = Tuple { number, at: offset as usize, length: length as usize };
            table.shift::<RELATIVE>(page, is_tuple.then_some(tuple), offset + padded == before);
        }
        before = offset;
    }
}

/// Where a tuple of a table lies.
#[derive(Clone, Copy)]
struct Tuple {
    number: u16,
    at: usize,
    length: usize,
}

/// What is expected of the next tuple of a table.
struct Table {
    /// The offset of the first tuple that has a ctid, and the halves of the block number in it.
    first: Option<(usize, [u16; 2])>,
    /// The first column of the tuple before, as long as all tuples so far lie one right below the other.
    run: Option<u64>,
    /// Above this lie those tuples.
    run_end: usize,
}

impl Default for Table {
    fn default() -> Self {
        Self { first: None, run: Some(0), run_end: PAGE_SIZE }
    }
}

impl Table {
    /// Shifts what is in the tuple that the next line pointer points to, if it does.
    fn shift<const RELATIVE: bool>(&mut self, page: &mut Page, tuple: Option<Tuple>, is_right_below: bool) {
        self.run = self.run.filter(|_| is_right_below);
        let Some(tuple) = tuple else {
            self.run = None;
            return;
        };
        self.run = self.run.and_then(|before| shift_first_column::<RELATIVE>(page, tuple, before));
        if self.run.is_some() {
            self.run_end = tuple.at;
        } else if tuple.at + TUPLE_HEADER_LENGTH as usize > self.run_end {
            return;
        }
        shift_word::<RELATIVE>(page, tuple.at + CTID_NUMBER_AT, tuple.number);
        match self.first {
            None => self.first = Some((tuple.at, CTID_BLOCK_AT.map(|at| word(page, tuple.at + at)))),
            // The same tuple once more.
            Some((first, _)) if first == tuple.at => {}
            Some((_, block)) => {
                for (at, expected) in CTID_BLOCK_AT.into_iter().zip(block) {
                    shift_word::<RELATIVE>(page, tuple.at + at, expected);
                }
            }
        }
    }
}

/// Shifts the first column by that of the tuple before, and gives what it is in truth. There is none in a tuple that is too
/// short.
fn shift_first_column<const RELATIVE: bool>(page: &mut Page, tuple: Tuple, before: u64) -> Option<u64> {
    let header = usize::from(page[tuple.at + COLUMNS_AT]);
    let has_column = header >= TUPLE_HEADER_LENGTH as usize
        && header.is_multiple_of(ALIGNMENT as usize)
        && header + FIRST_COLUMN_LENGTH <= tuple.length;
    if !has_column {
        return None;
    }
    let column = page[tuple.at + header..].first_chunk_mut::<FIRST_COLUMN_LENGTH>()?;
    let stored = u64::from_le_bytes(*column);
    let shifted = if RELATIVE { stored.wrapping_sub(before) } else { stored.wrapping_add(before) };
    *column = shifted.to_le_bytes();
    Some(if RELATIVE { stored } else { shifted })
}

fn word(page: &Page, at: usize) -> u16 {
    u16::from_le_bytes([page[at], page[at + 1]])
}

fn shift_word<const RELATIVE: bool>(page: &mut Page, at: usize, by: u16) {
    let word = word(page, at);
    let shifted = if RELATIVE { word.wrapping_sub(by) } else { word.wrapping_add(by) };
    page[at..at + 2].copy_from_slice(&shifted.to_le_bytes());
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A page of a table in which tuples of these lengths lie, and in each its ctid.
    fn table(block: u32, lengths: &[usize]) -> Page {
        let mut page = [0; PAGE_SIZE];
        let end = HEADER_LENGTH + LINE_POINTER_LENGTH * lengths.len();
        page[LOWER_AT..14].copy_from_slice(&u16::try_from(end).unwrap().to_le_bytes());
        page[SPECIAL_AT..20].copy_from_slice(&[0, 0x20, 4, 0x20]);
        let mut offset = PAGE_SIZE;
        for (number, length) in (1_u16..).zip(lengths) {
            offset -= length.next_multiple_of(8);
            let at = HEADER_LENGTH + 4 * usize::from(number - 1);
            let pointer = u32::try_from(offset | 1 << 15 | length << 17).unwrap();
            page[at..at + 4].copy_from_slice(&pointer.to_le_bytes());
            let [low, high] = [block, block >> 16].map(|half| u16::try_from(half & 0xFFFF).unwrap().to_le_bytes());
            page[offset + 12..offset + 18].copy_from_slice(&[high, low, number.to_le_bytes()].concat());
            page[offset + 18..offset + 23].copy_from_slice(&[2, 0, 0x12, 9, 24]);
            if *length >= 32 {
                page[offset + 24..offset + 26].copy_from_slice(&(0x0700 + number).to_le_bytes());
            }
        }
        page
    }

    #[test]
    fn what_is_expected_becomes_zero() {
        let page = table(0x0003_0201, &[61, 100, 24]);
        assert!(are_there(&page));
        let mut relative = page;
        make_relative(&mut relative);
        // Of line pointers the flag and the length are left, and of ctids the block of the first.
        let pointers: Vec<u8> =
            [61_u32, 100, 24].iter().flat_map(|length| (1 << 15 | length << 17).to_le_bytes()).collect();
        assert_eq!(relative[24..36], pointers);
        let ctid = |offset: usize| &relative[offset + 12..offset + 18];
        assert_eq!([ctid(8128), ctid(8024), ctid(8000)], [&[3, 0, 1, 2, 0, 0], &[0; 6], &[0; 6]]);
        // The first column is one more each time; the third tuple has none.
        assert_eq!([&relative[8152..8154], &relative[8048..8050]], [&[1, 7], &[1, 0]]);
        make_absolute(&mut relative);
        assert_eq!(relative, page);
    }

    #[test]
    fn what_is_no_page_stays_as_it_is() {
        let page = table(1, &[61, 100]);
        for (at, byte) in [(12, 24), (12, 34), (13, 0x21), (18, 3), (19, 0x40)] {
            let mut other = page;
            other[at] = byte;
            assert!(!are_there(&other), "{at}");
            let before = other;
            make_relative(&mut other);
            assert_eq!(other, before, "{at}");
        }
        assert!(!are_there(&page[..PAGE_SIZE - 1]));
        assert!(!are_there(&[0; PAGE_SIZE]));
    }

    #[test]
    fn pages_of_indexes_keep_all_but_their_line_pointers() {
        let mut index = table(1, &[32, 32, 32]);
        index[SPECIAL_AT..18].copy_from_slice(&(8192_u16 - 16).to_le_bytes());
        let mut relative = index;
        make_relative(&mut relative);
        assert_ne!(relative[24..36], index[24..36]);
        assert_eq!(relative[36..], index[36..]);
        make_absolute(&mut relative);
        assert_eq!(relative, index);
    }

    /// Line pointers of any kind: to tuples one right below the other, and then to some that overlap, that lie in the
    /// header or past the end, and twice to the same one.
    fn any_page() -> impl Strategy<Value = Vec<u8>> {
        let pointer = prop_oneof![
            (0_u32..1024, 0_u32..3, 0_u32..200)
                .prop_map(|(offset, flags, length)| (offset * 8) | (flags << 15) | (length << 17)),
            any::<u32>(),
        ];
        let pointers = proptest::collection::vec(pointer, 0..120);
        let special = prop_oneof![Just(8192_u16), Just(8176), any::<u16>()];
        let run = proptest::collection::vec(20_u32..120, 0..40);
        (run, pointers, special, any::<u64>()).prop_map(|(run, pointers, special, seed)| {
            let mut page = vec![0; PAGE_SIZE];
            blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut page);
            let mut before = u32::from(special);
            let run = run.iter().map(|length| {
                before = before.wrapping_sub(length.next_multiple_of(8)) & OFFSET_MASK;
                before | (NORMAL << 15) | (length << 17)
            });
            let pointers: Vec<u32> = run.chain(pointers).collect();
            let end = u16::try_from(HEADER_LENGTH + LINE_POINTER_LENGTH * pointers.len()).unwrap();
            page[LOWER_AT..14].copy_from_slice(&end.to_le_bytes());
            page[SPECIAL_AT..18].copy_from_slice(&special.to_le_bytes());
            page[SIZE_AND_VERSION_AT..20].copy_from_slice(&SIZE_AND_VERSION.to_le_bytes());
            for (number, pointer) in pointers.iter().enumerate() {
                page[HEADER_LENGTH + 4 * number..][..4].copy_from_slice(&pointer.to_le_bytes());
                let columns = (pointer & OFFSET_MASK) as usize + COLUMNS_AT;
                if columns < PAGE_SIZE && columns >= usize::from(end) {
                    page[columns] = [24, 24, 24, 32, 3][number % 5];
                }
            }
            page
        })
    }

    proptest! {
        #[test]
        fn any_page_comes_back(page in any_page(), rest in 0_usize..100) {
            let bytes = [page.clone(), page[..rest].to_vec()].concat();
            let mut changed = bytes.clone();
            make_relative(&mut changed);
            make_absolute(&mut changed);
            prop_assert!(changed == bytes);
            // Nor is there anything that can't have been made relative.
            make_absolute(&mut changed);
            make_relative(&mut changed);
            prop_assert!(changed == bytes);
        }
    }
}
