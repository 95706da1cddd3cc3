//! What a restored server does when it is started: it recovers as far as it was told, and goes on as it was told.

mod common;

use std::path::Path;

use fs_err as fs;
use pgark_testkit::{Cluster, Server, Stop, give_to_test_user};

use crate::common::Site;
use crate::common::restoring::{archive_all, commit_row, recovered, restore, restore_into, rows};

/// A running site with an empty table in its backup.
fn site_with_backup(server: &Server) -> Site {
    let site = Site::start(server);
    site.cluster.sql("create table rows (id int primary key)");
    site.backup(&[]);
    site
}

fn settings(directory: &Path) -> String {
    fs::read_to_string(directory.join("postgresql.auto.conf")).expect("the settings can be read")
}

fn a_standby_follows(major: u32) {
    let server = Server::get(major);
    let site = site_with_backup(&server);
    let directory = restore(&site, "standby", &["--type=standby"]);
    assert!(directory.join("standby.signal").is_file() && !directory.join("recovery.signal").exists());
    let mut standby = Cluster::adopt(&server, &directory);
    standby.start();
    commit_row(&site, 1);
    archive_all(&site);
    standby.wait_for_sql("select count(*) from rows", "1");
    assert_eq!(standby.sql("select pg_is_in_recovery(), current_setting('archive_mode')"), "t|off");
    standby.stop(Stop::Fast);

    // Over that, and now from the primary itself, as a segment is not full yet.
    let socket = site.cluster.socket_directory();
    let primary = format!("host={} port={} user=postgres", socket.display(), site.cluster.port());
    let option = format!("--recovery-option=primary_conninfo={primary}");
    restore_into(&site, &directory, &["--type=standby", "--delta", "--target-timeline=latest", &option])
        .expect_success();
    standby.start();
    commit_row(&site, 2);
    standby.wait_for_sql("select count(*) from rows", "2");
    assert_eq!(standby.sql("select status from pg_stat_wal_receiver"), "streaming");
    standby.promote();
    standby.wait_for_sql("select pg_is_in_recovery()", "f");
    standby.sql("insert into rows values (3)");
    assert_eq!(rows(&standby), "3");
}

#[test]
fn a_standby_follows_on_15() {
    a_standby_follows(15);
}

#[test]
fn a_standby_follows_on_18() {
    a_standby_follows(18);
}

#[test]
fn recovery_settings_that_are_there_stay_if_that_is_asked_for() {
    let server = Server::get(17);
    let site = site_with_backup(&server);
    commit_row(&site, 1);
    site.cluster.sql("select pg_create_restore_point('after one')");
    commit_row(&site, 2);
    archive_all(&site);
    let directory = restore(&site, "preserved", &["--type=standby"]);
    let own = format!(
        "{}\nwork_mem = '7MB'\nrecovery_target_name = 'after one'\nrecovery_target_action = 'promote'\n",
        settings(&directory)
    );
    for mode in ["--delta", "--force", "--no-delta"] {
        let path = format!("--pg1-path={}", directory.display());
        if mode == "--no-delta" {
            fs::remove_dir_all(&directory).unwrap();
            fs::create_dir(&directory).unwrap();
            give_to_test_user(&directory);
        }
        fs::write(directory.join("postgresql.auto.conf"), &own).unwrap();
        fs::write(directory.join("recovery.signal"), "").unwrap();
        let _gone = fs::remove_file(directory.join("standby.signal"));
        for file in ["postgresql.auto.conf", "recovery.signal"] {
            give_to_test_user(&directory.join(file));
        }
        let finished = site.pgark(&[&path, "--type=preserve", mode, "restore"]).expect_success();
        assert!(!finished.stdout.contains("WARN"), "{mode}: {}", finished.report());
        assert_eq!(settings(&directory), own, "{mode}");
        let mut restored = recovered(&server, &directory);
        assert_eq!(rows(&restored), "1", "{mode}");
        assert_eq!(restored.sql("show work_mem"), "7MB", "{mode}");
        restored.stop(Stop::Fast);
    }
}

#[test]
fn where_there_are_no_settings_to_keep_the_user_is_told() {
    let server = Server::get(18);
    let site = site_with_backup(&server);
    site.cluster.sql("alter system set work_mem = '9MB'");
    site.backup(&[]);
    let directory = site.scratch.path().join("empty");
    let finished = site.pgark(&[&format!("--pg1-path={}", directory.display()), "--type=preserve", "restore"]);
    let said = finished.expect_success().stdout;
    assert!(said.contains("recovery type is preserve but recovery file does not exist at"), "{said}");
    assert!(said.contains("without recovery settings PostgreSQL does not get the WAL"), "{said}");
    // What the cluster was configured with comes back all the same.
    assert!(settings(&directory).contains("work_mem = '9MB'") && !settings(&directory).contains("restore_command"));
    assert!(!directory.join("recovery.signal").exists() && !directory.join("standby.signal").exists());
}

#[test]
fn at_the_target_the_server_does_what_it_was_told() {
    let server = Server::get(17);
    let site = site_with_backup(&server);
    commit_row(&site, 1);
    let lsn = site.cluster.current_lsn();
    commit_row(&site, 2);
    archive_all(&site);
    let target = ["--type=lsn", &format!("--target={lsn}")];

    let directory = restore(&site, "pause", &target);
    let mut paused = Cluster::adopt(&server, &directory);
    paused.start();
    paused.wait_for_sql("select pg_get_wal_replay_pause_state()", "paused");
    assert_eq!(rows(&paused), "1");
    paused.sql("select pg_wal_replay_resume()");
    paused.wait_for_sql("select pg_is_in_recovery()", "f");
    assert_eq!(rows(&paused), "1");
    assert_eq!(paused.sql("select timeline_id from pg_control_checkpoint()"), "2");
    paused.stop(Stop::Fast);

    let directory = restore(&site, "shutdown", &[&target[..], &["--target-action=shutdown"]].concat());
    let mut shut_down = Cluster::adopt(&server, &directory);
    shut_down.launch();
    shut_down.wait_until_stopped();
    assert!(shut_down.log().contains("shutdown at recovery target"), "{}", shut_down.log());
    assert!(directory.join("recovery.signal").exists());
}

#[test]
fn a_copy_does_not_archive_if_that_is_asked_for() {
    let server = Server::get(17);
    let site = site_with_backup(&server);
    commit_row(&site, 1);
    archive_all(&site);
    let before = site.objects("/wal/");
    let directory = restore(&site, "copy", &["--target-timeline=0x1", "--recovery-option=log_line_prefix=it's %m \\"]);
    let mut copy = recovered(&server, &directory);
    assert_eq!(copy.sql("show archive_mode"), "off");
    assert_eq!(copy.sql("show log_line_prefix"), "it's %m \\");
    copy.switch_wal();
    copy.stop(Stop::Fast);
    assert_eq!(site.objects("/wal/"), before, "the copy has archived");
}
