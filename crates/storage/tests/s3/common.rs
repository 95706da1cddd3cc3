//! Repositories on servers of the tests.

use std::time::Duration;

use pgark_storage::s3::{CredentialSettings, ServerEncryption, UriStyle};
use pgark_storage::{Endpoint, Key, S3Settings, S3Storage, Secret, Trust};
use pgark_system::pace::Pacer;
use pgark_testkit::s3::{Credentials, Moto, S3Server};

/// A repository at `/repository` on the server.
pub(crate) fn settings(server: &S3Server) -> S3Settings {
    at(&server.url(), server.region(), server.credentials())
}

/// A repository at `/repository` in moto.
pub(crate) fn in_moto(moto: &Moto) -> S3Settings {
    at(&format!("http://127.0.0.1:{}", moto.port()), Moto::REGION, moto.credentials())
}

fn at(url: &str, region: &str, credentials: &Credentials) -> S3Settings {
    assert_eq!(S3Server::BUCKET, Moto::BUCKET);
    S3Settings {
        endpoint: Endpoint::parse(url).unwrap(),
        region: region.to_owned(),
        bucket: S3Server::BUCKET.to_owned(),
        style: UriStyle::Path,
        path: "/repository".to_owned(),
        proxy: None,
        trust: Trust::System,
        credentials: CredentialSettings::Keys {
            key: Secret::new(&credentials.access_key),
            secret: Secret::new(&credentials.secret),
            token: None,
        },
        encryption: ServerEncryption::Default,
        tags: Vec::new(),
        requester_pays: false,
        part_size: S3Settings::PART_SIZE_MIN,
        io_timeout: Duration::from_secs(30),
        pacer: Pacer::unlimited(),
    }
}

pub(crate) fn open(server: &S3Server) -> S3Storage {
    S3Storage::open(&settings(server)).unwrap()
}

pub(crate) fn key(text: &str) -> Key {
    Key::parse(text).unwrap()
}
