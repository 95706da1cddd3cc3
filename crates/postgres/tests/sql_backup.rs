//! A backup made by hand of this crate's parts, restored and recovered by real servers. If a part is wrong, the restored
//! server does not start, or has other data.

#![expect(clippy::unwrap_used, reason = "what is not as expected ends the test")]

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use fs_err as fs;
use fs_err::os::unix::fs::symlink;
use pgark_postgres::client::{ConnectSettings, Connection, StoppedBackup};
use pgark_postgres::control::{CONTROL_FILE_PATH, ControlFile};
use pgark_postgres::data_directory::{Contents, Context, EntryKind};
use pgark_postgres::label::{BACKUP_LABEL_FILE, BackupHistory, TABLESPACE_MAP_FILE, TablespaceMap};
use pgark_postgres::recovery::{AUTO_CONFIGURATION_FILE, Recovery, RecoveryTarget, TargetAction, auto_configuration};
use pgark_postgres::wal::name::SegmentName;
use pgark_testkit::{Cluster, Scratch, Server, Stop, give_to_test_user, wait_until};

fn open(cluster: &Cluster) -> Connection {
    let settings = ConnectSettings {
        socket_path: Some(cluster.socket_directory()),
        port: cluster.port(),
        user: Some("postgres".to_owned()),
        database: "postgres".to_owned(),
        statement_timeout: Duration::from_secs(60),
        command: "backup".to_owned(),
    };
    Connection::open(&settings).unwrap()
}

fn archiving_cluster(server: &Server, archive: &Path) -> Cluster {
    Cluster::builder(server)
        .wal_segment_size_mib(1)
        .setting("archive_mode", "on")
        .setting("archive_command", &format!("cp %p {}/%f", archive.display()))
        .start()
}

/// Waits for a segment. The statistics of the server name the last file only, which may be that of a backup's history.
fn wait_for_archived(cluster: &Cluster, segment: SegmentName) {
    let done = cluster.data_directory().join(format!("pg_wal/archive_status/{segment}.done"));
    wait_until(&format!("segment {segment} to be archived"), || done.exists());
}

/// Copies what belongs into a backup to `destination`; tablespaces go to directories of their own below `tablespaces`.
fn copy(cluster: &Cluster, destination: &Path, tablespaces: &Path) -> BTreeMap<PathBuf, PathBuf> {
    let version = ControlFile::read(cluster.data_directory()).unwrap().version;
    let context = Context { version, online: true, exclude: Vec::new() };
    let contents = Contents::of(cluster.data_directory(), &context).unwrap();
    let mut moved = BTreeMap::new();
    for entry in contents.entries {
        let (from, to) = (cluster.data_directory().join(&entry.path), destination.join(&entry.path));
        match entry.kind {
            EntryKind::Directory => {
                let place = match entry.link {
                    Some(link) => {
                        let place = tablespaces.join(entry.path.file_name().unwrap());
                        symlink(&place, &to).unwrap();
                        moved.insert(link, place.clone());
                        place
                    }
                    None => to,
                };
                fs::create_dir(&place).unwrap();
                fs::set_permissions(&place, std::fs::Permissions::from_mode(0o700)).unwrap();
                give_to_test_user(&place);
            }
            EntryKind::File { .. } if entry.path == Path::new(CONTROL_FILE_PATH) => {}
            EntryKind::File { .. } => match fs::read(from) {
                Ok(content) => put(&to, &content),
                Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::NotFound),
            },
        }
    }
    put(&destination.join(CONTROL_FILE_PATH), &ControlFile::read_image(cluster.data_directory()).unwrap().1);
    moved
}

fn put(path: &Path, content: &[u8]) {
    fs::write(path, content).unwrap();
    fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
    give_to_test_user(path);
}

/// Writes the label, the map with the tablespaces' new places, and the recovery settings.
fn prepare_recovery(
    data_directory: &Path,
    stopped: &StoppedBackup,
    moved: &BTreeMap<PathBuf, PathBuf>,
    archive: &Path,
) {
    put(&data_directory.join(BACKUP_LABEL_FILE), &stopped.label_bytes);
    let mut map: TablespaceMap = stopped.tablespace_map.clone();
    for tablespace in &mut map.0 {
        tablespace.path.clone_from(&moved[&tablespace.path]);
    }
    put(&data_directory.join(TABLESPACE_MAP_FILE), &map.render());
    let recovery = Recovery {
        target: RecoveryTarget::EndOfArchive,
        timeline: None,
        action: TargetAction::Promote,
        restore_command: format!("cp {}/%f %p", archive.display()),
        archive_off: true,
        options: Vec::new(),
    };
    let path = data_directory.join(AUTO_CONFIGURATION_FILE);
    put(&path, &auto_configuration(&fs::read(&path).unwrap(), Some(&recovery), "2026-11-22 12:27:33").unwrap());
    put(&data_directory.join(recovery.signal_file().name()), b"");
}

