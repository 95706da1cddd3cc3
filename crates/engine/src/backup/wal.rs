//! Waiting for the WAL that a backup needs.

use std::ops::Range;

use pgark_postgres::Lsn;
use pgark_postgres::wal::name::SegmentName;
use pgark_repository::wal::Archive;

use super::Backup;
use super::changes::{History, Needed, check_archived};
use crate::check::wait_for_segment;
use crate::error::{Error, ErrorKind, Result};

/// The WAL from the start of a backup to its end.
#[derive(Clone, Debug)]
pub(super) struct NeededWal {
    /// The first segment.
    pub(super) first: SegmentName,
    /// The last one.
    pub(super) last: SegmentName,
    /// What is needed of them.
    pub(super) range: Range<Lsn>,
}

impl Backup<'_, '_> {
    /// Waits until the WAL is in the archive, and makes sure that it is this cluster's.
    pub(super) fn wait_for_wal(&self, wal: &NeededWal, history: &History) -> Result<()> {
        let archive = self.stanza.archive(&self.cluster);
        self.wait_for_segments(&archive, wal)?;
        let needed = Needed {
            data_directory: &self.settings.data_directory,
            control: &self.control,
            history,
            timeline: wal.first.timeline,
            range: wal.range.clone(),
        };
        check_archived(&archive, &needed)
    }

    /// Waits until all segments are in the archive, for each as long as the time limit says.
    fn wait_for_segments(&self, archive: &Archive<'_>, wal: &NeededWal) -> Result<()> {
        let NeededWal { first, last, .. } = *wal;
        tracing::info!("check archive for segment(s) {first}:{last}");
        let mut segment = first;
        loop {
            wait_for_segment(archive, segment, self.settings.archive_timeout)?;
            if segment == last {
                return Ok(());
            }
            segment = segment.next(self.control.wal_segment_size).ok_or_else(|| {
                let message = format!("there is no WAL segment after {segment}, but {last} was expected");
                Error::new(ErrorKind::Runtime, message)
            })?;
        }
    }
}
