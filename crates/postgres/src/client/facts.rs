//! What a server says about its cluster.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use fs_err as fs;
use jiff::Timestamp;
use postgres::Client;
use postgres::types::{FromSql, Type};

use super::{ClientError, Connection, Target};
use crate::control::{ControlFile, WalLevel};
use crate::version::UnknownVersion;
use crate::wal::name::{SegmentSize, Timeline};
use crate::{Lsn, Version};

/// What a server says about its cluster and its settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterFacts {
    /// The major version.
    pub version: Version,
    /// The whole version as a number, such as 150018 for 15.18.
    pub version_number: u32,
    /// The data directory.
    pub data_directory: PathBuf,
    /// The cluster's identity.
    pub system_identifier: u64,
    /// Whether the server is a standby, or recovers.
    pub in_recovery: bool,
    /// `archive_mode`.
    pub archive_mode: ArchiveMode,
    /// `archive_command`; `(disabled)` while `archive_mode` is off, whatever is set.
    pub archive_command: String,
    /// `archive_library`, since version 15.
    pub archive_library: Option<String>,
    /// `wal_level`.
    pub wal_level: WalLevel,
    /// Whether pages carry checksums.
    pub data_checksums: bool,
    /// The size of a WAL segment.
    pub wal_segment_size: SegmentSize,
    /// `checkpoint_timeout`: how long a backup may take to start without `start-fast`.
    pub checkpoint_timeout: Duration,
    /// `config_file`, `hba_file` and `ident_file`, as far as they lie outside the data directory.
    pub outer_configuration_files: Vec<PathBuf>,
}

/// `archive_mode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ArchiveMode {
    /// Nothing is archived.
    Off,
    /// A primary archives.
    On,
    /// A standby archives too.
    Always,
}

/// A tablespace that was created in the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TablespaceFacts {
    /// Its oid.
    pub oid: u32,
    /// Its name; what is not in the encoding of the database that was asked is replaced.
    pub name: String,
    /// Where it lies: relative to the data directory if it lies in it.
    pub location: PathBuf,
}

/// A database of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Database {
    /// Its oid.
    pub oid: u32,
    /// Its name; what is not in the encoding of the database that was asked is replaced.
    pub name: String,
}

impl ClusterFacts {
    /// Makes sure that the server is the one at work on `data_directory`.
    ///
    /// # Errors
    /// [`ClientError::WrongServer`] when version, identity or place differ.
    pub fn ensure_same(
        &self,
        target: &Target,
        data_directory: &Path,
        control_file: &ControlFile,
    ) -> Result<(), ClientError> {
        let differs = |what: &str, server: &dyn std::fmt::Display, disk: &dyn std::fmt::Display| {
            Some(format!("{what} is {server} in the server and {disk} on disk"))
        };
        let difference = if self.version != control_file.version {
            differs("the version", &self.version, &control_file.version)
        } else if self.system_identifier != control_file.system_identifier {
            differs("the system identifier", &self.system_identifier, &control_file.system_identifier)
        } else if !is_same_directory(&self.data_directory, data_directory) {
            differs("the data directory", &self.data_directory.display(), &data_directory.display())
        } else {
            None
        };
        match difference {
            None => Ok(()),
            Some(difference) => {
                let (target, data_directory) = (target.to_string(), data_directory.to_owned());
                Err(ClientError::WrongServer { target, data_directory, difference })
            }
        }
    }
}

/// Whether two names, perhaps through different links, are of one directory.
fn is_same_directory(one: &Path, other: &Path) -> bool {
    match (fs::canonicalize(one), fs::canonicalize(other)) {
        (Ok(one), Ok(other)) => one == other,
        _ => one == other,
    }
}

/// Whether a directory is another one or lies in it, through whatever links.
fn is_within(directory: &Path, other: &Path) -> bool {
    match (fs::canonicalize(directory), fs::canonicalize(other)) {
        (Ok(directory), Ok(other)) => directory.starts_with(other),
        _ => directory.starts_with(other),
    }
}

/// The settings that every version has.
const SETTINGS: [&str; 12] = [
    "server_version_num",
    "data_directory",
    "archive_mode",
    "archive_command",
    "wal_level",
    "data_checksums",
    "wal_segment_size",
    "checkpoint_timeout",
    "archive_library",
    "config_file",
    "hba_file",
    "ident_file",
];

