//! Walking through the cluster, and deciding for each file what is to be done with it.

use std::ops::ControlFlow;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use crossbeam_channel::Sender;
use pgark_postgres::data_directory::{Context, Entry as FoundEntry, EntryKind as FoundKind, Found, walk};
use pgark_postgres::relation::RelationFile;
use pgark_postgres::wal::summary::BlockSummary;
use pgark_repository::PackId;
use pgark_repository::manifest::{Content, Entry, EntryKind, MapReader, PageRange};
use pgark_repository::map::{PageMap, page_count};

use super::cleaning;
use super::entries::{OldEntries, PackCounts, counts, counts_of};
use super::plan::{FilePlan, FoundFile, OldFile, expected, plan};
use super::reference::Reference;
use super::room::{self, Room};
use super::stock::Stock;
use super::tables::path_key;
use super::task::{SourceFile, Task, cut};
use crate::error::{Error, ErrorKind, Result};

/// What decides about files.
pub(super) struct Decisions<'backup> {
    /// The data directory.
    pub(super) data_directory: &'backup Path,
    /// What is left out of it.
    pub(super) context: Context,
    /// Pages in a segment of a relation.
    pub(super) relation_segment_pages: u32,
    /// The backup that is compared with.
    pub(super) reference: Option<&'backup Reference<'backup>>,
    /// What the WAL since then says, if it is known.
    pub(super) changes: Option<&'backup BlockSummary>,
    /// Whether all pages are read, whatever the WAL says.
    pub(super) reads_all: bool,
    /// What the repository has.
    pub(super) stock: &'backup Stock<'backup>,
}

/// What is on its way from the walk to the manifest, in the order of the walk.
pub(super) enum UnderWay {
    /// A directory.
    Directory(FoundEntry),
    /// The control file, which is read last of all.
    ControlFile(FoundEntry),
    /// A file that has nothing to be read, and is as it was in the reference.
    Kept {
        /// What the walk found.
        found: FoundEntry,
        /// What the reference has of it.
        old: OldContent,
    },
    /// A file that tasks find the pages of; where there are none, `map` is all there is to find.
    Read {
        /// What the walk found.
        found: FoundEntry,
        /// The file.
        file: Arc<SourceFile>,
        /// The numbers of the tasks.
        tasks: std::ops::Range<u64>,
        /// Where its pages lie, if there are no tasks.
        map: PageMap,
        /// What the reference has of it.
        old: Option<OldContent>,
        /// The room that its maps take, to be given back.
        room: usize,
    },
    /// What a file needed that is not there any more.
    Gone(PackCounts),
}

/// What the reference has of a file.
pub(super) struct OldContent {
    pub(super) size: u64,
    pub(super) content: Content,
    pub(super) damaged: Vec<PageRange>,
    /// What it uses; not known of a file that is kept.
    pub(super) counts: PackCounts,
}

/// The other side of a channel is gone: the backup has failed, and whoever closed it says why.
struct Closed;

/// Why a walk ends early.
enum Stop {
    Closed,
    Failed(Error),
}

impl From<Closed> for Stop {
    fn from(Closed: Closed) -> Self {
        Self::Closed
    }
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

/// Walks through the files, decides about each, and hands out what is to be read, in the order of the files.
pub(super) fn dispatch(
    decisions: &Decisions<'_>,
    room: &Room,
    under_way: Sender<UnderWay>,
    tasks: Sender<Task>,
) -> Result<()> {
    let old = decisions.reference.map(OldEntries::of);
    let mut dispatcher = Dispatcher { decisions, old, room, under_way, tasks, sequence: 0 };
    let mut end = Ok(());
    walk(decisions.data_directory, &decisions.context, &mut |found| match found {
        Found::LeftOut(left_out) => {
            tracing::debug!("leave out '{}': {:?}", left_out.path.display(), left_out.exclusion.reason);
            ControlFlow::Continue(())
        }
        Found::Entry(entry) => match dispatcher.next(entry) {
            Ok(()) => ControlFlow::Continue(()),
            Err(stop) => {
                end = Err(stop);
                ControlFlow::Break(())
            }
        },
    })?;
    match end.and_then(|()| dispatcher.finish()) {
        Ok(()) | Err(Stop::Closed) => Ok(()),
        Err(Stop::Failed(error)) => Err(error),
    }
}

struct Dispatcher<'backup> {
    decisions: &'backup Decisions<'backup>,
    old: Option<OldEntries<'backup>>,
    room: &'backup Room,
    under_way: Sender<UnderWay>,
    tasks: Sender<Task>,
    sequence: u64,
}

