//! `pgark backup` with backups before it.

mod common;

use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use fs_err as fs;
use pgark_testkit::{Cluster, Finished, Server, Stop, faults, run};

use crate::common::measuring::measure;
use crate::common::restoring::{as_it_is, assert_same};
use crate::common::{Site, SiteBuilder};

/// Takes a backup; gives its label and what was said.
#[track_caller]
fn backup(site: &Site, arguments: &[&str]) -> (String, Finished) {
    let finished = site.pgark(&[&["--log-level-console=detail"], arguments, &["backup"]].concat()).expect_success();
    let label = finished.stdout.lines().find_map(|line| line.split_once("new backup label = "));
    (label.unwrap_or_else(|| panic!("no label in {}", finished.report())).1.to_owned(), finished)
}

/// A member of the JSON that `info` gives of one backup, by its path.
fn info(site: &Site, label: &str, path: &[&str]) -> serde_json::Value {
    let finished = site.pgark(&["--output=json", &format!("--set={label}"), "info"]).expect_success();
    let report: serde_json::Value = serde_json::from_str(&finished.stdout).expect("info gives JSON");
    path.iter().fold(report[0]["backup"][0].clone(), |value, member| value[member].clone())
}

/// Bytes that a backup has read from the cluster.
fn read_bytes(site: &Site, label: &str) -> u64 {
    info(site, label, &["info", "delta"]).as_u64().expect("a number of bytes")
}

/// Bytes that a backup has added to the repository.
fn added_bytes(site: &Site, label: &str) -> u64 {
    info(site, label, &["info", "repository", "delta"]).as_u64().expect("a number of bytes")
}

/// Removes all manifests but one, and the packs that this one does not need.
fn keep_only(site: &Site, label: &str) {
    for manifest in site.objects("/manifest") {
        if !manifest.to_string_lossy().contains(&format!("/{label}/")) {
            fs::remove_file(manifest).expect("the manifest is there");
        }
    }
}

/// What makes page maps thin out and files come and go.
fn change_much(cluster: &Cluster) {
    cluster.sql("update scattered set filler = md5(filler) where id % 97 = 0");
    cluster.sql("delete from cut where id > 3000");
    cluster.sql("vacuum cut");
    cluster.sql("insert into grown select n, md5(n::text) from generate_series(1, 3000) n");
    cluster.sql("truncate emptied");
    cluster.sql("insert into emptied select generate_series(1, 100)");
    cluster.sql("drop table if exists dropped");
    cluster.sql("create table if not exists made as select n, md5(n::text) filler from generate_series(1, 2000) n");
    cluster.sql("update made set filler = md5(filler)");
    cluster.sql("vacuum full rewritten");
    cluster.sql("vacuum");
}

/// A site whose server changes nothing by itself: a free space map that autovacuum has written would differ.
fn resting_site(server: &Server) -> SiteBuilder {
    Site::builder(server).setting("autovacuum", "off")
}

fn create_tables(cluster: &Cluster) {
    cluster.sql("create table still as select n id, md5(n::text) filler from generate_series(1, 60000) n");
    cluster.sql("create table scattered as select n id, md5(n::text) filler from generate_series(1, 60000) n");
    cluster.sql("create index on scattered (filler)");
    for table in ["cut", "grown", "rewritten", "dropped"] {
        cluster
            .sql(&format!("create table {table} as select n id, md5(n::text) filler from generate_series(1, 6000) n"));
    }
    cluster.sql("create table emptied as select generate_series(1, 20000) id");
    cluster.sql("vacuum analyze");
}

