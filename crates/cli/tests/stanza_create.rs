//! `pgark stanza-create`

mod common;

use std::os::unix::fs::PermissionsExt;

use fs_err as fs;
use pgark_testkit::{Cluster, Server, faults};

use crate::common::{Site, Transcript};

#[test]
fn a_stanza_is_created_once() {
    let mut site = Site::builder(&Server::get(18)).repositories(2).create();
    site.cluster.start();
    let mut transcript = Transcript::default();
    transcript.add("the first time", 0, site.pgark(&["--log-level-console=info", "stanza-create"]));
    let objects = site.objects("");
    assert!(!objects.is_empty());
    transcript.add("once more", 0, site.pgark(&["--log-level-console=info", "stanza-create"]));
    assert_eq!(site.objects(""), objects, "the repository has changed");
    assert_output!("created_once", transcript.text());
}

#[test]
fn a_cluster_that_is_shut_down_will_do() {
    let site = Site::builder(&Server::get(15)).passphrase("correct horse battery staple").create();
    site.pgark(&["stanza-create"]).expect_code(56);
    site.pgark(&["--no-online", "stanza-create"]).expect_success();
    let info = site.pgark(&["info"]).expect_success();
    assert!(info.stdout.contains("error (no valid backups)"), "{}", info.report());
    assert!(info.stdout.contains("cipher: aes-256-gcm"), "{}", info.report());
}

#[test]
fn the_modes_of_files_are_neither_the_users_nor_too_wide() {
    let site = Site::builder(&Server::get(17)).create();
    for (option, mode) in [("--neutral-umask", 0o640), ("--no-neutral-umask", 0o600)] {
        site.shell("umask 077; {}", &["--no-online", option, "stanza-create"]).expect_success();
        let object = site.object("cluster/1");
        assert_eq!(fs::metadata(&object).unwrap().permissions().mode() & 0o777, mode, "{option}");
        fs::remove_file(object).unwrap();
    }
}

#[test]
fn what_can_not_be_created_is_told() {
    let server = Server::get(17);
    let mut site = Site::builder(&server).passphrase("first").create();
    let mut transcript = Transcript::default();
    let control_file = site.cluster.data_directory().join("global/pg_control");

    let unreadable = faults::set_mode(&control_file, 0);
    transcript.add("unreadable pg_control", 41, site.pgark(&["stanza-create"]));
    drop(unreadable);
    let damaged = fs::read(&control_file).unwrap();
    faults::flip_byte(&control_file, 20);
    transcript.add("damaged pg_control", 28, site.pgark(&["stanza-create"]));
    site.scratch.write("saved", &damaged);
    fs::copy(site.scratch.path().join("saved"), &control_file).unwrap();

    transcript.add("server down", 56, site.pgark(&["stanza-create"]));
    site.cluster.start();
    transcript.add("port out of range", 32, site.pgark(&["--pg1-port=70000", "stanza-create"]));
    let unwritable = faults::set_mode(&site.repository(), 0o500);
    transcript.add("a directory that can't be written", 41, site.pgark(&["stanza-create"]));
    drop(unwritable);
    let held = site.hold_lock("demo-backup-1.lock");
    transcript.add("lock held", 50, site.pgark(&["stanza-create"]));
    drop(held);
    site.pgark(&["stanza-create"]).expect_success();

    let other = Cluster::builder(&server).wal_segment_size_mib(1).start();
    let before = site.cluster.data_directory().display().to_string();
    site.reconfigure(&before, &other.data_directory().display().to_string());
    transcript.add("another cluster's server", 58, site.pgark(&["stanza-create"]));
    transcript.add("another cluster", 28, site.pgark(&["--no-online", "stanza-create"]));
    site.reconfigure("cipher-pass=first", "cipher-pass=second");
    transcript.add("wrong passphrase", 95, site.pgark(&["--no-online", "stanza-create"]));
    site.reconfigure("repo1-cipher-type=aes-256-gcm\nrepo1-cipher-pass=second\n", "");
    transcript.add("cipher mismatch", 95, site.pgark(&["--no-online", "stanza-create"]));
    Site::age(&site.object("pgark.repo"));
    transcript.add("a format of the future", 29, site.pgark(&["--no-online", "stanza-create"]));
    assert_output!("refused", transcript.text());
}
