//! What there is: stanzas, clusters, archives and backups of all repositories, as values.
//!
//! A repository that can't be read keeps nobody from hearing of the others: what is wrong with it is its status. The
//! statuses are pgBackRest's.

mod backups;
mod window;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use pgark_postgres::wal::name::{SegmentName, SegmentSize};
use pgark_repository::manifest::{Manifest, ManifestDocument};
use pgark_repository::repository::Cluster;
use pgark_repository::session::{SessionDocument, SessionKind, Sessions};
use pgark_repository::wal::Archive;
use pgark_repository::{Encryption, LabelKind, Repository, StanzaName};

use self::backups::Found;
pub use self::window::{MissingWal, Window};
use crate::coverage::BackupSpan;
use crate::error::{Error, Result};
use crate::lock::{self, Held};
use crate::parallel;
use crate::stanza::{RepositorySettings, Stanza};

/// What is to be told.
#[derive(Debug)]
pub struct InfoSettings {
    /// The stanza; all that there are if `None`.
    pub stanza: Option<StanzaName>,
    /// The repositories.
    pub repositories: Vec<RepositorySettings>,
    /// Backups of this type only.
    pub kind: Option<LabelKind>,
    /// The backup of this label only, with all there is to tell of it.
    pub set: Option<String>,
    /// Whether to tell only what is running.
    pub progress_only: bool,
    /// Where lock files are.
    pub lock_path: PathBuf,
}

/// What there is of one stanza.
#[derive(Debug)]
pub struct StanzaReport {
    /// The stanza; `None` stands for those that could not be found out.
    pub name: Option<StanzaName>,
    /// What each repository has, in the order of their keys.
    pub repositories: Vec<RepositoryReport>,
}

/// What a repository has of a stanza.
#[derive(Debug)]
pub struct RepositoryReport {
    /// Which of the configured repositories.
    pub key: u32,
    /// How it is encrypted, as the configuration says.
    pub cipher: &'static str,
    /// Whether all is well.
    pub status: RepositoryStatus,
    /// The clusters that the stanza has had, oldest first.
    pub clusters: Vec<ClusterReport>,
    /// The backups that were asked for, oldest first.
    pub backups: Vec<BackupReport>,
    /// Bytes of the packs that all backups need, each counted once; `None` where not all backups can be read.
    pub pack_bytes: Option<u64>,
    /// The backup into this repository that is running on this host, or the expire.
    pub backup: Option<Held>,
    /// The restore from this repository that is running on this host.
    pub restore: Option<Held>,
    /// The backups into this repository that are at work, on whichever host, where all was asked for.
    pub sessions: Vec<SessionDocument>,
}

/// How it is with a stanza in a repository.
#[derive(Debug)]
pub enum RepositoryStatus {
    /// It has backups.
    Ok,
    /// The repository has no such stanza.
    MissingStanzaPath,
    /// It has no backup.
    NoBackups,
    /// There is something of the stanza, but not what makes it one.
    MissingStanzaData,
    /// It does not have the backup that was asked for, and neither has any other repository.
    SetMissing,
    /// It can't be read, or something in it can't be.
    Other(Arc<Error>),
}

/// How it is with a stanza in all repositories.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StanzaStatus {
    /// It has backups in each of them.
    Ok,
    /// None of them has it.
    MissingStanzaPath,
    /// None of them has a backup of it.
    NoBackups,
    /// All of them lack what makes it a stanza.
    MissingStanzaData,
    /// The repositories differ.
    Mixed,
    /// The repositories have it for different clusters.
    ClusterMismatch,
    /// None of them has the backup that was asked for.
    SetMissing,
    /// None of them can be read.
    Other,
}

/// A cluster of a stanza.
#[derive(Debug)]
pub struct ClusterReport {
    /// The cluster.
    pub cluster: Cluster,
    /// The first and the last WAL segment in its archive, by name.
    pub segments: Option<(SegmentName, SegmentName)>,
    /// Which moments can be reached from its backups, where all of these were asked for.
    pub windows: Vec<Window>,
    /// WAL that is missing for a recovery from one of its backups.
    pub missing: Vec<MissingWal>,
}

