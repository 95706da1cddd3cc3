//! Which sessions are alive, and whose turn it is.
//!
//! A session that is taken for dead wrongly does no harm: a backup that comes back finds out by
//! [`confirm`](crate::garbage::confirm) whether something was removed that it needs.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};
use pgark_system::process::Presence;
use ulid::Ulid;

use super::{SessionDocument, SessionKind, StoredSession, stored_sessions};
use crate::error::{Error, Result};
use crate::names::{self, StanzaName};
use crate::repository::Repository;

/// How long a session may be silent, by the storage's clock, before it is taken for dead where nothing is known of its
/// process.
pub const DEAD_AFTER: SignedDuration = SignedDuration::from_hours(6);

/// Whether a session is alive that has said nothing for so long.
pub fn is_alive(silence: SignedDuration, presence: Presence) -> bool {
    match presence {
        Presence::Runs => true,
        Presence::Gone => false,
        Presence::Elsewhere => silence < DEAD_AFTER,
    }
}

/// The sessions of a stanza beside one's own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sessions {
    /// Those that are at work.
    pub live: Vec<SessionDocument>,
    /// Those that are not any more, though they did not end.
    pub dead: Vec<SessionDocument>,
}

/// Whether a session of kind expire may go to work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Turn {
    /// It may: no other is at work, and every other that begins from now on gives way.
    Mine,
    /// The other will give way, or is about to end: look again soon.
    Wait(SessionDocument),
    /// It gives way to the other.
    GiveWay(SessionDocument),
}

impl Sessions {
    /// Reads the sessions beside `own`, which was renewed a moment ago: that tells the time of the storage's clock.
    ///
    /// # Errors
    /// [`Error::SessionLost`] where the own session was taken for dead and removed; or as
    /// [`sessions`](super::sessions).
    pub fn read(repository: &Repository, stanza: &StanzaName, own: Ulid) -> Result<Self> {
        let stored = stored_sessions(repository, stanza)?;
        let Some(now) = stored.iter().find(|session| session.document.id == own).map(|session| session.modified) else {
            return Err(Error::SessionLost { object: names::session(stanza, own)?.to_string() });
        };
        Ok(Self::divide(stored, Some(own), now))
    }

    /// Reads all sessions, for somebody who has none. The storage's time is that of the last renewal of any, so that
    /// rather too many are taken for alive.
    ///
    /// # Errors
    /// As [`sessions`](super::sessions).
    pub fn look(repository: &Repository, stanza: &StanzaName) -> Result<Self> {
        let stored = stored_sessions(repository, stanza)?;
        let now = stored.iter().map(|session| session.modified).max().unwrap_or_default();
        Ok(Self::divide(stored, None, now))
    }

    fn divide(stored: Vec<StoredSession>, own: Option<Ulid>, now: Timestamp) -> Self {
        let mut sessions = Self::default();
        for StoredSession { document, modified } in stored {
            if own == Some(document.id) {
                continue;
            }
            let presence =
                document.machine.as_ref().map_or(Presence::Elsewhere, |machine| machine.presence_of(document.process));
            let is_alive = is_alive(now.duration_since(modified), presence);
            if is_alive { &mut sessions.live } else { &mut sessions.dead }.push(document);
        }
        sessions
    }

    /// Whether the session `own` of kind expire may go to work.
    ///
    /// A session is written before it looks for others. It gives way to one with a lower id, and waits until those with
    /// higher ids, who have not seen it if they are at work already, have ended or given way. So no two are ever at work.
    pub fn turn(&self, own: Ulid) -> Turn {
        let others = || self.live.iter().filter(|session| session.kind == SessionKind::Expire);
        match (others().find(|other| other.id < own), others().next()) {
            (Some(lower), _) => Turn::GiveWay(lower.clone()),
            (None, Some(higher)) => Turn::Wait(higher.clone()),
            (None, None) => Turn::Mine,
        }
    }

    /// The sessions whose packs are being written or relied upon: those that are alive, and those that they adopted.
    pub fn claimed(&self) -> BTreeSet<Ulid> {
        self.live.iter().flat_map(|session| session.adopts.iter().copied().chain([session.id])).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(id: u8, kind: SessionKind) -> SessionDocument {
        SessionDocument {
            id: Ulid::from_bytes([id; 16]),
            kind,
            host: "db1".to_owned(),
            process: 4711,
            machine: None,
            started: Timestamp::UNIX_EPOCH,
            renewed: Timestamp::UNIX_EPOCH,
            relies_on: Vec::new(),
            seen: None,
            adopts: Vec::new(),
        }
    }

    #[test]
    fn silence_kills_only_where_the_process_can_not_be_looked_for() {
        let just = DEAD_AFTER - SignedDuration::from_secs(1);
        assert!(is_alive(just, Presence::Elsewhere) && !is_alive(DEAD_AFTER, Presence::Elsewhere));
        assert!(is_alive(DEAD_AFTER, Presence::Runs) && !is_alive(SignedDuration::ZERO, Presence::Gone));
        // The own session is the older one where the other was renewed between writing and listing.
        assert!(is_alive(SignedDuration::from_secs(-1), Presence::Elsewhere));
    }

    #[test]
    fn the_storages_clock_divides_the_living_from_the_dead_whatever_the_documents_say() {
        let at = |hours: i64| Timestamp::UNIX_EPOCH + SignedDuration::from_hours(hours);
        let stored = |id, hours| StoredSession { document: session(id, SessionKind::Backup), modified: at(hours) };
        let sessions =
            Sessions::divide(vec![stored(1, 0), stored(2, 5), stored(3, 10)], Some(stored(3, 0).document.id), at(10));
        assert_eq!(sessions.live, [session(2, SessionKind::Backup)]);
        assert_eq!(sessions.dead, [session(1, SessionKind::Backup)]);
    }

    #[test]
    fn of_two_that_expire_one_gives_way() {
        let own = |id: u8| Ulid::from_bytes([id; 16]);
        let with = |others: &[u8]| Sessions {
            live: others
                .iter()
                .map(|id| session(*id, SessionKind::Expire))
                .chain([session(1, SessionKind::Backup)])
                .collect(),
            dead: vec![session(0, SessionKind::Expire)],
        };
        assert_eq!(with(&[]).turn(own(5)), Turn::Mine);
        assert_eq!(with(&[9]).turn(own(5)), Turn::Wait(session(9, SessionKind::Expire)));
        assert_eq!(with(&[9, 4]).turn(own(5)), Turn::GiveWay(session(4, SessionKind::Expire)));
    }

    #[test]
    fn what_a_living_session_adopts_is_claimed() {
        let adopting = SessionDocument { adopts: vec![Ulid::from_bytes([7; 16])], ..session(1, SessionKind::Backup) };
        let sessions = Sessions { live: vec![adopting], dead: vec![session(2, SessionKind::Backup)] };
        assert_eq!(sessions.claimed(), [1, 7].map(|id| Ulid::from_bytes([id; 16])).into());
    }
}
