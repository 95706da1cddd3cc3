//! Pushing what is ready.

use fs_err as fs;
use pgark_postgres::wal::name::{SegmentName, SegmentSize};
use pgark_testkit::s3::{Call, Effect, Fault, Refusal, S3Server};
use pgark_testkit::{Server, Stop, give_to_test_user, wait_until};

use crate::common::{Site, text};
use crate::{asynchronous, fill_segments, has, is_done, log, spooled, wait_for_rest};

/// Keeps the first repository away while `work` is done.
pub(crate) fn without_first_repository<T>(site: &Site, work: impl FnOnce() -> T) -> T {
    let lost = site.scratch.path().join("lost");
    fs::rename(site.repository(), &lost).unwrap();
    let done = work();
    fs::rename(&lost, site.repository()).unwrap();
    // A server that has failed three times looks again when there is a new segment, or after a minute.
    fill_segments(site, 1);
    done
}

#[test]
fn what_is_ready_is_pushed_by_a_few_processes() {
    for major in [13, 18] {
        let site = asynchronous(&Server::get(major)).repositories(2).start();
        let segments = without_first_repository(&site, || {
            let segments = fill_segments(&site, 20);
            site.cluster.wait_for_sql("select failed_count > 0 from pg_stat_archiver", "t");
            assert!(!is_done(&site, &segments[0]), "what one repository lacks is taken for archived");
            segments
        });
        site.cluster.wait_for_archived(segments.last().unwrap());
        for segment in &segments {
            assert!(has(&site, 1, segment) && has(&site, 2, segment), "{segment} is not in both repositories");
        }
        wait_for_rest(&site, "archive");
        let log = log(&site, "archive-push");
        assert!(log.contains("archive-push:async command begin"), "{log}");
        let pushed = log.split("PROCESS START").map(|process| process.matches("to the repo1 archive\n").count());
        assert!(pushed.max() >= Some(20), "one process pushes all that wait: {log}");
        assert!(!log.contains("already exists"), "what was stored was stored again: {log}");
        assert!(site.cluster.log().contains("asynchronously"), "{}", site.cluster.log());
        // What PostgreSQL has been told is forgotten by the next process.
        let next = site.archive_segment();
        wait_for_rest(&site, "archive");
        assert!(spooled(&site, "out").iter().all(|name| name.starts_with(&next)), "{:?}", spooled(&site, "out"));
    }
}

/// Who holds up PostgreSQL holds up no other repository.
#[test]
fn a_repository_that_is_down_does_not_hold_back_the_rest() {
    let site = asynchronous(&Server::get(17)).repositories(2).start();
    let segments = without_first_repository(&site, || {
        let segments = fill_segments(&site, 6);
        wait_until("the second repository to have all", || segments.iter().all(|segment| has(&site, 2, segment)));
        assert!(segments.iter().all(|segment| !is_done(&site, segment)), "nothing may be taken for archived");
        let word = spooled(&site, "out");
        assert!(word.contains(&format!("{}.part", segments[0])), "{word:?}");
        segments
    });
    site.cluster.wait_for_archived(segments.last().unwrap());
    assert!(segments.iter().all(|segment| has(&site, 1, segment)));
    assert!(!log(&site, "archive-push").contains("already exists"), "{}", log(&site, "archive-push"));
}

#[test]
fn the_foreground_says_what_has_failed_in_the_background() {
    let site = asynchronous(&Server::get(17)).start();
    let path = without_first_repository(&site, || {
        let segment = fill_segments(&site, 1).remove(0);
        let path = site.cluster.data_directory().join("pg_wal").join(segment);
        let finished = site.pgark(&["archive-push", text(&path)]).expect_code(73);
        assert!(finished.stdout.contains("ERROR: [073]:"), "{}", finished.report());
        path
    });
    // The same configuration, but for the stop file.
    site.pgark(&["stop"]).expect_success();
    site.pgark(&["archive-push", text(&path)]).expect_code(62);
    site.pgark(&["start"]).expect_success();
    site.cluster.wait_for_archived(path.file_name().unwrap().to_str().unwrap());
}

/// The command line of the foreground is that of the background, too.
#[test]
fn options_reach_the_background() {
    let site = Site::builder(&Server::get(17)).start();
    let archive_command =
        format!("{} --archive-async --process-max=2 --log-level-console=info", site.archive_command());
    site.cluster.sql(&format!("alter system set archive_command = '{archive_command}'"));
    site.cluster.reload();
    site.archive_segment();
    let log = log(&site, "archive-push");
    assert!(log.contains("--archive-async") && log.contains("--process-max=2"), "{log}");
}

#[test]
fn a_file_that_nobody_waits_for_is_pushed_at_once() {
    let site = asynchronous(&Server::get(17)).start();
    let segment = site.archive_segment();
    let path = site.cluster.data_directory().join("pg_wal").join(&segment);
    let elsewhere = site.scratch.directory("elsewhere").join(&segment);
    fs::copy(&path, &elsewhere).unwrap();
    give_to_test_user(&elsewhere);
    let finished = site.pgark(&["archive-push", text(&elsewhere)]).expect_success();
    assert!(
        finished.stdout.contains("already exists in the repo1 archive with the same checksum"),
        "{}",
        finished.report()
    );
}

