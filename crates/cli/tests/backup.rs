//! `pgark backup`

mod common;

use std::path::{Path, PathBuf};

use fs_err as fs;
use pgark_testkit::{Cluster, Server, Stop, faults, run};

use crate::common::{Site, Transcript};

/// Replaces how many files there are, which no two versions of `PostgreSQL` agree on.
fn without_counts(text: &str) -> String {
    let line = |line: &str| match line.split_once("file total = ") {
        Some((start, _)) => format!("{start}file total = [count]"),
        None => line.to_owned(),
    };
    text.lines().map(line).collect::<Vec<_>>().join("\n")
}

#[test]
fn a_running_cluster_is_backed_up() {
    for major in [15, 18] {
        let site = Site::start(&Server::get(major));
        site.cluster.pgbench_init(1);
        let mut transcript = Transcript::default();
        transcript.add("the first one", 0, site.pgark(&["--log-level-console=info", "backup"]));
        transcript.add("without a type", 0, site.pgark(&["backup"]));
        transcript.add("full", 0, site.pgark(&["--type=full", "--process-max=2", "backup"]));
        assert_eq!(site.objects("manifest").len(), 3);
        assert_output!("running", without_counts(&transcript.text()));
    }
}

#[test]
fn a_cluster_that_is_shut_down_is_backed_up() {
    let mut site = Site::builder(&Server::get(17)).passphrase("secret").start();
    site.pgark(&["--no-online", "backup"]).expect_code(38);
    site.cluster.stop(Stop::Fast);
    let finished = site.pgark(&["--no-online", "--log-level-console=info", "backup"]).expect_success();
    assert!(finished.stdout.contains("new backup label = "), "{}", finished.report());
}

#[test]
fn the_repository_can_be_chosen() {
    let site = Site::builder(&Server::get(17)).repositories(2).start();
    let first = site.backup(&[]);
    assert!(site.repository().join(format!("stanza/demo/backup/{first}/manifest")).is_file());
    let second = site.backup(&["--repo=2", "--compress-type=none"]);
    let directory = site.scratch.path().join("repository2/stanza/demo/backup");
    assert!(directory.join(format!("{second}/manifest")).is_file());
    // Two quick backups may have the same label, each in its repository.
    assert_eq!(fs::read_dir(directory).unwrap().count(), 1);
    assert_eq!(fs::read_dir(site.repository().join("stanza/demo/backup")).unwrap().count(), 1);
}

/// Where the table `name` is in the data directory.
fn table(cluster: &Cluster, name: &str) -> PathBuf {
    cluster.data_directory().join(cluster.sql(&format!("select pg_relation_filepath('{name}')")))
}

#[test]
fn damaged_pages_are_named_and_do_not_end_the_backup() {
    let mut site = Site::start(&Server::get(18));
    site.cluster.sql("create table one as select generate_series(1, 10000) n");
    site.cluster.sql("create table two as select generate_series(1, 10000) n");
    let (one, two) = (table(&site.cluster, "one"), table(&site.cluster, "two"));
    site.cluster.stop(Stop::Fast);
    faults::flip_byte(&one, 3 * 8192 + 5000);
    for page in [0, 5, 6, 7] {
        faults::flip_byte(&two, page * 8192 + 5000);
    }
    site.cluster.start();
    let finished = site.pgark(&["--type=full", "backup"]).expect_success();
    let name = |path: &Path| path.strip_prefix(site.cluster.data_directory()).unwrap().display().to_string();
    for warning in [
        format!("WARN: invalid page checksum found in file {} at page 3", name(&one)),
        format!("WARN: invalid page checksums found in file {} at pages 0, 5-7", name(&two)),
    ] {
        assert!(finished.stdout.contains(&warning), "{}", finished.report());
    }
    let info = site.pgark(&["info"]).expect_success();
    assert!(info.stdout.contains("error(s) detected during backup"), "{}", info.report());
    let unchecked = site.pgark(&["--type=full", "--no-checksum-page", "backup"]).expect_success();
    assert!(!unchecked.stdout.contains("invalid page checksum"), "{}", unchecked.report());
}

