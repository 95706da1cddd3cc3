//! The SQL side of a backup, on real servers.

#![expect(clippy::unwrap_used, reason = "what is not as expected ends the test")]

use std::path::{Path, PathBuf};
use std::time::Duration;

use pgark_postgres::Lsn;
use pgark_postgres::client::{ArchiveMode, ClientError, ConnectSettings, Connection, QueryFailure};
use pgark_postgres::control::{ControlFile, WalLevel};
use pgark_postgres::wal::name::Timeline;
use pgark_testkit::{Cluster, Scratch, Server, Stop};

fn settings(cluster: &Cluster) -> ConnectSettings {
    ConnectSettings {
        socket_path: Some(cluster.socket_directory()),
        port: cluster.port(),
        user: Some("postgres".to_owned()),
        database: "postgres".to_owned(),
        statement_timeout: Duration::from_secs(60),
        command: "backup".to_owned(),
    }
}

fn open(cluster: &Cluster) -> Connection {
    Connection::open(&settings(cluster)).unwrap()
}

#[test]
fn facts_are_those_of_the_server() {
    for server in Server::all() {
        let cluster = Cluster::builder(&server)
            .wal_segment_size_mib(2)
            .checksums(true)
            .setting("archive_mode", "always")
            .setting("archive_command", "test -n '%p' # it's")
            .setting("wal_level", "logical")
            .setting("checkpoint_timeout", "7min")
            .start();
        let connection = open(&cluster);
        let control_file = ControlFile::read(cluster.data_directory()).unwrap();
        let facts = connection.facts();
        assert_eq!(facts.version, control_file.version);
        assert_eq!(facts.version_number.to_string(), cluster.sql("show server_version_num"));
        assert_eq!(facts.data_directory, Path::new(&cluster.sql("show data_directory")));
        assert_eq!(facts.system_identifier, control_file.system_identifier);
        assert!(!facts.in_recovery);
        assert_eq!(facts.archive_mode, ArchiveMode::Always);
        assert_eq!(facts.archive_command, "test -n '%p' # it's");
        assert_eq!(facts.archive_library.as_deref(), Some(""));
        assert_eq!(facts.wal_level, WalLevel::Logical);
        assert!(facts.data_checksums);
        assert_eq!(facts.wal_segment_size, control_file.wal_segment_size);
        assert_eq!(facts.checkpoint_timeout, Duration::from_mins(7));
        facts.ensure_same(connection.target(), cluster.data_directory(), &control_file).unwrap();
    }
}

#[test]
fn the_connection_is_set_up_for_a_backup() {
    for server in Server::all() {
        let cluster = Cluster::builder(&server).start();
        // What a careful administrator sets for everybody must not end a backup.
        cluster.sql(
            "create role hasty superuser login;
             alter role hasty set statement_timeout = 1;
             alter role hasty set search_path = evil, pg_catalog;
             alter role hasty set idle_in_transaction_session_timeout = '1s';
             alter role hasty set idle_session_timeout = '1s'",
        );
        if server.major() >= 17 {
            cluster.sql("alter role hasty set transaction_timeout = '1s'");
        }
        let as_hasty = ConnectSettings { user: Some("hasty".to_owned()), ..settings(&cluster) };
        let mut connection = Connection::open(&as_hasty).unwrap();
        std::thread::sleep(Duration::from_millis(1500));
        assert!(!connection.in_recovery().unwrap());
        let name = "select application_name from pg_stat_activity where application_name like 'pgark%'";
        assert_eq!(cluster.sql(name), "pgark [backup]");
    }
}

#[test]
fn databases_and_tablespaces_are_listed() {
    for server in Server::all() {
        let scratch = Scratch::new();
        let location = scratch.directory("fast disk");
        let cluster = Cluster::builder(&server).start();
        cluster.sql(&format!("create tablespace \"Fast Disk\" location '{}'", location.display()));
        cluster.sql("set allow_in_place_tablespaces = on; create tablespace inside location ''");
        cluster.sql("create database \"caf\u{e9}\"");
        let mut connection = open(&cluster);
        let tablespaces = connection.tablespaces().unwrap();
        let found: Vec<(&str, &Path)> =
            tablespaces.iter().map(|found| (found.name.as_str(), found.location.as_path())).collect();
        let inside = PathBuf::from(format!("pg_tblspc/{}", tablespaces[1].oid));
        assert_eq!(found, [("Fast Disk", location.as_path()), ("inside", inside.as_path())]);
        let databases = connection.databases().unwrap();
        for name in ["template0", "template1", "postgres", "caf\u{e9}"] {
            let oid = cluster.sql(&format!("select oid from pg_database where datname = '{name}'"));
            let found = databases.iter().find(|database| database.name == name).unwrap();
            assert_eq!(found.oid.to_string(), oid);
        }
        assert_eq!(databases.len(), 4);
    }
}

