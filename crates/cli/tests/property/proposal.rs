//! What may happen next: chosen by chance among what makes sense on the cluster as it is.

use crate::change::{Change, IndexKind, Strategy};
use crate::model::Model;
use crate::random::Random;
use crate::script::{Backup, BackupKind, Event, Retention};

/// How many tables, databases and large objects there may be.
const TABLES: u32 = 6;
const DATABASES: u32 = 3;
const LARGE_OBJECTS: u32 = 4;

/// Makes a value; `None` where it makes no sense on this cluster.
type Proposal<T> = fn(&mut Random, &Model) -> Option<T>;

/// Each change with its weight.
const CHANGES: &[(u32, Proposal<Change>)] = &[
    (10, create),
    (3, |random, model| Some(Change::Drop { table: table(random, model)? })),
    (3, |random, model| Some(Change::Truncate { table: table(random, model)? })),
    (4, |random, model| Some(Change::Refill { table: table(random, model)?, rows: rows(random) })),
    (12, |random, model| Some(Change::Insert { table: table(random, model)?, rows: rows(random) })),
    (3, |random, model| Some(Change::InsertInVain { table: table(random, model)?, rows: rows(random) })),
    (8, |random, model| Some(Change::Update { table: table(random, model)?, every: random.between(1, 60) })),
    (10, |random, model| Some(Change::UpdateHot { table: table(random, model)?, every: random.between(1, 90) })),
    (8, |random, model| Some(Change::Delete { table: table(random, model)?, every: random.between(2, 30) })),
    (5, |random, model| Some(Change::CutOff { table: table(random, model)?, keep: random.below(400) })),
    (6, |random, model| {
        let (table, keep, rows) = (table(random, model)?, random.below(400), rows(random));
        Some(Change::CutOffAndRefill { table, keep, rows })
    }),
    (3, |random, model| Some(Change::LockRows { table: table(random, model)? })),
    (5, |random, model| Some(Change::Look { table: table(random, model)? })),
    (6, |random, model| Some(Change::Vacuum { table: table(random, model)? })),
    (3, |random, model| Some(Change::VacuumFreeze { table: table(random, model)? })),
    (3, |random, model| Some(Change::VacuumFull { table: table(random, model)? })),
    (1, |_, _| Some(Change::VacuumFullCatalog)),
    (3, |random, model| Some(Change::Cluster { table: table(random, model)? })),
    (3, |random, model| Some(Change::Reindex { table: table(random, model)? })),
    (12, create_index),
    (3, drop_index),
    (4, |random, model| {
        let table = table(random, model)?;
        Some(Change::Move { table, away: !model.now.tables[&table].away })
    }),
    (4, |random, model| {
        let table = table(random, model)?;
        Some(Change::SetLogged { table, logged: model.now.tables[&table].unlogged })
    }),
    (3, |random, model| Some(Change::Rewrite { table: table(random, model)? })),
    (6, create_database),
    (6, |random, model| Some(Change::FillDatabase { database: database(random, model)?, rows: rows(random) })),
    (3, |random, model| {
        let database = database(random, model)?;
        Some(Change::MoveDatabase { database, away: !model.now.databases[&database] })
    }),
    (2, |random, model| Some(Change::DropDatabase { database: database(random, model)? })),
    (5, |random, _| {
        Some(Change::PutLargeObject { object: random.below(LARGE_OBJECTS), bytes: random.between(1, 200_000) })
    }),
    (2, |random, model| {
        Some(Change::UnlinkLargeObject { object: random.pick(model.now.large_objects.iter().copied())? })
    }),
    (3, |random, _| Some(Change::AdvanceSequence { by: random.between(1, 100) })),
    (4, |random, model| {
        // More than a few would keep too much waiting.
        let promise = Change::Prepare { transaction: model.promises, creates_table: random.percent(50) };
        (model.now.prepared.len() < 3).then_some(promise)
    }),
    (2, |random, model| Some(Change::CommitPrepared { transaction: promise(random, model)? })),
    (2, |random, model| Some(Change::RollbackPrepared { transaction: promise(random, model)? })),
    (3, |_, _| Some(Change::Checkpoint)),
    (2, |_, _| Some(Change::SwitchWal)),
];

