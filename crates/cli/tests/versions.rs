//! The whole job on the versions that other tests leave out: whoever runs one of them can rely on it too.

mod common;

use pgark_testkit::{Server, Stop};

use crate::common::Site;

/// From the first setting-up to a restore of what was written after a restore.
fn the_whole_job_is_done(major: u32) {
    let mut site = Site::builder(&Server::get(major)).passphrase("in all versions").start();
    site.pgark(&["check"]).expect_success();
    site.cluster.pgbench_init(1);
    let load = site.cluster.load(2);
    let first = site.backup(&["--process-max=2"]);
    load.stop();
    let info = site.pgark(&["info"]).expect_success().stdout;
    assert!(info.contains(&format!("wal archive min/max ({major}): ")) && info.contains(&first), "{info}");

    // A moment, what is there at that moment, and something after it.
    site.cluster.sql("create table rows as select generate_series(1, 1000) id");
    let moment = site.cluster.sql("select to_char(clock_timestamp(), 'YYYY-MM-DD HH24:MI:SS.USOF')");
    let at_the_moment = site.cluster.fingerprint();
    site.cluster.sql("delete from rows; truncate pgbench_accounts");
    site.archive_segment();
    let target = format!("--target={moment}");
    let to_the_moment = ["--type=time", target.as_str(), "--target-action=promote"];
    let restored = site.recover("moment", &to_the_moment);
    assert_eq!(restored.fingerprint(), at_the_moment);
    drop(restored);

    // The cluster itself goes back to that moment, and on from there on timeline 2.
    site.cluster.stop(Stop::Fast);
    site.pgark(&[&to_the_moment[..], &["--delta", "restore"]].concat()).expect_success();
    site.cluster.start();
    site.cluster.wait_for_sql("select pg_is_in_recovery()", "f");
    site.cluster.sql("insert into rows select generate_series(1001, 1500)");
    site.archive_segment();
    let on_timeline_2 = site.cluster.fingerprint();
    assert!(on_timeline_2.contains("public.rows|1500|"), "{on_timeline_2}");
    assert_eq!(site.recover("along", &[]).fingerprint(), on_timeline_2);

    let second = site.backup(&[]);
    site.cluster.sql("insert into rows values (1501)");
    site.archive_segment();
    let restored = site.recover("second", &[&format!("--set={second}")]);
    assert_eq!(restored.fingerprint(), site.cluster.fingerprint());
    for complaint in ["WARN", "ends early"] {
        assert!(!site.cluster.log().contains(complaint), "archive-push complains: {}", site.cluster.log());
    }
}

#[test]
fn the_whole_job_is_done_on_13() {
    the_whole_job_is_done(13);
}

#[test]
fn the_whole_job_is_done_on_14() {
    the_whole_job_is_done(14);
}

#[test]
fn the_whole_job_is_done_on_16() {
    the_whole_job_is_done(16);
}
