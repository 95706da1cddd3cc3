//! The time of a recovery target, as a user writes it.

use std::fmt;
use std::str::FromStr;

use jiff::civil::DateTime;
use jiff::tz::{AmbiguousOffset, Offset, TimeZone};
use jiff::{SignedDuration, Timestamp};

/// A time, and the text by which PostgreSQL takes it for the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TargetTime {
    /// The time.
    pub(super) time: Timestamp,
    /// With microseconds and an offset, so that neither side's time zone matters.
    pub(super) text: String,
}

/// Why a text is no time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum InvalidTime {
    /// It does not have the form of one.
    Form,
    /// There is no such day, hour, minute or second.
    Value(String),
    /// It has more digits than a microsecond has.
    Precision,
    /// The clocks went forward over it.
    Skipped(String),
    /// The clocks went back, so that it was there twice.
    Twice(String),
}

impl fmt::Display for InvalidTime {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Form => formatter.write_str("a time has a date, a time of day and, if it is not local, an offset"),
            Self::Value(reason) => formatter.write_str(reason),
            Self::Precision => formatter.write_str("PostgreSQL's clock has microseconds, six digits after the point"),
            Self::Skipped(zone) => {
                write!(formatter, "there was no such time in {zone}, as the clocks went forward: add an offset")
            }
            Self::Twice(zone) => {
                write!(formatter, "this time was there twice in {zone}, as the clocks went back: add an offset")
            }
        }
    }
}

impl FromStr for TargetTime {
    type Err = InvalidTime;

    /// Reads a time; without an offset it is local.
    fn from_str(text: &str) -> Result<Self, InvalidTime> {
        read(text, &TimeZone::system())
    }
}

/// Reads `2026-11-22 14:32:07.413+01`, also with `T`, without fraction or seconds, with `+0100`, `+01:00`, `Z` or `UTC`.
fn read(text: &str, local: &TimeZone) -> Result<TargetTime, InvalidTime> {
    let (clock, offset) = split_offset(text.trim())?;
    let clock = read_clock(clock)?;
    let time = match offset {
        Some(offset) => offset.to_timestamp(clock).map_err(|error| InvalidTime::Value(error.to_string()))?,
        None => at_home(clock, local)?,
    };
    let zoned = time.to_zoned(local.clone());
    Ok(TargetTime { time, text: zoned.strftime("%Y-%m-%d %H:%M:%S.%6f%:z").to_string() })
}

/// The time in the local zone, if there was exactly one.
fn at_home(clock: DateTime, zone: &TimeZone) -> Result<Timestamp, InvalidTime> {
    let name = || zone.iana_name().unwrap_or("the local time zone").to_owned();
    let ambiguous = zone.to_ambiguous_timestamp(clock);
    match ambiguous.offset() {
        AmbiguousOffset::Gap { .. } => Err(InvalidTime::Skipped(name())),
        AmbiguousOffset::Fold { .. } => Err(InvalidTime::Twice(name())),
        AmbiguousOffset::Unambiguous { .. } => {
            ambiguous.compatible().map_err(|error| InvalidTime::Value(error.to_string()))
        }
    }
}

fn read_clock(text: &str) -> Result<DateTime, InvalidTime> {
    let (date, time) = text.split_once(['T', 't', ' ']).ok_or(InvalidTime::Form)?;
    let (time, fraction) = match time.trim_start().split_once('.') {
        Some((time, fraction)) => (time, Some(fraction)),
        None => (time.trim_start(), None),
    };
    let [year, month, day] = numbers(date, '-', [4, 2, 2]).ok_or(InvalidTime::Form)?;
    let [hour, minute, second] = match (numbers(time, ':', [2, 2, 2]), fraction) {
        (Some(time), _) => time,
        (None, None) => {
            let [hour, minute] = numbers(time, ':', [2, 2]).ok_or(InvalidTime::Form)?;
            [hour, minute, 0]
        }
        (None, Some(_)) => return Err(InvalidTime::Form),
    };
    let nanosecond = fraction.map_or(Ok(0), read_fraction)?;
    let small = |number: i16| i8::try_from(number).unwrap_or(i8::MAX);
    DateTime::new(year, small(month), small(day), small(hour), small(minute), small(second), nanosecond)
        .map_err(|error| InvalidTime::Value(error.to_string()))
}

/// Numbers of so many digits each.
fn numbers<const N: usize>(text: &str, separator: char, digits: [usize; N]) -> Option<[i16; N]> {
    let mut parts = text.split(separator);
    let mut found = [0; N];
    for (number, digits) in found.iter_mut().zip(digits) {
        let part = parts.next().filter(|part| part.len() == digits)?;
        *number = part.bytes().all(|byte| byte.is_ascii_digit()).then(|| part.parse().ok()).flatten()?;
    }
    parts.next().is_none().then_some(found)
}

/// Nanoseconds of the digits after the point.
fn read_fraction(digits: &str) -> Result<i32, InvalidTime> {
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(InvalidTime::Form);
    }
    if digits.len() > 6 {
        return Err(InvalidTime::Precision);
    }
    format!("{digits:0<9}").parse().map_err(|_| InvalidTime::Form)
}