/// A backup.
#[derive(Debug)]
pub struct BackupReport {
    /// What its manifest says of it.
    pub document: ManifestDocument,
    /// What the user has written on it, until now.
    pub annotations: BTreeMap<String, String>,
    /// The symbolic links in it that lead to no tablespace: name and destination. Only of a backup that was asked for by
    /// its label.
    pub links: Vec<(String, String)>,
    /// Bytes of the packs that no other backup needs: what the repository would have less without this one. None where
    /// not all manifests can be read.
    pub exclusive: Option<u64>,
}

/// Finds out what there is. What can't be found out is part of the answer.
pub fn run(settings: &InfoSettings) -> Vec<StanzaReport> {
    let mut failed = Vec::new();
    let mut stanzas: BTreeMap<StanzaName, BTreeMap<u32, RepositoryReport>> = BTreeMap::new();
    if let Some(stanza) = &settings.stanza {
        stanzas.insert(stanza.clone(), BTreeMap::new());
    }
    for repository in &settings.repositories {
        match of_repository(settings, repository) {
            Ok(found) => {
                for (stanza, report) in found {
                    stanzas.entry(stanza).or_default().insert(repository.key, report);
                }
            }
            Err(error) => failed.push((repository, error)),
        }
    }
    let mut reports: Vec<_> = stanzas
        .into_iter()
        .map(|(name, repositories)| StanzaReport {
            repositories: with_missing(&settings.repositories, repositories),
            name: Some(name),
        })
        .collect();
    record_failures(settings, failed, &mut reports);
    if settings.set.is_some() {
        reports.iter_mut().for_each(StanzaReport::look_for_set);
    }
    reports
}

/// What a repository has of each of its stanzas that is asked for.
fn of_repository(settings: &InfoSettings, from: &RepositorySettings) -> Result<Vec<(StanzaName, RepositoryReport)>> {
    let repository = from.open()?.repository;
    let wanted = |name: &StanzaName| settings.stanza.as_ref().is_none_or(|stanza| stanza == name);
    let stanzas = repository.stanzas()?.into_iter().filter(wanted);
    Ok(stanzas.map(|stanza| (stanza.clone(), of_stanza(settings, from, &repository, &stanza))).collect())
}

fn of_stanza(
    settings: &InfoSettings,
    from: &RepositorySettings,
    repository: &Repository,
    stanza: &StanzaName,
) -> RepositoryReport {
    let look = |kind: &str| lock::look(&settings.lock_path, stanza, kind, from.key);
    let mut report = RepositoryReport {
        backup: look("backup"),
        restore: look("restore"),
        ..RepositoryReport::new(from, RepositoryStatus::Ok)
    };
    if !settings.progress_only
        && let Err(error) = report.read(settings, repository, stanza)
    {
        report.status = RepositoryStatus::Other(Arc::new(error));
    }
    report
}

impl RepositoryReport {
    fn new(from: &RepositorySettings, status: RepositoryStatus) -> Self {
        let cipher = match from.encryption {
            Encryption::None => "none",
            Encryption::Passphrase(_) => "aes-256-gcm",
        };
        let (clusters, backups, sessions) = (Vec::new(), Vec::new(), Vec::new());
        let (pack_bytes, backup, restore) = (None, None, None);
        Self { key: from.key, cipher, status, clusters, backups, pack_bytes, backup, restore, sessions }
    }

    /// Reads what the repository has. What was read before an error stays in the report.
    fn read(&mut self, settings: &InfoSettings, repository: &Repository, stanza: &StanzaName) -> Result<()> {
        let clusters = repository.clusters(stanza)?;
        if clusters.is_empty() {
            self.status = RepositoryStatus::MissingStanzaData;
            return Ok(());
        }
        for cluster in clusters {
            let segments = archived_segments(&Archive::new(repository, stanza.clone(), cluster.archive()))?;
            self.clusters.push(ClusterReport { cluster, segments, windows: Vec::new(), missing: Vec::new() });
        }
        self.read_backups(settings, repository, stanza)
    }

