//! Trying again.

use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use pgark_system::clock::Stopwatch;
use pgark_system::random;

use super::failure::{Failure, Retry};
use super::traffic;

/// The wait before the second attempt; it doubles with each further one.
const FIRST_WAIT: Duration = Duration::from_millis(100);
/// The longest wait between two attempts.
const LONGEST_WAIT: Duration = Duration::from_secs(10);
/// How long a service is tried that has never answered: its name or address may be wrong, and whoever has just typed it
/// wants to know.
const FIRST_CONTACT: Duration = Duration::from_secs(10);
/// For how many times the io-timeout new attempts are begun.
const TIMEOUTS: u32 = 2;

/// How long a service is tried again. One of these belongs to each service.
#[derive(Debug)]
pub(crate) struct Patience {
    /// How long a connection may make no progress.
    io_timeout: Duration,
    /// How long a service is tried that has never answered.
    first_contact: Duration,
    /// Whether the service has ever answered.
    answered: AtomicBool,
}

impl Patience {
    pub(crate) fn new(io_timeout: Duration) -> Self {
        Self { io_timeout, first_contact: FIRST_CONTACT, answered: AtomicBool::new(false) }
    }

    /// Attempts until one succeeds, fails for good, or the time is up, with growing waits that differ by chance from one
    /// process to the next. New attempts begin for twice the io-timeout after the first failure; each takes as long as the
    /// transport lets it, which is long where it is held back.
    ///
    /// `attempt` is told whether an earlier one may have had its effect although it failed.
    pub(crate) async fn attempt<T, F>(&self, mut attempt: impl FnMut(bool) -> F) -> Result<T, Failure>
    where
        F: Future<Output = Result<T, Failure>>,
    {
        let begin = Stopwatch::start();
        let mut failing = None;
        let mut wait = FIRST_WAIT;
        let mut ambiguous = false;
        loop {
            let result = attempt(ambiguous).await;
            // An error that the service has a code for is an answer, too.
            if result.as_ref().err().is_none_or(|failure| failure.code.is_some()) {
                self.answered.store(true, Ordering::Relaxed);
            }
            let failure = match result {
                Ok(value) => return Ok(value),
                Err(failure) => failure,
            };
            let failing = failing.get_or_insert_with(Stopwatch::start);
            let (tried, patience) = match failure.retry {
                Retry::Never => return Err(failure),
                Retry::Unreached if !self.answered.load(Ordering::Relaxed) => {
                    (begin.elapsed(), self.whole().min(self.first_contact))
                }
                Retry::Unreached | Retry::Later => (failing.elapsed(), self.whole()),
            };
            ambiguous |= failure.retry == Retry::Later;
            if tried + wait > patience {
                return Err(failure);
            }
            tracing::debug!("{failure}: trying again");
            traffic::count_retry();
            tokio::time::sleep(with_jitter(wait)).await;
            wait = (wait * 2).min(LONGEST_WAIT);
        }
    }

    /// For how long new attempts are begun.
    fn whole(&self) -> Duration {
        self.io_timeout * TIMEOUTS
    }
}

/// From half of `wait` to all of it, so that many that failed at once do not come back at once.
fn with_jitter(wait: Duration) -> Duration {
    let chance = random::bytes().map_or(u8::MAX, |[byte]| byte);
    wait / 2 + wait / 2 * u32::from(chance) / u32::from(u8::MAX)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::error::ErrorKind;

    fn run<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(future)
    }

    fn failure(retry: Retry) -> Failure {
        Failure::new(ErrorKind::Unavailable, "not now").retry(retry)
    }

    #[test]
    fn an_attempt_knows_whether_an_earlier_one_may_have_had_effect() {
        let told = run(async {
            let attempts = Cell::new(0);
            Patience::new(Duration::from_secs(60))
                .attempt(|ambiguous| {
                    attempts.set(attempts.get() + 1);
                    let attempt = attempts.get();
                    async move {
                        match attempt {
                            1 => Err(failure(Retry::Unreached)),
                            2 if !ambiguous => Err(failure(Retry::Later)),
                            _ => Ok(ambiguous),
                        }
                    }
                })
                .await
        });
        assert!(told.unwrap());
    }

    #[test]
    fn what_will_not_change_is_not_tried_again() {
        let attempts = Cell::new(0);
        let patience = Patience::new(Duration::from_secs(60));
        let result: Result<(), _> = run(patience.attempt(|_| {
            attempts.set(attempts.get() + 1);
            async { Err(failure(Retry::Never)) }
        }));
        assert!(result.is_err());
        assert_eq!(attempts.get(), 1);
    }

    #[test]
    fn trying_again_ends() {
        let attempts = Cell::new(0);
        let patience = Patience::new(Duration::from_millis(400));
        let result: Result<(), _> = run(patience.attempt(|_| {
            attempts.set(attempts.get() + 1);
            async { Err(failure(Retry::Later)) }
        }));
        assert_eq!(result.unwrap_err().kind, ErrorKind::Unavailable);
        assert!(attempts.get() > 1);
    }

    #[test]
    fn an_attempt_that_took_long_is_no_reason_not_to_try_again() {
        let attempts = Cell::new(0);
        let patience = Patience::new(Duration::from_millis(200));
        let result = run(patience.attempt(|_| {
            attempts.set(attempts.get() + 1);
            let is_first = attempts.get() == 1;
            async move {
                if is_first {
                    tokio::time::sleep(Duration::from_millis(500)).await;
                    return Err(failure(Retry::Later));
                }
                Ok(())
            }
        }));
        assert!(result.is_ok());
    }

    #[test]
    fn a_service_that_has_answered_is_waited_for_longer() {
        let attempts_of = |patience: &Patience| {
            let attempts = Cell::new(0);
            let result: Result<(), _> = run(patience.attempt(|_| {
                attempts.set(attempts.get() + 1);
                async { Err(failure(Retry::Unreached)) }
            }));
            assert!(result.is_err());
            attempts.get()
        };
        let known = Patience { first_contact: Duration::ZERO, ..Patience::new(Duration::from_millis(400)) };
        assert_eq!(attempts_of(&known), 1);
        let refused = failure(Retry::Never).code(Some("AccessDenied"));
        let result: Result<(), _> = run(known.attempt(|_| {
            let refused = refused.clone();
            async move { Err(refused) }
        }));
        assert!(result.is_err());
        assert!(attempts_of(&known) > 1);
    }

    #[test]
    fn waits_differ_but_stay_within_their_bounds() {
        for _ in 0..100 {
            let wait = with_jitter(Duration::from_secs(1));
            assert!(wait >= Duration::from_millis(500) && wait <= Duration::from_secs(1), "{wait:?}");
        }
    }
}
