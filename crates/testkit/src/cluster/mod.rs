//! Clusters: their life and what is asked of them.

mod builder;
mod judges;
mod postmaster;
mod sql;
mod template;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Duration;

use fs_err as fs;
use pgark_system::clock;
use rustix::process::Signal;

pub use builder::ClusterBuilder;
use postmaster::Postmaster;
pub use sql::Load;

use crate::PATIENCE;
use crate::process::run;
use crate::scratch::Scratch;
use crate::server::Server;
use crate::user::{as_test_user, give_to_test_user};

/// How a server is told to shut down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// Sessions are ended, a checkpoint is written.
    Fast,
    /// At once, without a checkpoint: the next start goes through crash recovery.
    Immediate,
}

/// A cluster of its own. Dropping it stops the server and removes its data.
///
/// The server ends with the thread that started it; start it in the thread of the test.
#[derive(Debug)]
#[must_use = "a cluster that is dropped is gone"]
pub struct Cluster {
    server: Server,
    data_directory: PathBuf,
    configuration_directory: PathBuf,
    scratch: Scratch,
    postmaster: Option<Postmaster>,
}

impl Cluster {
    /// Begins a new cluster.
    pub fn builder(server: &Server) -> ClusterBuilder {
        ClusterBuilder::new(server)
    }

    /// Takes a data directory that something else made, such as a restore. It is not started yet, and stays when the
    /// cluster is dropped. Its settings count, except for socket and port.
    pub fn adopt(server: &Server, data_directory: &Path) -> Self {
        Self::at(server.clone(), data_directory.to_owned(), Scratch::new())
    }

    /// A copy of this running cluster that follows it, not started yet (`pg_basebackup`).
    pub fn standby(&self) -> Self {
        let scratch = Scratch::new();
        let data_directory = scratch.directory("data");
        let mut copy = self.client("pg_basebackup");
        copy.args(["--checkpoint=fast", "--no-sync", "--pgdata"]).arg(&data_directory);
        run(&mut copy).expect_success();
        let standby = Self::at(self.server.clone(), data_directory, scratch);
        // Not by pg_basebackup: a newer one writes what an older server's client library does not know.
        standby.configure("primary_conninfo", &self.connection_string());
        let signal = standby.data_directory.join("standby.signal");
        fs::write(&signal, "").expect("the data directory can be written");
        give_to_test_user(&signal);
        standby
    }

    /// How another server reaches this one (`primary_conninfo`).
    pub fn connection_string(&self) -> String {
        format!("host={} port={} user=postgres", self.socket_directory().display(), self.port())
    }

    fn at(server: Server, data_directory: PathBuf, scratch: Scratch) -> Self {
        let _sockets = scratch.directory("socket");
        let configuration_directory = data_directory.clone();
        Self { server, data_directory, configuration_directory, scratch, postmaster: None }
    }

    /// The installation the cluster runs on.
    pub fn server(&self) -> &Server {
        &self.server
    }

    /// PGDATA.
    pub fn data_directory(&self) -> &Path {
        &self.data_directory
    }

    /// The directory of the socket, for `pg1-socket-path`.
    pub fn socket_directory(&self) -> PathBuf {
        self.scratch.path().join("socket")
    }

    /// The port, for `pg1-port`. Clusters differ in the directory of the socket.
    pub fn port(&self) -> u16 {
        5432
    }

    /// What the server has logged since the cluster was made.
    pub fn log(&self) -> String {
        match fs::read(self.log_path()) {
            Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            Err(_never_started) => String::new(),
        }
    }

    fn log_path(&self) -> PathBuf {
        self.scratch.path().join("log")
    }

    /// Has the server find its configuration files in this directory, as Debian's packages do, from the next start on.
    pub fn use_configuration_of(&mut self, directory: &Path) {
        directory.clone_into(&mut self.configuration_directory);
    }

    /// Adds a line to `postgresql.conf`. It counts from the next start or [`Cluster::reload`] on.
    pub fn configure(&self, name: &str, value: &str) {
        let path = self.configuration_directory.join("postgresql.conf");
        let before = fs::read_to_string(&path).expect("postgresql.conf can be read");
        fs::write(&path, before + &setting_line(name, value)).expect("postgresql.conf can be written");
    }

    /// Starts the server and waits until it takes connections.
    #[track_caller]
    pub fn start(&mut self) {
        if let Err(reason) = self.try_start() {
            panic!("PostgreSQL {} does not start: {reason}", self.server.version());
        }
    }

