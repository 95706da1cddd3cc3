//! What there is, who is at work on it, and what must hold.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::AddAssign;
use std::rc::Rc;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use pgark_repository::garbage::{self, Log};
use pgark_repository::manifest::Manifest;
use pgark_repository::session::{DEAD_AFTER, SessionDocument, SessionKind, sessions};
use pgark_repository::{Encryption, Error, Label, PackId, Repository};
use ulid::Ulid;

use super::backup::BackupActor;
use super::expire::ExpireActor;
use super::reader::ReaderActor;
use super::storage::{SimulatedStorage, enter};
use crate::room::create;
use crate::sample::stanza;

/// How much happens in a run. What is harmed by a flaw is found sooner by long ones.
const EVENTS: u32 = 120;
const EVENTS_WITH_FLAW: u32 = 300;

/// What is left out of the protocol, to see that it is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flaw {
    /// Backups do not look whether they may stay.
    NoConfirm,
    /// Expires list the manifests before they announce what they delete.
    ManifestsBeforeSweep,
    /// Expires delete what they have not marked in an earlier run.
    NoMark,
    /// Expires do not heed who reads.
    ReadersNotHeeded,
}

/// How many things happened.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Summary {
    /// Backups that were reported as taken.
    pub(super) backups: u64,
    /// Packs of other sessions that they point at.
    pub(super) shared: u64,
    /// Packs of broken backups among those.
    pub(super) adopted: u64,
    /// Backups that were withdrawn after their manifest had appeared.
    pub(super) withdrawn: u64,
    /// Packs that were deleted.
    pub(super) swept: u64,
    /// Processes that were killed.
    pub(super) killed: u64,
    /// Expires that gave way to another.
    pub(super) given_way: u64,
    /// Backups that were read to their end.
    pub(super) read: u64,
}

impl AddAssign for Summary {
    fn add_assign(&mut self, other: Self) {
        self.backups += other.backups;
        self.shared += other.shared;
        self.adopted += other.adopted;
        self.withdrawn += other.withdrawn;
        self.swept += other.swept;
        self.killed += other.killed;
        self.given_way += other.given_way;
        self.read += other.read;
    }
}

/// What became of a step.
pub(super) enum Next {
    /// There is another one.
    Step,
    /// It was the last.
    Ended,
}

/// What an actor's step gives: an error ends it, as it would end the program.
pub(super) type StepResult = Result<Next, Error>;

/// Somebody at work.
pub(super) trait Actor {
    /// Does the next thing.
    fn step(&mut self, world: &World) -> StepResult;
}

/// Where an actor is.
struct Slot {
    actor: RefCell<Option<Box<dyn Actor>>>,
    /// For how many events it stalls.
    stalls: Cell<u64>,
}

/// The world of one run.
pub(super) struct World {
    pub(super) repository: Repository,
    pub(super) flaw: Option<Flaw>,
    random: Cell<u64>,
    now: Cell<Timestamp>,
    actors: RefCell<Vec<Rc<Slot>>>,
    depth: Cell<u32>,
    next_label: Cell<u32>,
    /// The backups that were reported as taken and not expired, with what they need.
    taken: RefCell<BTreeMap<Label, BTreeSet<PackId>>>,
    /// The backups that were expired, perhaps before whoever took them has reported.
    expired: RefCell<BTreeSet<Label>>,
    pub(super) summary: Cell<Summary>,
}

impl World {
    pub(super) fn new(seed: u64, flaw: Option<Flaw>) -> Rc<Self> {
        enter(None);
        let repository = create(Arc::new(SimulatedStorage::default()), &Encryption::None).unwrap();
        Rc::new(Self {
            repository,
            flaw,
            random: Cell::new(seed),
            now: Cell::new(Timestamp::UNIX_EPOCH),
            actors: RefCell::default(),
            depth: Cell::new(0),
            next_label: Cell::new(0),
            taken: RefCell::default(),
            expired: RefCell::default(),
            summary: Cell::default(),
        })
    }

