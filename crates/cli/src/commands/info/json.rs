//! The report for programs: pgBackRest's members, in the order of the alphabet.
//!
//! Members are declared in that order, as `serde` writes them. `backrest` keeps its name, since monitoring looks for it.

use std::collections::BTreeMap;

use jiff::Timestamp;
use pgark_engine::info::{BackupReport, ClusterReport, MissingWal, RepositoryReport, StanzaReport, Window};
use pgark_engine::lock::Held;
use pgark_engine::{Error, ErrorKind};
use pgark_repository::manifest::{DamagedFile, ManifestDocument, Sidecar};
use pgark_repository::{Label, LabelKind};
use serde::Serialize;

use super::{TEMPLATE_DATABASES, View, common_cipher, name, progress, repository_status, stanza_status};
use crate::failure::Result;

/// The format that pgBackRest's repositories have had for many years.
const BACKREST_FORMAT: u32 = 5;

/// All stanzas in one line, without a line feed.
pub(super) fn render(stanzas: &[StanzaReport], view: View) -> Result<String> {
    let rendered = if view.progress_only {
        serde_json::to_string(&stanzas.iter().map(Progress::of).collect::<Vec<_>>())
    } else {
        serde_json::to_string(&stanzas.iter().map(|stanza| Stanza::of(stanza, view)).collect::<Vec<_>>())
    };
    rendered.map_err(|error| Error::new(ErrorKind::Runtime, "failed to write JSON").source(error).into())
}

#[derive(Serialize)]
struct Progress<'report> {
    name: &'report str,
    status: Status,
}

#[derive(Serialize)]
struct Stanza<'report> {
    archive: Vec<Archive>,
    backup: Vec<Backup<'report>>,
    cipher: &'static str,
    db: Vec<Database<'report>>,
    name: &'report str,
    repo: Vec<Repository<'report>>,
    status: Status,
}

#[derive(Serialize)]
struct Archive {
    database: ClusterKey,
    id: String,
    max: Option<String>,
    min: Option<String>,
    /// What pgBackRest does not tell.
    pgark: ArchiveDetails,
}

#[derive(Serialize)]
struct ArchiveDetails {
    missing: Vec<Missing>,
    window: Vec<Reachable>,
}

/// WAL segments that are missing.
#[derive(Serialize)]
struct Missing {
    #[serde(rename = "by-retention")]
    by_retention: bool,
    count: u64,
    first: String,
    last: String,
}

/// Moments that can be reached.
#[derive(Serialize)]
struct Reachable {
    backup: String,
    lsn: Span<String>,
    timeline: u32,
    timestamp: Span<Option<i64>>,
}

/// Which cluster of which repository.
#[derive(Serialize)]
struct ClusterKey {
    id: u32,
    #[serde(rename = "repo-key")]
    repository: u32,
}

#[derive(Serialize)]
struct Backup<'report> {
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotation: &'report BTreeMap<String, String>,
    archive: Span<Option<&'report str>>,
    backrest: Backrest<'report>,
    database: ClusterKey,
    #[serde(rename = "database-ref", skip_serializing_if = "Option::is_none")]
    databases: Option<Vec<Object<'report>>>,
    error: bool,
    #[serde(rename = "error-list", skip_serializing_if = "Vec::is_empty")]
    damaged_files: Vec<&'report str>,
    info: Sizes,
    label: &'report str,
    #[serde(skip_serializing_if = "List::is_left_out")]
    link: List<Link<'report>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    lsn: Option<Span<&'report str>>,
    /// What pgBackRest does not tell.
    pgark: BackupDetails<'report>,
    prior: Option<&'report str>,
    /// The backups that this one can't be restored without. There are none, ever.
    reference: Option<Vec<&'report str>>,
    #[serde(skip_serializing_if = "List::is_left_out")]
    tablespace: List<Tablespace<'report>>,
    timestamp: Span<i64>,
    #[serde(rename = "type")]
    kind: String,
}

#[derive(Serialize)]
struct BackupDetails<'report> {
    /// The damaged pages of files. Only of a backup that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    damaged: Option<&'report [DamagedFile]>,
    /// Bytes of the repository that only this backup needs; null where it can't be known.
    exclusive: Option<u64>,
    /// The directories that were backed up with the cluster. Only of a backup that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    sidecar: Option<&'report [Sidecar]>,
}

/// What is told of one backup only, and then as `null` where there is nothing.
#[derive(Serialize)]
#[serde(untagged)]
enum List<T> {
    LeftOut,
    None(()),
    Some(Vec<T>),
}

impl<T> List<T> {
    fn of(items: impl Iterator<Item = T>, view: View) -> Self {
        let items: Vec<_> = items.collect();
        match (view.one_backup, items.is_empty()) {
            (false, _) => Self::LeftOut,
            (true, true) => Self::None(()),
            (true, false) => Self::Some(items),
        }
    }

