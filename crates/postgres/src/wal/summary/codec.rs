//! How block summaries are stored. `docs/format.md` says it byte by byte.

use super::super::bytes::{DecodeError, Decoder, Encoder};
use super::{BlockSet, BlockSummary, Fork, ForkChanges, RelationFork, RelationLocator, Summary, Unusable};
use crate::Lsn;

const WHAT: &str = "block summary";
const FORMAT: u8 = 1;

/// Bits of the byte before each fork; the lowest two are the fork's number.
const HAS_LIMIT: u8 = 0x04;
const SAME_TABLESPACE: u8 = 0x08;
const SAME_DATABASE: u8 = 0x10;
const FORK_MASK: u8 = 0x03;

/// The byte before a summary, and before the reason why there is none.
const USABLE: u8 = 0;
const UNUSABLE: u8 = 1;

impl BlockSummary {
    /// The summary in its stored form. Equal summaries have equal bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut encoder = Encoder::new(FORMAT);
        encoder.count(self.forks.len());
        let mut previous = None;
        for (fork, changes) in &self.forks {
            encode_fork(&mut encoder, previous, *fork, changes.limit);
            encode_blocks(&mut encoder, &changes.blocks);
            previous = Some(fork.relation);
        }
        encoder.finish()
    }

    /// Reads the stored form. `maximum_blocks` bounds the memory that damaged bytes can ask for: give what
    /// [`BlockSummary::maximum_blocks`] says of the segment.
    pub fn decode(bytes: &[u8], maximum_blocks: u64) -> Result<Self, DecodeError> {
        let mut decoder = Decoder::new(WHAT, FORMAT, bytes)?;
        let mut summary = Self::default();
        let mut previous: Option<RelationFork> = None;
        let mut blocks_left = maximum_blocks;
        for _ in 0..decoder.count()? {
            let (fork, limit) = decode_fork(&mut decoder, previous.map(|previous| previous.relation))?;
            if previous.is_some_and(|previous| previous >= fork) {
                return Err(decoder.invalid("its forks are not in ascending order"));
            }
            let blocks = decode_blocks(&mut decoder, limit, &mut blocks_left)?;
            if limit.is_none() && blocks.is_empty() {
                return Err(decoder.invalid("a fork has no changes"));
            }
            summary.forks.insert(fork, ForkChanges { limit, blocks });
            previous = Some(fork);
        }
        decoder.finish()?;
        Ok(summary)
    }
}

fn encode_fork(encoder: &mut Encoder, previous: Option<RelationLocator>, fork: RelationFork, limit: Option<u32>) {
    let RelationLocator { tablespace, database, number } = fork.relation;
    let same_tablespace = previous.filter(|previous| previous.tablespace == tablespace);
    let same_database = same_tablespace.filter(|previous| previous.database == database);
    let flag = |is_set: bool, flag: u8| if is_set { flag } else { 0 };
    encoder.byte(
        fork.fork.number()
            | flag(limit.is_some(), HAS_LIMIT)
            | flag(same_tablespace.is_some(), SAME_TABLESPACE)
            | flag(same_database.is_some(), SAME_DATABASE),
    );
    if same_tablespace.is_none() {
        encoder.varint(tablespace);
    }
    if same_database.is_none() {
        encoder.varint(database);
    }
    encoder.varint(number - same_database.map_or(0, |previous| previous.number));
    if let Some(limit) = limit {
        encoder.varint(limit);
    }
}

fn decode_fork(
    decoder: &mut Decoder<'_>,
    previous: Option<RelationLocator>,
) -> Result<(RelationFork, Option<u32>), DecodeError> {
    let flags = decoder.byte()?;
    if flags & !(FORK_MASK | HAS_LIMIT | SAME_TABLESPACE | SAME_DATABASE) != 0 {
        return Err(decoder.invalid("a fork has unknown flags"));
    }
    let fork = match Fork::from_number(u32::from(flags & FORK_MASK)) {
        Some(fork) if fork != Fork::FreeSpaceMap => fork,
        _ => return Err(decoder.invalid("a fork is a free space map")),
    };
    let origin = previous.unwrap_or(RelationLocator { tablespace: 0, database: 0, number: 0 });
    let tablespace = if flags & SAME_TABLESPACE == 0 { decoder.varint_u32()? } else { origin.tablespace };
    let database = if flags & SAME_DATABASE == 0 { decoder.varint_u32()? } else { origin.database };
    let first_number = if flags & SAME_DATABASE == 0 { 0 } else { origin.number };
    let number = first_number.checked_add(decoder.varint_u32()?);
    let number = number.ok_or(decoder.invalid("the number of a relation exceeds 32 bits"))?;
    let limit = if flags & HAS_LIMIT == 0 { None } else { Some(decoder.varint_u32()?) };
    let relation = RelationLocator { tablespace, database, number };
    check_flags(decoder, flags, previous, relation)?;
    Ok((RelationFork { relation, fork }, limit))
}

