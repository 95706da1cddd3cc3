//! Starting and stopping a backup, and making the server archive a segment.

use super::{ClientError, Connection};
use crate::label::{BackupLabel, TablespaceMap};
use crate::wal::name::{SegmentName, Timeline};
use crate::{Lsn, Version};

/// The advisory lock that a backup holds. pgBackRest takes the same, so the two keep out of each other's way.
const BACKUP_LOCK: i64 = 12_340_078_987_004_321;

/// A backup that has begun.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StartedBackup {
    /// Where the WAL that the backup needs begins.
    pub lsn: Lsn,
    /// The timeline of `lsn`.
    pub timeline: Timeline,
    /// The first segment that the backup needs.
    pub wal_segment: SegmentName,
}

/// A backup that has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoppedBackup {
    /// Where the WAL that the backup needs ends.
    pub lsn: Lsn,
    /// The timeline of `lsn`.
    pub timeline: Timeline,
    /// The last segment that the backup needs.
    pub wal_segment: SegmentName,
    /// The file `backup_label`, as the restored cluster must have it to the byte.
    pub label_bytes: Vec<u8>,
    /// What the label says.
    pub label: BackupLabel,
    /// The file `tablespace_map`, which the restored cluster must have if it is not empty.
    pub tablespace_map_bytes: Vec<u8>,
    /// What the map says.
    pub tablespace_map: TablespaceMap,
}

impl Connection {
    /// Takes the lock that keeps a second backup away from the cluster, for as long as the connection lasts.
    ///
    /// # Errors
    /// [`ClientError::BackupRunning`] if another connection holds it.
    pub fn lock_backup(&mut self) -> Result<(), ClientError> {
        let what = "take the backup lock";
        let row = self.row(what, "select pg_catalog.pg_try_advisory_lock($1)", &[&BACKUP_LOCK])?;
        if self.column(what, &row, 0)? {
            Ok(())
        } else {
            Err(ClientError::BackupRunning { target: self.target.to_string() })
        }
    }

    /// Begins a backup, which ends with [`Connection::stop_backup`]; if the connection is lost before, the backup has
    /// failed.
    ///
    /// The server makes a checkpoint first: at once if `fast`, else spread over time as its settings have it.
    ///
    /// # Errors
    /// Fails with the query.
    pub fn start_backup(&mut self, label: &str, fast: bool) -> Result<StartedBackup, ClientError> {
        let what = "start a backup";
        let sql = if self.facts.version >= Version::V15 {
            "select pg_catalog.pg_backup_start($1, $2)::text"
        } else {
            "select pg_catalog.pg_start_backup($1, $2, false)::text"
        };
        let row = self.row(what, sql, &[&label, &fast])?;
        let lsn = self.parsed(what, &row, 0)?;
        let timeline = self.timeline()?;
        Ok(StartedBackup {
            lsn,
            timeline,
            wal_segment: SegmentName::of_lsn(timeline, lsn, self.facts.wal_segment_size),
        })
    }

    /// Ends the backup, without waiting for the archive.
    ///
    /// # Errors
    /// Fails with the query, so also if the connection has no backup, or a standby was promoted during the backup.
    pub fn stop_backup(&mut self) -> Result<StoppedBackup, ClientError> {
        let what = "stop the backup";
        let function =
            if self.facts.version >= Version::V15 { "pg_backup_stop(false)" } else { "pg_stop_backup(false, false)" };
        // The files go to disk in the bytes that the server has, whatever encoding paths and names are in.
        let sql = format!(
            "select lsn::text,
                    pg_catalog.convert_to(labelfile, pg_catalog.getdatabaseencoding()),
                    pg_catalog.convert_to(spcmapfile, pg_catalog.getdatabaseencoding())
               from pg_catalog.{function}"
        );
        let row = self.row(what, &sql, &[])?;
        let lsn = self.parsed(what, &row, 0)?;
        let label_bytes: Vec<u8> = self.column(what, &row, 1)?;
        let tablespace_map_bytes: Vec<u8> = self.column(what, &row, 2)?;
        let timeline = self.timeline()?;
        Ok(StoppedBackup {
            lsn,
            timeline,
            wal_segment: self.segment_before(what, timeline, lsn)?,
            label: BackupLabel::parse(&label_bytes).map_err(|error| ClientError::answer(what, &self.target, &error))?,
            tablespace_map: TablespaceMap::parse(&tablespace_map_bytes)
                .map_err(|error| ClientError::answer(what, &self.target, &error))?,
            label_bytes,
            tablespace_map_bytes,
        })
    }

    /// Writes a restore point and has the server finish the segment that it lies in, so that it will be archived.
    /// Gives the segment.
    ///
    /// # Errors
    /// Fails with the query, so also on a standby.
    pub fn switch_wal(&mut self) -> Result<SegmentName, ClientError> {
        let what = "switch the WAL segment";
        // Without the restore point nothing would be switched in an idle cluster. The segment is that of the restore
        // point: at a boundary, versions differ in which segment a switch names, and others may switch in between.
        let row = self.row(what, "select pg_catalog.pg_create_restore_point('pgark archive check')::text", &[])?;
        let lsn = self.parsed(what, &row, 0)?;
        self.row(what, "select pg_catalog.pg_switch_wal()::text", &[])?;
        let timeline = self.timeline()?;
        self.segment_before(what, timeline, lsn)
    }

    /// The segment that holds the last byte before `lsn`.
    fn segment_before(&self, what: &'static str, timeline: Timeline, lsn: Lsn) -> Result<SegmentName, ClientError> {
        let size = self.facts.wal_segment_size;
        let name = SegmentName::new(timeline, size.segment_before(lsn), size);
        name.ok_or_else(|| ClientError::answer(what, &self.target, &format!("{lsn} lies in no segment")))
    }
}
