//! The server process and those it starts.

use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use fs_err as fs;
use pgark_system::clock;
use rustix::process::{Pid, Signal};

use crate::server::Server;
use crate::user::as_test_user;

/// A running server.
#[derive(Debug)]
pub(crate) struct Postmaster {
    child: Child,
}

impl Postmaster {
    /// Starts a server with `arguments` that shuts down when the thread at hand ends, and with it the test; what it
    /// logs is added to the file `log`.
    pub(crate) fn spawn(server: &Server, arguments: &[String], log: &Path) -> Self {
        let log = fs::OpenOptions::new().create(true).append(true).open(log).expect("the log can be written");
        let errors = log.try_clone().expect("a file can be opened twice");
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "QUIT", "--"]).arg(server.bin_directory().join("postgres")).args(arguments);
        command.stdin(Stdio::null()).stdout(log.into_file()).stderr(errors.into_file());
        let child = as_test_user(&mut command).spawn().expect("setpriv (util-linux) is installed");
        Self { child }
    }

    /// How it ended, or `None` while it runs.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("a child can be waited for")
    }

    /// Waits for the end; `None` when it still runs after `timeout`.
    pub(crate) fn wait(&mut self, timeout: Duration) -> Option<ExitStatus> {
        let ended = clock::wait_for(timeout, Duration::from_millis(5), || self.child.try_wait());
        ended.expect("a child can be waited for")
    }

    /// Whether the server that wrote `postmaster.pid` is this one and takes connections.
    pub(crate) fn is_ready(&self, data_directory: &Path) -> bool {
        let Ok(text) = fs::read_to_string(data_directory.join("postmaster.pid")) else { return false };
        let lines: Vec<&str> = text.lines().map(str::trim).collect();
        let its_own = lines.first().is_some_and(|pid| *pid == self.child.id().to_string());
        // The eighth line is the state (LOCK_FILE_LINE_PM_STATUS in pidfile.h).
        its_own && matches!(lines.get(7), Some(&("ready" | "standby")))
    }

    pub(crate) fn signal(&self, signal: Signal) {
        // Whether it still lives shows when it is waited for.
        let _gone = rustix::process::kill_process(self.pid(), signal);
    }

    /// Kills the server and every process it started, as a power cut would: nobody gets to say goodbye.
    pub(crate) fn kill_all(&mut self) {
        // Held still, it can't start another while its children are counted.
        self.signal(Signal::STOP);
        let children = children_of(self.pid());
        for &child in &children {
            // Each leads a group of its own, an archive_command below it included.
            let _gone = rustix::process::kill_process_group(child, Signal::KILL);
            let _gone = rustix::process::kill_process(child, Signal::KILL);
        }
        self.signal(Signal::KILL);
        let _status = self.child.wait().expect("a child can be waited for");
        crate::wait_until("the processes of a killed server to end", || children.iter().all(|&child| has_ended(child)));
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }
}

fn children_of(pid: Pid) -> Vec<Pid> {
    let pid = pid.as_raw_nonzero();
    let list = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    list.split_whitespace().filter_map(|child| Pid::from_raw(child.parse().ok()?)).collect()
}

/// Whether a process is gone, or a zombie that only was not waited for yet. One that has lost its command line may have the
/// server's shared memory still, which no other server would share.
fn has_ended(pid: Pid) -> bool {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero()));
    // The name of the program, in parentheses, may be anything; the state follows it.
    stat.map_or(true, |stat| stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with(['Z', 'X'])))
}
