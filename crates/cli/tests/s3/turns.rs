//! Who is at work on a repository in S3, among all hosts.

use std::io::read_to_string;
use std::process::{Child, Stdio};

use pgark_testkit::s3::{Call, Effect, Fault, Refusal, S3Server};
use pgark_testkit::{Server, wait_until};

use crate::common::{Host, Site};
use crate::{in_server, with_keys};

/// A stanza of a cluster, and a second host with the same.
fn place() -> (S3Server, Site, Host) {
    let s3 = S3Server::start();
    let site = with_keys(in_server(&Server::get(17), &s3), &s3).global("io-timeout=1").start();
    let host = Host::new(&site, "other", &site.cluster);
    (s3, site, host)
}

/// Begins a backup that takes its time.
fn begin(host: &Host, site: &Site, environment: &[(&str, &str)]) -> Child {
    let mut command = host.command(site, &["--type=full", "--io-limit=2MiB", "backup"]);
    command.envs(environment.iter().copied()).stdout(Stdio::piped()).spawn().expect("the program starts")
}

fn sessions(s3: &S3Server) -> usize {
    s3.keys().iter().filter(|key| key.contains("/session/")).count()
}

fn manifests(s3: &S3Server) -> usize {
    s3.keys().iter().filter(|key| key.ends_with("/manifest")).count()
}

/// How a backup has ended, and what it has said.
fn end(mut child: Child) -> (Option<i32>, String) {
    let told = read_to_string(child.stdout.take().unwrap()).unwrap();
    (child.wait().unwrap().code(), told)
}

#[test]
fn of_two_hosts_that_begin_at_once_one_takes_a_backup() {
    let (s3, site, other) = place();
    let own = Host::new(&site, "own", &site.cluster);
    for round in 1..=3 {
        s3.forget_requests();
        let both = [&own, &other].map(|host| begin(host, &site, &[]));
        let mut ends = both.map(end);
        ends.sort();
        assert!(ends[0].0 == Some(0) && ends[1].0 == Some(50), "{ends:?}");
        assert!(ends[1].1.contains("another backup (process "), "{ends:?}");
        assert_eq!((manifests(&s3), sessions(&s3)), (round, 0));
        // Nobody begins a session under a name that is taken.
        let begun = s3.requests().into_iter().filter(|request| {
            request.call == Call::PutObject
                && request.key.contains("/session/")
                && request.header("if-none-match").is_some()
        });
        let mut begun: Vec<_> = begun.map(|request| request.key).collect();
        begun.dedup();
        assert!(begun.len() >= 2, "{begun:?}");
    }
}

#[test]
fn a_backup_that_can_not_say_that_it_is_alive_ends_itself() {
    for (refusal, said) in
        [(Refusal::SERVICE_UNAVAILABLE, "ServiceUnavailable"), (Refusal::ACCESS_DENIED, "AccessDenied")]
    {
        let (s3, site, other) = place();
        // It may be silent for ten seconds, and renews its session each second.
        let child = begin(&other, &site, &[("TEST_PGARK_SESSION_HASTE", "60")]);
        wait_until("the backup to be at work", || s3.requests().iter().any(|request| request.key.contains("/pack/")));
        s3.inject(Fault::new(Effect::Refuse(refusal)).on(Call::PutObject).key_containing("/session/").always());
        let (code, told) = end(child);
        assert_eq!(code, Some(50), "{told}");
        for part in [
            "unable to renew the session, it is tried again: ",
            said,
            "the session could not be renewed for 1",
            "another host may take over",
            "HINT: does the repository answer?",
        ] {
            assert!(told.contains(part), "no '{part}' in {told}");
        }
        assert_eq!((manifests(&s3), s3.unfinished_uploads()), (0, 0));
        s3.heal();
        // Whoever comes next goes on at once, with what it has stored.
        site.backup(&[]);
        site.pgark(&["verify"]).expect_success();
    }
}
