//! The form of a log line.

use std::io::IsTerminal;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use tracing::level_filters::LevelFilter;

use crate::terminal;

/// How many letters the longest name of a level has.
const LEVEL_WIDTH: usize = 6;

/// How important a line is, in pgBackRest's words; also how much is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Level {
    /// Nothing is logged at it.
    Off,
    /// The command fails.
    Error,
    /// The command goes on, but somebody should know.
    Warn,
    /// What was done.
    Info,
    /// Each file.
    Detail,
    /// How it was done.
    Debug,
}

impl Level {
    /// The level that an option is set to.
    pub(crate) fn from_option(text: &str) -> Self {
        match text {
            "off" => Self::Off,
            "error" => Self::Error,
            "warn" => Self::Warn,
            "info" => Self::Info,
            "detail" => Self::Detail,
            // pgBackRest has one level more than pgark: trace.
            _ => Self::Debug,
        }
    }

    /// The level of an event.
    pub(super) fn of_event(level: tracing::Level) -> Self {
        match level {
            tracing::Level::ERROR => Self::Error,
            tracing::Level::WARN => Self::Warn,
            tracing::Level::INFO => Self::Info,
            tracing::Level::DEBUG => Self::Detail,
            tracing::Level::TRACE => Self::Debug,
        }
    }

    /// The events that are logged at this level or before it.
    pub(super) fn filter(self) -> LevelFilter {
        match self {
            Self::Off => LevelFilter::OFF,
            Self::Error => LevelFilter::ERROR,
            Self::Warn => LevelFilter::WARN,
            Self::Info => LevelFilter::INFO,
            Self::Detail => LevelFilter::DEBUG,
            Self::Debug => LevelFilter::TRACE,
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Off => "OFF",
            Self::Error => "ERROR",
            Self::Warn => "WARN",
            Self::Info => "INFO",
            Self::Detail => "DETAIL",
            Self::Debug => "DEBUG",
        }
    }
}

/// What stands before the level in a line.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stamp {
    /// The time, if it is to be shown.
    pub(super) time: Option<Timestamp>,
    /// The worker that the line is from; 0 for the main thread.
    pub(super) process: u32,
}

/// The number of the worker that this thread is: workers are called `P01`, `P02` and so on.
pub(super) fn process_number() -> u32 {
    let thread = std::thread::current();
    thread.name().and_then(|name| name.strip_prefix('P')).and_then(|number| number.parse().ok()).unwrap_or(0)
}

/// Whether what matters stands out by its colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Colours {
    /// It is for eyes.
    Shown,
    /// It is for files and programs too.
    None,
}

impl Colours {
    /// Those of what is written to a stream.
    pub(crate) fn of(stream: &impl IsTerminal) -> Self {
        if terminal::has_colours(stream) { Self::Shown } else { Self::None }
    }

    /// The name of a level, in yellow or red where somebody should look.
    fn paint(self, level: Level) -> String {
        let name = level.name();
        match (self, level) {
            (Self::Shown, Level::Error) => format!("\x1b[31m{name}\x1b[0m"),
            (Self::Shown, Level::Warn) => format!("\x1b[33m{name}\x1b[0m"),
            _ => name.to_owned(),
        }
    }
}

/// A line of the log: `2026-11-22 12:19:40.196 P00   INFO: message`. The time is local.
pub(super) fn line(stamp: Stamp, level: Level, colours: Colours, message: &str) -> String {
    let time = stamp.time.map(|time| time.to_zoned(TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S%.3f ").to_string());
    let blanks = " ".repeat(LEVEL_WIDTH.saturating_sub(level.name().len()));
    let start = format!("{}P{:02} {blanks}", time.unwrap_or_default(), stamp.process);
    hang(&start, level, colours, message)
}

/// A line with neither time nor process: `ERROR: message`.
pub(crate) fn short_line(level: Level, colours: Colours, message: &str) -> String {
    hang("", level, colours, message)
}

/// Puts `start` and the level before the message, and as many blanks as they take before each further line of it.
fn hang(start: &str, level: Level, colours: Colours, message: &str) -> String {
    let width = start.len() + level.name().len() + ": ".len();
    let indent = format!("\n{}", " ".repeat(width));
    format!("{start}{}: {}\n", colours.paint(level), message.replace('\n', &indent))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_have_pgbackrests_form() {
        let stamp = Stamp { time: None, process: 0 };
        let plain = |stamp, level, message| line(stamp, level, Colours::None, message);
        assert_eq!(plain(stamp, Level::Info, "new backup label"), "P00   INFO: new backup label\n");
        assert_eq!(plain(Stamp { process: 12, ..stamp }, Level::Detail, "x"), "P12 DETAIL: x\n");
        assert_eq!(
            plain(stamp, Level::Error, "[050]: locked\nHINT: wait"),
            "P00  ERROR: [050]: locked\n            HINT: wait\n"
        );
        let time = Some(Timestamp::UNIX_EPOCH + jiff::SignedDuration::from_micros(196_999));
        let full = plain(Stamp { time, process: 0 }, Level::Warn, "a\nb");
        let (first, second) = full.split_once('\n').unwrap();
        assert!(first.ends_with(".196 P00   WARN: a"), "{first}");
        assert_eq!(second, format!("{}b\n", " ".repeat(first.len() - 1)));
        assert_eq!(short_line(Level::Error, Colours::None, "[048]: a\nHINT: b"), "ERROR: [048]: a\n       HINT: b\n");
    }

    #[test]
    fn colours_change_nothing_but_the_colour() {
        let stamp = Stamp { time: None, process: 0 };
        let coloured = line(stamp, Level::Warn, Colours::Shown, "a\nb");
        assert_eq!(coloured, "P00   \x1b[33mWARN\x1b[0m: a\n            b\n");
        assert_eq!(short_line(Level::Error, Colours::Shown, "a\nb"), "\x1b[31mERROR\x1b[0m: a\n       b\n");
        assert_eq!(line(stamp, Level::Info, Colours::Shown, "a"), line(stamp, Level::Info, Colours::None, "a"));
    }

    #[test]
    fn workers_are_known_by_the_name_of_their_thread() {
        assert_eq!(process_number(), 0);
        let worker = std::thread::Builder::new().name("P03".to_owned()).spawn(process_number).unwrap();
        assert_eq!(worker.join().unwrap(), 3);
    }

    #[test]
    fn more_is_logged_from_level_to_level() {
        let levels = ["off", "error", "warn", "info", "detail", "debug"].map(Level::from_option);
        assert!(levels.is_sorted_by(|one, other| one < other));
        assert_eq!(Level::from_option("trace"), Level::Debug);
    }
}
