//! The files themselves as the reference: whatever differs between two clean shutdowns, the WAL in between names.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use fs_err as fs;
use pgark_postgres::Lsn;
use pgark_postgres::relation::RelationFile;
use pgark_postgres::wal::join::RangeSummariser;
use pgark_postgres::wal::relation::{Fork, RelationFork};
use pgark_postgres::wal::segment::analyse;
use pgark_postgres::wal::summary::{BlockSummary, Summary};
use pgark_testkit::{Cluster, Server, Stop};

use crate::archive::{Archive, segments_in};
use crate::workload;

const PAGE_SIZE: usize = 8192;

/// Would lose: blocks that changed, of which an incremental backup would keep the old state.
fn every_changed_block_is_named(major: u32) {
    // With checksums every change of a page is in the WAL, hint bits too.
    let mut archive = Archive::start(&Server::get(major), |builder| {
        builder.wal_segment_size_mib(1).setting("wal_keep_size", "2GB").setting("wal_recycle", "off")
    });
    workload::run(&mut archive);
    let start: Lsn = archive.cluster.current_lsn().parse().expect("a position");
    archive.cluster.stop(Stop::Fast);
    let before = relation_files(archive.cluster.data_directory());
    archive.cluster.start();
    workload::run_again(&archive);
    let spgist = spgist_indexes(&archive.cluster);
    archive.cluster.stop(Stop::Fast);
    let after = relation_files(archive.cluster.data_directory());

    let summary = summary_since(&archive.cluster, start);
    let (mut changed, mut named) = (0, 0);
    for (file, content) in after.values().filter(|(file, _)| !is_unlogged(&after, file)) {
        let old = before.get(file).map_or(&[][..], |(_, content)| content);
        let first_block = file.first_block(131_072).expect("a small relation");
        for (number, page) in (first_block..).zip(content.chunks(PAGE_SIZE)) {
            let offset = (number - first_block) as usize * PAGE_SIZE;
            let is_changed = old.get(offset..offset + PAGE_SIZE) != Some(page);
            let is_named = contains(&summary, file.fork, number);
            // The first page of an SP-GiST index caches which pages have free space.
            let is_cache = number == 0 && spgist.contains(&file.fork.relation.number);
            assert!(is_named || is_cache || !is_changed, "block {number} of {} has changed unnoticed", file.fork);
            changed += usize::from(is_changed);
            named += usize::from(is_named);
        }
    }
    assert!(changed > 1000, "only {changed} blocks have changed");
    let total: usize = after.values().map(|(_, content)| content.len() / PAGE_SIZE).sum();
    assert!(named < total * 9 / 10, "{named} blocks of {total} are named: the summary says nothing");
}

#[test]
fn changed_blocks_of_13_are_named() {
    every_changed_block_is_named(13);
}

#[test]
fn changed_blocks_of_14_are_named() {
    every_changed_block_is_named(14);
}

#[test]
fn changed_blocks_of_15_are_named() {
    every_changed_block_is_named(15);
}

#[test]
fn changed_blocks_of_17_are_named() {
    every_changed_block_is_named(17);
}

#[test]
fn changed_blocks_of_18_are_named() {
    every_changed_block_is_named(18);
}

fn spgist_indexes(cluster: &Cluster) -> Vec<u32> {
    let numbers = cluster.sql("select relfilenode from pg_class, pg_am am where relam = am.oid and amname = 'spgist'");
    numbers.lines().map(|number| number.parse().expect("a number")).collect()
}

type Files = BTreeMap<RelationFile, (RelationFile, Vec<u8>)>;

/// Every relation's files with their content.
fn relation_files(data_directory: &Path) -> Files {
    let mut files = Files::new();
    let mut directories: Vec<PathBuf> = ["base", "global", "pg_tblspc"].map(PathBuf::from).to_vec();
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(data_directory.join(&directory)).expect("a directory can be read") {
            let path = directory.join(entry.expect("a directory can be read").file_name());
            // Tablespaces are links.
            if fs::metadata(data_directory.join(&path)).expect("it is there").is_dir() {
                directories.push(path);
            } else if let Some(file) = RelationFile::parse(&path).filter(|file| file.fork.fork.is_fully_logged()) {
                files.insert(file, (file, fs::read(data_directory.join(path)).expect("a file can be read")));
            }
        }
    }
    files
}

fn is_unlogged(files: &Files, file: &RelationFile) -> bool {
    let init = RelationFork { fork: Fork::Init, ..file.fork };
    file.fork.fork != Fork::Init && files.contains_key(&RelationFile { fork: init, segment: 0 })
}

fn contains(summary: &BlockSummary, fork: RelationFork, block: u32) -> bool {
    let relation = fork.relation;
    summary.is_database_replaced(relation.tablespace, relation.database)
        || summary.get(fork).is_some_and(|changes| changes.contains(block))
}

/// What the WAL names from `start` to its end.
fn summary_since(cluster: &Cluster, start: Lsn) -> BlockSummary {
    let mut segments = segments_in(&cluster.data_directory().join("pg_wal"));
    // Segments are made before they are needed.
    segments.retain(|segment| analyse(&segment.bytes()).is_ok());
    let end = analyse(&segments.last().expect("a segment").bytes()).expect("a segment").end_lsn();
    let mut summariser = RangeSummariser::new(start..end);
    for segment in &segments {
        let bytes = segment.bytes();
        if analyse(&bytes).expect("a segment").header.end() > start && !summariser.push(&bytes).expect("WAL") {
            break;
        }
    }
    match summariser.finish().expect("the WAL is there") {
        Summary::Usable(summary) => summary,
        Summary::Unusable(reason) => panic!("{reason}"),
    }
}
