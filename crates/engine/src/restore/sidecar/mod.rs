//! Restoring sidecars: directories outside the data directory that were backed up with the cluster.

mod clean;
mod plan;
mod tree;

use std::path::Path;
use std::sync::Arc;

use pgark_repository::Label;
use pgark_repository::manifest::{Manifest, SidecarEntry, SidecarKind};
use pgark_system::termination;

use self::clean::remove_foreign;
pub(super) use self::plan::{Planned, neighbours_of, plan};
pub(crate) use self::tree::Tree;
use super::attributes::{self, Owners};
use super::contents::as_path;
use super::destination::{self, Mode};
use super::fetch::{self, From};
use super::place::{Place, Root};
use super::settings::{RestoreReport, RestoreSettings, RestoreTarget};
use super::target::{Present, TargetFile};
use super::telling::Telling;
use super::{make_directory, make_link, open_repositories, select};
use crate::error::Result;
use crate::progress::Unit;
use crate::sidecar::neighbours;
use crate::{lock, pin};

/// Restores one sidecar and nothing else. The server may be running: nothing of its data directory is touched.
///
/// # Errors
/// As [`super::run`].
pub(super) fn run_alone(mut settings: RestoreSettings, name: &str) -> Result<RestoreReport> {
    // Unless the user asks for a point in time, the newest backup will do: nothing is to be recovered.
    if matches!(settings.target, RestoreTarget::Unspecified | RestoreTarget::Default) {
        settings.target = RestoreTarget::None;
    }
    let repositories = open_repositories(&settings)?;
    let choice = select::choose(&settings, &repositories)?;
    let (key, label, repository) = (choice.stanza.key(), choice.label, choice.stanza.repository());
    let lock = lock::acquire(&settings.locks, &settings.stanza, "restore", key, "restore")?;
    let work = settings.board.begin("restore", key, Unit::Bytes);
    let _following = lock.follow(work.progress());
    pin::while_pinned(repository, &settings.stanza, &label, &settings.host, || {
        let manifest = Manifest::open(repository, &settings.stanza, &label)?;
        tracing::info!("repo{key}: restore sidecar '{name}' of backup set {label}");
        let planned = plan(&settings, &manifest, &neighbours(&settings.data_directory)?)?;
        let (document, packs) = (manifest.document(), manifest.packs()?);
        let owners = Owners::new(&document.users, &document.groups, &settings.data_directory);
        owners.warn_of_unknown(document);
        work.expect(size(&planned));
        let from = From {
            repository,
            stanza: &settings.stanza,
            packs: &packs,
            owners: &owners,
            pacer: &settings.pacer,
            progress: &work,
            telling: &Telling::new(),
        };
        let workers = settings.workers.max(1);
        let restored = planned.iter().map(|planned| restore(planned, &manifest, from, workers));
        let fetched = restored.sum::<Result<u64>>()?;
        let (files, size) = (planned.iter().map(|planned| planned.sidecar.files).sum(), size(&planned));
        Ok(RestoreReport { label: Label::clone(&label), repository: key, files, size, fetched })
    })
}

/// How many bytes the files of sidecars have.
pub(super) fn size(planned: &[Planned]) -> u64 {
    planned.iter().map(|planned| planned.sidecar.size).sum()
}

/// Restores a sidecar, durably. Gives the bytes that were fetched.
///
/// # Errors
/// Any failure.
pub(super) fn restore(planned: &Planned, manifest: &Manifest<'_>, from: From<'_>, workers: usize) -> Result<u64> {
    let Planned { sidecar, directory, mode, attributes } = planned;
    destination::create(directory, from.owners.of(attributes))?;
    let root = Arc::new(Root::open(directory)?);
    match mode {
        Mode::Empty => {}
        Mode::Replace => root.directory().empty()?,
        Mode::Delta => {
            let removed = remove_foreign(root.directory(), &sidecar.name, entries(manifest, &sidecar.name))?;
            tracing::info!("remove invalid files/links/paths from '{}': {removed}", directory.display());
        }
    }
    let restore = Restore { planned, manifest, from, root };
    let fetched = restore.write_files(workers)?;
    restore.write_other_names()?;
    restore.set_attributes()?;
    restore.root.directory().sync_file_system()?;
    let (name, files, directory) = (&sidecar.name, sidecar.files, directory.display());
    tracing::info!("restored sidecar '{name}' to '{directory}', file total = {files}");
    Ok(fetched)
}

