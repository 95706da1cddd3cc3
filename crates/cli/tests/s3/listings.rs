//! Listings that are long.

use std::process::Command;

use pgark_testkit::s3::{Call, Generated, S3Server};
use pgark_testkit::{Server, as_test_user, run};

use crate::common::Site;
use crate::{in_server, with_keys};

/// Runs a command; prints how many lines it wrote and how many KiB of memory it had at most.
const MEASURE: &str = r"
import resource, subprocess, sys
process = subprocess.Popen(sys.argv[1:], stdout=subprocess.PIPE)
lines = sum(1 for line in process.stdout)
if process.wait() != 0:
    sys.exit(process.returncode)
print(lines, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
";

/// How many lines a run writes, and how many MiB of memory it has at most.
fn lines_and_peak(site: &Site, arguments: &[&str]) -> (u64, u64) {
    let measured = site.command(arguments);
    let mut command = Command::new("python3");
    command.args(["-c", MEASURE]).arg(measured.get_program()).args(measured.get_args());
    let finished = run(as_test_user(&mut command)).expect_success();
    let (lines, kibibytes) = finished.stdout.trim().split_once(' ').expect("it prints two numbers");
    (lines.parse().unwrap(), kibibytes.parse::<u64>().unwrap() / 1024)
}

#[test]
fn a_million_objects_are_listed_in_little_memory() {
    const SESSIONS: u64 = 1000;
    const OBJECTS: u64 = 1_000_000;
    let (server, s3) = (Server::get(18), S3Server::start());
    let site = with_keys(in_server(&server, &s3), &s3).repository_at("/main".as_ref()).create();
    site.pgark(&["stanza-create", "--no-online"]).expect_success();
    let arguments = ["--recurse", "repo-ls", "stanza"];
    let (few, before) = lines_and_peak(&site, &arguments);
    s3.generate(Generated {
        count: OBJECTS,
        name: |number| {
            let (session, number) = (number / SESSIONS, number % SESSIONS);
            format!("main/stanza/demo/pack/01ARZ3NDEKTSV4RRFFQ6{session:06}/{number:06}")
        },
    });
    s3.forget_requests();
    let (all, peak) = lines_and_peak(&site, &arguments);
    assert_eq!(all, few + 1 + SESSIONS + OBJECTS, "the directory of packs, those of sessions, and all packs");
    // A page each, of the sessions and of what is in each.
    assert!(s3.count(Call::ListObjects) as u64 <= SESSIONS + 10, "{} requests", s3.count(Call::ListObjects));
    assert!(peak < before + 16, "{peak} MiB where it was {before} MiB");
    // What runs every day asks for none of them.
    s3.forget_requests();
    let (_, peak) = lines_and_peak(&site, &["--stanza=demo", "info"]);
    assert!(s3.requests().len() < 20 && peak < before + 16, "{} requests, {peak} MiB", s3.requests().len());
}
