//! `pgark expire`, and the expire that follows a backup

mod common;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use fs_err as fs;
use pgark_testkit::{Cluster, Server, faults, run};

use crate::common::{STANZA, Site, Transcript, text};

/// The labels that info shows.
fn labels(site: &Site, repository: u32) -> Vec<String> {
    let json = site.pgark(&[&format!("--repo={repository}"), "--output=json", "info"]).expect_success().stdout;
    let stanzas: serde_json::Value = serde_json::from_str(&json).expect("info writes JSON");
    let backups = stanzas[0]["backup"].as_array().expect("a stanza has backups");
    backups.iter().map(|backup| backup["label"].as_str().expect("a backup has a label").to_owned()).collect()
}

/// The objects that the first repository has of a kind, without what a killed process has left unfinished.
fn objects(site: &Site, kind: &str) -> Vec<PathBuf> {
    let mut objects = site.objects(kind);
    objects.retain(|path| !text(path).contains(".pgark-tmp-"));
    objects
}

/// The sessions whose packs are there.
fn sessions_of_packs(site: &Site) -> BTreeSet<PathBuf> {
    objects(site, "/pack/").iter().filter_map(|path| Some(path.parent()?.to_owned())).collect()
}

/// What was said, without how much it was: that depends on the server.
fn without_amounts(text: &str) -> String {
    let digits = |word: &str| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_digit());
    let words = text.split(' ').collect::<Vec<_>>();
    let is_amount = |index: usize| matches!(words.get(index + 1), Some(next) if next.starts_with("packs") || next.starts_with("bytes"));
    let shown = |(index, word): (usize, &&str)| {
        if digits(word) && is_amount(index) { "[amount]".to_owned() } else { (*word).to_owned() }
    };
    words.iter().enumerate().map(shown).collect::<Vec<_>>().join(" ")
}

/// Restores a backup to its consistency and gives what is in a table.
#[track_caller]
fn content_of(site: &Site, server: &Server, label: &str) -> String {
    let directory = site.scratch.path().join(format!("restored-{label}"));
    let path = format!("--pg1-path={}", directory.display());
    let set = format!("--set={label}");
    let options = ["--type=immediate", "--target-action=promote", "--recovery-option=archive_mode=off", "restore"];
    site.pgark(&[&[path.as_str(), &set][..], &options].concat()).expect_success();
    let mut restored = Cluster::adopt(server, &directory);
    restored.start();
    restored.wait_for_sql("select pg_is_in_recovery()", "f");
    restored.sql("select max(id) from event")
}

/// A site with a table and backups that see it grow. None shares packs with another, so that it shows what goes with each.
fn site_with_backups(server: &Server, count: u32, options: &[&str]) -> (Site, Vec<String>) {
    let site = Site::start(server);
    site.cluster.sql("create table event (id int)");
    let mut taken = Vec::new();
    for number in 0..count {
        site.cluster.sql(&format!("insert into event values ({number})"));
        site.archive_segment();
        taken.push(site.backup(&[options, &["--no-reuse"]].concat()));
    }
    (site, taken)
}

/// What retention does not ask for goes, what is left can be restored, and what was stored is freed in the run after.
#[test]
fn after_a_backup_what_is_too_old_goes() {
    let server = Server::get(17);
    let (site, taken) = site_with_backups(&server, 4, &["--repo1-retention-full=2"]);
    assert_eq!(labels(&site, 1), taken[2..]);
    assert_eq!(content_of(&site, &server, &taken[2]), "2");
    let expired = site.pgark(&["--repo1-retention-full=2", "--log-level-console=info", "expire"]).expect_success();
    assert!(expired.stdout.contains("no archive to remove"), "{}", expired.report());
    // No backup shares packs with another, so that nothing but those of two backups is left.
    let directories = fs::read_dir(site.repository().join("stanza/demo/pack")).unwrap().count();
    assert_eq!((sessions_of_packs(&site).len(), directories), (2, 2));
    assert!(!site.repository().join(format!("stanza/demo/backup/{}", taken[0])).exists());
    assert!(site.objects("/session/").is_empty());
    assert_eq!(content_of(&site, &server, &taken[3]), "3");
    // The archive begins with the older of them.
    let json = site.pgark(&["--output=json", "info"]).expect_success().stdout;
    let stanzas: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(stanzas[0]["backup"][0]["archive"]["start"], stanzas[0]["archive"][0]["min"]);
    assert_eq!(site.recover("to-the-end", &[]).sql("select max(id) from event"), "3");
}

