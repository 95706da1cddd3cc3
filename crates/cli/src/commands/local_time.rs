//! Times as people read them.

use jiff::Timestamp;
use jiff::tz::TimeZone;

/// `2026-11-22 12:19:37+00`, with minutes in the offset only where it has some.
pub(crate) fn local_time(time: Timestamp, zone: &TimeZone) -> String {
    let zoned = time.to_zoned(zone.clone());
    let text = zoned.strftime("%Y-%m-%d %H:%M:%S%:z").to_string();
    text.strip_suffix(":00").unwrap_or(&text).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_have_minutes_only_where_it_matters() {
        let time = Timestamp::UNIX_EPOCH;
        for (zone, text) in [
            ("UTC", "1970-01-01 00:00:00+00"),
            ("America/New_York", "1969-12-31 19:00:00-05"),
            ("Asia/Kolkata", "1970-01-01 05:30:00+05:30"),
        ] {
            assert_eq!(local_time(time, &TimeZone::get(zone).unwrap()), text);
        }
    }
}
