//! Taking a backup.
//!
//! The steps are those of `docs/format.md`, section 9: a session, packs, maps, and at the very end the manifest, which
//! commits. Interrupted at any point before that, a backup leaves nothing that a user sees.

mod adoption;
mod audit;
mod changes;
mod checksums;
pub mod cleaning;
mod collector;
mod copy;
mod dispatch;
mod entries;
mod frames;
mod hand_out;
mod label;
mod owners;
mod packs;
pub mod pages;
mod plan;
mod prior;
mod reader;
mod reference;
mod room;
mod server;
mod sidecar;
mod stock;
mod tables;
mod taker;
mod task;
mod telling;
#[cfg(test)]
mod tests;
mod uses;
mod wal;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use jiff::Timestamp;
use pgark_postgres::Lsn;
use pgark_postgres::client::{ConnectSettings, Connection, StartedBackup, StoppedBackup};
use pgark_postgres::control::{CONTROL_FILE_PATH, ControlFile};
use pgark_postgres::data_directory::{Context, Entry};
use pgark_postgres::label::{BACKUP_LABEL_FILE, TABLESPACE_MAP_FILE};
use pgark_postgres::wal::name::{SegmentName, Timeline};
use pgark_postgres::wal::summary::BlockSummary;
use pgark_repository::container::WriteOptions;
use pgark_repository::garbage;
use pgark_repository::inventory;
use pgark_repository::manifest::{BackupPoint, ClusterIdentity, ManifestDocument, ManifestWriter, Unexplained};
use pgark_repository::repository::Cluster;
use pgark_repository::session::{Session, SessionKind};
use pgark_repository::{Label, LabelKind, PackId, StanzaName};
use pgark_system::pace::Pacer;
use pgark_system::{clock, termination};

use self::checksums::ChecksumRule;
use self::collector::{Collected, Collector};
use self::copy::{Crew, copy};
use self::dispatch::{Decisions, dispatch};
use self::frames::FrameWriter;
use self::packs::Packs;
use self::reference::Reference;
use self::sidecar::SourceDirectory;
use self::stock::Stock;
use self::taker::Rules;
use self::telling::Telling;
use self::wal::NeededWal;
use crate::error::{Error, ErrorKind, Result};
use crate::lock::{self, Lock, Locks};
use crate::progress::{Board, Progress, Unit};
use crate::sidecar::SidecarSettings;
use crate::stanza::{Identity, OpenRepository, Stanza};
use crate::turn;
use crate::vigil::Vigil;

/// How a backup is to be taken.
#[derive(Debug)]
pub struct BackupSettings {
    /// The stanza.
    pub stanza: StanzaName,
    /// The type.
    pub kind: LabelKind,
    /// Whether all pages are read, whatever the WAL says.
    pub delta: bool,
    /// Whether pages that an earlier backup has stored are pointed at.
    pub reuse: bool,
    /// Whether that holds for what interrupted backups have stored, too.
    pub resume: bool,
    /// Whether an offline backup is taken even if a server seems to run.
    pub force: bool,
    /// The data directory.
    pub data_directory: PathBuf,
    /// The running server; `None` for a backup of a cluster that is shut down.
    pub connection: Option<ConnectSettings>,
    /// Whether the first checkpoint is made at once, instead of when it is due.
    pub start_fast: bool,
    /// Whether to wait for the WAL that the backup needs, and to check that WAL is archived at all.
    pub archive_check: bool,
    /// Whether to check that `archive_mode` is one that serves.
    pub archive_mode_check: bool,
    /// How long to wait for each WAL segment.
    pub archive_timeout: Duration,
    /// Whether page checksums are checked; if the cluster has them, when `None`.
    pub checksum_page: Option<bool>,
    /// What is left out, relative to the data directory.
    pub exclude: Vec<PathBuf>,
    /// The directories outside the data directory that are backed up with it.
    pub sidecars: Vec<SidecarSettings>,
    /// Where repositories are on this host: no sidecar may share files with one.
    pub repository_directories: Vec<PathBuf>,
    /// What the user writes on the backup.
    pub annotations: BTreeMap<String, String>,
    /// How many workers read.
    pub workers: usize,
    /// At what pace they read together.
    pub pacer: Pacer,
    /// How packs are written.
    pub write: WriteOptions,
    /// How the compression is told, as `zst:3`.
    pub compression: String,
    /// Where lock files are.
    pub locks: Locks,
    /// Where it is shown how far it is.
    pub board: Board,
    /// This host.
    pub host: String,
    /// This program and its version.
    pub program: String,
}

