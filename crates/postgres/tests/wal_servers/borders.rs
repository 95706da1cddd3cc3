//! Where the WAL breaks off, goes over to another timeline, or is overwritten.

use std::path::PathBuf;

use fs_err as fs;
use pgark_postgres::Lsn;
use pgark_postgres::wal::history::TimelineHistory;
use pgark_postgres::wal::join::{Joiner, summarise};
use pgark_postgres::wal::name::{SegmentName, SegmentSize, Timeline, WalFileName};
use pgark_postgres::wal::reader::{Head, WalEnd};
use pgark_postgres::wal::segment::{SegmentAnalysis, analyse};
use pgark_postgres::wal::summary::Summary;
use pgark_postgres::wal::times::NotableEvent;
use pgark_postgres::wal::{EDGE_MAXIMUM, RecordStream, SequenceError};
use pgark_testkit::{Cluster, Server, Stop};

use crate::archive::{Archive, Segment, segments_in};
use crate::oracles::{exact, model_of};
use crate::waldump;

fn small() -> SegmentSize {
    SegmentSize::new(1 << 20).expect("1 MiB is a segment size")
}

/// A cluster with segments of 1 MiB that keeps them all in `pg_wal`.
fn keeping_cluster(server: &Server) -> Cluster {
    Cluster::builder(server)
        .wal_segment_size_mib(1)
        .setting("wal_keep_size", "500MB")
        .setting("wal_recycle", "off")
        .setting("autovacuum", "off")
        .start()
}

fn wal_directory(cluster: &Cluster) -> PathBuf {
    cluster.data_directory().join("pg_wal")
}

/// Begins a record of 3 MiB, kills the server, and takes away what follows on its first page: the rest of the segment,
/// or only the segments after it. Returns the segment in which the record began.
fn lose_the_rest_of_a_record(cluster: &mut Cluster, in_same_segment: bool) -> SegmentName {
    cluster.sql("create table t as select generate_series(1, 100) i; checkpoint; select pg_switch_wal()");
    let start: Lsn = cluster.sql("select pg_current_wal_insert_lsn()").parse().expect("a position");
    cluster.sql("select pg_logical_emit_message(true, 'test', repeat('x', 3 << 20)) is not null");
    cluster.kill9();
    let began = SegmentName::of_lsn(Timeline(1), start, small());
    for segment in segments_in(&wal_directory(cluster)) {
        if segment.name > began {
            fs::remove_file(&segment.path).expect("a segment can be removed");
        } else if segment.name == began && in_same_segment {
            let mut bytes = segment.bytes();
            let next_page = (small().offset_of(start) as usize).next_multiple_of(8192);
            bytes[next_page..].fill(0);
            fs::write(&segment.path, bytes).expect("a segment can be written");
        }
    }
    began
}

/// Would lose: the WAL after a crash, taken for damaged, or a summary that is not trusted.
fn a_lost_record_is_overwritten(major: u32, in_same_segment: bool) {
    let server = Server::get(major);
    let mut cluster = keeping_cluster(&server);
    let began = lose_the_rest_of_a_record(&mut cluster, in_same_segment);
    cluster.start();
    cluster.sql("insert into t select generate_series(101, 20000); select pg_switch_wal(); insert into t values (0)");
    let last = cluster.sql("select pg_walfile_name(pg_current_wal_lsn())").parse().expect("a segment");
    cluster.stop(Stop::Fast);

    let segments: Vec<Segment> =
        segments_in(&wal_directory(&cluster)).into_iter().filter(|segment| segment.name < last).collect();
    let analyses: Vec<SegmentAnalysis> = segments.iter().map(Segment::analysis).collect();
    let index = segments.iter().position(|segment| segment.name == began).expect("the segment is there");
    let has_begun = analyses[index].edges.tail.is_some_and(|tail| tail.total_length > 3 << 20);
    let is_overwritten = analyses[index + 1].edges.head == Head::Overwritten;
    assert_eq!((has_begun, is_overwritten), (!in_same_segment, !in_same_segment));
    let joined = summarise(&analyses).expect("the segments follow on one another");
    let Summary::Usable(summary) = joined.summary else { panic!("unusable: {:?}", joined.summary) };
    model_of(&segments, &joined.range).assert_is(&summary);
    let dump = waldump::Dump::of(&cluster, &wal_directory(&cluster), &segments);
    assert!(dump.records.iter().any(|(_, text)| text.starts_with("OVERWRITE_CONTRECORD")), "nothing was overwritten");
    waldump::check(&dump, &segments, &analyses);
}

