//! How far work is, in words.

use pgark_engine::progress::{Sample, Unit};
use pgark_engine::size::human_size;

/// How far work is: `1.2GB of 4.8GB (25.0%), 310MB/s, 12s left`; with less where less is known. `rate` is how much is done
/// in a second.
pub(super) fn how_far(unit: Unit, sample: &Sample, rate: Option<u64>) -> String {
    let Sample { total, done, note } = sample;
    // Steps are too unlike each other to say how fast they go.
    let rate = rate.filter(|rate| unit == Unit::Bytes && *rate > 0);
    let left = total.zip(rate).map(|(total, rate)| total.saturating_sub(*done).div_ceil(rate)).filter(|left| *left > 0);
    let parts = [
        amount(unit, *total, *done),
        rate.map(|rate| format!("{}/s", human_size(rate))),
        left.map(|seconds| format!("{} left", duration(seconds))),
        Some(note.to_string()).filter(|note| !note.is_empty()),
    ];
    let parts: Vec<_> = parts.into_iter().flatten().collect();
    if parts.is_empty() { "nothing is done yet".to_owned() } else { parts.join(", ") }
}

fn amount(unit: Unit, total: Option<u64>, done: u64) -> Option<String> {
    let in_words = |count: u64| match unit {
        Unit::Bytes => human_size(count),
        Unit::Steps => count.to_string(),
    };
    let steps = if unit == Unit::Steps { " steps" } else { "" };
    match total {
        Some(total) => Some(format!("{} of {}{steps} ({})", in_words(done), in_words(total), percentage(total, done))),
        None if done > 0 => Some(format!("{}{steps}", in_words(done))),
        None => None,
    }
}

/// How much is done, in tenths of a per cent: 100 % only where all is.
fn percentage(total: u64, done: u64) -> String {
    let tenths = u128::from(done.min(total)) * 1000 / u128::from(total.max(1));
    format!("{}.{}%", tenths / 10, tenths % 10)
}

/// A duration in its two largest units.
fn duration(seconds: u64) -> String {
    const UNITS: [(u64, &str); 3] = [(86_400, "d"), (3600, "h"), (60, "m")];
    for ((length, name), (next_length, next_name)) in UNITS.into_iter().zip([(3600, "h"), (60, "m"), (1, "s")]) {
        if seconds >= length {
            return format!("{}{name} {}{next_name}", seconds / length, seconds % length / next_length);
        }
    }
    format!("{seconds}s")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(total: impl Into<Option<u64>>, done: u64, note: &'static str) -> Sample {
        Sample { total: total.into(), done, note: note.into() }
    }

    #[test]
    fn all_that_is_known_is_told() {
        let bytes = |sample: Sample, rate: Option<u64>| how_far(Unit::Bytes, &sample, rate);
        let (gigabyte, megabyte) = (1 << 30, 1 << 20);
        assert_eq!(
            bytes(sample(8 * gigabyte, 2 * gigabyte, ""), Some(310 * megabyte)),
            "2GB of 8GB (25.0%), 310MB/s, 20s left"
        );
        assert_eq!(bytes(sample(None, 5 * megabyte, ""), Some(megabyte)), "5MB, 1MB/s");
        assert_eq!(bytes(sample(None, 0, ""), None), "nothing is done yet");
        assert_eq!(bytes(sample(None, 0, "waiting for the checkpoint"), Some(0)), "waiting for the checkpoint");
        assert_eq!(
            bytes(sample(gigabyte, gigabyte, "waiting for WAL"), Some(0)),
            "1GB of 1GB (100.0%), waiting for WAL"
        );
        // What stands still takes no time that could be told.
        assert_eq!(bytes(sample(gigabyte, 0, ""), Some(0)), "0B of 1GB (0.0%)");
        assert_eq!(how_far(Unit::Steps, &sample(12, 3, ""), Some(7)), "3 of 12 steps (25.0%)");
    }

    #[test]
    fn no_numbers_are_too_large_or_too_small() {
        assert_eq!(percentage(0, 0), "0.0%");
        assert_eq!(percentage(u64::MAX, u64::MAX - 1), "99.9%");
        assert_eq!(percentage(u64::MAX, u64::MAX), "100.0%");
        let text = how_far(Unit::Bytes, &sample(u64::MAX, 1, ""), Some(1));
        assert!(text.ends_with("(0.0%), 1B/s, 213503982334601d 7h left"), "{text}");
        assert_eq!(how_far(Unit::Bytes, &sample(0, 0, ""), Some(u64::MAX)), "0B of 0B (0.0%), 17179869184GB/s");
    }

    #[test]
    fn durations_have_two_units_at_most() {
        for (seconds, text) in
            [(1, "1s"), (59, "59s"), (60, "1m 0s"), (3599, "59m 59s"), (3600, "1h 0m"), (90_000, "1d 1h")]
        {
            assert_eq!(duration(seconds), text);
        }
    }
}
