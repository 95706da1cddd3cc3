//! The packs that a backup writes.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use pgark_repository::container::WriteOptions;
use pgark_repository::pack::{PackFrame, PackWriter, WrittenPack};
use pgark_repository::{PackId, Repository, StanzaName};
use ulid::Ulid;

use crate::error::Result;

/// Hands out packs to workers, numbered without gaps or repeats, and keeps those that are durable.
#[derive(Debug)]
pub(super) struct Packs<'repository> {
    repository: &'repository Repository,
    stanza: &'repository StanzaName,
    session: Ulid,
    options: WriteOptions,
    next: AtomicU32,
    written: Mutex<BTreeMap<PackId, WrittenPack>>,
    /// The pack for what every backup compares.
    compared: Mutex<Option<PackWriter<'repository>>>,
}

impl<'repository> Packs<'repository> {
    pub(super) fn new(
        repository: &'repository Repository,
        stanza: &'repository StanzaName,
        session: Ulid,
        options: WriteOptions,
    ) -> Self {
        Self {
            repository,
            stanza,
            session,
            options,
            next: AtomicU32::new(0),
            written: Mutex::default(),
            compared: Mutex::default(),
        }
    }

    pub(super) fn repository(&self) -> &'repository Repository {
        self.repository
    }

    pub(super) fn begin(&self) -> Result<PackWriter<'repository>> {
        let id = PackId { session: self.session, number: self.next.fetch_add(1, Ordering::Relaxed) };
        Ok(PackWriter::new(self.repository, self.stanza, id, self.options)?)
    }

    /// Stores a frame into a pack, and gives the pack and the block. `own` is the caller's pack, `None` to begin with, as it
    /// is once the pack is full.
    ///
    /// Pages of files that every backup has to compare, whatever the WAL says, come into packs of their own, which all
    /// workers share: so it takes the tables of few packs to compare them.
    pub(super) fn append(
        &self,
        own: &mut Option<PackWriter<'repository>>,
        is_compared: bool,
        frame: PackFrame<'_>,
    ) -> Result<(PackId, u32)> {
        let mut shared = is_compared.then(|| lock(&self.compared));
        let place = shared.as_deref_mut().unwrap_or(own);
        let mut pack = match place.take() {
            Some(pack) => pack,
            None => self.begin()?,
        };
        let id = pack.id();
        let (block, _) = pack.append_frame(frame)?;
        if pack.is_full() {
            self.finish(pack)?;
        } else {
            *place = Some(pack);
        }
        Ok((id, block))
    }

    /// Makes the pack durable that the workers share.
    pub(super) fn finish_compared(&self) -> Result<()> {
        let pack = lock(&self.compared).take();
        pack.map_or(Ok(()), |pack| self.finish(pack))
    }

    pub(super) fn finish(&self, pack: PackWriter<'repository>) -> Result<()> {
        let written = pack.finish()?;
        tracing::trace!("wrote pack {}, {} bytes", written.id, written.written.length);
        lock(&self.written).insert(written.id, written);
        Ok(())
    }

    /// The packs that are durable.
    pub(super) fn written(&self) -> BTreeMap<PackId, WrittenPack> {
        lock(&self.written).clone()
    }
}

/// What a worker that panicked has left is whole: packs are put in and taken out, and nothing else.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
