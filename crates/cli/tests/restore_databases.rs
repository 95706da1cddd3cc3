//! Restoring some of the databases: those come back whole, the others take no space and can be dropped.

#![allow(clippy::unwrap_used, reason = "what goes wrong here ends the test")]

mod common;

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use fs_err as fs;
use pgark_testkit::{Cluster, Server, Stop, run};

use crate::common::Site;
use crate::common::restoring::{archive_all, recovered, restore_into};

/// A running cluster with databases `one`, `two` and `three`, each with the table `numbers` and one in a tablespace. After
/// the backup all of them are changed, in every way that recovery has to follow.
fn site_with_databases(server: &Server) -> Site {
    let site = Site::start(server);
    site.cluster.sql(&format!("create tablespace space location '{}'", site.scratch.directory("space").display()));
    for name in ["one", "two", "three"] {
        site.cluster.sql(&format!("create database {name}"));
        for statement in [
            "create table numbers (id int primary key, text text)",
            "insert into numbers select g, repeat('x', 500) from generate_series(1, 5000) g",
            "create table far (id int) tablespace space; insert into far select generate_series(1, 3000)",
        ] {
            site.cluster.sql_in(name, statement);
        }
    }
    site.backup(&[]);
    for name in ["one", "two", "three"] {
        for statement in [
            "update numbers set text = 'changed' where id % 3 = 0",
            "delete from numbers where id % 5 = 0",
            "insert into numbers select g, 'new' from generate_series(6000, 6999) g",
            "create table later as select * from numbers; create index on later (id)",
            // What says where the catalogs lie is written anew by these, in the middle of recovery.
            if name == "two" { "vacuum full pg_attribute" } else { "vacuum full pg_class" },
            "vacuum numbers; vacuum full far; truncate later",
            "insert into far select generate_series(3001, 4000)",
        ] {
            site.cluster.sql_in(name, statement);
        }
    }
    archive_all(&site);
    site
}

/// Bytes on the disk, and bytes in files, of what is in a directory.
fn space(directory: &Path) -> (u64, u64) {
    let files = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let relations = files.filter(|path| path.file_name().unwrap().as_encoded_bytes()[0].is_ascii_digit());
    relations
        .map(|path| fs::metadata(path).unwrap())
        .fold((0, 0), |(disk, size), file| (disk + file.blocks() * 512, size + file.len()))
}

fn oid(cluster: &Cluster, database: &str) -> String {
    cluster.sql(&format!("select oid from pg_database where datname = '{database}'"))
}

#[track_caller]
fn assert_whole(cluster: &Cluster, database: &str) {
    assert_eq!(cluster.sql_in(database, "select count(*) from numbers"), "5000", "{database}");
    assert_eq!(cluster.sql_in(database, "select count(*) from far"), "4000", "{database}");
    let mut amcheck = cluster.client("pg_amcheck");
    run(amcheck.args(["--heapallindexed", "--install-missing", "--database", database])).expect_success();
}

/// Starts the restored cluster; the databases `gone` must be of no use, and go away.
#[track_caller]
fn assert_restored(server: &Server, directory: &Path, whole: &[&str], gone: &[&str]) -> Cluster {
    let cluster = recovered(server, directory);
    for database in whole {
        assert_whole(&cluster, database);
    }
    for database in gone {
        let refused = run(cluster.client("psql").args(["-XAtqc", "select 1", "-d", database]));
        assert!(refused.stderr.contains("is not a valid data directory"), "{database}: {}", refused.report());
        cluster.sql(&format!("drop database {database}"));
    }
    // Who asks for such a database is turned away, and nobody else is harmed.
    assert!(!cluster.log().contains("PANIC"), "{}", cluster.log());
    cluster.sql("checkpoint");
    cluster
}

fn databases_that_are_not_wanted_take_no_space(major: u32) {
    let server = Server::get(major);
    let site = site_with_databases(&server);
    let [one, two, three] = ["one", "two", "three"].map(|name| oid(&site.cluster, name));
    let place = site.scratch.path().join("restored-space");
    let map = format!("--tablespace-map=space={}", place.display());
    let directory = site.scratch.path().join("included");
    restore_into(&site, &directory, &["--db-include=one", &format!("--db-include={three}"), &map]).expect_success();
    let base = directory.join("base");
    let (disk, size) = space(&base.join(&two));
    let (_, original) = space(&base.join(&one));
    assert!(disk == 0 && size > original * 9 / 10, "{disk} of {size} bytes are on the disk");
    let (disk, size) = space(&fs::read_dir(&place).unwrap().next().unwrap().unwrap().path().join(&two));
    assert!(disk == 0 && size > 0, "{disk} of {size} bytes are on the disk");
    assert_restored(&server, &directory, &["one", "three"], &["two"]).stop(Stop::Fast);

    // Over that: what was missing comes, what is not wanted any more goes.
    let excluded = ["--delta", &format!("--db-exclude={one}"), &map, "--log-level-console=info"];
    let finished = restore_into(&site, &directory, &excluded).expect_success();
    let said = format!("databases excluded (zeroed) from selective restore ({one})");
    assert!(finished.stdout.contains(&said), "{}", finished.report());
    assert_eq!(space(&base.join(&one)).0, 0);
    assert_restored(&server, &directory, &["two", "three"], &["one"]).stop(Stop::Fast);

    let all =
        ["--delta", "--db-include=one", "--db-include=two", "--db-include=three", &map, "--log-level-console=info"];
    let finished = restore_into(&site, &directory, &all).expect_success();
    assert!(finished.stdout.contains("nothing to filter - all user databases have been selected"));
    assert_restored(&server, &directory, &["one", "two", "three"], &[]).stop(Stop::Fast);
}

#[test]
fn databases_that_are_not_wanted_take_no_space_on_15() {
    databases_that_are_not_wanted_take_no_space(15);
}

#[test]
fn databases_that_are_not_wanted_take_no_space_on_17() {
    databases_that_are_not_wanted_take_no_space(17);
}

#[test]
fn databases_that_are_not_wanted_take_no_space_on_18() {
    databases_that_are_not_wanted_take_no_space(18);
}

#[test]
fn the_databases_of_an_offline_backup_are_known_by_their_oids() {
    let server = Server::get(17);
    let mut site = Site::start(&server);
    site.cluster.sql("create database one");
    site.cluster.sql("create database two");
    let two = oid(&site.cluster, "two");
    site.cluster.stop(Stop::Fast);
    site.backup(&["--no-online"]);
    let directory = site.scratch.path().join("restored");
    for (code, option, message) in [
        (80, "--db-exclude=two", "database to exclude 'two' does not exist"),
        (80, "--db-include=16000", "database to include '16000' does not exist"),
        (81, "--db-include=1", "system databases (template0, postgres, etc.) are included by default"),
    ] {
        let finished = restore_into(&site, &directory, &[option]).expect_code(code);
        assert!(finished.stdout.contains(message), "{}", finished.report());
        assert!(!directory.exists());
    }
    let exclude = format!("--db-exclude={two}");
    site.pgark(&[&format!("--pg1-path={}", directory.display()), "--type=none", &exclude, "restore"]).expect_success();
    assert_eq!(space(&directory.join("base").join(&two)).0, 0);
    let mut restored = recovered(&server, &directory);
    assert_eq!(restored.sql_in("one", "select 1"), "1");
    restored.sql("drop database two");
    restored.stop(Stop::Fast);
}
