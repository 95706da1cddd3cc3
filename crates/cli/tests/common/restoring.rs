//! Restoring the cluster of a site into other directories.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use fs_err as fs;
use pgark_testkit::{Cluster, Finished, Server};

use super::Site;

/// Restores the site's cluster into a new directory and gives the directory.
#[track_caller]
pub(crate) fn restore(site: &Site, name: &str, arguments: &[&str]) -> PathBuf {
    let directory = site.scratch.path().join(name);
    restore_into(site, &directory, arguments).expect_success();
    directory
}

pub(crate) fn restore_into(site: &Site, directory: &Path, arguments: &[&str]) -> Finished {
    let path = format!("--pg1-path={}", directory.display());
    // Without archiving, or the restored clusters would fight with the first one over timeline 2 of the archive.
    let fixed = [path.as_str(), "--archive-mode=off", "restore"];
    site.pgark(&[&fixed[..], arguments].concat())
}

/// Restores a backup as it is, without recovery.
#[track_caller]
pub(crate) fn as_it_is(site: &Site, name: &str, label: &str) -> PathBuf {
    let directory = site.scratch.path().join(name);
    let path = format!("--pg1-path={}", directory.display());
    site.pgark(&[&path, &format!("--set={label}"), "--type=none", "restore"]).expect_success();
    directory
}

/// Starts a restored cluster and waits until recovery has ended.
#[track_caller]
pub(crate) fn recovered(server: &Server, directory: &Path) -> Cluster {
    let mut cluster = Cluster::adopt(server, directory);
    cluster.start();
    cluster.wait_for_sql("select pg_is_in_recovery()", "f");
    cluster
}

/// Commits one row and gives the transaction's id.
pub(crate) fn commit_row(site: &Site, id: u32) -> String {
    site.cluster.sql(&format!("begin; insert into rows values ({id}); select txid_current(); commit"))
}

/// Sees to it that everything so far is in the archive.
pub(crate) fn archive_all(site: &Site) {
    let segment = site.cluster.switch_wal();
    site.cluster.wait_for_archived(&segment);
}

pub(crate) fn rows(cluster: &Cluster) -> String {
    cluster.sql("select count(*) from rows")
}

/// The contents of all files below a directory, by their paths in it.
fn contents(directory: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    fn collect(root: &Path, directory: &Path, found: &mut Vec<(PathBuf, Vec<u8>)>) {
        for entry in fs::read_dir(directory).expect("the directory can be read") {
            let path = entry.expect("the directory can be read").path();
            if path.is_dir() {
                found.push((path.strip_prefix(root).expect("the directory can be read").to_owned(), Vec::new()));
                collect(root, &path, found);
            } else {
                let relative = path.strip_prefix(root).expect("the directory can be read").to_owned();
                found.push((relative, fs::read(&path).expect("the directory can be read")));
            }
        }
    }
    let mut found = Vec::new();
    collect(directory, directory, &mut found);
    found.sort();
    found
}

/// Everything but the recovery settings, in which the time and the path of each restore stand.
pub(crate) fn comparable(directory: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let is_settings = |path: &Path| path == Path::new("postgresql.auto.conf");
    contents(directory).into_iter().filter(|(path, _)| !is_settings(path)).collect()
}

/// The bytes of every file, without those that differ between two backups of a cluster that rests.
fn files(directory: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let differ = ["backup_label", "global/pg_control", "postgresql.auto.conf", "backup_label.old"];
    comparable(directory).into_iter().filter(|(path, _)| !differ.iter().any(|name| path == Path::new(name))).collect()
}

/// What two backups of a cluster that rests restore is the same, page for page.
#[track_caller]
pub(crate) fn assert_same(one: &Path, other: &Path) {
    let (one, other) = (files(one), files(other));
    assert_eq!(one.keys().collect::<Vec<_>>(), other.keys().collect::<Vec<_>>());
    for (path, content) in one {
        assert!(content == other[&path], "'{}' differs", path.display());
    }
}