#[test]
fn what_can_not_be_backed_up_is_told() {
    let server = Server::get(17);
    let site = Site::builder(&server).passphrase("first").start();
    let mut transcript = Transcript::default();
    let backup = |site: &Site, arguments: &[&str]| site.pgark(&[arguments, &["--type=full", "backup"]].concat());

    transcript.add("no stanza", 37, run(&mut site.command(&["backup"])));
    transcript.add("a stanza without a section", 37, run(&mut site.command(&["--stanza=nope", "backup"])));
    transcript.add("no type at all", 32, site.pgark(&["--type=xyz", "backup"]));
    transcript.add("option out of range", 32, backup(&site, &["--process-max=0"]));
    transcript.add("compression out of range", 32, backup(&site, &["--compress-type=zst", "--compress-level=30"]));
    transcript.add("no such repository", 32, backup(&site, &["--repo=2"]));
    transcript.add("a secret on the command line", 31, backup(&site, &["--repo1-cipher-pass=hush"]));
    site.reconfigure("[demo]", "[other]");
    transcript.add("no such stanza", 55, run(&mut site.command(&["--stanza=other", "backup"])));
    site.reconfigure("[other]", "[demo]");
    let held = site.hold_lock("demo-backup-1.lock");
    transcript.add("lock held", 50, backup(&site, &[]));
    drop(held);

    let unreadable = site.cluster.data_directory().join("base/1/unreadable");
    fs::write(&unreadable, "x").unwrap();
    pgark_testkit::give_to_test_user(&unreadable);
    let mode = faults::set_mode(&unreadable, 0);
    transcript.add("unreadable file", 41, backup(&site, &[]));
    drop(mode);
    fs::remove_file(&unreadable).unwrap();
    site.cluster.configure("archive_command", "false archive-push");
    site.cluster.reload();
    transcript.add("WAL does not arrive", 82, backup(&site, &["--archive-timeout=300ms"]));
    assert_eq!(site.objects("manifest"), Vec::<PathBuf>::new(), "a failed backup can be seen");

    let mut other = Cluster::builder(&server).wal_segment_size_mib(1).start();
    let [data, other_data] = [&site.cluster, &other].map(|cluster| cluster.data_directory().display().to_string());
    let [socket, other_socket] =
        [&site.cluster, &other].map(|cluster| cluster.socket_directory().display().to_string());
    site.reconfigure(&socket, &other_socket);
    transcript.add("another server than the data directory's", 58, backup(&site, &[]));
    site.reconfigure(&data, &other_data);
    transcript.add("another cluster than the stanza's", 51, backup(&site, &[]));
    site.reconfigure(&other_data, &data);
    other.stop(Stop::Fast);
    transcript.add("server down", 56, backup(&site, &[]));
    site.reconfigure("cipher-pass=first", "cipher-pass=second");
    transcript.add("wrong passphrase", 95, backup(&site, &[]));
    site.reconfigure("repo1-cipher-type=aes-256-gcm\nrepo1-cipher-pass=second\n", "");
    transcript.add("cipher mismatch", 95, backup(&site, &[]));
    transcript.add("missing repository", 73, backup(&site, &["--repo1-path=/nowhere"]));
    assert_output!("refused", transcript.text());
}

#[test]
fn a_full_disk_leaves_no_backup() {
    let disk = faults::SmallFileSystem::new(8);
    let site = Site::builder(&Server::get(17)).repository_at(disk.path()).start();
    site.cluster.sql("create table big as select sha512(n::text::bytea) from generate_series(1, 200000) n");
    if !disk.is_limited() {
        return;
    }
    let finished = site.pgark(&["--type=full", "backup"]).expect_code(64);
    assert!(finished.stdout.contains("No space left"), "{}", finished.report());
    let info = site.pgark(&["info"]).expect_success();
    assert!(info.stdout.contains("error (no valid backups)"), "{}", info.report());
}

#[test]
fn a_backup_says_what_it_left_out_and_what_was_written_on_it() {
    let site = Site::start(&Server::get(17));
    fs::create_dir(site.cluster.data_directory().join("scrap")).unwrap();
    pgark_testkit::give_to_test_user(&site.cluster.data_directory().join("scrap"));
    let label = site.backup(&["--exclude=scrap", "--annotation=reason=before the upgrade", "--annotation=ticket=4711"]);
    let info = site.pgark(&[&format!("--set={label}"), "info"]).expect_success();
    let annotations = "annotation(s)\n                reason: before the upgrade\n                ticket: 4711\n";
    assert!(info.stdout.ends_with(annotations), "{}", info.report());
}
