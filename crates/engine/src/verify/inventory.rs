//! What there is of a stanza, by manifests and listings, in the order in which readers go: backwards. Manifests first:
//! whatever they need was there before them, so that what a later listing does not have is missing, however busy others
//! are.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

use pgark_postgres::wal::history::TimelineHistory;
use pgark_postgres::wal::name::{SegmentName, SegmentSize, WalFileName};
use pgark_repository::manifest::{Manifest, ManifestDocument, PackUse};
use pgark_repository::repository::Cluster;
use pgark_repository::wal::Archive;
use pgark_repository::{Error as RepositoryError, Label, PackId, Repository, StanzaName, inventory, names};
use ulid::Ulid;

use super::finding::{Finding, Flaw, Part, flaw_or_error};
use super::work::Unit;
use crate::coverage::{BackupSpan, Coverage};
use crate::error::Result;
use crate::parallel::{self, PackLists};
use crate::stanza::Stanza;

/// Everything that is to be checked.
#[derive(Debug)]
pub(super) struct Inventory<'verify> {
    /// Whether only one backup and what it needs is in it.
    pub(super) is_one_set: bool,
    /// The backups, oldest first.
    pub(super) backups: Vec<Label>,
    /// The packs that they need.
    pub(super) packs: BTreeMap<PackId, NeededPack>,
    /// Packs that no backup needs.
    pub(super) orphans: Orphans,
    pub(super) archives: Vec<ArchiveInventory<'verify>>,
    /// What was seen already to be wrong.
    pub(super) findings: Vec<Subject>,
}

/// A finding with what it is about, from which follows whom it concerns.
#[derive(Debug)]
pub(super) struct Subject {
    pub(super) finding: Finding,
    pub(super) about: About,
}

/// What a finding is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum About {
    /// The manifest of a backup.
    Backup(Label),
    /// A pack; its findings are put together when all of them are known.
    Pack(PackId),
    /// A segment of an archive, by its place among the archives.
    Segment(usize, SegmentName),
    /// Something on which no backup depends by itself.
    Other,
}

/// A pack that a backup needs.
#[derive(Clone, Copy, Debug)]
pub(super) struct NeededPack {
    pub(super) length: u64,
    pub(super) root: [u8; 32],
    /// Its length as it is listed.
    pub(super) stored: Option<u64>,
}

/// Packs that no backup needs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Orphans {
    /// How many were left by sessions that are over.
    pub packs: u64,
    /// Bytes of these.
    pub bytes: u64,
    /// How many belong to sessions that the repository still has, as that of a running backup.
    pub of_sessions: u64,
}

/// An archive.
#[derive(Debug)]
pub(super) struct ArchiveInventory<'verify> {
    pub(super) archive: Archive<'verify>,
    pub(super) cluster: Cluster,
    /// Segments and histories; none where there is no WAL.
    pub(super) coverage: Option<Coverage>,
    /// How many segments there are, and how many bytes they take together.
    pub(super) stored: (u64, u64),
    /// The files that are no whole segments.
    pub(super) files: Vec<String>,
    /// All backups that are recovered with it, those included that are not to be checked: what retention has removed is
    /// seen only beside them.
    pub(super) spans: Vec<BackupSpan>,
}

/// Finds out what there is. With `set`, what this backup needs.
///
/// # Errors
/// Where the storage does not answer.
pub(super) fn take<'verify>(stanza: &Stanza<'verify>, set: Option<&Label>) -> Result<Inventory<'verify>> {
    let (repository, name) = (stanza.repository(), stanza.name());
    let backups = repository.backups(name)?;
    let mut inventory = Inventory {
        is_one_set: set.is_some(),
        backups,
        packs: BTreeMap::new(),
        orphans: Orphans::default(),
        archives: archives(stanza)?,
        findings: Vec::new(),
    };
    inventory.read_manifests(repository, name, set)?;
    inventory.list_packs(repository, name)?;
    for archive in &mut inventory.archives {
        archive.list(&mut inventory.findings)?;
    }
    Ok(inventory)
}

