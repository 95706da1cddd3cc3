//! Backups of a cluster in whose place another server has stepped.

mod common;

use pgark_testkit::{Cluster, Finished, Server, Stop, run};

use crate::common::{Site, SiteBuilder};

/// What a full backup says of pages that differ for no reason, and of those that may differ by hint bits.
const SUSPECTED: &str = "although no WAL names";
const EXCUSED: &str = "page(s) have changed that no WAL names";

/// A running site whose server does nothing by itself, with a table of which no page is old.
fn site_with_table(builder: SiteBuilder) -> Site {
    let site = builder.setting("autovacuum", "off").setting("wal_keep_size", "1GB").start();
    site.cluster.sql("create table rows as select n id, md5(n::text) filler from generate_series(1, 20000) n");
    site
}

/// A standby that has replayed all of the site's cluster.
fn standby_of(site: &Site) -> Cluster {
    let mut standby = site.cluster.standby();
    standby.start();
    site.cluster.wait_for_replay(&standby);
    standby
}

/// Takes a backup; gives its label and what was said.
#[track_caller]
fn backup(site: &Site, kind: &str) -> (String, Finished) {
    let said = site.pgark(&["--log-level-console=info", &format!("--type={kind}"), "backup"]).expect_success();
    assert!(!said.stdout.contains("all files are read"), "{}", said.report());
    let label = said.stdout.lines().find_map(|line| line.split_once("new backup label = "));
    (label.expect("a backup has a label").1.to_owned(), said)
}

/// Takes an incremental backup, which must compare with that one.
#[track_caller]
fn incremental_to(site: &Site, prior: &str) -> String {
    let (label, said) = backup(site, "incr");
    assert!(said.stdout.contains(&format!("last backup label = {prior}")), "{}", said.report());
    label
}

/// What the newest backup and the WAL bring back is what the cluster has, and sound.
#[track_caller]
fn assert_comes_back(site: &Site, name: &str) {
    let expected = site.cluster.fingerprint();
    site.archive_segment();
    let mut restored = site.recover(name, &[]);
    assert_eq!(restored.fingerprint(), expected);
    restored.check_relations();
    restored.stop(Stop::Fast);
    restored.check_pages();
}

fn change(cluster: &Cluster, word: &str, every: u32) {
    cluster.sql(&format!("update rows set filler = '{word}' where id % {every} = 0"));
    cluster.sql(&format!("create table {word} as select generate_series(1, 500) id; checkpoint"));
}

/// Would lose: the trust in a warning, which told of every page with a hint bit that the standby had not got. Hint bits
/// are logged only for pages that were not changed since the last checkpoint.
fn a_standby_that_took_over_is_not_suspected(builder: &SiteBuilder, logs_hints: bool) {
    for follows_incremental in [false, true] {
        let mut site = site_with_table(builder.clone());
        let standby = standby_of(&site);
        site.cluster.sql("select count(*) from rows");
        site.backup(&[]);
        site.cluster.wait_for_replay(&standby);
        site.cluster.stop(Stop::Fast);
        standby.promote();
        drop(site.take_over_by(standby));
        site.archive_segment();
        if follows_incremental {
            backup(&site, "incr");
        }
        let (_, said) = backup(&site, "full");
        assert!(said.stdout.contains(EXCUSED) && !said.stdout.contains(SUSPECTED), "{}", said.report());

        // From now on there is nothing to excuse, but where hint bits are not logged at all.
        site.cluster.sql("update rows set filler = 'new' where id % 100 = 0");
        site.cluster.sql("checkpoint");
        site.cluster.sql("select count(*) from rows");
        backup(&site, "incr");
        let (_, said) = backup(&site, "full");
        assert!(!said.stdout.contains(SUSPECTED), "{}", said.report());
        assert!(!(logs_hints && said.stdout.contains(EXCUSED)), "{}", said.report());
    }
}

#[test]
fn a_standby_that_took_over_is_not_suspected_on_17() {
    a_standby_that_took_over_is_not_suspected(&Site::builder(&Server::get(17)), true);
}

#[test]
fn a_standby_that_took_over_is_not_suspected_on_15_without_checksums() {
    let builder = Site::builder(&Server::get(15)).without_checksums();
    a_standby_that_took_over_is_not_suspected(&builder, false);
    a_standby_that_took_over_is_not_suspected(&builder.setting("wal_log_hints", "on"), true);
}

/// Would lose: the trust in a warning, which told of every page whose hint bits were set before they were logged.
#[test]
fn hint_bits_from_before_they_were_logged_are_not_suspected() {
    let mut site = site_with_table(Site::builder(&Server::get(16)).without_checksums());
    site.backup(&[]);
    site.cluster.sql("select count(*) from rows");
    site.cluster.configure("wal_log_hints", "on");
    site.cluster.restart();
    backup(&site, "incr");
    let (_, said) = backup(&site, "full");
    assert!(said.stdout.contains(EXCUSED) && !said.stdout.contains(SUSPECTED), "{}", said.report());
    site.cluster.sql("update rows set filler = 'new' where id % 100 = 0");
    site.cluster.sql("checkpoint");
    site.cluster.sql("select count(*) from rows");
    backup(&site, "incr");
    let (_, said) = backup(&site, "full");
    assert!(!said.stdout.contains(EXCUSED) && !said.stdout.contains(SUSPECTED), "{}", said.report());
}

/// Would lose: what was changed on either side of a failover; or it brought back what the former primary has written that
/// nobody hears of any more.
fn a_cluster_that_was_rewound_goes_on(major: u32) {
    let mut site = site_with_table(Site::builder(&Server::get(major)));
    site.backup(&[]);
    let standby = standby_of(&site);
    change(&site.cluster, "common", 7);
    let (common, _) = backup(&site, "incr");
    site.cluster.wait_for_replay(&standby);
    standby.promote();
    change(&site.cluster, "lost", 3);
    incremental_to(&site, &common);

    let mut old = site.take_over_by(standby);
    old.stop(Stop::Fast);
    change(&site.cluster, "kept", 11);
    let after_failover = incremental_to(&site, &common);
    assert_comes_back(&site, "after-failover");

    let source = format!("--source-server={} dbname=postgres", site.cluster.connection_string());
    let mut rewind = old.server().tool("pg_rewind");
    rewind.args([&source, "--write-recovery-conf", "--no-sync", "--target-pgdata"]).arg(old.data_directory());
    run(&mut rewind).expect_success();
    old.start();
    change(&site.cluster, "followed", 13);
    site.cluster.wait_for_replay(&old);
    site.cluster.stop(Stop::Fast);
    old.promote();
    drop(site.take_over_by(old));
    change(&site.cluster, "rewound", 17);
    let last = incremental_to(&site, &after_failover);
    assert_comes_back(&site, "after-rewind");
    change(&site.cluster, "after_all", 19);
    incremental_to(&site, &last);
    assert_comes_back(&site, "at-last");
    // Its audit finds nothing that the incremental backups have missed.
    site.backup(&[]);
    assert_eq!(site.cluster.sql("select to_regclass('lost') is null"), "t");
}

#[test]
fn a_cluster_that_was_rewound_goes_on_on_15() {
    a_cluster_that_was_rewound_goes_on(15);
}

#[test]
fn a_cluster_that_was_rewound_goes_on_on_17() {
    a_cluster_that_was_rewound_goes_on(17);
}
