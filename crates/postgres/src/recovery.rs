//! What tells a restored server how far to recover: settings in `postgresql.auto.conf` and a signal file.
//!
//! PostgreSQL reads them as `src/backend/access/transam/xlogrecovery.c` and `src/backend/utils/misc/guc-file.l` have it:
//! where a setting appears twice, the last one counts.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

use crate::Lsn;
use crate::wal::name::Timeline;

/// The file in the data directory that recovery settings are written to.
pub const AUTO_CONFIGURATION_FILE: &str = "postgresql.auto.conf";

/// The settings that say where recovery ends. One that was left in the file would end the next recovery too.
const TARGET_SETTINGS: [&str; 8] = [
    "recovery_target",
    "recovery_target_action",
    "recovery_target_inclusive",
    "recovery_target_lsn",
    "recovery_target_name",
    "recovery_target_time",
    "recovery_target_timeline",
    "recovery_target_xid",
];

/// Those of them of which a server takes at most one, and which decide about the backup that serves.
const TARGETS: [&str; 5] =
    ["recovery_target", "recovery_target_lsn", "recovery_target_name", "recovery_target_time", "recovery_target_xid"];

/// How a restored cluster is to be recovered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovery {
    /// Where recovery ends.
    pub target: RecoveryTarget,
    /// The timeline to follow; PostgreSQL's default, the latest, if `None`.
    pub timeline: Option<TargetTimeline>,
    /// What the server does at the target.
    pub action: TargetAction,
    /// How the server gets WAL from the archive (`restore_command`).
    pub restore_command: String,
    /// Whether the restored server is kept from archiving (`archive_mode` off).
    pub archive_off: bool,
    /// More settings, with what they are to be. A `restore_command` among them takes the place of the one above.
    pub options: Vec<(String, String)>,
}

/// Where recovery ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RecoveryTarget {
    /// At the end of the archive.
    EndOfArchive,
    /// As soon as the backup is consistent.
    Immediate,
    /// Never: the server stays a standby.
    Standby,
    /// At the first commit after this time, in any form that PostgreSQL reads.
    Time {
        /// The time.
        time: String,
        /// Whether a commit at exactly that time is left out.
        exclusive: bool,
    },
    /// At the end of this transaction.
    Transaction {
        /// The transaction's id.
        id: u64,
        /// Whether the transaction is left out.
        exclusive: bool,
    },
    /// At this position.
    Lsn {
        /// The position.
        lsn: Lsn,
        /// Whether a record at exactly that position is left out.
        exclusive: bool,
    },
    /// At the restore point of this name.
    Name(String),
}

/// Which timeline recovery follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TargetTimeline {
    /// The one on which the backup was taken.
    Current,
    /// The latest one in the archive.
    Latest,
    /// This one.
    Number(Timeline),
}

/// What the server does when it has reached the target.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TargetAction {
    /// It waits, open for reading.
    #[default]
    Pause,
    /// It begins a new timeline and opens for work.
    Promote,
    /// It shuts down.
    Shutdown,
}

/// The empty file whose presence makes a server recover from the archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignalFile {
    /// Recovery to a target.
    Recovery,
    /// A standby.
    Standby,
}

/// The text names no timeline.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("'{0}' is not a timeline: it takes 'current', 'latest' or a number from 1 to 4294967295, also as 0x1A")]
pub struct InvalidTargetTimeline(pub String);

/// A setting can't be written.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum InvalidSetting {
    /// The name is none that a setting can have.
    #[error("'{0}' is not the name of a setting")]
    Name(String),
    /// The setting says where recovery ends, which is said otherwise.
    #[error("setting '{0}' can't be given as a recovery option: use --type and --target instead")]
    Target(String),
    /// The setting is gone since PostgreSQL 12.
    #[error("setting 'standby_mode' does not exist in PostgreSQL 12 and later: use --type=standby instead")]
    StandbyMode,
}

impl SignalFile {
    /// Its name in the data directory.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Recovery => "recovery.signal",
            Self::Standby => "standby.signal",
        }
    }
}

impl FromStr for TargetTimeline {
    type Err = InvalidTargetTimeline;

    fn from_str(text: &str) -> Result<Self, InvalidTargetTimeline> {
        match text {
            "current" => Ok(Self::Current),
            "latest" => Ok(Self::Latest),
            number => {
                let number = match number.strip_prefix("0x") {
                    Some(digits) if digits.bytes().all(|digit| digit.is_ascii_hexdigit()) => {
                        u32::from_str_radix(digits, 16).ok()
                    }
                    // To PostgreSQL a number that begins with 0 is octal.
                    None if number.bytes().all(|digit| digit.is_ascii_digit()) && !number.starts_with('0') => {
                        number.parse().ok()
                    }
                    _ => None,
                };
                let number = number.filter(|number| *number > 0);
                number.map(Timeline).map(Self::Number).ok_or_else(|| InvalidTargetTimeline(text.to_owned()))
            }
        }
    }
}

