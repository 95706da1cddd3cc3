//! From a command line, an environment and files to what is to be done.

use std::ffi::OsString;

use crate::arguments::{self, Arguments, Given};
use crate::checks;
use crate::collect::{Collector, option_of};
use crate::command::Command;
use crate::completion;
use crate::configuration::Configuration;
use crate::environment::Environment;
use crate::error::{Error, ErrorKind};
use crate::files::{self, Files};
use crate::help::{HelpTopic, VersionFormat};
use crate::names;
use crate::option;
use crate::resolve::resolve;

/// What is to be done.
#[derive(Debug)]
pub enum Invocation {
    /// Show [`help`](crate::help) on a topic.
    Help(HelpTopic),
    /// Show the [`version`](crate::version).
    Version(VersionFormat),
    /// Show this: the script by which a shell completes command lines, or what it has asked for.
    Completion(String),
    /// Run a command.
    Run(Box<Configuration>),
}

/// Finds out what is to be done.
///
/// `arguments` is the command line without the name of the program. Help, version and completion need neither environment
/// nor files, so that they work where those are broken.
///
/// # Errors
/// With whatever is wrong first; see [`ErrorKind`].
pub fn load(
    arguments: impl IntoIterator<Item = OsString>,
    environment: &Environment,
    files: &dyn Files,
) -> Result<Invocation, Error> {
    let arguments = arguments::parse(arguments)?;
    if arguments.help {
        return help_topic(&arguments).map(Invocation::Help);
    }
    let Some(command) = arguments.command else {
        return without_command(&arguments);
    };
    command.require_available()?;
    command.check_parameters(arguments.role, arguments.parameters.len())?;
    let mut collector = Collector::new(command);
    collector.take_arguments(&arguments.options)?;
    if command == Command::Completion {
        return completion::text(&arguments.parameters, environment, files).map(Invocation::Completion);
    }
    if command != Command::Version {
        collector.take_environment(environment)?;
        let entries = files::load(&collector.request(), files)?;
        collector.take_files(&entries)?;
        collector.warn_of_public_secrets(&entries, files);
    }
    // What is odd in the files may be why something is missing.
    let resolved = resolve(command, &collector.settings).map_err(|error| error.hints_of(&collector.warnings));
    let (values, indexes) = resolved?;
    collector.warn_of_missed();
    let mut configuration = Configuration {
        command,
        role: arguments.role,
        parameters: arguments.parameters,
        values,
        indexes,
        stanzas: collector.stanzas.into_iter().collect(),
        given: arguments.options,
        warnings: collector.warnings,
    };
    if command == Command::Version {
        return Ok(Invocation::Version(version_format(&configuration)));
    }
    configuration.warnings.extend(checks::check(&configuration)?);
    Ok(Invocation::Run(Box::new(configuration)))
}

fn without_command(arguments: &Arguments) -> Result<Invocation, Error> {
    let version = arguments.options.get(&(&option::VERSION).into());
    if arguments.options.is_empty() {
        return Ok(Invocation::Help(HelpTopic::General));
    }
    if version == Some(&Given::Switch(true)) && arguments.options.len() == 1 {
        return Ok(Invocation::Version(VersionFormat::Text));
    }
    Err(Error::new(ErrorKind::CommandRequired, "no command found"))
}

fn version_format(configuration: &Configuration) -> VersionFormat {
    match configuration.text(&option::VERSION_OUTPUT) {
        "num" => VersionFormat::Number,
        _ => VersionFormat::Text,
    }
}

fn help_topic(arguments: &Arguments) -> Result<HelpTopic, Error> {
    for address in arguments.options.keys() {
        option_of(*address, arguments.command.unwrap_or(Command::Help))?;
    }
    let Some(command) = arguments.command else { return Ok(HelpTopic::General) };
    match &arguments.parameters[..] {
        [] => Ok(HelpTopic::Command(command)),
        [written] => {
            let definition = names::find_for_help(written).and_then(|name| option::find(name, command));
            definition.map(|definition| HelpTopic::Option(command, definition)).ok_or_else(|| {
                let message = format!("option '{written}' is not valid for command '{}'", command.name());
                Error::new(ErrorKind::OptionInvalid, message)
            })
        }
        _ => Err(Error::new(ErrorKind::ParameterInvalid, "only one option allowed for option help")),
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::path::Path;

    use proptest::prelude::*;

    use super::*;

    /// One configuration file, whatever its name.
    struct OneFile(String);

    impl Files for OneFile {
        fn read(&self, _path: &Path) -> io::Result<String> {
            Ok(self.0.clone())
        }

        fn list(&self, _directory: &Path) -> io::Result<Vec<String>> {
            Err(io::ErrorKind::NotFound.into())
        }

        fn is_public(&self, _path: &Path) -> bool {
            true
        }
    }

    /// The name of an option as a user may write it, or something that is none.
    fn name() -> impl Strategy<Value = String> {
        let names: Vec<_> = option::all().map(|definition| definition.name).collect();
        let name = prop::sample::select(names);
        let spelling = (name, prop::sample::select(vec!["", "no-", "reset-"]), prop::option::of(0..400_u32));
        let known = spelling.prop_map(|(name, prefix, index)| match (index, name.split_once('-')) {
            (Some(index), Some((group, rest))) => format!("{prefix}{group}{index}-{rest}"),
            _ => format!("{prefix}{name}"),
        });
        prop_oneof![4 => known, 1 => ".{0,20}"]
    }

    fn value() -> impl Strategy<Value = String> {
        let usual =
            prop::sample::select(vec!["y", "n", "1", "/x", "full", "posix", "k=v", "a:b", "10s", "1MiB", "none"]);
        prop_oneof![4 => usual.prop_map(str::to_owned), 1 => ".{0,20}"]
    }

    proptest! {
        #[test]
        fn nothing_a_user_writes_upsets_the_program(
            command in prop::sample::select(Command::all().collect::<Vec<_>>()),
            words in prop::collection::vec((name(), prop::option::of(value())), 0..5),
            variables in prop::collection::vec((name(), value()), 0..5),
            lines in prop::collection::vec((name(), value()), 0..8),
            parameters in prop::collection::vec(value(), 0..3),
        ) {
            let options = words.into_iter().map(|(name, value)| match value {
                Some(value) => format!("--{name}={value}"),
                None => format!("--{name}"),
            });
            let needed = ["--stanza=demo", "--pg1-path=/pg"].map(str::to_owned);
            let command_line = [command.name().to_owned()].into_iter().chain(parameters).chain(needed).chain(options);
            let environment = variables
                .into_iter()
                .map(|(name, value)| (format!("PGARK_{}", name.to_uppercase().replace('-', "_")), value))
                .collect();
            let lines: Vec<_> = lines.into_iter().map(|(name, value)| format!("{name}={value}")).collect();
            let file = OneFile(format!("[demo]\n{}", lines.join("\n")));
            let invocation = load(command_line.map(OsString::from), &environment, &file);
            if let Ok(Invocation::Run(configuration)) = invocation {
                prop_assert!(!configuration.repository_keys().is_empty());
                prop_assert!(!configuration.describe().is_empty());
                if configuration.takes(&option::COMPRESS_TYPE) {
                    configuration.compression();
                }
            }
        }
    }
}
