//! What is logged, and where.

use super::commands::{LONG, USING_REPOSITORY, WORKING};
use super::definition::{Choice, boolean, choice, now, path};
use super::options;

static LEVELS: &[Choice] = &[
    now("off", "nothing"),
    now("error", "errors"),
    now("warn", "warnings, and the above"),
    now("info", "what was done, and the above"),
    now("detail", "what becomes of each file, and the above"),
    now("debug", "what becomes of each frame of a file, how it was done, and the above"),
    now("trace", "everything"),
];

options! {
    [Log]

    LOG_FORMAT, "log-format", "the form of log lines",
        "Holds for standard output, for standard error and for files. A line of JSON is one object on one line, with the \
         members timestamp (RFC 3339, unless log-timestamp is n), pid, process, level, command, stanza, code, message and \
         hints."
        => choice(&[now("text", "lines for people, as pgBackRest writes them"), now("json", "JSON, for programs")])
            .default("text").of(WORKING);

    LOG_LEVEL_CONSOLE, "log-level-console", "what is logged on standard output",
        "A program that reads pgark's output should ask for off or error."
        => choice(LEVELS).default("warn").of(WORKING);

    LOG_LEVEL_FILE, "log-level-file", "what is logged to a file",
        "The file is `<log-path>/<stanza>-<command>.log` and is always appended to."
        => choice(LEVELS).default("info").of(WORKING);

    LOG_LEVEL_STDERR, "log-level-stderr", "what is logged on standard error",
        "What goes there has neither time nor process, and does not go to standard output as well."
        => choice(LEVELS).default("off").of(WORKING);

    LOG_PATH, "log-path", "the directory of log files",
        "With log-level-file=off it is not needed."
        => path().default("/var/log/pgark").of(WORKING);

    LOG_TIMESTAMP, "log-timestamp", "whether log lines begin with the time",
        "Holds for standard output and for files."
        => boolean("y").of(WORKING);

    PROGRESS, "progress", "whether it is shown how far the command is",
        "On a terminal a bar on standard error shows how much is done and how long it will still take, one for each \
         repository that is worked at. Where standard error is no terminal the log tells it every 10 seconds, at level \
         info."
        => boolean("y").of(LONG);

    LOG_SUBPROCESS, "log-subprocess", "whether helper processes log to files",
        "pgBackRest's helper processes each have a log file."
        => boolean("n").of(USING_REPOSITORY)
            .no_effect("pgark works in threads of one process; there are no helper processes");
}
