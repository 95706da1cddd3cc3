//! Clusters with everything in them that PostgreSQL allows, and in every shape: all of it is there after a restore.

#![expect(clippy::unwrap_used, reason = "what is not as expected ends the test")]

mod common;

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use fs_err as fs;
use pgark_testkit::{Cluster, Server, Stop, give_to_test_user, wait_until};

use crate::common::{Site, SiteBuilder};

/// Names that a file in the data directory may have, though none of PostgreSQL's has.
const FILE_NAMES: [&[u8]; 4] = [b"caf\xE9", b"two\nlines", b"-rf *", &[b'x'; 255]];

/// A cluster with everything in it, which changes while it is backed up.
struct OddCluster {
    site: Site,
    /// Where its WAL is, behind a link.
    wal: PathBuf,
    /// Where a tablespace is, by a name that its link and the tablespace map have to keep.
    tablespace: PathBuf,
}

impl OddCluster {
    fn start(builder: SiteBuilder) -> Self {
        let mut site = builder
            .setting("wal_level", "logical")
            .setting("max_prepared_transactions", "5")
            .setting("max_locks_per_transaction", "400")
            .create();
        let outside = site.scratch.directory("outside");
        let (wal, tablespace) = (outside.join("wal"), outside.join("-a \\ \"ta\u{df}lespace\"\n"));
        let data = site.cluster.data_directory().to_owned();
        fs::rename(data.join("pg_wal"), &wal).unwrap();
        fs_err::os::unix::fs::symlink(&wal, data.join("pg_wal")).unwrap();
        for directory in [&tablespace, &data.join("empty")] {
            fs::create_dir(directory).unwrap();
            give_to_test_user(directory);
        }
        for name in FILE_NAMES {
            fs::write(data.join(OsStr::from_bytes(name)), name).unwrap();
            give_to_test_user(&data.join(OsStr::from_bytes(name)));
        }
        site.cluster.start();
        site.pgark(&["stanza-create"]).expect_success();
        site.cluster.sql(
            "select pg_create_physical_replication_slot('physical', true);
             select pg_create_logical_replication_slot('logical', 'pgoutput')",
        );
        site.cluster.sql(&format!("create tablespace outside location '{}'", tablespace.display()));
        site.cluster.sql(include_str!("sql/everything.sql"));
        site.cluster.sql(
            "create table away tablespace outside as select generate_series(1, 5000) n;
             create unlogged table scratch_away tablespace outside as select generate_series(1, 5000) n",
        );
        Self { site, wal, tablespace }
    }

    /// Takes a backup during which tables, indexes, databases and tablespaces come, go and move.
    fn back_up_in_unrest(&self) {
        let site = &self.site;
        let strategy = if site.cluster.server().major() >= 15 { "strategy file_copy" } else { "" };
        let script = site.scratch.write("churn.sql", include_str!("sql/churn.sql").replace("STRATEGY", strategy));
        let churn = site.cluster.load_script(&script);
        let rounds = || site.cluster.sql("select n from rounds").parse::<u64>().unwrap();
        site.cluster.wait_for_sql("select n > 0 from rounds", "t");
        // What a backup sees of a round is chance: until one has seen how a round ends and the next begins.
        wait_until("a backup during which the cluster changes", || {
            let before = rounds();
            site.backup(&["--process-max=2"]);
            rounds() > before
        });
        churn.stop();
        site.cluster.wait_for_idleness();
    }

    /// Loses the disk that the cluster is on.
    fn lose(&mut self) {
        self.site.cluster.stop(Stop::Fast);
        for directory in [self.site.cluster.data_directory(), &self.wal, &self.tablespace] {
            fs::remove_dir_all(directory).unwrap();
        }
    }
}

fn everything_comes_back(builder: SiteBuilder) {
    let mut odd = OddCluster::start(builder);
    odd.back_up_in_unrest();
    let site = &odd.site;
    site.cluster.sql("commit prepared 'to be committed before the restore'");
    site.cluster.sql("insert into rows (line) select md5(g::text) from generate_series(1, 100) g");
    site.cluster.sql("select lo_put(4711, 1000, 'changed'); refresh materialized view summary");
    let before = site.cluster.dump();
    site.archive_segment();
    odd.lose();
    odd.site.pgark(&["restore"]).expect_success();
    let cluster = &mut odd.site.cluster;
    cluster.start();
    cluster.wait_for_sql("select pg_is_in_recovery()", "f");
    let after = cluster.dump();
    assert!(before == after, "{}", first_difference(&before, &after));
    check_what_no_dump_shows(cluster);
    assert!(!cluster.log().contains("ends early"), "sound WAL was called damaged: {}", cluster.log());

    let checksums = cluster.sql("show data_checksums") == "on";
    cluster.check_relations();
    cluster.stop(Stop::Fast);
    if checksums {
        cluster.check_pages();
    }
    for name in FILE_NAMES {
        assert_eq!(fs::read(cluster.data_directory().join(OsStr::from_bytes(name))).unwrap(), name);
    }
    assert!(cluster.data_directory().join("empty").is_dir());
}

fn first_difference(before: &str, after: &str) -> String {
    let differing = before.lines().zip(after.lines()).find(|(before, after)| before != after);
    format!("{} bytes before, {} after; first difference {differing:?}", before.len(), after.len())
}

fn check_what_no_dump_shows(cluster: &Cluster) {
    // Slots would keep WAL for receivers that never come.
    assert_eq!(cluster.sql("select count(*) from pg_replication_slots"), "0");
    assert_eq!(cluster.sql("select count(*) from scratch"), "0");
    assert_eq!(cluster.sql("select count(*) from scratch_away"), "0");
    cluster.sql("insert into scratch values (1, 'new'); insert into scratch_away values (1)");
    // Some numbers of a sequence may be left out after a recovery, none may come twice.
    assert_eq!(cluster.sql("select nextval('tickets') > 5, nextval('rows_id_seq') > 1100"), "t|t");
    assert_eq!(cluster.sql("select gid from pg_prepared_xacts"), "to be committed after the restore");
    cluster.sql("commit prepared 'to be committed after the restore'");
    assert_eq!(cluster.sql("select string_agg(id::text, ' ' order by id) from prepared"), "1 2");
    for (condition, count) in [
        ("rows where line = md5('77')", 2),
        ("rows where id between 500 and 509", 10),
        ("shapes where words @> array['1234']", 1),
        ("shapes where area && box(point(10, 10), point(10, 10))", 2),
        ("shapes where span @> 100", 5),
        ("shapes where spot <@ box(point(1, -1), point(10, -10))", 10),
        ("shapes where line = md5('1999')", 1),
    ] {
        let plan = format!("set enable_seqscan = off; select count(*) from {condition}");
        assert_eq!(cluster.sql(&plan), count.to_string(), "the index for {condition}");
    }
}

#[test]
fn everything_comes_back_on_14() {
    everything_comes_back(Site::builder(&Server::get(14)).wal_segment_size_mib(16));
}

#[test]
fn everything_comes_back_on_16_without_checksums_and_with_large_segments() {
    everything_comes_back(Site::builder(&Server::get(16)).wal_segment_size_mib(64).without_checksums());
}

#[test]
fn everything_comes_back_on_18() {
    everything_comes_back(Site::builder(&Server::get(18)).passphrase("odd"));
}
