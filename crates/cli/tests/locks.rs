//! One at a time: lock files on one host, sessions between hosts, and waiting for either.

mod common;

use std::process::{Child, Stdio};
use std::sync::Arc;

use pgark_repository::session::{Session, SessionKind};
use pgark_repository::{Encryption, Repository};
use pgark_storage::LocalStorage;
use pgark_testkit::{Server, give_to_test_user, run, wait_until};

use crate::common::{STANZA, Site};

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
