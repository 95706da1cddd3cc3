//! Errors of a storage.

use std::error::Error as StdError;
use std::io;

use crate::key::Key;
use crate::operation::Operation;

/// What a storage returns.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, as coarse as a caller can act on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// The storage was reached, and it has no such object.
    NotFound,
    /// The name is taken.
    AlreadyExists,
    /// The repository as a whole is not there: its directory or bucket is missing, or its disk is not mounted.
    RootMissing,
    /// The storage does not let us.
    Denied,
    /// The storage is full or a quota is used up.
    NoSpace,
    /// The object ends before the range that was asked for.
    TooShort,
    /// The object is larger than the caller's limit.
    TooLarge,
    /// The storage does not answer at present. Worth another try.
    Unavailable,
    /// The storage cannot do what pgark needs of it.
    Unsupported,
    /// What the configuration says of the storage is wrong: its region, its certificates, where credentials are.
    Settings,
    /// Something that is no object lies where one was expected, or the caller made no sense.
    Invalid,
    /// Anything else, such as a disk that fails.
    Io,
}

/// Who says that an operation failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The operating system, or pgark itself.
    Here,
    /// Nobody: no connection was made to the service.
    NoConnection,
    /// The service is not trusted to be the one that is meant.
    Certificate,
    /// The service, by its answer.
    Service,
}

/// A failed operation on a storage: which one, on which object, where, and why (its source).
#[derive(Debug, thiserror::Error)]
#[error("failed to {operation} {}{storage}", subject(*operation, key.as_ref()))]
pub struct Error {
    kind: ErrorKind,
    origin: Origin,
    operation: Operation,
    key: Option<Key>,
    storage: String,
    source: Box<dyn StdError + Send + Sync>,
    hint: Option<String>,
}

impl Error {
    /// An error of `operation` on `key`, or on the storage itself; for drivers. `storage` is what
    /// [`Storage::describe`](crate::Storage::describe) says, `source` the reason: a lower error or a text.
    pub fn new(
        kind: ErrorKind,
        operation: Operation,
        key: Option<&Key>,
        storage: String,
        source: impl Into<Box<dyn StdError + Send + Sync>>,
    ) -> Self {
        let (key, source) = (key.cloned(), source.into());
        Self { kind, origin: Origin::Here, operation, key, storage, source, hint: None }
    }

    /// Told by somebody else than the operating system.
    #[must_use]
    pub fn with_origin(mut self, origin: Origin) -> Self {
        self.origin = origin;
        self
    }

    /// With what to do next, where the driver knows better than the kind tells.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// What went wrong.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// Who says so.
    pub fn origin(&self) -> Origin {
        self.origin
    }

    /// What was being done.
    pub fn operation(&self) -> Operation {
        self.operation
    }

    /// The object, or the prefix of a listing; `None` for the root.
    pub fn key(&self) -> Option<&Key> {
        self.key.as_ref()
    }

    /// Whether the object is proven absent.
    pub fn is_not_found(&self) -> bool {
        self.kind == ErrorKind::NotFound
    }

    /// Whether the name is taken.
    pub fn is_already_exists(&self) -> bool {
        self.kind == ErrorKind::AlreadyExists
    }

    /// Whether the same operation may well succeed a little later.
    pub fn is_temporary(&self) -> bool {
        self.kind == ErrorKind::Unavailable
    }

    /// What to do next, where that can be said without knowing what the operation was for.
    pub fn hint(&self) -> Option<&str> {
        if self.hint.is_some() {
            return self.hint.as_deref();
        }
        match self.kind {
            ErrorKind::NotFound | ErrorKind::AlreadyExists => None,
            ErrorKind::RootMissing => {
                Some("check that the repository's path is right and that its file system is mounted")
            }
            ErrorKind::Denied => {
                Some("check who owns the repository, its permissions, and the user that pgark runs as")
            }
            ErrorKind::NoSpace => Some("free space where the repository lies, or expire backups that are not needed"),
            ErrorKind::TooShort | ErrorKind::TooLarge => {
                Some("the object is damaged or not of this repository: run verify")
            }
            ErrorKind::Unavailable => Some("check that the storage can be reached, then try again"),
            ErrorKind::Unsupported => {
                Some("put the repository on a storage that can do it; of a file system pgark needs hard links")
            }
            ErrorKind::Settings => Some("check the options of the repository in the configuration"),
            ErrorKind::Invalid => {
                Some("something else lies at this place in the repository: look at it and move it away")
            }
            ErrorKind::Io => Some("check the storage and the system's log for faults of its disk"),
        }
    }
}

