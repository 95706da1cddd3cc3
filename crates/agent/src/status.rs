//! All that the agent knows, as a value: what a page, metrics and `pgark schedule` render.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use serde::{Serialize, Serializer};
use serde_json::Value;

use crate::dropped::DroppedStatus;
use crate::job::{Kind, Run, ToldLate};
use crate::late::Late;
use crate::wal::WaitingWal;

/// How many messages are kept.
const MESSAGES: usize = 200;

/// All that is known.
#[derive(Clone, Debug, Serialize)]
pub struct Status {
    /// The program and its version.
    pub program: String,
    /// The host.
    pub host: String,
    /// The agent's process.
    pub process: u32,
    /// When it began.
    pub started: Timestamp,
    /// When the configuration was read last.
    pub configured: Timestamp,
    /// When this was written.
    pub updated: Timestamp,
    /// The stanzas, by name.
    pub stanzas: Vec<StanzaStatus>,
    /// What was to be told, oldest first.
    pub messages: VecDeque<Message>,
}

/// What is known of a stanza.
#[derive(Clone, Debug, Serialize)]
pub struct StanzaStatus {
    /// Its name.
    pub name: String,
    /// Whether a stop file keeps jobs from running.
    pub stopped: bool,
    /// Whether the cluster here is a standby: scheduled backups are left to the host of its primary.
    pub standby: bool,
    /// The jobs in its schedule.
    pub jobs: Vec<JobStatus>,
    /// How its schedule is not kept.
    pub late: Vec<LateStatus>,
    /// WAL that waits to be archived; `None` where that can't be seen.
    pub wal: Option<WaitingWal>,
    /// WAL that was dropped here, and that no backup makes up for yet.
    pub dropped: Vec<DroppedStatus>,
    /// What is known of its repositories.
    pub repositories: RepositoriesStatus,
}

/// What the `info` command has told last.
#[derive(Clone, Debug, Default, Serialize)]
pub struct RepositoriesStatus {
    /// When it was asked.
    pub asked: Option<Timestamp>,
    /// The stanza's element of `info --output=json`. It grows with the backups, and is shared by all who know it.
    #[serde(serialize_with = "shared")]
    pub info: Option<Arc<Value>>,
    /// Why it could not be asked.
    pub error: Option<String>,
    /// Gaps in the WAL that it told of.
    pub wal_gaps: Vec<String>,
}

#[expect(clippy::ref_option, reason = "serde hands it over like that")]
fn shared<S: Serializer>(value: &Option<Arc<Value>>, serializer: S) -> Result<S::Ok, S::Error> {
    value.as_deref().serialize(serializer)
}

/// What is known of a job.
#[derive(Clone, Debug, Serialize)]
pub struct JobStatus {
    /// Its kind.
    pub kind: Kind,
    /// Its schedule as it was written.
    pub schedule: String,
    /// The time zone of that.
    pub time_zone: String,
    /// How long its times are put off at most, in seconds.
    pub jitter_seconds: f64,
    /// What it is doing.
    pub state: JobState,
    /// When it comes next.
    pub next: Option<Timestamp>,
    /// Its last run.
    pub last: Option<Run>,
    /// Its last run that was good.
    pub last_good: Option<Run>,
    /// How many runs in a row have failed.
    pub failures: u32,
    /// How many runs there were in all.
    pub runs_total: u64,
    /// How many of them failed.
    pub failures_total: u64,
    /// When it was due the last time that it was passed over, if it was since its last run here.
    pub passed_over: Option<Timestamp>,
}

/// What a job is doing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "lowercase")]
pub enum JobState {
    /// It waits for its time.
    Idle,
    /// Its time has come, and it waits for another job.
    Waiting {
        /// When it was due.
        due: Timestamp,
    },
    /// It is at work.
    Running {
        /// When it was due.
        due: Timestamp,
        /// Since when.
        started: Timestamp,
        /// Its process.
        process: u32,
        /// How many bytes there are to be dealt with, once that is known.
        size: Option<u64>,
        /// How many of them are.
        size_complete: Option<u64>,
    },
}

/// A way in which the schedule is not kept.
#[derive(Clone, Debug, Serialize)]
pub struct LateStatus {
    /// What it is.
    #[serde(flatten)]
    pub late: Late,
    /// In words.
    pub message: String,
    /// When that was found.
    pub since: Timestamp,
}

impl LateStatus {
    /// As it is remembered, so that it is told once.
    pub(crate) fn told(&self) -> ToldLate {
        let (kind, reason) = self.late.key();
        ToldLate { kind, reason: reason.to_owned(), since: self.since }
    }
}

/// How much a message matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// It went as it should.
    Info,
    /// Somebody should look.
    Warning,
    /// Something failed.
    Error,
}

/// Something that was to be told.
#[derive(Clone, Debug, Serialize)]
pub struct Message {
    /// When.
    pub time: Timestamp,
    /// How much it matters.
    pub level: Level,
    /// Of which stanza, if of one.
    pub stanza: Option<String>,
    /// What.
    pub text: String,
}

/// Where the status is kept for whoever wants to read it. Clones are the same board.
#[derive(Clone, Debug)]
pub struct Board(Arc<Mutex<Status>>);

impl Board {
    /// A board of an agent that has just begun.
    pub fn new(program: &str, host: &str, now: Timestamp) -> Self {
        let (program, host) = (program.to_owned(), host.to_owned());
        let (stanzas, messages) = (Vec::new(), VecDeque::new());
        let process = std::process::id();
        let status = Status { program, host, process, started: now, configured: now, updated: now, stanzas, messages };
        Self(Arc::new(Mutex::new(status)))
    }

    /// The status as it is now.
    pub fn read(&self) -> Status {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Changes the status.
    pub(crate) fn change(&self, change: impl FnOnce(&mut Status)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Keeps a message, and logs it.
    pub(crate) fn tell(&self, time: Timestamp, level: Level, stanza: Option<&str>, text: &str) {
        let whose = stanza.map(|stanza| format!("stanza '{stanza}': ")).unwrap_or_default();
        match level {
            Level::Info => tracing::info!("{whose}{text}"),
            Level::Warning => tracing::warn!("{whose}{text}"),
            Level::Error => tracing::error!("{whose}{text}"),
        }
        self.change(|status| {
            if status.messages.len() == MESSAGES {
                status.messages.pop_front();
            }
            let (stanza, text) = (stanza.map(ToOwned::to_owned), text.to_owned());
            status.messages.push_back(Message { time, level, stanza, text });
        });
    }
}
