//! Work that leaves every kind of record in the WAL that summaries and time indexes treat specially.

use std::fmt::Write;

use pgark_testkit::Cluster;

use crate::archive::Archive;

/// Does all of it, with checkpoints in between.
pub(crate) fn run(archive: &mut Archive) {
    archive.cluster.pgbench_init(1);
    archive.cluster.restart();
    let archive = &*archive;
    let cluster = &archive.cluster;
    cluster.pgbench_run(2, 100);
    begin_segment(cluster);
    for step in [DEFINITIONS, INDEXES, TRUNCATION, SUBTRANSACTIONS, PREPARED, REWRITES, PARTITIONS, COPIES] {
        cluster.sql(step);
        begin_segment(cluster);
    }
    for step in [messages, databases, tablespaces, compression, drop_many_tables] {
        step(archive);
        begin_segment(cluster);
    }
    cluster.pgbench_run(2, 50);
    begin_segment(cluster);
    archive.flush();
}

/// Begins a segment with a checkpoint, so that a summary of the server's ends where a segment does; unless something that
/// the server does by itself comes in between. Large segments are not left all but empty, only the checkpoint is made.
fn begin_segment(cluster: &Cluster) {
    if cluster.sql("show wal_segment_size") != "64MB" {
        cluster.switch_wal();
    }
    cluster.sql("checkpoint");
}

/// What changes some of what [`run`] has left, creates and drops.
pub(crate) fn run_again(archive: &Archive) {
    let cluster = &archive.cluster;
    cluster.sql(AGAIN);
    cluster.pgbench_run(2, 20);
    let strategies = strategies(archive);
    let strategy = strategies.last().expect("a strategy");
    cluster.sql(&format!("drop database f; create database g template e1 {strategy}"));
    cluster.sql_in("g", "update t set i = i + 1 where i < 10");
}

const AGAIN: &str = "
    update t set v = 'changed' where id % 97 = 0;
    select count(*) from wide, i;
    delete from i where a % 5 = 0;
    vacuum i;
    insert into v select i, repeat('k', 500) from generate_series(1, 3000) i;
    delete from v where id > 500;
    vacuum v;
    insert into v select i, repeat('l', 500) from generate_series(1, 1000) i;
    begin; drop table p3; truncate ts; create table new (id int); insert into new values (1); prepare transaction 'c';
    commit prepared 'c';
    begin; create table gone (id int); insert into gone values (1); rollback;
    create unlogged table unlogged as select generate_series(1, 100) i;
    alter table i set tablespace elsewhere;
    select nextval('s'), lo_from_bytea(0, decode(repeat('cd', 10000), 'hex'));
    refresh materialized view m;
    vacuum full wide;
";

/// Tables of every persistence, sequences, large objects, a materialised view.
const DEFINITIONS: &str = "
    create table t (id int primary key, v text);
    insert into t select i, repeat(md5(i::text), 10) from generate_series(1, 5000) i;
    update t set v = v || 'x' where id % 7 = 0;
    delete from t where id % 11 = 0;
    vacuum t;
    create unlogged table u (id int primary key, v text);
    insert into u select i, 'u' from generate_series(1, 2000) i;
    alter table u set logged;
    update u set v = 'v' where id < 100;
    alter table t set unlogged;
    alter table t set logged;
    create temporary table temporary_one as select generate_series(1, 100);
    create sequence s;
    select count(nextval('s')) from generate_series(1, 100);
    select lo_from_bytea(0, decode(repeat('ab', 100000), 'hex'));
    select lo_unlink(oid) from pg_largeobject_metadata limit 1;
    alter table t add column w text default 'w';
    alter table t alter column id type bigint;
    create table wide (v text);
    alter table wide alter v set storage external;
    insert into wide select string_agg(md5(random()::text), '') from generate_series(1, 20000);
    create materialized view m as select length(v) from wide;
    refresh materialized view m;
";

