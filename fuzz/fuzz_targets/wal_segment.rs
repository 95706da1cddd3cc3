//! Segments of the write-ahead log: arbitrary bytes, and arbitrary records in sound pages over two segments.
#![no_main]

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use pgark_fuzz::wal::{Builder, Content, SEGMENT};
use pgark_postgres::wal::RecordStream;
use pgark_postgres::wal::find::TransactionFinder;
use pgark_postgres::wal::join::summarise;
use pgark_postgres::wal::segment::{SegmentAnalysis, analyse};
use pgark_postgres::Version;

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
    let _may_fail = summarise(&analyses);
    let mut stream = RecordStream::default();
    let mut finder = TransactionFinder::new(1);
    for segment in bytes.chunks(SEGMENT) {
        let _may_fail = stream.push(segment, |_, record| assert!(record.bytes.len() >= 24));
        let _may_fail = finder.push(segment);
    }
});
