//! Walking real data directories. What the walk misses is missing after a restore; what it takes too much may keep the
//! restored server from starting.

#![expect(clippy::unwrap_used, reason = "what is not as expected ends the test")]

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use fs_err as fs;
use fs_err::os::unix::fs::symlink;
use pgark_postgres::Version;
use pgark_postgres::data_directory::{
    Contents, Context, DataDirectoryError, Entry, EntryKind, Exclusion, Reason, Scope,
};
use pgark_testkit::{Cluster, Scratch, Server, Stop, give_to_test_user, run};

fn context(server: &Server) -> Context {
    let version = server.major().to_string().parse().unwrap();
    Context { version, online: true, exclude: Vec::new() }
}

fn paths(contents: &Contents) -> BTreeSet<PathBuf> {
    contents.entries.iter().map(|entry| entry.path.clone()).collect()
}

fn find<'contents>(contents: &'contents Contents, path: &str) -> &'contents Entry {
    let found = contents.entries.iter().find(|entry| entry.path == Path::new(path));
    found.unwrap_or_else(|| panic!("'{path}' was not found"))
}

fn reasons(contents: &Contents) -> BTreeMap<&Path, Exclusion> {
    contents.left_out.iter().map(|left_out| (left_out.path.as_path(), left_out.exclusion)).collect()
}

/// Moves part of a stopped cluster elsewhere and leaves a link.
fn move_away(data_directory: &Path, name: &str, destination: &Path) {
    fs::rename(data_directory.join(name), destination).unwrap();
    symlink(destination, data_directory.join(name)).unwrap();
}

/// All that lies below a directory, through links, relative to it.
fn files_below(directory: &Path) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    let mut pending = vec![PathBuf::new()];
    while let Some(path) = pending.pop() {
        if fs::metadata(directory.join(&path)).unwrap().is_dir() {
            let names = fs::read_dir(directory.join(&path)).unwrap().map(|entry| entry.unwrap().file_name());
            pending.extend(names.map(|name| path.join(name)));
        }
        found.insert(path);
    }
    found
}

#[test]
fn the_walk_takes_what_pg_basebackup_takes() {
    for server in Server::all() {
        let scratch = Scratch::new();
        let (tablespace, wal) = (scratch.directory("fast disk"), scratch.directory("wal").join("here"));
        let mut cluster = Cluster::builder(&server).create();
        move_away(cluster.data_directory(), "pg_wal", &wal);
        cluster.start();
        cluster.sql(&format!("create tablespace fast location '{}'", tablespace.display()));
        cluster.sql("create unlogged table u as select generate_series(1, 1000) as a; create index on u (a)");
        cluster
            .sql("create unlogged table fu tablespace fast as select 1; create table ft tablespace fast as select 1");
        cluster.sql("create database other; vacuum");
        fs::create_dir(tablespace.join("PG_12_201909212")).unwrap();
        fs::write(tablespace.join("PG_12_201909212/old"), "old").unwrap();
        // A session with a temporary table, until it is killed.
        let mut session = cluster.client("psql");
        session.args(["-Xq", "-c", "create temp table p as select 1", "-c", "select pg_sleep(600)"]);
        let mut session = session.spawn().unwrap();
        cluster.wait_for_sql("select count(*)::text from pg_class where relname = 'p'", "1");
        cluster.sql("checkpoint");

        let contents = Contents::of(cluster.data_directory(), &context(&server)).unwrap();
        let backup = scratch.directory("backup").join("base");
        let mut pg_basebackup = cluster.client("pg_basebackup");
        let mapping = format!("--tablespace-mapping={}={}", tablespace.display(), scratch.directory("copy").display());
        pg_basebackup
            .args(["--checkpoint=fast", "--wal-method=none", "--no-manifest", &mapping])
            .arg("-D")
            .arg(&backup);
        run(&mut pg_basebackup).expect_success();
        session.kill().unwrap();
        session.wait().unwrap();

        let mut theirs = files_below(&backup);
        theirs.remove(Path::new("backup_label"));
        theirs.remove(Path::new("tablespace_map"));
        assert_eq!(paths(&contents), theirs, "PostgreSQL {}", server.major());
        let temporary = contents.left_out.iter().filter(|left_out| left_out.exclusion.reason == Reason::Temporary);
        assert!(temporary.count() > 0, "the temporary table was not seen");
        let unlogged = contents.left_out.iter().filter(|left_out| left_out.exclusion.reason == Reason::Unlogged);
        assert!(unlogged.count() >= 3, "the unlogged tables were not seen");
        assert_eq!(find(&contents, "pg_wal").link.as_deref(), Some(wal.as_path()));
        assert_links_and_attributes(&cluster, &contents, &tablespace);
    }
}

