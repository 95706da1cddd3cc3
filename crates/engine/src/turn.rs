//! Who is at work on a stanza among all hosts: a session is begun when it is its turn.

use std::time::Duration;

use pgark_repository::session::{Session, SessionDocument, SessionKind, Sessions, Turn};
use pgark_repository::{Repository, StanzaName};
use pgark_system::clock::{self, Stopwatch};
use pgark_system::termination;

use crate::error::{Error, ErrorKind, Result};

/// How long to wait for others that are about to end or to give way.
const TURN_TIMEOUT: Duration = Duration::from_secs(10);
const TURN_INTERVAL: Duration = Duration::from_millis(250);

/// How often who waits for another host asks whether that has ended.
const ASK_INTERVAL: Duration = Duration::from_secs(5);

/// Begins a session of a kind of which one at a time is at work, on whichever host. Where another is, waits for so long at
/// most until that has ended.
///
/// # Errors
/// [`ErrorKind::LockAcquire`] where another is at work; [`ErrorKind::Terminated`]; or what the storage says.
pub(crate) fn begin<'repository>(
    repository: &'repository Repository,
    stanza: &StanzaName,
    kind: SessionKind,
    host: &str,
    wait: Duration,
) -> Result<Session<'repository>> {
    let waited = Stopwatch::start();
    let mut told = None;
    loop {
        let session = Session::begin(repository, stanza, kind, host.to_owned(), Vec::new())?;
        let other = match ask(repository, stanza, &session) {
            Ok(None) => return Ok(session),
            Ok(Some(other)) => other,
            Err(error) => {
                let _stays = session.end();
                return Err(error);
            }
        };
        // Whoever waits holds nobody up meanwhile. A session that stays is no longer renewed.
        let _stays = session.end();
        let left = wait.saturating_sub(waited.elapsed());
        if left.is_zero() {
            return Err(refusal(kind, &other));
        }
        if told.replace(other.id) != Some(other.id) {
            tracing::info!("wait until {} has ended", describe(kind, &other));
        }
        termination::sleep(ASK_INTERVAL.min(left))?;
    }
}

/// Whether it is the session's turn; if not, who is at work.
fn ask(repository: &Repository, stanza: &StanzaName, session: &Session<'_>) -> Result<Option<SessionDocument>> {
    let kind = session.document().kind;
    let mut higher = None;
    let turn = clock::wait_for(TURN_TIMEOUT, TURN_INTERVAL, || {
        let sessions = Sessions::read(repository, stanza, session.id())?;
        Ok::<_, Error>(match sessions.turn(session.id(), kind) {
            Turn::Mine => Some(None),
            Turn::GiveWay(lower) => Some(Some(lower)),
            Turn::Wait(other) => {
                higher = Some(other);
                None
            }
        })
    })?;
    termination::check()?;
    Ok(turn.unwrap_or(higher))
}

fn refusal(kind: SessionKind, other: &SessionDocument) -> Error {
    let message = format!("{} is at work on this repository", describe(kind, other));
    Error::new(ErrorKind::LockAcquire, message)
        .hint("run the command again when that has ended, or have it wait with --lock-wait, as --lock-wait=1h")
}

fn describe(kind: SessionKind, other: &SessionDocument) -> String {
    let what = match kind {
        SessionKind::Backup => "another backup",
        SessionKind::Expire => "another expire",
        SessionKind::Restore => "a restore",
    };
    format!("{what} (process {} on host '{}', begun at {})", other.process, other.host, other.started)
}
