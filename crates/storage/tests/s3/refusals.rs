//! Services that refuse, for now or for good.

use std::error::Error as _;
use std::time::Duration;

use pgark_storage::s3::UriStyle;
use pgark_storage::{Capabilities, Endpoint, ErrorKind, Origin, PutMode, S3Settings, S3Storage, Storage, Trust, probe};
use pgark_system::clock::Stopwatch;
use pgark_testkit::s3::{Call, Effect, Fault, Refusal, S3Server};

use crate::common::{key, open, settings};

#[test]
fn what_passes_is_waited_for() {
    let server = S3Server::start();
    let storage = open(&server);
    for (number, refusal) in Refusal::TEMPORARY.into_iter().enumerate() {
        let name = key(&number.to_string());
        for effect in [Effect::Refuse(refusal), Effect::RefuseEarly(refusal)] {
            server.inject(Fault::new(effect).on(Call::PutObject));
        }
        server.inject(Fault::new(Effect::Refuse(refusal)).on(Call::GetObject));
        server.inject(Fault::new(Effect::Refuse(refusal)).on(Call::ListObjects));
        server.inject(Fault::new(Effect::Refuse(refusal)).on(Call::DeleteObject));
        storage.put(&name, b"x", PutMode::Create).unwrap();
        assert_eq!(storage.get(&name, 10).unwrap(), b"x");
        assert_eq!(storage.list_directory(None).unwrap().len(), 1);
        storage.delete(&name).unwrap();
    }
    assert_eq!(server.fired(), 5 * Refusal::TEMPORARY.len());
    assert!(server.keys().is_empty());
}

#[test]
fn what_does_not_pass_ends() {
    let server = S3Server::start();
    let io_timeout = Duration::from_millis(400);
    let storage = S3Storage::open(&S3Settings { io_timeout, ..settings(&server) }).unwrap();
    for refusal in Refusal::TEMPORARY {
        server.inject(Fault::new(Effect::Refuse(refusal)).always());
        let stopwatch = Stopwatch::start();
        let error = storage.put(&key("a"), b"x", PutMode::Create).unwrap_err();
        assert_eq!((error.kind(), error.origin()), (ErrorKind::Unavailable, Origin::Service), "{refusal:?}");
        assert!(server.fired() > 1 && stopwatch.elapsed() < Duration::from_secs(20), "{refusal:?}");
        server.heal();
    }
    let limited = storage_error(&server, Refusal::SLOW_DOWN, &storage);
    assert!(limited.contains("SlowDown"), "{limited}");
    assert!(server.keys().is_empty());
}

/// The reason that a read fails for at last.
fn storage_error(server: &S3Server, refusal: Refusal, storage: &S3Storage) -> String {
    server.inject(Fault::new(Effect::Refuse(refusal)).always());
    let error = storage.get(&key("a"), 1).unwrap_err();
    server.heal();
    format!("{} {}", error.source().unwrap(), error.hint().unwrap_or_default())
}

#[test]
fn a_service_that_refuses_conditions_is_used_without() {
    for refusal in [Refusal::NOT_IMPLEMENTED, Refusal::INVALID_ARGUMENT, Refusal { status: 400, code: "" }] {
        let server = S3Server::start();
        let storage = open(&server);
        server.inject(Fault::new(Effect::RefuseConditions(refusal)).always());
        assert_eq!(probe(&storage).unwrap(), Capabilities { conditional_create: false }, "{refusal:?}");
        assert!(server.keys().is_empty(), "the probe left something behind");
        storage.adopt(Capabilities { conditional_create: false });
        storage.put(&key("a"), b"x", PutMode::Create).unwrap();
        let taken = storage.put(&key("a"), b"y", PutMode::Create).unwrap_err();
        assert_eq!(taken.kind(), ErrorKind::AlreadyExists);
    }
}

#[test]
fn a_service_that_refuses_everything_is_no_service_without_conditions() {
    let server = S3Server::start();
    server.inject(Fault::new(Effect::Refuse(Refusal::INVALID_ARGUMENT)).on(Call::PutObject).always());
    let error = probe(&open(&server)).unwrap_err();
    assert!(error.source().unwrap().to_string().contains("InvalidArgument"), "{error:?}");
}

