//! Page checksums of real clusters. Computed wrongly, a backup would warn of damage where there is none, or keep silent
//! where there is some.

#![expect(clippy::unwrap_used, reason = "what is not as expected ends the test")]

use std::path::{Path, PathBuf};

use fs_err as fs;
use pgark_postgres::control::ControlFile;
use pgark_postgres::data_directory::{Contents, Context, Entry, EntryKind};
use pgark_postgres::page::{self, PAGE_SIZE, PageState};
use pgark_postgres::relation::RelationFile;
use pgark_testkit::{Cluster, Server, Stop, faults, run};

/// The pages of a cluster: how many were looked at, and those that are damaged, by file and block of the relation.
#[derive(Debug, Default, PartialEq)]
struct Verification {
    intact: usize,
    new: usize,
    damaged: Vec<(PathBuf, u32)>,
}

fn relation_files(data_directory: &Path) -> (ControlFile, Vec<(Entry, RelationFile)>) {
    let control_file = ControlFile::read(data_directory).unwrap();
    let context = Context { version: control_file.version, online: true, exclude: Vec::new() };
    let entries = Contents::of(data_directory, &context).unwrap().entries;
    let files = entries.into_iter().filter(|entry| matches!(entry.kind, EntryKind::File { .. }));
    let files = files.filter_map(|entry| RelationFile::parse(&entry.path).map(|file| (entry, file)));
    (control_file, files.collect())
}

fn verify(data_directory: &Path) -> Verification {
    let mut verification = Verification::default();
    let (control_file, files) = relation_files(data_directory);
    for (entry, file) in files {
        let content = fs::read(data_directory.join(&entry.path)).unwrap();
        let (pages, rest) = content.as_chunks::<PAGE_SIZE>();
        assert!(rest.is_empty(), "{}", entry.path.display());
        for (page, block) in pages.iter().zip(file.first_block(control_file.relation_segment_pages).unwrap()..) {
            match page::verify(page, block) {
                PageState::Intact => verification.intact += 1,
                PageState::New => verification.new += 1,
                PageState::ChecksumMismatch { .. } => verification.damaged.push((entry.path.clone(), block)),
            }
        }
    }
    verification
}

fn stopped_cluster(server: &Server) -> Cluster {
    let mut cluster = Cluster::builder(server).checksums(true).start();
    cluster.pgbench_init(1);
    cluster.sql("create index on pgbench_accounts using hash (aid); create unlogged table u as select 1; vacuum");
    cluster.stop(Stop::Fast);
    cluster
}

#[test]
fn every_page_of_a_sound_cluster_is_intact() {
    for server in Server::all() {
        let cluster = stopped_cluster(&server);
        let verification = verify(cluster.data_directory());
        assert_eq!(verification.damaged, []);
        assert!(verification.intact > 4000, "{verification:?}");
        let (_, files) = relation_files(cluster.data_directory());
        let forks: std::collections::BTreeSet<_> = files.iter().map(|(_, file)| file.fork.fork).collect();
        assert_eq!(forks.len(), 4, "a fork that no file was found of was not verified");
    }
}

#[test]
fn damage_is_found_where_pg_checksums_finds_it() {
    for server in Server::all() {
        let cluster = stopped_cluster(&server);
        let (_, files) = relation_files(cluster.data_directory());
        let large = files.iter().filter(|(entry, _)| matches!(entry.kind, EntryKind::File { size } if size > 100_000));
        let mut expected = Vec::new();
        for (index, (entry, _)) in large.take(8).enumerate() {
            // A byte of the header, of the line pointers, in the middle, at the end.
            let block = u32::try_from(index).unwrap();
            let offset = [4, 30, 4000, 8191][index % 4];
            faults::flip_byte(&cluster.data_directory().join(&entry.path), u64::from(block) * 8192 + offset);
            expected.push((entry.path.clone(), block));
        }
        expected.sort();
        let mut found = verify(cluster.data_directory()).damaged;
        found.sort();
        assert_eq!(found, expected);
        let mut pg_checksums = server.tool("pg_checksums");
        let report = run(pg_checksums.arg("--check").arg("-D").arg(cluster.data_directory())).expect_code(1);
        assert_eq!(report.stderr.matches("checksum verification failed").count(), expected.len(), "{}", report.stderr);
    }
}

#[test]
fn a_page_in_the_wrong_place_is_damaged_and_a_new_one_is_not() {
    let cluster = stopped_cluster(&Server::get(17));
    let (_, files) = relation_files(cluster.data_directory());
    let (entry, _) =
        files.iter().find(|(entry, _)| matches!(entry.kind, EntryKind::File { size } if size >= 4 * 8192)).unwrap();
    let path = cluster.data_directory().join(&entry.path);
    let mut content = fs::read(&path).unwrap();
    content.copy_within(..PAGE_SIZE, PAGE_SIZE);
    content[2 * PAGE_SIZE..3 * PAGE_SIZE].fill(0);
    fs::write(&path, &content).unwrap();
    let verification = verify(cluster.data_directory());
    assert_eq!(verification.damaged, [(entry.path.clone(), 1)]);
    assert!(verification.new >= 1);
}

#[test]
fn the_lsn_of_a_page_that_was_just_changed_is_between_start_and_insert_position() {
    let mut cluster = Cluster::builder(&Server::get(18)).start();
    cluster.sql("create table t as select 1 as a");
    let start: pgark_postgres::Lsn = cluster.current_lsn().parse().unwrap();
    cluster.sql("update t set a = 2; checkpoint");
    let path = cluster.data_directory().join(cluster.sql("select pg_relation_filepath('t')"));
    let end = cluster.current_lsn().parse().unwrap();
    let content = fs::read(path).unwrap();
    let page = content.first_chunk().unwrap();
    let lsn = page::lsn(page);
    assert!((start..=end).contains(&lsn), "{start} {lsn} {end}");
    assert!(page::accept_mismatch(lsn, &(start..=end), false));
    cluster.stop(Stop::Fast);
}
