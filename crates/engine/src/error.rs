//! What can go wrong in the work of pgark: one type, with the kinds that pgBackRest's users know.

use std::error::Error as StdError;
use std::fmt;
use std::io;

use pgark_postgres::process::RunningError;
use pgark_storage::{ErrorKind as StorageErrorKind, Origin};
use pgark_system::termination::Terminated;
use serde::{Deserialize, Serialize};

/// What kind of failure it is: each has an exit code of pgBackRest's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ErrorKind {
    /// The archive has other content under a WAL file's name.
    ArchiveDuplicate,
    /// The server does not archive WAL.
    ArchiveDisabled,
    /// `archive_command` does not archive to this stanza.
    ArchiveCommandInvalid,
    /// A WAL file is of another cluster than the stanza.
    ArchiveMismatch,
    /// WAL was not archived in time.
    ArchiveTimeout,
    /// The cluster is another than the stanza's.
    BackupMismatch,
    /// No such backup set, or none that serves.
    BackupSetInvalid,
    /// What was read is not what was written.
    Checksum,
    /// The machine's clock makes no sense.
    Clock,
    /// Several errors, or an error of one repository among several.
    Command,
    /// Encryption: a wrong pass phrase, no agreement on a cipher, or a certificate that is not trusted.
    Crypto,
    /// The server can't be reached, or is not one that will do.
    DatabaseConnect,
    /// The server is another than the stanza's or the data directory's.
    DatabaseMismatch,
    /// A database can't be chosen in this way.
    DatabaseInvalid,
    /// A database is not in the backup.
    DatabaseMissing,
    /// The server did not answer a query.
    DatabaseQuery,
    /// What is asked for is not available yet.
    FeatureNotSupported,
    /// A file is there already.
    FileExists,
    /// A file is not what it should be.
    FileInvalid,
    /// A file is missing.
    FileMissing,
    /// A file can't be opened.
    FileOpen,
    /// A file can't be read.
    FileRead,
    /// A file can't be removed.
    FileRemove,
    /// A file can't be written.
    FileWrite,
    /// Bytes of a format that this program does not know.
    Format,
    /// A storage's service can't be connected to.
    HostConnect,
    /// A link leads to where something else belongs.
    LinkDestination,
    /// A link can't be mapped in this way.
    LinkMap,
    /// Another process is at work.
    LockAcquire,
    /// An option can't be used in this way.
    OptionInvalid,
    /// An option has a value that does not fit.
    OptionInvalidValue,
    /// An option is missing.
    OptionRequired,
    /// A parameter of the command is missing or wrong.
    ParameterInvalid,
    /// A directory can't be created.
    PathCreate,
    /// A directory is missing.
    PathMissing,
    /// A directory has files in it.
    PathNotEmpty,
    /// PostgreSQL is running.
    PostgresRunning,
    /// A storage's service refuses what it is asked for, or gives an answer that makes no sense.
    Protocol,
    /// The repository is missing or unusable.
    RepositoryInvalid,
    /// Anything else.
    Runtime,
    /// A storage does not answer, or has an error of its own.
    Service,
    /// The stop command forbids it.
    Stop,
    /// A tablespace can't be mapped in this way.
    TablespaceMap,
    /// A signal has asked the process to end.
    Terminated,
    /// A version of PostgreSQL that is not supported.
    VersionNotSupported,
}

/// An error, with what to do next.
#[derive(Debug)]
pub struct Error {
    kind: ErrorKind,
    message: String,
    hints: Vec<String>,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

/// A `Result` with the engine's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error with its message: lowercase, naming the object, without a full stop.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), hints: Vec::new(), source: None }
    }

    /// With a hint on the next step.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    /// With the error that caused it.
    #[must_use]
    pub fn source(mut self, source: impl StdError + Send + Sync + 'static) -> Self {
        self.source = Some(Box::new(source));
        self
    }

    /// One error that stands for those of several repositories, each with the number of its repository. `title` comes
    /// before them.
    pub(crate) fn of_repositories(title: &str, errors: &[(u32, Self)]) -> Self {
        let messages: Vec<_> =
            errors.iter().map(|(key, error)| format!("repo{key}: {}", error.full_message())).collect();
        let mut combined = Self::new(ErrorKind::Command, format!("{title}{}", messages.join("\n")));
        for hint in errors.iter().flat_map(|(_, error)| error.hints()) {
            if !combined.hints().contains(hint) {
                combined = combined.hint(hint.clone());
            }
        }
        combined
    }

    /// What kind of failure it is.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// What to do next, a line each.
    pub fn hints(&self) -> &[String] {
        &self.hints
    }

    /// The message with those of its causes, each once.
    pub fn full_message(&self) -> String {
        let mut message = self.message.clone();
        let mut cause = StdError::source(self);
        while let Some(error) = cause {
            let text = error.to_string();
            if !message.contains(&text) {
                message = format!("{message}: {text}");
            }
            cause = error.source();
        }
        message
    }
}

impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.message)
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|source| source as &(dyn StdError + 'static))
    }
}

impl From<pgark_storage::Error> for Error {
    fn from(error: pgark_storage::Error) -> Self {
        let kind = kind_of_storage(error.kind(), error.origin());
        let hint = error.hint().map(ToString::to_string);
        Self { kind, message: error.to_string(), hints: hint.into_iter().collect(), source: Some(Box::new(error)) }
    }
}

