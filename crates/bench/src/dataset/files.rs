//! A cluster of many small files: databases full of tables with a row each.

use pgark_testkit::Cluster;

/// Tables in each database, each of three files: a page with its row, and the maps of free space and of visibility.
/// The catalogs are another 300 files.
const TABLES: u32 = 1000;
/// 100,000 files in all.
const DATABASES: u32 = 30;

pub(super) fn load(cluster: &Cluster, quick: bool) {
    let databases = if quick { DATABASES / 10 } else { DATABASES };
    cluster.sql("create database tables_1");
    let create = format!(
        "do $$ begin
           for number in 1..{TABLES} loop
             execute format('create table small_%s (number int, content uuid)', number);
             execute format('insert into small_%s values (%s, md5(%L)::uuid)', number, number, number);
           end loop;
         end $$;
         vacuum (freeze, analyze)"
    );
    cluster.sql_in("tables_1", &create);
    for number in 2..=databases {
        cluster.sql(&format!("create database tables_{number} template tables_1 strategy file_copy"));
    }
}

pub(super) fn content(cluster: &Cluster) -> String {
    let databases = cluster.sql("select datname from pg_database where datname like 'tables_%' order by 1");
    let lines = databases.lines().map(|database| format!("{database} {}\n", content_of(cluster, database)));
    lines.collect()
}

fn content_of(cluster: &Cluster, database: &str) -> String {
    cluster.sql_in(
        database,
        "create function pg_temp.content() returns text language plpgsql as $$
         declare tables int := 0; total numeric := 0; name text; hash numeric;
         begin
           for name in select relname from pg_class where relname like 'small_%' loop
             execute format('select sum(hash_record_extended(t, 0)) from %I t', name) into hash;
             tables := tables + 1;
             total := total + hash;
           end loop;
           return tables || ' ' || total;
         end $$;
         select pg_temp.content()",
    )
}
