//! Many segments of WAL that wait: archived asynchronously, as after a repository was out of reach for a while.

use std::io;
use std::path::{Path, PathBuf};

use fs_err as fs;
use pgark_testkit::{Cluster, give_to_test_user, run, wait_until};

use crate::bench::Bench;
use crate::dataset::Dataset;
use crate::files;
use crate::group::{Storage, Task};
use crate::recorder::Recorder;
use crate::repository::Repository;
use crate::result::GroupResult;

/// Of so many segments one is fetched again and compared.
const COMPARED: usize = 16;

/// A cluster with WAL that waits.
#[derive(Debug)]
pub(crate) struct QueueGroup<'a> {
    bench: &'a Bench,
    dataset: &'a Dataset,
    cluster: &'a Cluster,
    storage: Storage,
    recorder: Recorder,
}

impl<'a> QueueGroup<'a> {
    pub(crate) fn new(
        bench: &'a Bench,
        dataset: &'a Dataset,
        cluster: &'a Cluster,
        storage: Storage,
        recorder: Recorder,
    ) -> Self {
        Self { bench, dataset, cluster, storage, recorder }
    }

    /// Archives all segments into an empty repository, the programs in turn.
    pub(crate) fn measure(mut self) -> io::Result<GroupResult> {
        let segments = self.dataset.segments()?;
        for _round in 0..self.bench.repetitions {
            for tool in &self.bench.tools {
                let repository = Repository::create(self.bench, tool, tool.peer.name(), self.storage, self.cluster)?;
                let waiting = self.let_wait(&segments)?;
                let (place, peer) = (repository.place(), repository.tool().peer);
                let mut archive = repository.archive_queue(&waiting);
                self.recorder.measure_at(place, Task::ArchivePushQueue, peer, &mut archive)?;
                wait_until("the background to end", || !repository.is_archiving());
                let stored = repository.place().extent()?;
                self.recorder.note_stored(Task::ArchivePushQueue, peer, stored);
                for segment in segments.iter().step_by(COMPARED) {
                    self.expect_archived(&repository, segment)?;
                }
                files::remove(&waiting)?;
                repository.remove()?;
            }
        }
        Ok(self.recorder.finish())
    }

    /// Makes the segments wait in a directory like `pg_wal`, of which the server knows nothing.
    fn let_wait(&self, segments: &[PathBuf]) -> io::Result<PathBuf> {
        let waiting = self.dataset.data_directory().join("waiting");
        files::remove(&waiting)?;
        let status = waiting.join("archive_status");
        fs::create_dir_all(&status)?;
        for segment in segments {
            let name = segment.file_name().and_then(|name| name.to_str()).ok_or(io::ErrorKind::InvalidFilename)?;
            fs::hard_link(segment, waiting.join(name))?;
            let ready = status.join(format!("{name}.ready"));
            fs::write(&ready, "")?;
            give_to_test_user(&ready);
        }
        give_to_test_user(&status);
        give_to_test_user(&waiting);
        Ok(waiting)
    }

    fn expect_archived(&self, repository: &Repository<'_>, segment: &Path) -> io::Result<()> {
        let name = segment.file_name().and_then(|name| name.to_str()).ok_or(io::ErrorKind::InvalidFilename)?;
        let target = self.cluster.data_directory().join("pg_wal/RECOVERYXLOG");
        run(&mut repository.archive_get(name, &target)).expect_success();
        if fs::read(&target)? != fs::read(segment)? {
            return Err(io::Error::other(format!("segment '{name}' came back changed")));
        }
        files::remove(&target)
    }
}
