//! What a cluster has in it after the steps so far, as far as the next step has to know.

use std::collections::{BTreeMap, BTreeSet};

use crate::change::{Change, IndexKind};
use crate::script::{Event, Shape};

/// A table.
#[derive(Clone, Debug, Default)]
pub(crate) struct Table {
    pub(crate) unlogged: bool,
    pub(crate) away: bool,
    pub(crate) indexes: BTreeSet<IndexKind>,
}

/// What the cluster has in it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Content {
    pub(crate) tables: BTreeMap<u32, Table>,
    /// Which databases there are, and whether they are in the tablespace.
    pub(crate) databases: BTreeMap<u32, bool>,
    pub(crate) large_objects: BTreeSet<u32>,
    pub(crate) prepared: BTreeSet<u32>,
    pub(crate) checksums: bool,
    /// The backups on the way here, oldest first, by the numbers of their steps.
    pub(crate) lineage: Vec<usize>,
}

/// What is known of the cluster and of its past.
#[derive(Clone, Debug)]
pub(crate) struct Model {
    pub(crate) major: u32,
    pub(crate) wal_log_hints: bool,
    pub(crate) now: Content,
    /// What was there when a backup had been taken.
    pub(crate) backups: BTreeMap<usize, Content>,
    /// Whether there is a former primary that can be rewound.
    pub(crate) former_primary: bool,
    /// Whether the WAL from the newest backup to now is whole.
    pub(crate) recoverable: bool,
    /// How many transactions have been prepared.
    pub(crate) promises: u32,
    /// Whether backups expire, so that only the newest is sure to be there.
    pub(crate) expires: bool,
}

impl Model {
    pub(crate) fn new(major: u32, shape: Shape) -> Self {
        let now = Content { checksums: shape.checksums, ..Content::default() };
        Self {
            major,
            wal_log_hints: shape.wal_log_hints,
            now,
            backups: BTreeMap::new(),
            former_primary: false,
            recoverable: false,
            promises: 0,
            expires: false,
        }
    }

    /// Notes what a change does.
    pub(crate) fn apply(&mut self, change: Change) {
        let now = &mut self.now;
        match change {
            Change::Create { table, unlogged, away, .. } => {
                now.tables.insert(table, Table { unlogged, away, indexes: BTreeSet::new() });
            }
            Change::Drop { table } => {
                now.tables.remove(&table);
            }
            Change::CreateIndex { table, kind, .. } => {
                now.table(table).indexes.insert(kind);
            }
            Change::DropIndex { table, kind } => {
                now.table(table).indexes.remove(&kind);
            }
            Change::Move { table, away } => now.table(table).away = away,
            Change::SetLogged { table, logged } => now.table(table).unlogged = !logged,
            Change::CreateDatabase { database, away, .. } | Change::MoveDatabase { database, away } => {
                now.databases.insert(database, away);
            }
            Change::DropDatabase { database } => {
                now.databases.remove(&database);
            }
            Change::PutLargeObject { object, .. } => {
                now.large_objects.insert(object);
            }
            Change::UnlinkLargeObject { object } => {
                now.large_objects.remove(&object);
            }
            Change::Prepare { transaction, .. } => {
                now.prepared.insert(transaction);
                self.promises = self.promises.max(transaction + 1);
            }
            Change::CommitPrepared { transaction } | Change::RollbackPrepared { transaction } => {
                now.prepared.remove(&transaction);
            }
            _ => {}
        }
    }

    /// Notes what an event does.
    pub(crate) fn happen(&mut self, event: &Event) {
        match event {
            Event::Restart | Event::Crash | Event::Kill => {}
            Event::FailOver { .. } => self.former_primary = true,
            Event::Rewind => self.former_primary = false,
            Event::GoBack { to } => {
                self.now = self.backups[to].clone();
                self.former_primary = false;
                self.recoverable = true;
            }
            Event::Checksums { on } => {
                self.now.checksums = *on;
                self.former_primary = false;
            }
            Event::WithoutWal { changes } => {
                for change in changes {
                    self.apply(*change);
                }
                self.former_primary = false;
                self.recoverable = false;
            }
            Event::ResetWal => {
                self.former_primary = false;
                self.recoverable = false;
            }
        }
    }

    /// The backups to which the cluster can be taken back.
    pub(crate) fn ways_back(&self) -> Vec<usize> {
        let newest = self.backups.keys().rev();
        newest.take(if self.expires { 1 } else { usize::MAX }).copied().collect()
    }

    /// Notes that a backup was taken in the step of this number.
    pub(crate) fn back_up(&mut self, step: usize) {
        self.now.lineage.push(step);
        self.backups.insert(step, self.now.clone());
        self.recoverable = true;
    }
}

impl Content {
    fn table(&mut self, number: u32) -> &mut Table {
        self.tables.get_mut(&number).expect("only tables that are there are changed")
    }
}
