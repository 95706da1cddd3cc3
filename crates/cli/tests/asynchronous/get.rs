//! Fetching ahead.

use std::time::Duration;

use fs_err as fs;
use pgark_testkit::s3::{Call, Effect, Fault, S3Server};
use pgark_testkit::{Cluster, Server, Stop, wait_until};

use crate::common::{STANZA, Site, text};
use crate::{asynchronous, fill_segments, log, spooled, wait_for_rest};

fn count(cluster: &Cluster) -> String {
    cluster.sql("select count(*) from filler")
}

/// All but the first few segments, which PostgreSQL asks for while the background starts.
#[test]
fn recovery_is_given_what_was_fetched_ahead() {
    for major in [13, 18] {
        let site = asynchronous(&Server::get(major)).repositories(2).passphrase("a pass phrase");
        let site = site.global("archive-get-queue-max=8MiB").start();
        site.backup(&[]);
        let segments = fill_segments(&site, 60);
        site.cluster.wait_for_archived(segments.last().unwrap());
        let recovered = site.recover("restored", &[]);
        assert_eq!(count(&recovered), count(&site.cluster));
        let log = recovered.log();
        let ahead = log.matches("in the archive asynchronously").count();
        // At its end PostgreSQL asks for the last one once more.
        let at_once = segments.iter().filter(|segment| log.contains(&format!("found {segment} in the repo"))).count();
        assert!(at_once <= 4 && ahead + at_once >= segments.len(), "{ahead} segments came from the spool: {log}");
        assert!(log.contains("unable to find"), "{log}");
        wait_for_rest(&site, "prefetch");
        let left = spooled(&site, "in");
        assert!(left.iter().all(|name| [".fetching", ".taken"].iter().all(|end| !name.ends_with(end))), "{left:?}");
        assert!(left.len() <= 9, "{left:?}");
    }
}

/// Answers that take their time are waited for by several workers at once.
#[test]
fn recovery_does_not_wait_for_each_answer() {
    let s3 = S3Server::start();
    let site = asynchronous(&Server::get(18))
        .global("repo1-type=s3\nrepo1-s3-uri-style=path")
        .global(&format!("repo1-s3-bucket={}\nrepo1-s3-region={}", S3Server::BUCKET, s3.region()))
        .global(&format!("repo1-s3-endpoint={}", s3.url()))
        .global(&format!(
            "repo1-s3-key={}\nrepo1-s3-key-secret={}",
            s3.credentials().access_key,
            s3.credentials().secret
        ));
    let site = site.start();
    site.reconfigure("process-max=2", "process-max=8");
    site.backup(&[]);
    let segments = fill_segments(&site, 24);
    site.cluster.wait_for_archived(segments.last().unwrap());
    s3.inject(
        Fault::new(Effect::Delay(Duration::from_millis(200))).on(Call::GetObject).key_containing("/wal/").always(),
    );
    let recovered = site.recover("restored", &[]);
    assert_eq!(count(&recovered), count(&site.cluster));
    let ahead = recovered.log().matches("in the archive asynchronously").count();
    assert!(ahead > 15, "only {ahead} segments came from the spool: {}", recovered.log());
}

/// A segment that was absent may come: nobody takes it from the spool that it is absent.
#[test]
fn a_segment_that_was_absent_is_found_when_it_is_there() {
    let mut site = asynchronous(&Server::get(17)).start();
    site.backup(&[]);
    fill_segments(&site, 3);
    let mut standby = Cluster::adopt(site.cluster.server(), &site.restore("standby", &["--type=standby"]));
    standby.configure("wal_retrieve_retry_interval", "200ms");
    standby.start();
    for _ in 0..3 {
        let segment = fill_segments(&site, 2).pop().unwrap();
        site.cluster.wait_for_archived(&segment);
        wait_until("the standby to replay", || {
            standby.try_sql("select count(*) from filler").is_ok_and(|found| found == count(&site.cluster))
        });
    }
    site.cluster.stop(Stop::Fast);
}

