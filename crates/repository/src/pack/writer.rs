//! Writing a pack.

use std::collections::HashMap;

use pgark_storage::ObjectWriter;

use super::tables::{self, FrameEntry, FramePages};
use crate::container::{BlockEncoder, BlockKind, ContainerWriter, ObjectKind, WriteOptions, Written};
use crate::error::{Error, Result};
use crate::names::{self, PackId, StanzaName};
use crate::repository::Repository;
use crate::vault::PageHash;

// A pack is full when any of these is passed. They bound what a reader must hold in memory.
const FULL_BYTES: u64 = 128 << 20;
const FULL_BLOCKS: usize = 32_768;
const FULL_PAGES: usize = 262_144;
const FULL_PATH_BYTES: usize = 1 << 20;

/// A frame to be written.
#[derive(Clone, Copy, Debug)]
pub struct PackFrame<'a> {
    /// The path of the file that the pages belong to.
    pub path: &'a [u8],
    /// Which pages.
    pub pages: &'a FramePages,
    /// Their bytes, back to back.
    pub plain: &'a [u8],
    /// Their hashes, one a page.
    pub page_hashes: &'a [PageHash],
}

/// A pack that is durable in the repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WrittenPack {
    /// Its identity.
    pub id: PackId,
    /// Its length and root.
    pub written: Written,
    /// How many pages its frames hold.
    pub pages: u32,
}

/// Writes one pack as a stream: it is in the repository once [`PackWriter::finish`] returns.
#[derive(Debug)]
pub struct PackWriter<'repository> {
    id: PackId,
    container: ContainerWriter<'repository, Box<dyn ObjectWriter>>,
    frames: Vec<u8>,
    page_list: Vec<u8>,
    page_hashes: Vec<u8>,
    files: Vec<Vec<u8>>,
    file_numbers: HashMap<Vec<u8>, u32>,
    path_bytes: usize,
}

impl<'repository> PackWriter<'repository> {
    /// Begins the pack `id` of a stanza.
    ///
    /// # Errors
    /// Where the object can't be created.
    pub fn new(
        repository: &'repository Repository,
        stanza: &StanzaName,
        id: PackId,
        options: WriteOptions,
    ) -> Result<Self> {
        Self::with_encoder(repository, stanza, id, BlockEncoder::of_pages(options))
    }

    /// Begins the pack `id` of a stanza, whose frames are encoded by what encoded another's.
    ///
    /// # Errors
    /// As [`PackWriter::new`].
    pub fn with_encoder(
        repository: &'repository Repository,
        stanza: &StanzaName,
        id: PackId,
        encoder: BlockEncoder,
    ) -> Result<Self> {
        repository.check_writable()?;
        let name = names::pack(stanza, id)?;
        let sink = repository.storage().create(&name)?;
        let container = ContainerWriter::begin(repository.vault(), ObjectKind::Pack, 0, name, encoder, sink)?;
        Ok(Self {
            id,
            container,
            frames: Vec::new(),
            page_list: Vec::new(),
            page_hashes: Vec::new(),
            files: Vec::new(),
            file_numbers: HashMap::new(),
            path_bytes: 0,
        })
    }

    /// The pack's identity.
    pub fn id(&self) -> PackId {
        self.id
    }

    /// The number that the next block will have.
    pub fn next_block(&self) -> u32 {
        u32::try_from(self.container.block_count()).unwrap_or(u32::MAX)
    }

    /// Whether it is time to finish this pack and begin another.
    pub fn is_full(&self) -> bool {
        self.container.offset() >= FULL_BYTES
            || self.container.block_count() >= FULL_BLOCKS
            || self.page_hashes.len() >= FULL_PAGES * size_of::<PageHash>()
            || self.path_bytes >= FULL_PATH_BYTES
    }

    /// Appends a frame and gives its block and its stored length in bytes.
    ///
    /// # Errors
    /// [`crate::Error::Limit`], [`crate::Error::VerifyWrite`], or the storage's error.
    pub fn append_frame(&mut self, frame: PackFrame<'_>) -> Result<(u32, u32)> {
        if !frame.pages.is_sound(frame.plain.len()) || frame.pages.count() != frame.page_hashes.len() {
            let (count, path) = (frame.pages.count(), String::from_utf8_lossy(frame.path));
            let what = format!("{count} pages of '{path}' in {} bytes make no frame", frame.plain.len());
            return Err(Error::Limit { what });
        }
        let (block, stored_length) = self.container.append(BlockKind::Frame, frame.plain)?;
        let entry = FrameEntry { block, file: self.file_number(frame.path), pages: frame.pages.clone() };
        tables::encode(&entry, &mut self.frames, &mut self.page_list);
        for hash in frame.page_hashes {
            self.page_hashes.extend_from_slice(hash);
        }
        Ok((block, stored_length))
    }

    /// Appends blocks of page maps, which get the next numbers and are compressed by so many threads at once.
    ///
    /// # Errors
    /// [`crate::Error::Limit`], [`crate::Error::VerifyWrite`], or the storage's error.
    pub fn append_maps(&mut self, blocks: &[&[u8]], workers: usize) -> Result<()> {
        self.container.append_all(BlockKind::Maps, blocks, workers)
    }

    /// Writes the tables and makes the pack durable.
    ///
    /// # Errors
    /// [`crate::Error::Limit`], [`crate::Error::VerifyWrite`], and where the storage can't finish the object.
    pub fn finish(self) -> Result<WrittenPack> {
        self.finish_and_keep().map(|(written, _)| written)
    }

    /// The same, and gives what encoded the frames, which goes on by what it has learnt of them.
    ///
    /// # Errors
    /// As [`PackWriter::finish`].
    pub fn finish_and_keep(mut self) -> Result<(WrittenPack, BlockEncoder)> {
        let pages = u32::try_from(self.page_hashes.len() / size_of::<PageHash>()).unwrap_or(u32::MAX);
        let files = tables::encode_files(self.files.iter().map(Vec::as_slice));
        self.container.append(BlockKind::PageList, &self.page_list)?;
        self.container.append(BlockKind::FileTable, &files)?;
        self.container.append(BlockKind::PageHashes, &self.page_hashes)?;
        self.container.append(BlockKind::FrameTable, &self.frames)?;
        let (sink, written, encoder) = self.container.finish()?;
        sink.finish()?;
        Ok((WrittenPack { id: self.id, written, pages }, encoder))
    }

    fn file_number(&mut self, path: &[u8]) -> u32 {
        if let Some(number) = self.file_numbers.get(path) {
            return *number;
        }
        let number = u32::try_from(self.files.len()).expect("a pack's limits keep its file table small");
        self.files.push(path.to_vec());
        self.file_numbers.insert(path.to_vec(), number);
        self.path_bytes += path.len();
        number
    }
}
