//! What a word of a command line can become.

use std::collections::BTreeSet;

use super::Shell;
use crate::command::Command;
use crate::names::{self, Address, Named, Prefix, SidecarName, Spelling};
use crate::option::{self, Definition, Group, Kind, Status};

/// What a word can become.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Candidates {
    /// These words.
    These(Vec<Candidate>),
    /// The name of a file, in what follows the word's equals sign if it has one.
    Files,
}

/// A word, and what it means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Candidate {
    pub(super) value: String,
    pub(super) meaning: &'static str,
}

/// What stands before the word.
#[derive(Debug, Default)]
struct Line {
    command: Option<Command>,
    is_help: bool,
    /// The options that were given.
    given: BTreeSet<Address>,
    /// How many parameters the command was given.
    parameters: usize,
    /// The option whose value the word is.
    option: Option<Named>,
}

/// What `word` can become after the words `before`; `stanzas` gives those there are.
pub(super) fn candidates(before: &[String], word: &str, stanzas: &dyn Fn() -> Vec<String>) -> Candidates {
    let line = Line::read(before);
    if let Some(named) = line.option {
        return line.values(&named, "", word, stanzas);
    }
    if let Some((written, value)) = word.strip_prefix("--").and_then(|option| option.split_once('=')) {
        return match find(written) {
            Some(named) => line.values(&named, &format!("--{written}="), value, stanzas),
            None => Candidates::These(Vec::new()),
        };
    }
    match line.command {
        _ if word.starts_with('-') => these(line.options(word), word),
        None => these(commands(), word),
        Some(command) if line.is_help => these(line.names_of_options(command), word),
        Some(Command::Completion) if line.parameters == 0 => {
            let shell = |shell: Shell| Candidate { value: shell.name().to_owned(), meaning: "a shell" };
            these(Shell::ALL.map(shell), word)
        }
        // The others' parameters are what PostgreSQL hands over, or names in a repository.
        Some(Command::ArchiveGet | Command::ArchivePush) => Candidates::Files,
        Some(command) if command.definition().takes_parameters() => Candidates::These(Vec::new()),
        Some(_) => these(line.options(word), word),
    }
}

/// Those candidates that `word` can become, by name.
fn these(candidates: impl IntoIterator<Item = Candidate>, word: &str) -> Candidates {
    let mut candidates: Vec<_> = candidates.into_iter().filter(|candidate| candidate.value.starts_with(word)).collect();
    candidates.sort_by(|one, other| one.value.cmp(&other.value));
    candidates.dedup_by(|one, other| one.value == other.value);
    Candidates::These(candidates)
}

fn commands() -> impl Iterator<Item = Candidate> {
    Command::all()
        .map(Command::definition)
        .filter(|definition| definition.available)
        .map(|definition| Candidate { value: definition.name.to_owned(), meaning: definition.summary })
}

fn find(written: &str) -> Option<Named> {
    names::find(written, Spelling::Abbreviated).ok().flatten()
}

impl Line {
    /// Reads words as the command line does, but goes on where something is wrong.
    fn read(words: &[String]) -> Self {
        let mut line = Self::default();
        for word in words {
            if line.option.take().is_some() {
                continue;
            }
            match (word.strip_prefix("--"), line.command) {
                (Some(written), _) => line.take_option(written),
                (None, Some(_)) => line.parameters += 1,
                (None, None) => match Command::find(word) {
                    Ok(Command::Help) if !line.is_help => line.is_help = true,
                    found => line.command = found.ok(),
                },
            }
        }
        line
    }

    fn take_option(&mut self, written: &str) {
        let (name, value) = written.split_once('=').map_or((written, None), |(name, value)| (name, Some(value)));
        let Some(named) = find(name) else { return };
        self.given.insert(named.address);
        if value.is_none() && named.prefix == Prefix::None && named.definition.takes_value() {
            self.option = Some(named);
        }
    }

