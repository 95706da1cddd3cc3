//! The environment.

use std::collections::BTreeMap;
use std::fmt;

use zeroize::Zeroizing;

use crate::value::Written;

/// What the names of pgark's variables begin with.
pub(crate) const OWN_PREFIX: &str = "PGARK_";
/// What the names of pgBackRest's variables begin with, which are taken too.
pub(crate) const OTHER_PREFIX: &str = "PGBACKREST_";

/// The variables of the environment that are meant for pgark, by name.
#[derive(Clone, Default)]
pub struct Environment(BTreeMap<String, Written>);

impl Environment {
    /// The environment of this process. What is not UTF-8 in it is replaced.
    pub fn of_process() -> Self {
        std::env::vars_os()
            .map(|(name, value)| (name.to_string_lossy().into_owned(), value.to_string_lossy().into_owned()))
            .collect()
    }

    /// What a variable says of an option, whether it makes sense or not; pgark's own goes first.
    pub fn value_of(&self, option: &str) -> Option<&str> {
        let variable = |prefix: &str| format!("{prefix}{}", option.to_uppercase().replace('-', "_"));
        let value = self.0.get(&variable(OWN_PREFIX)).or_else(|| self.0.get(&variable(OTHER_PREFIX)))?;
        Some(value.as_str())
    }

    /// The variables whose names begin with `prefix`: the option each of them names, its full name and its value.
    pub(crate) fn with_prefix(&self, prefix: &str) -> impl Iterator<Item = (String, &str, &Written)> {
        self.0.iter().filter_map(move |(variable, value)| {
            let rest = variable.strip_prefix(prefix)?;
            Some((rest.to_lowercase().replace('_', "-"), variable.as_str(), value))
        })
    }
}

impl FromIterator<(String, String)> for Environment {
    /// Keeps the variables whose names begin with `PGARK_` or `PGBACKREST_`.
    fn from_iter<I: IntoIterator<Item = (String, String)>>(variables: I) -> Self {
        let meant = |name: &str| name.starts_with(OWN_PREFIX) || name.starts_with(OTHER_PREFIX);
        let kept = variables.into_iter().filter(|(name, _)| meant(name));
        Self(kept.map(|(name, value)| (name, Zeroizing::new(value))).collect())
    }
}

impl fmt::Debug for Environment {
    /// Shows names only: a value may be a secret.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_set().entries(self.0.keys()).finish()
    }
}
