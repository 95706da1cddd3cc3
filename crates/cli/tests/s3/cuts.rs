//! Connections that break off in the middle of the work of a command.

use std::path::Path;
use std::process::Command;

use pgark_testkit::s3::{Direction, Link, S3Server};
use pgark_testkit::{Server, Stop, run};

use crate::common::{Site, text};
use crate::{in_server, said, with_keys};

/// At how many places of a command's traffic, evenly spread, the connection breaks off; in each direction.
const PLACES: usize = 6;

/// A stanza that is reached through a link, and what it is on.
struct Place {
    site: Site,
    s3: S3Server,
    link: Link,
}

impl Place {
    fn new() -> Self {
        let s3 = S3Server::start();
        let link = Link::to(s3.port());
        let site = with_keys(in_server(&Server::get(18), &s3), &s3).passphrase("a pass phrase").start();
        // The server goes on archiving by a configuration of its own, without a link that is cut.
        let direct = site.scratch.write("direct.conf", fs_err::read(site.configuration_file()).unwrap());
        let configuration = text(&site.configuration_file()).to_owned();
        site.cluster.configure("archive_command", &site.archive_command().replace(&configuration, text(&direct)));
        site.cluster.reload();
        site.reconfigure(&s3.url(), &format!("http://127.0.0.1:{}", link.port()));
        Self { site, s3, link }
    }

    /// Runs `work` undisturbed, then with the connection broken off at several places; `work` is given the number of its
    /// turn. Broken off at always the same place it ends with a failure.
    fn at_several_places(&self, mut work: impl FnMut(usize)) {
        self.link.mend();
        work(0);
        let totals =
            [Direction::ToServer, Direction::FromServer].map(|direction| (direction, self.link.passed(direction)));
        let mut turn = 0;
        for (direction, bytes) in totals {
            for place in 0..PLACES as u64 {
                turn += 1;
                let position = bytes * place / PLACES as u64 + place;
                self.link.cut_at(direction, position);
                work(turn);
                assert_eq!(self.link.cuts(), 1, "{direction:?} at {position} of {bytes}");
            }
        }
        self.link.mend();
    }

    /// Over a connection that always breaks off the command fails in the end, and says why.
    fn is_given_up(&self, arguments: &[&str], code: i32) {
        for (direction, bytes) in [(Direction::ToServer, 300), (Direction::FromServer, 150)] {
            self.link.cut_always(direction, bytes);
            let finished = self.site.pgark(&[arguments, &["--io-timeout=1"]].concat()).expect_code(code);
            assert!(said(&finished).contains("broke off"), "{}", finished.report());
            assert!(self.link.cuts() > 1);
        }
        self.link.mend();
    }
}

#[test]
fn a_segment_is_archived_and_fetched_wherever_the_connection_breaks_off() {
    let mut place = Place::new();
    let segment = place.site.archive_segment();
    // The server may use its file again.
    let found = place.site.cluster.data_directory().join("pg_wal").join(&segment);
    let original = place.site.scratch.write(&segment, fs_err::read(found).unwrap());
    place.site.cluster.stop(Stop::Fast);
    let target = place.site.scratch.path().join("fetched");
    let stored = place.s3.keys().into_iter().find(|key| key.ends_with(&segment)).unwrap();
    place.is_given_up(&["archive-get", &segment, text(&target)], 128 + 101);
    assert!(!target.exists());
    place.s3.remove(&stored);
    place.is_given_up(&["archive-push", text(&original)], 101);
    place.at_several_places(|_| {
        place.s3.remove(&stored);
        place.site.pgark(&["archive-push", text(&original)]).expect_success();
        assert!(place.s3.object(&stored).is_some());
    });
    place.at_several_places(|turn| {
        place.site.pgark(&["archive-get", &segment, text(&target)]).expect_success();
        assert!(fs_err::read(&original).unwrap() == fs_err::read(&target).unwrap(), "in turn {turn}");
        fs_err::remove_file(&target).unwrap();
    });
    assert_eq!(place.s3.unfinished_uploads(), 0);
}

#[test]
fn a_backup_is_complete_wherever_the_connection_breaks_off() {
    let place = Place::new();
    place.site.cluster.sql("create table numbers as select generate_series(1, 1000) as number");
    place.is_given_up(&["backup", "--type=full"], 101);
    let mut labels = Vec::new();
    place.at_several_places(|_| labels.push(place.site.backup(&["--no-reuse"])));
    let info = place.site.pgark(&["info"]).expect_success();
    assert_eq!(info.stdout.matches("full backup: ").count(), labels.len(), "{}", info.report());
    assert!(!place.s3.keys().iter().any(|key| key.contains("/session/")), "a session was left");
    // The first broken off in each direction, and the last.
    for label in [&labels[1], &labels[1 + PLACES], labels.last().unwrap()] {
        let (name, set) = (format!("restored-{label}"), format!("--set={label}"));
        let restored = place.site.recover(&name, &[&set, "--type=immediate", "--target-action=promote"]);
        assert_eq!(restored.sql("select count(*) from numbers"), "1000");
    }
}

#[test]
fn a_restore_is_whole_wherever_the_connection_breaks_off() {
    let mut place = Place::new();
    let label = place.site.backup(&[]);
    place.site.cluster.stop(Stop::Fast);
    let set = format!("--set={label}");
    let broken = format!("--pg1-path={}", place.site.scratch.path().join("broken").display());
    place.is_given_up(&["restore", &set, &broken], 101);
    let first = place.site.scratch.path().join("restored-0");
    place.at_several_places(|turn| {
        let directory = place.site.restore(&format!("restored-{turn}"), &[&set]);
        if turn > 0 {
            same(&first, &directory);
            fs_err::remove_dir_all(&directory).unwrap();
        }
    });
}

/// Two directories have the same in them.
#[track_caller]
fn same(one: &Path, other: &Path) {
    // It names the time.
    let but = "--exclude=postgresql.auto.conf";
    let differences = run(Command::new("diff").args(["--recursive", but]).args([one, other]));
    differences.expect_success();
}
