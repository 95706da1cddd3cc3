//! Block summaries: which blocks of which relations a stretch of WAL changes.
//!
//! The rules are those of PostgreSQL 17's WAL summarizer (`src/backend/postmaster/walsummarizer.c` and
//! `src/common/blkreftable.c`), applied to every version. One thing differs: a block at or past the limit of its fork
//! is not kept, because everything there is to be read whatever the set says. So it does not matter in which order
//! records are absorbed or summaries merged, nor how often.

use std::collections::BTreeMap;

use thiserror::Error;

use super::blocks::BlockSet;
use super::event::{Event, Truncation, WalLevel};
use super::name::SegmentSize;
use super::record::Record;
use super::relation::{Fork, RelationFork, RelationLocator};
use crate::Lsn;

mod codec;

/// What happened to one fork of one relation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ForkChanges {
    limit: Option<u32>,
    blocks: BlockSet,
}

impl ForkChanges {
    /// The smallest length in blocks that the fork had, if it was created, dropped or truncated: whatever lies at or
    /// past it is new, even where an older file has such a block.
    pub fn limit(&self) -> Option<u32> {
        self.limit
    }

    /// The blocks below the limit that were changed.
    pub fn blocks(&self) -> &BlockSet {
        &self.blocks
    }

    /// Whether `block` may differ from what it was before.
    pub fn contains(&self, block: u32) -> bool {
        self.limit.is_some_and(|limit| limit <= block) || self.blocks.contains(block)
    }

    fn mark(&mut self, block: u32) {
        if self.limit.is_none_or(|limit| block < limit) {
            self.blocks.insert(block);
        }
    }

    fn lower_limit(&mut self, limit: u32) {
        if self.limit.is_none_or(|current| limit < current) {
            self.limit = Some(limit);
            self.blocks.truncate(limit);
        }
    }

    fn merge(&mut self, other: &Self) {
        self.blocks.union(&other.blocks);
        if let Some(limit) = self.limit.into_iter().chain(other.limit).min() {
            self.limit = Some(limit);
            self.blocks.truncate(limit);
        }
    }
}

/// Which blocks of which relations a stretch of WAL changes.
///
/// A main or init fork that does not occur has not changed, unless its whole database has
/// ([`BlockSummary::is_database_replaced`]). One exception is harmless: the first page of an SP-GiST index has a cache of
/// pages with free space that is never logged. The other forks have to be read in any case ([`Fork::is_fully_logged`]):
/// the free space map never occurs, and the visibility map changes in ways that the WAL does not name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BlockSummary {
    forks: BTreeMap<RelationFork, ForkChanges>,
}

/// The block summary of a segment, or why it has none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Summary {
    /// Every record was understood.
    Usable(BlockSummary),
    /// A record changes files in a way that the summary cannot say: whatever relies on it must read every page.
    Unusable(Unusable),
}

/// Why there is no block summary.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("the changes made by the record at {lsn} are not known: {reason}")]
pub struct Unusable {
    /// Where the record begins.
    pub lsn: Lsn,
    /// What is not known about it.
    pub reason: String,
}

impl BlockSummary {
    /// The changes of every fork, ordered by tablespace, database, relation and fork.
    pub fn iter(&self) -> impl Iterator<Item = (RelationFork, &ForkChanges)> {
        self.forks.iter().map(|(fork, changes)| (*fork, changes))
    }

    /// The changes of one fork.
    pub fn get(&self, fork: RelationFork) -> Option<&ForkChanges> {
        self.forks.get(&fork)
    }

    /// Whether nothing changed.
    pub fn is_empty(&self) -> bool {
        self.forks.is_empty()
    }

    /// Whether the database was created or dropped: everything it has in this tablespace is new.
    pub fn is_database_replaced(&self, tablespace: u32, database: u32) -> bool {
        let relation = RelationLocator::whole_database(tablespace, database);
        self.forks.contains_key(&RelationFork { relation, fork: Fork::Main })
    }

    /// Adds a changed block.
    pub fn mark(&mut self, fork: RelationFork, block: u32) {
        if fork.fork != Fork::FreeSpaceMap {
            self.forks.entry(fork).or_default().mark(block);
        }
    }

