//! What is set, and by which source: the first one that has it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use zeroize::Zeroizing;

use crate::arguments::Given;
use crate::command::{Command, quoted};
use crate::environment::{Environment, OTHER_PREFIX, OWN_PREFIX};
use crate::error::{Error, ErrorKind};
use crate::files::{Files, Main, Request};
use crate::ini::Entry;
use crate::names::{self, Address, Named, Prefix, Spelling};
use crate::option::{self, Definition, Kind, Place, Status};
use crate::source::Source;
use crate::value::Written;

/// What one source says about an option.
#[derive(Clone)]
pub(crate) struct Setting {
    /// `None` where it is taken away: by `--no-config`, or by `--reset-` for the default to hold.
    pub(crate) written: Option<Vec<Written>>,
    pub(crate) source: Source,
}

/// Collects settings; sources must come in the order of their precedence.
pub(crate) struct Collector {
    command: Command,
    pub(crate) settings: BTreeMap<Address, Setting>,
    pub(crate) warnings: Vec<String>,
    /// The stanzas that files have sections for.
    pub(crate) stanzas: BTreeSet<String>,
    /// What a later version brings and files or environment set, and whether it is missed.
    later: BTreeMap<Address, bool>,
}

impl Collector {
    pub(crate) fn new(command: Command) -> Self {
        Self {
            command,
            settings: BTreeMap::new(),
            warnings: Vec::new(),
            stanzas: BTreeSet::new(),
            later: BTreeMap::new(),
        }
    }

    /// Takes what the command line has. Whatever it has must be valid for the command and work.
    pub(crate) fn take_arguments(&mut self, options: &BTreeMap<Address, Given>) -> Result<(), Error> {
        for (address, given) in options {
            let definition = option_of(*address, self.command)?;
            let switch = |on: &bool| vec![Zeroizing::new(if *on { "y" } else { "n" }.to_owned())];
            let written = match given {
                Given::Values(values) => Some(values.clone()),
                Given::Switch(_) if *address == (&option::CONFIG).into() => None,
                Given::Switch(on) => Some(switch(on)),
                Given::Reset => None,
            };
            if written.is_some() && definition.is_later() {
                return Err(self.not_available(*address, &Source::CommandLine));
            }
            self.settings.insert(*address, Setting { written, source: Source::CommandLine });
        }
        Ok(())
    }

    /// Takes the variables that begin with `PGARK_`, then those that begin with `PGBACKREST_`.
    pub(crate) fn take_environment(&mut self, environment: &Environment) -> Result<(), Error> {
        for prefix in [OWN_PREFIX, OTHER_PREFIX] {
            let mut seen = BTreeMap::new();
            for (name, variable, value) in environment.with_prefix(prefix) {
                let source = Source::Environment { variable: variable.to_owned() };
                let Some(named) = self.find(&name, &source, "environment contains invalid")? else { continue };
                if let Some(other) = seen.insert(named.address, name.clone()) {
                    let names = quoted([other.as_str(), name.as_str()]);
                    let message = format!("environment contains duplicate options ({names})");
                    return Err(Error::new(ErrorKind::OptionInvalid, message));
                }
                self.take_variable(named.address, variable, value)?;
            }
        }
        Ok(())
    }

    fn take_variable(&mut self, address: Address, variable: &str, value: &Written) -> Result<(), Error> {
        let Some(definition) = option::find(address.name, self.command) else {
            self.note_of_archiving(address, &[value]);
            return Ok(());
        };
        if definition.place == Place::Command {
            return Ok(());
        }
        if value.is_empty() {
            let message = format!("environment variable '{variable}' must have a value");
            return Err(Error::new(ErrorKind::OptionInvalidValue, message));
        }
        let written = if definition.kind.is_multiple() {
            value.split(':').map(|part| Zeroizing::new(part.to_owned())).collect()
        } else {
            vec![value.clone()]
        };
        self.offer(definition, address, written, Source::Environment { variable: variable.to_owned() })
    }

    /// Takes the sections that concern the command, the most particular first.
    pub(crate) fn take_files(&mut self, entries: &[Entry]) -> Result<(), Error> {
        self.stanzas = stanzas(entries);
        let stanza = self.text(&option::STANZA);
        let command = self.command.name();
        let of_stanza = stanza.map(|stanza| [format!("{stanza}:{command}"), stanza]);
        for section in of_stanza.into_iter().flatten() {
            self.take_section(entries, &section)?;
        }
        self.take_section(entries, &format!("global:{command}"))?;
        self.take_section(entries, "global")?;
        self.look_at_sections_of_archiving(entries);
        Ok(())
    }

