//! A repository of one program, and the commands on it.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use fs_err as fs;
use pgark_system::lock::is_held;
use pgark_testkit::{Cluster, as_test_user, give_to_test_user, run};

use crate::bench::Bench;
use crate::files::{self, Extent};
use crate::group::{Peer, Storage};
use crate::place::Place;
use crate::tool::{COMPRESSION_LEVEL, Tool, WORKERS};

const STANZA: &str = "bench";

/// What PostgreSQL's archiver does, in few words: `$0` is the directory, and what follows is the command.
const ARCHIVER: &str = r#"
cd "$0" || exit 1
for ready in archive_status/*.ready; do
    name=${ready#archive_status/}; name=${name%.ready}
    until "$@" "$0/$name"; do sleep 1; done
    mv "$ready" "archive_status/$name.done"
done"#;

/// A repository that one program has for one cluster.
#[derive(Debug)]
pub(crate) struct Repository<'a> {
    tool: &'a Tool,
    place: Place,
    /// Everything of it on this machine: configuration, locks, and what it stores.
    directory: PathBuf,
}

impl<'a> Repository<'a> {
    /// Makes an empty repository called `name` for `cluster`, which runs, in place of the one that was called so before.
    pub(crate) fn create(
        bench: &Bench,
        tool: &'a Tool,
        name: &str,
        storage: Storage,
        cluster: &Cluster,
    ) -> io::Result<Self> {
        let directory = bench.work.join(name);
        files::remove(&directory)?;
        fs::create_dir(&directory)?;
        for path in ["lock", "log", "spool"].map(|name| directory.join(name)) {
            fs::create_dir(&path)?;
            give_to_test_user(&path);
        }
        let place = Place::create(storage, bench.object_store.as_ref(), &directory.join("place"))?;
        let repository = Self { tool, place, directory };
        fs::write(repository.configuration_path(), repository.configuration(cluster))?;
        give_to_test_user(&repository.configuration_path());
        run(&mut repository.command(&["stanza-create"])).expect_success();
        Ok(repository)
    }

    /// Removes it and all that is in it.
    pub(crate) fn remove(self) -> io::Result<()> {
        drop(self.place);
        files::remove(&self.directory)
    }

    pub(crate) fn tool(&self) -> &Tool {
        self.tool
    }

    pub(crate) fn place(&self) -> &Place {
        &self.place
    }

    pub(crate) fn backup(&self) -> Command {
        self.command(&["--type=full", "backup"])
    }

    /// A full backup of pgark that decodes nothing of what it stores, as no other program does.
    pub(crate) fn unchecked_backup(&self) -> Command {
        self.command(&["--type=full", "--no-verify-write", "backup"])
    }

    /// What is stored of backups, without the WAL.
    pub(crate) fn stored_backups(&self) -> io::Result<Extent> {
        let archive = match self.tool.peer {
            Peer::Pgark => format!("stanza/{STANZA}/wal"),
            Peer::PgBackRest | Peer::PgBaseBackup => "archive".to_owned(),
        };
        self.place.extent_without(&archive)
    }

    pub(crate) fn incremental_backup(&self) -> Command {
        self.command(&["--type=incr", "backup"])
    }

    pub(crate) fn restore(&self, target: &Path, delta: bool) -> Command {
        let target = format!("--pg1-path={}", target.display());
        let mut command = self.command(&["restore", &target]);
        if delta {
            command.arg("--delta");
        }
        command
    }

    pub(crate) fn archive_push(&self, segment: &Path) -> Command {
        let mut command = self.command(&["archive-push"]);
        command.arg(segment);
        command
    }

    pub(crate) fn archive_get(&self, name: &str, target: &Path) -> Command {
        let mut command = self.command(&["archive-get", name]);
        command.arg(target);
        command
    }

    /// Archives asynchronously what waits in `directory`, as a server does it: one file after the other, each until it
    /// succeeds.
    pub(crate) fn archive_queue(&self, directory: &Path) -> Command {
        let push = self.command(&["--archive-async", "archive-push"]);
        let mut command = Command::new("sh");
        command.args(["-c", ARCHIVER]).arg(directory).arg(push.get_program()).args(push.get_args());
        as_test_user(&mut command);
        command
    }

    /// Whether a process that archives asynchronously is still at work.
    pub(crate) fn is_archiving(&self) -> bool {
        is_held(&self.directory.join(format!("lock/{STANZA}-archive-1.lock")))
    }

    /// The value of `archive_command` that archives here.
    pub(crate) fn archive_command(&self) -> String {
        let program = self.tool.program.display();
        format!("{program} --config={} --stanza={STANZA} archive-push %p", self.configuration_path().display())
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.tool.program);
        command.arg(format!("--config={}", self.configuration_path().display()));
        command.arg(format!("--stanza={STANZA}")).args(arguments);
        as_test_user(&mut command);
        command
    }

    fn configuration_path(&self) -> PathBuf {
        self.directory.join("configuration")
    }

    fn configuration(&self, cluster: &Cluster) -> String {
        let below = |name: &str| self.directory.join(name).display().to_string();
        format!(
            "[global]\n{place}{own}repo1-retention-full=99\ncompress-type=zst\ncompress-level={COMPRESSION_LEVEL}\nprocess-max={WORKERS}\n\
             start-fast=y\nlog-level-console=warn\nlog-level-file=off\n\
             log-path={log}\nlock-path={lock}\nspool-path={spool}\n\n\
             [{STANZA}]\npg1-path={data}\npg1-socket-path={socket}\npg1-port={port}\npg1-user=postgres\n",
            place = self.place.settings(),
            own = self.tool.own_settings(),
            log = below("log"),
            lock = below("lock"),
            spool = below("spool"),
            data = cluster.data_directory().display(),
            socket = cluster.socket_directory().display(),
            port = cluster.port(),
        )
    }
}
