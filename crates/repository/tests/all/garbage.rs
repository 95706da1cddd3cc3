//! The log of garbage, sessions as they bear on it, and what a backup finds when it asks whether it may stay.

use std::collections::BTreeSet;
use std::sync::Arc;

use pgark_repository::codec::Compression;
use pgark_repository::container::ObjectKind;
use pgark_repository::garbage::{self, EntryKind, Log, NewEntry, Survey};
use pgark_repository::manifest::Manifest;
use pgark_repository::session::{Session, SessionKind, Sessions};
use pgark_repository::{Encryption, Error, Label, PackId, Repository, names, note, removal};
use pgark_storage::fault::{Effect, Fault, FaultyStorage};
use pgark_storage::{ErrorKind, MemoryStorage, Operation, PutMode, Storage};
use ulid::Ulid;

use crate::backups::{Backup, Item, Taken};
use crate::draft::{Draft, DraftBlock};
use crate::room::{Room, create, objects};
use crate::sample::{FULL, INCREMENTAL, label, stanza};

const PROGRAM: &str = "pgark 0.0.0";

fn id(byte: u8) -> Ulid {
    Ulid::from_bytes([byte; 16])
}

fn pack(session: u8, number: u32) -> PackId {
    PackId { session: id(session), number }
}

fn append(repository: &Repository, log: &mut Log, kind: EntryKind, packs: &BTreeSet<PackId>) -> Result<(), Error> {
    log.append(repository, &stanza(), NewEntry { kind, session: id(9), program: PROGRAM, packs })
}

fn begin(repository: &Repository, kind: SessionKind) -> Session<'_> {
    Session::begin(repository, &stanza(), kind, "db1".into(), Vec::new()).unwrap()
}

#[test]
fn the_log_says_what_was_written_in_the_order_of_numbers() {
    for room in Room::all() {
        let repository = &room.repository;
        let mut log = Log::read(repository, &stanza()).unwrap();
        assert_eq!((log.last(), log.condemned().len()), (0, 0));
        append(repository, &mut log, EntryKind::Mark, &[].into()).unwrap();
        assert_eq!(log.last(), 0, "nothing to say is not said");
        for number in 1..=11 {
            let kind = if number % 2 == 0 { EntryKind::Sweep } else { EntryKind::Mark };
            append(repository, &mut log, kind, &[pack(1, number), pack(2, 7)].into()).unwrap();
        }
        let read = Log::read(repository, &stanza()).unwrap();
        assert_eq!(read, log, "{}", room.name);
        assert_eq!(read.condemned().len(), 12);
        assert_eq!((read.last(), read.entries()[&2].kind, read.entries()[&11].session), (11, EntryKind::Sweep, id(9)));
        assert!(room.objects().contains(&(names::garbage_entry(&stanza(), 11).unwrap(), ObjectKind::Garbage)));
    }
}

#[test]
fn numbers_are_never_given_out_again() {
    let room = Room::plain();
    let mut log = Log::default();
    for number in 1..=3 {
        append(&room.repository, &mut log, EntryKind::Mark, &[pack(1, number)].into()).unwrap();
    }
    log.remove(&room.repository, &stanza(), &(1..=3).collect()).unwrap();
    assert_eq!(log.entries().keys().copied().collect::<Vec<_>>(), [3]);
    assert_eq!(Log::read(&room.repository, &stanza()).unwrap(), log);
}

/// An expire that stalled for so long that the entry it is about to write was written by another and removed again.
#[test]
fn an_entry_that_comes_too_late_is_taken_back() {
    let room = Room::plain();
    let mut stalled = Log::default();
    let mut log = Log::default();
    for number in 1..=3 {
        append(&room.repository, &mut log, EntryKind::Mark, &[pack(1, number)].into()).unwrap();
    }
    let error = append(&room.repository, &mut stalled, EntryKind::Sweep, &[pack(1, 1)].into()).unwrap_err();
    assert!(matches!(&error, Error::Overtaken { object } if object.ends_with("00000000000000000001")), "{error}");
    log.remove(&room.repository, &stanza(), &[1, 2].into()).unwrap();
    let error = append(&room.repository, &mut stalled, EntryKind::Sweep, &[pack(1, 1)].into()).unwrap_err();
    assert!(matches!(error, Error::Overtaken { .. }), "{error}");
    assert_eq!(Log::read(&room.repository, &stanza()).unwrap(), log);
}

