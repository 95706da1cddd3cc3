//! Log lines for programs: each is one JSON object.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::Serialize;

use super::line::{Level, Stamp};

/// What stands before each hint in a message.
const HINT: &str = "\nHINT: ";

/// Whose log it is: the command in its role, and its stanza.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Whose {
    pub(super) command: Option<String>,
    pub(super) stanza: Option<String>,
}

#[derive(Serialize)]
struct Record<'record> {
    #[serde(skip_serializing_if = "Option::is_none")]
    timestamp: Option<String>,
    pid: u32,
    process: String,
    level: String,
    #[serde(flatten)]
    whose: &'record Whose,
    code: Option<u8>,
    message: &'record str,
    hints: Vec<&'record str>,
}

/// A line of the log, as one JSON object on a line.
pub(super) fn line(stamp: Stamp, whose: &Whose, level: Level, message: &str) -> String {
    let mut parts = message.split(HINT);
    let (code, message) = split_code(parts.next().unwrap_or_default());
    let record = Record {
        timestamp: stamp.time.map(rfc_3339),
        pid: std::process::id(),
        process: format!("P{:02}", stamp.process),
        level: level.name().to_lowercase(),
        whose,
        code,
        message,
        hints: parts.collect(),
    };
    // There is nothing in a record that JSON could not say.
    serde_json::to_string(&record).map(|line| line + "\n").unwrap_or_default()
}

/// Local time with its offset: `2026-11-22T12:19:40.196+01:00`.
fn rfc_3339(time: Timestamp) -> String {
    time.to_zoned(TimeZone::system()).strftime("%Y-%m-%dT%H:%M:%S%.3f%:z").to_string()
}

/// The code in front of the message of an error, `[050]: `, and what comes after it.
fn split_code(message: &str) -> (Option<u8>, &str) {
    let split = || {
        let (code, rest) = message.strip_prefix('[')?.split_once("]: ")?;
        Some((code.parse().ok().filter(|_| code.len() == 3)?, rest))
    };
    split().map_or((None, message), |(code, rest)| (Some(code), rest))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn parsed(stamp: Stamp, level: Level, message: &str) -> Value {
        let whose = Whose { command: Some("backup".to_owned()), stanza: Some("demo".to_owned()) };
        let line = line(stamp, &whose, level, message);
        assert_eq!(line.matches('\n').count(), 1, "{line}");
        serde_json::from_str(&line).unwrap()
    }

    #[test]
    fn an_error_has_its_code_and_its_hints() {
        let stamp = Stamp { time: None, process: 0 };
        let error = "[050]: unable to acquire lock\nHINT: is another running?\nHINT: wait \"\u{1}\"\nand see";
        let expected = json!({
            "pid": std::process::id(), "process": "P00", "level": "error", "command": "backup", "stanza": "demo",
            "code": 50, "message": "unable to acquire lock",
            "hints": ["is another running?", "wait \"\u{1}\"\nand see"],
        });
        assert_eq!(parsed(stamp, Level::Error, error), expected);
    }

    #[test]
    fn what_is_no_code_stays_in_the_message() {
        let stamp = Stamp { time: None, process: 12 };
        for message in ["", "[DRY-RUN] begin", "[999]: too large", "[0]: short", "[050] unlike", "a\nb: [050]: c"] {
            let value = parsed(stamp, Level::Info, message);
            assert_eq!((&value["code"], &value["message"]), (&Value::Null, &json!(message)));
            assert_eq!((&value["process"], &value["hints"]), (&json!("P12"), &json!([])));
        }
    }

    #[test]
    fn times_tell_their_offset() {
        let time = "2026-11-22T12:19:40.196999Z".parse().unwrap();
        let value = parsed(Stamp { time: Some(time), process: 0 }, Level::Detail, "x");
        let text = value["timestamp"].as_str().unwrap();
        assert_eq!(text.len(), "2026-11-22T12:19:40.196+01:00".len(), "{text}");
        let read: Timestamp = text.parse().unwrap();
        assert_eq!(time.duration_since(read), jiff::SignedDuration::from_micros(999));
        assert_eq!(value["level"], "detail");
    }
}
