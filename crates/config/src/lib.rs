//! The options of pgark.
//!
//! There is one table of commands ([`Command`]) and one of options ([`option`]). Everything that has to do with an
//! option comes from its entry there: how it is spelled, where it may be set, what it may be set to, which commands
//! take it, its default, its help and its place in `docs/reference.md`.
//!
//! [`load`] goes from a command line, an environment and configuration files to an [`Invocation`]: help to show, the
//! version to show, or a command to run with its [`Configuration`]. An option is set by the first of these sources that
//! has it:
//!
//! 1. the command line,
//! 2. the environment, `PGARK_<OPTION>` before `PGBACKREST_<OPTION>`,
//! 3. the configuration files, section `[stanza:command]` before `[stanza]`, `[global:command]` and `[global]`,
//! 4. its default.
//!
//! What pgark does not do yet is in the table too, so that a configuration file made for pgBackRest can be taken as it
//! is: such options are refused on the command line, and named in one warning when a file or the environment sets them.

mod arguments;
mod checks;
mod collect;
mod command;
mod completion;
mod compression;
mod configuration;
mod environment;
mod error;
mod files;
mod help;
mod ini;
mod load;
mod names;
pub mod option;
mod reference;
mod resolve;
mod source;
mod text;
mod value;

pub use command::{Command, Role};
pub use compression::Compression;
pub use configuration::Configuration;
pub use environment::Environment;
pub use error::{Error, ErrorKind};
pub use files::{Files, SystemFiles};
pub use help::{HelpTopic, VersionFormat, help, version};
pub use load::{Invocation, load};
pub use names::{Address, Index, SidecarName};
pub use reference::reference_markdown;
pub use source::Source;
pub use value::Secret;
