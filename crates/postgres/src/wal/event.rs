//! What the records mean that do more than change the blocks they reference: ends of transactions, files created and
//! truncated, databases created and dropped, checkpoints, restore points, ends of timelines.
//!
//! Layouts are those of PostgreSQL's `src/include/access/xact.h`, `src/include/catalog/storage_xlog.h`,
//! `src/include/commands/dbcommands_xlog.h`, `src/include/access/xlog_internal.h` and
//! `src/include/catalog/pg_control.h`.

use jiff::Timestamp;

use super::bytes::Cursor;
use super::name::Timeline;
use super::record::{Record, RecordError, parse_relation};
use super::relation::{Fork, RelationFork, RelationLocator};
use crate::{Lsn, Version};

/// The resource manager of checkpoints, segment switches, restore points and full page images.
pub const RM_XLOG: u8 = 0;
/// The resource manager of transactions.
pub const RM_XACT: u8 = 1;
/// The resource manager of relation files.
pub const RM_SMGR: u8 = 2;
/// The resource manager of databases.
pub const RM_DBASE: u8 = 4;

/// The operation of [`RM_XLOG`] after which the rest of a segment is not used.
pub(super) const XLOG_SWITCH: u8 = 0x40;

/// What a record means: whether it does more than change the blocks it references, or marks a point in the history of
/// the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// A transaction ended.
    TransactionEnd(TransactionEnd<'a>),
    /// A fork of a relation was created.
    ForkCreated(RelationFork),
    /// A relation was truncated.
    RelationTruncated(Truncation),
    /// A database was created.
    DatabaseCreated(DatabaseCreation),
    /// A database was dropped.
    DatabaseDropped {
        /// OID of the database.
        database: u32,
        /// The tablespaces that it had files in.
        tablespaces: Oids<'a>,
    },
    /// A checkpoint at the end of a clean shutdown or of recovery.
    ShutdownCheckpoint(Checkpoint),
    /// A checkpoint of a running server.
    OnlineCheckpoint(Checkpoint),
    /// Where the redo of an online checkpoint begins (17 and later).
    CheckpointRedo {
        /// What the WAL holds from here on.
        wal_level: WalLevel,
    },
    /// The settings that replay depends on have changed.
    ParameterChange {
        /// What the WAL holds from here on.
        wal_level: WalLevel,
    },
    /// A named point to recover to.
    RestorePoint {
        /// Its name; bytes that are not UTF-8 are replaced.
        name: String,
        /// When it was created.
        time: Timestamp,
    },
    /// Recovery ended and a timeline began.
    EndOfRecovery {
        /// When.
        time: Timestamp,
        /// The timeline that begins.
        timeline: Timeline,
        /// The timeline that ends.
        previous: Timeline,
        /// What the WAL holds from here on (17 and later).
        wal_level: Option<WalLevel>,
    },
    /// A backup ended that was taken while the server ran.
    BackupEnd {
        /// Where the backup began.
        start: Lsn,
    },
    /// The rest of the segment is not used.
    Switch,
    /// None of these: the record changes the blocks that it references and no more, unless it says otherwise
    /// ([`Record::has_special_update`]).
    Other,
}

/// How much the WAL says (`wal_level`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum WalLevel {
    /// Enough for crash recovery: changes may be missing that a backup needs.
    Minimal,
    /// Enough for archiving and replication.
    Replica,
    /// Enough for logical decoding.
    Logical,
}

impl WalLevel {
    /// The level with PostgreSQL's `number`.
    pub fn from_number(number: u32) -> Option<Self> {
        [Self::Minimal, Self::Replica, Self::Logical].get(usize::try_from(number).ok()?).copied()
    }

    /// PostgreSQL's number of the level.
    pub fn number(self) -> u8 {
        match self {
            Self::Minimal => 0,
            Self::Replica => 1,
            Self::Logical => 2,
        }
    }
}

