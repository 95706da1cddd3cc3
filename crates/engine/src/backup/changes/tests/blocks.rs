//! Whatever differs between the files of two backups is named.

use std::collections::BTreeMap;
use std::ops::Range;

use fs_err as fs;
use pgark_postgres::wal::relation::{Fork, RelationFork};
use pgark_postgres::wal::server_summary::{ServerSummary, ServerSummaryName};
use pgark_postgres::wal::summary::ForkChanges;
use pgark_testkit::give_to_test_user;

use super::site::{Backup, Site, archive_command, assert_covers, known, lsn};
use super::*;

const PAGE_SIZE: usize = 8192;

const BEFORE: &str = "
    create table t (id int primary key, v text);
    insert into t select i, repeat(md5(i::text), 10) from generate_series(1, 5000) i;
    create table shrinking (id int, v text);
    insert into shrinking select i, repeat('f', 500) from generate_series(1, 10000) i;
    create table indexed (a int, b int[], p point, v text);
    insert into indexed select n, array[n, n + 1], point(n, n), md5(n::text) from generate_series(1, 3000) n;
    create index on indexed using btree (a);
    create index on indexed using hash (a);
    create index on indexed using gin (b);
    create index on indexed using gist (p);
    create index on indexed using brin (a);
    create table moving (id int);
    insert into moving select generate_series(1, 1000);
    create unlogged table unlogged as select generate_series(1, 1000) i;
    create table untouched as select i, repeat('u', 500) from generate_series(1, 20000) i;
    create sequence s;
    vacuum (freeze) untouched;
    select count(*) from t, shrinking where t.id = shrinking.id;
    begin; create table two_phases (id int); insert into two_phases values (1); prepare transaction 'before';
";

const AFTER: &str = "
    update t set v = 'changed' where id % 97 = 0;
    delete from shrinking where id > 2000;
    vacuum shrinking;
    insert into shrinking select i, repeat('g', 500) from generate_series(1, 1000) i;
    delete from indexed where a % 5 = 0;
    vacuum indexed;
    insert into indexed select n, array[n, n + 1], point(n, n), md5(n::text) from generate_series(3001, 4000) n;
    reindex table indexed;
    alter table t add column w text default 'w';
    alter table t alter column id type bigint;
    vacuum full t;
    cluster t using t_pkey;
    create table parts (id int primary key, v text) partition by range (id);
    create table part1 partition of parts for values from (0) to (1000);
    create table part2 (id int primary key, v text);
    insert into part2 select i, 'p' from generate_series(1000, 1999) i;
    alter table parts attach partition part2 for values from (1000) to (2000);
    insert into parts select i, 'q' from generate_series(0, 999) i;
    alter table parts detach partition part1;
    truncate parts;
    drop table part1;
    alter table unlogged set logged;
    alter table moving set tablespace elsewhere;
    create unlogged table unlogged_again as select generate_series(1, 1000) i;
    create materialized view m as select count(*) from t;
    refresh materialized view m;
    select nextval('s'), lo_from_bytea(0, decode(repeat('cd', 10000), 'hex'));
    begin; drop table moving; rollback;
    begin; create table never (id int); insert into never values (1); rollback;
    commit prepared 'before';
    vacuum full pg_class;
    select pg_logical_emit_message(true, 'long', repeat('x', 3500000)) is not null;
    insert into t select i, 'after' from generate_series(5001, 6000) i;
    checkpoint;
    drop table two_phases;
    select count(*) from indexed, m;
";

fn work(site: &Site) {
    let cluster = &site.cluster;
    cluster.sql(AFTER);
    cluster.pgbench_run(2, 50);
    let strategies = if cluster.server().major() >= 15 { ["strategy wal_log", "strategy file_copy"] } else { [""; 2] };
    for (number, strategy) in strategies.iter().enumerate() {
        cluster.sql(&format!("create database d{number} template template0 {strategy}"));
        cluster.sql_in(&format!("d{number}"), "create table t as select generate_series(1, 1000) i");
    }
    cluster.sql("drop database d0");
}

