//! Exit codes: the one place that knows pgBackRest's.

use pgark_config::{Command, ErrorKind as ConfigurationErrorKind};
use pgark_engine::ErrorKind as EngineErrorKind;
use pgark_system::termination::Signal;

/// All went well.
pub(crate) const SUCCESS: u8 = 0;
/// archive-get: every repository was asked, and none has the file.
pub(crate) const ABSENT: u8 = 1;
/// The program has a bug; pgBackRest's code for a failed assertion.
pub(crate) const PANIC: u8 = 25;

/// verify: something in a repository is not as it should be; pgBackRest's code for a wrong checksum.
pub(crate) const FINDINGS: u8 = 26;

/// A signal has asked the program to end.
pub(crate) const TERMINATED: u8 = 63;

/// A kind of failure, as pgBackRest counts and calls it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Code {
    /// The exit code, 25 to 125.
    pub(crate) number: u8,
    /// The name, by which `info` tells of a repository that can't be read.
    pub(crate) name: &'static str,
}

/// An option that can't be used in this way.
pub(crate) const OPTION_INVALID: Code = Code { number: 31, name: "OptionInvalidError" };

/// The operating system refuses what was asked of it.
pub(crate) const KERNEL: Code = Code { number: 100, name: "KernelError" };

/// Several failures, or failures of several things.
pub(crate) const COMMAND: Code = Code { number: 104, name: "CommandError" };

/// What archive-get exits with: 128 more than the error's code. PostgreSQL aborts recovery at any exit code above 125 and
/// takes one up to 125 for the end of the archive, where it opens the database (`RestoreArchivedFile` in
/// `src/backend/access/transam/xlogarchive.c`).
pub(crate) fn of_archive_get(code: u8) -> u8 {
    match code {
        SUCCESS | ABSENT => code,
        error => 128_u8.saturating_add(error),
    }
}

/// What a command exits with when it fails with this code.
pub(crate) fn of_command(command: Command, code: u8) -> u8 {
    if command == Command::ArchiveGet { of_archive_get(code) } else { code }
}

/// What a command exits with when a signal ends it. archive-get does it as a shell would: PostgreSQL takes 128 + SIGTERM
/// for its own shutdown and every other code above 125 for an error (`RestoreArchivedFile`).
pub(crate) fn on_signal(command: Command, signal: Signal) -> u8 {
    if command == Command::ArchiveGet { 128_u8.saturating_add(signal.number()) } else { TERMINATED }
}

/// Whether a word of a command line that could not be understood may mean archive-get. Rather once too often: a
/// `restore_command` with a typing error in it must not end a recovery early.
pub(crate) fn may_mean_archive_get(word: &str) -> bool {
    (word.starts_with("arch") && !word.contains("-p")) || (word.ends_with("-get") && word != "repo-get")
}

