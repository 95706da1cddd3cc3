//! The main job on repositories in S3.

use pgark_testkit::s3::{Moto, S3Server};
use pgark_testkit::{Server, run};

use crate::common::{STANZA, Site, SiteBuilder};
use crate::{in_moto, in_server, with_keys};

fn count(cluster: &pgark_testkit::Cluster) -> String {
    cluster.sql("select count(*) from numbers")
}

#[test]
fn the_main_job_runs_on_s3() {
    let (server, moto) = (Server::get(18), Moto::start());
    let site = in_moto(Site::builder(&server), 1, &moto).start();
    site.cluster.sql("create table numbers as select generate_series(1, 200000) as number");
    let label = site.backup(&["--process-max=2"]);
    site.cluster.sql("insert into numbers values (0)");
    site.archive_segment();
    site.pgark(&["check"]).expect_success();
    let info = site.pgark(&["info"]).expect_success();
    assert!(info.stdout.contains("status: ok") && info.stdout.contains(&label), "{}", info.stdout);
    assert_eq!(count(&site.recover("restored", &["--process-max=2"])), "200001");
    let again = site.pgark(&["stanza-create", "--log-level-console=info"]).expect_success();
    assert!(again.stdout.contains("already exists"), "{}", again.stdout);
    assert!(!site.repository().exists() || site.objects("").is_empty(), "something was written to the local disk");
}

#[test]
fn the_main_job_runs_in_a_bucket_with_object_lock() {
    let server = Server::get(18);
    let (moto, strict) = (Moto::start_with_object_lock(), S3Server::builder().object_lock().start());
    let sites = [in_moto(Site::builder(&server), 1, &moto), with_keys(in_server(&server, &strict), &strict)];
    for site in sites.map(SiteBuilder::start) {
        site.cluster.sql("create table numbers as select generate_series(1, 1000) as number");
        site.backup(&[]);
        site.archive_segment();
        assert_eq!(count(&site.recover("restored", &[])), "1000");
    }
}

#[test]
fn a_repository_in_s3_stands_in_for_a_local_one_and_the_other_way_round() {
    let (server, moto) = (Server::get(18), Moto::start());
    let site = in_moto(Site::builder(&server).repositories(2), 2, &moto).start();
    site.cluster.sql("create table numbers as select generate_series(1, 1000) as number");
    site.backup(&["--repo=2"]);
    site.cluster.sql("insert into numbers values (0)");
    site.archive_segment();
    assert_eq!(count(&site.recover("from-s3", &[])), "1001");
    site.backup(&["--repo=1"]);
    drop(moto);
    assert_eq!(count(&site.recover("from-local-disk", &["--repo=1"])), "1001");
    let info = site.pgark(&["info", "--io-timeout=1s"]).expect_success();
    assert!(info.stdout.contains("no connection"), "the lost repository is not told of: {}", info.stdout);
}

#[test]
fn keys_come_from_the_environment_where_none_are_configured() {
    let (server, s3) = (Server::get(18), S3Server::start());
    let site = in_server(&server, &s3).create();
    let without = site.pgark(&["stanza-create", "--no-online"]).expect_code(37);
    assert!(without.stderr.contains("AWS_ACCESS_KEY_ID") || without.stdout.contains("AWS_ACCESS_KEY_ID"));
    let mut command = site.command(&[&format!("--stanza={STANZA}"), "stanza-create", "--no-online"]);
    command.env("AWS_ACCESS_KEY_ID", &s3.credentials().access_key);
    command.env("AWS_SECRET_ACCESS_KEY", &s3.credentials().secret);
    run(&mut command).expect_success();
    assert!(s3.keys().iter().any(|key| key.ends_with("/pgark.repo")), "{:?}", s3.keys());
}

