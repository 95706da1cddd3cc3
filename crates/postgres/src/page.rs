//! Pages of relations, and how to tell whether one is intact.

pub mod checksum;

use std::ops::RangeInclusive;

use crate::Lsn;

/// The size of a page in bytes (`BLCKSZ`).
pub const PAGE_SIZE: usize = 8192;

/// The bytes of one page. A buffer is cut into them with `as_chunks::<PAGE_SIZE>()`.
pub type Page = [u8; PAGE_SIZE];

/// The position after the last WAL record that changed the page (`pd_lsn`: the upper half comes first).
pub fn lsn(page: &Page) -> Lsn {
    let half = |at: usize| u64::from(u32::from_le_bytes([page[at], page[at + 1], page[at + 2], page[at + 3]]));
    Lsn(half(0) << 32 | half(4))
}

/// The checksum that the page carries (`pd_checksum`).
pub fn stored_checksum(page: &Page) -> u16 {
    u16::from_le_bytes([page[8], page[9]])
}

/// Whether the whole page is zero, as a page is between the growth of a relation and its first use.
///
/// PostgreSQL itself looks at `pd_upper` alone, which takes a damaged header for a new page.
pub fn is_zero(page: &Page) -> bool {
    *page == [0; PAGE_SIZE]
}

/// What a look at a page's checksum shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PageState {
    /// The checksum is right.
    Intact,
    /// The page is new: all of it is zero.
    New,
    /// The checksum is wrong.
    ChecksumMismatch {
        /// The checksum that the page carries.
        stored: u16,
        /// The checksum of its bytes.
        computed: u16,
    },
}

/// Checks a page of a cluster that has page checksums.
///
/// `block_number` counts from the start of the relation, not of the segment.
pub fn verify(page: &Page, block_number: u32) -> PageState {
    let stored = stored_checksum(page);
    // No checksum is 0, so that a new page need not be summed up to be known.
    if stored == 0 && is_zero(page) {
        return PageState::New;
    }
    let computed = checksum::checksum(page, block_number);
    if stored == computed { PageState::Intact } else { PageState::ChecksumMismatch { stored, computed } }
}

/// Whether a page with a wrong checksum, read from a running server, is one that the server is just writing: recovery
/// writes such a page anew from the WAL of the backup. Otherwise the page is damaged.
///
/// It is, when its bytes changed between two reads, or when its LSN says that it was changed since the backup began.
/// `during_backup` runs from the backup's start to the server's insert position as it was after the page was read:
/// without that end the LSN of a page full of garbage would nearly always do.
pub fn accept_mismatch(page_lsn: Lsn, during_backup: &RangeInclusive<Lsn>, changed_on_second_read: bool) -> bool {
    changed_on_second_read || during_backup.contains(&page_lsn)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Page {
        let mut page: Page = std::array::from_fn(|index| u8::try_from(index * 7 % 251).unwrap());
        page[..8].copy_from_slice(&[2, 0, 0, 0, 0x28, 0, 0, 5]);
        let checksum = checksum::checksum(&page, 9);
        page[8..10].copy_from_slice(&checksum.to_le_bytes());
        page
    }

    #[test]
    fn the_header_is_read() {
        let page = sample();
        assert_eq!(lsn(&page), Lsn(0x2_0500_0028));
        assert_eq!(stored_checksum(&page), checksum::checksum(&page, 9));
    }

    #[test]
    fn a_page_is_intact_at_its_own_place_only() {
        let page = sample();
        assert_eq!(verify(&page, 9), PageState::Intact);
        assert!(matches!(verify(&page, 10), PageState::ChecksumMismatch { .. }));
    }

    #[test]
    fn a_new_page_is_zero_to_its_last_byte() {
        let mut page = [0; PAGE_SIZE];
        assert_eq!(verify(&page, 0), PageState::New);
        page[PAGE_SIZE - 1] = 1;
        assert!(matches!(verify(&page, 0), PageState::ChecksumMismatch { stored: 0, .. }));
    }

    #[test]
    fn a_mismatch_is_accepted_only_where_wal_repairs_it() {
        let during_backup = Lsn(100)..=Lsn(200);
        for (page_lsn, changed, accepted) in [
            (99, false, false),
            (100, false, true),
            (200, false, true),
            (201, false, false),
            (u64::MAX, false, false),
            (0, false, false),
            (99, true, true),
        ] {
            assert_eq!(accept_mismatch(Lsn(page_lsn), &during_backup, changed), accepted, "{page_lsn} {changed}");
        }
    }
}
