//! What a backup leaves for the server that will be started on it: the backup label, the backup history file and the
//! tablespace map.
//!
//! Formats: `build_backup_content` in PostgreSQL's `src/backend/access/transam/xlogbackup.c` (13 and 14: `xlog.c`),
//! `read_backup_label` and `read_tablespace_map` in `xlogrecovery.c`.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

use thiserror::Error;

use crate::Lsn;
use crate::relation::number;
use crate::wal::name::{SegmentName, Timeline};

/// The file in the data directory from which a server learns that it was restored from a backup.
pub const BACKUP_LABEL_FILE: &str = "backup_label";

/// The file in the data directory from which a server makes its tablespaces' links again.
pub const TABLESPACE_MAP_FILE: &str = "tablespace_map";

/// What a backup label says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackupLabel {
    /// Where the WAL that the backup needs begins.
    pub start: Lsn,
    /// The segment that holds `start`.
    pub start_segment: SegmentName,
    /// Where the record of the checkpoint lies that began the backup.
    pub checkpoint: Lsn,
    /// `streamed`, for every backup that is not one of the exclusive kind that ended with PostgreSQL 14.
    pub method: String,
    /// `primary` (`master` until PostgreSQL 13) or `standby`.
    pub from: String,
    /// When the backup began, in the server's log time zone.
    pub start_time: String,
    /// The name that the backup was given when it was started.
    pub label: String,
    /// The timeline of `start`.
    pub start_timeline: Timeline,
    /// Where the backup lies on which this one, made by the server's own incremental backup, depends.
    pub incremental_from: Option<(Lsn, Timeline)>,
}

/// What a backup history file says: the label, and where the backup ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackupHistory {
    /// The backup's label.
    pub label: BackupLabel,
    /// Where the WAL that the backup needs ends.
    pub stop: Lsn,
    /// The last segment that the backup needs.
    pub stop_segment: SegmentName,
    /// When the backup ended, in the server's log time zone.
    pub stop_time: String,
    /// The timeline of `stop`.
    pub stop_timeline: Timeline,
}

/// A line of a backup label or backup history file is missing or can't be understood.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum InvalidLabel {
    /// There is no such line.
    #[error("it has no line '{0}'")]
    Missing(&'static str),
    /// The line is there, but what it says makes no sense.
    #[error("its line '{key}' says '{value}'")]
    Value {
        /// What the line begins with.
        key: &'static str,
        /// What follows.
        value: String,
    },
}

impl BackupLabel {
    /// Reads a backup label. Lines that are not known are passed over, as the server does.
    ///
    /// # Errors
    /// Fails where a line that every version writes is missing or makes no sense.
    pub fn parse(bytes: &[u8]) -> Result<Self, InvalidLabel> {
        Self::from_lines(&Lines::of(bytes))
    }

    fn from_lines(lines: &Lines) -> Result<Self, InvalidLabel> {
        let (start, start_segment) = lines.location("START WAL LOCATION")?;
        Ok(Self {
            start,
            start_segment,
            checkpoint: lines.parsed("CHECKPOINT LOCATION")?,
            method: lines.required("BACKUP METHOD")?.to_owned(),
            from: lines.required("BACKUP FROM")?.to_owned(),
            start_time: lines.required("START TIME")?.to_owned(),
            label: lines.required("LABEL")?.to_owned(),
            start_timeline: lines.timeline("START TIMELINE")?,
            incremental_from: match lines.get("INCREMENTAL FROM LSN") {
                Some(_) => Some((lines.parsed("INCREMENTAL FROM LSN")?, lines.timeline("INCREMENTAL FROM TLI")?)),
                None => None,
            },
        })
    }
}

impl BackupHistory {
    /// Reads a backup history file.
    ///
    /// # Errors
    /// As [`BackupLabel::parse`].
    pub fn parse(bytes: &[u8]) -> Result<Self, InvalidLabel> {
        let lines = Lines::of(bytes);
        let (stop, stop_segment) = lines.location("STOP WAL LOCATION")?;
        Ok(Self {
            label: BackupLabel::from_lines(&lines)?,
            stop,
            stop_segment,
            stop_time: lines.required("STOP TIME")?.to_owned(),
            stop_timeline: lines.timeline("STOP TIMELINE")?,
        })
    }
}

/// The lines of a label, each `<key>: <value>`. A label's own name may hold bytes that are not UTF-8.
struct Lines(Vec<(String, String)>);