/// A backup that was taken.
#[derive(Debug)]
pub struct BackupReport {
    /// What the manifest says of it.
    pub document: ManifestDocument,
    /// The lock that keeps other backups and expires of this host away, for the expire that follows.
    pub lock: Lock,
}

/// Takes a backup into `repository`.
///
/// # Errors
/// Any failure; nothing that looks like a backup is left then.
pub fn run(settings: &BackupSettings, repository: &OpenRepository) -> Result<BackupReport> {
    ensure_control_file(&settings.exclude)?;
    let stanza = Stanza::open(repository, &settings.stanza)?;
    let lock = lock::acquire(&settings.locks, &settings.stanza, "backup", repository.key, "backup")?;
    let work = settings.board.begin("backup", repository.key, Unit::Bytes);
    let following = lock.follow(work.progress());
    let control = ControlFile::read(&settings.data_directory)?;
    let cluster = stanza.expect_current(Identity::of(&control), ErrorKind::BackupMismatch, "PostgreSQL")?.clone();
    let sidecars = sidecar::open(&settings.sidecars, &settings.data_directory, &settings.repository_directories)?;
    let (host, wait) = (&settings.host, settings.locks.wait);
    let session = turn::begin(stanza.repository(), stanza.name(), SessionKind::Backup, host, wait)?;
    let session = Vigil::new(session);
    let result = session.keep(|| {
        let mut connection = server::open_server(settings, &control)?;
        let (seen, condemned) = (0, BTreeSet::new());
        let (stanza, progress, session) = (&stanza, &*work, &session);
        Backup { settings, stanza, progress, cluster, control, sidecars, session, seen, condemned }
            .take(&mut connection)
    });
    drop((following, work));
    // A session that can't be ended is harmless: it is no longer renewed.
    let ended = session.end();
    let document = result?;
    if let Err(error) = ended {
        let error = Error::from(error);
        let lines: Vec<_> = std::iter::once(error.full_message()).chain(error.hints().iter().cloned()).collect();
        tracing::warn!("unable to end the session of the backup: {}", lines.join("\nHINT: "));
    }
    Ok(BackupReport { document, lock })
}

/// Without the control file a backup is none.
fn ensure_control_file(exclude: &[PathBuf]) -> Result<()> {
    let control_file = Path::new(CONTROL_FILE_PATH);
    match exclude.iter().find(|excluded| control_file.starts_with(excluded)) {
        None => Ok(()),
        Some(excluded) => Err(Error::new(
            ErrorKind::OptionInvalidValue,
            format!("'{}' can't be excluded: '{CONTROL_FILE_PATH}' is needed", excluded.display()),
        )
        .hint("exclude single files or other directories")),
    }
}

/// Begins the manifest of a backup.
fn begin_manifest<'stanza>(
    stanza: &'stanza Stanza<'_>,
    label: &Label,
    has_sidecars: bool,
) -> Result<ManifestWriter<'stanza>> {
    let begin = if has_sidecars { ManifestWriter::with_sidecars } else { ManifestWriter::new };
    Ok(begin(stanza.repository(), stanza.name(), label)?)
}

/// How many bytes the cluster and these sidecars had when a backup was taken: about as many as they have now.
fn size_of(document: &ManifestDocument, sidecars: &[SourceDirectory]) -> u64 {
    let is_wanted = |name: &str| sidecars.iter().any(|sidecar| sidecar.name == name);
    let wanted = document.sidecars.iter().filter(|sidecar| is_wanted(&sidecar.name));
    document.totals.size + wanted.map(|sidecar| sidecar.size).sum::<u64>()
}

/// What a backup is compared with.
#[derive(Clone, Copy)]
struct Comparison<'backup> {
    reference: Option<&'backup Reference<'backup>>,
    changes: Option<&'backup BlockSummary>,
    kind: LabelKind,
    stock: &'backup Stock<'backup>,
}

/// A backup under way.
struct Backup<'backup, 'repository> {
    settings: &'backup BackupSettings,
    stanza: &'backup Stanza<'backup>,
    progress: &'backup Progress,
    cluster: Cluster,
    control: ControlFile,
    sidecars: Vec<SourceDirectory>,
    session: &'backup Vigil<'repository>,
    /// The last entry of the log of garbage that this backup heeds.
    seen: u64,
    /// The packs that it must not point at.
    condemned: BTreeSet<PackId>,
}