/// The archives of a stanza, each once.
fn archives<'verify>(stanza: &Stanza<'verify>) -> Result<Vec<ArchiveInventory<'verify>>> {
    let mut archives: Vec<ArchiveInventory<'verify>> = Vec::new();
    for cluster in stanza.clusters()?.iter() {
        if archives.iter().all(|known| *known.archive.id() != cluster.archive()) {
            archives.push(ArchiveInventory {
                archive: stanza.archive(cluster),
                cluster: cluster.clone(),
                coverage: None,
                stored: (0, 0),
                files: Vec::new(),
                spans: Vec::new(),
            });
        }
    }
    Ok(archives)
}

impl Inventory<'_> {
    /// About how many bytes of packs and WAL are read for these pieces of work: the segments of an archive count as long as
    /// its segments are on average.
    pub(super) fn bytes(&self, units: &[(Option<i64>, Unit)]) -> u64 {
        let of_unit = |unit: &Unit| match unit {
            Unit::Pack(id) => self.packs.get(id).map_or(0, |pack| pack.length),
            Unit::Row(place, row) => {
                let (count, bytes) = self.archives.get(*place).map_or((0, 0), |archive| archive.stored);
                (row.last - row.first).saturating_add(1).saturating_mul(bytes / count.max(1))
            }
            Unit::Small(..) | Unit::File(..) | Unit::Backup(_) => 0,
        };
        units.iter().map(|(_, unit)| of_unit(unit)).fold(0, u64::saturating_add)
    }

    fn read_manifests(&mut self, repository: &Repository, stanza: &StanzaName, set: Option<&Label>) -> Result<()> {
        let is_wanted = |label: &Label| set.is_none_or(|set| set == label);
        let threads = parallel::requests_at_once(repository.storage());
        let labels = std::mem::take(&mut self.backups);
        let (lists, packs) = (PackLists::default(), Mutex::new(std::mem::take(&mut self.packs)));
        // The document, and a pack of which other backups say something else.
        let open = |label: &Label| -> Result<(ManifestDocument, Option<PackId>), RepositoryError> {
            let manifest = Manifest::open(repository, stanza, label)?;
            if !is_wanted(label) {
                return Ok((manifest.document().clone(), None));
            }
            let contradicted = lists.read(&manifest, |list| {
                let mut packs = packs.lock().unwrap_or_else(PoisonError::into_inner);
                list.iter().filter(|(id, pack)| !need(&mut packs, *id, pack)).map(|(id, _)| id).last()
            })?;
            Ok((manifest.document().clone(), contradicted))
        };
        // What was read wrongly once may be right the next time.
        let open = |label: &Label| open(label).or_else(|_| open(label));
        parallel::for_each(&labels, threads, open, |label, opened| match flaw_or_error(opened)? {
            Ok((document, contradicted)) => {
                self.add_span(&document);
                let Some(id) = contradicted else { return Ok(()) };
                let what = format!("it says of pack {id} something else than another backup does");
                self.about_backup(stanza, label, Flaw::inconsistent(what))
            }
            Err(_) if !is_wanted(label) => Ok(()),
            Err(flaw) => self.about_backup(stanza, label, flaw),
        })?;
        self.packs = packs.into_inner().unwrap_or_else(PoisonError::into_inner);
        self.backups = labels.into_iter().filter(is_wanted).collect();
        self.archives.iter_mut().for_each(|archive| archive.spans.sort_by(|one, other| one.label.cmp(&other.label)));
        Ok(())
    }

    fn add_span(&mut self, document: &ManifestDocument) {
        let cluster = &document.cluster;
        let archive = self.archives.iter_mut().find(|archive| {
            archive.cluster.version == cluster.version && archive.cluster.system_id == cluster.system_id
        });
        if let Some(archive) = archive
            && let Some(span) = BackupSpan::of(document)
            && let Ok(size) = SegmentSize::new(u64::from(cluster.wal_segment_size))
        {
            archive.coverage.get_or_insert_with(|| Coverage::new(size));
            archive.spans.push(span);
        }
    }

    fn about_backup(&mut self, stanza: &StanzaName, label: &Label, flaw: Flaw) -> Result<()> {
        let finding = flaw.at(Part::Manifest, names::manifest(stanza, label)?.as_str());
        self.findings.push(Subject { finding, about: About::Backup(label.clone()) });
        Ok(())
    }

    fn list_packs(&mut self, repository: &Repository, stanza: &StanzaName) -> Result<()> {
        let sessions: BTreeSet<Ulid> = inventory::sessions(repository, stanza)?.into_iter().collect();
        inventory::packs(repository, stanza, &mut |id, length| match self.packs.get_mut(&id) {
            Some(needed) => needed.stored = Some(length),
            None if self.is_one_set => {}
            None if sessions.contains(&id.session) => self.orphans.of_sessions += 1,
            None => {
                self.orphans.packs += 1;
                self.orphans.bytes += length;
            }
        })?;
        let is_odd = |(_, needed): &(&PackId, &mut NeededPack)| needed.stored != Some(needed.length);
        let odd: Vec<PackId> = self.packs.iter_mut().filter(is_odd).map(|(id, _)| *id).collect();
        // Whoever lists badly may still have the object.
        let look = |id: &PackId| -> Result<Option<u64>, RepositoryError> {
            Ok(repository.storage().head(&names::pack(stanza, *id)?)?.map(|info| info.size))
        };
        parallel::for_each(&odd, parallel::requests_at_once(repository.storage()), look, |id, stored| {
            let stored = flaw_or_error(stored)?;
            let Some(needed) = self.packs.get_mut(id) else { return Ok(()) };
            let flaw = match stored {
                Err(flaw) => flaw,
                Ok(None) => Flaw::missing(),
                Ok(Some(stored)) if stored != needed.length => {
                    Flaw::size(format!("it has {stored} bytes, where {} were written", needed.length))
                }
                Ok(stored) => {
                    needed.stored = stored;
                    return Ok(());
                }
            };
            let finding = flaw.at(Part::Pack, names::pack(stanza, *id)?.as_str());
            self.findings.push(Subject { finding, about: About::Pack(*id) });
            Ok(())
        })
    }
}

