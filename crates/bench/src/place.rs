//! Where a repository lies.

use std::io;
use std::path::{Path, PathBuf};

use fs_err as fs;
use pgark_testkit::give_to_test_user;

use crate::files::{self, Extent};
use crate::group::Storage;
use crate::measure::Traffic;
use crate::object_store::{ObjectStore, Programs};

/// The place of one repository, with nothing else in it. An object store ends with this value.
#[derive(Debug)]
pub(crate) enum Place {
    /// A directory.
    Disk(PathBuf),
    /// A server of its own.
    S3(ObjectStore),
}

impl Place {
    /// Makes a place that keeps what it has in `directory`, which must not exist.
    pub(crate) fn create(storage: Storage, programs: Option<&Programs>, directory: &Path) -> io::Result<Self> {
        fs::create_dir(directory)?;
        give_to_test_user(directory);
        match storage {
            Storage::Disk => Ok(Self::Disk(directory.to_owned())),
            Storage::S3 => {
                let programs = programs.ok_or_else(|| io::Error::other("S3 is not measured without --garage"))?;
                Ok(Self::S3(ObjectStore::start(programs, directory)?))
            }
        }
    }

    /// The lines of a configuration that say where the repository is.
    pub(crate) fn settings(&self) -> String {
        match self {
            Self::Disk(path) => format!("repo1-path={}\n", path.display()),
            Self::S3(store) => store.settings(),
        }
    }

    /// What is stored.
    pub(crate) fn extent(&self) -> io::Result<Extent> {
        files::extent(self.directory())
    }

    /// What is stored in a directory, but for what is in its directory `left_out`.
    pub(crate) fn extent_without(&self, left_out: &str) -> io::Result<Extent> {
        let (all, without) = (self.extent()?, files::extent(&self.directory().join(left_out))?);
        Ok(Extent { files: all.files - without.files, bytes: all.bytes - without.bytes })
    }

    /// Takes all that is stored out of the page cache.
    pub(crate) fn chill(&self) -> io::Result<()> {
        files::chill(self.directory())
    }

    /// Where it all lies in the end.
    fn directory(&self) -> &Path {
        match self {
            Self::Disk(path) => path,
            Self::S3(store) => store.data_directory(),
        }
    }

    /// The processes that keep it up. What they use is not the programs'.
    pub(crate) fn processes(&self) -> Vec<u32> {
        match self {
            Self::Disk(_) => Vec::new(),
            Self::S3(store) => store.processes(),
        }
    }

    /// What has reached it so far; of a directory nothing is known.
    pub(crate) fn traffic(&self) -> io::Result<Option<Traffic>> {
        match self {
            Self::Disk(_) => Ok(None),
            Self::S3(store) => store.traffic().map(Some),
        }
    }
}
