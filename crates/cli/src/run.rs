//! From the command line to an exit code.

use std::ffi::OsString;

use pgark_config::{Command, Configuration, Environment, Invocation, SystemFiles, option};
use pgark_storage::Traffic;
use pgark_system::clock::Stopwatch;
use rustix::fs::Mode;

use crate::commands;
use crate::exit;
use crate::failure::{Failure, Result};
use crate::logging::{self, Level};
use crate::output;

/// This program's version.
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");
/// This program and its version, as what it writes is marked with.
pub(crate) const PROGRAM: &str = concat!("pgark ", env!("CARGO_PKG_VERSION"));

/// The program as it was called.
#[derive(Debug)]
pub(crate) struct Program {
    arguments: Vec<OsString>,
    environment: Environment,
}

impl Program {
    /// This process.
    pub(crate) fn of_process() -> Self {
        Self { arguments: std::env::args_os().skip(1).collect(), environment: Environment::of_process() }
    }

    /// Does what the command line says; gives the exit code.
    pub(crate) fn run(&self) -> u8 {
        let ended = match self.load() {
            Ok(Invocation::Help(topic)) => commands::help::run(topic).map(|()| exit::SUCCESS),
            Ok(Invocation::Version(format)) => commands::version::run(format).map(|()| exit::SUCCESS),
            Ok(Invocation::Run(configuration)) => {
                let code = self.run_command(&configuration);
                return if configuration.command() == Command::ArchiveGet { exit::of_archive_get(code) } else { code };
            }
            Err(failure) => Err(failure),
        };
        ended.unwrap_or_else(|failure| {
            output::complain(&logging::short_line(Level::Error, &failure.log_message()));
            self.without_understanding(failure.code.number)
        })
    }

    /// The exit code where nothing says for sure which command it was.
    pub(crate) fn without_understanding(&self, code: u8) -> u8 {
        let may_be_archive_get =
            self.arguments.iter().any(|argument| argument.to_str().is_some_and(exit::may_mean_archive_get));
        if may_be_archive_get { exit::of_archive_get(code) } else { code }
    }

    fn load(&self) -> Result<Invocation> {
        Ok(pgark_config::load(self.arguments.clone(), &self.environment, &SystemFiles)?)
    }

    /// The configuration that the same command line has with `--stanza` added to it.
    pub(crate) fn load_for_stanza(&self, stanza: &str) -> Result<Configuration> {
        let mut arguments = vec![OsString::from(format!("--stanza={stanza}"))];
        arguments.extend(self.arguments.iter().cloned());
        match pgark_config::load(arguments, &self.environment, &SystemFiles)? {
            Invocation::Run(configuration) => Ok(*configuration),
            Invocation::Help(_) | Invocation::Version(_) => {
                Err(Failure::option_value("help and version have no stanza"))
            }
        }
    }

    fn run_command(&self, configuration: &Configuration) -> u8 {
        let stopwatch = Stopwatch::start();
        if configuration.takes(&option::NEUTRAL_UMASK) && configuration.boolean(&option::NEUTRAL_UMASK) {
            rustix::process::umask(Mode::empty());
        }
        logging::start(configuration);
        for warning in configuration.warnings() {
            tracing::warn!("{warning}");
        }
        let name = configuration.command().name();
        frame(configuration, &format!("{name} command begin {VERSION}: {}", configuration.describe()));
        let ended = commands::run(self, configuration);
        tell_traffic();
        let ending = match &ended {
            Ok(_) if configuration.boolean(&option::LOG_TIMESTAMP) => {
                format!("completed successfully ({}ms)", stopwatch.elapsed().as_millis())
            }
            Ok(_) => "completed successfully".to_owned(),
            Err(failure) => {
                tracing::error!("{}", failure.log_message());
                format!("aborted with exception [{:03}]", failure.code.number)
            }
        };
        frame(configuration, &format!("{name} command end: {ending}"));
        ended.unwrap_or_else(|failure| failure.code.number)
    }
}

/// Logs what storages on the network were asked, which is what they are paid for and what takes the time.
fn tell_traffic() {
    let Traffic { requests, retries, sent, received } = pgark_storage::traffic();
    if requests > 0 {
        tracing::debug!(
            "requests to storages: {requests}, of them sent again: {retries}; bytes sent: {sent}, received: {received}"
        );
    }
}

/// Logs the begin or the end of a command. That of commands whose output is what they are called for is for debugging
/// only.
fn frame(configuration: &Configuration, message: &str) {
    if matches!(configuration.command(), Command::Info | Command::RepoGet | Command::RepoLs) {
        tracing::trace!("{message}");
    } else {
        tracing::info!("{message}");
    }
}
