//! Looking for records: the ends of transactions, to check that a recovery target exists, and what a backup has left in the
//! WAL, to check that it is of this cluster.

use jiff::Timestamp;

use super::event::Event;
use super::reader::RawRecord;
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

/// What a backup has left in the WAL of its cluster, or what it was taken at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BackupTrace {
    /// The record with which a backup of a running server ends.
    End {
        /// Where the backup began.
        start: Lsn,
        /// Where the record ends, and with it the backup.
        stop: Lsn,
    },
    /// The record of the checkpoint with which the server was shut down, before its files were copied.
    Shutdown {
        /// Where the record begins.
        checkpoint: Lsn,
    },
}

/// Looks for the trace of a backup in segments that follow on one another.
#[derive(Clone, Debug)]
pub struct TraceSearch {
    trace: BackupTrace,
    stream: RecordStream,
    is_found: bool,
}

impl BackupTrace {
    /// A position at or before the start of the record, and not long before it: the segments from there on have it.
    pub fn earliest(self) -> Lsn {
        /// More than the record has, with the headers of pages between its bytes.
        const RECORD_MAXIMUM: u64 = 128;
        match self {
            Self::End { stop, .. } => Lsn(stop.0.saturating_sub(RECORD_MAXIMUM)),
            Self::Shutdown { checkpoint } => checkpoint,
        }
    }

    /// Whether the record is not to come any more where the WAL up to `reached` has been read.
    fn is_past(self, reached: Lsn) -> bool {
        match self {
            Self::End { stop, .. } => reached >= stop,
            Self::Shutdown { checkpoint } => reached > checkpoint,
        }
    }

    fn is(self, record: &RawRecord<'_>, event: &Event<'_>) -> bool {
        match (self, event) {
            (Self::End { start, stop }, Event::BackupEnd { start: found }) => start == *found && stop == record.end,
            (Self::Shutdown { checkpoint }, Event::ShutdownCheckpoint(_)) => checkpoint == record.lsn,
            _ => false,
        }
    }
}

impl TraceSearch {
    /// Begins to look for a trace.
    pub fn new(trace: BackupTrace) -> Self {
        Self { trace, stream: RecordStream::default(), is_found: false }
    }

    /// Reads the next segment. Whether the trace is there; `None` if it may yet come with the segment after this one.
    ///
    /// # Errors
    ///
    /// The bytes are no segment, or it does not follow on the one before.
    pub fn push(&mut self, bytes: &[u8]) -> Result<Option<bool>, SequenceError> {
        let Self { trace, stream, is_found } = self;
        stream.push(bytes, |header, raw| {
            if raw.end > trace.earliest()
                && let Ok((_, event)) = decode(raw.lsn, header.version, raw.bytes)
            {
                *is_found |= trace.is(raw, &event);
            }
        })?;
        let is_settled = self.is_found || self.trace.is_past(self.stream.next_record());
        Ok(is_settled.then_some(self.is_found))
    }
}

#[cfg(test)]
mod tests {
    use super::super::event::RM_XLOG;
    use super::super::reader::SegmentHeader;
    use super::super::testing::{TestRecord, TestWal, commit, message, relation, size};
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

    /// Would lose: the cluster, if what was taken on other WAL counted as its past.
    #[test]
    fn a_backup_is_known_by_the_record_that_it_has_left() {
        const SEGMENT: usize = 1 << 20;
        for lead in [1, SEGMENT - 300, SEGMENT - 200, SEGMENT - 160] {
            let mut wal = TestWal::new(Version::V15);
            wal.append(&message(lead));
            let start = wal.next_lsn();
            wal.append(&message(1));
            let end = TestRecord::new(RM_XLOG, 0x50).main_data(start.0.to_le_bytes());
            let began = wal.append(&end);
            let checkpoint = TestRecord::new(RM_XLOG, 0x00).main_data([0; 88]);
            let shutdown = wal.append(&checkpoint);
            let other = wal.append(&message(SEGMENT));
            let segments = wal.segments();
            let stop = ends_at(&segments, began);
            let search = |trace: BackupTrace| {
                let first = segments.iter().position(|segment| {
                    let header = SegmentHeader::parse(segment).unwrap();
                    header.number == size().segment_of(trace.earliest())
                });
                let mut search = TraceSearch::new(trace);
                segments[first.unwrap()..].iter().find_map(|segment| search.push(segment).unwrap())
            };
            assert_eq!(search(BackupTrace::End { start, stop }), Some(true), "{lead}");
            assert_eq!(search(BackupTrace::End { start: Lsn(start.0 + 8), stop }), Some(false), "{lead}");
            assert_eq!(search(BackupTrace::End { start, stop: Lsn(stop.0 + 8) }), Some(false), "{lead}");
            assert_eq!(search(BackupTrace::Shutdown { checkpoint: shutdown }), Some(true), "{lead}");
            assert_eq!(search(BackupTrace::Shutdown { checkpoint: began }), Some(false), "{lead}");
            assert_eq!(search(BackupTrace::Shutdown { checkpoint: other }), Some(false), "{lead}");
        }
    }

    /// Where the record ends that begins at `lsn`.
    fn ends_at(segments: &[Vec<u8>], lsn: Lsn) -> Lsn {
        let mut end = None;
        let mut stream = RecordStream::default();
        for segment in segments {
            stream.push(segment, |_, record| end = end.or((record.lsn == lsn).then_some(record.end))).unwrap();
        }
        end.unwrap()
    }
}