/// The connection breaks after the entry took effect, and the attempt is repeated below us: it finds its own entry.
#[test]
fn an_entry_that_seemed_to_fail_is_known_again() {
    let inner = Arc::new(MemoryStorage::new());
    let storage = FaultyStorage::new(Arc::clone(&inner) as Arc<dyn Storage>);
    let repository = create(Arc::new(storage.clone()), &Encryption::None).unwrap();
    storage
        .inject(Fault::new(Effect::FailAfterwards(ErrorKind::AlreadyExists)).on(Operation::Put).key_containing("gc/"));
    let mut log = Log::default();
    append(&repository, &mut log, EntryKind::Mark, &[pack(1, 1)].into()).unwrap();
    assert_eq!(storage.fired(), 1);
    assert_eq!(Log::read(&repository, &stanza()).unwrap(), log);
}

#[test]
fn an_entry_of_a_newer_program_is_refused() {
    let room = Room::plain();
    let name = names::garbage_entry(&stanza(), 1).unwrap();
    let document = serde_json::json!({"number": 1, "kind": "compaction", "new": true});
    let blocks = vec![DraftBlock::new(64, b""), DraftBlock::new(1, document.to_string().as_bytes())];
    room.replace(&name, &Draft::new(*b"PGARKGCM", room.repository.vault().repository(), blocks).write(name.as_str()));
    let error = Log::read(&room.repository, &stanza()).unwrap_err();
    assert!(matches!(error, Error::Unsupported { .. }) && error.to_string().contains("compaction"), "{error}");
}

/// A backup with one pack, in a repository where the log has these entries.
fn backup_beside(entries: &[(EntryKind, PackId)]) -> (Room, BTreeSet<PackId>) {
    let room = Room::plain();
    let mut log = Log::default();
    for (kind, pack) in entries {
        append(&room.repository, &mut log, *kind, &[*pack].into()).unwrap();
    }
    let backup = Backup {
        repository: &room.repository,
        stanza: &stanza(),
        label: label(FULL),
        session: id(1),
        compression: Compression::None,
    };
    backup.take(&[Item::directory(""), Item::file("x", b"x".to_vec())], &Taken::default()).unwrap();
    (room, [pack(1, 0), pack(0, 3)].into())
}

fn confirm(room: &Room, seen: u64, needed: &BTreeSet<PackId>) -> Result<(), Error> {
    garbage::confirm(&room.repository, &stanza(), &label(FULL), seen, needed)
}

#[test]
fn a_backup_stays_unless_something_it_needs_is_swept_after_it_has_looked() {
    use EntryKind::{Mark, Sweep};
    for (entries, seen, stays) in [
        (&[][..], 0, true),
        (&[(Mark, pack(0, 3))], 0, true),
        (&[(Mark, pack(0, 4)), (Sweep, pack(0, 4))], 0, true),
        (&[(Mark, pack(0, 3)), (Sweep, pack(0, 3))], 0, false),
        (&[(Mark, pack(0, 3)), (Sweep, pack(0, 3))], 1, false),
        (&[(Mark, pack(0, 3)), (Sweep, pack(0, 3))], 2, true),
        (&[(Mark, pack(1, 0)), (Sweep, pack(1, 0)), (Mark, pack(7, 7))], 0, false),
        (&[(Mark, pack(0, 4))], 2, false),
    ] {
        let (room, needed) = backup_beside(entries);
        let result = confirm(&room, seen, &needed);
        let listed = room.repository.backups(&stanza()).unwrap();
        match result {
            Ok(()) => assert!(stays && listed == [label(FULL)], "{entries:?}, {seen}"),
            Err(Error::Withdrawn { .. }) => assert!(!stays && listed.is_empty(), "{entries:?}, {seen}"),
            Err(error) => panic!("{error}"),
        }
    }
}

