//! `pgark completion`: what shells make of it.

mod common;

use std::process::Command;

use pgark_testkit::{Finished, Program, Scratch, as_test_user, run};

use crate::common::Transcript;

struct Shells {
    program: Program,
    scratch: Scratch,
}

impl Shells {
    /// The script of each shell in a file, and a configuration with two stanzas.
    fn new() -> Self {
        let (program, scratch) = (Program::new(env!("CARGO_BIN_EXE_pgark")), Scratch::new());
        scratch.write(
            "pgark.conf",
            "[global]\nprocess-max=2\n[demo]\npg1-path=/pg\n[demo:backup]\nstart-fast=y\n[other]\npg1-path=/pg\n",
        );
        for shell in ["bash", "fish", "zsh"] {
            let script = run(program.command().args(["completion", shell])).expect_success();
            scratch.write(&format!("pgark.{shell}"), script.stdout);
        }
        Self { program, scratch }
    }

    /// Runs lines of a shell where `pgark` is the program under test.
    fn run(&self, shell: &str, arguments: &[&str], lines: &str) -> Finished {
        let directory = self.program.path().parent().expect("a program is in a directory");
        let path = std::env::var("PATH").unwrap_or_default();
        let mut command = Command::new(shell);
        command.args(arguments).args(["-c", lines]).env("PGARK_CONFIG", self.scratch.path().join("pgark.conf"));
        as_test_user(&mut command).current_dir(self.scratch.path()).env("HOME", self.scratch.path());
        run(command.env("PATH", format!("{}:{path}", directory.display()))).expect_success()
    }
}

/// What a shell offers for a command line, an option or a word a line.
fn lines(finished: &Finished) -> Vec<&str> {
    finished.stdout.lines().collect()
}

#[test]
fn bash_completes() {
    let shells = Shells::new();
    // Words as bash parts them. Outside of a real completion there are no options of one to set, only to show.
    let complete = |words: &str| {
        let lines = format!(
            "set -u; . ./pgark.bash; compopt() {{ echo \"compopt $*\"; }}; COMP_WORDS=({words}); \
             COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); _pgark \"${{COMP_WORDS[0]}}\"; \
             ((${{#COMPREPLY[@]}} == 0)) || printf '%s\\n' \"${{COMPREPLY[@]}}\""
        );
        shells.run("bash", &["--noprofile", "--norc"], &lines)
    };
    for (words, expected) in [
        ("pgark stanza-", &["stanza-create", "stanza-delete", "stanza-upgrade"][..]),
        ("pgark backup --start", &["--start-fast"]),
        ("pgark backup --process", &["compopt -o nospace", "--process-max="]),
        ("pgark restore --type = st", &["standby"]),
        ("pgark restore --type st", &["standby"]),
        ("pgark --stanza = ''", &["demo", "other"]),
        ("pgark --stanza =", &["demo", "other"]),
        ("pgark --stanza = demo --start", &["--start-fast"]),
        (
            "pgark restore --recovery-option = a = b --targ",
            &["--target-action=", "--target-exclusive", "--target-timeline=", "--target="],
        ),
        ("pgark --stanza=o", &["--stanza=other"]),
        ("pgark --config = pgark.c", &["compopt -o default"]),
        ("pgark archive-push ''", &["compopt -o default"]),
    ] {
        let finished = complete(words);
        let mut found = lines(&finished);
        found.sort_unstable();
        let mut expected = expected.to_vec();
        expected.sort_unstable();
        assert_eq!(found, expected, "{words}: {}", finished.report());
    }
}

#[test]
fn fish_completes() {
    let shells = Shells::new();
    for (line, expected) in [
        ("pgark stanza-cr", &["stanza-create\tcreate a stanza in the repositories"][..]),
        ("pgark backup --process", &["--process-max=\thow many workers compress and move data"]),
        ("pgark restore --type=st", &["--type=standby\tgo on as a standby"]),
        ("pgark info --stanza ", &["demo\ta stanza of the configuration", "other\ta stanza of the configuration"]),
        ("pgark --config=pgark.c", &["--config=pgark.conf"]),
        ("pgark archive-push pgark.c", &["pgark.conf"]),
    ] {
        let finished = shells.run("fish", &["--no-config"], &format!("source pgark.fish; complete -C '{line}'"));
        assert_eq!(lines(&finished), expected, "{line}: {}", finished.report());
    }
}

/// A zsh at a terminal gets a line and a tab, and shows what the line has become.
#[test]
fn zsh_completes() {
    let shells = Shells::new();
    shells.scratch.write(
        "begin.zsh",
        "PS1=; autoload -U compinit; compinit -u -D; source pgark.zsh\n\
         show() { print -r -- \"<$BUFFER>\" >> shown; BUFFER=; zle accept-line }; zle -N show; bindkey '^X' show\n\
         print -r -- ready >> shown\n",
    );
    // Each line is awaited: what comes while a shell completes may be lost.
    let script = "zmodload zsh/zpty; zpty shell zsh -f -i; zpty -w shell 'source begin.zsh'\n\
         await() { repeat 600; do (( $(wc -l < shown) == $1 )) && return; sleep 0.1; zpty -r -t shell seen; done; exit 1 }\n\
         count=1; await 1\n\
         while read -r line; do zpty -w -n shell \"$line\"$'\\t\\x18'; await $((++count)); done < lines\n\
         zpty -d shell; cat shown\n";
    let expected = [
        ("pgark stanza-cr", "pgark stanza-create "),
        ("pgark backup --process", "pgark backup --process-max="),
        ("pgark restore --type=st", "pgark restore --type=standby "),
        ("pgark info --stanza=d", "pgark info --stanza=demo "),
        ("pgark --config=pgark.c", "pgark --config=pgark.conf "),
    ];
    pgark_testkit::give_to_test_user(&shells.scratch.write("shown", ""));
    shells.scratch.write("lines", expected.map(|(line, _)| format!("{line}\n")).concat());
    let finished = shells.run("zsh", &["-f"], script);
    let expected = ["ready".to_owned()].into_iter().chain(expected.map(|(_, line)| format!("<{line}>")));
    assert_eq!(lines(&finished), expected.collect::<Vec<_>>(), "{}", finished.report());
}

#[test]
fn a_shell_that_is_not_known_is_refused() {
    let program = Program::new(env!("CARGO_BIN_EXE_pgark"));
    let mut transcript = Transcript::default();
    transcript.add("another shell", 96, run(program.command().args(["completion", "tcsh"])));
    transcript.add("no shell", 43, run(program.command().args(["completion"])));
    transcript.add("an option", 31, run(program.command().args(["completion", "bash", "--stanza=demo"])));
    assert_output!("refused", transcript.text());
}

/// Whoever completes a line wants no complaint about the configuration.
#[test]
fn a_broken_configuration_completes_no_stanza() {
    let (program, scratch) = (Program::new(env!("CARGO_BIN_EXE_pgark")), Scratch::new());
    let broken = scratch.write("pgark.conf", "[global\nwhat is this\n");
    let completed = |word: &str| {
        let config = format!("--config={}", broken.display());
        run(program.command().args(["completion", "bash", "--", &config, word])).expect_success()
    };
    assert_eq!((completed("--stanza=").stdout, completed("--stanza=").stderr), (String::new(), String::new()));
    assert_eq!(completed("backu").stdout, "backup\n");
}