/// Would lose: blocks that changed, of which an incremental backup would keep the old state.
fn every_changed_block_is_named(major: u32) {
    let site = Site::start(major, |builder| builder);
    let directory = site.scratch().directory("tablespace");
    give_to_test_user(&directory);
    site.cluster.sql(&format!("create tablespace elsewhere location '{}'", directory.display()));
    site.cluster.pgbench_init(1);
    site.cluster.sql(BEFORE);
    site.flush();
    let before = site.backup();
    work(&site);
    site.push();
    // Some more, which only pg_wal has.
    site.cluster.configure("archive_command", "false");
    site.cluster.reload();
    site.cluster.sql("update pgbench_accounts set abalance = 1 where aid % 100 = 0; select pg_switch_wal()");
    site.cluster.sql("update pgbench_tellers set tbalance = 2");
    let after = site.backup();

    let end = lsn(after.document.start.lsn.as_ref());
    let summary = known(site.find(&site.cluster, Timeline(1), &before.document, end));
    assert_names_changes(&summary, &before, &after);
    site.cluster.configure("archive_command", &archive_command(&site.directory()));
    site.cluster.reload();
    site.flush();
    let history = TimelineHistory::without_ancestors(Timeline(1));
    let start = lsn(before.document.start.lsn.as_ref());
    let exact = site.exact(&history, start, end);
    if major >= 17 {
        assert_same(&exact, &said_by_the_server(&site, &(start..end)));
    }
    assert_covers(&summary, &exact);
    // Segments are summarised as a whole: the rest of the first and of the last one may be said, and no more.
    let size = site.control().wal_segment_size;
    let [first, last] = [start, end].map(|lsn| size.segment_of(lsn));
    let [first, past] = [first, last + 1].map(|number| size.start_of(number).unwrap());
    assert_covers(&site.exact(&history, first, past), &summary);
    // And once more when all of it is archived.
    assert_eq!(known(site.find(&site.cluster, Timeline(1), &before.document, end)), summary);
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
fn changed_blocks_of_16_are_named() {
    every_changed_block_is_named(16);
}

#[test]
fn changed_blocks_of_17_are_named() {
    every_changed_block_is_named(17);
}

#[test]
fn changed_blocks_of_18_are_named() {
    every_changed_block_is_named(18);
}

fn assert_names_changes(summary: &BlockSummary, before: &Backup, after: &Backup) {
    let (mut changed, mut named, mut total) = (0, 0, 0);
    for (file, content) in &after.files {
        let old = before.files.get(file).map_or(&[][..], |content| content);
        let first_block = file.first_block(131_072).unwrap();
        for (number, page) in (first_block..).zip(content.chunks(PAGE_SIZE)) {
            let offset = (number - first_block) as usize * PAGE_SIZE;
            // What lies past the old end is read in any case.
            let is_changed = old.get(offset..offset + PAGE_SIZE).is_some_and(|old| old != page);
            let is_named = contains(summary, file.fork, number);
            assert!(is_named || !is_changed, "block {number} of {} has changed unnoticed", file.fork);
            changed += usize::from(is_changed);
            named += usize::from(is_named);
            total += 1;
        }
    }
    assert!(changed > 200, "only {changed} blocks have changed");
    assert!(named < total * 9 / 10, "{named} blocks of {total} are named: the summary says nothing");
}

fn contains(summary: &BlockSummary, fork: RelationFork, block: u32) -> bool {
    let relation = fork.relation;
    summary.is_database_replaced(relation.tablespace, relation.database)
        || summary.get(fork).is_some_and(|changes| changes.contains(block))
}

/// What the server itself says of the records in a range that begins and ends with a backup.
fn said_by_the_server(site: &Site, range: &Range<Lsn>) -> BlockSummary {
    let query = format!("select summarized_lsn >= '{}' from pg_get_wal_summarizer_state()", range.end);
    site.cluster.wait_for_sql(&query, "t");
    let directory = site.cluster.data_directory().join("pg_wal/summaries");
    let names = fs::read_dir(&directory).unwrap().filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok());
    // A backup begins where a summary ends.
    let mut names: Vec<ServerSummaryName> = names
        .filter(|name: &ServerSummaryName| range.start <= name.range.start && name.range.end <= range.end)
        .collect();
    names.sort_by_key(|name| name.range.start);
    let mut theirs = BlockSummary::default();
    let mut reached = range.start;
    for name in names {
        assert_eq!(name.range.start, reached, "the server has not summarised all of it");
        reached = name.range.end;
        let bytes = fs::read(directory.join(name.to_string())).unwrap();
        theirs.merge(&ServerSummary::parse(&bytes).unwrap().to_block_summary());
    }
    assert_eq!(reached, range.end);
    theirs
}

/// Nothing more is said of a fork whose changes are all logged, and nothing less.
#[track_caller]
fn assert_same(ours: &BlockSummary, theirs: &BlockSummary) {
    let of_logged = |summary: &BlockSummary| -> BTreeMap<RelationFork, ForkChanges> {
        let logged = summary.iter().filter(|(fork, _)| fork.fork.is_fully_logged());
        logged.map(|(fork, changes)| (fork, changes.clone())).collect()
    };
    let (ours, theirs) = (of_logged(ours), of_logged(theirs));
    assert!(theirs.keys().any(|fork| fork.fork == Fork::Init));
    for fork in ours.keys().chain(theirs.keys()) {
        assert_eq!(ours.get(fork), theirs.get(fork), "{fork}");
    }
}
