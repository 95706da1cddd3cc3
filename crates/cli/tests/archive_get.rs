//! `pgark archive-get`: above all, what PostgreSQL makes of its exit code.

mod common;

use std::path::PathBuf;

use fs_err as fs;
use pgark_testkit::{Server, Stop, faults, run};

use crate::common::{Site, Transcript, text};

/// A name that no test archives.
const ABSENT: &str = "0000000100000000000000FE";

fn destination(site: &Site) -> PathBuf {
    site.scratch.path().join("fetched")
}

fn get(site: &Site, arguments: &[&str], file: &str) -> pgark_testkit::Finished {
    let destination = destination(site);
    site.pgark(&[arguments, &["archive-get", file, text(&destination)]].concat())
}

#[test]
fn a_segment_comes_back_as_it_was() {
    for major in [15, 18] {
        let site = Site::builder(&Server::get(major)).passphrase("secret").start();
        site.cluster.sql("create table t as select generate_series(1, 10000) n");
        let segment = site.cluster.switch_wal();
        let original = fs::read(site.cluster.data_directory().join("pg_wal").join(&segment)).unwrap();
        site.cluster.wait_for_archived(&segment);
        get(&site, &[], &segment).expect_success();
        assert_eq!(fs::read(destination(&site)).unwrap(), original);
        // PostgreSQL's own destination is relative, and is there already when it asks once more.
        site.pgark_of_server(&["archive-get", &segment, "pg_wal/RECOVERYXLOG"]).expect_success();
        site.pgark_of_server(&["archive-get", &segment, "pg_wal/RECOVERYXLOG"]).expect_success();
        assert_eq!(fs::read(site.cluster.data_directory().join("pg_wal/RECOVERYXLOG")).unwrap(), original);
    }
}

#[test]
fn only_what_is_proven_absent_is_absent() {
    let mut site = Site::builder(&Server::get(17)).repositories(2).start();
    let segment = site.archive_segment();
    site.cluster.stop(Stop::Fast);
    for file in [ABSENT, "00000002.history", "000000010000000000000001.00000028.backup", &format!("{segment}.partial")]
    {
        let finished = get(&site, &[], file).expect_code(1);
        assert_eq!((finished.stdout.as_str(), finished.stderr.as_str()), ("", ""), "{file}");
        assert!(!destination(&site).exists());
    }
    // With one repository gone nobody knows.
    let second = site.scratch.path().join("repository2");
    let lost = site.scratch.path().join("lost");
    fs::rename(&second, &lost).unwrap();
    get(&site, &[], ABSENT).expect_code(128 + 73);
    get(&site, &["--repo=1"], ABSENT).expect_code(1);
    // What the other has comes from there, with a word about the first.
    get(&site, &[], &segment).expect_success();
    fs::rename(&lost, &second).unwrap();
    let object = site.objects("wal/17-1").into_iter().find(|path| path.ends_with(&segment)).unwrap();
    faults::flip_byte(&object, 200);
    let finished = get(&site, &[], &segment).expect_success();
    assert!(finished.stdout.contains("WARN: repo1: "), "{}", finished.report());
    get(&site, &["--repo=1"], &segment).expect_code(128 + 26);
}