/// The flags must say what is so, that each summary has one form only.
fn check_flags(
    decoder: &Decoder<'_>,
    flags: u8,
    previous: Option<RelationLocator>,
    relation: RelationLocator,
) -> Result<(), DecodeError> {
    let same_tablespace = previous.is_some_and(|previous| previous.tablespace == relation.tablespace);
    let same_database = same_tablespace && previous.is_some_and(|previous| previous.database == relation.database);
    let is_right = (flags & SAME_TABLESPACE != 0) == same_tablespace && (flags & SAME_DATABASE != 0) == same_database;
    if is_right { Ok(()) } else { Err(decoder.invalid("the flags of a fork contradict its relation")) }
}

/// The number of runs, then for each: twice the gap before it, plus one if it is longer than one block; then, if it is,
/// its length less two. The gap of the first run is its first block, that of others is what lies between, less one.
fn encode_blocks(encoder: &mut Encoder, blocks: &BlockSet) {
    encoder.count(blocks.runs().count());
    let mut next = 0;
    for run in blocks.runs() {
        let gap = u64::from(run.first) - next;
        encoder.varint(gap << 1 | u64::from(run.length > 1));
        if run.length > 1 {
            encoder.varint(run.length - 2);
        }
        next = u64::from(run.first) + run.length + 1;
    }
}

fn decode_blocks(
    decoder: &mut Decoder<'_>,
    limit: Option<u32>,
    blocks_left: &mut u64,
) -> Result<BlockSet, DecodeError> {
    let too_high = decoder.invalid("a block exceeds 32 bits or the limit of its fork");
    let end = limit.map_or(1 << 32, u64::from);
    let mut blocks = BlockSet::default();
    let mut next = 0_u64;
    for _ in 0..decoder.count()? {
        let value = decoder.varint()?;
        let first = next.checked_add(value >> 1).ok_or(too_high.clone())?;
        let length = if value & 1 == 0 { 1 } else { decoder.varint()?.checked_add(2).ok_or(too_high.clone())? };
        let after = first.checked_add(length).filter(|after| *after <= end).ok_or(too_high.clone())?;
        *blocks_left =
            blocks_left.checked_sub(length).ok_or(decoder.invalid("it names more blocks than its WAL can"))?;
        blocks.extend((first..after).filter_map(|block| u32::try_from(block).ok()));
        next = after + 1;
    }
    Ok(blocks)
}

impl Summary {
    /// The summary in its stored form. Equal summaries have equal bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut encoder = Encoder::new(FORMAT);
        match self {
            Self::Usable(summary) => {
                encoder.byte(USABLE);
                encoder.bytes(&summary.encode());
            }
            Self::Unusable(Unusable { lsn, reason }) => {
                encoder.byte(UNUSABLE);
                encoder.varint(lsn.0);
                encoder.bytes(reason.as_bytes());
            }
        }
        encoder.finish()
    }

    /// Reads the stored form. `maximum_blocks` is that of [`BlockSummary::decode`].
    pub fn decode(bytes: &[u8], maximum_blocks: u64) -> Result<Self, DecodeError> {
        let mut decoder = Decoder::new(WHAT, FORMAT, bytes)?;
        let summary = match decoder.byte()? {
            USABLE => Self::Usable(BlockSummary::decode(decoder.bytes()?, maximum_blocks)?),
            UNUSABLE => Self::Unusable(Unusable { lsn: Lsn(decoder.varint()?), reason: decoder.text()? }),
            _ => return Err(decoder.invalid("it is neither usable nor unusable")),
        };
        decoder.finish()?;
        Ok(summary)
    }
}

#[cfg(test)]
#[expect(clippy::cast_possible_truncation, reason = "the numbers of these tests are small")]
mod tests {
    use proptest::prelude::*;

    use super::super::super::testing::relation;
    use super::*;

    fn sample() -> BlockSummary {
        let mut summary = BlockSummary::default();
        let fork = |tablespace, database, number, fork| RelationFork {
            relation: RelationLocator { tablespace, database, number },
            fork,
        };
        for block in [0, 1, 2, 5, 300, 301] {
            summary.mark(fork(1663, 5, 16_384, Fork::Main), block);
        }
        summary.lower_limit(fork(1663, 5, 16_384, Fork::Main), 301);
        summary.lower_limit(fork(1663, 5, 16_384, Fork::VisibilityMap), 0);
        summary.mark(fork(1663, 5, 16_390, Fork::Main), u32::MAX);
        summary.mark(fork(1663, 6, 16_390, Fork::Init), 0);
        summary.mark(fork(1664, 0, 1262, Fork::Main), 7);
        summary
    }

