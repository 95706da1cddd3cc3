//! The program under test.

use std::path::{Path, PathBuf};
use std::process::Command;

use fs_err as fs;

use crate::scratch::Scratch;
use crate::user::{as_test_user, is_root};

/// The program under test, at a place from which the test user may run it.
#[derive(Debug)]
pub struct Program {
    path: PathBuf,
    _copy: Option<Scratch>,
}

impl Program {
    /// Takes the program that cargo built for the test: `Program::new(env!("CARGO_BIN_EXE_pgark"))`.
    ///
    /// Under root it is linked or copied out of the build directory, which another user may be unable to enter.
    pub fn new(built: impl AsRef<Path>) -> Self {
        let built = built.as_ref();
        if !is_root() {
            return Self { path: built.to_owned(), _copy: None };
        }
        let scratch = Scratch::new();
        let path = scratch.path().join(built.file_name().expect("a program has a name"));
        // A link costs nothing, but can't lead to another file system.
        if fs::hard_link(built, &path).is_err() {
            fs::copy(built, &path).expect("the program can be copied");
        }
        Self { path, _copy: Some(scratch) }
    }

    /// Where the program lies, for an `archive_command`.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A command that runs the program as the test user.
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.path);
        as_test_user(&mut command);
        command
    }
}
