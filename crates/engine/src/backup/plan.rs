//! Deciding what is read of a file: pure functions of what the reference has and what the WAL says.

use std::fmt;
use std::ops::Range;

use pgark_postgres::relation::RelationFile;
use pgark_postgres::wal::summary::BlockSummary;
use pgark_repository::PAGE_SIZE;
use pgark_repository::manifest::PageRange;
use pgark_repository::map::page_count;

use super::pages::PageSet;

/// What is to be done with a file that the reference has too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FilePlan {
    /// The pages to be read, and compared with those of the reference.
    pub(super) read: PageSet,
    /// Those of them that are stored even if they are equal.
    pub(super) rewrite: PageSet,
    /// The pages that may have changed by what the WAL says, if it says so, and more than these are read.
    pub(super) expected: Option<PageSet>,
}

impl fmt::Display for FilePlan {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "read {}", self.read)?;
        if !self.rewrite.is_empty() {
            write!(formatter, "; store anew {}", self.rewrite)?;
        }
        if let Some(expected) = &self.expected {
            write!(formatter, "; changed by the WAL {expected}")?;
        }
        Ok(())
    }
}

/// A file as it is now.
#[derive(Clone, Copy, Debug)]
pub(super) struct FoundFile {
    /// Its size in bytes.
    pub(super) size: u64,
    /// If it is a file of a relation: which, and the number of its first block there.
    pub(super) relation: Option<(RelationFile, u32)>,
}

impl FoundFile {
    /// How many pages it has. Files too large for page numbers of 32 bits are not planned for.
    pub(super) fn pages(&self) -> u32 {
        page_count(self.size).unwrap_or(u32::MAX)
    }
}

/// What the reference says of a file.
#[derive(Clone, Copy, Debug)]
pub(super) struct OldFile<'reference> {
    /// Its size in bytes.
    pub(super) size: u64,
    /// Its pages that were damaged.
    pub(super) damaged: &'reference [PageRange],
}

/// The pages of a file that may differ from those of the reference, by what the WAL in between says; `None` where it does
/// not say: of what is no relation, of forks whose changes are not all logged, and of databases that are new.
///
/// Pages that were damaged are among them: they may have been repaired.
pub(super) fn expected(found: &FoundFile, old: OldFile<'_>, changes: &BlockSummary) -> Option<PageSet> {
    let (relation, first_block) = found.relation?;
    let locator = relation.fork.relation;
    if !relation.fork.fork.is_fully_logged() || changes.is_database_replaced(locator.tablespace, locator.database) {
        return None;
    }
    let pages = found.pages();
    // A last page that the reference has in part only was being written.
    let old_pages = u32::try_from(old.size / PAGE_SIZE as u64).unwrap_or(u32::MAX);
    let damaged = old.damaged.iter().map(|range| range.first..range.first.saturating_add(range.count).min(pages));
    let mut ranges: Vec<Range<u32>> = damaged.collect();
    ranges.push(old_pages.min(pages)..pages);
    if let Some(changed) = changes.get(relation.fork) {
        let in_file =
            |block: u64| u32::try_from(block.saturating_sub(first_block.into())).unwrap_or(u32::MAX).min(pages);
        ranges.extend(
            changed.blocks().runs().map(|run| in_file(run.first.into())..in_file(u64::from(run.first) + run.length)),
        );
        ranges.extend(changed.limit().map(|limit| in_file(limit.into())..pages));
    }
    ranges.sort_unstable_by_key(|range| range.start);
    Some(ranges.into_iter().collect())
}

