//! What help and version show.

use pgark_config::{Invocation, VersionFormat, help, version};

use crate::machine::Machine;

/// The help for a command line; the version, which changes with every release, is left out.
fn shown(line: &str) -> String {
    match Machine::default().load(line).expect(line) {
        Invocation::Help(topic) => help(topic).replace(env!("CARGO_PKG_VERSION"), "VERSION"),
        other => panic!("{line}: {other:?}"),
    }
}

#[test]
fn general_help() {
    insta::assert_snapshot!(shown("help"));
}

#[test]
fn help_on_a_command() {
    insta::assert_snapshot!("backup", shown("help backup"));
    insta::assert_snapshot!("archive-push", shown("help archive-push"));
    insta::assert_snapshot!("expire", shown("help expire"));
    insta::assert_snapshot!("version", shown("help version"));
}

#[test]
fn help_on_an_option() {
    let lines = [
        "help backup type",
        "help restore type",
        "help backup repo1-path",
        "help archive-push compress-type",
        "help backup repo-retention-full",
        "help backup repoN-cipher-pass",
        "help backup buffer-size",
        "help backup db-path",
        "help info io-timeout",
    ];
    let pages: Vec<_> = lines.map(|line| format!("> {line}\n{}", shown(line))).into();
    insta::assert_snapshot!(pages.join("\n"));
}

#[test]
fn no_line_is_longer_than_a_terminal_is_wide() {
    for command in pgark_config::Command::all() {
        let page = shown(&format!("help {}", command.name()));
        for line in page.lines().skip(1) {
            assert!(line.len() <= 80, "{line}");
        }
    }
}

#[test]
fn version_as_text_and_as_number() {
    assert_eq!(version(VersionFormat::Text), format!("pgark {}\n", env!("CARGO_PKG_VERSION")));
    let parts: Vec<u64> = env!("CARGO_PKG_VERSION").split('.').map(|part| part.parse().unwrap()).collect();
    let number = parts[0] * 1_000_000 + parts[1] * 1000 + parts[2];
    assert_eq!(version(VersionFormat::Number), number.to_string());
}
