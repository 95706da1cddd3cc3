//! The write-ahead log: names of its files, timelines, pages, records, and what archiving and backup draw from them.

mod bytes;
mod edges;
mod sequence;
#[cfg(test)]
#[expect(clippy::cast_possible_truncation, reason = "the numbers of tests are small")]
mod testing;

pub mod blocks;
pub mod event;
pub mod find;
pub mod history;
pub mod join;
pub mod name;
pub mod page;
pub mod reader;
pub mod record;
pub mod relation;
pub mod segment;
pub mod server_summary;
pub mod summary;
pub mod times;

pub use bytes::DecodeError;
pub use edges::{EDGE_MAXIMUM, Edges};
pub use sequence::{RecordStream, SequenceError};