const INDEXES: &str = "
    create table i (a int, b int[], c tsvector, p point, r int4range, t text);
    insert into i select n, array[n, n + 1], to_tsvector(n::text), point(n, n), int4range(n, n + 5), md5(n::text)
        from generate_series(1, 3000) n;
    create index on i using btree (a);
    create index on i using hash (a);
    create index on i using gin (b);
    create index on i using gist (p);
    create index on i using spgist (p);
    create index on i using brin (a) with (autosummarize = on, pages_per_range = 4);
    create index concurrently on i (t);
    insert into i select n, array[n, n + 1], to_tsvector(n::text), point(n, n), int4range(n, n + 5), md5(n::text)
        from generate_series(3001, 5000) n;
    delete from i where a % 3 = 0;
    vacuum i;
    reindex table i;
";

/// Truncations by VACUUM and by TRUNCATE, and tables that grow again, so that a limit is followed by a higher one.
const TRUNCATION: &str = "
    create table v (id int, filler text);
    insert into v select i, repeat('f', 500) from generate_series(1, 20000) i;
    vacuum v;
    checkpoint;
    delete from v where id > 5000;
    vacuum v;
    insert into v select i, repeat('g', 500) from generate_series(20001, 40000) i;
    delete from v where id > 30000;
    vacuum v;
    checkpoint;
    insert into v select i, repeat('h', 500) from generate_series(40001, 41000) i;
    delete from v;
    vacuum v;
    insert into v values (1, 'again');
    truncate v;
    insert into v values (2, 'again');
    begin; truncate v; insert into v values (3, 'never'); rollback;
    begin; create table never (id int); insert into never values (1); rollback;
    begin; create table once (id int); insert into once values (1); truncate once; drop table once; commit;
";

const SUBTRANSACTIONS: &str = "
    begin;
    insert into t values (100001, 'top');
    savepoint a; insert into t values (100002, 'a');
    savepoint b; insert into t values (100003, 'b'); create table in_subtransaction (id int);
    rollback to b; create table in_subtransaction (id int primary key);
    release a;
    commit;
    do $$ begin for n in 1..200 loop begin insert into t values (200000 + n, 'loop');
        exception when others then null; end; end loop; end $$;
";

const PREPARED: &str = "
    create table p1 (id int primary key); insert into p1 select generate_series(1, 500);
    create table p2 (id int primary key);
    begin; drop table p1; create table p3 (id int); insert into p3 values (1); prepare transaction 'a';
    begin; drop table p2; create table p4 (id int); insert into p4 values (1); prepare transaction 'b';
    checkpoint;
    commit prepared 'a';
    rollback prepared 'b';
";

const REWRITES: &str = "
    create index t_id on t (id);
    cluster t using t_id;
    vacuum full t;
    vacuum (freeze) t;
    reindex table t;
    drop table u;
    vacuum full pg_class;
    select pg_create_restore_point('after the rewrites');
";

/// Messages that fill many pages, and, where segments are small, several segments. Where they are large, none is longer
/// than what is kept of a record that crosses from one to the next.
fn messages(archive: &Archive) {
    let is_small = archive.cluster.sql("show wal_segment_size") == "1MB";
    let lengths = if is_small { [100_000, 1_500_000, 3_500_000] } else { [100_000, 400_000, 800_000] };
    for length in lengths {
        archive.cluster.sql(&format!(
            "select count(pg_logical_emit_message(i % 2 = 0, 'test', repeat('x', {length}))) from generate_series(1, 6) i"
        ));
    }
}

