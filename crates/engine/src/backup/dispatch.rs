//! Walking through the cluster, and deciding for each file what is to be done with it.

use std::ops::ControlFlow;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use pgark_postgres::data_directory::{Context, Entry as FoundEntry, EntryKind as FoundKind, Found, walk};
use pgark_postgres::relation::RelationFile;
use pgark_postgres::wal::summary::BlockSummary;
use pgark_repository::manifest::{Content, Entry, EntryKind};
use pgark_repository::map::page_count;
use pgark_system::termination;

use super::entries::OldEntries;
use super::hand_out::{Closed, HandOut, Member, OldContent, Stop, UnderWay};
use super::plan::{FoundFile, OldFile, expected, plan};
use super::reference::Reference;
use super::stock::Stock;
use super::tables::path_key;
use super::task::SourceFile;
use super::telling;
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
}

/// Walks through the files, decides about each, and hands out what is to be read, in the order of the files.
pub(super) fn dispatch(decisions: &Decisions<'_>, out: HandOut<'_>) -> Result<()> {
    let old = decisions.reference.map(OldEntries::of);
    let mut dispatcher = Dispatcher { decisions, old, out };
    let mut end = Ok(());
    let are_told_of = telling::is_wanted();
    walk(decisions.data_directory, &decisions.context, &mut |found| {
        end = match found {
            Found::LeftOut(left_out) if are_told_of => {
                dispatcher.out.send(UnderWay::LeftOut(left_out)).map_err(Stop::from)
            }
            Found::LeftOut(_) => Ok(()),
            Found::Entry(entry) => dispatcher.next(entry),
        };
        if end.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    Stop::into_result(end.and_then(|()| dispatcher.finish()))
}

/// How many bytes there are to be dealt with; 0, which stands for not known, where that can't be found out.
pub(super) fn size(decisions: &Decisions<'_>) -> u64 {
    let mut size = 0;
    let walked = walk(decisions.data_directory, &decisions.context, &mut |found| {
        if let Found::Entry(FoundEntry { kind: FoundKind::File { size: bytes }, .. }) = found {
            size += bytes;
        }
        if termination::requested().is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    // The walk that the backup goes by meets with the same error, and tells of it.
    walked.map_or(0, |()| size)
}

struct Dispatcher<'backup> {
    decisions: &'backup Decisions<'backup>,
    old: Option<OldEntries<'backup, Entry>>,
    out: HandOut<'backup>,
}

impl Dispatcher<'_> {
    fn next(&mut self, found: FoundEntry) -> Result<(), Stop> {
        let old = self.old_entry(found.path.as_os_str().as_bytes())?;
        let FoundKind::File { size } = found.kind else {
            return Ok(self.out.send(UnderWay::Bare(Member::Cluster(found)))?);
        };
        if found.is_control_file() {
            return Ok(self.out.send(UnderWay::ControlFile(found))?);
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
                sent = self.out.gone(maps, &entry);
            }
        });
        sent.map(|()| entry)
    }

    fn file(&mut self, found: FoundEntry, now: &FoundFile, entry: Option<Entry>) -> Result<(), Stop> {
        let Some((entry, old)) = entry.and_then(old_file) else {
            let file = self.source_file(&found, now);
            return Ok(self.out.read_new(Member::Cluster(found), file)?);
        };
        let before = OldFile { size: old.size, damaged: &old.damaged };
        let expected = self.decisions.changes.and_then(|changes| expected(now, before, changes));
        let plan = plan(now, expected, self.decisions.reads_all);
        if plan.read.is_empty() && old.size == now.size && !self.must_look(&entry.path, &old.content) {
            return Ok(self.out.send(UnderWay::Kept { found: Member::Cluster(found), old })?);
        }
        let (file, found) = (self.source_file(&found, now), Member::Cluster(found));
        match self.old.as_mut().and_then(|entries| entries.map(&entry)) {
            Some(map) => self.out.compare(found, file, plan, &map, Some(old)),
            None => Ok(self.out.read_new(found, file)?),
        }
    }

    fn source_file(&self, found: &FoundEntry, now: &FoundFile) -> SourceFile {
        let name = found.path.as_os_str().as_bytes().to_vec();
        let adopted = self.out.stock.adoption.packs_of(&name);
        let path = self.decisions.data_directory.join(&found.path);
        let block = now.relation.map(|(_, block)| block);
        let is_compared = now.relation.is_none_or(|(file, _)| !file.fork.fork.is_fully_logged());
        SourceFile { is_compared, adopted, ..SourceFile::new(name, path, now.size, block) }
    }

    /// Whether the map of a file has to be looked at even if nothing is to be read.
    fn must_look(&self, path: &[u8], content: &Content) -> bool {
        let Stock { unusable, emptied, .. } = self.out.stock;
        !unusable.is_empty()
            || self.out.stock.must_move(content)
            || !emptied.files.is_empty() && emptied.files.contains(&path_key(path))
    }

    fn finish(mut self) -> Result<(), Stop> {
        let Some(old) = self.old.take() else { return Ok(()) };
        let mut sent = Ok(());
        old.finish(&mut |maps, entry| {
            if sent.is_ok() {
                sent = self.out.gone(maps, &entry);
            }
        });
        Ok(sent?)
    }
}

/// What the reference has of a file, if it is a file there too.
fn old_file(entry: Entry) -> Option<(Entry, OldContent)> {
    let EntryKind::File { size, content, damaged, .. } = &entry.kind else { return None };
    let old = OldContent { size: *size, content: content.clone(), damaged: damaged.clone(), counts: Vec::new() };
    Some((entry, old))
}
