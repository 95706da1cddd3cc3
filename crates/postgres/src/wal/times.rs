//! The time index of a segment: when its transactions ended, and what else happened in it that somebody may look for.

use jiff::Timestamp;

use super::event::{Checkpoint, DatabaseCreation, Event, TransactionEnd, Truncation, WalLevel};
use super::name::{SegmentSize, Timeline};
use super::record::Record;
use super::relation::RelationLocator;
use crate::Lsn;

mod codec;

/// Every so many bytes of a segment the time index has a sample.
pub const SAMPLE_INTERVAL: u32 = 64 << 10;
/// The most notable records about relations that an index keeps.
pub const RELATION_RECORDS_MAXIMUM: usize = 4096;
/// The most relations that these records name together.
pub const RELATIONS_MAXIMUM: usize = 65_536;
/// The most other notable records that an index keeps.
pub const OTHER_RECORDS_MAXIMUM: usize = 4096;

/// When the transactions of a stretch of WAL ended, and which records in it are notable.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TimeIndex {
    ends: Option<TransactionEnds>,
    samples: Vec<Sample>,
    notable: Vec<Notable>,
    is_overflowed: bool,
    relation_records: usize,
    relations: usize,
    other_records: usize,
}

/// The ends of transactions, commits and rollbacks alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TransactionEnds {
    /// The time in the first record, in the order of the WAL.
    pub first: Timestamp,
    /// The time in the last record, in the order of the WAL.
    pub last: Timestamp,
    /// The latest time in any record. Clocks jump, and sessions take the time before they write the record.
    pub latest: Timestamp,
    /// How many transactions were committed.
    pub commits: u32,
    /// How many transactions were rolled back.
    pub rollbacks: u32,
    /// The lowest transaction id as a plain number.
    pub lowest_xid: u32,
    /// The highest transaction id as a plain number.
    pub highest_xid: u32,
}

impl TransactionEnds {
    /// Whether the end of `xid` may be among these. Where transaction ids have started over in between, any may.
    pub fn may_contain(&self, xid: u32) -> bool {
        let has_started_over = self.highest_xid - self.lowest_xid > u32::MAX / 2;
        has_started_over || (self.lowest_xid..=self.highest_xid).contains(&xid)
    }
}

/// The ends of transactions that begin in one interval of [`SAMPLE_INTERVAL`] bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// Where the first of them begins, as an offset in the segment in bytes.
    pub offset: u32,
    /// The time in the first of them.
    pub first: Timestamp,
    /// The latest time in any of them.
    pub latest: Timestamp,
}

/// A record that somebody may look for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notable {
    /// Where it begins.
    pub lsn: Lsn,
    /// Its transaction; 0 if it has none.
    pub xid: u32,
    /// When, if the record says so.
    pub time: Option<Timestamp>,
    /// What happened.
    pub what: NotableEvent,
}

/// What a notable record says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotableEvent {
    /// A commit removed the files of relations: they were dropped, truncated, or rewritten.
    RelationsDropped {
        /// The relations, fewer than `count` if the index overflowed.
        relations: Vec<RelationLocator>,
        /// How many there were.
        count: u32,
    },
    /// A relation was truncated in place.
    RelationTruncated {
        /// The relation.
        relation: RelationLocator,
        /// How many blocks its main fork kept.
        blocks: u32,
    },
    /// A database was created.
    DatabaseCreated(DatabaseCreation),
    /// A database was dropped.
    DatabaseDropped {
        /// OID of the database.
        database: u32,
        /// The tablespaces that it had files in.
        tablespaces: Vec<u32>,
    },
    /// A restore point.
    RestorePoint {
        /// Its name.
        name: String,
    },
    /// A timeline ended and another began.
    TimelineEnd {
        /// The timeline that began.
        timeline: Timeline,
        /// The timeline that ended.
        previous: Timeline,
    },
    /// The server was shut down.
    ShutdownCheckpoint,
    /// The settings that replay depends on have changed.
    ParameterChange {
        /// What the WAL holds from here on.
        wal_level: WalLevel,
    },
    /// The rest of the segment was not used.
    Switch,
}

impl NotableEvent {
    /// How many relations it names, if it is about relations.
    fn relations(&self) -> Option<usize> {
        match self {
            Self::RelationsDropped { relations, .. } => Some(relations.len()),
            Self::RelationTruncated { .. } => Some(1),
            _ => None,
        }
    }
}

