//! The command line: what was given, not yet whether it may be.

use std::collections::BTreeMap;
use std::ffi::OsString;

use lexopt::{Arg, Parser};
use zeroize::Zeroizing;

use crate::command::{Command, Role};
use crate::error::{Error, ErrorKind};
use crate::names::{self, Address, Named, Prefix, Spelling};
use crate::option::{self, Kind};
use crate::value::Written;

/// A command line.
#[derive(Debug, Default)]
pub(crate) struct Arguments {
    pub(crate) command: Option<Command>,
    pub(crate) role: Role,
    /// Whether help is asked for, by `help` or by `--help`.
    pub(crate) help: bool,
    /// What follows the command.
    pub(crate) parameters: Vec<String>,
    pub(crate) options: BTreeMap<Address, Given>,
}

/// What the command line says about one option.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Given {
    /// `--option=value`, several times for a list.
    Values(Vec<Written>),
    /// `--option` or `--no-option`
    Switch(bool),
    /// `--reset-option`
    Reset,
}

impl Given {
    /// How the option was given, as it is said in an error.
    fn participle(&self) -> &'static str {
        match self {
            Self::Values(_) | Self::Switch(true) => "set",
            Self::Switch(false) => "negated",
            Self::Reset => "reset",
        }
    }
}

/// Takes a command line apart. The program's own name is not part of it.
pub(crate) fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Arguments, Error> {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    let mut parser = Parser::from_args(arguments);
    let mut result = Arguments::default();
    while let Some(argument) = parser.next().map_err(|error| invalid(error.to_string()))? {
        match argument {
            Arg::Short(letter) => return Err(invalid(format!("option '-{letter}' must begin with --"))),
            Arg::Long(written) => {
                let written = written.to_owned();
                parse_option(&written, &mut parser, &mut result)?;
            }
            Arg::Value(word) => take_word(utf8(word, ErrorKind::ParameterInvalid)?, &mut result)?,
        }
    }
    Ok(result)
}

/// The first word is the command, but `help` is a question about the command that follows it.
fn take_word(word: String, result: &mut Arguments) -> Result<(), Error> {
    if result.command.is_some() {
        result.parameters.push(word);
        return Ok(());
    }
    match Command::find_with_role(&word)? {
        (Command::Help, _) if !result.help => result.help = true,
        (command, role) => (result.command, result.role) = (Some(command), role),
    }
    Ok(())
}

fn parse_option(written: &str, parser: &mut Parser, result: &mut Arguments) -> Result<(), Error> {
    let Some(named) = names::find(written, Spelling::Abbreviated)? else {
        return Err(invalid(format!("invalid option '--{written}'")));
    };
    let given = parse_value(&named, written, parser)?;
    if matches!(named.definition.kind, Kind::Secret) && given != Given::Reset {
        return Err(invalid(format!("option '{}' is not allowed on the command-line", named.address))
            .hint("this option could expose secrets in the process list")
            .hint("specify the option in a configuration file or an environment variable instead"));
    }
    if named.address.name == option::HELP.name {
        result.help |= given == Given::Switch(true);
        return Ok(());
    }
    add(&named, given, result)
}

fn parse_value(named: &Named, written: &str, parser: &mut Parser) -> Result<Given, Error> {
    let attached = parser.optional_value().map(|value| utf8(value, ErrorKind::OptionInvalidValue)).transpose()?;
    match (named.prefix, named.definition.kind, attached) {
        (Prefix::Negated | Prefix::Reset, _, Some(_)) => {
            Err(invalid(format!("option '{written}' does not allow an argument")))
        }
        (Prefix::Negated, _, None) => Ok(Given::Switch(false)),
        (Prefix::Reset, _, None) => Ok(Given::Reset),
        (Prefix::None, Kind::Boolean, None) => Ok(Given::Switch(true)),
        (Prefix::None, Kind::Boolean, Some(value)) => match value.as_str() {
            "y" => Ok(Given::Switch(true)),
            "n" => Ok(Given::Switch(false)),
            _ => {
                let message = format!("boolean option '--{written}' argument must be 'y' or 'n'");
                Err(Error::new(ErrorKind::OptionInvalidValue, message))
            }
        },
        (Prefix::None, _, Some(value)) => Ok(Given::Values(vec![Zeroizing::new(value)])),
        (Prefix::None, _, None) => {
            let next = parser.value().map_err(|_| invalid(format!("option '--{written}' requires an argument")))?;
            Ok(Given::Values(vec![Zeroizing::new(utf8(next, ErrorKind::OptionInvalidValue)?)]))
        }
    }
}

/// Adds what was given for an option to what was given for it before, where the two go together.
fn add(named: &Named, given: Given, result: &mut Arguments) -> Result<(), Error> {
    let address = named.address;
    let Some(before) = result.options.get_mut(&address) else {
        result.options.insert(address, given);
        return Ok(());
    };
    match (before, given) {
        (Given::Values(values), Given::Values(more)) if named.definition.kind.is_multiple() => {
            values.extend(more);
            Ok(())
        }
        (before, given) => Err(invalid(match (before.participle(), given.participle()) {
            ("set", "set") => format!("option '{address}' cannot be set multiple times"),
            (one, other) if one == other => format!("option '{address}' is {one} multiple times"),
            ("set", other) | (other, "set") => format!("option '{address}' cannot be set and {other}"),
            _ => format!("option '{address}' cannot be negated and reset"),
        })),
    }
}

fn utf8(word: OsString, kind: ErrorKind) -> Result<String, Error> {
    word.into_string().map_err(|word| Error::new(kind, format!("'{}' is not valid UTF-8", word.to_string_lossy())))
}

fn invalid(message: String) -> Error {
    Error::new(ErrorKind::OptionInvalid, message)
}
