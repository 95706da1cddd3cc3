//! The packs that a backup writes.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

use pgark_repository::container::WriteOptions;
use pgark_repository::pack::{PackWriter, WrittenPack};
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
}

impl<'repository> Packs<'repository> {
    pub(super) fn new(
        repository: &'repository Repository,
        stanza: &'repository StanzaName,
        session: Ulid,
        options: WriteOptions,
    ) -> Self {
        Self { repository, stanza, session, options, next: AtomicU32::new(0), written: Mutex::default() }
    }

    pub(super) fn repository(&self) -> &'repository Repository {
        self.repository
    }

    pub(super) fn begin(&self) -> Result<PackWriter<'repository>> {
        let id = PackId { session: self.session, number: self.next.fetch_add(1, Ordering::Relaxed) };
        Ok(PackWriter::new(self.repository, self.stanza, id, self.options)?)
    }

    pub(super) fn finish(&self, pack: PackWriter<'repository>) -> Result<()> {
        let written = pack.finish()?;
        tracing::debug!("wrote pack {}, {} bytes", written.id, written.written.length);
        self.lock().insert(written.id, written);
        Ok(())
    }

    /// The packs that are durable.
    pub(super) fn written(&self) -> BTreeMap<PackId, WrittenPack> {
        self.lock().clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<PackId, WrittenPack>> {
        // A worker that panicked while it held the lock has left a whole map: inserting is all that is done with it.
        self.written.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}
