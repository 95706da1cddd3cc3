//! How far a command is: bars on a terminal, lines elsewhere, and what the lock file tells others.

mod common;

use std::process::Stdio;

use fs_err as fs;
use pgark_testkit::s3::S3Server;
use pgark_testkit::{Finished, Server, wait_until};

use crate::common::{STANZA, Site};

/// What a bar of a backup begins with.
const BAR: &str = "repo1 backup [";

/// A site with some 40 MB.
fn filled() -> Site {
    let site = Site::start(&Server::get(17));
    site.cluster.sql("create table filler as select repeat('x', 500) from generate_series(1, 20000)");
    site
}

/// Runs the program on a pseudo-terminal; gives all that was shown there, in `stdout`. `{}` in `line` stands for the
/// program.
#[track_caller]
fn on_terminal(site: &Site, environment: &str, line: &str, arguments: &[&str]) -> Finished {
    // What has gone to the terminal is written to standard output too; the exit code is the program's.
    site.shell(&format!("{environment} script --quiet --return --command \"{line}\" /dev/null"), arguments)
}

/// The lines of the log among what a terminal has shown. None of them may be torn by a bar.
#[track_caller]
fn log_lines(finished: &Finished) -> Vec<&str> {
    let mut lines = Vec::new();
    for line in finished.stdout.lines() {
        // A bar is cleared before a line of the log takes its place.
        let Some(at) = line.find("P00 ") else { continue };
        let (before, log) = line.split_at(at);
        let is_cleared = before.is_empty() || before.ends_with("\x1b[2K") || before.ends_with('\r');
        assert!(is_cleared, "{line:?} in {}", finished.report());
        assert!(!log.contains(BAR), "{}", finished.report());
        lines.push(log.trim_end());
    }
    lines
}

#[test]
fn a_bar_shows_on_a_terminal_alone_and_tears_no_line() {
    let site = filled();
    let arguments = ["--type=full", "--io-limit=16MiB", "--log-level-console=info", "backup"];
    let shown = on_terminal(&site, "TERM=xterm", "{}", &arguments).expect_success();
    assert!(shown.stdout.contains(BAR) && shown.stdout.contains("%), "), "{}", shown.report());
    assert!(shown.stdout.contains("/s, ") && shown.stdout.contains("s left"), "{}", shown.report());
    let lines = log_lines(&shown);
    let has = |part: &str| lines.iter().any(|line| line.starts_with("P00   INFO: ") && line.contains(part));
    assert!(has("backup start archive = ") && has("new backup label = "), "{}", shown.report());
    assert!(has("expire command end: completed successfully"), "{}", shown.report());
    assert!(!shown.stdout.contains("backup progress: "), "{}", shown.report());
    // Nothing of it is left below the last line.
    let end = shown.stdout.rsplit("completed successfully").next().unwrap();
    assert!(!end.contains("repo1"), "{}", shown.report());

    let hidden = on_terminal(&site, "TERM=xterm", "{}", &[&["--no-progress"], &arguments[..]].concat());
    assert!(!hidden.expect_success().stdout.contains("repo1 backup"));
    let dumb = on_terminal(&site, "TERM=dumb", "{}", &arguments);
    assert!(!dumb.expect_success().stdout.contains("repo1 backup"));
    let file = site.scratch.directory("errors").join("stderr");
    let elsewhere = on_terminal(&site, "TERM=xterm", &format!("{{}} 2>{}", file.display()), &arguments);
    assert!(!elsewhere.expect_success().stdout.contains("repo1 backup"));
    assert_eq!(fs::read_to_string(file).unwrap(), "");
}

/// A site with so many repositories in a bucket.
fn in_bucket(s3: &S3Server, repositories: usize) -> Site {
    let credentials = s3.credentials();
    let mut builder = Site::builder(&Server::get(17)).repositories(repositories);
    for repo in (1..=repositories).map(|key| format!("repo{key}")) {
        builder = builder
            .global(&format!("{repo}-type=s3\n{repo}-s3-uri-style=path"))
            .global(&format!("{repo}-s3-bucket={}\n{repo}-s3-region={}", S3Server::BUCKET, s3.region()))
            .global(&format!("{repo}-s3-endpoint={}", s3.url()))
            .global(&format!("{repo}-s3-key={}\n{repo}-s3-key-secret={}", credentials.access_key, credentials.secret));
    }
    builder.start()
}

/// Would lose: seeing that a verify of several repositories gets on, and with which of them.
#[test]
fn each_repository_that_is_verified_has_its_bar() {
    let s3 = S3Server::start();
    let site = in_bucket(&s3, 2);
    site.backup(&["--repo=1"]);
    site.backup(&["--repo=2"]);
    let arguments = ["--network-limit=2MiB", "--log-level-console=info", "verify"];
    let shown = on_terminal(&site, "TERM=xterm", "{}", &arguments).expect_success();
    for bar in ["repo1 verify [", "repo2 verify ["] {
        assert!(shown.stdout.contains(bar), "{bar}: {}", shown.report());
    }
    assert!(log_lines(&shown).iter().any(|line| line.contains("repo2: 1 backups need ")), "{}", shown.report());
}