impl TimeIndex {
    /// The ends of transactions; `None` if there is none.
    pub fn ends(&self) -> Option<&TransactionEnds> {
        self.ends.as_ref()
    }

    /// A sample for each interval in which a transaction ended, in the order of the WAL.
    pub fn samples(&self) -> &[Sample] {
        &self.samples
    }

    /// The notable records in the order of the WAL.
    pub fn notable(&self) -> &[Notable] {
        &self.notable
    }

    /// Whether there were more notable records or relations than an index keeps.
    pub fn is_overflowed(&self) -> bool {
        self.is_overflowed
    }

    /// The newest timeline that began in this stretch of WAL, if any did.
    pub fn last_timeline(&self) -> Option<Timeline> {
        let began = self.notable.iter().filter_map(|notable| match notable.what {
            NotableEvent::TimelineEnd { timeline, .. } => Some(timeline),
            _ => None,
        });
        began.max()
    }

    /// Adds a record of a segment of `size`; `event` is what it means. Records must come in the order of the WAL.
    pub fn absorb(&mut self, size: SegmentSize, record: &Record<'_>, event: &Event<'_>) {
        if let Event::TransactionEnd(end) = event {
            self.add_end(size.offset_of(record.lsn), end);
        }
        if let Some((time, what)) = self.notable_event(event) {
            let xid = match event {
                Event::TransactionEnd(end) => end.xid,
                _ => record.header.xid,
            };
            self.add_notable(Notable { lsn: record.lsn, xid, time, what });
        }
    }

    fn add_end(&mut self, offset: u32, end: &TransactionEnd<'_>) {
        let ends = self.ends.get_or_insert(TransactionEnds {
            first: end.time,
            last: end.time,
            latest: end.time,
            commits: 0,
            rollbacks: 0,
            lowest_xid: u32::MAX,
            highest_xid: 0,
        });
        ends.last = end.time;
        ends.latest = ends.latest.max(end.time);
        if end.committed {
            ends.commits += 1;
        } else {
            ends.rollbacks += 1;
        }
        ends.lowest_xid = ends.lowest_xid.min(end.xid);
        ends.highest_xid = ends.highest_xid.max(end.xid);
        match self.samples.last_mut().filter(|sample| sample.offset / SAMPLE_INTERVAL == offset / SAMPLE_INTERVAL) {
            Some(sample) => sample.latest = sample.latest.max(end.time),
            None => self.samples.push(Sample { offset, first: end.time, latest: end.time }),
        }
    }

    /// When it happened and what, if `event` is notable.
    fn notable_event(&self, event: &Event<'_>) -> Option<(Option<Timestamp>, NotableEvent)> {
        Some(match event {
            Event::TransactionEnd(end) if end.committed && !end.dropped.is_empty() => {
                let relations: Vec<_> =
                    end.dropped.iter().take(RELATIONS_MAXIMUM.saturating_sub(self.relations)).collect();
                let count = u32::try_from(end.dropped.len()).unwrap_or(u32::MAX);
                (Some(end.time), NotableEvent::RelationsDropped { relations, count })
            }
            Event::RelationTruncated(Truncation { relation, blocks, main: true, .. }) => {
                (None, NotableEvent::RelationTruncated { relation: *relation, blocks: *blocks })
            }
            Event::DatabaseCreated(creation) => (None, NotableEvent::DatabaseCreated(*creation)),
            Event::DatabaseDropped { database, tablespaces } => {
                let tablespaces = tablespaces.iter().collect();
                (None, NotableEvent::DatabaseDropped { database: *database, tablespaces })
            }
            Event::RestorePoint { name, time } => (Some(*time), NotableEvent::RestorePoint { name: name.clone() }),
            Event::EndOfRecovery { time, timeline, previous, .. } => {
                (Some(*time), NotableEvent::TimelineEnd { timeline: *timeline, previous: *previous })
            }
            Event::ShutdownCheckpoint(Checkpoint { timeline, previous, time, .. }) if timeline != previous => {
                (Some(*time), NotableEvent::TimelineEnd { timeline: *timeline, previous: *previous })
            }
            Event::ShutdownCheckpoint(checkpoint) => (Some(checkpoint.time), NotableEvent::ShutdownCheckpoint),
            Event::ParameterChange { wal_level } => (None, NotableEvent::ParameterChange { wal_level: *wal_level }),
            Event::Switch => (None, NotableEvent::Switch),
            _ => return None,
        })
    }

