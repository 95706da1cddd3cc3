//! Sizes for people.

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

#[cfg(test)]
mod tests {
    use super::*;

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
