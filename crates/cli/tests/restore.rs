//! Restoring: a user who loses a cluster gets back exactly the moment that was asked for, or a clear no.

mod common;

use fs_err::os::unix::fs::FileExt;

use fs_err as fs;
use pgark_testkit::{Cluster, Server, faults, give_to_test_user, run};

use crate::common::Site;
use crate::common::restoring::{archive_all, commit_row, comparable, recovered, restore, restore_into, rows};

/// Rows that are there when the backup is taken, each insertion a transaction of its own after it.
const ROWS_IN_BACKUP: u32 = 10;

/// A running site with a table that is in its backup.
fn site_with_backup(server: &Server) -> Site {
    let site =
        Site::builder(server).setting("track_commit_timestamp", "on").passphrase("in a hole in the ground").start();
    site.cluster.sql("create table rows (id int primary key)");
    site.cluster.sql(&format!("insert into rows select generate_series(1, {ROWS_IN_BACKUP})"));
    site.backup(&["--process-max=2"]);
    site
}

fn every_target_is_reached(major: u32) {
    let server = Server::get(major);
    let site = site_with_backup(&server);
    commit_row(&site, 11);
    site.cluster.sql("select pg_create_restore_point('after eleven')");
    commit_row(&site, 12);
    let lsn = site.cluster.current_lsn();
    let thirteen = commit_row(&site, 13);
    commit_row(&site, 14);
    // Two commits some milliseconds apart, and a target between them.
    let close = "insert into rows values (15); select pg_sleep(0.004); insert into rows values (16)";
    site.cluster.sql(close);
    let between = site.cluster.sql(
        "select to_char(least(a, b) + (greatest(a, b) - least(a, b)) / 2, 'YYYY-MM-DD HH24:MI:SS.USOF')
           from (select pg_xact_commit_timestamp(xmin) a from rows where id = 15) one,
                (select pg_xact_commit_timestamp(xmin) b from rows where id = 16) other",
    );
    site.cluster.sql("drop table rows");
    archive_all(&site);

    let target = |text: &str| format!("--target={text}");
    let cases: [(&str, &[&str], Option<u32>); 7] = [
        ("immediate", &["--type=immediate"], Some(10)),
        ("name", &["--type=name", "--target=after eleven"], Some(11)),
        ("lsn", &["--type=lsn", &target(&lsn)], Some(12)),
        ("xid", &["--type=xid", &target(&thirteen)], Some(13)),
        ("before-xid", &["--type=xid", &target(&thirteen), "--target-exclusive"], Some(12)),
        ("time", &["--type=time", &target(&between)], Some(15)),
        ("default", &[], None),
    ];
    for (name, arguments, expected) in cases {
        let action: &[&str] = if expected.is_some() { &["--target-action=promote"] } else { &[] };
        let directory = restore(&site, name, &[arguments, action].concat());
        let cluster = recovered(&server, &directory);
        match expected {
            Some(expected) => assert_eq!(rows(&cluster), expected.to_string(), "{name} on {major}"),
            None => assert!(cluster.try_sql("select from rows").is_err(), "{name} on {major}"),
        }
        run(cluster.client("pg_amcheck").args(["--all", "--heapallindexed", "--install-missing"])).expect_success();
    }
}

#[test]
fn every_target_is_reached_on_15() {
    every_target_is_reached(15);
}

#[test]
fn every_target_is_reached_on_17() {
    every_target_is_reached(17);
}

#[test]
fn every_target_is_reached_on_18() {
    every_target_is_reached(18);
}

