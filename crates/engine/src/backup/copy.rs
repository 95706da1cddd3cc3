//! Copying the files of a cluster into packs: one thread walks, readers read for workers what tasks want, workers take it,
//! the caller's thread collects.

use std::collections::BTreeMap;
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use pgark_postgres::data_directory::Entry;

use super::collector::{Collector, FileRead};
use super::hand_out::{HandOut, UnderWay};
use super::packs::Packs;
use super::reader::{Opened, Reader};
use super::room::Room;
use super::stock::Stock;
use super::taker::{Rules, Taker, TaskRead};
use super::telling::{self, Telling};
use crate::error::{Error, ErrorKind, Result};
use crate::progress::Progress;
use crate::vigil::Vigil;

/// Files that may be on their way from the walk to the manifest. It bounds memory.
const FILES_UNDER_WAY: usize = 4096;

/// How often it is asked at least whether the session is alive.
const CHECK_INTERVAL: Duration = Duration::from_secs(10);

type TaskResult = Result<(u64, Option<TaskRead>)>;

/// What workers go by, and how many they are.
pub(super) struct Crew<'backup, 'repository> {
    /// What the repository has.
    pub(super) stock: &'backup Stock<'backup>,
    /// How pages are read and judged.
    pub(super) rules: &'backup Rules<'backup>,
    /// Where pages are stored.
    pub(super) packs: &'backup Packs<'repository>,
    /// Who tells of files.
    pub(super) telling: &'backup Telling<'backup>,
    /// How many workers there are; each has a reader.
    pub(super) workers: usize,
}

/// Copies the files that `dispatch` hands out, all but the control file, and adds them to the manifest. Gives the entry of
/// the control file, if it was among them, which the caller copies when everything else is done.
///
/// # Errors
/// Where a file can't be read, or the repository can't be written. No worker is left behind.
pub(super) fn copy(
    dispatch: impl FnOnce(HandOut<'_>) -> Result<()> + Send,
    crew: &Crew<'_, '_>,
    collector: &mut Collector<'_, '_>,
    session: &Vigil<'_>,
    progress: &Progress,
) -> Result<Option<Entry>> {
    let Crew { stock, rules, packs, telling, workers } = *crew;
    let (under_way_sender, under_way) = bounded(FILES_UNDER_WAY);
    let (task_sender, tasks) = bounded(2 * workers);
    let (result_sender, results) = bounded(FILES_UNDER_WAY);
    let room = Room::default();
    thread::scope(|scope| {
        let closing = room.closing();
        let out = HandOut::new(stock, &room, under_way_sender, task_sender);
        let walking = scope.spawn(|| dispatch(out));
        for worker in 1..=workers {
            let (reader, ahead) = Reader::new(tasks.clone(), rules.pacer);
            let taker = Taker::new(packs, stock, rules, ahead.buffers);
            let (opened, results) = (ahead.opened, result_sender.clone());
            let thread = |kind: char| thread::Builder::new().name(format!("{kind}{worker:02}"));
            thread('R').spawn_scoped(scope, || reader.run())?;
            thread('P').spawn_scoped(scope, || work(taker, opened, results))?;
        }
        // Only readers and workers hold these from here on, so that each side sees when the other is gone.
        drop((tasks, result_sender));
        let control_file = collect(under_way, results, &room, collector, telling, session, progress);
        drop(closing);
        let control_file = control_file?;
        match walking.join() {
            Ok(walked) => walked?,
            Err(panic) => std::panic::resume_unwind(panic),
        }
        Ok(control_file)
    })
}

#[expect(clippy::needless_pass_by_value, reason = "the channel closes when this returns")]
fn work(mut taker: Taker<'_, '_>, opened: Receiver<Result<Opened>>, results: Sender<TaskResult>) {
    for opened in opened {
        let result = opened.and_then(|opened| taker.take(&opened));
        let failed = result.is_err();
        if results.send(result).is_err() || failed {
            return;
        }
    }
    if let Err(error) = taker.finish() {
        // If nobody listens any more, the backup has failed already.
        let _unheard = results.send(Err(error));
    }
}

/// Adds the files to the manifest in their order, as soon as all tasks of each are done. Gives the control file's entry,
/// which is not added.
fn collect(
    under_way: Receiver<UnderWay>,
    results: Receiver<TaskResult>,
    room: &Room,
    collector: &mut Collector<'_, '_>,
    telling: &Telling<'_>,
    session: &Vigil<'_>,
    progress: &Progress,
) -> Result<Option<Entry>> {
    let mut control_file = None;
    let mut waiting = BTreeMap::new();
    for next in under_way {
        session.check()?;
        match next {
            UnderWay::LeftOut(left_out) => telling::left_out(&left_out),
            UnderWay::Bare(found) => collector.add_bare(&found)?,
            UnderWay::ControlFile(found) => control_file = Some(found),
            UnderWay::Gone(counts) => collector.release(&counts),
            UnderWay::Kept { found, old } => {
                progress.advance(old.size);
                telling.kept(&found, &old);
                collector.keep_file(&found, old)?;
            }
            UnderWay::Read { found, file, tasks, map, old, room: taken } => {
                let mut read = Some(FileRead::new(file.size, map));
                let share = file.size / (tasks.end - tasks.start).max(1);
                for sequence in tasks {
                    let task = wait_for(sequence, &results, &mut waiting, session)?;
                    progress.advance(share);
                    read = task.zip(read).map(|(task, mut read)| {
                        read.append(task);
                        read
                    });
                }
                if let Some(read) = read {
                    telling.read(&found, file.plan.as_deref(), &read, old.as_ref());
                    collector.add_file(&found, read, file.relation_block.is_some(), old)?;
                } else {
                    telling::gone(&found);
                    collector.pass_over(&found);
                    collector.release(&old.map_or_else(Vec::new, |old| old.counts));
                }
                room.give(taken);
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
    session: &Vigil<'_>,
) -> Result<Option<TaskRead>> {
    loop {
        if let Some(read) = waiting.remove(&sequence) {
            return Ok(read);
        }
        match results.recv_timeout(CHECK_INTERVAL) {
            Ok(result) => {
                let (done, read) = result?;
                waiting.insert(done, read);
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => {
                return Err(Error::new(ErrorKind::Runtime, "a worker of the backup ended early"));
            }
        }
        session.check()?;
    }
}