    /// Notes that the fork once had a length of `limit` blocks and no more.
    pub fn lower_limit(&mut self, fork: RelationFork, limit: u32) {
        if fork.fork != Fork::FreeSpaceMap {
            self.forks.entry(fork).or_default().lower_limit(limit);
        }
    }

    /// Adds what `record` changes; `event` is what it means.
    ///
    /// # Errors
    ///
    /// The record changes more than a summary can say. What was absorbed before is then not to be used either.
    pub fn absorb(&mut self, record: &Record<'_>, event: &Event<'_>) -> Result<(), Unusable> {
        if matches!(event, Event::Other) && record.has_special_update() {
            return Err(unknown_change(record));
        }
        self.absorb_event(record.lsn, event)?;
        for block in record.blocks() {
            self.mark(block.target, block.block);
        }
        Ok(())
    }

    fn absorb_event(&mut self, lsn: Lsn, event: &Event<'_>) -> Result<(), Unusable> {
        match event {
            Event::TransactionEnd(end) => {
                for relation in end.dropped.iter() {
                    for fork in Fork::ALL {
                        self.lower_limit(RelationFork { relation, fork }, 0);
                    }
                }
            }
            Event::ForkCreated(fork) => self.lower_limit(*fork, 0),
            Event::RelationTruncated(truncation) => self.absorb_truncation(*truncation),
            Event::DatabaseCreated(creation) => self.replace_database(creation.tablespace, creation.database),
            Event::DatabaseDropped { database, tablespaces } => {
                tablespaces.iter().for_each(|tablespace| self.replace_database(tablespace, *database));
            }
            Event::CheckpointRedo { wal_level }
            | Event::ParameterChange { wal_level }
            | Event::EndOfRecovery { wal_level: Some(wal_level), .. } => check_wal_level(lsn, *wal_level)?,
            Event::ShutdownCheckpoint(checkpoint) | Event::OnlineCheckpoint(checkpoint) => {
                check_wal_level(lsn, checkpoint.wal_level.unwrap_or(WalLevel::Replica))?;
            }
            Event::EndOfRecovery { wal_level: None, .. }
            | Event::RestorePoint { .. }
            | Event::BackupEnd { .. }
            | Event::Switch
            | Event::Other => {}
        }
        Ok(())
    }

    fn absorb_truncation(&mut self, truncation: Truncation) {
        let Truncation { relation, blocks, main, visibility_map } = truncation;
        if main {
            self.lower_limit(RelationFork { relation, fork: Fork::Main }, blocks);
        }
        if visibility_map {
            let fork = RelationFork { relation, fork: Fork::VisibilityMap };
            self.lower_limit(fork, visibility_map_length(blocks));
        }
    }

    /// As for PostgreSQL, the relation with number 0 stands for everything in the database and tablespace.
    fn replace_database(&mut self, tablespace: u32, database: u32) {
        let relation = RelationLocator::whole_database(tablespace, database);
        self.lower_limit(RelationFork { relation, fork: Fork::Main }, 0);
    }

    /// Adds the changes of `other`.
    pub fn merge(&mut self, other: &Self) {
        for (fork, theirs) in &other.forks {
            self.forks.entry(*fork).or_default().merge(theirs);
        }
    }

    /// More blocks than the WAL of one segment of `size` can name: a reference takes at least eight bytes.
    pub fn maximum_blocks(size: SegmentSize) -> u64 {
        u64::from(size.bytes()) / 8
    }
}

impl Summary {
    /// The summary of no WAL.
    pub fn empty() -> Self {
        Self::Usable(BlockSummary::default())
    }

    /// The block summary, if there is one.
    pub fn usable(&self) -> Option<&BlockSummary> {
        match self {
            Self::Usable(summary) => Some(summary),
            Self::Unusable(_) => None,
        }
    }

    /// Adds what a record changes, or becomes unusable for good.
    pub fn absorb(&mut self, record: &Record<'_>, event: &Event<'_>) {
        if let Self::Usable(summary) = self
            && let Err(reason) = summary.absorb(record, event)
        {
            *self = Self::Unusable(reason);
        }
    }