impl fmt::Display for TargetTimeline {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Current => formatter.write_str("current"),
            Self::Latest => formatter.write_str("latest"),
            Self::Number(timeline) => timeline.fmt(formatter),
        }
    }
}

impl Recovery {
    /// The signal file that goes with the settings.
    pub fn signal_file(&self) -> SignalFile {
        if self.target == RecoveryTarget::Standby { SignalFile::Standby } else { SignalFile::Recovery }
    }

    /// The settings, in the order in which they are written. Each has its own name.
    ///
    /// # Errors
    /// Fails on options that PostgreSQL could not take.
    pub fn settings(&self) -> Result<Vec<(String, String)>, InvalidSetting> {
        let mut settings = Settings::default();
        for (name, value) in &self.options {
            settings.put(&setting_name(name)?, value);
        }
        if self.archive_off {
            settings.put("archive_mode", "off");
        }
        if !settings.has("restore_command") {
            settings.put("restore_command", &self.restore_command);
        }
        self.put_target(&mut settings);
        match self.action {
            TargetAction::Pause => {}
            TargetAction::Promote => settings.put("recovery_target_action", "promote"),
            TargetAction::Shutdown => settings.put("recovery_target_action", "shutdown"),
        }
        if let Some(timeline) = self.effective_timeline() {
            settings.put("recovery_target_timeline", &timeline.to_string());
        }
        Ok(settings.0)
    }

    fn put_target(&self, settings: &mut Settings) {
        let (name, value, exclusive) = match &self.target {
            RecoveryTarget::EndOfArchive | RecoveryTarget::Standby => return,
            RecoveryTarget::Immediate => ("recovery_target", "immediate".to_owned(), false),
            RecoveryTarget::Time { time, exclusive } => ("recovery_target_time", time.clone(), *exclusive),
            RecoveryTarget::Transaction { id, exclusive } => ("recovery_target_xid", id.to_string(), *exclusive),
            RecoveryTarget::Lsn { lsn, exclusive } => ("recovery_target_lsn", lsn.to_string(), *exclusive),
            RecoveryTarget::Name(name) => ("recovery_target_name", name.clone(), false),
        };
        settings.put(name, &value);
        if exclusive {
            settings.put("recovery_target_inclusive", "false");
        }
    }

    /// A recovery that ends with the backup changes no timeline. Still PostgreSQL would fail where the latest timeline
    /// can't be reached from the backup.
    fn effective_timeline(&self) -> Option<TargetTimeline> {
        let immediate = (self.target == RecoveryTarget::Immediate).then_some(TargetTimeline::Current);
        self.timeline.or(immediate)
    }
}

/// Settings in the order in which they were first named.
#[derive(Default)]
struct Settings(Vec<(String, String)>);

impl Settings {
    fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(known, _)| known == name)
    }

    fn put(&mut self, name: &str, value: &str) {
        match self.0.iter_mut().find(|(known, _)| known == name) {
            Some((_, old)) => value.clone_into(old),
            None => self.0.push((name.to_owned(), value.to_owned())),
        }
    }
}

/// The name of a setting as PostgreSQL has it: users write dashes, as in options.
fn setting_name(option: &str) -> Result<String, InvalidSetting> {
    let name = option.replace('-', "_").to_ascii_lowercase();
    let starts_well = name.starts_with(|first: char| first.is_ascii_lowercase() || first == '_');
    let is_name = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'_' | b'.' | b'$');
    if name == "standby_mode" {
        Err(InvalidSetting::StandbyMode)
    } else if TARGETS.contains(&name.as_str()) {
        Err(InvalidSetting::Target(name))
    } else if starts_well && name.bytes().all(is_name) {
        Ok(name)
    } else {
        Err(InvalidSetting::Name(option.to_owned()))
    }
}

