//! Restoring what does not lie in the data directory: tablespaces and links come back where the user wants them, and
//! nothing that belongs to somebody else is touched.

#![allow(clippy::unwrap_used, reason = "what goes wrong here ends the test")]

mod common;

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use fs_err as fs;
use fs_err::os::unix::fs::symlink;
use pgark_testkit::{Cluster, Server, Stop};

use crate::common::Site;
use crate::common::restoring::{archive_all, recovered, restore_into, rows};

#[test]
fn tablespaces_come_back_where_they_were() {
    let server = Server::get(17);
    let mut site = Site::builder(&server).setting("allow_in_place_tablespaces", "on").start();
    let outside = site.scratch.directory("space");
    site.cluster.sql(&format!("create tablespace outside location '{}'", outside.display()));
    site.cluster.sql("create tablespace inside location ''");
    site.cluster.sql("create table rows (id int) tablespace outside; insert into rows select generate_series(1, 5000)");
    site.cluster.sql("create table more (id int) tablespace inside; insert into more select generate_series(1, 6000)");
    site.backup(&[]);
    archive_all(&site);
    // Another directory must not get hold of the tablespace of the running cluster, whatever is said.
    let other = site.scratch.path().join("other");
    for flag in ["--delta", "--force", "--no-delta"] {
        let finished = restore_into(&site, &other, &[flag]).expect_code(40);
        assert!(finished.stdout.contains("unable to restore to tablespace"), "{}", finished.report());
    }
    assert_eq!(rows(&site.cluster), "5000");

    site.cluster.stop(Stop::Fast);
    fs::remove_dir_all(site.cluster.data_directory().join("base")).unwrap();
    let stale = fs::read_dir(&outside).unwrap().next().unwrap().unwrap().path().join("99999");
    fs::write(&stale, "left over").unwrap();
    fs::create_dir_all(outside.join("PG_99_other_cluster")).unwrap();
    site.pgark(&["--delta", "restore"]).expect_success();
    assert!(!stale.exists());
    assert!(outside.join("PG_99_other_cluster").exists());
    site.cluster.start();
    site.cluster.wait_for_sql("select pg_is_in_recovery()", "f");
    assert_eq!(rows(&site.cluster), "5000");
    assert_eq!(site.cluster.sql("select count(*) from more"), "6000");
}

/// A link from the data directory to `place`, to where what was there is moved.
fn move_out(data_directory: &Path, name: &str, place: &Path) {
    fs::rename(data_directory.join(name), place).expect("it can be moved");
    symlink(place, data_directory.join(name)).expect("it can be linked");
}

#[test]
fn what_was_linked_comes_back_in_place() {
    let server = Server::get(15);
    let mut site = Site::builder(&server).create();
    let outside = site.scratch.directory("outside");
    let data = site.cluster.data_directory().to_owned();
    move_out(&data, "postgresql.conf", &outside.join("postgresql.conf"));
    move_out(&data, "pg_wal", &outside.join("wal"));
    site.cluster.start();
    site.pgark(&["stanza-create"]).expect_success();
    site.cluster.sql("create table rows (id int); insert into rows select generate_series(1, 3)");
    site.backup(&[]);
    let before = fs::read(outside.join("postgresql.conf")).unwrap();
    archive_all(&site);
    site.cluster.stop(Stop::Fast);
    fs::write(outside.join("postgresql.conf"), "not touched by a restore").unwrap();
    site.pgark(&["--delta", "restore"]).expect_success();
    assert!(!fs::symlink_metadata(data.join("postgresql.conf")).unwrap().is_symlink());
    assert!(fs::symlink_metadata(data.join("pg_wal")).unwrap().is_dir());
    assert_eq!(fs::read(data.join("postgresql.conf")).unwrap(), before);
    assert_eq!(fs::read_to_string(outside.join("postgresql.conf")).unwrap(), "not touched by a restore");
    site.cluster.start();
    assert_eq!(rows(&site.cluster), "3");
}