#[test]
fn whatever_goes_wrong_makes_postgresql_stop() {
    let mut site = Site::builder(&Server::get(17)).passphrase("first").start();
    let segment = site.archive_segment();
    site.cluster.stop(Stop::Fast);
    let mut transcript = Transcript::default();
    let plain = |arguments: &[&str]| run(site.program.command().args(arguments));

    transcript.add("no stanza", 128 + 37, plain(&["archive-get", ABSENT, "x"]));
    transcript.add("no data directory", 128 + 37, plain(&["--no-config", "--stanza=demo", "archive-get", ABSENT, "x"]));
    transcript.add("no such configuration file", 128 + 55, plain(&["--config=/nowhere", "archive-get", ABSENT, "x"]));
    transcript.add("unknown option", 128 + 31, get(&site, &["--bogus"], ABSENT));
    transcript.add("option out of range", 128 + 32, get(&site, &["--repo=300"], ABSENT));
    transcript.add("misspelt command", 128 + 48, site.pgark(&["archive-gte", ABSENT, "x"]));
    transcript.add("ambiguous command", 128 + 48, site.pgark(&["archive", ABSENT, "x"]));
    transcript.add("no destination", 128 + 43, site.pgark(&["archive-get", ABSENT]));
    transcript.add("not a WAL file", 128 + 96, get(&site, &[], "passwd"));
    transcript.add("unknown stanza", 128 + 55, {
        site.reconfigure("[demo]", "[other]");
        let finished = run(&mut site.command(&["--stanza=other", "archive-get", ABSENT, "/x"]));
        site.reconfigure("[other]", "[demo]");
        finished
    });
    transcript.add("another server's file", 128 + 32, site.pgark(&["archive-get", &segment, "pg_wal/RECOVERYXLOG"]));
    transcript.add("missing destination", 128 + 55, site.pgark(&["archive-get", &segment, "/nowhere/x"]));

    let control_file = site.cluster.data_directory().join("global/pg_control");
    let unreadable = faults::set_mode(&control_file, 0);
    transcript.add("unreadable pg_control", 128 + 41, get(&site, &[], ABSENT));
    drop(unreadable);
    let archive = site.repository().join("stanza/demo/wal/17-1").join(&segment[..16]);
    let unreadable = faults::set_mode(&archive, 0);
    transcript.add("unreadable archive", 128 + 41, get(&site, &[], ABSENT));
    drop(unreadable);

    faults::flip_byte(&archive.join(&segment), 300);
    transcript.add("damaged segment", 128 + 26, get(&site, &[], &segment));
    faults::truncate(&archive.join(&segment), 100);
    transcript.add("truncated segment", 128 + 26, get(&site, &[], &segment));
    assert!(!destination(&site).exists(), "half a segment was left");
    site.reconfigure("cipher-pass=first", "cipher-pass=second");
    transcript.add("wrong passphrase", 128 + 95, get(&site, &[], ABSENT));
    site.reconfigure("repo1-cipher-pass=second\n", "");
    transcript.add("no passphrase", 128 + 37, get(&site, &[], ABSENT));
    site.reconfigure("repo1-cipher-type=aes-256-gcm\n", "");
    transcript.add("cipher mismatch", 128 + 95, get(&site, &[], ABSENT));
    fs::rename(site.repository(), site.scratch.path().join("lost")).unwrap();
    transcript.add("missing repository", 128 + 73, get(&site, &[], ABSENT));
    site.scratch.directory("repository1");
    transcript.add("no repository", 128 + 103, get(&site, &[], ABSENT));
    assert_output!("stops", transcript.text());
}

#[test]
fn a_server_does_not_open_with_lost_transactions() {
    let mut site = Site::start(&Server::get(18));
    site.archive_segment();
    let restore_command = format!(
        "{} --config={} --stanza=demo archive-get %f \"%p\"",
        site.program.path().display(),
        site.configuration_file().display()
    );
    site.cluster.configure("restore_command", &restore_command);
    site.cluster.stop(Stop::Fast);
    let signal = site.cluster.data_directory().join("recovery.signal");
    fs::write(&signal, "").unwrap();
    pgark_testkit::give_to_test_user(&signal);

    let lost = site.scratch.path().join("lost");
    fs::rename(site.repository(), &lost).unwrap();
    let reason = site.cluster.try_start().expect_err("the server opened without its archive");
    assert!(reason.contains("could not restore file"), "{reason}");
    assert!(signal.exists(), "recovery has ended");
    // Nothing is lost: with the repository back it recovers and begins a new timeline.
    fs::rename(&lost, site.repository()).unwrap();
    site.cluster.start();
    site.cluster.wait_for_sql("select not pg_is_in_recovery()", "t");
    assert_eq!(site.cluster.sql("select timeline_id from pg_control_checkpoint()"), "2");
}
