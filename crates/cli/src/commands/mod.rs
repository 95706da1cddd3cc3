//! The commands: each goes from the configuration to the engine's settings, and from the engine's report to output.

pub(crate) mod agent;
mod annotate;
mod archive_get;
mod archive_push;
pub(crate) mod background;
mod backup;
mod check;
mod control;
mod expire;
pub(crate) mod help;
mod info;
mod local_time;
mod repo_get;
mod repo_ls;
mod restore;
mod schedule;
mod stanza_create;
mod stanza_delete;
mod stanza_upgrade;
mod verify;
pub(crate) mod version;

use pgark_config::{Command, Configuration};
use pgark_engine::control::ensure_not_stopped;
use pgark_engine::lock::Lock;
use pgark_engine::{Error, ErrorKind};

use crate::exit;
use crate::failure::Result;
use crate::run::Program;
use crate::settings;

/// What a command gives that did not fail.
#[derive(Debug)]
pub(crate) struct Done {
    /// The exit code.
    pub(crate) code: u8,
    /// What a backup holds still, for the expire that follows it.
    pub(crate) backup: Option<HeldLock>,
}

/// The lock on one repository, which a backup was taken into.
#[derive(Debug)]
pub(crate) struct HeldLock {
    /// Which of the configured repositories.
    pub(crate) repository: u32,
    /// The lock.
    pub(crate) lock: Lock,
}

impl Done {
    pub(crate) fn with_code(code: u8) -> Self {
        Self { code, backup: None }
    }
}

/// Runs the command that `configuration` is of.
pub(crate) fn run(program: &Program, configuration: &Configuration) -> Result<Done> {
    if heeds_stop(configuration.command()) {
        ensure_not_stopped(&settings::control(configuration)?)?;
    }
    let done = match configuration.command() {
        Command::ArchiveGet => return Ok(Done::with_code(archive_get::run(configuration)?)),
        Command::RepoGet => return Ok(Done::with_code(repo_get::run(configuration)?)),
        Command::Verify => return Ok(Done::with_code(verify::run(configuration)?)),
        Command::Backup => {
            let backup = Some(backup::run(configuration)?);
            return Ok(Done { code: exit::SUCCESS, backup });
        }
        Command::Agent => agent::run(program, configuration),
        Command::Annotate => annotate::run(configuration),
        Command::ArchivePush => archive_push::run(configuration),
        Command::Check => check::run(program, configuration),
        Command::Expire => expire::run(configuration),
        Command::Info => info::run(configuration),
        Command::RepoLs => repo_ls::run(configuration),
        Command::Restore => restore::run(configuration),
        Command::Schedule => schedule::run(program, configuration),
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
    done.map(|()| Done::with_code(exit::SUCCESS))
}

/// Runs the expire that follows a backup.
pub(crate) fn expire_after_backup(configuration: &Configuration, held: &HeldLock) -> Result<()> {
    expire::run_after_backup(configuration, held)
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
