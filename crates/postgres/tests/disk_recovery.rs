//! Recovery settings as real servers read them. Read otherwise than meant, a restore would end at the wrong point.

#![expect(clippy::unwrap_used, reason = "what is not as expected ends the test")]

use fs_err as fs;
use pgark_postgres::Lsn;
use pgark_postgres::recovery::{AUTO_CONFIGURATION_FILE, Recovery, RecoveryTarget, TargetAction, auto_configuration};
use pgark_testkit::{Cluster, Server, run};

fn recovery(target: RecoveryTarget) -> Recovery {
    Recovery {
        target,
        timeline: None,
        action: TargetAction::Promote,
        restore_command: "pgark --stanza='it''s' archive-get %f \"%p\" \\ # 'x'".to_owned(),
        archive_off: true,
        options: vec![("primary-conninfo".to_owned(), "host=a password='b\\'c\\\\'".to_owned())],
    }
}

/// Writes the settings as a restore does.
fn restore(cluster: &Cluster, recovery: Option<&Recovery>) {
    let path = cluster.data_directory().join(AUTO_CONFIGURATION_FILE);
    let existing = fs::read(&path).unwrap();
    fs::write(&path, auto_configuration(&existing, recovery, "2026-11-22 12:27:33").unwrap()).unwrap();
}

/// A setting as the server reads it from its files.
fn setting(cluster: &Cluster, name: &str) -> String {
    let mut command = cluster.server().tool("postgres");
    let value = run(command.args(["-C", name]).arg("-D").arg(cluster.data_directory())).expect_success().stdout;
    value.strip_suffix('\n').unwrap().to_owned()
}

#[test]
fn values_arrive_as_they_were_meant() {
    for server in Server::all() {
        let cluster = Cluster::builder(&server).create();
        let target = RecoveryTarget::Name("a 'name' with \\ and #".to_owned());
        restore(&cluster, Some(&recovery(target.clone())));
        let expected = recovery(target);
        assert_eq!(setting(&cluster, "restore_command"), expected.restore_command);
        assert_eq!(setting(&cluster, "primary_conninfo"), expected.options[0].1);
        assert_eq!(setting(&cluster, "recovery_target_name"), "a 'name' with \\ and #");
        assert_eq!(setting(&cluster, "recovery_target_action"), "promote");
        assert_eq!(setting(&cluster, "archive_mode"), "off");
    }
}

#[test]
fn a_second_restore_takes_the_targets_of_the_first_away() {
    for server in Server::all() {
        let cluster = Cluster::builder(&server).create();
        let time = "2026-11-22 12:00:00+00".to_owned();
        restore(&cluster, Some(&recovery(RecoveryTarget::Time { time: time.clone(), exclusive: true })));
        assert_eq!(setting(&cluster, "recovery_target_time"), time);
        assert_eq!(setting(&cluster, "recovery_target_inclusive"), "off");
        restore(&cluster, Some(&recovery(RecoveryTarget::Lsn { lsn: Lsn(0x16_0000_0028), exclusive: false })));
        // A server refuses to read a file with two targets.
        assert_eq!(setting(&cluster, "recovery_target_time"), "");
        assert_eq!(setting(&cluster, "recovery_target_lsn"), "16/28");
        assert_eq!(setting(&cluster, "recovery_target_inclusive"), "on");
        restore(&cluster, None);
        assert_eq!(setting(&cluster, "recovery_target_lsn"), "");
        assert_eq!(setting(&cluster, "recovery_target_timeline"), "latest");
    }
}

#[test]
fn every_target_is_understood() {
    let exclusive = false;
    for (target, name, value) in [
        (RecoveryTarget::Immediate, "recovery_target", "immediate"),
        (RecoveryTarget::Immediate, "recovery_target_timeline", "current"),
        (RecoveryTarget::Transaction { id: 4711, exclusive }, "recovery_target_xid", "4711"),
        (RecoveryTarget::Lsn { lsn: Lsn(u64::MAX), exclusive }, "recovery_target_lsn", "FFFFFFFF/FFFFFFFF"),
        (RecoveryTarget::EndOfArchive, "recovery_target", ""),
    ] {
        for server in Server::all() {
            let cluster = Cluster::builder(&server).create();
            restore(&cluster, Some(&recovery(target.clone())));
            assert_eq!(setting(&cluster, name), value);
        }
    }
}

#[test]
fn settings_made_by_alter_system_survive() {
    let mut cluster = Cluster::builder(&Server::get(18)).start();
    cluster.sql("alter system set work_mem = '7MB'");
    cluster.stop(pgark_testkit::Stop::Fast);
    restore(&cluster, Some(&recovery(RecoveryTarget::EndOfArchive)));
    assert_eq!(setting(&cluster, "work_mem"), "7168");
    // And the server can rewrite the file, which holds quotes and backslashes by now.
    cluster.start();
    cluster.sql("alter system set work_mem = '8MB'");
    assert_eq!(setting(&cluster, "restore_command"), recovery(RecoveryTarget::EndOfArchive).restore_command);
}
