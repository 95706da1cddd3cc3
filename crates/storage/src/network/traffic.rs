//! What the process has sent and received, for its log.

use std::sync::atomic::{AtomicU64, Ordering};

static REQUESTS: AtomicU64 = AtomicU64::new(0);
static RETRIES: AtomicU64 = AtomicU64::new(0);
static SENT: AtomicU64 = AtomicU64::new(0);
static RECEIVED: AtomicU64 = AtomicU64::new(0);

/// The requests that this process has sent to storages on the network.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// All requests, with those that were sent again.
    pub requests: u64,
    /// Those that were sent again because of a failure.
    pub retries: u64,
    /// Bytes of the bodies that were sent.
    pub sent: u64,
    /// Bytes of the bodies that were received.
    pub received: u64,
}

/// What this process has sent and received so far.
pub fn traffic() -> Traffic {
    let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    Traffic { requests: read(&REQUESTS), retries: read(&RETRIES), sent: read(&SENT), received: read(&RECEIVED) }
}

pub(super) fn count_request(sent: usize) {
    REQUESTS.fetch_add(1, Ordering::Relaxed);
    SENT.fetch_add(sent as u64, Ordering::Relaxed);
}

pub(super) fn count_received(received: usize) {
    RECEIVED.fetch_add(received as u64, Ordering::Relaxed);
}

pub(super) fn count_retry() {
    RETRIES.fetch_add(1, Ordering::Relaxed);
}