fn an_incremental_backup_is_what_a_full_one_would_be(major: u32) {
    let server = Server::get(major);
    let site = resting_site(&server).start();
    create_tables(&site.cluster);
    let (full, _) = backup(&site, &["--type=full"]);
    let mut labels = vec![full.clone()];
    for (round, kind) in ["--type=incr", "--type=diff", "--type=incr"].into_iter().enumerate() {
        change_much(&site.cluster);
        if round == 1 {
            site.cluster.sql("create database copied template template0");
            site.cluster.sql_in("copied", "create table inside as select generate_series(1, 5000) id");
        }
        site.cluster.sql("checkpoint");
        let (label, said) = backup(&site, &[kind]);
        assert!(label.starts_with(&format!("{full}_")), "{label}");
        assert!(!said.stdout.contains("all files are read"), "{}", said.report());
        assert!(
            said.stdout.contains(&format!("last backup label = {}", labels[labels.len() - 1])),
            "{}",
            said.report()
        );
        labels.push(label);
    }
    let incremental = labels.pop().expect("there are some");
    let (anew, _) = backup(&site, &["--type=full", "--no-reuse"]);
    assert!(read_bytes(&site, &incremental) < read_bytes(&site, &anew) / 2);
    let complete = as_it_is(&site, "complete", &anew);
    // By itself: all others are gone.
    keep_only(&site, &incremental);
    assert_same(&as_it_is(&site, "alone", &incremental), &complete);
    let recovered = site.recover("recovered", &[]);
    assert_eq!(recovered.fingerprint(), site.cluster.fingerprint());
}

#[test]
fn an_incremental_backup_is_what_a_full_one_would_be_on_15() {
    an_incremental_backup_is_what_a_full_one_would_be(15);
}

#[test]
fn an_incremental_backup_is_what_a_full_one_would_be_on_17() {
    an_incremental_backup_is_what_a_full_one_would_be(17);
}

#[test]
fn an_incremental_backup_is_what_a_full_one_would_be_on_18() {
    an_incremental_backup_is_what_a_full_one_would_be(18);
}

#[test]
fn a_backup_costs_what_has_changed() {
    let site = resting_site(&Server::get(17)).start();
    site.cluster.pgbench_init(5);
    site.cluster.sql("vacuum");
    let (full, _) = backup(&site, &["--type=full"]);
    let (all, stored) = (read_bytes(&site, &full), added_bytes(&site, &full));
    let (idle, _) = backup(&site, &[]);
    assert!(read_bytes(&site, &idle) < all / 10, "{} of {all}", read_bytes(&site, &idle));
    assert!(added_bytes(&site, &idle) < stored / 50, "{} of {stored}", added_bytes(&site, &idle));
    site.cluster.sql("update pgbench_accounts set abalance = 1 where aid % 5000 = 0");
    let (few, _) = backup(&site, &[]);
    assert!(read_bytes(&site, &few) < all / 5, "{} of {all}", read_bytes(&site, &few));
    let (compared, _) = backup(&site, &["--delta"]);
    assert!(read_bytes(&site, &compared) > all * 9 / 10);
    let (second, said) = backup(&site, &["--type=full"]);
    assert!(read_bytes(&site, &second) > all * 9 / 10);
    assert!(added_bytes(&site, &second) < stored / 50, "{} of {stored}", added_bytes(&site, &second));
    assert!(!said.stdout.contains("although no WAL names"), "{}", said.report());
    assert_eq!(info(&site, &few, &["prior"]), idle.as_str());
    assert_eq!(info(&site, &second, &["prior"]), serde_json::Value::Null, "as pgBackRest has it of a full backup");
}

