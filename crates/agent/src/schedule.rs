//! When something is to be done: a cron expression, in a time zone, each time put off by a little.

use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::str::FromStr;
use std::time::Duration;

use croner::Cron;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

/// How many times at most are looked at one by one.
const LOOKED_AT: usize = 1000;

/// A cron expression that can't be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScheduleError {
    /// It is no cron expression.
    #[error("'{text}' is not a cron expression: {reason}")]
    Malformed {
        /// As it was written.
        text: String,
        /// What is wrong with it.
        reason: String,
    },
    /// No day there will be fits it.
    #[error("'{0}' never comes")]
    Never(String),
}

/// The times at which something is to be done.
#[derive(Clone, Debug)]
pub struct Schedule {
    text: String,
    cron: Box<Cron>,
    zone: TimeZone,
    jitter: Duration,
    /// What the delays depend on, beside the time.
    seed: String,
}

impl Schedule {
    /// Reads a cron expression of five fields, or of six with seconds in front, or a name as `@daily`. Its times are those of
    /// `zone`. Each is put off by less than `jitter`, by how much depends on `seed` and on nothing else: what is shown
    /// of the future is what comes.
    ///
    /// # Errors
    /// Where it is none, or its time never comes after `now`.
    pub fn parse(
        text: &str,
        zone: TimeZone,
        jitter: Duration,
        seed: &str,
        now: Timestamp,
    ) -> Result<Self, ScheduleError> {
        let cron = Cron::from_str(text)
            .map_err(|error| ScheduleError::Malformed { text: text.to_owned(), reason: error.to_string() })?;
        let schedule = Self { text: text.to_owned(), cron: Box::new(cron), zone, jitter, seed: seed.to_owned() };
        match schedule.fire_after(now) {
            Some(_) => Ok(schedule),
            None => Err(ScheduleError::Never(text.to_owned())),
        }
    }

    /// The time zone that the expression is meant in.
    pub fn zone(&self) -> &TimeZone {
        &self.zone
    }

    /// The longest delay.
    pub fn jitter(&self) -> Duration {
        self.jitter
    }

    /// The first time after `time`.
    pub fn next(&self, time: Timestamp) -> Option<Timestamp> {
        // One that the expression names before `time` may have been put off past it.
        let jitter = SignedDuration::try_from(self.jitter).ok()?;
        let mut fire = time.checked_sub(jitter).ok()?;
        let mut found: Option<Timestamp> = None;
        for _ in 0..LOOKED_AT {
            let Some(next) = self.fire_after(fire) else { break };
            fire = next;
            // A later one may be put off by less.
            if found.is_some_and(|found| fire >= found) {
                break;
            }
            let due = self.delayed(fire);
            if due > time && found.is_none_or(|found| due < found) {
                found = Some(due);
            }
        }
        found
    }

    /// The last time after `after` and until `until`, with the number of times in between that it stands for, itself
    /// included.
    pub fn latest(&self, after: Timestamp, until: Timestamp) -> Option<(Timestamp, usize)> {
        let (mut last, mut count) = (None, 0);
        let mut fire = until.checked_add(SignedDuration::from_secs(1)).ok()?;
        for _ in 0..LOOKED_AT {
            fire = self.fire_before(fire)?;
            let due = self.delayed(fire);
            if fire <= after.saturating_sub(SignedDuration::try_from(self.jitter).ok()?).ok()? {
                break;
            }
            if due > after && due <= until {
                count += 1;
                last = last.max(Some(due));
            }
        }
        last.map(|last| (last, count))
    }

    /// The last time at or before `time`.
    pub fn last(&self, time: Timestamp) -> Option<Timestamp> {
        let mut fire = time.checked_add(SignedDuration::from_secs(1)).ok()?;
        for _ in 0..LOOKED_AT {
            fire = self.fire_before(fire)?;
            let due = self.delayed(fire);
            if due <= time {
                return Some(due);
            }
        }
        None
    }

    /// How long it is from `time` to the next.
    pub fn interval(&self, time: Timestamp) -> Option<Duration> {
        let fire = self.fire_after(time)?;
        self.fire_after(fire)?.duration_since(fire).try_into().ok()
    }

    fn fire_after(&self, time: Timestamp) -> Option<Timestamp> {
        let next = self.cron.find_next_occurrence(&time.to_zoned(self.zone.clone()), false).ok()?;
        Some(next.timestamp())
    }

