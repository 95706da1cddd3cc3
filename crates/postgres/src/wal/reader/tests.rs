//! Hand-made WAL of every version, whole and damaged.

use proptest::prelude::*;

use super::*;
use crate::wal::segment::{SegmentAnalysis, analyse};
use crate::wal::testing::{SIZE, TestWal, message, size, switch};

/// Every record of a segment, and the reader after the last.
fn read(bytes: &[u8]) -> (Vec<(Lsn, Lsn, usize)>, SegmentReader<'_>) {
    let mut reader = SegmentReader::new(bytes).unwrap();
    let mut records = Vec::new();
    while let Some(record) = reader.next_record() {
        records.push((record.lsn, record.end, record.bytes.len()));
    }
    (records, reader)
}

fn lsns(bytes: &[u8]) -> Vec<Lsn> {
    read(bytes).0.iter().map(|record| record.0).collect()
}

/// Records that lie on one page, on two and on many, and end exactly with a page.
fn wal(version: Version) -> (TestWal, Vec<Lsn>) {
    let mut wal = TestWal::new(version);
    // The fourth record ends with the first page: 24, 32 and 336 bytes come before it.
    let lengths = [0, 1, 300, 8192 - 40 - 24 - 32 - 336 - 29, 50_000, 8192 - 24 - 29, 20];
    let lsns = lengths.map(|length| wal.append(&message(length))).to_vec();
    (wal, lsns)
}

#[test]
fn records_of_every_version_are_read_until_the_zeros() {
    for version in Version::ALL {
        let (wal, expected) = wal(version);
        let end = wal.next_lsn();
        let segments = wal.segments();
        let (records, reader) = read(&segments[0]);
        assert_eq!(records.iter().map(|record| record.0).collect::<Vec<_>>(), expected);
        assert_eq!((reader.end(), reader.header().version), (Some(WalEnd::Unwritten), version));
        assert_eq!(records.last().map(|record| record.1), Some(end));
        assert_eq!(Lsn(SIZE * 7 + u64::from(reader.end_offset())), end);
        // Each record ends where the next begins, or where its page does.
        for pair in records.windows(2) {
            let is_next = pair[0].1 == pair[1].0;
            assert!(is_next || pair[0].1.0 + 24 == pair[1].0.0, "{pair:?}");
        }
    }
}

#[test]
fn a_switch_completes_the_segment() {
    let (mut wal, mut expected) = wal(Version::V15);
    expected.push(wal.append(&switch()));
    let next = wal.append(&message(5));
    let segments = wal.segments();
    let (records, reader) = read(&segments[0]);
    assert_eq!(records.iter().map(|record| record.0).collect::<Vec<_>>(), expected);
    assert_eq!((reader.end(), reader.end_offset()), (Some(WalEnd::Switch), SIZE as u32));
    assert_eq!(records.last().map(|record| record.1), Some(Lsn(SIZE * 8)));
    assert_eq!(lsns(&segments[1]), [next]);
}

#[test]
fn records_cross_the_borders_of_segments() {
    let mut wal = TestWal::new(Version::V17);
    let first = wal.append(&message(100));
    let long = wal.append(&message(2_500_000));
    let last = wal.append(&message(100));
    let segments = wal.segments();
    let (_, begins) = read(&segments[0]);
    let tail = begins.tail().unwrap();
    assert_eq!((lsns(&segments[0]), tail.lsn, begins.end()), (vec![first], long, Some(WalEnd::Full)));
    assert_eq!((tail.total_length, begins.tail_bytes(usize::MAX).len()), (2_500_029, tail.available as usize));
    let (records, middle) = read(&segments[1]);
    let remaining = tail.total_length - tail.available;
    let available = SIZE as u32 - 40 - 127 * 24;
    assert!(records.is_empty());
    assert_eq!((middle.head(), middle.end()), (Head::Continued { remaining, available }, Some(WalEnd::Full)));
    assert_eq!((middle.tail(), middle.first_link()), (None, None));
    let (_, ends) = read(&segments[2]);
    let remaining = remaining - available;
    assert_eq!((lsns(&segments[2]), ends.head()), (vec![last], Head::Continued { remaining, available: remaining }));
    assert_eq!(ends.head_bytes(usize::MAX).len(), remaining as usize);
    assert_eq!(ends.head_bytes(10), b"mmmmmmmmmm");
    assert_eq!((ends.first_link(), ends.last_record()), (Some(long), Some(last)));
}

