//! Records of what was verified when. Section 10 of `docs/format.md`.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use jiff::Timestamp;
use pgark_storage::PutMode;
use serde::{Deserialize, Serialize};
use ulid::Ulid;

use crate::container::ObjectKind;
use crate::document;
use crate::error::{Error, Result};
use crate::names::{self, ArchiveId, Label, PackId, StanzaName};
use crate::repository::Repository;

/// When each of a row of numbered objects was found to be whole, in seconds since 1970. Neighbours of one time are kept
/// together.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Vec<(u64, u64, i64)>", into = "Vec<(u64, u64, i64)>")]
pub struct Times {
    /// First number to last number and time; ranges do not overlap.
    ranges: BTreeMap<u64, (u64, i64)>,
}

impl Times {
    /// Notes the time of these numbers, where nothing later is known of them.
    pub fn note(&mut self, numbers: RangeInclusive<u64>, time: i64) {
        let (mut next, last) = (*numbers.start(), *numbers.end());
        for (first, found_last, found) in self.within(numbers) {
            // What is known lies beside the numbers or over them; only the part that is older is replaced.
            if found >= time {
                if next < first {
                    self.put(next, first - 1, time);
                }
                match found_last.checked_add(1) {
                    Some(after) => next = after,
                    None => return,
                }
            }
        }
        if next <= last {
            self.put(next, last, time);
        }
    }

    /// Forgets the time of a number.
    pub fn forget(&mut self, number: u64) {
        let Some(time) = self.of(number) else { return };
        let (begin, last) =
            self.ranges.range(..=number).next_back().map_or((0, 0), |(begin, (last, _))| (*begin, *last));
        self.ranges.remove(&begin);
        if begin < number {
            self.ranges.insert(begin, (number - 1, time));
        }
        if number < last {
            self.ranges.insert(number + 1, (last, time));
        }
    }

    /// The time of a number.
    pub fn of(&self, number: u64) -> Option<i64> {
        let (_, (last, time)) = self.ranges.range(..=number).next_back()?;
        (number <= *last).then_some(*time)
    }

    /// The ranges of these numbers that are known, ascending: first, last, time.
    pub fn within(&self, numbers: RangeInclusive<u64>) -> Vec<(u64, u64, i64)> {
        let (first, last) = (*numbers.start(), *numbers.end());
        let begin = self.ranges.range(..=first).next_back().map_or(first, |(begin, _)| *begin);
        self.ranges
            .range(begin..)
            .take_while(|(begin, _)| **begin <= last)
            .filter(|(_, (end, _))| *end >= first)
            .map(|(begin, (end, time))| ((*begin).max(first), (*end).min(last), *time))
            .collect()
    }

    /// Keeps what is known of these numbers only.
    pub fn keep(&mut self, wanted: impl IntoIterator<Item = RangeInclusive<u64>>) {
        let mut kept = Self::default();
        for numbers in wanted {
            for (first, last, time) in self.within(numbers) {
                kept.put(first, last, time);
            }
        }
        *self = kept;
    }

    /// Whether nothing is known.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// Puts a range in the place of all that lies there.
    fn put(&mut self, first: u64, last: u64, time: i64) {
        let begin = self.ranges.range(..first).next_back().map_or(first, |(begin, _)| *begin);
        let touched: Vec<_> =
            self.ranges.range(begin..=last).map(|(begin, (end, time))| (*begin, *end, *time)).collect();
        for (begin, end, old) in touched {
            if end < first {
                continue;
            }
            self.ranges.remove(&begin);
            if begin < first {
                self.ranges.insert(begin, (first - 1, old));
            }
            if end > last {
                self.ranges.insert(last + 1, (end, old));
            }
        }
        self.ranges.insert(first, (last, time));
        self.join(first);
        if let Some(after) = last.checked_add(1)
            && self.ranges.contains_key(&after)
        {
            self.join(after);
        }
    }

    /// Joins the range that begins at `first` with the one before it, if they have one time.
    fn join(&mut self, first: u64) {
        let Some((last, time)) = self.ranges.get(&first).copied() else { return };
        let before = self.ranges.range(..first).next_back().map(|(begin, (end, time))| (*begin, *end, *time));
        if let Some((begin, end, before_time)) = before
            && before_time == time
            && end.checked_add(1) == Some(first)
        {
            self.ranges.remove(&first);
            self.ranges.insert(begin, (last, time));
        }
    }
}

impl From<Vec<(u64, u64, i64)>> for Times {
    fn from(ranges: Vec<(u64, u64, i64)>) -> Self {
        let mut times = Self::default();
        for (first, last, time) in ranges {
            if first <= last {
                times.note(first..=last, time);
            }
        }
        times
    }
}

impl From<Times> for Vec<(u64, u64, i64)> {
    fn from(times: Times) -> Self {
        times.ranges.into_iter().map(|(first, (last, time))| (first, last, time)).collect()
    }
}

/// What of a stanza was found to be whole, and when, in seconds since 1970.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checked {
    /// Manifests, by the labels of their backups.
    #[serde(default)]
    pub backups: BTreeMap<Label, i64>,
    /// Packs, by the sessions that wrote them.
    #[serde(default)]
    pub packs: BTreeMap<Ulid, Times>,
    /// WAL segments, by archive and timeline (`17-1/00000001`); a segment's number is its place in the WAL.
    #[serde(default)]
    pub wal: BTreeMap<String, Times>,
}

