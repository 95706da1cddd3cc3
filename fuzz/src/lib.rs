//! What the fuzz targets share: they wrap the fuzzer's bytes in all that vouches for them, since a fuzzer guesses no
//! hashes.

#[path = "../../crates/repository/tests/all/draft.rs"]
mod draft;
mod forgery;
mod repository;
pub mod wal;

pub use forgery::Forgery;
pub use repository::{object, repository, stanza};