#[test]
fn a_record_lost_at_the_end_of_a_segment_of_15() {
    a_lost_record_is_overwritten(15, false);
}

#[test]
fn a_record_lost_within_a_segment_of_15() {
    a_lost_record_is_overwritten(15, true);
}

#[test]
fn a_record_lost_at_the_end_of_a_segment_of_18() {
    a_lost_record_is_overwritten(18, false);
}

#[test]
fn a_record_lost_within_a_segment_of_18() {
    a_lost_record_is_overwritten(18, true);
}

/// Would lose: the end of the WAL, read past into what an older segment has left in the file.
#[test]
fn the_segment_that_is_being_written_ends_where_the_server_says() {
    for server in Server::all() {
        let builder = Cluster::builder(&server).wal_segment_size_mib(1).setting("autovacuum", "off");
        let cluster = builder.setting("min_wal_size", "2MB").setting("max_wal_size", "4MB").start();
        cluster.sql("create table t (i int)");
        let mut has_leftovers = false;
        for _ in 0..12 {
            cluster.sql("insert into t select generate_series(1, 30000); checkpoint; checkpoint");
            let name = cluster.sql("select pg_walfile_name(pg_current_wal_flush_lsn())");
            let flushed = || cluster.sql("select pg_current_wal_flush_lsn()").parse::<Lsn>().expect("a position");
            let before = flushed();
            let bytes = fs::read(wal_directory(&cluster).join(name)).expect("the segment is there");
            let analysis = analyse(&bytes).expect("a segment");
            // The server may have something to write for itself.
            assert!((before..=flushed()).contains(&analysis.end_lsn()), "{} is not {before}", analysis.end_lsn());
            assert!(matches!(analysis.end, WalEnd::Unwritten | WalEnd::Recycled), "{:?}", analysis.end);
            has_leftovers |= bytes[analysis.end_offset as usize..].iter().any(|byte| *byte != 0);
        }
        assert!(has_leftovers, "no segment was recycled");
    }
}

/// Would lose: every change between a promotion and the end of its segment, or the switch itself.
#[test]
fn a_promotion_leads_from_one_timeline_to_the_next() {
    for server in Server::all() {
        let mut archive = Archive::start(&server, |builder| builder.wal_segment_size_mib(1));
        archive.cluster.sql("create table t as select generate_series(1, 1000) i");
        let mut standby = archive.cluster.standby();
        standby.start();
        archive.cluster.sql("insert into t select generate_series(1, 5000); select txid_current()");
        archive.cluster.wait_for_replay(&standby);
        archive.cluster.kill9();
        standby.promote();
        standby.sql("select pg_switch_wal()");
        standby.sql("insert into t select generate_series(5001, 50000); checkpoint; select pg_switch_wal()");
        let last = standby.switch_wal();
        standby.wait_for_archived(&last);

        let text = fs::read_to_string(archive.directory().join("00000002.history")).expect("a history");
        let history = TimelineHistory::parse(Timeline(2), &text).expect("a history");
        let switch = history.switch_of(Timeline(1)).expect("timeline 1 ended");
        assert_eq!(history.path().len(), 2);

        let name = SegmentName::of_lsn(Timeline(1), switch, small());
        let partial = archive.directory().join(WalFileName::Partial(name).to_string());
        let partial = analyse(&fs::read(partial).expect("the partial segment is archived")).expect("a segment");
        assert_eq!((partial.end_lsn(), partial.last_timeline), (switch, Timeline(1)), "{:?}", partial.end);
        assert!(!partial.end.is_complete());

        let last: SegmentName = last.parse().expect("a segment");
        let first = archive.segments()[0].name.number(small());
        let numbers = first.expect("a number")..=last.number(small()).expect("a number");
        let segments: Vec<Segment> = numbers
            .map(|number| history.segment(number, small()).expect("a name"))
            .map(|name| Segment { name, path: archive.directory().join(name.to_string()) })
            .collect();
        check_promotion(&segments, switch);
    }
}

