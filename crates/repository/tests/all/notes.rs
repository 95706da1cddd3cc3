//! Notes on backups.

use std::collections::BTreeMap;

use pgark_repository::{Error, names, note};
use pgark_storage::{Key, PutMode};

use crate::room::Room;
use crate::sample::{self, FULL, INCREMENTAL, label, stanza};

fn annotations(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect()
}

#[test]
fn the_last_note_holds_and_an_empty_text_takes_away() {
    for room in Room::all() {
        sample::write(&room.repository).unwrap();
        let (repository, stanza, label) = (&room.repository, stanza(), label(INCREMENTAL));
        let notes = || repository.backups_with_notes(&stanza).unwrap().remove(&label).unwrap();
        let first = annotations(&[("why", "import"), ("who", "me")]);
        let current = || note::annotations(repository, &stanza, &label, &notes(), &first).unwrap();
        assert_eq!(current(), first);
        let annotate = |pairs: &[(&str, &str)]| {
            note::annotate(repository, &stanza, &label, annotations(pairs), "pgark 0.0.0").unwrap();
        };
        annotate(&[("who", ""), ("keep", "for good"), ("absent", "")]);
        assert_eq!(current(), annotations(&[("keep", "for good"), ("why", "import")]));
        for round in 0..20 {
            annotate(&[("keep", &round.to_string())]);
            assert_eq!(current()["keep"], round.to_string(), "a note was not the last one");
        }
        assert_eq!(notes().len(), 21, "a note was changed instead of added");
    }
}

#[test]
fn only_what_has_a_manifest_is_a_backup_whatever_notes_it_has() {
    let room = Room::plain();
    sample::write(&room.repository).unwrap();
    let labels = room.repository.backups(&stanza()).unwrap();
    assert_eq!(labels, [FULL, INCREMENTAL].map(label));
    room.storage.delete(&names::manifest(&stanza(), &label(FULL)).unwrap()).unwrap();
    assert_eq!(room.repository.backups(&stanza()).unwrap(), [label(INCREMENTAL)]);
}

#[test]
fn what_is_no_note_is_passed_over_and_a_damaged_one_is_told() {
    let room = Room::plain();
    sample::write(&room.repository).unwrap();
    let notes = names::notes(&stanza(), &label(FULL)).unwrap();
    let key = |name: &str| notes.join(name).unwrap();
    room.storage.put(&key("readme"), b"", PutMode::Create).unwrap();
    let known = room.repository.backups_with_notes(&stanza()).unwrap().remove(&label(FULL)).unwrap();
    assert_eq!(known.len(), 2);
    let name: Key = key(&known[1].to_string());
    room.storage.put(&name, b"PGARKNOT", PutMode::Replace).unwrap();
    let error = note::annotations(&room.repository, &stanza(), &label(FULL), &known, &BTreeMap::new()).unwrap_err();
    assert!(matches!(&error, Error::Damaged { object, .. } if *object == name.as_str()), "{error}");
}
