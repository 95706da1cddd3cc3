//! The names of objects, and the validated words they are made of: section 1 of `docs/format.md`.

use std::fmt;
use std::str::FromStr;

use pgark_storage::Key;
use ulid::Ulid;

use crate::error::Error;

fn limit(what: impl Into<String>) -> Error {
    Error::Limit { what: what.into() }
}

/// The name of a stanza: 1 to 64 of `A-Z a-z 0-9 . _ -`, beginning with a letter or digit.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StanzaName(String);

impl StanzaName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for StanzaName {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
        let begins_well = text.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric());
        if begins_well && text.len() <= 64 && text.bytes().all(allowed) {
            Ok(Self(text.to_owned()))
        } else {
            Err(limit(format!(
                "'{text}' can't be a stanza's name: it takes up to 64 letters, digits, '.', '_' and '-'"
            )))
        }
    }
}

impl fmt::Display for StanzaName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// What kind of backup a label names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LabelKind {
    /// A full backup.
    Full,
    /// A differential backup.
    Diff,
    /// An incremental backup.
    Incr,
}

impl fmt::Display for LabelKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Full => "full",
            Self::Diff => "diff",
            Self::Incr => "incr",
        })
    }
}

/// A backup's label, in pgBackRest's form: `20261122-120531F`, or `20261122-120531F_20261122-130000I`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Label(String);

impl Label {
    /// The label as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// When the backup began, as local time: `20261122-130000`.
    pub fn time(&self) -> &str {
        &self.0[self.0.len() - 16..self.0.len() - 1]
    }

    /// The label of the full backup of its set.
    #[must_use]
    pub fn full(&self) -> Self {
        Self(self.0.split('_').next().unwrap_or_default().to_owned())
    }

    /// What kind of backup it names.
    pub fn kind(&self) -> LabelKind {
        match self.0.as_bytes().last() {
            Some(b'D') => LabelKind::Diff,
            Some(b'I') => LabelKind::Incr,
            _ => LabelKind::Full,
        }
    }
}

fn is_time(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.len() == 15
        && bytes[8] == b'-'
        && bytes.iter().enumerate().all(|(index, byte)| index == 8 || byte.is_ascii_digit())
}

impl FromStr for Label {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let is_full = |text: &str| text.strip_suffix('F').is_some_and(is_time);
        let is_child = |text: &str| text.strip_suffix(['D', 'I']).is_some_and(is_time);
        let valid = match text.split_once('_') {
            None => is_full(text),
            Some((full, child)) => is_full(full) && is_child(child),
        };
        if valid { Ok(Self(text.to_owned())) } else { Err(limit(format!("'{text}' is not the label of a backup set"))) }
    }
}

impl TryFrom<String> for Label {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        text.parse()
    }
}

impl From<Label> for String {
    fn from(label: Label) -> Self {
        label.0
    }
}

impl fmt::Display for Label {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// The archive of one cluster of a stanza: its PostgreSQL version and its number, written `17-1`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ArchiveId {
    /// PostgreSQL's major version, as text.
    pub version: String,
    /// Which of the stanza's clusters, from 1.
    pub number: u32,
}

impl fmt::Display for ArchiveId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}-{}", self.version, self.number)
    }
}

/// The identity of a pack: the session that wrote it, and its number there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PackId {
    /// The session that wrote the pack.
    pub session: Ulid,
    /// The pack's number in its session, from 0.
    pub number: u32,
}

impl fmt::Display for PackId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{:08x}", self.session, self.number)
    }
}

/// The ULID that a part of a name is, in the one form that the format has for it.
pub(crate) fn ulid(text: &str) -> Option<Ulid> {
    Ulid::from_string(text).ok().filter(|ulid| ulid.to_string() == text)
}

/// The number that a part of a name is, in the one form that the format has for it.
pub(crate) fn number(text: &str) -> Option<u32> {
    text.parse().ok().filter(|number: &u32| number.to_string() == text)
}