    /// Starts the server. When it ends before it takes connections, or never does, the error says so and has the log.
    pub fn try_start(&mut self) -> Result<(), String> {
        self.launch();
        let ready = clock::wait_for(PATIENCE, Duration::from_millis(10), || {
            let postmaster = self.postmaster.as_mut().expect("it was started just now");
            match postmaster.ended() {
                Some(status) => Err(status),
                None => Ok(postmaster.is_ready(&self.data_directory).then_some(())),
            }
        });
        match ready {
            Ok(Some(())) => Ok(()),
            Ok(None) => Err(format!("not ready within {} s, log:\n{}", PATIENCE.as_secs(), self.log())),
            Err(status) => {
                self.postmaster = None;
                Err(format!("{status}, log:\n{}", self.log()))
            }
        }
    }

    /// Starts the server without waiting until it takes connections, which it may never do: a recovery that ends with
    /// a shutdown ([`Cluster::wait_until_stopped`]).
    pub fn launch(&mut self) {
        assert!(!self.is_running(), "the server runs already");
        let sockets = self.socket_directory();
        let arguments = [
            "-D".to_owned(),
            self.configuration_directory.display().to_string(),
            format!("--data_directory={}", self.data_directory.display()),
            format!("--unix_socket_directories={}", sockets.display()),
            "--listen_addresses=".to_owned(),
            format!("--port={}", self.port()),
        ];
        self.postmaster = Some(Postmaster::spawn(&self.server, &arguments, &self.log_path()));
    }

    /// Whether the server runs.
    pub fn is_running(&mut self) -> bool {
        self.postmaster.as_mut().is_some_and(|postmaster| postmaster.ended().is_none())
    }

    /// Stops the server. Panics when it does not run, or does not end.
    #[track_caller]
    pub fn stop(&mut self, how: Stop) {
        let postmaster = self.postmaster.as_ref().expect("the server runs");
        postmaster.signal(match how {
            Stop::Fast => Signal::INT,
            Stop::Immediate => Signal::QUIT,
        });
        self.wait_until_stopped();
    }

    /// Waits until the server has ended by itself, and gives how.
    #[track_caller]
    pub fn wait_until_stopped(&mut self) -> ExitStatus {
        let mut postmaster = self.postmaster.take().expect("the server was started");
        let Some(status) = postmaster.wait(PATIENCE) else {
            postmaster.kill_all();
            panic!("the server does not end; log:\n{}", self.log())
        };
        status
    }

    /// Stops the server ([`Stop::Fast`]) and starts it again.
    #[track_caller]
    pub fn restart(&mut self) {
        self.stop(Stop::Fast);
        self.start();
    }

    /// Kills the server and all its processes with SIGKILL, an `archive_command` under way included.
    #[track_caller]
    pub fn kill9(&mut self) {
        self.postmaster.take().expect("the server was started").kill_all();
    }

    /// Has the server read its settings again, and waits until they count: for the sessions and the archive commands
    /// that begin from now on.
    #[track_caller]
    pub fn reload(&self) {
        let before = self.sql("select pg_conf_load_time()");
        self.sql("select pg_reload_conf()");
        // A new session has the time from the postmaster, which has told its other children by then.
        self.wait_for_sql(&format!("select pg_conf_load_time() > '{before}'"), "t");
    }

    /// Ends recovery and waits until the server takes writes.
    #[track_caller]
    pub fn promote(&self) {
        self.sql("select pg_promote(true, 60)");
        self.wait_for_sql("select not pg_is_in_recovery()", "t");
    }

    /// A command that runs a client program, such as `pg_dump`, connected to this cluster ([`Server::client_tool`]).
    pub fn client(&self, name: &str) -> Command {
        let mut command = self.server.client_tool(name);
        command.env("PGHOST", self.socket_directory());
        command.env("PGPORT", self.port().to_string()).env("PGUSER", "postgres");
        command
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if let Some(mut postmaster) = self.postmaster.take() {
            // An immediate shutdown frees what the server holds of the kernel; killing is for one that hangs.
            postmaster.signal(Signal::QUIT);
            if postmaster.wait(Duration::from_secs(10)).is_none() {
                postmaster.kill_all();
            }
        }
        free_shared_memory(&self.data_directory);
    }
}

/// Removes the shared memory segment that a killed server has left. Its id stands at the end of the seventh line of
/// `postmaster.pid`, which a server that ended in order has removed.
fn free_shared_memory(data_directory: &Path) {
    let text = fs::read_to_string(data_directory.join("postmaster.pid")).unwrap_or_default();
    if let Some(id) = text.lines().nth(6).and_then(|line| line.split_whitespace().last()) {
        let _gone = run(as_test_user(Command::new("ipcrm").args(["--shmem-id", id])));
    }
}

/// A line of `postgresql.conf`.
fn setting_line(name: &str, value: &str) -> String {
    format!("{name} = '{}'\n", value.replace('\'', "''"))
}
