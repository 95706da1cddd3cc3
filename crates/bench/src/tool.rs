//! The programs that are measured, and the settings they share.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use fs_err as fs;
use pgark_testkit::{as_test_user, run};

use crate::group::Peer;

/// How many workers each program gets: `process-max`, and the same of `pg_basebackup`.
pub(crate) const WORKERS: usize = 2;
/// The level of zstd that each program compresses with.
pub(crate) const COMPRESSION_LEVEL: i32 = 3;

/// A program that keeps repositories: pgark or pgBackRest.
#[derive(Clone, Debug)]
pub(crate) struct Tool {
    pub(crate) peer: Peer,
    pub(crate) program: PathBuf,
    /// Such as `2.59.1`.
    pub(crate) version: String,
}

impl Tool {
    /// Takes a copy of `program` into `directory`, where the user that runs it can get at it.
    pub(crate) fn install(peer: Peer, program: &Path, directory: &Path) -> io::Result<Self> {
        // pgBackRest looks for its name, in small letters, in the server's archive_command.
        let copy = directory.join(peer.name().to_lowercase());
        fs::copy(program, &copy)?;
        fs::set_permissions(&copy, PermissionsExt::from_mode(0o755))?;
        let answer = run(as_test_user(Command::new(&copy).arg("version"))).expect_success().stdout;
        let version = answer.split_whitespace().last().unwrap_or_default().to_owned();
        Ok(Self { peer, program: copy, version })
    }

    /// What only this program has to be told: the settings that are best for it.
    pub(crate) fn own_settings(&self) -> &'static str {
        match (self.peer, self.minor_version()) {
            // Small files bundled, as pgark's packs do; block incremental backup is there from 2.46 on.
            (Peer::PgBackRest, Some(..46)) => "repo1-bundle=y\n",
            (Peer::PgBackRest, _) => "repo1-bundle=y\nrepo1-block=y\n",
            _ => "",
        }
    }

    fn minor_version(&self) -> Option<u32> {
        self.version.split('.').nth(1)?.parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_gets_only_the_settings_it_knows() {
        let tool = |peer, version: &str| Tool { peer, program: PathBuf::new(), version: version.to_owned() };
        assert!(!tool(Peer::PgBackRest, "2.45").own_settings().contains("repo1-block"));
        assert!(tool(Peer::PgBackRest, "2.59.1").own_settings().contains("repo1-block=y"));
        assert_eq!(tool(Peer::Pgark, "0.1.0").own_settings(), "");
    }
}
