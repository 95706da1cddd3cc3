//! Reading the backups of a stanza: their documents, and which packs they need.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use pgark_repository::manifest::{Entry, Manifest};
use pgark_repository::{Label, PackId, Repository, StanzaName, note};
use ulid::Ulid;

use super::{BackupReport, InfoSettings};
use crate::error::{Error, ErrorKind, Result};
use crate::parallel::{self, PackLists};

/// How many backups need a pack: one of them, by its place among all, or several.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Users {
    One(usize),
    Several,
}

/// A pack, and which backups need it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Shared {
    pack: PackId,
    length: u64,
    users: Users,
}

/// Which packs are needed by which backup alone: all of them, ascending. Backups need much the same packs, so that going
/// through two lists side by side takes less than looking for each pack of the one in the other.
#[derive(Debug, Default)]
struct Sharing(Vec<Shared>);

impl Sharing {
    /// Adds the packs, with their lengths, that the backup at `place` needs: ascending.
    fn add(&mut self, place: usize, packs: impl IntoIterator<Item = (PackId, u64)>) {
        let mut new = Vec::new();
        let mut known = self.0.iter_mut().peekable();
        for (pack, length) in packs {
            while known.next_if(|shared| shared.pack < pack).is_some() {}
            match known.next_if(|shared| shared.pack == pack) {
                Some(shared) => shared.users = Users::Several,
                None => new.push(Shared { pack, length, users: Users::One(place) }),
            }
        }
        if !new.is_empty() {
            self.0.append(&mut new);
            // Both parts ascend, which this sort makes use of.
            self.0.sort_by_key(|shared| shared.pack);
        }
    }

    /// Bytes of the packs that each backup needs alone, by their places.
    fn exclusive(&self) -> BTreeMap<usize, u64> {
        let mut exclusive = BTreeMap::new();
        for Shared { length, users, .. } in &self.0 {
            if let Users::One(place) = users {
                *exclusive.entry(*place).or_default() += length;
            }
        }
        exclusive
    }
}

/// What was read of the backups of a stanza.
#[derive(Debug)]
pub(super) struct Found {
    /// Those that are asked for, oldest first.
    pub(super) backups: Vec<BackupReport>,
    /// How many there are.
    pub(super) count: usize,
    /// Bytes of the packs that they need; `None` where not all can be read.
    pub(super) pack_bytes: Option<u64>,
    /// The first error.
    pub(super) result: Result<()>,
}

/// Reads all backups of a stanza, many at once. One that is damaged does not hide the others.
///
/// # Errors
/// Where the backups can't be listed.
pub(super) fn read(settings: &InfoSettings, repository: &Repository, stanza: &StanzaName) -> Result<Found> {
    let listed: Vec<(usize, (Label, Vec<Ulid>))> =
        repository.backups_with_notes(stanza)?.into_iter().enumerate().collect();
    let threads = parallel::requests_at_once(repository.storage());
    let is_wanted = |label: &Label| {
        settings.kind.is_none_or(|kind| label.kind() == kind)
            && settings.set.as_deref().is_none_or(|set| label.as_str() == set)
    };
    let (lists, sharing) = (PackLists::default(), Mutex::new(Sharing::default()));
    let read = |(place, (label, notes)): &(usize, (Label, Vec<Ulid>))| -> Result<Option<BackupReport>> {
        let manifest = Manifest::open(repository, stanza, label)?;
        lists.read(&manifest, |packs| {
            let packs = packs.iter().map(|(id, pack)| (id, pack.length));
            sharing.lock().unwrap_or_else(PoisonError::into_inner).add(*place, packs);
        })?;
        let read = || read_backup(repository, stanza, &manifest, notes, settings.set.is_some());
        is_wanted(label).then(read).transpose()
    };
    let mut found: BTreeMap<usize, BackupReport> = BTreeMap::new();
    let mut failed: BTreeMap<usize, Error> = BTreeMap::new();
    parallel::for_each(&listed, threads, read, |(place, _), read| {
        match read {
            Ok(report) => found.extend(report.map(|report| (*place, report))),
            // It was removed a moment ago.
            Err(error) if error.kind() == ErrorKind::FileMissing => {}
            Err(error) => drop(failed.insert(*place, error)),
        }
        Ok(())
    })?;
    // Without having read all of them nobody knows what is needed by one alone.
    let mut pack_bytes = None;
    if failed.is_empty() {
        let sharing = sharing.into_inner().unwrap_or_else(PoisonError::into_inner);
        pack_bytes = Some(sharing.0.iter().map(|shared| shared.length).sum());
        let exclusive = sharing.exclusive();
        for (place, backup) in &mut found {
            backup.exclusive = Some(exclusive.get(place).copied().unwrap_or_default());
        }
    }
    let first_error = failed.into_iter().find(|(place, _)| is_wanted(&listed[*place].1.0));
    let result = first_error.map_or(Ok(()), |(_, error)| Err(error));
    Ok(Found { backups: found.into_values().collect(), count: listed.len(), pack_bytes, result })
}

fn read_backup(
    repository: &Repository,
    stanza: &StanzaName,
    manifest: &Manifest<'_>,
    notes: &[Ulid],
    in_detail: bool,
) -> Result<BackupReport> {
    let mut links = Vec::new();
    if in_detail {
        for entries in manifest.entries() {
            links.extend(entries?.iter().filter_map(link));
        }
    }
    let document = manifest.document().clone();
    let annotations = note::annotations(repository, stanza, &document.label, notes, &document.annotations)?;
    Ok(BackupReport { document, annotations, links, exclusive: None })
}

/// The link that an entry was, unless it is that of a tablespace.
fn link(entry: &Entry) -> Option<(String, String)> {
    let target = entry.link.as_deref().filter(|_| !entry.path.starts_with(b"pg_tblspc/"))?;
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    Some((text(&entry.path), text(target)))
}

#[cfg(test)]
mod tests {
    use ulid::Ulid;

    use super::*;

    #[test]
    fn a_backup_has_alone_what_no_other_needs() {
        let pack = |number: u32| (PackId { session: Ulid::from_bytes([1; 16]), number }, u64::from(number));
        let mut sharing = Sharing::default();
        sharing.add(2, [3, 10, 40].map(pack));
        sharing.add(0, [1, 10, 20].map(pack));
        sharing.add(1, []);
        sharing.add(3, [3, 10, 500].map(pack));
        assert_eq!(sharing.exclusive(), BTreeMap::from([(0, 21), (2, 40), (3, 500)]));
        let numbers: Vec<u32> = sharing.0.iter().map(|shared| shared.pack.number).collect();
        assert_eq!(numbers, [1, 3, 10, 20, 40, 500]);
    }
}
