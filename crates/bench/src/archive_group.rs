//! Segments of WAL, archived and fetched one by one, as a server does it.

use std::io;
use std::path::{Path, PathBuf};

use fs_err as fs;
use pgark_testkit::Cluster;

use crate::bench::Bench;
use crate::dataset::Dataset;
use crate::files;
use crate::group::{Storage, Task};
use crate::recorder::Recorder;
use crate::repository::Repository;
use crate::result::GroupResult;

/// A cluster whose WAL goes into a store and comes back.
#[derive(Debug)]
pub(crate) struct ArchiveGroup<'a> {
    bench: &'a Bench,
    dataset: &'a Dataset,
    cluster: &'a Cluster,
    storage: Storage,
    recorder: Recorder,
}

impl<'a> ArchiveGroup<'a> {
    pub(crate) fn new(
        bench: &'a Bench,
        dataset: &'a Dataset,
        cluster: &'a Cluster,
        storage: Storage,
        recorder: Recorder,
    ) -> Self {
        Self { bench, dataset, cluster, storage, recorder }
    }

    /// Archives every segment and fetches it again, the programs in turn, and compares what came back.
    pub(crate) fn measure(mut self) -> io::Result<GroupResult> {
        let segments = self.dataset.segments()?;
        for _round in 0..self.bench.repetitions {
            let mut repositories = Vec::new();
            for tool in &self.bench.tools {
                repositories.push(Repository::create(self.bench, tool, tool.peer.name(), self.storage, self.cluster)?);
            }
            for segment in &segments {
                for repository in &repositories {
                    self.push(repository, segment)?;
                }
            }
            for segment in &segments {
                for repository in &repositories {
                    self.get(repository, segment)?;
                }
            }
            for repository in repositories {
                let stored = repository.place().extent()?;
                self.recorder.note_stored(Task::ArchivePush, repository.tool().peer, stored);
                repository.remove()?;
            }
        }
        Ok(self.recorder.finish())
    }

    /// The segment is in the page cache, as one is that a server has just written.
    fn push(&mut self, repository: &Repository<'_>, segment: &Path) -> io::Result<()> {
        drop(fs::read(segment)?);
        let peer = repository.tool().peer;
        self.recorder.measure_at(repository.place(), Task::ArchivePush, peer, &mut repository.archive_push(segment))
    }

    fn get(&mut self, repository: &Repository<'_>, segment: &Path) -> io::Result<()> {
        let name = segment.file_name().and_then(|name| name.to_str()).ok_or(io::ErrorKind::InvalidFilename)?;
        // Where a server in recovery wants it.
        let target: PathBuf = self.cluster.data_directory().join("pg_wal/RECOVERYXLOG");
        files::remove(&target)?;
        repository.place().chill()?;
        self.recorder.measure_at(
            repository.place(),
            Task::ArchiveGet,
            repository.tool().peer,
            &mut repository.archive_get(name, &target),
        )?;
        if fs::read(&target)? != fs::read(segment)? {
            return Err(io::Error::other(format!("segment '{name}' came back changed")));
        }
        files::remove(&target)
    }
}