fn assert_links_and_attributes(cluster: &Cluster, contents: &Contents, tablespace: &Path) {
    let oid = cluster.sql("select oid from pg_tablespace where spcname = 'fast'");
    let entry = find(contents, &format!("pg_tblspc/{oid}"));
    assert_eq!((entry.kind, entry.link.as_deref()), (EntryKind::Directory, Some(tablespace)));
    let old = format!("pg_tblspc/{oid}/PG_12_201909212");
    assert_eq!(reasons(contents)[Path::new(&old)], Exclusion { scope: Scope::Whole, reason: Reason::OtherVersion });
    for entry in &contents.entries {
        let metadata = fs::metadata(cluster.data_directory().join(&entry.path)).unwrap();
        assert_eq!(entry.mode, metadata.permissions().mode() & 0o7777, "{}", entry.path.display());
        assert_eq!((entry.user, entry.group), (metadata.uid(), metadata.gid()), "{}", entry.path.display());
        assert_eq!(matches!(entry.kind, EntryKind::Directory), metadata.is_dir(), "{}", entry.path.display());
    }
    let file = find(contents, "PG_VERSION");
    assert_eq!(file.kind, EntryKind::File { size: 3 });
    let modified = fs::metadata(cluster.data_directory().join("PG_VERSION")).unwrap();
    assert_eq!((file.modified.as_second(), file.modified.subsec_nanosecond()), {
        (modified.mtime(), i32::try_from(modified.mtime_nsec()).unwrap())
    });
    assert_eq!(contents.entries[0].path, Path::new(""));
    let control_files = contents.entries.iter().filter(|entry| entry.is_control_file());
    assert_eq!(control_files.count(), 1);
}

#[test]
fn the_order_is_that_of_the_bytes_with_directories_first() {
    let server = Server::get(17);
    let cluster = Cluster::builder(&server).create();
    let contents = Contents::of(cluster.data_directory(), &context(&server)).unwrap();
    assert_eq!(contents, Contents::of(cluster.data_directory(), &context(&server)).unwrap());
    // The order of paths compares component by component, a directory before what is in it.
    assert!(contents.entries.is_sorted_by(|one, other| one.path < other.path));
}

#[test]
fn tablespaces_in_the_data_directory_are_taken() {
    for server in Server::all() {
        let cluster = Cluster::builder(&server).start();
        cluster.sql("set allow_in_place_tablespaces = on; create tablespace inside location ''");
        cluster.sql("create table t tablespace inside as select 1");
        let contents = Contents::of(cluster.data_directory(), &context(&server)).unwrap();
        let file = cluster.sql("select pg_relation_filepath('t')");
        assert!(matches!(find(&contents, &file).kind, EntryKind::File { size: 8192 }), "{file}");
        let oid = cluster.sql("select oid from pg_tablespace where spcname = 'inside'");
        assert_eq!(find(&contents, &format!("pg_tblspc/{oid}")).link, None);
    }
}