#[test]
fn a_backup_under_load_recovers_to_the_same_data() {
    for server in Server::all() {
        let scratch = Scratch::new();
        let (archive, tablespaces) = (scratch.directory("archive"), scratch.directory("restored tablespaces"));
        let destination = scratch.directory("restored").join("data");
        let location = scratch.directory("odd\\ name\nhere");
        let mut cluster = archiving_cluster(&server, &archive);
        cluster.sql(&format!(
            "create tablespace fast location e'{}'",
            location.display().to_string().replace('\\', "\\\\")
        ));
        cluster.sql("create table f tablespace fast as select generate_series(1, 1000) as a; create unlogged table u as select 1");
        cluster.pgbench_init(1);
        let load = cluster.load(2);

        let mut connection = open(&cluster);
        connection.lock_backup().unwrap();
        let started = connection.start_backup("a backup: by hand", true).unwrap();
        let control_file = ControlFile::read(cluster.data_directory()).unwrap();
        assert!(control_file.checkpoint.redo >= started.lsn);
        let moved = copy(&cluster, &destination, &tablespaces);
        let stopped = connection.stop_backup().unwrap();
        load.stop();

        assert_eq!((stopped.label.start, stopped.label.start_segment), (started.lsn, started.wal_segment));
        assert_eq!((stopped.label.start_timeline, stopped.timeline), (started.timeline, started.timeline));
        assert_eq!((stopped.label.label.as_str(), stopped.label.from.as_str()), ("a backup: by hand", "primary"));
        assert_eq!(stopped.tablespace_map.0.len(), 1);
        assert_eq!(stopped.tablespace_map.render(), stopped.tablespace_map_bytes);
        assert_eq!(stopped.tablespace_map.0[0].path, location);
        wait_for_archived(&cluster, stopped.wal_segment);
        let history = format!("pg_wal/{}.{:08X}.backup", started.wal_segment, started.lsn.0 % (1 << 20));
        let history = fs::read(cluster.data_directory().join(history));
        let history = BackupHistory::parse(&history.unwrap()).unwrap();
        assert_eq!((history.stop, history.stop_segment), (stopped.lsn, stopped.wal_segment));
        assert_eq!((&history.label, history.stop_timeline), (&stopped.label, stopped.timeline));

        let last = connection.switch_wal().unwrap();
        wait_for_archived(&cluster, last);
        let expected = cluster.fingerprint();
        cluster.stop(Stop::Fast);
        prepare_recovery(&destination, &stopped, &moved, &archive);
        let mut restored = Cluster::adopt(&server, &destination);
        restored.start();
        restored.wait_for_sql("select pg_is_in_recovery()", "f");
        assert_eq!(restored.sql("select count(*), sum(a) from f"), "1000|500500");
        assert_eq!(restored.sql("select count(*) from u"), "0");
        restored.sql("drop table u");
        let found = restored.fingerprint();
        let without_unlogged: Vec<&str> =
            expected.lines().filter(|line| !line.starts_with("public.u|") && !line.starts_with("u|")).collect();
        assert_eq!(found.lines().collect::<Vec<_>>(), without_unlogged);
    }
}

#[test]
fn a_backup_from_a_standby_has_the_wal_it_needs() {
    for server in Server::all() {
        let scratch = Scratch::new();
        let archive = scratch.directory("archive");
        let primary = archiving_cluster(&server, &archive);
        primary.pgbench_init(1);
        let mut standby = primary.standby();
        standby.start();
        primary.wait_for_replay(&standby);
        primary.sql("checkpoint");
        primary.wait_for_replay(&standby);

        let mut connection = open(&standby);
        let started = connection.start_backup("on a standby", true).unwrap();
        let destination = scratch.directory("restored").join("data");
        let moved = copy(&standby, &destination, &scratch.directory("tablespaces"));
        primary.sql("create table later as select 1");
        primary.wait_for_replay(&standby);
        let stopped = connection.stop_backup().unwrap();
        assert_eq!((stopped.label.start, stopped.label.from.as_str()), (started.lsn, "standby"));
        assert_eq!(
            (stopped.label.start_segment, stopped.label.start_timeline),
            (started.wal_segment, started.timeline)
        );
        assert!(stopped.lsn >= started.lsn);

        let segment = open(&primary).switch_wal().unwrap();
        wait_for_archived(&primary, segment);
        prepare_recovery(&destination, &stopped, &moved, &archive);
        let _standby_signal_of_the_copy = fs::remove_file(destination.join("standby.signal"));
        let mut restored = Cluster::adopt(&server, &destination);
        restored.start();
        restored.wait_for_sql("select pg_is_in_recovery()", "f");
        assert_eq!(restored.fingerprint(), primary.fingerprint());
    }
}

#[test]
fn a_backup_needs_its_connection() {
    let cluster = Cluster::builder(&Server::get(17)).start();
    let mut first = open(&cluster);
    first.start_backup("first", true).unwrap();
    let error = first.start_backup("again", true).unwrap_err();
    assert!(error.to_string().contains("already in progress"), "{error}");
    let error = open(&cluster).stop_backup().unwrap_err();
    assert!(error.to_string().contains("not in progress"), "{error}");
    drop(first);
    let mut second = open(&cluster);
    second.start_backup("second", true).unwrap();
    assert_eq!(second.stop_backup().unwrap().label.label, "second");
}
