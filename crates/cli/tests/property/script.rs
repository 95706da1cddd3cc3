//! What is to happen to a cluster, made up from a seed. Pure: a script can be printed and counted before anything runs.

use std::collections::BTreeSet;

use crate::change::{Change, Strategy};
use crate::model::Model;
use crate::proposal::{propose_backup, propose_change, propose_event, propose_retention, propose_table};
use crate::random::Random;

/// What a run is made of.
#[derive(Clone, Debug)]
pub(crate) struct Script {
    pub(crate) shape: Shape,
    pub(crate) steps: Vec<Step>,
}

/// What the cluster is like from its beginning.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    pub(crate) checksums: bool,
    pub(crate) wal_log_hints: bool,
    pub(crate) wal_compression: bool,
    pub(crate) logical: bool,
    pub(crate) encrypted: bool,
}

/// One step.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    Change(Change),
    Event(Event),
    Backup(Backup),
    /// A backup that is killed so many milliseconds after it began.
    KilledBackup {
        backup: Backup,
        after_ms: u32,
    },
    /// An expire, perhaps killed so many milliseconds after it began.
    Expire {
        retention: Retention,
        killed_after_ms: Option<u32>,
    },
}

/// What happens to a server.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    Restart,
    /// An immediate shutdown, and recovery from it.
    Crash,
    /// A death of all its processes, and recovery from it.
    Kill,
    /// A standby is made from the backup of this step and promoted; the old primary goes on for a while before it is stopped.
    FailOver {
        from: usize,
        old_crashes: bool,
    },
    /// The old primary is rewound to follow the new one (`pg_rewind`), and takes over again.
    Rewind,
    /// The cluster is taken back to where this backup was taken, the number of a step, and goes on from there.
    GoBack {
        to: usize,
    },
    /// `pg_checksums`.
    Checksums {
        on: bool,
    },
    /// For a while the server writes no more WAL than it needs itself (`wal_level = minimal`).
    WithoutWal {
        changes: Vec<Change>,
    },
    /// `pg_resetwal`, after a clean shutdown.
    ResetWal,
}

/// The types of backups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BackupKind {
    Full,
    Diff,
    Incr,
}

/// One backup.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Backup {
    pub(crate) kind: BackupKind,
    /// Everything is read and compared (`--delta`).
    pub(crate) delta: bool,
    /// Pages that an earlier backup has stored are pointed at (not with `--no-reuse`).
    pub(crate) reuse: bool,
    /// The cluster is written to meanwhile.
    pub(crate) unrest: bool,
    pub(crate) workers: u32,
}

/// What an expire is to keep: so many full backups, differential ones, and full ones with all WAL from them on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Retention {
    pub(crate) full: u32,
    pub(crate) diff: Option<u32>,
    pub(crate) archive: Option<u32>,
}

impl Script {
    /// Makes up a script for a server of this version, with so many backups.
    pub(crate) fn of_seed(seed: u64, major: u32, backups: usize) -> Self {
        let random = &mut Random::new(seed);
        let shape = Shape {
            checksums: random.percent(65),
            wal_log_hints: random.percent(30),
            wal_compression: random.percent(40),
            logical: random.percent(30),
            encrypted: random.percent(30),
        };
        let mut model = Model::new(major, shape);
        model.expires = random.percent(40);
        let mut steps = Vec::new();
        let mut taken = 0;
        while taken < backups {
            let changes = if steps.is_empty() { 12 } else { random.between(2, 7) };
            for _ in 0..changes {
                let change = match steps.len() {
                    0..3 => propose_table(random, &model),
                    _ => propose_change(random, &model),
                };
                model.apply(change);
                steps.push(Step::Change(change));
            }
            if taken > 0 && random.percent(60) {
                let event = propose_event(random, &model);
                model.happen(&event);
                steps.push(Step::Event(event));
            }
            if random.percent(15) {
                steps.push(Step::KilledBackup { backup: propose_backup(random), after_ms: random.between(20, 600) });
            }
            let backup = propose_backup(random);
            model.back_up(steps.len());
            steps.push(Step::Backup(backup));
            taken += 1;
            if model.expires && random.percent(50) {
                let retention = propose_retention(random);
                let killed_after_ms = random.percent(30).then(|| random.between(5, 200));
                steps.push(Step::Expire { retention, killed_after_ms });
            }
        }
        steps.extend(ending(&model));
        Self { shape, steps }
    }

    /// The names of all that happens in it: what is written with a capital letter when it is printed.
    pub(crate) fn words(&self) -> BTreeSet<String> {
        let text = format!("{:?}", self.steps);
        let words = text.split(|character: char| !character.is_alphanumeric());
        words.filter(|word| word.starts_with(char::is_uppercase)).map(str::to_owned).collect()
    }
}

/// What every script ends with: a backup of a quiet cluster, changes on many pages of files that stay, and an incremental
/// backup that only the WAL tells what to read. A database goes to another place, changes there, and comes back: the WAL
/// has its changes under the other place, and here that its files were copied.
fn ending(model: &Model) -> Vec<Step> {
    let tables = &model.now.tables;
    let logged = tables.iter().find(|(_, table)| !table.unlogged).map(|(number, _)| *number);
    let free = (0..=u32::MAX).find(|number| !tables.contains_key(number)).expect("a script has few tables");
    let table = logged.unwrap_or(free);
    let known = model.now.databases.iter().next().map(|(number, away)| (*number, *away));
    let (database, away) = known.unwrap_or((0, false));
    let create_table = Change::Create { table, rows: 1, unlogged: false, away: false };
    let create_database = Change::CreateDatabase { database, template: None, strategy: Strategy::Default, away };
    let quiet = Backup { kind: BackupKind::Incr, delta: false, reuse: true, unrest: false, workers: 2 };
    let before = [
        logged.is_none().then_some(create_table),
        known.is_none().then_some(create_database),
        Some(Change::Refill { table, rows: 3000 }),
        Some(Change::FillDatabase { database, rows: 2000 }),
    ];
    let between = [
        Change::UpdateHot { table, every: 5 },
        Change::Update { table, every: 29 },
        Change::CutOffAndRefill { table, keep: 2000, rows: 500 },
        Change::MoveDatabase { database, away: !away },
        Change::FillDatabase { database, rows: 10 },
        Change::MoveDatabase { database, away },
    ];
    let before = before.into_iter().flatten().map(Step::Change).chain([Step::Backup(quiet)]);
    before.chain(between.into_iter().map(Step::Change)).chain([Step::Backup(quiet)]).collect()
}
