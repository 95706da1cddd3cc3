//! Where transactions ended, to check that a recovery target exists.

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

/// Which end of a transaction is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// That of the transaction with this id.
    Transaction(u32),
    /// That of any, if its record does not begin before this.
    From(Lsn),
}

/// Looks for the end of a transaction in segments that follow on one another.
#[derive(Clone, Debug)]
pub struct TransactionSearch {
    wanted: Wanted,
    stream: RecordStream,
    found: Option<FoundTransaction>,
}

impl TransactionSearch {
    /// Begins to look for the first end that is `wanted`.
    pub fn new(wanted: Wanted) -> Self {
        Self { wanted, stream: RecordStream::default(), found: None }
    }

    /// Reads the next segment. The first end that is wanted, if it was in this segment or in one before. A record that
    /// goes on in the segment after it is found with that one.
    ///
    /// # Errors
    ///
    /// The bytes are no segment, or it does not follow on the one before.
    pub fn push(&mut self, bytes: &[u8]) -> Result<Option<FoundTransaction>, SequenceError> {
        let Self { wanted, stream, found } = self;
        stream.push(bytes, |header, raw| {
            if let Ok((_, Event::TransactionEnd(end))) = decode(raw.lsn, header.version, raw.bytes)
                && wanted.is(raw.lsn, end.xid)
            {
                let (time, committed) = (end.time, end.committed);
                found.get_or_insert(FoundTransaction { lsn: raw.lsn, end: raw.end, time, committed });
            }
        })?;
        Ok(self.found)
    }
}

impl Wanted {
    fn is(self, lsn: Lsn, xid: u32) -> bool {
        match self {
            Self::Transaction(wanted) => xid == wanted,
            Self::From(start) => lsn >= start,
        }
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
        let find = |wanted, count| {
            let mut search = TransactionSearch::new(wanted);
            let found = segments[..count].iter().find_map(|segment| search.push(segment).unwrap());
            found.map(|found| (found.lsn, found.committed, found.time.as_second() - 946_684_800))
        };
        let search = |xid, count| find(Wanted::Transaction(xid), count);
        assert_eq!(search(6, 1), Some((rollback, false, 2)));
        assert_eq!(search(7, 1), None);
        assert_eq!(search(7, 2), Some((crossing, true, 3)));
        assert_eq!(search(5, 2).map(|found| found.2), Some(1));
        assert_eq!(search(8, 2), None);
        let from = |lsn: Lsn, count| find(Wanted::From(lsn), count).map(|found| found.2);
        assert_eq!((from(Lsn::INVALID, 1), from(rollback, 1)), (Some(1), Some(2)));
        assert_eq!((from(Lsn(rollback.0 + 1), 1), from(Lsn(rollback.0 + 1), 2)), (None, Some(3)));
        assert_eq!(from(Lsn(crossing.0 + 1), 2), Some(4));
    }
}
