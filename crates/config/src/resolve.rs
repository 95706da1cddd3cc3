//! From what is set to the value of every option that the command takes.

use std::collections::BTreeMap;

use zeroize::Zeroizing;

use crate::collect::Setting;
use crate::command::{Command, quoted};
use crate::error::{Error, ErrorKind};
use crate::names::{Address, Index, SidecarName};
use crate::option::{self, Definition, Dependency, Group, Kind, Status};
use crate::source::Source;
use crate::value::{self, Value};

/// The value of an option and where it comes from.
#[derive(Clone, Debug)]
pub(crate) struct Resolved {
    pub(crate) value: Value,
    /// As it was written; empty for a secret.
    pub(crate) written: Vec<String>,
    pub(crate) source: Source,
}

/// Every option that the command takes and that works or may be set without effect, at every index that is in use.
/// `None` where it has no value.
pub(crate) type Values = BTreeMap<Address, Option<Resolved>>;

/// Which repositories, clusters and sidecars there are, by index or name.
#[derive(Clone, Debug)]
pub(crate) struct Indexes {
    pub(crate) repositories: Vec<u32>,
    pub(crate) clusters: Vec<u32>,
    pub(crate) sidecars: Vec<SidecarName>,
}

impl Indexes {
    /// An index is in use where an option that works is set for it. There is always a repository, and always the first
    /// cluster.
    fn of(settings: &BTreeMap<Address, Setting>, command: Command) -> Self {
        let used = |group: Group| -> Vec<Index> {
            let set = settings.iter().filter(|(_, setting)| setting.written.is_some());
            let of_group = set.filter(|(address, _)| {
                option::find(address.name, command)
                    .is_some_and(|definition| definition.group == Some(group) && definition.status == Status::Now)
            });
            let mut indexes: Vec<_> = of_group.filter_map(|(address, _)| address.index).collect();
            indexes.sort_unstable();
            indexes.dedup();
            indexes
        };
        let numbers = |group: Group| -> Vec<u32> {
            let number = |index| if let Index::Number(number) = index { Some(number) } else { None };
            let mut indexes: Vec<_> = used(group).into_iter().filter_map(number).collect();
            if indexes.is_empty() || group == Group::Cluster {
                indexes.push(1);
            }
            indexes.sort_unstable();
            indexes.dedup();
            indexes
        };
        let name = |index| if let Index::Name(name) = index { Some(name) } else { None };
        let sidecars = used(Group::Sidecar).into_iter().filter_map(name).collect();
        Self { repositories: numbers(Group::Repository), clusters: numbers(Group::Cluster), sidecars }
    }

    fn of_definition(&self, definition: &Definition) -> Vec<Option<Index>> {
        match definition.group {
            None => vec![None],
            Some(Group::Repository) => self.repositories.iter().copied().map(Index::Number).map(Some).collect(),
            Some(Group::Cluster) => self.clusters.iter().copied().map(Index::Number).map(Some).collect(),
            Some(Group::Sidecar) => self.sidecars.iter().copied().map(Index::Name).map(Some).collect(),
        }
    }
}

/// Gives every option of the command its value.
pub(crate) fn resolve(command: Command, settings: &BTreeMap<Address, Setting>) -> Result<(Values, Indexes), Error> {
    let indexes = Indexes::of(settings, command);
    let mut resolver = Resolver { command, settings, values: Values::new() };
    for definition in option::of_command(command) {
        if definition.is_later() {
            continue;
        }
        for index in indexes.of_definition(definition) {
            resolver.resolve(definition, Address { name: definition.name, index })?;
        }
    }
    Ok((resolver.values, indexes))
}

struct Resolver<'a> {
    command: Command,
    settings: &'a BTreeMap<Address, Setting>,
    values: Values,
}