impl From<EngineErrorKind> for Code {
    fn from(kind: EngineErrorKind) -> Self {
        use EngineErrorKind as Kind;
        let (number, name) = match kind {
            Kind::ArchiveDuplicate => (45, "ArchiveDuplicateError"),
            Kind::ArchiveDisabled => (87, "ArchiveDisabledError"),
            Kind::ArchiveCommandInvalid => (68, "ArchiveCommandInvalidError"),
            Kind::ArchiveMismatch => (44, "ArchiveMismatchError"),
            Kind::ArchiveTimeout => (82, "ArchiveTimeoutError"),
            Kind::BackupMismatch => (51, "BackupMismatchError"),
            Kind::BackupSetInvalid => (75, "BackupSetInvalidError"),
            Kind::Checksum => (26, "ChecksumError"),
            Kind::Clock => (106, "ClockError"),
            Kind::Command => return COMMAND,
            Kind::Crypto => (95, "CryptoError"),
            Kind::DatabaseConnect => (56, "DbConnectError"),
            Kind::DatabaseInvalid => (81, "DbInvalidError"),
            Kind::DatabaseMismatch => (58, "DbMismatchError"),
            Kind::DatabaseMissing => (80, "DbMissingError"),
            Kind::DatabaseQuery => (57, "DbQueryError"),
            Kind::FeatureNotSupported => (67, "FeatureNotSupportedError"),
            Kind::FileExists => (93, "FileExistsError"),
            Kind::FileInvalid => (28, "FileInvalidError"),
            Kind::FileMissing => (55, "FileMissingError"),
            Kind::FileOpen => (41, "FileOpenError"),
            Kind::FileRead => (42, "FileReadError"),
            Kind::FileRemove => (60, "FileRemoveError"),
            Kind::FileWrite => (64, "FileWriteError"),
            Kind::Format => (29, "FormatError"),
            Kind::HostConnect => (49, "HostConnectError"),
            Kind::LinkDestination => (70, "LinkDestinationError"),
            Kind::LinkMap => (78, "LinkMapError"),
            Kind::LockAcquire => (50, "LockAcquireError"),
            Kind::OptionInvalid => return OPTION_INVALID,
            Kind::OptionInvalidValue => (32, "OptionInvalidValueError"),
            Kind::OptionRequired => (37, "OptionRequiredError"),
            Kind::ParameterInvalid => (96, "ParamInvalidError"),
            Kind::PathCreate => (47, "PathCreateError"),
            Kind::PathMissing => (73, "PathMissingError"),
            Kind::PathNotEmpty => (40, "PathNotEmptyError"),
            Kind::PostgresRunning => (38, "PgRunningError"),
            Kind::Protocol => (39, "ProtocolError"),
            Kind::RepositoryInvalid => (103, "RepoInvalidError"),
            Kind::Runtime => (122, "RuntimeError"),
            Kind::Service => (101, "ServiceError"),
            Kind::Stop => (62, "StopError"),
            Kind::TablespaceMap => (76, "TablespaceMapError"),
            Kind::Terminated => (TERMINATED, "TermError"),
            Kind::VersionNotSupported => (46, "VersionNotSupportedError"),
        };
        Self { number, name }
    }
}

impl From<ConfigurationErrorKind> for Code {
    fn from(kind: ConfigurationErrorKind) -> Self {
        use ConfigurationErrorKind as Kind;
        let (number, name) = match kind {
            Kind::CommandInvalid => (48, "CommandInvalidError"),
            Kind::CommandRequired => (30, "CommandRequiredError"),
            Kind::FeatureNotSupported => (67, "FeatureNotSupportedError"),
            Kind::FileMissing => (55, "FileMissingError"),
            Kind::FileRead => (42, "FileReadError"),
            Kind::Format => (29, "FormatError"),
            Kind::OptionInvalid => return OPTION_INVALID,
            Kind::OptionInvalidValue => (32, "OptionInvalidValueError"),
            Kind::OptionRequired => (37, "OptionRequiredError"),
            Kind::ParameterInvalid => (96, "ParamInvalidError"),
            Kind::ParameterRequired => (43, "ParamRequiredError"),
            Kind::PathMissing => (73, "PathMissingError"),
        };
        Self { number, name }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_error_of_archive_get_looks_like_the_end_of_the_archive() {
        assert_eq!((of_archive_get(SUCCESS), of_archive_get(ABSENT)), (0, 1));
        for code in 2..=u8::MAX {
            assert!(of_archive_get(code) > 125, "{code}");
        }
        assert_eq!((of_archive_get(PANIC), of_archive_get(103)), (153, 231));
    }

    #[test]
    fn what_may_mean_archive_get_is_taken_for_it() {
        for word in
            ["archive-get", "archive-g", "archive", "archive-", "archive-gte", "archiveget", "archive-get:async"]
        {
            assert!(may_mean_archive_get(word), "{word}");
        }
        for word in ["archive-push", "archive-p", "backup", "--archive-async", "repo-get", "restore", ""] {
            assert!(!may_mean_archive_get(word), "{word}");
        }
    }
}
