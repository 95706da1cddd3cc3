//! Walking through sidecars, and deciding for each file whether it is read and what it is compared with.

use std::ops::ControlFlow;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use pgark_repository::manifest::{Content, SidecarEntry, SidecarKind};
use pgark_repository::map::{PageMap, page_count};

use super::candidates::{Candidates, Key};
use super::source::SourceDirectory;
use super::sums::stamp;
use super::unkept::Unkept;
use super::walk::{Found, FoundKind, walk};
use crate::backup::entries::OldEntries;
use crate::backup::hand_out::{Closed, HandOut, Member, OldContent, Stop, UnderWay};
use crate::backup::pages::PageSet;
use crate::backup::plan::FilePlan;
use crate::backup::reference::Reference;
use crate::backup::task::{NamesBelow, SourceFile};
use crate::error::{Error, ErrorKind, Result};

/// How long before the reference began a file must have been changed last for its times to tell that it is as it was: the
/// clocks of file systems are coarse, and one on the network has a clock of its own.
const CLEARLY: SignedDuration = SignedDuration::from_secs(10);

/// What decides about files of sidecars.
pub(in crate::backup) struct Decisions<'backup> {
    /// The directories, ascending by name.
    pub(in crate::backup) directories: &'backup [SourceDirectory],
    /// The backup that is compared with.
    pub(in crate::backup) reference: Option<&'backup Reference<'backup>>,
    /// Whether all files are read, whatever their times say.
    pub(in crate::backup) reads_all: bool,
}

/// Walks through the sidecars, decides about each file, and hands out what is to be read, in the order of the files.
///
/// # Errors
/// Where something can't be read.
pub(in crate::backup) fn dispatch(decisions: &Decisions<'_>, out: HandOut<'_>) -> Result<()> {
    let old = decisions.reference.map(OldEntries::of_sidecars);
    let mut dispatcher = Dispatcher { decisions, old, out, candidates: None };
    Stop::into_result(dispatcher.all().and_then(|()| dispatcher.finish()))
}

struct Dispatcher<'backup> {
    decisions: &'backup Decisions<'backup>,
    old: Option<OldEntries<'backup, SidecarEntry>>,
    out: HandOut<'backup>,
    /// The files of the reference, once one of them is looked for under another name.
    candidates: Option<Candidates>,
}

