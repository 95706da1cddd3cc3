//! `pgark archive-push`

mod common;

use std::path::PathBuf;
use std::process::Command;

use fs_err as fs;
use pgark_testkit::{Cluster, Server, Stop, faults, run};

use crate::common::{Site, Transcript, text};

/// A copy of an archived segment, which no server waits for.
fn copy_of(site: &Site, segment: &str) -> PathBuf {
    let destination = site.scratch.path().join(segment);
    run(&mut site.command(&["--stanza=demo", "archive-get", segment, text(&destination)])).expect_success();
    destination
}

#[test]
fn a_server_archives_into_every_repository() {
    for major in [15, 18] {
        let site = Site::builder(&Server::get(major)).repositories(2).start();
        let segment = site.archive_segment();
        for key in ["repository1", "repository2"] {
            let directory = site.scratch.path().join(key);
            let archived = directory.join(format!("stanza/demo/wal/{major}-1/{}/{segment}", &segment[..16]));
            assert!(archived.is_file(), "{key} lacks {segment}");
        }
    }
}

#[test]
fn a_file_is_archived_once() {
    let site = Site::start(&Server::get(17));
    let segment = site.archive_segment();
    let path = copy_of(&site, &segment);
    let path = text(&path);
    let mut transcript = Transcript::default();
    transcript.add("the same again", 0, site.pgark(&["archive-push", path]));
    // The last byte of a page is in its data or behind it; its header, which is checked first, stays whole.
    let length = fs::metadata(path).unwrap().len();
    faults::flip_byte(path.as_ref(), length - 1);
    transcript.add("other content", 45, site.pgark(&["archive-push", path]));
    assert_output!("once", transcript.text());
}

/// Whoever learns of damaged WAL when it is archived can still take a backup; in a recovery it is too late.
#[test]
fn damaged_wal_is_stored_and_told() {
    let mut site = Site::start(&Server::get(15));
    site.cluster.pgbench_init(1);
    let segment = site.archive_segment();
    let copy = copy_of(&site, &segment);
    let whole = site.pgark(&["archive-push", text(&copy)]).expect_success();
    assert!(!whole.stdout.contains("ends early"), "{}", whole.report());
    site.cluster.stop(Stop::Fast);
    fs::remove_file(site.object(&segment)).unwrap();
    faults::flip_byte(&copy, 8192 + 4000);
    let finished = site.pgark(&["archive-push", text(&copy)]).expect_success();
    assert!(finished.stdout.contains(&format!("the WAL in segment '{segment}' ends early")), "{}", finished.report());
}

#[test]
fn all_that_a_server_archives_is_taken() {
    let site = Site::start(&Server::get(17));
    let segment = site.archive_segment();
    let copy = copy_of(&site, &segment);
    let partial = site.scratch.path().join(format!("{segment}.partial"));
    fs::copy(&copy, &partial).unwrap();
    pgark_testkit::give_to_test_user(&partial);
    let history = site.scratch.write("00000002.history", "1\t0/3000000\tno recovery target specified\n");
    let backup = site.scratch.write(&format!("{segment}.00000028.backup"), "START WAL LOCATION: 0/3000028\n");
    let mut transcript = Transcript::default();
    for (title, path) in [("partial", &partial), ("history", &history), ("backup", &backup)] {
        let arguments = ["--log-level-console=info", "archive-push", text(path)];
        let finished = site.pgark(&arguments);
        transcript.add(title, 0, finished);
        transcript.add(&format!("{title} again"), 0, site.pgark(&arguments));
        let back = site.scratch.path().join("back");
        let name = path.file_name().unwrap().to_str().unwrap();
        site.pgark(&["archive-get", name, text(&back)]).expect_success();
        assert_eq!(fs::read(&back).unwrap(), fs::read(path).unwrap(), "{title}");
    }
    site.scratch.write("00000002.history", "1\t0/5000000\tother\n");
    transcript.add("another history", 45, site.pgark(&["archive-push", text(&history)]));
    // The command lines differ in the names of segments and temporary directories only.
    let said = transcript.text();
    let said: Vec<_> = said.lines().filter(|line| !line.contains(" command begin ")).collect();
    assert_output!("kinds_of_files", said.join("\n"));
}