/// The end of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransactionEnd<'a> {
    /// The transaction; for a prepared one its own id, not that of `COMMIT PREPARED`. 0 if it never got one.
    pub xid: u32,
    /// When it ended.
    pub time: Timestamp,
    /// Whether it committed; it was rolled back otherwise.
    pub committed: bool,
    /// The relations whose files are removed with it.
    pub dropped: Locators<'a>,
}

/// The truncation of a relation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Truncation {
    /// The relation.
    pub relation: RelationLocator,
    /// How many blocks the main fork keeps.
    pub blocks: u32,
    /// Whether the main fork is truncated.
    pub main: bool,
    /// Whether the visibility map is truncated.
    pub visibility_map: bool,
}

/// The creation of a database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DatabaseCreation {
    /// OID of the database.
    pub database: u32,
    /// The tablespace that gets the files.
    pub tablespace: u32,
    /// The database and tablespace that are copied as files; `None` where each page is in the WAL (15 and later).
    pub copied_from: Option<(u32, u32)>,
}

/// What a checkpoint says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// Where redo begins.
    pub redo: Lsn,
    /// The timeline.
    pub timeline: Timeline,
    /// The timeline before it, where the checkpoint begins a new one; else the same.
    pub previous: Timeline,
    /// What the WAL holds (17 and later).
    pub wal_level: Option<WalLevel>,
    /// When.
    pub time: Timestamp,
}

/// Relations in a record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Locators<'a>(&'a [u8]);

impl Locators<'_> {
    const LENGTH: usize = 12;

    /// The relations.
    pub fn iter(&self) -> impl Iterator<Item = RelationLocator> {
        self.0.chunks_exact(Self::LENGTH).filter_map(|chunk| parse_relation(&mut Cursor(chunk)))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len() / Self::LENGTH
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// OIDs in a record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Oids<'a>(&'a [u8]);

impl Oids<'_> {
    const LENGTH: usize = 4;

    /// The OIDs.
    pub fn iter(&self) -> impl Iterator<Item = u32> {
        self.0.chunks_exact(Self::LENGTH).filter_map(|chunk| Cursor(chunk).u32())
    }
}

impl<'a> Event<'a> {
    /// What `record` means.
    ///
    /// # Errors
    ///
    /// The data of the record is too short or out of range.
    pub fn decode(record: &Record<'a>) -> Result<Self, RecordError> {
        let manager = record.header.resource_manager;
        let data = Cursor(record.main_data);
        let event = match manager {
            RM_XLOG => xlog_event(record, data),
            RM_XACT => transaction_event(record, data),
            RM_SMGR => storage_event(record.operation(), data),
            RM_DBASE => database_event(record, data),
            _ => Some(Self::Other),
        };
        event.ok_or(RecordError::MainData(manager))
    }
}

fn xlog_event<'a>(record: &Record<'a>, mut data: Cursor<'a>) -> Option<Event<'a>> {
    let version = record.version;
    Some(match record.operation() {
        0x00 => Event::ShutdownCheckpoint(checkpoint(version, data)?),
        0x10 => Event::OnlineCheckpoint(checkpoint(version, data)?),
        XLOG_SWITCH => Event::Switch,
        0x50 => Event::BackupEnd { start: Lsn(data.u64()?) },
        0x60 => {
            data.take(20)?;
            Event::ParameterChange { wal_level: wal_level(&mut data)? }
        }
        0x70 => {
            let time = timestamp(data.i64()?);
            let name = data.take(64)?.split(|byte| *byte == 0).next()?;
            Event::RestorePoint { name: String::from_utf8_lossy(name).into_owned(), time }
        }
        0x90 => Event::EndOfRecovery {
            time: timestamp(data.i64()?),
            timeline: Timeline(data.u32()?),
            previous: Timeline(data.u32()?),
            wal_level: if version >= Version::V17 { Some(wal_level(&mut data)?) } else { None },
        },
        0xE0 if version >= Version::V17 => Event::CheckpointRedo { wal_level: wal_level(&mut data)? },
        _ => Event::Other,
    })
}