impl Dispatcher<'_> {
    fn next(&mut self, found: FoundEntry) -> Result<(), Stop> {
        let old = self.old_entry(found.path.as_os_str().as_bytes())?;
        let FoundKind::File { size } = found.kind else { return Ok(self.send(UnderWay::Directory(found))?) };
        if found.is_control_file() {
            return Ok(self.send(UnderWay::ControlFile(found))?);
        }
        let relation = RelationFile::parse(&found.path)
            .and_then(|file| Some((file, file.first_block(self.decisions.relation_segment_pages)?)));
        if page_count(size).is_none() {
            let message = format!("file '{}' of {size} bytes is too large", found.path.display());
            return Err(Error::new(ErrorKind::FileInvalid, message)
                .hint("exclude it, if it is not PostgreSQL's")
                .into());
        }
        self.file(found, &FoundFile { size, relation }, old)
    }

    /// The entry of the reference with this path. What comes before it is gone.
    fn old_entry(&mut self, path: &[u8]) -> Result<Option<Entry>, Closed> {
        let Some(old) = &mut self.old else { return Ok(None) };
        let mut sent = Ok(());
        let entry = old.find(path, &mut |maps, entry| {
            if sent.is_ok() {
                sent = gone(&self.under_way, maps, &entry);
            }
        });
        sent.map(|()| entry)
    }

    fn file(&mut self, found: FoundEntry, now: &FoundFile, entry: Option<Entry>) -> Result<(), Stop> {
        let Some((entry, mut old)) = entry.and_then(old_file) else { return Ok(self.read_new(found, now, None)?) };
        let before = OldFile { size: old.size, damaged: &old.damaged };
        let expected = self.decisions.changes.and_then(|changes| expected(now, before, changes));
        let mut plan = plan(now, expected, self.decisions.reads_all);
        let is_same_size = old.size == now.size;
        if plan.read.is_empty() && is_same_size && !self.must_look(&entry.path, &old.content) {
            return Ok(self.send(UnderWay::Kept { found, old })?);
        }
        let Some(map) = self.old.as_mut().and_then(|entries| entries.map(&entry)) else {
            return Ok(self.read_new(found, now, None)?);
        };
        let room = room::weight(&map);
        if !self.room.take(room) {
            return Err(Closed.into());
        }
        old.counts = counts(&old.content, &map);
        self.complete(&mut plan, now, &map)?;
        tracing::trace!("file '{}': {plan}", found.path.display());
        if plan.read.is_empty() && is_same_size && !self.decisions.stock.must_move(&old.content) {
            self.room.give(room);
            return Ok(self.send(UnderWay::Kept { found, old })?);
        }
        let file = self.source_file(&found, now);
        let tasks = cut(&file, now.pages(), &plan, &map, self.sequence);
        let mut rest = PageMap::default();
        if tasks.is_empty() {
            map.cursor().copy(now.pages(), &mut rest);
        }
        Ok(self.hand_out(found, file, tasks, rest, Some(old), room)?)
    }

    /// Reads a file whole, of which there is nothing to compare with.
    fn read_new(&mut self, found: FoundEntry, now: &FoundFile, old: Option<OldContent>) -> Result<(), Closed> {
        let plan = plan(now, None, true);
        let file = self.source_file(&found, now);
        let tasks = cut(&file, now.pages(), &plan, &PageMap::default(), self.sequence);
        self.hand_out(found, file, tasks, PageMap::default(), old, 0)
    }

    fn source_file(&self, found: &FoundEntry, now: &FoundFile) -> Arc<SourceFile> {
        let name = found.path.as_os_str().as_bytes().to_vec();
        let adopted = self.decisions.stock.adoption.packs_of(&name);
        let path = self.decisions.data_directory.join(&found.path);
        let block = now.relation.map(|(_, block)| block);
        let is_compared = now.relation.is_none_or(|(file, _)| !file.fork.fork.is_fully_logged());
        Arc::new(SourceFile { is_compared, adopted, ..SourceFile::new(name, path, now.size, block) })
    }

    fn hand_out(
        &mut self,
        found: FoundEntry,
        file: Arc<SourceFile>,
        tasks: Vec<Task>,
        map: PageMap,
        old: Option<OldContent>,
        room: usize,
    ) -> Result<(), Closed> {
        let first = self.sequence;
        self.sequence += tasks.len() as u64;
        self.send(UnderWay::Read { found, file, tasks: first..self.sequence, map, old, room })?;
        tasks.into_iter().try_for_each(|task| self.tasks.send(task).map_err(|_| Closed))
    }

    /// Whether the map of a file has to be looked at even if nothing is to be read.
    fn must_look(&self, path: &[u8], content: &Content) -> bool {
        let Stock { unusable, emptied, .. } = self.decisions.stock;
        !unusable.is_empty()
            || self.decisions.stock.must_move(content)
            || !emptied.files.is_empty() && emptied.files.contains(&path_key(path))
    }

    /// Adds to a plan what is to be read for the sake of the packs: what lies in some that can't be used, or are used
    /// little.
    fn complete(&self, plan: &mut FilePlan, now: &FoundFile, map: &PageMap) -> Result<()> {
        let Stock { unusable, emptied, .. } = self.decisions.stock;
        let pages = now.pages();
        if !unusable.is_empty() {
            let lost = map.pieces().filter(|piece| unusable.contains(&piece.pack));
            let lost = lost.map(|piece| piece.first_page.min(pages)..(piece.first_page + piece.pages).min(pages));
            plan.read = plan.read.union(&lost.collect());
        }
        let changed = plan.expected.as_ref().unwrap_or(&plan.read);
        // Where it is not known what has changed, each page may be as it was.
        let is_guess = plan.expected.is_none() && plan.read.count() == pages;
        let nothing = super::pages::PageSet::default();
        let mut failure = None;
        let mut frame_pages = |pack, block| match self.decisions.stock.tables(pack) {
            Ok(tables) => tables?.frame_pages(block),
            Err(error) => {
                failure = Some(error);
                None
            }
        };
        let is_emptied = |pack: PackId| emptied.packs.contains(&pack);
        let changed = if is_guess { &nothing } else { changed };
        plan.rewrite = cleaning::rewrites(map, changed, pages, &is_emptied, &mut frame_pages);
        plan.read = plan.read.union(&plan.rewrite);
        failure.map_or(Ok(()), Err)
    }

    fn finish(mut self) -> Result<(), Stop> {
        let Some(old) = self.old.take() else { return Ok(()) };
        let mut sent = Ok(());
        old.finish(&mut |maps, entry| {
            if sent.is_ok() {
                sent = gone(&self.under_way, maps, &entry);
            }
        });
        Ok(sent?)
    }

    fn send(&self, under_way: UnderWay) -> Result<(), Closed> {
        self.under_way.send(under_way).map_err(|_| Closed)
    }
}

/// What the reference has of a file, if it is a file there too.
fn old_file(entry: Entry) -> Option<(Entry, OldContent)> {
    let EntryKind::File { size, content, damaged, .. } = &entry.kind else { return None };
    let old = OldContent { size: *size, content: content.clone(), damaged: damaged.clone(), counts: Vec::new() };
    Some((entry, old))
}

/// Tells of a file that is not there any more, if it used anything.
fn gone(under_way: &Sender<UnderWay>, maps: &mut MapReader<'_>, entry: &Entry) -> Result<(), Closed> {
    let counts = counts_of(maps, entry);
    if counts.is_empty() { Ok(()) } else { under_way.send(UnderWay::Gone(counts)).map_err(|_| Closed) }
}
