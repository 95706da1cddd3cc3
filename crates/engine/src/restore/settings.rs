//! What is to be restored and how, and what came of it.

use std::collections::BTreeSet;
use std::path::PathBuf;

use jiff::Timestamp;
use pgark_postgres::Lsn;
use pgark_postgres::recovery::{TargetAction, TargetTimeline};
use pgark_repository::manifest::ManifestDocument;
use pgark_repository::{Label, StanzaName};
use pgark_system::pace::Pacer;

use crate::lock::Locks;
use crate::progress::Board;
use crate::sidecar::SidecarSettings;
use crate::stanza::RepositorySettings;

/// How far a restored cluster is to recover.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RestoreTarget {
    /// As it suits the backup: to the end of the archive, or of an offline backup as [`Self::None`], if no recovery
    /// setting is asked for otherwise. WAL of level `minimal` can't be recovered.
    Unspecified,
    /// To the end of the archive.
    Default,
    /// To the end of the archive and on, as a standby.
    Standby,
    /// To the point where the backup is consistent.
    Immediate,
    /// To a time.
    Time {
        /// The time.
        time: Timestamp,
        /// The time as the user wrote it, which PostgreSQL gets.
        text: String,
    },
    /// To the end of a transaction.
    Transaction(u32),
    /// To a position in the WAL.
    Lsn(Lsn),
    /// To a restore point.
    Name(String),
    /// As the settings say that are in the data directory already: they and the signal files stay as they are.
    Preserve,
    /// No recovery settings are written: for a cluster that was shut down when it was backed up.
    None,
}

/// Where what does not lie in the data directory is to go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Relocation {
    /// Whether symbolic links are made again; otherwise what they led to is restored in their place.
    pub link_all: bool,
    /// Links by their paths in the data directory, and where they are to lead.
    pub links: Vec<(String, PathBuf)>,
    /// Tablespaces by name or oid, and where they are to lie.
    pub tablespaces: Vec<(String, PathBuf)>,
    /// Where the tablespaces that are not named are to lie, each in a directory of its name.
    pub all_tablespaces: Option<PathBuf>,
}

/// Which databases are restored; by name or oid.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DatabaseChoice {
    /// Only these, and those that every cluster has; all if there are none.
    pub include: Vec<String>,
    /// Not these.
    pub exclude: Vec<String>,
}

/// Which sidecars are restored.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum SidecarChoice {
    /// All, with the cluster.
    #[default]
    All,
    /// None: only the cluster.
    None,
    /// The one of this name, and nothing else.
    Only(String),
}

/// What is to be restored, and how.
#[derive(Debug)]
pub struct RestoreSettings {
    /// The stanza.
    pub stanza: StanzaName,
    /// Where the cluster is to be.
    pub data_directory: PathBuf,
    /// The repositories, in the order in which they are searched.
    pub repositories: Vec<RepositorySettings>,
    /// The backup set; chosen by the target if `None`.
    pub set: Option<Label>,
    /// How far to recover.
    pub target: RestoreTarget,
    /// Whether recovery stops before the target instead of after it.
    pub exclusive: bool,
    /// The timeline to recover along.
    pub timeline: Option<TargetTimeline>,
    /// What the server does at the target.
    pub action: TargetAction,
    /// Further recovery settings, as the user gave them.
    pub recovery_options: Vec<(String, String)>,
    /// Whether the restored server is kept from archiving.
    pub archive_off: bool,
    /// The command by which the server gets WAL from the archive.
    pub restore_command: String,
    /// Where tablespaces and links go.
    pub relocation: Relocation,
    /// Which databases are restored.
    pub databases: DatabaseChoice,
    /// Which sidecars are restored.
    pub sidecars: SidecarChoice,
    /// Where sidecars go; one that is not among these goes to where it was.
    pub sidecar_places: Vec<SidecarSettings>,
    /// The sidecars that may be restored over what is there; all of them if `None`. What is in the places of the others may be
    /// in use by another cluster.
    pub sidecars_replaced: Option<BTreeSet<String>>,
    /// Whether what is in the data directory already is used where it is right.
    pub delta: bool,
    /// Whether files in the data directory are replaced.
    pub force: bool,
    /// How many workers fetch and write.
    pub workers: usize,
    /// At what pace they write to the disk together, and read from it.
    pub pacer: Pacer,
    /// Where lock files are.
    pub locks: Locks,
    /// Where it is shown how far it is.
    pub board: Board,
    /// This host.
    pub host: String,
}

impl RestoreSettings {
    /// The target for this backup, once it is chosen.
    pub(super) fn target_for(&self, backup: &ManifestDocument) -> RestoreTarget {
        if self.target != RestoreTarget::Unspecified {
            return self.target.clone();
        }
        let asks_for_recovery = self.archive_off || self.timeline.is_some() || !self.recovery_options.is_empty();
        if backup.online || asks_for_recovery {
            return RestoreTarget::Default;
        }
        tracing::info!("backup set {} was taken offline: it is restored with --type=none", backup.label);
        RestoreTarget::None
    }
}

/// A restore that was carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestoreReport {
    /// The backup set.
    pub label: Label,
    /// The repository it came from.
    pub repository: u32,
    /// Files, and bytes in them.
    pub files: u64,
    /// Bytes of all files.
    pub size: u64,
    /// Bytes that were fetched from the repository.
    pub fetched: u64,
}
