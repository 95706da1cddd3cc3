//! Which numbers are there, as ranges: a year of WAL segments takes no room.

use std::ops::RangeInclusive;

/// Numbers as ranges that ascend and are apart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Runs(Vec<RangeInclusive<u64>>);

impl Runs {
    /// Adds a number. They may come in any order, but cost little only where they ascend.
    pub(crate) fn add(&mut self, number: u64) {
        match self.0.last_mut() {
            Some(last) if last.end().checked_add(1) == Some(number) => *last = *last.start()..=number,
            Some(last) if number <= *last.end() => self.insert(number),
            _ => self.0.push(number..=number),
        }
    }

    fn insert(&mut self, number: u64) {
        if self.contains(number) {
            return;
        }
        let place = self.0.partition_point(|run| *run.end() < number);
        self.0.insert(place, number..=number);
        let mut joined: Vec<RangeInclusive<u64>> = Vec::with_capacity(self.0.len());
        for run in self.0.drain(..) {
            match joined.last_mut() {
                Some(last) if last.end().checked_add(1) == Some(*run.start()) => *last = *last.start()..=*run.end(),
                _ => joined.push(run),
            }
        }
        self.0 = joined;
    }

    /// The ranges.
    pub(crate) fn ranges(&self) -> &[RangeInclusive<u64>] {
        &self.0
    }

    /// The greatest number.
    pub(crate) fn last(&self) -> Option<u64> {
        self.0.last().map(|run| *run.end())
    }

    /// How many numbers.
    pub(crate) fn count(&self) -> u64 {
        self.0.iter().map(|run| run.end() - run.start() + 1).sum()
    }

    /// Whether a number is there.
    pub(crate) fn contains(&self, number: u64) -> bool {
        let place = self.0.partition_point(|run| *run.end() < number);
        self.0.get(place).is_some_and(|run| run.contains(&number))
    }

    /// The numbers of a range that are there.
    pub(crate) fn within(&self, wanted: &RangeInclusive<u64>) -> Vec<RangeInclusive<u64>> {
        let cut = |run: &RangeInclusive<u64>| *run.start().max(wanted.start())..=*run.end().min(wanted.end());
        self.0.iter().map(cut).filter(|run| !run.is_empty()).collect()
    }

    /// The numbers of a range that are not there.
    pub(crate) fn missing(&self, wanted: RangeInclusive<u64>) -> Vec<RangeInclusive<u64>> {
        let (mut next, end) = wanted.into_inner();
        let mut missing = Vec::new();
        for run in &self.0[self.0.partition_point(|run| *run.end() < next)..] {
            if next > end || *run.start() > end {
                break;
            }
            if next < *run.start() {
                missing.push(next..=run.start() - 1);
            }
            match run.end().checked_add(1) {
                Some(after) => next = after,
                None => return missing,
            }
        }
        if next <= end {
            missing.push(next..=end);
        }
        missing
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn they_are_what_a_set_is(
            numbers in proptest::collection::vec(0_u64..60, 0..60),
            first in 0_u64..60,
            more in 0_u64..60,
        ) {
            let mut runs = Runs::default();
            for number in &numbers {
                runs.add(*number);
            }
            let set: BTreeSet<u64> = numbers.into_iter().collect();
            prop_assert_eq!(runs.ranges().iter().cloned().flatten().collect::<Vec<_>>(), Vec::from_iter(set.clone()));
            prop_assert!(runs.ranges().windows(2).all(|pair| pair[0].end() + 1 < *pair[1].start()));
            prop_assert_eq!((runs.count(), runs.last()), (set.len() as u64, set.last().copied()));
            let missing: Vec<u64> = runs.missing(first..=first + more).into_iter().flatten().collect();
            let expected: Vec<u64> = (first..=first + more).filter(|number| !set.contains(number)).collect();
            prop_assert_eq!(missing, expected);
            prop_assert_eq!(runs.contains(first), set.contains(&first));
        }
    }
}
