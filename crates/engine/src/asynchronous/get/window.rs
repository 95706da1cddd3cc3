//! What is fetched ahead: a value that says what is next.

use std::collections::BTreeSet;

use pgark_postgres::wal::name::SegmentName;

use super::route::Route;

/// The segments that recovery is going to ask for, as far as there is room for them.
#[derive(Debug)]
pub(super) struct Window {
    /// The first that has not been looked at.
    next: Option<SegmentName>,
    route: Route,
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
    /// Begins with the segment `first` and goes on by `route`; so many may be there or under way.
    pub(super) fn new(first: SegmentName, route: Route, capacity: usize) -> Self {
        Self { next: Some(first), route, capacity, under_way: BTreeSet::new() }
    }

    /// The way that it goes.
    pub(super) fn route(&self) -> &Route {
        &self.route
    }

    /// What comes next, where these segments are there, and others are fetched by somebody else.
    pub(super) fn next(
        &mut self,
        present: &BTreeSet<SegmentName>,
        is_fetched_elsewhere: impl Fn(SegmentName) -> bool,
    ) -> Next {
        while let Some(segment) = self.next {
            if present.contains(&segment) || is_fetched_elsewhere(segment) {
                self.next = self.route.after(segment);
                continue;
            }
            if present.union(&self.under_way).count() >= self.capacity {
                return Next::Full;
            }
            self.next = self.route.after(segment);
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
        self.leave();
    }

    /// Takes note that recovery does not go this way: nothing more of it is of use.
    pub(super) fn leave(&mut self) {
        self.next = None;
    }
}

#[cfg(test)]
mod tests {
    use pgark_postgres::wal::name::SegmentSize;

    use super::*;

    fn segment(number: u32) -> SegmentName {
        format!("0000000100000000{number:08X}").parse().unwrap()
    }

    fn segments(numbers: &[u32]) -> BTreeSet<SegmentName> {
        numbers.iter().map(|number| segment(*number)).collect()
    }

    fn window(capacity: usize) -> Window {
        let first = segment(0xFE);
        Window::new(first, Route::past(first, SegmentSize::DEFAULT, []), capacity)
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
}