#[test]
fn what_is_done_is_said_in_pgbackrests_words() {
    let server = Server::get(18);
    let (site, taken) = site_with_backups(&server, 4, &["--no-expire-auto"]);
    assert_eq!(labels(&site, 1), taken);
    let mut transcript = Transcript::default();
    // The last backup's history file is archived when the server comes to it.
    site.cluster.wait_for_sql("select count(*) from pg_ls_archive_statusdir() where name like '%.ready'", "0");
    let before = site.objects("");
    transcript.add("no rule", 0, site.pgark(&["--log-level-console=info", "expire"]));
    assert_eq!(site.objects(""), before);
    let options = ["--log-level-console=detail", "--repo1-retention-full=2", "--repo1-retention-archive=1"];
    transcript.add("dry run", 0, site.pgark(&[&options[..], &["--dry-run", "expire"]].concat()));
    assert_eq!(site.objects(""), before, "a dry run has changed something");
    transcript.add("done", 0, site.pgark(&[&options[..], &["expire"]].concat()));
    transcript.add("again", 0, site.pgark(&[&options[..], &["expire"]].concat()));
    transcript.add("nothing left", 0, site.pgark(&[&options[..], &["expire"]].concat()));
    assert_output!("words", without_amounts(&transcript.text()));
    assert_eq!(content_of(&site, &server, &taken[2]), "2");
}

#[test]
fn one_backup_goes_by_its_label_but_never_the_last_one() {
    let server = Server::get(17);
    let (site, taken) = site_with_backups(&server, 3, &[]);
    let mut transcript = Transcript::default();
    let mut expire = |title: &str, code: i32, arguments: &[&str]| {
        let console = ["--log-level-console=info", "--repo1-retention-full=9999999"];
        transcript.add(title, code, site.pgark(&[&console[..], arguments, &["expire"]].concat()));
    };
    let before = site.objects("");
    expire("not a label", 32, &["--set=latest"]);
    expire("no such backup", 75, &["--set=20200101-000000F"]);
    expire("both", 31, &["--set=20200101-000000F", "--oldest"]);
    expire("no segment", 32, &["--archive-expire-before=00000001"]);
    assert_eq!(site.objects(""), before);
    expire("one of them", 0, &[&format!("--set={}", taken[1])]);
    assert_eq!(labels(&site, 1), [taken[0].clone(), taken[2].clone()]);
    expire("the latest", 0, &[&format!("--set={}", taken[2])]);
    assert_eq!(labels(&site, 1), taken[..1]);
    let before = site.objects("");
    expire("the last", 104, &[&format!("--set={}", taken[0])]);
    expire("the oldest is the last", 0, &["--oldest"]);
    expire("the last, damaged", 104, &[&format!("--set={}", taken[0])]);
    assert_eq!(
        site.objects("/backup/"),
        before.into_iter().filter(|path| text(path).contains("/backup/")).collect::<Vec<_>>()
    );
    assert_output!("by_label", without_amounts(&transcript.text()));
    assert_eq!(content_of(&site, &server, &taken[0]), "0");
}

