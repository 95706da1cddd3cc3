//! What pgark asks of the machine, each in one place: the clock, randomness, directories, durable files, file locks,
//! large memory, the page cache and ways past it, processes, a limited pace and signals.
//!
//! The lints of the workspace forbid the raw calls elsewhere. Plain file access goes through the `fs_err` crate, whose
//! errors name the path; whatever must survive a power cut goes through [`durable`].

pub mod clock;
pub mod direct;
pub mod directory;
pub mod durable;
pub mod leftovers;
pub mod lock;
pub mod memory;
pub mod pace;
pub mod page_cache;
pub mod process;
pub mod random;
pub mod termination;
