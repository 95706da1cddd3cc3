//! Records of the write-ahead log, and what they mean for block summary and time index.
#![no_main]

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use pgark_fuzz::wal::Content;
use pgark_postgres::wal::event::Event;
use pgark_postgres::wal::name::SegmentSize;
use pgark_postgres::wal::record::Record;
use pgark_postgres::wal::summary::{BlockSummary, Summary};
use pgark_postgres::wal::times::TimeIndex;
use pgark_postgres::{Lsn, Version};

#[derive(Arbitrary, Debug)]
struct Input {
    version: u8,
    records: Vec<Content>,
}

fuzz_target!(|input: Input| {
    let version = Version::ALL[usize::from(input.version) % Version::ALL.len()];
    let size = SegmentSize::new(1 << 20).expect("a size");
    let (mut summary, mut times) = (Summary::empty(), TimeIndex::default());
    let mut length = 0;
    for content in &input.records {
        let bytes = content.bytes(0);
        let lsn = Lsn((5 << 20) + length);
        length += bytes.len().next_multiple_of(8) as u64;
        let Ok(record) = Record::decode(lsn, version, &bytes) else { continue };
        assert!(record.blocks().count() <= 33);
        let Ok(event) = Event::decode(&record) else { continue };
        summary.absorb(&record, &event);
        times.absorb(size, &record, &event);
    }
    let most = BlockSummary::maximum_blocks(size);
    if length < 1 << 20 {
        assert_eq!(Summary::decode(&summary.encode(), most).expect("what was written can be read"), summary);
        assert_eq!(TimeIndex::decode(&times.encode()).expect("what was written can be read"), times);
    }
});
