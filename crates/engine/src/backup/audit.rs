//! Finding pages that have changed although no WAL says so.

use pgark_postgres::Lsn;
use pgark_postgres::page::{self, Page};
use pgark_repository::manifest::{DamagedFile, ManifestDocument, PageRange, Unexplained};

/// What a page of an SP-GiST index ends with (`SPGIST_PAGE_ID` in PostgreSQL's `src/include/access/spgist_private.h`).
const SPGIST_PAGE_ID: [u8; 2] = 0xFF82_u16.to_le_bytes();

/// The most files, and the most ranges of pages in one, that are told of.
const MOST_FILES: usize = 100;
const MOST_RANGES: usize = 16;

/// Whether a page, which is block `block` of its relation, can't have come to differ from a backup that began at `since`
/// and is not named by the WAL from there to this backup's start.
///
/// WAL that was written after this backup's start may have changed it, or any WAL if it is taken over from a timeline that
/// was left: both show in the page's LSN. A page of zeros has none. The first page of an SP-GiST index has a cache that is
/// never logged.
pub(super) fn is_unexplained(page: &Page, block: u32, since: Lsn) -> bool {
    let is_cache = block == 0 && page.ends_with(&SPGIST_PAGE_ID);
    page::lsn(page) < since && !is_cache && !page::is_zero(page)
}

/// Whether the pages of the reference are those of a cluster on this timeline, hint bits included, but where the WAL says
/// otherwise.
///
/// A server that logs hint bits does so once for each page after a checkpoint, and not where the page was changed since. So
/// a standby, and whatever else has come by recovery, lacks some that were set on the timeline before; where its own
/// `wal_log_hints` was off, it has set others by itself.
pub(super) fn shares_hints(reference: &ManifestDocument, timeline: u32) -> bool {
    reference.hints_logged && reference.stop.timeline == timeline
}

/// The findings of a backup, of which the first are kept.
#[derive(Debug, Default)]
pub(super) struct Findings(Unexplained);

impl Findings {
    /// Adds the pages of a file.
    pub(super) fn add(&mut self, path: &str, pages: &[PageRange]) {
        self.0.pages += pages.iter().map(|range| u64::from(range.count)).sum::<u64>();
        if !pages.is_empty() && self.0.files.len() < MOST_FILES {
            let pages = pages.iter().take(MOST_RANGES).copied().collect();
            self.0.files.push(DamagedFile { path: path.to_owned(), pages });
        }
    }

    /// What was found, if anything was.
    pub(super) fn into_unexplained(self) -> Option<Unexplained> {
        (self.0.pages > 0).then_some(self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written_at(lsn: u64) -> Page {
        let mut page = [1; 8192];
        page[..4].copy_from_slice(&u32::try_from(lsn >> 32).unwrap().to_le_bytes());
        page[4..8].copy_from_slice(&u32::try_from(lsn & 0xFFFF_FFFF).unwrap().to_le_bytes());
        page
    }

    #[test]
    fn pages_are_explained_by_later_wal_and_by_what_is_never_logged() {
        let since = Lsn(0x1_0000_0500);
        assert!(is_unexplained(&written_at(0x1_0000_04FF), 3, since));
        assert!(!is_unexplained(&written_at(0x1_0000_0500), 3, since));
        assert!(!is_unexplained(&[0; 8192], 3, since));
        let mut index = written_at(7);
        index[8190..].copy_from_slice(&SPGIST_PAGE_ID);
        assert!(!is_unexplained(&index, 0, since));
        assert!(is_unexplained(&index, 1, since));
    }

    #[test]
    fn all_are_counted_and_the_first_are_kept() {
        let mut findings = Findings::default();
        assert_eq!(Findings::default().into_unexplained(), None);
        for file in 0..200 {
            let pages: Vec<_> = (0..50).map(|page| PageRange { first: 2 * page, count: 1 }).collect();
            findings.add(&format!("base/5/{file}"), &pages);
        }
        let found = findings.into_unexplained().unwrap();
        assert_eq!((found.pages, found.files.len(), found.files[99].pages.len()), (10_000, 100, 16));
    }
}
