//! The names of files in `pg_wal` and in the archive, and the arithmetic between segments and positions
//! (PostgreSQL `src/include/access/xlog_internal.h`).

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

use crate::Lsn;

/// A timeline: one line of history of a cluster. A promotion begins the next one. Written in decimal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timeline(pub u32);

impl Timeline {
    /// The name of the history file of this timeline, as in `00000002.history`.
    pub fn history_file_name(self) -> String {
        format!("{:08X}.history", self.0)
    }
}

impl fmt::Display for Timeline {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.0)
    }
}

/// The size of the WAL segments of a cluster: a power of two from 1 MiB to 1 GiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SegmentSize(u32);

/// The number is no size that a WAL segment can have.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("{0} bytes is not a WAL segment size: it is a power of two from 1 MiB to 1 GiB")]
pub struct InvalidSegmentSize(pub u64);

impl SegmentSize {
    /// 16 MiB, the size unless `initdb --wal-segsize` says otherwise.
    pub const DEFAULT: Self = Self(16 << 20);

    /// The size of `bytes`, if a segment can have it.
    pub fn new(bytes: u64) -> Result<Self, InvalidSegmentSize> {
        let size = u32::try_from(bytes).map_err(|_| InvalidSegmentSize(bytes))?;
        let is_valid = size.is_power_of_two() && (1 << 20..=1 << 30).contains(&size);
        is_valid.then_some(Self(size)).ok_or(InvalidSegmentSize(bytes))
    }

    /// The size in bytes.
    pub fn bytes(self) -> u32 {
        self.0
    }

    /// The number of the segment that holds the byte at `lsn`.
    pub fn segment_of(self, lsn: Lsn) -> u64 {
        lsn.0 / u64::from(self.0)
    }

    /// The number of the segment that holds the byte before `lsn`: the last one needed to read up to an end position.
    pub fn segment_before(self, lsn: Lsn) -> u64 {
        self.segment_of(Lsn(lsn.0.saturating_sub(1)))
    }

    /// How far `lsn` lies behind the start of its segment, in bytes.
    pub fn offset_of(self, lsn: Lsn) -> u32 {
        // The size is a power of two, so that the low half is enough.
        (lsn.0 & 0xFFFF_FFFF) as u32 % self.0
    }

    /// Where the segment `number` begins, or `None` past the end of the 64-bit range.
    pub fn start_of(self, number: u64) -> Option<Lsn> {
        number.checked_mul(u64::from(self.0)).map(Lsn)
    }

    /// How many segments share the high half of a position.
    fn segments_for_each_high_half(self) -> u64 {
        (1 << 32) / u64::from(self.0)
    }
}

/// The name of a WAL segment: 24 hexadecimal digits, 8 each for timeline, high half and low half.
///
/// The low half counts segments, so it takes the segment size to turn a name into a position.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SegmentName {
    /// The timeline.
    pub timeline: Timeline,
    high: u32,
    low: u32,
}

impl SegmentName {
    /// The name of segment `number` of `timeline`, or `None` past the end of the 64-bit range of positions.
    pub fn new(timeline: Timeline, number: u64, size: SegmentSize) -> Option<Self> {
        let high = u32::try_from(number / size.segments_for_each_high_half()).ok()?;
        let low = u32::try_from(number % size.segments_for_each_high_half()).ok()?;
        Some(Self { timeline, high, low })
    }

    /// The segment of `timeline` that holds the byte at `lsn`.
    pub fn of_lsn(timeline: Timeline, lsn: Lsn, size: SegmentSize) -> Self {
        Self { timeline, high: (lsn.0 >> 32) as u32, low: (lsn.0 & 0xFFFF_FFFF) as u32 / size.bytes() }
    }

    /// The number of the segment from the beginning of the WAL; `None` if no cluster with segments of `size` has it.
    pub fn number(self, size: SegmentSize) -> Option<u64> {
        let low = u64::from(self.low);
        (low < size.segments_for_each_high_half())
            .then(|| u64::from(self.high) * size.segments_for_each_high_half() + low)
    }

    /// Where the segment begins; `None` if no cluster with segments of `size` has it.
    pub fn start(self, size: SegmentSize) -> Option<Lsn> {
        self.number(size).and_then(|number| size.start_of(number))
    }

    /// The segment after this one on the same timeline.
    pub fn next(self, size: SegmentSize) -> Option<Self> {
        Self::new(self.timeline, self.number(size)?.checked_add(1)?, size)
    }

    /// The segment before this one on the same timeline.
    pub fn previous(self, size: SegmentSize) -> Option<Self> {
        Self::new(self.timeline, self.number(size)?.checked_sub(1)?, size)
    }

    /// What orders segments by where they lie in the WAL, whatever their timeline: both halves of the number.
    pub fn place(self) -> (u32, u32) {
        (self.high, self.low)
    }

    /// The first 16 digits: the directory of the archive that holds the segment.
    pub fn directory(self) -> String {
        format!("{:08X}{:08X}", self.timeline.0, self.high)
    }
}

impl fmt::Display for SegmentName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:08X}{:08X}{:08X}", self.timeline.0, self.high, self.low)
    }
}

/// The text is not the name of a WAL file.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error(
    "'{0}' is not the name of a WAL file: one is 24 hexadecimal digits in upper case, alone or before '.partial' \
     or '.<8 digits>.backup', or 8 digits before '.history'"
)]
pub struct InvalidWalFileName(pub String);

impl FromStr for SegmentName {
    type Err = InvalidWalFileName;

    fn from_str(text: &str) -> Result<Self, InvalidWalFileName> {
        let part = |range: std::ops::Range<usize>| text.get(range).and_then(hexadecimal);
        let name = (text.len() == 24)
            .then(|| Some(Self { timeline: Timeline(part(0..8)?), high: part(8..16)?, low: part(16..24)? }));
        name.flatten().ok_or_else(|| InvalidWalFileName(text.to_owned()))
    }
}