    /// Runs this world to its end.
    pub(super) fn run(self: Rc<Self>) -> Summary {
        enter(Some(Rc::clone(&self)));
        let events = if self.flaw.is_some() { EVENTS_WITH_FLAW } else { EVENTS };
        for event in 0..events {
            self.happen();
            if event % 4 == 0 {
                self.check();
            }
        }
        // Whoever is left is killed. A last backup makes what others have left over worthless.
        self.actors.borrow_mut().clear();
        self.now.set(self.now.get() + DEAD_AFTER + SignedDuration::from_hours(2));
        self.alone(Box::new(BackupActor::new(&self)));
        for _ in 0..4 {
            self.now.set(self.now.get() + SignedDuration::from_hours(1));
            self.alone(Box::new(ExpireActor::new(&self)));
            self.check();
        }
        self.check_end();
        enter(None);
        self.summary.get()
    }

    /// Lets an actor do all its steps; nobody else is there.
    fn alone(&self, mut actor: Box<dyn Actor>) {
        loop {
            match actor.step(self) {
                Ok(Next::Step) => {}
                Ok(Next::Ended) => return,
                Err(error) => panic!("alone, and yet: {error}"),
            }
        }
    }

    /// One thing happens.
    fn happen(&self) {
        match self.below(100) {
            0..=3 => self.pass(self.below(600)),
            4..=5 => self.stall(),
            6 => self.now.set(self.now.get() - SignedDuration::from_mins(50)),
            7..=8 => self.kill(),
            9..=20 => self.add(),
            _ => self.step_any(),
        }
    }

    /// What happens between two operations of somebody.
    pub(super) fn interleave(&self) {
        if self.depth.get() == 0 || self.depth.get() > 2 || self.below(10) > 0 {
            return;
        }
        match self.below(20) {
            0 => self.pass(7 * 3600),
            _ => self.step_any(),
        }
    }

    /// Somebody does nothing for longer than anybody waits for a sign of life.
    fn stall(&self) {
        if let Some(slot) = self.pick() {
            slot.stalls.set(self.below(40));
            self.pass(7 * 3600);
        }
    }

    fn pick(&self) -> Option<Rc<Slot>> {
        let actors = self.actors.borrow();
        let count = actors.len() as u64;
        (count > 0).then(|| Rc::clone(&actors[usize::try_from(self.below(count)).unwrap()]))
    }

    fn pass(&self, seconds: u64) {
        self.now.set(self.now.get() + SignedDuration::from_secs(i64::try_from(seconds).unwrap()));
    }

    fn add(&self) {
        if self.actors.borrow().len() >= 5 {
            return;
        }
        let actor: Box<dyn Actor> = match self.below(8) {
            0..=3 => Box::new(BackupActor::new(self)),
            4..=6 => Box::new(ExpireActor::new(self)),
            _ => Box::new(ReaderActor::new(self)),
        };
        let slot = Slot { actor: RefCell::new(Some(actor)), stalls: Cell::new(0) };
        self.actors.borrow_mut().push(Rc::new(slot));
    }

    fn kill(&self) {
        if let Some(slot) = self.pick() {
            self.remove(&slot);
            self.count(|summary| summary.killed += 1);
        }
    }

    fn remove(&self, slot: &Rc<Slot>) {
        self.actors.borrow_mut().retain(|other| !Rc::ptr_eq(other, slot));
    }

    /// Lets somebody do a step who is not in the middle of one.
    fn step_any(&self) {
        let Some(slot) = self.pick() else { return self.add() };
        if slot.stalls.get() > 0 {
            slot.stalls.set(slot.stalls.get() - 1);
            return;
        }
        let Ok(mut actor) = slot.actor.try_borrow_mut() else { return };
        let Some(present) = actor.as_mut() else { return };
        self.depth.set(self.depth.get() + 1);
        // Some are quick, some are slow.
        let next = (0..=self.below(4)).map(|_| present.step(self)).find(|next| !matches!(next, Ok(Next::Step)));
        self.depth.set(self.depth.get() - 1);
        if next.is_some() {
            *actor = None;
            drop(actor);
            self.remove(&slot);
        }
    }

