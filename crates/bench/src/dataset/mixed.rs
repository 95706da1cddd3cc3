//! A cluster with rows that compress well, JSON that compresses too, and vectors that hardly do.

use std::io::{self, BufWriter, Write};
use std::process::Stdio;
use std::thread;

use pgark_testkit::{Cluster, run};

use crate::random::Random;

/// Rows of each table. Each comes to about 1.6 GB with its indexes.
const ORDERS: u64 = 10_000_000;
const EVENTS: u64 = 2_000_000;
const EMBEDDINGS: u64 = 440_000;
/// Numbers in a vector.
const DIMENSIONS: u32 = 768;

/// A table and what fills it.
struct Table {
    name: &'static str,
    definition: &'static str,
    format: &'static str,
    indexes: &'static str,
    rows: u64,
    write: fn(&mut dyn Write, u64) -> io::Result<()>,
}

const TABLES: [Table; 3] = [
    Table {
        name: "orders",
        definition: "id bigint, customer bigint, state text, placed timestamptz, total numeric(12, 2), note text",
        format: "text",
        indexes: "alter table orders add primary key (id); create index on orders (customer)",
        rows: ORDERS,
        write: write_orders,
    },
    Table {
        name: "events",
        definition: "id bigint, document jsonb",
        format: "text",
        indexes: "alter table events add primary key (id); create index on events ((document ->> 'kind'))",
        rows: EVENTS,
        write: write_events,
    },
    Table {
        name: "embeddings",
        definition: "id bigint, embedding real[]",
        format: "binary",
        indexes: "alter table embeddings add primary key (id)",
        rows: EMBEDDINGS,
        write: write_embeddings,
    },
];

