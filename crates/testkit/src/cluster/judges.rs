//! What PostgreSQL's own tools say of a cluster.

use super::Cluster;
use crate::process::run;

impl Cluster {
    /// All that `pg_dumpall` writes: roles, tablespaces and the content of every database, but for what a restored
    /// cluster rightly has otherwise: rows of unlogged tables, and how far sequences have got.
    #[track_caller]
    pub fn dump(&self) -> String {
        let dump = run(self.client("pg_dumpall").arg("--no-unlogged-table-data")).expect_success().stdout;
        // A key that keeps a dump from running commands is random.
        let differs = |line: &str| {
            ["SELECT pg_catalog.setval(", "\\restrict ", "\\unrestrict "].iter().any(|start| line.starts_with(start))
        };
        dump.lines().filter(|line| !differs(line)).map(|line| line.to_owned() + "\n").collect()
    }

    /// Panics unless `pg_amcheck`, of 14 and later, finds every table and B-tree index sound, and every row in its
    /// indexes.
    #[track_caller]
    pub fn check_relations(&self) {
        let mut check = self.client("pg_amcheck");
        run(check.args(["--all", "--heapallindexed", "--parent-check", "--install-missing"])).expect_success();
    }

    /// Panics unless every page of the cluster, which must be shut down, has the checksum that it should have.
    #[track_caller]
    pub fn check_pages(&self) {
        run(self.server().client_tool("pg_checksums").arg("--check").arg(self.data_directory())).expect_success();
    }
}
