//! Holding work back: so many bytes in a second, however many ask.

use std::num::NonZeroU64;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::clock::Stopwatch;
use crate::termination::{self, Terminated};

/// Time without work that is made up for afterwards. A pause of this length costs nothing, and nobody else feels what
/// comes faster after it.
const CREDIT: Duration = Duration::from_millis(250);
/// The part of a second that one [`Pacer::portion`] may take at most.
const PORTIONS_PER_SECOND: u64 = 16;
/// Smaller portions are more trouble than they are worth.
const PORTION_MIN: u64 = 4 << 10;
/// Larger portions serve nobody.
const PORTION_MAX: u64 = 64 << 10;

/// Lets bytes pass at a limited rate. Its clones share the limit, so that all who work together have one clone each.
///
/// Whoever wants to let bytes pass asks for room first, and gets it in the order of asking: a large request is not
/// overtaken by small ones, nor does it take what is theirs. Between any two moments no more passes than the rate
/// allows for the time between them and a quarter of a second more.
#[derive(Clone, Debug, Default)]
pub struct Pacer(Option<Arc<Limit>>);

#[derive(Debug)]
struct Limit {
    bytes_per_second: NonZeroU64,
    clock: Stopwatch,
    schedule: Mutex<Schedule>,
}

impl Pacer {
    /// Lets everything pass at once.
    pub fn unlimited() -> Self {
        Self(None)
    }

    /// Lets so many bytes pass in a second.
    pub fn limited(bytes_per_second: NonZeroU64) -> Self {
        let clock = Stopwatch::start();
        Self(Some(Arc::new(Limit { bytes_per_second, clock, schedule: Mutex::default() })))
    }

    /// Waits until there is room for `bytes`.
    ///
    /// # Errors
    /// [`Terminated`], at once, when the process is asked to end.
    pub fn wait(&self, bytes: u64) -> Result<(), Terminated> {
        match self.book(bytes) {
            Duration::ZERO => Ok(()),
            wait => termination::sleep(wait),
        }
    }

    /// Takes the next room for `bytes`; gives how long it is till then. For those who wait in a way of their own.
    pub fn book(&self, bytes: u64) -> Duration {
        let Some(limit) = &self.0 else { return Duration::ZERO };
        let mut schedule = limit.schedule.lock().unwrap_or_else(PoisonError::into_inner);
        schedule.book(duration_of(bytes, limit.bytes_per_second), limit.clock.elapsed())
    }

    /// How many bytes to let pass at once where that can be chosen: so few that others who ask get on, too.
    pub fn portion(&self) -> usize {
        let Some(limit) = &self.0 else { return usize::MAX };
        let bytes = (limit.bytes_per_second.get() / PORTIONS_PER_SECOND).clamp(PORTION_MIN, PORTION_MAX);
        usize::try_from(bytes).unwrap_or(usize::MAX)
    }
}

/// What has been given room so far; times are those of a clock that the caller reads.
#[derive(Clone, Copy, Debug, Default)]
struct Schedule {
    /// Till when the room is taken.
    taken: Duration,
}

impl Schedule {
    /// Takes `length` of time after all that was taken before; gives how long it is from `now` to its end.
    fn book(&mut self, length: Duration, now: Duration) -> Duration {
        let earliest = now.saturating_sub(CREDIT);
        self.taken = self.taken.max(earliest).saturating_add(length);
        self.taken.saturating_sub(now)
    }
}