    /// The options that work for the command; for any of the commands as long as there is none.
    fn definitions(&self) -> impl Iterator<Item = &'static Definition> {
        let command = self.command.or(self.is_help.then_some(Command::Help));
        let is_taken = move |definition: &&Definition| match command {
            Some(command) => definition.commands.contains(&command) || definition.name == option::HELP.name,
            None => definition.commands.iter().any(|command| command.definition().available),
        };
        option::all().filter(|definition| definition.status == Status::Now).filter(is_taken)
    }

    /// The options that can still be given. With which word decides about their form.
    fn options(&self, word: &str) -> Vec<Candidate> {
        let mut candidates = Vec::new();
        for definition in self.definitions().filter(|definition| !matches!(definition.kind, Kind::Secret)) {
            let address = definition.addressed(word);
            if self.given.contains(&address) && !definition.kind.is_multiple() {
                continue;
            }
            let mut offer = |prefix: &str, suffix: &str| {
                let value = format!("--{prefix}{address}{suffix}");
                candidates.push(Candidate { value, meaning: definition.summary });
            };
            offer("", if definition.takes_value() { "=" } else { "" });
            // What takes an option back is offered to who asks for it: it would be three of everything.
            if definition.can_be_negated() && word.starts_with("--no") {
                offer("no-", "");
            }
            if definition.can_be_reset() && word.starts_with("--res") {
                offer("reset-", "");
            }
        }
        candidates
    }

    /// The options that help can be asked about.
    fn names_of_options(&self, command: Command) -> Vec<Candidate> {
        let is_of_command = |definition: &&Definition| definition.commands.contains(&command);
        let candidate = |option: &Definition| Candidate { value: option.display_name(), meaning: option.summary };
        if self.parameters > 0 { Vec::new() } else { self.definitions().filter(is_of_command).map(candidate).collect() }
    }

    /// The values of an option that `value` can become, each with what stands before it in the word.
    fn values(&self, named: &Named, before: &str, value: &str, stanzas: &dyn Fn() -> Vec<String>) -> Candidates {
        let candidate = |value: &str, meaning| Candidate { value: format!("{before}{value}"), meaning };
        let mut candidates = Vec::new();
        for definition in self.definitions().filter(|definition| definition.name == named.address.name) {
            match definition.kind {
                _ if definition.is_file() => return Candidates::Files,
                _ if definition.name == option::STANZA.name => {
                    candidates.extend(stanzas().iter().map(|name| candidate(name, "a stanza of the configuration")));
                }
                Kind::Boolean => candidates.extend([candidate("y", "yes"), candidate("n", "no")]),
                Kind::Choice(choices) => candidates.extend(
                    choices
                        .iter()
                        .filter(|choice| choice.available)
                        .map(|choice| candidate(choice.value, choice.meaning)),
                ),
                _ => {}
            }
        }
        these(candidates, &format!("{before}{value}"))
    }
}

impl Definition {
    fn takes_value(&self) -> bool {
        !matches!(self.kind, Kind::Boolean)
    }

    /// Whether its value is a file or directory of this machine.
    fn is_file(&self) -> bool {
        matches!(self.kind, Kind::Path) || self.name == option::CONFIG.name || self.name.ends_with("-file")
    }

    /// The option as a word names it that has begun with an index; else the first.
    fn addressed(&'static self, word: &str) -> Address {
        let Some(group) = self.group else { return self.into() };
        if group == Group::Sidecar {
            return self.of_sidecar(named_sidecar(word, self.name));
        }
        let begins = word.find(group.prefix()).map_or("", |place| &word[place + group.prefix().len()..]);
        let digits: String = begins.chars().take_while(char::is_ascii_digit).collect();
        let index = digits.parse().ok().filter(|index| (1..=names::INDEX_MAX).contains(index));
        self.at(index.and_then(|index| u32::try_from(index).ok()).unwrap_or(1))
    }
}

/// The sidecar that a word has begun to name, or some name. `option` is the name of one of its options, whose last part the
/// word may have begun, too.
fn named_sidecar(word: &str, option: &str) -> SidecarName {
    let rest = word.split_once("sidecar-").map_or("", |(_, rest)| rest);
    let last = option.rsplit('-').next().unwrap_or_default();
    let name = match rest.rsplit_once('-') {
        Some((name, begun)) if last.starts_with(begun) => name,
        _ => rest,
    };
    let some = || SidecarName::parse("models").expect("the name is one");
    SidecarName::parse(name).unwrap_or_else(some)
}
