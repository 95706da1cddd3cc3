//! Credentials that are fetched, and fetched anew before they expire.

use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::thread;

use fs_err as fs;
use pgark_storage::s3::{CredentialSettings, KeySource};
use pgark_storage::{Endpoint, ErrorKind, Key, PutMode, S3Settings, S3Storage, Secret, Storage};
use pgark_testkit::s3::{Credentials, KeyService, S3Server};

use crate::common::settings;

fn open(server: &S3Server, source: KeySource) -> S3Storage {
    let credentials = CredentialSettings::From(source);
    S3Storage::open(&S3Settings { credentials, ..settings(server) }).unwrap()
}

fn put(storage: &S3Storage, name: &str) -> pgark_storage::Result<()> {
    storage.put(&Key::parse(name).unwrap(), b"x", PutMode::Create)
}

const LATER: &str = "2999-01-01T00:00:00Z";
/// Keys that expire so soon are fetched anew each time.
const SOON: &str = "2000-01-01T00:00:00Z";

/// A service that answers every request so.
fn service(answer: String) -> KeyService {
    KeyService::start(move |_| Some(answer.clone()))
}

fn temporary_file(content: &str) -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("token");
    fs::write(&file, content).unwrap();
    (directory, file)
}

#[test]
fn keys_of_a_container_are_fetched_once_and_sent_with_their_token() {
    let server = S3Server::start();
    let credentials = Credentials::new("Pod").with_token();
    server.set_credentials(std::slice::from_ref(&credentials));
    let agent = service(credentials.in_json("Token", LATER));
    let (_directory, token_file) = temporary_file("who we are\n");
    let url = format!("{}/v1/credentials", agent.url());
    let storage = open(&server, KeySource::Container { url, token_file: Some(token_file) });
    thread::scope(|scope| {
        for number in 0..4 {
            let storage = &storage;
            scope.spawn(move || put(storage, &number.to_string()).unwrap());
        }
    });
    let requests = agent.requests();
    assert_eq!(requests.len(), 1, "{requests:?}");
    assert!(requests[0].starts_with("GET /v1/credentials ") && requests[0].contains("authorization: who we are"));
}

#[test]
fn keys_are_fetched_anew_before_they_expire() {
    let server = S3Server::start();
    let (first, second) = (Credentials::new("First").with_token(), Credentials::new("Second").with_token());
    server.set_credentials(std::slice::from_ref(&first));
    let answer = Arc::new(Mutex::new(first.in_json("Token", SOON)));
    let told = Arc::clone(&answer);
    let agent = KeyService::start(move |_| Some(told.lock().unwrap().clone()));
    let storage = open(&server, KeySource::Container { url: agent.url(), token_file: None });
    put(&storage, "a").unwrap();
    server.set_credentials(std::slice::from_ref(&second));
    *answer.lock().unwrap() = second.in_json("Token", LATER);
    put(&storage, "b").unwrap();
    put(&storage, "c").unwrap();
    assert_eq!(agent.requests().len(), 2);
}

/// A metadata service of the second version: who has not asked for a token is told nothing.
fn metadata_service(role: &'static str, keys: String) -> KeyService {
    KeyService::start(move |request| {
        let is = |line: &str| request.starts_with(&format!("{line} HTTP/1.1"));
        if is("PUT /latest/api/token") {
            return request.contains("x-aws-ec2-metadata-token-ttl-seconds: ").then(|| "a token\n".to_owned());
        }
        if !request.contains("x-aws-ec2-metadata-token: a token") {
            return None;
        }
        let roles = "GET /latest/meta-data/iam/security-credentials/";
        if is(roles) {
            return Some(format!("{role}\n"));
        }
        is(&format!("{roles}{role}")).then(|| keys.clone())
    })
}