/// A running cluster with a backup and with three tablespaces: two outside the data directory, one in it. Each has a
/// table of its name.
fn site_with_tablespaces(server: &Server) -> Site {
    let site = Site::builder(server).setting("allow_in_place_tablespaces", "on").start();
    for name in ["one", "two", "inside"] {
        let place = if name == "inside" { PathBuf::new() } else { site.scratch.directory(name) };
        site.cluster.sql(&format!("create tablespace {name} location '{}'", place.display()));
        site.cluster.sql(&format!("create table in_{name} (id int) tablespace {name}"));
        site.cluster.sql(&format!("insert into in_{name} select generate_series(1, 2000)"));
    }
    site.backup(&[]);
    site.cluster
        .sql("insert into in_one values (2001); insert into in_two values (2001); insert into in_inside values (2001)");
    archive_all(&site);
    site
}

fn location(cluster: &Cluster, tablespace: &str) -> PathBuf {
    cluster.sql(&format!("select pg_tablespace_location(oid) from pg_tablespace where spcname = '{tablespace}'")).into()
}

#[track_caller]
fn assert_tables(cluster: &Cluster) {
    for name in ["one", "two", "inside"] {
        assert_eq!(cluster.sql(&format!("select count(*), sum(id) from in_{name}")), "2001|2003001", "{name}");
    }
}

fn tablespaces_go_where_they_are_mapped(major: u32) {
    let server = Server::get(major);
    let site = site_with_tablespaces(&server);
    let oid = site.cluster.sql("select oid from pg_tablespace where spcname = 'two'");
    let directory = site.scratch.path().join("copy");
    let (one, all) = (site.scratch.path().join("elsewhere/first"), site.scratch.path().join("all"));
    let by_name = format!("--tablespace-map=one={}", one.display());
    let by_oid = format!("--tablespace-map={oid}={}", site.scratch.path().join("by-oid").display());
    let map_all = format!("--tablespace-map-all={}", all.display());

    restore_into(&site, &directory, &[&by_name, &map_all]).expect_success();
    let mut copy = recovered(&server, &directory);
    assert_tables(&copy);
    assert_eq!((location(&copy, "one"), location(&copy, "two")), (one.clone(), all.join("two")));
    let inside = location(&copy, "inside");
    assert!(inside.starts_with("pg_tblspc") && !directory.join(&inside).is_symlink(), "{}", inside.display());
    copy.sql("create table new (id int) tablespace two; insert into new values (1)");
    assert_tables(&site.cluster);
    copy.stop(Stop::Fast);

    // By a way that leads through a directory that is not there.
    let (other, rest) = (site.scratch.path().join("other"), site.scratch.path().join("rest"));
    let through = format!("--tablespace-map=one={}", site.scratch.path().join("nowhere/../back").display());
    restore_into(&site, &other, &[&through, &format!("--tablespace-map-all={}", rest.display())]).expect_success();
    let mut copy = recovered(&server, &other);
    assert_tables(&copy);
    assert_eq!(location(&copy, "one"), fs::canonicalize(site.scratch.path().join("back")).unwrap());
    copy.stop(Stop::Fast);

    // Over what is there, with what is wrong there mended, and one tablespace moved once more.
    let stale = fs::read_dir(&one).unwrap().next().unwrap().unwrap().path().join("99999");
    fs::write(&stale, "left over").unwrap();
    fs::create_dir_all(one.join("PG_99_other_cluster")).unwrap();
    restore_into(&site, &directory, &["--delta", &by_name, &by_oid]).expect_success();
    assert!(!stale.exists());
    assert!(one.join("PG_99_other_cluster").exists());
    let mut copy = recovered(&server, &directory);
    assert_tables(&copy);
    assert_eq!(location(&copy, "two"), site.scratch.path().join("by-oid"));
    copy.stop(Stop::Fast);
    restore_into(&site, &directory, &["--force", &by_name, &by_oid]).expect_success();
    assert!(one.join("PG_99_other_cluster").exists());
    assert_tables(&recovered(&server, &directory));
}

#[test]
fn tablespaces_go_where_they_are_mapped_on_15() {
    tablespaces_go_where_they_are_mapped(15);
}

#[test]
fn tablespaces_go_where_they_are_mapped_on_18() {
    tablespaces_go_where_they_are_mapped(18);
}