impl Lines {
    fn of(bytes: &[u8]) -> Self {
        let text = String::from_utf8_lossy(bytes);
        let pairs = text.split('\n').filter_map(|line| line.split_once(": "));
        Self(pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect())
    }

    fn get(&self, key: &'static str) -> Option<&str> {
        self.0.iter().find(|(found, _)| found == key).map(|(_, value)| value.as_str())
    }

    fn required(&self, key: &'static str) -> Result<&str, InvalidLabel> {
        self.get(key).ok_or(InvalidLabel::Missing(key))
    }

    fn parsed<T: std::str::FromStr>(&self, key: &'static str) -> Result<T, InvalidLabel> {
        let value = self.required(key)?;
        value.parse().map_err(|_| InvalidLabel::Value { key, value: value.to_owned() })
    }

    fn timeline(&self, key: &'static str) -> Result<Timeline, InvalidLabel> {
        self.parsed(key).map(Timeline)
    }

    /// A position and the segment it lies in: `0/5000028 (file 000000010000000000000005)`.
    fn location(&self, key: &'static str) -> Result<(Lsn, SegmentName), InvalidLabel> {
        let value = self.required(key)?;
        let parts = value.strip_suffix(')').and_then(|value| value.split_once(" (file "));
        let parsed = parts.and_then(|(lsn, segment)| Some((lsn.parse().ok()?, segment.parse().ok()?)));
        parsed.ok_or_else(|| InvalidLabel::Value { key, value: value.to_owned() })
    }
}

/// Where each tablespace lies: the links that the server makes in `pg_tblspc` before it recovers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TablespaceMap(pub Vec<MappedTablespace>);

/// A line of a tablespace map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MappedTablespace {
    /// The tablespace's oid.
    pub oid: u32,
    /// Where it lies.
    pub path: PathBuf,
}

/// A line of a tablespace map can't be understood.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("'{0}' is not a line of a tablespace map: one has an oid, a blank and a path")]
pub struct InvalidTablespaceMap(pub String);