fn checkpoint(version: Version, mut data: Cursor<'_>) -> Option<Checkpoint> {
    let redo = Lsn(data.u64()?);
    let timeline = Timeline(data.u32()?);
    let previous = Timeline(data.u32()?);
    // fullPageWrites and its padding.
    data.take(4)?;
    // Padding before 17.
    let level = data.u32()?;
    let wal_level = if version >= Version::V17 { Some(WalLevel::from_number(level)?) } else { None };
    data.take(40)?;
    Some(Checkpoint { redo, timeline, previous, wal_level, time: unix_seconds(data.i64()?) })
}

fn wal_level(data: &mut Cursor<'_>) -> Option<WalLevel> {
    WalLevel::from_number(data.u32()?)
}

fn transaction_event<'a>(record: &Record<'a>, mut data: Cursor<'a>) -> Option<Event<'a>> {
    const HAS_INFO: u8 = 0x80;
    let (committed, prepared) = match record.operation() & 0x70 {
        0x00 => (true, false),
        0x20 => (false, false),
        0x30 => (true, true),
        0x40 => (false, true),
        _ => return Some(Event::Other),
    };
    let time = timestamp(data.i64()?);
    let flags = if record.operation() & HAS_INFO == 0 { 0 } else { data.u32()? };
    let (dropped, prepared_xid) = transaction_parts(record.version, flags, data)?;
    let xid = if prepared { prepared_xid? } else { record.header.xid };
    Some(Event::TransactionEnd(TransactionEnd { xid, time, committed, dropped }))
}

/// The dropped relations, and the id of a prepared transaction.
fn transaction_parts(version: Version, flags: u32, mut data: Cursor<'_>) -> Option<(Locators<'_>, Option<u32>)> {
    const HAS_DATABASE: u32 = 1 << 0;
    const HAS_SUBTRANSACTIONS: u32 = 1 << 1;
    const HAS_RELATIONS: u32 = 1 << 2;
    const HAS_INVALIDATIONS: u32 = 1 << 3;
    const HAS_PREPARED: u32 = 1 << 4;
    const HAS_DROPPED_STATISTICS: u32 = 1 << 8;
    const SUBTRANSACTION_LENGTH: usize = 4;
    const INVALIDATION_LENGTH: usize = 16;
    // 18 widened the id of the object.
    let statistics_length = if version >= Version::V18 { 16 } else { 12 };

    if flags & HAS_DATABASE != 0 {
        data.take(8)?;
    }
    if flags & HAS_SUBTRANSACTIONS != 0 {
        counted(&mut data, SUBTRANSACTION_LENGTH)?;
    }
    let dropped = if flags & HAS_RELATIONS == 0 { &[] } else { counted(&mut data, Locators::LENGTH)? };
    if flags & HAS_DROPPED_STATISTICS != 0 && version >= Version::V15 {
        counted(&mut data, statistics_length)?;
    }
    if flags & HAS_INVALIDATIONS != 0 {
        counted(&mut data, INVALIDATION_LENGTH)?;
    }
    let prepared_xid = if flags & HAS_PREPARED == 0 { None } else { Some(data.u32()?) };
    Some((Locators(dropped), prepared_xid))
}

/// An array after its count; the bytes of the array.
fn counted<'a>(data: &mut Cursor<'a>, item_length: usize) -> Option<&'a [u8]> {
    let count = usize::try_from(data.u32()?).ok()?;
    data.take(count.checked_mul(item_length)?)
}

