//! Where a transaction ended, to check that a recovery target exists.

use jiff::Timestamp;

use super::event::Event;
use super::segment::decode;
use super::sequence::{RecordStream, SequenceError};
use crate::Lsn;

/// The end of a transaction in the WAL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FoundTransaction {
    /// Where its record begins.
    pub lsn: Lsn,
    /// Where its record ends.
    pub end: Lsn,
    /// When it ended.
    pub time: Timestamp,
    /// Whether it committed; it was rolled back otherwise. Recovery stops at either.
    pub committed: bool,
}

/// Looks for the end of one transaction in segments that follow on one another.
#[derive(Clone, Debug)]
pub struct TransactionSearch {
    xid: u32,
    stream: RecordStream,
    found: Option<FoundTransaction>,
}

impl TransactionSearch {
    /// Begins to look for the end of the transaction `xid`.
    pub fn new(xid: u32) -> Self {
        Self { xid, stream: RecordStream::default(), found: None }
    }

    /// Reads the next segment. The first end of the transaction, if it was in this segment or in one before. A record
    /// that goes on in the segment after it is found with that one.
    ///
    /// # Errors
    ///
    /// The bytes are no segment, or it does not follow on the one before.
    pub fn push(&mut self, bytes: &[u8]) -> Result<Option<FoundTransaction>, SequenceError> {
        let Self { xid, stream, found } = self;
        stream.push(bytes, |header, raw| {
            if let Ok((_, Event::TransactionEnd(end))) = decode(raw.lsn, header.version, raw.bytes)
                && end.xid == *xid
            {
                let (time, committed) = (end.time, end.committed);
                found.get_or_insert(FoundTransaction { lsn: raw.lsn, end: raw.end, time, committed });
            }
        })?;
        Ok(self.found)
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{TestRecord, TestWal, commit, message, relation};
    use super::*;
    use crate::Version;

    #[test]
    fn the_first_end_is_found_also_across_a_border() {
        let mut wal = TestWal::new(Version::V17);
        wal.append(&TestRecord { xid: 5, ..commit(1, &[]) });
        let rollback = wal.append(&TestRecord { xid: 6, info: 0x20, ..commit(2, &[]) });
        let crossing = wal.append(&TestRecord { xid: 7, ..commit(3, &vec![relation(1); 90_000]) });
        wal.append(&message(9));
        wal.append(&TestRecord { xid: 5, ..commit(4, &[]) });
        let segments = wal.segments();
        let search = |xid, count| {
            let mut search = TransactionSearch::new(xid);
            let found = segments[..count].iter().find_map(|segment| search.push(segment).unwrap());
            found.map(|found| (found.lsn, found.committed, found.time.as_second() - 946_684_800))
        };
        assert_eq!(search(6, 1), Some((rollback, false, 2)));
        assert_eq!(search(7, 1), None);
        assert_eq!(search(7, 2), Some((crossing, true, 3)));
        assert_eq!(search(5, 2).map(|found| found.2), Some(1));
        assert_eq!(search(8, 2), None);
    }
}
