//! What a stanza has of packs and manifests, and the steps of a sweep, in their order.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use jiff::Timestamp;
use pgark_storage::Key;
use ulid::Ulid;

use super::decide::sweepable;
use super::log::{EntryKind, Log, NewEntry};
use crate::error::{Error, Result};
use crate::names::{self, Label, PackId, StanzaName};
use crate::repository::Repository;
use crate::session::Sessions;

/// Packs that are deleted at once: as many as an object store takes in one request.
const BATCH: usize = 1000;

/// A pack as the storage lists it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoredPack {
    /// Its length in bytes.
    pub length: u64,
    /// When it was written, by the storage's clock.
    pub modified: Timestamp,
}

/// A manifest as the storage lists it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoredManifest {
    /// When it was written, by the storage's clock.
    pub modified: Timestamp,
}

/// The packs of a stanza.
///
/// # Errors
/// The storage's error.
pub fn packs(repository: &Repository, stanza: &StanzaName) -> Result<BTreeMap<PackId, StoredPack>> {
    let mut packs = BTreeMap::new();
    repository.storage().list(Some(&names::packs(stanza)?), &mut |object| {
        if let Some((_, id)) = names::parse_pack(&object.key) {
            packs.insert(id, StoredPack { length: object.size, modified: object.modified });
        }
        ControlFlow::Continue(())
    })?;
    Ok(packs)
}

/// The manifests of a stanza.
///
/// # Errors
/// The storage's error.
pub fn manifests(repository: &Repository, stanza: &StanzaName) -> Result<BTreeMap<Label, StoredManifest>> {
    let mut manifests = BTreeMap::new();
    repository.storage().list(Some(&names::backups(stanza)?), &mut |object| {
        if let Some(label) = names::label_of_manifest(stanza, &object.key) {
            manifests.insert(label, StoredManifest { modified: object.modified });
        }
        ControlFlow::Continue(())
    })?;
    Ok(manifests)
}

/// What is known of the garbage of a stanza before the manifests are read.
#[derive(Clone, Debug)]
pub struct Survey {
    /// The log of garbage.
    pub log: Log,
    /// The packs. They were listed before the sessions: whoever wrote one of them is among those, or has ended, and then
    /// its manifest is there.
    pub packs: BTreeMap<PackId, StoredPack>,
    /// Who is at work.
    pub sessions: Sessions,
    /// The packs that go, unless a manifest needs them that is there after they were announced.
    pub sweepable: BTreeSet<PackId>,
}

impl Survey {
    /// Looks at a stanza, for the session `own`, or for somebody who has none and changes nothing.
    ///
    /// # Errors
    /// What can't be read.
    pub fn take(repository: &Repository, stanza: &StanzaName, own: Option<Ulid>) -> Result<Self> {
        let log = Log::read(repository, stanza)?;
        let packs = packs(repository, stanza)?;
        let sessions = match own {
            Some(own) => Sessions::read(repository, stanza, own)?,
            None => Sessions::look(repository, stanza)?,
        };
        let backups = manifests(repository, stanza)?.into_keys().collect();
        let mut sweepable = sweepable(&log, &sessions, &backups);
        sweepable.retain(|pack| packs.contains_key(pack));
        Ok(Self { log, packs, sessions, sweepable })
    }

    /// Writes down which packs are about to be deleted. Only manifests that are listed after this say what is spared.
    ///
    /// # Errors
    /// [`Error::Overtaken`] where another expire is at work; or the storage's error.
    pub fn announce(
        &mut self,
        repository: &Repository,
        stanza: &StanzaName,
        session: Ulid,
        program: &str,
    ) -> Result<()> {
        let sweeps = self.log.entries().values().filter(|entry| entry.kind == EntryKind::Sweep);
        let announced: BTreeSet<PackId> = sweeps.flat_map(|entry| entry.packs.iter().copied()).collect();
        let packs = self.sweepable.difference(&announced).copied().collect();
        self.log.append(repository, stanza, NewEntry { kind: EntryKind::Sweep, session, program, packs: &packs })
    }

    /// Deletes what was announced and what no manifest needs; gives the number of packs. Before each batch `go_on` is
    /// asked.
    ///
    /// `needed` are the packs of all manifests that were listed after [`Survey::announce`], and `backups` their labels.
    ///
    /// # Errors
    /// The storage's error, or that of `go_on`.
    pub fn sweep<E: From<Error>>(
        &mut self,
        repository: &Repository,
        stanza: &StanzaName,
        backups: &BTreeSet<Label>,
        needed: &BTreeSet<PackId>,
        go_on: &mut dyn FnMut() -> Result<(), E>,
    ) -> Result<u64, E> {
        repository.check_removable()?;
        // A backup that a reader relies on may have gone since.
        let still = sweepable(&self.log, &self.sessions, backups);
        let doomed: Vec<PackId> =
            self.sweepable.intersection(&still).filter(|pack| !needed.contains(pack)).copied().collect();
        for batch in doomed.chunks(BATCH) {
            go_on()?;
            let keys: Vec<Key> = batch.iter().map(|pack| names::pack(stanza, *pack)).collect::<Result<_>>()?;
            repository.storage().delete_all(&keys).map_err(Error::from)?;
            for pack in batch {
                self.packs.remove(pack);
            }
        }
        Ok(doomed.len() as u64)
    }
}
