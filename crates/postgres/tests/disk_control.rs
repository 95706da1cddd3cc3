//! Control files of real clusters. Read wrongly, a backup would name a wrong cluster, start or WAL segment size.

#![expect(clippy::unwrap_used, reason = "what is not as expected ends the test")]

use std::collections::BTreeMap;

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use pgark_postgres::control::{ClusterState, ControlFile, WalLevel};
use pgark_postgres::{Lsn, Version};
use pgark_testkit::{Cluster, Server, Stop, run};

/// What `pg_controldata` says, by what its lines begin with.
struct ControlData(BTreeMap<String, String>);

impl ControlData {
    fn of(cluster: &Cluster) -> Self {
        let mut command = cluster.server().tool("pg_controldata");
        let output = run(command.arg(cluster.data_directory()).env("TZ", "UTC")).expect_success().stdout;
        let lines = output.lines().filter_map(|line| line.split_once(':'));
        Self(lines.map(|(key, value)| (key.to_owned(), value.trim().to_owned())).collect())
    }

    fn text(&self, key: &str) -> &str {
        self.0.get(key).unwrap_or_else(|| panic!("pg_controldata says nothing of '{key}'"))
    }

    fn number(&self, key: &str) -> i64 {
        self.text(key).parse().unwrap()
    }

    fn lsn(&self, key: &str) -> Lsn {
        self.text(key).parse().unwrap()
    }

    fn flag(&self, key: &str) -> bool {
        ["on", "yes"].contains(&self.text(key))
    }

    fn time(&self, key: &str) -> Timestamp {
        let time = DateTime::strptime("%a %b %d %H:%M:%S %Y", self.text(key)).unwrap();
        time.to_zoned(TimeZone::UTC).unwrap().timestamp()
    }
}

fn assert_same(control_file: &ControlFile, data: &ControlData) {
    let checkpoint = &control_file.checkpoint;
    assert_eq!(i64::from(control_file.version.control_version()), data.number("pg_control version number"));
    assert_eq!(i64::from(control_file.version.catalog_version()), data.number("Catalog version number"));
    assert_eq!(control_file.system_identifier.to_string(), data.text("Database system identifier"));
    assert_eq!(control_file.modified, data.time("pg_control last modified"));
    assert_eq!(checkpoint.location, data.lsn("Latest checkpoint location"));
    assert_eq!(checkpoint.redo, data.lsn("Latest checkpoint's REDO location"));
    assert_eq!(checkpoint.timeline.to_string(), data.text("Latest checkpoint's TimeLineID"));
    assert_eq!(checkpoint.previous_timeline.to_string(), data.text("Latest checkpoint's PrevTimeLineID"));
    assert_eq!(checkpoint.full_page_writes, data.flag("Latest checkpoint's full_page_writes"));
    let next = format!("{}:{}", checkpoint.next_transaction >> 32, checkpoint.next_transaction & 0xFFFF_FFFF);
    assert_eq!(next, data.text("Latest checkpoint's NextXID"));
    assert_eq!(checkpoint.time, data.time("Time of latest checkpoint"));
    assert_eq!(control_file.minimum_recovery_point, data.lsn("Minimum recovery ending location"));
    assert_eq!(control_file.minimum_recovery_timeline.to_string(), data.text("Min recovery ending loc's timeline"));
    assert_eq!(control_file.backup_start_point, data.lsn("Backup start location"));
    assert_eq!(control_file.backup_end_point, data.lsn("Backup end location"));
    assert_eq!(control_file.backup_end_required, data.flag("End-of-backup record required"));
    let level = match control_file.wal_level {
        WalLevel::Minimal => "minimal",
        WalLevel::Replica => "replica",
        WalLevel::Logical => "logical",
    };
    assert_eq!(level, data.text("wal_level setting"));
    assert_eq!(control_file.wal_log_hints, data.flag("wal_log_hints setting"));
    let limits = &control_file.limits;
    assert_eq!(i64::from(limits.connections), data.number("max_connections setting"));
    assert_eq!(i64::from(limits.worker_processes), data.number("max_worker_processes setting"));
    assert_eq!(i64::from(limits.wal_senders), data.number("max_wal_senders setting"));
    assert_eq!(i64::from(limits.prepared_transactions), data.number("max_prepared_xacts setting"));
    assert_eq!(i64::from(limits.locks_per_transaction), data.number("max_locks_per_xact setting"));
    assert_eq!(i64::from(control_file.relation_segment_pages), data.number("Blocks per segment of large relation"));
    assert_eq!(i64::from(control_file.wal_segment_size.bytes()), data.number("Bytes per WAL segment"));
    assert_eq!(i64::from(control_file.data_checksums), data.number("Data page checksum version"));
}

#[test]
fn control_files_are_read_as_pg_controldata_reads_them() {
    for server in Server::all() {
        let mut cluster = Cluster::builder(&server)
            .wal_segment_size_mib(4)
            .setting("wal_level", "logical")
            .setting("wal_log_hints", "on")
            .setting("max_prepared_transactions", "7")
            .setting("max_locks_per_transaction", "71")
            .start();
        let control_file = ControlFile::read(cluster.data_directory()).unwrap();
        assert_eq!(control_file.version, server.major().to_string().parse::<Version>().unwrap());
        assert_eq!(control_file.state, ClusterState::InProduction);
        assert_same(&control_file, &ControlData::of(&cluster));
        cluster.stop(Stop::Fast);
        let control_file = ControlFile::read(cluster.data_directory()).unwrap();
        assert_eq!(control_file.state, ClusterState::ShutDown);
        assert_same(&control_file, &ControlData::of(&cluster));
    }
}

#[test]
fn the_state_of_a_standby_and_its_promotion_are_read() {
    let mut primary = Cluster::builder(&Server::get(17)).checksums(false).start();
    let mut standby = primary.standby();
    standby.start();
    primary.sql("create table t as select 1");
    primary.wait_for_replay(&standby);
    standby.sql("checkpoint");
    let control_file = ControlFile::read(standby.data_directory()).unwrap();
    assert_eq!(control_file.state, ClusterState::InArchiveRecovery);
    assert!(!control_file.data_checksums);
    assert!(control_file.minimum_recovery_point > Lsn::INVALID);
    assert_same(&control_file, &ControlData::of(&standby));
    primary.stop(Stop::Fast);
    standby.promote();
    standby.sql("checkpoint");
    let control_file = ControlFile::read(standby.data_directory()).unwrap();
    assert_eq!(control_file.checkpoint.timeline.0, 2);
    assert_same(&control_file, &ControlData::of(&standby));
    standby.stop(Stop::Fast);
    let control_file = ControlFile::read(standby.data_directory()).unwrap();
    assert_eq!(control_file.state, ClusterState::ShutDown);
}

#[test]
fn a_control_file_can_be_read_while_it_is_written() {
    let cluster = Cluster::builder(&Server::get(15)).start();
    std::thread::scope(|scope| {
        let checkpoints = scope.spawn(|| {
            cluster.sql(&"create table t (); drop table t; checkpoint;".repeat(100));
        });
        let mut last = Lsn::INVALID;
        while !checkpoints.is_finished() {
            let (control_file, image) = ControlFile::read_image(cluster.data_directory()).unwrap();
            assert_eq!(ControlFile::parse(&image).unwrap(), control_file);
            assert!(control_file.checkpoint.redo >= last);
            last = control_file.checkpoint.redo;
        }
    });
}
