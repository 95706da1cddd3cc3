//! Choosing the label of a new backup.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use pgark_repository::Label;

use crate::error::{Error, ErrorKind, Result};

/// The label of a full backup that starts at `start`, in the host's time zone.
///
/// Labels are sorted by time, so that a new one must come after all that there are. If the clock's second is taken the
/// caller waits for the next one: `None`.
///
/// # Errors
/// [`ErrorKind::Clock`] where a label lies in the future by more than a second or two.
pub(super) fn full_label(start: Timestamp, zone: &TimeZone, existing: &[Label]) -> Result<Option<Label>> {
    let label = label_at(start, zone)?;
    let Some(latest) = existing.iter().max().filter(|latest| **latest >= label) else {
        return Ok(Some(label));
    };
    let soon = start.checked_add(jiff::SignedDuration::from_secs(2)).map_err(|_| no_clock(start))?;
    if label_at(soon, zone)? > *latest {
        return Ok(None);
    }
    let message = format!("new backup label '{label}' is not later than latest backup label '{latest}'");
    Err(Error::new(ErrorKind::Clock, message)
        .hint("has the time zone changed?")
        .hint("is there clock skew between the hosts that take backups?"))
}

fn label_at(time: Timestamp, zone: &TimeZone) -> Result<Label> {
    let text = time.to_zoned(zone.clone()).strftime("%Y%m%d-%H%M%SF").to_string();
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

    #[test]
    fn a_label_says_the_local_time() {
        let start = at("2026-11-22T11:05:31Z");
        assert_eq!(full_label(start, &TimeZone::UTC, &[]).unwrap(), Some(label("20261122-110531F")));
        let zone = TimeZone::get("Europe/Berlin").unwrap();
        assert_eq!(full_label(start, &zone, &[]).unwrap(), Some(label("20261122-120531F")));
    }

    #[test]
    fn a_second_that_is_taken_is_waited_out() {
        let start = at("2026-11-22T11:05:31.5Z");
        assert_eq!(full_label(start, &TimeZone::UTC, &[label("20261122-110531F")]).unwrap(), None);
    }

    #[test]
    fn a_label_in_the_future_is_an_error_of_the_clock() {
        let existing = [label("20261122-130000F"), label("20250101-000000F")];
        let error = full_label(at("2026-11-22T11:05:31Z"), &TimeZone::UTC, &existing).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Clock);
    }
}