#[test]
fn an_instance_gives_the_keys_of_its_role() {
    let server = S3Server::start();
    let credentials = Credentials::new("Instance").with_token();
    server.set_credentials(std::slice::from_ref(&credentials));
    let metadata =
        metadata_service("backup", credentials.in_json("Token", LATER).replacen('{', r#"{"Code":"Success","#, 1));
    let service = Endpoint::parse(&metadata.url()).unwrap();
    let storage = open(&server, KeySource::Instance { service: service.clone(), role: None });
    put(&storage, "a").unwrap();
    put(&storage, "b").unwrap();
    assert_eq!(metadata.requests().len(), 3, "{:?}", metadata.requests());
    // Whoever names the role does not have to ask for it.
    put(&open(&server, KeySource::Instance { service: service.clone(), role: Some("backup".into()) }), "c").unwrap();
    assert_eq!(metadata.requests().len(), 5, "{:?}", metadata.requests());
    let other = KeySource::Instance { service, role: Some("other".into()) };
    let error = put(&open(&server, other), "d").unwrap_err();
    let reason = std::error::Error::source(&error).unwrap().to_string();
    assert_eq!(error.kind(), ErrorKind::Denied, "{reason}");
    assert!(reason.contains("the metadata service of the instance gives no keys"), "{reason}");
}

#[test]
fn a_web_identity_is_exchanged_for_keys() {
    let server = S3Server::start();
    let credentials = Credentials::new("Role").with_token();
    server.set_credentials(std::slice::from_ref(&credentials));
    let agent = service(credentials.in_xml(LATER));
    let (_directory, token_file) = temporary_file("head.pay/load+.sign\n");
    let sts = Endpoint::parse(&agent.url()).unwrap();
    let role = "arn:aws:iam::123456789012:role/backup".to_owned();
    put(&open(&server, KeySource::WebIdentity { service: sts, role, token_file }), "a").unwrap();
    let request = agent.requests().concat();
    for part in [
        "POST /?Action=AssumeRoleWithWebIdentity&Version=2011-06-15",
        "RoleArn=arn%3Aaws%3Aiam%3A%3A123456789012%3Arole%2Fbackup",
        "WebIdentityToken=head%2Epay%2Fload%2B%2Esign",
    ] {
        assert!(request.contains(part), "{part} is not in {request}");
    }
}

#[test]
fn a_program_gives_keys() {
    let server = S3Server::start();
    let credentials = Credentials::new("Program").with_token();
    server.set_credentials(std::slice::from_ref(&credentials));
    let (_directory, file) = temporary_file(&credentials.in_json("SessionToken", LATER));
    let command = ["cat".to_owned(), file.to_str().unwrap().to_owned()].into();
    put(&open(&server, KeySource::Process { command }), "a").unwrap();
}

#[test]
fn who_gets_no_keys_is_told_where_they_were_to_come_from() {
    let server = S3Server::start();
    let agent = service("nothing here".to_owned());
    let (_directory, token_file) = temporary_file("secret token");
    let missing = PathBuf::from("/nonexistent/token");
    let endpoint = || Endpoint::parse(&agent.url()).unwrap();
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let no_instance = Endpoint::parse(&format!("http://127.0.0.1:{nobody}")).unwrap();
    for (source, kind, part) in [
        (
            KeySource::Instance { service: endpoint(), role: Some("r".into()) },
            ErrorKind::Denied,
            "metadata service of the instance is no valid JSON",
        ),
        (
            KeySource::Instance { service: no_instance, role: None },
            ErrorKind::Unavailable,
            "the metadata service of the instance gives no keys: no connection",
        ),
        (KeySource::Container { url: agent.url(), token_file: None }, ErrorKind::Denied, "agent of the container"),
        (
            KeySource::Container { url: agent.url(), token_file: Some(missing) },
            ErrorKind::Settings,
            "/nonexistent/token",
        ),
        (
            KeySource::WebIdentity { service: endpoint(), role: "r".into(), token_file },
            ErrorKind::Denied,
            "token service",
        ),
        (KeySource::Process { command: vec!["false".into()] }, ErrorKind::Denied, "'false' failed"),
    ] {
        let error = put(&open(&server, source), "a").unwrap_err();
        let reason = std::error::Error::source(&error).unwrap().to_string();
        assert_eq!(error.kind(), kind, "{reason}");
        assert!(reason.contains(part) && !reason.contains("secret"), "{reason}");
        assert!(error.hint().is_some());
    }
    assert!(server.requests().is_empty());
}

#[test]
fn keys_with_characters_that_no_key_has_are_refused_without_being_shown() {
    let server = S3Server::start();
    let good = server.credentials();
    let keys = |key: &str, secret: &str, token: Option<&str>| CredentialSettings::Keys {
        key: Secret::new(key),
        secret: Secret::new(secret),
        token: token.map(Secret::new),
    };
    let (key, secret) = (good.access_key.as_str(), good.secret.as_str());
    for (credentials, what) in [
        (keys(&format!("{key}\n"), secret, None), "id of the access key"),
        (keys("Schl\u{fc}ssel", secret, None), "id of the access key"),
        (keys(key, &format!("{secret}\r\n"), None), "secret access key"),
        (keys(key, secret, Some("a token\u{1}")), "session token"),
    ] {
        let error = S3Storage::open(&S3Settings { credentials, ..settings(&server) }).unwrap_err();
        let reason = std::error::Error::source(&error).unwrap().to_string();
        assert_eq!(error.kind(), ErrorKind::Settings, "{reason}");
        assert!(reason.contains(what) && !format!("{error:?}").contains(secret), "{error:?}");
    }
    let odd = Credentials { token: Some("t\u{f6}ken".into()), ..good.clone() };
    let agent = service(odd.in_json("Token", LATER));
    let storage = open(&server, KeySource::Container { url: agent.url(), token_file: None });
    let error = put(&storage, "a").unwrap_err();
    assert!(format!("{error:?}").contains("session token") && !format!("{error:?}").contains("ken\""), "{error:?}");
}