    /// Reads the backups that are asked for, and what can be recovered from them. What is asked for by label or type is
    /// told without: it takes all backups to know.
    fn read_backups(&mut self, settings: &InfoSettings, repository: &Repository, stanza: &StanzaName) -> Result<()> {
        let Found { backups, count, pack_bytes, result } = backups::read(settings, repository, stanza)?;
        if count == 0 {
            self.status = RepositoryStatus::NoBackups;
        }
        self.backups = backups;
        self.pack_bytes = pack_bytes;
        if settings.kind.is_none() && settings.set.is_none() {
            // Who is at work is worth no error: a session may be a newer program's.
            let sessions = Sessions::look(repository, stanza).unwrap_or_default();
            let is_at_work = |session: &SessionDocument| {
                session.kind == SessionKind::Backup && !sessions.silent.contains(&session.id)
            };
            self.sessions = sessions.live.iter().filter(|session| is_at_work(session)).cloned().collect();
            self.find_windows(repository, stanza)?;
        }
        result
    }

    fn find_windows(&mut self, repository: &Repository, stanza: &StanzaName) -> Result<()> {
        let threads = parallel::requests_at_once(repository.storage());
        for found in &mut self.clusters {
            let is_of_it = |document: &&ManifestDocument| document.cluster.id == found.cluster.id;
            let documents: Vec<_> = self.backups.iter().map(|backup| &backup.document).filter(is_of_it).collect();
            let archive = Archive::new(repository, stanza.clone(), found.cluster.archive());
            (found.windows, found.missing) = window::find(&archive, &documents, threads)?;
        }
        Ok(())
    }
}

/// WAL of a stanza's current cluster that is missing after its newest backup began: no recovery gets past it, until there
/// is another backup.
///
/// # Errors
/// Damage, or the storage's error.
pub(crate) fn missing_since_newest_backup(stanza: &Stanza<'_>) -> Result<Vec<MissingWal>> {
    let (repository, current) = (stanza.repository(), stanza.current());
    let mut documents = Vec::new();
    for label in repository.backups(stanza.name())? {
        let manifest = Manifest::open(repository, stanza.name(), &label)?;
        if manifest.document().cluster.id == current.id {
            documents.push(manifest.document().clone());
        }
    }
    let documents: Vec<_> = documents.iter().collect();
    let newest = documents.iter().filter_map(|document| BackupSpan::of(document)).map(|span| span.first).max();
    let size = documents.last().and_then(|last| SegmentSize::new(u64::from(last.cluster.wal_segment_size)).ok());
    let Some((newest, size)) = newest.zip(size) else { return Ok(Vec::new()) };
    let threads = parallel::requests_at_once(repository.storage());
    let (_, mut missing) = window::find(&stanza.archive(current), &documents, threads)?;
    missing.retain(|gap| gap.last.number(size).is_some_and(|last| last >= newest));
    Ok(missing)
}

/// The first and the last segment of an archive.
fn archived_segments(archive: &Archive<'_>) -> Result<Option<(SegmentName, SegmentName)>> {
    let directories = archive.directories()?;
    let first = first_found(directories.iter().map(|directory| Ok(segments(archive, directory)?.min())))?;
    let last = first_found(directories.iter().rev().map(|directory| Ok(segments(archive, directory)?.max())))?;
    Ok(first.zip(last))
}

fn segments(archive: &Archive<'_>, directory: &str) -> Result<impl Iterator<Item = SegmentName>> {
    Ok(archive.files(directory)?.into_iter().filter_map(|file| file.parse().ok()))
}

/// The first thing that is there. A directory of the archive may have no segments in it.
fn first_found<T>(tries: impl IntoIterator<Item = Result<Option<T>>>) -> Result<Option<T>> {
    tries.into_iter().find_map(Result::transpose).transpose()
}

