//! Tasks: parts of files that are small enough for one large file to keep all workers busy.

use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fs_err as fs;
use pgark_repository::PackId;
use pgark_repository::map::PageMap;
use pgark_system::directory::Directory;
use pgark_system::page_cache::NeutralReads;
use rustix::fs::OFlags;

use super::pages::PageSet;
use super::plan::FilePlan;

/// Pages that are read in a task: 32 MiB.
pub(super) const TASK_PAGES: u32 = 4096;

/// A file to be read, as the walk found it.
#[derive(Debug)]
pub(super) struct SourceFile {
    /// The path by which packs know it, as bytes: in the cluster that relative to the data directory.
    pub(super) name: Vec<u8>,
    /// Where it is.
    pub(super) path: PathBuf,
    /// By which names it is opened, if by others than its path.
    pub(super) names: Option<NamesBelow>,
    /// Its size in bytes when the walk came by.
    pub(super) size: u64,
    /// If it is a file of a relation: the number of its first block in the relation.
    pub(super) relation_block: Option<u32>,
    /// Whether every backup has to compare it, because the WAL does not name all changes of it.
    pub(super) is_compared: bool,
    /// How it is read: by several workers at once, and without a trace in the page cache.
    pub(super) reads: NeutralReads,
    /// The packs of interrupted backups that have pages of it.
    pub(super) adopted: Vec<PackId>,
    /// What is planned to be read of it, where somebody wants to know.
    pub(super) plan: Option<String>,
}

/// Names of one file below a directory.
#[derive(Clone, Debug)]
pub(super) struct NamesBelow {
    /// The directory.
    pub(super) root: Arc<Directory>,
    /// The names: any of them will do, if others are gone.
    pub(super) paths: Vec<PathBuf>,
}

impl NamesBelow {
    /// Opens the file without following any link; `None` where it is gone, or where something else has its names now.
    fn open(&self) -> io::Result<Option<fs::File>> {
        for path in &self.paths {
            match self.open_one(path) {
                Ok(file) if file.metadata()?.is_file() => return Ok(Some(file)),
                Ok(_) => {}
                Err(error) if is_gone(&error) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    fn open_one(&self, path: &Path) -> io::Result<fs::File> {
        let directory = self.root.below(path.parent().unwrap_or(Path::new("")))?;
        directory.file(path.file_name().unwrap_or_default(), OFlags::RDONLY, 0)
    }
}

/// Whether what was a file is none any more: it, or a directory on the way to it, was removed or replaced.
fn is_gone(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

impl SourceFile {
    /// Opens the file; `None` if it is gone.
    ///
    /// # Errors
    /// What the file system says.
    pub(super) fn open(&self) -> io::Result<Option<fs::File>> {
        if let Some(names) = &self.names {
            return names.open();
        }
        match fs::File::open(&self.path) {
            Ok(file) => Ok(Some(file)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// See the fields.
    pub(super) fn new(name: Vec<u8>, path: PathBuf, size: u64, relation_block: Option<u32>) -> Self {
        let reads = NeutralReads::of(0..size);
        Self {
            name,
            path,
            names: None,
            size,
            relation_block,
            is_compared: true,
            reads,
            adopted: Vec::new(),
            plan: None,
        }
    }
}

/// A part of a file, and what is to be done with it.
#[derive(Clone, Debug)]
pub(super) struct Task {
    /// The order of the tasks over the whole backup.
    pub(super) sequence: u64,
    /// The file.
    pub(super) file: Arc<SourceFile>,
    /// The pages whose places the task finds.
    pub(super) part: Range<u32>,
    /// The pages among them that are read.
    pub(super) read: PageSet,
    /// Where the pages lie in the reference; it may have fewer.
    pub(super) old: PageMap,
    /// The pages that are stored even if they are equal.
    pub(super) rewrite: PageSet,
    /// The pages that may have changed by what the WAL says, where others that have are to be told of.
    pub(super) expected: Option<PageSet>,
}

impl Task {
    /// Whether all pages are read, one after the other.
    pub(super) fn is_sequential(&self) -> bool {
        self.read.ranges() == [self.part.clone()]
    }
}

/// Cuts the work on a file of `pages` pages into tasks. `old` is its map in the reference, an empty one if it has none.
pub(super) fn cut(
    file: &Arc<SourceFile>,
    pages: u32,
    plan: &FilePlan,
    old: &PageMap,
    first_sequence: u64,
) -> Vec<Task> {
    let mut tasks: Vec<Task> = Vec::new();
    let mut places = old.cursor();
    let mut start = 0;
    for end in ends(&plan.read, pages) {
        let part = start..end;
        let mut own = PageMap::default();
        places.copy(end - start, &mut own);
        tasks.push(Task {
            sequence: first_sequence + tasks.len() as u64,
            file: Arc::clone(file),
            read: plan.read.within(&part),
            old: own,
            rewrite: plan.rewrite.within(&part),
            expected: plan.expected.as_ref().map(|expected| expected.within(&part)),
            part,
        });
        start = end;
    }
    tasks
}

/// Where tasks end: so that in each as many pages are read, and in the last one the rest. None where nothing is read.
fn ends(read: &PageSet, pages: u32) -> Vec<u32> {
    let mut ends = Vec::new();
    let mut room = TASK_PAGES;
    for range in read.ranges() {
        let mut start = range.start;
        while range.end - start > room {
            start += room;
            ends.push(start);
            room = TASK_PAGES;
        }
        room -= range.end - start;
    }
    if !read.is_empty() {
        ends.push(pages);
    }
    ends
}

#[cfg(test)]
mod tests {
    use pgark_repository::map::{Run, Source};
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn tasks_cover_a_file_and_read_what_is_to_be_read(
            ranges in proptest::collection::vec((0_u32..60_000, 1_u32..6000), 0..20),
            pages in 1_u32..70_000,
            old_pages in 0_u32..70_000,
        ) {
            let mut ranges = ranges;
            ranges.sort_unstable();
            let read: PageSet = ranges.into_iter().map(|(first, count)| first.min(pages)..(first + count).min(pages)).collect();
            let plan = FilePlan { read: read.clone(), rewrite: read.clone(), expected: None };
            let mut old = PageMap::default();
            let pack = PackId { session: ulid::Ulid::from_bytes([1; 16]), number: 0 };
            old.push(Run { pages: old_pages, source: Source::Frames { pack, block: 0, slot: 0, stride: 16 } });
            let file = Arc::new(SourceFile::new(Vec::new(), PathBuf::new(), 0, None));
            let tasks = cut(&file, pages, &plan, &old, 7);
            prop_assert_eq!(tasks.is_empty(), read.is_empty());
            let (mut end, mut together, mut map) = (0, Vec::new(), PageMap::default());
            for (index, task) in tasks.iter().enumerate() {
                prop_assert_eq!(task.sequence, 7 + index as u64);
                prop_assert_eq!(task.part.start, end);
                prop_assert!(task.read.count() <= TASK_PAGES && task.read.count() > 0);
                prop_assert!(index + 1 == tasks.len() || task.read.count() == TASK_PAGES);
                together.extend(task.read.ranges().iter().cloned());
                map.append(&task.old);
                end = task.part.end;
            }
            if !tasks.is_empty() {
                prop_assert_eq!(end, pages);
                prop_assert_eq!(together.into_iter().collect::<PageSet>(), read);
                prop_assert_eq!(map.page_count(), u64::from(pages.min(old_pages)));
            }
        }
    }
}
