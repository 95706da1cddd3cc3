//! Configuration files.
//!
//! A file has sections in brackets and below them `key=value`, with blanks around either allowed. What follows the
//! first `=` is the value, whatever it contains. A line that begins with `#` is a comment. A key that comes again in
//! the same section gives one more value.

use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use crate::error::{Error, ErrorKind};
use crate::value::Written;

/// One `key=value`, and where it stands.
#[derive(Clone)]
pub(crate) struct Entry {
    pub(crate) section: String,
    pub(crate) key: String,
    pub(crate) value: Written,
    pub(crate) path: PathBuf,
    /// From 1.
    pub(crate) line: usize,
}

/// Reads a file. The text of a line is not repeated in an error, as it may be a secret.
pub(crate) fn parse(text: &str, path: &Path) -> Result<Vec<Entry>, Error> {
    let mut section = None;
    let mut entries = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        let place = Place { path, line: number + 1 };
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some(rest) = line.strip_prefix('[') {
            section = Some(parse_section(rest, place)?);
            continue;
        }
        let Some(section) = &section else {
            return Err(place.error("key/value found outside of section"));
        };
        let Some((key, value)) = line.split_once('=') else {
            return Err(place.error("missing '=' in key/value"));
        };
        let (key, value) = (key.trim(), value.trim());
        if key.is_empty() {
            return Err(place.error("key is zero-length"));
        }
        entries.push(Entry {
            section: section.clone(),
            key: key.to_owned(),
            value: Zeroizing::new(value.to_owned()),
            path: path.to_owned(),
            line: place.line,
        });
    }
    Ok(entries)
}

fn parse_section(rest: &str, place: Place<'_>) -> Result<String, Error> {
    match rest.strip_suffix(']') {
        None => Err(place.error("section should end with ]")),
        Some("") => Err(place.error("invalid empty section")),
        Some(name) => Ok(name.to_owned()),
    }
}

#[derive(Clone, Copy)]
struct Place<'a> {
    path: &'a Path,
    line: usize,
}

impl Place<'_> {
    fn error(self, what: &str) -> Error {
        Error::new(ErrorKind::Format, format!("{what} at line {} of '{}'", self.line, self.path.display()))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> Vec<(String, String, String, usize)> {
        let entries = parse(text, Path::new("/x.conf")).unwrap();
        entries.into_iter().map(|entry| (entry.section, entry.key, entry.value.to_string(), entry.line)).collect()
    }

    fn entry(section: &str, key: &str, value: &str, line: usize) -> (String, String, String, usize) {
        (section.to_owned(), key.to_owned(), value.to_owned(), line)
    }

    fn refused(text: &str) -> String {
        let error = parse(text, Path::new("/x.conf")).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::Format);
        error.to_string()
    }

    #[test]
    fn keys_belong_to_the_section_above() {
        assert_eq!(
            read("[global]\nrepo1-path=/a\n\n[demo:backup]\n start-fast = y \r\n"),
            [entry("global", "repo1-path", "/a", 2), entry("demo:backup", "start-fast", "y", 5)]
        );
    }

    #[test]
    fn the_first_equals_sign_ends_the_key() {
        assert_eq!(read("[a]\nk=x=y=z"), [entry("a", "k", "x=y=z", 2)]);
        assert_eq!(read("[a]\nk="), [entry("a", "k", "", 2)]);
    }

    #[test]
    fn a_comment_begins_a_line() {
        assert_eq!(read("# one\n[a]\n  # two\nk=x # three"), [entry("a", "k", "x # three", 4)]);
    }

    #[test]
    fn a_malformed_line_is_named_but_not_repeated() {
        assert_eq!(refused("k=v"), "key/value found outside of section at line 1 of '/x.conf'");
        assert_eq!(refused("[a]\nhunter2"), "missing '=' in key/value at line 2 of '/x.conf'");
        assert_eq!(refused("[a]\n\n=v"), "key is zero-length at line 3 of '/x.conf'");
        assert_eq!(refused("[a"), "section should end with ] at line 1 of '/x.conf'");
        assert_eq!(refused("[]"), "invalid empty section at line 1 of '/x.conf'");
    }

    proptest! {
        #[test]
        fn no_text_upsets_the_reader(text in "(?s).*") {
            let _entries = parse(&text, Path::new("/x.conf"));
        }

        #[test]
        fn what_was_written_is_read(key in "[a-z0-9-]{1,20}", value in "[a-zA-Z0-9/=#.:]{0,40}") {
            prop_assume!(!key.starts_with('#'));
            let text = format!("[section]\n{key} = {value}\n");
            prop_assert_eq!(read(&text), [entry("section", &key, &value, 2)]);
        }
    }
}
