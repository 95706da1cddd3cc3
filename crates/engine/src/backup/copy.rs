//! Copying the files of a cluster into packs: one thread walks, workers read ranges, the caller's thread collects.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use pgark_postgres::control::CONTROL_FILE_PATH;
use pgark_postgres::data_directory::{Context, Entry, EntryKind, Found, walk};
use pgark_postgres::relation::RelationFile;
use pgark_repository::map::page_count;
use pgark_repository::session::Session;
use pgark_system::clock::Stopwatch;
use pgark_system::pace::Pacer;

use super::collector::{Collector, FileRead};
use super::packs::Packs;
use super::reader::{ChecksumRule, Range, RangeRead, RangeReader, SourceFile};
use crate::error::{Error, ErrorKind, Result};

/// Pages in a range: 32 MiB, so that one large file keeps all workers busy.
const RANGE_PAGES: u32 = 4096;

/// Files that may be on their way from the walk to the manifest. It bounds memory.
const FILES_UNDER_WAY: usize = 4096;

/// How often a session says that it is alive.
const RENEWAL_INTERVAL: Duration = Duration::from_secs(60);

/// How files are copied.
pub(super) struct CopySettings<'backup> {
    /// The data directory.
    pub(super) data_directory: &'backup Path,
    /// What is left out of it.
    pub(super) context: Context,
    /// Pages in a segment of a relation.
    pub(super) relation_segment_pages: u32,
    /// How page checksums are judged; `None` if there are none, or they are not to be checked.
    pub(super) checksums: Option<ChecksumRule<'backup>>,
    /// How many workers read.
    pub(super) workers: usize,
    /// At what pace they read together.
    pub(super) pacer: &'backup Pacer,
}

/// A file or directory that the walk found, and the ranges that it was cut into.
struct UnderWay {
    found: Entry,
    file: Option<Arc<SourceFile>>,
    ranges: std::ops::Range<u64>,
}

type RangeResult = Result<(u64, Option<RangeRead>)>;

/// Copies all files but the control file, and adds them to the manifest. Gives the entry of the control file, which the
/// caller copies when everything else is done.
///
/// # Errors
/// Where a file can't be read, or the repository can't be written. No worker is left behind.
pub(super) fn copy(
    settings: &CopySettings<'_>,
    packs: &Packs<'_>,
    collector: &mut Collector<'_>,
    session: &mut Session<'_>,
) -> Result<Entry> {
    let (under_way_sender, under_way) = bounded(FILES_UNDER_WAY);
    let (range_sender, ranges) = bounded(2 * settings.workers);
    let (result_sender, results) = bounded(FILES_UNDER_WAY);
    thread::scope(|scope| {
        let walking = scope.spawn(|| dispatch(settings, under_way_sender, range_sender));
        for worker in 1..=settings.workers {
            let (ranges, results) = (ranges.clone(), result_sender.clone());
            thread::Builder::new()
                .name(format!("P{worker:02}"))
                .spawn_scoped(scope, || work(settings, packs, ranges, results))?;
        }
        // Only the workers hold these from here on, so that each side sees when the other is gone.
        drop((ranges, result_sender));
        let control_file = collect(under_way, results, collector, session)?;
        match walking.join() {
            Ok(walked) => walked?,
            Err(panic) => std::panic::resume_unwind(panic),
        }
        control_file.ok_or_else(|| {
            Error::new(ErrorKind::FileMissing, format!("'{CONTROL_FILE_PATH}' vanished during the backup"))
        })
    })
}

/// Walks through the files, cuts them into ranges and hands these out, in the order of the files.
#[expect(clippy::needless_pass_by_value, reason = "the channels close when this returns")]
fn dispatch(settings: &CopySettings<'_>, under_way: Sender<UnderWay>, ranges: Sender<Range>) -> Result<()> {
    let mut sequence = 0;
    walk(settings.data_directory, &settings.context, &mut |found| match found {
        Found::LeftOut(left_out) => {
            tracing::debug!("leave out '{}': {:?}", left_out.path.display(), left_out.exclusion.reason);
            ControlFlow::Continue(())
        }
        // A closed channel means that the backup has failed: whoever closed it says why.
        Found::Entry(entry) => match hand_out(settings, entry, &mut sequence, &under_way, &ranges) {
            Ok(()) => ControlFlow::Continue(()),
            Err(Closed) => ControlFlow::Break(()),
        },
    })?;
    Ok(())
}