#[test]
fn the_clock_and_the_end_of_the_wal_move_on() {
    let cluster = Cluster::builder(&Server::get(17)).start();
    let mut connection = open(&cluster);
    let (now, end) = (connection.now().unwrap(), connection.end_of_wal().unwrap());
    let difference = pgark_system::clock::now().duration_since(now);
    assert!(difference.abs().as_secs() < 60, "{difference}");
    cluster.sql("create table t as select 1");
    assert!(connection.now().unwrap() > now);
    let later = connection.end_of_wal().unwrap();
    assert!(later > end);
    assert!(later <= cluster.current_lsn().parse::<Lsn>().unwrap());
}

#[test]
fn only_one_backup_at_a_time_holds_the_lock() {
    let cluster = Cluster::builder(&Server::get(18)).start();
    let (mut first, mut second) = (open(&cluster), open(&cluster));
    first.lock_backup().unwrap();
    assert!(matches!(second.lock_backup(), Err(ClientError::BackupRunning { .. })));
    // pgBackRest asks for the same lock.
    assert_eq!(cluster.sql("select pg_try_advisory_lock(12340078987004321)"), "f");
    drop(first);
    cluster.wait_for_sql("select count(*) from pg_locks where locktype = 'advisory'", "0");
    second.lock_backup().unwrap();
}

#[test]
fn a_switched_segment_is_finished_and_becomes_ready() {
    for server in Server::all() {
        let cluster = Cluster::builder(&server)
            .wal_segment_size_mib(1)
            .setting("archive_mode", "on")
            .setting("archive_command", "true")
            .start();
        let mut connection = open(&cluster);
        let mut segments = Vec::new();
        for round in 0..4 {
            // Another session switches too, or fills the segment to its last record.
            cluster.sql(if round % 2 == 0 {
                "select pg_switch_wal()"
            } else {
                "create table t as select 1; drop table t"
            });
            let segment = connection.switch_wal().unwrap().to_string();
            let current = cluster.sql("select pg_walfile_name(pg_current_wal_insert_lsn() + 1)");
            assert!(segment < current, "{segment} {current}");
            cluster.wait_for_archived(&segment);
            segments.push(segment);
        }
        assert!(segments.is_sorted_by(|one, other| one < other), "{segments:?}");
    }
}

#[test]
fn a_restore_point_at_the_very_end_of_a_segment_names_that_segment() {
    for server in Server::all() {
        let cluster = Cluster::builder(&server)
            .wal_segment_size_mib(1)
            .setting("archive_mode", "on")
            .setting("archive_command", "true")
            .start();
        let mut connection = open(&cluster);
        let hit = (0..50).any(|_attempt| {
            fill_segment_but(&cluster, RESTORE_POINT_SIZE);
            let before = connection.end_of_wal().unwrap();
            let boundary = (before.0 / (1 << 20) + 1) << 20;
            let segment = connection.switch_wal().unwrap();
            let expected = cluster.sql(&format!("select pg_walfile_name('{before}')"));
            assert!(before.0 + RESTORE_POINT_SIZE > boundary || segment.to_string() == expected, "{before} {segment}");
            cluster.wait_for_archived(&segment.to_string());
            before.0 + RESTORE_POINT_SIZE == boundary
        });
        assert!(hit, "other records got in between each time");
    }
}

/// The record of a restore point: a header of 24 bytes, 2 for the data's length, a time of 8 and a name of 64, aligned.
const RESTORE_POINT_SIZE: u64 = 104;

/// Writes WAL until just `left` bytes remain of the current segment of 1 MiB, unless the server writes something itself.
fn fill_segment_but(cluster: &Cluster, left: u64) {
    // On the segment's last page no page header gets in between. How much a message takes beside its text is measured;
    // the text of the last one differs from that of the one before by a multiple of the alignment.
    cluster.sql(&format!(
        "create or replace function room() returns bigint language sql volatile as
           $$ select (1048576 - (pg_current_wal_insert_lsn() - '0/0') % 1048576)::bigint $$;
         do $$
         declare before bigint; beside bigint;
         begin
           perform pg_switch_wal();
           while room() > 8160 loop
             perform pg_logical_emit_message(false, '', repeat('x', 3000));
           end loop;
           before := room();
           perform pg_logical_emit_message(false, '', repeat('x', 400));
           beside := before - room() - 400;
           perform pg_logical_emit_message(false, '', repeat('x', (room() - {left} - beside)::int));
         end $$"
    ));
}

#[test]
fn a_standby_says_what_it_can() {
    let mut primary = Cluster::builder(&Server::get(18)).start();
    let mut standby = primary.standby();
    standby.start();
    primary.sql("create table t as select 1");
    primary.wait_for_replay(&standby);
    let mut connection = open(&standby);
    assert!(connection.facts().in_recovery && connection.in_recovery().unwrap());
    assert_eq!(connection.timeline().unwrap(), Timeline(1));
    assert!(connection.end_of_wal().unwrap() > Lsn::INVALID);
    let error = connection.switch_wal().unwrap_err();
    assert!(error.to_string().contains("recovery is in progress"), "{error}");
    primary.stop(Stop::Fast);
    standby.promote();
    // The connection outlives a promotion: that it happened must be seen.
    assert!(!connection.in_recovery().unwrap());
    assert_eq!(open(&standby).timeline().unwrap(), Timeline(2));
}