/// Each event with its weight.
const EVENTS: &[(u32, Proposal<Event>)] = &[
    (2, |_, _| Some(Event::Restart)),
    (4, |_, _| Some(Event::Crash)),
    (2, |_, _| Some(Event::Kill)),
    (4, |random, model| {
        let event = Event::FailOver { from: *model.now.lineage.last()?, old_crashes: random.percent(50) };
        (model.recoverable && !model.former_primary).then_some(event)
    }),
    // Where there is a former primary it seldom stays so for long.
    (20, |_, model| {
        let can_be_rewound = model.now.checksums || model.wal_log_hints;
        (model.former_primary && can_be_rewound && has_tools(model)).then_some(Event::Rewind)
    }),
    (5, |random, model| Some(Event::GoBack { to: random.pick(model.ways_back())? })),
    (3, |_, model| has_tools(model).then_some(Event::Checksums { on: !model.now.checksums })),
    (4, |random, model| {
        let mut after = model.clone();
        let mut changes = Vec::new();
        for _ in 0..random.between(1, 4) {
            let change = propose_change(random, &after);
            after.apply(change);
            changes.push(change);
        }
        Some(Event::WithoutWal { changes })
    }),
    (2, |_, model| has_tools(model).then_some(Event::ResetWal)),
];

/// Whether the tools that change a stopped cluster are installed for this version.
fn has_tools(model: &Model) -> bool {
    model.major >= 14
}

/// A change that makes sense now.
pub(crate) fn propose_change(random: &mut Random, model: &Model) -> Change {
    propose(random, model, CHANGES)
}

/// A table, of those that a cluster begins with.
pub(crate) fn propose_table(random: &mut Random, model: &Model) -> Change {
    create(random, model).expect("there are few tables yet")
}

/// An event that makes sense now, after at least one backup.
pub(crate) fn propose_event(random: &mut Random, model: &Model) -> Event {
    propose(random, model, EVENTS)
}

/// A backup. Without an earlier one each is a full one.
pub(crate) fn propose_backup(random: &mut Random) -> Backup {
    let kinds = [BackupKind::Incr, BackupKind::Incr, BackupKind::Incr, BackupKind::Diff, BackupKind::Full];
    Backup {
        kind: random.pick(kinds).expect("there are some"),
        delta: random.percent(15),
        reuse: random.percent(93),
        unrest: random.percent(40),
        workers: random.between(1, 3),
    }
}

/// What an expire is to keep.
pub(crate) fn propose_retention(random: &mut Random) -> Retention {
    Retention {
        full: random.between(1, 3),
        diff: random.percent(40).then(|| random.between(1, 3)),
        archive: random.percent(30).then_some(1),
    }
}

fn propose<T>(random: &mut Random, model: &Model, proposals: &[(u32, Proposal<T>)]) -> T {
    let total = proposals.iter().map(|(weight, _)| weight).sum();
    loop {
        let mut left = random.below(total);
        let chosen = proposals.iter().find(|(weight, _)| {
            let found = left < *weight;
            left = left.saturating_sub(*weight);
            found
        });
        let (_, proposal) = chosen.expect("the number is less than all weights together");
        if let Some(value) = proposal(random, model) {
            return value;
        }
    }
}

fn create(random: &mut Random, model: &Model) -> Option<Change> {
    let table = random.pick((0..TABLES).filter(|table| !model.now.tables.contains_key(table)))?;
    Some(Change::Create { table, rows: rows(random), unlogged: random.percent(20), away: random.percent(25) })
}

fn create_index(random: &mut Random, model: &Model) -> Option<Change> {
    let table = table(random, model)?;
    let indexes = &model.now.tables[&table].indexes;
    let kind = random.pick(IndexKind::ALL.into_iter().filter(|kind| !indexes.contains(kind)))?;
    Some(Change::CreateIndex { table, kind, away: random.percent(20) })
}

fn drop_index(random: &mut Random, model: &Model) -> Option<Change> {
    let table = table(random, model)?;
    let kind = random.pick(model.now.tables[&table].indexes.iter().copied())?;
    Some(Change::DropIndex { table, kind })
}

fn create_database(random: &mut Random, model: &Model) -> Option<Change> {
    let database = random.pick((0..DATABASES).filter(|database| !model.now.databases.contains_key(database)))?;
    let template = if random.percent(50) { random.pick(model.now.databases.keys().copied()) } else { None };
    let strategy = match random.percent(50) {
        _ if model.major < 15 => Strategy::Default,
        true => Strategy::FileCopy,
        false => Strategy::WalLog,
    };
    Some(Change::CreateDatabase { database, template, strategy, away: random.percent(25) })
}

fn table(random: &mut Random, model: &Model) -> Option<u32> {
    random.pick(model.now.tables.keys().copied())
}

fn database(random: &mut Random, model: &Model) -> Option<u32> {
    random.pick(model.now.databases.keys().copied())
}

fn promise(random: &mut Random, model: &Model) -> Option<u32> {
    random.pick(model.now.prepared.iter().copied())
}

fn rows(random: &mut Random) -> u32 {
    // Most changes are small, some are large.
    if random.percent(70) { random.between(1, 200) } else { random.between(200, 3000) }
}
