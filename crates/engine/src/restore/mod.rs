//! Bringing a backup back.

mod attributes;
mod branch;
mod clean;
pub(crate) mod contents;
mod databases;
mod destination;
mod fetch;
mod layout;
mod place;
mod reach;
mod recovery;
mod select;
mod settings;
pub(crate) mod sidecar;
mod target;
mod telling;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fs_err::os::unix::fs::FileExt;
use pgark_postgres::label::TABLESPACE_MAP_FILE;
use pgark_postgres::recovery::{AUTO_CONFIGURATION_FILE, Recovery};
use pgark_repository::manifest::{Attributes, Entry, EntryKind, Manifest, PackUse};
use pgark_repository::map::PageMap;
use pgark_repository::{Label, PackId, Repository};
use pgark_system::termination;
use rustix::fs::OFlags;

use self::attributes::Owners;
use self::contents::{Contents, as_path};
use self::databases::Emptied;
use self::destination::Mode;
use self::fetch::From;
use self::layout::Layout;
use self::place::{Place, Places, Root};
pub use self::settings::{DatabaseChoice, Relocation, RestoreReport, RestoreSettings, RestoreTarget, SidecarChoice};
use self::target::{Present, TargetFile};
use self::telling::Telling;
use crate::archive_push::combine;
use crate::error::{Error, ErrorKind, Result};
use crate::progress::{Progress, Unit};
use crate::stanza::OpenRepository;
use crate::{lock, pin};

/// Restores a cluster.
///
/// The data directory can't be started before everything else in it is durable: the control file is written last.
///
/// # Errors
/// Any failure. What makes no sense is refused before anything is touched; if something fails later, the directory can't
/// be started as a cluster.
pub fn run(settings: RestoreSettings) -> Result<RestoreReport> {
    if let SidecarChoice::Only(name) = settings.sidecars.clone() {
        return sidecar::run_alone(settings, &name);
    }
    recovery::check(&settings)?;
    let repositories = open_repositories(&settings)?;
    let choice = select::choose(&settings, &repositories)?;
    let key = choice.stanza.key();
    let lock = lock::acquire(&settings.locks, &settings.stanza, "restore", key, "restore")?;
    let work = settings.board.begin("restore", key, Unit::Bytes);
    let _following = lock.follow(work.progress());
    let (repository, label, host) = (choice.stanza.repository(), choice.label, settings.host.clone());
    let stanza = settings.stanza.clone();
    pin::while_pinned(repository, &stanza, &label, &host, || restore(settings, repository, &work, label.clone()))
}

fn restore(
    mut settings: RestoreSettings,
    repository: &Repository,
    progress: &Progress,
    label: Label,
) -> Result<RestoreReport> {
    let key = progress.repository;
    let manifest = Manifest::open(repository, &settings.stanza, &label)?;
    tracing::info!("repo{key}: restore backup set {label}");
    settings.target = settings.target_for(manifest.document());
    let plan = Plan::new(&settings, &manifest)?;
    progress.expect(manifest.document().totals.size + sidecar::size(&plan.sidecars));
    let restore = Restore {
        settings: &settings,
        repository,
        progress,
        packs: manifest.packs()?,
        manifest,
        plan,
        telling: Telling::new(),
    };
    let fetched = restore.carry_out()?;
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

/// What the name of a file that is restored last ends with until it is durable.
const UNFINISHED_SUFFIX: &str = ".pgark-restore";

/// What is to be done, decided before anything is touched.
#[derive(Debug)]
struct Plan {
    mode: Mode,
    /// The attributes of the data directory.
    attributes: Attributes,
    layout: Layout,
    /// The directory that the cluster has in each tablespace.
    version_directory: String,
    emptied: Emptied,
    sidecars: Vec<sidecar::Planned>,
    recovery: Option<Recovery>,
    /// The files in the data directory that stay as they are.
    kept: &'static [&'static str],
}

impl Plan {
    fn new(settings: &RestoreSettings, manifest: &Manifest<'_>) -> Result<Self> {
        let document = manifest.document();
        let asked: BTreeSet<PathBuf> = settings.relocation.links.iter().map(|(link, _)| link.into()).collect();
        let contents = Contents::read(document, entries(manifest), &manifest.late_entries()?, &asked)?;
        let version_directory = contents.version_directory.clone();
        let emptied = Emptied::choose(&settings.databases, &document.databases, &contents.databases)?;
        let directory = &settings.data_directory;
        let layout =
            Layout::new(directory, &contents, &document.tablespaces, &settings.relocation, &version_directory)?;
        let kept = destination::kept(settings);
        let mode = destination::judge(directory, settings.delta, settings.force, kept)?;
        layout.links().try_for_each(|link| destination::judge_link(&layout, link, mode, &version_directory))?;
        let sidecars = sidecar::plan(settings, manifest, &sidecar::neighbours_of(&layout)?)?;
        recovery::warn_if_none(settings, document);
        let recovery = recovery::recovery(settings);
        Ok(Self { mode, attributes: contents.attributes, layout, version_directory, emptied, sidecars, recovery, kept })
    }
}

