//! Bringing a backup back.

mod attributes;
mod destination;
mod fetch;
mod reach;
mod select;

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use fs_err as fs;
use fs_err::os::unix::fs::OpenOptionsExt;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use pgark_postgres::Lsn;
use pgark_postgres::recovery::{
    AUTO_CONFIGURATION_FILE, Recovery, RecoveryTarget, TargetAction, TargetTimeline, auto_configuration,
};
use pgark_repository::manifest::{Entry, EntryKind, Manifest, PackUse};
use pgark_repository::{Label, PackId, Repository, StanzaName};
use pgark_system::clock;
use pgark_system::durable::{self, Existing};

use self::attributes::Owners;
use self::destination::{Mode, TablespaceLink};
use self::fetch::{From, TargetFile};
use crate::archive_push::combine;
use crate::error::{Error, ErrorKind, Result};
use crate::lock;
use crate::stanza::{OpenRepository, RepositorySettings};

/// How far a restored cluster is to recover.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RestoreTarget {
    /// To the end of the archive.
    Default,
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
    /// No recovery settings are written: for a cluster that was shut down when it was backed up.
    None,
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
    /// The command by which the server gets WAL from the archive.
    pub restore_command: String,
    /// Whether what is in the data directory already is used where it is right.
    pub delta: bool,
    /// Whether files in the data directory are replaced.
    pub force: bool,
    /// How many workers fetch and write.
    pub workers: usize,
    /// Where lock files are.
    pub lock_path: PathBuf,
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

/// Restores a cluster.
///
/// The data directory can't be started before everything else in it is durable: the control file is written last.
///
/// # Errors
/// Any failure; the directory can't be started as a cluster then.
pub fn run(settings: &RestoreSettings) -> Result<RestoreReport> {
    let repositories = open_repositories(settings)?;
    let choice = select::choose(settings, &repositories)?;
    let key = choice.stanza.key();
    let _lock = lock::acquire(&settings.lock_path, &settings.stanza, "restore", key)?;
    let (repository, label) = (choice.stanza.repository(), choice.label);
    let manifest = Manifest::open(repository, &settings.stanza, &label)?;
    tracing::info!("repo{key}: restore backup set {label}");
    if settings.target == RestoreTarget::None && manifest.document().online {
        tracing::warn!(
            "backup set {label} was taken online, and without recovery settings PostgreSQL does not get the WAL that it needs\nHINT: use another --type, or put the WAL into pg_wal by hand"
        );
    }
    let restore = Restore { settings, repository, packs: manifest.packs()?, manifest };
    let mode = destination::open(&settings.data_directory, settings.delta, settings.force)?;
    let fetched = restore.carry_out(mode)?;
    let totals = restore.manifest.document().totals;
    Ok(RestoreReport { label, repository: key, files: totals.files, size: totals.size, fetched })
}

/// Opens the repositories that can be opened; one is enough.
fn open_repositories(settings: &RestoreSettings) -> Result<Vec<OpenRepository>> {
    let mut open = Vec::new();
    let mut errors = Vec::new();
    for repository in &settings.repositories {
        match repository.open() {
            Ok(repository) => open.push(repository),
            Err(error) => errors.push((repository.key, error)),
        }
    }
    if open.is_empty() {
        combine(errors)?;
        return Err(Error::new(ErrorKind::OptionRequired, "no repository is configured").hint("set repo1-path"));
    }
    for (key, error) in errors {
        tracing::warn!("repo{key}: {}", error.full_message());
    }
    Ok(open)
}

/// A restore under way.
struct Restore<'restore> {
    settings: &'restore RestoreSettings,
    repository: &'restore Repository,
    manifest: Manifest<'restore>,
    packs: BTreeMap<PackId, PackUse>,
}