/// Splits off the offset from UTC, if there is one.
fn split_offset(text: &str) -> Result<(&str, Option<Offset>), InvalidTime> {
    if let Some(clock) = ["UTC", "utc", "GMT", "Z", "z"].into_iter().find_map(|name| text.strip_suffix(name)) {
        return Ok((clock.trim_end(), Some(Offset::UTC)));
    }
    // A date has hyphens too, so that only what follows it is searched.
    let date_length = 10;
    let rest = text.get(date_length..).ok_or(InvalidTime::Form)?;
    let Some(place) = rest.find(['+', '-']) else { return Ok((text, None)) };
    let (clock, offset) = text.split_at(date_length + place);
    Ok((clock.trim_end(), Some(read_offset(offset)?)))
}

/// `+01`, `-0330`, `+05:30`
fn read_offset(text: &str) -> Result<Offset, InvalidTime> {
    let sign = if text.starts_with('-') { -1 } else { 1 };
    let digits = &text[1..];
    let (hours, minutes) = match digits.split_once(':') {
        Some(parts) => parts,
        None if digits.len() == 2 => (digits, "00"),
        None => digits.split_at_checked(2).ok_or(InvalidTime::Form)?,
    };
    let ([hours], [minutes @ ..60]) =
        (numbers(hours, ':', [2]).ok_or(InvalidTime::Form)?, numbers(minutes, ':', [2]).ok_or(InvalidTime::Form)?)
    else {
        return Err(InvalidTime::Form);
    };
    let seconds = (i32::from(hours) * 60 + i32::from(minutes)) * 60 * sign;
    // PostgreSQL takes offsets of up to 15:59:59 (`MAX_TZDISP_HOUR`, `src/include/datatype/timestamp.h`).
    if SignedDuration::from_secs(seconds.into()).abs() >= SignedDuration::from_hours(16) {
        return Err(InvalidTime::Value(format!("the offset {text} is greater than any")));
    }
    Offset::from_seconds(seconds).map_err(|error| InvalidTime::Value(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn berlin() -> TimeZone {
        TimeZone::get("Europe/Berlin").unwrap()
    }

    fn time(text: &str) -> String {
        read(text, &TimeZone::UTC).unwrap().text
    }

    #[test]
    fn every_usual_form_is_the_same_time() {
        for text in [
            "2026-11-22 14:32:07.413+00",
            "2026-11-22 14:32:07.413 UTC",
            "2026-11-22 14:32:07.413",
            "2026-11-22T14:32:07.413Z",
            "2026-11-22t14:32:07.413000z",
            "2026-11-22 15:32:07.413+01:00",
            "2026-11-22 15:32:07.413 +0100",
            "2026-11-22 11:02:07.413-03:30",
            " 2026-11-22 14:32:07.413000+00 ",
        ] {
            assert_eq!(time(text), "2026-11-22 14:32:07.413000+00:00", "{text}");
        }
        assert_eq!(time("2026-11-22 14:32"), "2026-11-22 14:32:00.000000+00:00");
    }

    #[test]
    fn a_time_without_an_offset_is_local() {
        let summer = read("2026-07-01 12:00:00", &berlin()).unwrap();
        assert_eq!(summer.text, "2026-07-01 12:00:00.000000+02:00");
        assert_eq!(summer.time, "2026-07-01T10:00:00Z".parse().unwrap());
        assert_eq!(read("2026-01-01 12:00:00", &berlin()).unwrap().text, "2026-01-01 12:00:00.000000+01:00");
    }

    #[test]
    fn a_time_that_was_not_there_is_refused() {
        let error = read("2026-03-29 02:30:00", &berlin()).unwrap_err();
        assert_eq!(error, InvalidTime::Skipped("Europe/Berlin".to_owned()));
        assert!(read("2026-03-29 02:30:00+01", &berlin()).is_ok());
        assert!(read("2026-03-29 03:00:00", &berlin()).is_ok());
    }

    #[test]
    fn a_time_that_was_there_twice_wants_an_offset() {
        let error = read("2026-10-25 02:30:00", &berlin()).unwrap_err();
        assert_eq!(error, InvalidTime::Twice("Europe/Berlin".to_owned()));
        let first = read("2026-10-25 02:30:00+02", &berlin()).unwrap();
        let second = read("2026-10-25 02:30:00+01", &berlin()).unwrap();
        assert_eq!(second.time.duration_since(first.time), SignedDuration::from_hours(1));
        assert_eq!(first.text, "2026-10-25 02:30:00.000000+02:00");
        assert_eq!(second.text, "2026-10-25 02:30:00.000000+01:00");
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in [
            "",
            "yesterday",
            "2026-11-22",
            "14:32:07",
            "2026-11-22 14",
            "2026-11-22 1:32:07",
            "2026-13-01 00:00:00",
            "2026-02-30 00:00:00",
            "2026-11-22 24:00:01",
            "2026-11-22 14:60:00",
            "2026-11-22 14:32:07.",
            "2026-11-22 14:32.5",
            "2026-11-22 14:32:07.1234567",
            "2026-11-22 14:32:07+",
            "2026-11-22 14:32:07+1",
            "2026-11-22 14:32:07+0",
            "2026-11-22 14:32:07+16",
            "2026-11-22 14:32:07+01:60",
            "2026-11-22 14:32:07+0:100",
            "2026-11-22 14:32:07 Europe/Berlin",
            "2026-11-22 14:32:07 CET",
            "2026-11-22  14:32:07+01+01",
            "20261122 143207",
            "2026-11-\u{fc}2 14:32:07",
        ] {
            assert!(read(text, &TimeZone::UTC).is_err(), "{text}");
        }
    }
}
