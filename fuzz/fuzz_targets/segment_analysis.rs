//! What is kept of a segment: decoded, it is encoded and decoded to the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pgark_postgres::wal::Edges;
use pgark_postgres::wal::join::Joiner;
use pgark_postgres::wal::name::SegmentSize;
use pgark_postgres::wal::segment::SegmentAnalysis;
use pgark_postgres::wal::summary::{BlockSummary, Summary};
use pgark_postgres::wal::times::TimeIndex;

fuzz_target!(|bytes: &[u8]| {
    let most = BlockSummary::maximum_blocks(SegmentSize::new(1 << 20).expect("a size"));
    if let Ok(summary) = BlockSummary::decode(bytes, most) {
        assert_eq!(BlockSummary::decode(&summary.encode(), most).expect("what was written can be read"), summary);
    }
    if let Ok(summary) = Summary::decode(bytes, most) {
        assert_eq!(Summary::decode(&summary.encode(), most).expect("what was written can be read"), summary);
    }
    if let Ok(times) = TimeIndex::decode(bytes) {
        assert_eq!(TimeIndex::decode(&times.encode()).expect("what was written can be read"), times);
    }
    if let Ok(edges) = Edges::decode(bytes) {
        assert_eq!(Edges::decode(&edges.encode()).expect("what was written can be read"), edges);
    }
    if let Ok(analysis) = SegmentAnalysis::decode(bytes) {
        assert_eq!(SegmentAnalysis::decode(&analysis.encode()).expect("what was written can be read"), analysis);
        let mut joiner = Joiner::default();
        if joiner.push(&analysis).is_ok() {
            let _may_fail = joiner.push(&analysis);
        }
        let _joined = joiner.finish();
    }
});
