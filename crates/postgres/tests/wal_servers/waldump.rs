//! `pg_waldump` as the reference: the same records with the same blocks, and what its descriptions say of relations.

use std::path::Path;

use jiff::Timestamp;
use pgark_postgres::Lsn;
use pgark_postgres::wal::RecordStream;
use pgark_postgres::wal::join::summarise;
use pgark_postgres::wal::record::Record;
use pgark_postgres::wal::relation::{Fork, RelationFork, RelationLocator};
use pgark_postgres::wal::segment::SegmentAnalysis;
use pgark_postgres::wal::summary::{Summary, visibility_map_length};
use pgark_testkit::{Cluster, run};

use crate::archive::Segment;
use crate::model::Model;

/// Names of the resource managers, by their ids.
const RESOURCE_MANAGERS: [&str; 22] = [
    "XLOG",
    "Transaction",
    "Storage",
    "CLOG",
    "Database",
    "Tablespace",
    "MultiXact",
    "RelMap",
    "Standby",
    "Heap2",
    "Heap",
    "Btree",
    "Hash",
    "Gin",
    "Gist",
    "Sequence",
    "SPGist",
    "BRIN",
    "CommitTs",
    "ReplicationOrigin",
    "Generic",
    "LogicalMessage",
];

/// A record as a line of `pg_waldump` says it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Line {
    pub(crate) lsn: Lsn,
    previous: Lsn,
    resource_manager: String,
    pub(crate) xid: u32,
    total_length: usize,
    length_without_images: usize,
    blocks: Vec<(RelationFork, u32, bool)>,
}

/// The output of `pg_waldump`.
pub(crate) struct Dump {
    /// Each record with its description.
    pub(crate) records: Vec<(Line, String)>,
}

impl Dump {
    /// What `pg_waldump` says of all segments.
    pub(crate) fn of(cluster: &Cluster, directory: &Path, segments: &[Segment]) -> Self {
        let mut command = cluster.server().tool("pg_waldump");
        command.env("TZ", "UTC").arg("--path").arg(directory);
        command
            .args([segments.first(), segments.last()].map(|segment| segment.expect("two segments").name.to_string()));
        let finished = run(&mut command);
        assert_eq!(finished.code(), Some(0), "{}", finished.stderr);
        Self { records: finished.stdout.lines().map(parse_line).collect() }
    }

    /// The ends of transactions: position, id, whether committed, and the time.
    pub(crate) fn transaction_ends(&self) -> impl Iterator<Item = (Lsn, u32, bool, Timestamp)> {
        self.records.iter().filter(|(line, _)| line.resource_manager == "Transaction").filter_map(|(line, text)| {
            let (what, rest) = text.split_once(' ')?;
            let committed = what.starts_with("COMMIT");
            let (xid, rest) = match what {
                "COMMIT" | "ABORT" => (line.xid, rest),
                "COMMIT_PREPARED" | "ABORT_PREPARED" => {
                    let (xid, rest) = rest.split_once(": ")?;
                    (xid.parse().expect("a transaction id"), rest)
                }
                _ => return None,
            };
            let time = rest.split_once(" UTC")?.0.replace(' ', "T") + "Z";
            Some((line.lsn, xid, committed, time.parse().expect("a time")))
        })
    }
}

fn parse_line(line: &str) -> (Line, String) {
    let after = |key: &str| line.split_once(key).unwrap_or_else(|| panic!("no '{key}' in: {line}")).1.trim_start();
    let until = |text: &str, end: char| text.split(end).next().expect("a first part").trim().to_owned();
    let (length, rest) = after("len (rec/tot):").split_once('/').expect("two lengths");
    let description = after("desc: ");
    let (text, blocks) = description.split_once(", blkref #").unwrap_or((description, ""));
    let line = Line {
        lsn: until(after("lsn: "), ',').parse().expect("a position"),
        previous: until(after("prev "), ',').parse().expect("a position"),
        resource_manager: until(after("rmgr: "), ' '),
        xid: until(after("tx:"), ',').parse().expect("a transaction id"),
        total_length: until(rest, ',').parse().expect("a length"),
        length_without_images: length.trim().parse().expect("a length"),
        blocks: blocks.split(", blkref #").filter(|block| !block.is_empty()).map(parse_block).collect(),
    };
    (line, text.to_owned())
}

/// `0: rel 1663/5/16384 fork vm blk 0 FPW`
fn parse_block(text: &str) -> (RelationFork, u32, bool) {
    let words: Vec<&str> = text.split_whitespace().collect();
    let value = |key: &str| words.iter().position(|word| *word == key).map(|index| words[index + 1]);
    let numbers: Vec<u32> =
        value("rel").expect("a relation").split('/').map(|number| number.parse().expect("a number")).collect();
    let relation = RelationLocator { tablespace: numbers[0], database: numbers[1], number: numbers[2] };
    let fork = fork_named(value("fork").unwrap_or("main"));
    let block = value("blk").expect("a block").trim_end_matches(',').parse().expect("a block");
    (RelationFork { relation, fork }, block, words.contains(&"FPW"))
}

