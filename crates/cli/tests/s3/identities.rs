//! Keys that are in no configuration: the instance, the cluster that a container runs in, the token service or a program
//! gives them, and none of what proves who we are is told to anybody.

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::Command;

use pgark_testkit::s3::{Credentials, KeyService, S3Server};
use pgark_testkit::{Finished, Server, run};

use crate::common::{STANZA, Site, text};
use crate::{in_server, name_of, said, segment_of};

const LATER: &str = "2999-01-01T00:00:00Z";
/// What proves to a service that gives keys who we are.
const PROOF: &str = "head.proof+of/identity.sign";

/// A stanza in a bucket of which the keys are given by somebody, by a type of keys and the environment.
struct Place {
    site: Site,
    s3: S3Server,
    environment: Vec<(&'static str, String)>,
}

impl Place {
    /// `lines` are of the configuration.
    fn new(lines: &str) -> Self {
        let s3 = S3Server::start();
        s3.set_credentials(&[keys()]);
        let site = in_server(&Server::get(18), &s3)
            .global("io-timeout=1\nlog-level-file=trace\nlog-level-console=trace")
            .global(lines)
            .create();
        Self { site, s3, environment: Vec::new() }
    }

    fn variable(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.environment.push((name, value.into()));
        self
    }

    fn without(mut self, name: &str) -> Self {
        self.environment.retain(|(variable, _)| *variable != name);
        self
    }

    /// A file with what proves who we are, which holds a line end too.
    fn proof(&self) -> PathBuf {
        self.site.scratch.write("proof", format!("{PROOF}\n"))
    }

    /// Runs the program, of which nobody may learn what the keys are, nor what they are given for.
    fn run(&self, arguments: &[&str]) -> Finished {
        let mut command: Command = self.site.command(&[&[&*format!("--stanza={STANZA}")], arguments].concat());
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        let finished = run(&mut command);
        let logs = fs_err::read_dir(self.site.scratch.path().join("log")).unwrap();
        let logs: Vec<_> = logs.map(|file| fs_err::read_to_string(file.unwrap().path()).unwrap()).collect();
        let Credentials { secret, token, .. } = keys();
        let proof_in_url = PROOF.replace('.', "%2E").replace('+', "%2B").replace('/', "%2F");
        for told in logs.iter().chain([&said(&finished)]) {
            for hidden in [&secret, &token.clone().unwrap(), PROOF, &proof_in_url, "Signature="] {
                assert!(!told.contains(hidden), "'{hidden}' is in {told}");
            }
        }
        finished
    }

    /// A segment goes into the repository and comes back.
    fn works(&self) {
        self.run(&["stanza-create", "--no-online"]).expect_success();
        let (segment, fetched) = (segment_of(&self.site), self.site.scratch.path().join("fetched"));
        self.run(&["archive-push", text(&segment)]).expect_success();
        self.run(&["archive-get", name_of(&segment), text(&fetched)]).expect_success();
        assert!(fs_err::read(&fetched).unwrap() == fs_err::read(&segment).unwrap(), "the segment is another");
        assert!(self.s3.keys().iter().any(|key| key.contains("/wal/")), "{:?}", self.s3.keys());
    }

    /// PostgreSQL keeps its segment, and a recovery stops.
    #[track_caller]
    fn fails(&self, code: i32, parts: &[&str]) {
        let (segment, fetched) = (segment_of(&self.site), self.site.scratch.path().join("never"));
        let push = self.run(&["archive-push", text(&segment)]);
        let get = self.run(&["archive-get", name_of(&segment), text(&fetched)]);
        for (finished, code) in [(push, code), (get, code + 128)] {
            let told = said(&finished.expect_code(code));
            for part in parts {
                assert!(told.contains(part), "no '{part}' in {told}");
            }
        }
    }
}

fn keys() -> Credentials {
    Credentials::new("Given").with_token()
}

fn nobody() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    format!("http://127.0.0.1:{}", listener.local_addr().unwrap().port())
}

#[test]
fn an_instance_gives_keys() {
    let service = KeyService::start(|request| {
        let (line, _) = request.split_once(" HTTP/1.1").unwrap();
        match line.strip_prefix("GET /latest/meta-data/iam/security-credentials/") {
            Some("") => Some("backup".to_owned()),
            Some("backup") => Some(keys().in_json("Token", LATER)),
            _ => (line == "PUT /latest/api/token").then(|| PROOF.to_owned()),
        }
    });
    let metadata = "AWS_EC2_METADATA_SERVICE_ENDPOINT";
    let place = Place::new("repo1-s3-key-type=auto").variable(metadata, service.url());
    place.works();
    place.site.reconfigure("key-type=auto", "key-type=auto\nrepo1-s3-role=other");
    place.fails(39, &["the metadata service of the instance gives no keys", "404 Not Found"]);
    let place = place.without(metadata).variable(metadata, nobody());
    place.fails(
        49,
        &["the metadata service of the instance gives no keys", "no connection", "is this one, with a role"],
    );
    let place = place.without(metadata).variable(metadata, "ftp://metadata");
    place.fails(32, &["AWS_EC2_METADATA_SERVICE_ENDPOINT", "'ftp://metadata' is no endpoint"]);
}