fn check_promotion(segments: &[Segment], switch: Lsn) {
    let analyses: Vec<SegmentAnalysis> = segments.iter().map(Segment::analysis).collect();
    let of_switch = analyses.iter().find(|analysis| analysis.header.number == small().segment_of(switch));
    let of_switch = of_switch.expect("the segment of the promotion is archived");
    assert_eq!(of_switch.header.timeline, Timeline(1));
    let ends = of_switch.times.notable().iter().find_map(|notable| match notable.what {
        NotableEvent::TimelineEnd { timeline, previous } => Some((notable.lsn, timeline, previous)),
        _ => None,
    });
    let (lsn, timeline, previous) = ends.expect("the end of the timeline is notable");
    assert_eq!((timeline, previous), (Timeline(2), Timeline(1)));
    assert!(lsn >= switch);
    assert_eq!((of_switch.end, of_switch.last_timeline), (WalEnd::Switch, Timeline(2)));
    let joined = summarise(&analyses).expect("the segments follow on one another");
    assert_eq!(joined.summary, Summary::Usable(exact(segments, &joined.range)));
    model_of(segments, &joined.range).assert_is(&exact(segments, &joined.range));

    // Without the segment of the promotion there is no way from one timeline to the other.
    let gap = analyses.iter().filter(|analysis| analysis.header.number != of_switch.header.number);
    assert!(matches!(summarise(gap), Err(SequenceError::Gap { .. })));
}

/// Would lose: the changes of a record that is longer than what is kept of it, if it were silently left out.
#[test]
fn a_record_longer_than_what_is_kept_of_it_is_read_from_the_segments() {
    let archive = Archive::start(&Server::get(18), |builder| builder);
    let cluster = &archive.cluster;
    cluster.sql("create table t (i int); select pg_switch_wal()");
    // Whatever else was written to the segment, this crosses its end with more on both sides.
    cluster.sql("select pg_logical_emit_message(true, 'test', repeat('x', 28 << 20)) is not null");
    cluster.sql("insert into t select generate_series(1, 1000)");
    archive.flush();
    let segments = archive.segments();
    let analyses: Vec<SegmentAnalysis> = segments.iter().map(Segment::analysis).collect();
    let cut = analyses.iter().find(|analysis| analysis.edges.is_truncated()).expect("a record was cut");
    assert!(cut.edges.tail_bytes.len() == EDGE_MAXIMUM || cut.edges.head_bytes.len() == EDGE_MAXIMUM);
    let mut joiner = Joiner::default();
    let pushed: Result<Vec<_>, _> = analyses.iter().map(|analysis| joiner.push(analysis)).collect();
    assert!(matches!(pushed, Err(SequenceError::TooLong { .. })), "{pushed:?}");
    let (first, last) = (analyses[0].header.start, analyses[analyses.len() - 1].header.end());
    model_of(&segments, &(first..last)).assert_is(&exact(&segments, &(first..last)));
    let mut records = 0;
    let mut stream = RecordStream::default();
    for segment in &segments {
        stream.push(&segment.bytes(), |_, record| records += usize::from(record.bytes.len() > 28 << 20)).expect("WAL");
    }
    assert_eq!(records, 1);
}

/// Would lose: what was changed while nothing of it went into the WAL.
#[test]
fn wal_of_level_minimal_has_no_summary() {
    for server in Server::all() {
        let mut cluster = keeping_cluster(&server);
        cluster.configure("wal_level", "minimal");
        cluster.configure("max_wal_senders", "0");
        let start = cluster.current_lsn().parse().expect("a position");
        cluster.restart();
        cluster.sql("begin; create table t (i int); insert into t values (1); commit");
        let end = cluster.current_lsn().parse().expect("a position");
        let (first, last) = (small().segment_of(start), small().segment_of(end));
        let analyses: Vec<SegmentAnalysis> = (first..=last)
            .map(|number| SegmentName::new(Timeline(1), number, small()).expect("a name").to_string())
            .map(|name| analyse(&fs::read(wal_directory(&cluster).join(name)).expect("a segment")).expect("a segment"))
            .collect();
        let joined = summarise(&analyses).expect("the segments follow on one another");
        assert!(
            matches!(&joined.summary, Summary::Unusable(reason) if reason.to_string().contains("wal_level is minimal")),
            "{:?}",
            joined.summary
        );
    }
}
