//! What foreground and background leave for each other, in files. `docs/format.md` describes them.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use fs_err as fs;
use pgark_postgres::wal::name::WalFileName;
use pgark_repository::StanzaName;
use pgark_system::durable::{self, DurableFile, Existing};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind};

/// What the name of word ends with of a file that every repository has.
const SETTLED_SUFFIX: &str = ".ok";
/// What the name of word ends with of a file that some repositories have.
const PARTLY_SUFFIX: &str = ".part";
/// What the name of word ends with of a file that could not be pushed.
const FAILED_SUFFIX: &str = ".error";
/// What stands for the file's name where the failure is that of all files.
const ALL_FILES: &str = "global";

/// The spool of a stanza.
#[derive(Clone, Debug)]
pub(crate) struct Spool {
    directory: PathBuf,
}

/// What a WAL file is told by from every other one that has had its name: that of another cluster, of another program that
/// uses the same spool, or of a copy of this cluster that went another way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Source {
    inode: u64,
    /// Its length in bytes.
    pub(crate) size: u64,
    modified_seconds: i64,
    modified_nanoseconds: i64,
}

/// Word of a file that has been pushed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Settled {
    /// The file that is meant.
    pub(crate) file: Source,
    /// The repositories in which it is durable, or which go without it.
    pub(crate) repositories: BTreeSet<String>,
    /// What PostgreSQL's log should have of it.
    pub(crate) warnings: Vec<String>,
}

/// Word of a failure.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Trouble {
    kind: ErrorKind,
    message: String,
    hints: Vec<String>,
}

impl From<&Error> for Trouble {
    fn from(error: &Error) -> Self {
        Self { kind: error.kind(), message: error.full_message(), hints: error.hints().to_vec() }
    }
}

impl From<Trouble> for Error {
    fn from(trouble: Trouble) -> Self {
        trouble.hints.into_iter().fold(Self::new(trouble.kind, trouble.message), Self::hint)
    }
}

impl Source {
    /// Looks at a WAL file.
    ///
    /// # Errors
    /// What the file system says.
    pub(crate) fn of(path: &Path) -> io::Result<Self> {
        let metadata = fs::metadata(path)?;
        Ok(Self {
            inode: metadata.ino(),
            size: metadata.size(),
            modified_seconds: metadata.mtime(),
            modified_nanoseconds: metadata.mtime_nsec(),
        })
    }
}

impl Settled {
    /// Whether each of these repositories is among those that are done with the file.
    pub(crate) fn covers(&self, places: &[String]) -> bool {
        places.iter().all(|place| self.repositories.contains(place))
    }
}

impl Spool {
    /// The spool of a stanza below `spool_path`.
    pub(crate) fn new(spool_path: &Path, stanza: &StanzaName) -> Self {
        Self { directory: spool_path.join("archive").join(stanza.as_str()) }
    }

    /// Where there is word of files that are pushed.
    pub(crate) fn out(&self) -> PathBuf {
        self.directory.join("out")
    }

    /// Where files lie that were fetched.
    pub(crate) fn incoming(&self) -> PathBuf {
        self.directory.join("in")
    }

    fn word(&self, name: &str, suffix: &str) -> PathBuf {
        self.out().join(format!("{name}{suffix}"))
    }

    /// Word of a file that every repository has.
    ///
    /// # Errors
    /// What the file system says; word that is damaged is none.
    pub(crate) fn settled(&self, name: WalFileName) -> io::Result<Option<Settled>> {
        read(&self.word(&name.to_string(), SETTLED_SUFFIX))
    }

    /// Word of a file that some repositories have.
    ///
    /// # Errors
    /// As [`Spool::settled`].
    pub(crate) fn partly_settled(&self, name: WalFileName) -> io::Result<Option<Settled>> {
        read(&self.word(&name.to_string(), PARTLY_SUFFIX))
    }

    /// Leaves word of a file: whether every repository has it, or which.
    ///
    /// # Errors
    /// What the file system says.
    pub(crate) fn write_settled(&self, name: WalFileName, settled: &Settled, is_complete: bool) -> io::Result<()> {
        let name = name.to_string();
        if !is_complete {
            return write(&self.word(&name, PARTLY_SUFFIX), settled);
        }
        write(&self.word(&name, SETTLED_SUFFIX), settled)?;
        remove(&self.word(&name, PARTLY_SUFFIX))?;
        remove(&self.word(&name, FAILED_SUFFIX))
    }

