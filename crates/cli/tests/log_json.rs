//! The log as JSON: whatever a command comes to, each line is one object.

mod common;

use fs_err as fs;
use pgark_testkit::{Finished, Server};
use serde_json::Value;

use crate::common::{Site, text};

/// The members that each line has, in this order.
const MEMBERS: [&str; 9] = ["timestamp", "pid", "process", "level", "command", "stanza", "code", "message", "hints"];

/// The lines of a log, each of which must be an object with the members that all have.
#[track_caller]
fn parsed(lines: &str) -> Vec<Value> {
    let parse = |line: &str| {
        let value: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        let object = value.as_object().unwrap_or_else(|| panic!("no object: {line}"));
        assert_eq!(object.len(), MEMBERS.len(), "{line}");
        for member in MEMBERS {
            assert!(object.contains_key(member), "no {member}: {line}");
        }
        assert!(value["hints"].is_array() && value["message"].is_string() && value["pid"].is_u64(), "{line}");
        let process = value["process"].as_str().expect("the process is text");
        assert!(process.len() == 3 && process.starts_with('P'), "{line}");
        value
    };
    lines.lines().map(parse).collect()
}

fn with_message<'lines>(lines: &'lines [Value], part: &str) -> &'lines Value {
    let has = |line: &&Value| line["message"].as_str().is_some_and(|message| message.contains(part));
    lines.iter().find(has).unwrap_or_else(|| panic!("no '{part}' in {lines:?}"))
}

#[test]
fn every_line_of_every_command_is_an_object() {
    let site =
        Site::builder(&Server::get(17)).passphrase("hush-hush").global("log-format=json\nprogress=n\nbogus=1").create();
    site.reconfigure("log-timestamp=n", "log-timestamp=y");
    let mut site = site;
    site.cluster.start();
    let run = |arguments: &[&str]| -> Finished {
        site.pgark(&[&["--log-level-console=trace", "--log-level-file=trace"], arguments].concat())
    };
    let created = parsed(&run(&["stanza-create"]).expect_success().stdout);
    assert_eq!(with_message(&created, "command begin")["command"], "stanza-create");
    assert_eq!(with_message(&created, "bogus")["level"], "warn");
    let backup = run(&["--type=full", "--process-max=2", "backup"]).expect_success();
    let lines = parsed(&backup.stdout);
    assert_eq!(with_message(&lines, "new backup label = ")["command"], "backup");
    assert_eq!(with_message(&lines, "new backup label = ")["level"], "info");
    assert_eq!(with_message(&lines, "expire command begin")["command"], "expire");
    assert_eq!(with_message(&lines, "backup file 'PG_VERSION'")["level"], "detail");
    let log = site.scratch.path().join("log");
    assert_eq!(parsed(&fs::read_to_string(log.join("demo-backup.log")).unwrap()), lines, "console and file differ");
    for command in ["check", "verify", "expire"] {
        assert!(!parsed(&run(&[command]).expect_success().stdout).is_empty(), "{command}");
    }
    // Whatever they come to.
    let segment = "0000000100000000000000FF";
    for arguments in [
        &["--set=20200101-000000F", "--annotation=a=b", "annotate"][..],
        &["--schedule-expire=* * * * *", "--once", "agent"],
        &["archive-get", segment, text(&log)],
        &["archive-push", "/nowhere/000000010000000000000001"],
        &["stanza-upgrade"],
        &["stanza-delete"],
        &["stop"],
        &["--type=incr", "backup"],
        &["start"],
    ] {
        let finished = run(arguments);
        assert!(!parsed(&finished.stdout).is_empty() && finished.stderr.is_empty(), "{}", finished.report());
    }
    // Several lines in one message, and hints.
    let restored = site.scratch.path().join("restored");
    let path = format!("--pg1-path={}", text(&restored));
    let restore = [&path, "--recovery-option=archive_mode=off", "restore"];
    let lines = parsed(&run(&restore).expect_success().stdout);
    assert_eq!(with_message(&lines, "restore backup set")["stanza"], "demo");
    let refused = run(&restore).expect_code(40);
    let lines = parsed(&refused.stdout);
    let error = lines.iter().find(|line| line["level"] == "error").unwrap_or_else(|| panic!("{}", refused.report()));
    assert_eq!(error["code"], 40, "{error}");
    assert!(!error["hints"].as_array().unwrap().is_empty() && !error["message"].as_str().unwrap().starts_with('['));
    assert!(with_message(&lines, "aborted with exception [040]")["hints"].as_array().unwrap().is_empty());
    // Data on standard output stays data.
    let info = site.pgark(&["--log-level-console=off", "--output=json", "info"]).expect_success();
    let info: Value = serde_json::from_str(&info.stdout).unwrap();
    assert!(info.is_array());
    for file in fs::read_dir(&log).unwrap() {
        let text = fs::read_to_string(file.unwrap().path()).unwrap();
        assert!(!text.contains("hush-hush"), "{text}");
        parsed(&text);
    }
}

#[test]
fn what_can_not_be_understood_is_an_object_too() {
    let site = Site::builder(&Server::get(17)).create();
    for (argument, code) in [("--no-such-option", 31), ("no-such-command", 48)] {
        let refused = site.pgark(&["--log-format=json", argument]).expect_code(code);
        let [line] = &parsed(&refused.stderr)[..] else { panic!("{}", refused.report()) };
        assert_eq!((&line["level"], &line["code"]), (&Value::from("error"), &Value::from(code)), "{line}");
    }
    let text = site.pgark(&["--no-such-option", "backup"]).expect_code(31);
    assert!(text.stderr.starts_with("ERROR: [031]: "), "{}", text.report());
    let wrong = site.pgark(&["--log-format=xml", "check"]).expect_code(32);
    assert!(wrong.stderr.contains("log-format"), "{}", wrong.report());
    // Lines on standard error have all members too.
    let failed = site.pgark(&["--log-format=json", "--log-timestamp", "--log-level-stderr=info", "backup"]);
    assert_ne!(failed.code(), Some(0));
    assert_eq!(failed.stdout, "");
    let lines = parsed(&failed.stderr);
    assert_eq!(with_message(&lines, "backup command begin")["process"], "P00");
}
