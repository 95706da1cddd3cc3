//! `pgark repo-ls` and `pgark repo-get`

mod common;

use fs_err as fs;
use pgark_testkit::{Finished, Server, faults, run};

use crate::common::{Site, Transcript, text};

const PASSPHRASE: &str = "correct horse battery staple";

fn site() -> (Site, String) {
    let site = Site::builder(&Server::get(17)).passphrase(PASSPHRASE).start();
    site.cluster.sql("create table event as select generate_series(1, 1000) as id");
    let label = site.backup(&["--annotation=why=a look inside"]);
    (site, label)
}

fn ls(site: &Site, arguments: &[&str]) -> Finished {
    run(&mut site.command(&[&["repo-ls"], arguments].concat()))
}

fn get(site: &Site, arguments: &[&str]) -> Finished {
    run(&mut site.command(&[&["repo-get"], arguments].concat()))
}

/// The name of an object below the first repository.
fn name(site: &Site, part: &str) -> String {
    let object = site.object(part);
    text(object.strip_prefix(site.repository()).expect("objects lie in the repository")).to_owned()
}

#[test]
fn what_lies_in_a_repository_is_listed() {
    let (site, label) = site();
    let repository = site.repository().display().to_string();
    let lines = |arguments: &[&str]| -> Vec<String> {
        ls(&site, arguments).expect_success().stdout.lines().map(str::to_owned).collect()
    };
    assert_eq!(lines(&[]), ["key", "pgark.repo", "stanza"]);
    assert_eq!(lines(&["--sort=desc"]), ["stanza", "pgark.repo", "key"]);
    assert_eq!(lines(&[&repository]), lines(&[]));
    for path in ["stanza/demo/backup", "stanza/demo/backup/", &format!("{repository}/stanza/demo/backup")] {
        assert_eq!(lines(&[path]), [label.as_str()], "{path}");
    }
    let below = |label: &str| vec![label.to_owned(), format!("{label}/manifest")];
    assert_eq!(lines(&["--recurse", "stanza/demo/backup"]), below(&label));
    let descending: Vec<_> = below(&label).into_iter().rev().collect();
    assert_eq!(lines(&["--recurse", "--sort=desc", "stanza/demo/backup"]), descending);
    let manifests = lines(&["--recurse", "--filter=/manifest$"]);
    assert_eq!(manifests, [format!("stanza/demo/backup/{label}/manifest")]);
    let all = lines(&["--recurse"]);
    for object in site.objects("") {
        let name = text(object.strip_prefix(site.repository()).unwrap()).to_owned();
        assert!(all.contains(&name), "{name} is not listed");
    }
    let mut transcript = Transcript::default();
    transcript.add("json", 0, ls(&site, &["--output=json", "stanza/demo"]));
    transcript.add("json, filtered", 0, ls(&site, &["--output=json", "--filter=^(back|clus)", "stanza/demo"]));
    transcript.add("json, nothing fits", 0, ls(&site, &["--output=json", "--filter=^$", "stanza/demo"]));
    transcript.add("an object", 0, ls(&site, &["stanza/demo/cluster/1"]));
    transcript.add("nothing there", 0, ls(&site, &["stanza/nope"]));
    transcript.add("nothing there in json", 0, ls(&site, &["--output=json", "stanza/nope"]));
    transcript.add("below an object", 0, ls(&site, &["stanza/demo/cluster/1/deeper"]));
    assert_output!("listed", transcript.text());
    let json: serde_json::Value =
        serde_json::from_str(&ls(&site, &["--output=json", "stanza/demo/cluster"]).stdout).unwrap();
    let size = fs::metadata(site.object("cluster/1")).unwrap().len();
    let object = ls(&site, &["--output=json", "stanza/demo/cluster/1"]).expect_success().stdout;
    assert!(object.starts_with(&format!("{{\".\":{{\"type\":\"file\",\"size\":{size},\"time\":")), "{object}");
    assert_eq!(json["1"]["size"], size, "{json}");
    assert!(json["1"]["time"].as_u64().unwrap() > 1_700_000_000, "{json}");
}

