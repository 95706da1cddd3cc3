//! What may be removed: pure functions of what was read.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use super::collect::StoredPack;
use super::log::{EntryKind, Log};
use crate::names::{Label, PackId};
use crate::session::{SessionDocument, SessionKind, Sessions};

/// Which packs a session that is alive keeps from being swept.
enum Hold {
    /// None.
    None,
    /// Those that were marked after this entry: it may point at them.
    After(u64),
    /// All.
    All,
}

/// What a session holds on to, where the backups of the stanza are those that are listed.
fn hold(session: &SessionDocument, backups: &BTreeSet<Label>) -> Hold {
    match session.kind {
        SessionKind::Expire => Hold::None,
        SessionKind::Backup => session.seen.map_or(Hold::All, Hold::After),
        // What it needs is needed by the manifests of its backups. If one of them is gone, nobody knows any more what
        // that is.
        SessionKind::Restore if session.relies_on.is_empty() => Hold::All,
        SessionKind::Restore if session.relies_on.iter().all(|label| backups.contains(label)) => Hold::None,
        SessionKind::Restore => Hold::All,
    }
}

/// The packs that may be deleted unless a manifest needs them: those that were announced by a sweep before, and those
/// that were marked before every session began that is alive.
pub fn sweepable(log: &Log, sessions: &Sessions, backups: &BTreeSet<Label>) -> BTreeSet<PackId> {
    let mut last = u64::MAX;
    for session in &sessions.live {
        match hold(session, backups) {
            Hold::None => {}
            Hold::After(seen) => last = last.min(seen),
            Hold::All => return BTreeSet::new(),
        }
    }
    let entries = log.entries().iter().filter(|(number, entry)| entry.kind == EntryKind::Sweep || **number <= last);
    entries.flat_map(|(_, entry)| entry.packs.iter().copied()).collect()
}

/// The packs that are to be marked: no manifest needs them, no session claims them, the log does not name them yet, and
/// they are not [left over](leftover) for the next backup.
pub fn unreferenced(
    packs: &BTreeMap<PackId, StoredPack>,
    needed: &BTreeSet<PackId>,
    log: &Log,
    sessions: &Sessions,
    newest_manifest: Option<Timestamp>,
) -> BTreeSet<PackId> {
    let (claimed, condemned) = (sessions.claimed(), log.condemned());
    packs
        .iter()
        .filter(|(id, pack)| {
            !needed.contains(id)
                && !claimed.contains(&id.session)
                && !condemned.contains(id)
                && !leftover(pack, newest_manifest)
        })
        .map(|(id, _)| *id)
        .collect()
}

/// Whether a pack that no manifest needs may be of use to the next backup: it was written after the newest manifest, so
/// that it may be of a backup that was broken off since.
pub fn leftover(pack: &StoredPack, newest_manifest: Option<Timestamp>) -> bool {
    newest_manifest.is_none_or(|newest| pack.modified > newest)
}

/// The entries that nobody needs any more: their packs are gone, and every session that is alive began after them.
pub fn done(log: &Log, packs: &BTreeSet<PackId>, sessions: &Sessions) -> BTreeSet<u64> {
    let backups = sessions.live.iter().filter(|session| session.kind == SessionKind::Backup);
    let seen = backups.map(|session| session.seen.unwrap_or_default()).min().unwrap_or(u64::MAX);
    let entries = log.entries().iter().filter(|(number, entry)| **number <= seen && entry.packs.is_disjoint(packs));
    entries.map(|(number, _)| *number).filter(|number| *number != log.last()).collect()
}
