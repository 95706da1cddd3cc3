//! Compressing with zstd, at the level that was asked for or in another way that takes less time and makes no more of the
//! same blocks. Numbers in which nothing repeats, such as vectors, come to the same size at a lower level, and column by
//! column to a smaller one; indexes, column by column, to a fraction.

use std::io;
use std::ops::RangeInclusive;

use zstd::bulk::Compressor;
use zstd::zstd_safe::zstd_sys::ZSTD_EndDirective;
use zstd::zstd_safe::{
    CCtx, CParameter, InBuffer, OutBuffer, ParamSwitch, ResetDirective, compress_bound, get_error_name,
};

use crate::arrangement::Arrangement;

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
    /// Pages of files.
    Pages,
    /// WAL, in blocks of 1 MiB.
    Wal,
}

/// The level that is tried instead of higher ones: the highest at which zstd looks for what repeats in one way only. What
/// is shorter than seven or six bytes is not looked for then, which makes fewer pieces to be decompressed; the table is a
/// little larger for that.
const LOW_LEVEL: i32 = 2;
const TABLE_OF_LOW_LEVEL: CParameter = CParameter::HashLog(16);
const LONG_MATCHES: CParameter = CParameter::MinMatch(7);
const SHORTER_MATCHES: CParameter = CParameter::MinMatch(6);

/// The level for numbers column by column, at which zstd hardly looks for what repeats: it is the bytes of one column that
/// are like each other, if any are. They are told to be compressed at all, which they are not by themselves below level 1.
const LEVEL_OF_NUMBERS: i32 = -100;
const COLUMNS_OF_NUMBERS: usize = 4;
const LITERALS_OF_NUMBERS: CParameter = CParameter::LiteralCompressionMode(ParamSwitch::Enable);

/// A block may be larger by this part of itself in another way than the one that was asked for: a two-hundredth.
const TOLERANCE: usize = 200;

/// Blocks shorter than this are not tried: what they come to says little about others.
const TRIED_BYTES: usize = 64 << 10;

/// Blocks before the first that is tried, how many times as many come before the next as long as what is tried comes out
/// the same, and the most of them.
const FIRST_TRIED: u32 = 16;
const RARER: u32 = 4;
const MOST_BETWEEN: u32 = 512;

/// A block that comes to more or less than the last tried one is not of the same kind, but for an eighth of that and a
/// hundredth of the block.
const SAME_KIND: usize = 8;
const SAME_KIND_OF_BLOCK: usize = 100;

/// One way to compress a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// At the level that was asked for.
    Asked,
    /// At the low level, where long matches only are looked for.
    Low,
    /// The same with shorter ones.
    LowShorter,
    /// As numbers of four bytes, column by column.
    Numbers,
    /// As rows of eight bytes, of which the tuples of indexes are made, column by column.
    Tuples,
}

impl Way {
    /// Those that may do for the one that was asked for: the smaller one by columns, or else the first that is small enough.
    fn others(level: i32, content: Content) -> &'static [Self] {
        match (content, level > LOW_LEVEL) {
            (Content::Pages, true) => &[Self::Numbers, Self::Tuples, Self::Low, Self::LowShorter],
            (Content::Pages, false) => &[Self::Numbers, Self::Tuples],
            (Content::Any | Content::Wal, true) => &[Self::Low, Self::LowShorter],
            (Content::Any | Content::Wal, false) => &[],
        }
    }

    fn is_by_columns(self) -> bool {
        matches!(self, Self::Numbers | Self::Tuples)
    }

    fn arrangement(self, content: Content) -> Arrangement {
        match (self, content) {
            (Self::Numbers, _) => Arrangement::Columns4,
            (Self::Tuples, _) => Arrangement::Columns8,
            (_, Content::Pages) => Arrangement::RelativePages,
            (_, Content::Any | Content::Wal) => Arrangement::None,
        }
    }

    /// Sets up what compresses so, where `level` was asked for.
    fn compressor(self, level: i32, content: Content) -> io::Result<Compressor<'static>> {
        let (level, parameters): (_, &[CParameter]) = match self {
            Self::Asked if content == Content::Wal && LEVELS_WITH_TABLES.contains(&level) => (level, &TABLES_FOR_WAL),
            Self::Asked => (level, &[]),
            Self::Low => (LOW_LEVEL, &[TABLE_OF_LOW_LEVEL, LONG_MATCHES]),
            Self::LowShorter => (LOW_LEVEL, &[TABLE_OF_LOW_LEVEL, SHORTER_MATCHES]),
            Self::Numbers => (LEVEL_OF_NUMBERS, &[LITERALS_OF_NUMBERS]),
            Self::Tuples => (level.min(LOW_LEVEL), &[]),
        };
        let mut compressor = Compressor::new(level)?;
        parameters.iter().try_for_each(|parameter| compressor.set_parameter(*parameter))?;
        Ok(compressor)
    }
}

