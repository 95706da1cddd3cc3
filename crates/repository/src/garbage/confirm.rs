//! What a backup does after its manifest has appeared.

use std::collections::BTreeSet;

use super::log::{EntryKind, numbers, read_entry};
use crate::error::{Error, Result};
use crate::inventory::lost;
use crate::names::{self, Label, PackId, StanzaName};
use crate::removal::remove_backup;
use crate::repository::Repository;

/// Makes sure that a backup whose manifest was just written is there to stay: that nobody who did not know of it is about
/// to delete packs that it needs.
///
/// `seen` is the last entry of the log of garbage that the backup took into account when it began. Where it can't be
/// vouched for, the backup is withdrawn: its manifest is deleted.
///
/// # Errors
/// [`Error::Withdrawn`] where packs that it needs are being deleted, or may be; [`Error::Lost`] where the storage has not
/// kept the manifest; or the storage's error. Whatever the error, the backup counts as failed.
pub fn confirm(
    repository: &Repository,
    stanza: &StanzaName,
    label: &Label,
    seen: u64,
    needed: &BTreeSet<PackId>,
) -> Result<()> {
    let withdrawn = |why: String| Error::Withdrawn { label: label.to_string(), why };
    let result = match find_loss(repository, stanza, seen, needed) {
        Ok(None) => {
            let manifest = names::manifest(stanza, label)?;
            match repository.storage().head(&manifest) {
                Ok(Some(_)) => return Ok(()),
                Ok(None) => Err(lost(repository, &manifest)),
                Err(error) => Err(error.into()),
            }
        }
        Ok(Some(why)) => Err(withdrawn(why)),
        Err(error) => Err(error),
    };
    // What the check says matters more than what becomes of the manifest: if it stays, the next expire finds it.
    let _stays = remove_backup(repository, stanza, label);
    result
}

/// Why the backup can't be vouched for; `None` where it can.
fn find_loss(
    repository: &Repository,
    stanza: &StanzaName,
    seen: u64,
    needed: &BTreeSet<PackId>,
) -> Result<Option<String>> {
    let numbers = numbers(repository, stanza)?;
    let last = numbers.last().copied().unwrap_or_default();
    if last < seen {
        return Ok(Some(format!("the log of garbage ends at entry {last}, but there was an entry {seen}")));
    }
    let listed: BTreeSet<u64> = numbers.into_iter().collect();
    for number in seen + 1..=last {
        let entry = if listed.contains(&number) { read_entry(repository, stanza, number)? } else { None };
        let Some(entry) = entry else {
            return Ok(Some(format!("entry {number} of the log of garbage was removed while the backup was running")));
        };
        let lost = entry.packs.intersection(needed).next().filter(|_| entry.kind == EntryKind::Sweep);
        if let Some(pack) = lost {
            return Ok(Some(format!("pack {pack}, which it needs, was removed while it was running")));
        }
    }
    Ok(None)
}
