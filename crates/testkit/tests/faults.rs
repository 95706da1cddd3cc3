//! Faults do harm, and the helpers around them clean up.

use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use fs_err as fs;
use pgark_testkit::{Program, Scratch, as_test_user, faults, run, run_with_input};

#[test]
fn bytes_are_flipped_and_cut_off() {
    let scratch = Scratch::new();
    let file = scratch.write("file", [0x0f; 4]);
    faults::flip_byte(&file, 2);
    assert_eq!(fs::read(&file).unwrap(), [0x0f, 0x0f, 0xf0, 0x0f]);
    faults::truncate(&file, 3);
    assert_eq!(fs::read(&file).unwrap(), [0x0f, 0x0f, 0xf0]);
}

#[test]
fn a_program_can_be_kept_from_a_file_for_a_while() {
    let scratch = Scratch::new();
    let file = scratch.write("file", "content");
    let read = || run(as_test_user(Command::new("cat").arg(&file)));
    let changed = faults::set_mode(&file, 0o000);
    read().expect_code(1);
    drop(changed);
    assert_eq!(read().expect_success().stdout, "content");
}

#[test]
fn a_small_file_system_runs_full() {
    let small = faults::SmallFileSystem::new(1);
    let file = small.path().join("file");
    let finished = run_with_input(as_test_user(Command::new("tee").arg(&file)), &vec![7; 2 << 20]);
    if small.is_limited() {
        assert!(finished.code() == Some(1) && finished.stderr.contains("No space left"), "{}", finished.stderr);
        assert!(fs::metadata(&file).unwrap().len() < 2 << 20);
    } else {
        finished.expect_success();
    }
}

#[test]
fn a_program_in_a_private_directory_can_be_run() {
    let private = Scratch::new();
    let directory = private.directory("private");
    let built = directory.join("whoami");
    fs::copy("/usr/bin/id", &built).unwrap();
    fs::set_permissions(&directory, PermissionsExt::from_mode(0o700)).unwrap();
    fs_err::os::unix::fs::chown(&directory, Some(rustix::process::geteuid().as_raw()), None).unwrap();
    let program = Program::new(&built);
    let user = run(program.command().arg("--user")).expect_success().stdout;
    assert_ne!(user.trim(), "0");
}

#[test]
fn what_a_developer_has_set_does_not_reach_a_program() {
    let mut command = Command::new("env");
    command.env("PGHOST", "given");
    let seen = run(as_test_user(&mut command)).expect_success().stdout;
    let of_postgres: Vec<&str> = seen.lines().filter(|line| line.starts_with("PG")).collect();
    assert_eq!(of_postgres, ["PGHOST=given"]);
    assert!(seen.lines().any(|line| line == "HOME=/"), "{seen}");
}

#[test]
fn a_scratch_directory_goes_with_its_value() {
    let scratch = Scratch::new();
    let path = scratch.path().to_owned();
    scratch.write("file", "content");
    scratch.directory("directory");
    drop(scratch);
    assert!(!path.exists());
}

#[test]
#[should_panic(expected = "expected exit code 0, got exit status: 3")]
fn an_unexpected_exit_is_shown() {
    run(Command::new("sh").args(["-c", "exit 3"])).expect_success();
}
