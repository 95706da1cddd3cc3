//! `pgark help`

mod common;

use pgark_testkit::{Program, run};

use crate::common::Transcript;

#[test]
fn help_needs_no_configuration() {
    let program = Program::new(env!("CARGO_BIN_EXE_pgark"));
    let general = run(&mut program.command()).expect_success();
    assert!(general.stdout.starts_with("pgark "), "{}", general.report());
    for arguments in [vec!["help"], vec!["--help"]] {
        assert_eq!(run(program.command().args(&arguments)).expect_success().stdout, general.stdout);
    }
    let broken = |arguments: &[&str]| {
        run(program.command().env("PGARK_CONFIG", "/nowhere").env("PGARK_LOCK_PATH", "x").args(arguments))
    };
    let mut transcript = Transcript::default();
    transcript.add("a command", 0, broken(&["help", "check"]));
    transcript.add("an option", 0, broken(&["help", "restore", "target"]));
    transcript.add("no such command", 48, broken(&["help", "bogus"]));
    transcript.add("no such option", 31, broken(&["help", "check", "bogus"]));
    assert_output!("help", transcript.text());
}

#[test]
fn what_is_no_command_is_refused() {
    let program = Program::new(env!("CARGO_BIN_EXE_pgark"));
    let mut transcript = Transcript::default();
    transcript.add("no such command", 48, run(program.command().arg("bogus")));
    transcript.add("no command", 30, run(program.command().arg("--stanza=demo")));
    transcript.add("a command of the future", 67, run(program.command().arg("server")));
    transcript.add("parameters for a command without", 96, run(program.command().args(["info", "x"])));
    assert_output!("no_command", transcript.text());
}

#[test]
fn nobody_has_to_read_to_the_end() {
    let program = Program::new(env!("CARGO_BIN_EXE_pgark"));
    let line = format!("set -o pipefail; '{}' help backup | true", program.path().display());
    let finished = run(pgark_testkit::as_test_user(std::process::Command::new("bash").args(["-c", &line])));
    assert_eq!((finished.code(), finished.stderr.as_str()), (Some(0), ""), "{}", finished.report());
}