/// The content of `postgresql.auto.conf` after a restore.
///
/// Old settings that say where recovery ends become comments; the settings of `recovery` follow at the end. Without a
/// `recovery` (`--type=none`) the old ones go, and none come. `restored_at` is the time of the restore for the comments.
///
/// # Errors
/// As [`Recovery::settings`].
pub fn auto_configuration(
    existing: &[u8],
    recovery: Option<&Recovery>,
    restored_at: &str,
) -> Result<Vec<u8>, InvalidSetting> {
    let mut content = without_targets(existing, restored_at);
    let Some(recovery) = recovery else { return Ok(content) };
    content.truncate(content.trim_ascii_end().len());
    if !content.is_empty() {
        content.extend_from_slice(b"\n\n");
    }
    content.extend_from_slice(format!("# Recovery settings generated by pgark restore on {restored_at}\n").as_bytes());
    for (name, value) in recovery.settings()? {
        content.extend_from_slice(format!("{name} = {}\n", quoted(&value)).as_bytes());
    }
    Ok(content)
}

fn without_targets(existing: &[u8], restored_at: &str) -> Vec<u8> {
    let mut content = Vec::with_capacity(existing.len());
    for line in existing.split_inclusive(|byte| *byte == b'\n') {
        if sets_target(line) {
            content.extend_from_slice(format!("# Removed by pgark restore on {restored_at} # ").as_bytes());
        }
        content.extend_from_slice(line);
    }
    content
}

/// Whether the line of a configuration file sets where recovery ends. Names are taken in any case, and the equals sign
/// may be left out.
fn sets_target(line: &[u8]) -> bool {
    let line = line.trim_ascii_start();
    let end = line.iter().position(|byte| byte.is_ascii_whitespace() || *byte == b'=').unwrap_or(line.len());
    TARGET_SETTINGS.iter().any(|setting| line[..end].eq_ignore_ascii_case(setting.as_bytes()))
}

