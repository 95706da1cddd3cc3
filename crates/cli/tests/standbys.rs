//! Standbys: beside the cluster that is backed up, and made from its backups.

mod common;

use pgark_testkit::{Cluster, Server, Stop};

use crate::common::Site;

#[test]
fn a_standby_that_archives_too_does_no_harm_and_is_not_backed_up() {
    let site = Site::start(&Server::get(17));
    site.cluster.pgbench_init(1);
    let mut standby = site.cluster.standby();
    let path = format!("--pg1-path={}", standby.data_directory().display());
    let command = format!(
        "{} --config={} --stanza=demo {path} archive-push %p",
        site.program.path().display(),
        site.configuration_file().display()
    );
    standby.configure("archive_mode", "always");
    standby.configure("archive_command", &command);
    standby.start();
    site.cluster.pgbench_run(2, 500);
    let segment = site.archive_segment();
    standby.wait_for_archived(&segment);
    for cluster in [&site.cluster, &standby] {
        assert_eq!(cluster.sql("select failed_count from pg_stat_archiver"), "0", "{}", cluster.log());
    }

    let socket = format!("--pg1-socket-path={}", standby.socket_directory().display());
    let refused = site.pgark(&[&path, &socket, "backup"]).expect_code(56);
    assert!(refused.stdout.contains("unable to find primary cluster - cannot proceed"), "{}", refused.report());
    site.pgark(&[&path, &socket, "check"]).expect_code(67);
    site.pgark(&[&path, &socket, "--no-archive-mode-check", "check"]).expect_success();

    site.backup(&[]);
    let before = site.cluster.fingerprint();
    site.archive_segment();
    assert_eq!(site.recover("restored", &[]).fingerprint(), before);
}

/// Restored as a standby, it takes what the archive has, then follows its primary, and takes over in the end.
fn a_restored_standby_takes_over(major: u32) {
    let mut site = Site::start(&Server::get(major));
    site.cluster.sql("create table rows (id int); insert into rows values (1)");
    site.backup(&[]);
    site.cluster.sql("insert into rows values (2)");
    site.archive_segment();
    let conninfo = format!("--recovery-option=primary_conninfo={}", site.cluster.connection_string());
    let directory = site.restore("standby", &["--type=standby", &conninfo]);
    let mut standby = Cluster::adopt(site.cluster.server(), &directory);
    standby.start();
    standby.wait_for_sql("select count(*) from rows", "2");
    standby.wait_for_sql("select status from pg_stat_wal_receiver", "streaming");
    // Not in the archive, so that it can only come from the primary.
    site.cluster.sql("insert into rows values (3)");
    site.cluster.wait_for_replay(&standby);
    assert_eq!(standby.sql("select count(*), pg_is_in_recovery() from rows"), "3|t");

    site.cluster.stop(Stop::Fast);
    standby.promote();
    standby.sql("insert into rows values (4)");
    assert_eq!(standby.sql("select string_agg(id::text, ' ' order by id) from rows"), "1 2 3 4");
    assert_eq!(standby.sql("select substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8)"), "00000002");
}

#[test]
fn a_restored_standby_takes_over_on_13() {
    a_restored_standby_takes_over(13);
}

#[test]
fn a_restored_standby_takes_over_on_18() {
    a_restored_standby_takes_over(18);
}
