//! What goes wrong between pgark and a server.

use std::fmt;
use std::path::PathBuf;

use postgres::error::SqlState;
use thiserror::Error;

use super::Target;
use crate::version::UnknownVersion;

/// Something went wrong between pgark and a server.
#[derive(Debug, Error)]
pub enum ClientError {
    /// No server has a socket where one was expected.
    #[error("no PostgreSQL server listens on port {port} in {}", list(directories))]
    NoSocket {
        /// The port.
        port: u16,
        /// Where its socket was looked for.
        directories: Vec<PathBuf>,
    },
    /// The name of the user that this process runs as can't be found out.
    #[error("failed to find out which user this is: {reason}")]
    User {
        /// What the operating system says.
        reason: String,
    },
    /// The server did not accept the connection.
    #[error("failed to connect to {target}: {reason}")]
    Connect {
        /// Where to.
        target: String,
        /// What the server or the operating system says.
        reason: String,
    },
    /// The server did not do what it was asked for.
    #[error("failed to {what} in {target}: {reason}")]
    Query {
        /// What it was asked for.
        what: &'static str,
        /// Where.
        target: String,
        /// Why not.
        failure: QueryFailure,
        /// What the server says.
        reason: String,
    },
    /// The user can't see settings that a backup needs to know.
    #[error("failed to read setting '{setting}' in {target}: the user may not see it")]
    HiddenSetting {
        /// The setting.
        setting: &'static str,
        /// Where.
        target: String,
    },
    /// The server's version is unknown.
    #[error("failed to use {target}: {source}")]
    Version {
        /// Where.
        target: String,
        /// What is wrong.
        source: UnknownVersion,
    },
    /// Another backup holds the cluster's lock.
    #[error("another backup of this cluster is running, as the lock in {target} tells")]
    BackupRunning {
        /// Where.
        target: String,
    },
    /// The server is not the one whose data directory is to be backed up.
    #[error("the server of {target} is another than the one of data directory '{data_directory}': {difference}")]
    WrongServer {
        /// Where the connection leads.
        target: String,
        /// The data directory.
        data_directory: PathBuf,
        /// In what they differ.
        difference: String,
    },
}

/// Why a statement failed, as coarse as there is advice to give.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueryFailure {
    /// The connection was lost.
    ConnectionLost,
    /// It took too long, or was cancelled.
    Cancelled,
    /// The user may not do it.
    Denied,
    /// Anything else that the server says.
    Refused,
    /// The answer makes no sense.
    Answer,
}

impl ClientError {
    /// What to do about it.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::NoSocket { .. } => Some("is PostgreSQL running, and are pg-port and pg-socket-path as it has them?"),
            Self::User { .. } => Some("name the user with pg-user"),
            Self::Connect { .. } => Some("is PostgreSQL up, and does pg_hba.conf let this user in?"),
            Self::Query { failure, .. } => failure.hint(),
            Self::HiddenSetting { .. } => Some("run as the user postgres, or grant the role pg_read_all_settings"),
            Self::Version { .. } => None,
            Self::BackupRunning { .. } => Some("wait for the other backup to end, or stop it"),
            Self::WrongServer { .. } => Some("do pg-path, pg-port and pg-socket-path belong to the same cluster?"),
        }
    }

    pub(super) fn query(what: &'static str, target: &Target, error: &postgres::Error) -> Self {
        Self::Query { what, target: target.to_string(), failure: QueryFailure::of(error), reason: reason(error) }
    }

    pub(super) fn answer(what: &'static str, target: &Target, problem: &dyn fmt::Display) -> Self {
        Self::Query { what, target: target.to_string(), failure: QueryFailure::Answer, reason: problem.to_string() }
    }
}

impl QueryFailure {
    fn of(error: &postgres::Error) -> Self {
        match error.code() {
            Some(code) if *code == SqlState::QUERY_CANCELED => Self::Cancelled,
            Some(code) if *code == SqlState::INSUFFICIENT_PRIVILEGE => Self::Denied,
            Some(code) if *code == SqlState::ADMIN_SHUTDOWN || *code == SqlState::CRASH_SHUTDOWN => {
                Self::ConnectionLost
            }
            Some(_) => Self::Refused,
            None => Self::ConnectionLost,
        }
    }

    fn hint(self) -> Option<&'static str> {
        match self {
            Self::ConnectionLost => Some("see the server's log for a crash or a restart"),
            Self::Cancelled => Some("if nobody cancelled it, raise db-timeout or use start-fast"),
            Self::Denied => Some("run as a superuser, or grant the user what the message names"),
            Self::Refused | Self::Answer => None,
        }
    }
}

/// What the server says, or what happened on the way to it.
pub(super) fn reason(error: &postgres::Error) -> String {
    if let Some(answer) = error.as_db_error() {
        let detail = answer.detail().map(|detail| format!(" ({detail})")).unwrap_or_default();
        return format!("{}{detail}", answer.message());
    }
    let cause = std::error::Error::source(error).map(|cause| format!(": {cause}")).unwrap_or_default();
    format!("{error}{cause}")
}

fn list(directories: &[PathBuf]) -> String {
    let names: Vec<String> = directories.iter().map(|directory| format!("'{}'", directory.display())).collect();
    names.join(" or ")
}
