//! How a test asks for a cluster.

use std::fmt::Write;

use fs_err as fs;

use super::template::Template;
use super::{Cluster, setting_line};
use crate::scratch::Scratch;
use crate::server::Server;

/// What a new cluster is to be like.
#[derive(Clone, Debug)]
#[must_use]
pub struct ClusterBuilder {
    server: Server,
    template: Template,
    settings: Vec<(String, String)>,
}

impl ClusterBuilder {
    pub(super) fn new(server: &Server) -> Self {
        let template = Template { wal_segment_size_mib: 16, checksums: true, group_access: false };
        Self { server: server.clone(), template, settings: Vec::new() }
    }

    /// The size of a WAL segment in MiB, a power of two from 1 to 1024. 16 unless set.
    pub fn wal_segment_size_mib(mut self, size: u32) -> Self {
        self.template.wal_segment_size_mib = size;
        self
    }

    /// Whether pages carry checksums. They do unless set.
    pub fn checksums(mut self, checksums: bool) -> Self {
        self.template.checksums = checksums;
        self
    }

    /// Whether the group may read the data directory. It may not unless set.
    pub fn group_access(mut self, group_access: bool) -> Self {
        self.template.group_access = group_access;
        self
    }

    /// Adds a line to `postgresql.conf`; the last one of a name counts.
    pub fn setting(mut self, name: &str, value: &str) -> Self {
        self.settings.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Makes the cluster, without starting it.
    pub fn create(self) -> Cluster {
        let scratch = Scratch::new();
        let data_directory = scratch.path().join("data");
        self.template.instantiate(&self.server, &data_directory);
        let mut configuration = self.defaults();
        for (name, value) in &self.settings {
            configuration.push_str(&setting_line(name, value));
        }
        let path = data_directory.join("postgresql.conf");
        let sample = fs::read_to_string(&path).expect("initdb writes postgresql.conf");
        fs::write(&path, sample + &configuration).expect("postgresql.conf can be written");
        Cluster::at(self.server, data_directory, scratch)
    }

    /// Makes the cluster and starts it.
    pub fn start(self) -> Cluster {
        let mut cluster = self.create();
        cluster.start();
        cluster
    }

    /// What makes a server small and quick. Whatever bears on a backup stays as `PostgreSQL` has it.
    fn defaults(&self) -> String {
        // The least that a server accepts is two segments.
        let min_wal_size_mib = 32.max(2 * self.template.wal_segment_size_mib);
        let max_wal_size_mib = 4 * min_wal_size_mib;
        let mut lines = String::from("\n");
        for line in [
            "listen_addresses = ''",
            "timezone = 'UTC'",
            "log_timezone = 'UTC'",
            "fsync = off",
            "shared_buffers = 16MB",
            "max_connections = 30",
            "jit = off",
            // What a killed server leaves then goes with the data directory.
            "dynamic_shared_memory_type = mmap",
        ] {
            lines.push_str(line);
            lines.push('\n');
        }
        writeln!(lines, "min_wal_size = {min_wal_size_mib}MB\nmax_wal_size = {max_wal_size_mib}MB")
            .expect("a string can be written");
        lines
    }
}
