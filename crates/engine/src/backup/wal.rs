//! Waiting for the WAL that a backup needs.

use std::time::Duration;

use pgark_postgres::wal::name::{SegmentName, SegmentSize};
use pgark_repository::wal::Archive;

use crate::check::wait_for_segment;
use crate::error::{Error, ErrorKind, Result};

/// Waits until all segments from `first` to `last` are in the archive, for each as long as `timeout`.
pub(super) fn wait_for_segments(
    archive: &Archive<'_>,
    first: SegmentName,
    last: SegmentName,
    size: SegmentSize,
    timeout: Duration,
) -> Result<()> {
    tracing::info!("check archive for segment(s) {first}:{last}");
    let mut segment = first;
    loop {
        wait_for_segment(archive, segment, timeout)?;
        if segment == last {
            return Ok(());
        }
        segment = segment.next(size).ok_or_else(|| {
            Error::new(ErrorKind::Runtime, format!("there is no WAL segment after {segment}, but {last} was expected"))
        })?;
    }
}
