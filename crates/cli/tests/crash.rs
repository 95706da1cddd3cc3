//! Kills, full disks and busy clusters: whatever happens, a user finds whole backups and whole segments, or none.

mod common;

use std::time::Duration;

use fs_err as fs;
use pgark_testkit::faults::SmallFileSystem;
use pgark_testkit::{Cluster, Server, run, wait_for_some};

use crate::common::{STANZA, Site};

/// The labels that info shows.
fn labels(site: &Site) -> Vec<String> {
    let json = site.pgark(&["--output=json", "info"]).expect_success().stdout;
    let stanzas: serde_json::Value = serde_json::from_str(&json).expect("info writes JSON");
    let backups = stanzas[0]["backup"].as_array().expect("a stanza has backups");
    backups.iter().map(|backup| backup["label"].as_str().expect("a backup has a label").to_owned()).collect()
}

#[test]
fn a_killed_backup_leaves_nothing_that_looks_like_one() {
    let server = Server::get(17);
    let site = Site::builder(&server).passphrase("speak friend").start();
    site.cluster.pgbench_init(8);
    // While no WAL arrives no backup gets to its end, however long the kill takes.
    let archive_command = site.cluster.sql("show archive_command");
    site.cluster.configure("archive_command", "false archive-push");
    site.cluster.reload();
    let stanza = format!("--stanza={STANZA}");
    let arguments = [&stanza, "--type=full", "--compress-level=9", "--archive-timeout=10m", "backup"];
    for wait_ms in [20, 60, 100, 150, 200, 300, 450, 700, 1000, 1500] {
        let mut child = site.command(&arguments).spawn().expect("the program starts");
        std::thread::sleep(Duration::from_millis(wait_ms));
        assert!(child.try_wait().expect("the child can be asked").is_none(), "the backup has ended");
        child.kill().expect("the child can be killed");
        child.wait().expect("the child can be waited for");
        assert_eq!(labels(&site), Vec::<String>::new(), "killed after {wait_ms} ms");
        // The server ends the session of a killed backup by itself.
        let sessions = "select count(*) from pg_stat_activity where application_name like 'pgark%'";
        site.cluster.wait_for_sql(sessions, "0");
    }
    site.cluster.configure("archive_command", &archive_command);
    site.cluster.reload();
    // Nothing holds the next backup up.
    let label = site.backup(&[]);
    assert_eq!(labels(&site), [label]);
    let directory = site.scratch.path().join("restored");
    let path = format!("--pg1-path={}", directory.display());
    site.pgark(&[&path, "--type=immediate", "--recovery-option=archive_mode=off", "restore"]).expect_success();
    let mut restored = Cluster::adopt(&server, &directory);
    restored.start();
    assert_eq!(restored.sql("select count(*) from pgbench_accounts"), "800000");
}

#[test]
fn a_killed_push_leaves_a_whole_segment_or_none() {
    let server = Server::get(18);
    let site = Site::start(&server);
    let segment = site.cluster.switch_wal();
    site.cluster.wait_for_archived(&segment);
    let original = fs::read(site.cluster.data_directory().join("pg_wal").join(&segment)).expect("the segment is there");
    let copy = site.scratch.directory("copy").join(&segment);
    fs::write(&copy, &original).expect("the segment can be copied");
    let object = site.object(&segment);
    let fetched = site.scratch.path().join("fetched");
    let stanza = format!("--stanza={STANZA}");
    let mut absent = 0;
    // Some times at once: one at least then comes before the program is through.
    for wait_ms in [0; 5].into_iter().chain(1..25) {
        fs::remove_file(&object).expect("the object is there");
        let copy = copy.display().to_string();
        let mut child = site.command(&[&stanza, "archive-push", &copy]).spawn().expect("the program starts");
        std::thread::sleep(Duration::from_millis(wait_ms));
        let finished = child.try_wait().expect("the child can be asked");
        child.kill().ok();
        let status = child.wait().expect("the child can be waited for");
        let found = site.pgark(&["archive-get", &segment, &fetched.display().to_string()]);
        match found.code() {
            Some(0) => assert!(fs::read(&fetched).expect("the segment was fetched") == original, "after {wait_ms} ms"),
            Some(1) => {
                assert!(finished.is_none() || !status.success(), "acknowledged and lost after {wait_ms} ms");
                absent += 1;
            }
            _ => panic!("{}", found.report()),
        }
        site.pgark(&["archive-push", &copy]).expect_success();
    }
    assert!(absent > 0, "no push was interrupted");
}

