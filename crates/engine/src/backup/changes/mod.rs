//! What has changed in a cluster since an earlier backup, by what its WAL says.
//!
//! The *reference* is a backup whose pages are to be taken where nothing has changed. Every record that begins at or after
//! the start of the reference and before the start of the backup that is beginning may have changed what the reference
//! holds; whatever comes later, recovery of the new backup replays. So the changes are those of the WAL between the two
//! starts, along the timelines that the cluster came by.
//!
//! Nothing here is a guess: where a piece of the WAL is missing or could be another cluster's, the changes are
//! [`Changes::Unknown`], and the backup reads every page. Three things are checked beside the WAL itself:
//!
//! - The reference was taken on this line of WAL: its last record is where it must be ([`BackupTrace`]). An older copy of
//!   the data directory that goes on under the same timeline has other records there.
//! - What `pg_wal` still has agrees with the archive, for all that the server has not archived yet and the last segments
//!   before the end: a cluster whose WAL the archive refuses, because it holds another's under the same names, is told.
//! - Each segment follows on the one before, record by record ([`Joiner`]).
//!
//! [`Joiner`]: pgark_postgres::wal::join::Joiner

mod archived;
mod chain;
mod history;
mod ordered;
mod segments;
mod server;
#[cfg(test)]
mod tests;

use std::path::Path;

use pgark_postgres::Lsn;
use pgark_postgres::control::ControlFile;
use pgark_postgres::wal::find::{BackupTrace, TraceSearch};
use pgark_postgres::wal::history::TimelineHistory;
use pgark_postgres::wal::join::RangeSummariser;
use pgark_postgres::wal::name::Timeline;
use pgark_postgres::wal::summary::{BlockSummary, Summary};
use pgark_repository::manifest::ManifestDocument;
use pgark_repository::wal::Archive;

pub(super) use self::archived::{Needed, check_archived};
use self::chain::{Cause, Chain, Gap};
pub(super) use self::history::{History, lies_on_history, read_history};
use self::segments::Segments;
use crate::error::{Error, Result};

/// What has changed since the reference.
#[derive(Debug)]
pub(super) enum Changes {
    /// No block of a main or init fork that is not named here, unless it lies past the end that the reference knows.
    Known(BlockSummary),
    /// Nobody knows: every page is to be read.
    Unknown {
        /// Why: a clause that names what is missing.
        reason: String,
    },
}

/// Between which points of which cluster.
#[derive(Debug)]
pub(super) struct Between<'a> {
    /// The data directory.
    pub(super) data_directory: &'a Path,
    /// What the control file says.
    pub(super) control: &'a ControlFile,
    /// The history of the current timeline.
    pub(super) history: &'a TimelineHistory,
    /// The backup whose pages are taken where nothing has changed.
    pub(super) reference: &'a ManifestDocument,
    /// Where the backup begins that is being taken; without a server, the checkpoint with which it was shut down.
    pub(super) start: Lsn,
}

