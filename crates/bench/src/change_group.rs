//! Backups of a cluster that changes a little between them.

use std::io;
use std::path::PathBuf;
use std::process::Command;

use pgark_testkit::{Cluster, run};

use crate::bench::{Bench, archive_with};
use crate::dataset::{self, Dataset};
use crate::files::{self, Extent};
use crate::group::{Storage, Task};
use crate::recorder::Recorder;
use crate::repository::Repository;
use crate::result::GroupResult;

/// How many full backups are kept, one a day.
const DAYS: usize = 14;

/// A cluster that changes, and is backed up into a store again and again.
#[derive(Debug)]
pub(crate) struct ChangeGroup<'a> {
    bench: &'a Bench,
    dataset: &'a mut Dataset,
    cluster: &'a Cluster,
    storage: Storage,
    recorder: Recorder,
    /// How often the cluster has changed.
    changes: usize,
}

impl<'a> ChangeGroup<'a> {
    pub(crate) fn new(
        bench: &'a Bench,
        dataset: &'a mut Dataset,
        cluster: &'a Cluster,
        storage: Storage,
        recorder: Recorder,
    ) -> Self {
        Self { bench, dataset, cluster, storage, recorder, changes: 0 }
    }

    /// Measures every task, the programs in turn, and makes sure that what they restore is the cluster.
    pub(crate) fn measure(mut self) -> io::Result<GroupResult> {
        let repositories = self.repositories()?;
        for repository in &repositories {
            run(&mut repository.backup()).expect_success();
        }
        for _round in 0..self.bench.repetitions {
            self.change()?;
            for repository in &repositories {
                self.measure_backup(repository, Task::Incremental, &mut repository.incremental_backup())?;
            }
        }
        for _round in 0..self.bench.repetitions {
            self.bench.settle(self.cluster)?;
            for repository in &repositories {
                self.measure_backup(repository, Task::UnchangedFull, &mut repository.backup())?;
            }
        }
        repositories.into_iter().try_for_each(Repository::remove)?;

        let repositories = self.repositories()?;
        for day in 0..DAYS {
            if day > 0 {
                self.change()?;
            }
            for repository in &repositories {
                self.measure_backup(repository, Task::DailyFull, &mut repository.backup())?;
            }
        }
        for repository in &repositories {
            self.recorder.note_stored(Task::DailyFull, repository.tool().peer, repository.stored_backups()?);
        }
        self.bench.settle(self.cluster)?;
        self.dataset.note_content(self.cluster);
        self.measure_restores(&repositories)?;
        repositories.into_iter().try_for_each(Repository::remove)?;
        files::remove(&self.target())?;
        Ok(self.recorder.finish())
    }

    /// A repository of each program, empty; the server archives into all of them.
    fn repositories(&self) -> io::Result<Vec<Repository<'a>>> {
        archive_with(self.cluster, "true");
        let create = |tool| Repository::create(self.bench, tool, tool.peer.name(), self.storage, self.cluster);
        let repositories: Vec<_> = self.bench.tools.iter().map(create).collect::<io::Result<_>>()?;
        let commands: Vec<_> = repositories.iter().map(Repository::archive_command).collect();
        archive_with(self.cluster, &commands.join(" && "));
        self.bench.settle(self.cluster)?;
        Ok(repositories)
    }

    /// A backup, and what it adds to the repository.
    fn measure_backup(&mut self, repository: &Repository<'_>, task: Task, command: &mut Command) -> io::Result<()> {
        let before = repository.stored_backups()?;
        files::chill(self.cluster.data_directory())?;
        repository.place().chill()?;
        let peer = repository.tool().peer;
        self.recorder.measure_at(repository.place(), task, peer, command)?;
        let after = repository.stored_backups()?;
        let added = Extent { files: after.files - before.files, bytes: after.bytes - before.bytes };
        self.recorder.note_stored(task, peer, added);
        Ok(())
    }

    fn measure_restores(&mut self, repositories: &[Repository<'_>]) -> io::Result<()> {
        let target = self.target();
        for round in 1..=self.bench.repetitions {
            for repository in repositories {
                files::remove(&target)?;
                repository.place().chill()?;
                let peer = repository.tool().peer;
                let mut restore = repository.restore(&target, false);
                self.recorder.measure_at(repository.place(), Task::Restore, peer, &mut restore)?;
                if round == self.bench.repetitions {
                    self.dataset.expect_restored(&self.bench.server, &target)?;
                }
            }
        }
        Ok(())
    }

    fn change(&mut self) -> io::Result<()> {
        self.changes += 1;
        let before = self.cluster.sql("select pg_current_wal_insert_lsn() - '0/0'");
        dataset::change(self.cluster, self.changes);
        self.bench.settle(self.cluster)?;
        let before = before.parse().map_err(io::Error::other)?;
        self.recorder.note_changed(files::changed_pages(&self.dataset.relations(), before)?);
        Ok(())
    }

    /// Where a restore goes.
    fn target(&self) -> PathBuf {
        self.bench.work.join("target")
    }
}