    fn is_left_out(&self) -> bool {
        matches!(self, Self::LeftOut)
    }
}

#[derive(Serialize)]
struct Span<T> {
    start: T,
    stop: T,
}

#[derive(Serialize)]
struct Backrest<'report> {
    format: u32,
    version: &'report str,
}

#[derive(Serialize)]
struct Object<'report> {
    name: &'report str,
    oid: u32,
}

#[derive(Serialize)]
struct Link<'report> {
    destination: &'report str,
    name: &'report str,
}

#[derive(Serialize)]
struct Tablespace<'report> {
    destination: &'report str,
    name: &'report str,
    oid: u32,
}

#[derive(Serialize)]
struct Sizes {
    delta: u64,
    repository: RepositorySizes,
    size: u64,
}

#[derive(Serialize)]
struct RepositorySizes {
    delta: u64,
    size: u64,
}

#[derive(Serialize)]
struct Database<'report> {
    id: u32,
    #[serde(rename = "repo-key")]
    repository: u32,
    /// Greater than what a double can hold exactly, as pgBackRest's is.
    #[serde(rename = "system-id")]
    system_id: u64,
    version: &'report str,
}

#[derive(Serialize)]
struct Repository<'report> {
    cipher: &'static str,
    key: u32,
    /// What pgBackRest does not tell.
    #[serde(skip_serializing_if = "Option::is_none")]
    pgark: Option<RepositoryDetails<'report>>,
    status: RepositoryStatus,
}

#[derive(Serialize)]
struct RepositoryDetails<'report> {
    /// The backups that are at work, on whichever host.
    #[serde(rename = "at-work", skip_serializing_if = "Vec::is_empty")]
    at_work: Vec<AtWork<'report>>,
    /// Bytes of the packs that all backups need, each counted once.
    #[serde(rename = "pack-size", skip_serializing_if = "Option::is_none")]
    pack_size: Option<u64>,
}

#[derive(Serialize)]
struct AtWork<'report> {
    host: &'report str,
    process: u32,
    start: i64,
}

#[derive(Serialize)]
struct RepositoryStatus {
    code: u8,
    message: String,
}

#[derive(Serialize)]
struct Status {
    code: u8,
    lock: Locks,
    message: &'static str,
}

#[derive(Serialize)]
struct Locks {
    backup: Lock,
    restore: Lock,
}

#[derive(Serialize)]
struct Lock {
    held: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    repo: Vec<RunningRepository>,
    #[serde(skip_serializing_if = "Option::is_none")]
    size: Option<u64>,
    #[serde(rename = "size-cplt", skip_serializing_if = "Option::is_none")]
    size_complete: Option<u64>,
}

#[derive(Serialize)]
struct RunningRepository {
    key: u32,
    size: u64,
    #[serde(rename = "size-cplt")]
    size_complete: u64,
}

impl<'report> Progress<'report> {
    fn of(stanza: &'report StanzaReport) -> Self {
        Self { name: name(stanza), status: Status::of(stanza) }
    }
}

impl<'report> Stanza<'report> {
    fn of(stanza: &'report StanzaReport, view: View) -> Self {
        let repositories = &stanza.repositories;
        let backups = stanza.backups();
        Self {
            archive: repositories.iter().flat_map(archives).collect(),
            backup: backups.into_iter().map(|(key, backup)| Backup::of(key, backup, view)).collect(),
            cipher: common_cipher(repositories),
            db: repositories.iter().flat_map(databases).collect(),
            name: name(stanza),
            repo: repositories.iter().map(Repository::of).collect(),
            status: Status::of(stanza),
        }
    }
}

/// The archives of a repository: that of the current cluster, and those of earlier ones that have WAL.
fn archives(report: &RepositoryReport) -> impl Iterator<Item = Archive> {
    let current = report.clusters.len().saturating_sub(1);
    let is_shown = move |(place, found): &(usize, &ClusterReport)| *place == current || found.segments.is_some();
    report.clusters.iter().enumerate().filter(is_shown).map(|(_, found)| Archive {
        database: ClusterKey { id: found.cluster.id, repository: report.key },
        id: found.cluster.archive().to_string(),
        max: found.segments.map(|(_, last)| last.to_string()),
        min: found.segments.map(|(first, _)| first.to_string()),
        pgark: ArchiveDetails {
            missing: found.missing.iter().map(missing).collect(),
            window: found.windows.iter().map(reachable).collect(),
        },
    })
}

fn missing(missing: &MissingWal) -> Missing {
    let MissingWal { first, last, count, by_retention } = *missing;
    Missing { by_retention, count, first: first.to_string(), last: last.to_string() }
}

fn reachable(window: &Window) -> Reachable {
    let ((start, began), (stop, ended)) = (window.start, window.stop);
    Reachable {
        backup: window.backup.to_string(),
        lsn: Span { start: start.to_string(), stop: stop.to_string() },
        timeline: window.timeline.0,
        timestamp: Span { start: Some(began.as_second()), stop: ended.map(Timestamp::as_second) },
    }
}

