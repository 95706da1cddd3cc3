//! Somebody who takes a backup.

use std::collections::{BTreeMap, BTreeSet};

use pgark_repository::garbage::{self, Log, StoredPack};
use pgark_repository::session::{Session, SessionDocument, SessionKind, sessions};
use pgark_repository::{Error, Label, PackId, names};
use pgark_storage::PutMode;

use super::world::{Actor, Flaw, Next, StepResult, World};
use crate::backups::document;
use crate::draft::{Draft, DraftBlock};
use crate::sample::stanza;

/// Bytes of every pack. What is in them does not matter here.
const PACK_BYTES: &[u8] = b"pages";

enum Stage {
    Begin,
    ReadLog,
    NoteSeen,
    ListPacks,
    Reference,
    Adopt,
    Write(u32),
    Commit,
    Confirm,
    End,
}

pub(super) struct BackupActor {
    stage: Stage,
    document: SessionDocument,
    label: Label,
    log: Log,
    condemned: BTreeSet<PackId>,
    packs: BTreeMap<PackId, StoredPack>,
    needed: BTreeSet<PackId>,
    adopted: u64,
}

impl BackupActor {
    pub(super) fn new(world: &World) -> Self {
        Self {
            stage: Stage::Begin,
            document: world.session(SessionKind::Backup, Vec::new()),
            label: world.label(),
            log: Log::default(),
            condemned: BTreeSet::new(),
            packs: BTreeMap::new(),
            needed: BTreeSet::new(),
            adopted: 0,
        }
    }

    /// Changes the session's document, as the engine does by the session that it holds.
    fn renew(&mut self, world: &World, change: impl FnOnce(&mut SessionDocument)) -> Result<(), Error> {
        change(&mut self.document);
        let mut session = Session::resume(&world.repository, &stanza(), self.document.clone())?;
        session.renew()
    }

    fn usable(&self, pack: &PackId) -> bool {
        self.packs.contains_key(pack) && !self.condemned.contains(pack)
    }

    /// Points at some packs of the newest backup, as one does whose pages have not changed.
    fn use_reference(&mut self, world: &World) -> Result<(), Error> {
        let manifests = garbage::manifests(&world.repository, &stanza())?;
        let Some(reference) = manifests.into_keys().next_back() else { return Ok(()) };
        self.renew(world, |document| document.relies_on = vec![reference.clone()])?;
        // Only what can be read after that is relied upon.
        let packs = match world.packs_of(&reference) {
            Err(error) if error.is_not_found() => return Ok(()),
            packs => packs?,
        };
        let used: Vec<PackId> = packs.into_iter().filter(|pack| self.usable(pack) && world.below(3) == 0).collect();
        self.needed.extend(used);
        Ok(())
    }

    /// Points at packs of a backup that was broken off.
    fn adopt(&mut self, world: &World) -> Result<(), Error> {
        let at_work: BTreeSet<_> =
            sessions(&world.repository, &stanza())?.into_iter().map(|session| session.id).collect();
        let Some(orphan) =
            self.packs.keys().map(|pack| pack.session).find(|session| !at_work.contains(session) && world.below(2) > 0)
        else {
            return Ok(());
        };
        self.renew(world, |document| document.adopts = vec![orphan])?;
        let packs: Vec<PackId> =
            self.packs.keys().filter(|pack| pack.session == orphan && self.usable(pack)).copied().collect();
        self.adopted = packs.iter().filter(|pack| !self.needed.contains(pack)).count() as u64;
        self.needed.extend(packs);
        Ok(())
    }

    fn write(&mut self, world: &World, number: u32) -> Result<(), Error> {
        if world.below(2) == 0 {
            self.renew(world, |_| {})?;
        }
        let pack = PackId { session: self.document.id, number };
        world.repository.storage().put(&names::pack(&stanza(), pack)?, PACK_BYTES, PutMode::Create)?;
        self.needed.insert(pack);
        Ok(())
    }

    /// Writes the manifest. It is made by the page that says the format, without compression: that takes most of the time
    /// of a run otherwise.
    fn commit(&self, world: &World) -> Result<(), Error> {
        let record = |pack: &PackId| {
            let length = (PACK_BYTES.len() as u64).to_le_bytes();
            let parts = [&pack.session.to_bytes()[..], &pack.number.to_le_bytes(), &[0; 4], &length, &[0; 8], &[0; 32]];
            parts.concat()
        };
        let packs: Vec<u8> = self.needed.iter().flat_map(record).collect();
        let document = serde_json::to_vec(&document(&self.label)).unwrap();
        let blocks = [(35, &[][..]), (33, &[]), (34, &packs), (1, &document)];
        let blocks = blocks.into_iter().map(|(kind, plain)| DraftBlock::new(kind, plain)).collect();
        let name = names::manifest(&stanza(), &self.label)?;
        let draft = Draft::new(*b"PGARKMAN", world.repository.vault().repository(), blocks);
        Ok(world.repository.storage().put(&name, &draft.write(name.as_str()), PutMode::Create)?)
    }

    fn confirm(&self, world: &World) -> Result<(), Error> {
        if world.flaw == Some(Flaw::NoConfirm) {
            return Ok(());
        }
        let seen = self.log.last();
        let confirmed = garbage::confirm(&world.repository, &stanza(), &self.label, seen, &self.needed);
        if matches!(confirmed, Err(Error::Withdrawn { .. })) {
            world.count(|summary| summary.withdrawn += 1);
        }
        confirmed
    }
}

impl Actor for BackupActor {
    fn step(&mut self, world: &World) -> StepResult {
        let (repository, stanza) = (&world.repository, stanza());
        self.stage = match self.stage {
            Stage::Begin => {
                Session::begin_as(repository, &stanza, self.document.clone())?;
                Stage::ReadLog
            }
            Stage::ReadLog => {
                self.log = Log::read(repository, &stanza)?;
                self.condemned = self.log.condemned();
                Stage::NoteSeen
            }
            Stage::NoteSeen => {
                let seen = self.log.last();
                self.renew(world, |document| document.seen = Some(seen))?;
                Stage::ListPacks
            }
            Stage::ListPacks => {
                self.packs = garbage::packs(repository, &stanza)?;
                Stage::Reference
            }
            Stage::Reference => {
                self.use_reference(world)?;
                Stage::Adopt
            }
            Stage::Adopt => {
                self.adopt(world)?;
                Stage::Write(0)
            }
            Stage::Write(number) => {
                self.write(world, number)?;
                if world.below(3) > 0 { Stage::Write(number + 1) } else { Stage::Commit }
            }
            Stage::Commit => {
                self.commit(world)?;
                Stage::Confirm
            }
            Stage::Confirm => {
                self.confirm(world)?;
                world.report(self.label.clone(), self.needed.clone());
                let shared = self.needed.iter().filter(|pack| pack.session != self.document.id).count() as u64;
                world.count(|summary| {
                    summary.shared += shared;
                    summary.adopted += self.adopted;
                });
                Stage::End
            }
            Stage::End => {
                repository.storage().delete(&names::session(&stanza, self.document.id)?)?;
                return Ok(Next::Ended);
            }
        };
        Ok(Next::Step)
    }
}