    /// The sections of archive-push and archive-get, which no other command takes.
    fn look_at_sections_of_archiving(&mut self, entries: &[Entry]) {
        let stanza = self.text(&option::STANZA);
        for entry in entries {
            let Some((place, command)) = entry.section.split_once(':') else { continue };
            let is_meant = (place == "global" || Some(place) == stanza.as_deref())
                && [Command::ArchivePush, Command::ArchiveGet].iter().any(|archiving| archiving.name() == command);
            if let Ok(Some(named)) = names::find(&entry.key, Spelling::Full)
                && is_meant
            {
                self.note_of_archiving(named.address, &[&entry.value]);
            }
        }
    }

    fn take_section(&mut self, entries: &[Entry], section: &str) -> Result<(), Error> {
        let mut seen: BTreeMap<Address, Vec<&Entry>> = BTreeMap::new();
        for entry in entries.iter().filter(|entry| entry.section == section) {
            let source = source_of(entry);
            let Some(named) = self.find(&entry.key, &source, "configuration file contains invalid")? else { continue };
            let before = seen.entry(named.address).or_default();
            before.push(entry);
            if let Some(other) = before.iter().find(|other| other.key != entry.key) {
                let names = quoted([entry.key.as_str(), other.key.as_str()]);
                let message =
                    format!("configuration file contains duplicate options ({names}) in section '[{section}]'");
                return Err(source.trace(Error::new(ErrorKind::OptionInvalid, message)));
            }
        }
        for (address, found) in seen {
            self.take_entries(address, &found)?;
        }
        Ok(())
    }

    /// Takes what a section says about one option.
    fn take_entries(&mut self, address: Address, found: &[&Entry]) -> Result<(), Error> {
        let Some(last) = found.last() else { return Ok(()) };
        let (key, section) = (&last.key, &last.section);
        let Some(definition) = option::find(address.name, self.command) else {
            self.warn_of_misplaced(address, key, section);
            self.note_of_archiving(address, &found.iter().map(|entry| &entry.value).collect::<Vec<_>>());
            return Ok(());
        };
        if definition.place == Place::CommandLine {
            self.warn(format!("configuration file contains command-line only option '{key}'"));
            return Ok(());
        }
        if definition.place == Place::Stanza && is_global(section) {
            self.warn(format!("configuration file contains stanza-only option '{key}' in global section '{section}'"));
            return Ok(());
        }
        if definition.place == Place::Command && !is_of(section, self.command) {
            return Ok(());
        }
        if self.is_taken(address) {
            return Ok(());
        }
        if found.len() > 1 && !definition.kind.is_multiple() {
            let message = format!("option '{address}' cannot be set multiple times");
            return Err(source_of(last).trace(Error::new(ErrorKind::OptionInvalid, message)));
        }
        if let Some(empty) = found.iter().find(|entry| entry.value.is_empty()) {
            let message = format!("section '{section}', key '{key}' must have a value");
            return Err(source_of(empty).trace(Error::new(ErrorKind::OptionInvalidValue, message)));
        }
        let written = found.iter().map(|entry| entry.value.clone()).collect();
        self.offer(definition, address, written, source_of(last))
    }

    /// `check` tells what archive-push and archive-get will pass over: in the server's log, for every segment, nobody wants
    /// to read it.
    fn note_of_archiving(&mut self, address: Address, written: &[&Written]) {
        if self.command != Command::Check {
            return;
        }
        let archiving = [Command::ArchivePush, Command::ArchiveGet];
        let definition = archiving.into_iter().find_map(|command| option::find(address.name, command));
        if definition.is_some_and(|definition| definition.is_later() && asks(definition, written)) {
            self.later.entry(address).or_insert(true);
        }
    }

    /// An option of another command is in its place in a section of several commands, but not in one of this command.
    fn warn_of_misplaced(&mut self, address: Address, key: &str, section: &str) {
        if option::all().any(|definition| definition.name == address.name && definition.place == Place::CommandLine) {
            self.warn(format!("configuration file contains command-line only option '{key}'"));
        } else if is_of(section, self.command) {
            self.warn(format!("configuration file contains option '{key}' invalid for section '{section}'"));
        }
    }

    /// Finds the option that a file or the environment names. What is not one is warned about.
    fn find(&mut self, written: &str, source: &Source, complaint: &str) -> Result<Option<Named>, Error> {
        let named = names::find(written, Spelling::Full).map_err(|error| source.trace(error))?;
        let kind = match named.map(|named| named.prefix) {
            Some(Prefix::None) => return Ok(named),
            Some(Prefix::Negated) => "negate option",
            Some(Prefix::Reset) => "reset option",
            None => "option",
        };
        self.warn(format!("{complaint} {kind} '{written}'"));
        Ok(None)
    }

