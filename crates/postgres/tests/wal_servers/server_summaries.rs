//! The summaries of PostgreSQL 17 and 18 are the reference: ours of the same range must say the same.
//! Would lose: blocks that an incremental backup leaves out although they changed.

use fs_err as fs;
use pgark_postgres::wal::name::SegmentSize;
use pgark_postgres::wal::segment::analyse;
use pgark_postgres::wal::server_summary::{ServerSummary, ServerSummaryName};
use pgark_postgres::wal::summary::BlockSummary;

use crate::archive::{Archive, Segment};
use crate::model::assert_same_summaries;
use crate::oracles::{exact, model_of};

pub(crate) fn check(archive: &Archive) {
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
