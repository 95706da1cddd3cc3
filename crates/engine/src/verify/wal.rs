//! Checking archived WAL: each segment by itself, and that each goes on where the one before it ends.

use pgark_postgres::wal::SequenceError;
use pgark_postgres::wal::join::Joiner;
use pgark_postgres::wal::name::{SegmentName, SegmentSize, Timeline};
use pgark_postgres::wal::reader::Head;
use pgark_postgres::wal::segment::SegmentAnalysis;
use pgark_repository::repository::Cluster;
use pgark_repository::wal::{Archive, WalDocument, WalObject};

use super::finding::{Flaw, flaw_or_error};
use crate::coverage::Coverage;
use crate::error::Result;

/// Segments of one timeline that are checked one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) timeline: Timeline,
    pub(super) first: u64,
    pub(super) last: u64,
}

/// What is checked, and against what.
#[derive(Clone, Copy, Debug)]
pub(super) struct WalChecks<'verify> {
    pub(super) archive: &'verify Archive<'verify>,
    pub(super) cluster: &'verify Cluster,
    pub(super) coverage: &'verify Coverage,
}

/// What was found out about a row of segments.
#[derive(Debug, Default)]
pub(super) struct RowCheck {
    /// How many of them were looked at, from the first on.
    pub(super) checked: u64,
    /// Bytes of these objects.
    pub(super) bytes: u64,
    pub(super) flaws: Vec<(SegmentName, Flaw)>,
}

/// What comes of checking one segment.
enum SegmentCheck {
    /// There was no time to finish.
    BrokenOff,
    Flawed(Flaw),
    /// With what its records say, if that was stored.
    Sound(Option<Box<SegmentAnalysis>>),
}

