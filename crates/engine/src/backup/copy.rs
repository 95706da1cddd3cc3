//! Copying the files of a cluster into packs: one thread walks, workers do tasks, the caller's thread collects.

use std::collections::BTreeMap;
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use pgark_postgres::data_directory::Entry;
use pgark_repository::session::Session;
use pgark_system::clock::Stopwatch;

use super::collector::{Collector, FileRead};
use super::hand_out::{HandOut, UnderWay};
use super::packs::Packs;
use super::reader::{Reader, Rules, TaskRead};
use super::stock::Stock;
use super::task::Task;
use crate::error::{Error, ErrorKind, Result};

/// Files that may be on their way from the walk to the manifest. It bounds memory.
const FILES_UNDER_WAY: usize = 4096;

/// How often a session says that it is alive.
const RENEWAL_INTERVAL: Duration = Duration::from_secs(60);

type TaskResult = Result<(u64, Option<TaskRead>)>;

/// Copies the files that `dispatch` hands out, all but the control file, and adds them to the manifest. Gives the entry of
/// the control file, if it was among them, which the caller copies when everything else is done.
///
/// # Errors
/// Where a file can't be read, or the repository can't be written. No worker is left behind.
pub(super) fn copy(
    dispatch: impl FnOnce(HandOut<'_>) -> Result<()> + Send,
    stock: &Stock<'_>,
    rules: &Rules<'_>,
    workers: usize,
    packs: &Packs<'_>,
    collector: &mut Collector<'_, '_>,
    session: &mut Session<'_>,
) -> Result<Option<Entry>> {
    let (under_way_sender, under_way) = bounded(FILES_UNDER_WAY);
    let (task_sender, tasks) = bounded(2 * workers);
    let (result_sender, results) = bounded(FILES_UNDER_WAY);
    thread::scope(|scope| {
        let walking = scope.spawn(|| dispatch(HandOut::new(stock, under_way_sender, task_sender)));
        for worker in 1..=workers {
            let (tasks, results) = (tasks.clone(), result_sender.clone());
            let reader = Reader::new(packs, stock, rules);
            thread::Builder::new()
                .name(format!("P{worker:02}"))
                .spawn_scoped(scope, || work(reader, tasks, results))?;
        }
        // Only the workers hold these from here on, so that each side sees when the other is gone.
        drop((tasks, result_sender));
        let control_file = collect(under_way, results, collector, session)?;
        match walking.join() {
            Ok(walked) => walked?,
            Err(panic) => std::panic::resume_unwind(panic),
        }
        Ok(control_file)
    })
}

#[expect(clippy::needless_pass_by_value, reason = "the channel closes when this returns")]
fn work(mut reader: Reader<'_, '_>, tasks: Receiver<Task>, results: Sender<TaskResult>) {
    for task in tasks {
        let result = reader.read(&task).map(|read| (task.sequence, read));
        let failed = result.is_err();
        if results.send(result).is_err() || failed {
            return;
        }
    }
    if let Err(error) = reader.finish() {
        // If nobody listens any more, the backup has failed already.
        let _unheard = results.send(Err(error));
    }
}

/// Adds the files to the manifest in their order, as soon as all tasks of each are done. Gives the control file's entry,
/// which is not added.
fn collect(
    under_way: Receiver<UnderWay>,
    results: Receiver<TaskResult>,
    collector: &mut Collector<'_, '_>,
    session: &mut Session<'_>,
) -> Result<Option<Entry>> {
    let mut control_file = None;
    let mut waiting = BTreeMap::new();
    let mut since_renewal = Stopwatch::start();
    let mut renew_if_due = || -> Result<()> {
        if since_renewal.elapsed() >= RENEWAL_INTERVAL {
            session.renew()?;
            since_renewal = Stopwatch::start();
        }
        Ok(())
    };
    for next in under_way {
        renew_if_due()?;
        match next {
            UnderWay::Bare(found) => collector.add_bare(&found)?,
            UnderWay::ControlFile(found) => control_file = Some(found),
            UnderWay::Gone(counts) => collector.release(&counts),
            UnderWay::Kept { found, old } => collector.keep_file(&found, old)?,
            UnderWay::Read { found, file, tasks, map, old } => {
                let mut read = Some(FileRead::new(file.size, map));
                for sequence in tasks {
                    let task = wait_for(sequence, &results, &mut waiting, &mut renew_if_due)?;
                    read = task.zip(read).map(|(task, mut read)| {
                        read.append(&task);
                        read
                    });
                }
                if let Some(read) = read {
                    if read.has_shrunk() {
                        tracing::debug!("file '{}' was cut off while the backup ran", file.path.display());
                    }
                    collector.add_file(&found, read, file.relation_block.is_some(), old)?;
                } else {
                    tracing::debug!("file '{}' was removed while the backup ran", file.path.display());
                    collector.pass_over(&found);
                    collector.release(&old.map_or_else(Vec::new, |old| old.counts));
                }
            }
        }
    }
    // What is left are the errors of workers that could not finish their last packs.
    results.into_iter().try_for_each(|result| result.map(drop))?;
    Ok(control_file)
}

/// What a task has given, as soon as it is done: at the pace that the backup keeps to, that may take its time.
fn wait_for(
    sequence: u64,
    results: &Receiver<TaskResult>,
    waiting: &mut BTreeMap<u64, Option<TaskRead>>,
    mut meanwhile: impl FnMut() -> Result<()>,
) -> Result<Option<TaskRead>> {
    loop {
        if let Some(read) = waiting.remove(&sequence) {
            return Ok(read);
        }
        match results.recv_timeout(RENEWAL_INTERVAL) {
            Ok(result) => {
                let (done, read) = result?;
                waiting.insert(done, read);
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => {
                return Err(Error::new(ErrorKind::Runtime, "a worker of the backup ended early"));
            }
        }
        meanwhile()?;
    }
}
