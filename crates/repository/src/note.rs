//! Notes: what is added to a backup after it was taken. Section 7.1 of `docs/format.md`.

use std::collections::BTreeMap;

use jiff::Timestamp;
use pgark_storage::PutMode;
use serde::{Deserialize, Serialize};
use ulid::Ulid;

use crate::container::ObjectKind;
use crate::document;
use crate::error::{Error, Result};
use crate::names::{self, Label, StanzaName};
use crate::repository::Repository;

/// The document of a note.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    /// The note's identity, which is also the place among the notes of the backup: a later one is greater.
    pub id: Ulid,
    /// When it was written.
    pub written: Timestamp,
    /// The program that wrote it.
    pub program: String,
    /// What it says.
    #[serde(flatten)]
    pub content: NoteContent,
}

/// What a note says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum NoteContent {
    /// The user's texts, by name. One that is empty takes the name away.
    Annotation {
        /// Names and texts.
        annotations: BTreeMap<String, String>,
    },
    /// Something that this program does not know. It is passed over.
    #[serde(other)]
    Other,
}

/// Adds annotations to a backup. Those that have a name already are replaced, those without a text are taken away.
///
/// # Errors
/// Where the notes can't be listed or the new one can't be written.
pub fn annotate(
    repository: &Repository,
    stanza: &StanzaName,
    label: &Label,
    annotations: BTreeMap<String, String>,
    program: &str,
) -> Result<()> {
    repository.check_writable()?;
    let last = notes_of(repository, stanza, label)?.pop();
    let note = Note {
        id: after(last, pgark_system::random::ulid().map_err(Error::Random)?),
        written: pgark_system::clock::now(),
        program: program.to_owned(),
        content: NoteContent::Annotation { annotations },
    };
    let name = names::note(stanza, label, note.id)?;
    let (storage, vault) = (repository.storage(), repository.vault());
    document::write(storage, vault, ObjectKind::Note, &name, &note, PutMode::Create)
}

/// The annotations that hold after the notes `ids` of a backup whose manifest has the annotations `first`.
///
/// # Errors
/// Damage, or the storage's error. A note that is removed meanwhile is left out.
pub fn annotations(
    repository: &Repository,
    stanza: &StanzaName,
    label: &Label,
    ids: &[Ulid],
    first: &BTreeMap<String, String>,
) -> Result<BTreeMap<String, String>> {
    let mut current = first.clone();
    for id in ids {
        let name = names::note(stanza, label, *id)?;
        let note = match document::read(repository.storage(), repository.vault(), ObjectKind::Note, &name) {
            Err(error) if error.is_not_found() => continue,
            note => note?,
        };
        apply(&mut current, note);
    }
    Ok(current)
}

/// The identities of the notes on a backup, oldest first.
fn notes_of(repository: &Repository, stanza: &StanzaName, label: &Label) -> Result<Vec<Ulid>> {
    let entries = repository.storage().list_directory(Some(&names::notes(stanza, label)?))?;
    let mut ids: Vec<Ulid> = entries.iter().filter_map(|entry| names::ulid(&entry.name)).collect();
    ids.sort_unstable();
    Ok(ids)
}

/// An identity for a new note: `fresh`, unless the clock went back since the last note was written.
fn after(last: Option<Ulid>, fresh: Ulid) -> Ulid {
    match last {
        Some(last) if last >= fresh => last.increment().unwrap_or(fresh),
        _ => fresh,
    }
}

fn apply(current: &mut BTreeMap<String, String>, note: Note) {
    let NoteContent::Annotation { annotations } = note.content else { return };
    for (name, text) in annotations {
        if text.is_empty() {
            current.remove(&name);
        } else {
            current.insert(name, text);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_later_note_sorts_after_all_earlier_ones_whatever_the_clock_says() {
        let (early, late) = (Ulid::from_parts(1, 9), Ulid::from_parts(2, 0));
        assert_eq!(after(None, early), early);
        assert_eq!(after(Some(early), late), late);
        assert!(after(Some(late), early) > late);
        assert!(after(Some(late), late) > late);
    }
}