impl Dispatcher<'_> {
    fn all(&mut self) -> Result<(), Stop> {
        for directory in self.decisions.directories {
            let mut unkept = Unkept::default();
            let visited = walk(directory, &mut |found| {
                unkept.note(directory, &found);
                match self.next(directory, found) {
                    Ok(()) => ControlFlow::Continue(()),
                    Err(stop) => ControlFlow::Break(stop),
                }
            });
            if let Some(message) = unkept.message(directory) {
                tracing::warn!("{message}");
            }
            match visited.map_err(|error| unreadable(directory, &error))? {
                ControlFlow::Continue(()) => {}
                ControlFlow::Break(stop) => return Err(stop),
            }
        }
        Ok(())
    }

    fn next(&mut self, directory: &SourceDirectory, found: Found) -> Result<(), Stop> {
        let old = self.old_entry(&found.path)?;
        let FoundKind::File { names } = &found.kind else {
            return Ok(self.out.send(UnderWay::Bare(Member::Sidecar(found)))?);
        };
        let size = found.look.size();
        if page_count(size).is_none() {
            let message = format!("file '{}' of {size} bytes is too large", text(&found.path));
            return Err(Error::new(ErrorKind::FileInvalid, message).hint("keep it outside the sidecar").into());
        }
        let file = self.source_file(directory, names.clone(), &found);
        self.file(found, file, old)
    }

    /// The entry of the reference with this path. What comes before it is gone.
    fn old_entry(&mut self, path: &[u8]) -> Result<Option<SidecarEntry>, Closed> {
        let Some(old) = &mut self.old else { return Ok(None) };
        let mut sent = Ok(());
        let entry = old.find(path, &mut |maps, entry| {
            if sent.is_ok() {
                sent = self.out.gone(maps, &entry);
            }
        });
        sent.map(|()| entry)
    }

    fn file(&mut self, found: Found, file: SourceFile, entry: Option<SidecarEntry>) -> Result<(), Stop> {
        let Some((entry, old)) = entry.and_then(old_file) else { return self.new_file(found, file) };
        let start = self.decisions.reference.map(|reference| reference.manifest.document().start.time);
        let is_unchanged = start.is_some_and(|start| is_unchanged(&entry, &found, start));
        let plan = if is_unchanged && !self.decisions.reads_all {
            FilePlan { read: PageSet::default(), rewrite: PageSet::default(), expected: None }
        } else {
            whole(file.size)
        };
        let found = Member::Sidecar(found);
        if plan.read.is_empty() && old.size == file.size && !self.must_look(&old.content) {
            return Ok(self.out.send(UnderWay::Kept { found, old })?);
        }
        match self.old.as_mut().and_then(|entries| entries.map(&entry)) {
            Some(map) => self.out.compare(found, file, plan, &map, Some(old)),
            None => Ok(self.out.read_new(found, file)?),
        }
    }

    /// Reads a file whose path the reference does not have. It may have the content under another one.
    fn new_file(&mut self, found: Found, file: SourceFile) -> Result<(), Stop> {
        let key = Key::new(&found.path, file.size, found.look.modified());
        let found = Member::Sidecar(found);
        match self.content_elsewhere(&key)? {
            Some(map) => self.out.compare(found, file, whole(key.size), &map, None),
            None => Ok(self.out.read_new(found, file)?),
        }
    }

    fn content_elsewhere(&mut self, key: &Key) -> Result<Option<PageMap>> {
        let Some(reference) = self.decisions.reference else { return Ok(None) };
        if self.candidates.is_none() {
            self.candidates = Some(Candidates::of(reference.manifest.sidecar_entries())?);
        }
        let candidate = self.candidates.as_ref().and_then(|candidates| candidates.choose(key));
        let Some(candidate) = candidate else { return Ok(None) };
        let mut maps = reference.manifest.maps(&reference.packs);
        Ok(maps.map_of(&candidate.content, key.size).ok())
    }

    fn source_file(&self, directory: &SourceDirectory, names: Vec<PathBuf>, found: &Found) -> SourceFile {
        let name = SidecarEntry::pack_path(&found.path);
        let below = found.path.get(directory.name.len() + 1..).unwrap_or_default();
        let path = directory.path.join(Path::new(std::ffi::OsStr::from_bytes(below)));
        let adopted = self.out.stock.adoption.packs_of(&name);
        let names = Some(NamesBelow { root: Arc::clone(&directory.root), paths: names });
        // Its packs are the worker's own: files of many GB are compressed by all workers at once.
        SourceFile { is_compared: false, adopted, names, ..SourceFile::new(name, path, found.look.size(), None) }
    }

    /// Whether the map of a file has to be looked at even if nothing is to be read. Packs do not know a file that is pointed
    /// at under another name, so that all are looked at for the sake of packs that are to be emptied.
    fn must_look(&self, content: &Content) -> bool {
        let stock = self.out.stock;
        !stock.unusable.is_empty() || !stock.emptied.packs.is_empty() || stock.must_move(content)
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

/// Whether a file is as it was in the reference, which began at `start`: size and times are the same, and so is the number
/// that the file system has for it, and its last change was clearly before the reference read it. Writing sets the time of
/// the last change, and nobody can set it back.
fn is_unchanged(old: &SidecarEntry, now: &Found, start: Timestamp) -> bool {
    let SidecarKind::File { size, .. } = &old.kind else { return false };
    let (changed, nanoseconds) = now.look.changed();
    let was_before = |time: Timestamp| start.duration_since(time) > CLEARLY;
    *size == now.look.size()
        && old.attributes.modified == now.look.modified().0
        && old.stamp == stamp(now)
        && Timestamp::new(changed, i32::try_from(nanoseconds).unwrap_or(0)).is_ok_and(was_before)
}

/// Reading all of a file of so many bytes.
fn whole(size: u64) -> FilePlan {
    let pages = page_count(size).unwrap_or(u32::MAX);
    FilePlan { read: PageSet::all(pages), rewrite: PageSet::default(), expected: None }
}

/// What the reference has of a file, if it is a file there too.
fn old_file(entry: SidecarEntry) -> Option<(SidecarEntry, OldContent)> {
    let SidecarKind::File { size, content } = &entry.kind else { return None };
    let old = OldContent { size: *size, content: content.clone(), damaged: Vec::new(), counts: Vec::new() };
    Some((entry, old))
}

fn unreadable(directory: &SourceDirectory, error: &Error) -> Error {
    let message = format!("sidecar '{}' can't be read: {}", directory.name, error.full_message());
    Error::new(error.kind(), message).hint("does this program run as the user that the files belong to?")
}

fn text(path: &[u8]) -> String {
    String::from_utf8_lossy(path).into_owned()
}

#[cfg(test)]
mod tests {
    use fs_err as fs;
    use pgark_repository::manifest::Attributes;
    use pgark_system::directory::Directory;

    use super::*;

    /// A file as a walk finds it now.
    fn found(directory: &Directory) -> Found {
        let look = directory.look("file".as_ref()).unwrap().unwrap();
        Found {
            path: b"cache/file".to_vec(),
            look,
            attributes: Vec::new(),
            kind: FoundKind::File { names: vec!["file".into()] },
        }
    }

    fn entry(found: &Found) -> SidecarEntry {
        SidecarEntry {
            path: found.path.clone(),
            attributes: Attributes { modified: found.look.modified().0, ..Attributes::default() },
            stamp: stamp(found),
            kind: SidecarKind::File { size: found.look.size(), content: Content::None },
        }
    }

    fn after(found: &Found, seconds: i64) -> Timestamp {
        Timestamp::from_second(found.look.changed().0 + seconds).unwrap()
    }

    #[test]
    fn a_file_rests_if_all_that_tells_of_a_change_is_the_same_and_old() {
        let place = tempfile::tempdir().unwrap();
        let directory = Directory::open(place.path()).unwrap();
        fs::write(place.path().join("file"), "content").unwrap();
        let now = found(&directory);
        assert!(is_unchanged(&entry(&now), &now, after(&now, 12)));
        assert!(!is_unchanged(&entry(&now), &now, after(&now, 9)), "it may have been changed after it was read");
        assert!(!is_unchanged(&entry(&now), &now, after(&now, -100)));
        let differs: [fn(&mut SidecarEntry); 7] = [
            |entry| entry.kind = SidecarKind::File { size: 8, content: Content::None },
            |entry| entry.attributes.modified -= 1,
            |entry| entry.stamp.modified_nanoseconds ^= 1,
            |entry| entry.stamp.changed -= 1,
            |entry| entry.stamp.changed_nanoseconds ^= 1,
            |entry| entry.stamp.inode += 1,
            |entry| entry.kind = SidecarKind::Directory,
        ];
        for (number, change) in differs.into_iter().enumerate() {
            let mut old = entry(&now);
            change(&mut old);
            assert!(!is_unchanged(&old, &now, after(&now, 12)), "{number}");
        }
    }

    #[test]
    fn a_change_that_hides_its_time_is_seen() {
        let place = tempfile::tempdir().unwrap();
        let (directory, file) = (Directory::open(place.path()).unwrap(), place.path().join("file"));
        fs::write(&file, "content").unwrap();
        let (before, modified) = (found(&directory), fs::metadata(&file).unwrap().modified().unwrap());
        std::thread::sleep(std::time::Duration::from_millis(20));
        fs::write(&file, "CONTENT").unwrap();
        fs::OpenOptions::new().write(true).open(&file).unwrap().file().set_modified(modified).unwrap();
        let now = found(&directory);
        assert_eq!((before.look.size(), before.look.modified()), (now.look.size(), now.look.modified()));
        assert!(!is_unchanged(&entry(&before), &now, after(&now, 100)));
    }
}
