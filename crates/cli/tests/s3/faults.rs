//! What is wrong with the configuration, with who asks, or with the service: each command ends, with an exit code and a
//! message that say what to do, and without a secret.

use std::time::Duration;

use pgark_testkit::s3::{Credentials, Effect, Fault, Policy, Refusal, S3Server};
use pgark_testkit::{Finished, Server};

use crate::common::{Site, text};
use crate::{in_server, name_of, said, segment_of, with_keys};

/// A stanza of a cluster that does not run, and what must never be told of it.
struct Place {
    site: Site,
    s3: S3Server,
}

impl Place {
    fn new() -> Self {
        let s3 = S3Server::start();
        let site = with_keys(in_server(&Server::get(18), &s3), &s3)
            .passphrase("a pass phrase")
            .global("io-timeout=1\nlog-level-file=trace\nlog-level-console=trace")
            .create();
        site.pgark(&["stanza-create", "--no-online"]).expect_success();
        Self { site, s3 }
    }

    fn run(&self, arguments: &[&str]) -> Finished {
        let finished = self.site.pgark(arguments);
        let log = fs_err::read_dir(self.site.scratch.path().join("log")).unwrap();
        let logs: Vec<_> = log.map(|file| fs_err::read_to_string(file.unwrap().path()).unwrap()).collect();
        for text in logs.iter().chain([&said(&finished)]) {
            let secrets = [self.s3.credentials().secret.as_str(), "Secret/Key", "Session/Token", "a pass phrase"];
            for secret in secrets.into_iter().chain(["Signature=", "Credential="]) {
                assert!(!text.contains(secret), "'{secret}' is in {text}");
            }
        }
        finished
    }

    fn push(&self) -> Finished {
        self.run(&["archive-push", text(&segment_of(&self.site))])
    }

    fn get(&self) -> Finished {
        let target = self.site.scratch.path().join("fetched");
        let finished = self.run(&["archive-get", name_of(&segment_of(&self.site)), text(&target)]);
        assert!(finished.code() == Some(0) || !target.exists(), "{}", finished.report());
        finished
    }

    /// Whatever is asked for fails with this exit code, and archive-get so that PostgreSQL stops; all say `part`.
    #[track_caller]
    fn fails(&self, what: &str, code: i32, part: &str) {
        let push = self.push();
        let get = self.get();
        let restore = self.run(&["restore", &format!("--pg1-path={}", self.site.scratch.path().join("new").display())]);
        for (finished, code) in [(push, code), (get, code + 128), (restore, code)] {
            assert_eq!(finished.code(), Some(code), "{what}: {}", finished.report());
            assert!(said(&finished).contains(part), "{what}: no '{part}' in {}", finished.report());
        }
        // A repository that can't be read is part of the answer.
        let info = self.run(&["info"]).expect_success();
        assert!(info.stdout.contains(part), "{what}: no '{part}' in {}", info.report());
    }

    /// All is well again, and nothing was lost or left behind.
    fn works(&self) {
        self.push().expect_success();
        self.get().expect_success();
        let _found = fs_err::remove_file(self.site.scratch.path().join("fetched"));
        let keys = self.s3.keys();
        let wal: Vec<_> = keys.iter().filter(|key| key.contains("/wal/")).collect();
        assert!(wal.len() == 1 && self.s3.unfinished_uploads() == 0, "{keys:?}");
        self.s3.remove(wal[0]);
    }

    /// Fails with another configuration, and works again with the old one.
    #[track_caller]
    fn fails_with(&self, before: &str, after: &str, code: i32, part: &str) {
        self.site.reconfigure(before, after);
        self.fails(after, code, part);
        self.site.reconfigure(after, before);
        self.works();
    }
}

#[test]
fn who_is_not_known_is_told_why() {
    let place = Place::new();
    let Credentials { access_key, secret, .. } = place.s3.credentials().clone();
    place.fails_with(
        &format!("repo1-s3-key={access_key}"),
        "repo1-s3-key=AnotherAccessKey",
        39,
        "the answer was InvalidAccessKeyId",
    );
    let (good, bad) = (format!("repo1-s3-key-secret={secret}"), "repo1-s3-key-secret=AnotherSecret/Key");
    place.fails_with(&good, bad, 39, "the answer was SignatureDoesNotMatch");
    let with_token = format!("{good}\nrepo1-s3-token=OldSession/Token");
    place.fails_with(&good, &with_token, 39, "the answer was ExpiredToken");
    place.fails_with(&good, &format!("{good}\u{fc}"), 32, "the secret access key has characters that no key has");
    place.site.reconfigure(&good, "repo1-s3-token=Session/Token");
    for (finished, code) in [(place.push(), 37), (place.get(), 37 + 128), (place.run(&["info"]), 37)] {
        let told = said(&finished.expect_code(code));
        assert!(told.contains("option 'repo1-s3-key-secret' is not set"), "{told}");
    }
    place.site.reconfigure("repo1-s3-token=Session/Token", &good);

    let temporary = place.s3.credentials().clone().with_token();
    place.s3.set_credentials(&[temporary]);
    place.fails("keys that have become temporary", 39, "repoN-s3-token");
    place.s3.set_credentials(&[place.s3.credentials().clone()]);
    place.s3.set_policy(Policy::parse(
        r#"{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:Nothing", "Resource": "*"}]}"#,
    ));
    place.fails("no rights", 39, "the answer was AccessDenied");
    place.s3.clear_policy();
    place.works();
}

