//! What PostgreSQL's summarizer does, written down once more in the plainest way: sets of single blocks, and blocks past
//! a limit kept as PostgreSQL keeps them.

use std::collections::{BTreeMap, BTreeSet};

use pgark_postgres::wal::blocks::BlockSet;
use pgark_postgres::wal::event::Event;
use pgark_postgres::wal::record::Record;
use pgark_postgres::wal::relation::{Fork, RelationFork, RelationLocator};
use pgark_postgres::wal::server_summary::{ServerSummary, ServerSummaryEntry};
use pgark_postgres::wal::summary::{BlockSummary, visibility_map_length};

#[derive(Debug, Default)]
pub(crate) struct Model(BTreeMap<RelationFork, (Option<u32>, BTreeSet<u32>)>);

impl Model {
    pub(crate) fn absorb(&mut self, record: &Record<'_>) {
        self.absorb_event(&Event::decode(record).expect("a server's record can be decoded"));
        for block in record.blocks() {
            self.mark(block.target, block.block);
        }
    }

    fn absorb_event(&mut self, event: &Event<'_>) {
        match event {
            Event::TransactionEnd(end) => {
                for relation in end.dropped.iter() {
                    for fork in Fork::ALL {
                        self.limit(RelationFork { relation, fork }, 0);
                    }
                }
            }
            Event::ForkCreated(fork) => self.limit(*fork, 0),
            Event::RelationTruncated(truncation) => {
                let relation = truncation.relation;
                if truncation.main {
                    self.limit(RelationFork { relation, fork: Fork::Main }, truncation.blocks);
                }
                if truncation.visibility_map {
                    let blocks = visibility_map_length(truncation.blocks);
                    self.limit(RelationFork { relation, fork: Fork::VisibilityMap }, blocks);
                }
            }
            Event::DatabaseCreated(creation) => self.replace_database(creation.tablespace, creation.database),
            Event::DatabaseDropped { database, tablespaces } => {
                tablespaces.iter().for_each(|tablespace| self.replace_database(tablespace, *database));
            }
            _ => {}
        }
    }

    pub(crate) fn mark(&mut self, fork: RelationFork, block: u32) {
        if fork.fork != Fork::FreeSpaceMap {
            self.0.entry(fork).or_default().1.insert(block);
        }
    }

    /// A limit counts only if it is lower than the one before.
    pub(crate) fn limit(&mut self, fork: RelationFork, limit: u32) {
        if fork.fork == Fork::FreeSpaceMap {
            return;
        }
        let (current, blocks) = self.0.entry(fork).or_default();
        if current.is_none_or(|current| limit < current) {
            *current = Some(limit);
            blocks.retain(|block| *block < limit);
        }
    }

    pub(crate) fn replace_database(&mut self, tablespace: u32, database: u32) {
        let relation = RelationLocator::whole_database(tablespace, database);
        self.limit(RelationFork { relation, fork: Fork::Main }, 0);
    }

    /// As a server would write it.
    pub(crate) fn to_server_summary(&self) -> ServerSummary {
        let entries = self.0.iter().map(|(fork, (limit, blocks))| ServerSummaryEntry {
            fork: *fork,
            limit: *limit,
            blocks: blocks.iter().copied().collect(),
        });
        ServerSummary { entries: entries.collect() }
    }

    /// Without the blocks past the limits, as a block summary has it.
    pub(crate) fn assert_is(&self, summary: &BlockSummary) {
        let expected = self.0.iter().map(|(fork, (limit, blocks))| {
            let below = blocks.iter().copied().filter(|block| limit.is_none_or(|limit| *block < limit));
            (*fork, *limit, below.collect::<BlockSet>())
        });
        let found = summary.iter().map(|(fork, changes)| (fork, changes.limit(), changes.blocks().clone()));
        assert_entries(expected, found);
    }
}

/// Compares entry by entry, so that a failure names the fork.
fn assert_entries<T: PartialEq + std::fmt::Debug>(expected: impl Iterator<Item = T>, found: impl Iterator<Item = T>) {
    let (expected, found): (Vec<T>, Vec<T>) = (expected.collect(), found.collect());
    for (expected, found) in expected.iter().zip(&found) {
        assert_eq!(expected, found);
    }
    assert_eq!(expected.len(), found.len(), "{:?}", expected.get(found.len()).or(found.get(expected.len())));
}

/// Compares two server summaries entry by entry.
pub(crate) fn assert_same_summaries(expected: &ServerSummary, found: &ServerSummary) {
    assert_entries(expected.entries.iter(), found.entries.iter());
}
