//! Which of several sources wins.

use pgark_config::{Source, option};

use crate::machine::{Machine, shown};

const FILE: &str = "/etc/pgark/pgark.conf";

/// The value of process-max with the first `count` of all sources taken away.
fn without(count: usize) -> (i64, Source) {
    let sections = [
        "[demo:backup]\nprocess-max=4",
        "[demo]\nprocess-max=5",
        "[global:backup]\nprocess-max=6",
        "[global]\nprocess-max=7",
    ];
    let mut machine = Machine::default();
    if count < 2 {
        machine = machine.variable("PGARK_PROCESS_MAX", "2");
    }
    if count < 3 {
        machine = machine.variable("PGBACKREST_PROCESS_MAX", "3");
    }
    let text: Vec<_> = sections.iter().skip(count.saturating_sub(3)).copied().collect();
    machine = machine.file(FILE, &format!("{}\n[demo]\npg1-path=/pg\n", text.join("\n")));
    let line = if count < 1 { "backup --stanza=demo --process-max=1" } else { "backup --stanza=demo" };
    let configuration = machine.run(line);
    (configuration.integer(&option::PROCESS_MAX), configuration.source(&option::PROCESS_MAX).clone())
}

#[test]
fn the_first_source_in_the_order_of_precedence_wins() {
    let file = |section: &str| Source::File { path: FILE.into(), line: 2, section: section.into() };
    let variable = |name: &str| Source::Environment { variable: name.into() };
    assert_eq!(without(0), (1, Source::CommandLine));
    assert_eq!(without(1), (2, variable("PGARK_PROCESS_MAX")));
    assert_eq!(without(2), (3, variable("PGBACKREST_PROCESS_MAX")));
    assert_eq!(without(3), (4, file("demo:backup")));
    assert_eq!(without(4), (5, file("demo")));
    assert_eq!(without(5), (6, file("global:backup")));
    assert_eq!(without(6), (7, file("global")));
    assert_eq!(without(7), (1, Source::Default));
}

#[test]
fn a_variable_of_ours_hides_only_the_same_option_of_the_others() {
    let machine = Machine::default()
        .variable("PGARK_REPO1_PATH", "/ours")
        .variable("PGBACKREST_REPO1_PATH", "/theirs")
        .variable("PGBACKREST_STANZA", "demo")
        .variable("PGBACKREST_PG1_PATH", "/pg");
    let configuration = machine.run("restore");
    assert_eq!(configuration.path(option::REPO_PATH.at(1)).to_str(), Some("/ours"));
    assert_eq!(configuration.text(&option::STANZA), "demo");
    assert_eq!(configuration.path(option::PG_PATH.at(1)).to_str(), Some("/pg"));
    assert_eq!(configuration.warnings(), [] as [&str; 0]);
}

#[test]
fn an_old_name_in_one_source_gives_way_to_the_new_one_in_another() {
    let machine = Machine::default()
        .variable("PGARK_REPO_PATH", "/old-name")
        .variable("PGBACKREST_REPO1_PATH", "/new-name")
        .file(FILE, "[demo]\ndb-path=/pg\n[global]\nrepo1-path=/file\n");
    let configuration = machine.run("restore --stanza=demo");
    assert_eq!(configuration.path(option::REPO_PATH.at(1)).to_str(), Some("/old-name"));
    assert_eq!(configuration.path(option::PG_PATH.at(1)).to_str(), Some("/pg"));
}

#[test]
fn a_reset_takes_the_default_whatever_files_and_environment_say() {
    let machine = Machine::default()
        .variable("PGARK_LOCK_PATH", "/variable")
        .file(FILE, "[demo]\npg1-path=/pg\n[global]\nrepo1-path=/file\nlock-path=/file\n");
    let configuration = machine.run("restore --stanza=demo --reset-repo1-path --reset-lock-path");
    assert_eq!(configuration.path(option::REPO_PATH.at(1)).to_str(), Some("/var/lib/pgark"));
    assert_eq!(configuration.path(&option::LOCK_PATH).to_str(), Some("/tmp/pgark"));
    assert!(!configuration.is_set(&option::LOCK_PATH));
}

#[test]
fn what_another_command_takes_is_passed_over() {
    let machine = Machine::default()
        .variable("PGBACKREST_START_FAST", "y")
        .file(FILE, "[global]\nstart-fast=y\nrepo1-retention-full=2\ntarget-action=promote\n[demo]\npg1-path=/pg\n");
    let configuration = machine.run("archive-push --stanza=demo x");
    assert_eq!(configuration.warnings(), ["configuration file contains command-line only option 'target-action'"]);
}