#[test]
fn a_place_that_is_wrong_is_named() {
    let place = Place::new();
    let (region, url) = (place.s3.region().to_owned(), place.s3.url());
    place.fails_with(&format!("s3-region={region}"), "s3-region=eu-west-9", 39, "the bucket is in region 'eu-test-1'");
    place.fails_with(
        &format!("s3-region={region}"),
        "s3-region=eu west",
        32,
        "'eu west' can't be the name of a region",
    );
    place.fails_with("s3-bucket=bucket", "s3-bucket=bucked", 39, "the answer was NoSuchBucket");
    place.fails_with("s3-bucket=bucket", "s3-bucket=a/b", 32, "'a/b' can't be the name of a bucket");
    let endpoint = format!("s3-endpoint={url}");
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    place.fails_with(&endpoint, &format!("s3-endpoint=http://127.0.0.1:{nobody}"), 49, "no connection");
    place.fails_with(&endpoint, "s3-endpoint=http://nowhere.invalid", 49, "the host is not found");
    place.fails_with(&endpoint, &endpoint.replace("http:", "https:"), 101, "it does not speak TLS");
    let tls = S3Server::builder().https().start();
    place.fails_with(&endpoint, &format!("s3-endpoint={}", tls.url()), 95, "its certificate is not trusted");
    let other = S3Server::builder().https_for("other.test").start();
    let trusting = format!("s3-endpoint={}\nrepo1-storage-ca-file={}", other.url(), other.authority().display());
    place.fails_with(&endpoint, &trusting, 95, "its certificate is not trusted");
}

#[test]
fn a_clock_that_is_wrong_is_told() {
    let place = Place::new();
    place.s3.set_clock_ahead(Duration::from_hours(1));
    place.fails("an hour late", 39, "RequestTimeTooSkewed");
    let told = place.push();
    assert!(said(&told).contains("set the clock"), "{}", told.report());
    place.s3.set_clock_ahead(Duration::ZERO);
    place.works();
}

#[test]
fn what_passes_is_waited_for_and_what_does_not_is_given_up() {
    let place = Place::new();
    for refusal in [Refusal::SLOW_DOWN, Refusal::TOO_MANY_REQUESTS, Refusal::BAD_GATEWAY] {
        for _ in 0..2 {
            place.s3.inject(Fault::new(Effect::Refuse(refusal)).times(3));
        }
        place.works();
        place.s3.inject(Fault::new(Effect::Refuse(refusal)).always());
        let part = if refusal.code.is_empty() { "502 Bad Gateway" } else { refusal.code };
        place.fails(&format!("{refusal:?}"), 101, part);
        place.s3.heal();
        place.works();
    }
}

#[test]
fn the_page_of_something_else_is_no_answer() {
    let place = Place::new();
    // A proxy that knows of no such page says no word of the segment.
    for (status, part) in [(404, "404 Not Found"), (403, "403 Forbidden"), (301, "301 Moved Permanently")] {
        place.s3.inject(Fault::new(Effect::Refuse(Refusal { status, code: "" })).always());
        place.fails(part, 39, part);
        place.s3.heal();
        place.works();
    }
}

#[test]
fn a_service_without_conditions_keeps_what_it_has() {
    for effect in [Effect::IgnoreConditions, Effect::RefuseConditions(Refusal::INVALID_ARGUMENT)] {
        let (server, s3) = (Server::get(18), S3Server::start());
        s3.inject(Fault::new(effect.clone()).always());
        let site = with_keys(in_server(&server, &s3), &s3).create();
        site.pgark(&["stanza-create", "--no-online"]).expect_success();
        let descriptor = site.pgark(&["repo-get", "pgark.repo"]).expect_success().stdout;
        assert!(descriptor.contains(r#""storage":{"conditional_create":false}"#), "{effect:?}: {descriptor}");
        let segment = segment_of(&site);
        site.pgark(&["archive-push", text(&segment)]).expect_success();
        let again = site.pgark(&["archive-push", text(&segment)]).expect_success();
        assert!(again.stdout.contains("already exists"), "{effect:?}: {}", again.report());
        let stored = s3.keys().into_iter().find(|key| key.ends_with(name_of(&segment))).unwrap();
        s3.remove(&stored);
        s3.put(&stored, "another's");
        assert_ne!(site.pgark(&["archive-push", text(&segment)]).code(), Some(0));
        assert_eq!(s3.object(&stored).unwrap(), "another's", "{effect:?}");
    }
}
