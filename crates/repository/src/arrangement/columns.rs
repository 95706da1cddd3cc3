//! Rows of a few bytes, put column by column. The loops are written for the compiler to turn into vector code, and compiled
//! for more than one processor.

/// Leaves the columns of rows of `WIDTH` bytes in `columns`, one after the other, and after them what is left of `plain`.
pub(super) fn split<const WIDTH: usize>(plain: &[u8], columns: &mut Vec<u8>) {
    columns.resize(plain.len(), 0);
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") {
        #[expect(unsafe_code, reason = "the only way to call code compiled for a processor found at run time")]
        // SAFETY: the processor has the features that the function is compiled for.
        return unsafe { split_avx2::<WIDTH>(plain, columns) };
    }
    portable_split::<WIDTH>(plain, columns);
}

/// Puts rows together again from their columns. Both are of the same length.
pub(super) fn merge<const WIDTH: usize>(columns: &[u8], plain: &mut [u8]) {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") {
        #[expect(unsafe_code, reason = "the only way to call code compiled for a processor found at run time")]
        // SAFETY: the processor has the features that the function is compiled for.
        return unsafe { merge_avx2::<WIDTH>(columns, plain) };
    }
    portable_merge::<WIDTH>(columns, plain);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn split_avx2<const WIDTH: usize>(plain: &[u8], columns: &mut [u8]) {
    portable_split::<WIDTH>(plain, columns);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn merge_avx2<const WIDTH: usize>(columns: &[u8], plain: &mut [u8]) {
    portable_merge::<WIDTH>(columns, plain);
}

#[inline(always)]
#[expect(clippy::inline_always, reason = "it is compiled into each of its callers, with their processor's features")]
fn portable_split<const WIDTH: usize>(plain: &[u8], columns: &mut [u8]) {
    let (rows, rest) = plain.as_chunks::<WIDTH>();
    let (mut columns, left) = columns.split_at_mut(rows.len() * WIDTH);
    left.copy_from_slice(rest);
    let columns: [&mut [u8]; WIDTH] = std::array::from_fn(|_| {
        let (column, others) = std::mem::take(&mut columns).split_at_mut(rows.len());
        columns = others;
        column
    });
    for (number, row) in rows.iter().enumerate() {
        for column in 0..WIDTH {
            columns[column][number] = row[column];
        }
    }
}

#[inline(always)]
#[expect(clippy::inline_always, reason = "as portable_split")]
fn portable_merge<const WIDTH: usize>(columns: &[u8], plain: &mut [u8]) {
    let (rows, rest) = plain.as_chunks_mut::<WIDTH>();
    let (columns, left) = columns.split_at(rows.len() * WIDTH);
    rest.copy_from_slice(left);
    let columns: [&[u8]; WIDTH] = std::array::from_fn(|column| &columns[column * rows.len()..][..rows.len()]);
    for (number, row) in rows.iter_mut().enumerate() {
        for column in 0..WIDTH {
            row[column] = columns[column][number];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_put_column_by_column_and_what_is_left_at_the_end() {
        let mut columns = vec![9; 100];
        split::<4>(b"abcdABCDxyz", &mut columns);
        assert_eq!(columns, b"aAbBcCdDxyz");
        split::<8>(b"abcdefg", &mut columns);
        assert_eq!(columns, b"abcdefg");
    }

    #[test]
    fn every_length_comes_back_whatever_the_processor() {
        fn check<const WIDTH: usize>(plain: &[u8]) {
            let mut columns = Vec::new();
            split::<WIDTH>(plain, &mut columns);
            let mut portable = vec![0; plain.len()];
            portable_split::<WIDTH>(plain, &mut portable);
            assert_eq!(columns, portable);
            let mut back = vec![0; plain.len()];
            merge::<WIDTH>(&columns, &mut back);
            assert_eq!(back, plain);
            portable_merge::<WIDTH>(&columns, &mut back);
            assert_eq!(back, plain);
        }
        let bytes: Vec<u8> = (0..9000_u32).map(|number| u8::try_from(number * number % 251).unwrap()).collect();
        for length in (0..300).chain(8180..8200) {
            check::<4>(&bytes[..length]);
            check::<8>(&bytes[..length]);
        }
    }
}
