//! Installed `PostgreSQL` servers.

use std::path::{Path, PathBuf};
use std::process::Command;

use fs_err as fs;

use crate::process::run;
use crate::user::{as_test_user, is_root};

/// A `PostgreSQL` installation: the server and its tools.
#[derive(Clone, Debug)]
pub struct Server {
    major: u32,
    version: String,
    directory: PathBuf,
}

impl Server {
    /// The installed server of major version `major`. Panics when there is none.
    pub fn get(major: u32) -> Self {
        let found = places(major).into_iter().find(|directory| directory.join("postgres").exists());
        let Some(directory) = found else {
            panic!("PostgreSQL {major} is not installed for the tests: run `make setup`")
        };
        // Installations are reached by links; a server looks for its libraries beside the real file.
        let directory = fs::canonicalize(directory).expect("the directory was there just now");
        let mut server = Self { major, version: String::new(), directory };
        let answer = run(server.tool("postgres").arg("--version")).expect_success().stdout;
        server.version = parse_version(&answer, major);
        server
    }

    /// The servers that most tests run on: 15, 17 and 18.
    pub fn all() -> [Self; 3] {
        [15, 17, 18].map(Self::get)
    }

    /// The other supported ones, on which what matters most is tried: 13, 14 and 16.
    pub fn smoke() -> [Self; 3] {
        [13, 14, 16].map(Self::get)
    }

    /// The major version.
    pub fn major(&self) -> u32 {
        self.major
    }

    /// The whole version, such as `15.18`.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Where the programs lie.
    pub fn bin_directory(&self) -> &Path {
        &self.directory
    }

    /// A command that runs a program of the installation, such as `pg_waldump`, as the test user.
    pub fn tool(&self, name: &str) -> Command {
        let mut command = Command::new(self.directory.join(name));
        as_test_user(&mut command);
        command
    }

    /// A command that runs a client program, such as `psql`, as the test user. Where the installation is a bare server,
    /// it is that of a newer one: clients talk to older servers.
    pub fn client_tool(&self, name: &str) -> Command {
        if self.directory.join(name).exists() { self.tool(name) } else { Self::get(15).tool(name) }
    }
}

/// Where scripts/setup-servers puts a server: into the cache for the tests, or where the distribution has it.
fn places(major: u32) -> Vec<PathBuf> {
    let mut places = vec![PathBuf::from(format!("{SHARED_CACHE}/servers/{major}/bin"))];
    places.extend(user_cache().map(|cache| cache.join(format!("servers/{major}/bin"))));
    places.push(PathBuf::from(format!("/usr/lib/postgresql/{major}/bin")));
    places
}

const SHARED_CACHE: &str = "/var/cache/pgark-test";

fn user_cache() -> Option<PathBuf> {
    if is_root() {
        return None;
    }
    let set = std::env::var_os("XDG_CACHE_HOME").filter(|value| !value.is_empty()).map(PathBuf::from);
    let cache = set.or_else(|| std::env::home_dir().map(|home| home.join(".cache")))?;
    Some(cache.join("pgark-test"))
}

/// The directory that the tests may keep things in from one run to the next.
pub(crate) fn cache_directory() -> PathBuf {
    user_cache().unwrap_or_else(|| PathBuf::from(SHARED_CACHE))
}

/// Where packages for Python of this name are installed, for `PYTHONPATH`; `scripts/setup-<name>` installs them.
pub fn python_packages(name: &str) -> PathBuf {
    let directory = cache_directory().join(name);
    assert!(directory.exists(), "{name} is not installed for the tests: run `make setup`");
    directory
}

/// Takes `15.18` from `postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)`.
fn parse_version(answer: &str, major: u32) -> String {
    let version = answer.split(' ').nth(2).unwrap_or_default().trim();
    assert!(version.split('.').next() == Some(&major.to_string()), "expected PostgreSQL {major}, found '{answer}'");
    version.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_taken_from_what_the_server_says() {
        assert_eq!(parse_version("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n", 15), "15.18");
        assert_eq!(parse_version("postgres (PostgreSQL) 17.10\n", 17), "17.10");
    }

    #[test]
    #[should_panic(expected = "PostgreSQL 9 is not installed for the tests: run `make setup`")]
    fn a_server_that_is_missing_is_asked_for() {
        Server::get(9);
    }
}