impl WalChecks<'_> {
    /// Checks a row of segments. What follows on the first of them is checked too, but the segment itself is not.
    ///
    /// # Errors
    /// Where the storage does not answer.
    pub(super) fn check(&self, row: &Row, go_on: &dyn Fn() -> bool) -> Result<RowCheck> {
        let mut check = RowCheck::default();
        let before = self.coverage.before(row.timeline, row.first).filter(|segment| self.coverage.has(*segment));
        let mut last = match before {
            Some(segment) => self.analysis(segment)?,
            None => None,
        };
        for number in row.first..=row.last {
            let Some(segment) = SegmentName::new(row.timeline, number, self.coverage.size()) else { break };
            if !go_on() {
                break;
            }
            match self.check_twice(segment, &mut check.bytes, go_on)? {
                SegmentCheck::BrokenOff => break,
                SegmentCheck::Flawed(flaw) => {
                    check.flaws.push((segment, flaw));
                    last = None;
                }
                SegmentCheck::Sound(analysis) => {
                    let joined = last.as_ref().zip(analysis.as_deref()).map_or(Ok(()), |(last, next)| join(last, next));
                    check.flaws.extend(joined.err().map(|what| (segment, Flaw::inconsistent(what))));
                    last = analysis.map(|analysis| *analysis);
                }
            }
            check.checked += 1;
        }
        Ok(check)
    }

    /// Checks a segment, and once more where something seems to be wrong.
    fn check_twice(&self, segment: SegmentName, bytes: &mut u64, go_on: &dyn Fn() -> bool) -> Result<SegmentCheck> {
        match self.check_segment(segment, bytes, go_on)? {
            SegmentCheck::Flawed(flaw) => match self.check_segment(segment, bytes, go_on)? {
                SegmentCheck::BrokenOff => Ok(SegmentCheck::Flawed(flaw)),
                again => Ok(again),
            },
            checked => Ok(checked),
        }
    }

    fn check_segment(&self, segment: SegmentName, bytes: &mut u64, go_on: &dyn Fn() -> bool) -> Result<SegmentCheck> {
        let name = segment.to_string();
        let object = match flaw_or_error(self.archive.segment(&name))? {
            Ok(object) => object,
            Err(flaw) => return Ok(SegmentCheck::Flawed(flaw)),
        };
        *bytes += object.length();
        if let Some(what) = contradiction(&object, &name, segment.timeline, self.cluster, self.coverage.size()) {
            return Ok(SegmentCheck::Flawed(Flaw::inconsistent(what)));
        }
        Ok(match flaw_or_error(object.check(go_on))? {
            Ok(None) => SegmentCheck::BrokenOff,
            Ok(Some(stored)) if stored.is_empty() => SegmentCheck::Sound(None),
            Ok(Some(stored)) => match self.understand(segment, &stored) {
                Ok(analysis) => SegmentCheck::Sound(Some(Box::new(analysis))),
                Err(what) => SegmentCheck::Flawed(Flaw::inconsistent(what)),
            },
            Err(flaw) => SegmentCheck::Flawed(flaw),
        })
    }

    /// What the records of a segment say.
    ///
    /// # Errors
    /// Why it can't be what they say.
    fn understand(&self, segment: SegmentName, stored: &[u8]) -> Result<SegmentAnalysis, String> {
        let analysis = SegmentAnalysis::decode(stored)
            .map_err(|error| format!("what it says of its records can't be read: {error}"))?;
        let (header, size) = (&analysis.header, self.coverage.size());
        let is_right = Some(header.number) == segment.number(size)
            && header.size == size
            && header.timeline <= segment.timeline
            && header.system_id.to_string() == self.cluster.system_id;
        if is_right { Ok(analysis) } else { Err("what it says of its records is about another segment".to_owned()) }
    }

    /// Checks a file that is no whole segment: a part of one, a timeline history or a backup history file.
    ///
    /// # Errors
    /// Where the storage does not answer.
    pub(super) fn check_file(&self, file: &str, go_on: &dyn Fn() -> bool) -> Result<Option<Flaw>> {
        let Some(segment) = file.strip_suffix(".partial") else {
            return Ok(flaw_or_error(self.archive.check_history(file))?.err());
        };
        let object = match flaw_or_error(self.archive.segment(file))? {
            Ok(object) => object,
            Err(flaw) => return Ok(Some(flaw)),
        };
        let timeline = segment.parse::<SegmentName>().map_or(Timeline(0), |segment| segment.timeline);
        if let Some(what) = contradiction(&object, file, timeline, self.cluster, self.coverage.size()) {
            return Ok(Some(Flaw::inconsistent(what)));
        }
        Ok(flaw_or_error(object.check(go_on))?.err())
    }

    /// What the records of a segment say; nothing where that can't be read, which is found out when the segment itself
    /// is checked.
    fn analysis(&self, segment: SegmentName) -> Result<Option<SegmentAnalysis>> {
        let stored = self.archive.segment(&segment.to_string()).and_then(|object| object.analysis());
        Ok(flaw_or_error(stored)?.ok().and_then(|stored| SegmentAnalysis::decode(&stored).ok()))
    }
}

/// What a WAL object says of itself that is not so.
fn contradiction(
    object: &WalObject<'_>,
    name: &str,
    timeline: Timeline,
    cluster: &Cluster,
    size: SegmentSize,
) -> Option<String> {
    let WalDocument { version, system_id, timeline: said, segment, size: bytes, .. } = object.document();
    let what = if segment != name || *said != timeline.0 {
        format!("it says that it is segment {segment} of timeline {said}")
    } else if (version, system_id) != (&cluster.version, &cluster.system_id) {
        format!("it is of another cluster: version {version}, system-id {system_id}")
    } else if *bytes != u64::from(size.bytes()) {
        format!("it has {bytes} bytes, where segments have {}", size.bytes())
    } else {
        return None;
    };
    Some(what)
}

/// Checks that a segment goes on where the one before it ends.
///
/// # Errors
/// What speaks against it.
fn join(last: &SegmentAnalysis, next: &SegmentAnalysis) -> Result<(), String> {
    let mut joiner = Joiner::default();
    let joined = joiner.push(last).and_then(|_| joiner.push(next));
    match joined {
        Ok(_) => Ok(()),
        // Not all bytes of the record are kept, but how many there are is known on both sides.
        Err(SequenceError::TooLong { lsn }) => match (last.edges.tail, next.edges.head) {
            (Some(tail), Head::Continued { remaining, .. })
                if u64::from(tail.available) + u64::from(remaining) == u64::from(tail.total_length) =>
            {
                Ok(())
            }
            _ => Err(format!("the record at {lsn} in the segment before it does not go on in it")),
        },
        Err(error) => Err(format!("it does not go on where the segment before it ends: {error}")),
    }
}