/// A value as a configuration file takes it. A quote is doubled, a backslash too; a line must not end in a value.
fn quoted(value: &str) -> String {
    let mut quoted = String::with_capacity(value.len() + 2);
    quoted.push('\'');
    for character in value.chars() {
        match character {
            '\'' => quoted.push_str("''"),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            other => quoted.push(other),
        }
    }
    quoted.push('\'');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recovery(target: RecoveryTarget) -> Recovery {
        Recovery {
            target,
            timeline: None,
            action: TargetAction::Pause,
            restore_command: "pgark --stanza=demo archive-get %f \"%p\"".to_owned(),
            archive_off: false,
            options: Vec::new(),
        }
    }

    fn lines(recovery: &Recovery) -> Vec<String> {
        let content = auto_configuration(b"", Some(recovery), "2026-11-22 12:27:33").unwrap();
        String::from_utf8(content).unwrap().lines().map(str::to_owned).collect()
    }

    const COMMENT: &str = "# Recovery settings generated by pgark restore on 2026-11-22 12:27:33";
    const COMMAND: &str = "restore_command = 'pgark --stanza=demo archive-get %f \"%p\"'";

    #[test]
    fn each_target_has_its_setting() {
        let exclusive = true;
        for (target, expected) in [
            (RecoveryTarget::EndOfArchive, vec![]),
            (RecoveryTarget::Standby, vec![]),
            (RecoveryTarget::Immediate, vec!["recovery_target = 'immediate'", "recovery_target_timeline = 'current'"]),
            (
                RecoveryTarget::Time { time: "2026-11-22 12:00:00+01".to_owned(), exclusive: false },
                vec!["recovery_target_time = '2026-11-22 12:00:00+01'"],
            ),
            (
                RecoveryTarget::Transaction { id: 4711, exclusive },
                vec!["recovery_target_xid = '4711'", "recovery_target_inclusive = 'false'"],
            ),
            (
                RecoveryTarget::Lsn { lsn: Lsn(0x16_B374_D848), exclusive },
                vec!["recovery_target_lsn = '16/B374D848'", "recovery_target_inclusive = 'false'"],
            ),
            (RecoveryTarget::Name("it's".to_owned()), vec!["recovery_target_name = 'it''s'"]),
        ] {
            assert_eq!(lines(&recovery(target)), [vec![COMMENT, COMMAND], expected].concat());
        }
    }

    #[test]
    fn a_standby_has_its_own_signal_file() {
        assert_eq!(recovery(RecoveryTarget::Standby).signal_file().name(), "standby.signal");
        assert_eq!(recovery(RecoveryTarget::EndOfArchive).signal_file().name(), "recovery.signal");
    }

    #[test]
    fn action_timeline_and_archive_mode_are_written_when_they_are_not_the_default() {
        let recovery = Recovery {
            action: TargetAction::Promote,
            timeline: Some("7".parse().unwrap()),
            archive_off: true,
            ..recovery(RecoveryTarget::Immediate)
        };
        let expected = [
            COMMENT,
            "archive_mode = 'off'",
            COMMAND,
            "recovery_target = 'immediate'",
            "recovery_target_action = 'promote'",
            "recovery_target_timeline = '7'",
        ];
        assert_eq!(lines(&recovery), expected);
    }

    #[test]
    fn options_come_first_and_may_replace_the_restore_command() {
        let option = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let recovery = Recovery {
            options: vec![
                option("primary-conninfo", "host=10.0.0.1 password=a\\b'c"),
                option("restore_command", "cp /archive/%f %p"),
                option("Recovery-Target-Action", "shutdown"),
            ],
            action: TargetAction::Promote,
            ..recovery(RecoveryTarget::Standby)
        };
        let expected = [
            COMMENT,
            "primary_conninfo = 'host=10.0.0.1 password=a\\\\b''c'",
            "restore_command = 'cp /archive/%f %p'",
            "recovery_target_action = 'promote'",
        ];
        assert_eq!(lines(&recovery), expected);
    }

    #[test]
    fn options_that_no_server_takes_are_refused() {
        for (name, error) in [
            ("standby-mode", InvalidSetting::StandbyMode),
            ("recovery-target-Time", InvalidSetting::Target("recovery_target_time".to_owned())),
            ("recovery_target", InvalidSetting::Target("recovery_target".to_owned())),
            ("", InvalidSetting::Name(String::new())),
            ("1st", InvalidSetting::Name("1st".to_owned())),
            ("a b", InvalidSetting::Name("a b".to_owned())),
            ("a\nport = 1", InvalidSetting::Name("a\nport = 1".to_owned())),
        ] {
            let recovery =
                Recovery { options: vec![(name.to_owned(), "on".to_owned())], ..recovery(RecoveryTarget::Standby) };
            assert_eq!(recovery.settings(), Err(error));
        }
    }

    #[test]
    fn a_value_can_not_end_its_line() {
        let recovery = Recovery { restore_command: "a\nb\r".to_owned(), ..recovery(RecoveryTarget::EndOfArchive) };
        assert_eq!(lines(&recovery), [COMMENT, "restore_command = 'a\\nb\\r'"]);
    }

    #[test]
    fn old_targets_become_comments_and_the_rest_stays() {
        let existing = b"# Do not edit this file manually!\nwork_mem = '8MB'\nrecovery_target_time = 'x'\n\
            \t RECOVERY_TARGET_ACTION 'promote'\nrecovery_target='immediate'\nrecovery_targets = 1\nname = 'caf\xE9'\n\n\n";
        let recovery = recovery(RecoveryTarget::EndOfArchive);
        let content = auto_configuration(existing, Some(&recovery), "2026-11-22 12:27:33").unwrap();
        let expected = format!(
            "# Do not edit this file manually!\nwork_mem = '8MB'\n\
             # Removed by pgark restore on 2026-11-22 12:27:33 # recovery_target_time = 'x'\n\
             # Removed by pgark restore on 2026-11-22 12:27:33 # \t RECOVERY_TARGET_ACTION 'promote'\n\
             # Removed by pgark restore on 2026-11-22 12:27:33 # recovery_target='immediate'\n\
             recovery_targets = 1\nname = 'caf?'\n\n{COMMENT}\n{COMMAND}\n"
        );
        let expected: Vec<u8> = expected.bytes().map(|byte| if byte == b'?' { 0xE9 } else { byte }).collect();
        assert_eq!(content, expected);
    }

    #[test]
    fn without_recovery_only_the_old_targets_go() {
        let content = auto_configuration(b"recovery_target_xid = '1'\nport = 1\n", None, "now").unwrap();
        assert_eq!(content, b"# Removed by pgark restore on now # recovery_target_xid = '1'\nport = 1\n");
    }

    #[test]
    fn timelines_are_read() {
        assert_eq!("latest".parse(), Ok(TargetTimeline::Latest));
        assert_eq!("current".parse(), Ok(TargetTimeline::Current));
        assert_eq!("12".parse(), Ok(TargetTimeline::Number(Timeline(12))));
        assert_eq!("0x1A".parse(), Ok(TargetTimeline::Number(Timeline(26))));
        assert_eq!("0xffffffff".parse(), Ok(TargetTimeline::Number(Timeline(u32::MAX))));
        for text in
            ["", "0", "-1", "+1", "010", "4294967296", "Latest", "1 ", "0x", "0x0", "0x1G", "0x+1", "0x100000000", "1A"]
        {
            assert!(text.parse::<TargetTimeline>().is_err(), "{text}");
        }
    }
}
