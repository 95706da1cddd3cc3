//! Taking over what interrupted backups have stored.
//!
//! A backup that was killed, or lost its server, leaves packs that no manifest names. Their tables say which pages of which
//! files they hold, and with which hashes: a page that is read and equals one of them needs no storing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use pgark_repository::PackId;
use pgark_repository::manifest::PackUse;
use pgark_system::termination;
use ulid::Ulid;

use super::tables::{TableCache, path_key};
use crate::error::Result;

/// Files in packs that are taken over, each counted once for each pack. It bounds memory; what lies in further packs is
/// stored again.
const MOST_FILES: usize = 1 << 20;

/// The packs that are taken over, and which files have pages in them.
#[derive(Debug, Default)]
pub(super) struct Adoption {
    /// What all of each pack is.
    packs: BTreeMap<PackId, PackUse>,
    /// The keys of files with the packs they are in, ascending.
    files: Vec<(u64, PackId)>,
}

impl Adoption {
    /// Takes over these packs, as far as they are sound. So many threads look at them.
    ///
    /// # Errors
    /// The storage's.
    pub(super) fn of(packs: &[PackId], tables: &TableCache<'_>, threads: usize) -> Result<Self> {
        let adoption = Mutex::new(Self::default());
        let next = AtomicUsize::new(0);
        let look = || -> Result<()> {
            while let Some(id) = packs.get(next.fetch_add(1, Ordering::Relaxed)) {
                termination::check()?;
                let found = tables.get(*id, None)?;
                let mut adoption = adoption.lock().unwrap_or_else(PoisonError::into_inner);
                if adoption.files.len() > MOST_FILES {
                    break;
                }
                if let Some(tables) = found {
                    adoption.packs.insert(*id, tables.whole());
                    adoption.files.extend(tables.files().iter().map(|key| (*key, *id)));
                }
            }
            Ok(())
        };
        thread::scope(|scope| {
            let threads: Vec<_> = (0..threads).map(|_| scope.spawn(look)).collect();
            let join = |thread: thread::ScopedJoinHandle<'_, _>| match thread.join() {
                Ok(looked) => looked,
                Err(panic) => std::panic::resume_unwind(panic),
            };
            threads.into_iter().try_for_each(join)
        })?;
        let mut adoption = adoption.into_inner().unwrap_or_else(PoisonError::into_inner);
        adoption.files.sort_unstable();
        Ok(adoption)
    }

    /// Whether nothing is taken over.
    pub(super) fn is_empty(&self) -> bool {
        self.packs.is_empty()
    }

    /// The sessions that wrote the packs.
    pub(super) fn sessions(&self) -> BTreeSet<Ulid> {
        self.packs.keys().map(|pack| pack.session).collect()
    }

    /// What all of a pack is, if it is taken over.
    pub(super) fn pack(&self, id: PackId) -> Option<PackUse> {
        self.packs.get(&id).copied()
    }

    /// How many packs there are.
    pub(super) fn len(&self) -> usize {
        self.packs.len()
    }

    /// The packs that have pages of a file.
    pub(super) fn packs_of(&self, path: &[u8]) -> Vec<PackId> {
        let key = path_key(path);
        let first = self.files.partition_point(|(own, _)| *own < key);
        self.files[first..].iter().take_while(|(own, _)| *own == key).map(|(_, pack)| *pack).collect()
    }
}

/// The packs that nobody needs, as far as can be told without reading all manifests: those of sessions that began after
/// all whose packs the newest backup needs.
pub(super) fn is_left_over(pack: PackId, newest: Option<Ulid>, own: Ulid) -> bool {
    pack.session != own && newest.is_none_or(|newest| pack.session > newest)
}