#[test]
fn a_web_identity_is_good_for_keys() {
    let service = KeyService::start(|request| {
        let is_known = request.contains("Action=AssumeRoleWithWebIdentity")
            && request.contains("RoleArn=arn%3Aaws%3Aiam%3A%3A123456789012%3Arole%2Fbackup&")
            && request.contains(&PROOF.replace('.', "%2E").replace('+', "%2B").replace('/', "%2F"));
        is_known.then(|| keys().in_xml(LATER))
    });
    let place = Place::new(&format!("repo1-s3-key-type=web-id\nrepo1-s3-sts-host={}", service.url()));
    let (role, file) = ("AWS_ROLE_ARN", "AWS_WEB_IDENTITY_TOKEN_FILE");
    let proof = place.proof();
    let place = place.variable(role, "arn:aws:iam::123456789012:role/backup").variable(file, text(&proof));
    place.works();
    let place = place.without(file);
    place.fails(37, &["'repo1-s3-key-type' wants environment variable AWS_WEB_IDENTITY_TOKEN_FILE"]);
    let place = place.variable(file, "/nonexistent/proof");
    place.fails(32, &["/nonexistent/proof", "AWS_WEB_IDENTITY_TOKEN_FILE"]);
    let place = place.without(file).without(role).variable(file, text(&proof)).variable(role, "another");
    place.fails(39, &["the token service gives no keys", "AWS_ROLE_ARN"]);
    let place = place.without(role);
    place.fails(37, &["wants environment variable AWS_ROLE_ARN"]);
}

#[test]
fn the_agent_of_a_container_gives_keys() {
    let service = KeyService::start(|request| {
        let is_known =
            request.starts_with("GET /v1/credentials HTTP") && request.contains(&format!("authorization: {PROOF}"));
        is_known.then(|| keys().in_json("Token", LATER))
    });
    let (uri, file) = ("AWS_CONTAINER_CREDENTIALS_FULL_URI", "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE");
    let place = Place::new("repo1-s3-key-type=pod-id");
    let proof = place.proof();
    let place = place.variable(uri, format!("{}/v1/credentials", service.url())).variable(file, text(&proof));
    place.works();
    let another = place.site.scratch.write("another", "not known");
    let place = place.without(file).variable(file, text(&another));
    place.fails(39, &["the agent of the container gives no keys", "404 Not Found", "AWS_CONTAINER_"]);
    let place = place.without(file);
    place.fails(37, &["wants environment variable AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"]);
    let place = place.variable(file, text(&proof)).without(uri).variable(uri, format!("{}/v1", nobody()));
    place.fails(49, &["the agent of the container gives no keys", "no connection"]);
}

#[test]
fn a_program_gives_keys() {
    let place = Place::new("repo1-s3-key-type=process\nrepo1-s3-process-cmd=cat");
    let file = place.site.scratch.write("keys.json", keys().in_json("SessionToken", LATER));
    let with = |what: &str| format!("process-cmd=cat\nrepo1-s3-process-cmd={what}");
    place.site.reconfigure("process-cmd=cat", &with(text(&file)));
    place.works();
    place.site.reconfigure(&with(text(&file)), &with("/nonexistent/keys"));
    place.fails(39, &["the program that gives keys: 'cat' failed", "run repoN-s3-process-cmd by hand"]);
    place.site.reconfigure(&with("/nonexistent/keys"), "process-cmd=sleep\nrepo1-s3-process-cmd=1000");
    place.fails(39, &["'sleep' did not end within 1 s"]);
    place.site.reconfigure("process-cmd=sleep\nrepo1-s3-process-cmd=1000", "process-cmd=/nonexistent/program");
    place.fails(39, &["'/nonexistent/program' can't be run"]);
    place.site.scratch.write("keys.json", r#"{"AccessKeyId":"Given"}"#);
    place.site.reconfigure("process-cmd=/nonexistent/program", &with(text(&file)));
    place.fails(39, &["the answer of the program of repoN-s3-process-cmd is without SecretAccessKey"]);
    let old = place.site.scratch.write("old.json", Credentials::new("Old").with_token().in_json("SessionToken", LATER));
    place.site.reconfigure(&with(text(&file)), &with(text(&old)));
    place.fails(39, &["the answer was InvalidAccessKeyId"]);
}