    fn add_notable(&mut self, notable: Notable) {
        match notable.what.relations() {
            Some(relations) if self.relation_records < RELATION_RECORDS_MAXIMUM => {
                self.relation_records += 1;
                self.relations += relations;
            }
            None if self.other_records < OTHER_RECORDS_MAXIMUM => self.other_records += 1,
            _ => {
                self.is_overflowed = true;
                return;
            }
        }
        if let NotableEvent::RelationsDropped { relations, count } = &notable.what {
            self.is_overflowed |= relations.len() < *count as usize;
        }
        self.notable.push(notable);
    }
}

#[cfg(test)]
mod tests {
    use super::super::event::{RM_XACT, RM_XLOG};
    use super::super::testing::{TestRecord, commit, database, relation, size, switch, truncate, words};
    use super::*;
    use crate::Version;

    fn absorb(index: &mut TimeIndex, lsn: u64, record: &TestRecord) {
        let bytes = record.bytes(Lsn(0));
        let record = Record::decode(Lsn(lsn), Version::V17, &bytes).unwrap();
        index.absorb(size(), &record, &Event::decode(&record).unwrap());
    }

    fn index_of(records: &[(u64, TestRecord)]) -> TimeIndex {
        let mut index = TimeIndex::default();
        for (lsn, record) in records {
            absorb(&mut index, *lsn, record);
        }
        index
    }

