//! How many requests the commands take that run with every WAL segment.

use std::collections::BTreeMap;

use pgark_testkit::Server;
use pgark_testkit::s3::{Call, Call::*, S3Server};

use crate::common::{Site, text};
use crate::{in_server, name_of, segment_of, with_keys};

/// How many requests of each kind a run takes.
fn requests(s3: &S3Server, run: impl FnOnce()) -> BTreeMap<Call, usize> {
    s3.forget_requests();
    run();
    let mut counts = BTreeMap::new();
    for request in s3.requests() {
        *counts.entry(request.call).or_default() += 1;
    }
    counts
}

/// Pushes the first segment of the cluster and fetches it; gives what each took.
fn push_and_get(site: &Site, s3: &S3Server) -> [BTreeMap<Call, usize>; 2] {
    let segment = segment_of(site);
    let target = site.scratch.path().join("fetched");
    let pgark = |arguments: &[&str]| drop(site.pgark(arguments).expect_success());
    let push = requests(s3, || pgark(&["archive-push", text(&segment)]));
    let get = requests(s3, || pgark(&["archive-get", name_of(&segment), text(&target)]));
    assert!(fs_err::read(&segment).unwrap() == fs_err::read(target).unwrap());
    [push, get]
}

#[test]
fn archiving_and_fetching_wal_takes_few_requests() {
    let (server, s3) = (Server::get(18), S3Server::start());
    let site = with_keys(in_server(&server, &s3), &s3).create();
    site.pgark(&["stanza-create", "--no-online"]).expect_success();
    // The descriptor, the names of the clusters, the newest cluster; the segment.
    let [push, get] = push_and_get(&site, &s3);
    assert_eq!(push, BTreeMap::from([(GetObject, 2), (ListObjects, 1), (PutObject, 1)]));
    assert_eq!(get, BTreeMap::from([(GetObject, 3), (ListObjects, 1)]));
}

#[test]
fn with_encryption_it_takes_two_more() {
    let (server, s3) = (Server::get(18), S3Server::start());
    let site = with_keys(in_server(&server, &s3), &s3).passphrase("a pass phrase").create();
    site.pgark(&["stanza-create", "--no-online"]).expect_success();
    // The names of the keys, and the key.
    let [push, get] = push_and_get(&site, &s3);
    assert_eq!(push, BTreeMap::from([(GetObject, 3), (ListObjects, 2), (PutObject, 1)]));
    assert_eq!(get, BTreeMap::from([(GetObject, 4), (ListObjects, 2)]));
}

#[test]
fn a_segment_that_does_not_compress_takes_one_more() {
    let (server, s3) = (Server::get(18), S3Server::start());
    let site = with_keys(in_server(&server, &s3), &s3).wal_segment_size_mib(16).global("compress-type=none").create();
    site.pgark(&["stanza-create", "--no-online"]).expect_success();
    let [push, get] = push_and_get(&site, &s3);
    // Two parts of 8 MiB and the rest, with a request before and one after.
    let parts = BTreeMap::from([(CompleteMultipartUpload, 1), (CreateMultipartUpload, 1), (UploadPart, 3)]);
    assert_eq!(push, [BTreeMap::from([(GetObject, 2), (ListObjects, 1)]), parts].into_iter().flatten().collect());
    assert_eq!(get, BTreeMap::from([(GetObject, 4), (ListObjects, 1)]));
}

#[test]
fn a_segment_that_is_there_already_is_read_once() {
    let (server, s3) = (Server::get(18), S3Server::start());
    let site = with_keys(in_server(&server, &s3), &s3).create();
    site.pgark(&["stanza-create", "--no-online"]).expect_success();
    push_and_get(&site, &s3);
    let [again, _] = push_and_get(&site, &s3);
    assert_eq!(again, BTreeMap::from([(GetObject, 3), (ListObjects, 1), (PutObject, 1)]));
}

#[test]
fn the_clusters_before_an_upgrade_are_not_asked_for() {
    let (server, s3) = (Server::get(18), S3Server::start());
    let [old, new] = [(); 2].map(|()| with_keys(in_server(&server, &s3), &s3).repository_at("/main".as_ref()).create());
    old.pgark(&["stanza-create", "--no-online"]).expect_success();
    let [before, _] = push_and_get(&old, &s3);
    new.pgark(&["stanza-upgrade", "--no-online"]).expect_success();
    let [push, get] = push_and_get(&new, &s3);
    assert_eq!(push, before);
    assert_eq!(get, BTreeMap::from([(GetObject, 3), (ListObjects, 1)]));
    // Who still needs the old one is given it.
    let (segment, target) = (segment_of(&old), old.scratch.path().join("again"));
    old.pgark(&["archive-get", name_of(&segment), text(&target)]).expect_success();
    assert!(fs_err::read(&segment).unwrap() == fs_err::read(target).unwrap());
}