    /// Word of a failure: that of the file, or that of all files.
    ///
    /// # Errors
    /// As [`Spool::settled`].
    pub(crate) fn failure(&self, name: WalFileName) -> io::Result<Option<Trouble>> {
        match read(&self.word(&name.to_string(), FAILED_SUFFIX))? {
            Some(trouble) => Ok(Some(trouble)),
            None => read(&self.word(ALL_FILES, FAILED_SUFFIX)),
        }
    }

    /// Leaves word of a failure, that of all files where none is named.
    ///
    /// # Errors
    /// What the file system says.
    pub(crate) fn write_failure(&self, name: Option<WalFileName>, error: &Error) -> io::Result<()> {
        let name = name.map_or_else(|| ALL_FILES.to_owned(), |name| name.to_string());
        write(&self.word(&name, FAILED_SUFFIX), &Trouble::from(error))
    }

    /// Forgets the failure of a file and that of all files.
    ///
    /// # Errors
    /// What the file system says.
    pub(crate) fn forget_failure(&self, name: WalFileName) -> io::Result<()> {
        remove(&self.word(&name.to_string(), FAILED_SUFFIX))?;
        remove(&self.word(ALL_FILES, FAILED_SUFFIX))
    }

    /// Makes sure that word can be left.
    ///
    /// # Errors
    /// What the file system says.
    pub(crate) fn prepare_out(&self) -> io::Result<()> {
        prepare(&self.out())
    }

    /// Makes sure that files can be kept.
    ///
    /// # Errors
    /// What the file system says.
    pub(crate) fn prepare_incoming(&self) -> io::Result<()> {
        prepare(&self.incoming())
    }

    /// Removes what an earlier background has left unfinished or failed at.
    ///
    /// # Errors
    /// What the file system says.
    pub(crate) fn forget_failures(&self) -> io::Result<()> {
        self.remove_words(|file, suffix| file.is_none() || suffix == FAILED_SUFFIX)
    }

    /// Removes word of files that PostgreSQL does not wait for any more.
    ///
    /// # Errors
    /// What the file system says.
    pub(crate) fn forget_all_but(&self, ready: &BTreeSet<WalFileName>) -> io::Result<()> {
        self.remove_words(|file, _| file.is_some_and(|file| !ready.contains(&file)))
    }

    /// Removes those files of `out` of which `is_over` says so, by the WAL file and the suffix in their names.
    fn remove_words(&self, is_over: impl Fn(Option<WalFileName>, &str) -> bool) -> io::Result<()> {
        for entry in fs::read_dir(self.out())? {
            let entry = entry?;
            let name = entry.file_name();
            let name = name.to_string_lossy();
            let parts = [SETTLED_SUFFIX, PARTLY_SUFFIX, FAILED_SUFFIX]
                .into_iter()
                .find_map(|suffix| Some((name.strip_suffix(suffix)?, suffix)));
            let (file, suffix) = parts.unwrap_or((&name, ""));
            if is_over(file.parse().ok(), suffix) {
                remove(&entry.path())?;
            }
        }
        Ok(())
    }
}

/// Makes the directory, and finds out whether there is room for anything in it.
fn prepare(directory: &Path) -> io::Result<()> {
    durable::create_directory_all(directory, 0o750)?;
    let mut probe = DurableFile::create(&directory.join("probe"), 0o640)?;
    probe.write_all(&[0; 4096])
}