#[test]
fn an_offline_backup_takes_the_wal() {
    let server = Server::get(18);
    let mut cluster = Cluster::builder(&server).start();
    cluster.stop(Stop::Fast);
    let contents = Contents::of(cluster.data_directory(), &Context { online: false, ..context(&server) }).unwrap();
    let wal =
        contents.entries.iter().filter(|entry| entry.path.starts_with("pg_wal") && entry.kind != EntryKind::Directory);
    assert!(wal.count() > 0);
}

#[test]
fn what_the_user_excludes_is_left_out() {
    let server = Server::get(17);
    let cluster = Cluster::builder(&server).create();
    let exclude = ["pg_hba.conf", "base/1/", "pg_xact", "postgresql.conf/"].map(PathBuf::from).to_vec();
    let contents = Contents::of(cluster.data_directory(), &Context { exclude, ..context(&server) }).unwrap();
    let by_user: Vec<(&Path, Scope)> = contents
        .left_out
        .iter()
        .filter(|left_out| left_out.exclusion.reason == Reason::User)
        .map(|left_out| (left_out.path.as_path(), left_out.exclusion.scope))
        .collect();
    let expected = [("base/1", Scope::Contents), ("pg_hba.conf", Scope::Whole), ("pg_xact", Scope::Whole)];
    assert_eq!(by_user, expected.map(|(path, scope)| (Path::new(path), scope)));
    let paths = paths(&contents);
    assert!(paths.contains(Path::new("base/1")) && paths.contains(Path::new("postgresql.conf")));
    assert!(!paths.iter().any(|path| path.starts_with("pg_xact") || path.starts_with("base/1/PG_VERSION")));
}

/// A directory that looks enough like a data directory, and one beside it.
fn small_directory() -> (tempfile::TempDir, PathBuf, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let (data, outside) = (directory.path().join("data"), directory.path().join("outside"));
    fs::create_dir_all(data.join("base/5")).unwrap();
    fs::create_dir_all(data.join("pg_tblspc")).unwrap();
    fs::create_dir_all(outside.join("deep")).unwrap();
    fs::write(outside.join("file"), "content").unwrap();
    (directory, data, outside)
}

fn walk_small(data: &Path) -> Result<Contents, DataDirectoryError> {
    Contents::of(data, &Context { version: Version::V17, online: true, exclude: vec!["excluded".into()] })
}

#[test]
fn a_link_to_a_file_or_directory_outside_is_followed() {
    let (_directory, data, outside) = small_directory();
    symlink("../outside/file", data.join("postgresql.conf")).unwrap();
    symlink(outside.join("deep"), data.join("log")).unwrap();
    fs::write(outside.join("deep/log.csv"), "").unwrap();
    let contents = walk_small(&data).unwrap();
    let file = find(&contents, "postgresql.conf");
    assert_eq!((file.kind, file.link.as_deref()), (EntryKind::File { size: 7 }, Some(Path::new("../outside/file"))));
    assert_eq!(find(&contents, "log").link.as_deref(), Some(outside.join("deep").as_path()));
    assert_eq!(find(&contents, "log/log.csv").link, None);
}

#[test]
fn two_links_may_lead_to_different_files_of_one_directory() {
    let (_directory, data, outside) = small_directory();
    fs::write(outside.join("other"), "").unwrap();
    symlink(outside.join("file"), data.join("a")).unwrap();
    symlink(outside.join("other"), data.join("b")).unwrap();
    assert_eq!(walk_small(&data).unwrap().entries.iter().filter(|entry| entry.link.is_some()).count(), 2);
}

