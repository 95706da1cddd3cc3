//! One at a time: lock files on one host, sessions between hosts, and waiting for either.

#![allow(clippy::unwrap_used, reason = "what goes wrong here ends the test")]

mod common;

use std::process::{Child, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use fs_err as fs;
use pgark_repository::session::{Session, SessionDocument, SessionKind, sessions};
use pgark_repository::{Encryption, Repository};
use pgark_storage::LocalStorage;
use pgark_system::clock::Stopwatch;
use pgark_testkit::{Server, give_to_test_user, run, wait_until};

use rustix::process::{Pid, Signal, kill_process};

use crate::common::{Host, STANZA, Site};

fn begin(site: &Site, arguments: &[&str]) -> Child {
    let stanza = format!("--stanza={STANZA}");
    let mut command = site.command(&[&[stanza.as_str()], arguments].concat());
    command.stdout(Stdio::piped()).spawn().expect("the program starts")
}

#[test]
fn who_is_refused_is_told_by_whom_and_who_waits_gets_its_turn() {
    let site = Site::start(&Server::get(17));
    site.cluster.sql("create table filler as select repeat('x', 500) from generate_series(1, 20000)");
    site.cluster.configure("archive_command", "false archive-push");
    site.cluster.reload();
    let mut first = begin(&site, &["--type=full", "--archive-timeout=10m", "--io-limit=4MiB", "backup"]);
    wait_until("the backup to tell how far it is", || {
        site.pgark(&["info"]).expect_success().stdout.contains("backup/expire running - ")
    });
    let info = site.pgark(&["info", "--output=json"]).expect_success().stdout;
    let lock = info.split("\"lock\":{\"backup\":{\"held\":true,").nth(1).unwrap_or_else(|| panic!("{info}"));
    for part in ["\"repo\":[{\"key\":1,\"size\":", "\"size-cplt\":"] {
        assert!(lock.contains(part), "{info}");
    }
    let refused = site.pgark(&["backup"]).expect_code(50);
    let who = format!("demo-backup-1.lock': process {} (backup) holds it since ", first.id());
    assert!(refused.stdout.contains(&who) && refused.stdout.contains("% complete"), "{}", refused.report());
    assert!(refused.stdout.contains("HINT: with --lock-wait, as --lock-wait=1h"), "{}", refused.report());
    let too_short = site.pgark(&["--lock-wait=1s", "expire"]).expect_code(104);
    assert!(too_short.stdout.contains("the other had not ended when lock-wait was over"), "{}", too_short.report());

    site.cluster.configure("archive_command", &site.archive_command());
    let mut patient = begin(&site, &["--type=full", "--lock-wait=5m", "--log-level-console=info", "backup"]);
    run(std::process::Command::new("kill").arg(first.id().to_string())).expect_success();
    assert_eq!(first.wait().unwrap().code(), Some(63));
    site.cluster.reload();
    assert!(patient.wait().unwrap().success());
    assert_eq!(site.objects("/backup/").iter().filter(|path| path.ends_with("manifest")).count(), 1);
}

#[test]
fn hosts_take_turns_by_their_sessions() {
    let site = Site::start(&Server::get(17));
    let storage = LocalStorage::open(&site.repository()).unwrap();
    let repository = Repository::open(Arc::new(storage), &Encryption::None).unwrap();
    let stanza = STANZA.parse().unwrap();
    let session = Session::begin(&repository, &stanza, SessionKind::Backup, "elsewhere".into(), Vec::new()).unwrap();
    let object = site.object("/session/");
    give_to_test_user(object.parent().unwrap());
    give_to_test_user(&object);

    let refused = site.pgark(&["--type=full", "backup"]).expect_code(50);
    let who = format!("another backup (process {} on host 'elsewhere', begun at ", std::process::id());
    assert!(refused.stdout.contains(&who), "{}", refused.report());
    // The one that was refused has taken its own session away, and expire need not wait.
    assert_eq!(site.objects("/session/").len(), 1);
    site.pgark(&["expire"]).expect_success();

    let mut patient = begin(&site, &["--type=full", "--lock-wait=5m", "backup"]);
    wait_until("the backup to ask for its turn", || site.objects("/session/").len() == 2);
    wait_until("the backup to wait", || site.objects("/session/").len() == 1);
    assert!(patient.try_wait().unwrap().is_none());
    session.end().unwrap();
    assert!(patient.wait().unwrap().success());
    assert_eq!(site.objects("/session/").len(), 0);
}

fn repository(site: &Site) -> Repository {
    let storage = LocalStorage::open(&site.repository()).unwrap();
    Repository::open(Arc::new(storage), &Encryption::None).unwrap()
}

/// A cluster with a backup that is at work, slowly, on another host.
fn with_backup_elsewhere(environment: &[(&str, &str)]) -> (Site, Child) {
    let site = Site::start(&Server::get(17));
    let host = Host::new(&site, "other", &site.cluster);
    let mut command = host.command(&site, &["--type=full", "--io-limit=1MiB", "backup"]);
    let child = command.envs(environment.iter().copied()).stdout(Stdio::piped()).spawn().expect("the program starts");
    wait_until("the backup to store something", || site.objects("/pack/").len() + site.objects(".part").len() > 0);
    (site, child)
}

/// Has the only session look as if its process could not be looked for here, as one of another host.
fn move_session_elsewhere(site: &Site) -> SessionDocument {
    let repository = repository(site);
    let stanza = STANZA.parse().unwrap();
    let mut document = sessions(&repository, &stanza).unwrap().pop().expect("there is a session");
    assert!(document.machine.take().is_some());
    Session::resume(&repository, &stanza, document.clone()).unwrap().renew().unwrap();
    give_to_test_user(&site.object("/session/"));
    document
}

/// Has the only session be silent for so long, by the storage's clock.
fn silence_session(site: &Site, minutes: u64) {
    let object = site.object("/session/");
    let now = fs::metadata(&object).unwrap().modified().unwrap();
    let file = fs::OpenOptions::new().write(true).open(&object).unwrap();
    file.file().set_modified(now - Duration::from_secs(minutes * 60)).unwrap();
}

fn signal(child: &Child, signal: Signal) {
    kill_process(Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap(), signal).unwrap();
}

/// Has a backup stand still, but not while it renews its session, when a file of that is half written.
fn stand_still(site: &Site, backup: &Child) {
    wait_until("the backup to stand still between two renewals", || {
        signal(backup, Signal::STOP);
        // What it is at in this moment comes to an end.
        thread::sleep(Duration::from_millis(20));
        let is_between = site.objects("/session/").len() == 1;
        if !is_between {
            signal(backup, Signal::CONT);
        }
        is_between
    });
}

#[test]
fn a_backup_that_died_on_another_host_is_taken_over_when_it_has_been_silent_for_long() {
    let (site, mut dead) = with_backup_elsewhere(&[]);
    let refused = site.pgark(&["--type=full", "backup"]).expect_code(50);
    let who = format!("another backup (process {} on host '", dead.id());
    assert!(refused.stdout.contains(&who), "{}", refused.report());
    let info = site.pgark(&["info", "--output=json"]).expect_success().stdout;
    let info: serde_json::Value = serde_json::from_str(&info).unwrap();
    assert_eq!(info[0]["repo"][0]["pgark"]["at-work"][0]["process"], dead.id(), "{info}");
    dead.kill().unwrap();
    dead.wait().unwrap();
    let document = move_session_elsewhere(&site);
    silence_session(&site, 14);
    let refused = site.pgark(&["--type=full", "backup"]).expect_code(50);
    assert!(refused.stdout.contains(&who), "{}", refused.report());
    // It has waited a minute at most by then.
    silence_session(&site, 2);
    site.backup(&[]);
    // What it has stored is its own still, until it is taken for dead for good.
    let packs = |site: &Site| site.objects(&format!("/pack/{}/", document.id)).len();
    let before = packs(&site);
    site.pgark(&["expire"]).expect_success();
    assert_eq!((packs(&site), site.objects("/session/").len()), (before, 1));
    site.pgark(&["verify"]).expect_success();
    assert_eq!(site.recover("restored", &[]).sql("select 1"), "1");
}

#[test]
fn a_backup_that_stood_still_ends_itself_when_it_goes_on() {
    // It may be silent for ten seconds, and renews its session each second.
    let (site, mut first) = with_backup_elsewhere(&[("TEST_PGARK_SESSION_HASTE", "60")]);
    let mut promoted = site.cluster.standby();
    let host = Host::new(&site, "new", &promoted);
    promoted.configure("archive_command", &host.archive_command(&site));
    promoted.start();
    stand_still(&site, &first);
    let stood_still = Stopwatch::start();
    promoted.promote();
    move_session_elsewhere(&site);
    silence_session(&site, 16);
    host.pgark(&site, &["--type=full", "backup"]).expect_success();
    thread::sleep(Duration::from_secs(11).saturating_sub(stood_still.elapsed()));
    signal(&first, Signal::CONT);
    let status = first.wait().unwrap();
    let told = std::io::read_to_string(first.stdout.take().unwrap()).unwrap();
    assert_eq!(status.code(), Some(50), "{told}");
    assert!(
        told.contains("the session could not be renewed for ") && told.contains("another host may take over"),
        "{told}"
    );
    let manifests = site.objects("/backup/");
    assert_eq!(manifests.iter().filter(|path| path.ends_with("manifest")).count(), 1, "{manifests:?}");
    site.pgark(&["verify"]).expect_success();
}
