//! What is fetched ahead: a value that says what is next.

use std::collections::BTreeSet;

use pgark_postgres::wal::name::{SegmentName, SegmentSize};

/// The segments that recovery is going to ask for, as far as there is room for them.
#[derive(Debug)]
pub(super) struct Window {
    /// The first that has not been looked at.
    next: Option<SegmentName>,
    size: SegmentSize,
    capacity: usize,
    under_way: BTreeSet<SegmentName>,
}

/// What is to be done next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// This segment is fetched.
    Fetch(SegmentName),
    /// There is no room.
    Full,
    /// There is nothing more to fetch.
    Ended,
}

impl Window {
    /// Begins with the segment `first`; so many may be there or under way.
    pub(super) fn new(first: SegmentName, size: SegmentSize, capacity: usize) -> Self {
        Self { next: Some(first), size, capacity, under_way: BTreeSet::new() }
    }

    /// What comes next, where these segments are there, and others are fetched by somebody else.
    pub(super) fn next(
        &mut self,
        present: &BTreeSet<SegmentName>,
        is_fetched_elsewhere: impl Fn(SegmentName) -> bool,
    ) -> Next {
        while let Some(segment) = self.next {
            if present.contains(&segment) || is_fetched_elsewhere(segment) {
                self.next = segment.next(self.size);
                continue;
            }
            if present.union(&self.under_way).count() >= self.capacity {
                return Next::Full;
            }
            self.next = segment.next(self.size);
            self.under_way.insert(segment);
            return Next::Fetch(segment);
        }
        Next::Ended
    }

    /// Takes note that a segment is there.
    pub(super) fn fetched(&mut self, segment: SegmentName) {
        self.under_way.remove(&segment);
    }

    /// Takes note that a segment is absent or can't be fetched: nothing after it is of use.
    pub(super) fn end(&mut self, segment: SegmentName) {
        self.under_way.remove(&segment);
        self.next = None;
    }
}

/// Of the segments that are there, those that a recovery which asks for `next` now is not going to ask for soon: older
/// ones, those of other timelines, and those too far ahead.
pub(super) fn obsolete(
    present: &BTreeSet<SegmentName>,
    next: SegmentName,
    size: SegmentSize,
    capacity: usize,
) -> BTreeSet<SegmentName> {
    let number = |segment: SegmentName| segment.number(size);
    let Some(first) = number(next) else { return present.clone() };
    let wanted = first..first.saturating_add(capacity as u64);
    let is_wanted = |segment: &SegmentName| {
        segment.timeline == next.timeline && number(*segment).is_some_and(|number| wanted.contains(&number))
    };
    present.iter().filter(|segment| !is_wanted(segment)).copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(number: u32) -> SegmentName {
        format!("0000000100000000{number:08X}").parse().unwrap()
    }

    fn segments(numbers: &[u32]) -> BTreeSet<SegmentName> {
        numbers.iter().map(|number| segment(*number)).collect()
    }

    fn window(capacity: usize) -> Window {
        Window::new(segment(0xFE), SegmentSize::DEFAULT, capacity)
    }

    #[test]
    fn segments_are_fetched_in_their_order_as_long_as_there_is_room() {
        let mut window = window(2);
        let mut present = BTreeSet::new();
        assert_eq!(window.next(&present, |_| false), Next::Fetch(segment(0xFE)));
        assert_eq!(window.next(&present, |_| false), Next::Fetch(segment(0xFF)));
        assert_eq!(window.next(&present, |_| false), Next::Full);
        window.fetched(segment(0xFE));
        present.insert(segment(0xFE));
        assert_eq!(window.next(&present, |_| false), Next::Full);
        // Recovery takes it.
        present.clear();
        let next: SegmentName = "000000010000000100000000".parse().unwrap();
        assert_eq!(window.next(&present, |_| false), Next::Fetch(next));
    }

    #[test]
    fn what_is_there_or_fetched_by_others_is_not_fetched() {
        let mut window = window(8);
        let present = segments(&[0xFE]);
        let next: SegmentName = "000000010000000100000000".parse().unwrap();
        assert_eq!(window.next(&present, |other| other == segment(0xFF)), Next::Fetch(next));
    }

    #[test]
    fn nothing_is_fetched_past_a_segment_that_is_absent() {
        let mut window = window(8);
        for number in [0xFE, 0xFF] {
            assert_eq!(window.next(&BTreeSet::new(), |_| false), Next::Fetch(segment(number)));
        }
        window.end(segment(0xFE));
        assert_eq!(window.next(&BTreeSet::new(), |_| false), Next::Ended);
    }

    #[test]
    fn what_recovery_does_not_ask_for_is_obsolete() {
        let other: SegmentName = "000000020000000000000006".parse().unwrap();
        let mut present = segments(&[3, 4, 5, 6, 7, 8]);
        present.insert(other);
        let mut expected = segments(&[3, 4, 8]);
        expected.insert(other);
        assert_eq!(obsolete(&present, segment(5), SegmentSize::DEFAULT, 3), expected);
    }
}
