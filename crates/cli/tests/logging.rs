//! The log: levels, files, forms.

mod common;

use std::os::unix::fs::PermissionsExt;

use fs_err as fs;
use pgark_testkit::Server;

use crate::common::Site;

const BANNER: &str = "-------------------PROCESS START-------------------\n";

#[test]
fn a_file_is_appended_to_and_a_secret_is_in_none() {
    let site = Site::builder(&Server::get(17)).passphrase("hush-hush").start();
    let log = site.scratch.path().join("log");
    let before = fs::read_to_string(log.join("demo-stanza-create.log")).unwrap();
    assert!(before.starts_with(&format!("{BANNER}P00   INFO: stanza-create command begin ")), "{before}");
    site.pgark(&["stanza-create"]).expect_success();
    let after = fs::read_to_string(log.join("demo-stanza-create.log")).unwrap();
    assert!(after.starts_with(&format!("{before}\n{BANNER}")), "{after}");
    assert!(after.ends_with("stanza-create command end: completed successfully\n"), "{after}");
    assert!(after.contains("--repo1-cipher-pass=<redacted>"), "{after}");
    let mode = fs::metadata(log.join("demo-stanza-create.log")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o640);

    let backup = site.pgark(&["--log-level-console=trace", "--log-level-file=trace", "backup"]).expect_success();
    site.pgark(&["--log-level-file=trace", "info"]).expect_success();
    site.pgark(&["--log-level-file=trace", "check"]).expect_success();
    let mut names: Vec<_> = fs::read_dir(&log).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["demo-backup.log", "demo-stanza-create.log"]);
    let file = fs::read_to_string(log.join("demo-backup.log")).unwrap();
    assert_eq!(file, format!("{BANNER}{}", backup.stdout), "console and file differ");
    for text in [&file, &after] {
        assert!(!text.contains("hush-hush"), "{text}");
    }
}

#[test]
fn each_place_has_its_level() {
    let site = Site::start(&Server::get(17));
    let run = |arguments: &[&str]| site.pgark(&[arguments, &["stanza-create"]].concat()).expect_success();
    let quiet = run(&[]);
    assert_eq!((quiet.stdout.as_str(), quiet.stderr.as_str()), ("", ""));
    let both = run(&["--log-level-console=info", "--log-level-stderr=info"]);
    assert_eq!(both.stdout, "");
    assert!(both.stderr.starts_with("INFO: stanza-create command begin "), "{}", both.report());
    let timed = run(&["--log-level-console=info", "--log-timestamp"]);
    let (time, rest) = timed.stdout.split_at(24);
    assert!(rest.starts_with("P00   INFO: stanza-create command begin "), "{}", timed.report());
    let digits: String = time.chars().map(|letter| if letter.is_ascii_digit() { '0' } else { letter }).collect();
    assert_eq!(digits, "0000-00-00 00:00:00.000 ");
    assert!(timed.stdout.trim_end().ends_with("ms)"), "{}", timed.report());
    let error = site.pgark(&["--log-level-console=off", "--repo1-path=/nowhere", "backup"]).expect_code(73);
    assert_eq!((error.stdout.as_str(), error.stderr.as_str()), ("", ""));
    let error = site.pgark(&["--log-level-stderr=error", "--repo1-path=/nowhere", "backup"]).expect_code(73);
    assert!(error.stderr.starts_with("ERROR: [073]: "), "{}", error.report());
    assert!(error.stderr.contains("\n       HINT: "), "{}", error.report());
}

#[test]
fn a_log_file_that_can_not_be_written_stops_nobody() {
    let site = Site::start(&Server::get(17));
    let finished = site.pgark(&["--log-path=/proc/log", "stanza-create"]).expect_success();
    let warning = "P00   WARN: unable to open log file '/proc/log/demo-stanza-create.log': ";
    assert!(finished.stdout.starts_with(warning), "{}", finished.report());
    let note = "\n            NOTE: process will continue without log file\n";
    assert!(finished.stdout.ends_with(note), "{}", finished.report());
    site.pgark(&["--log-path=/proc/log", "--log-level-file=off", "stanza-create"]).expect_success();
}

#[test]
fn nobody_has_to_read_the_console() {
    let site = Site::start(&Server::get(17));
    let arguments = ["--type=full", "--log-level-console=detail", "backup"];
    site.shell("set -o pipefail; {} | head -n 1", &arguments).expect_success();
    assert_eq!(site.objects("manifest").len(), 1, "the backup was not finished");
}

#[test]
fn what_is_odd_in_the_configuration_is_warned_of() {
    let site = Site::builder(&Server::get(17))
        .global("bogus=1")
        .global("repo1-retention-full=9")
        .global("archive-copy=y")
        .start();
    let finished = site.pgark(&["--type=full", "backup"]).expect_success();
    assert_eq!(finished.stdout.matches("P00   WARN: ").count(), 2, "{}", finished.report());
    assert!(finished.stdout.contains("bogus"), "{}", finished.report());
    assert!(finished.stdout.contains("archive-copy"), "{}", finished.report());
}