/// The entries of a sidecar, one by one.
fn entries<'manifest>(
    manifest: &'manifest Manifest<'_>,
    name: &'manifest str,
) -> impl Iterator<Item = Result<SidecarEntry>> + 'manifest {
    let all = manifest.sidecar_entries().flat_map(|block| match block {
        Ok(entries) => entries.into_iter().map(Ok).collect::<Vec<_>>(),
        Err(error) => vec![Err(error.into())],
    });
    all.filter(move |entry| {
        entry.as_ref().map_or(true, |entry| SidecarEntry::sidecar_of(&entry.path) == name.as_bytes())
    })
}

/// The path of an entry below the directory of its sidecar.
fn below<'path>(path: &'path [u8], sidecar: &str) -> &'path Path {
    as_path(path.get(sidecar.len() + 1..).unwrap_or_default())
}

/// The restore of one sidecar under way.
struct Restore<'restore> {
    planned: &'restore Planned,
    manifest: &'restore Manifest<'restore>,
    from: From<'restore>,
    root: Arc<Root>,
}

impl Restore<'_> {
    fn entries(&self) -> impl Iterator<Item = Result<SidecarEntry>> + '_ {
        entries(self.manifest, &self.planned.sidecar.name)
    }

    fn place(&self, path: &[u8]) -> Place {
        Place::new(&self.root, below(path, &self.planned.sidecar.name).to_owned())
    }

    /// Makes all directories, links and files, and writes the files' pages and attributes.
    fn write_files(&self, workers: usize) -> Result<u64> {
        let mut maps = self.manifest.maps(self.from.packs);
        let present = if self.planned.mode == Mode::Delta { Present::Reused } else { Present::Discarded };
        fetch::fetch(self.from, workers, |dispatcher| {
            for entry in self.entries() {
                let SidecarEntry { path, attributes, stamp, kind } = entry?;
                let place = self.place(&path);
                match kind {
                    SidecarKind::Directory if place.is_root() => {}
                    SidecarKind::Directory => make_directory(&place)?,
                    SidecarKind::Link { target } => make_link(&place, as_path(&target))?,
                    SidecarKind::SameAs { .. } => {}
                    SidecarKind::File { size, content } => {
                        let file = TargetFile::new(place, size, attributes, present);
                        let map = maps.map_of(&content, size)?;
                        dispatcher.add(file.with_nanoseconds(stamp.modified_nanoseconds), &map)?;
                    }
                }
            }
            Ok(())
        })
    }

    /// Gives files their other names, once they are there.
    fn write_other_names(&self) -> Result<()> {
        for entry in self.entries() {
            let SidecarEntry { path, kind: SidecarKind::SameAs { path: first }, .. } = entry? else { continue };
            termination::check()?;
            let (first, other) = (self.place(&first), self.place(&path));
            let ((directory, name), (other_directory, other_name)) = (first.parent()?, other.parent()?);
            directory.make_hard_link(name, &other_directory, other_name)?;
        }
        Ok(())
    }

    /// Gives directories and links their attributes: those of a directory change with everything that is made in it.
    fn set_attributes(&self) -> Result<()> {
        let mut closed = Vec::new();
        for entry in self.entries() {
            let entry = entry?;
            match entry.kind {
                // What lies in it can't be reached any more once it has its mode.
                SidecarKind::Directory if entry.attributes.mode & 0o100 == 0 => closed.push(entry),
                SidecarKind::Directory => self.set_on_directory(&entry)?,
                SidecarKind::Link { .. } => {
                    let place = self.place(&entry.path);
                    attributes::set_on_link(&place, &entry.attributes, self.from.owners)?;
                    attributes::set_time_of_link(&place, &entry.attributes, entry.stamp.modified_nanoseconds)?;
                }
                SidecarKind::File { .. } | SidecarKind::SameAs { .. } => {}
            }
        }
        closed.iter().rev().try_for_each(|entry| self.set_on_directory(entry))
    }

    fn set_on_directory(&self, entry: &SidecarEntry) -> Result<()> {
        let directory = self.place(&entry.path).directory()?;
        let nanoseconds = entry.stamp.modified_nanoseconds;
        attributes::set_on_directory(&directory, &entry.attributes, nanoseconds, self.from.owners)
    }
}
