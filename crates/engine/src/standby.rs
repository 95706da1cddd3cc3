//! Whether a cluster is a standby.

use std::path::Path;

use pgark_postgres::control::{ClusterState, ControlFile};

/// Whether the cluster in a data directory follows another, or recovers: it can't be backed up as it is, and becomes one
/// that can by a promotion. What its control file says is what `pg_is_in_recovery()` says, and is there where the server is
/// shut down or does not answer, too. A cluster that can't be read is none: whoever works with it finds out why.
pub fn is_standby(data_directory: &Path) -> bool {
    let state = ControlFile::read(data_directory).map(|control| control.state);
    matches!(state, Ok(ClusterState::InArchiveRecovery | ClusterState::ShutDownInRecovery))
}