impl Resolver<'_> {
    /// Gives one option its value, after the option it depends on. No two options depend on each other.
    fn resolve(&mut self, definition: &Definition, address: Address) -> Result<(), Error> {
        if self.values.contains_key(&address) {
            return Ok(());
        }
        let fits = match definition.dependency {
            None => true,
            Some(dependency) => self.dependency_fits(dependency, address)?,
        };
        let resolved =
            if fits { self.value(definition, address)? } else { self.without_dependency(definition, address)? };
        self.values.insert(address, resolved);
        Ok(())
    }

    /// Whether the option that this one depends on has a value that will do.
    fn dependency_fits(&mut self, dependency: Dependency, address: Address) -> Result<bool, Error> {
        let (other, other_address) = self.dependency_of(dependency, address);
        self.resolve(other, other_address)?;
        let resolved = self.values.get(&other_address).and_then(Option::as_ref);
        let Some(resolved) = resolved else { return Ok(false) };
        let fitting = |written: &String| dependency.values.contains(&written.as_str());
        Ok(dependency.values.is_empty() || resolved.written.iter().any(fitting))
    }

    fn dependency_of(&self, dependency: Dependency, address: Address) -> (&'static Definition, Address) {
        let other = option::find(dependency.on, self.command).expect(
            "a command that takes an option also takes the one it depends on, as a test of the table makes sure",
        );
        let index = other.group.and(address.index);
        (other, Address { name: other.name, index })
    }

    /// The value that was set, else the default.
    fn value(&self, definition: &Definition, address: Address) -> Result<Option<Resolved>, Error> {
        match self.settings.get(&address) {
            Some(Setting { written: Some(written), source }) => {
                let value = value::parse(definition, address, written, source)?;
                let is_secret = matches!(definition.kind, Kind::Secret);
                let written = written.iter().filter(|_| !is_secret).map(|text| text.to_string()).collect();
                Ok(Some(Resolved { value, written, source: source.clone() }))
            }
            // --no-config takes the default away; every other option that is not set has it.
            Some(_) if address == (&option::CONFIG).into() => Ok(None),
            _ => match definition.default {
                Some(default) => default_value(definition, address, default).map(Some),
                None if definition.required => Err(self.required(definition, address)),
                None => Ok(None),
            },
        }
    }

    /// The value of an option whose dependency does not fit. It must not be on the command line; in a file it may be,
    /// as it may be there for another command.
    fn without_dependency(&self, definition: &Definition, address: Address) -> Result<Option<Resolved>, Error> {
        let Some(dependency) = definition.dependency else { return Ok(None) };
        let setting = self.settings.get(&address);
        let given = setting.is_some_and(|setting| setting.source == Source::CommandLine && setting.written.is_some());
        if given {
            let (_, other) = self.dependency_of(dependency, address);
            let message = format!("option '{address}' not valid without option {}", wanted(dependency, other));
            return Err(Error::new(ErrorKind::OptionInvalid, message));
        }
        dependency.otherwise.map(|otherwise| default_value(definition, address, otherwise)).transpose()
    }

    fn required(&self, definition: &Definition, address: Address) -> Error {
        let message = format!("{} command requires option: {address}", self.command.name());
        let error = Error::new(ErrorKind::OptionRequired, message);
        if definition.group == Some(Group::Cluster) { error.hint("does this stanza exist?") } else { error }
    }
}

/// What the other option would have to be.
fn wanted(dependency: Dependency, other: Address) -> String {
    match dependency.values {
        [] | ["y"] => format!("'{other}'"),
        ["n"] => format!("'no-{other}'"),
        [only] => format!("'{other}' = '{only}'"),
        several => format!("'{other}' in ({})", quoted(several.iter().copied())),
    }
}

fn default_value(definition: &Definition, address: Address, default: &str) -> Result<Resolved, Error> {
    let value = value::parse(definition, address, &[Zeroizing::new(default.to_owned())], &Source::Default)?;
    Ok(Resolved { value, written: vec![default.to_owned()], source: Source::Default })
}