#[test]
fn a_full_disk_is_named_and_nothing_half_written_counts() {
    let server = Server::get(15);
    let disk = SmallFileSystem::new(24);
    let place = disk.path().join("repository");
    fs::create_dir(&place).expect("the disk has room for a directory");
    pgark_testkit::give_to_test_user(&place);
    let site = Site::builder(&server).repository_at(&place).start();
    site.cluster.sql(
        "create table filler as select decode(md5(random()::text || g), 'hex') noise from generate_series(1, 500000) g",
    );
    let wal_full = wait_for_some("the disk to be full", || {
        let finished = site.pgark(&["--type=full", "--no-archive-check", "backup"]);
        // The last backup that fits may leave no room for the expiry after it, which has a code of its own.
        (!matches!(finished.code(), Some(0 | 104))).then_some(finished)
    });
    if !disk.is_limited() {
        return;
    }
    assert_eq!(wal_full.code(), Some(64), "{}", wal_full.report());
    assert!(wal_full.stdout.contains("HINT: free space"), "{}", wal_full.report());
    let whole = labels(&site);
    for label in &whole {
        let directory = site.scratch.path().join(label);
        let path = format!("--pg1-path={}", directory.display());
        site.pgark(&[&path, &format!("--set={label}"), "--type=none", "restore"]).expect_success();
    }
}

fn a_busy_cluster_comes_back_consistent(major: u32) {
    let server = Server::get(major);
    let site = Site::start(&server);
    site.cluster.pgbench_init(5);
    site.cluster.sql("create unlogged table scratch as select generate_series(1, 50000) id");
    let unlogged = site.cluster.sql("select pg_relation_filepath('scratch')");
    let load = site.cluster.load(4);
    for _ in 0..3 {
        site.backup(&["--process-max=3"]);
    }
    load.stop();
    assert!(!site.cluster.log().contains("ends early"), "sound WAL was called damaged: {}", site.cluster.log());
    let directory = site.scratch.path().join("restored");
    let path = format!("--pg1-path={}", directory.display());
    let restore =
        [&path, "--type=immediate", "--target-action=promote", "--recovery-option=archive_mode=off", "restore"];
    site.pgark(&restore).expect_success();
    assert!(!directory.join(&unlogged).exists(), "the pages of an unlogged table were stored");
    assert!(directory.join(unlogged + "_init").exists());
    let mut restored = Cluster::adopt(&server, &directory);
    restored.start();
    restored.wait_for_sql("select pg_is_in_recovery()", "f");
    let balanced = "select (select sum(abalance) from pgbench_accounts) = (select sum(delta) from pgbench_history)
                       and (select sum(bbalance) from pgbench_branches) = (select sum(delta) from pgbench_history)
                       and (select sum(tbalance) from pgbench_tellers) = (select sum(delta) from pgbench_history)";
    assert_eq!(restored.sql(balanced), "t");
    assert_eq!(restored.sql("select count(*) from scratch"), "0");
    run(restored.client("pg_amcheck").args(["--all", "--heapallindexed", "--install-missing"])).expect_success();
    restored.stop(pgark_testkit::Stop::Fast);
    let checked = run(server.tool("pg_checksums").arg("--check").arg(&directory)).expect_success();
    assert!(checked.stdout.contains("Bad checksums:  0"), "{}", checked.report());
}

#[test]
fn a_busy_cluster_comes_back_consistent_on_15() {
    a_busy_cluster_comes_back_consistent(15);
}

#[test]
fn a_busy_cluster_comes_back_consistent_on_17() {
    a_busy_cluster_comes_back_consistent(17);
}

#[test]
fn a_busy_cluster_comes_back_consistent_on_18() {
    a_busy_cluster_comes_back_consistent(18);
}