/// Compresses blocks, one after the other.
pub(crate) struct Thrifty {
    level: i32,
    content: Content,
    choice: Choice,
    /// What compresses in each way, set up when it is needed first.
    compressors: [Option<Compressor<'static>>; 5],
    /// A block in another arrangement.
    arranged: Vec<u8>,
    /// What a block that is tried comes to in another way than the best.
    tried: Vec<u8>,
}

impl Thrifty {
    /// Compresses at `level`, or as if.
    pub(crate) fn new(level: i32, content: Content) -> Self {
        let choice = Choice::default();
        Self { level, content, choice, compressors: Default::default(), arranged: Vec::new(), tried: Vec::new() }
    }

    /// Leaves a zstd frame in `encoded`, which is empty before, and gives the arrangement of what is in it.
    ///
    /// # Errors
    /// Where there is no memory.
    pub(crate) fn compress(&mut self, plain: &[u8], encoded: &mut Vec<u8>) -> io::Result<Arrangement> {
        if Way::others(self.level, self.content).is_empty() || plain.len() < TRIED_BYTES {
            return self.compress_in(Way::Asked, plain, encoded);
        }
        let Some(way) = self.choice.next() else { return self.try_all(plain, encoded) };
        let arrangement = self.compress_in(way, plain, encoded)?;
        self.choice.compare(encoded.len(), plain.len());
        Ok(arrangement)
    }

    /// Compresses a block in several ways, keeps what is best, and learns from it: one of those that take less time, if it
    /// is as small as the bytes as they are come to at the level that was asked for.
    fn try_all(&mut self, plain: &[u8], encoded: &mut Vec<u8>) -> io::Result<Arrangement> {
        self.compress_arranged(Way::Asked, Arrangement::None, plain, encoded)?;
        let most = encoded.len() + encoded.len() / TOLERANCE;
        let mut tried = std::mem::take(&mut self.tried);
        let best = self.best(plain, encoded, &mut tried, most)?;
        self.tried = tried;
        let (way, arrangement) = if let Some(best) = best {
            best
        } else {
            encoded.clear();
            (Way::Asked, self.compress_in(Way::Asked, plain, encoded)?)
        };
        self.choice.learn(way, encoded.len(), plain.len());
        Ok(arrangement)
    }

    /// The best of the ways that come to no more than so many bytes, which are left in `encoded`.
    fn best(
        &mut self,
        plain: &[u8],
        encoded: &mut Vec<u8>,
        tried: &mut Vec<u8>,
        mut most: usize,
    ) -> io::Result<Option<(Way, Arrangement)>> {
        let mut best = None;
        for way in Way::others(self.level, self.content) {
            if best.is_some() && !way.is_by_columns() {
                break;
            }
            tried.clear();
            let arrangement = self.compress_in(*way, plain, tried)?;
            if tried.len() <= most {
                (best, most) = (Some((*way, arrangement)), tried.len());
                std::mem::swap(encoded, tried);
            }
        }
        Ok(best)
    }

    fn compress_in(&mut self, way: Way, plain: &[u8], encoded: &mut Vec<u8>) -> io::Result<Arrangement> {
        self.compress_arranged(way, way.arrangement(self.content), plain, encoded)
    }

