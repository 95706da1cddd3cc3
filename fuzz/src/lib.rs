//! What the fuzz targets share: they wrap the fuzzer's bytes in all that vouches for them, since a fuzzer guesses no
//! hashes.

#[path = "../../crates/repository/tests/all/draft.rs"]
#[allow(dead_code, reason = "the tests of the crate use all of it")]
pub mod draft;
mod repository;
pub mod wal;

pub use repository::{ID, object, repository, stanza};
