//! Choosing the label of a new backup.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use pgark_repository::{Label, LabelKind};

use crate::error::{Error, ErrorKind, Result};

/// The label of a backup that starts at `start`, in the host's time zone: of a full backup, or of one that belongs to the
/// set of a full backup.
///
/// Backups are sorted by the times in their labels, so that a new one must come after all that there are. If the clock's
/// second is taken the caller waits for the next one: `None`.
///
/// # Errors
/// [`ErrorKind::Clock`] where a label lies in the future by more than a second or two.
pub(super) fn new_label(
    kind: LabelKind,
    full: Option<&Label>,
    start: Timestamp,
    zone: &TimeZone,
    existing: &[Label],
) -> Result<Option<Label>> {
    let label = label_at(kind, full, start, zone)?;
    let latest = existing.iter().max_by_key(|latest| latest.time());
    let Some(latest) = latest.filter(|latest| latest.time() >= label.time()) else {
        return Ok(Some(label));
    };
    let soon = start.checked_add(jiff::SignedDuration::from_secs(2)).map_err(|_| no_clock(start))?;
    if label_at(kind, full, soon, zone)?.time() > latest.time() {
        return Ok(None);
    }
    let message = format!("new backup label '{label}' is not later than latest backup label '{latest}'");
    Err(Error::new(ErrorKind::Clock, message)
        .hint("has the time zone changed?")
        .hint("is there clock skew between the hosts that take backups?"))
}

fn label_at(kind: LabelKind, full: Option<&Label>, time: Timestamp, zone: &TimeZone) -> Result<Label> {
    let text = time.to_zoned(zone.clone()).strftime("%Y%m%d-%H%M%S");
    let text = match (kind, full) {
        (LabelKind::Diff, Some(full)) => format!("{full}_{text}D"),
        (LabelKind::Incr, Some(full)) => format!("{full}_{text}I"),
        _ => format!("{text}F"),
    };
    text.parse().map_err(|_| no_clock(time))
}

fn no_clock(time: Timestamp) -> Error {
    Error::new(ErrorKind::Clock, format!("the clock says {time}, for which there is no label"))
        .hint("set the clock of this host")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn label(text: &str) -> Label {
        text.parse().unwrap()
    }

    fn new(start: &str, zone: &TimeZone, existing: &[Label]) -> Result<Option<Label>> {
        new_label(LabelKind::Full, None, at(start), zone, existing)
    }

    #[test]
    fn a_label_says_the_local_time() {
        let start = "2026-11-22T11:05:31Z";
        assert_eq!(new(start, &TimeZone::UTC, &[]).unwrap(), Some(label("20261122-110531F")));
        let zone = TimeZone::get("Europe/Berlin").unwrap();
        assert_eq!(new(start, &zone, &[]).unwrap(), Some(label("20261122-120531F")));
    }

    #[test]
    fn a_label_says_to_which_full_backup_it_belongs() {
        let full = label("20261122-110531F");
        let existing = [full.clone(), label("20261122-110531F_20261122-120000D")];
        for (kind, expected) in [
            (LabelKind::Incr, "20261122-110531F_20261122-120001I"),
            (LabelKind::Diff, "20261122-110531F_20261122-120001D"),
        ] {
            let found = new_label(kind, Some(&full), at("2026-11-22T12:00:01Z"), &TimeZone::UTC, &existing).unwrap();
            assert_eq!(found, Some(label(expected)));
            let taken = new_label(kind, Some(&full), at("2026-11-22T12:00:00Z"), &TimeZone::UTC, &existing).unwrap();
            assert_eq!(taken, None);
        }
    }

    #[test]
    fn a_second_that_is_taken_is_waited_out() {
        let start = "2026-11-22T11:05:31.5Z";
        for taken in ["20261122-110531F", "20261101-000000F_20261122-110531I"] {
            assert_eq!(new(start, &TimeZone::UTC, &[label(taken)]).unwrap(), None);
        }
    }

    #[test]
    fn a_label_in_the_future_is_an_error_of_the_clock() {
        for future in ["20261122-130000F", "20261101-000000F_20261122-130000I"] {
            let existing = [label(future), label("20250101-000000F")];
            let error = new("2026-11-22T11:05:31Z", &TimeZone::UTC, &existing).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Clock);
        }
    }
}
