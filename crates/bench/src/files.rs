//! Directory trees: what is in them, and keeping them out of the page cache.

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use fs_err as fs;
use pgark_system::durable;
use rustix::fs::Advice;
use serde::{Deserialize, Serialize};

/// How much there is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Extent {
    pub(crate) files: u64,
    pub(crate) bytes: u64,
}

/// How many pages of a cluster have changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ChangedPages {
    pub(crate) changed: u64,
    pub(crate) all: u64,
}

/// How many pages of the relations below `directory` say that WAL from `lsn` on has changed them (`pd_lsn`, the first 8
/// bytes of a page: `PageXLogRecPtr` in `bufpage.h`, its high half first). What the server has not written yet counts as
/// it was.
pub(crate) fn changed_pages(directory: &Path, lsn: u64) -> io::Result<ChangedPages> {
    const PAGE_BYTES: usize = 8192;
    let mut pages = ChangedPages::default();
    let mut buffer = vec![0; 1 << 20];
    for path in regular_files(directory)? {
        let mut file = fs::File::open(path)?;
        loop {
            let read = fill(&mut file, &mut buffer)?;
            for page in buffer[..read].chunks_exact(PAGE_BYTES) {
                let half =
                    |at: usize| u64::from(u32::from_le_bytes([page[at], page[at + 1], page[at + 2], page[at + 3]]));
                pages.all += 1;
                pages.changed += u64::from((half(0) << 32 | half(4)) >= lsn);
            }
            if read < buffer.len() {
                break;
            }
        }
    }
    Ok(pages)
}

/// Reads until the buffer is full or the file ends.
fn fill(file: &mut fs::File, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read(&mut buffer[filled..])? {
            0 => break,
            read => filled += read,
        }
    }
    Ok(filled)
}

/// Every regular file below `directory`, in no particular order.
pub(crate) fn regular_files(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut directories = vec![directory.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory)? {
            let entry = entry?;
            let kind = entry.file_type()?;
            if kind.is_dir() {
                directories.push(entry.path());
            } else if kind.is_file() {
                found.push(entry.path());
            }
        }
    }
    Ok(found)
}

/// How much lies below `directory`.
pub(crate) fn extent(directory: &Path) -> io::Result<Extent> {
    extent_of(&regular_files(directory)?)
}

/// The same of these files. A server may be archiving there: a file that went meanwhile does not count.
pub(crate) fn extent_of(files: &[PathBuf]) -> io::Result<Extent> {
    let mut extent = Extent::default();
    for file in files {
        match fs::metadata(file) {
            Ok(metadata) => {
                extent.files += 1;
                extent.bytes += metadata.len();
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(extent)
}

/// Takes what lies below `directory` out of the page cache, so that it is read from the disk the next time. A server may be
/// at work there: a file that goes meanwhile is passed over.
pub(crate) fn chill(directory: &Path) -> io::Result<()> {
    // What is not written yet can't be dropped.
    durable::sync_file_system(directory)?;
    for file in regular_files(directory)? {
        match fs::File::open(file) {
            Ok(file) => rustix::fs::fadvise(file.file(), 0, None, Advice::DontNeed)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Removes the directory or file at `path`, if there is one.
pub(crate) fn remove(path: &Path) -> io::Result<()> {
    let removed = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    removed.or_else(|error| if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_is_counted_chilled_and_removed() {
        let scratch = pgark_testkit::Scratch::new();
        let tree = scratch.directory("tree");
        fs::create_dir(tree.join("inner")).unwrap();
        fs::write(tree.join("inner/a"), "four").unwrap();
        fs::write(tree.join("b"), "two").unwrap();
        assert_eq!(extent(&tree).unwrap(), Extent { files: 2, bytes: 7 });
        chill(&tree).unwrap();
        remove(&tree).unwrap();
        assert!(!tree.exists());
        remove(&tree).unwrap();
    }
}
