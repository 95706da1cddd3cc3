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

/// How long a session may be silent, by the storage's clock, before another of a kind of which one at a time is at work takes
/// over where nothing is known of its process. What it stores and relies on stays claimed for [`DEAD_AFTER`].
pub const TAKEN_OVER_AFTER: SignedDuration = SignedDuration::from_mins(15);

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
    /// Those of the living that have been silent for so long that another backup need not wait for them.
    pub silent: BTreeSet<Ulid>,
}

/// Whether a session may go to work of whose kind one at a time does.
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
            let silence = now.duration_since(modified);
            let is_alive = is_alive(silence, presence);
            if presence == Presence::Elsewhere && silence >= TAKEN_OVER_AFTER {
                sessions.silent.insert(document.id);
            }
            if is_alive { &mut sessions.live } else { &mut sessions.dead }.push(document);
        }
        sessions
    }

    /// Whether the session `own` may go to work, of whose kind one at a time does. No conditional write is needed for that.
    ///
    /// A session is written before it looks for others. It gives way to one with a lower id, and waits until those with
    /// higher ids, who have not seen it if they are at work already, have ended or given way. So no two are ever at work, but for backups one that has been silent for too long:
    /// such a one ends itself, and if it can't, does no harm.
    pub fn turn(&self, own: Ulid, kind: SessionKind) -> Turn {
        let is_over = |session: &SessionDocument| kind == SessionKind::Backup && self.silent.contains(&session.id);
        let others = || self.live.iter().filter(|session| session.kind == kind && !is_over(session));
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
            silent: BTreeSet::new(),
        };
        let expire = SessionKind::Expire;
        assert_eq!(with(&[]).turn(own(5), expire), Turn::Mine);
        assert_eq!(with(&[9]).turn(own(5), expire), Turn::Wait(session(9, SessionKind::Expire)));
        assert_eq!(with(&[9, 4]).turn(own(5), expire), Turn::GiveWay(session(4, SessionKind::Expire)));
    }

    #[test]
    fn a_backup_gives_way_to_another_unless_that_has_been_silent_for_too_long() {
        let at = |minutes: i64| Timestamp::UNIX_EPOCH + SignedDuration::from_mins(minutes);
        let stored = |id, minutes| StoredSession { document: session(id, SessionKind::Backup), modified: at(minutes) };
        let own = stored(5, 0).document.id;
        let after = |minutes| Sessions::divide(vec![stored(1, 0), stored(5, minutes)], Some(own), at(minutes));
        let backup = SessionKind::Backup;
        assert_eq!(after(14).turn(own, backup), Turn::GiveWay(session(1, backup)));
        assert_eq!(after(15).turn(own, backup), Turn::Mine);
        // Its packs are its own still.
        assert!(after(15).claimed().contains(&stored(1, 0).document.id));
        // Of expires there must never be two.
        let expire = |id, minutes| StoredSession { document: session(id, SessionKind::Expire), modified: at(minutes) };
        let expires = Sessions::divide(vec![expire(1, 0), expire(5, 15)], Some(own), at(15));
        assert_eq!(expires.turn(own, SessionKind::Expire), Turn::GiveWay(session(1, SessionKind::Expire)));
    }

    #[test]
    fn what_a_living_session_adopts_is_claimed() {
        let adopting = SessionDocument { adopts: vec![Ulid::from_bytes([7; 16])], ..session(1, SessionKind::Backup) };
        let sessions =
            Sessions { live: vec![adopting], dead: vec![session(2, SessionKind::Backup)], ..Sessions::default() };
        assert_eq!(sessions.claimed(), [1, 7].map(|id| Ulid::from_bytes([id; 16])).into());
    }
}
