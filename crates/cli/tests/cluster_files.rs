//! The files of a cluster: very large ones, very many, in unusual places.

#![expect(clippy::unwrap_used, reason = "what is not as expected ends the test")]

mod common;

use std::collections::BTreeMap;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use fs_err as fs;
use pgark_testkit::{Cluster, Server, Stop, faults};

use crate::common::Site;

/// After so many bytes PostgreSQL goes on with the next file of a table.
const FILE_LIMIT: u64 = 1 << 30;

/// Has a table of a cluster go on in a second file: with pages that PostgreSQL has made but never used, as after a large
/// load that failed, and rows behind them. Gives the path of the first file in the data directory.
fn fill_first_file(cluster: &mut Cluster, table: &str) -> PathBuf {
    let path = PathBuf::from(cluster.sql(&format!("select pg_relation_filepath('{table}')")));
    cluster.stop(Stop::Fast);
    let file = fs::OpenOptions::new().write(true).open(cluster.data_directory().join(&path)).unwrap();
    file.set_len(FILE_LIMIT).unwrap();
    cluster.start();
    cluster.sql(&format!("insert into {table} select g, md5(g::text) from generate_series(1, 20000) g; checkpoint"));
    path
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    path.with_extension(suffix)
}

/// A file or directory, and what a restore has to bring back of it.
#[derive(Debug, PartialEq, Eq)]
struct Facts {
    is_directory: bool,
    mode: u32,
    owner: (u32, u32),
    /// Of a file: its size and when it was changed, in seconds.
    file: Option<(u64, i64)>,
}

fn facts_below(directory: &Path) -> BTreeMap<PathBuf, Facts> {
    let mut found = BTreeMap::new();
    let mut pending = vec![PathBuf::new()];
    while let Some(path) = pending.pop() {
        let metadata = fs::metadata(directory.join(&path)).unwrap();
        if metadata.is_dir() {
            let names = fs::read_dir(directory.join(&path)).unwrap().map(|entry| entry.unwrap().file_name());
            pending.extend(names.map(|name| path.join(name)));
        }
        let file = metadata.is_file().then(|| (metadata.len(), metadata.mtime()));
        let facts = Facts {
            is_directory: metadata.is_dir(),
            mode: metadata.mode(),
            owner: (metadata.uid(), metadata.gid()),
            file,
        };
        found.insert(path, facts);
    }
    found
}

fn assert_same_content(one: &Path, other: &Path) {
    let (one_file, other_file) = (fs::File::open(one).unwrap(), fs::File::open(other).unwrap());
    let mut buffers = [vec![0; 1 << 20], vec![0; 1 << 20]];
    let mut offset = 0;
    loop {
        let [first, second] = &mut buffers;
        let read = one_file.file().read_at(first, offset).unwrap();
        other_file.file().read_exact_at(&mut second[..read], offset).unwrap();
        assert!(first[..read] == second[..read], "'{}' differs after byte {offset}", other.display());
        if read == 0 {
            return;
        }
        offset += read as u64;
    }
}

/// What a backup leaves out of a cluster that was shut down, by its paths.
fn is_left_out(path: &Path, unlogged: &str) -> bool {
    let transient =
        ["pg_dynshmem", "pg_notify", "pg_replslot", "pg_serial", "pg_snapshots", "pg_stat_tmp", "pg_subtrans"];
    let is_inside = |directory: &&str| path.starts_with(directory) && path != Path::new(directory);
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let is_unlogged = path.to_string_lossy().starts_with(unlogged) && !name.ends_with("_init");
    transient.iter().any(is_inside)
        || is_unlogged
        || name.starts_with("pg_internal.init")
        || path == Path::new("postmaster.opts")
}