#[test]
fn pages_that_change_by_no_wal_are_told_of() {
    let mut site = resting_site(&Server::get(17)).start();
    site.cluster.sql("create table one as select n id, md5(n::text) filler from generate_series(1, 20000) n");
    site.cluster.sql("vacuum freeze one");
    backup(&site, &["--type=full"]);
    let file = site.cluster.data_directory().join(site.cluster.sql("select pg_relation_filepath('one')"));
    site.cluster.stop(Stop::Fast);
    // As it was a moment before: a write that was acknowledged and did not take place. Its checksum is right.
    let before = fs::read(&file).expect("the table can be read");
    site.cluster.start();
    site.cluster.sql("update one set filler = 'changed' where id between 5000 and 5100; checkpoint");
    backup(&site, &[]);
    site.cluster.stop(Stop::Fast);
    let pages: Vec<usize> = (0..before.len() / 8192).collect();
    let now = fs::read(&file).expect("the table can be read");
    let lost =
        *pages.iter().find(|page| before[*page * 8192..][..8192] != now[*page * 8192..][..8192]).expect("one changed");
    let handle = fs::OpenOptions::new().write(true).open(&file).expect("the table can be written");
    handle.file().write_all_at(&before[lost * 8192..][..8192], lost as u64 * 8192).expect("the table can be written");
    site.cluster.start();
    let (_, said) = backup(&site, &[]);
    assert!(!said.stdout.contains("although no WAL names"), "an incremental backup does not look: {}", said.report());
    let (_, said) = backup(&site, &["--type=full"]);
    let name = file.strip_prefix(site.cluster.data_directory()).expect("it lies in it").display().to_string();
    let warning = format!("WARN: page(s) of file {name} have changed although no WAL names them: {lost}\n");
    assert!(said.stdout.contains(&warning), "{}", said.report());
}

#[test]
fn what_is_lost_in_the_repository_is_stored_anew() {
    let site = resting_site(&Server::get(17)).start();
    create_tables(&site.cluster);
    let (full, _) = backup(&site, &["--type=full", "--process-max=2"]);
    site.cluster.sql("update scattered set filler = 'x' where id % 1000 = 0");
    backup(&site, &[]);
    let packs = site.objects("/pack/");
    fs::remove_file(&packs[0]).expect("the pack is there");
    let (healed, said) = backup(&site, &[]);
    assert!(said.stdout.contains("WARN: 1 pack(s) are missing or damaged"), "{}", said.report());
    let (anew, _) = backup(&site, &["--type=full", "--no-reuse"]);
    assert_same(&as_it_is(&site, "healed", &healed), &as_it_is(&site, "anew", &anew));
    let directory = site.scratch.path().join("lost");
    let path = format!("--pg1-path={}", directory.display());
    let lost = site.pgark(&[&path, &format!("--set={full}"), "--type=none", "restore"]);
    assert_ne!(lost.code(), Some(0), "the first backup needs the pack");

    // A pack whose end is damaged can't be compared with.
    let newest = site.objects("/pack/").into_iter().max_by_key(|path| fs::metadata(path).map_or(0, |data| data.len()));
    let newest = newest.expect("there are packs");
    let length = fs::metadata(&newest).expect("the pack is there").len();
    faults::flip_byte(&newest, length - 20);
    let (healed, said) = backup(&site, &["--type=full"]);
    assert!(said.stdout.contains("is stored anew"), "{}", said.report());
    assert_same(
        &as_it_is(&site, "healed-again", &healed),
        &as_it_is(&site, "compared", &backup(&site, &["--type=full", "--no-reuse"]).0),
    );
}

#[test]
fn a_backup_without_one_before_it_is_full() {
    let mut site = resting_site(&Server::get(17)).start();
    for kind in ["incr", "diff"] {
        let (label, said) = backup(&site, &[&format!("--type={kind}")]);
        if kind == "incr" {
            assert!(label.ends_with('F'), "{label}");
            let warning = format!("WARN: no prior backup exists, {kind} backup has been changed to full");
            assert!(said.stdout.contains(&warning), "{}", said.report());
        } else {
            assert!(label.ends_with('D'), "{label}");
        }
    }
    site.cluster.stop(Stop::Fast);
    let (offline, said) = backup(&site, &["--no-online"]);
    assert!(offline.ends_with('I'), "{}", said.report());
    let directory = as_it_is(&site, "offline", &offline);
    let mut cluster = Cluster::adopt(site.cluster.server(), &directory);
    cluster.start();
    let checked = run(cluster.client("pg_amcheck").args(["--all", "--install-missing"]));
    checked.expect_success();
}