impl Checked {
    /// Notes that a pack was whole at a time.
    pub fn note_pack(&mut self, id: PackId, time: i64) {
        self.packs.entry(id.session).or_default().note(u64::from(id.number)..=u64::from(id.number), time);
    }

    /// When a pack was last found to be whole.
    pub fn of_pack(&self, id: PackId) -> Option<i64> {
        self.packs.get(&id.session)?.of(u64::from(id.number))
    }

    /// Notes that a manifest was whole at a time.
    pub fn note_backup(&mut self, label: &Label, time: i64) {
        let known = self.backups.entry(label.clone()).or_insert(time);
        *known = (*known).max(time);
    }

    /// Adds all that another record knows.
    pub fn merge(&mut self, other: Self) {
        for (label, time) in other.backups {
            self.note_backup(&label, time);
        }
        for (session, times) in other.packs {
            merge(self.packs.entry(session).or_default(), times);
        }
        for (row, times) in other.wal {
            merge(self.wal.entry(row).or_default(), times);
        }
    }
}

fn merge(into: &mut Times, from: Times) {
    for (first, last, time) in Vec::from(from) {
        into.note(first..=last, time);
    }
}

/// How the segments of a timeline in an archive are called in a record.
pub fn wal_row(archive: &ArchiveId, timeline: u32) -> String {
    format!("{archive}/{timeline:08X}")
}

/// The document of a record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckedDocument {
    /// The record's identity.
    pub id: Ulid,
    /// When it was written.
    pub written: Timestamp,
    /// The program that wrote it.
    pub program: String,
    /// What was checked when.
    #[serde(flatten)]
    pub checked: Checked,
}

/// All that records say of a stanza, and which records these are.
///
/// # Errors
/// The storage's error. A record that can't be read is passed over, for nothing depends on it; it is among those that are
/// given, so that it goes when a new one is written.
pub fn read(repository: &Repository, stanza: &StanzaName) -> Result<(Checked, Vec<Ulid>)> {
    let mut all = Checked::default();
    let mut ids = Vec::new();
    for entry in repository.storage().list_directory(Some(&names::all_checked(stanza)?))? {
        let Some(id) = names::ulid(&entry.name) else { continue };
        let name = names::checked(stanza, id)?;
        let read: Result<CheckedDocument> =
            document::read(repository.storage(), repository.vault(), ObjectKind::Checked, &name);
        match read {
            Ok(document) => all.merge(document.checked),
            Err(error @ Error::Storage(_)) if !error.is_not_found() => return Err(error),
            Err(_) => {}
        }
        ids.push(id);
    }
    Ok((all, ids))
}

/// Writes a record in the place of earlier ones. Broken off in between, both are there, which does no harm.
///
/// # Errors
/// Where it can't be written, or the earlier ones can't be removed.
pub fn replace(
    repository: &Repository,
    stanza: &StanzaName,
    checked: Checked,
    earlier: &[Ulid],
    program: &str,
) -> Result<()> {
    repository.check_writable()?;
    let id = pgark_system::random::ulid().map_err(Error::Random)?;
    let document = CheckedDocument { id, written: pgark_system::clock::now(), program: program.to_owned(), checked };
    let name = names::checked(stanza, id)?;
    document::write(repository.storage(), repository.vault(), ObjectKind::Checked, &name, &document, PutMode::Create)?;
    let names = earlier.iter().map(|id| names::checked(stanza, *id)).collect::<Result<Vec<_>>>()?;
    Ok(repository.storage().delete_all(&names)?)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Whatever is noted in whatever order: each number has the latest of its times, ranges are apart and as long as
        /// they can be, and the stored form is the same.
        #[test]
        fn each_number_has_its_latest_time(
            notes in proptest::collection::vec((0_u64..40, 0_u64..12, 0_i64..5), 0..40),
            kept in proptest::option::of((0_u64..40, 0_u64..20)),
            forgotten in 0_u64..40,
        ) {
            let mut times = Times::default();
            let mut expected: BTreeMap<u64, i64> = BTreeMap::new();
            for (first, more, time) in notes {
                times.note(first..=first + more, time);
                for number in first..=first + more {
                    let known = expected.entry(number).or_insert(time);
                    *known = (*known).max(time);
                }
            }
            if let Some((first, more)) = kept {
                times.keep([first..=first + more]);
                expected.retain(|number, _| (first..=first + more).contains(number));
            }
            times.forget(forgotten);
            expected.remove(&forgotten);
            for number in 0..60 {
                prop_assert_eq!(times.of(number), expected.get(&number).copied(), "{}", number);
            }
            let ranges = Vec::from(times.clone());
            for pair in ranges.windows(2) {
                prop_assert!(pair[0].1 < pair[1].0 && (pair[0].1 + 1 < pair[1].0 || pair[0].2 != pair[1].2));
            }
            prop_assert_eq!(Times::from(ranges), times);
        }
    }

    #[test]
    fn the_greatest_number_is_one_like_any_other() {
        let mut times = Times::default();
        times.note(u64::MAX - 1..=u64::MAX, 5);
        times.note(0..=u64::MAX, 3);
        assert_eq!([times.of(0), times.of(u64::MAX)], [Some(3), Some(5)]);
        times.note(0..=u64::MAX, 7);
        assert_eq!(Vec::from(times), [(0, u64::MAX, 7)]);
    }

    #[test]
    fn ranges_that_go_backwards_are_passed_over() {
        let times: Times = serde_json::from_str("[[5,3,1],[7,7,2]]").unwrap();
        assert_eq!(Vec::from(times), [(7, 7, 2)]);
    }
}
