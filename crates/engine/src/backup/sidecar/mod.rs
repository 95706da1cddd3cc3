//! Sidecars in a backup: directories outside the cluster, whose files are read, compared and stored as those of the
//! cluster that are no relations.

mod candidates;
mod dispatch;
mod source;
mod sums;
mod unkept;
mod walk;

pub(super) use dispatch::{Decisions, dispatch};
pub(super) use source::{SourceDirectory, open};
pub(super) use sums::Sums;
pub(super) use walk::{Found, size};