const PARTITIONS: &str = "
    create table parts (id int, kind text, v text, primary key (id, kind)) partition by list (kind);
    create table parts_a partition of parts for values in ('a') partition by range (id);
    create table parts_a1 partition of parts_a for values from (0) to (1000);
    create table parts_a2 partition of parts_a for values from (1000) to (2000);
    create table parts_b partition of parts default;
    create index on parts (v);
    insert into parts select i, 'a', repeat('p', 100) from generate_series(0, 1999) i;
    insert into parts select i, 'b', repeat('q', 100) from generate_series(0, 1999) i;
    update parts set kind = 'b', id = id + 10000 where kind = 'a' and id % 5 = 0;
    create table parts_c (like parts including all);
    insert into parts_c select i, 'c', 'r' from generate_series(1, 500) i;
    alter table parts attach partition parts_c for values in ('c');
    alter table parts_a detach partition parts_a2;
    truncate parts_a;
    drop table parts_a2;
    alter table parts alter column v type varchar(200);
    create table referring (id int, kind text, foreign key (id, kind) references parts on delete cascade);
    insert into referring select id, kind from parts where kind = 'b';
    delete from parts where kind = 'b' and id < 500;
    create table parent (id int); create table child (v text) inherits (parent);
    insert into child select i, 'child' from generate_series(1, 1000) i;
    alter table parent add column generated int generated always as (id * 2) stored;
    create table numbered (id int generated by default as identity, n bigserial);
    insert into numbered select from generate_series(1, 300);
    alter sequence numbered_n_seq restart with 1000;
    truncate numbered restart identity;
";

const COPIES: &str = "
    create table copied (id int, v text);
    create index on copied (id);
    copy copied from program 'seq -f %.0f,copied 1 20000' with (format csv);
    begin; truncate copied; copy copied from program 'seq -f %.0f,frozen 1 20000' with (format csv, freeze); commit;
    vacuum copied;
    create table chosen as select * from copied where id % 2 = 0;
    delete from copied using chosen where copied.id = chosen.id and copied.id % 3 = 0;
    update copied set v = 'chosen' from chosen where copied.id = chosen.id;
";

fn databases(archive: &Archive) {
    let cluster = &archive.cluster;
    for (number, strategy) in strategies(archive).iter().enumerate() {
        cluster.sql(&format!("create database d{number} template template0 {strategy}"));
        cluster.sql_in(&format!("d{number}"), "create table t as select generate_series(1, 1000) i");
        cluster.sql(&format!("create database e{number} template d{number} {strategy}"));
        cluster.sql(&format!("drop database d{number}"));
    }
}

/// The ways to create a database; 14 and before have one only.
fn strategies(archive: &Archive) -> [&'static str; 2] {
    if archive.cluster.server().major() >= 15 { ["strategy wal_log", "strategy file_copy"] } else { [""; 2] }
}

fn tablespaces(archive: &Archive) {
    let cluster = &archive.cluster;
    let directory = archive.directory().with_file_name("tablespace");
    let path = directory.display();
    fs_err::create_dir(&directory).expect("the directory can be made");
    pgark_testkit::give_to_test_user(&directory);
    cluster.sql(&format!("create tablespace elsewhere location '{path}'"));
    cluster.sql(
        "create table ts (id int primary key) tablespace elsewhere;
         insert into ts select generate_series(1, 1000);
         checkpoint;
         alter table ts set tablespace pg_default;
         alter table t set tablespace elsewhere;
         alter database e0 set tablespace elsewhere;
         create database f template template0 tablespace elsewhere;
         drop database e0;",
    );
}

/// Full page images in every compression that the server has.
fn compression(archive: &Archive) {
    let cluster = &archive.cluster;
    let methods = cluster.sql("select unnest(enumvals) from pg_settings where name = 'wal_compression'");
    for method in methods.lines().chain(["pglz", "on"]) {
        if cluster.try_sql(&format!("alter system set wal_compression = '{method}'")).is_ok() {
            cluster.reload();
            cluster.sql("checkpoint; update pgbench_accounts set abalance = abalance + 1 where aid % 50 = 0");
        }
    }
}

/// One commit that drops 900 relations.
fn drop_many_tables(archive: &Archive) {
    let mut tables = String::new();
    for number in 0..300 {
        write!(tables, "create table many.t{number} (id int primary key, v text);").expect("a string can be written");
    }
    archive.cluster.sql(&format!("create schema many; {tables}"));
    archive.cluster.sql("checkpoint; set client_min_messages = warning; drop schema many cascade");
}
