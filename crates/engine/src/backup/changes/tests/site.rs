//! A cluster, and a repository that gets its WAL when the test says so.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use fs_err as fs;
use pgark_postgres::client::{ConnectSettings, Connection, StartedBackup, StoppedBackup};
use pgark_postgres::control::ControlFile;
use pgark_postgres::relation::RelationFile;
use pgark_postgres::wal::name::{SegmentName, WalFileName};
use pgark_postgres::wal::relation::Fork;
use pgark_postgres::wal::segment::analyse;
use pgark_repository::codec::Compression;
use pgark_repository::container::{BlockEncoder, WriteOptions};
use pgark_repository::manifest::{BackupPoint, ClusterIdentity, ManifestDocument, Totals};
use pgark_repository::names::{self, ArchiveId};
use pgark_repository::wal::{Archive, SentSegment, WalDocument};
use pgark_repository::{Encryption, LabelKind, Repository, StanzaName};
use pgark_storage::fault::FaultyStorage;
use pgark_storage::{Capabilities, MemoryStorage, PutMode, Storage};
use pgark_system::clock;
use pgark_testkit::{Cluster, ClusterBuilder, Scratch, Server};

use super::super::*;

/// How the test reads relation files: by file, with their bytes.
pub(super) type Files = BTreeMap<RelationFile, Vec<u8>>;

pub(super) struct Site {
    pub(super) cluster: Cluster,
    pub(super) storage: FaultyStorage,
    pub(super) repository: Repository,
    scratch: Scratch,
    pushed: RefCell<BTreeSet<String>>,
}

/// A backup: what its manifest says, and the files as they were.
pub(super) struct Backup {
    pub(super) document: ManifestDocument,
    pub(super) files: Files,
}

impl Site {
    /// Starts a cluster with small segments whose server archives into a directory.
    pub(super) fn start(major: u32, adapt: impl FnOnce(ClusterBuilder) -> ClusterBuilder) -> Self {
        let scratch = Scratch::new();
        let directory = scratch.directory("archive");
        let builder = Cluster::builder(&Server::get(major))
            .wal_segment_size_mib(1)
            .setting("archive_mode", "on")
            .setting("archive_command", &archive_command(&directory))
            .setting("max_prepared_transactions", "10")
            // Nothing changes but what the test does.
            .setting("autovacuum", "off");
        let builder = if major >= 17 { builder.setting("summarize_wal", "on") } else { builder };
        let cluster = adapt(builder).start();
        let storage = FaultyStorage::new(Arc::new(MemoryStorage::new().with_requests_ahead(1)));
        let capabilities = Capabilities { conditional_create: true };
        let repository =
            Repository::create(Arc::new(storage.clone()), &Encryption::None, capabilities, "test").unwrap();
        Self { cluster, storage, repository, scratch, pushed: RefCell::default() }
    }

    pub(super) fn directory(&self) -> PathBuf {
        self.scratch.path().join("archive")
    }

    pub(super) fn scratch(&self) -> &Scratch {
        &self.scratch
    }

