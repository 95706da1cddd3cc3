//! A compact set of block numbers.

use std::cmp::Ordering;

/// Blocks covered by one chunk.
const CHUNK_BLOCKS: u32 = 1 << 16;
/// The most members of a chunk that is kept as a list; beyond, a bitmap is not larger.
const LIST_MAXIMUM: usize = 4096;
/// Words of a bitmap.
const BITMAP_WORDS: usize = (CHUNK_BLOCKS / u64::BITS) as usize;

/// A set of block numbers of one fork. Each 65,536 blocks take at most 8 KiB, and two bytes a block where few are in
/// the set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BlockSet {
    /// The chunks that have members, in ascending order of their numbers.
    chunks: Vec<(u16, Chunk)>,
}

/// The members of one chunk, as offsets in it. A list has at most `LIST_MAXIMUM` members and a bitmap has more, so that
/// equal sets look equal.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Chunk {
    /// In ascending order.
    List(Vec<u16>),
    /// A bit for each block, the lowest first.
    Bitmap { words: Box<[u64]>, members: usize },
}

/// A run of consecutive blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockRun {
    /// The first block.
    pub first: u32,
    /// How many there are; at least 1, and 2 to the 32 if all blocks are in the set.
    pub length: u64,
}

impl BlockSet {
    /// Adds `block`.
    pub fn insert(&mut self, block: u32) {
        let (number, offset) = split(block);
        match self.chunks.binary_search_by_key(&number, |chunk| chunk.0) {
            Ok(index) => self.chunks[index].1.insert(offset),
            Err(index) => self.chunks.insert(index, (number, Chunk::List(vec![offset]))),
        }
    }

    /// Adds every block of `other`.
    pub fn union(&mut self, other: &Self) {
        for (number, theirs) in &other.chunks {
            match self.chunks.binary_search_by_key(number, |chunk| chunk.0) {
                Ok(index) => theirs.offsets().for_each(|offset| self.chunks[index].1.insert(offset)),
                Err(index) => self.chunks.insert(index, (*number, theirs.clone())),
            }
        }
    }

    /// Removes `limit` and every block after it.
    pub fn truncate(&mut self, limit: u32) {
        let (number, offset) = split(limit);
        self.chunks.retain_mut(|(chunk_number, chunk)| {
            if *chunk_number == number {
                chunk.truncate(offset);
            }
            *chunk_number < number || (*chunk_number == number && chunk.members() > 0)
        });
    }

    /// Whether `block` is in the set.
    pub fn contains(&self, block: u32) -> bool {
        let (number, offset) = split(block);
        let index = self.chunks.binary_search_by_key(&number, |chunk| chunk.0);
        index.is_ok_and(|index| self.chunks[index].1.contains(offset))
    }

    /// How many blocks are in the set.
    pub fn len(&self) -> u64 {
        self.chunks.iter().map(|(_, chunk)| chunk.members() as u64).sum()
    }

    /// Whether the set has no members.
    pub fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }

    /// The highest member.
    pub fn last(&self) -> Option<u32> {
        let (number, chunk) = self.chunks.last()?;
        chunk.last().map(|offset| u32::from(*number) * CHUNK_BLOCKS + u32::from(offset))
    }

    /// The members in ascending order.
    pub fn iter(&self) -> impl Iterator<Item = u32> {
        self.chunks.iter().flat_map(|(number, chunk)| {
            let first = u32::from(*number) * CHUNK_BLOCKS;
            chunk.offsets().map(move |offset| first + u32::from(offset))
        })
    }

    /// The members as the longest runs there are, in ascending order.
    pub fn runs(&self) -> impl Iterator<Item = BlockRun> {
        let mut blocks = self.iter().peekable();
        std::iter::from_fn(move || {
            let first = blocks.next()?;
            let mut length = 1;
            while blocks.next_if(|block| u64::from(*block) == u64::from(first) + length).is_some() {
                length += 1;
            }
            Some(BlockRun { first, length })
        })
    }
}

impl Extend<u32> for BlockSet {
    fn extend<I: IntoIterator<Item = u32>>(&mut self, blocks: I) {
        blocks.into_iter().for_each(|block| self.insert(block));
    }
}

impl FromIterator<u32> for BlockSet {
    fn from_iter<I: IntoIterator<Item = u32>>(blocks: I) -> Self {
        let mut set = Self::default();
        set.extend(blocks);
        set
    }
}

/// The number of the chunk and the offset in it.
fn split(block: u32) -> (u16, u16) {
    let [low, lower_middle, upper_middle, high] = block.to_le_bytes();
    (u16::from_le_bytes([upper_middle, high]), u16::from_le_bytes([low, lower_middle]))
}

/// The word of a bitmap that has the bit of `offset`, and a word with only that bit.
fn bit(offset: u16) -> (usize, u64) {
    (usize::from(offset) / 64, 1 << (offset % 64))
}

