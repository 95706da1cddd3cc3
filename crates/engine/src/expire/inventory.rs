//! What a stanza has: its backups with the packs that they need, as expire has to know it.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use pgark_postgres::Lsn;
use pgark_postgres::wal::name::{SegmentName, SegmentSize, Timeline};
use pgark_repository::garbage::{self, StoredPack};
use pgark_repository::manifest::{BackupPoint, Manifest, ManifestDocument, PackList, PackUse};
use pgark_repository::repository::Cluster;
use pgark_repository::{Label, PackId, names};
use pgark_system::termination;

use super::retention::Backup;
use crate::error::{Error, ErrorKind, Result};
use crate::parallel::{self, PackLists};
use crate::stanza::Stanza;

/// What was found.
#[derive(Debug)]
pub(super) struct Inventory {
    /// The backups that can be read, in the order of their labels.
    pub(super) backups: Vec<Backup>,
    /// Of each of them, which packs it needs.
    needs: BTreeMap<Label, PackSet>,
    /// All labels that have a manifest.
    pub(super) labels: BTreeSet<Label>,
    /// When the newest manifest was written, by the storage's clock.
    pub(super) newest_manifest: Option<Timestamp>,
    /// The packs by their numbers in a [`PackSet`].
    packs: Vec<PackId>,
}

/// Some of the packs that were listed, a bit for each: many backups need many packs.
#[derive(Clone, Debug)]
struct PackSet(Vec<u64>);

impl PackSet {
    fn new(count: usize) -> Self {
        Self(vec![0; count.div_ceil(64)])
    }

    fn insert(&mut self, number: usize) {
        self.0[number / 64] |= 1 << (number % 64);
    }

    fn add(&mut self, other: &Self) {
        self.0.iter_mut().zip(&other.0).for_each(|(one, other)| *one |= other);
    }

    fn contains(&self, number: usize) -> bool {
        self.0[number / 64] & 1 << (number % 64) != 0
    }
}

impl Inventory {
    /// Reads the manifests. `packs` are those that were listed before them. A manifest that can't be read is an error,
    /// since nobody knows what it needs, unless it is that of `expired`.
    ///
    /// # Errors
    /// Damage, or the storage's error.
    pub(super) fn read(
        stanza: &Stanza<'_>,
        packs: &BTreeMap<PackId, StoredPack>,
        expired: Option<&Label>,
    ) -> Result<Self> {
        let manifests = garbage::manifests(stanza.repository(), stanza.name())?;
        let mut inventory = Self {
            backups: Vec::new(),
            needs: BTreeMap::new(),
            labels: BTreeSet::new(),
            newest_manifest: manifests.values().map(|manifest| manifest.modified).max(),
            packs: packs.keys().copied().collect(),
        };
        let labels: Vec<Label> = manifests.into_keys().collect();
        let reading = Reading {
            stanza,
            clusters: &stanza.clusters()?,
            packs: &packs.iter().map(|(id, pack)| (*id, pack.length)).collect::<Vec<_>>(),
            lists: PackLists::default(),
        };
        let threads = parallel::requests_at_once(stanza.repository().storage());
        let (mut read, mut failed) = (BTreeMap::new(), BTreeMap::new());
        parallel::for_each(
            &labels,
            threads,
            |label| reading.backup(label),
            |label, found| {
                match found {
                    Ok(found) => drop(read.insert(label.clone(), found)),
                    // It was withdrawn a moment ago.
                    Err(error) if error.kind() == ErrorKind::FileMissing => {}
                    Err(error) => drop(failed.insert(label.clone(), error)),
                }
                termination::check().map_err(Error::from)
            },
        )?;
        for (label, error) in failed {
            if expired != Some(&label) {
                return Err(error
                    .hint("as long as nobody knows what this backup needs, nothing can be removed")
                    .hint(format!("remove the backup with expire --set={label} if it can't be repaired")));
            }
            tracing::warn!("the manifest of backup {label} can't be read: {}", error.full_message());
            inventory.labels.insert(label);
        }
        for (label, found) in read {
            if let Some(flaw) = &found.flaw {
                tracing::warn!(
                    "repo{}: backup {label} can't be restored and does not count: {flaw}\n\
                     HINT: run verify to see what is missing, and take a new backup",
                    stanza.key()
                );
            }
            inventory.backups.push(found.backup);
            inventory.needs.insert(label.clone(), found.needs);
            inventory.labels.insert(label);
        }
        Ok(inventory)
    }