    /// Sets an option, unless a source of higher precedence has set it.
    fn offer(
        &mut self,
        definition: &Definition,
        address: Address,
        written: Vec<Written>,
        source: Source,
    ) -> Result<(), Error> {
        if self.is_taken(address) {
            return Ok(());
        }
        let asks = asks(definition, &written.iter().collect::<Vec<_>>());
        match definition.status {
            Status::Later { ignorable: false } if asks => return Err(self.not_available(address, &source)),
            Status::Later { .. } => {
                self.later.insert(address, asks);
            }
            Status::Now | Status::NoEffect(_) => {
                self.settings.insert(address, Setting { written: Some(written), source });
            }
        }
        Ok(())
    }

    fn is_taken(&self, address: Address) -> bool {
        self.settings.contains_key(&address) || self.later.contains_key(&address)
    }

    fn not_available(&self, address: Address, source: &Source) -> Error {
        let dashes = if *source == Source::CommandLine { "--" } else { "" };
        let message = format!("option '{dashes}{address}' is not available yet");
        let hint = format!("'pgark help {}' lists the options that are available", self.command.name());
        let error = Error::new(ErrorKind::FeatureNotSupported, message).hint(hint);
        if *source == Source::CommandLine {
            return error;
        }
        source.trace(error.hint("leaving it out would do something else than was asked, so it is not ignored"))
    }

    fn warn(&mut self, warning: String) {
        if !self.warnings.contains(&warning) {
            self.warnings.push(warning);
        }
    }

    /// What has been set for an option of the command line or the environment, if it is a single text.
    fn text(&self, definition: &Definition) -> Option<String> {
        let setting = self.settings.get(&definition.into())?;
        setting.written.as_ref()?.first().map(|text| text.to_string())
    }

    /// What command line and environment say about configuration files.
    pub(crate) fn request(&self) -> Request {
        let main = match self.settings.get(&(&option::CONFIG).into()) {
            None => Main::Default,
            Some(_) => self.text(&option::CONFIG).map_or(Main::None, |path| Main::Given(PathBuf::from(path))),
        };
        Request {
            main,
            directory: self.text(&option::CONFIG_PATH).map(PathBuf::from),
            include: self.text(&option::CONFIG_INCLUDE_PATH).map(PathBuf::from),
        }
    }

    /// Warns of files that every user may read although there is a secret in them. Where the output is read by programs,
    /// or once for every WAL segment by nobody, other commands have to tell.
    pub(crate) fn warn_of_public_secrets(&mut self, entries: &[Entry], files: &dyn Files) {
        let is_quiet = [Command::Info, Command::RepoGet, Command::RepoLs].contains(&self.command);
        if is_quiet || self.command.is_run_by_server() {
            return;
        }
        for entry in entries {
            let named = names::find(&entry.key, Spelling::Full).ok().flatten();
            let is_secret = named.is_some_and(|named| matches!(named.definition.kind, Kind::Secret));
            if is_secret && files.is_public(&entry.path) {
                let path = entry.path.display();
                self.warn(format!(
                    "configuration file '{path}' has a secret in it and can be read by every user of this host\nHINT: chmod 640 {path}, with the group of the user that pgark runs as"
                ));
            }
        }
    }

    /// Warns, once, of all that files and environment ask for and a later version brings.
    pub(crate) fn warn_of_missed(&mut self) {
        if self.command.is_run_by_server() {
            return;
        }
        let missed = self.later.iter().filter(|(_, missed)| **missed).map(|(address, _)| address.to_string());
        let missed: Vec<_> = missed.collect();
        if !missed.is_empty() {
            self.warn(format!("options not available yet are ignored: {}", missed.join(", ")));
        }
    }
}

/// The stanzas that files have sections for.
pub(crate) fn stanzas(entries: &[Entry]) -> BTreeSet<String> {
    let sections = entries.iter().map(|entry| entry.section.as_str()).filter(|section| !is_global(section));
    let stanza_of = |section: &str| section.split(':').next().unwrap_or(section).to_owned();
    sections.map(stanza_of).collect()
}

/// Whether what was written asks for anything that is not done: what sets an option to its default does not.
fn asks(definition: &Definition, written: &[&Written]) -> bool {
    definition.default.is_none_or(|default| written.iter().any(|text| text.as_str() != default))
}

/// What an option of the command line means to a command that must take it.
pub(crate) fn option_of(address: Address, command: Command) -> Result<&'static Definition, Error> {
    option::find(address.name, command).ok_or_else(|| {
        let message = format!("option '{address}' not valid for command '{}'", command.name());
        Error::new(ErrorKind::OptionInvalid, message)
    })
}

fn source_of(entry: &Entry) -> Source {
    Source::File { path: entry.path.clone(), line: entry.line, section: entry.section.clone() }
}

/// Whether a section is of one command: `[global:command]`, `[stanza:command]`.
fn is_of(section: &str, command: Command) -> bool {
    section.split_once(':').is_some_and(|(_, name)| name == command.name())
}

fn is_global(section: &str) -> bool {
    section == "global" || section.starts_with("global:")
}
