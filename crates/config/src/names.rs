//! From what a user writes to an option, and back.

use std::fmt;

use crate::command::quoted;
use crate::error::{Error, ErrorKind};
use crate::option::{self, Definition, Group};

/// The greatest index of a repository or cluster. The least is 1.
pub(crate) const INDEX_MAX: u64 = 256;

/// One option, with its index where it has one. Shown as a user writes it: `repo2-path`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address {
    pub(crate) name: &'static str,
    pub(crate) index: Option<Index>,
}

/// Which of several options of one name is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Index {
    /// That of the repository or cluster of this number.
    Number(u32),
    /// That of the sidecar of this name.
    Name(SidecarName),
}

/// The name of a sidecar: small letters, digits and dashes, the first one a letter, the last one no dash.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SidecarName {
    bytes: [u8; Self::MAXIMUM_LENGTH],
    length: usize,
}

impl SidecarName {
    /// The most letters that a name has.
    pub(crate) const MAXIMUM_LENGTH: usize = 32;

    /// The name that is written so, if it is one.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let is_sound = text.starts_with(|letter: char| letter.is_ascii_lowercase())
            && !text.ends_with('-')
            && text.len() <= Self::MAXIMUM_LENGTH
            && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
        let mut bytes = [0; Self::MAXIMUM_LENGTH];
        is_sound.then(|| {
            bytes[..text.len()].copy_from_slice(text.as_bytes());
            Self { bytes, length: text.len() }
        })
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.bytes[..self.length]).unwrap_or_default()
    }
}

impl fmt::Debug for SidecarName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:?}", self.as_str())
    }
}

impl fmt::Display for SidecarName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

impl Definition {
    /// The option of the repository or cluster with this index, from 1 to 256.
    ///
    /// # Panics
    /// Where the option is not one that exists for each repository or cluster.
    pub fn at(&self, index: u32) -> Address {
        assert!(self.group.is_some(), "option '{}' has no index", self.name);
        Address { name: self.name, index: Some(Index::Number(index)) }
    }

    /// The option for the sidecar of this name.
    ///
    /// # Panics
    /// If the option does not exist once for each sidecar.
    pub fn of_sidecar(&self, name: SidecarName) -> Address {
        assert!(self.group == Some(Group::Sidecar), "option '{}' is not of a sidecar", self.name);
        Address { name: self.name, index: Some(Index::Name(name)) }
    }

    /// The name as the help and the reference show it: `repoN-path`.
    pub(crate) fn display_name(&self) -> String {
        match self.group {
            Some(group) => format!("{}{}{}", group.prefix(), group.placeholder(), &self.name[group.prefix().len()..]),
            None => self.name.to_owned(),
        }
    }
}

#[cfg(test)]
impl Definition {
    /// Some index, if the option has one.
    pub(crate) fn any_index(&self) -> Option<Index> {
        self.group.map(|group| match group {
            Group::Cluster | Group::Repository => Index::Number(1),
            Group::Sidecar => SidecarName::parse("models").map_or(Index::Number(1), Index::Name),
        })
    }
}

impl From<&Definition> for Address {
    fn from(definition: &Definition) -> Self {
        Self { name: definition.name, index: None }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.index, self.name.split_once('-')) {
            (Some(Index::Number(index)), Some((group, rest))) => write!(formatter, "{group}{index}-{rest}"),
            (Some(Index::Name(name)), Some((group, rest))) => write!(formatter, "{group}-{name}-{rest}"),
            _ => formatter.write_str(self.name),
        }
    }
}

/// What stands before the name of an option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Prefix {
    None,
    /// `no-`: sets a boolean to `n`.
    Negated,
    /// `reset-`: takes the default, whatever files and environment say.
    Reset,
}

/// The option that a user has written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Named {
    /// One of the definitions of this name. What it says of kind and group holds for all of them.
    pub(crate) definition: &'static Definition,
    pub(crate) address: Address,
    pub(crate) prefix: Prefix,
}

/// How exactly a name must be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Spelling {
    /// In full.
    Full,
    /// The beginning of a name will do, where no other begins so.
    Abbreviated,
}

