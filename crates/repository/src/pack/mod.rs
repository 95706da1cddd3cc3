//! Packs: immutable objects of many frames. Section 5 of `docs/format.md`.

mod check;
mod reader;
mod tables;
mod writer;

pub use reader::Pack;
pub use tables::{FrameEntry, FramePages};
pub use writer::{PackFrame, PackWriter, WrittenPack};
