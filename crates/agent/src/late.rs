//! Where the schedule is not kept.

use std::collections::BTreeMap;
use std::fmt;

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use crate::job::{Kind, Memory};
use crate::plan::Schedules;

/// How the schedule is not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(tag = "reason", rename_all = "kebab-case")]
pub enum Late {
    /// Two times have come since the last good run began.
    TooOld {
        /// The kind of job.
        kind: Kind,
        /// When the last good run began; `None` where there was none.
        last_good: Option<Timestamp>,
        /// The earlier of the two times.
        due: Timestamp,
        /// The later of them.
        #[serde(skip)]
        second: Timestamp,
    },
    /// A run takes longer than there is from one time to the next.
    Overrun {
        /// The kind of job.
        kind: Kind,
        /// How long it took, in seconds.
        seconds: i64,
        /// How long there is, in seconds.
        interval_seconds: i64,
        /// Whether it is running still.
        running: bool,
    },
}

impl Late {
    /// The kind of job that is late.
    pub fn kind(self) -> Kind {
        match self {
            Self::TooOld { kind, .. } | Self::Overrun { kind, .. } => kind,
        }
    }

    /// Since when it can be seen in the repositories, if it can.
    pub(crate) fn is_seen_since(self) -> Option<Timestamp> {
        match self {
            Self::TooOld { kind, second, .. } => kind.is_backup().then_some(second),
            Self::Overrun { .. } => None,
        }
    }

    /// What is wrong, without when: the same as long as it lasts.
    pub fn key(self) -> (Kind, &'static str) {
        match self {
            Self::TooOld { kind, .. } => (kind, "too-old"),
            Self::Overrun { kind, .. } => (kind, "overrun"),
        }
    }
}

impl fmt::Display for Late {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooOld { kind, last_good: Some(last), due, .. } => {
                write!(formatter, "the last good {kind} began at {last}: two more have come due, the first at {due}")
            }
            Self::TooOld { kind, last_good: None, due, .. } => {
                write!(formatter, "there was no good {kind} yet, though two have come due, the first at {due}")
            }
            Self::Overrun { kind, seconds, interval_seconds, running } => {
                let took = if *running { "runs already for" } else { "took" };
                let (duration, interval) = (seconds_text(*seconds), seconds_text(*interval_seconds));
                write!(formatter, "{kind} {took} {duration}, but is to run every {interval}")
            }
        }
    }
}

fn seconds_text(seconds: i64) -> String {
    format!("{:#}", SignedDuration::from_secs(seconds))
}

/// Finds where the schedule is not kept. `running` says since when jobs are at work.
pub fn verdicts(
    now: Timestamp,
    schedules: &Schedules,
    memory: &Memory,
    running: &BTreeMap<Kind, Timestamp>,
) -> Vec<Late> {
    let mut verdicts = Vec::new();
    for (kind, schedule) in schedules {
        let Some(job) = memory.jobs.get(kind) else { continue };
        let times = schedule.last(now).and_then(|last| Some((schedule.last(last.checked_sub(ONE).ok()?)?, last)));
        let last_good = memory.last_good(*kind);
        // As long as one is at work that will do, it is enough to say so where that takes too long.
        // Of one on another host the kind is not known.
        let is_at_work = |due| {
            running.iter().any(|(other, began)| other.does_work_of(*kind) && *began >= due)
                || (kind.is_backup() && memory.at_work.is_some_and(|began| began >= due))
        };
        let is_missing = |due: &Timestamp| last_good.is_none_or(|good| good < *due) && !is_at_work(*due);
        if let Some((due, second)) = times.filter(|(due, _)| *due > job.since && is_missing(due)) {
            verdicts.push(Late::TooOld { kind: *kind, last_good, due, second });
        }
        // How long it took here says nothing of the host that does it now.
        let last = job.last.as_ref().filter(|_| job.passed_over.is_none());
        let last = last.map(|run| (run.started, run.duration(), false));
        let current = running.get(kind).map(|started| (*started, now.duration_since(*started), true));
        for (started, took, running) in last.into_iter().chain(current) {
            let Some(interval) = schedule.interval(started) else { continue };
            let interval = SignedDuration::try_from(interval).unwrap_or(SignedDuration::MAX);
            if took > interval {
                let (seconds, interval_seconds) = (took.as_secs(), interval.as_secs());
                verdicts.retain(|late| late.key() != (*kind, "overrun"));
                verdicts.push(Late::Overrun { kind: *kind, seconds, interval_seconds, running });
            }
        }
    }
    verdicts
}

const ONE: SignedDuration = SignedDuration::from_millis(1);
