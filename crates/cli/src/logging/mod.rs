//! The log: lines on standard output, on standard error and in a file, each with a level of its own, in pgBackRest's form
//! or as JSON. Only what pgark itself says is logged, not what its libraries say.

mod file;
mod json;
mod line;

use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use pgark_config::{Command, Configuration, Role, option};
use pgark_system::clock;
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Metadata, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::registry::Registry;

use self::file::LogFile;
use self::json::Whose;
pub(crate) use self::line::Level;
use self::line::{Colours, Stamp, line, short_line};
use crate::commands::agent;
use crate::{output, progress};

/// What the targets of pgark's own events begin with: the names of its crates.
const OWN_TARGETS: &str = "pgark";

/// What a line begins with where a command only says what it would do.
const DRY_RUN_PREFIX: &str = "[DRY-RUN] ";

/// The command whose log it is at the moment.
static WHOSE: Mutex<Whose> = Mutex::new(Whose { command: None, stanza: None });

/// The form of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// For people.
    Text,
    /// For programs.
    Json,
}

impl Format {
    /// The form that an option is set to.
    pub(crate) fn from_option(text: &str) -> Self {
        if text == "json" { Self::Json } else { Self::Text }
    }
}

/// Tells of an error on standard error, before there is a log.
pub(crate) fn complain(format: Format, message: &str) {
    let text = match format {
        Format::Text => short_line(Level::Error, Colours::of(&io::stderr()), message),
        Format::Json => json::line(stamp(true), &Whose::default(), Level::Error, message),
    };
    output::complain(&text);
}

/// Says that the log is that of this command from now on.
pub(crate) fn is_of(configuration: &Configuration) {
    let command = Some(configuration.command().name_in_role(configuration.role()));
    let stanza = configuration.optional_text(&option::STANZA).map(str::to_owned);
    *WHOSE.lock().unwrap_or_else(PoisonError::into_inner) = Whose { command, stanza };
}

fn stamp(has_time: bool) -> Stamp {
    Stamp { time: has_time.then(clock::now), process: line::process_number() }
}

/// Starts logging as the configuration says.
pub(crate) fn start(configuration: &Configuration) {
    let format = Format::from_option(configuration.text(&option::LOG_FORMAT));
    let (file, problem) = open_file(configuration, format);
    is_of(configuration);
    let (console, standard_error) =
        (level(configuration, &option::LOG_LEVEL_CONSOLE), level(configuration, &option::LOG_LEVEL_STDERR));
    // What is printed there goes into a file of somebody else's, where no line of a log belongs.
    let is_printing = prints(configuration);
    let logger = Logger {
        console: if is_printing { Level::Off } else { console },
        standard_error: if is_printing { standard_error.max(console) } else { standard_error },
        file_level: if file.is_some() { level(configuration, &option::LOG_LEVEL_FILE) } else { Level::Off },
        file: file.map(Mutex::new),
        format,
        console_colours: Colours::of(&io::stdout()),
        error_colours: Colours::of(&io::stderr()),
        has_time: configuration.boolean(&option::LOG_TIMESTAMP),
        is_dry_run: configuration.takes(&option::DRY_RUN) && configuration.boolean(&option::DRY_RUN),
    };
    let is_first = tracing::subscriber::set_global_default(Registry::default().with(logger));
    debug_assert!(is_first.is_ok(), "logging starts once");
    if let Some(problem) = problem {
        tracing::warn!("{problem}\nNOTE: process will continue without log file");
    }
}

fn level(configuration: &Configuration, option: &option::Definition) -> Level {
    Level::from_option(configuration.text(option))
}

/// Whether the agent only prints what others are to read.
fn prints(configuration: &Configuration) -> bool {
    configuration.command() == Command::Agent && agent::prints(configuration)
}

/// Opens the log file of a command that has one, or says why it can't be opened.
fn open_file(configuration: &Configuration, format: Format) -> (Option<LogFile>, Option<String>) {
    let command = configuration.command();
    let is_logged = configuration.role() == Role::Async
        || !prints(configuration)
            && !matches!(
                command,
                Command::Annotate
                    | Command::ArchiveGet
                    | Command::ArchivePush
                    | Command::Check
                    | Command::Info
                    | Command::RepoGet
                    | Command::RepoLs
                    | Command::Schedule
            );
    if !is_logged || level(configuration, &option::LOG_LEVEL_FILE) == Level::Off {
        return (None, None);
    }
    let path = file_path(configuration, configuration.role());
    match LogFile::open(&path, format == Format::Text) {
        Ok(file) => (Some(file), None),
        Err(error) => (None, Some(format!("unable to open log file '{}': {error}", path.display()))),
    }
}

/// The log file of the command in a role: pgBackRest's name for it.
pub(crate) fn file_path(configuration: &Configuration, role: Role) -> PathBuf {
    let stanza = configuration.optional_text(&option::STANZA).unwrap_or("all");
    let command = configuration.command().name_in_role(role).replace(':', "-");
    configuration.path(&option::LOG_PATH).join(format!("{stanza}-{command}.log"))
}

/// Where events go, from which level on.
struct Logger {
    console: Level,
    standard_error: Level,
    file_level: Level,
    file: Option<Mutex<LogFile>>,
    format: Format,
    console_colours: Colours,
    error_colours: Colours,
    has_time: bool,
    /// Whether each line is marked as one of a command that does nothing of what it says.
    is_dry_run: bool,
}

impl Logger {
    fn log(&self, level: Level, message: &str) {
        let stamp = stamp(self.has_time);
        // What goes to standard error does not go to standard output as well.
        if level <= self.standard_error {
            let text = match self.format {
                Format::Text => short_line(level, self.error_colours, message),
                Format::Json => self.line(stamp, level, Colours::None, message),
            };
            progress::aside(|| output::complain(&text));
        } else if level <= self.console {
            let text = self.line(stamp, level, self.console_colours, message);
            // If nobody reads the console any more, the work goes on all the same.
            let _nobody_reads = progress::aside(|| io::stdout().lock().write_all(text.as_bytes()));
        }
        if level <= self.file_level
            && let Some(Ok(mut file)) = self.file.as_ref().map(Mutex::lock)
        {
            file.write(&self.line(stamp, level, Colours::None, message));
        }
    }

    fn line(&self, stamp: Stamp, level: Level, colours: Colours, message: &str) -> String {
        match self.format {
            Format::Text => line(stamp, level, colours, message),
            Format::Json => json::line(stamp, &WHOSE.lock().unwrap_or_else(PoisonError::into_inner), level, message),
        }
    }

    fn most_verbose(&self) -> Level {
        self.console.max(self.standard_error).max(self.file_level)
    }
}

impl<S: Subscriber> Layer<S> for Logger {
    fn enabled(&self, metadata: &Metadata<'_>, _context: Context<'_, S>) -> bool {
        metadata.target().starts_with(OWN_TARGETS) && Level::of_event(*metadata.level()) <= self.most_verbose()
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(self.most_verbose().filter())
    }

    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        let mut message = Message(String::new());
        event.record(&mut message);
        if self.is_dry_run {
            message.0.insert_str(0, DRY_RUN_PREFIX);
        }
        self.log(Level::of_event(*event.metadata().level()), &message.0);
    }
}

/// The text of an event.
struct Message(String);

impl Visit for Message {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        if field.name() == "message" {
            self.0 = format!("{value:?}");
        }
    }
}