impl TablespaceMap {
    /// Reads a tablespace map.
    ///
    /// # Errors
    /// Fails on the first line that makes no sense.
    pub fn parse(bytes: &[u8]) -> Result<Self, InvalidTablespaceMap> {
        unescaped_lines(bytes)
            .into_iter()
            .map(|line| MappedTablespace::parse(&line))
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// The file's bytes.
    pub fn render(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for tablespace in &self.0 {
            bytes.extend_from_slice(format!("{} ", tablespace.oid).as_bytes());
            for byte in tablespace.path.as_os_str().as_bytes() {
                if matches!(byte, b'\n' | b'\r' | b'\\') {
                    bytes.push(b'\\');
                }
                bytes.push(*byte);
            }
            bytes.push(b'\n');
        }
        bytes
    }
}

impl MappedTablespace {
    fn parse(line: &[u8]) -> Result<Self, InvalidTablespaceMap> {
        let blank = line.iter().position(|byte| *byte == b' ');
        let parts = blank.map(|blank| (OsStr::from_bytes(&line[..blank]), &line[blank + 1..]));
        let parsed = parts.filter(|(_, path)| !path.is_empty()).and_then(|(oid, path)| {
            Some(Self { oid: number(oid.to_str()?)?, path: OsString::from_vec(path.to_vec()).into() })
        });
        parsed.ok_or_else(|| InvalidTablespaceMap(String::from_utf8_lossy(line).into_owned()))
    }
}

/// The lines, without their ends and escapes: whatever follows a backslash stands for itself.
fn unescaped_lines(bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut lines = Vec::new();
    let mut line = Vec::new();
    let mut rest = bytes.iter().copied();
    while let Some(byte) = rest.next() {
        match byte {
            b'\\' => line.extend(rest.next()),
            b'\n' | b'\r' => lines.push(std::mem::take(&mut line)),
            other => line.push(other),
        }
    }
    lines.push(line);
    lines.retain(|line| !line.is_empty());
    lines
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LABEL: &str = "START WAL LOCATION: 0/5000028 (file 000000010000000000000005)\n\
        CHECKPOINT LOCATION: 0/5000080\n\
        BACKUP METHOD: streamed\n\
        BACKUP FROM: primary\n\
        START TIME: 2026-11-22 12:15:04 UTC\n\
        LABEL: nightly: with a colon\n\
        START TIMELINE: 1\n";

    #[test]
    fn a_label_is_read() {
        let label = BackupLabel::parse(LABEL.as_bytes()).unwrap();
        assert_eq!(label.start, Lsn(0x500_0028));
        assert_eq!(label.start_segment.to_string(), "000000010000000000000005");
        assert_eq!(label.checkpoint, Lsn(0x500_0080));
        assert_eq!((label.method.as_str(), label.from.as_str()), ("streamed", "primary"));
        assert_eq!(label.start_time, "2026-11-22 12:15:04 UTC");
        assert_eq!(label.label, "nightly: with a colon");
        assert_eq!(label.start_timeline, Timeline(1));
        assert_eq!(label.incremental_from, None);
    }

    #[test]
    fn an_incremental_backup_names_the_one_before() {
        let text = format!("{LABEL}INCREMENTAL FROM LSN: 0/3000028\nINCREMENTAL FROM TLI: 2\n");
        let label = BackupLabel::parse(text.as_bytes()).unwrap();
        assert_eq!(label.incremental_from, Some((Lsn(0x300_0028), Timeline(2))));
        let text = format!("{LABEL}INCREMENTAL FROM LSN: 0/3000028\n");
        assert_eq!(BackupLabel::parse(text.as_bytes()), Err(InvalidLabel::Missing("INCREMENTAL FROM TLI")));
    }

    #[test]
    fn a_history_file_is_read() {
        let text = format!(
            "{LABEL}STOP WAL LOCATION: 0/7000000 (file 000000010000000000000006)\n\
             STOP TIME: 2026-11-22 12:16:04 UTC\nSTOP TIMELINE: 1\n"
        );
        let history = BackupHistory::parse(text.as_bytes()).unwrap();
        assert_eq!(history.label, BackupLabel::parse(LABEL.as_bytes()).unwrap());
        assert_eq!(history.stop, Lsn(0x700_0000));
        assert_eq!(history.stop_segment.to_string(), "000000010000000000000006");
        assert_eq!(history.stop_timeline, Timeline(1));
        assert_eq!(BackupHistory::parse(LABEL.as_bytes()), Err(InvalidLabel::Missing("STOP WAL LOCATION")));
    }

    #[test]
    fn a_label_that_lacks_a_line_is_refused() {
        for (index, _) in LABEL.lines().enumerate() {
            let rest: Vec<&str> =
                LABEL.lines().enumerate().filter(|(at, _)| *at != index).map(|(_, line)| line).collect();
            assert!(matches!(BackupLabel::parse(rest.join("\n").as_bytes()), Err(InvalidLabel::Missing(_))), "{index}");
        }
        for (from, to) in [("0/5000028", "5000028"), (" (file ", " ("), ("TIMELINE: 1", "TIMELINE: one")] {
            let text = LABEL.replace(from, to);
            assert!(matches!(BackupLabel::parse(text.as_bytes()), Err(InvalidLabel::Value { .. })), "{to}");
        }
    }

    #[test]
    fn a_map_is_read_with_its_escapes() {
        let map = TablespaceMap::parse(b"16385 /srv/fast disk\n16386 /srv/odd\\\nname\\\\here\n").unwrap();
        assert_eq!(map.0[0], MappedTablespace { oid: 16385, path: "/srv/fast disk".into() });
        assert_eq!(map.0[1], MappedTablespace { oid: 16386, path: "/srv/odd\nname\\here".into() });
        assert_eq!(TablespaceMap::parse(b"").unwrap(), TablespaceMap::default());
    }

    #[test]
    fn a_map_that_makes_no_sense_is_refused() {
        for text in ["16385\n", "16385 \n", "x /srv\n", " /srv\n", "99999999999 /srv\n"] {
            assert!(TablespaceMap::parse(text.as_bytes()).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_map_goes_both_ways(lines in proptest::collection::vec((1_u32.., proptest::collection::vec(1_u8.., 1..40)), 0..8)) {
            let tablespaces = lines.into_iter().map(|(oid, path)| {
                MappedTablespace { oid, path: OsString::from_vec(path).into() }
            });
            let map = TablespaceMap(tablespaces.collect());
            prop_assert_eq!(TablespaceMap::parse(&map.render()).unwrap(), map);
        }

        #[test]
        fn no_bytes_make_a_decoder_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            drop((BackupHistory::parse(&bytes), TablespaceMap::parse(&bytes)));
        }
    }
}