/// Finds the option that `written` names, if there is one.
pub(crate) fn find(written: &str, spelling: Spelling) -> Result<Option<Named>, Error> {
    let (prefix, rest) = split_prefix(written);
    let (name, index) = split_index(rest, written)?;
    let Some(definition) = by_name(&name, spelling, written)? else {
        return by_deprecated_name(&name, index, prefix, written);
    };
    check_prefix(definition, prefix, written)?;
    let unindexed_is_first = definition.deprecated.contains(&definition.name);
    let index = match (definition.group, index) {
        (Some(group), Some(Index::Number(_))) if group == Group::Sidecar => {
            return Err(needs_index(definition, group, written));
        }
        (None, Some(_)) => return Err(invalid(format!("option '{written}' cannot have an index"))),
        (Some(_), None) if unindexed_is_first => Some(Index::Number(1)),
        (Some(group), None) => return Err(needs_index(definition, group, written)),
        (_, index) => index,
    };
    Ok(Some(Named { definition, address: Address { name: definition.name, index }, prefix }))
}

/// Finds an option for its help, where the index may be left out or written as `N`.
pub(crate) fn find_for_help(written: &str) -> Option<&'static str> {
    let plain = match written.replace("-NAME-", "N-").split_once("N-") {
        Some((group, rest)) => format!("{group}-{rest}"),
        None => written.to_owned(),
    };
    if let Some(definition) = option::all().find(|definition| definition.name == plain) {
        return Some(definition.name);
    }
    find(written, Spelling::Abbreviated).ok().flatten().map(|named| named.definition.name)
}

fn split_prefix(written: &str) -> (Prefix, &str) {
    if let Some(rest) = written.strip_prefix("no-") {
        (Prefix::Negated, rest)
    } else if let Some(rest) = written.strip_prefix("reset-") {
        (Prefix::Reset, rest)
    } else {
        (Prefix::None, written)
    }
}

/// Takes the digits away that stand before the first dash: `repo2-path` is `repo-path` and 2.
fn split_index(rest: &str, written: &str) -> Result<(String, Option<Index>), Error> {
    if let Some((name, tail)) = split_sidecar(rest) {
        let Some(name) = SidecarName::parse(name) else {
            return Err(invalid(format!("option '{written}' has no name of a sidecar in it")).hint(format!(
                "a name has small letters, digits and dashes, begins with a letter, and is at most {} long",
                SidecarName::MAXIMUM_LENGTH
            )));
        };
        return Ok((format!("{}-{tail}", Group::Sidecar.prefix()), Some(Index::Name(name))));
    }
    let Some((head, tail)) = rest.split_once('-') else {
        return Ok((rest.to_owned(), None));
    };
    let group = head.trim_end_matches(|character: char| character.is_ascii_digit());
    let digits = &head[group.len()..];
    if digits.is_empty() || group.is_empty() {
        return Ok((rest.to_owned(), None));
    }
    let index = digits.parse::<u64>().ok().filter(|index| (1..=INDEX_MAX).contains(index));
    let Some(index) = index.and_then(|index| u32::try_from(index).ok()) else {
        return Err(invalid(format!("option '{written}' key must be between 1 and {INDEX_MAX}")));
    };
    Ok((format!("{group}-{tail}"), Some(Index::Number(index))))
}

/// The name of a sidecar in the name of an option, and what stands after it.
fn split_sidecar(rest: &str) -> Option<(&str, &str)> {
    let rest = rest.strip_prefix(Group::Sidecar.prefix())?.strip_prefix('-')?;
    let tails = option::all().filter(|definition| definition.group == Some(Group::Sidecar));
    tails
        .filter_map(|definition| definition.name.split_once('-'))
        .find_map(|(_, tail)| Some((rest.strip_suffix(tail)?.strip_suffix('-')?, tail)))
}

fn by_name(name: &str, spelling: Spelling, written: &str) -> Result<Option<&'static Definition>, Error> {
    if let Some(exact) = option::all().find(|definition| definition.name == name) {
        return Ok(Some(exact));
    }
    if spelling == Spelling::Full || name.is_empty() || is_deprecated(name) {
        return Ok(None);
    }
    let mut fitting: Vec<_> = option::all().filter(|definition| definition.name.starts_with(name)).collect();
    fitting.sort_by_key(|definition| definition.name);
    fitting.dedup_by_key(|definition| definition.name);
    match fitting[..] {
        [] => Ok(None),
        [only] => Ok(Some(only)),
        _ => {
            let names: Vec<_> = fitting.iter().map(|definition| definition.display_name()).collect();
            Err(invalid(format!("invalid option '--{written}'"))
                .hint(format!("it could be {}", quoted(names.iter().map(String::as_str)))))
        }
    }
}