/// What is damaged or missing removes nothing by itself, is named, and can be expired by its label.
#[test]
fn damage_is_told_and_removes_nothing() {
    let server = Server::get(17);
    let (site, taken) = site_with_backups(&server, 3, &[]);
    let retention = "--repo1-retention-full=1";
    let manifest = site.repository().join(format!("stanza/demo/backup/{}/manifest", taken[1]));
    faults::flip_byte(&manifest, fs::metadata(&manifest).unwrap().len() - 20);
    let before = site.objects("");
    let mut transcript = Transcript::default();
    transcript.add("a damaged manifest", 104, site.pgark(&[retention, "expire"]));
    assert_eq!(site.objects("").len(), before.len(), "something was removed, or left behind");
    transcript.add("expired", 0, site.pgark(&["--repo1-retention-full=9", &format!("--set={}", taken[1]), "expire"]));
    assert_eq!(labels(&site, 1), [taken[0].clone(), taken[2].clone()]);

    // The newest backup lacks a pack: it does not count, and the one before it stays.
    let newest = site.repository().join(format!("stanza/demo/backup/{}/manifest", taken[2]));
    let needs = site.pgark(&["repo-get", text(&newest)]).expect_success().stdout;
    let needs =
        needs.lines().find_map(|line| serde_json::from_str::<serde_json::Value>(line).ok()?.get("needs").cloned());
    let pack = needs.expect("it needs packs")["pack"].as_str().unwrap().to_owned();
    fs::remove_file(site.repository().join("stanza/demo/pack").join(&pack)).unwrap();
    transcript.add("a missing pack", 0, site.pgark(&[retention, "expire"]));
    assert_eq!(labels(&site, 1), [taken[0].clone(), taken[2].clone()]);
    assert_output!("damage", without_amounts(&transcript.text()));
    assert_eq!(content_of(&site, &server, &taken[0]), "0");
}

/// However often it is killed and wherever: no backup that is listed has lost anything, and the next run ends the work.
#[test]
fn a_killed_expire_harms_nothing_and_is_gone_on_with() {
    let server = Server::get(17);
    let (site, taken) = site_with_backups(&server, 5, &["--no-expire-auto"]);
    let stanza = format!("--stanza={STANZA}");
    let mut killed = 0;
    for wait_ms in [0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 15, 18, 22, 27, 33, 40] {
        let retention = if wait_ms < 10 { "--repo1-retention-full=3" } else { "--repo1-retention-full=2" };
        let mut child = site.command(&[&stanza, retention, "expire"]).spawn().expect("the program starts");
        std::thread::sleep(Duration::from_millis(wait_ms));
        killed += usize::from(child.try_wait().expect("the child can be asked").is_none());
        child.kill().ok();
        child.wait().expect("the child can be waited for");
        let left = labels(&site, 1);
        assert!(left.len() >= 2 && left[left.len() - 2..] == taken[3..], "{left:?}");
    }
    assert!(killed > 3, "only {killed} were killed");
    for _ in 0..2 {
        site.pgark(&["--repo1-retention-full=2", "expire"]).expect_success();
    }
    assert_eq!(labels(&site, 1), taken[3..]);
    assert_eq!((sessions_of_packs(&site).len(), objects(&site, "/session/").len()), (2, 0));
    assert_eq!(content_of(&site, &server, &taken[3]), "3");
    assert_eq!(content_of(&site, &server, &taken[4]), "4");
}

/// What a killed process was about to write does not stay for ever, and what somebody may still be writing is left alone.
#[test]
fn what_a_killed_process_left_unfinished_goes_when_it_is_old() {
    let server = Server::get(17);
    let (site, taken) = site_with_backups(&server, 2, &[]);
    let unfinished = || site.objects(".pgark-tmp-");
    let stanza = format!("--stanza={STANZA}");
    let expire = ["--repo1-retention-full=9", "--log-level-console=info", "expire"];
    let mut wait = Duration::ZERO;
    while unfinished().is_empty() {
        let mut child = site.command(&[&[stanza.as_str()][..], &expire].concat()).spawn().expect("the program starts");
        std::thread::sleep(wait);
        child.kill().ok();
        child.wait().expect("the child can be waited for");
        wait = if wait > Duration::from_millis(40) { Duration::ZERO } else { wait + Duration::from_micros(300) };
    }
    let left = unfinished();
    let hours_ago =
        |hours: u64| std::time::SystemTime::from(pgark_system::clock::now()) - Duration::from_secs(hours * 3600);
    let set_age = |hours| {
        for path in &left {
            let file = fs::OpenOptions::new().write(true).open(path).unwrap();
            file.file().set_modified(hours_ago(hours)).unwrap();
        }
    };
    set_age(5);
    site.pgark(&expire).expect_success();
    assert_eq!(unfinished(), left, "somebody may still be writing it");
    set_age(7);
    let expired = site.pgark(&expire).expect_success();
    let said = format!("remove {} unfinished file(s)", left.len());
    assert!(expired.stdout.contains(&said), "{}", expired.report());
    assert_eq!(unfinished(), Vec::<PathBuf>::new());
    assert!(objects(&site, "/session/").is_empty());
    assert_eq!(labels(&site, 1), taken);
}

