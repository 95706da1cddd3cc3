//! Whether a server is at work on a data directory.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use fs_err as fs;
use rustix::process::Pid;
use thiserror::Error;

/// The file that a server keeps in its data directory while it runs.
pub const PID_FILE: &str = "postmaster.pid";

/// What is known about a server on a data directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Running {
    /// There is no `postmaster.pid`: the last server was shut down, or there never was one.
    No,
    /// The file is there, and so is the process.
    Yes(PidFile),
    /// The file is there, and this host has no such process, or it is another program: the server did not live to remove
    /// its file.
    ///
    /// It may still run in another container or on another host, of whose processes nothing can be seen from here. Where
    /// a data directory may be shared with one, only the absence of the file tells that no server runs.
    Stale(PidFile),
}

/// What a `postmaster.pid` says (PostgreSQL `src/include/utils/pidfile.h`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PidFile {
    /// The process id of the server.
    pub pid: u32,
    /// Whether it is a server for a single user, without a postmaster.
    pub single_user: bool,
    /// The data directory, under the name the server was started with.
    pub data_directory: PathBuf,
    /// The port, if the server got so far as to write it.
    pub port: Option<u16>,
    /// The directory of its first socket, if it got so far and has one.
    pub socket_directory: Option<PathBuf>,
}

/// Whether a server runs can't be found out.
#[derive(Debug, Error)]
pub enum RunningError {
    /// The file can't be read.
    #[error("failed to find out whether a server runs")]
    Read(#[source] io::Error),
    /// The file does not begin with a process id.
    #[error("'{0}' names no process: a server is just starting, or crashed when it did")]
    Invalid(PathBuf),
}

impl PidFile {
    /// Reads the lines of a `postmaster.pid`. A server writes them one after the other while it starts.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let mut lines = bytes.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
        let pid: i32 = number(lines.next()?)?;
        let data_directory = path(lines.next()?);
        let _start_time = lines.next();
        let port = lines.next().and_then(number);
        let socket_directory = lines.next().filter(|line| !line.is_empty()).map(path);
        (pid != 0).then_some(Self {
            pid: pid.unsigned_abs(),
            single_user: pid < 0,
            data_directory,
            port,
            socket_directory,
        })
    }
}

fn number<T: std::str::FromStr>(line: &[u8]) -> Option<T> {
    std::str::from_utf8(line).ok()?.parse().ok()
}

fn path(line: &[u8]) -> PathBuf {
    OsStr::from_bytes(line).into()
}

/// Finds out whether a server is at work on `data_directory`.
///
/// # Errors
/// Fails where `postmaster.pid` can't be read, or says nothing.
pub fn running(data_directory: &Path) -> Result<Running, RunningError> {
    let path = data_directory.join(PID_FILE);
    let bytes = match fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Running::No),
        Err(error) => return Err(RunningError::Read(error)),
    };
    let file = PidFile::parse(&bytes).ok_or(RunningError::Invalid(path))?;
    let is_alive = exists(file.pid) && may_be_server(file.pid, data_directory);
    Ok(if is_alive { Running::Yes(file) } else { Running::Stale(file) })
}

fn exists(pid: u32) -> bool {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    // Any answer but "no such process" means that there is one, of another user maybe.
    pid.is_some_and(|pid| !matches!(rustix::process::test_kill_process(pid), Err(rustix::io::Errno::SRCH)))
}

/// Whether the process may be a server on this data directory, for all that can be seen. After a crash, and all the more
/// in a container, where numbers are few, the process id may have gone to another program or to another server.
fn may_be_server(pid: u32, data_directory: &Path) -> bool {
    let process = Path::new("/proc").join(pid.to_string());
    let is_named_so = |name: Vec<u8>| [&b"postgres"[..], b"postmaster"].iter().any(|known| contains(&name, known));
    let name_fits = fs::read(process.join("comm")).map_or(true, is_named_so);
    // A server works in its data directory. Only its own user and root see that.
    let place_fits = same_place(&process.join("cwd"), data_directory).unwrap_or(true);
    name_fits && place_fits
}

fn contains(text: &[u8], wanted: &[u8]) -> bool {
    text.windows(wanted.len()).any(|window| window == wanted)
}

fn same_place(one: &Path, other: &Path) -> io::Result<bool> {
    let (one, other) = (fs::metadata(one)?, fs::metadata(other)?);
    Ok(one.dev() == other.dev() && one.ino() == other.ino())
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &[u8] = b"4711\n/srv/data\n1795349977\n5433\n/run/postgresql\nlocalhost\n  1048577 65536\nready   \n";

    #[test]
    fn a_pid_file_is_read() {
        let expected = PidFile {
            pid: 4711,
            single_user: false,
            data_directory: "/srv/data".into(),
            port: Some(5433),
            socket_directory: Some("/run/postgresql".into()),
        };
        assert_eq!(PidFile::parse(FILE), Some(expected.clone()));
        let starting = PidFile { port: None, socket_directory: None, ..expected };
        assert_eq!(PidFile::parse(b"4711\n/srv/data\n1795349977\n"), Some(starting.clone()));
        assert_eq!(PidFile::parse(b"-4711\n/srv/data\n"), Some(PidFile { single_user: true, ..starting }));
    }

    #[test]
    fn what_names_no_process_is_not_a_pid_file() {
        for bytes in [&b""[..], b"\n", b"0\n/srv/data\n", b"x\n/srv/data\n", b"4711", b"99999999999\n/srv\n"] {
            assert_eq!(PidFile::parse(bytes), None, "{bytes:?}");
        }
    }

    #[test]
    fn a_pid_that_went_to_another_program_is_stale() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(running(directory.path()).unwrap(), Running::No);
        let file = directory.path().join(PID_FILE);
        fs::write(&file, format!("{}\n/srv/data\n", std::process::id())).unwrap();
        assert!(matches!(running(directory.path()).unwrap(), Running::Stale(_)));
        fs::write(&file, format!("{}\n/srv/data\n", i32::MAX)).unwrap();
        assert!(matches!(running(directory.path()).unwrap(), Running::Stale(_)));
        fs::write(&file, "").unwrap();
        assert!(matches!(running(directory.path()), Err(RunningError::Invalid(_))));
    }
}