/// The object of a message, up to the name of the storage.
fn subject(operation: Operation, key: Option<&Key>) -> String {
    match (operation, key) {
        (_, None) => String::new(),
        (Operation::List | Operation::ListDirectory, Some(key)) => format!("'{key}' in "),
        (_, Some(key)) => format!("object '{key}' in "),
    }
}

/// What kind of error the operating system's is.
pub(crate) fn kind_of(error: &io::Error) -> ErrorKind {
    match error.kind() {
        io::ErrorKind::NotFound => ErrorKind::NotFound,
        io::ErrorKind::AlreadyExists => ErrorKind::AlreadyExists,
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => ErrorKind::Denied,
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ErrorKind::NoSpace,
        io::ErrorKind::UnexpectedEof => ErrorKind::TooShort,
        io::ErrorKind::Unsupported | io::ErrorKind::TooManyLinks => ErrorKind::Unsupported,
        io::ErrorKind::InvalidInput
        | io::ErrorKind::InvalidFilename
        | io::ErrorKind::IsADirectory
        | io::ErrorKind::NotADirectory => ErrorKind::Invalid,
        io::ErrorKind::TimedOut
        | io::ErrorKind::Interrupted
        | io::ErrorKind::ResourceBusy
        | io::ErrorKind::WouldBlock
        | io::ErrorKind::NotConnected
        | io::ErrorKind::HostUnreachable
        | io::ErrorKind::NetworkUnreachable
        | io::ErrorKind::NetworkDown
        | io::ErrorKind::ConnectionAborted
        | io::ErrorKind::ConnectionRefused
        | io::ErrorKind::ConnectionReset
        | io::ErrorKind::StaleNetworkFileHandle => ErrorKind::Unavailable,
        _ => ErrorKind::Io,
    }
}

/// What kind of error the operating system's is in writing. There, something that is missing is no proof of anything
/// about the object.
pub(crate) fn kind_of_write(error: &io::Error) -> ErrorKind {
    match kind_of(error) {
        ErrorKind::NotFound => ErrorKind::Io,
        kind => kind,
    }
}

#[cfg(test)]
mod tests {
    use rustix::io::Errno;

    use super::*;

    fn error(kind: ErrorKind, operation: Operation, key: Option<&str>) -> Error {
        let key = key.map(|key| Key::parse(key).unwrap());
        Error::new(kind, operation, key.as_ref(), "repository path '/x'".into(), "because")
    }

    #[test]
    fn a_message_names_the_operation_the_object_and_the_storage() {
        let read = error(ErrorKind::NotFound, Operation::GetRange, Some("stanza/demo/pack/1/2"));
        assert_eq!(read.to_string(), "failed to read object 'stanza/demo/pack/1/2' in repository path '/x'");
        assert_eq!(read.source().unwrap().to_string(), "because");
        let list = error(ErrorKind::Io, Operation::List, Some("stanza/demo"));
        assert_eq!(list.to_string(), "failed to list 'stanza/demo' in repository path '/x'");
        let open = error(ErrorKind::RootMissing, Operation::Open, None);
        assert_eq!(open.to_string(), "failed to open repository path '/x'");
    }

    #[test]
    fn the_operating_systems_errors_get_the_kind_a_caller_acts_on() {
        for (errno, kind) in [
            (Errno::NOENT, ErrorKind::NotFound),
            (Errno::EXIST, ErrorKind::AlreadyExists),
            (Errno::ACCESS, ErrorKind::Denied),
            (Errno::ROFS, ErrorKind::Denied),
            (Errno::NOSPC, ErrorKind::NoSpace),
            (Errno::DQUOT, ErrorKind::NoSpace),
            (Errno::IO, ErrorKind::Io),
            (Errno::STALE, ErrorKind::Unavailable),
            (Errno::TIMEDOUT, ErrorKind::Unavailable),
            (Errno::ISDIR, ErrorKind::Invalid),
            (Errno::OPNOTSUPP, ErrorKind::Unsupported),
        ] {
            assert_eq!(kind_of(&errno.into()), kind, "{errno}");
        }
    }
}
