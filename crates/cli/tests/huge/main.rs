//! A cluster of ten terabytes, simulated, and what the program takes for it: time and memory. A measurement: `make huge`.
//!
//! The server is a real one, with tables whose files are sparse: pages of zeros are pages to PostgreSQL. What a year of
//! hourly backups would have left in the repository is written by the repository's own writers ([`year`]).

#![allow(clippy::unwrap_used, reason = "what goes wrong here ends the test")]

#[path = "../common/mod.rs"]
mod common;
mod year;

use std::io::Read;
use std::path::PathBuf;

use fs_err as fs;
use pgark_repository::PAGE_SIZE;
use pgark_system::clock::Stopwatch;
use pgark_testkit::{Server, Stop, give_to_test_user};

use crate::common::Site;
use crate::common::measuring::measure;
use crate::year::{SEGMENT_PAGES, SEGMENTS, WORN_SEGMENTS};

const SMALL_FILES: u32 = 50_000;

/// The database that is huge, and one that is restored with all its pages.
const HUGE: &str = "huge";
const WORN: &str = "worn";

/// What each command may take.
const MOST_MEMORY_KIB: u64 = 256 << 10;
const MOST_SECONDS: u64 = 60;

/// `PGARK_HUGE_TABLES` and `PGARK_HUGE_BACKUPS` make less of it, to try it.
fn number(variable: &str, default: u32) -> u32 {
    std::env::var(variable).map_or(default, |text| text.parse().expect("it is a number"))
}

/// The paths of the tables' files, relative to the data directory.
fn create_tables(site: &Site, tables: u32) -> Vec<String> {
    site.cluster.sql("create database huge");
    site.cluster.sql_in(
        HUGE,
        &format!(
            "do $$ begin for i in 1..{tables} loop execute 'create table huge_' || i || ' (id int)'; end loop; end $$"
        ),
    );
    site.cluster.sql("create database other");
    let paths =
        site.cluster.sql_in(HUGE, "select pg_relation_filepath(oid) from pg_class where relname like 'huge\\_%'");
    paths.lines().map(str::to_owned).collect()
}

/// The path of the table that is restored.
fn create_worn_table(site: &Site) -> String {
    site.cluster.sql("create database worn");
    site.cluster.sql_in(WORN, "create table worn (id int)");
    site.cluster.sql_in(WORN, "select pg_relation_filepath('worn')")
}

/// Files as small tables have them: with the first page of one.
fn create_small_files(site: &Site) {
    site.cluster.sql("checkpoint");
    let data = site.cluster.data_directory();
    let of_class = data.join(site.cluster.sql_in(HUGE, "select pg_relation_filepath('pg_class')"));
    let mut page = vec![0; PAGE_SIZE];
    fs::File::open(&of_class).unwrap().read_exact(&mut page).unwrap();
    let directory = of_class.parent().unwrap();
    for file in 0..SMALL_FILES {
        let path = directory.join(format!("{}", 9_000_000 + file));
        fs::write(&path, &page).unwrap();
        give_to_test_user(&path);
    }
}

/// Makes the files of a table as many and as long as they are to be.
fn extend(site: &Site, path: &str, segments: u32) {
    let length = u64::from(SEGMENT_PAGES) * PAGE_SIZE as u64;
    for segment in 0..segments {
        let path: PathBuf = site.cluster.data_directory().join(year::segment(path, segment));
        fs::OpenOptions::new().write(true).create(true).open(&path).unwrap().set_len(length).unwrap();
        give_to_test_user(&path);
    }
}

#[test]
#[ignore = "a measurement"]
fn ten_terabytes_take_seconds_and_little_memory() {
    let (tables, backups) = (number("PGARK_HUGE_TABLES", 1000), number("PGARK_HUGE_BACKUPS", 500));
    let server = Server::get(17);
    let mut site = Site::builder(&server).setting("autovacuum", "off").start();
    let stopwatch = Stopwatch::start();
    let paths = create_tables(&site, tables);
    let worn = create_worn_table(&site);
    create_small_files(&site);
    let original = site.backup(&["--process-max=2"]);
    site.cluster.stop(Stop::Fast);
    for path in &paths {
        extend(&site, path, SEGMENTS);
    }
    extend(&site, &worn, WORN_SEGMENTS);
    println!("the cluster is there after {:?}", stopwatch.elapsed());
    year::write(&site, &original, &paths, &worn, backups);
    println!("the repository is there after {:?}", stopwatch.elapsed());
    site.cluster.start();

    let mut flaws = Vec::new();
    println!("| command | seconds | memory, MiB |\n|---|--:|--:|");
    let mut take = |what: &str, arguments: &[&str], code: i32, expected: &str| {
        let taken = measure(&site, arguments);
        let seconds = taken.elapsed.as_secs_f64();
        println!("| {what} | {seconds:.1} | {} |", taken.memory_kib / 1024);
        assert_eq!(taken.code, Some(code), "{what}: {}", tail(&taken.output));
        assert!(taken.output.contains(expected), "{what}: {}", tail(&taken.output));
        if taken.memory_kib > MOST_MEMORY_KIB || taken.elapsed.as_secs() > MOST_SECONDS {
            flaws.push(what.to_owned());
        }
        taken.output
    };
    take("info", &["info"], 0, "full backup: ");
    take("info --output=json", &["--output=json", "info"], 0, "\"label\"");
    let incremental = ["--type=incr", "--log-level-console=info", "--process-max=2", "--no-expire-auto", "backup"];
    take("backup, nothing changed", &incremental, 0, "new backup label = ");
    site.cluster.sql_in(
        HUGE,
        &format!(
            "do $$ begin for i in 1..{tables} loop execute 'insert into huge_' || i || ' values (1)'; end loop; end $$"
        ),
    );
    let output = take("backup, a page of each table changed", &incremental, 0, "new backup label = ");
    println!("{}", tail(&output));
    let expire = ["--repo1-retention-full=2", "--log-level-console=info", "expire"];
    take("expire --dry-run", &[&["--dry-run"][..], &expire].concat(), 0, "expire");
    let output = take("expire, a set of backups goes", &expire, 0, "remove expired backup");
    println!("{}", tail(&output));
    let output = take("expire, its packs go", &expire, 0, "pack");
    println!("{}", tail(&output));
    let target = site.scratch.path().join("target");
    let path = format!("--pg1-path={}", target.display());
    take("restore, till it asks for the first pages", &[&path, "restore"], 26, "is damaged");
    fs::remove_dir_all(&target).unwrap();
    take("restore without the database that is huge", &[&path, "--db-include=other", "restore"], 0, "");
    fs::remove_dir_all(&target).unwrap();
    let worn = ["--db-include=worn", "--process-max=2", "restore"];
    take("restore of 2 GiB from frames of 500 backups", &[&[path.as_str()], &worn[..]].concat(), 0, "");
    fs::remove_dir_all(&target).unwrap();
    take("verify --quick", &["--quick", "--output=text", "verify"], 0, "");
    assert!(flaws.is_empty(), "too slow, or too much memory: {flaws:?}");
}

/// The last lines.
fn tail(output: &str) -> String {
    let lines: Vec<&str> = output.lines().collect();
    lines[lines.len().saturating_sub(12)..].join("\n")
}
