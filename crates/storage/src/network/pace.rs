//! Holding back what is sent and received.

use std::fmt;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use object_store::client::{HttpError, HttpRequestBody};
use pgark_system::clock::Stopwatch;
use pgark_system::pace::Pacer;
use pgark_system::termination::{self, Terminated};
use tokio::sync::Notify;

/// The pace of one request and its answer.
#[derive(Clone, Debug)]
pub(super) struct Pace {
    pacer: Pacer,
    /// Milliseconds that were waited for by order of the pacer.
    held: Arc<AtomicU64>,
}

impl Pace {
    /// The pace of a request that begins now. Once the process was asked to end, requests only take away what it has
    /// begun: they are not held back.
    pub(super) fn new(pacer: &Pacer) -> Self {
        let pacer = if termination::requested().is_some() { Pacer::unlimited() } else { pacer.clone() };
        Self { pacer, held: Arc::default() }
    }

    /// Waits until there is room for `bytes`.
    ///
    /// # Errors
    /// [`Terminated`], at once, when the process is asked to end.
    pub(super) async fn hold(&self, bytes: usize) -> Result<(), Terminated> {
        let wait = self.pacer.book(bytes as u64);
        if wait.is_zero() {
            return Ok(());
        }
        let milliseconds = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX).saturating_add(1);
        self.held.fetch_add(milliseconds, Ordering::Relaxed);
        let ended = Arc::new(Notify::new());
        let _hook = termination::at_request({
            let ended = Arc::clone(&ended);
            move || ended.notify_one()
        });
        termination::check()?;
        match tokio::time::timeout(wait, ended.notified()).await {
            Ok(()) => termination::check(),
            Err(_) => Ok(()),
        }
    }

    /// Waits for `work` for so long at most, not counting the time for which it is held back.
    pub(super) async fn timeout<T>(&self, limit: Duration, work: impl Future<Output = T>) -> Option<T> {
        let mut work = pin!(work);
        let stopwatch = Stopwatch::start();
        loop {
            let held = Duration::from_millis(self.held.load(Ordering::Relaxed));
            let left = limit.saturating_add(held).checked_sub(stopwatch.elapsed())?;
            if let Ok(done) = tokio::time::timeout(left, &mut work).await {
                return Some(done);
            }
        }
    }
}

/// A wait under way.
type Wait = Pin<Box<dyn Future<Output = Result<(), Terminated>> + Send>>;

/// The body of a request, sent in portions at a pace.
pub(super) struct PacedBody {
    body: HttpRequestBody,
    pace: Pace,
    /// What was taken out of the body and is not sent.
    taken: Bytes,
    /// How much of the body is not sent.
    left: u64,
    /// The wait for the next portion.
    waiting: Option<Wait>,
}

impl PacedBody {
    /// See the fields.
    pub(super) fn new(body: HttpRequestBody, pace: Pace) -> Self {
        let left = body.content_length() as u64;
        Self { body, pace, taken: Bytes::new(), left, waiting: None }
    }
}

impl fmt::Debug for PacedBody {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("PacedBody").field("left", &self.left).finish_non_exhaustive()
    }
}

/// Why a body was not sent.
type Unsent = Box<dyn std::error::Error + Send + Sync>;

impl Body for PacedBody {
    type Data = Bytes;
    type Error = Unsent;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = &mut *self;
        while this.taken.is_empty() {
            let frame = ready!(Pin::new(&mut this.body).poll_frame(context));
            let Some(frame) = frame.transpose().map_err(|error: HttpError| Unsent::from(error))? else {
                return Poll::Ready(None);
            };
            // The bodies of requests have no trailers.
            this.taken = frame.into_data().unwrap_or_default();
        }
        let portion = this.taken.len().min(this.pace.pacer.portion());
        let waiting = this.waiting.get_or_insert_with(|| {
            let pace = this.pace.clone();
            Box::pin(async move { pace.hold(portion).await })
        });
        let waited = ready!(waiting.as_mut().poll(context));
        this.waiting = None;
        this.left = this.left.saturating_sub(portion as u64);
        Poll::Ready(Some(waited.map(|()| Frame::data(this.taken.split_to(portion))).map_err(Unsent::from)))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}
