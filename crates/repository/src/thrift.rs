//! Compressing with zstd, at the level that was asked for or at a lower one that makes the same of the same blocks. Numbers in which
//! nothing repeats, such as vectors, come to the same size at both, and at the lower one in two thirds of the time.

use std::io;
use std::ops::RangeInclusive;

use zstd::bulk::Compressor;
use zstd::zstd_safe::{CParameter, compress_bound};

/// The levels at which zstd looks for what repeats in two tables, and how large these are for WAL: 2^14 entries for long
/// matches and 2^13 for short ones, not 2^17 and 2^16 as for other blocks of 1 MiB. What repeats in WAL lies near, and is
/// found sooner where a table that fits into the processor's nearest cache has forgotten what lies far away.
const LEVELS_WITH_TABLES: RangeInclusive<i32> = 3..=4;
const TABLES_FOR_WAL: [CParameter; 2] = [CParameter::HashLog(14), CParameter::ChainLog(13)];

/// What blocks are made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    /// Anything.
    Any,
    /// WAL, in blocks of 1 MiB.
    Wal,
}

/// The level that is tried instead of higher ones: the highest at which zstd looks for what repeats in one way only.
const LOW_LEVEL: i32 = 2;

/// A block may be larger by this part of itself at the low level: a four-hundredth.
const TOLERANCE: usize = 400;

/// Blocks shorter than this are not tried: what they come to says little about others.
const TRIED_BYTES: usize = 64 << 10;

/// Blocks that follow on one that came to the same size, and are compressed at the low level before both are tried again.
const FOLLOWING: u32 = 15;

/// Blocks before the first that is tried, and the most that lie between two that are tried in vain.
const FIRST_TRIED: u32 = 32;
const MOST_BETWEEN: u32 = 512;

/// Compresses blocks, one after the other.
pub(crate) struct Thrifty {
    level: i32,
    asked: Compressor<'static>,
    /// Set up once there is a block to be tried.
    low: Option<Compressor<'static>>,
    choice: Choice,
    /// What a block that is tried comes to at the low level.
    tried: Vec<u8>,
}

impl Thrifty {
    /// Compresses at `level`, or as if.
    ///
    /// # Errors
    /// Where there is no memory.
    pub(crate) fn new(level: i32, content: Content) -> io::Result<Self> {
        let mut asked = Compressor::new(level)?;
        if content == Content::Wal && LEVELS_WITH_TABLES.contains(&level) {
            TABLES_FOR_WAL.into_iter().try_for_each(|table| asked.set_parameter(table))?;
        }
        Ok(Self { level, asked, low: None, choice: Choice::default(), tried: Vec::new() })
    }

    /// Leaves a zstd frame in `encoded`, which is empty before.
    ///
    /// # Errors
    /// Where there is no memory.
    pub(crate) fn compress(&mut self, plain: &[u8], encoded: &mut Vec<u8>) -> io::Result<()> {
        if self.level <= LOW_LEVEL || plain.len() < TRIED_BYTES {
            return compress(&mut self.asked, plain, encoded);
        }
        match self.choice.next() {
            Way::Asked => compress(&mut self.asked, plain, encoded),
            Way::Low => compress(self.low()?, plain, encoded),
            Way::Both => {
                let mut tried = std::mem::take(&mut self.tried);
                tried.clear();
                compress(self.low()?, plain, &mut tried)?;
                compress(&mut self.asked, plain, encoded)?;
                self.choice.learn(encoded.len(), tried.len());
                self.tried = tried;
                Ok(())
            }
        }
    }

    fn low(&mut self) -> io::Result<&mut Compressor<'static>> {
        let low = match self.low.take() {
            Some(low) => low,
            None => Compressor::new(LOW_LEVEL)?,
        };
        Ok(self.low.insert(low))
    }
}

fn compress(compressor: &mut Compressor<'_>, plain: &[u8], encoded: &mut Vec<u8>) -> io::Result<()> {
    encoded.reserve(compress_bound(plain.len()));
    compressor.compress_to_buffer(plain, encoded).map(drop)
}

/// At which level a block is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Asked,
    Low,
    Both,
}

/// Chooses the level of one block after the other.
#[derive(Debug)]
struct Choice {
    /// What is done till both levels are tried again, and for how many blocks yet.
    way: Way,
    left: u32,
    /// How many blocks follow where the next try is in vain.
    pause: u32,
}

impl Default for Choice {
    fn default() -> Self {
        Self { way: Way::Asked, left: FIRST_TRIED, pause: FIRST_TRIED }
    }
}

impl Choice {
    fn next(&mut self) -> Way {
        match self.left.checked_sub(1) {
            Some(left) => {
                self.left = left;
                self.way
            }
            None => Way::Both,
        }
    }