/// The reports of all repositories, those that do not have the stanza included.
fn with_missing(
    repositories: &[RepositorySettings],
    mut found: BTreeMap<u32, RepositoryReport>,
) -> Vec<RepositoryReport> {
    let missing = |settings| RepositoryReport::new(settings, RepositoryStatus::MissingStanzaPath);
    repositories.iter().map(|settings| found.remove(&settings.key).unwrap_or_else(|| missing(settings))).collect()
}

/// Tells of repositories that could not be read with each stanza, since each may be in them; if there is none, with one
/// that has no name.
fn record_failures(
    settings: &InfoSettings,
    failed: Vec<(&RepositorySettings, Error)>,
    reports: &mut Vec<StanzaReport>,
) {
    if !failed.is_empty() && reports.is_empty() {
        let repositories = with_missing(&settings.repositories, BTreeMap::new());
        reports.push(StanzaReport { name: None, repositories });
    }
    for (repository, error) in failed {
        let error = Arc::new(error);
        for report in reports.iter_mut().flat_map(|stanza| &mut stanza.repositories) {
            if report.key == repository.key {
                report.status = RepositoryStatus::Other(Arc::clone(&error));
            }
        }
    }
}

impl StanzaReport {
    /// How it is with the stanza in all repositories.
    pub fn status(&self) -> StanzaStatus {
        let current = self.current();
        let differs = |report: &RepositoryReport| report.current().is_some_and(|other| Some(other) != current);
        if self.repositories.iter().any(differs) {
            return StanzaStatus::ClusterMismatch;
        }
        let mut statuses = self.repositories.iter().map(|report| report.status.of_stanza());
        let first = statuses.next().unwrap_or(StanzaStatus::MissingStanzaPath);
        if statuses.all(|status| status == first) { first } else { StanzaStatus::Mixed }
    }

    /// PostgreSQL version and system identifier of the cluster that the stanza has now: that of the first repository
    /// that knows.
    pub fn current(&self) -> Option<(&str, &str)> {
        self.repositories.iter().find_map(RepositoryReport::current)
    }

    /// The backups and expires of the stanza that are running on this host, with the keys of their repositories.
    pub fn running_backups(&self) -> Vec<(u32, &Held)> {
        self.repositories.iter().filter_map(|report| Some((report.key, report.backup.as_ref()?))).collect()
    }

    /// The restores of the stanza that are running on this host, with the keys of their repositories.
    pub fn running_restores(&self) -> Vec<(u32, &Held)> {
        self.repositories.iter().filter_map(|report| Some((report.key, report.restore.as_ref()?))).collect()
    }

    /// The backups of all repositories with the key of theirs, by the time of their end.
    pub fn backups(&self) -> Vec<(u32, &BackupReport)> {
        let mut backups = Vec::new();
        for report in &self.repositories {
            backups.extend(report.backups.iter().map(|backup| (report.key, backup)));
        }
        backups.sort_by_key(|(_, backup)| backup.document.stop.time);
        backups
    }

    /// Where the backup that was asked for is nowhere, no repository is well.
    fn look_for_set(&mut self) {
        if self.repositories.iter().any(|report| !report.backups.is_empty()) {
            return;
        }
        for report in &mut self.repositories {
            if matches!(report.status, RepositoryStatus::Ok) {
                report.status = RepositoryStatus::SetMissing;
                report.clusters.clear();
            }
        }
    }
}

impl RepositoryReport {
    fn current(&self) -> Option<(&str, &str)> {
        self.clusters.last().map(|current| (current.cluster.version.as_str(), current.cluster.system_id.as_str()))
    }
}

impl RepositoryStatus {
    /// The same for a stanza as a whole.
    pub fn of_stanza(&self) -> StanzaStatus {
        match self {
            Self::Ok => StanzaStatus::Ok,
            Self::MissingStanzaPath => StanzaStatus::MissingStanzaPath,
            Self::NoBackups => StanzaStatus::NoBackups,
            Self::MissingStanzaData => StanzaStatus::MissingStanzaData,
            Self::SetMissing => StanzaStatus::SetMissing,
            Self::Other(_) => StanzaStatus::Other,
        }
    }
}
