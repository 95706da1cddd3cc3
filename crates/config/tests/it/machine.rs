//! A machine with files and an environment of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use pgark_config::{Configuration, Environment, Error, Files, Invocation, load};

#[derive(Clone, Default)]
pub(crate) struct Machine {
    files: BTreeMap<PathBuf, String>,
    public: BTreeSet<PathBuf>,
    environment: BTreeMap<String, String>,
}

impl Machine {
    pub(crate) fn file(mut self, path: &str, text: &str) -> Self {
        self.files.insert(path.into(), text.into());
        self
    }

    /// Lets every user read a file.
    pub(crate) fn public(mut self, path: &str) -> Self {
        self.public.insert(path.into());
        self
    }

    pub(crate) fn variable(mut self, name: &str, value: &str) -> Self {
        self.environment.insert(name.into(), value.into());
        self
    }

    /// Loads a command line, whose words are parted by blanks.
    pub(crate) fn load(&self, line: &str) -> Result<Invocation, Error> {
        let environment: Environment = self.environment.clone().into_iter().collect();
        load(line.split_whitespace().map(OsString::from), &environment, self)
    }

    pub(crate) fn run(&self, line: &str) -> Configuration {
        match self.load(line).unwrap_or_else(|error| panic!("{line}: {error} {:?}", error.hints())) {
            Invocation::Run(configuration) => *configuration,
            other => panic!("{line}: {other:?}"),
        }
    }

    pub(crate) fn error(&self, line: &str) -> Error {
        self.load(line).expect_err(line)
    }
}

impl Files for Machine {
    fn read(&self, path: &Path) -> io::Result<String> {
        self.files.get(path).cloned().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<String>> {
        let inside = self.files.keys().filter(|path| path.parent() == Some(directory));
        // Not in the order of the names, as a file system may have it.
        let names: Vec<_> = inside.rev().filter_map(|path| path.file_name()?.to_str().map(str::to_owned)).collect();
        if names.is_empty() { Err(io::ErrorKind::NotFound.into()) } else { Ok(names) }
    }

    fn is_public(&self, path: &Path) -> bool {
        self.public.contains(path)
    }
}

/// What an error shows, with its kind: how a user would see it.
pub(crate) fn shown(error: &Error) -> String {
    let hints = error.hints().iter().map(|hint| format!("\n  hint: {hint}"));
    format!("{:?}: {error}{}", error.kind(), hints.collect::<String>())
}
