//! Clusters of every major version do what the other tests rely on.

use std::collections::BTreeSet;

use fs_err as fs;
use pgark_testkit::{Cluster, Server, Stop, run, wait_until};

#[test]
fn every_server_starts_and_answers() {
    for server in Server::all().into_iter().chain(Server::smoke()) {
        let cluster = Cluster::builder(&server).start();
        let version: u32 = cluster.sql("show server_version_num").parse().unwrap();
        assert_eq!(version / 10_000, server.major());
        assert_eq!(cluster.sql("create database other; select 1, 'a''b'"), "1|a'b");
        assert_eq!(cluster.sql_in("other", "select current_database()"), "other");
        let error = cluster.try_sql("select 1; select nonsense; select 2").unwrap_err();
        assert!(error.contains("column \"nonsense\" does not exist"), "{error}");
    }
}

#[test]
fn every_server_brings_its_tools() {
    let tools = ["pg_waldump", "pg_basebackup", "pg_amcheck", "pg_checksums", "pg_controldata", "pg_dump", "pgbench"];
    for server in Server::all() {
        let of_its_version = if server.major() >= 17 { &["pg_walsummary", "pg_combinebackup"][..] } else { &[] };
        for tool in tools.iter().chain(of_its_version) {
            let answer = run(server.tool(tool).arg("--version")).expect_success().stdout;
            assert!(answer.contains(server.version()), "{answer}");
        }
    }
}

#[test]
fn options_of_a_cluster_take_effect() {
    for server in Server::all() {
        for (size, checksums) in [(1, true), (64, false)] {
            let cluster = Cluster::builder(&server)
                .wal_segment_size_mib(size)
                .checksums(checksums)
                .setting("testkit.quoted", "it's set")
                .start();
            assert_eq!(cluster.sql("show wal_segment_size"), format!("{size}MB"));
            assert_eq!(cluster.sql("show data_checksums"), if checksums { "on" } else { "off" });
            assert_eq!(cluster.sql("show testkit.quoted"), "it's set");
        }
    }
}

#[test]
fn no_two_clusters_have_the_same_identity() {
    for server in Server::all() {
        let clusters = [(); 2].map(|()| Cluster::builder(&server).wal_segment_size_mib(1).start());
        let identifier = "select system_identifier from pg_control_system()";
        let identifiers: BTreeSet<String> = clusters.iter().map(|cluster| cluster.sql(identifier)).collect();
        assert_eq!(identifiers.len(), 2);
        // The server accepts its own WAL, and the control file is whole in the eyes of others.
        let control = run(server.tool("pg_controldata").arg(clusters[0].data_directory())).expect_success();
        assert!(!control.stdout.contains("WARNING"), "{}", control.stdout);
    }
}

#[test]
fn a_cluster_survives_a_restart_a_crash_and_a_kill() {
    for server in Server::all() {
        let mut cluster = Cluster::builder(&server).wal_segment_size_mib(1).start();
        cluster.pgbench_init(1);
        cluster.pgbench_run(2, 50);
        let content = cluster.fingerprint();
        assert!(content.contains("pgbench_history|100|"), "{content}");
        cluster.restart();
        assert_eq!(cluster.fingerprint(), content);
        cluster.stop(Stop::Immediate);
        assert!(!cluster.is_running());
        cluster.start();
        assert_eq!(cluster.fingerprint(), content);
        cluster.kill9();
        assert!(cluster.try_sql("select 1").is_err());
        cluster.start();
        assert_eq!(cluster.fingerprint(), content);
        cluster.wait_for_log("database system was not properly shut down");
    }
}

#[test]
fn load_goes_on_until_it_is_stopped() {
    let cluster = Cluster::builder(&Server::get(17)).start();
    cluster.pgbench_init(1);
    let load = cluster.load(2);
    for _ in 0..2 {
        let before: u32 = cluster.sql("select count(*) from pgbench_history").parse().unwrap();
        cluster.wait_for_sql(&format!("select count(*) > {} from pgbench_history", before + 10), "t");
    }
    load.stop();
    cluster.wait_for_idleness();
}

#[test]
fn an_archive_command_gets_the_segment_that_a_switch_names() {
    for server in Server::all() {
        let cluster = Cluster::builder(&server).wal_segment_size_mib(1).setting("archive_mode", "on").create();
        let archive = cluster.data_directory().parent().unwrap().join("socket");
        cluster.configure("archive_command", &format!("cp %p '{}/%f'", archive.display()));
        let mut cluster = cluster;
        cluster.start();
        let segment = cluster.switch_wal();
        cluster.wait_for_archived(&segment);
        assert_eq!(fs::metadata(archive.join(&segment)).unwrap().len(), 1 << 20);
    }
}

#[test]
fn a_standby_follows_and_can_be_promoted() {
    for server in Server::all().into_iter().chain(Server::smoke()) {
        let primary = Cluster::builder(&server).start();
        let mut standby = primary.standby();
        standby.start();
        primary.sql("create table t as select generate_series(1, 1000) as n");
        primary.wait_for_replay(&standby);
        assert_eq!(standby.fingerprint(), primary.fingerprint());
        standby.promote();
        standby.sql("insert into t values (1001)");
        assert_eq!(standby.sql("select left(pg_walfile_name(pg_current_wal_lsn()), 8)"), "00000002");
    }
}

#[test]
fn a_start_that_fails_says_why() {
    let mut cluster = Cluster::builder(&Server::get(18)).setting("work_mem", "nonsense").create();
    let error = cluster.try_start().unwrap_err();
    assert!(error.contains("invalid value for parameter \"work_mem\""), "{error}");
    cluster.configure("work_mem", "4MB");
    cluster.start();
}

#[test]
fn a_server_does_not_outlive_what_started_it() {
    let start = || Cluster::builder(&Server::get(18)).start();
    let mut cluster = std::thread::spawn(start).join().unwrap();
    wait_until("the server to end", || !cluster.is_running());
}

#[test]
fn nothing_is_left_of_a_dropped_cluster() {
    let mut cluster = Cluster::builder(&Server::get(15)).start();
    let data_directory = cluster.data_directory().to_owned();
    cluster.kill9();
    let pid_file = fs::read_to_string(data_directory.join("postmaster.pid")).unwrap();
    let segment = pid_file.lines().nth(6).unwrap().split_whitespace().last().unwrap().to_owned();
    let is_listed = || {
        let list = fs::read_to_string("/proc/sysvipc/shm").unwrap();
        list.lines().any(|line| line.split_whitespace().nth(1) == Some(&segment))
    };
    assert!(is_listed());
    drop(cluster);
    assert!(!is_listed());
    assert!(!data_directory.parent().unwrap().exists());
}

#[test]
fn an_adopted_directory_is_served_and_stays() {
    let server = Server::get(17);
    let mut origin = Cluster::builder(&server).start();
    origin.sql("create table t as select 1 as n");
    origin.stop(Stop::Fast);
    let mut adopted = Cluster::adopt(&server, origin.data_directory());
    adopted.start();
    assert_eq!(adopted.sql("select n from t"), "1");
    drop(adopted);
    origin.start();
    assert_eq!(origin.sql("select n from t"), "1");
}