    /// Becomes unusable for good, if it was not before.
    pub fn spoil(&mut self, reason: Unusable) {
        if matches!(self, Self::Usable(_)) {
            *self = Self::Unusable(reason);
        }
    }

    /// Adds the changes of `other`.
    pub fn merge(&mut self, other: &Self) {
        match (&mut *self, other) {
            (Self::Usable(summary), Self::Usable(other)) => summary.merge(other),
            (Self::Usable(_), Self::Unusable(reason)) => *self = Self::Unusable(reason.clone()),
            (Self::Unusable(_), _) => {}
        }
    }
}

/// The length of a visibility map whose relation has `heap_blocks` blocks (`visibilitymap_prepare_truncate` in
/// `src/backend/access/heap/visibilitymap.c`).
pub fn visibility_map_length(heap_blocks: u32) -> u32 {
    /// Two bits for each block, in what the page header leaves of a page.
    const HEAP_BLOCKS_A_PAGE: u32 = (8192 - 24) * 4;
    heap_blocks.div_ceil(HEAP_BLOCKS_A_PAGE)
}

fn check_wal_level(lsn: Lsn, level: WalLevel) -> Result<(), Unusable> {
    match level {
        WalLevel::Minimal => Err(Unusable { lsn, reason: "wal_level is minimal from here on".to_owned() }),
        WalLevel::Replica | WalLevel::Logical => Ok(()),
    }
}

