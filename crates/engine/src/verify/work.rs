//! The pieces of the work, in which order they are done, and how long it may take.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use pgark_repository::checked::{Checked, wal_row};
use pgark_repository::container::ObjectKind;
use pgark_repository::{Label, PackId};
use pgark_storage::Key;
use pgark_system::clock::Stopwatch;
use pgark_system::termination;

use super::inventory::Inventory;
use super::wal::Row;
use crate::coverage::BackupSpan;

/// Segments that are checked one after the other. What follows on what can then be seen without reading anything twice.
const ROW_SEGMENTS: u64 = 32;

/// A piece of the work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Unit {
    /// A small object.
    Small(ObjectKind, Key),
    /// A file of an archive that is no whole segment.
    File(usize, String),
    /// A manifest, with its maps.
    Backup(Label),
    /// A pack.
    Pack(PackId),
    /// Segments of an archive.
    Row(usize, Row),
}

impl fmt::Display for Unit {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Small(_, name) => write!(formatter, "object '{name}'"),
            Self::File(_, file) => write!(formatter, "file {file} of the archive"),
            Self::Backup(label) => write!(formatter, "the manifest of backup {label}"),
            Self::Pack(id) => write!(formatter, "pack {id}"),
            Self::Row(_, Row { timeline, first, last }) => {
                write!(formatter, "WAL of timeline {timeline}, segments {first} to {last}")
            }
        }
    }
}

/// The work on manifests, packs and segments, each with the time when it was checked: what was not checked for the longest time comes first, and before that what
/// was never checked.
pub(super) fn units(inventory: &Inventory<'_>, known: &Checked) -> Vec<(Option<i64>, Unit)> {
    let mut units: Vec<(Option<i64>, Unit)> = Vec::new();
    for label in &inventory.backups {
        units.push((known.backups.get(label).copied(), Unit::Backup(label.clone())));
    }
    for (id, pack) in &inventory.packs {
        if pack.stored == Some(pack.length) {
            units.push((known.of_pack(*id), Unit::Pack(*id)));
        }
    }
    for (place, archive) in inventory.archives.iter().enumerate() {
        let Some(coverage) = &archive.coverage else { continue };
        let is_wanted = |span: &&BackupSpan| inventory.backups.contains(&span.label);
        let spans: Vec<BackupSpan> = archive.spans.iter().filter(is_wanted).cloned().collect();
        let wanted = if inventory.is_one_set { &coverage.needed(&spans) } else { coverage.segments() };
        for (timeline, runs) in wanted {
            let times = known.wal.get(&wal_row(archive.archive.id(), timeline.0));
            for run in runs.ranges() {
                for (first, last) in rows(*run.start(), *run.end()) {
                    let found = times.map(|times| times.within(first..=last)).unwrap_or_default();
                    let is_whole =
                        found.iter().map(|(first, last, _)| last - first + 1).sum::<u64>() == last - first + 1;
                    let oldest = found.into_iter().map(|(_, _, time)| time).min().filter(|_| is_whole);
                    units.push((oldest, Unit::Row(place, Row { timeline: *timeline, first, last })));
                }
            }
        }
    }
    // None comes before any time. The order is otherwise that in which they were added.
    units.sort_by_key(|(time, _)| *time);
    units
}

/// Cuts a run of segments at fixed places.
fn rows(first: u64, last: u64) -> impl Iterator<Item = (u64, u64)> {
    let mut next = Some(first);
    std::iter::from_fn(move || {
        let first = next.filter(|next| *next <= last)?;
        let end = (first - first % ROW_SEGMENTS).saturating_add(ROW_SEGMENTS - 1).min(last);
        next = end.checked_add(1);
        Some((first, end))
    })
}

/// How long the work may take.
#[derive(Debug)]
pub(super) struct Pace {
    stopwatch: Stopwatch,
    limit: Option<Duration>,
}

impl Pace {
    pub(super) fn new(limit: Option<Duration>) -> Self {
        Self { stopwatch: Stopwatch::start(), limit }
    }

    /// Whether there is time left, and nobody has asked to end.
    pub(super) fn goes_on(&self) -> bool {
        termination::requested().is_none() && self.limit.is_none_or(|limit| self.stopwatch.elapsed() < limit)
    }
}

/// Keeps of a record only what is about objects that there are.
pub(super) fn keep_present(known: &mut Checked, inventory: &Inventory<'_>) {
    known.backups.retain(|label, _| inventory.backups.binary_search(label).is_ok());
    let mut numbers: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for id in inventory.packs.keys() {
        numbers.entry(id.session).or_default().push(u64::from(id.number)..=u64::from(id.number));
    }
    known.packs.retain(|session, times| {
        times.keep(numbers.remove(session).unwrap_or_default());
        !times.is_empty()
    });
    let mut rows: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for archive in &inventory.archives {
        let Some(coverage) = &archive.coverage else { continue };
        for (timeline, runs) in coverage.segments() {
            rows.insert(wal_row(archive.archive.id(), timeline.0), runs.ranges().to_vec());
        }
    }
    known.wal.retain(|row, times| {
        times.keep(rows.remove(row).unwrap_or_default());
        !times.is_empty()
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_cut_at_fixed_places() {
        assert_eq!(rows(3, 70).collect::<Vec<_>>(), [(3, 31), (32, 63), (64, 70)]);
        assert_eq!(rows(32, 32).collect::<Vec<_>>(), [(32, 32)]);
        assert_eq!(rows(u64::MAX - 1, u64::MAX).collect::<Vec<_>>(), [(u64::MAX - 1, u64::MAX)]);
    }
}