    /// A number below `limit`.
    pub(super) fn below(&self, limit: u64) -> u64 {
        // SplitMix64.
        let state = self.random.get().wrapping_add(0x9E37_79B9_7F4A_7C15);
        self.random.set(state);
        let mut mixed = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % limit
    }

    /// An id that says nothing of who was first: every host has a clock of its own.
    pub(super) fn ulid(&self) -> Ulid {
        Ulid::from_parts(self.below(1 << 40), u128::from(self.below(u64::MAX)))
    }

    pub(super) fn session(&self, kind: SessionKind, relies_on: Vec<Label>) -> SessionDocument {
        SessionDocument {
            id: self.ulid(),
            kind,
            host: "somewhere".to_owned(),
            process: 1,
            machine: None,
            started: Timestamp::UNIX_EPOCH,
            renewed: Timestamp::UNIX_EPOCH,
            relies_on,
            seen: None,
            adopts: Vec::new(),
        }
    }

    pub(super) fn label(&self) -> Label {
        let number = self.next_label.get();
        self.next_label.set(number + 1);
        format!("20261122-{number:06}F").parse().unwrap()
    }

    pub(super) fn storage_time(&self) -> Timestamp {
        self.now.get()
    }

    pub(super) fn count(&self, change: impl FnOnce(&mut Summary)) {
        let mut summary = self.summary.get();
        change(&mut summary);
        self.summary.set(summary);
    }

    /// The user was told that the backup is taken.
    pub(super) fn report(&self, label: Label, needed: BTreeSet<PackId>) {
        if !self.expired.borrow().contains(&label) {
            self.taken.borrow_mut().insert(label, needed);
        }
        self.count(|summary| summary.backups += 1);
    }

    /// The user wants the backup no more.
    pub(super) fn give_up(&self, label: &Label) {
        self.taken.borrow_mut().remove(label);
        self.expired.borrow_mut().insert(label.clone());
    }

    /// The packs that a backup needs, by its manifest.
    pub(super) fn packs_of(&self, label: &Label) -> Result<BTreeSet<PackId>, Error> {
        Ok(Manifest::open(&self.repository, &stanza(), label)?.packs()?.into_keys().collect())
    }

    /// Looks at everything without letting anything happen.
    fn look<T>(&self, look: impl FnOnce() -> T) -> T {
        let depth = self.depth.replace(0);
        let seen = look();
        self.depth.set(depth);
        seen
    }

    /// What was reported as taken is there.
    fn check(&self) {
        self.look(|| {
            let packs = garbage::packs(&self.repository, &stanza()).unwrap();
            let manifests = garbage::manifests(&self.repository, &stanza()).unwrap();
            for (label, needed) in &*self.taken.borrow() {
                assert!(manifests.contains_key(label), "{label} is lost");
                for pack in needed {
                    assert!(packs.contains_key(pack), "pack {pack} of {label} is lost");
                }
            }
        });
    }

    /// Nothing is there that nobody needs.
    fn check_end(&self) {
        self.look(|| {
            let (repository, stanza) = (&self.repository, &stanza());
            let manifests = garbage::manifests(repository, stanza).unwrap();
            let needed: BTreeSet<PackId> = manifests.keys().flat_map(|label| self.packs_of(label).unwrap()).collect();
            let packs: BTreeSet<PackId> = garbage::packs(repository, stanza).unwrap().into_keys().collect();
            assert_eq!(packs.difference(&needed).collect::<Vec<_>>(), Vec::<&PackId>::new(), "garbage is left");
            assert_eq!(sessions(repository, stanza).unwrap(), [], "sessions are left");
            let log = Log::read(repository, stanza).unwrap();
            let last = log.last();
            for (number, entry) in log.entries().iter().filter(|(number, _)| **number != last) {
                assert!(!entry.packs.is_disjoint(&packs), "entry {number} is left: {names:?}", names = entry.packs);
            }
            for (label, needed) in &*self.taken.borrow() {
                assert_eq!(self.packs_of(label).unwrap(), *needed, "{label}");
            }
        });
    }
}