#[test]
fn places_that_make_no_sense_are_refused_before_anything_is_touched() {
    let server = Server::get(17);
    let site = site_with_tablespaces(&server);
    let directory = site.scratch.path().join("never");
    let path = |name: &str| site.scratch.path().join(name).display().to_string();
    let used = site.scratch.directory("used");
    fs::write(used.join("precious"), "thirty years of work").unwrap();
    let cases: [(i32, &[String], &str); 13] = [
        (76, &[format!("--tablespace-map=three={}", path("new"))], "unable to remap invalid tablespace 'three'"),
        (76, &[format!("--tablespace-map=inside={}", path("new"))], "unable to remap invalid tablespace 'inside'"),
        (32, &["--tablespace-map=one=new".to_owned()], "must begin with /"),
        (31, &["--tablespace-map=one".to_owned()], "key/value 'one' not valid"),
        (70, &[format!("--tablespace-map=one={}", path("never/space"))], "is in PGDATA"),
        (70, &["one", "two"].map(|name| format!("--tablespace-map={name}={}", path("new"))), "is the same as"),
        (40, &[format!("--tablespace-map=one={}", path("new"))], "unable to restore to tablespace"),
        (
            40,
            &["--tablespace-map-all=/etc".to_owned(), format!("--link-map=pg_wal={}", path("used"))],
            "because it contains files",
        ),
        (
            93,
            &[
                format!("--tablespace-map-all={}", path("new")),
                format!("--link-map=PG_VERSION={}", path("used/precious")),
            ],
            "because it already exists",
        ),
        (78, &[format!("--link-map=nothing={}", path("new"))], "unable to map link 'nothing'"),
        (78, &["--link-map=pg_hba.conf=pg_hba.conf".to_owned()], "is not long enough"),
        (80, &["--db-include=three".to_owned()], "database to include 'three' does not exist"),
        (81, &["--db-include=postgres".to_owned()], "are included by default"),
    ];
    for (code, arguments, message) in cases {
        for flag in ["--no-delta", "--delta", "--force"] {
            let arguments: Vec<&str> = arguments.iter().map(String::as_str).chain([flag]).collect();
            let finished = restore_into(&site, &directory, &arguments).expect_code(code);
            let said = format!("{}{}", finished.stdout, finished.stderr);
            assert!(said.contains(message), "{arguments:?}: {}", finished.report());
            assert!(!directory.exists() && !site.scratch.path().join("new").exists(), "{arguments:?}");
        }
    }
    assert_eq!(fs::read_to_string(used.join("precious")).unwrap(), "thirty years of work");
    assert_tables(&site.cluster);
}

/// A cluster with `pg_wal` and `postgresql.conf` behind links, and a backup of it; shut down, its directories gone.
fn lost_site_with_links(server: &Server) -> (Site, PathBuf, Vec<u8>) {
    let mut site = Site::builder(server).create();
    let outside = site.scratch.directory("outside");
    let data = site.cluster.data_directory().to_owned();
    move_out(&data, "postgresql.conf", &outside.join("postgresql.conf"));
    move_out(&data, "pg_wal", &outside.join("wal"));
    site.cluster.start();
    site.pgark(&["stanza-create"]).expect_success();
    site.cluster.sql("create table rows (id int); insert into rows select generate_series(1, 3)");
    site.backup(&[]);
    let settings = fs::read(outside.join("postgresql.conf")).unwrap();
    archive_all(&site);
    site.cluster.stop(Stop::Fast);
    fs::remove_dir_all(&data).unwrap();
    fs::remove_dir_all(&outside).unwrap();
    (site, outside, settings)
}