/// The plan for a file that the reference has too, before it is known where its pages lie.
pub(super) fn plan(found: &FoundFile, expected: Option<PageSet>, reads_all: bool) -> FilePlan {
    let rewrite = PageSet::default();
    match expected {
        Some(expected) if reads_all => {
            FilePlan { read: PageSet::all(found.pages()), rewrite, expected: Some(expected) }
        }
        Some(expected) => FilePlan { read: expected, rewrite, expected: None },
        None => FilePlan { read: PageSet::all(found.pages()), rewrite, expected: None },
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use pgark_postgres::wal::relation::RelationFork;
    use proptest::prelude::*;

    use super::*;

    const PAGE: u64 = PAGE_SIZE as u64;

    fn found(path: &str, segment_pages: u32, size: u64) -> FoundFile {
        let relation =
            RelationFile::parse(Path::new(path)).map(|file| (file, file.first_block(segment_pages).unwrap()));
        FoundFile { size, relation }
    }

    fn fork(path: &str) -> RelationFork {
        RelationFile::parse(Path::new(path)).unwrap().fork
    }

    fn old(size: u64) -> OldFile<'static> {
        OldFile { size, damaged: &[] }
    }

    fn shown(found: &FoundFile, old: OldFile<'_>, changes: &BlockSummary) -> String {
        plan(found, expected(found, old, changes), false).to_string()
    }

    #[test]
    fn pages_are_read_that_the_wal_names_and_those_that_are_new() {
        let mut changes = BlockSummary::default();
        for block in [3, 4, 9, 12, 30] {
            changes.mark(fork("base/5/16384"), block);
        }
        let show =
            |path: &str, now: u64, before: u64| shown(&found(path, 10, now * PAGE), old(before * PAGE), &changes);
        assert_eq!(show("base/5/16384", 10, 10), "read 3-4, 9");
        assert_eq!(show("base/5/16384", 10, 8), "read 3-4, 8-9");
        assert_eq!(show("base/5/16384", 4, 10), "read 3");
        assert_eq!(show("base/5/16384.1", 5, 5), "read 2");
        assert_eq!(show("base/5/16384.2", 5, 5), "read none");
        assert_eq!(show("base/5/16385", 5, 5), "read none");
        assert_eq!(show("base/5/16385", 5, 0), "read 0-4");
        let torn = shown(&found("base/5/16385", 10, 5 * PAGE), old(4 * PAGE + 100), &changes);
        assert_eq!(torn, "read 4");
        changes.lower_limit(fork("base/5/16384"), 13);
        let show =
            |path: &str, now: u64, before: u64| shown(&found(path, 10, now * PAGE), old(before * PAGE), &changes);
        assert_eq!(show("base/5/16384", 10, 10), "read 3-4, 9");
        assert_eq!(show("base/5/16384.1", 10, 10), "read 2-9");
        assert_eq!(show("base/5/16384.2", 10, 10), "read 0-9");
    }

    #[test]
    fn pages_that_were_damaged_are_read_again() {
        let damaged = [PageRange { first: 2, count: 2 }, PageRange { first: 7, count: 9 }];
        let old = OldFile { size: 9 * PAGE, damaged: &damaged };
        assert_eq!(shown(&found("base/5/1", 10, 9 * PAGE), old, &BlockSummary::default()), "read 2-3, 7-8");
    }

    #[test]
    fn what_the_wal_does_not_tell_of_is_read_whole() {
        let mut changes = BlockSummary::default();
        for path in ["base/5/16384_fsm", "base/5/16384_vm", "base/5/pg_filenode.map", "pg_xact/0000"] {
            assert_eq!(shown(&found(path, 10, 3 * PAGE), old(3 * PAGE), &changes), "read 0-2", "{path}");
        }
        assert_eq!(shown(&found("base/5/16384_init", 10, PAGE), old(PAGE), &changes), "read none");
        changes.lower_limit(
            RelationFork {
                relation: pgark_postgres::wal::relation::RelationLocator::whole_database(1663, 5),
                fork: fork("base/5/1").fork,
            },
            0,
        );
        assert_eq!(shown(&found("base/5/16384", 10, 3 * PAGE), old(3 * PAGE), &changes), "read 0-2");
        assert_eq!(shown(&found("base/6/16384", 10, 3 * PAGE), old(3 * PAGE), &changes), "read none");
    }

    #[test]
    fn a_full_backup_reads_all_and_knows_what_may_differ() {
        let mut changes = BlockSummary::default();
        changes.mark(fork("base/5/16384"), 3);
        let found = found("base/5/16384", 10, 5 * PAGE);
        let plan = plan(&found, expected(&found, old(5 * PAGE), &changes), true);
        assert_eq!(plan.to_string(), "read 0-4; changed by the WAL 3");
    }

    proptest! {
        #[test]
        fn every_page_that_may_have_changed_is_read(
            blocks in proptest::collection::vec(0_u32..60, 0..30),
            limit in proptest::option::of(0_u32..60),
            (segment, now, before) in (0_u32..3, 0_u64..=20, 0_u64..=20),
        ) {
            let mut changes = BlockSummary::default();
            let path = if segment == 0 { "base/5/16384".to_owned() } else { format!("base/5/16384.{segment}") };
            for block in &blocks {
                changes.mark(fork(&path), *block);
            }
            if let Some(limit) = limit {
                changes.lower_limit(fork(&path), limit);
            }
            let found = found(&path, 20, now * PAGE);
            let read = expected(&found, old(before * PAGE), &changes).unwrap();
            for page in 0..30 {
                let block = segment * 20 + page;
                let may_differ = blocks.contains(&block) || limit.is_some_and(|limit| block >= limit) || u64::from(page) >= before;
                prop_assert_eq!(read.contains(page), may_differ && u64::from(page) < now, "page {}", page);
            }
        }
    }
}
