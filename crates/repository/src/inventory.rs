//! What objects there are of a stanza, by listings.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use pgark_storage::Key;
use ulid::Ulid;

use crate::container::{self, Container, ObjectKind};
use crate::error::{Error, Result};
use crate::garbage;
use crate::names::{self, PackId, StanzaName};
use crate::repository::Repository;
use crate::session;
use crate::vault::Vault;

/// Visits every pack of a stanza, ascending, with its length in bytes.
///
/// # Errors
/// The storage's error.
pub fn packs(repository: &Repository, stanza: &StanzaName, visit: &mut dyn FnMut(PackId, u64)) -> Result<()> {
    repository.storage().list(Some(&names::packs(stanza)?), &mut |object| {
        if let Some((_, id)) = names::parse_pack(&object.key) {
            visit(id, object.size);
        }
        ControlFlow::Continue(())
    })?;
    Ok(())
}

/// Makes sure that the packs that a session has written are there, each as long as is said: no storage is to be found out by
/// a restore.
///
/// # Errors
/// [`Error::Lost`] where one is not; or the storage's error.
pub fn check_written(
    repository: &Repository,
    stanza: &StanzaName,
    session: Ulid,
    mut written: BTreeMap<PackId, u64>,
) -> Result<()> {
    if written.is_empty() {
        return Ok(());
    }
    repository.storage().list(Some(&names::packs_of(stanza, session)?), &mut |object| {
        let id = names::parse_pack(&object.key).map(|(_, id)| id);
        if let Some(id) = id.filter(|id| written.get(id) == Some(&object.size)) {
            written.remove(&id);
        }
        ControlFlow::Continue(())
    })?;
    // A listing may lag behind what it lists.
    for (id, length) in written {
        let name = names::pack(stanza, id)?;
        if repository.storage().head(&name)?.is_none_or(|found| found.size != length) {
            return Err(lost(repository, &name));
        }
    }
    Ok(())
}

/// The error of an object that the storage has confirmed and does not have.
pub(crate) fn lost(repository: &Repository, name: &Key) -> Error {
    Error::Lost { object: name.to_string(), storage: repository.storage().describe() }
}

/// The sessions of a stanza, those included that can't be read.
///
/// # Errors
/// The storage's error.
pub fn sessions(repository: &Repository, stanza: &StanzaName) -> Result<Vec<Ulid>> {
    let entries = repository.storage().list_directory(Some(&names::sessions(stanza)?))?;
    Ok(entries.iter().filter_map(|entry| names::ulid(&entry.name)).collect())
}

/// The names of the small objects besides manifests and archives, with what each of them is: descriptor, key slots,
/// clusters, sessions, notes and the log of garbage.
///
/// # Errors
/// The storage's error.
pub fn small_objects(repository: &Repository, stanza: &StanzaName) -> Result<Vec<(ObjectKind, Key)>> {
    let mut found = vec![(ObjectKind::Descriptor, names::descriptor()?)];
    let mut add = |prefix: Key, kind: ObjectKind| -> Result<()> {
        repository.storage().list(Some(&prefix), &mut |object| {
            let is_one = match kind {
                ObjectKind::Note => names::label_and_note(stanza, &object.key).is_some(),
                ObjectKind::Garbage => names::garbage_number(object.key.name()).is_some(),
                _ => true,
            };
            if is_one {
                found.push((kind, object.key));
            }
            ControlFlow::Continue(())
        })?;
        Ok(())
    };
    add(names::key_slots()?, ObjectKind::KeySlot)?;
    add(names::clusters(stanza)?, ObjectKind::Cluster)?;
    add(names::sessions(stanza)?, ObjectKind::Session)?;
    add(names::backups(stanza)?, ObjectKind::Note)?;
    add(names::garbage_log(stanza)?, ObjectKind::Garbage)?;
    Ok(found)
}

/// Reads a whole small object of a stanza and checks every byte of it; of a session or an entry of the log of garbage, also
/// that it says something which can be understood: who removes garbage has to.
///
/// # Errors
/// Not found, damaged, of a newer program, or the storage's error.
pub fn check_small(repository: &Repository, stanza: &StanzaName, kind: ObjectKind, name: &Key) -> Result<()> {
    check(repository, kind, name)?;
    match (kind, names::garbage_number(name.name())) {
        (ObjectKind::Session, _) => session::read(repository, name).map(drop),
        (ObjectKind::Garbage, Some(number)) => garbage::read_entry(repository, stanza, number).map(drop),
        _ => Ok(()),
    }
}

/// Reads a whole object and checks every byte of it, but not what it says.
///
/// # Errors
/// Not found, damaged, or the storage's error.
pub fn check(repository: &Repository, kind: ObjectKind, name: &Key) -> Result<()> {
    let tail = Container::fetch_tail(repository.storage(), name)?;
    // A key slot of another repository is whole, too: it was left by a stanza-create that was broken off.
    let plain = if kind.is_always_plain() { Some(Vault::plain(container::owner(name, &tail)?)) } else { None };
    let vault = plain.as_ref().unwrap_or(repository.vault());
    let container = Container::with_tail(repository.storage(), vault, kind, name, tail)?;
    let mut flaw = Ok(());
    let _swept = container.sweep(repository.storage(), &mut |_, block| match block {
        Ok(_) => ControlFlow::Continue(()),
        Err(error) => {
            flaw = Err(error);
            ControlFlow::Break(())
        }
    })?;
    flaw
}
