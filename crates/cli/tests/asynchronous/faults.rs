//! Kills, full disks, and a spool that is not what it should be: nothing is lost.

use std::path::Path;
use std::time::Duration;

use fs_err as fs;
use pgark_system::process::Machine;
use pgark_testkit::faults::SmallFileSystem;
use pgark_testkit::{Cluster, Server, give_to_test_user, wait_until};
use rustix::process::{Pid, Signal, kill_process};

use crate::common::{STANZA, Site, text};
use crate::push::without_first_repository;
use crate::{asynchronous, fill_segments, has, is_done, log, spool, spooled, wait_for_rest};

/// The process that holds a lock, if one does.
fn holder(site: &Site, kind: &str) -> Option<Pid> {
    let lock = site.scratch.path().join(format!("lock/{STANZA}-{kind}-1.lock"));
    if !pgark_system::lock::is_held(&lock) {
        return None;
    }
    let holder: serde_json::Value = serde_json::from_slice(&fs::read(lock).ok()?).ok()?;
    Pid::from_raw(i32::try_from(holder["pid"].as_u64()?).ok()?)
}

/// Whatever a background is at when it is killed: what PostgreSQL takes for archived is in the archive, whole.
#[test]
fn a_killed_background_loses_nothing() {
    let site = asynchronous(&Server::get(17)).start();
    site.reconfigure("compress-level=1", "compress-level=19");
    let mut kills = 0;
    let mut all = Vec::new();
    for wait_ms in [0, 5, 10, 20, 40, 80, 120, 200, 300] {
        all.extend(fill_segments(&site, 6));
        wait_until("a background to be at work", || {
            holder(&site, "archive").is_some() || is_done(&site, all.last().unwrap())
        });
        std::thread::sleep(Duration::from_millis(wait_ms));
        if let Some(process) = holder(&site, "archive") {
            kills += usize::from(kill_process(process, Signal::KILL).is_ok());
        }
        for segment in all.iter().filter(|segment| is_done(&site, segment)) {
            assert!(has(&site, 1, segment), "{segment} was acknowledged and is not there");
        }
    }
    assert!(kills > 3, "only {kills} backgrounds were killed");
    site.cluster.wait_for_archived(all.last().unwrap());
    site.pgark(&["verify"]).expect_success();
    assert!(all.iter().all(|segment| has(&site, 1, segment)));
}

#[test]
fn a_foreground_that_is_killed_leaves_the_background_at_work() {
    let site = asynchronous(&Server::get(17)).start();
    let segments = without_first_repository(&site, || fill_segments(&site, 10));
    let path = site.cluster.data_directory().join("pg_wal").join(&segments[0]);
    let stanza = format!("--stanza={STANZA}");
    for _ in 0..3 {
        let mut foreground = site.command(&[&stanza, "archive-push", text(&path)]).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(30));
        foreground.kill().unwrap();
        foreground.wait().unwrap();
    }
    wait_until("all segments to be stored", || segments.iter().all(|segment| has(&site, 1, segment)));
    site.cluster.wait_for_archived(&segments[9]);
}

/// What another cluster, another program or a power cut has left in the spool is not taken for word of a segment.
#[test]
fn word_of_another_file_is_no_word() {
    let site = asynchronous(&Server::get(17)).start();
    let archive_command = site.cluster.sql("show archive_command");
    site.cluster.sql("alter system set archive_command = 'false archive-push'");
    site.cluster.reload();
    let segments = fill_segments(&site, 3);
    let out = spool(&site, "out");
    fs::create_dir_all(&out).unwrap();
    let place = site.repository().display().to_string();
    let other = format!(
        r#"{{"file":{{"inode":1,"size":1048576,"modified_seconds":5,"modified_nanoseconds":5}},"repositories":["{place}"],"warnings":[]}}"#
    );
    for (segment, word) in segments.iter().zip([other.as_str(), "", "0\ndropped by another program"]) {
        let path = out.join(format!("{segment}.ok"));
        fs::write(&path, word).unwrap();
        give_to_test_user(&path);
    }
    for directory in [spool(&site, ""), out.parent().unwrap().parent().unwrap().to_owned(), out] {
        give_to_test_user(&directory);
    }
    site.cluster.sql(&format!("alter system set archive_command = '{archive_command}'"));
    site.cluster.reload();
    site.cluster.wait_for_archived(&segments[2]);
    assert!(segments.iter().all(|segment| has(&site, 1, segment)));
    let warning = format!("has word of another WAL file '{}' than there is in pg_wal", segments[0]);
    assert!(log(&site, "archive-push").contains(&warning), "{}", log(&site, "archive-push"));
    assert!(site.cluster.log().contains(&warning), "{}", site.cluster.log());
}