#[test]
fn what_can_not_be_archived_is_told() {
    let server = Server::get(17);
    let mut site = Site::builder(&server).passphrase("first").start();
    let segment = site.archive_segment();
    site.cluster.stop(Stop::Fast);
    let copy = copy_of(&site, &segment);
    let path = text(&copy).to_owned();
    let push = |site: &Site, path: &str| site.pgark(&["archive-push", path]);
    let mut transcript = Transcript::default();

    transcript.add("no parameter", 43, site.pgark(&["archive-push"]));
    transcript.add("no stanza", 37, run(&mut site.command(&["archive-push", &path])));
    transcript.add("unknown stanza", 55, run(&mut site.command(&["--stanza=nope", "archive-push", &path])));
    transcript.add("missing file", 55, push(&site, "/nowhere/000000010000000000000001"));
    transcript.add("not a WAL file", 96, push(&site, "/etc/passwd"));
    let unreadable = faults::set_mode(&copy, 0);
    transcript.add("unreadable file", 41, push(&site, &path));
    drop(unreadable);
    let garbage = site.scratch.write("0000000100000000000000FE", vec![7; 1 << 20]);
    transcript.add("garbage", 28, push(&site, text(&garbage)));
    let unchecked = site.pgark(&["--no-archive-header-check", "archive-push", text(&garbage)]);
    transcript.add("garbage, unchecked", 0, unchecked);

    site.reconfigure("cipher-pass=first", "cipher-pass=second");
    transcript.add("wrong passphrase", 95, push(&site, &path));
    site.reconfigure("repo1-cipher-type=aes-256-gcm\nrepo1-cipher-pass=second\n", "");
    transcript.add("cipher mismatch", 95, push(&site, &path));
    transcript.add("missing repository", 73, site.pgark(&["--repo1-path=/nowhere", "archive-push", &path]));
    let empty = site.scratch.directory("empty");
    let option = format!("--repo1-path={}", empty.display());
    transcript.add("no repository", 103, site.pgark(&[&option, "archive-push", &path]));
    let descriptor = site.object("pgark.repo");
    faults::flip_byte(&descriptor, 100);
    transcript.add("damaged descriptor", 26, push(&site, &path));
    Site::age(&descriptor);
    transcript.add("a format of the future", 29, push(&site, &path));
    assert_output!("refused", transcript.text());
}

#[test]
fn wal_of_another_cluster_is_refused() {
    let server = Server::get(17);
    let site = Site::start(&server);
    let other = Site::start(&server);
    let segment = other.archive_segment();
    let foreign = copy_of(&other, &segment);
    let foreign = text(&foreign);
    let mut transcript = Transcript::default();
    transcript.add("another cluster's segment", 44, site.pgark(&["archive-push", foreign]));
    assert_output!("another_cluster", transcript.text());
}

#[test]
fn a_repository_that_fails_keeps_no_other_from_the_segment() {
    let site = Site::builder(&Server::get(17)).repositories(2).start();
    let lost = site.scratch.path().join("lost");
    fs::rename(site.repository(), &lost).unwrap();
    let segment = site.cluster.switch_wal();
    let path = site.cluster.data_directory().join("pg_wal").join(&segment);
    site.pgark(&["archive-push", text(&path)]).expect_code(73);
    let second = site.scratch.path().join(format!("repository2/stanza/demo/wal/17-1/{}/{segment}", &segment[..16]));
    assert!(second.is_file(), "the second repository lacks {segment}");
    // As soon as the repository is back, the server's next try succeeds in both.
    fs::rename(&lost, site.repository()).unwrap();
    site.cluster.wait_for_archived(&segment);
}

#[test]
fn a_full_disk_is_no_success() {
    let disk = faults::SmallFileSystem::new(4);
    let mut site = Site::builder(&Server::get(17)).repository_at(disk.path()).start();
    let segment = site.archive_segment();
    site.cluster.stop(Stop::Fast);
    let copy = copy_of(&site, &segment);
    let next = site.scratch.path().join("0000000100000000000000FF");
    fs::rename(&copy, &next).unwrap();
    // The content of a segment is not compared with its name, so that any other name will do for a new object.
    let filler = disk.path().join("filler");
    let mut bytes = 4 << 20;
    while bytes > 0 && fs::write(&filler, vec![1; bytes]).is_err() {
        bytes -= 4096;
    }
    if disk.is_limited() {
        let finished = site.pgark(&["archive-push", text(&next)]).expect_code(64);
        assert!(finished.stdout.contains("No space left"), "{}", finished.report());
        assert!(finished.stdout.contains("HINT: "), "{}", finished.report());
        fs::remove_file(&filler).unwrap();
        let absent = site.scratch.path().join("absent");
        site.pgark(&["archive-get", "0000000100000000000000FF", text(&absent)]).expect_code(1);
    }
    site.pgark(&["archive-push", text(&next)]).expect_success();
}

#[test]
fn a_relative_path_is_one_in_the_data_directory_of_the_server_that_names_it() {
    let mut site = Site::start(&Server::get(17));
    let segment = site.archive_segment();
    let path = format!("pg_wal/{segment}");
    let finished = site.pgark_of_server(&["archive-push", &path]).expect_success();
    assert!(finished.stdout.contains("already exists"), "{}", finished.report());
    // The directory may be known by another name.
    let link = site.scratch.path().join("link");
    fs_err::os::unix::fs::symlink(site.cluster.data_directory(), &link).unwrap();
    let by_link = format!("--pg1-path={}", link.display());
    site.pgark_of_server(&[&by_link, "archive-push", &path]).expect_success();

    // A copy beside it, with the same settings: what it has archived must not be taken from this cluster's directory.
    site.cluster.stop(Stop::Fast);
    let copy = site.scratch.path().join("copy");
    run(Command::new("cp").args(["--archive", text(site.cluster.data_directory()), text(&copy)])).expect_success();
    let mut copy = Cluster::adopt(site.cluster.server(), &copy);
    copy.start();
    copy.switch_wal();
    copy.wait_for_sql("select failed_count > 0 from pg_stat_archiver", "t");
    assert!(copy.log().contains("HINT: is the PostgreSQL data_directory configured the same"), "{}", copy.log());
}
