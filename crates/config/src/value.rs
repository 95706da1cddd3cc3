//! Values, and how they are read from what a user has written.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use zeroize::Zeroizing;

use crate::command::quoted;
use crate::error::{Error, ErrorKind};
use crate::names::Address;
use crate::option::{Choice, Definition, Kind, Limits};
use crate::source::Source;

/// A text as it was written, which may be a secret and is wiped when it is dropped.
pub(crate) type Written = Zeroizing<String>;

/// A secret. It is not shown by mistake, and wiped from memory when it is dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// The secret itself.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("<redacted>")
    }
}

/// How sizes are written, for who did it otherwise.
const SIZES: &str = "write a size as 512KiB, 100MiB or 2GiB";
/// How durations are written, for who did it otherwise.
const DURATIONS: &str = "write a duration as 500ms, 90s or 5m";

/// The value of an option.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Value {
    Boolean(bool),
    Integer(i64),
    /// Bytes.
    Size(u64),
    Duration(Duration),
    Text(String),
    Secret(Secret),
    Path(PathBuf),
    List(Vec<String>),
    Map(Vec<(String, String)>),
}

/// Reads the value of an option. `written` has one element unless the option can be given several times.
pub(crate) fn parse(
    definition: &Definition,
    address: Address,
    written: &[Written],
    source: &Source,
) -> Result<Value, Error> {
    let parsed = match definition.kind {
        Kind::List => parse_list(address, written),
        Kind::Map => parse_map(address, written),
        _ => {
            let single = written.first().map_or("", |text| text.as_str());
            parse_single(definition, address, single, source)
        }
    };
    parsed.map_err(|error| source.trace(error))
}

fn parse_single(definition: &Definition, address: Address, text: &str, source: &Source) -> Result<Value, Error> {
    let not_valid = || invalid_value(format!("'{text}' is not valid for '{address}' option"));
    match definition.kind {
        Kind::Boolean => match text {
            "y" => Ok(Value::Boolean(true)),
            "n" => Ok(Value::Boolean(false)),
            _ => Err(invalid_value(format!("boolean option '{address}' must be 'y' or 'n'"))),
        },
        Kind::Integer { minimum, maximum } => {
            let value = text.parse().map_err(|_| not_valid())?;
            if !(minimum..=maximum).contains(&value) {
                return Err(out_of_range(address, text, &minimum, &maximum));
            }
            Ok(Value::Integer(value))
        }
        Kind::Size(limits) => parse_limited(address, text, limits, parse_size, SIZES).map(Value::Size),
        Kind::Duration(limits) => parse_limited(address, text, limits, parse_duration, DURATIONS).map(Value::Duration),
        Kind::Choice(choices) => parse_choice(address, text, choices, source).map(Value::Text),
        Kind::Path => parse_path(address, text).map(Value::Path),
        Kind::Secret => {
            require_text(address, text)?;
            Ok(Value::Secret(Secret(Zeroizing::new(text.to_owned()))))
        }
        Kind::Text | Kind::List | Kind::Map => {
            require_text(address, text)?;
            Ok(Value::Text(text.to_owned()))
        }
    }
}

fn parse_list(address: Address, written: &[Written]) -> Result<Value, Error> {
    written.iter().try_for_each(|text| require_text(address, text))?;
    Ok(Value::List(written.iter().map(|text| text.to_string()).collect()))
}

/// Reads pairs of `key=value`. Of several with the same key the last one holds.
fn parse_map(address: Address, written: &[Written]) -> Result<Value, Error> {
    let mut pairs: Vec<(String, String)> = Vec::new();
    for text in written {
        let Some((key, value)) = text.split_once('=') else {
            let message = format!("key/value '{}' not valid for '{address}' option", text.as_str());
            return Err(Error::new(ErrorKind::OptionInvalid, message));
        };
        pairs.retain(|(known, _)| known != key);
        pairs.push((key.to_owned(), value.to_owned()));
    }
    Ok(Value::Map(pairs))
}

fn parse_limited<T: PartialOrd>(
    address: Address,
    text: &str,
    limits: Limits,
    read: fn(&str) -> Option<T>,
    examples: &str,
) -> Result<T, Error> {
    let value = read(text)
        .ok_or_else(|| invalid_value(format!("'{text}' is not valid for '{address}' option")).hint(examples))?;
    let too_small = read(limits.minimum).is_some_and(|minimum| value < minimum);
    let too_great = read(limits.maximum).is_some_and(|maximum| value > maximum);
    if too_small || too_great {
        return Err(out_of_range(address, text, &limits.minimum, &limits.maximum));
    }
    Ok(value)
}

fn out_of_range(address: Address, text: &str, minimum: &dyn fmt::Display, maximum: &dyn fmt::Display) -> Error {
    invalid_value(format!("'{text}' is out of range for '{address}' option"))
        .hint(format!("allowed range is {minimum} to {maximum} inclusive"))
}

