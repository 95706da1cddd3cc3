//! The repository format of pgark, as `docs/format.md` says it: containers, packs, page maps, manifests, WAL objects,
//! sessions, garbage.
//!
//! From the bottom up: [`codec`] compresses, in an [`arrangement`], and [`vault`] hashes and encrypts; [`container`]
//! makes blocks, an index and a trailer of it, the form of every object; [`document`] puts JSON into one; [`pack`], [`map`], [`manifest`] and
//! [`wal`] are what the blocks of a backup hold; [`repository`] opens and creates the whole. Names of objects come from
//! [`names`] alone.
//!
//! Nothing here knows PostgreSQL's formats or SQL, but for what [`arrangement`] knows of pages. Decoders take arbitrary
//! bytes: they answer with an error, never with a panic, and allocate nothing on a length they did not check.

pub mod arrangement;
mod bytes;
pub mod checked;
pub mod codec;
pub mod container;
pub mod document;
mod error;
pub mod garbage;
pub mod inventory;
pub mod key_slot;
pub mod manifest;
pub mod map;
pub mod names;
pub mod note;
pub mod pack;
pub mod removal;
pub mod repository;
pub mod session;
mod thrift;
pub mod vault;
pub mod wal;

pub use error::{Error, Malformed, Result};
pub use names::{ArchiveId, Label, LabelKind, PackId, StanzaName};
pub use repository::{Encryption, Repository};

/// Bytes in a page: one block of a relation, or as many bytes of any other file.
pub const PAGE_SIZE: usize = 8192;