impl Chunk {
    fn insert(&mut self, offset: u16) {
        match self {
            Self::List(list) => {
                // Blocks tend to come in ascending order, and each several times.
                match list.last().map(|last| last.cmp(&offset)) {
                    None | Some(Ordering::Less) => list.push(offset),
                    Some(Ordering::Equal) => {}
                    Some(Ordering::Greater) => {
                        if let Err(index) = list.binary_search(&offset) {
                            list.insert(index, offset);
                        }
                    }
                }
                if list.len() > LIST_MAXIMUM {
                    *self = Self::bitmap(list);
                }
            }
            Self::Bitmap { words, members } => {
                let (word, bit) = bit(offset);
                *members += usize::from(words[word] & bit == 0);
                words[word] |= bit;
            }
        }
    }

    fn bitmap(list: &[u16]) -> Self {
        let mut words = vec![0; BITMAP_WORDS].into_boxed_slice();
        for offset in list {
            let (word, bit) = bit(*offset);
            words[word] |= bit;
        }
        Self::Bitmap { words, members: list.len() }
    }

    fn truncate(&mut self, limit: u16) {
        let list = match self {
            Self::List(list) => {
                list.truncate(list.partition_point(|offset| *offset < limit));
                return;
            }
            Self::Bitmap { words, members } => {
                let (first, bit) = bit(limit);
                words[first] &= bit - 1;
                words[first + 1..].fill(0);
                *members = words.iter().map(|word| word.count_ones() as usize).sum();
                (*members <= LIST_MAXIMUM).then(|| bits(words).collect())
            }
        };
        if let Some(list) = list {
            *self = Self::List(list);
        }
    }

    fn contains(&self, offset: u16) -> bool {
        match self {
            Self::List(list) => list.binary_search(&offset).is_ok(),
            Self::Bitmap { words, .. } => {
                let (word, bit) = bit(offset);
                words[word] & bit != 0
            }
        }
    }

    fn members(&self) -> usize {
        match self {
            Self::List(list) => list.len(),
            Self::Bitmap { members, .. } => *members,
        }
    }

    fn last(&self) -> Option<u16> {
        match self {
            Self::List(list) => list.last().copied(),
            Self::Bitmap { words, .. } => bits(words).last(),
        }
    }

    fn offsets(&self) -> impl Iterator<Item = u16> {
        let (list, words) = match self {
            Self::List(list) => (&list[..], &[][..]),
            Self::Bitmap { words, .. } => (&[][..], &words[..]),
        };
        list.iter().copied().chain(bits(words))
    }
}

/// The offsets of the bits that are set.
fn bits(words: &[u64]) -> impl Iterator<Item = u16> {
    words.iter().zip((0_u16..).step_by(64)).flat_map(|(word, first)| {
        let mut rest = *word;
        std::iter::from_fn(move || {
            // No bit is left where there are 64 zeros.
            let bit = u16::try_from(rest.trailing_zeros()).ok().filter(|bit| *bit < 64)?;
            rest &= rest - 1;
            Some(first + bit)
        })
    })
}

#[cfg(test)]
#[expect(clippy::cast_possible_truncation, reason = "the numbers of these tests are small")]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    /// Blocks close together and far apart, so that lists, bitmaps and several chunks all occur.
    fn blocks() -> impl Strategy<Value = BTreeSet<u32>> {
        let runs = prop::collection::vec((prop_oneof![0..200_000_u32, any::<u32>()], 1..6000_u32), 0..6);
        runs.prop_map(|runs| {
            runs.into_iter()
                .flat_map(|(first, length)| (first..=first.saturating_add(length)).step_by(1 + length as usize % 3))
                .collect()
        })
    }

    #[test]
    fn every_block_of_a_chunk_fits() {
        let set: BlockSet = (0..3 * CHUNK_BLOCKS).rev().collect();
        assert_eq!(set.len(), u64::from(3 * CHUNK_BLOCKS));
        assert_eq!(set.runs().collect::<Vec<_>>(), [BlockRun { first: 0, length: u64::from(3 * CHUNK_BLOCKS) }]);
        assert!(set.contains(CHUNK_BLOCKS - 1) && !set.contains(3 * CHUNK_BLOCKS));
    }

    #[test]
    fn the_highest_block_is_a_block() {
        let set: BlockSet = [u32::MAX, 0].into_iter().collect();
        assert_eq!(set.iter().collect::<Vec<_>>(), [0, u32::MAX]);
        assert_eq!(set.last(), Some(u32::MAX));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn it_is_a_set(members in blocks(), others in blocks(), limit in prop_oneof![0..200_000_u32, any::<u32>()]) {
            let mut set: BlockSet = members.iter().copied().collect();
            prop_assert!(set.iter().eq(members.iter().copied()));
            prop_assert_eq!(set.len(), members.len() as u64);
            prop_assert_eq!(set.last(), members.last().copied());
            prop_assert!(set.runs().flat_map(|run| run.first..=(run.first + (run.length - 1) as u32)).eq(set.iter()));
            for block in others.iter().take(100) {
                prop_assert_eq!(set.contains(*block), members.contains(block));
            }

            let other: BlockSet = others.iter().rev().copied().collect();
            set.union(&other);
            let union: BTreeSet<u32> = members.union(&others).copied().collect();
            prop_assert_eq!(&set, &union.iter().copied().collect());

            set.truncate(limit);
            prop_assert_eq!(&set, &union.range(..limit).copied().collect());
        }
    }
}
