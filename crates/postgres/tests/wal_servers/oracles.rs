//! One workload for each server and segment size, and everything that can be checked on its WAL.

use std::ops::Range;

use pgark_postgres::Lsn;
use pgark_postgres::wal::RecordStream;
use pgark_postgres::wal::join::{RangeSummariser, summarise};
use pgark_postgres::wal::record::Record;
use pgark_postgres::wal::segment::SegmentAnalysis;
use pgark_postgres::wal::summary::{BlockSummary, Summary};
use pgark_testkit::Server;

use crate::archive::{Archive, Segment};
use crate::model::Model;
use crate::{server_summaries, times, waldump, workload};

fn check(major: u32, segment_size_mib: u32) {
    let mut archive = Archive::start(&Server::get(major), |builder| {
        let builder = builder.wal_segment_size_mib(segment_size_mib);
        if major >= 17 { builder.setting("summarize_wal", "on") } else { builder }
    });
    workload::run(&mut archive);
    let summaries = (major >= 17).then(|| server_summaries::check(&archive));
    let segments = archive.segments();
    let analyses: Vec<SegmentAnalysis> = segments.iter().map(Segment::analysis).collect();
    check_joins(&segments, &analyses);
    if let Some(summaries) = summaries.filter(|_| segment_size_mib < 64) {
        server_summaries::check_unions(&archive.cluster, &analyses, &summaries);
    }
    let dump = waldump::Dump::of(&archive.cluster, &archive.directory(), &segments);
    assert!(dump.records.len() > 50_000, "only {} records", dump.records.len());
    waldump::check(&dump, &segments, &analyses);
    times::check(&dump, &segments, &analyses);
}

#[test]
fn wal_of_14_in_small_segments() {
    check(14, 1);
}

#[test]
fn wal_of_15() {
    check(15, 16);
}

#[test]
fn wal_of_15_in_small_segments() {
    check(15, 1);
}

#[test]
fn wal_of_16() {
    check(16, 16);
}

#[test]
fn wal_of_17() {
    check(17, 16);
}

#[test]
fn wal_of_17_in_small_segments() {
    check(17, 1);
}

#[test]
fn wal_of_18_in_large_segments() {
    check(18, 64);
}

#[test]
fn wal_of_18_in_small_segments() {
    check(18, 1);
}

/// What was kept of each segment amounts to what the segments say, from any segment to any other.
/// Would lose: the changes of the records that cross from one segment to the next.
fn check_joins(segments: &[Segment], analyses: &[SegmentAnalysis]) {
    let count = analyses.len();
    for (first, last) in [(0, count), (1, count / 2), (count / 3, count - 1)] {
        let joined = summarise(&analyses[first..last]).expect("the segments follow on one another");
        let summary = usable(joined.summary);
        model_of(&segments[first..last], &joined.range).assert_is(&summary);
        assert_eq!(exact(&segments[first..last], &joined.range), summary);
        assert_eq!(BlockSummary::decode(&summary.encode(), u64::MAX), Ok(summary));
    }
}

pub(crate) fn model_of(segments: &[Segment], range: &Range<Lsn>) -> Model {
    let mut model = Model::default();
    let mut stream = RecordStream::default();
    for segment in segments {
        let pushed = stream.push(&segment.bytes(), |header, raw| {
            if range.contains(&raw.lsn) {
                model.absorb(&Record::decode(raw.lsn, header.version, raw.bytes).expect("a server's record"));
            }
        });
        pushed.unwrap_or_else(|error| panic!("{}: {error}", segment.name));
        if stream.reached() > range.end {
            break;
        }
    }
    model
}

pub(crate) fn exact(segments: &[Segment], range: &Range<Lsn>) -> BlockSummary {
    let mut summariser = RangeSummariser::new(range.clone());
    for segment in segments {
        if !summariser.push(&segment.bytes()).unwrap_or_else(|error| panic!("{}: {error}", segment.name)) {
            break;
        }
    }
    usable(summariser.finish().expect("the range is archived"))
}

fn usable(summary: Summary) -> BlockSummary {
    match summary {
        Summary::Usable(summary) => summary,
        Summary::Unusable(reason) => panic!("{reason}"),
    }
}
