//! What can be wrong with a command line, an environment or a configuration file.

/// What went wrong, coarsely. Each kind is one exit code of the program; the codes are pgBackRest's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// There is no such command, or the abbreviation fits several.
    CommandInvalid,
    /// Options were given, but no command.
    CommandRequired,
    /// The command, the option or the value is known, but a later version brings it.
    FeatureNotSupported,
    /// A file that was asked for does not exist.
    FileMissing,
    /// A file or directory can't be read.
    FileRead,
    /// A configuration file is not well formed.
    Format,
    /// There is no such option, or it can't be used in this way.
    OptionInvalid,
    /// The value of an option is not one that the option takes.
    OptionInvalidValue,
    /// An option that the command needs is not set.
    OptionRequired,
    /// The command takes fewer parameters, or this one can't be read.
    ParameterInvalid,
    /// The command needs a parameter that is not there.
    ParameterRequired,
    /// A directory that was asked for does not exist.
    PathMissing,
}

/// Why a configuration could not be loaded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    kind: ErrorKind,
    message: String,
    hints: Vec<String>,
}

impl Error {
    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), hints: Vec::new() }
    }

    /// The same error with one more hint.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    /// The same error with these hints after its own.
    pub(crate) fn hints_of(mut self, warnings: &[String]) -> Self {
        self.hints.extend_from_slice(warnings);
        self
    }

    /// What kind of error it is.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// What to do about it, one sentence each, without a `HINT:` in front.
    pub fn hints(&self) -> &[String] {
        &self.hints
    }
}