    pub(super) fn archive(&self) -> Archive<'_> {
        let version = self.cluster.server().major().to_string();
        Archive::new(&self.repository, stanza(), ArchiveId { version, number: 1 })
    }

    /// Ends the current segment and puts all that is archived into the repository.
    pub(super) fn flush(&self) {
        flush(&self.cluster);
        self.push();
    }

    /// Puts what the server has archived since into the repository.
    pub(super) fn push(&self) {
        for entry in fs::read_dir(self.directory()).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            if let Ok(file) = name.parse::<WalFileName>()
                && self.pushed.borrow_mut().insert(name.clone())
            {
                self.put(file, true);
            }
        }
    }

    /// Puts one file into the repository; a segment with what its records change, if it is `read`.
    pub(super) fn put(&self, file: WalFileName, read: bool) {
        let name = file.to_string();
        let bytes = fs::read(self.directory().join(&name)).unwrap();
        match file {
            WalFileName::Segment(segment) => {
                let document = WalDocument {
                    version: self.cluster.server().major().to_string(),
                    system_id: self.control().system_identifier.to_string(),
                    timeline: segment.timeline.0,
                    segment: name,
                    size: bytes.len() as u64,
                    hash: String::new(),
                };
                let analysis = if read { analyse(&bytes).unwrap().encode() } else { Vec::new() };
                let options = WriteOptions { compression: Compression::Zstd(1), verify: false };
                let sent =
                    self.archive().send_segment(&document, &bytes, || analysis, &mut BlockEncoder::of_wal(options), 1);
                sent.and_then(SentSegment::finish).unwrap();
            }
            WalFileName::History(_) => drop(self.archive().store_history(&name, &bytes).unwrap()),
            WalFileName::Partial(_) | WalFileName::BackupHistory { .. } => {}
        }
    }

    fn key(&self, segment: SegmentName) -> pgark_storage::Key {
        names::wal_file(&stanza(), self.archive().id(), &segment.to_string()).unwrap()
    }

    /// Takes a segment out of the repository.
    pub(super) fn remove(&self, segment: SegmentName) {
        self.storage.delete(&self.key(segment)).unwrap();
    }

    /// Takes a segment out of `pg_wal`, where it may not be any more.
    pub(super) fn forget(&self, segment: SegmentName) {
        let path = self.cluster.data_directory().join("pg_wal").join(segment.to_string());
        if path.exists() {
            fs::remove_file(path).unwrap();
        }
    }

    /// Changes a byte in what the repository says of a segment.
    pub(super) fn damage(&self, segment: SegmentName) {
        let key = self.key(segment);
        let mut bytes = self.storage.get(&key, 1 << 30).unwrap();
        let near_the_end = bytes.len() - 200;
        bytes[near_the_end] ^= 1;
        self.storage.put(&key, &bytes, PutMode::Replace).unwrap();
    }

    pub(super) fn control(&self) -> ControlFile {
        control(&self.cluster)
    }

    /// Takes a backup of the cluster, which must be idle.
    pub(super) fn backup(&self) -> Backup {
        backup(&self.cluster)
    }

    /// What has changed since the backup, for a backup that begins now; and where it begins.
    pub(super) fn changes_since(&self, reference: &ManifestDocument) -> (Changes, Lsn) {
        self.changes_of(&self.cluster, reference)
    }

    /// As [`Site::changes_since`], for another cluster that shares the archive.
    pub(super) fn changes_of(&self, cluster: &Cluster, reference: &ManifestDocument) -> (Changes, Lsn) {
        let mut connection = connect(cluster);
        let started = connection.start_backup("test", true).unwrap();
        let found = self.find(cluster, started.timeline, reference, started.lsn);
        connection.stop_backup().unwrap();
        (found, started.lsn)
    }

    /// What has changed up to a position.
    pub(super) fn find(
        &self,
        cluster: &Cluster,
        timeline: Timeline,
        reference: &ManifestDocument,
        start: Lsn,
    ) -> Changes {
        self.push();
        let (archive, control) = (self.archive(), control(cluster));
        let history = match read_history(&archive, cluster.data_directory(), timeline).unwrap() {
            History::Known(history) => history,
            History::Unknown { reason } => return Changes::Unknown { reason },
        };
        let between = Between {
            data_directory: cluster.data_directory(),
            control: &control,
            history: &history,
            reference,
            start,
        };
        changes(&archive, &between).unwrap()
    }

    /// What the segments that were archived say themselves of the records in a range, along a history.
    pub(super) fn exact(&self, history: &TimelineHistory, start: Lsn, end: Lsn) -> BlockSummary {
        let size = self.control().wal_segment_size;
        let mut summariser = RangeSummariser::new(start..end);
        for number in size.segment_of(start).. {
            let name = history.segment(number, size).unwrap().to_string();
            if !summariser.push(&fs::read(self.directory().join(name)).unwrap()).unwrap() {
                break;
            }
        }
        match summariser.finish().unwrap() {
            Summary::Usable(summary) => summary,
            Summary::Unusable(reason) => panic!("{reason}"),
        }
    }

    /// The segment in which a position of the first timeline lies.
    pub(super) fn segment_at(&self, lsn: &str) -> SegmentName {
        SegmentName::of_lsn(Timeline(1), lsn.parse().unwrap(), self.control().wal_segment_size)
    }
}

pub(super) fn archive_command(directory: &Path) -> String {
    let directory = directory.display();
    format!(
        "if test -e {directory}/%f; then cmp -s %p {directory}/%f; else cp %p {directory}/.%f && mv {directory}/.%f {directory}/%f; fi"
    )
}

pub(super) fn flush(cluster: &Cluster) {
    let segment = cluster.switch_wal();
    cluster.wait_for_archived(&segment);
}

pub(super) fn stanza() -> StanzaName {
    "demo".parse().unwrap()
}

pub(super) fn control(cluster: &Cluster) -> ControlFile {
    ControlFile::read(cluster.data_directory()).unwrap()
}

pub(super) fn connect(cluster: &Cluster) -> Connection {
    let settings = ConnectSettings {
        socket_path: Some(cluster.socket_directory()),
        port: cluster.port(),
        user: Some("postgres".to_owned()),
        database: "postgres".to_owned(),
        statement_timeout: Duration::from_secs(600),
        command: "backup".to_owned(),
    };
    Connection::open(&settings).unwrap()
}

