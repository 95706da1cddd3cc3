//! The ways of saying where a bucket is, and whom to trust there.

use std::path::Path;

use pgark_testkit::s3::S3Server;
use pgark_testkit::{Server, give_to_test_user};

use crate::common::{Site, text};
use crate::{segment_of, with_keys};

/// A stanza is made in the bucket and a segment goes into it, with these lines in the configuration. Gives the names of the
/// host that were asked for.
#[track_caller]
fn works(s3: &S3Server, what: &str, lines: &[&str]) -> Vec<String> {
    let site = with_keys(Site::builder(&Server::get(18)), s3)
        .global("repo1-type=s3\nrepo1-s3-bucket=bucket\nio-timeout=2")
        .global(&format!("repo1-s3-region={}", s3.region()))
        .global(&lines.join("\n"))
        .create();
    s3.forget_requests();
    for arguments in [&["stanza-create", "--no-online"][..], &["archive-push", text(&segment_of(&site))]] {
        let finished = site.pgark(arguments);
        assert_eq!(finished.code(), Some(0), "{what}: {}", finished.report());
    }
    let requests = s3.requests();
    assert!(requests.len() > 5, "{what}: {requests:?}");
    let mut hosts: Vec<_> = requests.iter().map(|request| request.header("host").unwrap().to_owned()).collect();
    hosts.dedup();
    hosts
}

#[test]
fn the_bucket_is_part_of_the_host_or_of_the_path() {
    let s3 = S3Server::start();
    let (url, port) = (s3.url(), s3.port());
    let plain = format!("127.0.0.1:{port}");
    for (what, lines, host) in [
        ("path", vec![format!("endpoint={url}"), "uri-style=path".to_owned()], plain.clone()),
        (
            "a port of its own",
            vec!["endpoint=http://127.0.0.1".to_owned(), "uri-style=path".to_owned(), format!("port={port}")],
            plain,
        ),
        (
            "the bucket before the host, which something stands in for",
            vec!["endpoint=http://s3.test".to_owned(), format!("host={url}")],
            "bucket.s3.test".to_owned(),
        ),
        (
            "the bucket before the host, said so, with the port beside it",
            vec![
                "endpoint=http://s3.test".to_owned(),
                "uri-style=host".to_owned(),
                "host=http://127.0.0.1".to_owned(),
                format!("port={port}"),
            ],
            "bucket.s3.test".to_owned(),
        ),
    ] {
        // The newer names of options that begin with `repo1-storage-`, and the older ones.
        for storage in ["storage", "s3"] {
            let named = |line: &String| match line.split_once('=') {
                Some(("host" | "port", _)) => format!("repo1-{storage}-{line}"),
                _ => format!("repo1-s3-{line}"),
            };
            let lines: Vec<_> = lines.iter().map(named).collect();
            let lines: Vec<_> = lines.iter().map(String::as_str).collect();
            assert_eq!(works(&s3, what, &lines), [host.as_str()], "{what}");
            s3.keys().iter().for_each(|key| s3.remove(key));
        }
    }
}

#[test]
fn who_issued_the_certificate_is_named_by_a_file_or_a_directory() {
    let s3 = S3Server::builder().https().start();
    let directory = s3.authority().parent().unwrap().join("authorities");
    fs_err::create_dir(&directory).unwrap();
    // As OpenSSL wants them to be called.
    fs_err::copy(s3.authority(), directory.join("0123abcd.0")).unwrap();
    for path in [&directory, &directory.join("0123abcd.0")] {
        give_to_test_user(path);
    }
    let option = |name: &str, path: &Path| format!("repo1-{name}={}", path.display());
    for line in [
        option("storage-ca-file", s3.authority()),
        option("s3-ca-file", s3.authority()),
        option("storage-ca-path", &directory),
        "repo1-storage-verify-tls=n".to_owned(),
        "repo1-s3-verify-tls=n".to_owned(),
    ] {
        let at = format!("repo1-s3-endpoint=127.0.0.1:{}", s3.port());
        works(&s3, &line, &[&at, "repo1-s3-uri-style=path", &line]);
        s3.keys().iter().for_each(|key| s3.remove(key));
        // The certificate is that of what stands before the service.
        let at = format!("repo1-storage-host=127.0.0.1:{}", s3.port());
        assert_eq!(works(&s3, &line, &["repo1-s3-endpoint=s3.test", &at, &line]), ["bucket.s3.test"]);
        s3.keys().iter().for_each(|key| s3.remove(key));
    }
}
