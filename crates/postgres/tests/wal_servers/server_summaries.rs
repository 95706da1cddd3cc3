//! The summaries of PostgreSQL 17 and 18 are the reference: ours of the same range must say the same.
//! Would lose: blocks that an incremental backup leaves out although they changed.

use std::ops::Range;

use fs_err as fs;
use pgark_postgres::Lsn;
use pgark_postgres::wal::join::summarise;
use pgark_postgres::wal::name::SegmentSize;
use pgark_postgres::wal::relation::{Fork, RelationFork, RelationLocator};
use pgark_postgres::wal::segment::{SegmentAnalysis, analyse};
use pgark_postgres::wal::server_summary::{ServerSummary, ServerSummaryName};
use pgark_postgres::wal::summary::{BlockSummary, Summary};
use pgark_testkit::{Cluster, run};

use crate::archive::{Archive, Segment};
use crate::model::assert_same_summaries;
use crate::oracles::{exact, model_of};

/// Where the first record of a segment begins that no record reaches into: after the long header.
const FIRST_RECORD: u32 = 40;

/// Gives all summaries, in their order.
pub(crate) fn check(archive: &Archive) -> Vec<(ServerSummaryName, ServerSummary)> {
    let summaries = finished_summaries(archive);
    let segments = archive.segments();
    let size = analyse(&segments[0].bytes()).expect("a segment").header.size;
    assert!(summaries.len() > 10, "only {} summaries", summaries.len());
    for (name, summary) in &summaries {
        let needed = &segments[index_of(&segments, name, size)..];
        let model = model_of(needed, &name.range);
        assert_same_summaries(summary, &model.to_server_summary());
        let ours = exact(needed, &name.range);
        model.assert_is(&ours);
        assert_is_covered_by(&ours, &summary.to_block_summary());
    }
    summaries
}

/// What was kept of the segments between two positions amounts to what `pg_walsummary` prints of the summaries between
/// them. Compared are positions at which both begin anew, all that follow on one another, and some far apart.
pub(crate) fn check_unions(
    cluster: &Cluster,
    analyses: &[SegmentAnalysis],
    summaries: &[(ServerSummaryName, ServerSummary)],
) {
    let size = analyses[0].header.size;
    let ends = summaries.iter().map(|(name, _)| name.range.end);
    let borders: Vec<Lsn> = ends.filter(|lsn| size.offset_of(*lsn) == FIRST_RECORD).collect();
    assert!(borders.len() > 8, "only {} checkpoints of {} begin a segment", borders.len(), summaries.len());
    let last = borders.len() - 1;
    let mut filled = 0;
    let neighbours = (0..last).map(|index| (index, index + 1));
    for (start, end) in neighbours.chain([(0, last), (0, last / 2), (last / 3, last)]) {
        let range = borders[start]..borders[end];
        let theirs = printed(cluster, summaries, &range);
        let numbers = size.segment_of(range.start)..size.segment_of(range.end);
        let between = analyses.iter().filter(|analysis| numbers.contains(&analysis.header.number));
        let joined = summarise(between).expect("the segments follow on one another");
        let Summary::Usable(ours) = joined.summary else { panic!("{:?}", joined.summary) };
        filled += usize::from(!ours.is_empty());
        for (fork, changes) in ours.iter() {
            assert_eq!(Some(changes), theirs.get(fork), "{fork} from {} to {}", range.start, range.end);
        }
        assert_eq!(ours, theirs);
    }
    assert!(filled > 8, "only {filled} ranges have changes in them");
}

/// The union of the summaries between two positions, as `pg_walsummary` prints them.
fn printed(cluster: &Cluster, summaries: &[(ServerSummaryName, ServerSummary)], range: &Range<Lsn>) -> BlockSummary {
    let directory = cluster.data_directory().join("pg_wal/summaries");
    let names = summaries.iter().map(|(name, _)| name);
    let between = names.filter(|name| range.start <= name.range.start && name.range.end <= range.end);
    let mut tool = cluster.server().tool("pg_walsummary");
    tool.args(between.map(|name| directory.join(name.to_string())));
    let mut union = BlockSummary::default();
    for line in run(&mut tool).expect_success().stdout.lines() {
        add_line(&mut union, line).unwrap_or_else(|| panic!("pg_walsummary has printed '{line}'"));
    }
    union
}

/// Adds what one line says, such as `TS 1663, DB 5, REL 1259, FORK main: blocks 3..7`.
fn add_line(summary: &mut BlockSummary, line: &str) -> Option<()> {
    let (whose, what) = line.split_once(": ")?;
    let mut parts = whose.split(", ").zip(["TS ", "DB ", "REL ", "FORK "]).map(|(part, word)| part.strip_prefix(word));
    let mut number = || parts.next()??.parse().ok();
    let relation = RelationLocator { tablespace: number()?, database: number()?, number: number()? };
    let name = parts.next()??;
    let fork = RelationFork { relation, fork: Fork::ALL.into_iter().find(|fork| fork.name() == name)? };
    let (word, value) = what.split_once(' ')?;
    match word {
        "limit" => summary.lower_limit(fork, value.parse().ok()?),
        "block" => summary.mark(fork, value.parse().ok()?),
        "blocks" => {
            let (first, last) = value.split_once("..")?;
            (first.parse().ok()?..=last.parse().ok()?).for_each(|block| summary.mark(fork, block));
        }
        _ => return None,
    }
    Some(())
}

/// Waits until the server has summarised what is archived, and reads all that it has written.
fn finished_summaries(archive: &Archive) -> Vec<(ServerSummaryName, ServerSummary)> {
    let cluster = &archive.cluster;
    let target = cluster.current_lsn();
    // A summary ends at a checkpoint.
    cluster.sql("checkpoint");
    cluster.wait_for_sql(&format!("select summarized_lsn >= '{target}' from pg_get_wal_summarizer_state()"), "t");
    archive.flush();
    let directory = cluster.data_directory().join("pg_wal/summaries");
    let mut summaries: Vec<(ServerSummaryName, ServerSummary)> = fs::read_dir(directory)
        .expect("the server has summaries")
        .map(|entry| {
            let entry = entry.expect("the directory can be read");
            let text = entry.file_name().into_string().expect("a name in ASCII");
            let name: ServerSummaryName = text.parse().expect("a summary's name");
            assert_eq!(name.to_string(), text);
            let summary = ServerSummary::parse(&fs::read(entry.path()).expect("a summary can be read"));
            (name, summary.expect("a summary"))
        })
        .collect();
    summaries.sort_by_key(|(name, _)| name.range.start);
    summaries
}

/// The segment in which the range of the summary begins.
fn index_of(segments: &[Segment], name: &ServerSummaryName, size: SegmentSize) -> usize {
    let first = size.segment_of(name.range.start);
    segments.iter().position(|segment| segment.name.number(size) == Some(first)).expect("the segment is archived")
}

/// `theirs` may only say more: see [`ServerSummary::to_block_summary`].
fn assert_is_covered_by(ours: &BlockSummary, theirs: &BlockSummary) {
    for (fork, changes) in ours.iter() {
        let covering = theirs.get(fork).unwrap_or_else(|| panic!("{fork} is missing"));
        assert!(changes.limit().is_none_or(|limit| covering.limit().is_some_and(|theirs| theirs <= limit)), "{fork}");
        assert!(changes.blocks().iter().all(|block| covering.contains(block)), "{fork}");
    }
}