#[test]
fn another_cluster_is_told_from_the_right_one() {
    let (cluster, other) = (Cluster::builder(&Server::get(17)).start(), Cluster::builder(&Server::get(17)).create());
    let connection = open(&cluster);
    let control_file = ControlFile::read(cluster.data_directory()).unwrap();
    let other_file = ControlFile::read(other.data_directory()).unwrap();
    let check = |directory: &Path, control_file: &ControlFile| {
        connection.facts().ensure_same(connection.target(), directory, control_file).map_err(|error| error.to_string())
    };
    let error = check(other.data_directory(), &other_file).unwrap_err();
    assert!(error.contains("system identifier"), "{error}");
    let error = check(other.data_directory(), &control_file).unwrap_err();
    assert!(error.contains("the data directory is"), "{error}");
    // Under another name it is still the same.
    let scratch = tempfile::tempdir().unwrap();
    fs_err::os::unix::fs::symlink(cluster.data_directory(), scratch.path().join("link")).unwrap();
    check(&scratch.path().join("link"), &control_file).unwrap();
}

#[test]
fn a_server_that_is_not_there_is_named() {
    let scratch = tempfile::tempdir().unwrap();
    let mut settings = ConnectSettings {
        socket_path: Some(scratch.path().to_owned()),
        port: 54321,
        user: Some("postgres".to_owned()),
        database: "postgres".to_owned(),
        statement_timeout: Duration::from_secs(1),
        command: "check".to_owned(),
    };
    let error = Connection::open(&settings).unwrap_err();
    assert!(matches!(error, ClientError::NoSocket { port: 54321, .. }), "{error}");
    assert!(error.to_string().contains(scratch.path().to_str().unwrap()), "{error}");
    settings.socket_path = None;
    let error = Connection::open(&settings).unwrap_err().to_string();
    assert!(error.contains("/var/run/postgresql") && error.contains("/tmp"), "{error}");
    // The socket of a server that crashed.
    drop(std::os::unix::net::UnixListener::bind(scratch.path().join(".s.PGSQL.54321")).unwrap());
    settings.socket_path = Some(scratch.path().to_owned());
    let error = Connection::open(&settings).unwrap_err();
    assert!(matches!(error, ClientError::Connect { .. }), "{error}");
    assert!(error.hint().is_some());
}

#[test]
fn a_server_that_refuses_is_quoted() {
    let cluster = Cluster::builder(&Server::get(15)).start();
    let error =
        Connection::open(&ConnectSettings { database: "nowhere".to_owned(), ..settings(&cluster) }).unwrap_err();
    let message = error.to_string();
    assert!(message.contains("database \"nowhere\" does not exist"), "{message}");
    for part in ["'nowhere'", "'postgres'", &cluster.port().to_string(), cluster.socket_directory().to_str().unwrap()] {
        assert!(message.contains(part), "{message}");
    }
    // Without a user's name it is that of the process, which has no role here unless it is postgres itself.
    let found = Connection::open(&ConnectSettings { user: None, ..settings(&cluster) });
    let user = whoami::username().unwrap();
    assert_eq!(found.is_ok(), user == "postgres");
    if let Err(error) = found {
        assert!(error.to_string().contains(&user), "{error}");
    }
}

#[test]
fn a_user_who_may_not_see_settings_or_start_backups_is_told() {
    let cluster = Cluster::builder(&Server::get(17)).start();
    cluster.sql("create role guest login; create role monitor login in role pg_read_all_settings");
    let as_user = |user: &str| ConnectSettings { user: Some(user.to_owned()), ..settings(&cluster) };
    let error = Connection::open(&as_user("guest")).unwrap_err();
    assert!(matches!(error, ClientError::HiddenSetting { setting: "data_directory", .. }), "{error}");
    assert!(error.hint().unwrap().contains("pg_read_all_settings"));
    let error = Connection::open(&as_user("monitor")).unwrap().start_backup("test", true).unwrap_err();
    assert!(matches!(error, ClientError::Query { failure: QueryFailure::Denied, .. }), "{error}");
}

#[test]
fn a_checkpoint_that_takes_too_long_and_a_lost_connection_are_errors() {
    let mut cluster = Cluster::builder(&Server::get(18)).setting("checkpoint_timeout", "1h").start();
    cluster.pgbench_init(1);
    let impatient = ConnectSettings { statement_timeout: Duration::from_secs(3), ..settings(&cluster) };
    let error = Connection::open(&impatient).unwrap().start_backup("test", false).unwrap_err();
    assert!(matches!(error, ClientError::Query { failure: QueryFailure::Cancelled, .. }), "{error}");
    assert!(error.hint().unwrap().contains("db-timeout"));
    let mut connection = open(&cluster);
    connection.start_backup("test", true).unwrap();
    cluster.stop(Stop::Immediate);
    let error = connection.stop_backup().unwrap_err();
    assert!(matches!(error, ClientError::Query { failure: QueryFailure::ConnectionLost, .. }), "{error:?}");
}
