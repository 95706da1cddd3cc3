//! Garbage: packs that nobody needs any more, and how they go without harm to anybody who is at work. Section 10 of
//! `docs/format.md`.
//!
//! Packs are removed in two runs of expire. The first *marks* those that no backup needs and that belong to no session
//! that is alive. A later one *sweeps*: it first writes down which marked packs it is about to delete, then lists the
//! manifests once more, and deletes what none of them needs. Whoever takes a backup reads this log twice: at its start,
//! to keep away from what is marked; and after its manifest has appeared, to see whether a sweep has announced something
//! that it needs ([`confirm`]).
//!
//! That is what keeps a backup whole, whatever clocks say and however long anybody stalls: the one who deletes announces
//! and then looks for manifests, the one who takes a backup writes its manifest and then looks for announcements, so that
//! one of them sees the other. All else (that sessions are heeded, that a session is taken for dead only after a long
//! time) only sees to it that no backup has to be given up.

mod collect;
mod confirm;
mod decide;
mod log;

pub use self::collect::{StoredManifest, StoredPack, Survey, manifests, packs};
pub use self::confirm::confirm;
pub use self::decide::{done, leftover, sweepable, unreferenced};
pub(crate) use self::log::read_entry;
pub use self::log::{Entry, EntryKind, Log, NewEntry};