/// Any file that PostgreSQL hands to `archive_command`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum WalFileName {
    /// A segment.
    Segment(SegmentName),
    /// The last segment of an old timeline, archived at a promotion as far as it was written.
    Partial(SegmentName),
    /// The history of a timeline.
    History(Timeline),
    /// The history file of a backup, named after the segment and the offset where the backup began.
    BackupHistory {
        /// The segment where the backup began.
        segment: SegmentName,
        /// The start of the backup as an offset in the segment, in bytes.
        offset: u32,
    },
}

impl fmt::Display for WalFileName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Segment(segment) => write!(formatter, "{segment}"),
            Self::Partial(segment) => write!(formatter, "{segment}.partial"),
            Self::History(timeline) => formatter.write_str(&timeline.history_file_name()),
            Self::BackupHistory { segment, offset } => write!(formatter, "{segment}.{offset:08X}.backup"),
        }
    }
}

impl FromStr for WalFileName {
    type Err = InvalidWalFileName;

    fn from_str(text: &str) -> Result<Self, InvalidWalFileName> {
        let invalid = || InvalidWalFileName(text.to_owned());
        let segment = |name: &str| name.parse().map_err(|_| invalid());
        let Some((stem, suffix)) = text.split_once('.') else {
            return Ok(Self::Segment(segment(text)?));
        };
        match suffix {
            "partial" => Ok(Self::Partial(segment(stem)?)),
            "history" => hexadecimal(stem).map(|number| Self::History(Timeline(number))).ok_or_else(invalid),
            _ => {
                let offset = suffix.strip_suffix(".backup").and_then(hexadecimal).ok_or_else(invalid)?;
                Ok(Self::BackupHistory { segment: segment(stem)?, offset })
            }
        }
    }
}

/// Eight hexadecimal digits in upper case, as PostgreSQL writes and accepts them.
pub(super) fn hexadecimal(digits: &str) -> Option<u32> {
    let is_number = digits.len() == 8 && digits.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'A'..=b'F'));
    is_number.then(|| u32::from_str_radix(digits, 16).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_go_both_ways() {
        for text in [
            "000000010000000000000001",
            "0000000A000000FF0000003F",
            "000000010000000000000001.partial",
            "00000002.history",
            "000000010000000000000005.00000028.backup",
        ] {
            assert_eq!(text.parse::<WalFileName>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn other_names_are_refused() {
        for text in [
            "",
            "00000001000000000000000",
            "0000000100000000000000011",
            "00000001000000000000000g",
            "00000001000000000000000a",
            "000000010000000000000001.",
            "000000010000000000000001.part",
            "000000010000000000000001.00000028",
            "000000010000000000000001.0028.backup",
            "000000010000000000000001.00000028.backup.gz",
            "1.history",
            "000000010000000000000001.history",
            "+0000001.history",
        ] {
            assert!(text.parse::<WalFileName>().is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_are_powers_of_two_in_the_range() {
        for shift in 20..=30 {
            assert_eq!(SegmentSize::new(1 << shift).unwrap().bytes(), 1 << shift);
        }
        for bytes in [0, 1, 1 << 19, (1 << 20) + 1, 3 << 20, 1 << 31, 1 << 32, u64::MAX] {
            assert_eq!(SegmentSize::new(bytes), Err(InvalidSegmentSize(bytes)));
        }
    }

    #[test]
    fn the_low_half_rolls_over_into_the_high_half() {
        let size = SegmentSize::DEFAULT;
        let name: SegmentName = "0000000100000000000000FF".parse().unwrap();
        assert_eq!(name.next(size).unwrap().to_string(), "000000010000000100000000");
        assert_eq!(name.next(size).unwrap().previous(size), Some(name));
        assert_eq!(name.directory(), "0000000100000000");
        assert_eq!("000000010000000000000000".parse::<SegmentName>().unwrap().previous(size), None);
        assert_eq!("00000001FFFFFFFF000000FF".parse::<SegmentName>().unwrap().next(size), None);
        // A cluster with segments of 16 MiB has no segment 0x100 below a high half.
        assert_eq!("000000010000000000000100".parse::<SegmentName>().unwrap().number(size), None);
    }

    #[test]
    fn a_boundary_belongs_to_the_segment_that_it_begins() {
        let size = SegmentSize::DEFAULT;
        assert_eq!(size.segment_of(Lsn(0x0200_0000)), 2);
        assert_eq!(size.segment_before(Lsn(0x0200_0000)), 1);
        assert_eq!(size.segment_before(Lsn(0x0200_0001)), 2);
        assert_eq!(size.offset_of(Lsn(0x0200_0028)), 0x28);
    }

    proptest! {
        #[test]
        fn any_position_has_one_name(lsn: u64, timeline: u32, shift in 20..=30_u32) {
            let size = SegmentSize::new(1 << shift).unwrap();
            let name = SegmentName::of_lsn(Timeline(timeline), Lsn(lsn), size);
            prop_assert_eq!(name.to_string().parse(), Ok(name));
            prop_assert_eq!(name.number(size), Some(size.segment_of(Lsn(lsn))));
            prop_assert_eq!(SegmentName::new(Timeline(timeline), size.segment_of(Lsn(lsn)), size), Some(name));
            prop_assert_eq!(name.start(size).unwrap().0 + u64::from(size.offset_of(Lsn(lsn))), lsn);
        }

        #[test]
        fn any_text_is_parsed_or_refused(text in ".{0,60}") {
            if let Ok(name) = text.parse::<WalFileName>() {
                prop_assert_eq!(name.to_string(), text);
            }
        }
    }
}