/// What was removed from the log may have named what the backup needs.
#[test]
fn a_backup_that_can_not_know_is_withdrawn() {
    let (room, needed) = backup_beside(&[(EntryKind::Mark, pack(7, 0)), (EntryKind::Sweep, pack(7, 0))]);
    let mut log = Log::read(&room.repository, &stanza()).unwrap();
    log.remove(&room.repository, &stanza(), &[1].into()).unwrap();
    let error = confirm(&room, 0, &needed).unwrap_err();
    assert!(matches!(&error, Error::Withdrawn { why, .. } if why.contains("entry 1")), "{error}");
    assert!(room.repository.backups(&stanza()).unwrap().is_empty());
}

#[test]
fn a_backup_that_fails_to_ask_is_withdrawn_too() {
    let inner = Arc::new(MemoryStorage::new());
    let storage = FaultyStorage::new(Arc::clone(&inner) as Arc<dyn Storage>);
    let repository = create(Arc::new(storage.clone()), &Encryption::None).unwrap();
    let backup = Backup {
        repository: &repository,
        stanza: &stanza(),
        label: label(FULL),
        session: id(1),
        compression: Compression::None,
    };
    backup.take(&[Item::directory("")], &Taken::default()).unwrap();
    storage.inject(Fault::new(Effect::Fail(ErrorKind::Unavailable)).key_containing("/gc"));
    let error = garbage::confirm(&repository, &stanza(), &label(FULL), 0, &[pack(1, 0)].into()).unwrap_err();
    assert!(matches!(error, Error::Storage(_)), "{error}");
    assert!(repository.backups(&stanza()).unwrap().is_empty());
}

#[test]
fn a_session_that_was_removed_is_not_brought_back() {
    let room = Room::plain();
    let mut session = begin(&room.repository, SessionKind::Backup);
    session.note_seen(0).unwrap();
    room.storage.delete(&names::session(&stanza(), session.id()).unwrap()).unwrap();
    let error = session.renew().unwrap_err();
    assert!(matches!(error, Error::SessionLost { .. }), "{error}");
    let error = Sessions::read(&room.repository, &stanza(), session.id()).unwrap_err();
    assert!(matches!(error, Error::SessionLost { .. }), "{error}");
}

/// What a program wrote that knew nothing of the log.
#[test]
fn a_session_of_an_older_program_is_read_and_keeps_everything() {
    let room = Room::plain();
    let name = names::session(&stanza(), id(3)).unwrap();
    let document = serde_json::json!({
        "id": id(3), "kind": "backup", "host": "db1", "process": 4711, "started": "2026-11-22T12:00:00Z",
        "renewed": "2026-11-22T12:00:00Z", "relies_on": [FULL],
    });
    let blocks = vec![DraftBlock::new(1, document.to_string().as_bytes())];
    let draft = Draft::new(*b"PGARKSES", room.repository.vault().repository(), blocks);
    room.storage.put(&name, &draft.write(name.as_str()), PutMode::Create).unwrap();
    let sessions = Sessions::look(&room.repository, &stanza()).unwrap();
    let [session] = &sessions.live[..] else { panic!("one session") };
    assert_eq!((session.seen, &session.machine, session.adopts.len()), (None, &None, 0));
    let mut log = Log::default();
    append(&room.repository, &mut log, EntryKind::Mark, &[pack(1, 1)].into()).unwrap();
    assert!(garbage::sweepable(&log, &sessions, &[label(FULL)].into()).is_empty());
}