    fn fire_before(&self, time: Timestamp) -> Option<Timestamp> {
        let previous = self.cron.find_previous_occurrence(&time.to_zoned(self.zone.clone()), false).ok()?;
        Some(previous.timestamp())
    }

    fn delayed(&self, fire: Timestamp) -> Timestamp {
        let range = u64::try_from(self.jitter.as_millis()).unwrap_or(u64::MAX);
        if range == 0 {
            return fire;
        }
        let mut hasher = DefaultHasher::new();
        (&self.seed, fire.as_millisecond()).hash(&mut hasher);
        let delay = i64::try_from(hasher.finish() % range).unwrap_or(0);
        fire.saturating_add(SignedDuration::from_millis(delay)).unwrap_or(fire)
    }
}

impl fmt::Display for Schedule {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn schedule(text: &str, jitter: u64) -> Schedule {
        let zone = TimeZone::get("Europe/Berlin").unwrap();
        Schedule::parse(text, zone, Duration::from_secs(jitter), "demo", at("2026-11-26T00:00:00Z")).unwrap()
    }

    #[test]
    fn times_are_those_of_the_zone_whatever_the_clocks_are_set_to() {
        let daily = schedule("30 2 * * *", 0);
        assert_eq!(daily.next(at("2026-07-01T00:30:00Z")), Some(at("2026-07-02T00:30:00Z")));
        assert_eq!(daily.next(at("2026-12-01T00:30:00Z")), Some(at("2026-12-01T01:30:00Z")));
        // On this day 2:30 does not come: clocks go from 2:00 to 3:00.
        assert_eq!(daily.next(at("2026-03-28T12:00:00Z")), Some(at("2026-03-29T01:00:00Z")));
        // And on this day it comes twice.
        assert_eq!(daily.latest(at("2026-10-24T12:00:00Z"), at("2026-10-25T12:00:00Z")).unwrap().1, 1);
    }

    #[test]
    fn what_never_comes_is_refused() {
        let parse =
            |text| Schedule::parse(text, TimeZone::UTC, Duration::ZERO, "", at("2026-11-26T00:00:00Z")).map(drop);
        assert_eq!(parse("0 0 30 2 *"), Err(ScheduleError::Never("0 0 30 2 *".to_owned())));
        assert!(matches!(parse("0 0 * *"), Err(ScheduleError::Malformed { .. })));
        assert!(matches!(parse("61 0 * * *"), Err(ScheduleError::Malformed { .. })));
        // This does come, once in four years.
        assert_eq!(parse("0 0 29 2 *"), Ok(()));
    }

    #[test]
    fn many_times_are_told_as_the_last_of_them() {
        let hourly = schedule("0 * * * *", 0);
        let found = hourly.latest(at("2026-11-26T00:00:00Z"), at("2026-11-26T05:59:00Z"));
        assert_eq!(found, Some((at("2026-11-26T05:00:00Z"), 5)));
        assert_eq!(hourly.latest(at("2026-11-26T05:00:00Z"), at("2026-11-26T05:59:00Z")), None);
        assert_eq!(hourly.interval(at("2026-11-26T05:00:00Z")), Some(Duration::from_secs(3600)));
        // After a long time not all of them are counted.
        let often = schedule("* * * * * *", 0);
        let found = often.latest(at("2020-01-01T00:00:00Z"), at("2026-11-26T00:00:00Z"));
        assert_eq!(found, Some((at("2026-11-26T00:00:00Z"), LOOKED_AT)));
    }

    #[test]
    fn a_delay_is_always_the_same_and_none_is_lost_by_it() {
        let hourly = schedule("0 * * * *", 600);
        let from = at("2026-11-26T00:00:00Z");
        let mut times = Vec::new();
        let mut time = from;
        for _ in 0..24 {
            time = hourly.next(time).unwrap();
            assert_eq!(hourly.last(time), Some(time));
            assert_eq!(hourly.latest(time - SignedDuration::from_secs(1), time), Some((time, 1)));
            times.push(time);
        }
        let delays: Vec<_> = times.iter().map(|time| time.as_second() % 3600).collect();
        assert!(delays.iter().all(|delay| *delay < 600), "{delays:?}");
        assert!(delays.iter().any(|delay| *delay != delays[0]), "{delays:?}");
        assert_eq!(hourly.latest(from, time).unwrap().1, 24);
    }
}
