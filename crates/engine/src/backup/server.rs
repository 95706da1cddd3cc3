//! The server that a backup is taken of.

use pgark_postgres::client::{ClusterFacts, Connection};
use pgark_postgres::control::ControlFile;
use pgark_postgres::process::{Running, running};
use pgark_repository::manifest::{Database, Tablespace};

use super::BackupSettings;
use crate::check::ensure_archiving;
use crate::error::{Error, ErrorKind, Result};

/// Connects to the server and makes sure that it is the right one; without a connection, that none runs.
pub(super) fn open_server(settings: &BackupSettings, control: &ControlFile) -> Result<Option<Connection>> {
    let Some(connect) = &settings.connection else {
        return match running(&settings.data_directory)? {
            Running::No => Ok(None),
            Running::Yes(_) | Running::Stale(_) if settings.force => {
                tracing::warn!(
                    "--no-online passed and postmaster.pid exists but --force was passed so backup will continue though it \
                     looks like PostgreSQL is running and the backup will probably not be consistent"
                );
                Ok(None)
            }
            Running::Yes(_) | Running::Stale(_) => Err(Error::new(
                ErrorKind::PostgresRunning,
                "--no-online passed but postmaster.pid exists - looks like PostgreSQL is running",
            )
            .hint("shut down PostgreSQL and try again, or back up online")),
        };
    };
    let mut connection = Connection::open(connect)?;
    let target = connection.target().clone();
    connection.facts().ensure_same(&target, &settings.data_directory, control)?;
    if connection.facts().in_recovery {
        return Err(Error::new(ErrorKind::DatabaseConnect, "unable to find primary cluster - cannot proceed")
            .hint("run the backup on the primary: the server here is a standby"));
    }
    ensure_archiving(connection.facts(), settings.archive_check, settings.archive_mode_check)?;
    say_what_is_outside(connection.facts());
    connection.lock_backup()?;
    Ok(Some(connection))
}

fn say_what_is_outside(facts: &ClusterFacts) {
    let files: Vec<_> = facts.outer_configuration_files.iter().map(|file| format!("'{}'", file.display())).collect();
    if !files.is_empty() {
        tracing::info!("outside of the data directory, and so not part of the backup: {}", files.join(", "));
    }
}

/// The databases, ascending by name.
pub(super) fn databases(connection: &mut Connection) -> Result<Vec<Database>> {
    let mut databases: Vec<_> = connection
        .databases()?
        .into_iter()
        .map(|database| Database { name: database.name, oid: database.oid })
        .collect();
    databases.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(databases)
}

/// The tablespaces, ascending by oid.
pub(super) fn tablespaces(connection: &mut Connection) -> Result<Vec<Tablespace>> {
    let tablespace = |found: pgark_postgres::client::TablespaceFacts| Tablespace {
        oid: found.oid,
        name: found.name,
        path: found.location.to_string_lossy().into_owned(),
    };
    Ok(connection.tablespaces()?.into_iter().map(tablespace).collect())
}
