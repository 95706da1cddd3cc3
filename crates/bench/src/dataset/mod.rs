//! The clusters that are backed up: made once, kept stopped in a directory, and known by what is in them.

mod files;
mod mixed;
mod wal;

pub(crate) use mixed::change;

use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use fs_err as fs;
use pgark_system::durable;
use pgark_testkit::{Cluster, Server, Stop, run};

use crate::group::Data;
use crate::progress;

/// Where a cluster lies that has all its data, and what its tables hold.
#[derive(Debug)]
pub(crate) struct Dataset {
    data: Data,
    quick: bool,
    directory: PathBuf,
    content: String,
}

impl Dataset {
    /// Makes the cluster with `data` below `parent`, unless it is there. `quick` makes it a tenth of its size.
    pub(crate) fn ensure(data: Data, quick: bool, server: &Server, parent: &Path) -> io::Result<Self> {
        let directory = parent.join(format!("{}{}", data.name(), if quick { "-quick" } else { "" }));
        if let Ok(content) = fs::read_to_string(content_path(&directory)) {
            return Ok(Self { data, quick, directory, content });
        }
        progress::tell(&format!("loading the cluster '{}'", directory.display()));
        crate::files::remove(&directory)?;
        fs::create_dir(&directory)?;
        let content = build(data, quick, server, &directory)?;
        durable::sync_file_system(&directory)?;
        fs::write(content_path(&directory), &content)?;
        Ok(Self { data, quick, directory, content })
    }

    /// Copies the cluster into a new directory, where it may be changed.
    pub(crate) fn copy(&self, directory: &Path) -> Self {
        progress::tell(&format!("copying the cluster '{}'", self.directory.display()));
        run(Command::new("cp").arg("--archive").arg(&self.directory).arg(directory)).expect_success();
        Self { data: self.data, quick: self.quick, directory: directory.to_owned(), content: self.content.clone() }
    }

    /// What is in the tables now, so that [`Dataset::expect_restored`] expects it.
    pub(crate) fn note_content(&mut self, cluster: &Cluster) {
        self.content = content(self.data, cluster);
    }

    /// Starts the cluster.
    pub(crate) fn start(&self, server: &Server) -> io::Result<Cluster> {
        let mut cluster = Cluster::adopt(server, &self.data_directory());
        // A run that was interrupted leaves an archive_command behind that leads nowhere.
        fs::write(self.data_directory().join("postgresql.auto.conf"), "")?;
        cluster.start();
        Ok(cluster)
    }

    pub(crate) fn data_directory(&self) -> PathBuf {
        data_directory(&self.directory)
    }

    /// The part of the data directory that is nearly all of a backup.
    pub(crate) fn relations(&self) -> PathBuf {
        self.data_directory().join("base")
    }

    /// The segments of WAL to archive, in their order.
    pub(crate) fn segments(&self) -> io::Result<Vec<PathBuf>> {
        wal::segments(&self.directory, wal::count(self.data, self.quick))
    }

    /// Starts the cluster that was restored into `data_directory`, and fails unless all data is there.
    pub(crate) fn expect_restored(&self, server: &Server, data_directory: &Path) -> io::Result<()> {
        let mut restored = Cluster::adopt(server, data_directory);
        restored.configure("archive_mode", "off");
        restored.start();
        restored.wait_for_sql("select pg_is_in_recovery()", "f");
        let content = content(self.data, &restored);
        if content == self.content {
            return Ok(());
        }
        Err(io::Error::other(format!("the restore lost data: expected\n{}\nfound\n{content}", self.content)))
    }
}

fn data_directory(directory: &Path) -> PathBuf {
    directory.join("data")
}

/// The file that says what is in the tables; it is written last.
fn content_path(directory: &Path) -> PathBuf {
    directory.join("content")
}

/// What is in the tables, as text: equal for clusters with equal data.
fn content(data: Data, cluster: &Cluster) -> String {
    match data {
        Data::Mixed | Data::Changes => mixed::content(cluster),
        Data::Files => files::content(cluster),
        // Segments are compared byte by byte.
        Data::Wal | Data::WalQueue | Data::WalMany => String::new(),
    }
}

fn build(data: Data, quick: bool, server: &Server, directory: &Path) -> io::Result<String> {
    let fresh = Cluster::builder(server).wal_segment_size_mib(wal::segment_size_mib(data)).create();
    let target = data_directory(directory);
    run(Command::new("mv").arg(fresh.data_directory()).arg(&target)).expect_success();
    let mut cluster = Cluster::adopt(server, &target);
    configure_for_loading(&cluster);
    cluster.start();
    match data {
        Data::Mixed | Data::Changes => mixed::load(&cluster, quick)?,
        Data::Files => files::load(&cluster, quick),
        Data::Wal | Data::WalQueue | Data::WalMany => wal::load(&mut cluster, directory, data, quick)?,
    }
    let content = content(data, &cluster);
    cluster.sql("checkpoint");
    cluster.stop(Stop::Fast);
    configure_for_measuring(&cluster);
    Ok(content)
}

fn configure_for_loading(cluster: &Cluster) {
    for (name, value) in [
        ("wal_level", "minimal"),
        ("max_wal_senders", "0"),
        ("max_wal_size", "4GB"),
        ("autovacuum", "off"),
        ("shared_buffers", "256MB"),
        ("maintenance_work_mem", "256MB"),
        ("checkpoint_timeout", "1h"),
        ("max_locks_per_transaction", "1000"),
    ] {
        cluster.configure(name, value);
    }
}

/// A server that is at rest but for what a backup asks of it, and as durable as a server in production.
fn configure_for_measuring(cluster: &Cluster) {
    for (name, value) in [
        ("wal_level", "replica"),
        ("max_wal_senders", "4"),
        ("max_wal_size", "1GB"),
        ("archive_mode", "on"),
        ("archive_command", "true"),
        ("fsync", "on"),
    ] {
        cluster.configure(name, value);
    }
}
