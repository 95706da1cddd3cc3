//! The log of garbage: marks and sweeps, numbered in one sequence.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use pgark_storage::{EntryKind as ListedKind, ErrorKind, Key, PutMode};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use ulid::Ulid;

use crate::bytes::Reader;
use crate::codec::Compression;
use crate::container::{BlockKind, Container, ContainerWriter, ObjectKind, WriteOptions};
use crate::document::{read_in, to_json};
use crate::error::{Error, Malformed, Result};
use crate::names::{self, PackId, StanzaName};
use crate::repository::Repository;

/// The most packs that one entry names: 10 MiB of names. What is more goes into further entries.
const PACKS_PER_ENTRY: usize = 1 << 19;

/// What an entry says of its packs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EntryKind {
    /// Nobody needs them. Whoever begins from now on keeps away from them.
    Mark,
    /// They are about to be deleted, unless a manifest needs them that was there before this entry.
    Sweep,
}

/// The document of an entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct EntryDocument {
    number: u64,
    kind: EntryKind,
    session: Ulid,
    written: Timestamp,
    program: String,
}

/// An entry of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// What it says.
    pub kind: EntryKind,
    /// The session that wrote it.
    pub session: Ulid,
    /// When it was written, by the clock of the host that wrote it. Nothing is decided by that.
    pub written: Timestamp,
    /// The program that wrote it.
    pub program: String,
    /// The packs it is about.
    pub packs: BTreeSet<PackId>,
}

/// An entry that is to be written.
#[derive(Clone, Copy, Debug)]
pub struct NewEntry<'entry> {
    /// What it says.
    pub kind: EntryKind,
    /// The session that writes it.
    pub session: Ulid,
    /// The program that writes it.
    pub program: &'entry str,
    /// The packs it is about.
    pub packs: &'entry BTreeSet<PackId>,
}

/// The log of garbage of a stanza, as it was read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Log {
    entries: BTreeMap<u64, Entry>,
    last: u64,
}

impl Log {
    /// Reads the log.
    ///
    /// An entry that is removed meanwhile is left out: its packs are gone by then.
    ///
    /// # Errors
    /// Damage, an entry of a newer program, or the storage's error.
    pub fn read(repository: &Repository, stanza: &StanzaName) -> Result<Self> {
        let numbers = numbers(repository, stanza)?;
        let last = numbers.last().copied().unwrap_or_default();
        let mut entries = BTreeMap::new();
        for number in numbers {
            if let Some(entry) = read_entry(repository, stanza, number)? {
                entries.insert(number, entry);
            }
        }
        Ok(Self { entries, last })
    }

    /// The number of the last entry; 0 where there is none.
    pub fn last(&self) -> u64 {
        self.last
    }

    /// The entries by number. Where all packs of one are gone it may have been removed, so that numbers are missing.
    pub fn entries(&self) -> &BTreeMap<u64, Entry> {
        &self.entries
    }

    /// The packs that somebody who has read this log must not point at.
    pub fn condemned(&self) -> BTreeSet<PackId> {
        self.entries.values().flat_map(|entry| entry.packs.iter().copied()).collect()
    }

    /// Adds an entry, or several where there are very many packs; none where there is no pack.
    ///
    /// # Errors
    /// [`Error::Overtaken`] where another has added an entry meanwhile; or the storage's error.
    pub fn append(&mut self, repository: &Repository, stanza: &StanzaName, new: NewEntry<'_>) -> Result<()> {
        let packs: Vec<PackId> = new.packs.iter().copied().collect();
        for packs in packs.chunks(PACKS_PER_ENTRY) {
            let number = self.last + 1;
            let document = EntryDocument {
                number,
                kind: new.kind,
                session: new.session,
                written: pgark_system::clock::now(),
                program: new.program.to_owned(),
            };
            write_entry(repository, stanza, &document, packs)?;
            let EntryDocument { kind, session, written, program, .. } = document;
            self.entries
                .insert(number, Entry { kind, session, written, program, packs: packs.iter().copied().collect() });
            self.last = number;
        }
        Ok(())
    }

