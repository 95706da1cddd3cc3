//! The container: the form of every object. Section 2 of `docs/format.md`.

mod layout;
mod reader;
mod sweep;
mod writer;

pub(crate) use layout::SIDECARS;
pub use layout::{BlockKind, MAXIMUM_PLAIN_LENGTH, ObjectKind};
pub use reader::Container;
pub(crate) use reader::owner;
pub use sweep::Visit;
pub(crate) use writer::ContainerWriter;
pub use writer::{BlockEncoder, WriteOptions, Written};
