//! The main job on repositories in S3.

mod common;

use common::{Site, SiteBuilder};
use pgark_testkit::Server;
use pgark_testkit::s3::Moto;

/// A site with an encrypted repository in moto, whatever its number.
fn in_moto(builder: SiteBuilder, key: u32, moto: &Moto) -> SiteBuilder {
    let credentials = moto.credentials();
    builder
        .passphrase("a pass phrase")
        .global(&format!("repo{key}-type=s3\nrepo{key}-s3-uri-style=path"))
        .global(&format!("repo{key}-s3-bucket={}\nrepo{key}-s3-region={}", Moto::BUCKET, Moto::REGION))
        .global(&format!("repo{key}-s3-endpoint=http://127.0.0.1:{}", moto.port()))
        .global(&format!("repo{key}-s3-key={}\nrepo{key}-s3-key-secret={}", credentials.access_key, credentials.secret))
}

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