/// How long `bytes` take. Rounded up, so that many small ones are not faster than the limit.
fn duration_of(bytes: u64, bytes_per_second: NonZeroU64) -> Duration {
    const NANOSECONDS: u128 = 1_000_000_000;
    let nanoseconds = (u128::from(bytes) * NANOSECONDS).div_ceil(u128::from(bytes_per_second.get()));
    let seconds = u64::try_from(nanoseconds / NANOSECONDS).unwrap_or(u64::MAX);
    Duration::new(seconds, u32::try_from(nanoseconds % NANOSECONDS).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn rate(bytes_per_second: u64) -> NonZeroU64 {
        NonZeroU64::new(bytes_per_second).unwrap()
    }

    fn milliseconds(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    /// How many bytes pass in this time, rounded up.
    fn bytes_in(time: Duration, rate: NonZeroU64) -> u128 {
        (time.as_nanos() * u128::from(rate.get())).div_ceil(1_000_000_000)
    }

    proptest! {
        /// One after the other asks for some bytes, after a pause, and lets them pass when there is room.
        #[test]
        fn no_more_passes_than_the_rate_allows(
            rate in (1_u64..1 << 40).prop_map(rate),
            requests in prop::collection::vec((0_u64..1 << 30, 0_u64..1000), 1..40),
        ) {
            let mut schedule = Schedule::default();
            let mut now = Duration::ZERO;
            let mut passed = vec![(now, 0_u128)];
            for (bytes, pause) in requests {
                now += milliseconds(pause);
                now += schedule.book(duration_of(bytes, rate), now);
                passed.push((now, passed[passed.len() - 1].1 + u128::from(bytes)));
            }
            for (index, (from, before)) in passed.iter().enumerate() {
                for (until, after) in &passed[index..] {
                    prop_assert!(after - before <= bytes_in(until.saturating_sub(*from) + CREDIT, rate));
                }
            }
        }

        /// However the bytes are cut, who always asks is never idle.
        #[test]
        fn no_less_passes_than_the_rate_allows(
            rate in (1_u64..1 << 40).prop_map(rate),
            requests in prop::collection::vec(0_u64..1 << 30, 1..40),
        ) {
            let mut schedule = Schedule::default();
            let mut now = Duration::ZERO;
            for bytes in &requests {
                now += schedule.book(duration_of(*bytes, rate), now);
            }
            // Each request is rounded by less than a nanosecond.
            let rounded = Duration::from_nanos(requests.len() as u64);
            prop_assert!(now <= duration_of(requests.iter().sum(), rate) + rounded);
        }
    }

    #[test]
    fn room_is_given_in_the_order_of_asking() {
        let mut schedule = Schedule::default();
        let mut wait = |milliseconds_long: u64| schedule.book(milliseconds(milliseconds_long), SECOND).as_millis();
        // A second has gone by unused, of which a quarter counts.
        assert_eq!([wait(300), wait(60_000), wait(1), wait(1)], [50, 60_050, 60_051, 60_052]);
    }

    #[test]
    fn a_short_pause_is_made_up_for_and_a_long_one_is_not() {
        let mut schedule = Schedule { taken: SECOND };
        assert_eq!(schedule.book(milliseconds(100), SECOND + milliseconds(90)), milliseconds(10));
        assert_eq!(schedule.book(milliseconds(100), SECOND + milliseconds(300)), Duration::ZERO);
        assert_eq!(schedule.book(2 * SECOND, 100 * SECOND), milliseconds(1750));
    }

    #[test]
    fn no_number_is_too_large() {
        assert_eq!(duration_of(u64::MAX, rate(1)), Duration::from_secs(u64::MAX));
        assert_eq!(duration_of(1, rate(u64::MAX)), Duration::from_nanos(1));
        assert_eq!(duration_of(0, rate(1)), Duration::ZERO);
        let mut schedule = Schedule { taken: Duration::MAX };
        assert_eq!(schedule.book(SECOND, Duration::ZERO), Duration::MAX);
    }

    #[test]
    fn clones_share_the_limit_and_no_limit_is_none() {
        let pacer = Pacer::limited(rate(1));
        let clone = pacer.clone();
        assert!(pacer.book(100) > 50 * SECOND && clone.book(100) > 150 * SECOND);
        let unlimited = Pacer::unlimited();
        assert_eq!((unlimited.book(u64::MAX), unlimited.portion()), (Duration::ZERO, usize::MAX));
        assert!(unlimited.wait(u64::MAX).is_ok());
    }

    #[test]
    fn portions_are_a_small_part_of_a_second() {
        let portion = |bytes_per_second: u64| Pacer::limited(rate(bytes_per_second)).portion();
        assert_eq!([1, 512 << 10, 1 << 40].map(portion), [4 << 10, 32 << 10, 64 << 10]);
    }
}
