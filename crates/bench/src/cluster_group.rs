//! Backups and restores of a whole cluster.

use std::io;
use std::path::PathBuf;
use std::process::Command;

use pgark_testkit::Cluster;

use crate::bench::{Bench, archive_with};
use crate::dataset::Dataset;
use crate::files;
use crate::group::{Peer, Storage, Task};
use crate::limits;
use crate::recorder::Recorder;
use crate::repository::Repository;
use crate::result::GroupResult;
use crate::tool::{COMPRESSION_LEVEL, Tool, WORKERS};

/// A cluster that is backed up into a store, and what came of it.
#[derive(Debug)]
pub(crate) struct ClusterGroup<'a> {
    bench: &'a Bench,
    dataset: &'a Dataset,
    cluster: &'a Cluster,
    storage: Storage,
    recorder: Recorder,
}

impl<'a> ClusterGroup<'a> {
    pub(crate) fn new(
        bench: &'a Bench,
        dataset: &'a Dataset,
        cluster: &'a Cluster,
        storage: Storage,
        recorder: Recorder,
    ) -> Self {
        Self { bench, dataset, cluster, storage, recorder }
    }

    /// Measures every task, the programs in turn, and makes sure that what they restore is the cluster.
    pub(crate) fn measure(mut self) -> io::Result<GroupResult> {
        let mut repositories = Vec::new();
        let pgark = self.bench.tools.iter().filter(|tool| tool.peer == Peer::Pgark);
        let mut backups: Vec<_> = pgark.map(|tool| (tool, Task::UncheckedBackup)).collect();
        backups.extend(self.bench.tools.iter().map(|tool| (tool, Task::Backup)));
        for _round in 0..self.bench.repetitions {
            repositories.clear();
            for (tool, task) in backups.clone() {
                let repository = self.measure_backup(tool, task)?;
                match task {
                    Task::UncheckedBackup => repository.remove()?,
                    _ => repositories.push(repository),
                }
            }
            // Whoever comes first finds a disk that may not be done yet with all that was written last: each does once.
            backups.rotate_left(1);
            if self.storage == Storage::Disk {
                self.measure_base_backup()?;
                self.recorder.note_limits(limits::measure(&self.dataset.relations(), &self.bench.work)?);
            }
        }
        for round in 1..=self.bench.repetitions {
            for repository in &repositories {
                self.measure_restores(repository)?;
                if round == self.bench.repetitions {
                    self.dataset.expect_restored(&self.bench.server, &self.target())?;
                }
            }
        }
        repositories.into_iter().try_for_each(Repository::remove)?;
        files::remove(&self.target())?;
        Ok(self.recorder.finish())
    }

    fn measure_backup(&mut self, tool: &'a Tool, task: Task) -> io::Result<Repository<'a>> {
        self.bench.settle(self.cluster)?;
        let is_unchecked = task == Task::UncheckedBackup;
        let name = if is_unchecked { "unchecked" } else { tool.peer.name() };
        let repository = Repository::create(self.bench, tool, name, self.storage, self.cluster)?;
        archive_with(self.cluster, &repository.archive_command());
        files::chill(self.cluster.data_directory())?;
        let mut backup = if is_unchecked { repository.unchecked_backup() } else { repository.backup() };
        self.recorder.measure_at(repository.place(), task, tool.peer, &mut backup)?;
        archive_with(self.cluster, "true");
        self.recorder.note_stored(task, tool.peer, repository.place().extent()?);
        Ok(repository)
    }

    fn measure_base_backup(&mut self) -> io::Result<()> {
        self.bench.settle(self.cluster)?;
        files::remove(&self.target())?;
        files::chill(self.cluster.data_directory())?;
        let mut command: Command = self.cluster.client("pg_basebackup");
        command.args(["--checkpoint=fast", "--format=tar", "--pgdata"]).arg(self.target());
        command.arg(format!("--compress=client-zstd:level={COMPRESSION_LEVEL},workers={WORKERS}"));
        self.recorder.measure(Task::Backup, Peer::PgBaseBackup, &mut command)?;
        self.recorder.note_stored(Task::Backup, Peer::PgBaseBackup, files::extent(&self.target())?);
        files::remove(&self.target())
    }

    /// A restore, and another one over it that has nothing to do.
    fn measure_restores(&mut self, repository: &Repository<'_>) -> io::Result<()> {
        let target = self.target();
        let peer = repository.tool().peer;
        files::remove(&target)?;
        repository.place().chill()?;
        self.recorder.measure_at(repository.place(), Task::Restore, peer, &mut repository.restore(&target, false))?;
        files::chill(&target)?;
        repository.place().chill()?;
        self.recorder.measure_at(repository.place(), Task::DeltaRestore, peer, &mut repository.restore(&target, true))
    }

    /// Where a restore goes, or a copy by `pg_basebackup`.
    fn target(&self) -> PathBuf {
        self.bench.work.join("target")
    }
}
