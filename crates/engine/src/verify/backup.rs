//! Checking a manifest: its entries make a tree, and its page maps lead to pages of these very files.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Mutex, PoisonError};

use pgark_repository::manifest::{Content, Entry, EntryKind, Manifest, PackUse, SidecarEntry, SidecarKind};
use pgark_repository::map::PageMap;
use pgark_repository::vault::PageHash;
use pgark_repository::{Error as RepositoryError, Label, PackId, Repository, StanzaName};

use super::finding::{AffectedFiles, Flaw, flaw_or_error};
use super::tables::{Known, Tables};
use crate::error::{Error, ErrorKind, Result};
use crate::restore::contents::Contents;
use crate::restore::sidecar::Tree;

/// Bytes that are spent on remembering maps that were checked with an earlier manifest.
const SEEN_BYTES: usize = 16 << 20;

/// What the checks of all manifests share.
#[derive(Debug)]
pub(super) struct ManifestChecks<'verify> {
    pub(super) repository: &'verify Repository,
    pub(super) stanza: &'verify StanzaName,
    pub(super) tables: Tables<'verify>,
    seen: Mutex<Seen>,
}

/// Maps that lead where they should, with the packs that they lead to. The manifests of one cluster have most of their
/// maps in common, so that those of the last manifests are what is worth being kept.
#[derive(Debug, Default)]
struct Seen {
    newer: HashMap<PageHash, Box<[PackId]>>,
    older: HashMap<PageHash, Box<[PackId]>>,
    weight: usize,
}

impl Seen {
    fn packs(&self, map: &PageHash) -> Option<Box<[PackId]>> {
        self.newer.get(map).or_else(|| self.older.get(map)).cloned()
    }

    fn add(&mut self, map: PageHash, packs: Box<[PackId]>) {
        self.weight += 2 * size_of::<PageHash>() + size_of::<Box<[PackId]>>() + packs.len() * size_of::<PackId>();
        self.newer.insert(map, packs);
        if self.weight >= SEEN_BYTES / 2 {
            self.older = std::mem::take(&mut self.newer);
            self.weight = 0;
        }
    }
}

/// What was found out about a manifest.
#[derive(Debug, Default)]
pub(super) struct ManifestCheck {
    /// The regular files in it.
    pub(super) files: u64,
    /// What is wrong with it as a whole.
    pub(super) flaw: Option<Flaw>,
    /// What is wrong with the first file with whose map something is wrong.
    pub(super) map_flaw: Option<Flaw>,
    /// The files with whose maps something is wrong.
    pub(super) flawed_files: AffectedFiles,
    /// Packs that could not be looked into.
    pub(super) flawed_packs: Vec<(PackId, String, super::finding::FindingKind)>,
}

impl ManifestCheck {
    /// Whether something is wrong with the manifest or its maps.
    pub(super) fn is_flawed(&self) -> bool {
        self.flaw.is_some() || self.map_flaw.is_some() || !self.flawed_packs.is_empty()
    }
}

/// Why going through entries was ended.
enum Stop {
    BrokenOff,
    Flaw(Flaw),
    Error(Error),
}

impl<'verify> ManifestChecks<'verify> {
    pub(super) fn new(repository: &'verify Repository, stanza: &'verify StanzaName, table_bytes: usize) -> Self {
        let tables = Tables::new(repository, stanza, table_bytes);
        Self { repository, stanza, tables, seen: Mutex::default() }
    }

    /// Checks the manifest of a backup; `None` where `go_on` said no.
    ///
    /// # Errors
    /// Where the storage does not answer.
    pub(super) fn check(&self, label: &Label, go_on: &dyn Fn() -> bool) -> Result<Option<ManifestCheck>> {
        let mut check = ManifestCheck::default();
        let opened = Manifest::open(self.repository, self.stanza, label).and_then(|manifest| {
            let (packs, late) = (manifest.packs()?, manifest.late_entries()?);
            Ok((manifest, packs, late))
        });
        let (manifest, packs, late) = match flaw_or_error(opened)? {
            Ok(opened) => opened,
            Err(flaw) => {
                check.flaw = Some(flaw);
                return Ok(Some(check));
            }
        };
        match self.walk(&manifest, &packs, &late, &mut check, go_on) {
            Ok(()) => {}
            Err(Stop::BrokenOff) => return Ok(None),
            Err(Stop::Flaw(flaw)) => check.flaw = Some(flaw),
            Err(Stop::Error(error)) => return Err(error),
        }
        Ok(Some(check))
    }

