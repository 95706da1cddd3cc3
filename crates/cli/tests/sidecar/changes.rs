//! What changes between backups: only that is stored, and files that change while they are read are no reason to fail.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use pgark_testkit::Server;

use crate::common::Site;
use crate::{backup_changes, cache, list, restore_alone, shell, site, start, stored};

const MIB: u64 = 1 << 20;

/// By how many bytes the packs grow with an incremental backup.
#[track_caller]
fn grown(site: &Site) -> u64 {
    let before = stored(site);
    backup_changes(site, &[]);
    stored(site) - before
}

/// What the newest backup restores of the sidecar is what there is.
#[track_caller]
fn assert_restored(site: &Site, name: &str) {
    let place = site.scratch.path().join(name);
    restore_alone(site, &place, &[]).expect_success();
    assert_eq!(list(&place), list(&cache(site)), "{name}");
    shell(&place, "chmod -R u+rwx . && rm -rf ./*");
}

#[test]
fn a_large_file_that_changes_in_part_is_stored_in_part() {
    let site = site(&Server::get(17), "mkdir a && head -c 200000000 /dev/urandom > a/blob");
    site.backup(&[]);
    assert!(stored(&site) > 190 * MIB);
    let directory = cache(&site);

    shell(
        &directory,
        "cp a/blob new && head -c 1000000 /dev/urandom | dd of=new bs=1M seek=77 conv=notrunc status=none",
    );
    shell(&directory, "mv new a/blob");
    let part = grown(&site);
    assert!(part > 900_000 && part < 4 * MIB, "{part} bytes for a million that have changed");

    // The same content under another name, in another directory, at another time: fetched again from elsewhere.
    shell(&directory, "mkdir b && mv a/blob b/other");
    let renamed = grown(&site);
    assert!(renamed < MIB, "{renamed} bytes for a file that was renamed");
    shell(&directory, "cp b/other a/again && rm b/other");
    let copied = grown(&site);
    assert!(copied < MIB, "{copied} bytes for a file that was copied");
    let before = stored(&site);
    site.backup(&[]);
    let full = stored(&site) - before;
    assert!(full < MIB, "{full} bytes for a full backup after which nothing has changed");

    shell(&directory, "truncate -s 100000001 a/again && head -c 5000000 /dev/urandom >> a/again && : > b/empty");
    let appended = grown(&site);
    assert!(appended < 8 * MIB, "{appended} bytes for five million that were appended");
    assert_restored(&site, "restored");
    let verified = site.pgark(&["verify", "--output=text"]).expect_success();
    assert!(verified.stdout.contains("status: ok"), "{}", verified.report());
    // Once the backups before are gone, the last one stands alone.
    site.pgark(&["--repo1-retention-full=1", "expire"]).expect_success();
    assert_restored(&site, "alone");
}

#[test]
fn an_incremental_reads_what_may_have_changed() {
    let site = site(&Server::get(17), "head -c 50000000 /dev/urandom > large && head -c 30000 /dev/urandom > small");
    let read = |label: &str| -> u64 {
        let name = format!("stanza/demo/backup/{label}/manifest");
        let text = site.pgark(&["repo-get", &name]).expect_success().stdout;
        let line = text.lines().next().expect("a manifest has a line");
        let line: serde_json::Value = serde_json::from_str(line).expect("repo-get writes lines of JSON");
        line["backup"]["totals"]["read"].as_u64().expect("a backup has totals")
    };
    // A file that was changed a moment before a backup began may have been changed again while it ran.
    site.backup(&[]);
    assert!(read(&backup_changes(&site, &[])) > 50_000_000);
    thread::sleep(Duration::from_secs(11));
    site.backup(&[]);
    assert!(read(&backup_changes(&site, &[])) < 40_000_000, "a file that rests is not read");
    assert!(read(&backup_changes(&site, &["--delta"])) > 50_000_000);
    assert!(read(&site.backup(&[])) > 50_000_000);
    // Neither size nor time of the content tell of this change.
    shell(&cache(&site), "touch -r small stamp && printf X | dd of=small bs=1 seek=20000 conv=notrunc status=none");
    shell(&cache(&site), "touch -r stamp small && rm stamp");
    backup_changes(&site, &[]);
    assert_restored(&site, "changed");
    // Two files change places with their directories.
    shell(&cache(&site), "mkdir one two && head -c 90000 /dev/urandom > one/x && head -c 90000 /dev/urandom > two/x");
    shell(&cache(&site), "touch -r one/x two/x");
    backup_changes(&site, &[]);
    shell(&cache(&site), "mv one three && mv two one && mv three two");
    backup_changes(&site, &[]);
    assert_restored(&site, "swapped");
}

