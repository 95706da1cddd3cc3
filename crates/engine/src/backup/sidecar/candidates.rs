//! Finding what a file was called before: a file that was moved, or fetched again to another place, is pointed at.

use std::cmp::Reverse;

use pgark_repository::manifest::{Content, SidecarEntry, SidecarKind};
use pgark_system::termination;

use super::super::tables::path_key;
use crate::error::Result;

/// The smallest file that is looked for: a smaller one is stored again at little cost.
const LEAST_SIZE: u64 = 64 << 10;

/// Files of the reference that are remembered. It bounds memory; what was called like others is stored again.
const MOST_CANDIDATES: usize = 1 << 16;

/// A file of the reference.
#[derive(Clone, Debug)]
pub(super) struct Candidate {
    key: Key,
    /// Where its content is.
    pub(super) content: Content,
}

/// What two files have in common that are likely to be one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Key {
    /// Bytes.
    pub(super) size: u64,
    /// When it was last changed: seconds and nanoseconds.
    pub(super) modified: (i64, u32),
    /// What stands for the last part of its path.
    name: u64,
}

impl Key {
    pub(super) fn new(path: &[u8], size: u64, modified: (i64, u32)) -> Self {
        let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
        Self { size, modified, name: path_key(name) }
    }
}

/// The larger files of the reference, ascending by size.
#[derive(Debug, Default)]
pub(super) struct Candidates(Vec<Candidate>);

impl Candidates {
    /// Those among these entries.
    ///
    /// # Errors
    /// Where the process is to end. Entries that can't be read are passed over.
    pub(super) fn of(entries: impl Iterator<Item = pgark_repository::Result<Vec<SidecarEntry>>>) -> Result<Self> {
        let mut found = Vec::new();
        for entry in entries.flat_map(Result::unwrap_or_default) {
            termination::check()?;
            let SidecarKind::File { size, content } = entry.kind else { continue };
            if size >= LEAST_SIZE && found.len() < MOST_CANDIDATES {
                let key = Key::new(&entry.path, size, (entry.attributes.modified, entry.stamp.modified_nanoseconds));
                found.push(Candidate { key, content });
            }
        }
        Ok(Self::from(found))
    }

    /// The file that one with this key most likely was: of the same size; if there are several, of the same name, then of
    /// the same time.
    pub(super) fn choose(&self, wanted: &Key) -> Option<&Candidate> {
        let first = self.0.partition_point(|candidate| candidate.key.size < wanted.size);
        let same_size = self.0[first..].iter().take_while(|candidate| candidate.key.size == wanted.size);
        let likeness = |key: &Key| (key.name == wanted.name, key.modified == wanted.modified);
        // The first of those that are equally like it.
        same_size.min_by_key(|candidate| Reverse(likeness(&candidate.key)))
    }
}

impl From<Vec<Candidate>> for Candidates {
    fn from(mut candidates: Vec<Candidate>) -> Self {
        candidates.sort_by_key(|candidate| candidate.key.size);
        Self(candidates)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(path: &str, size: u64, modified: i64, number: u8) -> Candidate {
        Candidate { key: Key::new(path.as_bytes(), size, (modified, 7)), content: content(number) }
    }

    /// A content that is told from others by a number.
    fn content(number: u8) -> Content {
        use pgark_repository::PackId;
        use pgark_repository::manifest::MapLocation;
        let pack = PackId { session: ulid::Ulid::from_bytes([1; 16]), number: number.into() };
        Content::At(MapLocation { pack, block: 0, offset: 0, length: 1 })
    }

    #[test]
    fn a_file_of_the_same_size_is_found_and_the_likest_of_several() {
        let candidates = Candidates::from(vec![
            candidate("hub/a/blobs/123", 200_000, 10, 1),
            candidate("hub/b/blobs/456", 200_000, 20, 2),
            candidate("hub/c/blobs/456", 200_000, 30, 3),
            candidate("hub/c/blobs/456", 100_000, 30, 4),
        ]);
        let choose = |path: &str, size, modified| {
            let key = Key::new(path.as_bytes(), size, (modified, 7));
            candidates.choose(&key).map(|candidate| candidate.content.clone())
        };
        assert_eq!(choose("x/123", 200_000, 10), Some(content(1)), "both are the same");
        assert_eq!(choose("x/456", 200_000, 30), Some(content(3)), "both are the same, of the second of a name");
        assert_eq!(choose("x/456", 200_000, 10), Some(content(2)), "the name says more than the time");
        assert_eq!(choose("x/789", 200_000, 20), Some(content(2)), "the time says something");
        assert_eq!(choose("x/789", 200_000, 99), Some(content(1)), "the size alone may do");
        assert_eq!(choose("x/456", 100_000, 99), Some(content(4)));
        assert_eq!(choose("x/456", 100_001, 30), None, "another size is another file");
        assert_eq!(Candidates::default().choose(&Key::new(b"x", 0, (0, 0))).map(|_| ()), None);
    }
}