#[test]
fn links_that_lead_nowhere_or_in_circles_are_refused() {
    type Check = fn(&DataDirectoryError) -> bool;
    let overlapping: Check = |error| matches!(error, DataDirectoryError::OverlappingLink { .. });
    let link_to_link: Check = |error| matches!(error, DataDirectoryError::LinkToLink { .. });
    let dangling: Check = |error| matches!(error, DataDirectoryError::DanglingLink { .. });
    for (links, check) in [
        (&[("link", "base")][..], overlapping),
        (&[("link", ".")], overlapping),
        (&[("link", "..")], overlapping),
        (&[("base/5/link", "/")], overlapping),
        (&[("a", "../outside"), ("b", "../outside")], overlapping),
        (&[("a", "../outside"), ("b", "../outside/deep")], overlapping),
        (&[("a", "../outside/deep"), ("b", "../outside")], overlapping),
        (&[("a", "../outside/file"), ("b", "../outside/file")], overlapping),
        (&[("../second", "outside"), ("a", "../second")], link_to_link),
        (&[("a", "../nowhere")], dangling),
    ] {
        let (_directory, data, _outside) = small_directory();
        for (name, target) in links {
            symlink(target, data.join(name)).unwrap();
        }
        let error = walk_small(&data).unwrap_err();
        assert!(check(&error), "{links:?}: {error}");
        assert!(!error.hint().is_empty());
    }
}

#[test]
fn a_link_that_is_excluded_may_lead_anywhere() {
    for target in ["../nowhere", "..", "excluded"] {
        let (_directory, data, _outside) = small_directory();
        symlink(target, data.join("excluded")).unwrap();
        let contents = walk_small(&data);
        // A link to itself can't even be looked at.
        assert_eq!(contents.is_ok(), target != "excluded", "{contents:?}");
    }
}

#[test]
fn a_tablespace_that_is_not_mounted_is_an_error() {
    let (_directory, data, outside) = small_directory();
    symlink(&outside, data.join("pg_tblspc/16385")).unwrap();
    let error = walk_small(&data).unwrap_err();
    assert!(matches!(error, DataDirectoryError::TablespaceMissing { oid: 16385, .. }), "{error}");
    fs::create_dir(outside.join("PG_17_202406281")).unwrap();
    let contents = walk_small(&data).unwrap();
    assert!(paths(&contents).contains(Path::new("pg_tblspc/16385/PG_17_202406281")));
    // What else lies there is not the cluster's, so that another link may lead to it.
    symlink(outside.join("deep"), data.join("log")).unwrap();
    assert_eq!(find(&walk_small(&data).unwrap(), "log").kind, EntryKind::Directory);
}

#[test]
fn special_files_are_left_out_and_names_need_not_be_text() {
    use std::os::unix::ffi::OsStrExt;
    let (_directory, data, _outside) = small_directory();
    let _socket = std::os::unix::net::UnixListener::bind(data.join("socket")).unwrap();
    let strange = Path::new(std::ffi::OsStr::from_bytes(b"base/5/caf\xE9"));
    fs::write(data.join(strange), "x").unwrap();
    let contents = walk_small(&data).unwrap();
    assert_eq!(reasons(&contents)[Path::new("socket")], Exclusion { scope: Scope::Whole, reason: Reason::SpecialFile });
    assert!(paths(&contents).contains(strange));
}

#[test]
fn a_walk_through_a_busy_cluster_succeeds() {
    let server = Server::get(15);
    let cluster = Cluster::builder(&server).start();
    std::thread::scope(|scope| {
        let changes = scope.spawn(|| {
            cluster.sql(
                &"create table t (a int primary key); create temp table p (); drop table t; drop table p;".repeat(300),
            );
        });
        let mut walks = 0;
        while !changes.is_finished() || walks == 0 {
            Contents::of(cluster.data_directory(), &context(&server)).unwrap();
            walks += 1;
        }
    });
}

#[test]
fn a_directory_that_can_not_be_read_is_named() {
    let scratch = Scratch::new();
    let data = scratch.directory("data");
    let error = walk_small(&data.join("missing")).unwrap_err();
    let source = std::error::Error::source(&error).unwrap().to_string();
    assert!(source.contains("missing"), "{source}");
    give_to_test_user(&data);
    assert_eq!(walk_small(&data).unwrap().entries.len(), 1);
}
