//! Sets of pages of one file.

use std::fmt;
use std::ops::Range;

/// Pages of a file, as ranges that ascend and do not touch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PageSet {
    ranges: Vec<Range<u32>>,
}

impl PageSet {
    /// The pages from 0 up to a number of them.
    pub fn all(pages: u32) -> Self {
        std::iter::once(0..pages).collect()
    }

    /// The ranges, ascending and apart.
    pub fn ranges(&self) -> &[Range<u32>] {
        &self.ranges
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// How many pages there are.
    pub fn count(&self) -> u32 {
        self.ranges.iter().map(|range| range.end - range.start).sum()
    }

    /// Whether `page` is one of them.
    pub fn contains(&self, page: u32) -> bool {
        self.from(page).first().is_some_and(|range| range.start <= page)
    }

    /// How many of them lie in `range`.
    pub fn count_in(&self, range: Range<u32>) -> u32 {
        let ranges = self.from(range.start).iter().take_while(|own| own.start < range.end);
        ranges.map(|own| own.end.min(range.end) - own.start.max(range.start)).sum()
    }

    /// Those that lie in `range`.
    #[must_use]
    pub fn within(&self, range: &Range<u32>) -> Self {
        let ranges = self.from(range.start).iter().take_while(|own| own.start < range.end);
        ranges.map(|own| own.start.max(range.start)..own.end.min(range.end)).collect()
    }

    /// These and the others.
    #[must_use]
    pub fn union(&self, others: &Self) -> Self {
        if others.is_empty() {
            return self.clone();
        }
        let mut ranges: Vec<_> = self.ranges.iter().chain(&others.ranges).cloned().collect();
        ranges.sort_unstable_by_key(|range| range.start);
        ranges.into_iter().collect()
    }

    /// The ranges that end after `page`.
    fn from(&self, page: u32) -> &[Range<u32>] {
        let first = self.ranges.partition_point(|range| range.end <= page);
        &self.ranges[first..]
    }
}

impl FromIterator<Range<u32>> for PageSet {
    /// From ranges in the order of their starts; they may touch, overlap or be empty.
    fn from_iter<I: IntoIterator<Item = Range<u32>>>(ranges: I) -> Self {
        let mut set = Self::default();
        for range in ranges.into_iter().filter(|range| range.start < range.end) {
            match set.ranges.last_mut() {
                Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
                _ => set.ranges.push(range),
            }
        }
        set
    }
}

impl fmt::Display for PageSet {
    /// As `0-15, 20`; `none`.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.ranges.is_empty() {
            return formatter.write_str("none");
        }
        for (index, range) in self.ranges.iter().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            match range.end - 1 {
                last if last == range.start => write!(formatter, "{comma}{last}")?,
                last => write!(formatter, "{comma}{}-{last}", range.start)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn set() -> impl Strategy<Value = PageSet> {
        proptest::collection::vec((0_u32..200, 0_u32..30), 0..12).prop_map(|mut ranges| {
            ranges.sort_unstable();
            ranges.into_iter().map(|(first, count)| first..first + count).collect()
        })
    }

    fn pages(set: &PageSet) -> BTreeSet<u32> {
        set.ranges().iter().cloned().flatten().collect()
    }

    proptest! {
        #[test]
        fn sets_are_what_their_pages_are(one in set(), other in set(), first in 0_u32..250, count in 0_u32..50) {
            let expected = pages(&one);
            prop_assert_eq!(one.count() as usize, expected.len());
            prop_assert_eq!(one.contains(first), expected.contains(&first));
            let range = first..first + count;
            let within: BTreeSet<u32> = expected.iter().copied().filter(|page| range.contains(page)).collect();
            prop_assert_eq!(one.count_in(range.clone()) as usize, within.len());
            prop_assert_eq!(pages(&one.within(&range)), within);
            prop_assert_eq!(pages(&one.union(&other)), &expected | &pages(&other));
            let apart = one.ranges().windows(2).all(|pair| pair[0].end < pair[1].start);
            prop_assert!(apart);
        }
    }

    #[test]
    fn sets_can_be_read() {
        assert_eq!(PageSet::default().to_string(), "none");
        let set: PageSet = [0..3, 3..4, 9..10].into_iter().collect();
        assert_eq!(set.to_string(), "0-3, 9");
    }
}
