//! The timelines that a cluster came by, and which backups lie on them.

use std::io;
use std::path::Path;

use fs_err as fs;
use pgark_postgres::Lsn;
use pgark_postgres::wal::history::TimelineHistory;
use pgark_postgres::wal::name::Timeline;
use pgark_repository::wal::Archive;

use crate::error::Result;

/// The history of a timeline.
#[derive(Debug)]
pub(in crate::backup) enum History {
    /// This one.
    Known(TimelineHistory),
    /// Nobody knows.
    Unknown {
        /// Why: a clause that names what is missing.
        reason: String,
    },
}

/// Whether a backup that ended at `stop` of `timeline` is one of the past of the cluster whose history this is: what the
/// WAL said up to there has come to pass for the cluster too.
pub(in crate::backup) fn lies_on_history(timeline: Timeline, stop: Lsn, history: &TimelineHistory) -> bool {
    let span = history.path().into_iter().find(|span| span.timeline == timeline);
    span.is_some_and(|span| span.start <= stop && span.end.is_none_or(|end| stop <= end))
}

/// Reads the history of the timeline that the cluster is on. What the data directory says counts. The archive serves
/// where it says nothing, and must not say otherwise: then it has the WAL of another cluster.
///
/// # Errors
/// Where the repository can't be reached.
pub(in crate::backup) fn read_history(
    archive: &Archive<'_>,
    data_directory: &Path,
    timeline: Timeline,
) -> Result<History> {
    let unknown = |reason: String| Ok(History::Unknown { reason });
    let file = timeline.history_file_name();
    let local = match fs::read(data_directory.join("pg_wal").join(&file)) {
        Ok(bytes) => Some(bytes),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(error.into()),
    };
    let archived = match archive.history(&file) {
        Ok(bytes) => Some(bytes),
        Err(error) if error.is_not_found() => None,
        Err(pgark_repository::Error::Storage(error)) => return Err(error.into()),
        Err(error) => return unknown(error.to_string()),
    };
    let histories = [local, archived].into_iter().flatten();
    let histories: Result<Vec<_>, _> =
        histories.map(|bytes| TimelineHistory::parse(timeline, &String::from_utf8_lossy(&bytes))).collect();
    match histories.as_deref() {
        Ok([]) if timeline == Timeline(1) => Ok(History::Known(TimelineHistory::without_ancestors(timeline))),
        Ok([]) => unknown(format!("'{file}' is neither in pg_wal nor in the archive")),
        Ok([history]) => Ok(History::Known(history.clone())),
        Ok([local, archived, ..]) if local.path() == archived.path() => Ok(History::Known(local.clone())),
        Ok(_) => unknown(format!("'{file}' in the archive is of another cluster than that in pg_wal")),
        Err(error) => unknown(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backup_is_of_the_past_if_it_ended_before_its_timeline_was_left() {
        let history = TimelineHistory::parse(Timeline(4), "1\t0/500\tx\n3\t0/900\ty\n").unwrap();
        let lies = |timeline, stop| lies_on_history(Timeline(timeline), Lsn(stop), &history);
        assert!(lies(1, 0x400) && lies(1, 0x500));
        assert!(!lies(1, 0x501), "timeline 1 went on, but not for this cluster");
        assert!(!lies(2, 0x600), "timeline 2 is another branch");
        assert!(lies(3, 0x501) && lies(3, 0x900) && !lies(3, 0x901));
        assert!(!lies(3, 0x4FF), "another timeline 3, which began earlier");
        assert!(lies(4, 0x900) && lies(4, 0xFFFF_FFFF_FFFF));
        assert!(!lies(5, 0xA00), "the cluster is not there yet");
        let first = TimelineHistory::without_ancestors(Timeline(1));
        assert!(lies_on_history(Timeline(1), Lsn(1), &first) && !lies_on_history(Timeline(2), Lsn(1), &first));
    }
}
