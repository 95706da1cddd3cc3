//! Timeline history files, and the path of timelines that leads to a target
//! (PostgreSQL `src/backend/access/transam/timeline.c`).

use thiserror::Error;

use super::name::{SegmentName, SegmentSize, Timeline};
use crate::Lsn;

/// One promotion: where a timeline ended and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Switch {
    /// The timeline that ended.
    pub timeline: Timeline,
    /// Where it ended: the first position that belongs to the timeline after it.
    pub lsn: Lsn,
    /// The reason as the server wrote it, as in `no recovery target specified`.
    pub reason: String,
}

/// A timeline as a part of the path to a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// The timeline.
    pub timeline: Timeline,
    /// Its first position on the path; `Lsn::INVALID` for the oldest one.
    pub start: Lsn,
    /// The position after its last; `None` for the target, which has no end that the file knows of.
    pub end: Option<Lsn>,
}

/// What the history file of a timeline says: the timelines before it and where each one ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimelineHistory {
    timeline: Timeline,
    switches: Vec<Switch>,
}

/// The history file is damaged, or is not one.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum HistoryError {
    /// A line does not hold a timeline and a position.
    #[error("line {line} of the history of timeline {timeline} is not a timeline and a WAL position: '{text}'")]
    Syntax {
        /// The timeline whose history it is.
        timeline: Timeline,
        /// The number of the line, from 1.
        line: usize,
        /// The line.
        text: String,
    },
    /// Timelines or positions go back from one line to the next.
    #[error("line {line} of the history of timeline {timeline} goes back: timelines and WAL positions must increase")]
    Order {
        /// The timeline whose history it is.
        timeline: Timeline,
        /// The number of the line, from 1.
        line: usize,
    },
}

impl TimelineHistory {
    /// The history of a timeline that has no history file: it begins with itself, as timeline 1 does.
    pub fn without_ancestors(timeline: Timeline) -> Self {
        Self { timeline, switches: Vec::new() }
    }

    /// Reads the text of the history file of `timeline`: lines of timeline, position and reason, separated by tabs;
    /// empty lines and lines that begin with `#` say nothing.
    pub fn parse(timeline: Timeline, text: &str) -> Result<Self, HistoryError> {
        let mut switches: Vec<Switch> = Vec::new();
        for (index, text) in text.lines().enumerate() {
            let content = text.trim();
            if content.is_empty() || content.starts_with('#') {
                continue;
            }
            let line = index + 1;
            let syntax = || HistoryError::Syntax { timeline, line, text: text.to_owned() };
            let switch = parse_line(content).ok_or_else(syntax)?;
            let follows = switches.last().is_none_or(|last| last.timeline < switch.timeline && last.lsn <= switch.lsn);
            if !follows || switch.timeline >= timeline {
                return Err(HistoryError::Order { timeline, line });
            }
            switches.push(switch);
        }
        Ok(Self { timeline, switches })
    }

    /// The timeline whose history this is.
    pub fn timeline(&self) -> Timeline {
        self.timeline
    }

    /// Every promotion on the way, oldest first.
    pub fn switches(&self) -> &[Switch] {
        &self.switches
    }

    /// The path from the oldest timeline to this one.
    pub fn path(&self) -> Vec<Span> {
        let mut start = Lsn::INVALID;
        let mut path = Vec::with_capacity(self.switches.len() + 1);
        for switch in &self.switches {
            path.push(Span { timeline: switch.timeline, start, end: Some(switch.lsn) });
            start = switch.lsn;
        }
        path.push(Span { timeline: self.timeline, start, end: None });
        path
    }

    /// Whether `timeline` is this one or one of its ancestors.
    pub fn contains(&self, timeline: Timeline) -> bool {
        timeline == self.timeline || self.switch_of(timeline).is_some()
    }

    /// Where `timeline` was left for the next one on the path; `None` for the target and for timelines off the path.
    pub fn switch_of(&self, timeline: Timeline) -> Option<Lsn> {
        self.switches.iter().find(|switch| switch.timeline == timeline).map(|switch| switch.lsn)
    }

    /// Where this path and that to another timeline part: up to there both have the same WAL.
    pub fn parts_from(&self, other: &Self) -> Lsn {
        let end = |span: &Span| span.end.unwrap_or(Lsn(u64::MAX));
        let mut common = Lsn::INVALID;
        for (one, other) in self.path().iter().zip(other.path().iter()) {
            if one.timeline != other.timeline {
                break;
            }
            common = end(one).min(end(other));
            if one.end != other.end {
                break;
            }
        }
        common
    }

    /// The timeline on which the byte at `lsn` was written.
    pub fn timeline_at(&self, lsn: Lsn) -> Timeline {
        self.switches.iter().find(|switch| lsn < switch.lsn).map_or(self.timeline, |switch| switch.timeline)
    }

    /// The segment to read for segment `number`: that of the newest timeline which has it, for a promotion copies the
    /// segment in which it happens. `None` past the end of the 64-bit range of positions.
    pub fn segment(&self, number: u64, size: SegmentSize) -> Option<SegmentName> {
        let newest = self.path().into_iter().rev().find(|span| size.segment_of(span.start) <= number);
        SegmentName::new(newest.map_or(self.timeline, |span| span.timeline), number, size)
    }
}