pub(super) fn query(client: &mut Client, target: &Target) -> Result<ClusterFacts, ClientError> {
    let what = "read the settings";
    let failed = |error: postgres::Error| ClientError::query(what, target, &error);
    let rows = client
        .query("select name, setting from pg_catalog.pg_settings where name = any ($1)", &[&SETTINGS.as_slice()])
        .map_err(failed)?;
    let mut values = BTreeMap::new();
    for row in rows {
        values.insert(row.try_get(0).map_err(failed)?, row.try_get(1).map_err(failed)?);
    }
    let state = client
        .query_one("select system_identifier, pg_catalog.pg_is_in_recovery() from pg_catalog.pg_control_system()", &[])
        .map_err(failed)?;
    let system_identifier: i64 = state.try_get(0).map_err(failed)?;
    let settings = Settings { values, target };
    let (version_number, version) = settings.version()?;
    Ok(ClusterFacts {
        version,
        version_number,
        data_directory: settings.text("data_directory")?.into(),
        // SQL has no unsigned type; the bits are the same.
        system_identifier: system_identifier.cast_unsigned(),
        in_recovery: state.try_get(1).map_err(failed)?,
        archive_mode: settings.one_of(
            "archive_mode",
            &[("off", ArchiveMode::Off), ("on", ArchiveMode::On), ("always", ArchiveMode::Always)],
        )?,
        archive_command: settings.text("archive_command")?.to_owned(),
        archive_library: settings.values.get("archive_library").cloned(),
        wal_level: settings.one_of(
            "wal_level",
            &[("minimal", WalLevel::Minimal), ("replica", WalLevel::Replica), ("logical", WalLevel::Logical)],
        )?,
        data_checksums: settings.one_of("data_checksums", &[("off", false), ("on", true)])?,
        wal_segment_size: SegmentSize::new(settings.number("wal_segment_size")?)
            .map_err(|error| ClientError::answer(what, target, &error))?,
        checkpoint_timeout: Duration::from_secs(settings.number("checkpoint_timeout")?),
        outer_configuration_files: settings.outer_files(&["config_file", "hba_file", "ident_file"])?,
    })
}

/// Settings as `pg_settings` has them: in their base units, bytes and seconds for those read here.
struct Settings<'target> {
    values: BTreeMap<String, String>,
    target: &'target Target,
}

impl Settings<'_> {
    /// Those that the user may not see are just not there.
    fn text(&self, setting: &'static str) -> Result<&str, ClientError> {
        let hidden = || ClientError::HiddenSetting { setting, target: self.target.to_string() };
        self.values.get(setting).map(String::as_str).ok_or_else(hidden)
    }

    fn number(&self, setting: &'static str) -> Result<u64, ClientError> {
        let text = self.text(setting)?;
        text.parse().map_err(|_| self.unexpected(setting, text))
    }

    fn one_of<T: Copy>(&self, setting: &'static str, known: &[(&str, T)]) -> Result<T, ClientError> {
        let text = self.text(setting)?;
        let value = known.iter().find(|(name, _)| *name == text).map(|(_, value)| *value);
        value.ok_or_else(|| self.unexpected(setting, text))
    }

    /// The files that these settings name, but for those in the data directory.
    fn outer_files(&self, names: &[&str]) -> Result<Vec<PathBuf>, ClientError> {
        let data_directory = Path::new(self.text("data_directory")?);
        let files = names.iter().filter_map(|name| self.values.get(*name)).map(PathBuf::from);
        Ok(files.filter(|file| !file.parent().is_some_and(|parent| is_within(parent, data_directory))).collect())
    }

    fn unexpected(&self, setting: &str, text: &str) -> ClientError {
        ClientError::answer("read the settings", self.target, &format!("{setting} is '{text}'"))
    }

    fn version(&self) -> Result<(u32, Version), ClientError> {
        let text = self.text("server_version_num")?;
        let number: u32 = text.parse().map_err(|_| self.unexpected("server_version_num", text))?;
        let version = (number / 10_000).to_string().parse();
        let version = version
            .map_err(|source: UnknownVersion| ClientError::Version { target: self.target.to_string(), source })?;
        Ok((number, version))
    }
}

/// Text in the bytes that the server sends. In the catalogs that all databases share, a name is in the encoding of the
/// database that it was made in, and so not always in the one of the database at hand.
struct Raw<'row>(&'row [u8]);

impl<'row> FromSql<'row> for Raw<'row> {
    fn from_sql(_: &Type, bytes: &'row [u8]) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        Ok(Self(bytes))
    }

    fn accepts(kind: &Type) -> bool {
        <&str as FromSql>::accepts(kind)
    }
}

