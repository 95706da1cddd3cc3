//! From the command line to an exit code.

use std::ffi::OsString;
use std::io;

use pgark_config::{Command, Configuration, Environment, Invocation, Role, SystemFiles, option};
use pgark_storage::Traffic;
use pgark_system::clock::Stopwatch;
use pgark_system::termination::{self, Manner, Signal};
use rustix::fs::Mode;

use crate::commands::{self, Done, HeldLock};
use crate::exit;
use crate::failure::{Failure, Result};
use crate::logging::{self, Format};
use crate::output;
use crate::progress;

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
            Ok(Invocation::Completion(text)) => output::print(&text).map(|()| exit::SUCCESS),
            Ok(Invocation::Run(configuration)) => return self.run_command(&configuration),
            Err(failure) => Err(failure),
        };
        ended.unwrap_or_else(|failure| {
            logging::complain(self.format_without_understanding(), &failure.log_message());
            self.without_understanding(failure.code.number)
        })
    }

    /// The exit code where nothing says for sure which command it was.
    pub(crate) fn without_understanding(&self, code: u8) -> u8 {
        let may_be_archive_get =
            self.arguments.iter().any(|argument| argument.to_str().is_some_and(exit::may_mean_archive_get));
        if may_be_archive_get { exit::of_archive_get(code) } else { code }
    }

    /// The form of log lines where the configuration can't be understood: what the command line says, or the environment.
    fn format_without_understanding(&self) -> Format {
        let name = "log-format";
        let given = self.arguments.iter().filter_map(|argument| argument.to_str()?.strip_prefix("--"));
        let given = given.filter_map(|argument| argument.strip_prefix(name)?.strip_prefix('=')).next_back();
        Format::from_option(given.or_else(|| self.environment.value_of(name)).unwrap_or_default())
    }

    fn load(&self) -> Result<Invocation> {
        Ok(pgark_config::load(self.arguments.clone(), &self.environment, &SystemFiles)?)
    }

    /// The configuration of the same command line, as it is now.
    pub(crate) fn load_configuration(&self) -> Result<Configuration> {
        Self::configuration_of(self.load()?)
    }

    /// The configuration that the same command line has with `--stanza` added to it.
    pub(crate) fn load_for_stanza(&self, stanza: &str) -> Result<Configuration> {
        let mut arguments = vec![OsString::from(format!("--stanza={stanza}"))];
        arguments.extend(self.arguments.iter().cloned());
        Self::configuration_of(pgark_config::load(arguments, &self.environment, &SystemFiles)?)
    }

    fn configuration_of(invocation: Invocation) -> Result<Configuration> {
        match invocation {
            Invocation::Run(configuration) => Ok(*configuration),
            Invocation::Help(_) | Invocation::Version(_) | Invocation::Completion(_) => {
                Err(Failure::option_value("help, version and completion have no configuration"))
            }
        }
    }

    fn run_command(&self, configuration: &Configuration) -> u8 {
        let stopwatch = Stopwatch::start();
        if configuration.takes(&option::NEUTRAL_UMASK) && configuration.boolean(&option::NEUTRAL_UMASK) {
            rustix::process::umask(Mode::empty());
        }
        let detached = if configuration.role() == Role::Async { commands::background::detach() } else { Ok(()) };
        logging::start(configuration);
        if let Err(error) = detached {
            tracing::warn!("unable to begin a session: {error}");
        }
        for warning in configuration.warnings() {
            tracing::warn!("{warning}");
        }
        // Threads inherit it, so it comes before the first of them.
        let prioritized = set_priority(configuration);
        let command = configuration.command();
        let is_service = command == Command::Agent && !configuration.boolean(&option::ONCE);
        let manner = if is_service { Manner::Service } else { Manner::Command };
        if let Err(error) = termination::watch(manner, move |signal| end_by_force(command, signal)) {
            tracing::warn!("unable to watch for signals: {error}");
        }
        let run = || prioritized.and_then(|()| commands::run(self, configuration));
        match framed(configuration, stopwatch, run) {
            Ok(Done { backup: Some(held), .. }) if configuration.boolean(&option::EXPIRE_AUTO) => {
                self.expire_after_backup(configuration, &held)
            }
            Ok(Done { code, .. }) | Err(code) => code,
        }
    }

    /// Expires after a backup, as if the command had been run with the same options.
    fn expire_after_backup(&self, configuration: &Configuration, held: &HeldLock) -> u8 {
        let mut arguments = vec![OsString::from(Command::Expire.name())];
        arguments.extend(configuration.command_line_options(Command::Expire).into_iter().map(OsString::from));
        let stopwatch = Stopwatch::start();
        match pgark_config::load(arguments, &self.environment, &SystemFiles) {
            Ok(Invocation::Run(configuration)) => {
                let expire =
                    || commands::expire_after_backup(&configuration, held).map(|()| Done::with_code(exit::SUCCESS));
                framed(&configuration, stopwatch, expire).map_or_else(|code| code, |done| done.code)
            }
            Ok(Invocation::Completion(_) | Invocation::Help(_) | Invocation::Version(_)) => exit::SUCCESS,
            Err(error) => {
                let failure = Failure::from(error);
                tracing::error!("{}", failure.log_message());
                failure.code.number
            }
        }
    }
}

