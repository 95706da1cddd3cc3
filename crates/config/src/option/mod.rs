//! The table of options.
//!
//! Each option is a static of type [`Definition`], by which its value is asked for:
//! `configuration.path(&option::LOCK_PATH)`, and for an option that exists once for each repository or cluster
//! `configuration.path(option::REPO_PATH.at(1))`.

mod agent;
mod archive;
mod backup;
mod cloud;
mod commands;
mod definition;
mod general;
mod host;
mod log;
mod repository;
mod restore;
mod server;
mod sidecar;
mod single;
mod stanza;
mod storage;

pub use agent::*;
pub use archive::*;
pub use backup::*;
pub use cloud::*;
pub use definition::Definition;
pub(crate) use definition::{Choice, Dependency, Group, Kind, Limits, Place, Section, Status};
pub use general::*;
pub use host::*;
pub use log::*;
pub use repository::*;
pub use restore::*;
pub use server::*;
pub use sidecar::*;
pub use single::*;
pub use stanza::*;
pub use storage::*;

use crate::command::Command;

/// Writes a part of the table: `HANDLE, "name", "summary", "description" => definition;`, and so on. A line
/// `[Section]` before them says where the options belong.
macro_rules! options {
    ($(
        [$section:ident]
        $( $handle:ident, $name:literal, $summary:literal, $description:expr => $definition:expr; )*
    )*) => {
        $($(
            #[doc = concat!("`", $name, "`: ", $summary, ".")]
            pub static $handle: $crate::option::Definition = $definition.described(
                $crate::option::Section::$section,
                $name,
                $summary,
                $description,
            );
        )*)*

        /// The options of this file.
        pub(in crate::option) static OPTIONS: &[&$crate::option::Definition] = &[$($(&$handle),*),*];
    };
}
use options;

/// The whole table. Options are checked in this order, so the first of several complaints comes from the first part.
#[expect(unused_qualifications, reason = "each file has OPTIONS of its own, and the globs above bring them all")]
static TABLE: &[&[&Definition]] = &[
    general::OPTIONS,
    log::OPTIONS,
    single::OPTIONS,
    stanza::OPTIONS,
    repository::OPTIONS,
    agent::OPTIONS,
    archive::OPTIONS,
    backup::OPTIONS,
    restore::OPTIONS,
    sidecar::OPTIONS,
    storage::OPTIONS,
    cloud::OPTIONS,
    host::OPTIONS,
    server::OPTIONS,
];

/// Every option, in the order of the table.
pub(crate) fn all() -> impl Iterator<Item = &'static Definition> {
    TABLE.iter().copied().flatten().copied()
}

/// The options that `command` takes, in the order of the table.
pub(crate) fn of_command(command: Command) -> impl Iterator<Item = &'static Definition> {
    all().filter(move |definition| definition.commands.contains(&command))
}

/// What `name` means to `command`, if anything.
pub(crate) fn find(name: &str, command: Command) -> Option<&'static Definition> {
    of_command(command).find(|definition| definition.name == name)
}

#[cfg(test)]
mod tests;
