//! `pgark check`

mod common;

use fs_err as fs;
use pgark_testkit::{Cluster, Server, Stop};

use crate::common::{Site, Transcript};

#[test]
fn a_stanza_that_works_is_found_to_work() {
    for major in [15, 18] {
        let site = Site::builder(&Server::get(major)).repositories(2).start();
        let mut transcript = Transcript::default();
        transcript.add("one stanza", 0, site.pgark(&["--log-level-console=info", "check"]));
        let all = pgark_testkit::run(&mut site.command(&["--log-level-console=info", "check"]));
        transcript.add("all stanzas", 0, all);
        let text = transcript.text().replace(&format!("'{major}-1'"), "'[version]-1'");
        assert_output!("works", text);
    }
}

/// Even where nothing was archived behind the gap before.
#[test]
fn wal_that_the_end_of_the_archive_lacks_is_told() {
    let site = Site::builder(&Server::get(17)).start();
    site.backup(&[]);
    let segment = site.archive_segment();
    fs::remove_file(site.object(&segment)).unwrap();
    let check = site.pgark(&["--log-level-console=warn", "check"]).expect_success();
    let expected = format!("WARN: WAL is missing on repo1: {segment} to {segment}, segments: 1");
    assert!(check.stdout.contains(&expected), "{}", check.report());
}

#[test]
fn what_does_not_work_is_told() {
    let server = Server::get(17);
    let mut site = Site::builder(&server).create();
    site.cluster.start();
    let mut transcript = Transcript::default();
    transcript.add("no such section", 37, pgark_testkit::run(&mut site.command(&["--stanza=nope", "check"])));
    transcript.add("no repository", 103, site.pgark(&["check"]));
    site.pgark(&["stanza-create"]).expect_success();
    transcript.add("no such stanza in the repository", 55, {
        site.scratch.write("other.conf", "");
        site.reconfigure("[demo]", "[other]");
        pgark_testkit::run(&mut site.command(&["--stanza=other", "check"]))
    });
    site.reconfigure("[other]", "[demo]");
    transcript.add("--repo is not for check", 31, site.pgark(&["--repo=1", "check"]));

    site.cluster.configure("archive_command", "false archive-push");
    site.cluster.reload();
    transcript.add("WAL does not arrive", 82, site.pgark(&["--archive-timeout=300ms", "check"]));
    site.cluster.configure("archive_command", "cp %p /tmp/nowhere");
    site.cluster.reload();
    transcript.add("another archive_command", 68, site.pgark(&["check"]));
    site.cluster.configure("archive_mode", "off");
    site.cluster.restart();
    transcript.add("archive_mode is off", 87, site.pgark(&["check"]));
    site.cluster.stop(Stop::Fast);
    transcript.add("server down", 56, site.pgark(&["check"]));

    let other = Cluster::builder(&server).wal_segment_size_mib(1).start();
    let section = format!(
        "[second]\npg1-path={}\npg1-socket-path={}\n[demo]",
        other.data_directory().display(),
        other.socket_directory().display()
    );
    site.reconfigure("[demo]", &section);
    transcript.add("several stanzas", 104, pgark_testkit::run(&mut site.command(&["check"])));
    assert_output!("refused", transcript.text());
}
