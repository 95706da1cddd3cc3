//! Holding a backup or a restore back: `priority`, `io-limit` and `network-limit`.

mod common;

use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::Duration;

use fs_err as fs;
use pgark_testkit::s3::S3Server;
use pgark_testkit::{Finished, PATIENCE, Server, run, wait_until};

use crate::common::{STANZA, Site, SiteBuilder, Transcript};

/// What a limit lets pass before it holds anything back: what it would have let pass in this time.
const CREDIT: Duration = Duration::from_millis(250);

/// A site with a repository on an S3 server.
fn in_s3(server: &Server, s3: &S3Server) -> SiteBuilder {
    let credentials = s3.credentials();
    Site::builder(server)
        .global("repo1-type=s3\nrepo1-s3-uri-style=path")
        .global(&format!("repo1-s3-bucket={}\nrepo1-s3-region={}", S3Server::BUCKET, s3.region()))
        .global(&format!("repo1-s3-endpoint={}", s3.url()))
        .global(&format!("repo1-s3-key={}\nrepo1-s3-key-secret={}", credentials.access_key, credentials.secret))
}

/// How many bytes the files of a backup have.
fn size(site: &Site, label: &str) -> u64 {
    let info = site.pgark(&["--output=json", &format!("--set={label}"), "info"]).expect_success();
    let info: serde_json::Value = serde_json::from_str(&info.stdout).expect("the output is JSON");
    info[0]["backup"][0]["info"]["size"].as_u64().expect("the backup has a size")
}

/// How many bytes a command has sent and received, as it says itself.
fn traffic(finished: &Finished) -> u64 {
    let line = finished.stdout.lines().find(|line| line.contains("requests to storages: "));
    let line = line.unwrap_or_else(|| panic!("no traffic in {}", finished.report()));
    let after = |name: &str| -> u64 {
        let (_, rest) = line.split_once(name).expect("it is in the line");
        rest.split(',').next().and_then(|number| number.trim().parse().ok()).expect("it is a number")
    };
    after("bytes sent:") + after("received:")
}

#[track_caller]
fn assert_held_back(finished: &Finished, bytes: u64, bytes_per_second: u64) {
    let due = Duration::from_millis(bytes * 1000 / bytes_per_second);
    let took = finished.elapsed;
    assert!(took + CREDIT >= due, "took {took:?} for {bytes} bytes, which should take {due:?}");
    // A busy machine may take its time for all else.
    assert!(took <= due + PATIENCE, "took {took:?} for {bytes} bytes, which should take {due:?}");
}

#[test]
fn a_backup_reads_and_a_restore_writes_as_fast_as_the_disk_may_be_used() {
    let site = Site::start(&Server::get(18));
    let label = site.backup(&[]);
    let size = size(&site, &label);
    // Several workers share the limit, so that they are not faster than one.
    let rate = size / 4;
    let limit = format!("--io-limit={rate}");
    let held_back = [limit.as_str(), "--process-max=3"];
    let backup = site.pgark(&[&held_back[..], &["--type=full", "backup"]].concat()).expect_success();
    assert_held_back(&backup, size, rate);

    let path = format!("--pg1-path={}", site.scratch.path().join("restored").display());
    let restore = [&held_back[..], &[&path, "--recovery-option=archive_mode=off", "restore"]].concat();
    assert_held_back(&site.pgark(&restore).expect_success(), size, rate);
    // Comparing reads what is there.
    let delta = site.pgark(&[&restore[..], &["--delta"]].concat()).expect_success();
    assert_held_back(&delta, size, rate);
}

#[test]
fn a_backup_sends_and_a_restore_receives_as_fast_as_the_network_may_be_used() {
    let (server, s3) = (Server::get(18), S3Server::start());
    let site = in_s3(&server, &s3).global("compress-type=none\nrepo1-storage-upload-chunk-size=5MiB").start();
    let rate = 5 << 20;
    let limit = format!("--network-limit={rate}");
    let held_back = [limit.as_str(), "--process-max=3", "--log-level-console=debug"];
    let backup = site.pgark(&[&held_back[..], &["--type=full", "backup"]].concat()).expect_success();
    assert!(traffic(&backup) > 15 << 20, "there was little to send: {}", backup.report());
    assert_held_back(&backup, traffic(&backup), rate);

    let path = format!("--pg1-path={}", site.scratch.path().join("restored").display());
    let restore = [&held_back[..], &[&path, "--recovery-option=archive_mode=off", "restore"]].concat();
    let restore = site.pgark(&restore).expect_success();
    assert!(traffic(&restore) > 15 << 20, "there was little to receive: {}", restore.report());
    assert_held_back(&restore, traffic(&restore), rate);
}

/// A part of an upload takes longer then than a connection may make no progress.
#[test]
fn what_is_held_back_is_not_taken_for_stalled() {
    let (server, s3) = (Server::get(18), S3Server::start());
    let site = in_s3(&server, &s3).global("repo1-storage-upload-chunk-size=5MiB\nio-timeout=1s").start();
    let arguments = ["--network-limit=512KiB", "--process-max=2", "--log-level-console=debug", "backup"];
    let finished = site.pgark(&arguments).expect_success();
    assert!(finished.stdout.contains("of them sent again: 0;"), "{}", finished.report());
    assert_held_back(&finished, traffic(&finished), 512 << 10);
}

