//! The driver for S3, against servers.

#![expect(clippy::unwrap_used, reason = "tests, and what they share")]

mod answers;
mod checksums;
mod common;
mod conformance;
mod credentials;
mod cuts;
mod refusals;
mod removal;