/// The entries of a manifest, one by one.
fn entries<'manifest>(manifest: &'manifest Manifest<'_>) -> impl Iterator<Item = Result<Entry>> + 'manifest {
    manifest.entries().flat_map(|block| match block {
        Ok(entries) => entries.into_iter().map(Ok).collect::<Vec<_>>(),
        Err(error) => vec![Err(error.into())],
    })
}

/// A restore under way.
struct Restore<'restore> {
    settings: &'restore RestoreSettings,
    repository: &'restore Repository,
    progress: &'restore Progress,
    manifest: Manifest<'restore>,
    packs: BTreeMap<PackId, PackUse>,
    plan: Plan,
    telling: Telling,
}

impl Restore<'_> {
    /// Carries the restore out and gives the bytes that were fetched.
    fn carry_out(&self) -> Result<u64> {
        let Plan { mode, layout, version_directory, kept, .. } = &self.plan;
        self.warn_of_unarchived_wal()?;
        let document = self.manifest.document();
        let owners = Owners::new(&document.users, &document.groups, &self.settings.data_directory);
        owners.warn_of_unknown(document);
        let owner = owners.of(&self.plan.attributes);
        destination::create(&self.settings.data_directory, owner)?;
        let root = Arc::new(Root::open(&self.settings.data_directory)?);
        destination::begin(root.directory(), layout)?;
        self.progress.note("removing what is not in the backup");
        if *mode == Mode::Replace {
            clean::empty(root.directory(), layout, version_directory, kept)?;
        }
        layout.links().try_for_each(|link| destination::create(link.root(), owner))?;
        if *mode == Mode::Delta {
            let removed = clean::remove_foreign(root.directory(), layout, kept, entries(&self.manifest))?;
            let directory = self.settings.data_directory.display();
            tracing::info!("remove invalid files/links/paths from '{directory}': {removed}");
        }
        self.progress.note("");
        let places = Places::open(layout, root)?;
        let fetched = self.write_files(&places, &owners)? + self.write_sidecars(&owners)?;
        self.set_directory_attributes(&places, &owners)?;
        self.configure_recovery(&places)?;
        self.progress.note("making all durable");
        places.roots().try_for_each(|root| root.directory().sync_file_system())?;
        termination::check()?;
        self.write_late_files(&places, &owners)?;
        destination::finish(places.data_directory().directory()?.as_ref())?;
        Ok(fetched)
    }

    /// What the server had not archived when it ended is lost with the directory's old WAL.
    fn warn_of_unarchived_wal(&self) -> Result<()> {
        let directory = &self.settings.data_directory;
        let files = destination::unarchived_wal(directory, &self.plan.layout)?;
        if let (Some(first), Some(last)) = (files.first(), files.last()) {
            tracing::warn!(
                "{} WAL file(s) in '{}' were not archived and are removed: {first} to {last}\nHINT: restore into another directory to keep them, or push them with archive-push first",
                files.len(),
                directory.join("pg_wal").display()
            );
        }
        Ok(())
    }

    fn from<'a>(&'a self, owners: &'a Owners) -> From<'a> {
        From {
            repository: self.repository,
            stanza: &self.settings.stanza,
            packs: &self.packs,
            owners,
            pacer: &self.settings.pacer,
            progress: self.progress,
            telling: &self.telling,
        }
    }

    /// The entries that are restored: without those files that stay as they are.
    fn entries(&self, places: &Places<'_>) -> Result<impl Iterator<Item = Result<Entry>> + '_> {
        let directory = places.data_directory().directory()?;
        let there: Vec<&str> = match self.plan.kept {
            [] => Vec::new(),
            kept => {
                directory.names()?.iter().filter_map(|name| kept.iter().copied().find(|kept| name == kept)).collect()
            }
        };
        let stays = move |entry: &Entry| there.iter().any(|kept| kept.as_bytes() == entry.path);
        Ok(entries(&self.manifest).filter(move |entry| !entry.as_ref().is_ok_and(&stays)))
    }

    /// Makes all directories, links and files, and writes the files' pages and attributes.
    fn write_files(&self, places: &Places<'_>, owners: &Owners) -> Result<u64> {
        let mut maps = self.manifest.maps(&self.packs);
        let entries = self.entries(places)?;
        let present = if self.plan.mode == Mode::Delta { Present::Reused } else { Present::Discarded };
        fetch::fetch(self.from(owners), self.settings.workers.max(1), |dispatcher| {
            for entry in entries {
                let entry = entry?;
                let path = as_path(&entry.path);
                let link = self.plan.layout.link(path);
                if let Some(link) = link {
                    make_link(&places.name(path), &link.text)?;
                }
                let place = places.content(path);
                match entry.kind {
                    EntryKind::Directory if path.as_os_str().is_empty() || link.is_some() => {}
                    EntryKind::Directory => make_directory(&place)?,
                    EntryKind::File { size, .. } if self.plan.emptied.has(path) => {
                        let file = TargetFile::new(place, size, entry.attributes, Present::Discarded);
                        dispatcher.add(file, &PageMap::default())?;
                    }
                    EntryKind::File { size, .. } => {
                        let file = TargetFile::new(place, size, entry.attributes, present);
                        dispatcher.add(file, &maps.map(&entry)?)?;
                    }
                }
            }
            Ok(())
        })
    }

    /// Restores the sidecars, durably: the cluster, which needs them, can't be started before.
    fn write_sidecars(&self, owners: &Owners) -> Result<u64> {
        let (from, workers) = (self.from(owners), self.settings.workers.max(1));
        let sidecars = self.plan.sidecars.iter();
        sidecars.map(|planned| sidecar::restore(planned, &self.manifest, from, workers)).sum()
    }

    /// Gives directories and links their attributes: those of a directory change with every file that is made in it.
    fn set_directory_attributes(&self, places: &Places<'_>, owners: &Owners) -> Result<()> {
        for entry in self.entries(places)? {
            let entry = entry?;
            let path = as_path(&entry.path);
            if entry.kind == EntryKind::Directory {
                attributes::set_on_directory(&*places.content(path).directory()?, &entry.attributes, 0, owners)?;
            }
            if self.plan.layout.link(path).is_some() {
                attributes::set_on_link(&places.name(path), &entry.attributes, owners)?;
            }
        }
        Ok(())
    }

    /// Writes the settings with which the server recovers, and the file that tells it to.
    fn configure_recovery(&self, places: &Places<'_>) -> Result<()> {
        if self.settings.target == RestoreTarget::Preserve {
            return Ok(());
        }
        let settings = places.content(as_path(AUTO_CONFIGURATION_FILE.as_bytes()));
        let signal = |name: &str| places.name(as_path(name.as_bytes()));
        recovery::write(self.plan.recovery.as_ref(), &settings, signal, &places.data_directory())
    }

    /// Writes the files without which the server does not start, each durable before the next, the control file last.
    fn write_late_files(&self, places: &Places<'_>, owners: &Owners) -> Result<()> {
        let mut maps = self.manifest.maps(&self.packs);
        for entry in self.manifest.late_entries()? {
            let EntryKind::File { size, .. } = entry.kind else { continue };
            let place = places.content(as_path(&entry.path));
            let unfinished = place.beside(UNFINISHED_SUFFIX);
            let tablespace_map =
                self.plan.layout.tablespace_map().filter(|_| entry.path == TABLESPACE_MAP_FILE.as_bytes());
            let target = |size| TargetFile::new(unfinished.clone(), size, entry.attributes, Present::Discarded);
            if let Some(content) = tablespace_map {
                let file = target(content.len() as u64);
                let open = file.open()?;
                open.handle.write_all_at(&content, 0)?;
                file.complete(&open.handle, owners)?;
            } else {
                let map = maps.map(&entry)?;
                fetch::fetch(self.from(owners), 1, |dispatcher| dispatcher.add(target(size), &map))?;
            }
            unfinished.open(OFlags::RDONLY)?.sync_all()?;
            let ((directory, from), (_, to)) = (unfinished.parent()?, place.parent()?);
            directory.rename(from, to)?;
            directory.sync()?;
        }
        Ok(())
    }
}

/// Makes a link, if it is not there as it is to be.
fn make_link(place: &Place, text: &Path) -> Result<()> {
    let (directory, name) = place.parent()?;
    if let Some(look) = directory.look(name)? {
        if look.is_link() && directory.read_link(name)? == text {
            return Ok(());
        }
        directory.remove(name)?;
    }
    Ok(directory.make_link(name, text)?)
}

/// Makes a directory, if it is not there.
fn make_directory(place: &Place) -> Result<()> {
    let (directory, name) = place.parent()?;
    directory.make_directory(name, 0o700)?;
    Ok(())
}