fn key(text: &str) -> Result<Key, Error> {
    Key::parse(text).map_err(|error| limit(error.to_string()))
}

/// The repository's descriptor.
pub fn descriptor() -> Result<Key, Error> {
    key("pgark.repo")
}

/// Where the key slots are.
pub fn key_slots() -> Result<Key, Error> {
    key("key")
}

/// One key slot.
pub fn key_slot(id: Ulid) -> Result<Key, Error> {
    key(&format!("key/{id}"))
}

/// Where the stanzas are.
pub fn stanzas() -> Result<Key, Error> {
    key("stanza")
}

/// Where everything of a stanza is.
pub fn stanza(stanza: &StanzaName) -> Result<Key, Error> {
    key(&format!("stanza/{stanza}"))
}

/// Where the clusters of a stanza are.
pub fn clusters(stanza: &StanzaName) -> Result<Key, Error> {
    key(&format!("stanza/{stanza}/cluster"))
}

/// One cluster of a stanza.
pub fn cluster(stanza: &StanzaName, number: u32) -> Result<Key, Error> {
    key(&format!("stanza/{stanza}/cluster/{number}"))
}

/// Where the archive of a cluster is.
pub fn archive(stanza: &StanzaName, archive: &ArchiveId) -> Result<Key, Error> {
    key(&format!("stanza/{stanza}/wal/{archive}"))
}

/// Where the WAL segments are whose names begin with these 16 digits.
pub fn wal_directory(stanza: &StanzaName, archive: &ArchiveId, first16: &str) -> Result<Key, Error> {
    key(&format!("stanza/{stanza}/wal/{archive}/{first16}"))
}

/// A file of the archive: history files lie beside the directories of the segments, all others in the directory that
/// the first 16 digits of their name say.
pub fn wal_file(stanza: &StanzaName, archive: &ArchiveId, file: &str) -> Result<Key, Error> {
    if file.ends_with(".history") {
        return key(&format!("stanza/{stanza}/wal/{archive}/{file}"));
    }
    let directory = file.get(..16).ok_or_else(|| limit(format!("'{file}' is not the name of a WAL file")))?;
    key(&format!("stanza/{stanza}/wal/{archive}/{directory}/{file}"))
}

/// Where the sessions of a stanza are.
pub fn sessions(stanza: &StanzaName) -> Result<Key, Error> {
    key(&format!("stanza/{stanza}/session"))
}

/// One session.
pub fn session(stanza: &StanzaName, id: Ulid) -> Result<Key, Error> {
    key(&format!("stanza/{stanza}/session/{id}"))
}

/// One pack.
pub fn pack(stanza: &StanzaName, id: PackId) -> Result<Key, Error> {
    key(&format!("stanza/{stanza}/pack/{id}"))
}

/// Where the packs of a stanza are.
pub fn packs(stanza: &StanzaName) -> Result<Key, Error> {
    key(&format!("stanza/{stanza}/pack"))
}

/// Where the packs of one session are.
pub fn packs_of(stanza: &StanzaName, session: Ulid) -> Result<Key, Error> {
    key(&format!("stanza/{stanza}/pack/{session}"))
}

/// Where the backups of a stanza are.
pub fn backups(stanza: &StanzaName) -> Result<Key, Error> {
    key(&format!("stanza/{stanza}/backup"))
}

/// Where the log of garbage of a stanza is.
pub fn garbage_log(stanza: &StanzaName) -> Result<Key, Error> {
    key(&format!("stanza/{stanza}/gc"))
}

/// One entry of the log of garbage, counted from 1. All names are equally long, so that they sort by number.
pub fn garbage_entry(stanza: &StanzaName, number: u64) -> Result<Key, Error> {
    key(&format!("stanza/{stanza}/gc/{number:020}"))
}