/// Compares file by file: a cluster that was shut down, and its offline backup, restored.
fn assert_exact(original: &Path, restored: &Path, unlogged: &str) {
    let (mut before, mut after) = (facts_below(original), facts_below(restored));
    before.retain(|path, _| !is_left_out(path, unlogged));
    // A restore looks into the settings for old recovery targets, and writes them again.
    for facts in [&mut before, &mut after] {
        facts.get_mut(Path::new("postgresql.auto.conf")).unwrap().file = None;
    }
    let (paths_before, paths_after): (Vec<_>, Vec<_>) = (before.keys().collect(), after.keys().collect());
    assert_eq!(paths_before, paths_after);
    for (path, facts) in &before {
        assert_eq!(facts, &after[path], "{}", path.display());
        if !facts.is_directory {
            assert_same_content(&original.join(path), &restored.join(path));
        }
    }
}

/// The fingerprints of all tables but the unlogged one.
fn logged_content(cluster: &Cluster) -> String {
    cluster
        .fingerprint()
        .lines()
        .filter(|line| !line.starts_with("public.scratch|"))
        .map(|line| line.to_owned() + "\n")
        .collect()
}

#[test]
fn large_and_many_files_come_back_exactly() {
    let mut site = Site::builder(&Server::get(17))
        .setting("allow_in_place_tablespaces", "on")
        .setting("max_locks_per_transaction", "400")
        .start();
    site.cluster.sql(
        "create tablespace inside location '';
         create table large (id int, line text) with (autovacuum_enabled = off) tablespace inside;
         insert into large values (0, 'first');
         create unlogged table scratch as select generate_series(1, 5000) n",
    );
    let unlogged = site.cluster.sql("select pg_relation_filepath('scratch')");
    site.cluster.sql(
        "create schema many;
         do $$ begin for i in 1..5000 loop execute format('create table many.t%s as select %s as n', i, i); end loop; end $$",
    );
    let large = fill_first_file(&mut site.cluster, "large");
    let size = "select pg_relation_size('large') > 1024 * 1024 * 1024, count(*), sum(id) from large";
    assert_eq!(site.cluster.sql(size), "t|20001|200010000");
    site.backup(&["--process-max=2"]);
    site.cluster.sql("update many.t5000 set n = 0");
    let content = logged_content(&site.cluster);
    site.archive_segment();
    let mut restored = site.recover("online", &[]);
    assert!(logged_content(&restored) == content, "some of the tables have other rows");
    assert_eq!(restored.sql(size), "t|20001|200010000");
    restored.stop(Stop::Fast);
    restored.check_pages();
    // What was never written takes no space.
    let blocks = fs::metadata(restored.data_directory().join(&large)).unwrap().blocks();
    assert!(blocks * 512 < FILE_LIMIT / 100, "{blocks} blocks");
    drop(restored);

    site.cluster.stop(Stop::Fast);
    site.backup(&["--no-online", "--process-max=2"]);
    let directory = site.scratch.path().join("offline");
    let path = format!("--pg1-path={}", directory.display());
    site.pgark(&[&path, "--type=none", "--process-max=2", "restore"]).expect_success();
    assert_exact(site.cluster.data_directory(), &directory, &unlogged);
    fs::remove_dir_all(&directory).unwrap();

    let second_file = with_suffix(&large, "1");
    faults::flip_byte(&site.cluster.data_directory().join(&second_file), 2 * 8192 + 5000);
    let finished = site.pgark(&["--no-online", "--type=full", "backup"]).expect_success();
    let warning = format!("invalid page checksum found in file {} at page 2", second_file.display());
    assert!(finished.stdout.contains(&warning), "{}", finished.report());
}