/// A table of about 200 MB that does not shrink, so that packs fill while a backup runs.
fn create_large_table(cluster: &Cluster) {
    let row = (1..=10).map(|part| format!("sha512((n * {part})::text::bytea)")).collect::<Vec<_>>().join(" || ");
    cluster.sql(&format!("create table large as select {row} noise from generate_series(1, 320000) n"));
}

fn finished_packs(site: &Site) -> usize {
    site.objects("/pack/").iter().filter(|path| !path.to_string_lossy().contains(".pgark-tmp-")).count()
}

/// Begins a backup and kills it as soon as so many packs are there.
fn kill_backup(site: &Site, packs: usize) {
    let stanza = format!("--stanza={}", common::STANZA);
    let mut child = site.command(&[&stanza, "--type=full", "backup"]).spawn().expect("the program starts");
    pgark_testkit::wait_until("packs", || finished_packs(site) >= packs);
    child.kill().expect("the backup is still at work");
    child.wait().expect("the child can be waited for");
}

#[test]
fn what_a_killed_backup_has_stored_is_taken_over() {
    let site = resting_site(&Server::get(17)).wal_segment_size_mib(16).start();
    create_large_table(&site.cluster);
    kill_backup(&site, 1);
    let (fresh, said) = backup(&site, &["--type=full", "--no-resume"]);
    assert!(!said.stdout.contains("taken over"), "{}", said.report());
    let before = finished_packs(&site);
    assert!(added_bytes(&site, &fresh) > 180 << 20, "all of it is stored again");
    site.cluster.sql("update large set noise = noise || 'x'");
    kill_backup(&site, before + 1);
    let left = finished_packs(&site) - before;
    // The first one was left by the first kill, and is older than the backup that did not take it over.
    site.cluster.sql("delete from large where ctid < '(100,0)'");
    let (resumed, said) = backup(&site, &[]);
    assert!(
        said.stdout.contains(&format!("{left} pack(s) of an interrupted backup are taken over")),
        "{}",
        said.report()
    );
    let new = finished_packs(&site) - before - left;
    let (anew, _) = backup(&site, &["--type=full", "--no-reuse"]);
    let whole = finished_packs(&site) - before - left - new;
    assert!(new < whole + 2, "{new} packs were written where {whole} are all there is");
    assert_same(&as_it_is(&site, "resumed", &resumed), &as_it_is(&site, "anew", &anew));
    assert!(info(&site, &resumed, &["error"]) == false);
}

#[test]
fn a_backup_that_is_killed_anywhere_can_be_taken_again() {
    let site = resting_site(&Server::get(15)).start();
    create_tables(&site.cluster);
    backup(&site, &["--type=full"]);
    let stanza = format!("--stanza={}", common::STANZA);
    for wait_ms in [5, 20, 40, 60, 80, 100, 130, 160, 200, 250] {
        change_much(&site.cluster);
        let mut child = site.command(&[&stanza, "backup"]).spawn().expect("the program starts");
        std::thread::sleep(std::time::Duration::from_millis(wait_ms));
        child.kill().ok();
        child.wait().expect("the child can be waited for");
    }
    let (last, _) = backup(&site, &[]);
    let (anew, _) = backup(&site, &["--type=full", "--no-reuse"]);
    assert_same(&as_it_is(&site, "last", &last), &as_it_is(&site, "anew", &anew));
    for (place, label) in labels(&site).into_iter().enumerate() {
        as_it_is(&site, &format!("each-{place}"), &label);
    }
}

/// The labels of all backups.
fn labels(site: &Site) -> Vec<String> {
    let manifests = site.objects("/manifest");
    let label = |path: &PathBuf| path.parent()?.file_name()?.to_str().map(ToOwned::to_owned);
    manifests.iter().filter_map(label).collect()
}

