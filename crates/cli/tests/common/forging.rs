//! Manifests that make no sense.

#![allow(clippy::unwrap_used, reason = "what goes wrong here ends the test")]

use std::path::Path;
use std::sync::Arc;

use pgark_repository::manifest::{Attributes, Content, Entry, EntryKind, Manifest, ManifestDocument, ManifestWriter};
use pgark_repository::{Encryption, Label, Repository, StanzaName, names};
use pgark_storage::LocalStorage;
use pgark_testkit::give_to_test_user;

use super::{STANZA, Site};

/// Writes a manifest that says what that of a good backup says, but for what `change` does to it.
pub(crate) fn forge(site: &Site, original: &str, label: &str, change: &Change<'_>) {
    let storage = LocalStorage::open(&site.repository()).unwrap();
    let repository = Repository::open(Arc::new(storage), &Encryption::None).unwrap();
    let stanza: StanzaName = STANZA.parse().unwrap();
    let (original, label): (Label, Label) = (original.parse().unwrap(), label.parse().unwrap());
    let manifest = Manifest::open(&repository, &stanza, &original).unwrap();
    let mut document = manifest.document().clone();
    document.label = label.clone();
    let mut entries: Vec<Entry> = manifest.entries().flat_map(Result::unwrap).collect();
    let mut late = manifest.late_entries().unwrap();
    change(&mut document, &mut entries, &mut late);
    let mut writer = ManifestWriter::new(&repository, &stanza, &label).unwrap();
    for entry in &entries {
        writer.add(entry).unwrap();
    }
    for entry in &late {
        writer.add_late(entry);
    }
    writer.commit(&document, &manifest.packs().unwrap()).unwrap();
    // Not by looking for it among all objects: there may be thousands of backups.
    let directory = site.repository().join(names::backup(&stanza, &label).unwrap().as_str());
    give_to_test_user(&directory.join("manifest"));
    give_to_test_user(&directory);
}

/// What is changed of a good manifest.
pub(crate) type Change<'change> = dyn Fn(&mut ManifestDocument, &mut Vec<Entry>, &mut Vec<Entry>) + 'change;

/// An empty file.
pub(crate) fn file(path: &str) -> Entry {
    let kind = EntryKind::File { size: 0, page_checksums: false, content: Content::None, damaged: Vec::new() };
    Entry { kind, ..directory(path) }
}

/// A directory.
pub(crate) fn directory(path: &str) -> Entry {
    let attributes = Attributes { mode: 0o700, ..Default::default() };
    Entry { path: path.as_bytes().to_vec(), link: None, attributes, kind: EntryKind::Directory }
}

/// A link to a directory.
pub(crate) fn link(path: &str, target: &Path) -> Entry {
    Entry { link: Some(target.to_str().unwrap().as_bytes().to_vec()), ..directory(path) }
}

/// Adds entries where a walk would find them.
pub(crate) fn insert(entries: &mut Vec<Entry>, new: impl IntoIterator<Item = Entry>) {
    let key = |entry: &Entry| entry.path.split(|byte| *byte == b'/').map(<[u8]>::to_vec).collect::<Vec<_>>();
    entries.extend(new);
    entries.sort_by_key(key);
}