#[test]
fn a_history_that_is_asked_for_is_warned_about() {
    let site = Site::start(&Server::get(17));
    site.backup(&["--no-expire-auto"]);
    let said = |days: &str| {
        site.pgark(&[&format!("--repo1-retention-history={days}"), "--repo1-retention-full=2", "expire"])
            .expect_success()
            .stdout
    };
    assert!(said("365").contains("no history is kept of backups that are removed"));
    assert_eq!(said("0"), "");
}

/// Two hosts that know of each other only by the repository: one takes a backup, the other expires.
#[test]
fn an_expire_on_another_host_leaves_a_running_backup_what_it_writes() {
    let server = Server::get(17);
    let (site, taken) = site_with_backups(&server, 3, &["--no-expire-auto"]);
    let other_lock = format!("--lock-path={}", site.scratch.directory("other-lock").display());
    let expire = || site.pgark(&[&other_lock, "--repo1-retention-full=1", "--log-level-console=info", "expire"]);
    // While no WAL arrives the backup does not get to its end.
    let archive_command = site.cluster.sql("show archive_command");
    site.cluster.configure("archive_command", "false archive-push");
    site.cluster.reload();
    site.cluster.sql("insert into event values (99)");
    let stanza = format!("--stanza={STANZA}");
    let backup = ["--type=full", "--no-expire-auto", "--archive-timeout=5m", "backup"];
    let mut child = site.command(&[&[stanza.as_str()][..], &backup].concat()).spawn().expect("the program starts");
    let of_third = site.objects("/pack/").len();
    pgark_testkit::wait_for_some("the backup to write packs", || {
        (site.objects("/pack/").len() > of_third).then_some(())
    });
    let reference = format!("--set={}", taken[2]);
    let refused = site.pgark(&[&other_lock, &reference, "expire"]).expect_code(104);
    assert!(refused.stdout.contains("is in use by process"), "{}", refused.report());
    for _ in 0..3 {
        expire().expect_success();
    }
    assert_eq!(labels(&site, 1), taken[2..]);
    assert_eq!(site.objects("/session/").len(), 1, "the backup's session was removed");
    site.cluster.configure("archive_command", &archive_command);
    site.cluster.reload();
    assert!(child.wait().expect("the child can be waited for").success());
    for _ in 0..2 {
        expire().expect_success();
    }
    let [last] = &labels(&site, 1)[..] else { panic!("one backup") };
    assert_eq!(content_of(&site, &server, last), "99");
    // On this host they keep off each other by the lock.
    let _lock = site.hold_lock("demo-backup-1.lock");
    site.pgark(&["--repo1-retention-full=1", "expire"]).expect_code(104);
}

/// Each repository has rules of its own, and one that can't be reached keeps the others from nothing.
#[test]
fn every_repository_is_expired_by_its_own_rules() {
    let server = Server::get(17);
    let site = Site::builder(&server).repositories(2).global("repo1-retention-full=1\nrepo2-keep-daily=1").start();
    site.cluster.sql("create table event (id int)");
    for repository in ["--repo=2", "--repo=2", "--repo=1", "--repo=1"] {
        site.backup(&[repository, "--no-expire-auto"]);
    }
    let before = (labels(&site, 1), labels(&site, 2));
    site.pgark(&["--repo=2", "--dry-run", "expire"]).expect_success();
    assert_eq!((labels(&site, 1), labels(&site, 2)), before);
    let taken = site.backup(&["--log-level-file=off"]);
    assert_eq!(labels(&site, 1), [taken]);
    assert_eq!(labels(&site, 2), before.1[1..]);
    let failed = site.pgark(&["--repo1-path=/nowhere", "expire"]).expect_code(104);
    assert!(failed.stdout.contains("repo1:") && failed.stdout.contains("1 error(s)"), "{}", failed.report());
    run(&mut site.command(&["expire"])).expect_code(37);
}
