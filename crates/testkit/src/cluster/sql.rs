//! SQL and load.

use std::fmt::Write;
use std::path::Path;
use std::process::{Child, Stdio};

use super::Cluster;
use crate::process::{run, run_with_input};
use crate::{wait_for_some, wait_until};

impl Cluster {
    /// Runs SQL in the database `postgres`, each statement in its own transaction unless it says otherwise, and gives
    /// what psql prints: a line for each row, values separated by `|`, without the last line end.
    #[track_caller]
    pub fn sql(&self, sql: &str) -> String {
        self.sql_in("postgres", sql)
    }

    /// As [`Cluster::sql`], in the database `database`.
    #[track_caller]
    pub fn sql_in(&self, database: &str, sql: &str) -> String {
        self.try_sql_in(database, sql).unwrap_or_else(|error| panic!("SQL fails: {error}\n{sql}"))
    }

    /// As [`Cluster::sql`]; the error is what psql wrote to standard error.
    pub fn try_sql(&self, sql: &str) -> Result<String, String> {
        self.try_sql_in("postgres", sql)
    }

    /// As [`Cluster::try_sql`], in the database `database`.
    pub fn try_sql_in(&self, database: &str, sql: &str) -> Result<String, String> {
        let mut psql = self.client("psql");
        psql.args(["-XAtq", "--set=ON_ERROR_STOP=1", "--dbname", database, "--file=-"]);
        let finished = run_with_input(&mut psql, sql.as_bytes());
        if finished.code() == Some(0) { Ok(finished.stdout.trim_end().to_owned()) } else { Err(finished.stderr) }
    }

    /// Waits until `query` gives `expected`. A server that takes no connections yet is asked again.
    #[track_caller]
    pub fn wait_for_sql(&self, query: &str, expected: &str) {
        wait_until(&format!("`{query}` to give {expected}"), || self.try_sql(query).is_ok_and(|got| got == expected));
    }

    /// Fills the database `postgres` with pgbench's tables, about 15 MiB for each unit of `scale`.
    #[track_caller]
    pub fn pgbench_init(&self, scale: u32) {
        let mut pgbench = self.client("pgbench");
        pgbench.args(["--initialize", "--quiet", "--scale", &scale.to_string(), "postgres"]);
        run(&mut pgbench).expect_success();
    }

    /// Runs pgbench's transactions to their end, from `clients` sessions at once.
    #[track_caller]
    pub fn pgbench_run(&self, clients: u32, transactions_per_client: u32) {
        let mut pgbench = self.client("pgbench");
        pgbench.args(["--no-vacuum", "--client", &clients.to_string()]);
        pgbench.args(["--transactions", &transactions_per_client.to_string(), "postgres"]);
        run(&mut pgbench).expect_success();
    }

    /// Runs pgbench's transactions from `clients` sessions until the load is dropped.
    #[track_caller]
    pub fn load(&self, clients: u32) -> Load {
        self.load_with(&["--client", &clients.to_string()])
    }

    /// Runs the statements of a file from one session, over and over, until the load is dropped. Each is a transaction
    /// of its own; a semicolon ends it.
    #[track_caller]
    pub fn load_script(&self, file: &Path) -> Load {
        self.load_with(&["--file", file.to_str().expect("paths of the tests are UTF-8")])
    }

    fn load_with(&self, arguments: &[&str]) -> Load {
        let mut pgbench = self.client("pgbench");
        // A whole day: it is the drop that ends it.
        pgbench.args(["--no-vacuum", "--time=86400"]).args(arguments).arg("postgres");
        pgbench.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Load { pgbench: pgbench.spawn().expect("pgbench is installed with the server") }
    }

    /// Waits until the server has ended the sessions of a load that was stopped, and with them what they were at.
    pub fn wait_for_idleness(&self) {
        self.wait_for_sql("select count(*) from pg_stat_activity where application_name = 'pgbench'", "0");
    }

    /// The place in the WAL that was written last.
    pub fn current_lsn(&self) -> String {
        self.sql("select pg_current_wal_lsn()")
    }

    /// Ends the current WAL segment, and gives the name of the one that is complete now.
    #[track_caller]
    pub fn switch_wal(&self) -> String {
        // A switch right after another would do nothing, so there is a record to switch away from.
        self.sql("select pg_create_restore_point('switch'); select pg_walfile_name(pg_switch_wal())")
            .lines()
            .last()
            .expect("two rows")
            .to_owned()
    }

    /// Waits until the archiver is done with the WAL segment `segment` of the current timeline.
    #[track_caller]
    pub fn wait_for_archived(&self, segment: &str) {
        // What was archived last may be the history file of a backup, which has the name of the backup's first segment.
        let query = format!(
            "select last_archived_wal >= '{segment}'
                    or exists (select from pg_ls_archive_statusdir() where name = '{segment}.done')
               from pg_stat_archiver"
        );
        self.wait_for_sql(&query, "t");
    }

    /// One line for each table of the database `postgres` outside the system's schemas: name, number of rows and a
    /// hash over all of them. Two clusters with the same content give the same text.
    #[track_caller]
    pub fn fingerprint(&self) -> String {
        let tables = self.sql(
            "select format('%I.%I', schemaname, tablename) from pg_tables
             where schemaname not in ('pg_catalog', 'information_schema') order by 1",
        );
        let mut queries = String::new();
        for table in tables.lines() {
            writeln!(
                queries,
                "select '{table}', count(*), coalesce(sum(hashtextextended(t::text, 0)::numeric), 0) from {table} t;"
            )
            .expect("a string can be written");
        }
        self.sql(&queries)
    }

    /// Waits until a standby has replayed all that `self` has written.
    #[track_caller]
    pub fn wait_for_replay(&self, standby: &Self) {
        let target = self.current_lsn();
        let query = format!("select pg_last_wal_replay_lsn() >= '{target}'");
        standby.wait_for_sql(&query, "t");
    }

    /// Waits until the server has logged a line that contains `text`, and gives the line.
    #[track_caller]
    pub fn wait_for_log(&self, text: &str) -> String {
        wait_for_some(&format!("'{text}' in the log"), || {
            self.log().lines().find(|line| line.contains(text)).map(str::to_owned)
        })
    }
}

/// pgbench at work in the background. It ends when dropped.
#[derive(Debug)]
pub struct Load {
    pgbench: Child,
}

impl Load {
    /// Ends the load. Panics when it had ended by itself, so that a test does not take an idle server for a busy one.
    #[track_caller]
    pub fn stop(mut self) {
        let ended = self.pgbench.try_wait().expect("a child can be waited for");
        assert!(ended.is_none(), "pgbench ended before it was told to: {ended:?}");
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        let _ended_already = self.pgbench.kill();
        let _status = self.pgbench.wait();
    }
}