fn unknown_change(record: &Record<'_>) -> Unusable {
    let (manager, info) = (record.header.resource_manager, record.header.info);
    let reason = format!("resource manager {manager} changes files in an unknown way (info {info:#04x})");
    Unusable { lsn: record.lsn, reason }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::event::{RM_SMGR, RM_XACT, RM_XLOG};
    use super::super::testing::{TestRecord, commit, database, locator_bytes, relation, truncate, words};
    use super::*;
    use crate::Version;

    fn absorb(summary: &mut Summary, version: Version, record: &TestRecord) {
        let bytes = record.bytes(Lsn(0));
        let record = Record::decode(Lsn(64), version, &bytes).unwrap();
        summary.absorb(&record, &Event::decode(&record).unwrap());
    }

    fn summary_of(version: Version, records: &[TestRecord]) -> Summary {
        let mut summary = Summary::empty();
        for record in records {
            absorb(&mut summary, version, record);
        }
        summary
    }

    /// Every fork with its limit and its blocks, as text.
    fn shown(summary: &Summary) -> Vec<String> {
        let summary = summary.usable().unwrap();
        let show = |(fork, changes): (RelationFork, &ForkChanges)| {
            let blocks: Vec<_> = changes.blocks().iter().collect();
            format!("{fork}: {:?} {blocks:?}", changes.limit())
        };
        summary.iter().map(show).collect()
    }

    fn block(fork: Fork, block: u32) -> TestRecord {
        TestRecord::new(10, 0x10).block(0, RelationFork { relation: relation(9), fork }, block)
    }

    fn create(fork: Fork) -> TestRecord {
        let number = words(&[u32::from(fork.number())]);
        TestRecord::new(RM_SMGR, 0x11).main_data(locator_bytes(relation(9))).main_data(number)
    }

    #[test]
    fn blocks_of_every_fork_but_the_free_space_map_are_marked() {
        let records = Fork::ALL.map(|fork| block(fork, 4));
        let expected = ["1663/5/9 main: None [4]", "1663/5/9 vm: None [4]", "1663/5/9 init: None [4]"];
        for version in Version::ALL {
            assert_eq!(shown(&summary_of(version, &records)), expected);
        }
    }

    #[test]
    fn a_created_fork_is_new_from_its_start() {
        let records = [block(Fork::Main, 4), create(Fork::Main), block(Fork::Main, 5), create(Fork::FreeSpaceMap)];
        assert_eq!(shown(&summary_of(Version::V13, &records)), ["1663/5/9 main: Some(0) []"]);
        assert_eq!(shown(&summary_of(Version::V18, &[create(Fork::Init)])), ["1663/5/9 init: Some(0) []"]);
    }

    #[test]
    fn a_truncation_limits_what_its_flags_say() {
        let summary = |flags| shown(&summary_of(Version::V17, &[truncate(9, 32_673, flags)]));
        assert_eq!(summary(0x7), ["1663/5/9 main: Some(32673) []", "1663/5/9 vm: Some(2) []"]);
        assert_eq!(summary(0x1), ["1663/5/9 main: Some(32673) []"]);
        assert_eq!(summary(0x2), ["1663/5/9 vm: Some(2) []"]);
        assert!(summary(0x4).is_empty());
    }

    #[test]
    fn the_visibility_map_has_a_page_for_each_32672_blocks() {
        for (blocks, length) in [(0, 0), (1, 1), (295, 1), (32_672, 1), (32_673, 2), (65_344, 2), (u32::MAX, 131_458)] {
            assert_eq!(visibility_map_length(blocks), length, "{blocks}");
        }
    }

    #[test]
    fn the_lowest_limit_counts() {
        let records = [
            block(Fork::Main, 4),
            block(Fork::Main, 50),
            truncate(9, 40, 0x1),
            truncate(9, 60, 0x1),
            block(Fork::Main, 45),
            block(Fork::Main, 39),
        ];
        assert_eq!(shown(&summary_of(Version::V16, &records)), ["1663/5/9 main: Some(40) [4, 39]"]);
    }

    #[test]
    fn dropped_relations_lose_every_fork() {
        let dropped = [commit(1, &[relation(9)]), TestRecord { info: 0xA1, ..commit(1, &[relation(10)]) }];
        let expected = [9, 10].map(|number| {
            [Fork::Main, Fork::VisibilityMap, Fork::Init]
                .map(|fork| format!("1663/5/{number} {}: Some(0) []", fork.name()))
        });
        assert_eq!(shown(&summary_of(Version::V14, &dropped)), expected.concat());
    }

    #[test]
    fn databases_are_replaced_as_a_whole() {
        let copied = database(0x00, &[20, 1663, 1, 1663]);
        let expected = ["1663/20/0 main: Some(0) []"];
        for version in Version::ALL {
            let summary = summary_of(version, std::slice::from_ref(&copied));
            assert_eq!(shown(&summary), expected);
            let summary = summary.usable().unwrap();
            assert!(summary.is_database_replaced(1663, 20));
            assert!(!summary.is_database_replaced(1663, 21) && !summary.is_database_replaced(1664, 20));
        }
        let dropped = [20, 2, 1663, 30];
        let expected = ["30/20/0 main: Some(0) []", "1663/20/0 main: Some(0) []"];
        assert_eq!(shown(&summary_of(Version::V14, &[database(0x10, &dropped)])), expected);
        assert_eq!(shown(&summary_of(Version::V15, &[database(0x20, &dropped)])), expected);
        assert_eq!(shown(&summary_of(Version::V15, &[database(0x10, &[20, 1663])])), ["1663/20/0 main: Some(0) []"]);
    }

    fn reason(version: Version, record: &TestRecord) -> String {
        match summary_of(version, &[block(Fork::Main, 1), record.clone(), block(Fork::Main, 2)]) {
            Summary::Usable(_) => "usable".to_owned(),
            Summary::Unusable(reason) => reason.reason,
        }
    }

    #[test]
    fn changes_that_are_not_known_make_it_unusable() {
        let unknown = |manager, info| {
            assert_eq!(
                reason(Version::V17, &TestRecord::new(manager, info)),
                format!("resource manager {manager} changes files in an unknown way (info {info:#04x})")
            );
        };
        unknown(130, 0x01);
        unknown(RM_SMGR, 0x31);
        unknown(5, 0x11);
        unknown(RM_XACT, 0x11);
        assert_eq!(reason(Version::V17, &TestRecord::new(130, 0x00)), "usable");
        // What 14 writes for a dropped database means another thing in 15, and nothing is lost either way.
        assert_eq!(
            reason(Version::V14, &database(0x20, &[20, 1, 1663])),
            reason(Version::V14, &TestRecord::new(4, 0x21))
        );
    }

    #[test]
    fn a_minimal_wal_level_makes_it_unusable() {
        const REASON: &str = "wal_level is minimal from here on";
        let parameters = |level| TestRecord::new(RM_XLOG, 0x60).main_data(words(&[100, 8, 10, 0, 64, level, 0]));
        let redo = |level| TestRecord::new(RM_XLOG, 0xE0).main_data(words(&[level]));
        let shutdown = |level| {
            let data = [0, 0, 1, 1, 1, level].into_iter().chain([0; 16]).collect::<Vec<u32>>();
            TestRecord::new(RM_XLOG, 0x00).main_data(words(&data))
        };
        let end = |level| TestRecord::new(RM_XLOG, 0x90).main_data(words(&[0, 0, 2, 1, level]));
        for version in Version::ALL {
            assert_eq!(reason(version, &parameters(0)), REASON);
            assert_eq!(reason(version, &parameters(1)), "usable");
            let since_17 = if version >= Version::V17 { REASON } else { "usable" };
            for record in [redo(0), shutdown(0), end(0)] {
                assert_eq!(reason(version, &record), since_17, "{record:?}");
            }
            for record in [redo(1), shutdown(2), end(1)] {
                assert_eq!(reason(version, &record), "usable", "{record:?}");
            }
        }
    }

    #[test]
    fn unusable_stays_unusable() {
        let mut summary = summary_of(Version::V17, &[TestRecord::new(130, 0x01)]);
        let first = summary.clone();
        summary.merge(&Summary::empty());
        summary.spoil(Unusable { lsn: Lsn(1), reason: "later".to_owned() });
        absorb(&mut summary, Version::V17, &block(Fork::Main, 1));
        assert_eq!(summary, first);
        let mut usable = summary_of(Version::V17, &[block(Fork::Main, 1)]);
        usable.merge(&first);
        assert_eq!(usable, first);
    }

    /// A change, so simple that its meaning is plain: a block, or a limit.
    fn change() -> impl Strategy<Value = (u32, u8, u32, bool)> {
        (1..4_u32, 0..4_u8, prop_oneof![0..20_u32, 65_530..65_545_u32, any::<u32>()], any::<bool>())
    }

    fn apply(summary: &mut BlockSummary, (number, fork, block, is_limit): (u32, u8, u32, bool)) {
        let fork = RelationFork { relation: relation(number), fork: Fork::from_number(u32::from(fork)).unwrap() };
        if is_limit { summary.lower_limit(fork, block) } else { summary.mark(fork, block) }
    }

    fn applied(changes: &[(u32, u8, u32, bool)]) -> BlockSummary {
        let mut summary = BlockSummary::default();
        for change in changes {
            apply(&mut summary, *change);
        }
        summary
    }

    proptest! {
        #[test]
        fn parts_merge_to_the_whole(changes in prop::collection::vec(change(), 0..60), cut in 0..60_usize) {
            let whole = applied(&changes);
            let (before, after) = changes.split_at(cut.min(changes.len()));
            let (mut forwards, mut backwards) = (applied(before), applied(after));
            backwards.merge(&forwards);
            forwards.merge(&applied(after));
            prop_assert_eq!(&forwards, &whole);
            prop_assert_eq!(&backwards, &whole);
            forwards.merge(&whole);
            prop_assert_eq!(&forwards, &whole);
        }

        #[test]
        fn every_change_is_contained(changes in prop::collection::vec(change(), 0..60)) {
            let summary = applied(&changes);
            for (number, fork, block, _) in changes.iter().filter(|change| change.1 != 1) {
                let fork = RelationFork { relation: relation(*number), fork: Fork::from_number(u32::from(*fork)).unwrap() };
                prop_assert!(summary.get(fork).is_some_and(|changes| changes.contains(*block)));
            }
            for (_, changes) in summary.iter() {
                prop_assert!(changes.blocks().last() < changes.limit() || changes.limit().is_none() || changes.blocks().is_empty());
            }
        }

        #[test]
        fn the_stored_form_goes_both_ways(changes in prop::collection::vec(change(), 0..60)) {
            let summary = applied(&changes);
            prop_assert_eq!(BlockSummary::decode(&summary.encode(), 60), Ok(summary));
        }
    }
}
