//! What can follow on a command line.

use crate::option::{Definition, Status};

use super::*;

/// What the last word of a line can become, whose words are parted by single blanks.
fn found(line: &str) -> Candidates {
    let words: Vec<_> = line.split(' ').map(str::to_owned).collect();
    let (word, before) = words.split_last().unwrap();
    candidates(before, word, &|| vec!["demo".to_owned(), "main".to_owned()])
}

fn values(line: &str) -> Vec<String> {
    match found(line) {
        Candidates::These(candidates) => candidates.into_iter().map(|candidate| candidate.value).collect(),
        Candidates::Files => panic!("'{line}' is completed by files"),
    }
}

#[test]
fn commands_that_work_are_completed() {
    assert_eq!(values("stanza-"), ["stanza-create", "stanza-delete", "stanza-upgrade"]);
    assert_eq!(values("--stanza=demo --delta ba"), ["backup"]);
    assert_eq!(values("--stanza demo b"), ["backup"]);
    assert_eq!(values("help rest"), ["restore"]);
    let all = values("");
    for command in Command::all() {
        assert_eq!(all.contains(&command.name().to_owned()), command.definition().available, "{}", command.name());
    }
}

#[test]
fn options_of_the_command_are_completed() {
    assert_eq!(values("backup --start"), ["--start-fast"]);
    assert_eq!(values("backup --proc"), ["--process-max="]);
    assert_eq!(values("restore --target-a"), ["--target-action="]);
    assert_eq!(values("--start"), ["--start-fast"]);
    assert!(values("restore --start").is_empty());
    assert!(values("backup --bogus").is_empty());
    // A command without parameters is followed by options only.
    assert_eq!(values("stop "), values("stop --"));
    assert!(values("stop --").contains(&"--help".to_owned()));
}

#[test]
fn an_option_is_not_given_twice() {
    assert!(values("backup --start-fast --start").is_empty());
    assert!(values("backup --process-max 4 --proc").is_empty());
    assert_eq!(values("backup --exclude=a --excl"), ["--exclude="]);
}

#[test]
fn what_takes_back_is_offered_to_who_asks_for_it() {
    assert_eq!(values("stanza-create --no-on"), ["--no-online"]);
    assert_eq!(values("backup --reset-proc"), ["--reset-process-max"]);
    assert!(!values("backup --").iter().any(|value| value.starts_with("--no-") || value.starts_with("--reset-")));
}

#[test]
fn an_index_is_that_of_the_word_or_the_first() {
    assert_eq!(values("info --repo1-s3-b"), ["--repo1-s3-bucket="]);
    assert_eq!(values("info --repo27-s3-b"), ["--repo27-s3-bucket="]);
    assert!(values("info --repo").contains(&"--repo1-path=".to_owned()));
    assert_eq!(values("backup --pg2-po"), ["--pg2-port="]);
    assert!(values("info --repo257-s3-b").is_empty());
    assert_eq!(values("info --repo1-path=/a --repo2-pa"), ["--repo2-path="]);
}

#[test]
fn values_are_completed_with_an_equals_sign_and_without() {
    assert_eq!(values("restore --type=st"), ["--type=standby"]);
    assert_eq!(values("restore --type st"), ["standby"]);
    assert_eq!(values("restore --delta=").len(), 2);
    assert_eq!(values("--stanza="), ["--stanza=demo", "--stanza=main"]);
    assert_eq!(values("info --stanza d"), ["demo"]);
    // What a later version brings is not a value yet.
    assert!(!values("backup --repo1-type=").contains(&"--repo1-type=azure".to_owned()));
    // Without a command those of every command.
    assert!(["--type=full", "--type=xid"].iter().all(|value| values("--type=").contains(&(*value).to_owned())));
    for free in ["backup --process-max=", "restore --target=", "info --bogus=", "repo-ls stan"] {
        assert!(values(free).is_empty(), "{free}");
    }
}

#[test]
fn files_are_left_to_the_shell() {
    for line in
        ["--config=", "backup --config /etc", "backup --repo1-path=/b", "backup --log-path ", "archive-push pg_"]
    {
        assert_eq!(found(line), Candidates::Files, "{line}");
    }
}

#[test]
fn help_is_asked_about_commands_and_options() {
    assert_eq!(values("help info det"), ["detail-level"]);
    assert_eq!(values("help info repoN-s3-b"), ["repoN-s3-bucket"]);
    assert!(values("help info output ").is_empty());
}

#[test]
fn a_shell_is_a_parameter_of_completion() {
    assert_eq!(values("completion "), ["bash", "fish", "zsh"]);
    assert!(values("completion bash b").is_empty());
}

/// Whatever is offered can be given: it names one option, which works, is taken by the command and may be seen by others.
#[test]
fn nothing_is_offered_that_would_be_refused() {
    let parse = |word: &str| arguments::parse([word.into()]).unwrap_or_else(|error| panic!("{word}: {error}"));
    let works = |definition: &Definition| definition.status == Status::Now;
    for command in Command::all().filter(|command| command.definition().available) {
        for start in ["--", "--no-", "--reset-"] {
            for value in values(&format!("{} {start}", command.name())) {
                let word = if value.ends_with('=') { format!("{value}x") } else { value };
                for address in parse(&word).options.keys() {
                    let definition = option::find(address.name, command);
                    assert!(definition.is_some_and(works), "{word} of {}", command.name());
                }
            }
        }
    }
}

#[test]
fn each_shell_gets_its_form() {
    let candidate = Candidate { value: "a:b".to_owned(), meaning: "a letter: another" };
    let written = |shell: Shell| {
        let mut text = String::new();
        shell.write(&candidate, &mut text).unwrap();
        text
    };
    assert_eq!(written(Shell::Bash), "a:b\n");
    assert_eq!(written(Shell::Fish), "a:b\ta letter: another\n");
    assert_eq!(written(Shell::Zsh), "a\\:b:a letter: another\n");
}
