//! What the database has in the page cache stays there, and nothing else is brought in: else every backup would make its
//! server slow.

mod common;

use std::io::Read;
use std::path::{Path, PathBuf};

use fs_err as fs;
use pgark_system::page_cache::{ResidentPages, read_ahead, release};
use pgark_testkit::{Server, Stop};

use crate::common::Site;

/// The pages of a file that are in the page cache.
fn resident(path: &Path) -> ResidentPages {
    ResidentPages::of(fs::File::open(path).expect("the file can be opened"), 0..length(path))
}

fn count(path: &Path) -> usize {
    resident(path).pages().iter().filter(|resident| **resident).count()
}

/// Takes a file out of the page cache.
fn evict(path: &Path) {
    let file = fs::File::open(path).expect("the file can be opened");
    file.sync_all().expect("the file can be synced");
    release(&file, 0..length(path));
    assert_eq!(count(path), 0, "'{}' is not on a disk: set TMPDIR to a directory that is", path.display());
}

/// Brings the first `length` bytes of a file into the page cache, and no more: the kernel does not read ahead.
fn cache(path: &Path, length: u64) {
    let file = fs::File::open(path).expect("the file can be opened");
    read_ahead(&file, false);
    let read = std::io::copy(&mut file.take(length), &mut std::io::sink()).expect("the file can be read");
    assert_eq!(read, length);
}

fn length(path: &Path) -> u64 {
    fs::metadata(path).expect("the file is there").len()
}

/// Makes a table partly and its index wholly cached, and another table not at all.
fn cache_some([accounts, key, tellers]: &[PathBuf; 3]) {
    for path in [accounts, key, tellers] {
        evict(path);
    }
    cache(accounts, length(accounts) / 2);
    cache(key, length(key));
    assert!(count(accounts) > 1000 && count(key) > 1000);
}

/// What was cached is cached, and of the rest at most `new` of a thousand: the kernel may have read ahead of one worker where
/// another had been already. That memory is short may cost a few pages at any time.
#[track_caller]
fn assert_unchanged(files: &[PathBuf], before: &[ResidentPages], new: usize) {
    for (path, before) in files.iter().zip(before) {
        let after = resident(path);
        let pairs = || before.pages().iter().zip(after.pages());
        let share = |count: usize| count * 1000 / before.pages().len();
        let lost = share(pairs().filter(|(had, has)| **had && !**has).count());
        let gained = share(pairs().filter(|(had, has)| !**had && **has).count());
        assert!(lost <= 20, "{lost} of 1000 pages of '{}' are no longer cached", path.display());
        assert!(gained <= new, "{gained} of 1000 pages of '{}' were not cached before", path.display());
    }
}

#[test]
fn backups_and_delta_restores_leave_the_page_cache_as_it_was() {
    let server = Server::get(17);
    let mut site = Site::builder(&server).setting("autovacuum", "off").start();
    site.cluster.pgbench_init(5);
    site.cluster.sql("checkpoint");
    let tables = ["pgbench_accounts", "pgbench_accounts_pkey", "pgbench_tellers"]
        .map(|name| site.cluster.sql(&format!("select pg_relation_filepath('{name}')")));
    let files = tables.clone().map(|path| site.cluster.data_directory().join(path));

    cache_some(&files);
    let before = files.each_ref().map(|path| resident(path));
    site.backup(&["--process-max=2"]);
    assert_unchanged(&files, &before, 10);
    let packs = site.objects("/pack/");
    let stored: u64 = packs.iter().map(|path| length(path)).sum();
    let cached: usize = packs.iter().map(|path| count(path)).sum();
    assert!((cached as u64) * 4096 < stored / 10, "{cached} pages of {stored} bytes in packs are cached");

    for path in &packs {
        evict(path);
    }
    site.pgark(&["--process-max=2", "verify"]).expect_success();
    let cached: usize = packs.iter().map(|path| count(path)).sum();
    assert!((cached as u64) * 4096 < stored / 10, "{cached} pages are cached after verify");

    let restored = site.restore("restored", &["--process-max=1"]);
    site.cluster.stop(Stop::Fast);
    let files = tables.map(|path| restored.join(path));
    let cached = count(&files[0]) * 4096;
    assert!(cached < 40 << 20, "{cached} bytes of the table of 65 MB are cached");

    cache_some(&files);
    let before = files.each_ref().map(|path| resident(path));
    site.restore("restored", &["--delta", "--process-max=2"]);
    assert_unchanged(&files, &before, 250);
}