impl Restore<'_> {
    /// Carries the restore out and gives the bytes that were fetched.
    fn carry_out(&self, mode: Mode) -> Result<u64> {
        let directory = &self.settings.data_directory;
        let tablespaces = self.tablespaces()?;
        let version_directory = self.version_directory();
        tablespaces.iter().try_for_each(|tablespace| tablespace.ensure_usable(mode, &version_directory))?;
        warn_of_unarchived_wal(directory)?;
        destination::begin(directory)?;
        if mode == Mode::Replace {
            // The tablespaces first: their links say that they may be emptied, should this be interrupted.
            tablespaces.iter().try_for_each(|tablespace| tablespace.empty(&version_directory))?;
            destination::empty(directory)?;
        }
        tablespaces.iter().try_for_each(TablespaceLink::prepare)?;
        if mode == Mode::Delta {
            let removed = destination::remove_foreign(directory, self.entries())?;
            tracing::info!("remove invalid files/links/paths from '{}': {removed}", directory.display());
        }
        let fetched = self.write_files()?;
        self.set_attributes()?;
        self.configure_recovery()?;
        durable::sync_file_system(directory)?;
        tablespaces.iter().try_for_each(|tablespace| durable::sync_file_system(&tablespace.link))?;
        self.write_late_files()?;
        destination::finish(directory)?;
        Ok(fetched)
    }

    fn tablespaces(&self) -> Result<Vec<TablespaceLink>> {
        let directory = &self.settings.data_directory;
        let links = self.entries().map(|entry| Ok(TablespaceLink::of(directory, &entry?)));
        links.filter_map(Result::transpose).collect()
    }

    /// The directory that a cluster of this version has in a tablespace.
    fn version_directory(&self) -> String {
        let cluster = &self.manifest.document().cluster;
        format!("PG_{}_{}", cluster.version, cluster.catalog_version)
    }

    fn entries(&self) -> impl Iterator<Item = Result<Entry>> + '_ {
        self.manifest.entries().flat_map(|block| match block {
            Ok(entries) => entries.into_iter().map(Ok).collect::<Vec<_>>(),
            Err(error) => vec![Err(error.into())],
        })
    }

    fn path(&self, entry: &Entry) -> PathBuf {
        self.settings.data_directory.join(OsStr::from_bytes(&entry.path))
    }

    fn from(&self) -> From<'_> {
        From { repository: self.repository, stanza: &self.settings.stanza, packs: &self.packs }
    }

    /// Makes all directories and files and writes their pages.
    fn write_files(&self) -> Result<u64> {
        let mut maps = self.manifest.maps(&self.packs);
        fetch::fetch(self.from(), self.settings.workers.max(1), |dispatcher| {
            for entry in self.entries() {
                let entry = entry?;
                let path = self.path(&entry);
                match entry.kind {
                    EntryKind::Directory => make_directory(&path)?,
                    EntryKind::File { size, .. } => {
                        let existed = make_file(&path, size)?;
                        dispatcher.add(TargetFile { path, size, existed }, &maps.map(&entry)?)?;
                    }
                }
            }
            Ok(())
        })
    }

    fn set_attributes(&self) -> Result<()> {
        let document = self.manifest.document();
        let mut owners = Owners::new(&document.users, &document.groups);
        for entry in self.entries() {
            let entry = entry?;
            attributes::set(&self.path(&entry), &entry.attributes, &mut owners)?;
        }
        Ok(())
    }

    /// Writes the settings with which the server recovers, and the file that tells it to.
    fn configure_recovery(&self) -> Result<()> {
        let recovery = self.recovery();
        let path = self.settings.data_directory.join(AUTO_CONFIGURATION_FILE);
        let existing = match fs::read(&path) {
            Ok(existing) => existing,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(error.into()),
        };
        let now = clock::now().to_zoned(TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S").to_string();
        let content = auto_configuration(&existing, recovery.as_ref(), &now)
            .map_err(|error| Error::new(ErrorKind::OptionInvalidValue, error.to_string()))?;
        durable::write(&path, &content, 0o600, Existing::Replace)?;
        if let Some(recovery) = recovery {
            let signal = self.settings.data_directory.join(recovery.signal_file().name());
            durable::write(&signal, b"", 0o600, Existing::Replace)?;
        }
        Ok(())
    }

    fn recovery(&self) -> Option<Recovery> {
        let settings = self.settings;
        let exclusive = settings.exclusive;
        let target = match &settings.target {
            RestoreTarget::None => return None,
            RestoreTarget::Default => RecoveryTarget::EndOfArchive,
            RestoreTarget::Immediate => RecoveryTarget::Immediate,
            RestoreTarget::Time { text, .. } => RecoveryTarget::Time { time: text.clone(), exclusive },
            RestoreTarget::Transaction(xid) => RecoveryTarget::Transaction { id: u64::from(*xid), exclusive },
            RestoreTarget::Lsn(lsn) => RecoveryTarget::Lsn { lsn: *lsn, exclusive },
            RestoreTarget::Name(name) => RecoveryTarget::Name(name.clone()),
        };
        Some(Recovery {
            target,
            timeline: settings.timeline,
            action: settings.action,
            restore_command: settings.restore_command.clone(),
            archive_off: false,
            options: settings.recovery_options.clone(),
        })
    }

    /// Writes the files without which the server does not start, each durable before the next, the control file last.
    fn write_late_files(&self) -> Result<()> {
        let document = self.manifest.document();
        let mut owners = Owners::new(&document.users, &document.groups);
        let mut maps = self.manifest.maps(&self.packs);
        for entry in self.manifest.late_entries()? {
            let EntryKind::File { size, .. } = entry.kind else { continue };
            let path = self.path(&entry);
            let unfinished = path.with_extension("pgark-restore");
            make_file(&unfinished, size)?;
            let file = TargetFile { path: unfinished.clone(), size, existed: false };
            let map = maps.map(&entry)?;
            fetch::fetch(self.from(), 1, |dispatcher| dispatcher.add(file, &map))?;
            attributes::set(&unfinished, &entry.attributes, &mut owners)?;
            fs::File::open(&unfinished)?.sync_all()?;
            fs::rename(&unfinished, &path)?;
            durable::sync_directory(path.parent().unwrap_or(&self.settings.data_directory))?;
        }
        Ok(())
    }
}

/// What the server had not archived when it ended is lost with the directory's old WAL.
fn warn_of_unarchived_wal(directory: &Path) -> Result<()> {
    let files = destination::unarchived_wal(directory)?;
    if let (Some(first), Some(last)) = (files.first(), files.last()) {
        tracing::warn!(
            "{} WAL file(s) in '{}' were not archived and are removed: {first} to {last}\nHINT: restore into another directory to keep them, or push them with archive-push first",
            files.len(),
            directory.join("pg_wal").display()
        );
    }
    Ok(())
}

/// Makes a directory, if it is not there: tablespaces are, as links.
fn make_directory(path: &Path) -> Result<()> {
    match fs::create_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        made => Ok(made?),
    }
}

/// Makes a file of this size, all zeros where it was not there before. Gives whether it was.
fn make_file(path: &Path, size: u64) -> Result<bool> {
    let mut options = fs::OpenOptions::new();
    options.write(true).mode(0o600);
    let (file, existed) = match options.clone().create_new(true).open(path) {
        Ok(file) => (file, false),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => (options.open(path)?, true),
        Err(error) => return Err(error.into()),
    };
    file.set_len(size)?;
    Ok(existed)
}