#[test]
fn a_record_that_was_cut_short_is_overwritten() {
    let mut wal = TestWal::new(Version::V14);
    let first = wal.append(&message(100));
    wal.append_lost(&message(50_000), 20_000);
    let second = wal.append(&message(100));
    // Now one that is cut short at the end of the segment.
    wal.append(&message(SIZE as usize - 60_000));
    wal.append_lost(&message(60_000), 30_000);
    let third = wal.append(&message(100));
    let segments = wal.segments();
    let (records, reader) = read(&segments[0]);
    assert_eq!((records.len(), records[0].0, records[1].0), (3, first, second));
    assert!(reader.tail().is_some());
    let (_, reader) = read(&segments[1]);
    assert_eq!((lsns(&segments[1]), reader.head()), (vec![third], Head::Overwritten));
}

/// Damages the WAL at a record and says why it ends there.
fn end_after(damage: impl FnOnce(&mut Vec<u8>, usize)) -> (usize, WalEnd) {
    let (wal, expected) = wal(Version::V18);
    let mut bytes = wal.segments().swap_remove(0);
    // The fifth record lies on pages 1 to 7.
    damage(&mut bytes, size().offset_of(expected[4]) as usize);
    let (records, reader) = read(&bytes);
    assert_eq!(u64::from(reader.end_offset()), records.last().map_or(0, |record| record.1.0 - SIZE * 7));
    (records.len(), reader.end().unwrap())
}

#[test]
fn damage_ends_the_wal_before_the_record() {
    let invalid = |problem| (4, WalEnd::Invalid(problem));
    assert_eq!(end_after(|bytes, at| bytes[at + 24] ^= 1), invalid(Problem::Checksum));
    assert_eq!(end_after(|bytes, at| bytes[at + 8] ^= 1), invalid(Problem::PreviousRecord));
    assert_eq!(end_after(|bytes, at| bytes[at] ^= 1), invalid(Problem::Continuation));
    assert_eq!(end_after(|bytes, at| bytes[at + 3] = 0xFF), invalid(Problem::RecordLength));
    assert_eq!(
        end_after(|bytes, at| bytes[at..at + 4].copy_from_slice(&[23, 0, 0, 0])),
        invalid(Problem::RecordLength)
    );
    assert_eq!(end_after(|bytes, at| bytes[at..at + 4].fill(0)), (4, WalEnd::Unwritten));
    // Headers of the record's third page: magic, flags, timeline, address.
    let third_page = 3 * 8192;
    assert_eq!(end_after(|bytes, _| bytes[third_page] ^= 1), invalid(Problem::PageHeader));
    assert_eq!(end_after(|bytes, _| bytes[third_page + 2] = 0x10), invalid(Problem::PageHeader));
    assert_eq!(end_after(|bytes, _| bytes[third_page + 2] = 0x04), invalid(Problem::Continuation));
    assert_eq!(end_after(|bytes, _| bytes[third_page + 4] = 0), invalid(Problem::PageHeader));
    assert_eq!(end_after(|bytes, _| bytes[third_page + 16] ^= 1), invalid(Problem::Continuation));
    assert_eq!(end_after(|bytes, _| bytes[third_page + 10] ^= 1), (4, WalEnd::Recycled));
    assert_eq!(end_after(|bytes, _| bytes[third_page..third_page + 24].fill(0)), (4, WalEnd::Unwritten));
}

#[test]
fn a_page_that_goes_on_with_a_record_begins_none() {
    let (wal, expected) = wal(Version::V18);
    let mut bytes = wal.segments().swap_remove(0);
    // The fourth record ends with the first page, so that the second one begins with the fifth.
    assert_eq!(size().offset_of(expected[4]), 8192 + 24);
    bytes[8192 + 2] |= 1;
    assert_eq!((lsns(&bytes).len(), read(&bytes).1.end()), (4, Some(WalEnd::Invalid(Problem::Continuation))));
}

