//! `pgark start` and `pgark stop`

mod common;

use std::process::Child;

use pgark_testkit::{Server, run, wait_until};

use crate::common::{STANZA, Site, Transcript, text};

#[test]
fn what_is_stopped_does_not_run_until_it_is_started() {
    let site = Site::start(&Server::get(17));
    let segment = site.archive_segment();
    let segment_path = site.cluster.data_directory().join("pg_wal").join(&segment);
    let fetched = site.scratch.path().join("fetched");
    let mut transcript = Transcript::default();
    transcript.add("stop", 0, site.pgark(&["stop"]));
    transcript.add("stop again", 0, site.pgark(&["stop"]));
    for command in [&["archive-push", text(&segment_path)][..], &["backup"], &["stanza-create"], &["stanza-upgrade"]] {
        transcript.add(command[0], 62, site.pgark(command));
    }
    // What only reads goes on.
    site.pgark(&["info"]).expect_success();
    site.pgark(&["archive-get", &segment, text(&fetched)]).expect_success();
    let mut other = site.command(&["--stanza=other", "--pg1-path=/nowhere", "archive-push", text(&segment_path)]);
    transcript.add("another stanza", 55, run(&mut other));
    transcript.add("start", 0, site.pgark(&["start"]));
    transcript.add("start again", 0, site.pgark(&["start"]));
    site.pgark(&["archive-push", text(&segment_path)]).expect_success();

    transcript.add("stop all", 0, run(&mut site.command(&["stop"])));
    transcript.add("stop all again", 0, run(&mut site.command(&["stop"])));
    transcript.add("archive-push", 62, site.pgark(&["archive-push", text(&segment_path)]));
    transcript.add("start one of all", 0, site.pgark(&["start"]));
    transcript.add("start all", 0, run(&mut site.command(&["start"])));
    transcript.add("start all again", 0, run(&mut site.command(&["start"])));
    site.pgark(&["archive-push", text(&segment_path)]).expect_success();
    transcript.add("a parameter", 96, site.pgark(&["stop", "now"]));
    transcript.add("an option of other commands", 31, site.pgark(&["--repo=1", "start"]));
    transcript.add("no such directory", 47, site.pgark(&["--lock-path=/proc/lock", "stop"]));
    assert_output!("control", transcript.text());
}

/// A backup that waits for WAL which does not come.
fn endless_backup(site: &Site) -> Child {
    site.cluster.configure("archive_command", "false archive-push");
    site.cluster.reload();
    let arguments = [&format!("--stanza={STANZA}"), "--type=full", "--archive-timeout=10m", "backup"];
    let child = site.command(&arguments).spawn().expect("the program starts");
    wait_until("the backup to be at work", || !site.objects("/session/").is_empty());
    child
}

#[test]
fn a_running_command_ends_when_it_is_forced_to() {
    let site = Site::start(&Server::get(17));
    let mut child = endless_backup(&site);
    site.pgark(&["stop"]).expect_success();
    run(&mut site.command(&["--stanza=dem", "stop", "--force"])).expect_success();
    assert!(child.try_wait().unwrap().is_none(), "the command of another stanza has ended");
    let forced = site.pgark(&["--log-level-console=info", "stop", "--force"]).expect_success();
    assert!(forced.stdout.contains(&format!("sent term signal to process {}", child.id())), "{}", forced.report());
    assert!(forced.stdout.contains("stop file already exists for stanza demo"), "{}", forced.report());
    assert_eq!(child.wait().unwrap().code(), Some(63));
    let nothing = site.pgark(&["--log-level-console=info", "stop", "--force"]).expect_success();
    assert!(!nothing.stdout.contains("sent term signal"), "{}", nothing.report());
}
