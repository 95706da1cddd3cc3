//! The SQL side of a backup.

mod backup;
mod error;
mod facts;
mod password;

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use pgark_system::termination::{self, HookGuard};
use postgres::types::{FromSql, ToSql};
use postgres::{Client, Config, NoTls, Row};

pub use backup::{StartedBackup, StoppedBackup};
pub use error::{ClientError, QueryFailure};
pub use facts::{ArchiveMode, ClusterFacts, Database, TablespaceFacts};

use error::reason;
use password::Place;

/// Where servers put their socket unless told otherwise: first as Debian and Red Hat build PostgreSQL, then as its
/// source has it.
const DEFAULT_SOCKET_DIRECTORIES: [&str; 2] = ["/var/run/postgresql", "/tmp"];

/// How long the server may take to accept a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);

/// How to reach a server, which is always on this host.
#[derive(Clone, Debug)]
pub struct ConnectSettings {
    /// The directory of the server's socket; the usual ones if `None`.
    pub socket_path: Option<PathBuf>,
    /// The server's port, which is part of the socket's name.
    pub port: u16,
    /// The user; the operating system's user that this process runs as if `None`.
    pub user: Option<String>,
    /// The database.
    pub database: String,
    /// How long a statement may take; from 1 ms to some 24 days.
    pub statement_timeout: Duration,
    /// The command at work, by which the connection is told in `pg_stat_activity`.
    pub command: String,
}

/// Where a connection leads, for messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The directory of the socket.
    pub socket_path: PathBuf,
    /// The port.
    pub port: u16,
    /// The database.
    pub database: String,
    /// The user.
    pub user: String,
}

impl fmt::Display for Target {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { socket_path, port, database, user } = self;
        write!(formatter, "database '{database}' as user '{user}' on port {port} in '{}'", socket_path.display())
    }
}

/// A connection to a server. A backup that was started on it lasts as long as it does.
pub struct Connection {
    client: Client,
    target: Target,
    facts: ClusterFacts,
    /// A statement may wait for minutes. It is cancelled when the process is asked to end.
    _cancel: HookGuard,
}

impl fmt::Debug for Connection {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Connection")
            .field("target", &self.target)
            .field("facts", &self.facts)
            .finish_non_exhaustive()
    }
}

impl Connection {
    /// Connects, prepares the connection for a backup and learns what there is to know of the cluster.
    ///
    /// The password, if the server wants one, is `PGPASSWORD` or comes from the password file, as with libpq.
    ///
    /// # Errors
    /// Fails where there is no server, it does not let us in, its version is unknown, or the user may not see what a
    /// backup needs to know.
    pub fn open(settings: &ConnectSettings) -> Result<Self, ClientError> {
        let target = settings.target()?;
        let client = settings.configuration(&target).connect(NoTls);
        let mut client =
            client.map_err(|error| ClientError::Connect { target: target.to_string(), reason: reason(&error) })?;
        prepare(&mut client).map_err(|error| ClientError::query("prepare the connection", &target, &error))?;
        let facts = facts::query(&mut client, &target)?;
        let token = client.cancel_token();
        let cancel = termination::at_request(move || {
            // Where that fails, the statement is waited for.
            let _not_cancelled = token.cancel_query(NoTls);
        });
        Ok(Self { client, target, facts, _cancel: cancel })
    }

    /// Where the connection leads.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// What the cluster was like when the connection was made.
    pub fn facts(&self) -> &ClusterFacts {
        &self.facts
    }

    fn row(&mut self, what: &'static str, sql: &str, parameters: &[&(dyn ToSql + Sync)]) -> Result<Row, ClientError> {
        self.client.query_one(sql, parameters).map_err(|error| ClientError::query(what, &self.target, &error))
    }

    fn rows(&mut self, what: &'static str, sql: &str) -> Result<Vec<Row>, ClientError> {
        self.client.query(sql, &[]).map_err(|error| ClientError::query(what, &self.target, &error))
    }

    /// Takes a column of a row.
    fn column<'row, T: FromSql<'row>>(&self, what: &'static str, row: &'row Row, at: usize) -> Result<T, ClientError> {
        row.try_get(at).map_err(|error| ClientError::query(what, &self.target, &error))
    }

    /// Takes a column of a row that holds something as text.
    fn parsed<T>(&self, what: &'static str, row: &Row, at: usize) -> Result<T, ClientError>
    where
        T: std::str::FromStr<Err: fmt::Display>,
    {
        let text: &str = self.column(what, row, at)?;
        text.parse().map_err(|error: T::Err| ClientError::answer(what, &self.target, &error))
    }
}

impl ConnectSettings {
    fn target(&self) -> Result<Target, ClientError> {
        let user = match &self.user {
            Some(user) => user.clone(),
            None => whoami::username().map_err(|error| ClientError::User { reason: error.to_string() })?,
        };
        let socket_path = self.socket_directory()?;
        Ok(Target { socket_path, port: self.port, database: self.database.clone(), user })
    }

    /// The directory that has a socket for the port.
    fn socket_directory(&self) -> Result<PathBuf, ClientError> {
        let candidates: Vec<PathBuf> = match &self.socket_path {
            Some(directory) => vec![directory.clone()],
            None => DEFAULT_SOCKET_DIRECTORIES.map(PathBuf::from).to_vec(),
        };
        let name = format!(".s.PGSQL.{}", self.port);
        let found = candidates.iter().find(|directory| directory.join(&name).exists()).cloned();
        found.ok_or(ClientError::NoSocket { port: self.port, directories: candidates })
    }

    fn configuration(&self, target: &Target) -> Config {
        let milliseconds = self.statement_timeout.as_millis().clamp(1, 0x7FFF_FFFF);
        let mut configuration = Config::new();
        configuration
            .host_path(&target.socket_path)
            .port(target.port)
            .user(&target.user)
            .dbname(&target.database)
            .application_name(&format!("pgark [{}]", self.command))
            .connect_timeout(CONNECT_TIMEOUT)
            // From the first statement on: the user's own may be too short even for those that set the rest.
            .options(&format!("-c statement_timeout={milliseconds}"));
        let is_default = DEFAULT_SOCKET_DIRECTORIES.iter().any(|directory| target.socket_path == Path::new(directory));
        let place = Place {
            host: if is_default { "localhost".into() } else { target.socket_path.to_string_lossy() },
            port: target.port,
            database: &target.database,
            user: &target.user,
        };
        if let Some(password) = password::find(&place) {
            configuration.password(password);
        }
        configuration
    }
}

/// Sets what a backup's statements rely on, whatever the user's or the database's own settings are.
fn prepare(client: &mut Client) -> Result<(), postgres::Error> {
    // A search path of its own keeps functions of other schemas away. A backup's connection waits for hours, works
    // alone, and ends its own statements.
    client.batch_execute(
        "set search_path = pg_catalog;
         set lock_timeout = 0;
         set idle_in_transaction_session_timeout = 0;
         set max_parallel_workers_per_gather = 0;
         set jit = off;
         select set_config(name, '0', false) from pg_catalog.pg_settings
          where name in ('idle_session_timeout', 'transaction_timeout')",
    )
}
