//! Handing out what is to be done with files, in the order of the walk: to workers what they read, to the collector all.

use std::ops::Range;
use std::sync::Arc;

use crossbeam_channel::Sender;
use pgark_postgres::data_directory::{Entry as FoundEntry, LeftOut};
use pgark_repository::PackId;
use pgark_repository::manifest::{Content, MapReader, PageRange};
use pgark_repository::map::{PageMap, page_count};

use super::cleaning;
use super::entries::{Listed, PackCounts, counts, counts_of};
use super::pages::PageSet;
use super::plan::FilePlan;
use super::room::{self, Room};
use super::sidecar::Found as FoundInSidecar;
use super::stock::Stock;
use super::task::{SourceFile, Task, cut};
use super::telling;
use crate::error::{Error, Result};

/// What a walk has found.
pub(super) enum Member {
    /// In the cluster.
    Cluster(FoundEntry),
    /// In a sidecar.
    Sidecar(FoundInSidecar),
}

/// What is on its way from the walk to the manifest, in the order of the walk.
pub(super) enum UnderWay {
    /// What is not part of the backup, where somebody wants to know.
    LeftOut(LeftOut),
    /// What has no content: a directory, or a link of a sidecar.
    Bare(Member),
    /// The control file, which is read last of all.
    ControlFile(FoundEntry),
    /// A file that has nothing to be read, and is as it was in the reference.
    Kept {
        /// What the walk found.
        found: Member,
        /// What the reference has of it.
        old: OldContent,
    },
    /// A file that tasks find the pages of; where there are none, `map` is all there is to find.
    Read {
        /// What the walk found.
        found: Member,
        /// The file.
        file: Arc<SourceFile>,
        /// The numbers of the tasks.
        tasks: Range<u64>,
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
pub(super) struct Closed;

/// Why a walk ends early.
pub(super) enum Stop {
    Closed,
    Failed(Error),
}

impl Stop {
    /// What a walk that has ended comes to: whoever closed a channel says why.
    pub(super) fn into_result(stopped: Result<(), Self>) -> Result<()> {
        match stopped {
            Ok(()) | Err(Self::Closed) => Ok(()),
            Err(Self::Failed(error)) => Err(error),
        }
    }
}

impl From<Closed> for Stop {
    fn from(Closed: Closed) -> Self {
        Self::Closed
    }
}

impl<E: Into<Error>> From<E> for Stop {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

/// Hands out what is to be done.
pub(super) struct HandOut<'backup> {
    /// What the repository has.
    pub(super) stock: &'backup Stock<'backup>,
    room: &'backup Room,
    under_way: Sender<UnderWay>,
    tasks: Sender<Task>,
    sequence: u64,
}

impl<'backup> HandOut<'backup> {
    pub(super) fn new(
        stock: &'backup Stock<'backup>,
        room: &'backup Room,
        under_way: Sender<UnderWay>,
        tasks: Sender<Task>,
    ) -> Self {
        Self { stock, room, under_way, tasks, sequence: 0 }
    }

    /// Tells the collector.
    pub(super) fn send(&self, under_way: UnderWay) -> Result<(), Closed> {
        self.under_way.send(under_way).map_err(|_| Closed)
    }

    /// Tells of a file that is not there any more, if it used anything.
    pub(super) fn gone(&self, maps: &mut MapReader<'_>, entry: &impl Listed) -> Result<(), Closed> {
        let counts = counts_of(maps, entry);
        if counts.is_empty() { Ok(()) } else { self.send(UnderWay::Gone(counts)) }
    }

    /// Has a file read whole, of which there is nothing to compare with.
    pub(super) fn read_new(&mut self, found: Member, file: SourceFile) -> Result<(), Closed> {
        let pages = page_count(file.size).unwrap_or(u32::MAX);
        let plan = FilePlan { read: PageSet::all(pages), rewrite: PageSet::default(), expected: None };
        let file = Arc::new(file);
        let tasks = cut(&file, pages, &plan, &PageMap::default(), self.sequence);
        self.hand_out(found, file, tasks, PageMap::default(), None, 0)
    }

    /// Has a file read by a plan and compared with `map`: with where its pages lie in the reference, of which `old` is the
    /// rest, or where those of another file do, if there is no `old`.
    pub(super) fn compare(
        &mut self,
        found: Member,
        mut file: SourceFile,
        mut plan: FilePlan,
        map: &PageMap,
        mut old: Option<OldContent>,
    ) -> Result<(), Stop> {
        let room = room::weight(map);
        if !self.room.take(room) {
            return Err(Closed.into());
        }
        let pages = page_count(file.size).unwrap_or(u32::MAX);
        self.complete(&mut plan, pages, map)?;
        file.plan = telling::of_plan(&plan);
        if let Some(old) = &mut old {
            old.counts = counts(&old.content, map);
        }
        let can_stay =
            |old: &OldContent| plan.read.is_empty() && old.size == file.size && !self.stock.must_move(&old.content);
        if old.as_ref().is_some_and(can_stay)
            && let Some(old) = old
        {
            self.room.give(room);
            return Ok(self.send(UnderWay::Kept { found, old })?);
        }
        let file = Arc::new(file);
        let tasks = cut(&file, pages, &plan, map, self.sequence);
        let mut rest = PageMap::default();
        if tasks.is_empty() {
            map.cursor().copy(pages, &mut rest);
        }
        Ok(self.hand_out(found, file, tasks, rest, old, room)?)
    }

    fn hand_out(
        &mut self,
        found: Member,
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

    /// Adds to a plan what is to be read for the sake of the packs: what lies in some that can't be used, or are used
    /// little.
    fn complete(&self, plan: &mut FilePlan, pages: u32, map: &PageMap) -> Result<()> {
        let Stock { unusable, emptied, .. } = self.stock;
        if !unusable.is_empty() {
            let lost = map.pieces().filter(|piece| unusable.contains(&piece.pack));
            let lost = lost.map(|piece| piece.first_page.min(pages)..(piece.first_page + piece.pages).min(pages));
            plan.read = plan.read.union(&lost.collect());
        }
        let changed = plan.expected.as_ref().unwrap_or(&plan.read);
        // Where it is not known what has changed, each page may be as it was.
        let is_guess = plan.expected.is_none() && plan.read.count() == pages;
        let nothing = PageSet::default();
        let mut failure = None;
        let mut frame_pages = |pack, block| match self.stock.tables(pack) {
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
}