/// Notes that a pack is needed. Whether it is the same as that of other backups.
fn need(packs: &mut BTreeMap<PackId, NeededPack>, id: PackId, pack: &PackUse) -> bool {
    let needed = packs.entry(id).or_insert(NeededPack { length: pack.length, root: pack.root, stored: None });
    (needed.length, needed.root) == (pack.length, pack.root)
}

impl ArchiveInventory<'_> {
    /// Lists the archive.
    pub(super) fn list(&mut self, findings: &mut Vec<Subject>) -> Result<()> {
        let (mut segments, mut files) = (Vec::new(), Vec::new());
        let (mut coverage, mut stored) = (self.coverage.take(), (0, 0));
        self.archive.list(&mut |key, bytes| match (key.name().parse(), &mut coverage) {
            (Ok(WalFileName::Segment(segment)), coverage) => {
                stored = (stored.0 + 1, stored.1 + bytes);
                match coverage {
                    Some(coverage) => coverage.add_segment(segment),
                    None => segments.push(segment),
                }
            }
            (Ok(_), _) => files.push(key.name().to_owned()),
            (Err(_), _) => {}
        })?;
        if coverage.is_none()
            && let Some(first) = segments.first()
            && let Ok(object) = flaw_or_error(self.archive.segment(&first.to_string()))?
            && let Ok(size) = SegmentSize::new(object.document().size)
        {
            // An archive without backups.
            let listed = coverage.insert(Coverage::new(size));
            for segment in segments {
                listed.add_segment(segment);
            }
        }
        for file in &files {
            if let (Ok(WalFileName::History(timeline)), Some(coverage)) = (file.parse(), &mut coverage) {
                let read = flaw_or_error(self.archive.history(file).or_else(|_| self.archive.history(file)))?;
                let parsed = read.and_then(|bytes| {
                    TimelineHistory::parse(timeline, &String::from_utf8_lossy(&bytes))
                        .map_err(|error| Flaw::inconsistent(error.to_string()))
                });
                match parsed {
                    Ok(history) => coverage.add_history(history),
                    Err(flaw) => findings.push(self.about_file(file, flaw)?),
                }
            }
        }
        (self.coverage, self.files, self.stored) = (coverage, files, stored);
        Ok(())
    }

    /// Lists the archive once more, for others may have changed it.
    pub(super) fn list_again(&mut self) -> Result<()> {
        self.coverage = self.coverage.take().map(|coverage| Coverage::new(coverage.size()));
        self.list(&mut Vec::new())
    }

    /// A finding about a file of the archive that is no segment.
    pub(super) fn about_file(&self, file: &str, flaw: Flaw) -> Result<Subject> {
        Ok(Subject { finding: flaw.at(Part::Other, self.archive.object_name(file)?.as_str()), about: About::Other })
    }
}
