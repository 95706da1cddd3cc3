//! The clock.

use std::time::Duration;

use jiff::Timestamp;
use rustix::time::{ClockId, clock_gettime};

use crate::termination;

/// The time of day, as the machine's clock has it, in whole microseconds as PostgreSQL counts.
#[expect(clippy::disallowed_methods, reason = "this is the one place that reads the clock")]
pub fn now() -> Timestamp {
    let now = Timestamp::now();
    Timestamp::from_microsecond(now.as_microsecond()).unwrap_or(now)
}

/// A point on a clock that nobody sets and that goes on while the machine sleeps, to measure durations from: others, by
/// whose clocks somebody may be dead, count that time too.
#[derive(Clone, Copy, Debug)]
pub struct Stopwatch(Duration);

impl Stopwatch {
    /// Starts measuring.
    pub fn start() -> Self {
        Self(since_boot())
    }

    /// The time since the start.
    pub fn elapsed(self) -> Duration {
        since_boot().saturating_sub(self.0)
    }
}

fn since_boot() -> Duration {
    // No time before the start of the machine is ever told.
    Duration::try_from(clock_gettime(ClockId::Boottime)).unwrap_or_default()
}

/// Waits until `condition` gives a value, asking often at first and then every `interval`; `None` when `timeout` went by
/// first, or the process was asked to end. As long as it asks more often than every `interval`, it notices what comes true
/// after no more than an eighth of the time that this has taken.
///
/// The condition is asked once more after the timeout, so that a slow question is not held against the answer.
pub fn wait_for<T, E>(
    timeout: Duration,
    interval: Duration,
    mut condition: impl FnMut() -> Result<Option<T>, E>,
) -> Result<Option<T>, E> {
    let stopwatch = Stopwatch::start();
    let shortest = interval / 64;
    loop {
        if let Some(value) = condition()? {
            return Ok(Some(value));
        }
        let elapsed = stopwatch.elapsed();
        if elapsed >= timeout || termination::requested().is_some() {
            return condition();
        }
        let pause = (elapsed / 8).clamp(shortest, interval);
        std::thread::sleep(pause.min(timeout.saturating_sub(elapsed)));
    }
}