/// The number of the entry of the log of garbage that has this last part of a name.
pub(crate) fn garbage_number(text: &str) -> Option<u64> {
    text.parse().ok().filter(|number| *number > 0 && text == format!("{number:020}"))
}

/// How the name of a backup's manifest ends.
pub(crate) const MANIFEST: &str = "manifest";

/// Where everything of a backup is but its packs.
pub fn backup(stanza: &StanzaName, label: &Label) -> Result<Key, Error> {
    key(&format!("stanza/{stanza}/backup/{label}"))
}

/// The manifest of a backup.
pub fn manifest(stanza: &StanzaName, label: &Label) -> Result<Key, Error> {
    key(&format!("stanza/{stanza}/backup/{label}/{MANIFEST}"))
}

/// The label of the backup whose manifest has this name; `None` for any other object.
pub(crate) fn label_of_manifest(stanza: &StanzaName, name: &Key) -> Option<Label> {
    let below = name.as_str().strip_prefix(&format!("stanza/{stanza}/backup/"))?;
    below.strip_suffix("/manifest")?.parse().ok()
}

/// The stanza and the backup whose manifest has this name.
pub(crate) fn parse_manifest(name: &Key) -> Option<(StanzaName, Label)> {
    match name.segments().collect::<Vec<_>>()[..] {
        ["stanza", stanza, "backup", label, MANIFEST] => Some((stanza.parse().ok()?, label.parse().ok()?)),
        _ => None,
    }
}

/// The stanza and the pack that has this name.
pub(crate) fn parse_pack(name: &Key) -> Option<(StanzaName, PackId)> {
    let ["stanza", stanza, "pack", session, number] = name.segments().collect::<Vec<_>>()[..] else { return None };
    let id = PackId { session: ulid(session)?, number: u32::from_str_radix(number, 16).ok()? };
    (id.to_string() == format!("{session}/{number}")).then_some((stanza.parse().ok()?, id))
}

/// Where the notes on a backup are.
pub fn notes(stanza: &StanzaName, label: &Label) -> Result<Key, Error> {
    key(&format!("stanza/{stanza}/backup/{label}/note"))
}

/// One note on a backup.
pub fn note(stanza: &StanzaName, label: &Label, id: Ulid) -> Result<Key, Error> {
    key(&format!("stanza/{stanza}/backup/{label}/note/{id}"))
}

/// The backup and the identity of the note that this is the name of, if it is one.
pub(crate) fn label_and_note(stanza: &StanzaName, name: &Key) -> Option<(Label, Ulid)> {
    let (label, rest) = name.below(&backups(stanza).ok()?)?.split_once('/')?;
    Some((label.parse().ok()?, ulid(rest.strip_prefix("note/")?)?))
}

/// Where it is kept what of a stanza was verified when.
pub(crate) fn all_checked(stanza: &StanzaName) -> Result<Key, Error> {
    key(&format!("stanza/{stanza}/checked"))
}

/// One record of what was verified when.
pub(crate) fn checked(stanza: &StanzaName, id: Ulid) -> Result<Key, Error> {
    key(&format!("stanza/{stanza}/checked/{id}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_have_pgbackrests_form() {
        for text in ["20261122-120531F", "20261122-120531F_20261122-130000I", "20261122-120531F_20261122-130000D"] {
            assert_eq!(text.parse::<Label>().unwrap().as_str(), text);
        }
        for text in ["", "F", "20261122-120531", "20261122-120531I", "20261122-120531F_", "latest", "20261122x120531F"]
        {
            assert!(text.parse::<Label>().is_err(), "{text}");
        }
    }

    #[test]
    fn stanza_names_stay_below_their_directory() {
        for text in ["demo", "main-15", "a.b_c"] {
            assert!(text.parse::<StanzaName>().is_ok(), "{text}");
        }
        for text in ["", ".", "..", "-a", "a/b", "a b", &"x".repeat(65)] {
            assert!(text.parse::<StanzaName>().is_err(), "{text}");
        }
    }
}
