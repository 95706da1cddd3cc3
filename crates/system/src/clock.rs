//! The clock.

use std::time::{Duration, Instant};

use jiff::Timestamp;

use crate::termination;

/// The time of day, as the machine's clock has it, in whole microseconds as PostgreSQL counts.
#[expect(clippy::disallowed_methods, reason = "this is the one place that reads the clock")]
pub fn now() -> Timestamp {
    let now = Timestamp::now();
    Timestamp::from_microsecond(now.as_microsecond()).unwrap_or(now)
}

/// A point on the monotonic clock, to measure durations from.
#[derive(Clone, Copy, Debug)]
pub struct Stopwatch(Instant);

impl Stopwatch {
    /// Starts measuring.
    #[expect(clippy::disallowed_methods, reason = "this is the one place that reads the clock")]
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// The time since the start.
    pub fn elapsed(self) -> Duration {
        self.0.elapsed()
    }
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
