//! Which backups, and which of their files, need a part of a pack that is not as it should be.

use std::collections::{BTreeMap, BTreeSet};

use pgark_repository::manifest::{Content, Entry, EntryKind, Manifest};
use pgark_repository::{Error as RepositoryError, Label, PackId, Repository, StanzaName};

use super::backup::as_packs_know_it;
use super::finding::{AffectedFiles, FindingKind, Flaw, flaw_or_error};
use crate::error::Result;

/// Blocks that are remembered of a pack; one with more of them counts as bad in all parts.
const BLOCKS_KEPT: usize = 4096;

/// What is wrong with a pack.
#[derive(Debug)]
pub(super) struct FlawedPack {
    pub(super) kind: FindingKind,
    pub(super) what: String,
    /// How many things are wrong besides that.
    pub(super) more: u64,
    /// The blocks that can't be used; none where the pack can't be used at all.
    blocks: Option<BTreeSet<u32>>,
}

impl FlawedPack {
    /// With one thing that is wrong: with a block, or with the pack as a whole.
    pub(super) fn new(block: Option<u32>, flaw: Flaw) -> Self {
        let blocks = block.map(|block| BTreeSet::from([block]));
        Self { kind: flaw.kind, what: flaw.what, more: 0, blocks }
    }

    /// With another thing that is wrong.
    pub(super) fn add(&mut self, other: Self) {
        if other.what != self.what {
            self.more += 1 + other.more;
        }
        self.blocks = match (self.blocks.take(), other.blocks) {
            (Some(mut blocks), Some(others)) => {
                blocks.extend(others);
                Some(blocks).filter(|blocks| blocks.len() <= BLOCKS_KEPT)
            }
            _ => None,
        };
    }

    fn has(&self, block: u32) -> bool {
        self.blocks.as_ref().is_none_or(|blocks| blocks.contains(&block))
    }

    /// All that is wrong, in words.
    pub(super) fn words(&self) -> String {
        match self.more {
            0 => self.what.clone(),
            more => format!("{}; and {more} more", self.what),
        }
    }
}

/// What flawed packs mean to one backup: for each pack that it needs, the files that lie in what is flawed.
pub(super) type Affected = BTreeMap<PackId, AffectedFiles>;

/// What flawed packs mean to a backup; `None` where it is no more. Files are counted once, with the first pack that takes
/// them away; the second number is that of all of them.
///
/// # Errors
/// Where the storage does not answer.
pub(super) fn of_backup(
    repository: &Repository,
    stanza: &StanzaName,
    label: &Label,
    flawed: &BTreeMap<PackId, FlawedPack>,
) -> Result<Option<(Affected, u64)>> {
    match flaw_or_error(read(repository, stanza, label, flawed))? {
        Ok(affected) => Ok(Some(affected)),
        Err(flaw) if flaw.kind == FindingKind::Missing => Ok(None),
        // That its manifest is damaged is a finding of its own.
        Err(_) => Ok(Some((Affected::new(), 0))),
    }
}

fn read(
    repository: &Repository,
    stanza: &StanzaName,
    label: &Label,
    flawed: &BTreeMap<PackId, FlawedPack>,
) -> Result<(Affected, u64), RepositoryError> {
    let manifest = Manifest::open(repository, stanza, label)?;
    let packs = manifest.packs()?;
    let needed = flawed.keys().filter(|pack| packs.contains_key(pack));
    let mut affected: Affected = needed.map(|pack| (*pack, AffectedFiles::default())).collect();
    if affected.is_empty() {
        return Ok((affected, 0));
    }
    let mut count = 0;
    let mut maps = manifest.maps(&packs);
    let mut note = |entry: &Entry| -> Result<(), RepositoryError> {
        let culprit = match maps.map(entry) {
            Ok(map) => map
                .pieces()
                .find(|piece| flawed.get(&piece.pack).is_some_and(|pack| pack.has(piece.block)))
                .map(|piece| piece.pack),
            Err(error) => match &entry.kind {
                // The map itself lies in what is flawed.
                EntryKind::File { content: Content::At(at), .. } if flawed.contains_key(&at.pack) => Some(at.pack),
                _ => return Err(error),
            },
        };
        if let Some(files) = culprit.and_then(|pack| affected.get_mut(&pack)) {
            files.add(&entry.path);
            count += 1;
        }
        Ok(())
    };
    let mut walk = || {
        for entries in manifest.entries() {
            entries?.iter().try_for_each(&mut note)?;
        }
        for entries in manifest.sidecar_entries() {
            entries?.iter().filter_map(as_packs_know_it).try_for_each(|entry| note(&entry))?;
        }
        manifest.late_entries()?.iter().try_for_each(&mut note)
    };
    match walk() {
        Err(error @ RepositoryError::Storage(_)) if !error.is_not_found() => Err(error),
        // That the manifest is damaged is a finding of its own; it needs these packs all the same.
        _ => Ok((affected, count)),
    }
}