/// The points between which a backup was taken, and the files that the server gave at its end.
struct Points {
    start: BackupPoint,
    stop: BackupPoint,
    label_bytes: Vec<u8>,
    tablespace_map_bytes: Vec<u8>,
    wal: Option<NeededWal>,
}

impl Backup<'_, '_> {
    fn take(&mut self, connection: &mut Option<Connection>) -> Result<ManifestDocument> {
        self.heed_garbage()?;
        let existing = self.stanza.repository().backups(self.stanza.name())?;
        let (kind, full) = self.kind(&existing)?;
        let (label, start_time) = prior::choose_label(kind, full.as_ref(), &existing)?;
        let history = self.history(connection)?;
        let reference = self.reference(&existing, &history, kind)?;
        let started = match connection {
            Some(connection) => Some(self.start(connection)?),
            None => None,
        };
        let changes = match &reference {
            Some(reference) => {
                self.progress.note("reading what the WAL has changed");
                self.changes(reference, &history, started.as_ref(), kind)?
            }
            None => None,
        };
        self.progress.note("");
        let stock = self.stock(reference.as_ref(), &existing)?;
        let packs = Packs::new(self.stanza.repository(), self.stanza.name(), self.session.id(), self.settings.write);
        let manifest = begin_manifest(self.stanza, &label, !self.sidecars.is_empty())?;
        let mut collector = Collector::new(&packs, &stock, manifest, self.workers());
        if let Some(reference) = &reference {
            collector.release_late(&reference.manifest, &reference.packs)?;
        }
        let comparison = Comparison { reference: reference.as_ref(), changes: changes.as_ref(), kind, stock: &stock };
        let control_entry = self.copy(comparison, started.as_ref(), connection, &packs, &mut collector)?;
        let points = self.stop(connection, start_time, started.as_ref())?;
        self.copy_sidecars(comparison, &packs, &mut collector)?;
        self.copy_late(&points, &control_entry, comparison, &packs, &mut collector)?;
        let mut collected = collector.finish()?;
        let document = reference.as_ref().map(|reference| reference.manifest.document());
        let shares_hints = document.is_some_and(|document| audit::shares_hints(document, points.start.timeline));
        collected.unexplained = self.findings(collected.unexplained, shares_hints);
        let has_read_all = self.reads_all(kind) || changes.is_none();
        let hints_logged = self.logs_hints() && (has_read_all || shares_hints);
        if let Some(wal) = points.wal.as_ref().filter(|_| self.settings.archive_check) {
            self.progress.note("waiting for WAL to be archived");
            self.wait_for_wal(wal, &history)?;
            self.progress.note("");
        }
        termination::check()?;
        let prior = reference.map(|reference| reference.manifest.document().label.clone());
        self.commit(label, prior, points, connection, hints_logged, collected)
    }

    fn workers(&self) -> usize {
        self.settings.workers.max(1)
    }

    fn start(&self, connection: &mut Connection) -> Result<StartedBackup> {
        let when = if self.settings.start_fast {
            "after the requested immediate checkpoint"
        } else {
            "after the next regular checkpoint"
        };
        tracing::info!("execute non-exclusive backup start: backup begins {when} completes");
        termination::check()?;
        self.progress.note("waiting for the checkpoint");
        let started = connection.start_backup("pgark backup", self.settings.start_fast)?;
        self.progress.note("");
        tracing::info!("backup start archive = {}, lsn = {}", started.wal_segment, started.lsn);
        Ok(started)
    }