    /// Compresses bytes in an arrangement, and gives it; or as they are, where that is the same.
    fn compress_arranged(
        &mut self,
        way: Way,
        arrangement: Arrangement,
        plain: &[u8],
        encoded: &mut Vec<u8>,
    ) -> io::Result<Arrangement> {
        let (bytes, arrangement) = if arrangement.arrange(plain, &mut self.arranged) {
            (&self.arranged[..], arrangement)
        } else {
            (plain, Arrangement::None)
        };
        let place = &mut self.compressors[way as usize];
        let compressor = match place.take() {
            Some(compressor) => place.insert(compressor),
            None => place.insert(way.compressor(self.level, self.content)?),
        };
        encoded.reserve(compress_bound(bytes.len()));
        match way {
            Way::Numbers => compress_in_pieces(compressor.context_mut(), COLUMNS_OF_NUMBERS, bytes, encoded)?,
            Way::Asked | Way::Low | Way::LowShorter | Way::Tuples => {
                compressor.compress_to_buffer(bytes, encoded)?;
            }
        }
        Ok(arrangement)
    }
}

/// Compresses into one frame in which each piece has blocks, and so a code, of its own.
fn compress_in_pieces(context: &mut CCtx<'_>, pieces: usize, bytes: &[u8], encoded: &mut Vec<u8>) -> io::Result<()> {
    let failed = |code| io::Error::other(get_error_name(code));
    context.reset(ResetDirective::SessionOnly).map_err(failed)?;
    context.set_pledged_src_size(Some(bytes.len() as u64)).map_err(failed)?;
    // Each piece that ends ends a block, which takes some bytes more than `compress_bound` knows of.
    encoded.reserve(compress_bound(bytes.len()) + pieces * compress_bound(0));
    let mut output = OutBuffer::around(encoded);
    let length = bytes.len() / pieces;
    for piece in 0..pieces {
        let is_last = piece + 1 == pieces;
        let (end, directive) = if is_last {
            (bytes.len(), ZSTD_EndDirective::ZSTD_e_end)
        } else {
            ((piece + 1) * length, ZSTD_EndDirective::ZSTD_e_flush)
        };
        let mut input = InBuffer::around(&bytes[piece * length..end]);
        // All of it is taken at once, as there is room for it.
        let left = context.compress_stream2(&mut output, &mut input, directive).map_err(failed)?;
        if left != 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
    }
    Ok(())
}

/// Chooses the way of one block after the other.
#[derive(Debug)]
struct Choice {
    way: Way,
    /// For how many blocks yet, and for how many from the last that was tried.
    left: u32,
    pause: u32,
    /// What the last block that was tried came to: its length, and its length before.
    came_to: Option<(usize, usize)>,
}

impl Default for Choice {
    fn default() -> Self {
        Self { way: Way::Asked, left: FIRST_TRIED, pause: FIRST_TRIED, came_to: None }
    }
}

impl Choice {
    /// The way of the next block. Where there is none all are tried with it.
    fn next(&mut self) -> Option<Way> {
        self.left = self.left.checked_sub(1)?;
        Some(self.way)
    }

    /// Goes by the best way of a block, and by what it came to in it.
    fn learn(&mut self, way: Way, encoded: usize, plain: usize) {
        let is_the_same = self.came_to.is_some() && way == self.way && self.is_of_the_same_kind(encoded, plain);
        self.pause = if is_the_same { (RARER * self.pause).min(MOST_BETWEEN) } else { FIRST_TRIED };
        (self.way, self.left, self.came_to) = (way, self.pause, Some((encoded, plain)));
    }

    /// Has the next block tried if this one came to something else than the last that was tried, which was not just now.
    fn compare(&mut self, encoded: usize, plain: usize) {
        if self.pause - self.left >= FIRST_TRIED && !self.is_of_the_same_kind(encoded, plain) {
            self.left = 0;
        }
    }

