//! Real `PostgreSQL` clusters, and what goes wrong with them, for the tests.
//!
//! `make setup` installs the servers; [`Server::get`] finds them. A [`Cluster`] starts within a fraction of a second,
//! listens on a socket of its own only, and is gone when the value is dropped or the test process ends, however it
//! ends. `PostgreSQL` refuses to be run by root, so under root everything runs as an unprivileged user
//! ([`as_test_user`]), and everything it touches lies in a [`Scratch`] directory that belongs to that user.
//!
//! What goes wrong here is a fault of the test or of the machine, so these functions panic with a message that says
//! what happened, instead of returning errors.

mod cluster;
pub mod faults;
mod process;
mod program;
pub mod s3;
mod scratch;
mod server;
mod user;

pub use cluster::{Cluster, ClusterBuilder, Load, Stop};
pub use process::{Finished, run, run_with_input};
pub use program::Program;
pub use scratch::Scratch;
pub use server::{Server, python_packages};
pub use user::{as_test_user, give_to_test_user};

use std::time::Duration;

/// How long to wait for what takes far less on an idle machine, before a test is given up.
pub const PATIENCE: Duration = Duration::from_mins(2);

/// Waits until `condition` holds, and panics naming `what` when it does not within [`PATIENCE`].
#[track_caller]
pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    wait_for_some(what, || condition().then_some(()));
}

/// Waits until `probe` gives a value, and panics naming `what` when it does not within [`PATIENCE`].
#[track_caller]
pub fn wait_for_some<T>(what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let answer = pgark_system::clock::wait_for(PATIENCE, Duration::from_millis(20), || {
        Ok::<_, std::convert::Infallible>(probe())
    });
    match answer {
        Ok(Some(value)) => value,
        Ok(None) => panic!("waited {} s in vain for {what}", PATIENCE.as_secs()),
        Err(never) => match never {},
    }
}