/// Runs a command, and logs its begin and its end; gives the exit code where it failed.
fn framed(configuration: &Configuration, stopwatch: Stopwatch, run: impl FnOnce() -> Result<Done>) -> Result<Done, u8> {
    let command = configuration.command();
    let name = command.name_in_role(configuration.role());
    logging::is_of(configuration);
    frame(configuration, &format!("{name} command begin {VERSION}: {}", configuration.describe()));
    let ended = run();
    tell_traffic();
    let (ending, ended) = match (ended, termination::requested()) {
        // The report has said what is wrong.
        (Ok(done @ Done { code: 1.., .. }), _) if command == Command::Verify => {
            (format!("completed with exit code {}", done.code), Ok(done))
        }
        (Ok(done), _) if configuration.boolean(&option::LOG_TIMESTAMP) => {
            (format!("completed successfully ({}ms)", stopwatch.elapsed().as_millis()), Ok(done))
        }
        (Ok(done), _) => ("completed successfully".to_owned(), Ok(done)),
        // Whatever failed then has failed because of it.
        (Err(failure), Some(signal)) => {
            tracing::debug!("{}", failure.log_message());
            (format!("terminated on signal [{signal}]"), Err(exit::on_signal(command, signal)))
        }
        (Err(failure), None) => {
            tracing::error!("{}", failure.log_message());
            let ending = format!("aborted with exception [{:03}]", failure.code.number);
            (ending, Err(exit::of_command(command, failure.code.number)))
        }
    };
    frame(configuration, &format!("{name} command end: {ending}"));
    ended
}

/// Gives the process the priority that is asked for.
fn set_priority(configuration: &Configuration) -> Result<()> {
    let priority =
        configuration.takes(&option::PRIORITY).then(|| configuration.optional_integer(&option::PRIORITY)).flatten();
    let Some(priority) = priority.and_then(|priority| i32::try_from(priority).ok()) else { return Ok(()) };
    rustix::process::setpriority_process(None, priority).map_err(|error| {
        let message = format!("unable to set process priority to {priority}: {}", io::Error::from(error));
        let failure = Failure { code: exit::KERNEL, message, hints: Vec::new() };
        failure.hint("only root may ask for more than the process has: set 'priority' to a higher number")
    })
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

/// Ends the process where the work does not end by itself. What can be cleaned up from outside it is cleaned up.
#[expect(clippy::exit, reason = "the work does not end by itself")]
fn end_by_force(command: Command, signal: Signal) {
    progress::clear();
    tracing::info!("{} command end: terminated on signal [{signal}]", command.name());
    std::process::exit(i32::from(exit::on_signal(command, signal)));
}

/// Logs the begin or the end of a command. That of commands whose output is what they are called for is for debugging
/// only.
fn frame(configuration: &Configuration, message: &str) {
    let is_called_for_output = match configuration.command() {
        Command::Info | Command::RepoGet | Command::RepoLs | Command::Schedule => true,
        Command::Agent => commands::agent::prints(configuration),
        _ => false,
    };
    if is_called_for_output {
        tracing::trace!("{message}");
    } else {
        tracing::info!("{message}");
    }
}