fn parse_choice(address: Address, text: &str, choices: &[Choice], source: &Source) -> Result<String, Error> {
    let values = |available_only: bool| {
        quoted(choices.iter().filter(|choice| choice.available || !available_only).map(|choice| choice.value))
    };
    match choices.iter().find(|choice| choice.value == text) {
        Some(choice) if choice.available => Ok(text.to_owned()),
        Some(_) => {
            let dashes = if *source == Source::CommandLine { "--" } else { "" };
            let message = format!("value '{text}' of option '{dashes}{address}' is not available yet");
            Err(Error::new(ErrorKind::FeatureNotSupported, message)
                .hint(format!("available values are {}", values(true))))
        }
        None => Err(invalid_value(format!("'{text}' is not allowed for '{address}' option"))
            .hint(format!("allowed values are {}", values(false)))),
    }
}

fn parse_path(address: Address, text: &str) -> Result<PathBuf, Error> {
    require_text(address, text)?;
    if !text.starts_with('/') {
        return Err(invalid_value(format!("'{text}' must begin with / for '{address}' option")));
    }
    if text.contains("//") {
        return Err(invalid_value(format!("'{text}' cannot contain // for '{address}' option")));
    }
    let without_end = text.strip_suffix('/').filter(|rest| !rest.is_empty());
    Ok(PathBuf::from(without_end.unwrap_or(text)))
}

fn require_text(address: Address, text: &str) -> Result<(), Error> {
    if text.is_empty() {
        return Err(invalid_value(format!("'{text}' must be >= 1 character for '{address}' option")));
    }
    Ok(())
}

fn invalid_value(message: String) -> Error {
    Error::new(ErrorKind::OptionInvalidValue, message)
}

/// Reads a size in bytes: a number, then nothing, `B`, or `K`, `M`, `G`, `T` or `P` with or without `B` or `iB`, all of
/// them powers of 1024 and in either case.
pub(crate) fn parse_size(text: &str) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let unit = unit.to_ascii_lowercase();
    let letter = match unit.strip_suffix("ib") {
        // A bare "ib" is no unit.
        Some("") => return None,
        Some(letter) => letter,
        None => unit.strip_suffix('b').unwrap_or(&unit),
    };
    let factor = 1024_u64.pow(match letter {
        "" => 0,
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        "p" => 5,
        _ => return None,
    });
    number.parse::<u64>().ok()?.checked_mul(factor)
}

