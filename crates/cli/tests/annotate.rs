//! `pgark annotate`

mod common;

use fs_err as fs;
use pgark_testkit::{Server, faults, run};

use crate::common::{Site, Transcript};

fn annotations_in_json(site: &Site, arguments: &[&str]) -> serde_json::Value {
    let json = site.pgark(&[arguments, &["--output=json", "info"]].concat()).expect_success().stdout;
    let stanzas: serde_json::Value = serde_json::from_str(&json).expect("info writes JSON");
    stanzas[0]["backup"][0]["annotation"].clone()
}

#[test]
fn annotations_are_added_changed_and_removed() {
    let site = Site::builder(&Server::get(17)).passphrase("first").start();
    let label = site.backup(&["--annotation=why=before the import", "--annotation=who=me", "--annotation=none="]);
    let manifest = fs::read(site.object("manifest")).unwrap();
    let set = format!("--set={label}");
    let annotate = |annotations: &[&str]| site.pgark(&[&[set.as_str()], annotations, &["annotate"]].concat());
    let mut transcript = Transcript::default();
    transcript.add("of the backup", 0, site.pgark(&[&set, "info"]));
    transcript.add(
        "annotate",
        0,
        annotate(&["--annotation=why=a = b", "--annotation=who=", "--annotation=keep=for good", "--annotation=never="]),
    );
    transcript.add("changed", 0, site.pgark(&[&set, "info"]));
    let expected = serde_json::json!({"keep": "for good", "why": "a = b"});
    assert_eq!(annotations_in_json(&site, &[]), expected);
    assert_eq!(annotations_in_json(&site, &[&set]), expected);
    annotate(&["--annotation=why=", "--annotation=keep="]).expect_success();
    transcript.add("none left", 0, site.pgark(&[&set, "info"]));
    assert_eq!(annotations_in_json(&site, &[]), serde_json::Value::Null);
    assert!(fs::read(site.object("manifest")).unwrap() == manifest, "the manifest was changed");
    assert_output!("annotated", transcript.text());
}

#[test]
fn every_repository_that_has_the_backup_is_annotated() {
    let site = Site::builder(&Server::get(18)).repositories(2).start();
    let label = site.backup(&["--repo=2"]);
    let set = format!("--set={label}");
    let said = site.pgark(&[&set, "--annotation=a=1", "--log-level-console=info", "annotate"]).expect_success();
    assert!(said.stdout.contains(&format!("backup set '{label}' to annotate found in repo2")), "{}", said.report());
    assert!(!said.stdout.contains("repo1\n"), "{}", said.report());
    assert_eq!(annotations_in_json(&site, &["--repo=2"]), serde_json::json!({"a": "1"}));
    let mut transcript = Transcript::default();
    transcript.add("where it is not", 75, site.pgark(&[&set, "--repo=1", "--annotation=a=2", "annotate"]));
    let missing = "--repo1-path=/nowhere";
    transcript.add("one is missing", 104, site.pgark(&[missing, &set, "--annotation=b=2", "annotate"]));
    assert_eq!(annotations_in_json(&site, &["--repo=2"]), serde_json::json!({"a": "1", "b": "2"}));
    assert_output!("several", transcript.text());
}

#[test]
fn what_can_not_be_annotated_is_told() {
    let site = Site::builder(&Server::get(17)).passphrase("first").start();
    let label = site.backup(&[]);
    let set = format!("--set={label}");
    let mut transcript = Transcript::default();
    let mut add = |title: &str, code: i32, arguments: &[&str]| {
        transcript.add(title, code, site.pgark(&[arguments, &["annotate"]].concat()));
    };
    add("no set", 37, &["--annotation=a=1"]);
    add("no annotation", 37, &[&set]);
    add("not a label", 32, &["--set=latest", "--annotation=a=1"]);
    add("no such backup", 75, &["--set=20200101-000000F", "--annotation=a=1"]);
    add("no value", 31, &[&set, "--annotation=a"]);
    add("no name", 32, &[&set, "--annotation==1"]);
    add("no such repository", 32, &[&set, "--repo=2", "--annotation=a=1"]);
    transcript.add("no stanza", 37, run(&mut site.command(&[&set, "--annotation=a=1", "annotate"])));
    transcript.add("a parameter", 96, site.pgark(&[&set, "--annotation=a=1", "annotate", "b=2"]));
    transcript.add("a backup without a name", 32, site.pgark(&["--annotation==1", "backup"]));
    site.pgark(&["stop"]).expect_success();
    transcript.add("stopped", 62, site.pgark(&[&set, "--annotation=a=1", "annotate"]));
    site.pgark(&["start"]).expect_success();
    let unwritable = faults::set_mode(site.object("manifest").parent().unwrap(), 0o500);
    transcript.add("can't be written", 104, site.pgark(&[&set, "--annotation=a=1", "annotate"]));
    drop(unwritable);
    site.reconfigure("cipher-pass=first", "cipher-pass=second");
    transcript.add("wrong passphrase", 104, site.pgark(&[&set, "--annotation=a=1", "annotate"]));
    assert_output!("refused", transcript.text());
}