#[test]
fn a_refusal_without_a_word_is_no_proof_of_absence() {
    let server = S3Server::start();
    // It has no first byte, so that only a request whose answer has no body can tell of it.
    server.put("repository/empty", "");
    for (status, kind, hint) in [(403, ErrorKind::Denied, "rights"), (404, ErrorKind::Io, "no S3 service")] {
        let refusal = Refusal { status, code: "" };
        server.inject(Fault::new(Effect::Refuse(refusal)).on(Call::HeadObject));
        let error = open(&server).head(&key("empty")).unwrap_err();
        assert_eq!((error.kind(), error.origin()), (kind, Origin::Service), "{error:?}");
        assert!(error.hint().unwrap().contains(hint), "{error:?}");
        server.inject(Fault::new(Effect::Refuse(refusal)).on(Call::GetObject));
        assert_eq!(open(&server).head(&key("none")).unwrap_err().kind(), kind);
    }
    assert_eq!(open(&server).head(&key("none")).unwrap(), None);
    assert_eq!(server.fired(), 4);
}

/// Settings that can't work, what is wrong with them, and who says so.
#[test]
fn who_is_not_reached_or_not_trusted_is_told_apart() {
    let plain = S3Server::start();
    let (tls, other) = (S3Server::builder().https().start(), S3Server::builder().https_for("other.test").start());
    let base = S3Settings { io_timeout: Duration::from_millis(300), ..settings(&plain) };
    let to = |url: &str| S3Settings { endpoint: Endpoint::parse(url).unwrap(), ..base.clone() };
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let trusting =
        |server: &S3Server| Trust::Authorities { file: Some(server.authority().to_owned()), directory: None };
    for (what, settings, origin, reason) in [
        ("no server", to(&format!("http://127.0.0.1:{nobody}")), Origin::NoConnection, "no connection"),
        ("no host", to("http://nowhere.invalid"), Origin::NoConnection, "not found"),
        ("an authority unknown", to(&tls.url()), Origin::Certificate, "not trusted"),
        (
            "another name",
            S3Settings { trust: trusting(&other), ..to(&other.url()) },
            Origin::Certificate,
            "not trusted",
        ),
        ("no TLS", to(&plain.url().replace("http:", "https:")), Origin::Here, "does not speak TLS"),
        ("TLS not expected", to(&tls.url().replace("https:", "http:")), Origin::Here, "broke off"),
    ] {
        let error = S3Storage::open(&settings).unwrap().get(&key("a"), 1).unwrap_err();
        assert_eq!((error.kind(), error.origin()), (ErrorKind::Unavailable, origin), "{what}: {error:?}");
        assert!(error.source().unwrap().to_string().contains(reason), "{what}: {error:?}");
    }
    let trusted = S3Settings { trust: trusting(&tls), ..to(&tls.url()) };
    let error = S3Storage::open(&trusted).unwrap().get(&key("a"), 1).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error:?}");
}

#[test]
fn names_that_no_bucket_or_region_has_are_refused() {
    let server = S3Server::start();
    for bucket in ["", "my bucket", "b/x", "b?x", "b#x", "b%20", "b\u{fc}cher", "b\n"] {
        let error = S3Storage::open(&S3Settings { bucket: bucket.into(), ..settings(&server) }).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Settings, "{bucket}");
    }
    for region in ["", "eu west", "eu\u{e9}", "eu/west", "eu\r\nx: y"] {
        let error = S3Storage::open(&S3Settings { region: region.into(), ..settings(&server) }).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Settings, "{region}");
    }
    for path in ["/..", "/../x", "/x/../y", "/./x", "/x//y", "/x\n"] {
        let error = S3Storage::open(&S3Settings { path: path.into(), ..settings(&server) }).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Settings, "{path}");
        assert_eq!(error.hint(), Some("check repoN-path"), "{path}");
    }
    for address in [server.url(), "http://[::1]:9000".to_owned()] {
        let endpoint = Endpoint::parse(&address).unwrap();
        let error = S3Storage::open(&S3Settings { style: UriStyle::Host, endpoint, ..settings(&server) }).unwrap_err();
        assert!(error.hint().unwrap().contains("repoN-s3-uri-style=path"), "{address}: {error:?}");
    }
    // What could be a name is for the service to refuse.
    for (bucket, style) in [("xn--a", UriStyle::Host), ("-", UriStyle::Host), ("tenant:b", UriStyle::Path)] {
        let proxy = Some(Endpoint::parse(&server.url()).unwrap());
        let settings = S3Settings {
            bucket: bucket.into(),
            style,
            endpoint: Endpoint::parse(&format!("http://{}:{}", server.domain(), server.port())).unwrap(),
            proxy,
            ..settings(&server)
        };
        let opened = S3Storage::open(&settings).and_then(|storage| storage.get(&key("a"), 1));
        assert!(opened.is_err(), "{bucket}");
    }
}