#[test]
fn who_is_at_work_decides_what_may_be_swept() {
    let room = Room::plain();
    let mut log = Log::default();
    for number in 1..=3 {
        append(&room.repository, &mut log, EntryKind::Mark, &[pack(1, number)].into()).unwrap();
    }
    append(&room.repository, &mut log, EntryKind::Sweep, &[pack(1, 3)].into()).unwrap();
    let numbers = |backups: &[&str]| {
        let sessions = Sessions::look(&room.repository, &stanza()).unwrap();
        let backups = backups.iter().map(|text| label(text)).collect();
        let packs = garbage::sweepable(&log, &sessions, &backups);
        packs.into_iter().map(|pack| pack.number).collect::<Vec<_>>()
    };
    let _expire = begin(&room.repository, SessionKind::Expire);
    assert_eq!(numbers(&[]), [1, 2, 3]);
    let mut reader = begin(&room.repository, SessionKind::Restore);
    assert!(numbers(&[FULL]).is_empty());
    reader.rely_on(vec![label(FULL)]).unwrap();
    assert_eq!(numbers(&[FULL]), [1, 2, 3]);
    assert!(numbers(&[INCREMENTAL]).is_empty(), "what it relies on is gone");
    let mut backup = begin(&room.repository, SessionKind::Backup);
    assert!(numbers(&[FULL]).is_empty());
    backup.note_seen(1).unwrap();
    assert_eq!(numbers(&[FULL]), [1, 3], "what was announced goes, later marks do not");
    backup.note_seen(3).unwrap();
    assert_eq!(numbers(&[FULL]), [1, 2, 3]);
    backup.end().unwrap();
    reader.end().unwrap();
}

/// One expire, in the engine's order, that removes these backups; gives the packs that were swept, those that were marked,
/// and the entries that are left in the log.
fn expire_once(repository: &Repository, expired: &[&str]) -> Result<(u64, usize, usize), Error> {
    let stanza = &stanza();
    let session = Session::begin(repository, stanza, SessionKind::Expire, "db1".into(), Vec::new())?;
    let mut survey = Survey::take(repository, stanza, Some(session.id()))?;
    survey.announce(repository, stanza, session.id(), PROGRAM)?;
    let backups = garbage::manifests(repository, stanza)?;
    let newest = backups.values().map(|manifest| manifest.modified).max();
    let needed = |backups: &mut dyn Iterator<Item = &Label>| -> Result<BTreeSet<PackId>, Error> {
        let mut needed = BTreeSet::new();
        for label in backups {
            needed.extend(Manifest::open(repository, stanza, label)?.packs()?.into_keys());
        }
        Ok(needed)
    };
    let labels: BTreeSet<Label> = backups.keys().cloned().collect();
    let swept = survey.sweep::<Error>(repository, stanza, &labels, &needed(&mut labels.iter())?, &mut || Ok(()))?;
    let (gone, kept): (Vec<_>, Vec<_>) = labels.into_iter().partition(|label| expired.contains(&label.as_str()));
    gone.iter().try_for_each(|label| removal::remove_backup(repository, stanza, label))?;
    let needed = needed(&mut kept.iter())?;
    let packs = garbage::unreferenced(&survey.packs, &needed, &survey.log, &survey.sessions, newest);
    let mark = NewEntry { kind: EntryKind::Mark, session: session.id(), program: PROGRAM, packs: &packs };
    survey.log.append(repository, stanza, mark)?;
    let done = garbage::done(&survey.log, &survey.packs.keys().copied().collect(), &survey.sessions);
    survey.log.remove(repository, stanza, &done)?;
    for label in removal::removed_backups(repository, stanza)? {
        removal::remove_notes(repository, stanza, &label)?;
    }
    session.end()?;
    Ok((swept, packs.len(), survey.log.entries().len()))
}

/// Backups of which each stands on a pack of its own and on that of the first, with notes; then garbage in every state.
fn fill(storage: &Arc<dyn Storage>) {
    let repository = &create(Arc::clone(storage), &Encryption::None).unwrap();
    let stanza = &stanza();
    let mut first = Taken::default();
    for (number, text) in (1..).zip([FULL, INCREMENTAL, "20261124-010000F", "20261125-010000F"]) {
        let label = label(text);
        let backup =
            Backup { repository, stanza, label: label.clone(), session: id(number), compression: Compression::None };
        let items = [Item::directory(""), Item::file("x", text.as_bytes().to_vec())];
        let taken = backup.take(&items, &first).unwrap();
        if number == 1 {
            first = taken;
        }
        note::annotate(repository, stanza, &label, [("a".to_owned(), "b".to_owned())].into(), PROGRAM).unwrap();
    }
    // The pack of this one is marked, and swept by the run that is tested.
    expire_once(repository, &[INCREMENTAL]).unwrap();
    assert_eq!(expire_once(repository, &[]).unwrap().0, 1);
    let backup =
        Backup { repository, stanza, label: label("20261126-010000F"), session: id(5), compression: Compression::None };
    backup.take(&[Item::directory(""), Item::file("x", b"x".to_vec())], &first).unwrap();
    expire_once(repository, &["20261124-010000F"]).unwrap();
}

