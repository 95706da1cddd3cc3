//! The commands: each goes from the configuration to the engine's settings, and from the engine's report to output.

mod annotate;
mod archive_get;
mod archive_push;
mod backup;
mod check;
mod control;
pub(crate) mod help;
mod info;
mod repo_get;
mod repo_ls;
mod restore;
mod size;
mod stanza_create;
mod stanza_delete;
mod stanza_upgrade;
pub(crate) mod version;

use pgark_config::{Command, Configuration};
use pgark_engine::control::ensure_not_stopped;
use pgark_engine::{Error, ErrorKind};

use crate::exit;
use crate::failure::Result;
use crate::run::Program;
use crate::settings;

/// Runs the command that `configuration` is of; gives the exit code where it did not fail.
pub(crate) fn run(program: &Program, configuration: &Configuration) -> Result<u8> {
    if heeds_stop(configuration.command()) {
        ensure_not_stopped(&settings::control(configuration)?)?;
    }
    let done = match configuration.command() {
        Command::ArchiveGet => return archive_get::run(configuration),
        Command::RepoGet => return repo_get::run(configuration),
        Command::Annotate => annotate::run(configuration),
        Command::ArchivePush => archive_push::run(configuration),
        Command::Backup => backup::run(configuration),
        Command::Check => check::run(program, configuration),
        Command::Info => info::run(configuration),
        Command::RepoLs => repo_ls::run(configuration),
        Command::Restore => restore::run(configuration),
        Command::StanzaCreate => stanza_create::run(configuration),
        Command::StanzaDelete => stanza_delete::run(configuration),
        Command::StanzaUpgrade => stanza_upgrade::run(configuration),
        Command::Start => control::start(configuration),
        Command::Stop => control::stop(configuration),
        other => {
            let message = format!("command '{}' is not available yet", other.name());
            Err(Error::new(ErrorKind::FeatureNotSupported, message).into())
        }
    };
    done.map(|()| exit::SUCCESS)
}

/// Whether a stop file keeps the command from running: it does with those that add to a repository.
fn heeds_stop(command: Command) -> bool {
    matches!(
        command,
        Command::Annotate
            | Command::ArchivePush
            | Command::Backup
            | Command::Expire
            | Command::StanzaCreate
            | Command::StanzaUpgrade
    )
}
