//! What PostgreSQL is on disk and on the wire: versions, the control file, pages and checksums, WAL records and block
//! summaries, backup labels, the data directory, recovery settings, the SQL side of a backup.
//!
//! This crate knows nothing of repositories.

pub mod client;
pub mod control;
pub mod data_directory;
pub mod label;
pub mod lsn;
pub mod page;
pub mod process;
pub mod recovery;
pub mod relation;
pub mod version;
pub mod wal;

pub use lsn::Lsn;
pub use version::Version;