    fn walk(
        &self,
        manifest: &Manifest<'_>,
        packs: &BTreeMap<PackId, PackUse>,
        late: &[Entry],
        check: &mut ManifestCheck,
        go_on: &dyn Fn() -> bool,
    ) -> Result<(), Stop> {
        let mut maps =
            MapCheck { checks: self, manifest, packs, check, current: None, flawed: BTreeSet::new(), is_over: false };
        let mut first_paths = Vec::new();
        let mut stop = None;
        let ended = || Error::new(ErrorKind::Runtime, "the manifest is not read any further");
        let blocks = manifest.entries().map(|block| if go_on() { block.map(Some) } else { Ok(None) });
        let entries = blocks.flat_map(|block| match block {
            Ok(Some(entries)) => {
                first_paths.push(entries.first().map(|entry| entry.path.clone()).unwrap_or_default());
                entries.into_iter().map(|entry| maps.check(&entry).map(|()| entry)).collect::<Vec<_>>()
            }
            Ok(None) => vec![Err(Stop::BrokenOff)],
            Err(error) => vec![Err(stop_of(error))],
        });
        let entries = entries.map(|entry| {
            entry.map_err(|why| {
                stop.get_or_insert(why);
                ended()
            })
        });
        let read = Contents::read(manifest.document(), entries, late, &BTreeSet::new());
        if let Some(stop) = stop {
            return Err(stop);
        }
        late.iter().try_for_each(|entry| maps.check(entry))?;
        check_sidecars(manifest, &mut maps, go_on)?;
        read.map_err(|error| Stop::Flaw(Flaw::inconsistent(error.full_message())))?;
        manifest.check_frame(&first_paths).map_err(stop_of)
    }
}

/// Checks the entries of sidecars.
fn check_sidecars(manifest: &Manifest<'_>, maps: &mut MapCheck<'_>, go_on: &dyn Fn() -> bool) -> Result<(), Stop> {
    let mut tree = Tree::default();
    for block in manifest.sidecar_entries() {
        if !go_on() {
            return Err(Stop::BrokenOff);
        }
        for entry in block.map_err(stop_of)? {
            tree.next(manifest.document(), &entry).map_err(|what| Stop::Flaw(Flaw::inconsistent(what)))?;
            if let Some(file) = as_packs_know_it(&entry) {
                maps.check(&file)?;
            }
        }
    }
    Ok(())
}

/// A file of a sidecar as an entry with the path by which packs know it; none of what is no file.
pub(super) fn as_packs_know_it(entry: &SidecarEntry) -> Option<Entry> {
    let SidecarKind::File { size, content } = &entry.kind else { return None };
    Some(Entry {
        path: SidecarEntry::pack_path(&entry.path),
        link: None,
        attributes: entry.attributes,
        kind: EntryKind::File { size: *size, page_checksums: false, content: content.clone(), damaged: Vec::new() },
    })
}

fn stop_of(error: RepositoryError) -> Stop {
    match Flaw::of(error) {
        Ok(flaw) => Stop::Flaw(flaw),
        Err(error) => Stop::Error(error),
    }
}

/// The check of the maps of one manifest.
struct MapCheck<'check> {
    checks: &'check ManifestChecks<'check>,
    manifest: &'check Manifest<'check>,
    packs: &'check BTreeMap<PackId, PackUse>,
    check: &'check mut ManifestCheck,
    /// The pack that was looked into last.
    current: Option<(PackId, Known)>,
    flawed: BTreeSet<PackId>,
    /// Whether the storage has failed: it is not asked again and again.
    is_over: bool,
}

