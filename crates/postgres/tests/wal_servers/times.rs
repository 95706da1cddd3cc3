//! The time indexes say what `pg_waldump` says.
//! Would lose: a restore to a time, a transaction or a restore point that is not found, or stops in the wrong place.

use std::collections::BTreeMap;

use jiff::Timestamp;
use pgark_postgres::Lsn;
use pgark_postgres::wal::find::{TransactionSearch, Wanted};
use pgark_postgres::wal::join::Joiner;
use pgark_postgres::wal::segment::SegmentAnalysis;
use pgark_postgres::wal::times::{Notable, NotableEvent, SAMPLE_INTERVAL};

use crate::archive::Segment;
use crate::waldump::Dump;

/// The end of a transaction: position, id, whether committed, and the time.
type End = (Lsn, u32, bool, Timestamp);

pub(crate) fn check(dump: &Dump, segments: &[Segment], analyses: &[SegmentAnalysis]) {
    let ends: Vec<End> = dump.transaction_ends().collect();
    let mut joiner = Joiner::default();
    let mut notable: Vec<Notable> = Vec::new();
    let (mut commits, mut rollbacks) = (0, 0);
    for analysis in analyses {
        let crossing = joiner.push(analysis).expect("the segments follow on one another");
        for times in crossing.iter().map(|crossing| &crossing.times).chain([&analysis.times]) {
            notable.extend_from_slice(times.notable());
            commits += times.ends().map_or(0, |ends| ends.commits);
            rollbacks += times.ends().map_or(0, |ends| ends.rollbacks);
            assert!(!times.is_overflowed());
        }
        check_segment(&ends, analysis);
    }
    let committed = ends.iter().filter(|(_, _, committed, _)| *committed).count();
    assert_eq!((commits as usize, rollbacks as usize), (committed, ends.len() - committed));
    check_notable(dump, &notable);
    check_search(dump, &ends, segments);
}

/// First, last and latest time, transaction ids and samples of one segment.
fn check_segment(all: &[End], analysis: &SegmentAnalysis) {
    let SegmentAnalysis { header, times, edges, .. } = analysis;
    let is_inside =
        |lsn: Lsn| lsn >= header.start && lsn < analysis.end_lsn() && edges.tail.is_none_or(|tail| lsn < tail.lsn);
    let ends: Vec<&End> = all.iter().filter(|(lsn, ..)| is_inside(*lsn)).collect();
    let Some(found) = times.ends() else {
        assert!(ends.is_empty() && times.samples().is_empty());
        return;
    };
    let (first, last) = (ends.first().expect("an end"), ends.last().expect("an end"));
    let latest = ends.iter().map(|end| end.3).max();
    assert_eq!((found.first, found.last, Some(found.latest)), (first.3, last.3, latest));
    assert!(ends.iter().all(|(_, xid, ..)| found.may_contain(*xid)));
    assert!(!found.may_contain(found.highest_xid + 1));

    let mut expected: BTreeMap<u32, (u32, Timestamp, Timestamp)> = BTreeMap::new();
    for (lsn, _, _, time) in &ends {
        let offset = header.size.offset_of(*lsn);
        let sample = expected.entry(offset / SAMPLE_INTERVAL).or_insert((offset, *time, *time));
        sample.2 = sample.2.max(*time);
    }
    let samples = times.samples().iter().map(|sample| (sample.offset, sample.first, sample.latest));
    assert!(samples.eq(expected.into_values()), "{}", header.start);
}

fn check_notable(dump: &Dump, notable: &[Notable]) {
    let lsns_of = |wanted: &dyn Fn(&NotableEvent) -> bool| -> Vec<Lsn> {
        notable.iter().filter(|notable| wanted(&notable.what)).map(|notable| notable.lsn).collect()
    };
    let dumped = |starts: &[&str], contains: &str| -> Vec<Lsn> {
        let is_wanted = |text: &str| starts.iter().any(|start| text.starts_with(start)) && text.contains(contains);
        dump.records.iter().filter(|(_, text)| is_wanted(text)).map(|(line, _)| line.lsn).collect()
    };
    let check = |starts: &[&str], contains: &str, wanted: &dyn Fn(&NotableEvent) -> bool| {
        let expected = dumped(starts, contains);
        assert!(!expected.is_empty(), "the workload has no {starts:?}");
        assert_eq!(lsns_of(wanted), expected, "{starts:?}");
    };
    check(&["TRUNCATE "], " flags 7", &|what| matches!(what, NotableEvent::RelationTruncated { .. }));
    check(&["COMMIT ", "COMMIT_PREPARED"], "; rels: ", &|what| matches!(what, NotableEvent::RelationsDropped { .. }));
    let created = ["CREATE copy dir", "CREATE_FILE_COPY", "CREATE_WAL_LOG"];
    check(&created, "", &|what| matches!(what, NotableEvent::DatabaseCreated(_)));
    check(&["DROP dir"], "", &|what| matches!(what, NotableEvent::DatabaseDropped { .. }));
    check(&["RESTORE_POINT"], "", &|what| matches!(what, NotableEvent::RestorePoint { .. }));
    check(&["SWITCH"], "", &|what| matches!(what, NotableEvent::Switch));
    check(&["CHECKPOINT_SHUTDOWN"], "", &|what| matches!(what, NotableEvent::ShutdownCheckpoint));

    let largest = notable.iter().filter_map(|notable| match &notable.what {
        NotableEvent::RelationsDropped { relations, count } if relations.len() == *count as usize => Some(*count),
        _ => None,
    });
    assert!(largest.max() > Some(800), "the commit that drops a schema is missing");
    let name = |notable: &&Notable| matches!(&notable.what, NotableEvent::RestorePoint { name } if name == "after the rewrites");
    assert!(notable.iter().find(name).is_some_and(|notable| notable.time.is_some()));
}

/// Every transaction is found where it ended: some of all kinds are enough.
fn check_search(dump: &Dump, ends: &[End], segments: &[Segment]) {
    let prepared =
        dump.records.iter().filter(|(_, text)| text.starts_with("COMMIT_PREPARED") || text.starts_with("ABORT"));
    let special: Vec<Lsn> = prepared.map(|(line, _)| line.lsn).collect();
    assert!(special.len() >= 3, "the workload has no prepared or aborted transactions");
    for (index, (lsn, xid, committed, time)) in ends.iter().enumerate() {
        if index % 2000 != 0 && !special.contains(lsn) {
            continue;
        }
        let found = search(*xid, segments).unwrap_or_else(|| panic!("transaction {xid} is not found"));
        assert_eq!((found.lsn, found.committed, found.time), (*lsn, *committed, *time));
        assert!(found.end > found.lsn);
    }
    assert_eq!(search(u32::MAX, &segments[..3]), None);
}

fn search(xid: u32, segments: &[Segment]) -> Option<pgark_postgres::wal::find::FoundTransaction> {
    let mut search = TransactionSearch::new(Wanted::Transaction(xid));
    segments.iter().find_map(|segment| search.push(&segment.bytes()).expect("the segments follow on one another"))
}