#[test]
fn what_is_unknown_or_out_of_place_is_warned_about_once() {
    let machine = Machine::default().variable("PGARK_BOGUS", "1").variable("PGARK_NO_ONLINE", "y").file(
        FILE,
        "[global]\nbogus=1\nno-start-fast=y\nreset-lock-path=y\npg1-path=/pg\nstanza=other\n\
         [global:backup]\nbogus=2\narchive-copy=y\nrecovery-option=a=b\n\
         [demo]\npg1-path=/pg\n\
         [other]\nnonsense=1\n",
    );
    insta::assert_snapshot!(machine.run("backup --stanza=demo").warnings().join("\n"), @r"
    environment contains invalid option 'bogus'
    environment contains invalid negate option 'no-online'
    configuration file contains invalid option 'bogus'
    configuration file contains option 'recovery-option' invalid for section 'global:backup'
    configuration file contains invalid negate option 'no-start-fast'
    configuration file contains invalid reset option 'reset-lock-path'
    configuration file contains stanza-only option 'pg1-path' in global section 'global'
    configuration file contains command-line only option 'stanza'
    options not available yet are ignored: archive-copy
    ");
}

#[test]
fn two_spellings_of_one_option_in_one_place_are_an_error() {
    let file = Machine::default().file(FILE, "[demo]\ndb-path=/a\npg1-path=/b\n");
    insta::assert_snapshot!(shown(&file.error("restore --stanza=demo")), @r"
    OptionInvalid: configuration file contains duplicate options ('pg1-path', 'db-path') in section '[demo]'
      hint: it is set in section [demo] of '/etc/pgark/pgark.conf', line 3
    ");
    let environment = Machine::default()
        .variable("PGARK_REPO_PATH", "/a")
        .variable("PGARK_REPO1_PATH", "/b")
        .variable("PGARK_STANZA", "x");
    insta::assert_snapshot!(shown(&environment.error("info")), @"OptionInvalid: environment contains duplicate options ('repo1-path', 'repo-path')");
    insta::assert_snapshot!(shown(&Machine::default().error("info --repo-path=/a --repo1-path=/b")), @"OptionInvalid: option 'repo1-path' cannot be set multiple times");
}

#[test]
fn a_list_in_the_environment_is_parted_by_colons() {
    let machine = Machine::default()
        .variable("PGARK_EXCLUDE", "a:b/:c")
        .variable("PGARK_ANNOTATION", "k=v:why=because")
        .variable("PGARK_PG1_PATH", "/pg");
    let configuration = machine.run("backup --stanza=demo");
    assert_eq!(configuration.list(&option::EXCLUDE), ["a", "b/", "c"]);
    let pairs = [("k", "v"), ("why", "because")].map(|(key, value)| (key.to_owned(), value.to_owned()));
    assert_eq!(configuration.map(&option::ANNOTATION), pairs);
}

#[test]
fn a_key_that_comes_again_adds_to_a_list_only() {
    let machine =
        |line: &str| Machine::default().file(FILE, &format!("[demo]\npg1-path=/pg\nexclude=a\nexclude=b\n{line}\n"));
    assert_eq!(machine("").run("backup --stanza=demo").list(&option::EXCLUDE), ["a", "b"]);
    insta::assert_snapshot!(shown(&machine("process-max=1\nprocess-max=2").error("backup --stanza=demo")), @r"
    OptionInvalid: option 'process-max' cannot be set multiple times
      hint: it is set in section [demo] of '/etc/pgark/pgark.conf', line 6
    ");
}

#[test]
fn a_wrong_value_in_a_file_or_the_environment_is_traced() {
    let file = Machine::default().file(FILE, "[global]\nlog-level-file=loud\n");
    insta::assert_snapshot!(shown(&file.error("info")), @r"
    OptionInvalidValue: 'loud' is not allowed for 'log-level-file' option
      hint: allowed values are 'off', 'error', 'warn', 'info', 'detail', 'debug', 'trace'
      hint: it is set in section [global] of '/etc/pgark/pgark.conf', line 2
    ");
    let environment = Machine::default().variable("PGBACKREST_IO_TIMEOUT", "2h");
    insta::assert_snapshot!(shown(&environment.error("info")), @r"
    OptionInvalidValue: '2h' is out of range for 'io-timeout' option
      hint: allowed range is 100ms to 1h inclusive
      hint: it is set by the environment variable PGBACKREST_IO_TIMEOUT
    ");
    let empty = Machine::default().variable("PGARK_LOCK_PATH", "");
    insta::assert_snapshot!(shown(&empty.error("info")), @"OptionInvalidValue: environment variable 'PGARK_LOCK_PATH' must have a value");
    let empty = Machine::default().file(FILE, "[global]\nlock-path=\n");
    insta::assert_snapshot!(shown(&empty.error("info")), @r"
    OptionInvalidValue: section 'global', key 'lock-path' must have a value
      hint: it is set in section [global] of '/etc/pgark/pgark.conf', line 2
    ");
}

/// A limit for all is meant for backups: archiving must keep up with the server.
#[test]
fn archiving_is_held_back_only_by_a_limit_of_its_own() {
    let limit_of = |text: &str, line: &str| {
        let machine = Machine::default().variable("PGARK_NETWORK_LIMIT", "9MiB").file(FILE, text);
        machine.run(&format!("{line} --stanza=demo --pg1-path=/pg")).optional_size(&option::NETWORK_LIMIT)
    };
    let for_all = "[global]\nnetwork-limit=1MiB\n[demo]\nnetwork-limit=2MiB\n[demo:backup]\nnetwork-limit=3MiB\n";
    let of_its_own =
        format!("{for_all}[global:archive-push]\nnetwork-limit=4MiB\n[demo:archive-get]\nnetwork-limit=5MiB\n");
    let bytes = |mebibytes: u64| Some(mebibytes << 20);
    assert_eq!(limit_of(for_all, "backup"), bytes(9));
    assert_eq!(limit_of(for_all, "archive-push x"), None);
    assert_eq!(limit_of(for_all, "archive-get x y"), None);
    assert_eq!(limit_of(&of_its_own, "archive-push x"), bytes(4));
    assert_eq!(limit_of(&of_its_own, "archive-get x y"), bytes(5));
    assert_eq!(limit_of(&of_its_own, "archive-push x --network-limit=6MiB"), bytes(6));
    assert_eq!(limit_of(&of_its_own, "archive-push x --reset-network-limit"), None);
}