    /// So many seconds after 2000-01-01.
    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(946_684_800 + seconds).unwrap()
    }

    fn rollback(seconds: i64) -> TestRecord {
        TestRecord { info: 0x20, ..commit(seconds, &[]) }
    }

    fn restore_point(seconds: i64, name: &str) -> TestRecord {
        let mut data = (seconds * 1_000_000).to_le_bytes().to_vec();
        data.extend(name.as_bytes());
        data.resize(72, 0);
        TestRecord::new(RM_XLOG, 0x70).main_data(data)
    }

    /// One of everything.
    pub(super) fn sample() -> TimeIndex {
        let start = 7 << 20;
        let end_of_recovery = [&30_000_000_i64.to_le_bytes()[..], &words(&[3, 2, 1])].concat();
        let shutdown: Vec<u32> = [0, 0, 3, 3, 1, 1].into_iter().chain([0; 10]).chain([946_684_840, 0, 0, 0]).collect();
        let parameters = words(&[100, 8, 10, 0, 64, 2, 0]);
        index_of(&[
            (start + 40, TestRecord { xid: 701, ..commit(10, &[]) }),
            (start + 100, commit(12, &[relation(9), relation(12), RelationLocator { database: 6, ..relation(5) }])),
            (start + 200, rollback(11)),
            (start + 300, truncate(9, 50, 0x7)),
            (start + 400, truncate(9, 50, 0x2)),
            (start + 500, database(0x00, &[20, 1663, 1, 1663])),
            (start + 600, database(0x10, &[21, 1663])),
            (start + 700, database(0x20, &[20, 2, 1663, 30])),
            (start + 800, restore_point(25, "before it")),
            (start + 900, TestRecord::new(RM_XLOG, 0x90).main_data(end_of_recovery)),
            (start + 1000, TestRecord::new(RM_XLOG, 0x00).main_data(words(&shutdown))),
            (start + 1100, TestRecord::new(RM_XLOG, 0x60).main_data(parameters)),
            (start + 70_000, TestRecord { xid: 699, ..commit(9, &[]) }),
            (start + 140_000, switch()),
        ])
    }

    #[test]
    fn ends_and_samples_of_transactions() {
        let index = sample();
        let (commits, rollbacks, lowest_xid, highest_xid) = (3, 1, 699, 701);
        let ends =
            TransactionEnds { first: at(10), last: at(9), latest: at(12), commits, rollbacks, lowest_xid, highest_xid };
        assert_eq!(index.ends(), Some(&ends));
        let sample = |offset, first, latest| Sample { offset, first: at(first), latest: at(latest) };
        assert_eq!(index.samples(), [sample(40, 10, 12), sample(70_000, 9, 9)]);
        assert!(ends.may_contain(699) && ends.may_contain(701) && !ends.may_contain(698) && !ends.may_contain(702));
    }

    #[test]
    fn notable_records_in_their_order() {
        let index = sample();
        let whats: Vec<_> =
            index.notable().iter().map(|notable| (notable.lsn.0 & 0xF_FFFF, notable.time, &notable.what)).collect();
        let relations = vec![relation(9), relation(12), RelationLocator { database: 6, ..relation(5) }];
        let created = |database, copied_from| {
            NotableEvent::DatabaseCreated(DatabaseCreation { database, tablespace: 1663, copied_from })
        };
        let (timeline, previous) = (Timeline(3), Timeline(2));
        assert_eq!(
            whats,
            [
                (100, Some(at(12)), &NotableEvent::RelationsDropped { relations, count: 3 }),
                (300, None, &NotableEvent::RelationTruncated { relation: relation(9), blocks: 50 }),
                (500, None, &created(20, Some((1, 1663)))),
                (600, None, &created(21, None)),
                (700, None, &NotableEvent::DatabaseDropped { database: 20, tablespaces: vec![1663, 30] }),
                (800, Some(at(25)), &NotableEvent::RestorePoint { name: "before it".to_owned() }),
                (900, Some(at(30)), &NotableEvent::TimelineEnd { timeline, previous }),
                (1000, Some(at(40)), &NotableEvent::ShutdownCheckpoint),
                (1100, None, &NotableEvent::ParameterChange { wal_level: WalLevel::Logical }),
                (140_000, None, &NotableEvent::Switch),
            ]
        );
        assert!(index.notable().iter().all(|notable| notable.xid == 700));
        assert!(!index.is_overflowed());
    }

    #[test]
    fn rolled_back_relations_are_not_notable() {
        let record = TestRecord { info: 0xA1, ..commit(1, &[relation(9)]) };
        assert!(index_of(&[(100, record)]).notable().is_empty());
    }

    #[test]
    fn transaction_ids_that_start_over_may_be_any() {
        let with_xid = |xid| TestRecord { xid, ..commit(1, &[]) };
        let index = index_of(&[(100, with_xid(u32::MAX - 5)), (200, with_xid(3))]);
        assert!(index.ends().is_some_and(|ends| ends.may_contain(4) && ends.may_contain(u32::MAX)));
    }

    #[test]
    fn a_commit_that_drops_ten_thousand_relations_is_kept_whole() {
        let dropped: Vec<_> = (0..10_000).map(|number| relation(20_000 + number * 3)).collect();
        let index = index_of(&[(100, commit(1, &dropped))]);
        let expected = NotableEvent::RelationsDropped { relations: dropped, count: 10_000 };
        assert_eq!(index.notable()[0].what, expected);
        assert!(!index.is_overflowed());
        let stored = index.encode();
        assert!(stored.len() < 25_000, "{} bytes", stored.len());
        assert_eq!(TimeIndex::decode(&stored), Ok(index));
    }

    #[test]
    fn more_than_an_index_keeps_is_counted_and_said() {
        let dropped: Vec<_> = (0..70_000).map(relation).collect();
        let mut index = index_of(&[(100, commit(1, &dropped))]);
        let NotableEvent::RelationsDropped { relations, count } = &index.notable()[0].what else { panic!("a drop") };
        assert_eq!((relations.len(), *count, index.is_overflowed()), (RELATIONS_MAXIMUM, 70_000, true));

        // A flood of truncations leaves room for what else happens.
        (0..5000).for_each(|number| absorb(&mut index, 200 + number, &truncate(9, 1, 0x1)));
        absorb(&mut index, 9000, &restore_point(1, "still there"));
        assert_eq!(index.notable().len(), RELATION_RECORDS_MAXIMUM + 1);
        assert!(matches!(index.notable()[RELATION_RECORDS_MAXIMUM].what, NotableEvent::RestorePoint { .. }));
        assert_eq!(TimeIndex::decode(&index.encode()), Ok(index));

        let mut index = TimeIndex::default();
        (0..5000).for_each(|number| absorb(&mut index, 200 + number, &restore_point(1, "r")));
        assert_eq!((index.notable().len(), index.is_overflowed()), (OTHER_RECORDS_MAXIMUM, true));
        assert_eq!(TimeIndex::decode(&index.encode()), Ok(index));
    }

    #[test]
    fn other_ends_of_transactions_are_none() {
        let index = index_of(&[(100, TestRecord::new(RM_XACT, 0x10)), (200, TestRecord::new(RM_XACT, 0x50))]);
        assert_eq!(index, TimeIndex::default());
    }
}