    /// Goes by what a block came to at the level that was asked for and at the low one.
    fn learn(&mut self, asked: usize, low: usize) {
        if low <= asked + asked / TOLERANCE {
            *self = Self { way: Way::Low, left: FOLLOWING, pause: FIRST_TRIED };
        } else {
            let pause = (2 * self.pause).min(MOST_BETWEEN);
            *self = Self { way: Way::Asked, left: self.pause, pause };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers below another one.
    fn random() -> impl FnMut(u32) -> u32 {
        let mut state = 1_u64;
        move |below| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            u32::try_from(state >> 33).unwrap() % below
        }
    }

    /// Numbers that repeat nothing, all of about the same size, as in vectors.
    fn vectors(length: usize) -> Vec<u8> {
        let mut random = random();
        let numbers = std::iter::repeat_with(|| f32::from_bits(0x3f80_0000 | random(1 << 23)));
        numbers.flat_map(f32::to_le_bytes).take(length).collect()
    }

    /// Rows of words, in which much repeats that is found by looking for it well.
    fn rows(length: usize) -> Vec<u8> {
        let mut random = random();
        let row = move || {
            let words: Vec<_> = (0..random(8)).map(|_| format!("{:x}", random(300) * 7_654_321)).collect();
            format!("{{\"order\": {}, \"words\": \"{}\"}}\n", random(100_000), words.join(" ")).into_bytes()
        };
        std::iter::repeat_with(row).flatten().take(length).collect()
    }

    fn sizes(thrifty: &mut Thrifty, plain: &[u8], blocks: usize) -> Vec<usize> {
        let mut encoded = Vec::new();
        let mut size = || {
            encoded.clear();
            thrifty.compress(plain, &mut encoded).unwrap();
            assert_eq!(zstd::bulk::decompress(&encoded, plain.len()).unwrap(), plain);
            encoded.len()
        };
        (0..blocks).map(|_| size()).collect()
    }

    #[test]
    fn what_the_low_level_makes_as_small_is_left_to_it_and_nothing_else() {
        let size_at = |level, plain: &[u8]| zstd::bulk::compress(plain, level).unwrap().len();
        let (vectors, rows) = (vectors(128 << 10), rows(128 << 10));
        let (asked, low) = (size_at(3, &rows), size_at(LOW_LEVEL, &rows));
        assert!(low > asked + asked / TOLERANCE, "{low} and {asked} bytes of rows");
        let mut thrifty = Thrifty::new(3, Content::Any).unwrap();
        assert!(sizes(&mut thrifty, &rows, 200).iter().all(|size| *size == asked));

        // However long rows have been compressed, vectors are found out at last.
        let asked = size_at(3, &vectors);
        let of_vectors = sizes(&mut thrifty, &vectors, MOST_BETWEEN as usize + 17);
        assert!(of_vectors.iter().all(|size| *size <= asked + asked / TOLERANCE), "{asked}");
        assert_eq!(thrifty.choice.way, Way::Low);

        // And rows that follow are found out soon.
        let asked = size_at(3, &rows);
        let of_rows = sizes(&mut thrifty, &rows, 40);
        assert!(of_rows[FOLLOWING as usize + 1..].iter().all(|size| *size == asked));
    }

    #[test]
    fn small_tables_find_what_repeats_nearby() {
        let lines: Vec<u8> =
            (0..40_000_u32).flat_map(|line| format!("{:08x} {line}\n", line / 50).into_bytes()).collect();
        let plain = &lines[..512 << 10];
        let size_with = |content| sizes(&mut Thrifty::new(3, content).unwrap(), plain, 1)[0];
        let (wal, any) = (size_with(Content::Wal), size_with(Content::Any));
        assert!(wal != any && wal < any + any / 50, "{wal} and {any} bytes");
    }

    #[test]
    fn short_blocks_and_low_levels_are_compressed_as_asked() {
        let vectors = vectors(TRIED_BYTES - 1);
        let mut thrifty = Thrifty::new(3, Content::Any).unwrap();
        sizes(&mut thrifty, &vectors, 100);
        assert_eq!((thrifty.choice.way, thrifty.choice.left), (Way::Asked, FIRST_TRIED));
        let mut thrifty = Thrifty::new(LOW_LEVEL, Content::Any).unwrap();
        sizes(&mut thrifty, &vectors, 100);
        assert!(thrifty.low.is_none());
    }

    #[test]
    fn tries_in_vain_become_rare() {
        let mut choice = Choice::default();
        let mut tried = Vec::new();
        for block in 0..3000 {
            if choice.next() == Way::Both {
                tried.push(block);
                choice.learn(100_000, 101_000);
            }
        }
        assert_eq!(tried, [32, 65, 130, 259, 516, 1029, 1542, 2055, 2568]);
    }
}