fn is_deprecated(name: &str) -> bool {
    option::all().flat_map(|definition| definition.deprecated).any(|old| old.replace('?', "") == name)
}

/// Finds the option that was once called `name`. Some old names take an index, some do not and mean the first.
fn by_deprecated_name(name: &str, index: Option<Index>, prefix: Prefix, written: &str) -> Result<Option<Named>, Error> {
    let old_names =
        || option::all().flat_map(|definition| definition.deprecated.iter().map(move |old| (definition, *old)));
    let fitting = old_names().find(|(_, old)| old.replace('?', "") == name && old.contains('?') == index.is_some());
    if let Some((definition, _)) = fitting {
        check_prefix(definition, prefix, written)?;
        let index = definition.group.map(|_| index.unwrap_or(Index::Number(1)));
        return Ok(Some(Named { definition, address: Address { name: definition.name, index }, prefix }));
    }
    match old_names().find(|(_, old)| old.replace('?', "") == name) {
        None => Ok(None),
        Some(_) if index.is_some() => Err(invalid(format!("deprecated option '{written}' cannot have an index"))),
        Some((definition, old)) => Err(invalid(format!("deprecated option '{written}' requires an index"))
            .hint(format!("add the required index, e.g. {}", old.replace('?', "1")))
            .hint(format!("consider using the non-deprecated name, e.g. {}", definition.at(1)))),
    }
}

fn check_prefix(definition: &Definition, prefix: Prefix, written: &str) -> Result<(), Error> {
    match prefix {
        Prefix::Negated if !definition.can_be_negated() => {
            Err(invalid(format!("option '{written}' cannot be negated")))
        }
        Prefix::Reset if !definition.can_be_reset() => Err(invalid(format!("option '{written}' cannot be reset"))),
        _ => Ok(()),
    }
}

impl Definition {
    /// Whether `--no-` may stand before it.
    pub(crate) fn can_be_negated(&self) -> bool {
        // --no-config is the one negation that is not of a boolean: no configuration file at all.
        matches!(self.kind, option::Kind::Boolean) || self.name == option::CONFIG.name
    }

    /// Whether `--reset-` may stand before it: there must be a file that could have set it.
    pub(crate) fn can_be_reset(&self) -> bool {
        self.place != option::Place::CommandLine
    }
}

fn needs_index(definition: &Definition, group: Group, written: &str) -> Error {
    let (what, example) = match group {
        Group::Sidecar => ("a name", "-models"),
        Group::Cluster | Group::Repository => ("an index", "1"),
    };
    let example = format!("{}{example}{}", group.prefix(), &definition.name[group.prefix().len()..]);
    let required = what.trim_start_matches("an ").trim_start_matches("a ");
    invalid(format!("option '{written}' requires {what}")).hint(format!("add the required {required}, e.g. {example}"))
}

