//! The packs that a backup writes.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use pgark_repository::container::{BlockEncoder, WriteOptions};
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
    compared: Mutex<Place<'repository>>,
}

/// Where somebody puts frames: the pack that is not full yet, or what encoded the frames of the last one.
#[derive(Debug, Default)]
pub(super) struct Place<'repository> {
    pack: Option<PackWriter<'repository>>,
    encoder: Option<BlockEncoder>,
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
        self.begin_with(BlockEncoder::of_pages(self.options))
    }

    fn begin_with(&self, encoder: BlockEncoder) -> Result<PackWriter<'repository>> {
        let id = PackId { session: self.session, number: self.next.fetch_add(1, Ordering::Relaxed) };
        Ok(PackWriter::with_encoder(self.repository, self.stanza, id, encoder)?)
    }

    /// Stores a frame into a pack, and gives the pack and the block. `own` is the caller's place.
    ///
    /// Pages of files that every backup has to compare, whatever the WAL says, come into packs of their own, which all
    /// workers share: so it takes the tables of few packs to compare them.
    pub(super) fn append(
        &self,
        own: &mut Place<'repository>,
        is_compared: bool,
        frame: PackFrame<'_>,
    ) -> Result<(PackId, u32)> {
        let mut shared = is_compared.then(|| lock(&self.compared));
        let place = shared.as_deref_mut().unwrap_or(own);
        let mut pack = match (place.pack.take(), place.encoder.take()) {
            (Some(pack), _) => pack,
            (None, Some(encoder)) => self.begin_with(encoder)?,
            (None, None) => self.begin()?,
        };
        let id = pack.id();
        let (block, _) = pack.append_frame(frame)?;
        if pack.is_full() {
            place.encoder = Some(self.finish(pack)?);
        } else {
            place.pack = Some(pack);
        }
        Ok((id, block))
    }

    /// Makes the pack durable that the workers share.
    pub(super) fn finish_compared(&self) -> Result<()> {
        let place = std::mem::take(&mut *lock(&self.compared));
        self.finish_place(place)
    }

    /// Makes the pack durable that frames were put into last.
    pub(super) fn finish_place(&self, place: Place<'repository>) -> Result<()> {
        place.pack.map_or(Ok(()), |pack| self.finish(pack).map(drop))
    }

    /// Makes a pack durable, and gives what encoded its frames.
    pub(super) fn finish(&self, pack: PackWriter<'repository>) -> Result<BlockEncoder> {
        let (written, encoder) = pack.finish_and_keep()?;
        tracing::trace!("wrote pack {}, {} bytes", written.id, written.written.length);
        lock(&self.written).insert(written.id, written);
        Ok(encoder)
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
