//! Sidecars in S3.

use pgark_testkit::Server;
use pgark_testkit::s3::{Call, S3Server};

use crate::common::{Site, SiteBuilder};
use crate::{TREE, backup_changes, cache, list, restore, restore_alone, shell, start};

/// A site with an encrypted repository in S3, whatever its number.
fn in_s3(builder: SiteBuilder, key: u32, s3: &S3Server) -> SiteBuilder {
    let credentials = s3.credentials();
    builder
        .passphrase("open sesame")
        .global(&format!("repo{key}-type=s3\nrepo{key}-s3-uri-style=path\nrepo{key}-s3-endpoint={}", s3.url()))
        .global(&format!("repo{key}-s3-bucket={}\nrepo{key}-s3-region={}", S3Server::BUCKET, s3.region()))
        .global(&format!("repo{key}-s3-key={}\nrepo{key}-s3-key-secret={}", credentials.access_key, credentials.secret))
}

/// Bytes that were sent as content of objects.
fn sent(s3: &S3Server) -> u64 {
    let writes = [Call::PutObject, Call::UploadPart];
    let requests =
        s3.requests().into_iter().filter(|request| writes.contains(&request.call) && request.key.contains("/pack/"));
    requests.filter_map(|request| request.header("content-length")?.parse::<u64>().ok()).sum()
}

#[test]
fn a_sidecar_goes_to_s3_and_comes_back() {
    let s3 = S3Server::start();
    let site = start(in_s3(Site::builder(&Server::get(17)), 1, &s3), TREE);
    let before = list(&cache(&site));
    let first = site.backup(&[]);
    shell(
        &cache(&site),
        "chmod u+w closed && mkdir models/more && head -c 200000 /dev/urandom > models/more/new && rm models/plain",
    );
    let after = list(&cache(&site));
    s3.forget_requests();
    let second = backup_changes(&site, &[]);
    assert!((1..2_000_000).contains(&sent(&s3)), "{} bytes were sent", sent(&s3));
    let verified = site.pgark(&["verify", "--output=text"]).expect_success();
    assert!(verified.stdout.contains("status: ok"), "{}", verified.report());
    assert_eq!(s3.unfinished_uploads(), 0);

    let (_, place) = restore(&site, "restored", &[]);
    assert_eq!(list(&place), after);
    // One backup into what another has left, and only what differs is fetched.
    restore_alone(&site, &place, &[&format!("--set={first}"), "--delta"]).expect_success();
    assert_eq!(list(&place), before);
    let alone = site.scratch.path().join("alone");
    restore_alone(&site, &alone, &[]).expect_success();
    assert_eq!(list(&alone), after);
    let info = site.pgark(&["info", &format!("--set={second}")]).expect_success();
    assert!(info.stdout.contains("sidecars:"), "{}", info.report());

    // An object that is lost is told of as what it is: the sidecar's, or the cluster's.
    let pack = s3.keys().into_iter().find(|key| key.contains("/pack/")).expect("there are packs");
    s3.remove(&pack);
    let verified = site.pgark(&["verify", "--output=text"]).expect_code(26);
    assert!(!verified.stdout.contains("status: ok"), "{}", verified.report());
}

#[test]
fn a_sidecar_goes_to_the_bucket_that_is_named_and_not_to_the_disk() {
    let s3 = S3Server::start();
    let site = start(in_s3(Site::builder(&Server::get(17)).repositories(2), 2, &s3), TREE);
    site.reconfigure("[demo]\n", "[demo]\nsidecar-models-repo=2\n");
    let before = list(&cache(&site));
    site.backup(&["--repo=1"]);
    site.backup(&["--repo=2"]);
    let place = site.scratch.path().join("place");
    let none = restore_alone(&site, &place, &["--repo=1"]).expect_code(32);
    assert!(none.report().contains("has no sidecar 'models'"), "{}", none.report());
    restore_alone(&site, &place, &["--repo=2"]).expect_success();
    assert_eq!(list(&place), before);
    let (_, restored) = restore(&site, "restored", &["--repo=2"]);
    assert_eq!(list(&restored), before);
    site.pgark(&["verify"]).expect_success();
}
