//! What is done by schedule, and what is remembered of it.

use std::collections::BTreeMap;
use std::fmt;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A kind of job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A full backup.
    Full,
    /// A differential one.
    Diff,
    /// An incremental one.
    Incr,
    /// Expire by the rules of retention.
    Expire,
    /// Verify.
    Verify,
}

impl Kind {
    /// All kinds. Of several that wait, the first goes first.
    pub const ALL: [Self; 5] = [Self::Full, Self::Diff, Self::Incr, Self::Expire, Self::Verify];

    /// Its name, as in the options and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Diff => "diff",
            Self::Incr => "incr",
            Self::Expire => "expire",
            Self::Verify => "verify",
        }
    }

    /// Whether it is a backup.
    pub fn is_backup(self) -> bool {
        matches!(self, Self::Full | Self::Diff | Self::Incr)
    }

    /// Whether one that began after the other was due does the other's work, too.
    pub fn does_work_of(self, other: Self) -> bool {
        self == other || (self.is_backup() && other.is_backup() && self < other)
    }

    /// Whether the two must not run at the same time: all that write to the repository wait for each other. Verify only
    /// reads.
    pub fn excludes(self, other: Self) -> bool {
        self == other || (self != Self::Verify && other != Self::Verify)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// A run that has ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// When it was due.
    pub due: Timestamp,
    /// When it began.
    pub started: Timestamp,
    /// When it ended.
    pub ended: Timestamp,
    /// What the program exited with; `None` where a signal ended it.
    pub code: Option<i32>,
    /// The last lines that it logged.
    #[serde(default)]
    pub lines: Vec<String>,
}

impl Run {
    /// Whether it did what it was to do.
    pub fn is_good(&self) -> bool {
        self.code == Some(0)
    }

    /// What it complained of last, or said last, in one line.
    pub fn complaint(&self) -> Option<String> {
        let error = self.lines.iter().rev().find_map(|line| error_in(line));
        error.or_else(|| Some(self.lines.last()?.trim().to_owned()))
    }

    /// How long it took.
    pub fn duration(&self) -> SignedDuration {
        self.ended.duration_since(self.started)
    }
}

/// The error that a line of a log tells of, in whichever form the log has.
fn error_in(line: &str) -> Option<String> {
    let Ok(Value::Object(record)) = serde_json::from_str(line) else {
        return line.contains("ERROR").then(|| line.trim().to_owned());
    };
    if record.get("level")? != "error" {
        return None;
    }
    let message = record.get("message")?.as_str()?;
    let code = record.get("code").and_then(Value::as_u64).map(|code| format!("[{code:03}]: ")).unwrap_or_default();
    Some(format!("ERROR: {code}{message}"))
}

/// A job at work.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Working {
    /// When it was due.
    pub due: Timestamp,
    /// Since when.
    pub started: Timestamp,
    /// Its process.
    pub process: u32,
}

/// A way in which the schedule is not kept, which was told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToldLate {
    /// The kind of job.
    pub kind: Kind,
    /// The name of the way.
    pub reason: String,
    /// When it was found.
    pub since: Timestamp,
}

/// What is remembered of a kind of job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// Since when it is in the schedule.
    pub since: Timestamp,
    /// Until when all that was due is done, be it in vain.
    pub settled: Timestamp,
    /// The last run.
    #[serde(default)]
    pub last: Option<Run>,
    /// The last run that was good.
    #[serde(default)]
    pub last_good: Option<Run>,
    /// How many runs in a row have failed.
    #[serde(default)]
    pub failures: u32,
    /// How many there were in all.
    #[serde(default)]
    pub runs_total: u64,
    /// How many of them failed.
    #[serde(default)]
    pub failures_total: u64,
    /// When it was due the last time that it was passed over, as long as it is not known to be done.
    #[serde(default)]
    pub passed_over: Option<Timestamp>,
}

impl Job {
    /// A kind of job that is new in the schedule.
    pub fn new(now: Timestamp) -> Self {
        let (last, last_good, passed_over) = (None, None, None);
        Self { since: now, settled: now, last, last_good, failures: 0, runs_total: 0, failures_total: 0, passed_over }
    }
}