fn start(site: &Site, arguments: &[&str]) -> Child {
    let stanza = format!("--stanza={STANZA}");
    let mut command = site.command(&[&[stanza.as_str()], arguments].concat());
    command.stdout(Stdio::piped()).spawn().expect("the program starts")
}

fn signal(child: &Child) {
    run(std::process::Command::new("kill").args(["-TERM", &child.id().to_string()])).expect_success();
}

/// Ends the program by a signal; it must come to its end by itself, not by force.
#[track_caller]
fn assert_ends_at_once(child: Child) {
    signal(&child);
    let stopwatch = pgark_system::clock::Stopwatch::start();
    let output = child.wait_with_output().expect("the child can be waited for");
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(63), "{said}");
    assert!(said.contains("command end: terminated on signal [SIGTERM]"), "{said}");
    assert!(stopwatch.elapsed() < Duration::from_secs(8), "the end was waited for");
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found
}

/// The size of the largest file below a directory.
fn largest(directory: &Path) -> u64 {
    files(directory).iter().filter_map(|file| fs::metadata(file).ok()).map(|file| file.len()).max().unwrap_or(0)
}

#[test]
fn whoever_waits_for_the_disk_ends_on_a_signal() {
    let site = Site::start(&Server::get(17));
    site.backup(&[]);
    let slow = ["--io-limit=64KiB", "--log-level-console=info"];
    let backup = start(&site, &[&slow[..], &["--process-max=2", "--type=full", "backup"]].concat());
    let sessions = || site.objects("/session/");
    wait_until("the backup to begin a pack", || {
        !sessions().is_empty() && site.objects("/pack/").iter().any(|path| path.display().to_string().contains("tmp"))
    });
    assert_ends_at_once(backup);
    assert_eq!(sessions(), Vec::<PathBuf>::new());
    let directory = site.scratch.path().join("restored");
    let path = format!("--pg1-path={}", directory.display());
    let restore = start(&site, &[&slow[..], &[&path, "--recovery-option=archive_mode=off", "restore"]].concat());
    wait_until("the restore to write", || largest(&directory) > 0);
    assert_ends_at_once(restore);
    assert!(!directory.join("global/pg_control").exists(), "the cluster could be started");
}

#[test]
fn whoever_waits_for_the_network_ends_on_a_signal() {
    let (server, s3) = (Server::get(17), S3Server::start());
    let site = in_s3(&server, &s3).global("compress-type=none\nrepo1-storage-upload-chunk-size=5MiB").start();
    site.backup(&[]);
    let slow = ["--network-limit=64KiB", "--log-level-console=info"];
    let backup = start(&site, &[&slow[..], &["--type=full", "--no-reuse", "backup"]].concat());
    wait_until("the backup to send a part", || s3.unfinished_uploads() > 0);
    assert_ends_at_once(backup);
    assert_eq!(s3.unfinished_uploads(), 0, "an upload was left");
    assert!(s3.keys().iter().all(|key| !key.contains("/session/")), "the session was left: {:?}", s3.keys());
    let directory = site.scratch.path().join("restored");
    let path = format!("--pg1-path={}", directory.display());
    let restore = start(&site, &[&slow[..], &[&path, "--recovery-option=archive_mode=off", "restore"]].concat());
    wait_until("the restore to begin", || directory.join("base").exists());
    assert_ends_at_once(restore);
    assert!(!directory.join("global/pg_control").exists(), "the cluster could be started");
}

/// The niceness in a `stat` file of the kernel: the 19th field, the 17th after the name in brackets.
fn niceness(stat: &Path) -> Option<i32> {
    let text = fs::read_to_string(stat).ok()?;
    text.rsplit_once(") ")?.1.split(' ').nth(16)?.parse().ok()
}

#[test]
fn a_backup_gives_way_to_others() {
    let site = Site::builder(&Server::get(17)).global("priority=7").start();
    for (arguments, expected) in [(&[][..], 7), (&["--priority=13"][..], 13)] {
        let slow = ["--io-limit=64KiB", "--log-level-console=info", "--process-max=2", "--type=full", "backup"];
        let backup = start(&site, &[arguments, &slow[..]].concat());
        wait_until("the backup to be at work", || !site.objects("/session/").is_empty());
        let process = Path::new("/proc").join(backup.id().to_string());
        assert_eq!(niceness(&process.join("stat")), Some(expected));
        let threads = fs::read_dir(process.join("task")).expect("it runs").flatten();
        let threads: Vec<_> = threads.filter_map(|thread| niceness(&thread.path().join("stat"))).collect();
        assert!(threads.len() > 1 && threads.iter().all(|niceness| *niceness == expected), "{threads:?}");
        assert_ends_at_once(backup);
    }
}

#[test]
fn what_makes_no_limit_is_refused() {
    let site = Site::builder(&Server::get(17)).create();
    let mut transcript = Transcript::default();
    for (code, argument) in [
        (32, "--io-limit=fast"),
        (32, "--io-limit=0"),
        (32, "--io-limit=10MiB/s"),
        (32, "--network-limit=63KiB"),
        (32, "--network-limit=-1MiB"),
        (32, "--priority=20"),
        (32, "--priority=low"),
        (100, "--priority=-1"),
    ] {
        transcript.add(argument, code, site.pgark(&[argument, "backup"]));
    }
    transcript.add("another command's", 31, site.pgark(&["--io-limit=1MiB", "info"]));
    site.reconfigure("[global]", "[global]\nnetwork-limit=1 MiB");
    transcript.add("in a file", 32, site.pgark(&["backup"]));
    assert_output!("refused", transcript.text());
}