#[test]
fn a_target_that_cannot_be_reached_is_refused_before_anything_is_touched() {
    let server = Server::get(17);
    let site = site_with_backup(&server);
    let last = commit_row(&site, 11);
    archive_all(&site);
    let directory = site.scratch.path().join("never");
    let cases = [
        (["--type=time", "--target=2099-01-01 00:00:00+00"], "can't be reached", "goes from"),
        (
            ["--type=time", "--target=2000-01-01 00:00:00+00"],
            "lies before the end of the oldest backup set",
            "goes from",
        ),
        (["--type=lsn", "--target=FF/0"], "can't be reached", "goes from"),
        (["--type=lsn", "--target=0/1000"], "lies before the end of the oldest backup set", "goes from"),
        (["--type=name", "--target=nobody made it"], "can't be reached", "goes from"),
        (["--type=xid", "--target=4000000"], "can't be reached", "goes from"),
    ];
    for (arguments, message, window) in cases {
        let finished = restore_into(&site, &directory, &arguments).expect_code(75);
        assert!(finished.stdout.contains(message), "{arguments:?}: {}", finished.report());
        assert!(finished.stdout.contains(window), "{arguments:?}: {}", finished.report());
        assert!(!directory.exists(), "{arguments:?}");
    }
    restore_into(&site, &directory, &["--type=xid", &format!("--target={last}")]).expect_success();
}

#[test]
fn directories_in_use_are_left_alone() {
    let server = Server::get(18);
    let mut site = site_with_backup(&server);
    let finished = site.pgark(&["--delta", "restore"]).expect_code(38);
    assert!(finished.stdout.contains("unable to restore while PostgreSQL is running"), "{}", finished.report());
    assert_eq!(rows(&site.cluster), "10");

    site.cluster.stop(pgark_testkit::Stop::Fast);
    let finished = site.pgark(&["restore"]).expect_code(40);
    assert!(finished.stdout.contains("because it contains files"), "{}", finished.report());
    assert!(finished.stdout.contains("HINT: try using --delta"), "{}", finished.report());

    let other = site.scratch.directory("thesis");
    let precious = site.scratch.write("thesis/thesis.txt", "thirty years of work");
    for flag in ["--delta", "--force"] {
        restore_into(&site, &other, &[flag]).expect_code(40);
        let finished = restore_into(&site, &precious, &[flag]).expect_code(41);
        assert!(finished.stdout.contains("thesis.txt"), "{}", finished.report());
    }
    assert_eq!(fs::read_to_string(precious).unwrap(), "thirty years of work");

    site.pgark(&["--force", "restore"]).expect_success();
    site.cluster.start();
    assert_eq!(rows(&site.cluster), "10");
}

#[test]
fn an_unknown_set_is_refused() {
    let site = site_with_backup(&Server::get(15));
    let directory = site.scratch.path().join("never");
    let finished = restore_into(&site, &directory, &["--set=20200101-000000F"]).expect_code(75);
    assert!(finished.stdout.contains("backup set 20200101-000000F is not valid"), "{}", finished.report());
    assert!(!directory.exists());
}

#[test]
fn delta_mends_every_difference_and_fetches_little() {
    let server = Server::get(17);
    let site = site_with_backup(&server);
    site.cluster
        .sql("create table filler as select g, repeat(md5(g::text), 20) as text from generate_series(1, 40000) g");
    let filler = site.cluster.sql("select pg_relation_filepath('filler')");
    site.backup(&[]);
    let fresh = restore(&site, "fresh", &[]);
    let mended = restore(&site, "mended", &[]);
    assert_eq!(comparable(&fresh), comparable(&mended));

    let table = mended.join(&filler);
    let size = fs::metadata(&table).unwrap().len();
    assert!(size > 20 << 20, "{size}");
    for offset in [0, 8191, 8192, size / 2, size - 1] {
        faults::flip_byte(&table, offset);
    }
    faults::truncate(&mended.join("base/1/1259"), 8192 * 3 + 17);
    fs::OpenOptions::new()
        .write(true)
        .open(mended.join("base/1/1249"))
        .unwrap()
        .write_all_at(b"longer", 1 << 21)
        .unwrap();
    fs::remove_file(mended.join("base/1/2619")).unwrap();
    fs::remove_dir_all(mended.join("pg_xact")).unwrap();
    fs::write(mended.join("base/1/99999"), "not of this backup").unwrap();
    fs::create_dir(mended.join("base/77777")).unwrap();
    fs::write(mended.join("base/77777/1"), "neither").unwrap();
    fs::write(mended.join("PG_VERSION"), "16\n").unwrap();
    give_to_test_user(&mended.join("base/77777"));

    let finished = restore_into(&site, &mended, &["--delta", "--log-level-console=info"]).expect_success();
    assert_eq!(comparable(&fresh), comparable(&mended));
    let fetched =
        finished.stdout.lines().find_map(|line| line.split_once("fetched = ")).expect("a figure").1.to_owned();
    assert!(fetched.ends_with("KB"), "{fetched} were fetched to mend some pages");

    let again = restore_into(&site, &mended, &["--delta", "--log-level-console=info"]).expect_success();
    assert_eq!(comparable(&fresh), comparable(&mended));
    assert!(again.stdout.contains("fetched = "), "{}", again.report());
    assert_eq!(recovered(&server, &mended).sql("select count(*) from filler"), "40000");
}