/// Word that a repository has a segment is not word that another one has it.
#[test]
fn word_counts_for_the_repositories_it_names() {
    let site = asynchronous(&Server::get(17)).start();
    let archive_command = site.cluster.sql("show archive_command");
    site.cluster.sql("alter system set archive_command = 'false archive-push'");
    site.cluster.reload();
    let segments = fill_segments(&site, 2);
    let path = site.cluster.data_directory().join("pg_wal").join(&segments[0]);
    site.pgark(&["archive-push", text(&path)]).expect_success();
    wait_for_rest(&site, "archive");
    assert!(spooled(&site, "out").contains(&format!("{}.ok", segments[1])));
    let second = site.scratch.directory("repository2");
    site.reconfigure("lock-path=", &format!("repo2-path={}\nlock-path=", second.display()));
    site.pgark(&["stanza-create"]).expect_success();
    site.cluster.sql(&format!("alter system set archive_command = '{archive_command}'"));
    site.cluster.reload();
    site.cluster.wait_for_archived(&segments[1]);
    assert!(segments.iter().all(|segment| has(&site, 1, segment) && has(&site, 2, segment)));
}

#[test]
fn archiving_and_recovery_go_on_with_a_spool_that_is_full() {
    let disk = SmallFileSystem::new(2);
    let server = Server::get(17);
    let site = asynchronous(&server).spool_at(disk.path()).start();
    site.backup(&[]);
    site.archive_segment();
    wait_for_rest(&site, "archive");
    let filler = disk.path().join("filler");
    let mut bytes = 2 << 20;
    while bytes > 0 && fs::write(&filler, vec![1; bytes]).is_err() {
        bytes -= 4096;
    }
    let segments = fill_segments(&site, 4);
    site.cluster.wait_for_archived(&segments[3]);
    assert!(segments.iter().all(|segment| has(&site, 1, segment)));
    let recovered = site.recover("restored", &[]);
    assert_eq!(recovered.sql("select count(*) from filler"), site.cluster.sql("select count(*) from filler"));
    if disk.is_limited() {
        for (log, what) in [(site.cluster.log(), "pushed"), (recovered.log(), "fetched")] {
            assert!(log.contains(&format!("is {what} without the spool")) && log.contains("spool-path"), "{log}");
        }
    }
}

#[test]
fn a_spool_that_can_not_be_written_is_told_of() {
    let site = asynchronous(&Server::get(17)).spool_at(Path::new("/proc/nowhere")).start();
    let segment = site.archive_segment();
    assert!(has(&site, 1, &segment));
    assert!(site.cluster.log().contains("is pushed without the spool"), "{}", site.cluster.log());
}

/// PostgreSQL may be ended at once, with all that belongs to it: a background does not.
#[test]
fn a_background_is_no_child_of_the_server() {
    let mut site = asynchronous(&Server::get(17)).start();
    site.reconfigure("compress-level=1", "compress-level=19");
    let segments = without_first_repository(&site, || fill_segments(&site, 12));
    wait_until("a background to be at work", || holder(&site, "archive").is_some() || is_done(&site, &segments[11]));
    let Some(process) = holder(&site, "archive") else { return };
    // It may have ended by now.
    if let Ok(session) = rustix::process::getsid(Some(process)) {
        assert_eq!(session, process, "the background leads no session");
    }
    site.cluster.kill9();
    wait_until("all segments to be stored", || segments.iter().all(|segment| has(&site, 1, segment)));
    assert!(Machine::of_this_process().is_some());
    // What was stored and not acknowledged is acknowledged now.
    site.cluster.start();
    site.cluster.wait_for_archived(&segments[11]);
}

/// A spool of another cluster, with segments under the names that recovery asks for.
#[test]
fn segments_of_another_cluster_are_not_replayed() {
    let server = Server::get(17);
    let (site, other) = (asynchronous(&server).start(), asynchronous(&server).start());
    for site in [&site, &other] {
        site.backup(&[]);
    }
    let segments = fill_segments(&site, 5);
    site.cluster.wait_for_archived(&segments[4]);
    let foreign = fill_segments(&other, 5);
    let incoming = spool(&site, "in");
    fs::create_dir_all(&incoming).unwrap();
    for segment in &foreign {
        let path = other.cluster.data_directory().join("pg_wal").join(segment);
        fs::copy(path, incoming.join(segment)).unwrap();
        give_to_test_user(&incoming.join(segment));
    }
    let origin = r#"{"version":"17","system_id":"1","repositories":["/other"],"boot":"x"}"#;
    fs::write(incoming.join("origin"), origin).unwrap();
    for path in [incoming.join("origin"), incoming.clone(), incoming.parent().unwrap().to_owned()] {
        give_to_test_user(&path);
    }
    let recovered: Cluster = site.recover("restored", &[]);
    assert_eq!(recovered.sql("select count(*) from filler"), site.cluster.sql("select count(*) from filler"));
    assert!(recovered.log().contains("is of another cluster: it is removed"), "{}", recovered.log());
}