fn databases(report: &RepositoryReport) -> impl Iterator<Item = Database<'_>> {
    report.clusters.iter().map(|found| Database {
        id: found.cluster.id,
        repository: report.key,
        system_id: found.cluster.system_id.parse().unwrap_or_default(),
        version: &found.cluster.version,
    })
}

impl<'report> Backup<'report> {
    fn of(repository: u32, backup: &'report BackupReport, view: View) -> Self {
        let document = &backup.document;
        let (start, stop, totals) = (&document.start, &document.stop, document.totals);
        let lsn = start.lsn.as_deref().zip(stop.lsn.as_deref()).filter(|_| start.wal_segment.is_some());
        Self {
            annotation: &backup.annotations,
            archive: Span { start: start.wal_segment.as_deref(), stop: stop.wal_segment.as_deref() },
            backrest: Backrest { format: BACKREST_FORMAT, version: version(document) },
            database: ClusterKey { id: document.cluster.id, repository },
            databases: view.one_backup.then(|| databases_in(document)),
            error: !document.damaged_files.is_empty(),
            damaged_files: if view.one_backup { damaged_files(document) } else { Vec::new() },
            info: Sizes {
                delta: totals.read,
                repository: RepositorySizes { delta: totals.added, size: totals.stored },
                size: totals.size,
            },
            label: document.label.as_str(),
            link: List::of(links(backup), view),
            lsn: lsn.map(|(start, stop)| Span { start, stop }),
            pgark: BackupDetails {
                damaged: view.one_backup.then_some(&document.damaged_files[..]),
                exclusive: backup.exclusive,
                sidecar: Some(&document.sidecars[..]).filter(|sidecars| view.one_backup && !sidecars.is_empty()),
            },
            prior: document.prior.as_ref().filter(|_| document.kind != LabelKind::Full).map(Label::as_str),
            reference: None,
            tablespace: List::of(tablespaces(document), view),
            timestamp: Span { start: start.time.as_second(), stop: stop.time.as_second() },
            kind: document.kind.to_string(),
        }
    }
}

/// The version of the program that took the backup.
fn version(document: &ManifestDocument) -> &str {
    document.program.rsplit(' ').next().unwrap_or_default()
}

fn databases_in(document: &ManifestDocument) -> Vec<Object<'_>> {
    let databases = document.databases.iter().filter(|database| !TEMPLATE_DATABASES.contains(&database.name.as_str()));
    databases.map(|database| Object { name: &database.name, oid: database.oid }).collect()
}

fn damaged_files(document: &ManifestDocument) -> Vec<&str> {
    document.damaged_files.iter().map(|file| file.path.as_str()).collect()
}

fn links(backup: &BackupReport) -> impl Iterator<Item = Link<'_>> {
    backup.links.iter().map(|(name, destination)| Link { destination, name })
}

fn tablespaces(document: &ManifestDocument) -> impl Iterator<Item = Tablespace<'_>> {
    let tablespaces = document.tablespaces.iter();
    tablespaces.map(|found| Tablespace { destination: &found.path, name: &found.name, oid: found.oid })
}

impl<'report> Repository<'report> {
    fn of(report: &'report RepositoryReport) -> Self {
        let (code, message) = repository_status(&report.status);
        let at_work = report.sessions.iter().map(|session| {
            let (host, process, start) = (session.host.as_str(), session.process, session.started.as_second());
            AtWork { host, process, start }
        });
        let details = RepositoryDetails { at_work: at_work.collect(), pack_size: report.pack_bytes };
        let pgark = (!details.at_work.is_empty() || details.pack_size.is_some()).then_some(details);
        Self { cipher: report.cipher, key: report.key, pgark, status: RepositoryStatus { code, message } }
    }
}

impl Lock {
    fn of(held: &[(u32, &Held)]) -> Self {
        let (size, size_complete) = progress(held).unzip();
        Self { held: !held.is_empty(), repo: Vec::new(), size, size_complete }
    }
}

/// The repositories that a backup is running into of which is known how far it is.
fn running_repositories(stanza: &StanzaReport) -> Vec<RunningRepository> {
    let of = |(key, held): (u32, &Held)| {
        let (size, size_complete) = held.progress()?;
        Some(RunningRepository { key, size, size_complete })
    };
    stanza.running_backups().into_iter().filter_map(of).collect()
}

impl Status {
    fn of(stanza: &StanzaReport) -> Self {
        let (code, message) = stanza_status(stanza.status());
        let backup = Lock { repo: running_repositories(stanza), ..Lock::of(&stanza.running_backups()) };
        Self { code, lock: Locks { backup, restore: Lock::of(&stanza.running_restores()) }, message }
    }
}
