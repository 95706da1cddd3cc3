//! The entries of sidecars make trees: what is restored lies in directories of its own sidecar.

use std::cmp::Ordering;

use pgark_repository::manifest::{ManifestDocument, SidecarEntry, SidecarKind};

use super::super::contents::compare;
use crate::error::{Error, ErrorKind, Result};

/// Makes sure that entries come as a walk through sorted directories finds them, each in a directory that came before.
#[derive(Debug, Default)]
pub(crate) struct Tree {
    /// The directories on the way to the entry before, outermost first, each with the path of the last entry in it.
    above: Vec<(Vec<u8>, Vec<u8>)>,
    /// The path of the last sidecar's directory.
    last: Vec<u8>,
}

impl Tree {
    /// Goes through all entries of a backup.
    ///
    /// # Errors
    /// [`ErrorKind::Format`] where they are not those of its sidecars; those of `entries`.
    pub(crate) fn check(
        document: &ManifestDocument,
        entries: impl Iterator<Item = pgark_repository::Result<Vec<SidecarEntry>>>,
    ) -> Result<()> {
        let unsound = |what: String| {
            let message = format!("the manifest of backup set {} makes no sense: {what}", document.label);
            Error::new(ErrorKind::Format, message).hint("use another backup set or repository")
        };
        let mut tree = Self::default();
        for block in entries {
            for entry in block? {
                tree.next(document, &entry).map_err(unsound)?;
            }
        }
        Ok(())
    }

    /// Takes the next entry.
    ///
    /// # Errors
    /// Why it can't be the next one.
    pub(crate) fn next(&mut self, document: &ManifestDocument, entry: &SidecarEntry) -> Result<(), String> {
        let path = entry.path.as_slice();
        let text = || String::from_utf8_lossy(path);
        let parent = path.iter().rposition(|byte| *byte == b'/').map(|slash| &path[..slash]);
        let last = match parent {
            None => {
                let is_known = document.sidecars.iter().any(|sidecar| sidecar.name.as_bytes() == path);
                if !is_known || entry.kind != SidecarKind::Directory {
                    return Err(format!("'{}' is no directory of a sidecar", text()));
                }
                self.above.clear();
                &mut self.last
            }
            Some(parent) => {
                let depth = self.above.iter().position(|(above, _)| above == parent).map_or(0, |depth| depth + 1);
                self.above.truncate(depth);
                match self.above.last_mut() {
                    Some((_, last)) => last,
                    None => return Err(format!("'{}' lies in no directory of its sidecar", text())),
                }
            }
        };
        if compare(last, path) != Ordering::Less {
            return Err(format!("'{}' comes twice, or too late", text()));
        }
        *last = path.to_vec();
        match &entry.kind {
            SidecarKind::Directory => self.above.push((path.to_vec(), Vec::new())),
            SidecarKind::SameAs { path: first } => {
                let is_before = compare(first, path) == Ordering::Less;
                if !is_before || SidecarEntry::sidecar_of(first) != SidecarEntry::sidecar_of(path) {
                    return Err(format!("'{}' is said to be what does not come before it", text()));
                }
            }
            SidecarKind::File { .. } | SidecarKind::Link { .. } => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use pgark_repository::manifest::{Attributes, Content, Sidecar, Stamp};

    use super::*;

    /// One letter says what an entry is: `f` a file, `d` a directory, `l` a link, `s` another name of the path behind `=`.
    fn entry(text: &str) -> SidecarEntry {
        let (kind, path) = text.split_at(1);
        let (path, first) = path.split_once('=').unwrap_or((path, ""));
        let kind = match kind {
            "f" => SidecarKind::File { size: 0, content: Content::None },
            "d" => SidecarKind::Directory,
            "l" => SidecarKind::Link { target: b"/anywhere".to_vec() },
            _ => SidecarKind::SameAs { path: first.into() },
        };
        SidecarEntry { path: path.into(), attributes: Attributes::default(), stamp: Stamp::default(), kind }
    }

    fn check(texts: &[&str]) -> Result<(), String> {
        let mut document = crate::testing::document();
        let sidecar = |name: &str| Sidecar { name: name.to_owned(), path: "/x".to_owned(), files: 0, size: 0 };
        document.sidecars = ["a", "b"].map(sidecar).into();
        let mut tree = Tree::default();
        texts.iter().try_for_each(|text| tree.next(&document, &entry(text)))
    }

    #[test]
    fn what_a_walk_finds_is_a_tree() {
        assert_eq!(
            check(&["da", "da/d", "da/d/e", "fa/d/e/f", "fa/d.x", "la/l", "sa/s=a/d/e/f", "db", "fb/x"]),
            Ok(())
        );
        assert_eq!(check(&[]), Ok(()));
        assert_eq!(check(&["db"]), Ok(()));
    }

    #[test]
    fn what_is_no_tree_is_refused() {
        for (texts, message) in [
            (&["dc"][..], "'c' is no directory of a sidecar"),
            (&["fa"], "'a' is no directory of a sidecar"),
            (&["la"], "'a' is no directory of a sidecar"),
            (&["fa/x"], "'a/x' lies in no directory"),
            (&["da", "fa/d", "fa/d/x"], "'a/d/x' lies in no directory"),
            (&["da", "la/d", "fa/d/x"], "'a/d/x' lies in no directory"),
            (&["da", "fb/x"], "'b/x' lies in no directory"),
            (&["da", "fa/x", "fa/x"], "'a/x' comes twice"),
            (&["da", "fa/y", "fa/x"], "'a/x' comes twice, or too late"),
            (&["db", "da"], "'a' comes twice, or too late"),
            (&["da", "sa/s=a/t", "fa/t"], "'a/s' is said to be what does not come before it"),
            (&["da", "sa/s=a/s"], "'a/s' is said to be what does not come before it"),
            (&["da", "fa/x", "db", "sb/s=a/x"], "'b/s' is said to be what does not come before it"),
        ] {
            let error = check(texts).unwrap_err();
            assert!(error.contains(message), "{texts:?}: {error}");
        }
    }
}
