//! Keeping a session alive while its work goes on, and ending the work before others may think that it is dead.

use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use pgark_repository::Error as RepositoryError;
use pgark_repository::session::{Session, TAKEN_OVER_AFTER};
use pgark_system::clock::Stopwatch;
use ulid::Ulid;

use crate::error::{Error, ErrorKind, Result};

/// How a session is kept alive.
#[derive(Clone, Copy, Debug)]
struct Pace {
    /// How often it says that it is alive.
    renewal_interval: Duration,
    /// After how long without saying so the work ends itself: in time before others take over.
    give_up_after: Duration,
}

impl Pace {
    const USUAL: Self = Self {
        renewal_interval: Duration::from_secs(60),
        give_up_after: Duration::from_secs(TAKEN_OVER_AFTER.as_secs().unsigned_abs() * 2 / 3),
    };

    /// The pace of this process. A build with debug assertions divides it by what a test says, which can't wait that long.
    fn of_this_process() -> Self {
        let haste = if cfg!(debug_assertions) { std::env::var("TEST_PGARK_SESSION_HASTE").ok() } else { None };
        let haste = haste.and_then(|haste| haste.parse().ok()).unwrap_or(1_u32).max(1);
        let Self { renewal_interval, give_up_after } = Self::USUAL;
        Self { renewal_interval: renewal_interval / haste, give_up_after: give_up_after / haste }
    }
}

/// A session that is renewed on a thread of its own.
#[derive(Debug)]
pub(crate) struct Vigil<'repository> {
    id: Ulid,
    pace: Pace,
    session: Mutex<Session<'repository>>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    since_renewal: Stopwatch,
    is_lost: bool,
}

impl<'repository> Vigil<'repository> {
    /// Of a session that was begun a moment ago.
    pub(crate) fn new(session: Session<'repository>) -> Self {
        let state = State { since_renewal: Stopwatch::start(), is_lost: false };
        Self { id: session.id(), pace: Pace::of_this_process(), session: Mutex::new(session), state: Mutex::new(state) }
    }

    /// The session's identity.
    pub(crate) fn id(&self) -> Ulid {
        self.id
    }

    /// Does `work` while the session is renewed beside it.
    pub(crate) fn keep<T>(&self, work: impl FnOnce() -> T) -> T {
        thread::scope(|scope| {
            let (stop, stopped) = channel();
            scope.spawn(move || self.renew_until(&stopped));
            let result = work();
            drop(stop);
            result
        })
    }

    fn renew_until(&self, stopped: &Receiver<()>) {
        while stopped.recv_timeout(self.pace.renewal_interval) == Err(RecvTimeoutError::Timeout) {
            // A process that stood still, and goes on: who has taken over must not meet it again.
            if self.check().is_err() {
                return;
            }
            match self.change(Session::renew) {
                Ok(()) => {}
                Err(RepositoryError::SessionLost { .. }) => return,
                Err(error) => {
                    let reason = Error::from(error).full_message();
                    tracing::warn!("unable to renew the session, it is tried again: {reason}");
                }
            }
        }
    }

    /// Changes what the session says of itself, which renews it.
    pub(crate) fn change(
        &self,
        change: impl FnOnce(&mut Session<'repository>) -> Result<(), RepositoryError>,
    ) -> Result<(), RepositoryError> {
        let mut session = self.session.lock().unwrap_or_else(PoisonError::into_inner);
        // It holds for what others may see, which is not later than the begin of the request.
        let begun = Stopwatch::start();
        let result = change(&mut session);
        let mut state = self.state();
        match &result {
            // What was silent for too long stays so.
            Ok(()) if state.since_renewal.elapsed() >= self.pace.give_up_after => {}
            Ok(()) => state.since_renewal = begun,
            Err(error) => state.is_lost |= matches!(error, RepositoryError::SessionLost { .. }),
        }
        result
    }

    /// Says whether the work may go on.
    ///
    /// # Errors
    /// [`ErrorKind::LockAcquire`] where others may think that it is dead.
    pub(crate) fn check(&self) -> Result<()> {
        let state = self.state();
        let message = if state.is_lost {
            "the session was taken for dead and removed by another host".to_owned()
        } else if state.since_renewal.elapsed() >= self.pace.give_up_after {
            let seconds = state.since_renewal.elapsed().as_secs();
            format!("the session could not be renewed for {seconds} s: another host may take over")
        } else {
            return Ok(());
        };
        Err(Error::new(ErrorKind::LockAcquire, message)
            .hint("does the repository answer? Run the command again; what is stored is taken over"))
    }

    /// Ends the session.
    ///
    /// # Errors
    /// Where it can't be deleted.
    pub(crate) fn end(self) -> Result<(), RepositoryError> {
        self.session.into_inner().unwrap_or_else(PoisonError::into_inner).end()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