#[test]
fn a_damaged_pack_stops_the_restore_and_nothing_can_be_started() {
    let server = Server::get(15);
    let site = site_with_backup(&server);
    let packs = site.objects("/pack/");
    let largest = packs.iter().max_by_key(|path| fs::metadata(path).unwrap().len()).unwrap();
    faults::flip_byte(largest, fs::metadata(largest).unwrap().len() / 3);
    let directory = site.scratch.path().join("damaged");
    let finished = restore_into(&site, &directory, &[]).expect_code(26);
    assert!(finished.stdout.contains("is damaged"), "{}", finished.report());
    assert!(finished.stdout.contains("/pack/"), "{}", finished.report());
    assert!(!directory.join("global/pg_control").exists());
    assert!(Cluster::adopt(&server, &directory).try_start().is_err());
}

#[test]
fn a_second_repository_steps_in() {
    let server = Server::get(18);
    let site = Site::builder(&server).repositories(2).start();
    site.cluster.sql("create table rows (id int)");
    site.backup(&["--repo=2"]);
    let first = site.repository();
    fs::rename(&first, first.with_extension("unplugged")).unwrap();
    let directory = restore(&site, "second", &["--type=immediate", "--target-action=promote"]);
    // The missing repository may hold WAL that the other one lacks: recovery must not take its end for the end of all.
    let refused = Cluster::adopt(&server, &directory).try_start().unwrap_err();
    assert!(refused.contains("could not restore file"), "{refused}");
    site.reconfigure(&format!("repo1-path={}\n", first.display()), "");
    assert_eq!(rows(&recovered(&server, &directory)), "0");
}

#[test]
fn a_cluster_goes_on_and_is_restored_along_its_new_timeline() {
    let server = Server::get(17);
    let mut site = site_with_backup(&server);
    let eleven = commit_row(&site, 11);
    commit_row(&site, 12);
    archive_all(&site);
    site.cluster.stop(pgark_testkit::Stop::Fast);
    let back = ["--delta", "--type=xid", &format!("--target={eleven}"), "--target-action=promote", "restore"];
    site.pgark(&back).expect_success();
    site.cluster.start();
    site.cluster.wait_for_sql("select pg_is_in_recovery()", "f");
    assert_eq!(rows(&site.cluster), "11");
    for row in 20..25 {
        commit_row(&site, row);
    }
    archive_all(&site);

    // From the backup of timeline 1, over the switch, to the end of timeline 2.
    let latest = restore(&site, "latest", &[]);
    assert_eq!(rows(&recovered(&server, &latest)), "16");
    // And on timeline 1 to its end, where rows 11 and 12 are.
    let current = restore(&site, "current", &["--target-timeline=current"]);
    assert_eq!(rows(&recovered(&server, &current)), "12");

    let label = site.backup(&[]);
    commit_row(&site, 25);
    archive_all(&site);
    let second = restore(&site, "second", &[&format!("--set={label}")]);
    assert_eq!(rows(&recovered(&server, &second)), "17");
    assert!(!site.cluster.log().contains("ends early"), "sound WAL was called damaged: {}", site.cluster.log());
}