#[test]
fn a_head_whose_pages_are_damaged_has_no_records_after_it() {
    let mut wal = TestWal::new(Version::V18);
    wal.append(&message(SIZE as usize + 50_000));
    wal.append(&message(9));
    let mut bytes = wal.segments().swap_remove(1);
    assert_eq!(lsns(&bytes).len(), 1);
    bytes[16] ^= 1;
    let (records, reader) = read(&bytes);
    assert!(records.is_empty());
    assert_eq!((reader.end(), reader.end_offset()), (Some(WalEnd::Invalid(Problem::Continuation)), 0));
}

#[test]
fn what_is_no_segment_is_refused() {
    let (wal, _) = wal(Version::V18);
    let bytes = wal.segments().swap_remove(0);
    let error = |bytes: &[u8]| SegmentReader::new(bytes).err();
    assert_eq!(error(&[]), Some(SegmentError::Header));
    assert_eq!(error(&vec![0; SIZE as usize]), Some(SegmentError::Header));
    assert_eq!(error(&bytes[..39]), Some(SegmentError::Header));
    let length = |found| Some(SegmentError::Length { expected: SIZE as u32, found });
    assert_eq!(error(&bytes[..8192]), length(8192));
    assert_eq!(error(&[&bytes[..], &[0]].concat()), length(SIZE + 1));
    let with = |index: usize, value: u8| {
        let mut damaged = bytes.clone();
        damaged[index] = value;
        error(&damaged)
    };
    assert_eq!(with(0, 0x21), Some(SegmentError::Header));
    assert_eq!(with(2, 0x04), Some(SegmentError::Header));
    assert_eq!(with(32, 1), Some(SegmentError::Header));
    assert_eq!(with(37, 0x21), Some(SegmentError::Header));
    let address = Lsn(SIZE * 7 + 0x2000);
    assert_eq!(with(9, 0x20), Some(SegmentError::Address { address, size: SIZE as u32 }));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn records_of_any_length_are_read(lengths in prop::collection::vec(prop_oneof![0..400_usize, 0..40_000_usize], 1..120)) {
        let mut wal = TestWal::new(Version::V16);
        let expected: Vec<Lsn> = lengths.iter().map(|length| wal.append(&message(*length))).collect();
        let mut found = Vec::new();
        for segment in wal.segments() {
            let (records, reader) = read(&segment);
            found.extend(records.iter().map(|record| record.0));
            found.extend(reader.tail().map(|tail| tail.lsn));
        }
        prop_assert_eq!(found, expected);
    }

    #[test]
    fn damage_anywhere_is_survived(
        lengths in prop::collection::vec(0..30_000_usize, 60..100),
        damage in prop::collection::vec((prop_oneof![0..64_usize, 0..SIZE as usize], any::<u8>()), 1..20),
        zeros in 0..SIZE as usize,
    ) {
        let mut wal = TestWal::new(Version::V15);
        for length in lengths {
            wal.append(&message(length));
        }
        for mut bytes in wal.segments() {
            for (index, value) in &damage {
                bytes[*index] = *value;
            }
            // The tail of a segment that a crash left zero.
            bytes[zeros..].fill(0);
            if let Ok(analysis) = analyse(&bytes) {
                prop_assert!(analysis.end_offset <= analysis.header.size.bytes());
                prop_assert_eq!(SegmentAnalysis::decode(&analysis.encode()), Ok(analysis));
            }
        }
    }

    #[test]
    fn arbitrary_pages_are_survived(pages in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 128)) {
        let (wal, _) = wal(Version::V13);
        let mut bytes = wal.segments().swap_remove(0);
        for (page, noise) in bytes.chunks_mut(8192).zip(pages) {
            page[40..40 + noise.len()].copy_from_slice(&noise);
        }
        prop_assert!(analyse(&bytes).is_ok());
    }
}