    fn is_of_the_same_kind(&self, encoded: usize, plain: usize) -> bool {
        let Some((tried_encoded, tried_plain)) = self.came_to else { return true };
        let (length, tried) = (encoded * tried_plain, tried_encoded * plain);
        length.abs_diff(tried) <= tried / SAME_KIND + plain * tried_plain / SAME_KIND_OF_BLOCK
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::PAGE_SIZE;
    use crate::codec::{Codec, Decoder};

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

    /// An index on a number: tuples of sixteen bytes, each a place in the table, its own length, and the next number.
    fn index(length: usize) -> Vec<u8> {
        let tuple = |number: u64| {
            let place = [
                0,
                0,
                (number / 60).to_le_bytes()[0],
                (number / 60).to_le_bytes()[1],
                (number % 60).to_le_bytes()[0],
                0,
            ];
            [&place[..], &[16, 0], &(7_000_000 + number).to_le_bytes()].concat()
        };
        (0..).flat_map(tuple).take(length).collect()
    }

    /// Pages of a table of such rows, each with a line pointer and a header with its ctid.
    fn table(pages: usize) -> Vec<u8> {
        let rows = rows(pages * PAGE_SIZE);
        let mut rows = rows.chunks(120);
        let page = |number: usize| {
            let mut page = vec![0; PAGE_SIZE];
            page[12..20].copy_from_slice(&[24 + 4 * 50, 0, 0, 0, 0, 0x20, 4, 0x20]);
            for (line, row) in rows.by_ref().take(50).enumerate() {
                let offset = PAGE_SIZE - 144 * (line + 1);
                let pointer = u32::try_from(offset | 1 << 15 | 144 << 17).unwrap();
                page[24 + 4 * line..][..4].copy_from_slice(&pointer.to_le_bytes());
                page[offset + 14] = number.to_le_bytes()[0];
                page[offset + 16] = line.to_le_bytes()[0] + 1;
                page[offset + 24..][..row.len()].copy_from_slice(row);
            }
            page
        };
        (0..pages).flat_map(page).collect()
    }

    /// Compresses a block so many times and gives what it came to, and how it was arranged.
    fn outcomes(thrifty: &mut Thrifty, plain: &[u8], blocks: usize) -> Vec<(usize, Arrangement)> {
        let (mut encoded, mut decoder, mut back) = (Vec::new(), Decoder::default(), vec![0; plain.len()]);
        let mut outcome = || {
            encoded.clear();
            let arrangement = thrifty.compress(plain, &mut encoded).unwrap();
            back.fill(0);
            decoder.decode(Codec::Zstd(arrangement), &encoded, &mut back).unwrap();
            assert!(back == plain, "{arrangement:?}");
            (encoded.len(), arrangement)
        };
        (0..blocks).map(|_| outcome()).collect()
    }

    fn sizes(thrifty: &mut Thrifty, plain: &[u8], blocks: usize) -> Vec<usize> {
        outcomes(thrifty, plain, blocks).into_iter().map(|(size, _)| size).collect()
    }

    fn size_at(level: i32, plain: &[u8]) -> usize {
        zstd::bulk::compress(plain, level).unwrap().len()
    }

    #[test]
    fn what_the_low_level_makes_as_small_is_left_to_it_and_nothing_else() {
        let (vectors, rows) = (vectors(128 << 10), rows(128 << 10));
        let (asked, low) = (size_at(3, &rows), size_at(LOW_LEVEL, &rows));
        assert!(low > asked + asked / TOLERANCE, "{low} and {asked} bytes of rows");
        let mut thrifty = Thrifty::new(3, Content::Any);
        assert!(sizes(&mut thrifty, &rows, 200).iter().all(|size| *size == asked));

        // However long rows have been compressed, vectors are found out by what they come to.
        let asked = size_at(3, &vectors);
        let of_vectors = sizes(&mut thrifty, &vectors, 100);
        assert!(of_vectors.iter().all(|size| *size <= asked + asked / TOLERANCE), "{asked}");
        assert_eq!(thrifty.choice.way, Way::Low);

        // And so are rows that follow.
        let asked = size_at(3, &rows);
        let of_rows = sizes(&mut thrifty, &rows, 40);
        assert!(of_rows[FIRST_TRIED as usize..].iter().all(|size| *size == asked), "{of_rows:?}");
    }

    #[test]
    fn pages_of_every_kind_find_their_arrangement() {
        for level in [1, 3, 9] {
            let mut thrifty = Thrifty::new(level, Content::Pages);
            for (plain, arrangement, most) in [
                (vectors(128 << 10), Arrangement::Columns4, 95),
                (index(128 << 10), Arrangement::Columns8, 20),
                (rows(128 << 10), Arrangement::None, 100),
                (table(16), Arrangement::RelativePages, 98),
                (vectors(128 << 10), Arrangement::Columns4, 95),
                (index(64 << 10), Arrangement::Columns8, 20),
            ] {
                // One that is tried, and what follows on it.
                outcomes(&mut thrifty, &plain, FIRST_TRIED as usize + 1);
                for (size, of) in outcomes(&mut thrifty, &plain, 20) {
                    assert_eq!(of, arrangement, "level {level}");
                    assert!(
                        size <= size_at(level, &plain) * most / 100,
                        "{size} bytes of {arrangement:?}, level {level}"
                    );
                }
            }
        }
    }

    #[test]
    fn blocks_of_any_length_come_back_in_every_way_however_little_they_shrink() {
        let mut noise = vec![0; (1 << 20) + 5];
        blake3::Hasher::new().finalize_xof().fill(&mut noise);
        let mut thrifty = Thrifty::new(3, Content::Pages);
        let mut decoder = Decoder::default();
        for length in [0, 1, 3, 7, 8, 1000, (64 << 10) + 1, (128 << 10) + 3, noise.len()] {
            for plain in [noise[..length].to_vec(), vec![0; length]] {
                for way in [Way::Asked, Way::Low, Way::LowShorter, Way::Numbers, Way::Tuples] {
                    // No room is left from a block before.
                    let mut encoded = Vec::new();
                    let arrangement = thrifty.compress_in(way, &plain, &mut encoded).unwrap();
                    let mut back = vec![1; length];
                    decoder.decode(Codec::Zstd(arrangement), &encoded, &mut back).unwrap();
                    assert!(back == plain, "{length} bytes, {way:?}");
                }
            }
        }
    }

    #[test]
    fn nothing_but_pages_is_arranged() {
        for content in [Content::Any, Content::Wal] {
            let mut thrifty = Thrifty::new(3, content);
            let of_index = outcomes(&mut thrifty, &index(128 << 10), 40);
            assert!(of_index.iter().all(|(_, arrangement)| *arrangement == Arrangement::None), "{content:?}");
        }
    }

    #[test]
    fn small_tables_find_what_repeats_nearby() {
        let lines: Vec<u8> =
            (0..40_000_u32).flat_map(|line| format!("{:08x} {line}\n", line / 50).into_bytes()).collect();
        let plain = &lines[..512 << 10];
        let size_with = |content| sizes(&mut Thrifty::new(3, content), plain, 1)[0];
        let (wal, any) = (size_with(Content::Wal), size_with(Content::Any));
        assert!(wal != any && wal < any + any / 50, "{wal} and {any} bytes");
    }

    #[test]
    fn short_blocks_and_low_levels_are_compressed_as_asked() {
        let short = vectors(TRIED_BYTES - 1);
        let mut thrifty = Thrifty::new(3, Content::Pages);
        assert!(sizes(&mut thrifty, &short, 100).iter().all(|size| *size == size_at(3, &short)));
        let vectors = vectors(TRIED_BYTES);
        let mut thrifty = Thrifty::new(LOW_LEVEL, Content::Any);
        assert!(sizes(&mut thrifty, &vectors, 100).iter().all(|size| *size == size_at(LOW_LEVEL, &vectors)));
    }

    /// Which of so many blocks are tried, of which each comes to the same and the best way is the same.
    fn tried(choice: &mut Choice, way: Way, encoded: usize, blocks: usize) -> Vec<usize> {
        let mut is_tried = |_: &usize| {
            let is_tried = choice.next().is_none();
            if is_tried {
                choice.learn(way, encoded, 131_072);
            } else {
                choice.compare(encoded, 131_072);
            }
            is_tried
        };
        (0..blocks).filter(|block| is_tried(block)).collect()
    }

    #[test]
    fn blocks_of_one_kind_are_tried_ever_more_rarely() {
        for way in [Way::Asked, Way::Numbers] {
            let mut choice = Choice::default();
            assert_eq!(tried(&mut choice, way, 100_000, 2000), [16, 33, 98, 355, 868, 1381, 1894]);
        }
    }

    #[test]
    fn a_block_that_comes_to_something_else_has_the_next_tried() {
        let mut choice = Choice::default();
        tried(&mut choice, Way::Numbers, 80_000, 1000);
        // A little more or less is the same kind.
        assert!(tried(&mut choice, Way::Numbers, 89_000, 100).is_empty());
        assert_eq!(tried(&mut choice, Way::Tuples, 60_000, 100), [1, 18, 83]);
        // Where each differs from the one before, no more than one of seventeen is tried.
        let count: usize = (0..200).map(|block| tried(&mut choice, Way::Asked, 10_000 << (block % 2), 1).len()).sum();
        assert!((8..=12).contains(&count), "{count}");
    }
}
