//! Incremental backups in S3.

use std::collections::BTreeMap;

use pgark_testkit::Server;
use pgark_testkit::s3::{Moto, S3Server};

use crate::common::restoring::{as_it_is, assert_same};
use crate::common::{Site, SiteBuilder};
use crate::{in_moto, in_server, with_keys};

/// Takes a backup that goes by the WAL; gives its label.
#[track_caller]
fn by_wal(site: &Site, kind: &str, prior: &str) -> String {
    let said = site.pgark(&[kind, "--log-level-console=info", "--process-max=2", "backup"]).expect_success();
    assert!(said.stdout.contains(&format!("last backup label = {prior}")), "{}", said.report());
    assert!(!said.stdout.contains("all files are read"), "{}", said.report());
    said.stdout.lines().find_map(|line| line.split_once("new backup label = ")).expect("it has a label").1.to_owned()
}

/// Changes some pages, and gives what the cluster has then.
fn change(site: &Site, word: &str, every: u32) -> String {
    site.cluster.sql(&format!("update numbers set filler = '{word}' where id % {every} = 0"));
    site.cluster.sql(&format!("create table {word} as select generate_series(1, 1000) id; checkpoint"));
    // Some segments, all of which are read by themselves.
    (0..4).for_each(|_| drop(site.archive_segment()));
    // Before the backup, since reading leaves hint bits.
    site.cluster.fingerprint()
}

/// What a set restores to, up to where it is consistent, is what the cluster was.
#[track_caller]
fn assert_come_back(site: &Site, name: &str, expected: &BTreeMap<String, String>) {
    for (label, fingerprint) in expected {
        let options = ["--type=immediate", "--target-action=promote", &format!("--set={label}")];
        let restored = site.recover(&format!("{name}-{label}"), &options);
        assert_eq!(&restored.fingerprint(), fingerprint, "{label}");
    }
}

/// Would lose: backups whose pages lie with one that has been expired.
fn every_backup_stands_alone(builder: SiteBuilder) {
    let site = builder.setting("autovacuum", "off").start();
    site.cluster.sql("create table numbers as select n id, md5(n::text) filler from generate_series(1, 40000) n");
    site.cluster.sql("vacuum numbers");
    let at_first = site.cluster.fingerprint();
    let first = site.backup(&[]);
    let one = change(&site, "one", 97);
    let incremental = by_wal(&site, "--type=incr", &first);
    let two = change(&site, "two", 89);
    let differential = by_wal(&site, "--type=diff", &incremental);
    // It reads and compares all: it shows what the others should have in them.
    let second = site.backup(&[]);
    let compared = as_it_is(&site, "second", &second);
    assert_same(&as_it_is(&site, "differential", &differential), &compared);
    let three = change(&site, "three", 83);
    let last = by_wal(&site, "--type=incr", &second);
    assert!(last.starts_with(&second), "{last}");
    let backups =
        [(&first, at_first), (&incremental, one), (&differential, two.clone()), (&second, two), (&last, three)];
    let mut expected: BTreeMap<String, String> =
        backups.into_iter().map(|(label, content)| (label.clone(), content)).collect();
    assert_come_back(&site, "before", &expected);

    // The first set goes, and in a second run what only it had.
    for arguments in [&[format!("--set={first}"), "expire".to_owned()][..], &["expire".to_owned()]] {
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        site.pgark(&[&["--repo1-retention-full=9"], &arguments[..]].concat()).expect_success();
    }
    expected.retain(|label, _| label.starts_with(&second));
    let info = site.pgark(&["--output=json", "info"]).expect_success().stdout;
    let info: serde_json::Value = serde_json::from_str(&info).unwrap();
    let left = info[0]["backup"].as_array().unwrap().iter().map(|backup| backup["label"].as_str().unwrap().to_owned());
    assert_eq!(left.collect::<Vec<_>>(), [second.clone(), last.clone()]);
    assert_come_back(&site, "after", &expected);
    change(&site, "four", 79);
    let newest = by_wal(&site, "--type=incr", &last);
    let anew = site.backup(&["--no-reuse"]);
    assert_same(&as_it_is(&site, "newest", &newest), &as_it_is(&site, "anew", &anew));
    site.pgark(&["verify"]).expect_success();
}

#[test]
fn every_backup_stands_alone_in_moto() {
    let (server, moto) = (Server::get(18), Moto::start());
    every_backup_stands_alone(in_moto(Site::builder(&server), 1, &moto));
}

#[test]
fn every_backup_stands_alone_on_a_strict_server() {
    let (server, s3) = (Server::get(17), S3Server::start());
    every_backup_stands_alone(with_keys(in_server(&server, &s3), &s3));
}