fn fork_named(name: &str) -> Fork {
    Fork::ALL.into_iter().find(|fork| fork.name() == name).expect("a fork")
}

/// The same records, one by one, and the same summary.
pub(crate) fn check(dump: &Dump, segments: &[Segment], analyses: &[SegmentAnalysis]) {
    let records = records_of(segments);
    for (ours, (theirs, text)) in records.iter().zip(&dump.records) {
        assert_eq!(ours, theirs, "{text}");
    }
    assert_eq!(records.len(), dump.records.len());

    let joined = summarise(analyses).expect("the segments follow on one another");
    let Summary::Usable(summary) = joined.summary else { panic!("unusable: {:?}", joined.summary) };
    let mut model = Model::default();
    for (line, text) in &dump.records {
        assert!(joined.range.contains(&line.lsn));
        absorb(&mut model, line, text);
    }
    model.assert_is(&summary);
}

fn records_of(segments: &[Segment]) -> Vec<Line> {
    let mut records = Vec::new();
    let mut stream = RecordStream::default();
    for segment in segments {
        let pushed = stream.push(&segment.bytes(), |header, raw| {
            let record = Record::decode(raw.lsn, header.version, raw.bytes).expect("a server's record");
            records.push(line_of(&record));
        });
        pushed.unwrap_or_else(|error| panic!("{}: {error}", segment.name));
    }
    records
}

fn line_of(record: &Record<'_>) -> Line {
    let images = record.blocks().filter_map(|block| block.image).map(|image| image.bytes.len());
    let total_length = record.header.total_length as usize;
    Line {
        lsn: record.lsn,
        previous: record.header.previous,
        resource_manager: RESOURCE_MANAGERS[usize::from(record.header.resource_manager)].to_owned(),
        xid: record.header.xid,
        total_length,
        length_without_images: total_length - images.sum::<usize>(),
        blocks: record.blocks().map(|block| (block.target, block.block, block.image.is_some())).collect(),
    }
}

/// What the line says of relations: its blocks, and what the description of some records says.
fn absorb(model: &mut Model, line: &Line, text: &str) {
    let words: Vec<&str> = text.split_whitespace().collect();
    match (line.resource_manager.as_str(), words.first().copied().unwrap_or_default()) {
        ("Storage", "CREATE") => model.limit(parse_path(words[1]), 0),
        ("Storage", "TRUNCATE") => {
            let (relation, blocks) = (parse_path(words[1]).relation, words[3].parse().expect("a length"));
            let flags: u32 = words[6].parse().expect("flags");
            if flags & 1 != 0 {
                model.limit(RelationFork { relation, fork: Fork::Main }, blocks);
            }
            if flags & 2 != 0 {
                let fork = RelationFork { relation, fork: Fork::VisibilityMap };
                model.limit(fork, visibility_map_length(blocks));
            }
        }
        ("Transaction", "COMMIT" | "ABORT" | "COMMIT_PREPARED" | "ABORT_PREPARED") => {
            let relations = text.split_once("; rels: ").map_or("", |(_, rest)| rest.split(';').next().unwrap_or(rest));
            for path in relations.split_whitespace() {
                let relation = parse_path(path).relation;
                for fork in Fork::ALL {
                    model.limit(RelationFork { relation, fork }, 0);
                }
            }
        }
        ("Database", what) => {
            let directories = words.iter().skip(1).filter_map(|word| word.split_once('/'));
            let directories: Vec<(u32, u32)> =
                directories.map(|(spc, db)| (spc.parse().expect("an oid"), db.parse().expect("an oid"))).collect();
            // A copy, which is called CREATE up to 14, names its source first.
            let skipped = usize::from(matches!(what, "CREATE_FILE_COPY" | "CREATE"));
            for (tablespace, database) in directories.into_iter().skip(skipped) {
                model.replace_database(tablespace, database);
            }
        }
        _ => {}
    }
    for (fork, block, _) in &line.blocks {
        model.mark(*fork, *block);
    }
}

/// `base/5/16384_vm`, `global/1262`, `pg_tblspc/16391/PG_15_202209061/5/16392`
fn parse_path(path: &str) -> RelationFork {
    let parts: Vec<&str> = path.split('/').collect();
    let (tablespace, database, file) = match parts[..] {
        ["base", database, file] => ("1663", database, file),
        ["global", file] => ("1664", "0", file),
        ["pg_tblspc", tablespace, _, database, file] => (tablespace, database, file),
        _ => panic!("unknown path {path}"),
    };
    let (number, fork) = file.split_once('_').unwrap_or((file, "main"));
    let [tablespace, database, number] = [tablespace, database, number].map(|text| text.parse().expect("an oid"));
    RelationFork { relation: RelationLocator { tablespace, database, number }, fork: fork_named(fork) }
}