impl Connection {
    /// The tablespaces that were created in the cluster.
    ///
    /// # Errors
    /// Fails with the query.
    pub fn tablespaces(&mut self) -> Result<Vec<TablespaceFacts>, ClientError> {
        let what = "list the tablespaces";
        let sql = "select oid, spcname::text, pg_catalog.pg_tablespace_location(oid) from pg_catalog.pg_tablespace
                    where spcname not in ('pg_default', 'pg_global') order by oid";
        let rows = self.rows(what, sql)?;
        let tablespace = |row| {
            let (Raw(name), Raw(location)) = (self.column(what, row, 1)?, self.column(what, row, 2)?);
            Ok(TablespaceFacts {
                oid: self.column(what, row, 0)?,
                name: String::from_utf8_lossy(name).into_owned(),
                location: OsStr::from_bytes(location).into(),
            })
        };
        rows.iter().map(tablespace).collect()
    }

    /// The databases of the cluster, templates too.
    ///
    /// # Errors
    /// Fails with the query.
    pub fn databases(&mut self) -> Result<Vec<Database>, ClientError> {
        let what = "list the databases";
        let rows = self.rows(what, "select oid, datname::text from pg_catalog.pg_database order by oid")?;
        let database = |row| {
            let Raw(name) = self.column(what, row, 1)?;
            Ok(Database { oid: self.column(what, row, 0)?, name: String::from_utf8_lossy(name).into_owned() })
        };
        rows.iter().map(database).collect()
    }

    /// The names of the databases that can be connected to, in the order of their oids.
    ///
    /// # Errors
    /// Fails with the query.
    pub fn databases_to_connect_to(&mut self) -> Result<Vec<String>, ClientError> {
        let what = "list the databases that can be connected to";
        let rows =
            self.rows(what, "select datname::text from pg_catalog.pg_database where datallowconn order by oid")?;
        let name = |row| {
            let Raw(name) = self.column(what, row, 0)?;
            Ok(String::from_utf8_lossy(name).into_owned())
        };
        rows.iter().map(name).collect()
    }

    /// Whether an extension is installed in the database of the connection.
    ///
    /// # Errors
    /// Fails with the query.
    pub fn has_extension(&mut self, name: &str) -> Result<bool, ClientError> {
        let what = "look for an extension";
        let sql = "select count(*) > 0 from pg_catalog.pg_extension where extname = $1";
        let row = self.row(what, sql, &[&name])?;
        self.column(what, &row, 0)
    }

    /// The server's clock.
    ///
    /// # Errors
    /// Fails with the query.
    pub fn now(&mut self) -> Result<Timestamp, ClientError> {
        let what = "read the clock";
        let row = self.row(what, "select (extract(epoch from clock_timestamp()) * 1000000)::int8", &[])?;
        let microseconds = self.column(what, &row, 0)?;
        Timestamp::from_microsecond(microseconds).map_err(|error| ClientError::answer(what, &self.target, &error))
    }

    /// Whether the server is in recovery now. A change since the connection was made means that a standby was promoted.
    ///
    /// # Errors
    /// Fails with the query, so also when the connection was lost.
    pub fn in_recovery(&mut self) -> Result<bool, ClientError> {
        let what = "ask for the state of recovery";
        let row = self.row(what, "select pg_catalog.pg_is_in_recovery()", &[])?;
        self.column(what, &row, 0)
    }

    /// The timeline on which the server writes WAL, or replays it.
    ///
    /// # Errors
    /// Fails with the query.
    pub fn timeline(&mut self) -> Result<Timeline, ClientError> {
        let what = "read the timeline";
        // After a promotion the control file has the old timeline until the next checkpoint, so a primary is asked for
        // the name of the segment it writes. A standby has no such name to give.
        let sql = if self.facts.in_recovery {
            "select lpad(to_hex(greatest(timeline_id, min_recovery_end_timeline)), 8, '0')
               from pg_catalog.pg_control_checkpoint(), pg_catalog.pg_control_recovery()"
        } else {
            "select substr(pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_insert_lsn()), 1, 8)"
        };
        let row = self.row(what, sql, &[])?;
        let digits = self.column(what, &row, 0)?;
        let timeline = u32::from_str_radix(digits, 16);
        timeline.map(Timeline).map_err(|error| ClientError::answer(what, &self.target, &error))
    }

    /// The end of the WAL: where the next record of a primary goes; how far a standby has received or replayed. No page
    /// on disk has a higher LSN.
    ///
    /// # Errors
    /// Fails with the query.
    pub fn end_of_wal(&mut self) -> Result<Lsn, ClientError> {
        let what = "read the end of the WAL";
        let sql = if self.facts.in_recovery {
            "select greatest(pg_catalog.pg_last_wal_receive_lsn(), pg_catalog.pg_last_wal_replay_lsn())::text"
        } else {
            "select pg_catalog.pg_current_wal_insert_lsn()::text"
        };
        let row = self.row(what, sql, &[])?;
        self.parsed(what, &row, 0)
    }
}