/// What is remembered of the jobs of one stanza.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    /// By kind.
    pub jobs: BTreeMap<Kind, Job>,
    /// When the newest backup of each kind began that the repositories have, whoever took it.
    #[serde(default)]
    pub in_repositories: BTreeMap<Kind, Timestamp>,
    /// The jobs that are at work.
    #[serde(default)]
    pub working: BTreeMap<Kind, Working>,
    /// What is late and was told: it is told once, however often agents come and go meanwhile.
    #[serde(default)]
    pub late: Vec<ToldLate>,
    /// The gaps in the WAL that were told.
    #[serde(default)]
    pub wal_gaps: Vec<String>,
    /// Of which repository's dropped WAL was told, and since when that was dropped.
    #[serde(default)]
    pub dropped: Vec<(u32, Timestamp)>,
    /// When the repositories were looked at last, if no job has ended since.
    #[serde(default)]
    pub looked: Option<Timestamp>,
    /// When the last of the backups began that were at work at the last look, on whichever host.
    #[serde(skip)]
    pub at_work: Option<Timestamp>,
}

impl Memory {
    /// Notes that these kinds are in the schedule. What is new is not due before its time comes.
    pub fn adopt(&mut self, kinds: impl IntoIterator<Item = Kind>, now: Timestamp) {
        for kind in kinds {
            self.jobs.entry(kind).or_insert_with(|| Job::new(now));
        }
    }

    /// Notes that a run has ended.
    pub fn note(&mut self, kind: Kind, run: Run) {
        if run.is_good() {
            for (other, job) in &mut self.jobs {
                if *other != kind && kind.does_work_of(*other) {
                    job.settled = job.settled.max(run.started);
                    job.failures = 0;
                }
            }
        }
        let job = self.jobs.entry(kind).or_insert_with(|| Job::new(run.due));
        job.settled = job.settled.max(run.due);
        job.runs_total += 1;
        if run.is_good() {
            job.failures = 0;
            job.last_good = Some(run.clone());
        } else {
            job.failures += 1;
            job.failures_total += 1;
        }
        job.last = Some(run);
    }

    /// Notes that a job that was due is left to another host. Failures are that host's, too.
    pub fn pass_over(&mut self, kind: Kind, due: Timestamp) {
        let Some(job) = self.jobs.get_mut(&kind) else { return };
        job.settled = job.settled.max(due);
        job.failures = 0;
        job.passed_over = Some(due);
    }

    /// Whether something was passed over last.
    pub fn has_passed_over(&self) -> bool {
        self.jobs.values().any(|job| job.passed_over.is_some())
    }

    /// Notes that jobs are not left to another host any more. What was passed over last is due again, unless the
    /// repositories have it. Gives the kinds that are.
    pub fn take_over(&mut self) -> Vec<Kind> {
        let mut due_again = Vec::new();
        for kind in Kind::ALL {
            let last_good = self.last_good(kind);
            let Some(job) = self.jobs.get_mut(&kind) else { continue };
            let Some(due) = job.passed_over.take() else { continue };
            if last_good.is_none_or(|good| good < due) {
                job.settled = job.settled.min(due - SignedDuration::from_millis(1));
                due_again.push(kind);
            }
        }
        due_again
    }

    /// When the last good run began that did the work of this kind.
    pub fn last_good(&self, kind: Kind) -> Option<Timestamp> {
        let does_it = |other: &Kind| other.does_work_of(kind);
        let good = self.jobs.iter().filter(|(other, _)| does_it(other));
        let own = good.filter_map(|(_, job)| Some(job.last_good.as_ref()?.started));
        let others = self.in_repositories.iter().filter(|(other, _)| does_it(other)).map(|(_, began)| *began);
        own.chain(others).max()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_complaint_is_found_in_both_forms_of_a_log() {
        let time: Timestamp = "2026-11-26T00:00:00Z".parse().unwrap();
        let complaint = |lines: &[&str]| {
            let lines = lines.iter().map(|line| (*line).to_owned()).collect();
            Run { due: time, started: time, ended: time, code: Some(50), lines }.complaint()
        };
        let text = ["P00   INFO: begin", "P00  ERROR: [050]: locked", "            HINT: wait", "P00   INFO: end"];
        assert_eq!(complaint(&text).as_deref(), Some("P00  ERROR: [050]: locked"));
        let json = [
            r#"{"level":"error","code":50,"message":"locked","hints":["wait"]}"#,
            r#"{"level":"info","code":null,"message":"ERROR is but a word"}"#,
        ];
        assert_eq!(complaint(&json).as_deref(), Some("ERROR: [050]: locked"));
        assert_eq!(complaint(&["begin", " end "]).as_deref(), Some("end"));
        assert_eq!(complaint(&[]), None);
    }
}