#[test]
fn a_sidecar_that_goes_leaves_nothing_behind_and_may_come_again() {
    let site = site(&Server::get(17), "mkdir d && head -c 3000000 /dev/urandom > d/file");
    site.backup(&[]);
    let line = format!("sidecar-models-path={}\n", cache(&site).display());
    site.reconfigure(&line, "");
    backup_changes(&site, &[]);
    let failed = restore_alone(&site, &site.scratch.path().join("none"), &[]).expect_code(32);
    assert!(failed.report().contains("it has none"), "{}", failed.report());
    let info = site.pgark(&["info", "--output=json"]).expect_success();
    assert!(!info.stdout.contains("sidecar"), "{}", info.report());
    site.reconfigure("[demo]\n", &format!("[demo]\n{line}"));
    backup_changes(&site, &[]);
    assert_restored(&site, "again");
    site.pgark(&["verify", "--output=text"]).expect_success();
}

#[test]
fn a_sidecar_goes_into_the_repository_that_is_named() {
    let site = start(Site::builder(&Server::get(17)).repositories(2), "printf x > file");
    site.reconfigure("[demo]\n", "[demo]\nsidecar-models-repo=2\n");
    let one = site.backup(&["--repo=1"]);
    let two = site.backup(&["--repo=2"]);
    let info = |key: &str, label: &str| {
        site.pgark(&["info", &format!("--repo={key}"), &format!("--set={label}")]).expect_success().stdout
    };
    assert!(!info("1", &one).contains("sidecars:"));
    let told = info("2", &two);
    let line = format!("models => {}, size: 1B, files: 1", cache(&site).display());
    assert!(told.contains("sidecars:") && told.contains(&line), "{told}");
    let json = site.pgark(&["info", "--repo=2", &format!("--set={two}"), "--output=json"]).expect_success().stdout;
    let json: serde_json::Value = serde_json::from_str(&json).expect("info writes JSON");
    assert_eq!(json[0]["backup"][0]["pgark"]["sidecar"][0]["name"], "models");
    let place = site.scratch.path().join("place");
    restore_alone(&site, &place, &["--repo=2"]).expect_success();
    assert_eq!(list(&place), list(&cache(&site)));
}

/// Ends what goes on beside a test, also where the test fails.
struct End<'test>(&'test AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn files_may_vanish_and_shrink_while_they_are_read() {
    let site = site(&Server::get(17), "mkdir rest work && head -c 3000000 /dev/urandom > rest/file");
    let before = list(&cache(&site).join("rest"));
    let is_over = AtomicBool::new(false);
    // Downloads come and go, as they do in a cache: files, links and directories are made, moved, cut off and removed.
    let churn = r"
        for n in $(seq 1 40); do
            mkdir -p work/d$n && head -c 400000 /dev/urandom > work/d$n/file && ln work/d$n/file work/link$n
            ln -s d$n/file work/sym$n && cp work/d$n/file work/copy$n
        done
        for n in $(seq 1 40); do
            : > work/copy$n && rm -f work/link$n work/sym$n && ln -s work work/copy$n.link && rm -rf work/d$n
            mkdir work/sym$n && rm work/copy$n
        done
        rm -rf work/*
    ";
    thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                shell(&cache(&site), churn);
            }
        });
        let _end = End(&is_over);
        for number in 0..8 {
            if number % 2 == 0 {
                site.backup(&[])
            } else {
                backup_changes(&site, &[])
            };
            let place = site.scratch.path().join(format!("place{number}"));
            restore_alone(&site, &place, &[]).expect_success();
            assert_eq!(list(&place.join("rest")), before);
        }
    });
    site.pgark(&["verify", "--output=text"]).expect_success();
}