    /// The packs that these backups need.
    pub(super) fn needed<'labels>(&self, labels: impl IntoIterator<Item = &'labels Label>) -> BTreeSet<PackId> {
        let mut all = PackSet::new(self.packs.len());
        labels.into_iter().filter_map(|label| self.needs.get(label)).for_each(|set| all.add(set));
        let packs = self.packs.iter().enumerate().filter(|(number, _)| all.contains(*number));
        packs.map(|(_, pack)| *pack).collect()
    }
}

/// A backup as its manifest tells of it.
#[derive(Debug)]
struct Found {
    backup: Backup,
    /// The packs that it needs.
    needs: PackSet,
    /// What is wrong with the first pack that is not as it should be.
    flaw: Option<String>,
}

/// What it takes to read manifests, many at once.
struct Reading<'reading> {
    stanza: &'reading Stanza<'reading>,
    clusters: &'reading [Cluster],
    /// The packs by their numbers in a [`PackSet`], with their lengths.
    packs: &'reading [(PackId, u64)],
    lists: PackLists,
}

impl Reading<'_> {
    fn backup(&self, label: &Label) -> Result<Found> {
        let manifest = Manifest::open(self.stanza.repository(), self.stanza.name(), label)?;
        let (needs, flaw) = self.lists.read(&manifest, |needed| self.needs(needed))??;
        let backup = describe(self.clusters, manifest.document(), flaw.is_none())?;
        Ok(Found { backup, needs, flaw })
    }

    /// Which packs are needed, and what is wrong with the first one that is not as the manifest says.
    fn needs(&self, needed: &PackList) -> Result<(PackSet, Option<String>)> {
        let (mut needs, mut flaw) = (PackSet::new(self.packs.len()), None);
        let mut listed = self.packs.iter().enumerate().peekable();
        // Both ascend: side by side takes less than looking for each pack.
        for (id, PackUse { length, .. }) in needed.iter() {
            while listed.next_if(|(_, (listed, _))| *listed < id).is_some() {}
            let found = listed.next_if(|(_, (listed, _))| *listed == id);
            if let Some((number, _)) = found {
                needs.insert(number);
            }
            let found = found.map(|(_, (_, length))| *length);
            if flaw.is_none() && found != Some(length) {
                flaw = self.flaw(id, length, found)?;
            }
        }
        Ok((needs, flaw))
    }

    /// What is wrong with a pack that should have so many bytes, by what was listed of it.
    fn flaw(&self, id: PackId, length: u64, listed: Option<u64>) -> Result<Option<String>> {
        let found = if listed.is_some() {
            listed
        } else {
            // It may have been written since the packs were listed.
            let name = names::pack(self.stanza.name(), id)?;
            self.stanza.repository().storage().head(&name)?.map(|found| found.size)
        };
        Ok(match found {
            None => Some(format!("pack {id} is missing")),
            Some(found) if found != length => Some(format!("pack {id} has {found} bytes instead of {length}")),
            Some(_) => None,
        })
    }
}

/// What retention has to know of a backup.
fn describe(clusters: &[Cluster], document: &ManifestDocument, is_whole: bool) -> Result<Backup> {
    let label = &document.label;
    let damaged = |what: &str| {
        Error::new(ErrorKind::FileInvalid, format!("the manifest of backup {label} makes no sense: {what}"))
    };
    let cluster = clusters.iter().find(|cluster| cluster.id == document.cluster.id);
    let cluster = cluster.ok_or_else(|| damaged("it is of a cluster that the stanza never had"))?;
    let segment = |point: &BackupPoint| point.wal_segment.as_deref().map(str::parse).transpose();
    let no_segment = |_| damaged("a WAL segment has no name of one");
    let (first, last): (Option<SegmentName>, Option<SegmentName>) =
        (segment(&document.start).map_err(no_segment)?, segment(&document.stop).map_err(no_segment)?);
    let from = match first {
        Some(first) => first,
        None => from_lsn(document).ok_or_else(|| damaged("it does not say where it begins"))?,
    };
    Ok(Backup {
        label: label.clone(),
        stop: document.stop.time,
        archive: cluster.archive(),
        wal: first.zip(last),
        from,
        is_whole,
    })
}

/// Where the recovery of an offline backup begins.
fn from_lsn(document: &ManifestDocument) -> Option<SegmentName> {
    let lsn: Lsn = document.start.lsn.as_deref()?.parse().ok()?;
    let size = SegmentSize::new(u64::from(document.cluster.wal_segment_size)).ok()?;
    Some(SegmentName::of_lsn(Timeline(document.start.timeline), lsn, size))
}
