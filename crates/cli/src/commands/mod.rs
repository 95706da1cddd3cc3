//! The commands: each goes from the configuration to the engine's settings, and from the engine's report to output.

mod archive_get;
mod archive_push;
mod backup;
mod check;
pub(crate) mod help;
mod info;
mod restore;
mod size;
mod stanza_create;
pub(crate) mod version;

use pgark_config::{Command, Configuration};
use pgark_engine::{Error, ErrorKind};

use crate::exit;
use crate::failure::Result;
use crate::run::Program;

/// Runs the command that `configuration` is of; gives the exit code where it did not fail.
pub(crate) fn run(program: &Program, configuration: &Configuration) -> Result<u8> {
    let done = match configuration.command() {
        Command::ArchiveGet => return archive_get::run(configuration),
        Command::ArchivePush => archive_push::run(configuration),
        Command::Backup => backup::run(configuration),
        Command::Check => check::run(program, configuration),
        Command::Info => info::run(configuration),
        Command::Restore => restore::run(configuration),
        Command::StanzaCreate => stanza_create::run(configuration),
        other => {
            let message = format!("command '{}' is not available yet", other.name());
            Err(Error::new(ErrorKind::FeatureNotSupported, message).into())
        }
    };
    done.map(|()| exit::SUCCESS)
}