#[test]
fn links_come_back_as_links_if_that_is_asked_for() {
    let (mut site, outside, settings) = lost_site_with_links(&Server::get(17));
    let data = site.cluster.data_directory().to_owned();
    for mode in ["--no-delta", "--delta", "--force"] {
        site.pgark(&["--link-all", "--archive-mode=off", mode, "restore"]).expect_success();
        assert_eq!(fs::read_link(data.join("pg_wal")).unwrap(), outside.join("wal"));
        assert_eq!(fs::read_link(data.join("postgresql.conf")).unwrap(), outside.join("postgresql.conf"));
        assert_eq!(fs::read(outside.join("postgresql.conf")).unwrap(), settings);
        assert!(outside.join("wal/archive_status").is_dir());
        site.cluster.start();
        site.cluster.wait_for_sql("select pg_is_in_recovery()", "f");
        assert_eq!(rows(&site.cluster), "3", "{mode}");
        site.cluster.stop(Stop::Fast);
        fs::write(outside.join("wal/left-over"), "").unwrap();
    }
    assert!(outside.join("wal/left-over").exists());
    site.pgark(&["--link-all", "--archive-mode=off", "--delta", "restore"]).expect_success();
    assert!(!outside.join("wal/left-over").exists());

    // A second copy must not get hold of what the first one uses.
    for mode in ["--no-delta", "--delta", "--force"] {
        let finished = restore_into(&site, &site.scratch.path().join("copy"), &["--link-all", mode]).expect_code(40);
        assert!(finished.stdout.contains("unable to restore to path"), "{}", finished.report());
    }
    assert!(!site.scratch.path().join("copy").exists());
    // Without the option, what is behind the links stays, and is not used any more.
    let finished = site.pgark(&["--delta", "--archive-mode=off", "restore"]).expect_success();
    assert!(finished.stdout.contains("file link 'postgresql.conf' will be restored as a file at the same location"));
    assert!(finished.stdout.contains("contents of directory link 'pg_wal' will be restored in a directory"));
    assert!(!data.join("pg_wal").is_symlink() && outside.join("wal").exists());
}

#[test]
fn links_go_where_they_are_mapped() {
    let server = Server::get(15);
    let (site, outside, settings) = lost_site_with_links(&server);
    let place = |name: &str| site.scratch.path().join("new").join(name);
    let map = |link: &str, name: &str| format!("--link-map={link}={}", place(name).display());
    let maps = [
        map("pg_wal", "wal"),
        map("postgresql.conf", "etc/postgresql.conf"),
        // These were no links.
        map("pg_xact", "xact"),
        map("global", "global"),
        map("postgresql.auto.conf", "etc/auto.conf"),
        "--link-map=pg_hba.conf=../pg_hba.conf".to_owned(),
    ];
    let maps: Vec<&str> = maps.iter().map(String::as_str).collect();
    let directory = site.scratch.path().join("mapped");
    for mode in ["--no-delta", "--delta", "--force"] {
        restore_into(&site, &directory, &[&maps[..], &[mode]].concat()).expect_success();
        assert_eq!(fs::read_link(directory.join("pg_wal")).unwrap(), place("wal"));
        assert_eq!(fs::read_link(directory.join("pg_hba.conf")).unwrap(), Path::new("../pg_hba.conf"));
        assert_eq!(fs::read(place("etc/postgresql.conf")).unwrap(), settings);
        assert!(place("global/pg_control").is_file() && place("xact/0000").is_file());
        assert!(fs::read_to_string(place("etc/auto.conf")).unwrap().contains("archive_mode = 'off'"));
        let mut restored = recovered(&server, &directory);
        assert_eq!(rows(&restored), "3", "{mode}");
        restored.stop(Stop::Fast);
    }
    assert!(!outside.exists());
}

#[test]
fn what_root_restores_belongs_to_the_server() {
    let server = Server::get(18);
    let site = site_with_tablespaces(&server);
    let parent = site.scratch.directory("by-root");
    let directory = parent.join("data");
    let mut command = site.command(&["--stanza=demo", "--archive-mode=off", "restore"]);
    command.arg(format!("--pg1-path={}", directory.display()));
    command.arg(format!("--tablespace-map-all={}", parent.join("new/deep").display()));
    command.arg(format!("--link-map=pg_wal={}", parent.join("wal").display()));
    command.arg(format!("--link-map=pg_hba.conf={}", parent.join("etc/pg_hba.conf").display()));
    // As whoever runs the tests, who may be root: then nothing is left to root.
    let mut as_is = std::process::Command::new(command.get_program());
    as_is.args(command.get_args()).env_clear();
    pgark_testkit::run(&mut as_is).expect_success();
    let owner = fs::metadata(&parent).unwrap().uid();
    for path in ["data", "data/postgresql.auto.conf", "data/recovery.signal", "data/global/pg_control", "data/pg_wal"] {
        assert_eq!(fs::symlink_metadata(parent.join(path)).unwrap().uid(), owner, "{path}");
    }
    for path in ["new", "new/deep", "new/deep/one", "wal", "etc", "etc/pg_hba.conf"] {
        assert_eq!(fs::symlink_metadata(parent.join(path)).unwrap().uid(), owner, "{path}");
    }
    assert_tables(&recovered(&server, &directory));
}