/// Takes a backup of a cluster that is idle.
pub(super) fn backup(cluster: &Cluster) -> Backup {
    let mut connection = connect(cluster);
    let started = connection.start_backup("test", true).unwrap();
    let files = relation_files(cluster.data_directory());
    let stopped = connection.stop_backup().unwrap();
    Backup { document: document(&control(cluster), &started, &stopped), files }
}

/// A backup of a cluster that is shut down.
pub(super) fn offline_backup(cluster: &Cluster) -> Backup {
    let control = control(cluster);
    let checkpoint = &control.checkpoint;
    let point = point(&checkpoint.location.to_string(), checkpoint.timeline);
    let document = describe(&control, point.clone(), point, false);
    Backup { document, files: relation_files(cluster.data_directory()) }
}

fn document(control: &ControlFile, started: &StartedBackup, stopped: &StoppedBackup) -> ManifestDocument {
    let start = point(&started.lsn.to_string(), started.timeline);
    describe(control, start, point(&stopped.lsn.to_string(), stopped.timeline), true)
}

fn point(lsn: &str, timeline: Timeline) -> BackupPoint {
    BackupPoint { time: clock::now(), lsn: Some(lsn.to_owned()), timeline: timeline.0, wal_segment: None }
}

fn describe(control: &ControlFile, start: BackupPoint, stop: BackupPoint, online: bool) -> ManifestDocument {
    ManifestDocument {
        label: "20261126-120000F".parse().unwrap(),
        kind: LabelKind::Full,
        prior: None,
        cluster: ClusterIdentity {
            id: 1,
            version: control.version.to_string(),
            system_id: control.system_identifier.to_string(),
            control_version: 0,
            catalog_version: 0,
            wal_segment_size: control.wal_segment_size.bytes(),
        },
        start,
        stop,
        online,
        page_checksums: control.data_checksums,
        compression: "zst:1".to_owned(),
        annotations: BTreeMap::new(),
        databases: Vec::new(),
        tablespaces: Vec::new(),
        users: Vec::new(),
        groups: Vec::new(),
        damaged_files: Vec::new(),
        hints_logged: control.data_checksums || control.wal_log_hints,
        unexplained: None,
        sidecars: Vec::new(),
        totals: Totals::default(),
        program: "test".to_owned(),
    }
}

/// The main and init forks of all relations but the unlogged ones.
pub(super) fn relation_files(data_directory: &Path) -> Files {
    let mut files = Files::new();
    let mut directories: Vec<PathBuf> = ["base", "global", "pg_tblspc"].map(PathBuf::from).to_vec();
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(data_directory.join(&directory)).unwrap() {
            let path = directory.join(entry.unwrap().file_name());
            // Tablespaces are links.
            if fs::metadata(data_directory.join(&path)).unwrap().is_dir() {
                directories.push(path);
            } else if let Some(file) = RelationFile::parse(&path).filter(|file| file.fork.fork.is_fully_logged()) {
                files.insert(file, fs::read(data_directory.join(path)).unwrap());
            }
        }
    }
    let unlogged: BTreeSet<_> =
        files.keys().filter(|file| file.fork.fork == Fork::Init).map(|file| file.fork.relation).collect();
    files.retain(|file, _| file.fork.fork == Fork::Init || !unlogged.contains(&file.fork.relation));
    files
}

pub(super) fn known(changes: Changes) -> BlockSummary {
    match changes {
        Changes::Known(summary) => summary,
        Changes::Unknown { reason } => panic!("the changes are not known: {reason}"),
    }
}

#[track_caller]
pub(super) fn assert_unknown(changes: Changes, part: &str) {
    match changes {
        Changes::Known(_) => panic!("the changes are known, but '{part}' was expected"),
        Changes::Unknown { reason } => assert!(reason.contains(part), "{reason}"),
    }
}

pub(super) fn lsn(text: Option<&String>) -> Lsn {
    text.unwrap().parse().unwrap()
}

/// Whether all that is named in `some` is named in `all`.
pub(super) fn assert_covers(all: &BlockSummary, some: &BlockSummary) {
    for (fork, changes) in some.iter() {
        let covering = all.get(fork).unwrap_or_else(|| panic!("{fork} is missing"));
        let is_limited = |limit| covering.limit().is_some_and(|covering| covering <= limit);
        assert!(changes.limit().is_none_or(is_limited), "{fork}");
        assert!(changes.blocks().iter().all(|block| covering.contains(block)), "{fork}");
    }
}