fn invalid(message: String) -> Error {
    Error::new(ErrorKind::OptionInvalid, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(written: &str) -> (String, Prefix) {
        let named = find(written, Spelling::Abbreviated).unwrap().unwrap();
        (named.address.to_string(), named.prefix)
    }

    fn refused(written: &str) -> String {
        let error = find(written, Spelling::Abbreviated).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::OptionInvalid);
        [error.to_string()].iter().chain(error.hints()).cloned().collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn an_index_stands_before_the_first_dash() {
        assert_eq!(found("repo2-path").0, "repo2-path");
        assert_eq!(found("repo256-s3-bucket").0, "repo256-s3-bucket");
        assert_eq!(found("pg1-path").0, "pg1-path");
        assert_eq!(found("tls-cipher-12").0, "tls-cipher-12");
    }

    #[test]
    fn an_index_is_wanted_where_there_can_be_several() {
        assert_eq!(refused("pg-port"), "option 'pg-port' requires an index\nadd the required index, e.g. pg1-port");
        assert_eq!(refused("repo0-path"), "option 'repo0-path' key must be between 1 and 256");
        assert_eq!(refused("repo257-path"), "option 'repo257-path' key must be between 1 and 256");
        assert_eq!(
            refused("repo99999999999999999999999-path"),
            "option 'repo99999999999999999999999-path' key must be between 1 and 256"
        );
        assert_eq!(refused("lock2-path"), "option 'lock2-path' cannot have an index");
    }

    #[test]
    fn the_name_of_a_sidecar_stands_in_the_middle() {
        assert_eq!(found("sidecar-huggingface-path").0, "sidecar-huggingface-path");
        assert_eq!(found("sidecar-my-models-2-repo").0, "sidecar-my-models-2-repo");
        assert_eq!(found("reset-sidecar-path-path"), ("sidecar-path-path".to_owned(), Prefix::Reset));
        assert_eq!(found("sidecar-only").0, "sidecar-only");
        assert_eq!(found("no-sidecar"), ("sidecar".to_owned(), Prefix::Negated));
        for written in ["sidecar-path", "sidecar1-path"] {
            assert_eq!(
                refused(written),
                format!("option '{written}' requires a name\nadd the required name, e.g. sidecar-models-path")
            );
        }
        let long = format!("sidecar-{}-path", "x".repeat(33));
        for written in
            ["sidecar--path", "sidecar-A-path", "sidecar-1st-path", "sidecar-a_b-path", "sidecar-a--path", &long]
        {
            assert!(refused(written).contains("has no name of a sidecar in it"), "{written}");
        }
        assert_eq!(find_for_help("sidecar-NAME-path"), Some("sidecar-path"));
        assert_eq!(find_for_help("sidecar-models-path"), Some("sidecar-path"));
    }

    #[test]
    fn old_names_still_lead_to_their_option() {
        for (old, new) in [
            ("repo-path", "repo1-path"),
            ("repo-cipher-pass", "repo1-cipher-pass"),
            ("db-path", "pg1-path"),
            ("db2-path", "pg2-path"),
            ("db-socket-path", "pg1-socket-path"),
            ("db-user", "pg1-host-user"),
            ("backup-host", "repo1-host"),
            ("hardlink", "repo1-hardlink"),
            ("retention-full", "repo1-retention-full"),
            ("archive-queue-max", "archive-push-queue-max"),
            ("repo-s3-bucket", "repo1-s3-bucket"),
            ("repo1-s3-ca-file", "repo1-storage-ca-file"),
            ("repo3-s3-verify-ssl", "repo3-storage-verify-tls"),
            ("no-repo-s3-verify-ssl", "repo1-storage-verify-tls"),
        ] {
            assert_eq!(found(old).0, new, "{old}");
        }
    }

    #[test]
    fn old_names_keep_their_rule_about_indexes() {
        assert_eq!(refused("backup2-host"), "deprecated option 'backup2-host' cannot have an index");
        assert_eq!(
            refused("repo-s3-port"),
            "deprecated option 'repo-s3-port' requires an index\n\
             add the required index, e.g. repo1-s3-port\n\
             consider using the non-deprecated name, e.g. repo1-storage-port"
        );
    }

    #[test]
    fn a_prefix_is_enough_where_it_fits_one_option_only() {
        assert_eq!(found("stan").0, "stanza");
        assert_eq!(found("repo2-cipher-p").0, "repo2-cipher-pass");
        assert_eq!(
            refused("repo1-cipher"),
            "invalid option '--repo1-cipher'\nit could be 'repoN-cipher-pass', 'repoN-cipher-type'"
        );
        assert!(find("stan", Spelling::Full).unwrap().is_none());
    }

    #[test]
    fn only_booleans_and_config_are_negated() {
        assert_eq!(found("no-online"), ("online".to_owned(), Prefix::Negated));
        assert_eq!(found("no-config"), ("config".to_owned(), Prefix::Negated));
        assert_eq!(refused("no-stanza"), "option 'no-stanza' cannot be negated");
    }

    #[test]
    fn only_what_a_file_could_set_is_reset() {
        assert_eq!(found("reset-repo1-path"), ("repo1-path".to_owned(), Prefix::Reset));
        assert_eq!(refused("reset-stanza"), "option 'reset-stanza' cannot be reset");
    }

    #[test]
    fn what_is_unknown_is_not_found() {
        for written in ["bogus", "", "no-", "-x", "1-x", "repo1-", "bogus1-path"] {
            assert!(find(written, Spelling::Full).unwrap().is_none(), "{written}");
        }
    }
}
