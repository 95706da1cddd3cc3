//! Which compression `compress-type` and `compress-level` stand for.

use std::ops::RangeInclusive;

use crate::configuration::Configuration;
use crate::option;

/// How new data is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    None,
    /// With lz4, which has one level.
    Lz4,
    /// With Zstandard.
    Zstd {
        /// From -7 (fast) to 22 (small).
        level: i32,
    },
}

/// The level of Zstandard where none is set.
const ZSTD_LEVEL: i32 = 3;

/// The levels that a compress-type has.
pub(crate) fn levels(kind: &str) -> Option<RangeInclusive<i64>> {
    match kind {
        "bz2" => Some(1..=9),
        "gz" => Some(-1..=9),
        "lz4" => Some(-5..=12),
        "zst" => Some(-7..=22),
        _ => None,
    }
}

impl Configuration {
    /// How new data is compressed. For the commands that store data: archive-push and backup.
    ///
    /// # Panics
    /// For any other command.
    pub fn compression(&self) -> Compression {
        let switched_off = !self.is_set(&option::COMPRESS_TYPE) && !self.boolean(&option::COMPRESS);
        let kind = if switched_off { "none" } else { self.text(&option::COMPRESS_TYPE) };
        match kind {
            "none" => Compression::None,
            "lz4" => Compression::Lz4,
            "zst" => {
                let level = self.optional_integer(&option::COMPRESS_LEVEL);
                Compression::Zstd { level: level.and_then(|level| level.try_into().ok()).unwrap_or(ZSTD_LEVEL) }
            }
            // The types that are taken but not written: a level of theirs means something else.
            _ => Compression::Zstd { level: ZSTD_LEVEL },
        }
    }
}