/// Why the changes are not known, or why the backup can't go on.
#[derive(Debug)]
enum Stop {
    /// In doubt, all is read.
    Doubt(String),
    Failed(Error),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

fn doubt<T>(reason: impl Into<String>) -> Result<T, Stop> {
    Err(Stop::Doubt(reason.into()))
}

/// Finds out what has changed since the reference, which is a backup of the same cluster of the stanza.
///
/// # Errors
/// Where the repository can't be reached, or the process is to end. A missing or damaged piece of WAL is no error.
pub(super) fn changes(archive: &Archive<'_>, between: &Between<'_>) -> Result<Changes> {
    match known(archive, between) {
        Ok(summary) => Ok(Changes::Known(summary)),
        Err(Stop::Doubt(reason)) => Ok(Changes::Unknown { reason }),
        Err(Stop::Failed(error)) => Err(error),
    }
}

fn known(archive: &Archive<'_>, between: &Between<'_>) -> Result<BlockSummary, Stop> {
    let Between { data_directory, control, history, reference, start } = *between;
    let trace = check_reference(between)?;
    let range = start_of(reference)?..start;
    let segments = Segments::new(archive, data_directory, control, history, start)?;
    check_trace(&segments, reference, trace)?;
    let mut chain = Chain::new(range);
    segments.read_all(chain.numbers(control.wal_segment_size), |segment| chain.push(segment))?;
    let (summary, gaps) = chain.finish();
    let mut summary = usable(summary)?;
    for gap in gaps {
        summary.merge(&fill(&gap, between, &segments)?);
    }
    Ok(summary)
}

/// What a reference says of itself that must fit this cluster. Gives what it must have left in the WAL.
fn check_reference(between: &Between<'_>) -> Result<BackupTrace, Stop> {
    let Between { control, history, reference, start, .. } = between;
    let (label, cluster) = (&reference.label, &reference.cluster);
    let is_same = cluster.system_id == control.system_identifier.to_string()
        && cluster.version == control.version.to_string()
        && cluster.wal_segment_size == control.wal_segment_size.bytes();
    if !is_same {
        return doubt(format!("backup set {label} is of another cluster, or of another size of WAL segments"));
    }
    if reference.page_checksums != control.data_checksums {
        let switched = if control.data_checksums { "on" } else { "off" };
        return doubt(format!("page checksums were switched {switched} since backup set {label}"));
    }
    let (first, stop) = (start_of(reference)?, stop_of(reference)?);
    if !lies_on_history(Timeline(reference.stop.timeline), stop, history) {
        return doubt(format!("backup set {label} does not lie on the history of timeline {}", history.timeline()));
    }
    if first > stop || stop > *start {
        return doubt(format!("backup set {label} reaches to {stop}, past {start}, where this backup begins"));
    }
    Ok(if reference.online {
        BackupTrace::End { start: first, stop }
    } else {
        BackupTrace::Shutdown { checkpoint: first }
    })
}

fn start_of(reference: &ManifestDocument) -> Result<Lsn, Stop> {
    position(reference, reference.start.lsn.as_deref())
}

fn stop_of(reference: &ManifestDocument) -> Result<Lsn, Stop> {
    position(reference, reference.stop.lsn.as_deref())
}

fn position(reference: &ManifestDocument, lsn: Option<&str>) -> Result<Lsn, Stop> {
    match lsn.and_then(|lsn| lsn.parse().ok()) {
        Some(lsn) => Ok(lsn),
        None => doubt(format!("backup set {} does not say where in the WAL it begins and ends", reference.label)),
    }
}

/// Makes sure that the reference was taken on the WAL that has led to this cluster.
fn check_trace(segments: &Segments<'_>, reference: &ManifestDocument, trace: BackupTrace) -> Result<(), Stop> {
    if find_trace(segments, trace)? {
        return Ok(());
    }
    let (label, stop) = (&reference.label, stop_of(reference)?);
    let what = if reference.online { "the end of that backup" } else { "a shutdown" };
    doubt(format!(
        "the WAL has no record of {what} at {stop}, where backup set {label} ends: the set is not of this cluster's past"
    ))
}

/// Whether the WAL has what a backup has left there.
fn find_trace(segments: &Segments<'_>, trace: BackupTrace) -> Result<bool, Stop> {
    let mut search = TraceSearch::new(trace);
    for number in segments.from(trace.earliest()) {
        match search.push(&segments.bytes(number)?) {
            Ok(Some(is_found)) => return Ok(is_found),
            Ok(None) => {}
            Err(error) => return doubt(error.to_string()),
        }
    }
    Ok(false)
}

fn usable(summary: Summary) -> Result<BlockSummary, Stop> {
    match summary {
        Summary::Usable(summary) => Ok(summary),
        Summary::Unusable(reason) => doubt(reason.to_string()),
    }
}

/// What the records of a gap change, by other means than the analyses of its segments.
fn fill(gap: &Gap, between: &Between<'_>, segments: &Segments<'_>) -> Result<BlockSummary, Stop> {
    match &gap.cause {
        Cause::LongRecord => usable(read_long(gap, segments)?),
        Cause::Missing(reason) => server::fill(between, &gap.range)
            .map_err(|also| Stop::Doubt(also.map_or_else(|| reason.clone(), |also| format!("{reason}; {also}")))),
    }
}

/// Reads a record that is longer than what analyses keep, and what follows on it, from the segments themselves.
fn read_long(gap: &Gap, segments: &Segments<'_>) -> Result<Summary, Stop> {
    let mut summariser = RangeSummariser::new(gap.range.clone());
    for number in segments.from(gap.range.start) {
        match summariser.push(&segments.bytes(number)?) {
            Ok(true) => {}
            Ok(false) => break,
            Err(error) => return doubt(error.to_string()),
        }
    }
    summariser.finish().map_err(|error| Stop::Doubt(error.to_string()))
}