#[test]
fn what_an_object_holds_is_shown() {
    let (site, label) = site();
    site.pgark(&[&format!("--set={label}"), "--annotation=who=me", "annotate"]).expect_success();
    let segment = site.archive_segment();
    let json = |arguments: &[&str]| -> serde_json::Value {
        let finished = get(&site, arguments).expect_success();
        serde_json::from_str(&finished.stdout).unwrap_or_else(|error| panic!("{error}: {}", finished.report()))
    };
    assert_eq!(json(&["pgark.repo"])["cipher"], "aes-256-gcm");
    assert_eq!(json(&[&name(&site, "/key/")])["kdf"], "argon2id");
    assert_eq!(json(&["stanza/demo/cluster/1"])["version"], "17");
    assert_eq!(json(&[&name(&site, "/note/")])["annotations"]["who"], "me");

    let wal = get(&site, &[&name(&site, &segment)]).expect_success();
    let original = fs::read(site.cluster.data_directory().join("pg_wal").join(&segment)).unwrap();
    assert!(wal.stdout_bytes == original, "the segment was not given back as it was");
    let history = "1\t0/3000000\tno recovery target specified\n";
    let path = site.scratch.write("00000002.history", history);
    site.pgark(&["archive-push", text(&path)]).expect_success();
    assert_eq!(get(&site, &["stanza/demo/wal/17-1/00000002.history"]).expect_success().stdout, history);

    let manifest = get(&site, &[&format!("stanza/demo/backup/{label}/manifest")]).expect_success().stdout;
    let lines: Vec<serde_json::Value> = manifest.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines[0]["backup"]["annotations"]["why"], "a look inside");
    assert_eq!(lines[1]["directory"]["path"], "");
    let files: Vec<_> = lines.iter().filter_map(|line| line["file"]["path"].as_str()).collect();
    assert!(files.contains(&"PG_VERSION") && files.contains(&"global/1262"), "{files:?}");
    let late: Vec<_> = lines.iter().filter_map(|line| line["late"]["path"].as_str()).collect();
    assert_eq!(late, ["backup_label", "global/pg_control"]);
    let version = lines.iter().find(|line| line["file"]["path"] == "PG_VERSION").unwrap();
    assert_eq!((&version["file"]["size"], &version["file"]["mode"]), (&3.into(), &"0600".into()), "{version}");
    let needed: Vec<_> = lines.iter().filter_map(|line| line["needs"]["pack"].as_str()).collect();

    let mut framed = Vec::new();
    for pack in needed {
        let pack = get(&site, &[&format!("stanza/demo/pack/{pack}")]).expect_success().stdout;
        let lines: Vec<serde_json::Value> = pack.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert!(lines[0]["pack"]["blocks"].as_u64().unwrap() > 1, "{}", lines[0]);
        framed.extend(lines.iter().filter_map(|line| line["frame"]["file"].as_str().map(str::to_owned)));
    }
    assert!(framed.iter().any(|file| file == "global/1262"), "{framed:?}");

    // Without the pass phrase what is stored can still be had, as it is.
    let object = site.object(&segment);
    site.reconfigure(PASSPHRASE, "another");
    get(&site, &[&name(&site, &segment)]).expect_code(95);
    let raw = get(&site, &["--raw", &name(&site, &segment)]).expect_success();
    assert!(raw.stdout_bytes == fs::read(&object).unwrap(), "what is stored was not given as it is");
}

#[test]
fn output_that_nobody_reads_is_no_error() {
    let (site, _) = site();
    let segment = name(&site, &site.archive_segment());
    for command in ["--recurse repo-ls".to_owned(), format!("repo-get {segment}"), format!("--raw repo-get {segment}")]
    {
        let line = format!("set -o pipefail; {{}} {command} | head -c 1 > /dev/null");
        site.shell(&line, &[]).expect_success();
    }
}

#[test]
fn what_can_not_be_listed_or_shown_is_told() {
    let (site, label) = site();
    fs::create_dir(site.repository().join("archive")).unwrap();
    fs::write(site.repository().join("archive/archive.info"), "[db]\n").unwrap();
    let manifest = site.object("manifest");
    let mut transcript = Transcript::default();
    for path in ["..", "stanza/../../etc/passwd", "/etc/passwd", "stanza//demo", "stanza/\u{1}"] {
        transcript.add(&format!("repo-ls {}", path.escape_debug()), 96, ls(&site, &[path]));
        transcript.add(&format!("repo-get {}", path.escape_debug()), 96, get(&site, &[path]));
    }
    transcript.add("two paths", 96, ls(&site, &["stanza", "key"]));
    transcript.add("no path", 43, get(&site, &[]));
    transcript.add("the repository itself", 96, get(&site, &["/"]));
    transcript.add("not an expression", 32, ls(&site, &["--filter=(", "stanza"]));
    transcript.add("not an order", 32, ls(&site, &["--sort=random", "stanza"]));
    transcript.add("another stanza", 32, get(&site, &["--stanza=other", "stanza/demo/cluster/1"]));
    transcript.add("no such repository", 32, ls(&site, &["--repo=2"]));
    transcript.add("no repository", 73, ls(&site, &["--repo1-path=/nowhere"]));
    for raw in [&["--raw"][..], &[]] {
        transcript.add("missing", 55, get(&site, &[raw, &["stanza/demo/cluster/7"]].concat()));
        let ignored = get(&site, &[raw, &["--ignore-missing", "stanza/demo/cluster/7"]].concat());
        transcript.add("missing, ignored", 1, ignored);
    }
    transcript.add("a directory", 103, get(&site, &["stanza/demo"]));
    transcript.add("somebody else's file", 29, get(&site, &["archive/archive.info"]));
    assert_eq!(get(&site, &["--raw", "archive/archive.info"]).expect_success().stdout, "[db]\n");
    let moved = manifest.with_file_name("moved");
    fs::copy(&manifest, &moved).unwrap();
    pgark_testkit::give_to_test_user(&moved);
    transcript.add("a manifest in another place", 26, get(&site, &[&format!("stanza/demo/backup/{label}/moved")]));
    fs::remove_file(moved).unwrap();
    let length = fs::metadata(&manifest).unwrap().len();
    faults::flip_byte(&manifest, length - 1);
    let damaged = format!("stanza/demo/backup/{label}/manifest");
    transcript.add("damaged", 26, get(&site, &[&damaged]));
    get(&site, &["--raw", &damaged]).expect_success();
    transcript.add("damaged is not missing", 26, get(&site, &["--ignore-missing", &damaged]));
    assert_output!("refused", transcript.text());
}
