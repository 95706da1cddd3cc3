//! What is refused, and in which words.

use crate::machine::{Machine, shown};

#[test]
fn command_lines_that_are_refused() {
    let lines = [
        "bogus",
        "archive",
        "--stanza=demo",
        "backup --version",
        "backup",
        "backup --stanza=demo",
        "backup --stanza=demo --pg2-path=/pg",
        "backup --stanza=demo --pg1-path=/pg --pg2-port=5433",
        "backup --bogus",
        "backup --bogus=1",
        "backup -x",
        "backup --st=demo",
        "backup --stanza",
        "backup extra",
        "archive-push --stanza=demo",
        "archive-get --stanza=demo 000000010000000000000001",
        "archive-get --stanza=demo a b c",
        "check --repo=1",
        "version --config=/x",
        "help --config=/x",
        "repo-ls --lock-path=/x",
        "info --start-fast",
        "info --repo=5",
        "info --stanza=a/b",
        "info --stanza=global",
        "info --repo1-path=/x --repo2-path=/x",
        "info --repo1-type=s3 --repo1-s3-bucket=b --repo1-s3-endpoint=e --repo1-s3-region=r --repo1-path=/x \
         --repo2-type=s3 --repo2-s3-bucket=b --repo2-s3-endpoint=e --repo2-s3-region=r --repo2-path=/x",
        "info --repo1-s3-bucket=b",
        "info --repo1-type=s3 --repo1-s3-bucket=b --repo1-s3-endpoint=e",
        "info --set=20261122-120000F",
        "info --online=maybe",
        "info --lock-path=relative",
        "backup --no-stanza",
        "backup --no-online=y",
        "backup --reset-stanza",
        "backup --online --no-online",
        "backup --no-online --no-online",
        "backup --online --online",
        "backup --process-max=1 --process-max=2",
        "backup --process-max=1 --reset-process-max",
        "backup --reset-process-max --reset-process-max",
        "backup --start-fast --reset-start-fast",
        "backup --no-start-fast --reset-start-fast",
        "backup --stanza=demo --pg1-path=/pg --type=xyz",
        "backup --stanza=demo --pg1-path=/pg --annotation=x",
        "backup --stanza=demo --pg1-path=/pg --compress-type=gz --compress-level=12",
        "backup --stanza=demo --pg1-path=/pg --compress-type=none --compress-level=3",
        "backup --stanza=demo --pg1-path=/pg --compress-level=23",
        "backup --stanza=demo --pg1-path=/pg --process-max=0",
        "backup --stanza=demo --pg1-path=/pg --db-timeout=8d",
        "restore --stanza=demo --pg1-path=/pg --type=time",
        "restore --stanza=demo --pg1-path=/pg --target=x",
        "restore --stanza=demo --pg1-path=/pg --type=immediate --target-exclusive",
        "help bogus",
        "help backup bogus",
        "help backup start-fast type",
        "help archive-push start-fast",
    ];
    let machine = Machine::default();
    let refused: Vec<_> = lines.map(|line| format!("> {line}\n{}\n", shown(&machine.error(line)))).into();
    insta::assert_snapshot!(refused.join("\n"));
}

#[test]
fn what_is_not_available_yet() {
    let lines = [
        "server",
        "serv --tls-server-port=1",
        "server-ping",
        "backup --stanza=demo --pg1-path=/pg --archive-copy",
        "restore --stanza=demo --pg1-path=/pg --repo-target-time=2026-11-22",
        "info --repo1-type=azure",
        "info --repo1-host=backup",
        "archive-push --stanza=demo --tls-cipher-12=any x",
        "backup --stanza=demo --pg1-path=/pg --no-archive-copy",
    ];
    let machine = Machine::default();
    let refused: Vec<_> = lines.map(|line| format!("> {line}\n{}\n", shown(&machine.error(line)))).into();
    insta::assert_snapshot!(refused.join("\n"));
}

/// What is odd in a file is told also where the command can't run, for it may be the reason.
#[test]
fn an_option_in_the_wrong_place_is_named_where_it_is_missed() {
    let machine =
        Machine::default().file("/etc/pgark/pgark.conf", "[global]\npg1-path=/pg\nrepo1-pth=/x\n[demo]\npg1-port=1\n");
    insta::assert_snapshot!(shown(&machine.error("backup --stanza=demo")), @r"
    OptionRequired: backup command requires option: pg1-path
      hint: does this stanza exist?
      hint: configuration file contains invalid option 'repo1-pth'
      hint: configuration file contains stanza-only option 'pg1-path' in global section 'global'
    ");
}
