//! The WAL summaries that a server of 17 or later writes into `pg_wal/summaries` (PostgreSQL
//! `src/common/blkreftable.c` and `src/backend/backup/walsummary.c`).

use std::fmt;
use std::ops::Range;
use std::str::FromStr;

use thiserror::Error;

use super::blocks::BlockSet;
use super::bytes::Cursor;
use super::name::{Timeline, hexadecimal};
use super::record::parse_relation;
use super::relation::{Fork, RelationFork};
use super::summary::{BlockSummary, visibility_map_length};
use crate::Lsn;

const MAGIC: u32 = 0x652B_137B;
/// Length of an entry without its chunks, and of the zeros after the last one.
const ENTRY_LENGTH: usize = 24;
/// In place of a limit: there is none.
const NO_LIMIT: u32 = u32::MAX;
/// A chunk covers so many blocks.
const CHUNK_BLOCKS: u32 = 1 << 16;
/// A chunk with so many 16-bit words is a bitmap, one with fewer a list of blocks.
const BITMAP_WORDS: u16 = 4096;

/// The name of a summary file: `<timeline><start><end>.summary`, the positions in 16 hexadecimal digits each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerSummaryName {
    /// The timeline.
    pub timeline: Timeline,
    /// The records that begin in this range are summarised.
    pub range: Range<Lsn>,
}

/// The text is not the name of a summary file.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("'{0}' is not the name of a WAL summary: one is 40 hexadecimal digits and '.summary'")]
pub struct InvalidServerSummaryName(pub String);

impl fmt::Display for ServerSummaryName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Range { start, end } = &self.range;
        write!(formatter, "{:08X}{:016X}{:016X}.summary", self.timeline.0, start.0, end.0)
    }
}

impl FromStr for ServerSummaryName {
    type Err = InvalidServerSummaryName;

    fn from_str(text: &str) -> Result<Self, InvalidServerSummaryName> {
        let digits = text.strip_suffix(".summary").filter(|digits| digits.len() == 40);
        let part = |start: usize| digits?.get(start..start + 8).and_then(hexadecimal);
        let position = |start: usize| Some(Lsn(u64::from(part(start)?) << 32 | u64::from(part(start + 8)?)));
        let name = || Some(Self { timeline: Timeline(part(0)?), range: position(8)?..position(24)? });
        name().ok_or_else(|| InvalidServerSummaryName(text.to_owned()))
    }
}

/// A summary file is damaged.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum ServerSummaryError {
    /// The file is not a summary, or of another format.
    #[error("the file does not begin like a WAL summary")]
    Magic,
    /// The checksum at the end does not fit.
    #[error("the checksum of the WAL summary is wrong")]
    Checksum,
    /// The checksum fits, but the content makes no sense.
    #[error("the entries of the WAL summary are damaged")]
    Entry,
}

/// What a server's summary says of one fork.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerSummaryEntry {
    /// The fork. The relation with number 0 stands for a whole database in one tablespace.
    pub fork: RelationFork,
    /// The smallest length that the fork had, if it was created, dropped or truncated.
    pub limit: Option<u32>,
    /// The blocks that were changed, those past the limit too.
    pub blocks: BlockSet,
}

/// A WAL summary that a server wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerSummary {
    /// The entries in the order of the file.
    pub entries: Vec<ServerSummaryEntry>,
}

impl ServerSummary {
    /// Reads the content of a summary file.
    pub fn parse(bytes: &[u8]) -> Result<Self, ServerSummaryError> {
        let (content, crc) = bytes.split_last_chunk().ok_or(ServerSummaryError::Magic)?;
        let mut cursor = Cursor(content);
        if cursor.u32() != Some(MAGIC) {
            return Err(ServerSummaryError::Magic);
        }
        if crc32c::crc32c(content) != u32::from_le_bytes(*crc) {
            return Err(ServerSummaryError::Checksum);
        }
        let mut entries: Vec<ServerSummaryEntry> = Vec::new();
        while cursor.0 != [0; ENTRY_LENGTH] {
            let entry = parse_entry(&mut cursor).ok_or(ServerSummaryError::Entry)?;
            if entries.last().is_some_and(|last| last.fork >= entry.fork) {
                return Err(ServerSummaryError::Entry);
            }
            entries.push(entry);
        }
        Ok(Self { entries })
    }

    /// The block summary that it amounts to.
    ///
    /// The first minor versions of 17 gave the limit of a truncated visibility map in blocks of its relation, which is
    /// too high. So every limit of a visibility map is taken for such a length: at worst a few pages more are read.
    pub fn to_block_summary(&self) -> BlockSummary {
        let mut summary = BlockSummary::default();
        for entry in &self.entries {
            if let Some(limit) = entry.limit {
                let is_visibility_map = entry.fork.fork == Fork::VisibilityMap;
                summary.lower_limit(entry.fork, if is_visibility_map { visibility_map_length(limit) } else { limit });
            }
            entry.blocks.iter().for_each(|block| summary.mark(entry.fork, block));
        }
        summary
    }
}

/// One entry with its chunks: first how many words each has, then the words.
fn parse_entry(cursor: &mut Cursor<'_>) -> Option<ServerSummaryEntry> {
    let relation = parse_relation(cursor)?;
    let fork = RelationFork { relation, fork: Fork::from_number(cursor.u32()?)? };
    let limit = Some(cursor.u32()?).filter(|limit| *limit != NO_LIMIT);
    let chunks = usize::try_from(cursor.u32()?).ok().filter(|chunks| *chunks <= 1 << 16)?;
    let mut usage = Cursor(cursor.take(chunks * 2)?);
    let mut blocks = BlockSet::default();
    for chunk in 0_u32.. {
        let Some(words) = usage.u16() else { break };
        let content = Cursor(cursor.take(usize::from(words) * 2).filter(|_| words <= BITMAP_WORDS)?);
        let offsets = chunk_offsets(content, words == BITMAP_WORDS);
        blocks.extend(offsets.map(|offset| chunk * CHUNK_BLOCKS + offset));
    }
    Some(ServerSummaryEntry { fork, limit, blocks })
}

