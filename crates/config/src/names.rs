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
    pub(crate) index: Option<u32>,
}

impl Definition {
    /// The option of the repository or cluster with this index, from 1 to 256.
    ///
    /// # Panics
    /// Where the option is not one that exists for each repository or cluster.
    pub fn at(&self, index: u32) -> Address {
        assert!(self.group.is_some(), "option '{}' has no index", self.name);
        Address { name: self.name, index: Some(index) }
    }

    /// The name as the help and the reference show it: `repoN-path`.
    pub(crate) fn display_name(&self) -> String {
        match self.group {
            Some(group) => format!("{}N{}", group.prefix(), &self.name[group.prefix().len()..]),
            None => self.name.to_owned(),
        }
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
            (Some(index), Some((group, rest))) => write!(formatter, "{group}{index}-{rest}"),
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
        (None, Some(_)) => return Err(invalid(format!("option '{written}' cannot have an index"))),
        (Some(_), None) if unindexed_is_first => Some(1),
        (Some(group), None) => return Err(needs_index(definition, group, written)),
        (_, index) => index,
    };
    Ok(Some(Named { definition, address: Address { name: definition.name, index }, prefix }))
}

/// Finds an option for its help, where the index may be left out or written as `N`.
pub(crate) fn find_for_help(written: &str) -> Option<&'static str> {
    let plain = match written.split_once("N-") {
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
fn split_index(rest: &str, written: &str) -> Result<(String, Option<u32>), Error> {
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
    Ok((format!("{group}-{tail}"), Some(index)))
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
fn by_deprecated_name(name: &str, index: Option<u32>, prefix: Prefix, written: &str) -> Result<Option<Named>, Error> {
    let old_names =
        || option::all().flat_map(|definition| definition.deprecated.iter().map(move |old| (definition, *old)));
    let fitting = old_names().find(|(_, old)| old.replace('?', "") == name && old.contains('?') == index.is_some());
    if let Some((definition, _)) = fitting {
        check_prefix(definition, prefix, written)?;
        let index = definition.group.map(|_| index.unwrap_or(1));
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
    let example = format!("{}1{}", group.prefix(), &definition.name[group.prefix().len()..]);
    invalid(format!("option '{written}' requires an index")).hint(format!("add the required index, e.g. {example}"))
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
