//! What to do next: decided from values, without a clock.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};

use crate::job::{Job, Kind, Memory};
use crate::schedule::Schedule;

/// After how long a job that has failed is tried again, for the first time and for those after it. Then it waits for its
/// next time.
const RETRIES: [SignedDuration; 4] = [
    SignedDuration::from_mins(1),
    SignedDuration::from_mins(5),
    SignedDuration::from_mins(15),
    SignedDuration::from_mins(30),
];

/// How far the clock may go back before times that were done already are counted anew.
const TOLERANCE: SignedDuration = SignedDuration::from_hours(1);

/// The schedules of one stanza.
pub type Schedules = BTreeMap<Kind, Schedule>;

/// Why a job is to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Its time has come. It stands for so many times, more than one where some were missed.
    Due {
        /// How many.
        times: usize,
    },
    /// It has failed so many times in a row, and is tried again.
    Retry {
        /// How many.
        failures: u32,
    },
}

/// A job that is to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pending {
    /// Its kind.
    pub kind: Kind,
    /// When it was due.
    pub due: Timestamp,
    /// Why.
    pub reason: Reason,
}

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Jobs to begin now.
    pub start: Vec<Pending>,
    /// Jobs that wait for others.
    pub waiting: Vec<Pending>,
    /// When each kind comes next.
    pub next: BTreeMap<Kind, Timestamp>,
    /// When to make a new plan, if nothing happens before.
    pub wake: Option<Timestamp>,
}

/// Decides what to do at `now`, while jobs of the kinds `running` are at work.
pub fn plan(now: Timestamp, schedules: &Schedules, memory: &Memory, running: &BTreeSet<Kind>) -> Plan {
    let mut plan = Plan { start: Vec::new(), waiting: Vec::new(), next: BTreeMap::new(), wake: None };
    let mut busy = running.clone();
    for (kind, schedule) in schedules {
        let Some(job) = memory.jobs.get(kind) else { continue };
        let next = schedule.next(now.max(job.settled));
        plan.next.extend(next.map(|next| (*kind, next)));
        plan.wake = earlier(plan.wake, next);
        if running.contains(kind) {
            // Times that come while it runs become one run, when it has ended.
            continue;
        }
        match pending(now, *kind, schedule, job) {
            Ok(pending) if busy.iter().any(|other| other.excludes(*kind)) => plan.waiting.push(pending),
            Ok(pending) => {
                busy.insert(*kind);
                plan.start.push(pending);
            }
            Err(retry) => plan.wake = earlier(plan.wake, retry),
        }
    }
    plan
}

/// The job that is to run; else when it is to be tried again.
fn pending(now: Timestamp, kind: Kind, schedule: &Schedule, job: &Job) -> Result<Pending, Option<Timestamp>> {
    if let Some((due, times)) = schedule.latest(job.settled, now) {
        return Ok(Pending { kind, due, reason: Reason::Due { times } });
    }
    match (retry(job), &job.last) {
        (Some(retry), Some(last)) if retry <= now => {
            Ok(Pending { kind, due: last.due, reason: Reason::Retry { failures: job.failures } })
        }
        (retry, _) => Err(retry),
    }
}

/// When a job that has failed is to be tried again.
fn retry(job: &Job) -> Option<Timestamp> {
    let failures = usize::try_from(job.failures).ok()?;
    let pause = RETRIES.get(failures.checked_sub(1)?)?;
    job.last.as_ref()?.ended.checked_add(*pause).ok()
}

fn earlier(one: Option<Timestamp>, other: Option<Timestamp>) -> Option<Timestamp> {
    one.into_iter().chain(other).min()
}

/// Corrects what is remembered of a future that never came: the clock was wrong when it was written, or is now. Gives the
/// kinds it corrected and by how much.
pub fn mend(now: Timestamp, memory: &mut Memory) -> Vec<(Kind, SignedDuration)> {
    let mut mended = Vec::new();
    for (kind, job) in &mut memory.jobs {
        let ahead = job.settled.duration_since(now);
        // What was done within the tolerance is done: its time comes again, the work need not.
        if ahead > TOLERANCE {
            job.settled = now;
            job.since = job.since.min(now);
            mended.push((*kind, ahead));
        }
        for run in [&mut job.last, &mut job.last_good] {
            if run.as_ref().is_some_and(|run| run.ended.duration_since(now) > TOLERANCE) {
                *run = None;
            }
        }
    }
    mended
}

/// By how much the clock was set, if the time of day and the time since the last look differ by more than a minute.
pub fn clock_jump(by_clock: SignedDuration, by_stopwatch: SignedDuration) -> Option<SignedDuration> {
    let jump = by_clock - by_stopwatch;
    (jump.abs() > SignedDuration::from_mins(1)).then_some(jump)
}

#[cfg(test)]
mod tests;
