//! Timelines: after a cluster was taken back in time, and after two were taken back from one, a user reaches every moment
//! of each of them, and is told which can't be reached.

mod common;

use std::path::Path;

use pgark_testkit::{Cluster, Finished, Server};

use crate::common::Site;

/// A cluster that was restored beside the site's own and goes on in the same archive.
struct Fork {
    cluster: Cluster,
}

impl Fork {
    /// Restores to the restore point `target` and goes on from there.
    fn new(site: &Site, name: &str, target: &str, arguments: &[&str]) -> Self {
        let directory = site.scratch.path().join(name);
        let path = format!("--pg1-path={}", directory.display());
        let archive_command = format!(
            "--recovery-option=archive_command={} --config={} --stanza=demo {path} archive-push %p",
            site.program.path().display(),
            site.configuration_file().display()
        );
        let target = format!("--target={target}");
        let fixed = [path.as_str(), &archive_command, "--type=name", &target, "--target-action=promote", "restore"];
        site.pgark(&[&fixed[..], arguments].concat()).expect_success();
        let mut cluster = Cluster::adopt(site.cluster.server(), &directory);
        cluster.start();
        cluster.wait_for_sql("select pg_is_in_recovery()", "f");
        Self { cluster }
    }

    fn pgark(&self, site: &Site, arguments: &[&str]) -> Finished {
        let path = format!("--pg1-path={}", self.cluster.data_directory().display());
        let socket = format!("--pg1-socket-path={}", self.cluster.socket_directory().display());
        site.pgark(&[&[path.as_str(), &socket], arguments].concat())
    }

    fn back_up(&self, site: &Site) -> String {
        self.pgark(site, &["--type=full", "backup"]).expect_success();
        let newest = site.objects("/manifest").into_iter().max().expect("a backup was taken");
        newest.parent().and_then(Path::file_name).expect("a manifest has a label").to_string_lossy().into_owned()
    }
}

/// Adds a row and sees to it that it is in the archive.
fn add(cluster: &Cluster, row: &str) {
    cluster.sql(&format!("insert into rows values ('{row}')"));
    let segment = cluster.switch_wal();
    cluster.wait_for_archived(&segment);
}

fn rows(cluster: &Cluster) -> String {
    cluster.sql("select string_agg(name, ' ' order by name) from rows")
}

fn timeline_of(cluster: &Cluster) -> String {
    cluster.sql("select substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8)")
}

fn every_branch_is_reached(major: u32) {
    let server = Server::get(major);
    let site = Site::start(&server);
    site.cluster.sql("create table rows (name text); insert into rows values ('1a')");
    let first = site.backup(&[]);
    site.cluster.sql("select pg_create_restore_point('after 1a')");
    site.cluster.sql("insert into rows values ('1b'); select pg_create_restore_point('after 1b')");
    add(&site.cluster, "1c");

    // Two branches from timeline 1, which itself goes on too.
    let second = Fork::new(&site, "second", "after 1a", &[]);
    assert_eq!(timeline_of(&second.cluster), "00000002");
    add(&second.cluster, "2a");
    let of_second = second.back_up(&site);
    let moment = second.cluster.sql("select to_char(clock_timestamp(), 'YYYY-MM-DD HH24:MI:SS.USOF')");
    add(&second.cluster, "2b");
    let third = Fork::new(&site, "third", "after 1b", &["--target-timeline=current", &format!("--set={first}")]);
    assert_eq!(timeline_of(&third.cluster), "00000003");
    add(&third.cluster, "3a");
    add(&second.cluster, "2c");
    add(&site.cluster, "1d");

    let at = |name: &str, arguments: &[&str]| rows(&site.recover(name, arguments));
    assert_eq!(at("end-of-1", &["--target-timeline=1"]), "1a 1b 1c 1d");
    assert_eq!(at("end-of-2", &["--target-timeline=2"]), "1a 2a 2b 2c");
    // The latest timeline is 3, on whose way the newest backup, of timeline 2, does not lie: who means it says so.
    assert_eq!(at("latest", &["--target-timeline=latest"]), "1a 1b 3a");
    let set = |label: &str| format!("--set={label}");
    assert_eq!(at("from-1-to-2", &[&set(&first), "--target-timeline=2"]), "1a 2a 2b 2c");
    assert_eq!(at("current-of-2", &[&set(&of_second), "--target-timeline=current"]), "1a 2a 2b 2c");
    assert_eq!(at("immediate-of-2", &[&set(&of_second), "--type=immediate", "--target-action=promote"]), "1a 2a");
    let to_the_moment = ["--type=time", &format!("--target={moment}"), "--target-action=promote"];
    assert_eq!(at("moment-of-2", &[&to_the_moment[..], &["--target-timeline=2"]].concat()), "1a 2a");

    let refused = |code: i32, arguments: &[&str], message: &str| {
        let path = format!("--pg1-path={}", site.scratch.path().join("never").display());
        let finished = site.pgark(&[&[path.as_str(), "restore"], arguments].concat()).expect_code(code);
        assert!(finished.stdout.contains(message), "{}", finished.report());
    };
    let off = format!("timeline 2 of backup set {of_second} is not in the history of target timeline 3");
    refused(58, &[], &off);
    refused(58, &[&set(&of_second)], &off);
    refused(75, &["--type=name", "--target=after 1b", "--target-timeline=2"], "can't be reached");
    refused(55, &["--target-timeline=4"], "timeline 4 is not in the archive");

    // What was taken on the third timeline serves from now on, and all that each cluster does is sound.
    third.back_up(&site);
    add(&third.cluster, "3b");
    assert_eq!(at("latest-again", &[]), "1a 1b 3a 3b");
    for cluster in [&site.cluster, &second.cluster, &third.cluster] {
        assert_eq!(cluster.sql("select failed_count from pg_stat_archiver"), "0", "{}", cluster.log());
        assert!(!cluster.log().contains("ends early"), "sound WAL was called damaged: {}", cluster.log());
    }
}

#[test]
fn every_branch_is_reached_on_15() {
    every_branch_is_reached(15);
}

#[test]
fn every_branch_is_reached_on_18() {
    every_branch_is_reached(18);
}
