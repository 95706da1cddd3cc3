//! How a command line is read.

use pgark_config::{Command, HelpTopic, Invocation, VersionFormat, option};

use crate::machine::Machine;

#[test]
fn options_stand_before_and_after_the_command() {
    let configuration =
        Machine::default().run("--stanza=demo backup --pg1-path /pg --start-fast --no-online --process-max=4");
    assert_eq!(configuration.command(), Command::Backup);
    assert_eq!(configuration.text(&option::STANZA), "demo");
    assert_eq!(configuration.path(option::PG_PATH.at(1)).to_str(), Some("/pg"));
    assert!(configuration.boolean(&option::START_FAST));
    assert!(!configuration.boolean(&option::ONLINE));
    assert_eq!(configuration.integer(&option::PROCESS_MAX), 4);
}

#[test]
fn commands_and_options_can_be_shortened() {
    let configuration = Machine::default().run("archive-pu --stan=demo pg_wal/000000010000000000000001");
    assert_eq!(configuration.command(), Command::ArchivePush);
    assert_eq!(configuration.text(&option::STANZA), "demo");
    assert_eq!(configuration.parameters(), ["pg_wal/000000010000000000000001"]);
}

#[test]
fn a_value_is_the_next_word_whatever_it_looks_like() {
    let configuration = Machine::default().run("backup --stanza=demo --pg1-path=/pg --exclude --online --exclude=a=b");
    assert_eq!(configuration.list(&option::EXCLUDE), ["--online", "a=b"]);
}

#[test]
fn after_two_dashes_everything_is_a_parameter() {
    let configuration = Machine::default().run("archive-push --stanza=demo -- --odd");
    assert_eq!(configuration.parameters(), ["--odd"]);
}

#[test]
fn help_and_version_are_commands_and_options() {
    let load = |line: &str| Machine::default().load(line).unwrap();
    for line in ["", "help", "--help", "--help --version", "--version --help"] {
        assert!(matches!(load(line), Invocation::Help(HelpTopic::General)), "{line}");
    }
    for line in ["help backup", "backup --help", "--help backup", "help back --stanza=x", "backup --help --type=incr"] {
        assert!(matches!(load(line), Invocation::Help(HelpTopic::Command(Command::Backup))), "{line}");
    }
    for line in ["help backup type", "backup --help type"] {
        assert!(matches!(load(line), Invocation::Help(HelpTopic::Option(Command::Backup, _))), "{line}");
    }
    assert!(matches!(load("help help"), Invocation::Help(HelpTopic::Command(Command::Help))));
    assert!(matches!(load("help expire"), Invocation::Help(HelpTopic::Command(Command::Expire))));
    for line in ["version", "--version", "version --output=text"] {
        assert!(matches!(load(line), Invocation::Version(VersionFormat::Text)), "{line}");
    }
    assert!(matches!(load("version --output=num"), Invocation::Version(VersionFormat::Number)));
}

#[test]
fn help_and_version_work_where_environment_and_files_are_broken() {
    let machine = Machine::default().variable("PGARK_LOCK_PATH", "").file("/etc/pgark/pgark.conf", "broken");
    assert!(machine.load("info").is_err());
    for line in ["", "help", "help backup", "version", "version --output=num"] {
        assert!(machine.load(line).is_ok(), "{line}");
    }
}

#[test]
fn a_later_option_can_be_reset() {
    let machine = Machine::default().file("/etc/pgark/pgark.conf", "[demo]\npg1-path=/pg\npg1-host=db\n");
    assert!(machine.load("restore --stanza=demo").is_err());
    let configuration = machine.run("restore --stanza=demo --reset-pg1-host");
    assert_eq!(configuration.warnings(), [] as [&str; 0]);
}

#[test]
fn the_options_of_the_command_line_can_be_handed_on() {
    let machine = Machine::default()
        .variable("PGARK_REPO1_PATH", "/variable")
        .file("/x.conf", "[global]\nlock-path=/lock\n[demo]\npg1-path=/pg\n");
    let line = "restore --config=/x.conf --stanza=demo --repo2-path=/re --no-neutral-umask --delta --type=time \
                --target=2026-11-22 --reset-log-path --repo=2 --recovery-option=a=b --log-level-con=off";
    let configuration = machine.run(line);
    assert_eq!(
        configuration.command_line_options(Command::ArchiveGet),
        [
            "--config=/x.conf",
            "--log-level-console=off",
            "--reset-log-path",
            "--no-neutral-umask",
            "--repo=2",
            "--repo2-path=/re",
            "--stanza=demo"
        ]
    );
    let without_file = Machine::default().run("restore --no-config --stanza=demo --pg1-path=/pg");
    assert_eq!(
        without_file.command_line_options(Command::ArchiveGet),
        ["--no-config", "--pg1-path=/pg", "--stanza=demo"]
    );
}
