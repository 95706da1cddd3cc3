//! A command with the values of all its options.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use crate::arguments::Given;
use crate::command::{Command, Role};
use crate::names::{Address, SidecarName};
use crate::option;
use crate::resolve::{Indexes, Resolved, Values};
use crate::source::Source;
use crate::value::{Secret, Value};

/// A command to run, with its parameters and the values of all its options.
///
/// The methods that give a value take an option of [`option`](crate::option), for example `&option::LOCK_PATH`, or
/// `option::REPO_PATH.at(1)` for an option that each repository or cluster has.
///
/// # Panics
/// They panic where the program asks for what can't be there: an option that the command does not take, or that can't
/// be set yet; an index that is not in use; a value of another type than the option has; or, but for the `optional_`
/// ones, an option that has no value. What a user sets never leads to a panic.
#[derive(Clone, Debug)]
pub struct Configuration {
    pub(crate) command: Command,
    pub(crate) role: Role,
    pub(crate) parameters: Vec<String>,
    pub(crate) values: Values,
    pub(crate) indexes: Indexes,
    pub(crate) stanzas: Vec<String>,
    /// What the command line has given.
    pub(crate) given: BTreeMap<Address, Given>,
    pub(crate) warnings: Vec<String>,
}

/// Defines a pair of methods that give the value of an option of one type.
macro_rules! accessors {
    ($($kind:ident: $required:ident, $optional:ident -> $type:ty, $convert:expr, $what:literal;)*) => {
        $(
            #[doc = concat!("The ", $what, " that an option is set to, or its default.")]
            ///
            /// # Panics
            /// See [`Configuration`].
            pub fn $required(&self, option: impl Into<Address>) -> $type {
                let address = option.into();
                self.$optional(address).unwrap_or_else(|| misuse(self.command, address, "has no value"))
            }

            #[doc = concat!("The ", $what, " that an option is set to, or its default if it has one.")]
            ///
            /// # Panics
            /// See [`Configuration`].
            pub fn $optional(&self, option: impl Into<Address>) -> Option<$type> {
                let address = option.into();
                match &self.resolved(address)?.value {
                    Value::$kind(value) => Some($convert(value)),
                    _ => misuse(self.command, address, concat!("is not a ", $what)),
                }
            }
        )*
    };
}

/// The one place where a mistake of the program, not of its user, ends in a panic.
fn misuse(command: Command, address: Address, what: &str) -> ! {
    panic!("option '{address}' of the {} command {what}", command.name())
}

impl Configuration {
    /// The command to run.
    pub fn command(&self) -> Command {
        self.command
    }

    /// Which part of the command's work is to be done.
    pub fn role(&self) -> Role {
        self.role
    }

    /// The parameters of the command, as many as it takes.
    pub fn parameters(&self) -> &[String] {
        &self.parameters
    }

    /// What is odd about the configuration, but no reason not to go on.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// The stanzas that the configuration files have sections for, sorted.
    pub fn stanzas(&self) -> &[String] {
        &self.stanzas
    }

    /// The indexes of the configured repositories, ascending; at least one.
    pub fn repository_keys(&self) -> &[u32] {
        &self.indexes.repositories
    }

    /// The indexes of the configured clusters, ascending; 1 is always among them.
    pub fn cluster_keys(&self) -> &[u32] {
        &self.indexes.clusters
    }

    /// The names of the configured sidecars, ascending.
    pub fn sidecar_names(&self) -> &[SidecarName] {
        &self.indexes.sidecars
    }

    /// The passphrase of a repository, if it is encrypted.
    ///
    /// # Panics
    /// See [`Configuration`].
    pub fn repository_passphrase(&self, key: u32) -> Option<&Secret> {
        self.optional_secret(option::REPO_CIPHER_PASS.at(key))
    }

    accessors! {
        Boolean: boolean, optional_boolean -> bool, |value: &bool| *value, "boolean";
        Integer: integer, optional_integer -> i64, |value: &i64| *value, "number";
        Size: size, optional_size -> u64, |value: &u64| *value, "size in bytes";
        Duration: duration, optional_duration -> Duration, |value: &Duration| *value, "duration";
    }

    accessors! {
        Text: text, optional_text -> &str, String::as_str, "text";
        Secret: secret, optional_secret -> &Secret, std::convert::identity, "secret";
        Path: path, optional_path -> &Path, std::path::PathBuf::as_path, "path";
    }

    /// The values that an option was given, in the order they were given; empty where there are none.
    ///
    /// # Panics
    /// See [`Configuration`].
    pub fn list(&self, option: impl Into<Address>) -> &[String] {
        let address = option.into();
        match self.resolved(address).map(|resolved| &resolved.value) {
            None => &[],
            Some(Value::List(values)) => values,
            Some(_) => misuse(self.command, address, "is not a list"),
        }
    }

