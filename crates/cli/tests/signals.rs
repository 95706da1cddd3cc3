//! Ending on a signal: whatever is at work ends at once, with pgBackRest's exit code, and takes away what it has begun.

mod common;

use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus, Stdio};

use fs_err as fs;
use pgark_testkit::{Cluster, Finished, Server, run, wait_for_some, wait_until};

use crate::common::{STANZA, Site};

/// Starts the program on the stanza.
fn begin(site: &Site, arguments: &[&str]) -> Child {
    let stanza = format!("--stanza={STANZA}");
    let mut command = site.command(&[&[stanza.as_str()], arguments].concat());
    command.stdout(Stdio::piped()).spawn().expect("the program starts")
}

fn signal(child: &Child, name: &str) {
    run(std::process::Command::new("kill").args([&format!("-{name}"), &child.id().to_string()])).expect_success();
}

/// Waits for the end of the program; gives what it said.
fn end(child: Child) -> (ExitStatus, String) {
    let output = child.wait_with_output().expect("the child can be waited for");
    (output.status, String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Everything below a directory.
fn files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => found.extend(files(&entry.path())),
            _ => found.push(entry.path()),
        }
    }
    found
}

/// What an unfinished command leaves behind: temporary files, sessions and locks. In the archive the server may just be
/// at work.
fn leftovers(site: &Site) -> Vec<PathBuf> {
    let is_leftover = |path: &PathBuf| {
        let path = path.to_string_lossy();
        path.contains("/.pgark-tmp-") && !path.contains("/wal/")
            || path.contains("/session/")
            || path.ends_with(".lock")
    };
    files(site.scratch.path()).into_iter().filter(is_leftover).collect()
}

#[track_caller]
fn assert_terminated(site: &Site, child: Child, name: &str) {
    let (status, said) = end(child);
    assert_eq!(status.code(), Some(63), "{status} {said}");
    assert!(said.contains(&format!("command end: terminated on signal [SIG{name}]")), "{said}");
    assert!(!said.contains("ERROR"), "{said}");
    assert_eq!(leftovers(site), Vec::<PathBuf>::new());
}

/// Everything that the next backup needs is free.
#[track_caller]
fn assert_next_backup_works(site: &Site) -> Finished {
    // The server may take a moment to notice that the connection of the one before is gone.
    wait_for_some("a backup after the signal", || {
        let finished = site.pgark(&["--type=full", "backup"]);
        (finished.code() == Some(0)).then_some(finished)
    })
}

const BACKUP: [&str; 3] = ["--type=full", "--log-level-console=info", "backup"];

#[test]
fn a_backup_that_copies_ends_and_leaves_nothing() {
    let site = Site::builder(&Server::get(17)).passphrase("first").start();
    site.cluster.pgbench_init(20);
    for name in ["TERM", "INT", "HUP"] {
        let child = begin(&site, &[&["--compress-level=9", "--process-max=2"], &BACKUP[..]].concat());
        let pack = site.repository().join("stanza/demo/pack");
        let copies = || files(&pack).iter().any(|path| path.to_string_lossy().contains("/.pgark-tmp-"));
        wait_until("the backup to write a pack", copies);
        signal(&child, name);
        assert_terminated(&site, child, name);
    }
    let info = site.pgark(&["info"]).expect_success();
    assert!(info.stdout.contains("no valid backups"), "{}", info.report());
    assert_next_backup_works(&site);
}

#[test]
fn a_backup_that_waits_for_a_checkpoint_ends() {
    let server = Server::get(18);
    let site = Site::builder(&server)
        .setting("checkpoint_timeout", "1h")
        .setting("checkpoint_completion_target", "0.99")
        .start();
    site.cluster.pgbench_init(5);
    let child = begin(&site, &[&["--no-start-fast"], &BACKUP[..]].concat());
    site.cluster.wait_for_sql(
        "select count(*) from pg_stat_activity where application_name = 'pgark [backup]' and query ~ 'pg_backup_start' \
         and wait_event = 'CheckpointDone'",
        "1",
    );
    signal(&child, "TERM");
    assert_terminated(&site, child, "TERM");
    assert_next_backup_works(&site);
}

#[test]
fn a_backup_that_waits_for_its_wal_ends() {
    let site = Site::start(&Server::get(17));
    let archive_command = site.archive_command();
    site.cluster.configure("archive_command", "false archive-push");
    site.cluster.reload();
    let log = site.scratch.path().join("log/demo-backup.log");
    let child = begin(&site, &[&["--archive-timeout=10m"], &BACKUP[..]].concat());
    wait_until("the backup to wait", || {
        fs::read_to_string(&log).is_ok_and(|log| log.contains("check archive for segment(s)"))
    });
    signal(&child, "TERM");
    assert_terminated(&site, child, "TERM");
    site.cluster.configure("archive_command", &archive_command);
    site.cluster.reload();
    assert_next_backup_works(&site);
}

#[test]
fn a_restore_that_was_ended_can_not_be_started_and_can_go_on() {
    let server = Server::get(17);
    let site = Site::start(&server);
    site.cluster.pgbench_init(20);
    site.backup(&[]);
    let directory = site.scratch.path().join("restored");
    let path = format!("--pg1-path={}", directory.display());
    let restore = ["--type=immediate", "--recovery-option=archive_mode=off", "restore"];
    let child = begin(&site, &[&[path.as_str(), "--log-level-console=info"], &restore[..]].concat());
    wait_until("the restore to write files", || directory.join("base").exists());
    signal(&child, "TERM");
    assert_terminated(&site, child, "TERM");
    assert!(!directory.join("global/pg_control").exists(), "the cluster could be started");
    site.pgark(&[&[path.as_str(), "--delta"], &restore[..]].concat()).expect_success();
    let mut restored = Cluster::adopt(&server, &directory);
    restored.start();
    assert_eq!(restored.sql("select count(*) from pgbench_accounts"), "2000000");
}

/// Whoever starts a backup with nohup does not want it to end with the terminal.
#[test]
fn a_signal_that_is_ignored_stays_ignored() {
    let site = Site::start(&Server::get(17));
    site.cluster.configure("archive_command", "false archive-push");
    site.cluster.reload();
    let stanza = format!("--stanza={STANZA}");
    let program = site.command(&[&[stanza.as_str(), "--archive-timeout=10m"], &BACKUP[..]].concat());
    let words: Vec<_> = std::iter::once(program.get_program()).chain(program.get_args()).collect();
    let line: Vec<_> = words.iter().map(|word| format!("'{}'", word.display())).collect();
    let mut shell = std::process::Command::new("bash");
    shell.args(["-c", &format!("trap '' HUP; exec {}", line.join(" "))]).stdout(Stdio::piped());
    let mut child = pgark_testkit::as_test_user(&mut shell).spawn().expect("the shell starts");
    wait_until("the backup to be at work", || !site.objects("/session/").is_empty());
    signal(&child, "HUP");
    let log = site.scratch.path().join("log/demo-backup.log");
    wait_until("the backup to go on", || {
        fs::read_to_string(&log).is_ok_and(|log| log.contains("check archive for segment(s)"))
    });
    assert!(child.try_wait().expect("the child can be asked").is_none(), "the backup has ended");
    signal(&child, "TERM");
    assert_terminated(&site, child, "TERM");
}
