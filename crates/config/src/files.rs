//! Which configuration files are read.

use std::ffi::OsStr;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use fs_err as fs;
use zeroize::Zeroizing;

use crate::error::{Error, ErrorKind};
use crate::ini::{self, Entry};

/// The files that a configuration can be in.
pub trait Files {
    /// The contents of a file.
    ///
    /// # Errors
    /// [`io::ErrorKind::NotFound`] where there is none; else what keeps it from being read.
    fn read(&self, path: &Path) -> io::Result<String>;

    /// The names of the files in a directory, in any order.
    ///
    /// # Errors
    /// [`io::ErrorKind::NotFound`] where there is no such directory; else what keeps it from being read.
    fn list(&self, directory: &Path) -> io::Result<Vec<String>>;

    /// Whether every user of the machine may read a file, for all that is known.
    fn is_public(&self, path: &Path) -> bool;
}

/// The files of this machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemFiles;

impl Files for SystemFiles {
    fn read(&self, path: &Path) -> io::Result<String> {
        fs::read_to_string(path)
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<String>> {
        fs::read_dir(directory)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
    }

    fn is_public(&self, path: &Path) -> bool {
        fs::metadata(path).is_ok_and(|metadata| metadata.permissions().mode() & 0o004 != 0)
    }
}

/// What command line and environment say about configuration files.
#[derive(Clone, Debug, Default)]
pub(crate) struct Request {
    pub(crate) main: Main,
    /// `--config-path`
    pub(crate) directory: Option<PathBuf>,
    /// `--config-include-path`
    pub(crate) include: Option<PathBuf>,
}

/// Which file is the configuration file.
#[derive(Clone, Debug, Default)]
pub(crate) enum Main {
    /// The first of the default ones that exists.
    #[default]
    Default,
    /// None: `--no-config`.
    None,
    /// This one, which must exist: `--config`.
    Given(PathBuf),
}

/// A place where a configuration file may lie, and the include directory that goes with it.
struct Candidate {
    file: PathBuf,
    include: PathBuf,
}

/// Reads the configuration file and the files of the include directory, one after the other.
pub(crate) fn load(request: &Request, files: &dyn Files) -> Result<Vec<Entry>, Error> {
    let mut entries = Vec::new();
    let mut taken_with = None;
    match &request.main {
        Main::None => {}
        Main::Given(path) => match read(files, path)? {
            Some(text) => entries.extend(ini::parse(&text, path)?),
            None => return Err(missing(path)),
        },
        Main::Default => {
            for candidate in candidates(request) {
                if let Some(text) = read(files, &candidate.file)? {
                    entries.extend(ini::parse(&text, &candidate.file)?);
                    taken_with = Some(candidate.include);
                    break;
                }
            }
        }
    }
    for path in included(request, taken_with, files)? {
        // A file may vanish between listing and reading; that is as if it had never been there.
        if let Some(text) = read(files, &path)? {
            entries.extend(ini::parse(&text, &path)?);
        }
    }
    Ok(entries)
}

fn candidates(request: &Request) -> Vec<Candidate> {
    let candidate = |file: &Path, include: &Path| Candidate { file: file.to_owned(), include: include.to_owned() };
    if let Some(directory) = &request.directory {
        let include = directory.join("conf.d");
        return ["pgark.conf", "pgbackrest.conf"].map(|name| candidate(&directory.join(name), &include)).into();
    }
    let own = Path::new("/etc/pgark");
    let other = Path::new("/etc/pgbackrest");
    vec![
        candidate(&own.join("pgark.conf"), &own.join("conf.d")),
        candidate(&other.join("pgbackrest.conf"), &other.join("conf.d")),
        candidate(Path::new("/etc/pgbackrest.conf"), &other.join("conf.d")),
    ]
}

/// The files of the include directory, in the order of their names. `taken_with` is the directory that goes with the
/// default file that was read, if one was.
fn included(request: &Request, taken_with: Option<PathBuf>, files: &dyn Files) -> Result<Vec<PathBuf>, Error> {
    if let Some(directory) = &request.include {
        let missing = format!("unable to list missing path '{}'", directory.display());
        return list(files, directory)?.ok_or_else(|| Error::new(ErrorKind::PathMissing, missing));
    }
    let directories = match (&request.main, &request.directory, taken_with) {
        (_, Some(directory), _) => vec![directory.join("conf.d")],
        (Main::Given(_) | Main::None, None, _) => Vec::new(),
        (Main::Default, None, Some(directory)) => vec![directory],
        // With no configuration file at all a directory of either name will do.
        (Main::Default, None, None) => candidates(request).into_iter().map(|candidate| candidate.include).collect(),
    };
    for directory in directories {
        if let Some(paths) = list(files, &directory)? {
            return Ok(paths);
        }
    }
    Ok(Vec::new())
}

fn read(files: &dyn Files, path: &Path) -> Result<Option<Zeroizing<String>>, Error> {
    match files.read(path) {
        Ok(text) => Ok(Some(Zeroizing::new(text))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::new(ErrorKind::FileRead, format!("unable to read configuration: {error}"))),
    }
}

fn list(files: &dyn Files, directory: &Path) -> Result<Option<Vec<PathBuf>>, Error> {
    match files.list(directory) {
        Ok(mut names) => {
            names.retain(|name| Path::new(name).extension() == Some(OsStr::new("conf")));
            names.sort();
            Ok(Some(names.into_iter().map(|name| directory.join(name)).collect()))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::new(ErrorKind::FileRead, format!("unable to list configuration files: {error}"))),
    }
}

fn missing(path: &Path) -> Error {
    Error::new(ErrorKind::FileMissing, format!("unable to open missing file '{}' for read", path.display()))
}
