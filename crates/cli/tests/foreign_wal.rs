//! A cluster that was set back to an older copy of itself, by a snapshot of its disk or the like, writes other WAL under the
//! names of what is in the archive already.

mod common;

use std::path::{Path, PathBuf};
use std::process::Command;

use fs_err as fs;
use pgark_testkit::{Cluster, Server, Stop, as_test_user, run};

use crate::common::Site;
use crate::common::restoring::{as_it_is, assert_same};

/// A site whose cluster has gone on, with all of that in the archive, and is then set back to what it was before. It does
/// not run.
fn set_back(major: u32) -> Site {
    let mut site = Site::builder(&Server::get(major)).setting("autovacuum", "off").start();
    site.cluster.sql("create table t as select n id, md5(n::text) filler from generate_series(1, 20000) n; vacuum t");
    site.backup(&[]);
    site.cluster.sql("update t set filler = 'common' where id % 100 = 0");
    site.archive_segment();
    site.cluster.stop(Stop::Fast);
    let snapshot = site.scratch.path().join("snapshot");
    copy(site.cluster.data_directory(), &snapshot);
    site.cluster.start();
    change(&site.cluster, "first", 1..=5);
    site.archive_segment();
    site.pgark(&["--type=incr", "backup"]).expect_success();
    change(&site.cluster, "first", 6..=8);
    site.archive_segment();
    site.cluster.stop(Stop::Fast);
    fs::remove_dir_all(site.cluster.data_directory()).expect("the data directory can be removed");
    copy(&snapshot, site.cluster.data_directory());
    site
}

fn copy(from: &Path, to: &Path) {
    run(as_test_user(Command::new("cp").arg("--archive").arg(from).arg(to))).expect_success();
}

/// Changes a few rows on pages that no other round changes, and ends a segment, for each round.
fn change(cluster: &Cluster, life: &str, rounds: std::ops::RangeInclusive<u32>) {
    for round in rounds {
        cluster.sql(&format!("update t set filler = '{life}' where id between {round} * 1000 and {round} * 1000 + 50"));
        cluster.switch_wal();
    }
}

fn labels(site: &Site) -> Vec<PathBuf> {
    site.objects("/manifest")
}

/// Takes an incremental backup that must say why it reads everything, and holds it against one that compares with nothing.
fn assert_reads_all_and_is_right(site: &Site, name: &str, arguments: &[&str]) {
    let taken = site.pgark(&[&["--log-level-console=info", "--type=incr"], arguments, &["backup"]].concat());
    let taken = taken.expect_success();
    assert!(taken.stdout.contains("all files are read, since it is not known what has changed"), "{}", taken.report());
    let label = taken.stdout.lines().find_map(|line| line.split_once("new backup label = ")).expect("it has a label").1;
    let anew = site.backup(&[&["--no-reuse"], arguments].concat());
    assert_same(&as_it_is(site, &format!("{name}-incr"), label), &as_it_is(site, &format!("{name}-full"), &anew));
}

/// Would lose: the backup, whose WAL nobody has; or the cluster, put together from the pages of its two lives.
fn no_backup_relies_on_the_wal_of_another_life(major: u32) {
    let mut site = set_back(major);
    site.cluster.start();
    change(&site.cluster, "second", 11..=13);
    site.cluster.wait_for_log("already exists in the repo1 archive with a different checksum");
    let before = labels(&site);
    for kind in ["incr", "full"] {
        let refused = site.pgark(&[&format!("--type={kind}"), "backup"]);
        let text = refused.report();
        assert_eq!(refused.code(), Some(45), "{text}");
        assert!(text.contains("other WAL than this cluster's"), "{text}");
        assert!(text.contains("is not the one in pg_wal"), "{text}");
        assert!(text.contains("HINT: to keep what the cluster has now, archive to a new stanza"), "{text}");
    }
    assert_eq!(labels(&site), before);
    let refused = site.pgark(&["check"]);
    assert_eq!(refused.code(), Some(45), "{}", refused.report());

    assert_reads_all_and_is_right(&site, "unchecked", &["--no-archive-check"]);
    change(&site.cluster, "second", 14..=14);
    assert_reads_all_and_is_right(&site, "again", &["--no-archive-check"]);
}

#[test]
fn no_backup_relies_on_the_wal_of_another_life_on_15() {
    no_backup_relies_on_the_wal_of_another_life(15);
}

#[test]
fn no_backup_relies_on_the_wal_of_another_life_on_18() {
    no_backup_relies_on_the_wal_of_another_life(18);
}

/// Would lose: what was changed while the server believed archived what was thrown away.
#[test]
fn an_archive_with_the_wal_of_two_lives_tells_no_changes() {
    let mut site = set_back(16);
    let archive_command = site.archive_command();
    site.cluster.configure("archive_command", "true || archive-push");
    site.cluster.start();
    // Past the end of what the first life has archived, and so far that nothing of it is left in pg_wal.
    change(&site.cluster, "second", 11..=18);
    let last = site.objects("/wal/").into_iter().filter_map(|path| Some(path.file_name()?.to_str()?.to_owned()));
    let last = last.filter(|name| name.len() == 24).max().expect("the archive has segments");
    while site.cluster.sql("select pg_walfile_name(pg_current_wal_lsn())") <= last {
        site.cluster.switch_wal();
    }
    let switched = site.cluster.switch_wal();
    site.cluster.wait_for_archived(&switched);
    site.cluster.configure("archive_command", &archive_command);
    site.cluster.reload();
    site.archive_segment();
    site.cluster.sql("checkpoint; checkpoint");
    site.cluster.sql("update t set filler = 'at last' where id = 19000");
    assert_reads_all_and_is_right(&site, "joined", &[]);
    site.cluster.sql("update t set filler = 'in the end' where id = 19500");
    let taken = site.pgark(&["--log-level-console=info", "--type=incr", "backup"]).expect_success();
    assert!(!taken.stdout.contains("all files are read"), "what comes after is whole: {}", taken.report());
}
