//! What becomes of each file, told in an order that a person can follow.

mod common;

use std::collections::BTreeSet;

use fs_err as fs;
use pgark_testkit::Server;

use crate::common::{Site, text};

/// The files that lines of this kind tell of, in their order, each with what is said of it.
fn files<'log>(log: &'log str, verb: &str) -> Vec<(&'log str, &'log str)> {
    // A worker tells of what was done before as well.
    let start = format!(" DETAIL: {verb} file '");
    let parse = |line: &'log str| {
        let (process, told) = line.split_once(&start)?;
        told.split_once("' ").filter(|_| process.len() == 3)
    };
    log.lines().filter_map(parse).collect()
}

/// Workers are done in any order, and the lines of the log are in that of the plan.
#[test]
fn files_are_told_of_in_the_order_of_the_plan() {
    let site = Site::start(&Server::get(17));
    site.cluster.sql("create table filler as select repeat('x', 500) from generate_series(1, 20000)");
    site.cluster.sql("create unlogged table fleeting as select 1 as one");
    let filler = site.cluster.sql("select pg_relation_filepath('filler')");
    let many = ["--process-max=4", "--log-level-console=detail"];
    let full = site.pgark(&[&many[..], &["--type=full", "backup"]].concat()).expect_success().stdout;
    let stored = files(&full, "backup");
    let names: Vec<_> = stored.iter().map(|(name, _)| *name).collect();
    // Those that a restore writes last come last.
    let (late, walked): (Vec<&str>, Vec<&str>) =
        names.iter().partition(|name| ["backup_label", "tablespace_map", "global/pg_control"].contains(name));
    assert_eq!(late, ["backup_label", "global/pg_control"]);
    assert_eq!(&names[walked.len()..], &late[..]);
    assert_eq!(walked.iter().copied().collect::<BTreeSet<_>>().len(), walked.len(), "a file is told of twice");
    assert!(walked.contains(&"PG_VERSION") && walked.contains(&filler.as_str()), "{full}");
    let of = |files: &[(&str, &str)], name: &str| {
        let found = files.iter().find(|(own, _)| *own == name).map(|(_, what)| (*what).to_owned());
        found.unwrap_or_else(|| panic!("'{name}' is not told of"))
    };
    let told = of(&stored, &filler);
    assert!(told.contains(" read ") && told.contains(", stored ") && told.contains(" frame(s)"), "{told}");
    assert!(told.starts_with("(1") && told.contains('%') || told.contains("MB"), "{told}");
    assert!(
        full.contains("DETAIL: leave out what is in 'pg_wal/archive_status': it is WAL, which the archive has"),
        "{full}"
    );
    assert!(full.contains("it belongs to an unlogged relation"), "{full}");

    // An incremental backup says of the same files, in the same order, what has become of them.
    site.cluster.sql("create table another as select 1 as one");
    let incremental = site.pgark(&[&many[..], &["--type=incr", "backup"]].concat()).expect_success().stdout;
    let compared = files(&incremental, "backup");
    assert!(of(&compared, &filler).contains("is unchanged by the WAL since "), "{incremental}");
    let again: Vec<_> = compared.iter().map(|(name, _)| *name).filter(|name| walked.contains(name)).collect();
    let before: Vec<_> = walked.iter().copied().filter(|name| again.contains(name)).collect();
    assert_eq!(again, before);

    let directory = site.scratch.path().join("restored");
    let path = format!("--pg1-path={}", text(&directory));
    let arguments = [&many[..], &[&path, "--recovery-option=archive_mode=off", "restore"]].concat();
    let restored = site.pgark(&arguments).expect_success().stdout;
    let name = |path: &str| path.strip_prefix(text(&directory)).unwrap().trim_start_matches('/').to_owned();
    let order: Vec<_> = files(&restored, "restore").iter().map(|(path, _)| name(path)).collect();
    let expected: Vec<_> = compared.iter().map(|(name, _)| (*name).to_owned()).collect();
    let (walked, late) = expected.split_at(expected.len() - 2);
    assert_eq!(&order[..walked.len()], walked);
    assert_eq!(&order[walked.len()..], late);

    // What is there already and right is told apart from what is fetched.
    let damaged = directory.join(&filler);
    let mut bytes = fs::read(&damaged).unwrap();
    bytes[100_000] ^= 1;
    fs::write(&damaged, bytes).unwrap();
    let delta = site.pgark(&[&arguments[..], &["--delta"]].concat()).expect_success().stdout;
    let told = files(&delta, "restore");
    assert!(of(&told, text(&damaged)).contains(" fetched 1 frame(s), right already "), "{delta}");
    let version = directory.join("PG_VERSION");
    assert!(of(&told, text(&version)).contains(" exists and matches the backup: right 1 frame(s)"), "{delta}");
}

#[test]
fn each_frame_is_told_of_where_somebody_asks_for_it() {
    let site = Site::start(&Server::get(17));
    let debug = ["--process-max=2", "--log-level-console=debug"];
    let full = site.pgark(&[&debug[..], &["--type=full", "backup"]].concat()).expect_success().stdout;
    let version = "P00  DEBUG: page 0 of 'PG_VERSION' stored in frame ";
    // Below the line of the file.
    let (before, after) = full.split_once(version).unwrap_or_else(|| panic!("{full}"));
    assert!(before.lines().last().unwrap().contains("backup file 'PG_VERSION' ("), "{full}");
    assert!(after.contains(" of pack "), "{full}");
    let again = site.pgark(&[&debug[..], &["--type=full", "backup"]].concat()).expect_success().stdout;
    assert!(again.contains("page 0 of 'PG_VERSION' found in an earlier backup's frame "), "{again}");
    assert!(again.contains("backup file 'PG_VERSION' (3B"), "{again}");
    assert!(again.contains(", its content is unchanged, pointed at 1 page(s) in 1 frame(s)"), "{again}");
}