/// The blocks in a chunk, as offsets in it.
fn chunk_offsets(mut words: Cursor<'_>, is_bitmap: bool) -> impl Iterator<Item = u32> {
    let words = std::iter::from_fn(move || words.u16());
    words.zip(0..).flat_map(move |(word, index)| {
        let bits = if is_bitmap { 0..16 } else { 0..0 };
        let offset = if is_bitmap { None } else { Some(u32::from(word)) };
        bits.filter(move |bit| word & 1 << bit != 0).map(move |bit| index * 16 + bit).chain(offset)
    })
}

#[cfg(test)]
#[expect(clippy::cast_possible_truncation, reason = "the numbers of these tests are small")]
mod tests {
    use proptest::prelude::*;

    use super::super::testing::{locator_bytes, main_fork, relation, words};
    use super::*;

    fn entry(fork: RelationFork, limit: u32, chunks: &[&[u16]]) -> Vec<u8> {
        let halves = |numbers: &mut dyn Iterator<Item = u16>| numbers.flat_map(u16::to_le_bytes).collect::<Vec<u8>>();
        let header = words(&[u32::from(fork.fork.number()), limit, chunks.len() as u32]);
        let usage = halves(&mut chunks.iter().map(|chunk| chunk.len() as u16));
        let content = halves(&mut chunks.concat().into_iter());
        [locator_bytes(fork.relation), header, usage, content].concat()
    }

    fn file(entries: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = [&MAGIC.to_le_bytes()[..], &entries.concat(), &[0; ENTRY_LENGTH]].concat();
        bytes.extend(crc32c::crc32c(&bytes).to_le_bytes());
        bytes
    }

    #[test]
    fn lists_and_bitmaps_are_read() {
        let mut bitmap = vec![0; 4096];
        (bitmap[0], bitmap[4095]) = (0x8001, 0x8000);
        let vm = RelationFork { relation: relation(9), fork: Fork::VisibilityMap };
        let bytes = file(&[
            entry(main_fork(9), u32::MAX, &[&[7, 3], &[], &bitmap]),
            entry(vm, 295, &[&[0, 300]]),
            entry(main_fork(10), 0, &[]),
        ]);
        let summary = ServerSummary::parse(&bytes).unwrap();
        let blocks = [3, 7, 131_072, 131_087, 196_607].into_iter().collect();
        assert_eq!(
            summary.entries,
            [
                ServerSummaryEntry { fork: main_fork(9), limit: None, blocks },
                ServerSummaryEntry { fork: vm, limit: Some(295), blocks: [0, 300].into_iter().collect() },
                ServerSummaryEntry { fork: main_fork(10), limit: Some(0), blocks: BlockSet::default() },
            ]
        );
        // Whether 295 counts blocks of the relation or of the map, from block 1 on the map is new.
        let summary = summary.to_block_summary();
        let map = summary.get(vm).unwrap();
        assert_eq!((map.limit(), map.blocks().iter().collect::<Vec<_>>()), (Some(1), vec![0]));
        assert_eq!(ServerSummary::parse(&file(&[])), Ok(ServerSummary { entries: Vec::new() }));
        assert_eq!(file(&[]).len(), 32);
    }

    #[test]
    fn damaged_files_are_refused() {
        let good = file(&[entry(main_fork(9), 1, &[&[7]])]);
        for index in 0..good.len() {
            let mut bytes = good.clone();
            bytes[index] ^= 1;
            let expected = if index < 4 { ServerSummaryError::Magic } else { ServerSummaryError::Checksum };
            assert_eq!(ServerSummary::parse(&bytes), Err(expected), "{index}");
        }
        assert_eq!(ServerSummary::parse(&good[..3]), Err(ServerSummaryError::Magic));
        let refused =
            |entries: &[Vec<u8>]| assert_eq!(ServerSummary::parse(&file(entries)), Err(ServerSummaryError::Entry));
        refused(&[entry(main_fork(9), 1, &[]), entry(main_fork(9), 1, &[])]);
        refused(&[entry(main_fork(9), 1, &[&[0; 4097]])]);
        refused(&[entry(main_fork(9), 1, &[&[7]])[..24].to_vec()]);
        refused(&[vec![9; 24]]);
        refused(&[vec![0; 3]]);
    }

    #[test]
    fn names_go_both_ways() {
        let text = "0000000100000000010000280000000A0150D0F8.summary";
        let name: ServerSummaryName = text.parse().unwrap();
        assert_eq!(name, ServerSummaryName { timeline: Timeline(1), range: Lsn(0x100_0028)..Lsn(0xA_0150_D0F8) });
        assert_eq!(name.to_string(), text);
        for text in ["temp.summary", "", &text[1..], &text[..40], &text.to_lowercase(), &text.replace("28", "+8")] {
            assert!(text.parse::<ServerSummaryName>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_content_is_read_or_refused(entries in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..4)) {
            if let Ok(summary) = ServerSummary::parse(&file(&entries)) {
                prop_assert!(summary.entries.len() <= 4);
            }
        }
    }
}