#[test]
fn a_log_with_everything_in_it_has_no_secret() {
    let (server, s3) = (Server::get(18), S3Server::start());
    let site =
        with_keys(in_server(&server, &s3), &s3).global("log-level-file=trace").passphrase("a pass phrase").start();
    let shown = site.pgark(&["check", "--log-level-console=trace"]).expect_success();
    let file = fs_err::read_to_string(site.scratch.path().join(format!("log/{STANZA}-stanza-create.log"))).unwrap();
    for text in [&shown.stdout, &shown.stderr, &file] {
        assert!(!text.contains(&s3.credentials().secret) && !text.contains("a pass phrase"), "{text}");
        assert!(!text.contains("Signature="), "{text}");
    }
    assert!(file.contains("requests to storages: ") && file.contains("PUT /"), "{file}");
}

#[test]
fn a_repository_in_s3_is_looked_into_and_a_stanza_deleted_from_it() {
    let (server, moto) = (Server::get(18), Moto::start());
    let mut site = in_moto(Site::builder(&server), 1, &moto).start();
    let label = site.backup(&[]);
    let segment = site.archive_segment();
    let pgark = |site: &Site, arguments: &[&str]| run(&mut site.command(arguments)).expect_success();
    let lines = |site: &Site, arguments: &[&str]| -> Vec<String> {
        pgark(site, arguments).stdout.lines().map(str::to_owned).collect()
    };
    assert_eq!(lines(&site, &["repo-ls"]), ["key", "pgark.repo", "stanza"]);
    assert_eq!(lines(&site, &["repo-ls", "stanza/demo/backup"]), [label.as_str()]);
    let found = lines(&site, &["--recurse", &format!("--filter={segment}$"), "repo-ls"]);
    assert_eq!(found, [format!("stanza/demo/wal/18-1/{}/{segment}", &segment[..16])]);
    let wal = pgark(&site, &["repo-get", &found[0]]).stdout_bytes;
    let original = fs_err::read(site.cluster.data_directory().join("pg_wal").join(&segment));
    assert!(original.expect("the segment is there") == wal, "the segment was not given back as it was");
    let missing = run(&mut site.command(&["--ignore-missing", "repo-get", "stanza/demo/nothing"]));
    missing.expect_code(1);

    let set = format!("--set={label}");
    site.pgark(&[&set, "--annotation=why=because", "annotate"]).expect_success();
    let info = site.pgark(&[&set, "info"]).expect_success();
    assert!(info.stdout.contains("why: because"), "{}", info.report());

    site.cluster.stop(pgark_testkit::Stop::Fast);
    site.pgark(&["stop"]).expect_success();
    site.pgark(&["stanza-delete"]).expect_success();
    assert_eq!(lines(&site, &["--recurse", "--filter=^(pgark.repo|stanza)", "repo-ls"]), ["pgark.repo"]);
    let info = site.pgark(&["info"]).expect_success();
    assert!(info.stdout.contains("missing stanza path"), "{}", info.report());
}

/// What retention does not ask for goes from a bucket, too, and what is left comes back.
#[test]
fn a_repository_in_s3_is_expired() {
    let (server, moto) = (Server::get(18), Moto::start());
    let site = in_moto(Site::builder(&server), 1, &moto).global("repo1-retention-full=1").start();
    site.cluster.sql("create table numbers as select generate_series(1, 1000) as number");
    site.backup(&[]);
    let label = site.backup(&["--no-reuse"]);
    site.pgark(&["expire"]).expect_success();
    let lines = |arguments: &[&str]| -> Vec<String> {
        let finished = run(&mut site.command(arguments)).expect_success();
        finished.stdout.lines().map(str::to_owned).collect()
    };
    assert_eq!(lines(&["repo-ls", "stanza/demo/backup"]), [label.as_str()]);
    assert_eq!(lines(&["repo-ls", "stanza/demo/pack"]).len(), 1);
    assert!(lines(&["repo-ls", "stanza/demo/session"]).is_empty());
    site.cluster.sql("insert into numbers values (0)");
    site.archive_segment();
    assert_eq!(count(&site.recover("restored", &[])), "1001");
}
