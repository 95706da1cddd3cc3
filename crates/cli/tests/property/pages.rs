//! Two data directories, compared page by page.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use fs_err as fs;
use pgark_postgres::Lsn;
use pgark_postgres::page::{self, PAGE_SIZE, Page};
use pgark_postgres::relation::RelationFile;

use crate::hints::without_hints;

/// What each backup has of its own, relative to the data directory.
const OWN: [&str; 7] = [
    "backup_label",
    // Of the backup that the cluster was once restored from.
    "backup_label.old",
    "tablespace_map",
    "postgresql.auto.conf",
    "pg_wal",
    "global/pg_control",
    // The server removes it when recovery begins.
    "pg_stat",
];

/// What is in one directory and not in the other, and in what their files differ. Pages may differ that were changed
/// at or after `start`, from which on recovery writes them anew; and, unless `hints_are_logged`, in hints.
pub(crate) fn differences(restored: &Path, copied: &Path, start: Lsn, hints_are_logged: bool) -> Vec<String> {
    let [in_restored, in_copied] = [restored, copied].map(files);
    let only = |which: &str, path: &PathBuf| format!("{}: only in {which}", path.display());
    let mut found: Vec<String> = in_restored.difference(&in_copied).map(|path| only("the backup", path)).collect();
    found.extend(in_copied.difference(&in_restored).map(|path| only("the cluster", path)));
    for path in in_restored.intersection(&in_copied) {
        let [left, right] = [restored, copied].map(|root| fs::read(root.join(path)).expect("the file can be read"));
        if left == right {
            continue;
        }
        if RelationFile::parse(path).is_none() || left.len() != right.len() {
            found.push(format!(
                "{}: {} bytes in the backup, {} in the cluster",
                path.display(),
                left.len(),
                right.len()
            ));
            continue;
        }
        let pages = left.as_chunks::<PAGE_SIZE>().0.iter().zip(right.as_chunks::<PAGE_SIZE>().0);
        for (number, (left, right)) in pages.enumerate() {
            if let Some(reason) = difference(left, right, start, hints_are_logged) {
                found.push(format!("{} page {number}: {reason}", path.display()));
            }
        }
    }
    found
}

/// The pages of relations that two backups have in the same places, and that differ, by the paths of their files. Of the
/// forks whose changes are all logged: only the WAL tells of these pages that they have to be read.
pub(crate) fn changed(before: &Path, after: &Path) -> BTreeMap<PathBuf, Vec<usize>> {
    let in_both: Vec<PathBuf> = files(before).intersection(&files(after)).cloned().collect();
    let logged = in_both
        .into_iter()
        .filter(|path| RelationFile::parse(path).is_some_and(|file| file.fork.fork.is_fully_logged()));
    let changed = logged.map(|path| {
        let [left, right] = [before, after].map(|root| fs::read(root.join(&path)).expect("the file can be read"));
        let pages = left.as_chunks::<PAGE_SIZE>().0.iter().zip(right.as_chunks::<PAGE_SIZE>().0);
        let differing = pages.enumerate().filter(|(_, (left, right))| left != right).map(|(number, _)| number);
        (path, differing.collect::<Vec<_>>())
    });
    changed.filter(|(_, pages)| !pages.is_empty()).collect()
}

/// The paths of all files below a directory, but for those that each backup has of its own. Links are followed.
fn files(root: &Path) -> BTreeSet<PathBuf> {
    fn collect(root: &Path, relative: &Path, found: &mut BTreeSet<PathBuf>) {
        for entry in fs::read_dir(root.join(relative)).expect("the directory can be read") {
            let path = relative.join(entry.expect("the directory can be read").file_name());
            if OWN.iter().any(|own| path == Path::new(own)) {
                continue;
            }
            if root.join(&path).is_dir() {
                collect(root, &path, found);
            } else {
                found.insert(path);
            }
        }
    }
    let mut found = BTreeSet::new();
    collect(root, Path::new(""), &mut found);
    found
}

/// Why two versions of a page may not differ as they do; `None` where they may.
fn difference(backup: &Page, cluster: &Page, start: Lsn, hints_are_logged: bool) -> Option<String> {
    if backup == cluster {
        return None;
    }
    let [in_backup, in_cluster] = [backup, cluster].map(page::lsn);
    if in_cluster >= start && in_backup <= in_cluster {
        return None;
    }
    if !hints_are_logged && without_hints(backup) == without_hints(cluster) {
        return None;
    }
    let first = (0..PAGE_SIZE).find(|&at| backup[at] != cluster[at]).expect("they differ");
    let count = (0..PAGE_SIZE).filter(|&at| backup[at] != cluster[at]).count();
    Some(format!(
        "LSN {in_backup} in the backup, {in_cluster} in the cluster; {count} bytes differ, the first at {first}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(lsn: u32, content: u8) -> Page {
        let mut page = [content; PAGE_SIZE];
        page[..4].fill(0);
        page[4..8].copy_from_slice(&lsn.to_le_bytes());
        page
    }

    #[test]
    fn a_page_may_differ_where_recovery_writes_it_anew() {
        let start = Lsn(100);
        let differs = |backup: &Page, cluster: &Page| difference(backup, cluster, start, true).is_some();
        assert!(!differs(&page(50, 1), &page(50, 1)));
        assert!(differs(&page(50, 1), &page(50, 2)), "a change without a record was missed");
        assert!(differs(&page(40, 1), &page(50, 1)), "an old page passed for the new one");
        assert!(!differs(&page(40, 1), &page(100, 2)));
        assert!(differs(&page(110, 1), &page(100, 2)), "a page came from the future");
        assert!(differs(&[0; PAGE_SIZE], &page(50, 1)));
    }

    #[test]
    fn what_is_only_in_one_directory_or_of_another_length_is_found() {
        let scratch = pgark_testkit::Scratch::new();
        let [restored, copied] = ["restored", "copied"].map(|name| scratch.directory(name));
        for (root, files) in [
            (&restored, [("PG_VERSION", 1), ("base/5/1249", 3), ("base/5/1259", 2), ("pg_wal/1", 1), ("base/5/1", 1)]),
            (&copied, [("PG_VERSION", 2), ("base/5/1249", 3), ("base/5/1259", 1), ("pg_wal/2", 1), ("base/5/2", 1)]),
        ] {
            for (path, pages) in files {
                fs::create_dir_all(root.join(path).parent().expect("it lies in a directory")).expect("it can be made");
                fs::write(root.join(path), page(7, pages).repeat(pages.into())).expect("it can be written");
            }
        }
        let mut found = differences(&restored, &copied, Lsn(0), false);
        found.sort();
        let expected = [
            "PG_VERSION: 8192 bytes in the backup, 16384 in the cluster",
            "base/5/1259: 16384 bytes in the backup, 8192 in the cluster",
            "base/5/1: only in the backup",
            "base/5/2: only in the cluster",
        ];
        assert_eq!(found, expected);
    }
}
