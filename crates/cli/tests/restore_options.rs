//! The options of `pgark restore`: what is refused before anything is done, and what becomes of them in the settings of
//! the restored server.

mod common;

use std::process::Command;

use fs_err as fs;
use pgark_testkit::{Cluster, Program, Scratch, Server, run};

use crate::common::{Site, Transcript};

#[test]
fn targets_that_make_no_sense_are_refused() {
    let program = Program::new(env!("CARGO_BIN_EXE_pgark"));
    let scratch = Scratch::new();
    let data = format!("--pg1-path={}", scratch.directory("data").display());
    let restore = |arguments: &[&str]| {
        let mut command = program.command();
        command.env("TZ", "Europe/Berlin").args(["--no-config", "--stanza=demo", "--log-level-file=off"]);
        run(command.args(["--repo1-path=/nowhere", "--no-log-timestamp", &data]).args(arguments).arg("restore"))
    };
    let mut transcript = Transcript::default();
    for (code, arguments) in [
        (37, vec!["--type=time"]),
        (31, vec!["--target=0/3000000"]),
        (31, vec!["--target-action=promote"]),
        (31, vec!["--type=name", "--target=x", "--target-exclusive"]),
        (31, vec!["--type=immediate", "--target-timeline=2"]),
        (31, vec!["--type=standby", "--target-action=promote"]),
        (31, vec!["--type=standby", "--target=0/3000000"]),
        (31, vec!["--type=preserve", "--recovery-option=primary_conninfo=host=x"]),
        (31, vec!["--type=none", "--archive-mode=off"]),
        (31, vec!["--type=preserve", "--archive-mode=off"]),
        (31, vec!["--recovery-option=standby_mode=on"]),
        (31, vec!["--recovery-option=recovery-target-time=2026-11-22 12:00:00+00"]),
        (31, vec!["--recovery-option=port 5433"]),
        (31, vec!["--recovery-option=a b=c"]),
        (32, vec!["--archive-mode=on"]),
        (32, vec!["--type=bogus"]),
        (32, vec!["--type=time", "--target=yesterday"]),
        (32, vec!["--type=time", "--target=2026-02-30 12:00:00+00"]),
        (32, vec!["--type=time", "--target=2026-03-29 02:30:00"]),
        (32, vec!["--type=time", "--target=2026-10-25 02:30:00"]),
        (32, vec!["--type=time", "--target=2026-11-22 12:00:00.1234567+00"]),
        (32, vec!["--type=xid", "--target=0"]),
        (32, vec!["--type=xid", "--target=4294967296"]),
        (32, vec!["--type=lsn", "--target=3000000"]),
        (32, vec!["--type=name", "--target=a-name-of-a-restore-point-that-is-longer-than-postgresql-can-take"]),
        (32, vec!["--target-timeline=0"]),
        (32, vec!["--target-timeline=010"]),
        (32, vec!["--target-timeline=1A"]),
        (75, vec!["--set=yesterday"]),
        (73, vec!["--type=standby", "--target-timeline=0x1A"]),
        (73, vec!["--type=time", "--target=2026-10-25 02:30:00+01"]),
    ] {
        let finished = restore(&arguments);
        transcript.add(&arguments.join(" "), code, finished);
    }
    // Nothing differs from run to run here, and times and LSNs are what matters.
    insta::assert_snapshot!("refused", transcript.text());
}

#[test]
fn a_restored_server_finds_the_archive_whatever_paths_are_called() {
    let site = Site::start(&Server::get(18));
    let odd = site.scratch.directory("it's 100% \"odd\" $HOME");
    let program = odd.join("pg ark");
    fs::copy(site.program.path(), &program).unwrap();
    fs::rename(site.configuration_file(), odd.join("pgark.conf")).unwrap();
    site.scratch.write("pgark.conf", fs::read(odd.join("pgark.conf")).unwrap());
    site.backup(&[]);
    site.cluster.sql("create table late as select 1 n");
    site.archive_segment();

    let data = site.scratch.path().join("restored");
    let mut restore = Command::new(&program);
    pgark_testkit::as_test_user(&mut restore).current_dir(&odd);
    restore.args(["--config=pgark.conf", "--stanza", "demo", "--log-level-console=info", "--process-max=2"]);
    run(restore.arg(format!("--pg1-path={}", data.display())).arg("restore")).expect_success();
    let settings = fs::read_to_string(data.join("postgresql.auto.conf")).unwrap();
    let command = settings.lines().find(|line| line.starts_with("restore_command")).unwrap();
    assert!(command.ends_with("--stanza=demo archive-get %f \"%p\"'"), "{command}");
    assert!(command.contains("100%%") && !command.contains("process-max"), "{command}");

    // The original configuration is out of the way: the restored server has only what its command says.
    fs::remove_file(site.configuration_file()).unwrap();
    let mut restored = Cluster::adopt(site.cluster.server(), &data);
    restored.configure("archive_mode", "off");
    restored.start();
    restored.wait_for_sql("select not pg_is_in_recovery()", "t");
    assert_eq!(restored.sql("select n from late"), "1", "{}", restored.log());
}
