//! Whether the archive has the WAL that a backup was taken on, and not another's under the same names.
//!
//! A cluster that was set back to an older copy of itself has the same system identifier and timeline as before, and its
//! segments the names of those that were archived already. What `pg_wal` still has is compared by the hash of all
//! bytes. A segment that the server has removed meanwhile must stand in one line with the others, record on record, up to
//! the last one, which the server has yet, or which has the record with which the backup ends: no other cluster's WAL has
//! that one in this place.

use std::ops::Range;
use std::path::Path;

use pgark_postgres::Lsn;
use pgark_postgres::control::ControlFile;
use pgark_postgres::wal::find::BackupTrace;
use pgark_postgres::wal::history::TimelineHistory;
use pgark_postgres::wal::name::Timeline;
use pgark_repository::wal::Archive;

use super::chain::{Cause, Chain};
use super::segments::Segments;
use super::{History, Stop, doubt, find_trace, read_long};
use crate::check::foreign_wal;
use crate::error::{Error, ErrorKind, Result};

/// Which WAL a backup needs, and of which cluster.
#[derive(Debug)]
pub(in crate::backup) struct Needed<'a> {
    /// The data directory.
    pub(in crate::backup) data_directory: &'a Path,
    /// What the control file says.
    pub(in crate::backup) control: &'a ControlFile,
    /// The history of the timeline.
    pub(in crate::backup) history: &'a History,
    /// The timeline.
    pub(in crate::backup) timeline: Timeline,
    /// From where the backup starts to where it stops.
    pub(in crate::backup) range: Range<Lsn>,
}

/// Makes sure that the archive, which has a segment under each of the names, has this cluster's WAL in them.
///
/// # Errors
/// [`ErrorKind::ArchiveDuplicate`] where it is another's, [`ErrorKind::FileInvalid`] where it can't be read to its end; or
/// the storage's.
pub(in crate::backup) fn check_archived(archive: &Archive<'_>, needed: &Needed<'_>) -> Result<()> {
    let Range { start, end: stop } = needed.range;
    match check(archive, needed) {
        Ok(()) => Ok(()),
        Err(Stop::Failed(error)) => Err(error),
        Err(Stop::Doubt(reason)) => {
            let archive = archive.id();
            let message =
                format!("archive {archive} has other WAL than this cluster's from {start} to {stop}: {reason}");
            Err(foreign_wal(&message))
        }
    }
}

fn check(archive: &Archive<'_>, needed: &Needed<'_>) -> Result<(), Stop> {
    let Needed { data_directory, control, history, timeline, range } = needed;
    let alone = TimelineHistory::without_ancestors(*timeline);
    let history = match history {
        History::Known(history) => history,
        History::Unknown { .. } => &alone,
    };
    // A backup may end with a segment: that of its last byte is the last one that it needs.
    let segments = Segments::new(archive, data_directory, control, history, Lsn(range.end.0 - 1))?;
    let mut chain = Chain::new(range.clone());
    let mut is_last_compared = false;
    segments.read_archived(segments.from(range.start), |segment| {
        is_last_compared = segment.is_compared;
        chain.push(segment.link)
    })?;
    let (_, gaps) = chain.finish();
    for gap in gaps {
        match &gap.cause {
            Cause::LongRecord => drop(read_long(&gap, &segments)?),
            Cause::Missing(reason) => {
                let message = format!("the WAL of this backup can't be recovered from {}: {reason}", gap.range.start);
                let error = Error::new(ErrorKind::FileInvalid, message)
                    .hint("run 'verify' to see what else is damaged, and take the backup again");
                return Err(error.into());
            }
        }
    }
    // What the server has in the place of the last record is that record.
    if is_last_compared || find_trace(&segments, BackupTrace::End { start: range.start, stop: range.end })? {
        return Ok(());
    }
    doubt(format!("it has no record of the end of a backup at {}", range.end))
}