/// Reads a duration: a number, with decimals or without, then `ms`, `s`, `m`, `h`, `d`, `w` in either case. Without a
/// unit it is seconds. Less than a millisecond is cut off.
pub(crate) fn parse_duration(text: &str) -> Option<Duration> {
    let digits = text.bytes().take_while(|byte| byte.is_ascii_digit() || *byte == b'.').count();
    let (number, unit) = text.split_at(digits);
    let milliseconds: u64 = match unit.to_ascii_lowercase().as_str() {
        "ms" => 1,
        "" | "s" => 1000,
        "m" => 60 * 1000,
        "h" => 60 * 60 * 1000,
        "d" => 24 * 60 * 60 * 1000,
        "w" => 7 * 24 * 60 * 60 * 1000,
        _ => return None,
    };
    let (whole, decimals) = number.split_once('.').unwrap_or((number, "0"));
    let whole = if whole.is_empty() { "0" } else { whole };
    let decimal_places = u32::try_from(decimals.len()).ok()?;
    let fraction = decimals.parse::<u64>().ok()?.checked_mul(milliseconds)? / 10_u64.checked_pow(decimal_places)?;
    let total = whole.parse::<u64>().ok()?.checked_mul(milliseconds)?.checked_add(fraction)?;
    // A bare point or nothing at all is no number.
    number.bytes().any(|byte| byte.is_ascii_digit()).then(|| Duration::from_millis(total))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::option;

    fn read(definition: &'static Definition, text: &str) -> Result<Value, Error> {
        let address = Address { name: definition.name, index: definition.any_index() };
        parse(definition, address, &[Zeroizing::new(text.to_owned())], &Source::CommandLine)
    }

    fn refused(definition: &'static Definition, text: &str) -> String {
        let error = read(definition, text).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::OptionInvalidValue);
        [error.to_string()].iter().chain(error.hints()).cloned().collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn sizes_are_powers_of_1024() {
        for (text, bytes) in [
            ("0", 0),
            ("17", 17),
            ("17b", 17),
            ("1k", 1024),
            ("1KB", 1024),
            ("1KiB", 1024),
            ("64mib", 64 << 20),
            ("5GiB", 5 << 30),
            ("2tb", 2 << 40),
            ("4PiB", 4 << 50),
        ] {
            assert_eq!(parse_size(text), Some(bytes), "{text}");
        }
        for text in
            ["", "b", "ib", "1ib", "1.5GiB", "-1", "1 k", "1x", "1kk", "16EiB", "18446744073709551616", "99999999PiB"]
        {
            assert_eq!(parse_size(text), None, "{text}");
        }
    }

    #[test]
    fn durations_are_seconds_unless_they_say_otherwise() {
        for (text, milliseconds) in [
            ("60", 60_000),
            ("100ms", 100),
            (".1", 100),
            ("0.25s", 250),
            ("1.5h", 5_400_000),
            ("90S", 90_000),
            ("2m", 120_000),
            ("1h", 3_600_000),
            ("7d", 604_800_000),
            ("1w", 604_800_000),
            ("0.9ms", 0),
        ] {
            assert_eq!(parse_duration(text), Some(Duration::from_millis(milliseconds)), "{text}");
        }
        for text in
            ["", ".", "s", "1x", "1 s", "-1", "1..5", "1.2.3", "1.", "99999999999999999999", "9999999999999999999w"]
        {
            assert_eq!(parse_duration(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_upsets_the_readers(text in ".*") {
            let _size = parse_size(&text);
            let _duration = parse_duration(&text);
            for definition in option::all() {
                let _value = read(definition, &text);
            }
        }

        #[test]
        fn whole_numbers_are_read_back(number in 0_u64..1 << 40) {
            prop_assert_eq!(parse_size(&number.to_string()), Some(number));
            prop_assert_eq!(parse_duration(&format!("{number}ms")), Some(Duration::from_millis(number)));
        }
    }

    #[test]
    fn a_value_outside_the_range_is_told_the_range() {
        assert_eq!(
            refused(&option::PROCESS_MAX, "1000"),
            "'1000' is out of range for 'process-max' option\nallowed range is 1 to 999 inclusive"
        );
        assert_eq!(
            refused(&option::ARCHIVE_TIMEOUT, "50ms"),
            "'50ms' is out of range for 'archive-timeout' option\nallowed range is 100ms to 1d inclusive"
        );
        assert_eq!(refused(&option::PROCESS_MAX, "many"), "'many' is not valid for 'process-max' option");
        assert_eq!(
            refused(&option::DB_TIMEOUT, "soon"),
            "'soon' is not valid for 'db-timeout' option\nwrite a duration as 500ms, 90s or 5m"
        );
        assert_eq!(
            refused(&option::IO_LIMIT, "10MiB/s"),
            "'10MiB/s' is not valid for 'io-limit' option\nwrite a size as 512KiB, 100MiB or 2GiB"
        );
    }

    #[test]
    fn a_value_that_is_no_choice_is_told_the_choices() {
        assert_eq!(
            refused(&option::BACKUP_TYPE, "xyz"),
            "'xyz' is not allowed for 'type' option\nallowed values are 'full', 'diff', 'incr'"
        );
    }

    #[test]
    fn a_value_of_a_later_version_is_refused_as_such() {
        let error = read(&option::REPO_TYPE, "azure").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::FeatureNotSupported);
        assert_eq!(error.to_string(), "value 'azure' of option '--repo1-type' is not available yet");
        assert_eq!(error.hints(), ["available values are 'posix', 's3'"]);
    }

    #[test]
    fn a_path_is_absolute_and_has_no_slash_at_the_end() {
        assert_eq!(read(&option::LOCK_PATH, "/tmp/x/"), Ok(Value::Path("/tmp/x".into())));
        assert_eq!(read(&option::LOCK_PATH, "/"), Ok(Value::Path("/".into())));
        assert_eq!(refused(&option::LOCK_PATH, "tmp"), "'tmp' must begin with / for 'lock-path' option");
        assert_eq!(refused(&option::LOCK_PATH, "/a//b"), "'/a//b' cannot contain // for 'lock-path' option");
        assert_eq!(refused(&option::LOCK_PATH, ""), "'' must be >= 1 character for 'lock-path' option");
    }

    #[test]
    fn a_boolean_is_y_or_n() {
        assert_eq!(read(&option::START_FAST, "y"), Ok(Value::Boolean(true)));
        assert_eq!(refused(&option::START_FAST, "true"), "boolean option 'start-fast' must be 'y' or 'n'");
    }

    #[test]
    fn the_last_of_several_pairs_with_one_key_holds() {
        let written: Vec<Written> =
            ["a=1", "b=x=y", "a=2"].into_iter().map(|text| Zeroizing::new(text.to_owned())).collect();
        let value = parse(&option::ANNOTATION, (&option::ANNOTATION).into(), &written, &Source::CommandLine);
        let pairs = vec![("b".to_owned(), "x=y".to_owned()), ("a".to_owned(), "2".to_owned())];
        assert_eq!(value, Ok(Value::Map(pairs)));
    }

    #[test]
    fn a_secret_does_not_show() {
        let value = read(&option::REPO_CIPHER_PASS, "hunter2").unwrap();
        assert_eq!(format!("{value:?}"), "Secret(<redacted>)");
    }
}