pub(super) fn load(cluster: &Cluster, quick: bool) -> io::Result<()> {
    thread::scope(|scope| {
        let loads = TABLES.each_ref().map(|table| scope.spawn(move || load_table(cluster, table, quick)));
        loads.into_iter().try_for_each(|load| load.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    })
}

/// Fills a table in the transaction that creates it, which needs no WAL, and freezes its rows, so that nothing writes
/// to them later.
fn load_table(cluster: &Cluster, table: &Table, quick: bool) -> io::Result<()> {
    let Table { name, definition, format, indexes, .. } = table;
    let mut psql = cluster.client("psql");
    psql.args(["-Xq", "--set=ON_ERROR_STOP=1", "--single-transaction", "postgres"]);
    psql.args(["-c", &format!("create table {name} ({definition})")]);
    if *format == "binary" {
        // As pgvector does: no attempt to compress.
        psql.args(["-c", &format!("alter table {name} alter column embedding set storage external")]);
    }
    psql.args(["-c", &format!("copy {name} from stdin (format {format}, freeze)")]);
    psql.args(["-c", indexes]);
    let mut child = psql.stdin(Stdio::piped()).spawn()?;
    let mut input = BufWriter::with_capacity(1 << 20, child.stdin.take().ok_or(io::ErrorKind::BrokenPipe)?);
    (table.write)(&mut input, if quick { table.rows / 10 } else { table.rows })?;
    input.flush()?;
    drop(input);
    if !child.wait()?.success() {
        return Err(io::Error::other(format!("table '{name}' can't be filled")));
    }
    let mut vacuum = cluster.client("psql");
    run(vacuum.args(["-Xq", "postgres", "-c", &format!("vacuum (freeze, analyze) {name}")])).expect_success();
    Ok(())
}

/// Updates the first row of every so many pages of each table, in other pages each round. With the pages of indexes that this changes too, and
/// those where the new rows go, it comes to about one page of a hundred.
pub(crate) fn change(cluster: &Cluster, round: usize) {
    const PAGES_APART: usize = 220;
    for (table, assignment) in [
        ("orders", "total = total + 1"),
        ("events", "document = document || '{\"seen\": true}'"),
        // The array is stored anew, in other pages than the row.
        ("embeddings", "embedding = embedding[2:] || embedding[1]"),
    ] {
        let first = round * 7 % PAGES_APART;
        cluster.sql(&format!(
            "update {table} set {assignment} where ctid = any(array(select format('(%s,1)', page)::tid \
             from generate_series({first}, pg_relation_size('{table}') / 8192 - 1, {PAGES_APART}) page))"
        ));
    }
}

/// Number of rows and a hash over all of them, for each table.
pub(super) fn content(cluster: &Cluster) -> String {
    let queries = TABLES.map(|Table { name, .. }| {
        format!("select '{name}', count(*), sum(hash_record_extended(t, 0)::numeric) from {name} t;\n")
    });
    cluster.sql(&queries.concat())
}

const STATES: [&str; 5] = ["new", "paid", "shipped", "delivered", "returned"];
const KINDS: [&str; 8] = ["view", "click", "search", "login", "purchase", "refund", "signup", "logout"];
const CITIES: [&str; 8] = ["Berlin", "Lisbon", "Osaka", "Lagos", "Lima", "Oslo", "Toronto", "Pune"];
const SYLLABLES: [&str; 24] = [
    "ba", "re", "mi", "ton", "sul", "ka", "ven", "dor", "li", "nus", "per", "ta", "go", "shi", "lan", "me", "quo",
    "ri", "fes", "um", "or", "pi", "sta", "el",
];

/// Two thousand words of two or three syllables.
fn vocabulary(random: &mut Random) -> Vec<String> {
    (0..2000).map(|_| (0..2 + random.below(2)).map(|_| *random.pick(&SYLLABLES)).collect()).collect()
}

/// Some words, the first ones of the vocabulary more often than the others, as in a language.
fn words(random: &mut Random, vocabulary: &[String], count: u64) -> String {
    let few = &vocabulary[..vocabulary.len() / 20];
    let words: Vec<&str> = (0..count)
        .map(|_| if random.below(2) == 0 { random.pick(few) } else { random.pick(vocabulary) }.as_str())
        .collect();
    words.join(" ")
}

fn write_orders(output: &mut dyn Write, rows: u64) -> io::Result<()> {
    let mut random = Random::new(2);
    let vocabulary = vocabulary(&mut random);
    for id in 1..=rows {
        let customer = random.below(rows / 10 + 1);
        let state = random.pick(&STATES);
        let (day, second) = (1 + id * 28 / rows.max(1) % 28, random.below(86_400));
        let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
        let (units, cents) = (random.below(2000), random.below(100));
        let length = 4 + random.below(8);
        let note = words(&mut random, &vocabulary, length);
        writeln!(
            output,
            "{id}\t{customer}\t{state}\t2026-01-{day:02} {hour:02}:{minute:02}:{second:02}+00\t{units}.{cents:02}\t{note}"
        )?;
    }
    Ok(())
}

fn write_events(output: &mut dyn Write, rows: u64) -> io::Result<()> {
    let mut random = Random::new(3);
    let vocabulary = vocabulary(&mut random);
    for id in 1..=rows {
        let (kind, city) = (random.pick(&KINDS), random.pick(&CITIES));
        let (user, session) = (random.below(rows / 20 + 1), random.next());
        let name = words(&mut random, &vocabulary, 2);
        let title = words(&mut random, &vocabulary, 6);
        let tags = words(&mut random, &vocabulary, 4).replace(' ', "\", \"");
        let text = words(&mut random, &vocabulary, 30);
        let (price, quantity) = (random.below(100_000), random.below(10));
        writeln!(
            output,
            "{id}\t{{\"kind\": \"{kind}\", \"user\": {{\"id\": {user}, \"name\": \"{name}\", \"city\": \"{city}\"}}, \
             \"session\": \"{session:016x}\", \"page\": {{\"title\": \"{title}\", \"tags\": [\"{tags}\"]}}, \
             \"items\": [{{\"price\": {price}, \"quantity\": {quantity}}}], \"text\": \"{text}\"}}"
        )?;
    }
    Ok(())
}

/// Writes arrays of `real` as `COPY` takes them in binary (`array_recv` in `arrayfuncs.c`): of each vector its number
/// of dimensions (1), no nulls, the type's oid, the dimension's length and lower bound, and each number with its length.
fn write_embeddings(output: &mut dyn Write, rows: u64) -> io::Result<()> {
    const REAL_OID: u32 = 700;
    let mut random = Random::new(4);
    output.write_all(b"PGCOPY\n\xff\r\n\0")?;
    output.write_all(&[0; 8])?;
    for id in 1..=rows {
        output.write_all(&2_u16.to_be_bytes())?;
        output.write_all(&8_u32.to_be_bytes())?;
        output.write_all(&id.to_be_bytes())?;
        output.write_all(&(20 + 8 * DIMENSIONS).to_be_bytes())?;
        for word in [1, 0, REAL_OID, DIMENSIONS, 1] {
            output.write_all(&word.to_be_bytes())?;
        }
        for _ in 0..DIMENSIONS {
            output.write_all(&4_u32.to_be_bytes())?;
            output.write_all(&(random.unit() * 0.1).to_be_bytes())?;
        }
    }
    output.write_all(&u16::MAX.to_be_bytes())
}
