//! Writing a manifest.

use std::collections::BTreeMap;

use pgark_storage::{Key, Storage};

use super::document::ManifestDocument;
use super::entry::Entry;
use super::pack_list::{self, PackUse};
use super::sidecar::SidecarEntry;
use crate::bytes::Write;
use crate::codec::Compression;
use crate::container::{BlockKind, ContainerWriter, ObjectKind, SIDECARS, WriteOptions, Written};
use crate::document::to_json;
use crate::error::Result;
use crate::names::{self, Label, PackId, StanzaName};
use crate::repository::Repository;

/// The most plain bytes of a block of file entries, unless a single entry is longer.
const FILES_BLOCK_BYTES: usize = 256 << 10;

/// Builds one manifest as the backup goes on. Nothing reaches the repository before [`ManifestWriter::commit`]; till
/// then the encoded entries, some tens of bytes a file, are held in memory.
#[derive(Debug)]
pub struct ManifestWriter<'repository> {
    repository: &'repository Repository,
    container: ContainerWriter<'repository, Vec<u8>>,
    /// The entries of the block that is being filled.
    files: Vec<u8>,
    /// The first path in it, if it is of the cluster's files.
    first_path: Option<Vec<u8>>,
    late_files: Vec<u8>,
    file_index: Vec<u8>,
}

impl<'repository> ManifestWriter<'repository> {
    /// Begins the manifest of the backup `label`.
    ///
    /// # Errors
    /// Where there is no randomness.
    pub fn new(repository: &'repository Repository, stanza: &StanzaName, label: &Label) -> Result<Self> {
        Self::begin(repository, stanza, label, 0)
    }

    /// Begins the manifest of the backup `label`, which has sidecars. A program that does not know them can't read it.
    ///
    /// # Errors
    /// As [`ManifestWriter::new`].
    pub fn with_sidecars(repository: &'repository Repository, stanza: &StanzaName, label: &Label) -> Result<Self> {
        Self::begin(repository, stanza, label, SIDECARS)
    }

    fn begin(repository: &'repository Repository, stanza: &StanzaName, label: &Label, features: u32) -> Result<Self> {
        repository.check_writable()?;
        let name = names::manifest(stanza, label)?;
        let options = WriteOptions { compression: Compression::Zstd(3), verify: true };
        let container = ContainerWriter::with_features(
            repository.vault(),
            ObjectKind::Manifest,
            features,
            name,
            options,
            Vec::new(),
        )?;
        Ok(Self {
            repository,
            container,
            files: Vec::new(),
            first_path: None,
            late_files: Vec::new(),
            file_index: Vec::new(),
        })
    }

    /// Adds an entry. They come ascending, as a walk through sorted directories finds them.
    ///
    /// # Errors
    /// [`crate::Error::Limit`], [`crate::Error::VerifyWrite`], or the storage's error.
    pub fn add(&mut self, entry: &Entry) -> Result<()> {
        let start = self.files.len();
        entry.encode(&mut self.files);
        if start > 0 && self.files.len() > FILES_BLOCK_BYTES {
            let entry = self.files.split_off(start);
            self.end_files_block()?;
            self.files = entry;
        }
        self.first_path.get_or_insert_with(|| entry.path.clone());
        Ok(())
    }

    /// Adds an entry of a sidecar. They come after those of the cluster, ascending as a walk finds them.
    ///
    /// # Errors
    /// [`crate::Error::Limit`], [`crate::Error::VerifyWrite`], or the storage's error.
    pub fn add_sidecar(&mut self, entry: &SidecarEntry) -> Result<()> {
        if self.first_path.is_some() {
            self.end_files_block()?;
        }
        let start = self.files.len();
        entry.encode(&mut self.files);
        if start > 0 && self.files.len() > FILES_BLOCK_BYTES {
            let entry = self.files.split_off(start);
            self.end_sidecar_block()?;
            self.files = entry;
        }
        Ok(())
    }

    /// Adds an entry that a restore writes after everything else.
    pub fn add_late(&mut self, entry: &Entry) {
        entry.encode(&mut self.late_files);
    }

    /// Writes the manifest, which commits the backup: it is durable on return. `packs` are the roots and the lengths of
    /// the packs that the entries lead to, and the bytes of each that are used.
    ///
    /// # Errors
    /// [`crate::Error::Limit`], [`crate::Error::VerifyWrite`], or the storage's error.
    pub fn commit(mut self, document: &ManifestDocument, packs: &BTreeMap<PackId, PackUse>) -> Result<Written> {
        self.end_files_block()?;
        self.end_sidecar_block()?;
        self.container.append(BlockKind::LateFiles, &self.late_files)?;
        self.container.append(BlockKind::FileIndex, &self.file_index)?;
        self.container.append(BlockKind::PackList, &pack_list::encode(packs))?;
        let json = to_json(self.container.name(), document)?;
        self.container.append(BlockKind::Document, &json)?;
        let name = self.container.name().clone();
        let (bytes, written, _) = self.container.finish()?;
        let storage = self.repository.storage();
        match publish(storage, &name, &bytes) {
            // A connection that breaks may break after the object took effect, and a backup that is there must not be
            // reported as failed. No other writer makes the same bytes: the salt is random.
            Err(_) if storage.get(&name, written.length).is_ok_and(|found| found == bytes) => {
                storage.persist(&name)?;
            }
            published => published?,
        }
        Ok(written)
    }

    fn end_files_block(&mut self) -> Result<()> {
        let Some(first_path) = self.first_path.take() else { return Ok(()) };
        let (block, _) = self.container.append(BlockKind::Files, &self.files)?;
        self.files.clear();
        self.file_index.put_varint(u64::from(block));
        self.file_index.put_counted(&first_path);
        Ok(())
    }

    fn end_sidecar_block(&mut self) -> Result<()> {
        if !self.files.is_empty() {
            self.container.append(BlockKind::SidecarFiles, &self.files)?;
            self.files.clear();
        }
        Ok(())
    }
}

fn publish(storage: &dyn Storage, name: &Key, bytes: &[u8]) -> Result<(), pgark_storage::Error> {
    let mut writer = storage.create(name)?;
    writer.write(bytes)?;
    writer.finish()
}