/// The error of a repository is no sign that a segment is absent.
#[test]
fn a_repository_that_is_gone_ends_recovery_with_an_error() {
    let site = asynchronous(&Server::get(17)).start();
    let segment = site.archive_segment();
    let data_directory = site.cluster.data_directory().to_owned();
    fs::rename(site.repository(), site.scratch.path().join("lost")).unwrap();
    let target = data_directory.join("pg_wal/RECOVERYXLOG");
    let finished = site.pgark(&["archive-get", &segment, text(&target)]);
    assert!(finished.code().is_some_and(|code| code > 125), "{}", finished.report());
}

#[test]
fn a_killed_background_is_replaced() {
    let site = asynchronous(&Server::get(17)).start();
    let segments = fill_segments(&site, 12);
    site.cluster.wait_for_archived(&segments[11]);
    let target = site.cluster.data_directory().join("pg_wal/RECOVERYXLOG");
    let get = |site: &Site, segment: &str| {
        site.pgark(&["archive-get", segment, text(&target)]).expect_success();
        let original = fs::read(site.cluster.data_directory().join("pg_wal").join(segment)).unwrap();
        assert!(fs::read(&target).unwrap() == original, "{segment} came back changed");
        fs::remove_file(&target).unwrap();
    };
    for segment in &segments {
        get(&site, segment);
        // It leaves what it was at.
        let lock = site.scratch.path().join(format!("lock/{STANZA}-prefetch-1.lock"));
        if let Ok(holder) = fs::read(&lock)
            && pgark_system::lock::is_held(&lock)
            && let Ok(holder) = serde_json::from_slice::<serde_json::Value>(&holder)
            && let Some(process) =
                holder["pid"].as_i64().and_then(|id| rustix::process::Pid::from_raw(i32::try_from(id).ok()?))
        {
            let _ended_already = rustix::process::kill_process(process, rustix::process::Signal::KILL);
        }
    }
    assert!(log(&site, "archive-get").contains("archive-get:async command begin"));
}

/// A recovery that goes over to another timeline finds its segments in the spool, too, the first of them included.
#[test]
fn timelines_are_followed() {
    for major in [13, 18] {
        let mut site = asynchronous(&Server::get(major)).start();
        site.backup(&[]);
        fill_segments(&site, 12);
        let old = site.archive_segment();
        site.cluster.stop(Stop::Fast);
        let promoted = promote_copy(&site, "promoted", &[]);
        promoted.sql("insert into filler select 99, 'second timeline' from generate_series(1, 1000)");
        let first = promoted.switch_wal();
        for _ in 0..8 {
            promoted.sql("insert into filler select 99, 'second timeline' from generate_series(1, 1000)");
            promoted.switch_wal();
        }
        let last = promoted.switch_wal();
        promoted.wait_for_archived(&last);
        assert!(first.starts_with("00000002") && last.starts_with("00000002") && old.starts_with("00000001"));
        let recovered = site.recover("again", &[]);
        assert_eq!(count(&recovered), count(&promoted));
        let log = recovered.log();
        for segment in [&first, &last] {
            assert!(log.contains(&format!("found {segment} in the archive asynchronously")), "{segment}: {log}");
        }
        wait_for_rest(&site, "prefetch");
        assert!(spooled(&site, "in").contains(&"00000002.history".to_owned()), "{:?}", spooled(&site, "in"));
        // One that stays on the first timeline asks for none of the second, and is served all the same.
        let stayed = site.recover("stayed", &["--target-timeline=1"]);
        assert_ne!(count(&stayed), count(&promoted));
        assert_eq!(stayed.sql("select count(*) from filler where number = 99"), "0");
        let log = stayed.log();
        assert!(log.contains(&format!("found {old} in the archive asynchronously")), "{log}");
        assert!(!log.contains("found 000000020000"), "{log}");
    }
}

/// Has a copy of the cluster recovered to the end of the archive, from where it goes on by itself and archives to the same
/// repository.
fn promote_copy(site: &Site, name: &str, arguments: &[&str]) -> Cluster {
    let directory = site.scratch.path().join(name);
    let path = format!("--pg1-path={}", directory.display());
    let archive_command = format!("--recovery-option=archive_command={} {path}", site.archive_command());
    site.pgark(&[&[&*path, &*archive_command], arguments, &["restore"]].concat()).expect_success();
    let mut promoted = Cluster::adopt(site.cluster.server(), &directory);
    promoted.start();
    promoted.wait_for_sql("select pg_is_in_recovery()", "f");
    promoted
}