#[test]
fn configuration_files_elsewhere_are_named_and_left_alone() {
    let mut site = Site::builder(&Server::get(16)).create();
    let elsewhere = site.scratch.directory("etc");
    let data = site.cluster.data_directory().to_owned();
    for name in ["postgresql.conf", "pg_hba.conf", "pg_ident.conf"] {
        fs::rename(data.join(name), elsewhere.join(name)).unwrap();
    }
    site.cluster.use_configuration_of(&elsewhere);
    site.cluster.start();
    site.pgark(&["stanza-create"]).expect_success();
    site.cluster.sql("create table rows as select generate_series(1, 10) n");
    let finished = site.pgark(&["--type=full", "--log-level-console=info", "backup"]).expect_success();
    let said = finished.stdout.lines().find(|line| line.contains("not part of the backup")).unwrap_or_default();
    for name in ["postgresql.conf", "pg_hba.conf", "pg_ident.conf"] {
        assert!(said.contains(&format!("'{}'", elsewhere.join(name).display())), "{}", finished.report());
    }
    let before = fs::read(elsewhere.join("postgresql.conf")).unwrap();
    let directory = site.restore("restored", &[]);
    assert_eq!(fs::read(elsewhere.join("postgresql.conf")).unwrap(), before);
    assert!(!directory.join("postgresql.conf").exists());
    let mut restored = Cluster::adopt(site.cluster.server(), &directory);
    restored.use_configuration_of(&elsewhere);
    restored.start();
    restored.wait_for_sql("select pg_is_in_recovery()", "f");
    assert_eq!(restored.sql("select count(*) from rows"), "10");
}

#[test]
fn a_data_directory_behind_a_link_serves() {
    let mut site = Site::start(&Server::get(18));
    site.cluster.sql("create table rows as select generate_series(1, 10) n");
    let link = site.scratch.path().join("current");
    fs_err::os::unix::fs::symlink(site.cluster.data_directory(), &link).unwrap();
    site.reconfigure(
        &format!("pg1-path={}", site.cluster.data_directory().display()),
        &format!("pg1-path={}", link.display()),
    );
    site.pgark(&["check"]).expect_success();
    site.backup(&[]);
    site.archive_segment();
    site.cluster.stop(Stop::Fast);
    fs::remove_dir_all(link.join("base")).unwrap();
    site.pgark(&["--delta", "restore"]).expect_success();
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    site.cluster.start();
    site.cluster.wait_for_sql("select pg_is_in_recovery()", "f");
    assert_eq!(site.cluster.sql("select count(*) from rows"), "10");
}

#[test]
fn names_in_another_encoding_are_no_obstacle() {
    let site = Site::start(&Server::get(17));
    // In the database that the name is made in it is a letter; in the one that a backup is taken through it is not.
    site.cluster.sql("create database latin encoding 'LATIN1' locale 'C' template template0");
    let name = site.scratch.write("name.sql", b"set client_encoding = 'LATIN1'; create database \"caf\xE9\";");
    let mut psql = site.cluster.client("psql");
    psql.args(["-X", "--dbname=latin", "--set=ON_ERROR_STOP=1", "--file"]).arg(name);
    pgark_testkit::run(&mut psql).expect_success();
    let outside = site.scratch.directory("tablespace");
    let tablespace =
        format!("set client_encoding = 'LATIN1'; create tablespace \"caf?\" location '{}';", outside.display());
    let bytes: Vec<u8> = tablespace.bytes().map(|byte| if byte == b'?' { 0xE9 } else { byte }).collect();
    let file = site.scratch.write("tablespace.sql", bytes);
    let mut psql = site.cluster.client("psql");
    psql.args(["-X", "--dbname=latin", "--set=ON_ERROR_STOP=1", "--file"]).arg(file);
    pgark_testkit::run(&mut psql).expect_success();
    let label = site.backup(&[]);
    let info = site.pgark(&[&format!("--set={label}"), "info"]).expect_success();
    assert!(info.stdout.contains("caf\u{FFFD}"), "{}", info.report());
}

#[test]
fn wal_that_says_too_little_is_refused() {
    let site = Site::builder(&Server::get(18))
        .setting("archive_mode", "off")
        .setting("wal_level", "minimal")
        .setting("max_wal_senders", "0")
        .start();
    let finished = site.pgark(&["--type=full", "backup"]).expect_code(87);
    assert!(finished.stdout.contains("archive_mode must be enabled"), "{}", finished.report());
    let finished = site.pgark(&["--type=full", "--no-archive-check", "backup"]).expect_code(57);
    assert!(finished.stdout.contains("WAL level not sufficient for making an online backup"), "{}", finished.report());
    assert!(site.objects("/manifest").is_empty());
}