/// What is left: backups with their packs, all of which must be there.
fn what_is_left(storage: &Arc<dyn Storage>) -> BTreeSet<String> {
    let repository = &Repository::open(Arc::clone(storage), &Encryption::None).unwrap();
    let packs = garbage::packs(repository, &stanza()).unwrap();
    for label in repository.backups(&stanza()).unwrap() {
        for pack in Manifest::open(repository, &stanza(), &label).unwrap().packs().unwrap().keys() {
            assert!(packs.contains_key(pack), "pack {pack} of {label} is lost");
        }
    }
    // The names of notes are made anew each time.
    let shown = |name: String| name.split_once("/note/").map_or(name.clone(), |(backup, _)| format!("{backup}/note"));
    let names = objects(&**storage).into_iter().map(|(name, _)| shown(name.to_string()));
    names.filter(|name| ["/pack/", "/backup/"].iter().any(|part| name.contains(part))).collect()
}

/// Wherever an expire is killed, no backup has lost anything, and the runs after it end its work.
#[test]
fn an_expire_that_is_killed_at_any_operation_is_gone_on_with() {
    let memory = || {
        let storage: Arc<dyn Storage> = Arc::new(MemoryStorage::new());
        fill(&storage);
        storage
    };
    let finish = |storage: &Arc<dyn Storage>| {
        // The dead session of the killed one is waited for six hours: it blocks nobody but another expire.
        let repository = Repository::open(Arc::clone(storage), &Encryption::None).unwrap();
        for _ in 0..3 {
            expire_once(&repository, &[FULL]).unwrap();
        }
        what_is_left(storage)
    };
    let whole = finish(&memory());
    let mut step = 0;
    loop {
        let inner = memory();
        let faulty = FaultyStorage::new(Arc::clone(&inner));
        let repository = Repository::open(Arc::new(faulty.clone()), &Encryption::None).unwrap();
        faulty.inject(Fault::new(Effect::Crash).skipping(step));
        let ended = expire_once(&repository, &[FULL]);
        what_is_left(&inner);
        assert_eq!(finish(&inner), whole, "killed at operation {step}");
        if ended.is_ok() {
            break;
        }
        step += 1;
    }
    assert!(step > 20, "{step}");
}

#[test]
fn a_pack_is_swept_in_the_run_after_the_one_that_marked_it() {
    for room in Room::all() {
        let (repository, stanza) = (&room.repository, &stanza());
        let take = |text: &str, session, prior: &Taken| {
            let backup =
                Backup { repository, stanza, label: label(text), session: id(session), compression: Compression::None };
            backup.take(&[Item::directory(""), Item::file("x", text.as_bytes().to_vec())], prior).unwrap()
        };
        let full = take(FULL, 1, &Taken::default());
        take(INCREMENTAL, 2, &full);
        removal::remove_backup(repository, stanza, &label(INCREMENTAL)).unwrap();
        take("20261124-010000F", 3, &Taken::default());
        let run = || expire_once(repository, &[]).unwrap();
        assert_eq!(run(), (0, 1, 1), "{}", room.name);
        assert_eq!(run(), (1, 0, 1), "{}", room.name);
        assert_eq!(run(), (0, 0, 1), "{}", room.name);
        let left: Vec<PackId> = garbage::packs(repository, stanza).unwrap().into_keys().collect();
        assert_eq!(left, [pack(1, 0), pack(3, 0)], "{}", room.name);
    }
}
