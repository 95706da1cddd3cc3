//! What an agent is to do.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use pgark_engine::control::{ControlSettings, ensure_not_stopped};
use pgark_engine::standby::is_standby;
use pgark_engine::{Error, ErrorKind};
use pgark_repository::StanzaName;

use crate::hook::Hooks;
use crate::job::Kind;
use crate::plan::Schedules;
use crate::serve::ServeSettings;

/// What an agent is to do.
#[derive(Clone, Debug)]
pub struct AgentSettings {
    /// The program that does the work.
    pub program: PathBuf,
    /// This program and its version, to be told.
    pub version: String,
    /// This host.
    pub host: String,
    /// Where it is remembered what ran.
    pub state_directory: PathBuf,
    /// How often the repositories are looked at.
    pub look_interval: Duration,
    /// Where what is known is shown; nowhere if `None`.
    pub serve: Option<ServeSettings>,
    /// The stanzas.
    pub stanzas: Vec<StanzaSettings>,
}

/// What an agent is to do for one stanza.
#[derive(Clone, Debug)]
pub struct StanzaSettings {
    /// Its name.
    pub stanza: StanzaName,
    /// The data directory of its cluster, if it is on this host.
    pub data_directory: Option<PathBuf>,
    /// Where lock files are.
    pub lock_path: PathBuf,
    /// When what is to be done.
    pub schedules: Schedules,
    /// The arguments of the program for each kind of job.
    pub commands: BTreeMap<Kind, Vec<OsString>>,
    /// Its arguments for being told of the repositories, as JSON.
    pub info_command: Vec<OsString>,
    /// What is called when something has happened.
    pub hooks: Hooks,
}

impl StanzaSettings {
    /// Whether the cluster here is a standby, whose backups another host takes.
    pub(crate) fn is_standby(&self) -> bool {
        self.data_directory.as_deref().is_some_and(is_standby)
    }

    /// What forbids its jobs to begin, if something does: a stop file.
    pub(crate) fn stopped(&self) -> Option<Error> {
        let control = ControlSettings { stanza: Some(self.stanza.clone()), lock_path: self.lock_path.clone() };
        ensure_not_stopped(&control).err().filter(|error| error.kind() == ErrorKind::Stop)
    }
}
