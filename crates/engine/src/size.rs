//! Sizes and places in words, for people.

/// A size in bytes as pgBackRest writes it: powers of 1024, one decimal unless it is 0.
pub fn human_size(bytes: u64) -> String {
    const UNITS: [(u64, &str); 3] = [(1 << 30, "GB"), (1 << 20, "MB"), (1 << 10, "KB")];
    let Some((divisor, unit)) = UNITS.into_iter().find(|(divisor, _)| bytes >= *divisor) else {
        return format!("{bytes}B");
    };
    let tenths = (u128::from(bytes) * 10 + u128::from(divisor) / 2) / u128::from(divisor);
    match tenths % 10 {
        0 => format!("{}{unit}", tenths / 10),
        decimal => format!("{}.{decimal}{unit}", tenths / 10),
    }
}

/// So many pages of a file from the first on: `page 4`, `pages 0-15`.
pub(crate) fn pages(first: u32, count: u32) -> String {
    match count {
        1 => format!("page {first}"),
        _ => format!("pages {first}-{}", (u64::from(first) + u64::from(count)).saturating_sub(1)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_told_as_ranges() {
        assert_eq!(pages(4, 1), "page 4");
        assert_eq!(pages(0, 16), "pages 0-15");
        assert_eq!(pages(u32::MAX, 2), "pages 4294967295-4294967296");
        assert_eq!(pages(0, 0), "pages 0-0");
    }

    #[test]
    fn sizes_have_a_decimal_where_it_says_something() {
        for (bytes, text) in [
            (0, "0B"),
            (1023, "1023B"),
            (1024, "1KB"),
            (1536, "1.5KB"),
            (59_559_117, "56.8MB"),
            (1 << 30, "1GB"),
            (5 << 40, "5120GB"),
            (u64::MAX, "17179869184GB"),
        ] {
            assert_eq!(human_size(bytes), text, "{bytes}");
        }
    }
}
