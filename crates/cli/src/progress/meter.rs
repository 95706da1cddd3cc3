//! How fast work goes, and when it is time to tell: functions of times and counts, which somebody else asks the clock for.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// Over how long the rate is taken: long enough for one slow file not to matter, short enough to follow what changes.
const WINDOW: Duration = Duration::from_secs(30);

/// How far apart counts are kept.
const SPACING: Duration = Duration::from_secs(1);

/// How fast each of several pieces of work goes.
#[derive(Debug, Default)]
pub(super) struct Meters(BTreeMap<u64, Meter>);

/// How fast one goes: what was done when, the oldest first.
#[derive(Debug, Default)]
struct Meter(VecDeque<(Duration, u64)>);

impl Meters {
    /// Notes how much of some work is done at this time. Gives how much is done in a second; none as long as that can't be
    /// told.
    pub(super) fn observe(&mut self, work: u64, now: Duration, done: u64) -> Option<u64> {
        self.0.entry(work).or_default().observe(now, done)
    }

    /// Forgets all other work.
    pub(super) fn keep(&mut self, is_there: impl Fn(u64) -> bool) {
        self.0.retain(|work, _| is_there(*work));
    }
}

impl Meter {
    fn observe(&mut self, now: Duration, done: u64) -> Option<u64> {
        if self.0.back().is_none_or(|(last, _)| now.saturating_sub(*last) >= SPACING) {
            self.0.push_back((now, done));
        }
        // The oldest count that is kept is the last one before the window.
        while self.0.get(1).is_some_and(|(next, _)| now.saturating_sub(*next) >= WINDOW) {
            self.0.pop_front();
        }
        let (since, before) = *self.0.front()?;
        let time = now.saturating_sub(since);
        if time < SPACING {
            return None;
        }
        let rate = u128::from(done.saturating_sub(before)) * 1000 / time.as_millis().max(1);
        u64::try_from(rate).ok()
    }
}

/// Says when it is time to tell how far work is.
#[derive(Debug)]
pub(super) struct Ticker {
    interval: Duration,
    told: Duration,
}

impl Ticker {
    /// One that ticks after each interval, the first of which has just begun.
    pub(super) fn new(interval: Duration) -> Self {
        Self { interval, told: Duration::ZERO }
    }

    /// Whether it is time, so long after the begin. What was slept through is not made up for.
    pub(super) fn ticks(&mut self, now: Duration) -> bool {
        let is_time = now.saturating_sub(self.told) >= self.interval;
        if is_time {
            self.told = now;
        }
        is_time
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    #[test]
    fn the_rate_is_that_of_the_last_half_minute() {
        let mut meters = Meters::default();
        assert_eq!(meters.observe(1, at(0), 0), None);
        assert_eq!(meters.observe(1, at(900), 900), None);
        assert_eq!(meters.observe(1, at(2000), 2000), Some(1000));
        // What goes on beside it has a rate of its own.
        assert_eq!(meters.observe(2, at(2000), 5), None);
        for second in 3..=60 {
            meters.observe(1, at(second * 1000), 2000);
        }
        assert_eq!(meters.observe(1, at(61_000), 2000), Some(0));
        for second in 62..=120 {
            meters.observe(1, at(second * 1000), 2000 + (second - 61) * 7000);
        }
        assert_eq!(meters.observe(1, at(121_000), 2000 + 60 * 7000), Some(7000));
        assert!(meters.0[&1].0.len() <= 32, "it keeps what it does not need");
        meters.keep(|work| work == 2);
        assert_eq!(meters.0.len(), 1);
    }

    #[test]
    fn no_count_and_no_clock_make_a_rate_fail() {
        let mut meters = Meters::default();
        meters.observe(1, at(5000), 100);
        // A count that goes back, and a clock that does.
        assert_eq!(meters.observe(1, at(7000), 50), Some(0));
        assert_eq!(meters.observe(1, at(1000), 200), None);
        assert_eq!(meters.observe(3, at(0), u64::MAX), None);
        assert_eq!(meters.observe(3, at(1000), u64::MAX), Some(0));
    }

    #[test]
    fn it_is_told_every_ten_seconds_and_never_of_less() {
        let mut ticker = Ticker::new(Duration::from_secs(10));
        let ticks: Vec<u64> = (0..400).map(|tenth| tenth * 100).filter(|now| ticker.ticks(at(*now))).collect();
        assert_eq!(ticks, [10_000, 20_000, 30_000]);
        // A machine that slept for an hour.
        assert!(ticker.ticks(at(3_600_000)));
        assert!(!ticker.ticks(at(3_609_000)));
    }
}
