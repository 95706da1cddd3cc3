//! Hints on a page: what PostgreSQL changes without a record in the WAL, since it can find it out again.
//!
//! What they are is in PostgreSQL's `src/backend/access/common/bufmask.c` and the mask functions of the access methods.

use pgark_postgres::page::{PAGE_SIZE, Page};

/// `PageHeaderData`.
const CHECKSUM: usize = 8;
const FLAGS: usize = 10;
const LOWER: usize = 12;
const SPECIAL: usize = 16;
const PRUNE_XID: usize = 20;
const LINE_POINTERS: usize = 24;
/// `PD_HAS_FREE_LINES` and `PD_PAGE_FULL`.
const FLAG_HINTS: u16 = 0x0003;

/// `LP_NORMAL`, and what it becomes in an index when its row is dead: `LP_DEAD`.
const NORMAL: u32 = 1;
const DEAD: u32 = 3;

/// Where `t_infomask` stands in `HeapTupleHeaderData`, and its bits `HEAP_XMIN_COMMITTED`, `HEAP_XMIN_INVALID`,
/// `HEAP_XMAX_COMMITTED` and `HEAP_XMAX_INVALID`.
const INFOMASK: usize = 20;
const INFOMASK_HINTS: u16 = 0x0F00;

/// The last two bytes of the special space say which access method a page is of, except for B-trees, where they are
/// the cycle of a vacuum: `HASHO_PAGE_ID`, `GIST_PAGE_ID`, `MAX_BT_CYCLE_ID`.
const HASH_PAGE: u16 = 0xFF80;
const GIST_PAGE: u16 = 0xFF81;
const LAST_BTREE_CYCLE: u16 = 0xFF7F;

/// The page without its hints.
pub(crate) fn without_hints(page: &Page) -> Page {
    let mut page = *page;
    put(&mut page, CHECKSUM, 0);
    clear(&mut page, FLAGS, FLAG_HINTS);
    page[PRUNE_XID..PRUNE_XID + 4].fill(0);
    let special = usize::from(get(&page, SPECIAL));
    match PAGE_SIZE.checked_sub(special) {
        Some(0) => clear_rows(&mut page),
        Some(16) => clear_index(&mut page, special),
        _ => {}
    }
    page
}

fn clear_rows(page: &mut Page) {
    for at in line_pointers(page) {
        let pointer = line_pointer(page, at);
        let offset = (pointer & 0x7FFF) as usize;
        if pointer >> 15 & 3 == NORMAL && offset + INFOMASK + 2 <= PAGE_SIZE {
            clear(page, offset + INFOMASK, INFOMASK_HINTS);
        }
    }
}

fn clear_index(page: &mut Page, special: usize) {
    for at in line_pointers(page) {
        let pointer = line_pointer(page, at);
        if pointer >> 15 & 3 == DEAD && pointer >> 17 != 0 {
            let normal = pointer & !(3 << 15) | NORMAL << 15;
            page[at..at + 4].copy_from_slice(&normal.to_le_bytes());
        }
    }
    // Bits that say that some of these rows are dead.
    match get(page, PAGE_SIZE - 2) {
        HASH_PAGE => clear(page, special + 12, 1 << 7),
        GIST_PAGE => clear(page, special + 12, 1 << 4),
        ..=LAST_BTREE_CYCLE => {
            clear(page, special + 12, 1 << 6);
            put(page, PAGE_SIZE - 2, 0);
        }
        _ => {}
    }
}

fn line_pointers(page: &Page) -> impl Iterator<Item = usize> + use<> {
    let lower = usize::from(get(page, LOWER)).min(PAGE_SIZE);
    (LINE_POINTERS..lower.saturating_sub(3)).step_by(4)
}

fn line_pointer(page: &Page, at: usize) -> u32 {
    u32::from_le_bytes([page[at], page[at + 1], page[at + 2], page[at + 3]])
}

fn get(page: &Page, at: usize) -> u16 {
    u16::from_le_bytes([page[at], page[at + 1]])
}

fn put(page: &mut Page, at: usize, value: u16) {
    page[at..at + 2].copy_from_slice(&value.to_le_bytes());
}

fn clear(page: &mut Page, at: usize, bits: u16) {
    let value = get(page, at) & !bits;
    put(page, at, value);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A heap page with one row, or a page of an index with 16 bytes of special space.
    fn sample(special: u16) -> Page {
        let mut page: Page = std::array::from_fn(|at| u8::try_from(at % 251).expect("it is less than 251"));
        put(&mut page, LOWER, 28);
        put(&mut page, SPECIAL, special);
        let pointer: u32 = 0x1f40 | NORMAL << 15 | 100 << 17;
        page[24..28].copy_from_slice(&pointer.to_le_bytes());
        put(&mut page, PAGE_SIZE - 2, 7);
        page
    }

    #[test]
    fn hints_make_no_difference_and_all_else_does() {
        for (special, hints) in [
            (8192, vec![(8, 0xFF), (10, 3), (20, 0xFF), (8000 + 21, 0x0F)]),
            (8176, vec![(9, 0xFF), (10, 1), (23, 0xFF), (8188, 0x40), (8190, 1)]),
        ] {
            let page = sample(special);
            let same = |at: usize, bits: u8| {
                let mut other = page;
                other[at] ^= bits;
                without_hints(&other) == without_hints(&page)
            };
            for (at, bits) in &hints {
                assert!(same(*at, *bits), "bits {bits:#x} at {at}");
            }
            for at in (0..PAGE_SIZE).filter(|at| hints.iter().all(|(hint, _)| hint != at)) {
                // Four bytes stand for one field.
                let is_hint = (8..10).contains(&at) || (20..24).contains(&at) || special == 8176 && at >= 8190;
                assert!(is_hint || !same(at, 0x10), "what stands at {at} makes no difference");
            }
        }
    }

    #[test]
    fn a_dead_row_of_an_index_is_a_hint_and_one_of_a_table_is_not() {
        for (special, same) in [(8176, true), (8192, false)] {
            let page = sample(special);
            let mut dead = page;
            let pointer: u32 = 0x1f40 | DEAD << 15 | 100 << 17;
            dead[24..28].copy_from_slice(&pointer.to_le_bytes());
            assert_eq!(without_hints(&dead) == without_hints(&page), same);
        }
    }
}