    fn copy(
        &self,
        comparison: Comparison<'_>,
        started: Option<&StartedBackup>,
        connection: &mut Option<Connection>,
        packs: &Packs<'_>,
        collector: &mut Collector<'_, '_>,
    ) -> Result<Entry> {
        let connection = Mutex::new(connection.as_mut());
        let current = || {
            let mut connection = connection.lock().ok()?;
            connection.as_mut()?.end_of_wal().ok()
        };
        // Without a server nothing changes, so that no LSN can explain a page that does not match.
        let start = started.map_or(Lsn(u64::MAX), |started| started.lsn);
        let Comparison { reference, changes, kind, stock } = comparison;
        let document = reference.map(|reference| reference.manifest.document());
        let rules = Rules {
            checksums: self.check_pages().then_some(ChecksumRule { start, current: &current }),
            audit_since: document.and_then(|document| document.start.lsn.as_deref()?.parse().ok()),
            pacer: &self.settings.pacer,
        };
        let decisions = Decisions {
            data_directory: &self.settings.data_directory,
            context: Context {
                version: self.control.version,
                online: self.settings.connection.is_some(),
                exclude: self.settings.exclude.clone(),
            },
            relation_segment_pages: self.control.relation_segment_pages,
            reference,
            changes,
            reads_all: self.reads_all(kind),
        };
        let (progress, sidecars) = (self.progress, &self.sidecars);
        let telling = self.telling(stock, reference);
        let crew = Crew { stock, rules: &rules, packs, telling: &telling, workers: self.workers() };
        let control_file = thread::scope(|scope| {
            match document {
                Some(document) => progress.expect(size_of(document, sidecars)),
                // The backup does not wait for it.
                None => drop(scope.spawn(|| progress.expect(dispatch::size(&decisions) + sidecar::size(sidecars)))),
            }
            copy(|out| dispatch(&decisions, out), &crew, collector, self.session, progress)
        })?;
        control_file.ok_or_else(|| {
            Error::new(ErrorKind::FileMissing, format!("'{CONTROL_FILE_PATH}' vanished during the backup"))
        })
    }

    /// Copies the sidecars. What the cluster refers to at this point is in them, if it was there before.
    fn copy_sidecars(
        &self,
        comparison: Comparison<'_>,
        packs: &Packs<'_>,
        collector: &mut Collector<'_, '_>,
    ) -> Result<()> {
        let Comparison { reference, kind, stock, .. } = comparison;
        let decisions = sidecar::Decisions { directories: &self.sidecars, reference, reads_all: self.reads_all(kind) };
        let rules = Rules { checksums: None, audit_since: None, pacer: &self.settings.pacer };
        let telling = self.telling(stock, reference);
        let crew = Crew { stock, rules: &rules, packs, telling: &telling, workers: self.workers() };
        copy(|out| sidecar::dispatch(&decisions, out), &crew, collector, self.session, self.progress).map(drop)
    }