#[test]
fn what_lies_on_a_timeline_that_was_left_is_not_forgotten() {
    let server = Server::get(17);
    // Nobody else may take transaction ids: both timelines are to have the same.
    let mut site = Site::builder(&server).setting("track_commit_timestamp", "on").setting("autovacuum", "off").start();
    site.cluster.sql("create table rows (id int primary key); insert into rows select generate_series(1, 10)");
    site.backup(&[]);
    let first = commit_row(&site, 11);
    let second = commit_row(&site, 12);
    let moment = site.cluster.sql(
        "select to_char(pg_xact_commit_timestamp(xmin) + '1 ms', 'YYYY-MM-DD HH24:MI:SS.USOF') from rows where id = 12",
    );
    let lsn = site.cluster.current_lsn();
    site.cluster.sql("select pg_create_restore_point('only here')");
    commit_row(&site, 13);
    archive_all(&site);
    site.cluster.stop(pgark_testkit::Stop::Fast);
    let back = ["--delta", "--type=xid", &format!("--target={first}"), "--target-action=promote", "restore"];
    site.pgark(&back).expect_success();
    site.cluster.start();
    site.cluster.wait_for_sql("select pg_is_in_recovery()", "f");
    // The same transaction ids and positions once more.
    site.cluster.sql("insert into rows select generate_series(100, 20000)");
    for row in 20..25 {
        commit_row(&site, row);
    }
    archive_all(&site);

    let lies_also = "lies also on timeline 1, and what that has after";
    let promote = "--target-action=promote";
    for (name, kind, target, expected) in [
        ("time", "--type=time", &moment, ["11", "12"]),
        ("lsn", "--type=lsn", &lsn, ["11", "12"]),
        ("xid", "--type=xid", &second, ["19912", "12"]),
    ] {
        let target = format!("--target={target}");
        let arguments = [kind, target.as_str(), promote];
        let (newest, old) = (site.scratch.path().join(name), site.scratch.path().join(format!("{name}-1")));
        let finished = restore_into(&site, &newest, &arguments).expect_success();
        assert!(finished.stdout.contains(lies_also), "{name}: {}", finished.report());
        let finished = restore_into(&site, &old, &[&arguments[..], &["--target-timeline=1"]].concat()).expect_success();
        assert!(!finished.stdout.contains("WARN"), "{name}: {}", finished.report());
        assert_eq!([newest, old].map(|directory| rows(&recovered(&server, &directory))), expected, "{name}");
    }
    let never = site.scratch.path().join("never");
    let finished = restore_into(&site, &never, &["--type=name", "--target=only here"]).expect_code(75);
    assert!(finished.stdout.contains("timeline 1, which is not followed, has it"), "{}", finished.report());
    let finished = restore_into(&site, &never, &["--target-timeline=0x9"]).expect_code(55);
    assert!(finished.stdout.contains("timeline 9 is not in the archive"), "{}", finished.report());
    assert!(!never.exists());
}