/// Timeline, position and reason of one line; PostgreSQL asks for white space between them, and no more.
fn parse_line(line: &str) -> Option<Switch> {
    let (timeline, rest) = line.split_once(char::is_whitespace)?;
    let rest = rest.trim_start();
    let (lsn, reason) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
    let timeline = timeline.bytes().all(|digit| digit.is_ascii_digit()).then(|| timeline.parse().ok()).flatten()?;
    Some(Switch { timeline: Timeline(timeline), lsn: lsn.parse().ok()?, reason: reason.trim_start().to_owned() })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TEXT: &str = "1\t0/5000060\tno recovery target specified\n\
                        \n\
                        # a comment\n\
                        2\t0/9000000\tbefore 2026-11-22 12:15:04+00\n\
                        4\t1/000000D8\tat restore point \"x\"\n";

    fn history() -> TimelineHistory {
        TimelineHistory::parse(Timeline(5), TEXT).unwrap()
    }

    #[test]
    fn paths_part_where_the_first_of_them_leaves_a_common_timeline() {
        let history = |timeline, text: &str| TimelineHistory::parse(Timeline(timeline), text).unwrap();
        let one = TimelineHistory::without_ancestors(Timeline(1));
        let two = history(2, "1\t0/5000000\tx\n");
        let three = history(3, "1\t0/5000000\tx\n2\t0/7000000\tx\n");
        let four = history(4, "1\t0/5000000\tx\n2\t0/6000000\tx\n");
        let five = history(5, "1\t0/4000000\tx\n");
        for (first, second, expected) in [
            (&one, &two, 0x500_0000),
            (&one, &four, 0x500_0000),
            (&two, &three, 0x700_0000),
            (&three, &four, 0x600_0000),
            (&four, &five, 0x400_0000),
            (&three, &three, u64::MAX),
            (&one, &TimelineHistory::without_ancestors(Timeline(9)), 0),
        ] {
            assert_eq!(first.parts_from(second), Lsn(expected));
            assert_eq!(second.parts_from(first), Lsn(expected));
        }
    }

    #[test]
    fn the_path_names_every_switch() {
        let span = |timeline, start, end: Option<u64>| Span {
            timeline: Timeline(timeline),
            start: Lsn(start),
            end: end.map(Lsn),
        };
        assert_eq!(
            history().path(),
            [
                span(1, 0, Some(0x500_0060)),
                span(2, 0x500_0060, Some(0x900_0000)),
                span(4, 0x900_0000, Some(0x1_0000_00D8)),
                span(5, 0x1_0000_00D8, None),
            ]
        );
        assert_eq!(history().switches()[1].reason, "before 2026-11-22 12:15:04+00");
    }

    #[test]
    fn a_position_belongs_to_one_timeline() {
        assert_eq!(history().timeline_at(Lsn(0x500_005F)), Timeline(1));
        assert_eq!(history().timeline_at(Lsn(0x500_0060)), Timeline(2));
        assert_eq!(history().timeline_at(Lsn(u64::MAX)), Timeline(5));
        assert_eq!(history().switch_of(Timeline(2)), Some(Lsn(0x900_0000)));
        assert_eq!(history().switch_of(Timeline(5)), None);
        assert!(history().contains(Timeline(5)) && history().contains(Timeline(1)) && !history().contains(Timeline(3)));
    }

    #[test]
    fn the_segment_of_a_promotion_is_read_from_the_newer_timeline() {
        let names =
            [4, 5, 8, 9, 255, 256].map(|number| history().segment(number, SegmentSize::DEFAULT).unwrap().to_string());
        assert_eq!(
            names,
            [
                "000000010000000000000004",
                "000000020000000000000005",
                "000000020000000000000008",
                "000000040000000000000009",
                "0000000400000000000000FF",
                "000000050000000100000000",
            ]
        );
    }

    #[test]
    fn timeline_one_needs_no_file() {
        let history = TimelineHistory::without_ancestors(Timeline(1));
        assert_eq!(history.path(), [Span { timeline: Timeline(1), start: Lsn::INVALID, end: None }]);
        assert_eq!(history.segment(7, SegmentSize::DEFAULT).unwrap().to_string(), "000000010000000000000007");
    }

    #[test]
    fn damaged_files_are_refused() {
        for text in ["1", "x\t0/1\tr", "1\t0-1\tr", "+1\t0/1\tr", "1\t0/1\nrubbish"] {
            assert!(matches!(TimelineHistory::parse(Timeline(9), text), Err(HistoryError::Syntax { .. })), "{text}");
        }
        for text in ["2\t0/1\tr\n1\t0/2\tr", "1\t0/1\tr\n1\t0/2\tr", "1\t0/2\tr\n2\t0/1\tr", "9\t0/1\tr"] {
            assert!(matches!(TimelineHistory::parse(Timeline(9), text), Err(HistoryError::Order { .. })), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_parsed_or_refused(timeline: u32, text in "([0-9]{1,3}[\t ]{1,2}[0-9A-F]{1,9}/[0-9A-F]{1,9}(\tr)?\n|.{0,9}\n){0,5}") {
            if let Ok(history) = TimelineHistory::parse(Timeline(timeline), &text) {
                prop_assert_eq!(history.path().len(), history.switches().len() + 1);
                prop_assert!(history.path().windows(2).all(|pair| pair[0].end == Some(pair[1].start)));
            }
        }
    }
}
