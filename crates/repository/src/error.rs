//! What can go wrong with a repository.

use std::fmt;

use pgark_storage::Key;
use thiserror::Error;

/// Bytes that are not what the format says. Says what is wrong; the object that holds them is named by
/// [`Error`](enum@Error).
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct Malformed(pub(crate) String);

impl Malformed {
    pub(crate) fn new(what: impl Into<String>) -> Self {
        Self(what.into())
    }

    /// The error of the object `name`, in which these bytes were found.
    pub(crate) fn in_object(self, name: &Key) -> Error {
        Error::Damaged { object: name.to_string(), what: self.0 }
    }
}

/// An error of the repository, with the object that it is about.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// The object's bytes are not those that were written.
    #[error("object '{object}' is damaged: {what}")]
    Damaged {
        /// The object's name.
        object: String,
        /// What was found.
        what: String,
    },
    /// The object was written by a newer program.
    #[error("object '{object}' can't be used by this version of pgark: {what}")]
    Unsupported {
        /// The object's name.
        object: String,
        /// What this program does not know.
        what: String,
    },
    /// There is no repository at this place.
    #[error("there is no repository in {storage}")]
    NoRepository {
        /// The storage, as it describes itself.
        storage: String,
    },
    /// The configuration and the repository do not agree on encryption.
    #[error("the repository in {storage} has cipher '{found}', but the configuration says '{configured}'")]
    CipherMismatch {
        /// The storage, as it describes itself.
        storage: String,
        /// The repository's cipher.
        found: Cipher,
        /// The configured cipher.
        configured: Cipher,
    },
    /// No key slot opens with the pass phrase.
    #[error("the pass phrase does not open the repository in {storage}")]
    WrongPassphrase {
        /// The storage, as it describes itself.
        storage: String,
    },
    /// The object exists already, with other content.
    #[error("object '{object}' exists with other content")]
    Conflict {
        /// The object's name.
        object: String,
    },
    /// The session was taken for dead by somebody else, who has removed it.
    #[error("session '{object}' is gone: it was taken for dead, because it was not renewed for a long time")]
    SessionLost {
        /// The session's name.
        object: String,
    },
    /// Another process writes into the log of garbage.
    #[error("another process has written into the log of garbage at the same time: entry '{object}' is not its last")]
    Overtaken {
        /// The entry that was to be written.
        object: String,
    },
    /// A backup was given up after its manifest had appeared.
    #[error("backup {label} was withdrawn: {why}")]
    Withdrawn {
        /// The backup's label.
        label: String,
        /// Why it can't be vouched for.
        why: String,
    },
    /// A block did not survive being encoded and decoded again: the machine's memory or processor is at fault.
    #[error("a block of object '{object}' did not come back equal when it was decoded again before storing it")]
    VerifyWrite {
        /// The object's name.
        object: String,
    },
    /// The storage has confirmed that it has the object, and does not have it.
    #[error("object '{object}' was confirmed by {storage}, but it is not there, or not as long as it was")]
    Lost {
        /// The object's name.
        object: String,
        /// The storage, as it describes itself.
        storage: String,
    },
    /// A value does not fit the format.
    #[error("{what}")]
    Limit {
        /// What does not fit.
        what: String,
    },
    /// The storage failed.
    #[error(transparent)]
    Storage(#[from] pgark_storage::Error),
    /// The operating system gave no randomness.
    #[error("failed to draw randomness")]
    Random(#[source] std::io::Error),
}

/// A `Result` with the repository's [`Error`](enum@Error).
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// What to do next, where there is something to say.
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Damaged { .. } => {
                "restore the object from a copy of the repository, or use another backup or repository"
            }
            Self::Unsupported { .. } => "upgrade pgark on this host",
            Self::NoRepository { .. } => "check repo-path, or run stanza-create first",
            Self::CipherMismatch { .. } => "set repo-cipher-type to what the repository was created with",
            Self::WrongPassphrase { .. } => "check repo-cipher-pass",
            Self::Conflict { .. } => "check that no other cluster archives to the same stanza",
            Self::SessionLost { .. } => "run the command again",
            Self::Overtaken { .. } => "is expire running on another host? Run it again when that has ended",
            Self::Withdrawn { .. } => {
                "run the backup again: it uses what this one has stored. An expire on another host took its session for \
                 dead: did this host or its connection stall?"
            }
            Self::VerifyWrite { .. } => "check the memory of this host",
            Self::Lost { .. } => {
                "find out what removes objects there: a rule of the bucket, another program? Else the storage loses what it \
                 has taken, and is not to be trusted with backups"
            }
            Self::Storage(error) => return error.hint().map(Into::into),
            Self::Limit { .. } | Self::Random(_) => return None,
        };
        Some(hint.to_owned())
    }

    /// Whether this says that an object does not exist.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Storage(error) if error.is_not_found())
    }
}

/// How the objects of a repository are encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Cipher {
    /// Not at all.
    #[serde(rename = "none")]
    None,
    /// AES-256-GCM, with hashes keyed.
    #[serde(rename = "aes-256-gcm")]
    Aes256Gcm,
}

impl fmt::Display for Cipher {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::None => "none",
            Self::Aes256Gcm => "aes-256-gcm",
        })
    }
}