    /// The pairs of key and value that an option was given, in the order they were given, no key twice; empty where
    /// there are none.
    ///
    /// # Panics
    /// See [`Configuration`].
    pub fn map(&self, option: impl Into<Address>) -> &[(String, String)] {
        let address = option.into();
        match self.resolved(address).map(|resolved| &resolved.value) {
            None => &[],
            Some(Value::Map(pairs)) => pairs,
            Some(_) => misuse(self.command, address, "is not a map"),
        }
    }

    /// Whether the command takes the option.
    pub fn takes(&self, option: impl Into<Address>) -> bool {
        option::find(option.into().name, self.command).is_some()
    }

    /// Where the value of an option comes from.
    ///
    /// # Panics
    /// See [`Configuration`].
    pub fn source(&self, option: impl Into<Address>) -> &Source {
        self.resolved(option.into()).map_or(&Source::Default, |resolved| &resolved.source)
    }

    /// Whether an option was set, be it to its default.
    ///
    /// # Panics
    /// See [`Configuration`].
    pub fn is_set(&self, option: impl Into<Address>) -> bool {
        *self.source(option) != Source::Default
    }

    fn resolved(&self, address: Address) -> Option<&Resolved> {
        match self.values.get(&address) {
            Some(resolved) => resolved.as_ref(),
            None => misuse(self.command, address, "can't be asked for"),
        }
    }

    /// The options of the command line that `command` takes too, each as one argument and not quoted. With them
    /// `command` has the same configuration, if it reads the same files and environment.
    pub fn command_line_options(&self, command: Command) -> Vec<String> {
        let taken = |address: &Address| option::find(address.name, command).is_some();
        self.given
            .iter()
            .filter(|(address, _)| taken(address))
            .flat_map(|(address, given)| render(*address, given))
            .collect()
    }

    /// The parameters and every option that is set, sorted, for the log: `[000000010000000000000001] --stanza=demo`.
    /// Secrets are not shown.
    pub fn describe(&self) -> String {
        let mut words = Vec::new();
        if !self.parameters.is_empty() {
            let parameters: Vec<_> = self.parameters.iter().map(|text| quoted_if_blank(text)).collect();
            words.push(format!("[{}]", parameters.join(", ")));
        }
        for (address, resolved) in &self.values {
            match (self.given.get(address), resolved) {
                (Some(given @ (Given::Reset | Given::Switch(_))), _) => words.extend(render(*address, given)),
                (_, Some(resolved)) if resolved.source != Source::Default => words.extend(describe(*address, resolved)),
                _ => {}
            }
        }
        words.join(" ")
    }
}

/// An option as it was given on the command line, under its full name.
fn render(address: Address, given: &Given) -> Vec<String> {
    match given {
        Given::Values(values) => values.iter().map(|value| format!("--{address}={}", value.as_str())).collect(),
        Given::Switch(true) => vec![format!("--{address}")],
        Given::Switch(false) => vec![format!("--no-{address}")],
        Given::Reset => vec![format!("--reset-{address}")],
    }
}

/// An option for the log.
fn describe(address: Address, resolved: &Resolved) -> Vec<String> {
    match &resolved.value {
        Value::Boolean(true) => vec![format!("--{address}")],
        Value::Boolean(false) => vec![format!("--no-{address}")],
        Value::Secret(_) => vec![format!("--{address}=<redacted>")],
        _ => resolved.written.iter().map(|text| format!("--{address}={}", quoted_if_blank(&shown(text)))).collect(),
    }
}

/// A value as it may be shown: one with a password in it, as connection strings have, is not, but for its key.
pub(crate) fn shown(text: &str) -> String {
    let is_name = |key: &str| key.chars().all(|letter| letter.is_ascii_alphanumeric() || "_-.".contains(letter));
    match text.split_once('=') {
        _ if !has_password(text) => text.to_owned(),
        Some((key, value)) if is_name(key) && has_password(value) => format!("{key}=<redacted>"),
        _ => "<redacted>".to_owned(),
    }
}

/// Whether a text has a password in it: `host=db password=...` or `postgresql://user:...@db`.
fn has_password(text: &str) -> bool {
    let lower = text.to_ascii_lowercase();
    let is_given = |(start, name): (usize, &str)| lower[start + name.len()..].trim_start().starts_with('=');
    let is_in_address = |rest: &str| {
        let authority = rest.split('/').next().unwrap_or_default();
        authority.rsplit_once('@').is_some_and(|(user, _)| user.contains(':'))
    };
    lower.match_indices("password").any(is_given) || text.split("://").skip(1).any(is_in_address)
}

fn quoted_if_blank(text: &str) -> String {
    if text.contains(' ') { format!("\"{text}\"") } else { text.to_owned() }
}