/// Page maps thin out with every backup; what a restore fetches for the last one must not grow with their number.
#[test]
fn many_backups_keep_the_last_one_compact() {
    let site = resting_site(&Server::get(17)).start();
    site.cluster.sql("create table busy as select n id, md5(n::text) filler from generate_series(1, 100000) n");
    backup(&site, &["--type=full"]);
    for round in 0..12 {
        site.cluster.sql(&format!("update busy set filler = md5(filler) where id % 12 = {round}; vacuum busy"));
        backup(&site, &[]);
    }
    let (last, _) = backup(&site, &[]);
    let stored = info(&site, &last, &["info", "repository", "size"]).as_u64().expect("a number of bytes");
    let (anew, _) = backup(&site, &["--type=full", "--no-reuse"]);
    let whole = info(&site, &anew, &["info", "repository", "size"]).as_u64().expect("a number of bytes");
    assert!(stored < whole * 3 / 2, "{stored} where {whole} would do");
    assert_same(&as_it_is(&site, "last", &last), &as_it_is(&site, "anew", &anew));
}

/// Takes an incremental backup that must read everything, or must not, and holds it against one that compares with nothing.
#[track_caller]
fn assert_is_right(site: &Site, name: &str, reason: Option<&str>) {
    let (label, said) = backup(site, &["--type=incr"]);
    let found = said.stdout.lines().find_map(|line| line.split_once("all files are read, since ")).map(|found| found.1);
    match reason {
        Some(reason) => assert!(found.is_some_and(|found| found.contains(reason)), "{name}: {}", said.report()),
        None => assert_eq!(found, None, "{name}: {}", said.report()),
    }
    let (anew, said) = backup(site, &["--type=full", "--no-reuse"]);
    assert!(!said.stdout.contains("although no WAL names"), "{}", said.report());
    assert_same(&as_it_is(site, &format!("{name}-incr"), &label), &as_it_is(site, &format!("{name}-full"), &anew));
}

fn run_on_stopped(cluster: &mut Cluster, tool: &str, arguments: &[&str]) {
    cluster.stop(Stop::Fast);
    let mut command = cluster.server().tool(tool);
    run(command.args(arguments).arg("--pgdata").arg(cluster.data_directory())).expect_success();
    cluster.start();
}

/// Would lose: pages whose checksums are those of another setting.
#[test]
fn a_switch_of_page_checksums_is_followed() {
    for major in [15, 17] {
        let mut site = resting_site(&Server::get(major)).start();
        site.cluster
            .sql("create table t as select n id, md5(n::text) filler from generate_series(1, 20000) n; vacuum t");
        backup(&site, &["--type=full"]);
        for (name, switch, reason) in [
            ("off", Some("--disable"), Some("page checksums were switched off")),
            ("without", None, None),
            ("on", Some("--enable"), Some("page checksums were switched on")),
            ("with", None, None),
        ] {
            site.cluster.sql(&format!("update t set filler = '{name}' where id % 500 = 0; vacuum t; checkpoint"));
            if let Some(switch) = switch {
                run_on_stopped(&mut site.cluster, "pg_checksums", &[switch]);
            }
            assert_is_right(&site, name, reason);
        }
        site.cluster.stop(Stop::Fast);
        site.cluster.check_pages();
    }
}

/// Would lose: the server's memory, if what is looked at of the WAL were held in it.
#[test]
fn the_wal_between_two_backups_takes_little_memory() {
    let site = Site::builder(&Server::get(17)).wal_segment_size_mib(16).setting("autovacuum", "off").start();
    backup(&site, &["--type=full"]);
    for _ in 0..6 {
        site.cluster.sql("select pg_logical_emit_message(false, 'long', repeat(md5(random()::text), 250000))");
        site.archive_segment();
    }
    let arguments = ["--type=incr", "--process-max=2", "--log-level-console=info", "backup"];
    let taken = measure(&site, &arguments);
    assert_eq!(taken.code, Some(0), "{}", taken.output);
    assert!(!taken.output.contains("all files are read"), "{}", taken.output);
    assert!(taken.memory_kib < 48 << 10, "{} KiB", taken.memory_kib);
}
