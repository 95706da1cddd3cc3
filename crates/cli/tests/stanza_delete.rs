//! `pgark stanza-delete`

mod common;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use fs_err as fs;
use pgark_repository::session::{Session, SessionKind};
use pgark_repository::{Encryption, Repository};
use pgark_storage::LocalStorage;
use pgark_testkit::{Server, Stop, give_to_test_user, run};

use crate::common::{Site, Transcript};

/// Everything below a directory, with its directories.
fn everything(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).expect("the directory can be read") {
        let path = entry.expect("the directory can be read").path();
        if path.is_dir() {
            found.extend(everything(&path));
        }
        found.push(path);
    }
    found.sort();
    found
}

#[test]
fn a_stanza_goes_from_one_repository_and_leaves_nothing() {
    let mut site = Site::builder(&Server::get(17)).repositories(2).passphrase("first").start();
    let label = site.backup(&[]);
    site.backup(&["--repo=2"]);
    site.archive_segment();
    site.cluster.stop(Stop::Fast);
    let manifest = site.object("manifest");
    let leftover = manifest.parent().unwrap().join(".pgark-tmp-01JDXYZ0000000000000000000");
    fs::write(&leftover, "half of something").unwrap();
    let [first, second] = ["repository1", "repository2"].map(|name| site.scratch.path().join(name));
    let other = everything(&second);
    site.pgark(&["stop"]).expect_success();
    site.pgark(&["--repo=1", "stanza-delete"]).expect_success();
    let left = everything(&first);
    let names: Vec<_> = left.iter().map(|path| path.strip_prefix(&first).unwrap().to_str().unwrap()).collect();
    assert!(matches!(names[..], ["key", _, "pgark.repo"]), "{names:?}");
    assert_eq!(everything(&second), other, "the other repository has changed");
    assert!(!site.scratch.path().join("lock/demo.stop").exists(), "the stop file is still there");

    let mut transcript = Transcript::default();
    transcript.add("info", 0, site.pgark(&["info"]));
    let again = site.pgark(&["--repo=1", "--log-level-console=info", "--no-log-timestamp", "stanza-delete"]);
    transcript.add("again", 0, again);
    assert_output!("deleted", transcript.text());
    site.pgark(&["--repo=2", &format!("--set={label}"), "info"]).expect_success();
    site.pgark(&["--no-online", "stanza-create"]).expect_success();
    assert_eq!(site.objects("stanza/demo/cluster/").len(), 1, "the stanza can't be created anew");
}

#[test]
fn nothing_is_deleted_while_somebody_may_be_at_work() {
    let mut site = Site::builder(&Server::get(18)).repositories(2).start();
    site.backup(&[]);
    let mut transcript = Transcript::default();
    let delete = |site: &Site, arguments: &[&str]| site.pgark(&[arguments, &["stanza-delete"]].concat());
    transcript.add("no stanza", 37, run(&mut site.command(&["--repo=1", "stanza-delete"])));
    transcript.add("which repository", 37, delete(&site, &[]));
    transcript.add("no such repository", 32, delete(&site, &["--repo=3"]));
    transcript.add("a parameter", 96, site.pgark(&["stanza-delete", "demo"]));
    transcript.add("not stopped", 55, delete(&site, &["--repo=1"]));
    transcript.add("not stopped, but forced", 55, delete(&site, &["--repo=1", "--force"]));
    run(&mut site.command(&["stop"])).expect_success();
    transcript.add("all are stopped, not the stanza", 55, delete(&site, &["--repo=1"]));
    site.pgark(&["stop"]).expect_success();
    transcript.add("PostgreSQL runs", 38, delete(&site, &["--repo=1"]));
    for lock in ["demo-backup-1.lock", "demo-restore-1.lock"] {
        let held = site.hold_lock(lock);
        transcript.add("lock held", 50, delete(&site, &["--repo=1", "--force"]));
        drop(held);
    }
    site.cluster.stop(Stop::Fast);

    let storage = LocalStorage::open(&site.repository()).unwrap();
    let repository = Repository::open(Arc::new(storage), &Encryption::None).unwrap();
    let stanza = "demo".parse().unwrap();
    let _session = Session::begin(&repository, &stanza, SessionKind::Backup, "elsewhere".into(), Vec::new()).unwrap();
    let session = site.object("/session/");
    give_to_test_user(session.parent().unwrap());
    give_to_test_user(&session);
    let told = delete(&site, &["--repo=1"]);
    let message = "on host 'elsewhere' is at work on stanza 'demo' on repo1: it last said so at ";
    assert!(told.stdout.contains(message) && told.code() == Some(50), "{}", told.report());
    assert_eq!(site.objects("manifest").len(), 1, "a refused command has deleted something");
    delete(&site, &["--repo=1", "--force"]).expect_success();
    assert_eq!(site.objects("stanza/"), Vec::<PathBuf>::new());
    assert_output!("refused", transcript.text());
}
