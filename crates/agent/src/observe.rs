//! What the repositories have, as the `info` command tells it.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use jiff::Timestamp;
use pgark_system::clock;
use serde::Deserialize;
use serde_json::Value;

use crate::job::Kind;
use crate::status::RepositoriesStatus;

/// Asks for what the repositories of one stanza have.
pub(crate) fn ask(program: &Path, arguments: &[OsString]) -> RepositoriesStatus {
    let mut status = RepositoriesStatus { asked: Some(clock::now()), ..RepositoriesStatus::default() };
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).stderr(Stdio::null()).output();
    match output {
        Ok(output) if output.status.success() => match only_element(&output.stdout) {
            Some(info) => {
                status.wal_gaps = wal_gaps(&info);
                status.info = Some(Arc::new(info));
            }
            None => status.error = Some("info has told nothing of the stanza".to_owned()),
        },
        Ok(output) => status.error = Some(format!("info ended with {}", output.status)),
        Err(error) => status.error = Some(format!("unable to run info: {error}")),
    }
    status
}

fn only_element(output: &[u8]) -> Option<Value> {
    let stanzas: Vec<Value> = serde_json::from_slice(output).ok()?;
    stanzas.into_iter().next()
}

/// When the newest backup of each kind began.
pub(crate) fn newest_backups(info: &Value) -> BTreeMap<Kind, Timestamp> {
    #[derive(Deserialize)]
    struct Backup {
        #[serde(rename = "type")]
        kind: Kind,
        timestamp: Times,
    }
    #[derive(Deserialize)]
    struct Times {
        start: i64,
    }
    let mut newest = BTreeMap::new();
    for backup in info["backup"].as_array().into_iter().flatten() {
        let Ok(Backup { kind, timestamp }) = Backup::deserialize(backup) else { continue };
        let Ok(start) = Timestamp::from_second(timestamp.start) else { continue };
        let known = newest.entry(kind).or_insert(start);
        *known = start.max(*known);
    }
    newest
}

/// When the last of the backups began that are at work, on whichever host.
pub(crate) fn last_at_work(info: &Value) -> Option<Timestamp> {
    let sessions = info["repo"]
        .as_array()
        .into_iter()
        .flatten()
        .flat_map(|repository| repository["pgark"]["at-work"].as_array().into_iter().flatten());
    sessions.filter_map(|session| Timestamp::from_second(session["start"].as_i64()?).ok()).max()
}

/// The gaps in the archives that nobody has made on purpose, in words.
fn wal_gaps(info: &Value) -> Vec<String> {
    let mut gaps = Vec::new();
    for archive in info["archive"].as_array().into_iter().flatten() {
        for missing in archive["pgark"]["missing"].as_array().into_iter().flatten() {
            if missing["by-retention"] == true {
                continue;
            }
            let text = |name: &str| missing[name].as_str().unwrap_or_default().to_owned();
            let (first, last, key) = (text("first"), text("last"), &archive["database"]["repo-key"]);
            gaps.push(if first == last {
                format!("repo{key}: WAL segment {first} is missing")
            } else {
                format!("repo{key}: WAL segments {first} to {last} are missing")
            });
        }
    }
    gaps
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backups_and_gaps_are_found_in_what_info_tells() {
        let info = serde_json::json!({
            "archive": [{"database": {"id": 1, "repo-key": 2}, "pgark": {"missing": [
                {"by-retention": false, "count": 1, "first": "000000010000000000000003", "last": "000000010000000000000003"},
                {"by-retention": true, "count": 1, "first": "000000010000000000000001", "last": "000000010000000000000001"},
                {"by-retention": false, "count": 2, "first": "000000010000000000000005", "last": "000000010000000000000006"},
            ]}}],
            "backup": [
                {"type": "full", "timestamp": {"start": 1000, "stop": 1010}},
                {"type": "incr", "timestamp": {"start": 3000, "stop": 3010}},
                {"type": "incr", "timestamp": {"start": 2000, "stop": 2010}},
                {"type": "other", "timestamp": {"start": 9000}},
            ],
            "repo": [
                {"key": 1, "pgark": {"at-work": [{"host": "db1", "process": 7, "start": 4000}], "pack-size": 1}},
                {"key": 2, "pgark": {"at-work": [{"host": "db1", "start": 3900}, {"start": "yesterday"}]}},
                {"key": 3},
            ],
        });
        let second = |second| Timestamp::from_second(second).unwrap();
        assert_eq!(newest_backups(&info), BTreeMap::from([(Kind::Full, second(1000)), (Kind::Incr, second(3000))]));
        assert_eq!(
            wal_gaps(&info),
            [
                "repo2: WAL segment 000000010000000000000003 is missing",
                "repo2: WAL segments 000000010000000000000005 to 000000010000000000000006 are missing",
            ]
        );
        assert_eq!((last_at_work(&info), last_at_work(&Value::Null)), (Some(second(4000)), None));
        assert_eq!((newest_backups(&Value::Null).len(), wal_gaps(&Value::Null).len()), (0, 0));
    }
}