fn storage_event(operation: u8, mut data: Cursor<'_>) -> Option<Event<'_>> {
    const TRUNCATE_HEAP: u32 = 0x1;
    const TRUNCATE_VISIBILITY_MAP: u32 = 0x2;
    Some(match operation {
        0x10 => {
            let relation = parse_relation(&mut data)?;
            Event::ForkCreated(RelationFork { relation, fork: Fork::from_number(data.u32()?)? })
        }
        0x20 => {
            let blocks = data.u32()?;
            let relation = parse_relation(&mut data)?;
            let flags = data.u32()?;
            let (main, visibility_map) = (flags & TRUNCATE_HEAP != 0, flags & TRUNCATE_VISIBILITY_MAP != 0);
            Event::RelationTruncated(Truncation { relation, blocks, main, visibility_map })
        }
        _ => Event::Other,
    })
}

fn database_event<'a>(record: &Record<'a>, mut data: Cursor<'a>) -> Option<Event<'a>> {
    // 15 put CREATE_WAL_LOG where DROP was.
    let drop = if record.version >= Version::V15 { 0x20 } else { 0x10 };
    Some(match record.operation() {
        operation if operation == drop => {
            Event::DatabaseDropped { database: data.u32()?, tablespaces: Oids(counted(&mut data, Oids::LENGTH)?) }
        }
        0x00 => {
            let (database, tablespace) = (data.u32()?, data.u32()?);
            let copied_from = Some((data.u32()?, data.u32()?));
            Event::DatabaseCreated(DatabaseCreation { database, tablespace, copied_from })
        }
        0x10 => {
            let (database, tablespace) = (data.u32()?, data.u32()?);
            Event::DatabaseCreated(DatabaseCreation { database, tablespace, copied_from: None })
        }
        _ => Event::Other,
    })
}

/// A time in microseconds since 2000-01-01.
fn timestamp(microseconds: i64) -> Timestamp {
    const POSTGRESQL_EPOCH: i64 = 946_684_800_000_000;
    unix_microseconds(microseconds.saturating_add(POSTGRESQL_EPOCH))
}

/// A time in seconds since 1970-01-01.
fn unix_seconds(seconds: i64) -> Timestamp {
    unix_microseconds(seconds.saturating_mul(1_000_000))
}

/// A time in microseconds since 1970-01-01. Beyond the years -9999 to 9999 it becomes the nearest one within.
fn unix_microseconds(microseconds: i64) -> Timestamp {
    // The last microseconds of the last second are out of range again, so whole seconds are the bounds.
    let [earliest, latest] = [Timestamp::MIN, Timestamp::MAX].map(|bound| bound.as_second() * 1_000_000);
    Timestamp::from_microsecond(microseconds.clamp(earliest, latest)).unwrap_or(Timestamp::UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::testing::{TestRecord, commit, database, locator_bytes, main_fork, relation, truncate, words};
    use super::*;

    /// What a record means, as text, for an event borrows from its record.
    fn meaning(version: Version, record: &TestRecord) -> String {
        let bytes = record.bytes(Lsn(0));
        let record = Record::decode(Lsn(64), version, &bytes).unwrap();
        format!("{:?}", Event::decode(&record))
    }

    fn check(version: Version, record: &TestRecord, expected: &Event<'_>) {
        assert_eq!(meaning(version, record), format!("{:?}", Ok::<_, RecordError>(expected)));
    }

    fn at(seconds: i64) -> Timestamp {
        "2000-01-01T00:00:00Z".parse::<Timestamp>().unwrap() + jiff::SignedDuration::from_secs(seconds)
    }

    fn created(copied_from: Option<(u32, u32)>) -> Event<'static> {
        Event::DatabaseCreated(DatabaseCreation { database: 20, tablespace: 1663, copied_from })
    }

    #[test]
    fn databases_of_13_and_14_have_other_codes_than_those_of_15() {
        let tablespaces = words(&[1663, 30]);
        let dropped = Event::DatabaseDropped { database: 20, tablespaces: Oids(&tablespaces) };
        let drop_data = [20, 2, 1663, 30];
        for version in [Version::V13, Version::V14] {
            check(version, &database(0x00, &[20, 1663, 1, 1663]), &created(Some((1, 1663))));
            check(version, &database(0x10, &drop_data), &dropped);
            check(version, &database(0x20, &drop_data), &Event::Other);
        }
        for version in [Version::V15, Version::V16, Version::V17, Version::V18] {
            check(version, &database(0x00, &[20, 1663, 1, 1663]), &created(Some((1, 1663))));
            check(version, &database(0x10, &[20, 1663]), &created(None));
            check(version, &database(0x20, &drop_data), &dropped);
        }
    }

    #[test]
    fn files_are_created_and_truncated() {
        let create = TestRecord::new(RM_SMGR, 0x11).main_data(locator_bytes(relation(9))).main_data(words(&[2]));
        let fork = RelationFork { relation: relation(9), fork: Fork::VisibilityMap };
        let truncation = Truncation { relation: relation(9), blocks: 7, main: true, visibility_map: false };
        for version in Version::ALL {
            check(version, &create, &Event::ForkCreated(fork));
            check(version, &truncate(9, 7, 0x5), &Event::RelationTruncated(truncation));
        }
    }

    /// The parts of a commit up to the id of the prepared transaction: an item's length differs in 18.
    fn prepared(info: u8, version: Version) -> TestRecord {
        let item_length = if version >= Version::V18 { 16 } else { 12 };
        let has_statistics = version >= Version::V15;
        let flags = 0b1_1111 | if has_statistics { 0x100 } else { 0 };
        let mut data = [&5_000_000_i64.to_le_bytes()[..], &words(&[flags, 5, 1663, 2, 701, 702, 1])].concat();
        data.extend(locator_bytes(relation(9)));
        if has_statistics {
            data.extend(words(&[3]));
            data.resize(data.len() + 3 * item_length, 0xEE);
        }
        data.extend(words(&[2]));
        data.resize(data.len() + 2 * 16, 0xDD);
        data.extend(words(&[777]));
        data.extend(b"gid\0");
        TestRecord::new(RM_XACT, info | 0x81).main_data(data)
    }

    #[test]
    fn a_prepared_transaction_ends_under_its_own_id() {
        let dropped = locator_bytes(relation(9));
        for version in Version::ALL {
            for (info, committed) in [(0x30, true), (0x40, false)] {
                let end = TransactionEnd { xid: 777, time: at(5), committed, dropped: Locators(&dropped) };
                check(version, &prepared(info, version), &Event::TransactionEnd(end));
            }
            // Not prepared, the record's own id counts.
            let end = TransactionEnd { xid: 700, time: at(5), committed: true, dropped: Locators(&dropped) };
            check(version, &prepared(0x00, version), &Event::TransactionEnd(end));
            check(version, &TestRecord::new(RM_XACT, 0x10), &Event::Other);
        }
    }

    #[test]
    fn a_plain_commit_drops_nothing() {
        let end = TransactionEnd { xid: 700, time: at(9), committed: true, dropped: Locators::default() };
        check(Version::V16, &commit(9, &[]), &Event::TransactionEnd(end));
        let end = |time| TransactionEnd { xid: 700, time, committed: true, dropped: Locators::default() };
        for (raw, bound) in [(i64::MIN, Timestamp::MIN), (i64::MAX, Timestamp::MAX)] {
            let record = TestRecord::new(RM_XACT, 0).main_data(raw.to_le_bytes());
            let time = Timestamp::from_second(bound.as_second()).unwrap();
            check(Version::V16, &record, &Event::TransactionEnd(end(time)));
        }
    }

    #[test]
    fn checkpoints_say_the_wal_level_since_17() {
        let mut data = [&0x500_0028_u64.to_le_bytes()[..], &words(&[2, 1, 1, 2]), &[0; 40]].concat();
        data.extend(946_684_805_i64.to_le_bytes());
        data.resize(88, 0);
        for version in Version::ALL {
            let wal_level = (version >= Version::V17).then_some(WalLevel::Logical);
            let (redo, time) = (Lsn(0x500_0028), at(5));
            let checkpoint = Checkpoint { redo, timeline: Timeline(2), previous: Timeline(1), wal_level, time };
            let record = |info| TestRecord::new(RM_XLOG, info).main_data(&data);
            check(version, &record(0x00), &Event::ShutdownCheckpoint(checkpoint));
            check(version, &record(0x10), &Event::OnlineCheckpoint(checkpoint));

            let end = [&5_000_000_i64.to_le_bytes()[..], &words(&[2, 1])].concat();
            let end = if wal_level.is_some() { [end, words(&[2])].concat() } else { end };
            let expected = Event::EndOfRecovery { time, timeline: Timeline(2), previous: Timeline(1), wal_level };
            check(version, &TestRecord::new(RM_XLOG, 0x90).main_data(end), &expected);

            let redo = TestRecord::new(RM_XLOG, 0xE0).main_data(words(&[0]));
            let expected = Event::CheckpointRedo { wal_level: WalLevel::Minimal };
            check(version, &redo, if version >= Version::V17 { &expected } else { &Event::Other });
        }
    }

    #[test]
    fn settings_restore_points_and_ends_of_backups_are_read() {
        let change = TestRecord::new(RM_XLOG, 0x60).main_data(words(&[100, 8, 10, 0, 64, 1, 0]));
        let mut point = 5_000_000_i64.to_le_bytes().to_vec();
        point.extend(b"before \xFF the\0rest");
        point.resize(72, 0);
        let point = TestRecord::new(RM_XLOG, 0x70).main_data(point);
        for version in Version::ALL {
            check(version, &change, &Event::ParameterChange { wal_level: WalLevel::Replica });
            let name = "before \u{FFFD} the".to_owned();
            check(version, &point, &Event::RestorePoint { name, time: at(5) });
            let end = TestRecord::new(RM_XLOG, 0x50).main_data(0x500_0028_u64.to_le_bytes());
            check(version, &end, &Event::BackupEnd { start: Lsn(0x500_0028) });
        }
    }

    #[test]
    fn blocks_without_a_special_meaning_are_no_event() {
        for manager in [3, 9, 10, 21, 130] {
            check(Version::V18, &TestRecord::new(manager, 0x10).block(0, main_fork(9), 1), &Event::Other);
        }
    }

    #[test]
    fn data_that_is_too_short_is_refused() {
        let events = [
            truncate(9, 7, 0x7),
            database(0x00, &[20, 1663, 1, 1663]),
            database(0x20, &[20, 2, 1663, 30]),
            commit(9, &[relation(9), relation(10)]),
        ];
        for record in events {
            let whole = record.bytes(Lsn(0));
            let data = &whole[super::super::record::HEADER_LENGTH + 2..];
            for length in 0..data.len() {
                let cut = TestRecord::new(record.resource_manager, record.info).main_data(&data[..length]);
                let expected = format!("Err(MainData({}))", record.resource_manager);
                assert_eq!(meaning(Version::V17, &cut), expected, "{length} bytes");
            }
        }
    }

    proptest! {
        #[test]
        fn any_data_is_read_or_refused(manager in 0..5_u8, info: u8, data: Vec<u8>, version in 0..6_usize) {
            let record = TestRecord::new(manager, info).main_data(data);
            prop_assert!(!meaning(Version::ALL[version], &record).is_empty());
        }

        #[test]
        fn any_count_is_checked(flags: u32, count: u32, rest: Vec<u8>, version in 0..6_usize) {
            let data = [&[0; 8], &words(&[flags & 0x1FF, count])[..], &rest].concat();
            let record = TestRecord::new(RM_XACT, 0x80).main_data(data);
            prop_assert!(!meaning(Version::ALL[version], &record).is_empty());
        }
    }
}
