//! Whole objects are checked: whatever byte of whatever object is changed, it is seen. What is not seen here would not be
//! seen before it is needed.

use std::collections::BTreeSet;

use pgark_repository::checked::{self, Checked};
use pgark_repository::container::ObjectKind;
use pgark_repository::manifest::Manifest;
use pgark_repository::pack::Pack;
use pgark_repository::wal::WalObject;
use pgark_repository::{Error, Repository, Result, inventory};
use pgark_storage::Key;

use crate::room::Room;
use crate::sample;

/// Bytes that are changed in the middle of each object, besides all of its header, index and trailer.
const SAMPLES: usize = 250;

/// Checks an object by the way that is there for its kind.
fn check(repository: &Repository, name: &Key, kind: ObjectKind) -> Result<()> {
    match kind {
        ObjectKind::Pack => {
            let mut flaw = Ok(());
            let swept = Pack::open_object(repository, name)?.check(&mut |_, error| flaw = Err(error), &|| true)?;
            assert!(swept.is_continue());
            flaw
        }
        ObjectKind::Manifest => {
            let manifest = Manifest::open_object(repository, name)?;
            manifest.packs()?;
            manifest.late_entries()?;
            let blocks: Vec<_> = manifest.entries().collect::<Result<_>>()?;
            let first_paths: Vec<_> = blocks.iter().map(|entries| entries[0].path.clone()).collect();
            manifest.check_frame(&first_paths)
        }
        ObjectKind::Wal => {
            assert!(WalObject::open(repository, name)?.check(&|| true)?.is_some());
            Ok(())
        }
        _ => inventory::check(repository, kind, name),
    }
}

fn positions(length: usize) -> BTreeSet<usize> {
    let ends = (0..64).chain(length.saturating_sub(400)..length);
    let between = (0..SAMPLES).map(|sample| sample * length / SAMPLES);
    ends.chain(between).filter(|position| *position < length).collect()
}

#[test]
fn any_changed_byte_is_seen() {
    for room in [Room::plain(), Room::encrypted()] {
        sample::write(&room.repository).unwrap();
        let kinds: BTreeSet<_> = room.objects().iter().map(|(_, kind)| format!("{kind:?}")).collect();
        assert_eq!(kinds.len(), if room.name.starts_with("plain") { 9 } else { 10 }, "{kinds:?}");
        for (name, kind) in room.objects() {
            check(&room.repository, &name, kind).unwrap_or_else(|error| panic!("{name}, {}: {error}", room.name));
            let whole = room.bytes(&name);
            for position in positions(whole.len()) {
                let mut changed = whole.clone();
                changed[position] ^= 1 << (position % 8);
                room.replace(&name, &changed);
                match check(&room.repository, &name, kind) {
                    Err(Error::Damaged { object, .. } | Error::Unsupported { object, .. }) => {
                        assert_eq!(object, name.as_str());
                    }
                    Err(error) => panic!("byte {position} of {name}, {}: {error}", room.name),
                    // Without encryption some bits of a compressed block can change without changing what it decodes to.
                    Ok(()) => {
                        assert!(room.name.starts_with("plain"), "byte {position} of {name} changed unseen");
                        let read = room.read_whole(&name, kind).unwrap();
                        room.replace(&name, &whole);
                        assert!(read == room.read_whole(&name, kind).unwrap(), "byte {position} of {name}");
                    }
                }
            }
            room.replace(&name, &whole[..whole.len() - 1]);
            assert!(check(&room.repository, &name, kind).is_err(), "{name} cut off, {}", room.name);
            room.replace(&name, &whole);
        }
    }
}

#[test]
fn objects_in_the_place_of_each_other_are_seen() {
    for room in [Room::plain(), Room::encrypted()] {
        sample::write(&room.repository).unwrap();
        let objects = room.objects();
        for (name, kind) in &objects {
            let whole = room.bytes(name);
            for (other, _) in objects.iter().filter(|(other, other_kind)| other_kind == kind && other != name) {
                room.replace(name, &room.bytes(other));
                // Key slots are whole wherever they are found; whoever opens one knows its name.
                let seen = check(&room.repository, name, *kind).is_err();
                assert!(seen, "{other} in the place of {name}, {}", room.name);
            }
            room.replace(name, &whole);
        }
    }
}

#[test]
fn what_was_checked_when_is_kept_in_one_record() {
    for room in Room::all() {
        let (repository, stanza) = (&room.repository, sample::stanza());
        assert_eq!(checked::read(repository, &stanza).unwrap(), (Checked::default(), Vec::new()));
        let mut first = Checked::default();
        first.note_backup(&sample::label(sample::FULL), 100);
        checked::replace(repository, &stanza, first.clone(), &[], "pgark 0.0.0").unwrap();
        // Another one at the same time knows nothing of it.
        let mut second = Checked::default();
        second.note_backup(&sample::label(sample::FULL), 90);
        second.note_backup(&sample::label(sample::INCREMENTAL), 90);
        checked::replace(repository, &stanza, second, &[], "pgark 0.0.0").unwrap();
        let (both, records) = checked::read(repository, &stanza).unwrap();
        let times: Vec<_> = both.backups.values().copied().collect();
        assert_eq!((times, records.len()), (vec![100, 90], 2));
        checked::replace(repository, &stanza, both.clone(), &records, "pgark 0.0.0").unwrap();
        let (merged, records) = checked::read(repository, &stanza).unwrap();
        assert_eq!((merged, records.len()), (both, 1));
        // One that is damaged is passed over, and goes with the next.
        let name = room.objects().into_iter().find(|(_, kind)| *kind == ObjectKind::Checked).unwrap().0;
        room.replace(&name, b"nothing");
        let (nothing, records) = checked::read(repository, &stanza).unwrap();
        assert_eq!((nothing, records.len()), (Checked::default(), 1));
        checked::replace(repository, &stanza, first, &records, "pgark 0.0.0").unwrap();
        assert_eq!(checked::read(repository, &stanza).unwrap().1.len(), 1);
    }
}
