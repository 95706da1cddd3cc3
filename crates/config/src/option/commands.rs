//! Sets of commands that several options share.

use crate::command::Command::{
    self, Agent, Annotate, ArchiveGet, ArchivePush, Backup, Check, Expire, Info, RepoGet, RepoLs, Restore, Schedule,
    Server, ServerPing, StanzaCreate, StanzaDelete, StanzaUpgrade, Start, Stop, Verify,
};

/// Every command that does something: all but help and version.
pub(super) const WORKING: &[Command] = &[
    Agent,
    Annotate,
    ArchiveGet,
    ArchivePush,
    Backup,
    Check,
    Expire,
    Info,
    RepoGet,
    RepoLs,
    Restore,
    Schedule,
    Server,
    ServerPing,
    StanzaCreate,
    StanzaDelete,
    StanzaUpgrade,
    Start,
    Stop,
    Verify,
];

/// Every command that moves data.
pub(super) const MOVING_DATA: &[Command] = &[
    Annotate,
    ArchiveGet,
    ArchivePush,
    Backup,
    Check,
    Expire,
    Info,
    RepoGet,
    RepoLs,
    Restore,
    Server,
    ServerPing,
    StanzaCreate,
    StanzaDelete,
    StanzaUpgrade,
    Verify,
];

/// Every command that may create files whose mode matters.
pub(super) const CREATING_FILES: &[Command] = &[
    Agent,
    Annotate,
    ArchiveGet,
    ArchivePush,
    Backup,
    Check,
    Expire,
    RepoGet,
    RepoLs,
    Restore,
    Schedule,
    StanzaCreate,
    StanzaDelete,
    StanzaUpgrade,
    Start,
    Stop,
    Verify,
];

/// Every command that takes a lock or looks at one.
pub(super) const LOCKING: &[Command] = &[
    Agent,
    Annotate,
    ArchiveGet,
    ArchivePush,
    Backup,
    Expire,
    Info,
    Restore,
    Schedule,
    StanzaCreate,
    StanzaDelete,
    StanzaUpgrade,
    Start,
    Stop,
    Verify,
];

/// Every command that keeps others off a stanza while it works.
pub(super) const WAITING_FOR_LOCK: &[Command] = &[Backup, Expire, Restore, StanzaCreate, StanzaDelete, StanzaUpgrade];

/// Every command that opens a repository.
pub(super) const USING_REPOSITORY: &[Command] = &[
    Annotate,
    ArchiveGet,
    ArchivePush,
    Backup,
    Check,
    Expire,
    Info,
    RepoGet,
    RepoLs,
    Restore,
    StanzaCreate,
    StanzaDelete,
    StanzaUpgrade,
    Verify,
];

/// Every command that can be told to use one repository only.
pub(super) const CHOOSING_REPOSITORY: &[Command] =
    &[Annotate, ArchiveGet, Backup, Expire, Info, RepoGet, RepoLs, Restore, StanzaDelete, Verify];

/// Every command that reads a repository as it was at another time.
pub(super) const LOOKING_BACK: &[Command] = &[ArchiveGet, Info, RepoGet, RepoLs, Restore, Verify];

/// Every command that connects to PostgreSQL.
pub(super) const CONNECTING: &[Command] = &[Backup, Check, StanzaCreate, StanzaDelete, StanzaUpgrade];

/// Every command that works in several threads.
pub(super) const PARALLEL: &[Command] = &[ArchiveGet, ArchivePush, Backup, Restore, Verify];

/// Every command that may take long.
pub(super) const LONG: &[Command] = &[Backup, Expire, Restore, Verify];

/// Every command that keeps to retention.
pub(super) const RETAINING: &[Command] = &[Backup, Expire];

/// Every command that compresses.
pub(super) const COMPRESSING: &[Command] = &[ArchivePush, Backup];

/// Every command that compares versions of PostgreSQL.
pub(super) const KNOWING_VERSION: &[Command] =
    &[ArchiveGet, ArchivePush, Backup, Check, Restore, StanzaCreate, StanzaDelete, StanzaUpgrade, Verify];
