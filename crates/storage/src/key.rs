//! The names of objects.

use std::fmt;

use pgark_system::durable::TEMPORARY_PREFIX;

/// The name of an object, relative to the root of its repository: `stanza/demo/backup/20261122-120531F/manifest`.
///
/// Segments divided by `/`, none of them empty, `.` or `..`; no control characters; at most [`Key::LENGTH_MAX`] bytes
/// in all and [`Key::SEGMENT_LENGTH_MAX`] in a segment, the limits of S3 and of file systems. So a key never leads out
/// of the root and is never ambiguous. Keys are ordered by their bytes, as object stores list them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(String);

/// A text that is no name of an object.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid object name '{}': {reason}", .name.escape_debug())]
pub struct KeyError {
    /// The text, cut off where it was too long.
    name: String,
    /// What is wrong with it.
    reason: &'static str,
}

impl Key {
    /// The longest key in bytes.
    pub const LENGTH_MAX: usize = 1024;
    /// The longest segment in bytes.
    pub const SEGMENT_LENGTH_MAX: usize = 255;

    /// Checks that `text` is a key.
    ///
    /// # Errors
    /// See [`Key`] for what a key is.
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        match flaw(text) {
            None => Ok(Self(text.to_owned())),
            Some(reason) => Err(KeyError { name: text.chars().take(Self::LENGTH_MAX).collect(), reason }),
        }
    }

    /// The key `rest`, of one or more segments, below this one.
    ///
    /// # Errors
    /// See [`Key`] for what a key is.
    pub fn join(&self, rest: &str) -> Result<Self, KeyError> {
        Self::parse(&format!("{self}/{rest}"))
    }

    /// The key as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The segments from first to last.
    pub fn segments(&self) -> impl DoubleEndedIterator<Item = &str> {
        self.0.split('/')
    }

    /// The last segment.
    pub fn name(&self) -> &str {
        self.0.rsplit_once('/').map_or(&self.0, |(_, name)| name)
    }

    /// The key without its last segment; `None` for a key of one segment, which lies in the root.
    pub fn parent(&self) -> Option<Self> {
        self.0.rsplit_once('/').map(|(parent, _)| Self(parent.to_owned()))
    }

    /// What follows `prefix/`, where this key lies below `prefix`. `a/bc` does not lie below `a/b`, nor does `a/b`.
    pub fn below(&self, prefix: &Self) -> Option<&str> {
        self.0.strip_prefix(prefix.as_str())?.strip_prefix('/')
    }

    /// Whether this key lies below `prefix`; everything lies below the root, which is `None`.
    pub fn is_below(&self, prefix: Option<&Self>) -> bool {
        prefix.is_none_or(|prefix| self.below(prefix).is_some())
    }
}

impl fmt::Display for Key {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// Why `text` is no key.
fn flaw(text: &str) -> Option<&'static str> {
    if text.len() > Key::LENGTH_MAX {
        return Some("longer than 1024 bytes");
    }
    if text.chars().any(char::is_control) {
        return Some("contains a control character");
    }
    text.split('/').find_map(segment_flaw)
}

fn segment_flaw(segment: &str) -> Option<&'static str> {
    match segment {
        "" => Some("an empty segment"),
        "." | ".." => Some("a relative segment"),
        _ if segment.len() > Key::SEGMENT_LENGTH_MAX => Some("a segment longer than 255 bytes"),
        // Drivers for file systems write under such names and leave them out of listings.
        _ if segment.starts_with(TEMPORARY_PREFIX) => Some("a segment named like a temporary file"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> Key {
        Key::parse(text).unwrap()
    }

    #[test]
    fn names_that_could_lead_astray_are_refused() {
        let long = "x".repeat(1025);
        let long_segment = format!("a/{}", "x".repeat(256));
        for text in [
            "",
            "/",
            "/a",
            "a/",
            "a//b",
            ".",
            "..",
            "a/../b",
            "a/./b",
            "a\0b",
            "a\nb",
            "a\u{85}b",
            ".pgark-tmp-1",
            &long,
            &long_segment,
        ] {
            assert!(Key::parse(text).is_err(), "{text:?} was accepted");
        }
    }

    #[test]
    fn unusual_but_harmless_names_are_accepted() {
        let segment = "x".repeat(255);
        let longest = [segment.as_str(); 4].join("/");
        assert_eq!(longest.len(), Key::LENGTH_MAX - 1);
        for text in ["a", "a/b", "...", "a b", "..a", "a..", "%2e%2e", "\u{e9}t\u{e9}", "a\\b", "-rf", "~", &longest] {
            assert_eq!(key(text).as_str(), text);
        }
    }

    #[test]
    fn a_message_shows_what_was_refused() {
        let error = Key::parse("a/\u{1b}[31m").unwrap_err();
        assert_eq!(error.to_string(), "invalid object name 'a/\\u{1b}[31m': contains a control character");
    }

    #[test]
    fn a_key_knows_its_place() {
        let pack = key("stanza/demo/pack/01H/3");
        assert_eq!(pack.name(), "3");
        assert_eq!(pack.parent(), Some(key("stanza/demo/pack/01H")));
        assert_eq!(key("pgark.repo").parent(), None);
        assert_eq!(key("pgark.repo").name(), "pgark.repo");
        assert_eq!(pack.below(&key("stanza/demo")), Some("pack/01H/3"));
        assert_eq!(pack.segments().collect::<Vec<_>>(), ["stanza", "demo", "pack", "01H", "3"]);
        assert_eq!(key("stanza").join("demo/gc").unwrap(), key("stanza/demo/gc"));
        assert!(key("stanza").join("../demo").is_err());
    }

    #[test]
    fn a_prefix_ends_at_a_segment() {
        assert!(!key("a/bc").is_below(Some(&key("a/b"))));
        assert!(!key("a/b").is_below(Some(&key("a/b"))));
        assert!(key("a/b/c").is_below(Some(&key("a/b"))));
        assert!(key("a").is_below(None));
    }
}
