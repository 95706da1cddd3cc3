//! Help and version, as text for a terminal.

use crate::command::Command;
use crate::option::{self, Choice, Definition, Kind, Status};
use crate::text::{sentence, wrap};

/// What help is wanted on.
#[derive(Clone, Copy, Debug)]
pub enum HelpTopic {
    /// The program.
    General,
    /// A command and its options.
    Command(Command),
    /// An option of a command.
    Option(Command, &'static Definition),
}

/// The form of the version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VersionFormat {
    /// `pgark 1.2.3` and a line feed.
    Text,
    /// `1002003`, without a line feed.
    Number,
}

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The version of pgark.
pub fn version(format: VersionFormat) -> String {
    let number = |text: &str| text.parse::<u64>().unwrap_or(0);
    match format {
        VersionFormat::Text => format!("pgark {VERSION}\n"),
        VersionFormat::Number => {
            let major = number(env!("CARGO_PKG_VERSION_MAJOR"));
            let minor = number(env!("CARGO_PKG_VERSION_MINOR"));
            let patch = number(env!("CARGO_PKG_VERSION_PATCH"));
            (major * 1_000_000 + minor * 1000 + patch).to_string()
        }
    }
}

/// Help on a topic, with a line feed at the end.
pub fn help(topic: HelpTopic) -> String {
    match topic {
        HelpTopic::General => general(),
        HelpTopic::Command(command) => of_command(command),
        HelpTopic::Option(command, definition) => of_option(command, definition),
    }
}

/// Puts blocks of text one below the other, with an empty line between them.
fn page(blocks: &[String]) -> String {
    blocks.join("\n\n") + "\n"
}

fn general() -> String {
    let width = Command::all().map(|command| command.name().len()).max().unwrap_or(0);
    let list = |title: &str, available: bool| {
        let wanted = Command::all().filter(|command| command.definition().available == available);
        let line = |command: Command| entry(&format!("    {:width$}", command.name()), command.definition().summary);
        [title.to_owned()].into_iter().chain(wanted.map(line)).collect::<Vec<_>>().join("\n")
    };
    page(&[
        format!("pgark {VERSION} - General help"),
        "Usage:\n    pgark [options] [command]".to_owned(),
        list("Commands:", true),
        list("Commands that are not available yet:", false),
        "Use 'pgark help [command]' for more information.".to_owned(),
    ])
}

/// One line of a list, wrapped into more if need be.
fn entry(name: &str, text: &str) -> String {
    format!("{name}  {}", wrap(text, name.len() + 2))
}

fn of_command(command: Command) -> String {
    let definition = command.definition();
    let mut blocks = vec![
        format!("pgark {VERSION} - '{}' command help", command.name()),
        wrap(&sentence(definition.summary), 0),
        wrap(definition.description, 0),
    ];
    if !definition.available {
        blocks.push("This command is not available yet.".to_owned());
    }
    blocks.extend(available_options(command));
    blocks.extend(names_of("Options that are not available yet:", command, Definition::is_later));
    blocks.extend(names_of("Options that are taken and change nothing:", command, Definition::has_no_effect));
    if option::of_command(command).next().is_some() {
        blocks.push(format!("Use 'pgark help {} [option]' for more information.", command.name()));
    }
    page(&blocks)
}

/// The options that work, by section.
fn available_options(command: Command) -> Vec<String> {
    let mut options: Vec<_> = option::of_command(command).filter(|option| option.status == Status::Now).collect();
    options.sort_by_key(|option| (option.section.help_title(), option.name));
    let width = options.iter().map(|option| option.display_name().len()).max().unwrap_or(0);
    let line = |option: &&Definition| {
        let default = option.default.map(|default| format!(" [default={default}]")).unwrap_or_default();
        entry(&format!("  --{:width$}", option.display_name()), &format!("{}{default}", option.summary))
    };
    let sections = options.chunk_by(|one, other| one.section.help_title() == other.section.help_title());
    sections
        .flat_map(|section| {
            let title = format!("{} Options:", section[0].section.help_title());
            [title, section.iter().map(line).collect::<Vec<_>>().join("\n")]
        })
        .collect()
}

/// The names of the options that `wanted` picks, if there are any. Those of a family share one entry.
fn names_of(title: &str, command: Command, wanted: fn(&Definition) -> bool) -> Vec<String> {
    let name = |option: &Definition| option.section.family().map_or_else(|| option.display_name(), str::to_owned);
    let mut names: Vec<_> = option::of_command(command).filter(|option| wanted(option)).map(name).collect();
    names.sort();
    names.dedup();
    if names.is_empty() { Vec::new() } else { vec![title.to_owned(), format!("  {}", wrap(&names.join(", "), 2))] }
}

fn of_option(command: Command, definition: &Definition) -> String {
    let mut blocks = vec![
        format!("pgark {VERSION} - '{}' command - '{}' option help", command.name(), definition.display_name()),
        wrap(&sentence(definition.summary), 0),
        wrap(definition.description, 0),
    ];
    if let Kind::Choice(choices) = definition.kind {
        blocks.push(choices.iter().map(choice_line).collect::<Vec<_>>().join("\n"));
    }
    match definition.status {
        Status::Now => {}
        Status::Later { .. } => blocks.push("This option is not available yet.".to_owned()),
        Status::NoEffect(reason) => {
            blocks.push(wrap(&format!("This option is taken and changes nothing: {reason}."), 0));
        }
    }
    let facts: Vec<_> = facts(definition).iter().map(|(name, value)| wrap(&format!("{name}: {value}"), 2)).collect();
    if !facts.is_empty() {
        blocks.push(facts.join("\n"));
    }
    page(&blocks)
}

fn choice_line(choice: &Choice) -> String {
    let later = if choice.available { "" } else { " (not available yet)" };
    format!("  {}", wrap(&format!("{} - {}{later}", choice.value, choice.meaning), 4))
}

/// What the table says about an option in single facts.
fn facts(definition: &Definition) -> Vec<(&'static str, String)> {
    let required = definition.required.then(|| "yes".to_owned());
    let old_names = (!definition.deprecated.is_empty()).then(|| definition.old_names().join(", "));
    [
        ("range", range(definition.kind)),
        ("default", definition.default.map(str::to_owned)),
        ("required", required),
        ("only where", definition.dependency.map(|dependency| dependency.condition(str::to_owned))),
        ("deprecated names", old_names),
    ]
    .into_iter()
    .filter_map(|(name, value)| Some((name, value?)))
    .collect()
}

/// The least and the greatest value of an option, where it has them.
pub(crate) fn range(kind: Kind) -> Option<String> {
    match kind {
        Kind::Integer { minimum, maximum } => Some(format!("{minimum} to {maximum}")),
        Kind::Size(limits) | Kind::Duration(limits) => Some(format!("{} to {}", limits.minimum, limits.maximum)),
        _ => None,
    }
}

impl Definition {
    /// Whether a later version brings it.
    pub(crate) fn is_later(&self) -> bool {
        matches!(self.status, Status::Later { .. })
    }

    /// Whether it is taken and changes nothing.
    pub(crate) fn has_no_effect(&self) -> bool {
        matches!(self.status, Status::NoEffect(_))
    }

    /// The deprecated names as the help and the reference show them: `dbN-path`.
    pub(crate) fn old_names(&self) -> Vec<String> {
        self.deprecated.iter().map(|old| old.replace('?', "N")).collect()
    }
}
