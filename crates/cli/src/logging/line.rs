//! The form of a log line.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use tracing::level_filters::LevelFilter;

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

    fn name(self) -> &'static str {
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

/// A line of the log: `2026-11-22 12:19:40.196 P00   INFO: message`. The time is local.
pub(super) fn line(stamp: Stamp, level: Level, message: &str) -> String {
    let time = stamp.time.map(|time| time.to_zoned(TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S%.3f ").to_string());
    let start = format!("{}P{:02} {:>6}: ", time.unwrap_or_default(), stamp.process, level.name());
    hang(&start, message)
}

/// A line with neither time nor process: `ERROR: message`.
pub(crate) fn short_line(level: Level, message: &str) -> String {
    hang(&format!("{}: ", level.name()), message)
}

/// Puts `start` before the message, and as many blanks before each further line of it.
fn hang(start: &str, message: &str) -> String {
    let indent = format!("\n{}", " ".repeat(start.len()));
    format!("{start}{}\n", message.replace('\n', &indent))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_have_pgbackrests_form() {
        let stamp = Stamp { time: None, process: 0 };
        assert_eq!(line(stamp, Level::Info, "new backup label"), "P00   INFO: new backup label\n");
        assert_eq!(line(Stamp { process: 12, ..stamp }, Level::Detail, "x"), "P12 DETAIL: x\n");
        assert_eq!(
            line(stamp, Level::Error, "[050]: locked\nHINT: wait"),
            "P00  ERROR: [050]: locked\n            HINT: wait\n"
        );
        let time = Some(Timestamp::UNIX_EPOCH + jiff::SignedDuration::from_micros(196_999));
        let full = line(Stamp { time, process: 0 }, Level::Warn, "a\nb");
        let (first, second) = full.split_once('\n').unwrap();
        assert!(first.ends_with(".196 P00   WARN: a"), "{first}");
        assert_eq!(second, format!("{}b\n", " ".repeat(first.len() - 1)));
        assert_eq!(short_line(Level::Error, "[048]: a\nHINT: b"), "ERROR: [048]: a\n       HINT: b\n");
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