#[test]
fn a_backup_is_not_passed_over_for_the_timeline_of_a_copy() {
    let server = Server::get(18);
    let site = site_with_backup(&server);
    commit_row(&site, 11);
    archive_all(&site);
    // A copy that was not kept from archiving, while the cluster goes on and is backed up.
    let directory = site.scratch.path().join("copy");
    let path = format!("--pg1-path={}", directory.display());
    let (program, configuration) = (site.program.path().display(), site.configuration_file());
    let command = format!("{program} --config={} --stanza=demo {path} archive-push %p", configuration.display());
    site.pgark(&[&path, &format!("--recovery-option=archive_command={command}"), "restore"]).expect_success();
    let copy = recovered(&server, &directory);
    let segment = copy.switch_wal();
    copy.wait_for_archived(&segment);
    drop(copy);
    commit_row(&site, 12);
    let label = site.backup(&[]);
    commit_row(&site, 13);
    archive_all(&site);

    let never = site.scratch.path().join("never");
    let finished = restore_into(&site, &never, &[]).expect_code(58);
    let said = format!("before backup set {label} ended");
    assert!(finished.stdout.contains("target timeline 2 left timeline 1 at"), "{}", finished.report());
    assert!(finished.stdout.contains(&said), "{}", finished.report());
    assert!(finished.stdout.contains("use --target-timeline=current"), "{}", finished.report());
    assert!(!never.exists());
    let current = restore(&site, "current", &["--target-timeline=current"]);
    assert_eq!(rows(&recovered(&server, &current)), "13");
    let latest = restore(&site, "latest", &["--target-timeline=latest"]);
    assert_eq!(rows(&recovered(&server, &latest)), "11");
}

#[test]
fn an_interrupted_restore_cannot_be_started_and_can_be_repeated() {
    let server = Server::get(18);
    let site = site_with_backup(&server);
    site.cluster.pgbench_init(5);
    site.backup(&[]);
    let directory = site.scratch.path().join("interrupted");
    let path = format!("--pg1-path={}", directory.display());
    let stanza = format!("--stanza={}", common::STANZA);
    let options = ["--delta", "--type=immediate", "--target-action=promote"];
    let command = [&[stanza.as_str(), &path], options.as_slice(), &["restore"]].concat();
    let control_file = directory.join("global/pg_control");
    let mut interrupted = 0;
    for wait_ms in [5, 20, 40, 80, 120, 160, 200, 250] {
        let mut child = site.command(&command).spawn().expect("the program can be started");
        std::thread::sleep(std::time::Duration::from_millis(wait_ms));
        child.kill().unwrap();
        child.wait().unwrap();
        if !control_file.exists() {
            interrupted += 1;
        } else if interrupted == 0 {
            // The kill came too late: from the beginning.
            fs::remove_dir_all(&directory).unwrap();
        } else {
            // The kill came after the last step that counts, so what is there must be whole.
            break;
        }
    }
    assert!(interrupted > 0, "no restore was interrupted");
    if !control_file.exists() {
        restore_into(&site, &directory, &options).expect_success();
        assert!(!directory.join("pgark.restore").exists());
    }
    assert_eq!(recovered(&server, &directory).sql("select count(*) from pgbench_accounts"), "500000");
}

#[test]
fn without_recovery_an_offline_backup_starts_as_it_was_shut_down() {
    let server = Server::get(15);
    let mut site = Site::start(&server);
    site.cluster.sql("create table rows (id int); insert into rows select generate_series(1, 7)");
    site.cluster.stop(pgark_testkit::Stop::Fast);
    site.backup(&["--no-online"]);
    let before =
        restore_into(&site, &site.scratch.path().join("never"), &["--type=time", "--target=2020-01-01 00:00:00+00"]);
    assert!(before.expect_code(75).stdout.contains("lies before the end of the oldest backup set"));
    let directory = site.scratch.path().join("offline");
    let path = format!("--pg1-path={}", directory.display());
    for (arguments, recovers) in
        [(&["--type=none"][..], false), (&["--delta"], false), (&["--delta", "--type=default"], true)]
    {
        site.pgark(&[&[path.as_str(), "restore"], arguments].concat()).expect_success();
        assert_eq!(directory.join("recovery.signal").exists(), recovers, "{arguments:?}");
    }
    // With settings of a recovery, recovery it is.
    restore_into(&site, &directory, &["--delta"]).expect_success();
    assert!(directory.join("recovery.signal").exists());
    site.pgark(&[&path, "--delta", "restore"]).expect_success();
    assert_eq!(rows(&recovered(&server, &directory)), "7");
}
