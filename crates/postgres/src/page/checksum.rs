//! The checksum of a page: FNV-1a in 32 lanes, folded to 16 bits.
//!
//! Algorithm: PostgreSQL `src/include/storage/checksum_impl.h`, the same from 13 to 18. The lanes do not depend on each
//! other, so the loop is written for the compiler to turn into vector code, and compiled for more than one processor.

use super::Page;

const LANES: usize = 32;
const ROW_SIZE: usize = LANES * size_of::<u32>();
const FNV_PRIME: u32 = 16_777_619;

/// Where the lanes start (`checksumBaseOffsets`).
#[expect(clippy::unreadable_literal, reason = "as they stand in PostgreSQL's source")]
const START: [u32; LANES] = [
    0x5B1F36E9, 0xB8525960, 0x02AB50AA, 0x1DE66D2A, 0x79FF467A, 0x9BB9F8A3, 0x217E7CD2, 0x83E13D2C, 0xF8D4474F,
    0xE39EB970, 0x42C6AE16, 0x993216FA, 0x7B093B5D, 0x98DAFF3C, 0xF718902A, 0x0B1C9CDB, 0xE58F764B, 0x187636BC,
    0x5D7B3BB1, 0xE73DE7DE, 0x92BEC979, 0xCCA6C0B2, 0x304A0979, 0x85AA43D4, 0x783125BB, 0x6CA8EAA2, 0xE407EAC6,
    0x4B5CFC3E, 0x9FBF8C76, 0x15CA20BE, 0xF2CA9FD3, 0x959BD756,
];

/// The lane of the first row in which `pd_checksum` lies, and the bits of it that are not `pd_checksum`.
const CHECKSUM_LANE: usize = 2;
const CHECKSUM_MASK: u32 = 0xFFFF_0000;

/// The checksum that `page` should carry as block `block_number` of its relation (counted over all segments).
///
/// The bytes in which the page carries its checksum do not count.
pub fn checksum(page: &Page, block_number: u32) -> u16 {
    fold(&lanes(page), block_number)
}

#[cfg(target_arch = "x86_64")]
fn lanes(page: &Page) -> [u32; LANES] {
    if is_x86_feature_detected!("avx512f") {
        #[expect(unsafe_code, reason = "the only way to call code compiled for a processor found at run time")]
        // SAFETY: the processor has the features that the function is compiled for.
        return unsafe { lanes_avx512(page) };
    }
    if is_x86_feature_detected!("avx2") {
        #[expect(unsafe_code, reason = "the only way to call code compiled for a processor found at run time")]
        // SAFETY: the processor has the features that the function is compiled for.
        return unsafe { lanes_avx2(page) };
    }
    portable_lanes(page)
}

#[cfg(not(target_arch = "x86_64"))]
fn lanes(page: &Page) -> [u32; LANES] {
    portable_lanes(page)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
fn lanes_avx512(page: &Page) -> [u32; LANES] {
    portable_lanes(page)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn lanes_avx2(page: &Page) -> [u32; LANES] {
    portable_lanes(page)
}

#[inline(always)]
#[expect(clippy::inline_always, reason = "it is compiled into each of its callers, with their processor's features")]
fn portable_lanes(page: &Page) -> [u32; LANES] {
    let (rows, _) = page.as_chunks::<ROW_SIZE>();
    let mut sums = START;
    let mut first = row_values(&rows[0]);
    first[CHECKSUM_LANE] &= CHECKSUM_MASK;
    mix(&mut sums, &first);
    for row in &rows[1..] {
        mix(&mut sums, &row_values(row));
    }
    // Two rounds of zeros, so that the last rows are mixed as well as the first.
    mix(&mut sums, &[0; LANES]);
    mix(&mut sums, &[0; LANES]);
    sums
}

#[inline(always)]
#[expect(clippy::inline_always, reason = "as portable_lanes")]
fn row_values(row: &[u8; ROW_SIZE]) -> [u32; LANES] {
    let (values, _) = row.as_chunks::<4>();
    std::array::from_fn(|lane| u32::from_le_bytes(values[lane]))
}

#[inline(always)]
#[expect(clippy::inline_always, reason = "as portable_lanes")]
fn mix(sums: &mut [u32; LANES], values: &[u32; LANES]) {
    for (sum, value) in sums.iter_mut().zip(values) {
        let mixed = *sum ^ value;
        *sum = mixed.wrapping_mul(FNV_PRIME) ^ (mixed >> 17);
    }
}

/// Folds the lanes to the 16 bits that are stored. A checksum is never 0.
fn fold(sums: &[u32; LANES], block_number: u32) -> u16 {
    let folded = sums.iter().fold(block_number, |folded, sum| folded ^ sum);
    u16::try_from(folded % 65_535 + 1).expect("a remainder of 65,535 and one more fit 16 bits")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::page::PAGE_SIZE;

    /// The algorithm as its description has it, one value after the other.
    fn by_the_book(page: &Page, block_number: u32) -> u16 {
        let mut page = *page;
        page[8..10].fill(0);
        let mut sums = START;
        for (index, value) in page.as_chunks::<4>().0.iter().chain([[0; 4]; 2 * LANES].iter()).enumerate() {
            let mixed = sums[index % LANES] ^ u32::from_le_bytes(*value);
            sums[index % LANES] = mixed.wrapping_mul(FNV_PRIME) ^ (mixed >> 17);
        }
        let folded = sums.iter().fold(0, |folded, sum| folded ^ sum) ^ block_number;
        u16::try_from(folded % 65_535 + 1).unwrap()
    }

    fn scrambled(seed: u64) -> Page {
        let mut state = seed;
        std::array::from_fn(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            state.to_le_bytes()[7]
        })
    }

    #[test]
    fn all_variants_agree_with_the_description() {
        for seed in 0..50 {
            let page = scrambled(seed);
            let block_number = u32::from_le_bytes([page[0], page[1], page[2], page[3]]);
            let expected = by_the_book(&page, block_number);
            assert_eq!(checksum(&page, block_number), expected);
            assert_eq!(fold(&portable_lanes(&page), block_number), expected);
            #[cfg(target_arch = "x86_64")]
            if is_x86_feature_detected!("avx2") {
                #[expect(unsafe_code, reason = "as in lanes")]
                // SAFETY: the processor has the features that the function is compiled for.
                let sums = unsafe { lanes_avx2(&page) };
                assert_eq!(fold(&sums, block_number), expected);
            }
        }
    }

    #[test]
    fn the_carried_checksum_does_not_count_and_every_other_byte_does() {
        let page = scrambled(1);
        let expected = checksum(&page, 0);
        for index in 0..PAGE_SIZE {
            let mut changed = page;
            changed[index] ^= 0x40;
            assert_eq!(checksum(&changed, 0) == expected, (8..10).contains(&index), "byte {index}");
        }
    }
}
