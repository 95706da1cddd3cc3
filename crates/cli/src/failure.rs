//! Why a command failed, as its user is told.

use pgark_config::Error as ConfigurationError;
use pgark_engine::{Error as EngineError, ErrorKind};

use crate::exit::Code;

/// A command that failed: the exit code, what happened, and what to do next.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) code: Code,
    pub(crate) message: String,
    pub(crate) hints: Vec<String>,
}

/// What a command or a part of it gives.
pub(crate) type Result<T, E = Failure> = std::result::Result<T, E>;

impl Failure {
    /// An option has a value that can't be used.
    pub(crate) fn option_value(message: impl Into<String>) -> Self {
        EngineError::new(ErrorKind::OptionInvalidValue, message).into()
    }

    /// A parameter can't be used.
    pub(crate) fn parameter(message: impl Into<String>) -> Self {
        EngineError::new(ErrorKind::ParameterInvalid, message).into()
    }

    /// An option is missing.
    pub(crate) fn option_required(message: impl Into<String>) -> Self {
        EngineError::new(ErrorKind::OptionRequired, message).into()
    }

    /// The failure of one thing among several.
    pub(crate) fn of(self, what: &str) -> Self {
        Self { message: format!("{what}: {}", self.message), ..self }
    }

    /// With one more hint on what to do next.
    #[must_use]
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    /// The message as it is logged: pgBackRest's code in front, hints in lines of their own.
    pub(crate) fn log_message(&self) -> String {
        let mut text = format!("[{:03}]: {}", self.code.number, self.message);
        for hint in &self.hints {
            text.push_str("\nHINT: ");
            text.push_str(hint);
        }
        text
    }
}

impl From<EngineError> for Failure {
    fn from(error: EngineError) -> Self {
        Self { code: error.kind().into(), message: error.full_message(), hints: error.hints().to_vec() }
    }
}

impl From<ConfigurationError> for Failure {
    fn from(error: ConfigurationError) -> Self {
        Self { code: error.kind().into(), message: error.to_string(), hints: error.hints().to_vec() }
    }
}