    /// Removes entries. The last one stays, so that no number is ever given out again.
    ///
    /// # Errors
    /// The storage's error.
    pub fn remove(&mut self, repository: &Repository, stanza: &StanzaName, numbers: &BTreeSet<u64>) -> Result<()> {
        let removed = numbers.iter().filter(|number| **number != self.last);
        let keys: Vec<Key> = removed.map(|number| names::garbage_entry(stanza, *number)).collect::<Result<_>>()?;
        repository.storage().delete_all(&keys)?;
        self.entries.retain(|number, _| *number == self.last || !numbers.contains(number));
        Ok(())
    }
}

/// The numbers of the entries, ascending.
pub(super) fn numbers(repository: &Repository, stanza: &StanzaName) -> Result<Vec<u64>> {
    let entries = repository.storage().list_directory(Some(&names::garbage_log(stanza)?))?;
    let objects = entries.iter().filter(|entry| matches!(entry.kind, ListedKind::Object(_)));
    Ok(objects.filter_map(|entry| names::garbage_number(&entry.name)).collect())
}

/// One entry; `None` where there is none with this number.
pub(crate) fn read_entry(repository: &Repository, stanza: &StanzaName, number: u64) -> Result<Option<Entry>> {
    let name = names::garbage_entry(stanza, number)?;
    let storage = repository.storage();
    let container = match Container::open(storage, repository.vault(), ObjectKind::Garbage, &name) {
        Err(error) if error.is_not_found() => return Ok(None),
        opened => opened?,
    };
    let document = known(&name, read_in(storage, &container)?)?;
    if document.number != number {
        return Err(container.damaged(format!("it says that it is entry {}", document.number)));
    }
    let packs = container.block(storage, container.only(BlockKind::PackNames)?)?;
    let packs = decode_packs(&packs).map_err(|error| error.in_object(&name))?;
    let EntryDocument { kind, session, written, program, .. } = document;
    Ok(Some(Entry { kind, session, written, program, packs }))
}

/// The document of an entry, unless a newer program says there what this one does not know.
fn known(name: &Key, document: Value) -> Result<EntryDocument> {
    if let Some(kind) = document.get("kind").filter(|kind| EntryKind::deserialize(*kind).is_err()) {
        let what = format!("it is an entry of kind {kind}");
        return Err(Error::Unsupported { object: name.to_string(), what });
    }
    EntryDocument::deserialize(document)
        .map_err(|error| Malformed::new(format!("its document can't be read: {error}")).in_object(name))
}

/// Writes an entry, of which it is certain afterwards that it is the last.
fn write_entry(repository: &Repository, stanza: &StanzaName, document: &EntryDocument, packs: &[PackId]) -> Result<()> {
    repository.check_removable()?;
    let name = names::garbage_entry(stanza, document.number)?;
    let options = WriteOptions { compression: Compression::None, verify: true };
    let mut writer = ContainerWriter::new(repository.vault(), ObjectKind::Garbage, name.clone(), options, Vec::new())?;
    writer.append(BlockKind::PackNames, &encode_packs(packs))?;
    writer.append(BlockKind::Document, &to_json(&name, document)?)?;
    let (bytes, written, _) = writer.finish()?;
    let storage = repository.storage();
    let overtaken = || Error::Overtaken { object: name.to_string() };
    match storage.put(&name, &bytes, PutMode::Create) {
        // An earlier attempt of our own may have had its effect: no other writer makes the same bytes.
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            if storage.get(&name, written.length).ok().is_none_or(|found| found != bytes) {
                return Err(overtaken());
            }
            storage.persist(&name)?;
        }
        put => put?,
    }
    // A number may be free because its entry was removed long ago. Then there are later ones, for the last is never
    // removed, and who has seen those would not look at this one.
    if numbers(repository, stanza)?.last() != Some(&document.number) {
        storage.delete(&name)?;
        return Err(overtaken());
    }
    Ok(())
}

fn encode_packs(packs: &[PackId]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(packs.len() * 20);
    for pack in packs {
        bytes.extend(pack.session.to_bytes());
        bytes.extend(pack.number.to_le_bytes());
    }
    bytes
}

fn decode_packs(bytes: &[u8]) -> Result<BTreeSet<PackId>, Malformed> {
    let mut reader = Reader::new(bytes);
    let mut packs = BTreeSet::new();
    while !reader.is_empty() {
        let pack = PackId { session: Ulid::from_bytes(reader.array()?), number: reader.u32()? };
        if packs.last().is_some_and(|last| *last >= pack) {
            return Err(Malformed::new("the packs that it names do not ascend"));
        }
        packs.insert(pack);
    }
    Ok(packs)
}
