//! The reference of commands and options, `docs/reference.md`.

use std::fmt::Display;

use crate::command::{Command, Definition as CommandDefinition};
use crate::help::range;
use crate::option::{self, Choice, Definition, Kind, Place, Section, Status};
use crate::text::sentence;

/// What stands before commands and options.
const INTRODUCTION: &str = include_str!("reference_introduction.md");

/// The whole page, in Markdown.
pub fn reference_markdown() -> String {
    let mut blocks = vec![INTRODUCTION.trim_end().to_owned(), "## Commands".to_owned()];
    blocks.extend(Command::all().flat_map(|command| command_blocks(command.definition())));
    blocks.push("## Options".to_owned());
    for section in Section::ALL {
        blocks.push(format!("### {}", section.title()));
        blocks.extend(option::all().filter(|option| option.section == section).flat_map(option_blocks));
    }
    blocks.join("\n\n") + "\n"
}

fn command_blocks(definition: &CommandDefinition) -> Vec<String> {
    let later = if definition.available { "" } else { " *Not available yet.*" };
    let mut blocks = vec![
        format!("### `{}`", definition.name),
        format!("{}{later}", sentence(definition.summary)),
        definition.description.to_owned(),
    ];
    let optional = definition.optional_parameters.iter().map(|parameter| format!("{parameter} (optional)"));
    let parameters: Vec<_> = definition.parameters.iter().map(|&name| name.to_owned()).chain(optional).collect();
    if !parameters.is_empty() {
        blocks.push(format!("Parameters: {}.", parameters.join(", ")));
    }
    let working = option::of_command(definition.command).filter(|option| option.status == Status::Now);
    let mut names: Vec<_> = working.map(Definition::display_name).collect();
    names.sort();
    if !names.is_empty() {
        blocks.push(format!("Options: {}.", code(names)));
    }
    blocks
}

fn option_blocks(definition: &Definition) -> Vec<String> {
    // Where one name has several meanings, the heading says whose this is.
    let alone = option::all().filter(|other| other.name == definition.name).count() == 1;
    let commands = command_list(definition.commands);
    let whose = if alone { String::new() } else { format!(" ({commands})") };
    let mut blocks = vec![
        format!("#### `{}`{whose}", definition.display_name()),
        format!("{}{}", sentence(definition.summary), status_mark(definition.status)),
        definition.description.to_owned(),
    ];
    let facts = [
        Some(format!("Takes {}{}", takes(definition.kind), place(definition.place))),
        range(definition.kind).map(|range| format!("Range: {range}")),
        Some(format!("Default: {}", default(definition))),
        definition
            .dependency
            .map(|dependency| format!("Only where {}", dependency.condition(|text| format!("`{text}`")))),
        alone.then(|| format!("Commands: {commands}")),
        (!definition.deprecated.is_empty()).then(|| format!("Deprecated names: {}", code(definition.old_names()))),
    ];
    blocks.push(facts.into_iter().flatten().map(|fact| format!("- {fact}.")).collect::<Vec<_>>().join("\n"));
    if let Kind::Choice(choices) = definition.kind {
        blocks.push("Values:".to_owned());
        blocks.push(choices.iter().map(choice_item).collect::<Vec<_>>().join("\n"));
    }
    blocks
}

/// The commands of an option, in short where it is nearly all of them.
fn command_list(commands: &[Command]) -> String {
    let names = |wanted: &dyn Fn(&Command) -> bool| {
        Command::all().filter(wanted).map(Command::name).collect::<Vec<_>>().join(", ")
    };
    let others = names(&|command| !commands.contains(command));
    let these = names(&|command| commands.contains(command));
    if others.len() < these.len() { format!("all but {others}") } else { these }
}

/// Names in the type of code, parted by commas.
fn code(names: impl IntoIterator<Item = impl Display>) -> String {
    names.into_iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

fn status_mark(status: Status) -> String {
    match status {
        Status::Now => String::new(),
        Status::Later { ignorable: true } => " *Not available yet.*".to_owned(),
        Status::Later { ignorable: false } => " *Not available yet, and refused wherever it is set.*".to_owned(),
        Status::NoEffect(reason) => format!(" *Taken without effect: {reason}.*"),
    }
}

fn choice_item(choice: &Choice) -> String {
    let later = if choice.available { "" } else { " *Not available yet.*" };
    format!("- `{}`: {}.{later}", choice.value, choice.meaning)
}

fn takes(kind: Kind) -> &'static str {
    match kind {
        Kind::Boolean => "`y` or `n`",
        Kind::Integer { .. } => "a number",
        Kind::Size(_) => "a size",
        Kind::Duration(_) => "a duration",
        Kind::Choice(_) => "one of the values below",
        Kind::Text => "a text",
        Kind::Secret => "a secret, which is refused on the command line",
        Kind::Path => "an absolute path",
        Kind::List => "a text, any number of times",
        Kind::Map => "a pair key=value, any number of times",
    }
}

fn place(place: Place) -> &'static str {
    match place {
        Place::CommandLine => "; on the command line and in the environment only",
        Place::Global => "",
        Place::Stanza => "; in a file in the sections of a stanza only",
        Place::Command => "; on the command line and in a file in the sections of the command only",
    }
}

fn default(definition: &Definition) -> String {
    match (definition.default, definition.required, definition.status) {
        (_, _, Status::NoEffect(_)) => "no matter".to_owned(),
        (Some(default), _, _) => format!("`{default}`"),
        (None, true, _) => "none, it is required".to_owned(),
        (None, false, _) => "none".to_owned(),
    }
}