    fn telling<'a>(&'a self, stock: &'a Stock<'a>, reference: Option<&'a Reference<'a>>) -> Telling<'a> {
        let since = reference.map(|reference| &reference.manifest.document().label);
        Telling::new(self.session.id(), stock, since, self.progress)
    }

    /// Whether all pages are read, whatever the WAL says.
    fn reads_all(&self, kind: LabelKind) -> bool {
        kind == LabelKind::Full || self.settings.delta
    }

    /// Whether the server logs every change of a page, hint bits included.
    fn logs_hints(&self) -> bool {
        self.control.data_checksums || self.control.wal_log_hints
    }

    /// What was found that no WAL explains. Where hint bits are not logged, or those of the reference need not be this
    /// cluster's, they are why, most likely.
    fn findings(&self, found: Option<Unexplained>, shares_hints: bool) -> Option<Unexplained> {
        let found = found?;
        if self.logs_hints() && shares_hints {
            return Some(found);
        }
        let pages = found.pages;
        tracing::info!(
            "{pages} page(s) have changed that no WAL names: most likely by hint bits, which were not all logged"
        );
        None
    }

    fn check_pages(&self) -> bool {
        let has_checksums = self.control.data_checksums;
        if self.settings.checksum_page == Some(true) && !has_checksums {
            tracing::warn!(
                "checksum-page option set to true but checksums are not enabled on the cluster, resetting to false"
            );
        }
        has_checksums && self.settings.checksum_page != Some(false)
    }

    fn stop(
        &self,
        connection: &mut Option<Connection>,
        start_time: Timestamp,
        started: Option<&StartedBackup>,
    ) -> Result<Points> {
        let (Some(connection), Some(started)) = (connection, started) else {
            let checkpoint = &self.control.checkpoint;
            let lsn = Some(checkpoint.location.to_string());
            let at = |time| BackupPoint { time, lsn: lsn.clone(), timeline: checkpoint.timeline.0, wal_segment: None };
            return Ok(Points {
                start: at(start_time),
                stop: at(clock::now()),
                label_bytes: Vec::new(),
                tablespace_map_bytes: Vec::new(),
                wal: None,
            });
        };
        tracing::info!("execute non-exclusive backup stop and wait for all WAL segments to archive");
        let stopped: StoppedBackup = connection.stop_backup()?;
        tracing::info!("backup stop archive = {}, lsn = {}", stopped.wal_segment, stopped.lsn);
        let point = |time, lsn: Lsn, timeline: Timeline, segment: SegmentName| BackupPoint {
            time,
            lsn: Some(lsn.to_string()),
            timeline: timeline.0,
            wal_segment: Some(segment.to_string()),
        };
        Ok(Points {
            start: point(start_time, started.lsn, started.timeline, started.wal_segment),
            stop: point(clock::now(), stopped.lsn, stopped.timeline, stopped.wal_segment),
            label_bytes: stopped.label_bytes,
            tablespace_map_bytes: stopped.tablespace_map_bytes,
            wal: Some(NeededWal {
                first: started.wal_segment,
                last: stopped.wal_segment,
                range: started.lsn..stopped.lsn,
            }),
        })
    }

    /// Stores the files that a restore writes last: what the server gave, and the control file, read last of all.
    fn copy_late(
        &self,
        points: &Points,
        control_entry: &Entry,
        comparison: Comparison<'_>,
        packs: &Packs<'_>,
        collector: &mut Collector<'_, '_>,
    ) -> Result<()> {
        let (_, control_bytes) = ControlFile::read_image(&self.settings.data_directory)?;
        let files = [
            (BACKUP_LABEL_FILE, &points.label_bytes),
            (TABLESPACE_MAP_FILE, &points.tablespace_map_bytes),
            (CONTROL_FILE_PATH, &control_bytes),
        ];
        let telling = self.telling(comparison.stock, comparison.reference);
        let mut frames = FrameWriter::new(packs);
        for (name, bytes) in files.into_iter().filter(|(_, bytes)| !bytes.is_empty()) {
            let map = frames.store_bytes(name.as_bytes(), bytes)?;
            telling.late(name, bytes.len() as u64, &map);
            collector.add_late(name, control_entry, bytes.len() as u64, map)?;
        }
        frames.finish()?;
        packs.finish_compared()
    }

    fn commit(
        &self,
        label: Label,
        prior: Option<Label>,
        points: Points,
        connection: &mut Option<Connection>,
        hints_logged: bool,
        collected: Collected<'_>,
    ) -> Result<ManifestDocument> {
        let (databases, tablespaces) = match connection {
            Some(connection) => (server::databases(connection)?, server::tablespaces(connection)?),
            None => Default::default(),
        };
        let document = ManifestDocument {
            kind: label.kind(),
            label,
            prior,
            cluster: self.cluster_identity(),
            start: points.start,
            stop: points.stop,
            online: self.settings.connection.is_some(),
            page_checksums: self.control.data_checksums,
            compression: self.settings.compression.clone(),
            annotations: self.settings.annotations.clone(),
            databases,
            tablespaces,
            users: collected.users,
            groups: collected.groups,
            damaged_files: collected.damaged_files,
            hints_logged,
            unexplained: collected.unexplained,
            sidecars: collected.sidecars.into_sidecars(&self.sidecars),
            totals: collected.totals,
            program: self.settings.program.clone(),
        };
        let own = collected.packs.iter().filter(|(id, _)| id.session == self.session.id());
        let own = own.map(|(id, pack)| (*id, pack.length)).collect();
        inventory::check_written(self.stanza.repository(), self.stanza.name(), self.session.id(), own)?;
        // From here on it may be seen: nobody else must have taken over.
        self.session.change(Session::renew)?;
        self.session.check()?;
        collected.manifest.commit(&document, &collected.packs)?;
        let needed = collected.packs.keys().copied().collect();
        garbage::confirm(self.stanza.repository(), self.stanza.name(), &document.label, self.seen, &needed)?;
        Ok(document)
    }

    fn cluster_identity(&self) -> ClusterIdentity {
        ClusterIdentity {
            id: self.cluster.id,
            version: self.cluster.version.clone(),
            system_id: self.cluster.system_id.clone(),
            control_version: self.cluster.control_version,
            catalog_version: self.cluster.catalog_version,
            wal_segment_size: self.control.wal_segment_size.bytes(),
        }
    }
}
