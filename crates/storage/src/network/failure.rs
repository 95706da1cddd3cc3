//! Why an operation on a service failed.

use std::fmt;

use crate::error::{Error, ErrorKind, Origin};
use crate::key::Key;
use crate::operation::Operation;

/// Whether another attempt may succeed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Retry {
    /// No: the answer will be the same.
    Never,
    /// Yes. The service may have done what it was asked all the same.
    Later,
    /// Yes. The service was not reached, so that it has done nothing.
    Unreached,
}

/// Why an operation failed, without saying on what.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    pub(crate) kind: ErrorKind,
    pub(crate) origin: Origin,
    pub(crate) retry: Retry,
    /// The code of the service, such as `NoSuchKey`, where it gave one.
    pub(crate) code: Option<String>,
    /// Of several objects the one it is about, as the service calls it.
    pub(crate) object: Option<String>,
    reason: String,
    hint: Option<String>,
}

impl Failure {
    /// A failure that will be the same at another attempt.
    pub(crate) fn new(kind: ErrorKind, reason: impl Into<String>) -> Self {
        let origin = Origin::Here;
        Self { kind, origin, retry: Retry::Never, code: None, object: None, reason: reason.into(), hint: None }
    }

    #[must_use]
    pub(crate) fn origin(mut self, origin: Origin) -> Self {
        self.origin = origin;
        self
    }

    #[must_use]
    pub(crate) fn retry(mut self, retry: Retry) -> Self {
        self.retry = retry;
        self
    }

    #[must_use]
    pub(crate) fn code(mut self, code: Option<&str>) -> Self {
        self.code = code.map(ToOwned::to_owned);
        self
    }

    /// With what to do next.
    #[must_use]
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// What has happened, in words.
    pub(crate) fn reason(&self) -> &str {
        &self.reason
    }

    /// Of one object of several.
    #[must_use]
    pub(crate) fn on(mut self, name: &str) -> Self {
        self.object = Some(name.to_owned());
        self
    }

    /// Whether the service gave this code.
    pub(crate) fn is_code(&self, code: &str) -> bool {
        self.code.as_deref() == Some(code)
    }

    /// The error of an operation of a storage.
    pub(crate) fn of(self, operation: Operation, key: Option<&Key>, storage: String) -> Error {
        let error = Error::new(self.kind, operation, key, storage, self.reason).with_origin(self.origin);
        match self.hint {
            Some(hint) => error.with_hint(hint),
            None => error,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.reason)
    }
}

impl std::error::Error for Failure {}