    /// The stored form of format 1, which every later version must read.
    const GOLDEN: &[u8] = &[
        1, 5, // format, forks
        0x04, 0xFF, 0x0C, 5, 0x80, 0x80, 0x01, 0xAD, 0x02, // 1663/5/16384 main, limit 301
        3, 0x01, 1, 0x02, 0xCA, 0x04, // runs: 0-2, 5, 300
        0x1E, 0, 0, 0, // its visibility map, limit 0, no runs
        0x18, 6, 1, 0xFE, 0xFF, 0xFF, 0xFF, 0x1F, // 1663/5/16390 main, block 4294967295
        0x0B, 6, 0x86, 0x80, 0x01, 1, 0, // 1663/6/16390 init, block 0
        0x00, 0x80, 0x0D, 0, 0xEE, 0x09, 1, 14, // 1664/0/1262 main, block 7
    ];

    #[test]
    fn the_stored_form_stays_as_it_is() {
        assert_eq!(sample().encode(), GOLDEN);
        assert_eq!(BlockSummary::decode(GOLDEN, 100), Ok(sample()));
        let usable = Summary::Usable(sample()).encode();
        assert_eq!(usable[..3], [1, 0, GOLDEN.len() as u8]);
        assert_eq!(usable[3..], *GOLDEN);
        let unusable = Summary::Unusable(Unusable { lsn: Lsn(300), reason: "why".to_owned() });
        assert_eq!(unusable.encode(), [1, 1, 0xAC, 0x02, 3, b'w', b'h', b'y']);
        assert_eq!(Summary::decode(&unusable.encode(), 0), Ok(unusable));
    }

    #[test]
    fn damage_is_refused_wherever_it_is() {
        for length in 0..GOLDEN.len() {
            assert!(BlockSummary::decode(&GOLDEN[..length], 100).is_err(), "{length}");
        }
        let refused = |bytes: &[u8], problem| {
            assert_eq!(BlockSummary::decode(bytes, 100), Err(DecodeError::Invalid { what: WHAT, problem }));
        };
        refused(&[GOLDEN, &[0]].concat(), "bytes follow its end");
        refused(&[1, 1, 0x20, 1, 1, 1, 1, 0], "a fork has unknown flags");
        refused(&[1, 1, 0x01, 1, 1, 1, 1, 0], "a fork is a free space map");
        refused(&[1, 1, 0x00, 1, 1, 1, 0], "a fork has no changes");
        refused(&[1, 1, 0x08, 1, 1, 1, 0], "the flags of a fork contradict its relation");
        refused(&[1, 2, 0x04, 1, 1, 1, 1, 0, 0x04, 1, 1, 2, 1, 0], "the flags of a fork contradict its relation");
        refused(&[1, 2, 0x04, 1, 1, 1, 1, 0, 0x1C, 0, 1, 0], "its forks are not in ascending order");
        refused(&[1, 1, 0x04, 1, 1, 1, 3, 1, 6], "a block exceeds 32 bits or the limit of its fork");
        refused(
            &[1, 1, 0x00, 1, 1, 1, 1, 0x80, 0x80, 0x80, 0x80, 0x20],
            "a block exceeds 32 bits or the limit of its fork",
        );
        refused(&[1, 1, 0x00, 1, 1, 1, 1, 1, 0x63], "it names more blocks than its WAL can");
        assert_eq!(BlockSummary::decode(&[2, 0], 100), Err(DecodeError::UnknownFormat { what: WHAT, found: 2 }));
    }

    #[test]
    fn a_bulk_load_takes_few_bytes() {
        let mut summary = BlockSummary::default();
        let fork = RelationFork { relation: relation(16_384), fork: Fork::Main };
        (1000..3000).for_each(|block| summary.mark(fork, block));
        assert!(summary.encode().len() < 20);
    }

    proptest! {
        #[test]
        fn any_bytes_are_decoded_to_what_they_say_or_refused(mut bytes: Vec<u8>) {
            bytes.insert(0, FORMAT);
            if let Ok(summary) = BlockSummary::decode(&bytes, 1 << 20) {
                prop_assert_eq!(summary.encode(), bytes);
            }
        }

        #[test]
        fn damaged_bytes_are_decoded_to_what_they_say_or_refused(index in 0..GOLDEN.len(), value: u8) {
            let mut bytes = GOLDEN.to_vec();
            bytes[index] = value;
            if let Ok(summary) = BlockSummary::decode(&bytes, 1 << 20) {
                prop_assert_eq!(summary.encode(), bytes);
            }
        }
    }
}