impl MapCheck<'_> {
    fn check(&mut self, entry: &Entry) -> Result<(), Stop> {
        if self.is_over {
            return Err(Stop::BrokenOff);
        }
        let checked = self.check_entry(entry);
        self.is_over = checked.is_err();
        checked
    }

    fn check_entry(&mut self, entry: &Entry) -> Result<(), Stop> {
        let EntryKind::File { size, content, .. } = &entry.kind else { return Ok(()) };
        self.check.files += 1;
        let Some(identity) = self.identity(&entry.path, *size, content) else { return Ok(()) };
        let seen = self.checks.seen.lock().unwrap_or_else(PoisonError::into_inner).packs(&identity);
        let checked = match seen {
            Some(packs) => self.are_listed(&packs),
            None => self.check_new(entry, *size, identity).map_err(Stop::Error)?,
        };
        if let Err(what) = checked {
            self.check.flawed_files.add(&entry.path);
            let path = String::from_utf8_lossy(&entry.path).into_owned();
            self.check.map_flaw.get_or_insert_with(|| Flaw::inconsistent(format!("file '{path}': {what}")));
        }
        Ok(())
    }

    /// What stands for this map of this file, wherever it is found again; none where the file is empty.
    fn identity(&self, path: &[u8], size: u64, content: &Content) -> Option<PageHash> {
        let mut bytes = Vec::with_capacity(path.len() + 128);
        bytes.extend(size.to_le_bytes());
        bytes.extend((path.len() as u64).to_le_bytes());
        bytes.extend(path);
        match content {
            Content::None => return None,
            Content::Map(map) => bytes.extend(map.encode()),
            Content::At(at) => {
                bytes.extend(at.pack.session.to_bytes());
                for number in [at.pack.number, at.block, at.offset, at.length] {
                    bytes.extend(number.to_le_bytes());
                }
            }
        }
        Some(self.checks.repository.vault().page_hash(&bytes))
    }

    fn are_listed(&self, packs: &[PackId]) -> Result<(), String> {
        match packs.iter().find(|pack| !self.packs.contains_key(pack)) {
            Some(pack) => Err(format!("it needs pack {pack}, which is not in the manifest's list")),
            None => Ok(()),
        }
    }

    /// Checks a map that was not seen before. What is wrong with a pack is noted as such, not as a flaw of the map.
    fn check_new(&mut self, entry: &Entry, size: u64, identity: PageHash) -> Result<Result<(), String>> {
        let map = match self.read(entry)? {
            Ok(Some(map)) => map,
            Ok(None) => return Ok(Ok(())),
            Err(what) => return Ok(Err(what)),
        };
        let mut packs = map.packs();
        if let EntryKind::File { content: Content::At(at), .. } = &entry.kind {
            packs.push(at.pack);
        }
        if let Err(what) = self.are_listed(&packs) {
            return Ok(Err(what));
        }
        let mut is_whole = true;
        for piece in map.pieces() {
            let Some(known) = self.table(piece.pack)? else {
                is_whole = false;
                continue;
            };
            if let Ok(table) = known.as_ref()
                && let Err(what) = table.check(&entry.path, size, &piece)
            {
                return Ok(Err(format!("{what} (pack {})", piece.pack)));
            }
        }
        if is_whole {
            let mut seen = self.checks.seen.lock().unwrap_or_else(PoisonError::into_inner);
            seen.add(identity, packs.into_boxed_slice());
        }
        Ok(Ok(()))
    }

    /// The map of an entry; none where the pack that it lies in is at fault.
    fn read(&mut self, entry: &Entry) -> Result<Result<Option<PageMap>, String>> {
        let mut maps = self.manifest.maps(self.packs);
        let error = match maps.map(entry) {
            Ok(map) => return Ok(Ok(Some(map))),
            Err(error) => error,
        };
        let is_of_manifest =
            matches!(&error, RepositoryError::Damaged { object, .. } if *object == self.manifest.name().as_str());
        let flaw = Flaw::of(error)?;
        match &entry.kind {
            EntryKind::File { content: Content::At(at), .. } if !is_of_manifest => {
                self.note(at.pack, &flaw);
                Ok(Ok(None))
            }
            _ => Ok(Err(flaw.what)),
        }
    }

    /// The tables of a pack; none where they can't be read.
    fn table(&mut self, pack: PackId) -> Result<Option<Known>> {
        let known = match &self.current {
            Some((current, known)) if *current == pack => Known::clone(known),
            _ => self.checks.tables.get(pack)?,
        };
        if let Err(flaw) = known.as_ref() {
            self.note(pack, flaw);
            return Ok(None);
        }
        self.current = Some((pack, Known::clone(&known)));
        Ok(Some(known))
    }

    fn note(&mut self, pack: PackId, flaw: &Flaw) {
        if self.flawed.insert(pack) {
            self.check.flawed_packs.push((pack, flaw.what.clone(), flaw.kind));
        }
    }
}
