//! Somebody who reads a backup: a restore, or a mount.

use std::collections::BTreeSet;

use jiff::Timestamp;
use pgark_repository::garbage;
use pgark_repository::session::{DEAD_AFTER, Session, SessionDocument, SessionKind};
use pgark_repository::{Error, Label, PackId, names};

use super::world::{Actor, Next, StepResult, World};
use crate::sample::stanza;

enum Stage {
    Begin,
    Open,
    Read,
    End,
}

pub(super) struct ReaderActor {
    stage: Stage,
    document: SessionDocument,
    unread: BTreeSet<PackId>,
    renewed: Timestamp,
}

impl ReaderActor {
    pub(super) fn new(world: &World) -> Self {
        let document = world.session(SessionKind::Restore, Vec::new());
        Self { stage: Stage::Begin, document, unread: BTreeSet::new(), renewed: world.storage_time() }
    }

    fn label(&self) -> &Label {
        &self.document.relies_on[0]
    }

    /// Reads a pack, which must be there unless this reader was silent for too long.
    fn read(&mut self, world: &World) -> Result<(), Error> {
        Session::resume(&world.repository, &stanza(), self.document.clone())?.renew()?;
        let is_waited_for = |renewed| world.storage_time().duration_since(renewed) < DEAD_AFTER;
        let Some(pack) = self.unread.pop_first() else { return Ok(()) };
        let found = world.repository.storage().head(&names::pack(&stanza(), pack)?)?;
        assert!(
            found.is_some() || !is_waited_for(self.renewed),
            "pack {pack} of {} was lost while it was read",
            self.label()
        );
        self.renewed = world.storage_time();
        Ok(())
    }
}

impl Actor for ReaderActor {
    fn step(&mut self, world: &World) -> StepResult {
        let (repository, stanza) = (&world.repository, stanza());
        self.stage = match self.stage {
            Stage::Begin => {
                let backups = garbage::manifests(repository, &stanza)?;
                let count = backups.len() as u64;
                if count == 0 {
                    return Ok(Next::Ended);
                }
                let chosen = usize::try_from(world.below(count)).unwrap();
                self.document.relies_on = backups.into_keys().skip(chosen).take(1).collect();
                self.renewed = world.storage_time();
                Session::begin_as(repository, &stanza, self.document.clone())?;
                Stage::Open
            }
            Stage::Open => {
                // Only a manifest that is there after the session is said to rely on it can be relied upon.
                self.unread = world.packs_of(self.label())?;
                Stage::Read
            }
            Stage::Read if self.unread.is_empty() => {
                world.count(|summary| summary.read += 1);
                Stage::End
            }
            Stage::Read => {
                self.read(world)?;
                Stage::Read
            }
            Stage::End => {
                repository.storage().delete(&names::session(&stanza, self.document.id)?)?;
                return Ok(Next::Ended);
            }
        };
        Ok(Next::Step)
    }
}
