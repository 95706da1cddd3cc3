//! Where a value comes from.

use std::path::PathBuf;

use crate::error::Error;

/// Where the value of an option comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// It was not set.
    Default,
    /// A configuration file.
    File {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The section, without brackets.
        section: String,
    },
    /// The environment.
    Environment {
        /// The name of the variable.
        variable: String,
    },
    /// The command line.
    CommandLine,
}

impl Source {
    /// Adds to an error where the wrong value is; nothing for the command line, which the user has just written.
    pub(crate) fn trace(&self, error: Error) -> Error {
        match self {
            Self::Default | Self::CommandLine => error,
            Self::File { path, line, section } => {
                error.hint(format!("it is set in section [{section}] of '{}', line {line}", path.display()))
            }
            Self::Environment { variable } => error.hint(format!("it is set by the environment variable {variable}")),
        }
    }
}
