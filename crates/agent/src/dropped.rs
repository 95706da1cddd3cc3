//! WAL that was dropped on this host, as far as somebody should do something about it.

use std::fmt;

use jiff::Timestamp;
use pgark_engine::dropped::{Dropped, DroppedWal};
use serde::Serialize;
use serde_json::Value;

use crate::digest::digest;

/// WAL that a repository goes without, because more waited than is allowed, and no backup has been begun there since.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DroppedStatus {
    /// The repository.
    pub repository: u32,
    /// What was dropped, and when.
    #[serde(flatten)]
    pub dropped: Dropped,
}

impl fmt::Display for DroppedStatus {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { repository, dropped: Dropped { first, last, files, since, .. } } = self;
        write!(
            formatter,
            "repo{repository}: {files} WAL file(s) from {first} to {last} were dropped since {since}, because more waited \
             than archive-push-queue-max allows: no recovery gets past them; when archiving works again, take a backup"
        )
    }
}

/// What was dropped, but for what no later backup needs. `info` is what the repositories have, as far as that is known.
pub(crate) fn still_lacking(dropped: DroppedWal, info: Option<&Value>) -> Vec<DroppedStatus> {
    if dropped.is_empty() {
        return Vec::new();
    }
    let repositories = info.map(digest).unwrap_or_default();
    let is_made_up_for = |key: u32, until: Timestamp| {
        let of_repository = repositories.iter().filter(|found| found.key == key);
        of_repository.flat_map(|found| &found.backups).any(|backup| backup.started > until)
    };
    let lacking = dropped.into_iter().filter(|(key, dropped)| !is_made_up_for(*key, dropped.until));
    lacking.map(|(repository, dropped)| DroppedStatus { repository, dropped }).collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::digest::tests::info;

    /// WAL that the second repository goes without.
    pub(crate) fn dropped() -> DroppedStatus {
        let (first, last) = ("000000010000000000000005".to_owned(), "000000010000000000000007".to_owned());
        let time = Timestamp::from_second(1_795_316_300).unwrap();
        DroppedStatus { repository: 2, dropped: Dropped { first, last, files: 3, since: time, until: time } }
    }

    #[test]
    fn a_backup_that_was_begun_later_makes_up_for_it() {
        let last_backup = Timestamp::from_second(1_795_316_400).unwrap();
        let second = jiff::SignedDuration::from_secs(1);
        let lacking = |key, until, info: Option<&Value>| {
            let dropped = Dropped { until, ..dropped().dropped };
            still_lacking(DroppedWal::from([(key, dropped)]), info).len()
        };
        let info = info();
        assert_eq!(lacking(1, last_backup - second, Some(&info)), 0);
        // What was dropped while it began it may need.
        assert_eq!(lacking(1, last_backup, Some(&info)), 1);
        // Another repository's backup does not help, and what is not known does not either.
        assert_eq!(lacking(2, last_backup - second, Some(&info)), 1);
        assert_eq!(lacking(1, last_backup - second, None), 1);
        assert_eq!(still_lacking(DroppedWal::new(), Some(&info)), []);
    }
}
