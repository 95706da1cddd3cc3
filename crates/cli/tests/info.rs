//! `pgark info`

mod common;

use fs_err as fs;
use pgark_testkit::{Cluster, Finished, Server, Stop, faults, run};

use crate::common::{Site, Transcript};

fn info(site: &Site, arguments: &[&str]) -> Finished {
    run(&mut site.command(&[arguments, &["info"]].concat()))
}

/// The output with line breaks, so that a difference can be seen.
fn pretty(json: &str) -> String {
    let value: serde_json::Value = serde_json::from_str(json).expect("the output is JSON");
    // What is compared below is the order of the members too, which a value does not keep.
    let compact = serde_json::to_string(&value).expect("a value can be written");
    assert_eq!(compact, json, "members are not in the order of the alphabet, or there is more than one line");
    serde_json::to_string_pretty(&value).expect("a value can be written")
}

/// Sizes in bytes and object identifiers differ between versions of `PostgreSQL`.
fn without_numbers(text: &str) -> String {
    let is_size = |line: &str| {
        ["\"delta\": ", "\"exclusive\": ", "\"pack-size\": ", "\"size\": "]
            .iter()
            .any(|name| line.trim_start().starts_with(name))
    };
    let lines = text.lines().map(|line| match line.split_once(": ") {
        Some((name, number)) if is_size(line) => {
            assert!(number.trim_end_matches(',').parse::<u64>().is_ok_and(|bytes| bytes > 0), "{line}");
            format!("{name}: [bytes]")
        }
        // What the server does by itself may end a transaction or not.
        Some((name, "null")) if name.ends_with("\"stop\"") => format!("{name}: [timestamp]"),
        _ => line.to_owned(),
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn backups_are_shown() {
    let site = Site::builder(&Server::get(17)).passphrase("secret").start();
    let tablespace = site.scratch.directory("space");
    site.cluster.sql(&format!("create tablespace extra location '{}'", tablespace.display()));
    site.cluster.sql("create table t tablespace extra as select generate_series(1, 1000) n");
    let first = site.backup(&[]);
    let second = site.backup(&["--annotation=reason=upgrade", "--no-reuse"]);
    assert!(first < second);
    let mut transcript = Transcript::default();
    transcript.add("all", 0, info(&site, &[]));
    transcript.add("the stanza", 0, site.pgark(&["info"]));
    let set = format!("--set={second}");
    transcript.add("one backup", 0, site.pgark(&[&set, "info"]));
    transcript.add("no backup of this type", 0, site.pgark(&["--type=diff", "info"]));
    transcript.add("no such backup", 0, site.pgark(&["--set=20200101-000000F", "info"]));
    transcript.add("what runs", 0, site.pgark(&["--detail-level=progress", "info"]));
    transcript.add("contradictory options", 31, site.pgark(&["--detail-level=progress", &set, "info"]));
    assert_output!("text", transcript.text());

    let all = info(&site, &["--output=json"]).expect_success();
    assert_output!("json", without_numbers(&pretty(&all.stdout)));
    let one = site.pgark(&["--output=json", &set, "info"]).expect_success();
    assert_output!("json_of_one_backup", without_numbers(&pretty(&one.stdout)));
    let progress = site.pgark(&["--output=json", "--detail-level=progress", "info"]).expect_success();
    assert_output!("json_of_progress", pretty(&progress.stdout));
}

#[test]
fn what_is_running_is_shown() {
    let site = Site::start(&Server::get(17));
    let held = site.hold_lock("demo-backup-1.lock");
    let status = |expected: &str| {
        let finished = site.pgark(&["info"]).expect_success();
        assert!(finished.stdout.contains(&format!("    status: {expected}\n")), "{}", finished.report());
    };
    status("error (no valid backups, backup/expire running)");
    let restore = site.hold_lock("demo-restore-1.lock");
    status("error (no valid backups, backup/expire running, restore running)");
    drop(held);
    // A file that is left by a killed process is no lock.
    site.scratch.write("lock/demo-backup-1.lock", "{\"pid\":1}");
    status("error (no valid backups, restore running)");
    let json = site.pgark(&["--output=json", "info"]).expect_success().stdout;
    assert!(json.contains(r#""lock":{"backup":{"held":false},"restore":{"held":true}}"#), "{json}");
    drop(restore);
    site.backup(&[]);
    status("ok");
}

#[test]
fn what_is_missing_is_shown() {
    let mut site = Site::builder(&Server::get(17)).create();
    let mut transcript = Transcript::default();
    transcript.add("no stanza", 0, info(&site, &[]));
    transcript.add("no stanza, JSON", 0, info(&site, &["--output=json"]));
    transcript.add("no such stanza", 0, info(&site, &["--stanza=nope"]));
    transcript.add("no such stanza, JSON", 0, info(&site, &["--stanza=nope", "--output=json"]));
    transcript.add("a stanza that can't be one", 32, info(&site, &["--stanza=a b"]));
    site.cluster.start();
    site.pgark(&["stanza-create"]).expect_success();
    transcript.add("no backup", 0, info(&site, &[]));
    transcript.add("another stanza", 0, info(&site, &["--stanza=nope"]));
    fs::remove_file(site.repository().join("stanza/demo/cluster/1")).unwrap();
    transcript.add("a stanza without its cluster", 0, info(&site, &[]));
    fs::rename(site.repository(), site.scratch.path().join("lost")).unwrap();
    transcript.add("missing repository", 0, info(&site, &[]));
    transcript.add("missing repository, JSON", 0, site.pgark(&["--output=json", "info"]));
    assert_output!("missing", transcript.text());
}

#[test]
fn repositories_that_differ_are_told_apart() {
    let mut site = Site::builder(&Server::get(17)).repositories(3).start();
    site.backup(&["--repo=2"]);
    let mut transcript = Transcript::default();
    transcript.add("backups in one", 0, info(&site, &[]));
    transcript.add("one of them", 0, info(&site, &["--repo=1"]));
    site.backup(&["--repo=3"]);
    // Nothing is to be on its way into the repository that goes.
    site.cluster.stop(Stop::Fast);
    fs::rename(site.repository(), site.scratch.path().join("lost")).unwrap();
    transcript.add("one lost", 0, info(&site, &[]));
    site.reconfigure("repo2-path", "repo2-cipher-type=aes-256-gcm\nrepo2-cipher-pass=hush\nrepo2-path");
    transcript.add("another encrypted", 0, info(&site, &[]));
    let json = info(&site, &["--output=json"]).expect_success();
    assert!(!json.stdout.contains("hush"), "{}", json.report());
    assert_output!("differ", transcript.text());
}

#[test]
fn stanzas_of_different_clusters_are_told() {
    let server = Server::get(17);
    let site = Site::builder(&server).repositories(2).create();
    let data = site.cluster.data_directory().display().to_string();
    site.reconfigure("repo2-path", "#repo2-path");
    site.pgark(&["--no-online", "stanza-create"]).expect_success();
    site.reconfigure("repo1-path", "#repo1-path");
    site.reconfigure("#repo2-path", "repo2-path");
    let other = Cluster::builder(&server).wal_segment_size_mib(1).create();
    site.reconfigure(&data, &other.data_directory().display().to_string());
    site.pgark(&["--no-online", "stanza-create"]).expect_success();
    site.reconfigure("#repo1-path", "repo1-path");
    let mut transcript = Transcript::default();
    transcript.add("two clusters", 0, info(&site, &[]));
    assert_output!("two_clusters", transcript.text());
}

/// The moments that can be reached, and what of the WAL is missing, as JSON has them.
fn reachable(site: &Site) -> serde_json::Value {
    let json = info(site, &["--stanza=demo", "--output=json"]).expect_success().stdout;
    let value: serde_json::Value = serde_json::from_str(&json).expect("the output is JSON");
    value[0]["archive"][0]["pgark"].clone()
}

#[test]
fn the_moments_that_can_be_reached_are_shown() {
    let site = Site::start(&Server::get(17));
    site.cluster.sql("create table rows (id int)");
    let first = site.backup(&[]);
    let mut segments = Vec::new();
    for row in 1..=4 {
        site.cluster.sql(&format!("insert into rows values ({row})"));
        segments.push(site.archive_segment());
    }
    let committed = site.cluster.sql("select extract(epoch from now())::bigint").parse::<i64>().unwrap();
    let whole = reachable(&site);
    let windows = whole["window"].as_array().unwrap();
    assert_eq!((windows.len(), &whole["missing"]), (1, &serde_json::json!([])), "{whole}");
    assert_eq!((&windows[0]["backup"], &windows[0]["timeline"]), (&serde_json::json!(first), &serde_json::json!(1)));
    let stop = windows[0]["timestamp"]["stop"].as_i64().unwrap();
    assert!((committed - 30..=committed).contains(&stop), "{whole}");

    // A gap parts what can be reached; another backup begins anew after it.
    let lost = site.object(&segments[1]);
    fs::remove_file(&lost).unwrap();
    let parted = reachable(&site);
    assert_eq!(parted["missing"][0]["first"], segments[1], "{parted}");
    assert_eq!(parted["missing"][0]["count"], 1, "{parted}");
    assert_eq!(parted["missing"][0]["by-retention"], false, "{parted}");
    assert_eq!(parted["window"].as_array().unwrap().len(), 1, "{parted}");
    assert!(parted["window"][0]["timestamp"]["stop"].as_i64().unwrap() <= stop);
    let second = site.backup(&["--no-reuse"]);
    let again = reachable(&site);
    let backups: Vec<_> = again["window"].as_array().unwrap().iter().map(|window| &window["backup"]).collect();
    assert_eq!(backups, [&serde_json::json!(first), &serde_json::json!(second)], "{again}");
    let text = info(&site, &[]).expect_success().stdout;
    assert!(text.contains(&format!("        repo1: wal missing: {0}/{0} (1 segment)\n", segments[1])), "{text}");
    assert_eq!(text.matches("repo1: recovery window: ").count(), 2, "{text}");

    // What a backup holds alone is what goes with it.
    let alone = |label: &str| {
        let json = info(&site, &["--output=json", "--stanza=demo"]).expect_success().stdout;
        let value: serde_json::Value = serde_json::from_str(&json).unwrap();
        let backups = value[0]["backup"].as_array().unwrap().clone();
        backups.iter().find(|backup| backup["label"] == label).unwrap()["pgark"]["exclusive"].clone()
    };
    let stored: u64 = site.objects("/pack/").iter().map(|pack| fs::metadata(pack).unwrap().len()).sum();
    assert_eq!(alone(&first).as_u64().unwrap() + alone(&second).as_u64().unwrap(), stored);
    let manifest = site.object(&format!("{first}/manifest"));
    faults::flip_byte(&manifest, fs::metadata(&manifest).unwrap().len() - 1);
    assert_eq!(alone(&second), serde_json::Value::Null, "nobody knows what a damaged manifest needs");
}

#[test]
fn damage_does_not_hide_what_is_whole() {
    let site = Site::start(&Server::get(17));
    let (damaged, whole) = (site.backup(&[]), site.backup(&[]));
    let manifest = site.object(&format!("{damaged}/manifest"));
    let length = fs::metadata(&manifest).unwrap().len();
    faults::flip_byte(&manifest, length - 1);
    let finished = info(&site, &[]).expect_success();
    assert!(finished.stdout.contains(&format!("full backup: {whole}")), "{}", finished.report());
    assert!(finished.stdout.contains("[ChecksumError] object"), "{}", finished.report());
    Site::age(&manifest);
    let finished = info(&site, &[]).expect_success();
    assert!(finished.stdout.contains("[FormatError] object"), "{}", finished.report());
    assert!(finished.stdout.contains("HINT: upgrade pgark on this host"), "{}", finished.report());
}
