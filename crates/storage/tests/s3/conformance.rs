//! What every driver promises.

use std::cell::Cell;

use pgark_storage::conformance::{run, run_without_conditions};
use pgark_storage::s3::UriStyle;
use pgark_storage::{Endpoint, S3Settings, S3Storage, Scheme, Storage, Trust};
use pgark_testkit::s3::{Effect, Fault, Moto, Refusal, S3Server};

use crate::common::{in_moto, settings};

/// Gives a repository of its own each time, below the path of the settings.
fn numbered(settings: S3Settings) -> impl Fn() -> Box<dyn Storage> {
    let number = Cell::new(0);
    move || {
        number.set(number.get() + 1);
        let path = format!("{}/{}", settings.path, number.get());
        Box::new(S3Storage::open(&S3Settings { path, ..settings.clone() }).unwrap())
    }
}

#[test]
fn keeps_what_every_driver_promises() {
    let server = S3Server::start();
    // So that listings have several pages.
    server.set_page_size(3);
    run(numbered(settings(&server)));
}

#[test]
fn keeps_it_with_tls_and_object_lock() {
    let server = S3Server::builder().https().object_lock().start();
    let trust = Trust::Authorities { file: Some(server.authority().to_owned()), directory: None };
    run(numbered(S3Settings { trust, ..settings(&server) }));
}

#[test]
fn keeps_it_below_an_unusual_path() {
    let server = S3Server::start();
    let path = "/B\u{fc}ro/my backups/50%2F+a&b=c?d#e~(f)".to_owned();
    run(numbered(S3Settings { path: path.clone(), ..settings(&server) }));
    let outside: Vec<_> = server.keys().into_iter().filter(|key| !key.starts_with(&path[1..])).collect();
    assert!(outside.is_empty() && !server.keys().is_empty(), "{outside:?}");
}

/// Some services, such as Garage, take no notice of conditions, others want none.
#[test]
fn keeps_the_rest_where_there_are_no_conditions() {
    for effect in [Effect::IgnoreConditions, Effect::RefuseConditions(Refusal::NOT_IMPLEMENTED)] {
        let server = S3Server::start();
        server.inject(Fault::new(effect).always());
        run_without_conditions(numbered(settings(&server)));
        assert!(server.fired() > 0, "nobody has asked for conditions");
    }
}

/// As most users have it, and through something that stands before the service.
#[test]
fn keeps_it_with_the_bucket_in_the_name_of_the_host() {
    for server in [S3Server::start(), S3Server::builder().https().start()] {
        let proxy = Endpoint::parse(&server.url()).unwrap();
        let trust = match proxy.scheme {
            Scheme::Http => Trust::System,
            Scheme::Https => Trust::Authorities { file: Some(server.authority().to_owned()), directory: None },
        };
        let endpoint = Endpoint::parse(server.domain()).unwrap();
        let settings = S3Settings { style: UriStyle::Host, endpoint, proxy: Some(proxy), trust, ..settings(&server) };
        run(numbered(settings));
        let requests = server.requests();
        let name = format!("{}.{}", S3Server::BUCKET, server.domain());
        for request in &requests {
            assert_eq!(request.header("host"), Some(name.as_str()), "{request:?}");
            assert!(!request.uri.contains(S3Server::BUCKET), "{request:?}");
        }
    }
}

#[test]
fn keeps_it_in_moto() {
    let moto = Moto::start();
    run(numbered(in_moto(&moto)));
}