/// Would lose: seeing on the page of the agent how far a verify is; and backups, if a verify kept them off for that.
#[test]
fn a_verify_tells_in_its_lock_file_and_keeps_nobody_off() {
    let s3 = S3Server::start();
    let site = in_bucket(&s3, 1);
    site.backup(&[]);
    let stanza = format!("--stanza={STANZA}");
    let mut verify = site.command(&[&stanza, "--network-limit=256KiB", "verify"]);
    let mut verifying = verify.stdout(Stdio::null()).spawn().unwrap();
    let file = site.scratch.path().join(format!("lock/{STANZA}-verify-1.lock"));
    wait_until("the lock file to tell how far the verify is", || {
        let told: Option<serde_json::Value> = fs::read(&file).ok().and_then(|told| serde_json::from_slice(&told).ok());
        told.is_some_and(|told| told["cmd"] == "verify" && told["szCplt"].as_u64() > Some(0))
    });
    site.pgark(&["--quick", "verify"]).expect_success();
    site.pgark(&["backup"]).expect_success();
    assert_eq!(verifying.try_wait().unwrap(), None, "it is at work still");
    site.pgark(&["--force", "stop"]).expect_success();
    assert_eq!(verifying.wait().unwrap().code(), Some(63));
    site.pgark(&["start"]).expect_success();
    // Nor is it a failure where no lock file can be written.
    site.pgark(&["--lock-path=/proc/none", "verify"]).expect_success();
}

#[test]
fn what_matters_has_colours_on_a_terminal_alone() {
    let site = Site::start(&Server::get(17));
    let show = |environment: &str, arguments: &[&str]| {
        let arguments = [&["--repo1-path=/nowhere"], arguments, &["backup"]].concat();
        on_terminal(&site, environment, "{}", &arguments).expect_code(73).stdout
    };
    let error = "P00  \x1b[31mERROR\x1b[0m: [073]: ";
    assert!(show("TERM=xterm", &[]).contains(error));
    assert!(show("TERM=xterm NO_COLOR=", &[]).contains(error));
    let stderr = ["--log-level-stderr=error"];
    assert!(show("TERM=xterm", &stderr).contains("\x1b[31mERROR\x1b[0m: [073]: "));
    for environment in ["TERM=xterm NO_COLOR=1", "TERM=dumb"] {
        for arguments in [&[][..], &stderr] {
            let shown = show(environment, arguments);
            assert!(shown.contains("ERROR: [073]: ") && !shown.contains('\x1b'), "{environment}: {shown}");
        }
    }
    let elsewhere = site.pgark(&["--repo1-path=/nowhere", "backup"]).expect_code(73);
    assert!(elsewhere.stdout.contains("P00  ERROR: [073]: "), "{}", elsewhere.report());
}

/// Would lose: knowing whether a restore that takes hours is getting anywhere.
#[test]
fn a_restore_tells_every_ten_seconds_and_in_its_lock_file() {
    let site = filled();
    let label = site.backup(&[]);
    let info = site.pgark(&["--output=json", &format!("--set={label}"), "info"]).expect_success();
    let info: serde_json::Value = serde_json::from_str(&info.stdout).unwrap();
    let size = info[0]["backup"][0]["info"]["size"].as_u64().unwrap();
    let stanza = format!("--stanza={STANZA}");
    let (path, limit) =
        (format!("--pg1-path={}", site.scratch.path().join("restored").display()), format!("--io-limit={}", size / 13));
    let arguments =
        [&stanza, &path, &limit, "--log-level-console=info", "--recovery-option=archive_mode=off", "restore"];
    let restoring = site.command(&arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    wait_until("info to show how far the restore is", || {
        let info = site.pgark(&["info"]).expect_success().stdout;
        info.contains("restore running - ") && info.contains("% complete")
    });
    let ended = restoring.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&ended.stdout);
    assert!(ended.status.success() && ended.stderr.is_empty(), "{text}");
    let told: Vec<_> = text.lines().filter(|line| line.contains(" progress: ")).collect();
    let [first, ..] = told[..] else { panic!("nothing is told: {text}") };
    assert!(first.starts_with("P00   INFO: repo1: restore progress: "), "{first}");
    for part in ["MB of ", "%), ", "/s, ", "s left"] {
        assert!(first.contains(part), "{first}");
    }
    // What takes no time has nothing to tell.
    let quick = site.pgark(&["--log-level-console=info", "verify"]).expect_success();
    assert!(quick.elapsed.as_secs() >= 10 || !quick.stdout.contains(" progress: "), "{}", quick.report());
}