/// The other side of a channel is gone.
struct Closed;

fn hand_out(
    settings: &CopySettings<'_>,
    found: Entry,
    sequence: &mut u64,
    under_way: &Sender<UnderWay>,
    ranges: &Sender<Range>,
) -> Result<(), Closed> {
    let file = source_file(settings, &found).map(Arc::new);
    let cut = file.as_ref().map_or_else(Vec::new, |file| cut(file, *sequence));
    let first = *sequence;
    *sequence += cut.len() as u64;
    under_way.send(UnderWay { found, file, ranges: first..*sequence }).map_err(|_| Closed)?;
    cut.into_iter().try_for_each(|range| ranges.send(range).map_err(|_| Closed))
}

/// What is to be read of an entry: nothing of a directory, nor of the control file before all else is read.
fn source_file(settings: &CopySettings<'_>, found: &Entry) -> Option<SourceFile> {
    let EntryKind::File { size } = found.kind else { return None };
    if found.is_control_file() {
        return None;
    }
    let relation_block =
        RelationFile::parse(&found.path).and_then(|relation| relation.first_block(settings.relation_segment_pages));
    let name = found.path.as_os_str().as_bytes().to_vec();
    Some(SourceFile::new(name, settings.data_directory.join(&found.path), size, relation_block))
}

fn cut(file: &Arc<SourceFile>, first_sequence: u64) -> Vec<Range> {
    // A file too large for page numbers of 32 bits, 32 TiB, is refused when its size is compared with what was read.
    let pages = page_count(file.size).unwrap_or(u32::MAX);
    (0..pages)
        .step_by(RANGE_PAGES as usize)
        .zip(first_sequence..)
        .map(|(first_page, sequence)| Range {
            sequence,
            file: Arc::clone(file),
            first_page,
            pages: RANGE_PAGES.min(pages - first_page),
        })
        .collect()
}

#[expect(clippy::needless_pass_by_value, reason = "the channel closes when this returns")]
fn work(settings: &CopySettings<'_>, packs: &Packs<'_>, ranges: Receiver<Range>, results: Sender<RangeResult>) {
    let mut reader = RangeReader::new(packs, settings.checksums.as_ref(), settings.pacer);
    for range in ranges {
        let result = reader.read(&range).map(|read| (range.sequence, read));
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

/// Adds the files to the manifest in their order, as soon as all ranges of each are read. Gives the control file's entry,
/// which is not added.
fn collect(
    under_way: Receiver<UnderWay>,
    results: Receiver<RangeResult>,
    collector: &mut Collector<'_>,
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
        let Some(file) = &next.file else {
            if next.found.is_control_file() {
                control_file = Some(next.found);
            } else {
                collector.add_directory(&next.found)?;
            }
            continue;
        };
        let mut read = FileRead::default();
        let mut is_gone = false;
        for sequence in next.ranges.clone() {
            match wait_for(sequence, &results, &mut waiting, &mut renew_if_due)? {
                None => is_gone = true,
                Some(range) => {
                    collector.count(&range);
                    read.append(&range, range_bytes(file.size, sequence - next.ranges.start));
                }
            }
        }
        if is_gone {
            tracing::debug!("file '{}' was removed while the backup ran", file.path.display());
        } else {
            collector.add_file(&next.found, read, file.relation_block.is_some())?;
        }
    }
    // What is left are the errors of workers that could not finish their last packs.
    results.into_iter().try_for_each(|result| result.map(drop))?;
    Ok(control_file)
}

/// What a range has given, as soon as it is read: at the pace that the backup keeps to, that may take its time.
fn wait_for(
    sequence: u64,
    results: &Receiver<RangeResult>,
    waiting: &mut BTreeMap<u64, Option<RangeRead>>,
    mut meanwhile: impl FnMut() -> Result<()>,
) -> Result<Option<RangeRead>> {
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

fn range_bytes(size: u64, index: u64) -> u64 {
    let range = u64::from(RANGE_PAGES) * pgark_repository::PAGE_SIZE as u64;
    size.saturating_sub(index * range).min(range)
}