/// What kind of failure it is when a storage fails. What a service refuses, for whatever reason, is one kind.
fn kind_of_storage(kind: StorageErrorKind, origin: Origin) -> ErrorKind {
    use StorageErrorKind as Kind;
    match (kind, origin) {
        (_, Origin::NoConnection) => ErrorKind::HostConnect,
        (_, Origin::Certificate) => ErrorKind::Crypto,
        (Kind::NotFound, _) => ErrorKind::FileMissing,
        (Kind::TooShort | Kind::TooLarge, _) => ErrorKind::Checksum,
        (Kind::Unavailable, _) => ErrorKind::Service,
        (Kind::AlreadyExists | Kind::Unsupported | Kind::Invalid, _) => ErrorKind::RepositoryInvalid,
        (_, Origin::Service) => ErrorKind::Protocol,
        (Kind::RootMissing, Origin::Here) => ErrorKind::PathMissing,
        (Kind::Denied, Origin::Here) => ErrorKind::FileOpen,
        (Kind::NoSpace, Origin::Here) => ErrorKind::FileWrite,
        (Kind::Settings, Origin::Here) => ErrorKind::OptionInvalidValue,
        (Kind::Io, Origin::Here) => ErrorKind::FileRead,
    }
}

impl From<pgark_repository::Error> for Error {
    fn from(error: pgark_repository::Error) -> Self {
        use pgark_repository::Error as E;
        let kind = match error {
            E::Storage(error) => return error.into(),
            E::Lost { .. } => ErrorKind::FileMissing,
            E::Damaged { .. } | E::VerifyWrite { .. } => ErrorKind::Checksum,
            E::Unsupported { .. } => ErrorKind::Format,
            E::NoRepository { .. } => ErrorKind::RepositoryInvalid,
            E::CipherMismatch { .. } | E::WrongPassphrase { .. } | E::Random(_) => ErrorKind::Crypto,
            E::Conflict { .. } => ErrorKind::ArchiveDuplicate,
            E::Overtaken { .. } => ErrorKind::LockAcquire,
            _ => ErrorKind::Runtime,
        };
        let hint = error.hint();
        Self { kind, message: error.to_string(), hints: hint.into_iter().collect(), source: Some(Box::new(error)) }
    }
}

/// The error of a file of the cluster, whose message names the path already.
pub(crate) fn file_error(error: io::Error) -> Error {
    let kind = match error.kind() {
        io::ErrorKind::NotFound => ErrorKind::FileMissing,
        io::ErrorKind::PermissionDenied => ErrorKind::FileOpen,
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::ReadOnlyFilesystem => {
            ErrorKind::FileWrite
        }
        _ => ErrorKind::FileRead,
    };
    let hint = match error.kind() {
        io::ErrorKind::PermissionDenied => Some("does this program run as the user that PostgreSQL runs as?"),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            Some("free space on the file system and try again")
        }
        _ => None,
    };
    let hints = hint.map(ToOwned::to_owned).into_iter().collect();
    Error { kind, message: error.to_string(), hints, source: Some(Box::new(error)) }
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        file_error(error)
    }
}

impl From<pgark_postgres::client::ClientError> for Error {
    fn from(error: pgark_postgres::client::ClientError) -> Self {
        use pgark_postgres::client::ClientError as E;
        let kind = match error {
            E::NoSocket { .. } | E::User { .. } | E::Connect { .. } => ErrorKind::DatabaseConnect,
            E::Query { .. } | E::HiddenSetting { .. } => ErrorKind::DatabaseQuery,
            E::Version { .. } => ErrorKind::VersionNotSupported,
            E::BackupRunning { .. } => ErrorKind::LockAcquire,
            E::WrongServer { .. } => ErrorKind::DatabaseMismatch,
        };
        let hint = error.hint().map(ToOwned::to_owned);
        Self { kind, message: error.to_string(), hints: hint.into_iter().collect(), source: Some(Box::new(error)) }
    }
}

impl From<pgark_postgres::control::ControlFileError> for Error {
    fn from(error: pgark_postgres::control::ControlFileError) -> Self {
        use pgark_postgres::control::ControlFileError as E;
        let kind = match &error {
            E::Read(error) if error.kind() == io::ErrorKind::NotFound => ErrorKind::FileMissing,
            E::Read(_) => ErrorKind::FileOpen,
            E::Invalid { .. } => ErrorKind::FileInvalid,
        };
        let hint = error.hint().map(ToOwned::to_owned);
        Self { kind, message: error.to_string(), hints: hint.into_iter().collect(), source: Some(Box::new(error)) }
    }
}

impl From<pgark_postgres::data_directory::DataDirectoryError> for Error {
    fn from(error: pgark_postgres::data_directory::DataDirectoryError) -> Self {
        use pgark_postgres::data_directory::DataDirectoryError as E;
        let kind = match &error {
            E::Read(_) => ErrorKind::FileOpen,
            E::TablespaceMissing { .. } => ErrorKind::PathMissing,
            _ => ErrorKind::FileInvalid,
        };
        Self::new(kind, error.to_string()).source(error)
    }
}

impl From<Terminated> for Error {
    fn from(error: Terminated) -> Self {
        Self::new(ErrorKind::Terminated, error.to_string())
    }
}

impl From<RunningError> for Error {
    fn from(error: RunningError) -> Self {
        let kind = match error {
            RunningError::Read(_) => ErrorKind::FileOpen,
            RunningError::Invalid(_) => ErrorKind::PostgresRunning,
        };
        Self::new(kind, error.to_string()).source(error)
    }
}
