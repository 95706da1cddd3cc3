//! Somebody who expires.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use pgark_repository::garbage::{self, EntryKind, NewEntry, Survey};
use pgark_repository::session::{Session, SessionDocument, SessionKind, Sessions, Turn};
use pgark_repository::{Error, Label, PackId, names, removal};

use super::world::{Actor, Flaw, Next, StepResult, World};
use crate::sample::stanza;

/// How many backups stay.
const KEPT: usize = 2;

enum Stage {
    Begin,
    Turn(u32),
    Survey,
    Announce,
    Read,
    Sweep,
    Remove,
    Mark,
    TidyUp,
    End,
}

pub(super) struct ExpireActor {
    stage: Stage,
    document: SessionDocument,
    survey: Option<Survey>,
    needs: BTreeMap<Label, BTreeSet<PackId>>,
    newest: Option<Timestamp>,
}

impl ExpireActor {
    pub(super) fn new(world: &World) -> Self {
        let document = world.session(SessionKind::Expire, Vec::new());
        Self { stage: Stage::Begin, document, survey: None, needs: BTreeMap::new(), newest: None }
    }

    fn needed(&self) -> BTreeSet<PackId> {
        self.needs.values().flatten().copied().collect()
    }

    fn read(&mut self, world: &World) -> Result<(), Error> {
        let manifests = garbage::manifests(&world.repository, &stanza())?;
        self.newest = manifests.values().map(|manifest| manifest.modified).max();
        for label in manifests.into_keys() {
            match world.packs_of(&label) {
                Err(error) if error.is_not_found() => {}
                packs => drop(self.needs.insert(label, packs?)),
            }
        }
        Ok(())
    }

    fn remove(&mut self, world: &World) -> Result<(), Error> {
        let survey = self.survey.as_ref().unwrap();
        let pins: BTreeSet<&Label> = survey.sessions.live.iter().flat_map(|session| &session.relies_on).collect();
        let unpinned = |label: &&Label| !pins.contains(label);
        let old: Vec<Label> = self.needs.keys().rev().skip(KEPT).filter(unpinned).cloned().collect();
        for label in old {
            world.give_up(&label);
            removal::remove_backup(&world.repository, &stanza(), &label)?;
            self.needs.remove(&label);
        }
        Ok(())
    }

    fn mark(&mut self, world: &World) -> Result<(), Error> {
        let needed = self.needed();
        let survey = self.survey.as_mut().unwrap();
        let packs = garbage::unreferenced(&survey.packs, &needed, &survey.log, &survey.sessions, self.newest);
        if world.flaw == Some(Flaw::NoMark) {
            for pack in packs {
                world.repository.storage().delete(&names::pack(&stanza(), pack)?)?;
            }
            return Ok(());
        }
        let entry = NewEntry { kind: EntryKind::Mark, session: self.document.id, program: "pgark", packs: &packs };
        survey.log.append(&world.repository, &stanza(), entry)
    }

    fn tidy_up(&mut self, world: &World) -> Result<(), Error> {
        let survey = self.survey.as_mut().unwrap();
        let packs = survey.packs.keys().copied().collect();
        let done = garbage::done(&survey.log, &packs, &survey.sessions);
        survey.log.remove(&world.repository, &stanza(), &done)?;
        for session in &survey.sessions.dead {
            world.repository.storage().delete(&names::session(&stanza(), session.id)?)?;
        }
        Ok(())
    }

    fn end(&self, world: &World) -> Result<(), Error> {
        Ok(world.repository.storage().delete(&names::session(&stanza(), self.document.id)?)?)
    }
}

impl Actor for ExpireActor {
    fn step(&mut self, world: &World) -> StepResult {
        let (repository, stanza) = (&world.repository, stanza());
        let own = self.document.id;
        self.stage = match self.stage {
            Stage::Begin => {
                Session::begin_as(repository, &stanza, self.document.clone())?;
                Stage::Turn(0)
            }
            Stage::Turn(asked) => match Sessions::read(repository, &stanza, own)?.turn(own, SessionKind::Expire) {
                Turn::Mine => Stage::Survey,
                Turn::Wait(_) if asked < 20 => Stage::Turn(asked + 1),
                Turn::Wait(_) | Turn::GiveWay(_) => {
                    world.count(|summary| summary.given_way += 1);
                    Stage::End
                }
            },
            Stage::Survey => {
                let mut survey = Survey::take(repository, &stanza, Some(own))?;
                if world.flaw == Some(Flaw::ReadersNotHeeded) {
                    survey.sessions.live.retain(|session| session.kind != SessionKind::Restore);
                    survey.sweepable = garbage::sweepable(&survey.log, &survey.sessions, &BTreeSet::new());
                    survey.sweepable.retain(|pack| survey.packs.contains_key(pack));
                }
                self.survey = Some(survey);
                if world.flaw == Some(Flaw::ManifestsBeforeSweep) { Stage::Read } else { Stage::Announce }
            }
            Stage::Announce => {
                self.survey.as_mut().unwrap().announce(repository, &stanza, own, "pgark")?;
                if world.flaw == Some(Flaw::ManifestsBeforeSweep) { Stage::Sweep } else { Stage::Read }
            }
            Stage::Read => {
                self.read(world)?;
                if world.flaw == Some(Flaw::ManifestsBeforeSweep) { Stage::Announce } else { Stage::Sweep }
            }
            Stage::Sweep => {
                let (labels, needed) = (self.needs.keys().cloned().collect(), self.needed());
                let survey = self.survey.as_mut().unwrap();
                let swept = survey.sweep::<Error>(repository, &stanza, &labels, &needed, &mut || Ok(()))?;
                world.count(|summary| summary.swept += swept);
                Stage::Remove
            }
            Stage::Remove => {
                self.remove(world)?;
                Stage::Mark
            }
            Stage::Mark => {
                self.mark(world)?;
                Stage::TidyUp
            }
            Stage::TidyUp => {
                self.tidy_up(world)?;
                Stage::End
            }
            Stage::End => {
                self.end(world)?;
                return Ok(Next::Ended);
            }
        };
        Ok(Next::Step)
    }
}