/// Reads a document. One that is damaged is as good as none: a power cut may leave anything of a file that was not synced.
pub(super) fn read<T: DeserializeOwned>(path: &Path) -> io::Result<Option<T>> {
    match fs::read(path) {
        Ok(bytes) => Ok(serde_json::from_slice(&bytes).ok()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Writes a document, which appears whole.
pub(super) fn write(path: &Path, document: &impl Serialize) -> io::Result<()> {
    let mut file = DurableFile::create(path, 0o640)?;
    file.write_all(&serde_json::to_vec(document)?)?;
    file.commit_unsynced(Existing::Replace)
}

/// Removes a file, which may be gone already.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAME: &str = "000000010000000000000005";

    fn spool() -> (tempfile::TempDir, Spool) {
        let directory = tempfile::tempdir().unwrap();
        let spool = Spool::new(directory.path(), &"demo".parse().unwrap());
        spool.prepare_out().unwrap();
        (directory, spool)
    }

    fn settled(places: &[&str]) -> Settled {
        let file = Source { inode: 12, size: 16 << 20, modified_seconds: 1_795_349_977, modified_nanoseconds: 5 };
        let repositories = places.iter().map(|place| (*place).to_owned()).collect();
        Settled { file, repositories, warnings: Vec::new() }
    }

    fn names(spool: &Spool) -> Vec<String> {
        let entries = fs::read_dir(spool.out()).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn word_has_the_form_that_is_documented() {
        let (_directory, spool) = spool();
        let name = NAME.parse().unwrap();
        spool.write_settled(name, &settled(&["/one"]), true).unwrap();
        let text = fs::read_to_string(spool.out().join(format!("{NAME}.ok"))).unwrap();
        assert_eq!(
            text,
            r#"{"file":{"inode":12,"size":16777216,"modified_seconds":1795349977,"modified_nanoseconds":5},"repositories":["/one"],"warnings":[]}"#
        );
        let error = Error::new(ErrorKind::ArchiveMismatch, "another cluster's").hint("look");
        spool.write_failure(Some(name), &error).unwrap();
        let text = fs::read_to_string(spool.out().join(format!("{NAME}.error"))).unwrap();
        assert_eq!(text, r#"{"kind":"archive-mismatch","message":"another cluster's","hints":["look"]}"#);
        let back = Error::from(spool.failure(name).unwrap().unwrap());
        assert_eq!((back.kind(), back.to_string(), back.hints()), (error.kind(), error.to_string(), error.hints()));
    }

    #[test]
    fn word_of_part_of_the_repositories_gives_way_to_that_of_all() {
        let (_directory, spool) = spool();
        let name = NAME.parse().unwrap();
        spool.write_settled(name, &settled(&["/one"]), false).unwrap();
        assert_eq!(spool.settled(name).unwrap(), None);
        assert!(!spool.partly_settled(name).unwrap().unwrap().covers(&["/one".to_owned(), "/two".to_owned()]));
        spool.write_failure(Some(name), &Error::new(ErrorKind::Service, "down")).unwrap();
        spool.write_settled(name, &settled(&["/one", "/two"]), true).unwrap();
        assert_eq!(names(&spool), [format!("{NAME}.ok")]);
        assert!(spool.settled(name).unwrap().unwrap().covers(&["/one".to_owned(), "/two".to_owned()]));
    }

    /// An empty file is what another program takes for success, and what a power cut may leave.
    #[test]
    fn what_is_no_word_is_not_taken_for_it() {
        let (_directory, spool) = spool();
        let name: WalFileName = NAME.parse().unwrap();
        for content in ["", "0\ndropped", "{", "null", "{\"file\":{}}", "\0\0\0\0"] {
            fs::write(spool.out().join(format!("{NAME}.ok")), content).unwrap();
            assert_eq!(spool.settled(name).unwrap(), None, "{content:?}");
        }
    }

    #[test]
    fn old_word_is_forgotten() {
        let (_directory, spool) = spool();
        let other = "000000010000000000000006";
        for file in [NAME, other].map(|name| name.parse().unwrap()) {
            spool.write_settled(file, &settled(&["/one"]), true).unwrap();
            spool.write_failure(Some(file), &Error::new(ErrorKind::Service, "down")).unwrap();
        }
        spool.write_failure(None, &Error::new(ErrorKind::Stop, "stopped")).unwrap();
        fs::write(spool.out().join(".pgark-tmp-1"), "").unwrap();
        spool.forget_failures().unwrap();
        assert_eq!(names(&spool), [format!("{NAME}.ok"), format!("{other}.ok")]);
        spool.forget_all_but(&BTreeSet::from([other.parse().unwrap()])).unwrap();
        assert_eq!(names(&spool), [format!("{other}.ok")]);
    }

    #[test]
    fn another_file_of_the_same_name_is_another_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(NAME);
        fs::write(&path, "one").unwrap();
        let before = Source::of(&path).unwrap();
        assert_eq!(Source::of(&path).unwrap(), before);
        let copy = directory.path().join("copy");
        fs::write(&copy, "two").unwrap();
        fs::rename(&copy, &path).unwrap();
        assert_ne!(Source::of(&path).unwrap(), before);
    }
}
