//! The work of pgark: archiving WAL, taking backups, bringing them back, checking, telling what there is.
//!
//! Each command is a module with its settings, its function and its report. Settings are typed: nothing here knows of
//! option names but in hints. [`stanza`] opens what the commands work on.

pub mod annotate;
pub mod archive_get;
pub mod archive_push;
pub mod asynchronous;
pub mod backup;
pub mod check;
pub mod control;
mod coverage;
pub mod dropped;
mod error;
pub mod expire;
pub mod info;
pub mod lock;
pub mod objects;
mod parallel;
mod pin;
pub mod progress;
pub mod restore;
pub mod sidecar;
pub mod size;
pub mod standby;
pub mod stanza;
pub mod stanza_create;
pub mod stanza_delete;
pub mod stanza_upgrade;
#[cfg(test)]
mod testing;
mod turn;
pub mod verify;
mod vigil;
mod wal_path;

pub use error::{Error, ErrorKind, Result};
