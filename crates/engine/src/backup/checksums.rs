//! Judging pages by their checksums.

use std::ops::RangeInclusive;
use std::time::Duration;

use pgark_postgres::Lsn;
use pgark_postgres::page::{self, PageState};

/// How long after a page did not match its checksum it is read again: long enough for a write under way to end.
const SECOND_READ_PAUSE: Duration = Duration::from_millis(10);

/// How page checksums are judged.
pub(super) struct ChecksumRule<'backup> {
    /// Where the backup starts.
    pub(super) start: Lsn,
    /// Where WAL is being written now; asked only when a page does not match.
    pub(super) current: &'backup (dyn Fn() -> Option<Lsn> + Sync),
}

impl ChecksumRule<'_> {
    /// Whether the page, which is block `block` of its relation, is fine. One that does not match is read again by `again`,
    /// and is then what was read last; `None` from there says that it is gone. It is fine after all if it matches now, is
    /// being changed, or was written after the backup's start, so that WAL replay restores it.
    ///
    /// # Errors
    /// Those of `again`.
    pub(super) fn is_fine<E>(
        &self,
        held: &mut [u8],
        block: u32,
        again: impl FnOnce() -> Result<Option<page::Page>, E>,
    ) -> Result<bool, E> {
        if matches(held, block) {
            return Ok(true);
        }
        std::thread::sleep(SECOND_READ_PAUSE);
        let Some(again) = again()? else { return Ok(true) };
        let changed = *held != again;
        held.copy_from_slice(&again);
        let until = (self.current)().unwrap_or(Lsn::INVALID);
        Ok(matches(&again, block) || page::accept_mismatch(page::lsn(&again), &during(self.start, until), changed))
    }
}

fn during(start: Lsn, until: Lsn) -> RangeInclusive<Lsn> {
    start..=until
}

fn matches(page: &[u8], block: u32) -> bool {
    let Ok(page) = page.try_into() else { return true };
    matches!(page::verify(page, block), PageState::Intact | PageState::New)
}
