//! Segments of the write-ahead log: arbitrary bytes, and arbitrary records in sound pages over two segments.
#![no_main]

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use pgark_fuzz::wal::{Builder, Content, SEGMENT};
use pgark_postgres::Version;
use pgark_postgres::wal::RecordStream;
use pgark_postgres::wal::find::{TransactionSearch, Wanted};
use pgark_postgres::wal::join::{RangeSummariser, summarise};
use pgark_postgres::wal::segment::{SegmentAnalysis, analyse};

#[derive(Arbitrary, Debug)]
struct Input {
    version: u8,
    before: Vec<Content>,
    /// How much of the first segment a record fills that stands between the others.
    filler: Option<u16>,
    after: Vec<Content>,
    changes: Vec<(u32, u8)>,
}

/// A record that says nothing, of about `length` bytes.
fn filler(length: usize) -> Content {
    let mut body = vec![254];
    body.extend(u32::try_from(length).expect("below 1 MiB").to_le_bytes());
    body.resize(5 + length, 0);
    // The resource manager of the log itself, its operation that does nothing.
    Content { xid: 0, info: 0x20, resource_manager: 0, body }
}

fn segments(input: &Input) -> Vec<u8> {
    let mut builder = Builder::new(Version::ALL[usize::from(input.version) % Version::ALL.len()]);
    input.before.iter().for_each(|content| builder.push(content));
    if let Some(rest) = input.filler {
        builder.push(&filler(SEGMENT - 8192 - usize::from(rest)));
    }
    input.after.iter().for_each(|content| builder.push(content));
    let mut bytes = builder.finish();
    for (position, byte) in &input.changes {
        let position = *position as usize % bytes.len();
        bytes[position] = *byte;
    }
    bytes
}

fuzz_target!(|input: Input| {
    let bytes = segments(&input);
    let mut analyses = Vec::new();
    for segment in bytes.chunks(SEGMENT) {
        let Ok(analysis) = analyse(segment) else { return };
        let stored = SegmentAnalysis::decode(&analysis.encode()).expect("what was written can be read");
        assert_eq!(stored, analysis);
        analyses.push(stored);
    }
    // What was kept of the segments says the same as the segments.
    if let Ok(joined) = summarise(&analyses) {
        let mut whole = RangeSummariser::new(joined.range.clone());
        for segment in bytes.chunks(SEGMENT) {
            whole.push(segment).expect("segments whose analyses join can be read one after the other");
        }
        let summary = whole.finish().expect("they reach as far as their analyses");
        assert_eq!(joined.summary.usable(), summary.usable());
    }
    let mut stream = RecordStream::default();
    let mut search = TransactionSearch::new(Wanted::Transaction(1));
    for segment in bytes.chunks(SEGMENT) {
        let _may_fail = stream.push(segment, |_, record| assert!(record.bytes.len() >= 24));
        let _may_fail = search.push(segment);
    }
});
