//! Removing a backup, or a whole stanza. Section 9 of `docs/format.md` says in which order.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use pgark_storage::{ErrorKind, Key, Operation, Storage};

use crate::error::{Error, Result};
use crate::names::{self, Label, StanzaName};
use crate::repository::Repository;

/// Names that are deleted at once: as many as an object store takes in one request.
const BATCH: usize = 1000;

/// Whether a stanza has any object in the repository.
///
/// # Errors
/// The storage's error.
pub fn has_objects(repository: &Repository, stanza: &StanzaName) -> Result<bool> {
    Ok(!first_keys(repository.storage(), &names::stanza(stanza)?, 1, &|_| true)?.is_empty())
}

/// Removes everything of a stanza; gives the number of objects removed. It may be called again after it was broken off.
///
/// The manifests go first, so that nothing that is left is ever taken for a backup, and the clusters last: as long as
/// there is WAL in an archive, the stanza is there that the archive belongs to, and no new one can be made in its place.
/// Before each batch `go_on` is asked.
///
/// # Errors
/// The storage's error, or that of `go_on`.
pub fn remove_stanza<E: From<Error>>(
    repository: &Repository,
    stanza: &StanzaName,
    go_on: &mut dyn FnMut() -> Result<(), E>,
) -> Result<u64, E> {
    repository.check_removable()?;
    let storage = repository.storage();
    let (all, backups, clusters) = (names::stanza(stanza)?, names::backups(stanza)?, names::clusters(stanza)?);
    let mut removed = remove(storage, &backups, &|key| key.name() == names::MANIFEST, go_on)?;
    removed += remove(storage, &all, &|key| !key.is_below(Some(&clusters)), go_on)?;
    removed += remove(storage, &all, &|_| true, go_on)?;
    storage.sweep(&all).map_err(Error::from)?;
    Ok(removed)
}

/// Removes a backup: its manifest, which is what makes it one, and then the notes on it. Its packs are garbage after
/// that, unless another backup needs them. It may be called again after it was broken off.
///
/// # Errors
/// The storage's error.
pub fn remove_backup(repository: &Repository, stanza: &StanzaName, label: &Label) -> Result<()> {
    repository.check_removable()?;
    repository.storage().delete(&names::manifest(stanza, label)?)?;
    remove_notes(repository, stanza, label)
}

/// Removes the notes on a backup that has no manifest any more, and what a file system keeps of directories.
///
/// # Errors
/// The storage's error.
pub fn remove_notes(repository: &Repository, stanza: &StanzaName, label: &Label) -> Result<()> {
    repository.check_removable()?;
    let storage = repository.storage();
    let backup = names::backup(stanza, label)?;
    remove(storage, &backup, &|key| key.name() != names::MANIFEST, &mut || Ok::<(), Error>(()))?;
    Ok(storage.sweep(&backup)?)
}

/// The labels of backups of which only notes are left.
///
/// # Errors
/// The storage's error.
pub fn removed_backups(repository: &Repository, stanza: &StanzaName) -> Result<BTreeSet<Label>> {
    let (mut with_notes, mut with_manifest) = (BTreeSet::new(), BTreeSet::new());
    repository.storage().list(Some(&names::backups(stanza)?), &mut |object| {
        with_notes.extend(names::label_and_note(stanza, &object.key).map(|(label, _)| label));
        with_manifest.extend(names::label_of_manifest(stanza, &object.key));
        ControlFlow::Continue(())
    })?;
    Ok(with_notes.difference(&with_manifest).cloned().collect())
}

/// Removes all that lies below `prefix`. Before each batch `go_on` is asked.
///
/// # Errors
/// The storage's error, or that of `go_on`.
pub fn remove_below<E: From<Error>>(
    repository: &Repository,
    prefix: &Key,
    go_on: &mut dyn FnMut() -> Result<(), E>,
) -> Result<(), E> {
    repository.check_removable()?;
    remove(repository.storage(), prefix, &|_| true, go_on)?;
    Ok(repository.storage().sweep(prefix).map_err(Error::from)?)
}

/// Removes the objects below `prefix` that are meant, until there is none.
fn remove<E: From<Error>>(
    storage: &dyn Storage,
    prefix: &Key,
    is_meant: &dyn Fn(&Key) -> bool,
    go_on: &mut dyn FnMut() -> Result<(), E>,
) -> Result<u64, E> {
    let mut removed = 0;
    let mut last_first: Option<Key> = None;
    loop {
        go_on()?;
        let keys = first_keys(storage, prefix, BATCH, is_meant)?;
        let Some(first) = keys.first() else { return Ok(removed) };
        if last_first.as_ref() == Some(first) {
            return Err(Error::from(is_still_there(storage, first)).into());
        }
        storage.delete_all(&keys).map_err(Error::from)?;
        removed += keys.len() as u64;
        last_first = Some(first.clone());
    }
}

fn is_still_there(storage: &dyn Storage, key: &Key) -> pgark_storage::Error {
    let reason = "it is listed again after it was deleted";
    pgark_storage::Error::new(ErrorKind::Io, Operation::Delete, Some(key), storage.describe(), reason)
}

/// The first names below `prefix` that are wanted, at most `count`.
fn first_keys(storage: &dyn Storage, prefix: &Key, count: usize, is_wanted: &dyn Fn(&Key) -> bool) -> Result<Vec<Key>> {
    let mut keys = Vec::new();
    storage.list(Some(prefix), &mut |object| {
        if is_wanted(&object.key) {
            keys.push(object.key);
        }
        if keys.len() < count { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    Ok(keys)
}
