//! Keeping expire, on whichever host, from removing a backup while it is read.

use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use pgark_repository::session::{Session, SessionKind};
use pgark_repository::{Label, Repository, StanzaName};

use crate::error::Result;

/// How often the session says that it is alive.
const RENEW_INTERVAL: Duration = Duration::from_secs(60);

/// Does `work`, which reads the backup `label`. Where nothing can be written into the repository, it goes on without being
/// heeded by expire.
///
/// Only what is read of the manifest by `work` can be relied upon: the backup may have been removed before.
pub(crate) fn while_pinned<T>(
    repository: &Repository,
    stanza: &StanzaName,
    label: &Label,
    host: &str,
    work: impl FnOnce() -> Result<T>,
) -> Result<T> {
    let session = Session::begin(repository, stanza, SessionKind::Restore, host.to_owned(), vec![label.clone()]);
    let session = match session {
        Ok(session) => session,
        Err(error) => {
            tracing::debug!("expire is not told that backup set {label} is being read: {error}");
            return work();
        }
    };
    thread::scope(|scope| {
        let (stop, stopped) = channel();
        scope.spawn(move || keep_alive(session, &stopped));
        let result = work();
        drop(stop);
        result
    })
}

/// Renews the session until the other end of the channel is gone.
fn keep_alive(mut session: Session<'_>, stopped: &Receiver<()>) {
    while stopped.recv_timeout(RENEW_INTERVAL) == Err(RecvTimeoutError::Timeout) {
        if let Err(error) = session.renew() {
            tracing::warn!("unable to renew the session, expire may remove the backup that is being read: {error}");
        }
    }
    // A session that can't be ended is harmless: it is no longer renewed.
    if let Err(error) = session.end() {
        tracing::debug!("unable to end the session: {error}");
    }
}