#[test]
fn a_file_that_is_refused_keeps_no_later_file_out_of_the_archive() {
    let site = asynchronous(&Server::get(17)).start();
    let first = site.archive_segment();
    let size = SegmentSize::new(1 << 20).unwrap();
    let next = first.parse::<SegmentName>().unwrap().next(size).unwrap().to_string();
    // The archive has something else under the name that comes next.
    let object = site.object(&first);
    let taken = object.with_file_name(&next);
    fs::copy(&object, &taken).unwrap();
    give_to_test_user(&taken);
    let segments = fill_segments(&site, 3);
    assert_eq!(segments[0], next);
    wait_until("the later segments to be stored", || segments[1..].iter().all(|segment| has(&site, 1, segment)));
    let path = site.cluster.data_directory().join("pg_wal").join(&next);
    // It is damaged, as what it says of itself is not under its name.
    assert_ne!(site.pgark(&["archive-push", text(&path)]).code(), Some(0));
    assert!(!is_done(&site, &segments[0]));
    fs::remove_file(&taken).unwrap();
    site.cluster.wait_for_archived(&segments[2]);
    assert!(has(&site, 1, &next));
}

/// What is over the limit is dropped and told of in every channel; without a limit nothing is.
#[test]
fn a_full_queue_is_dropped_only_where_that_is_asked_for() {
    let site = asynchronous(&Server::get(17)).repositories(2).global("archive-push-queue-max=3MiB").start();
    let label = site.backup(&[]);
    let segments = without_first_repository(&site, || {
        let segments = fill_segments(&site, 6);
        // Not all: those that are left are within the limit.
        site.cluster.wait_for_log("dropped WAL file");
        site.cluster.wait_for_archived(&segments[0]);
        wait_until("the second repository to have all", || segments.iter().all(|segment| has(&site, 2, segment)));
        segments
    });
    assert!(segments.iter().all(|segment| has(&site, 2, segment)), "the second repository has lost segments");
    assert!(!has(&site, 1, &segments[0]), "nothing was dropped");
    let dropped = format!("dropped WAL file '{}' for repo1 because archive queue exceeded 3MB", segments[0]);
    assert!(log(&site, "archive-push").contains(&dropped), "{}", log(&site, "archive-push"));
    assert!(site.cluster.log().contains(&dropped), "{}", site.cluster.log());
    site.archive_segment();
    let check = site.pgark(&["check"]).expect_success();
    assert!(
        check.stdout.contains("WARN: WAL is missing on repo1") && check.stdout.contains(&segments[0]),
        "{}",
        check.report()
    );
    let info = site.pgark(&["info"]).expect_success();
    assert!(info.stdout.contains(&label) && info.stdout.contains(&segments[0]), "{}", info.report());
}

#[test]
fn a_queue_is_dropped_without_asynchronous_archiving_too() {
    let site = Site::builder(&Server::get(17)).global("archive-push-queue-max=2MiB").start();
    let segments = without_first_repository(&site, || {
        let segments = fill_segments(&site, 5);
        site.cluster.wait_for_log("dropped WAL file");
        segments
    });
    site.cluster.wait_for_archived(segments.last().unwrap());
    assert!(!has(&site, 1, &segments[0]));
}

#[test]
fn what_a_service_refuses_for_a_while_is_pushed_later() {
    let s3 = S3Server::start();
    let site = asynchronous(&Server::get(18))
        .global("repo1-type=s3\nrepo1-s3-uri-style=path\nio-timeout=1s")
        .global(&format!("repo1-s3-bucket={}\nrepo1-s3-region={}", S3Server::BUCKET, s3.region()))
        .global(&format!("repo1-s3-endpoint={}", s3.url()))
        .global(&format!(
            "repo1-s3-key={}\nrepo1-s3-key-secret={}",
            s3.credentials().access_key,
            s3.credentials().secret
        ))
        .start();
    s3.inject(Fault::new(Effect::Refuse(Refusal::ACCESS_DENIED)).on(Call::PutObject).always());
    let segments = fill_segments(&site, 5);
    site.cluster.wait_for_sql("select failed_count > 0 from pg_stat_archiver", "t");
    assert!(s3.fired() > 0);
    assert!(segments.iter().all(|segment| !is_done(&site, segment)));
    s3.heal();
    site.cluster.wait_for_archived(segments.last().unwrap());
    for segment in &segments {
        assert!(s3.keys().iter().any(|key| key.ends_with(segment)), "{segment} is lost");
    }
}

/// A promotion hands over a history and a partial segment, too.
#[test]
fn all_that_a_promoted_server_archives_is_taken() {
    let mut site = asynchronous(&Server::get(17)).start();
    let mut standby = site.cluster.standby();
    standby.start();
    fill_segments(&site, 1);
    site.cluster.wait_for_replay(&standby);
    site.cluster.stop(Stop::Fast);
    let path = format!("--pg1-path={}", standby.data_directory().display());
    let archive_command = format!("{} {path}", site.archive_command());
    standby.configure("archive_command", &archive_command);
    standby.reload();
    standby.promote();
    standby.wait_for_sql("select pg_is_in_recovery()", "f");
    let segment = standby.switch_wal();
    standby.wait_for_archived(&segment);
    assert_eq!(site.objects("00000002.history").len(), 1);
    assert!(segment.starts_with("00000002"));
}
