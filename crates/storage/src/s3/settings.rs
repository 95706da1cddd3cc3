//! What a repository in S3 is configured by.

use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use http::{HeaderMap, HeaderName, HeaderValue};
use md5::{Digest, Md5};
use pgark_system::pace::Pacer;
use url::Url;
use zeroize::Zeroizing;

use super::credentials::CredentialSettings;
use crate::error::ErrorKind;
use crate::key::Key;
use crate::network::{Endpoint, Failure, Route, Scheme, Trust};
use crate::secret::Secret;

/// Where a repository in S3 is and how to reach it.
#[derive(Clone, Debug)]
pub struct S3Settings {
    /// The service.
    pub endpoint: Endpoint,
    /// The region that requests are signed for.
    pub region: String,
    /// The bucket, which must exist.
    pub bucket: String,
    /// How the bucket is addressed.
    pub style: UriStyle,
    /// What the names of all objects begin with: `/var/lib/pgark`, or `/` for nothing.
    pub path: String,
    /// Where to connect to, if not to the endpoint. Requests name the endpoint all the same; certificates are this one's.
    pub proxy: Option<Endpoint>,
    /// Whose certificates are trusted.
    pub trust: Trust,
    /// Who we are.
    pub credentials: CredentialSettings,
    /// How the service encrypts what it stores.
    pub encryption: ServerEncryption,
    /// Tags that every object gets.
    pub tags: Vec<(String, String)>,
    /// Whether who reads pays for it.
    pub requester_pays: bool,
    /// How large the parts of an upload are, in bytes; a stream holds two of them. S3 takes none below 5 MiB.
    pub part_size: usize,
    /// How long a connection may make no progress. New attempts of a request that fails begin for twice as long.
    pub io_timeout: Duration,
    /// At what pace bytes are sent and received.
    pub pacer: Pacer,
}

/// How a bucket is addressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UriStyle {
    /// Its name is part of the host name.
    Host,
    /// Its name is the beginning of the path.
    Path,
}

/// How the service encrypts what it stores.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServerEncryption {
    /// As the bucket says.
    Default,
    /// With this key of the key management service.
    ManagedKey(String),
    /// With this key, 256 bits in base64, which the service does not keep.
    CustomerKey(Secret),
}

impl ServerEncryption {
    /// What a request says that writes an object.
    pub(super) fn headers_of_object(&self) -> Result<HeaderMap, Failure> {
        match self {
            Self::ManagedKey(key) => Ok(HeaderMap::from_iter([
                (HeaderName::from_static("x-amz-server-side-encryption"), HeaderValue::from_static("aws:kms")),
                (HeaderName::from_static("x-amz-server-side-encryption-aws-kms-key-id"), header(key)?),
            ])),
            Self::Default | Self::CustomerKey(_) => self.headers_of_part(),
        }
    }

    /// What a request says that writes a part of an object: the service does not keep a customer's key.
    pub(super) fn headers_of_part(&self) -> Result<HeaderMap, Failure> {
        let Self::CustomerKey(key) = self else { return Ok(HeaderMap::new()) };
        let bytes = BASE64_STANDARD.decode(key.expose()).map(Zeroizing::new).map_err(|_| {
            Failure::new(ErrorKind::Settings, "the customer's key is not written in base64")
                .hint("check repoN-s3-sse-customer-key")
        })?;
        let name = |part| format!("x-amz-server-side-encryption-customer-{part}").parse().expect("it is a name");
        Ok(HeaderMap::from_iter([
            (name("algorithm"), HeaderValue::from_static("AES256")),
            (name("key"), header(key.expose())?),
            (name("key-md5"), header(&BASE64_STANDARD.encode(Md5::digest(&*bytes)))?),
        ]))
    }
}

/// The value of a header, which may be a secret.
pub(super) fn header(text: &str) -> Result<HeaderValue, Failure> {
    let mut value = HeaderValue::from_str(text).map_err(|_| {
        Failure::new(ErrorKind::Settings, "a tag or a key for encryption has characters that can't be sent")
            .hint("check repoN-storage-tag, repoN-s3-kms-key-id and repoN-s3-sse-customer-key")
    })?;
    value.set_sensitive(true);
    Ok(value)
}

impl S3Settings {
    /// The size of parts where none is configured.
    pub const PART_SIZE: usize = 8 << 20;
    /// The least size of a part that S3 takes.
    pub const PART_SIZE_MIN: usize = 5 << 20;

    /// Checks what becomes part of addresses and headers; what a service takes is for the service to say.
    pub(super) fn check(&self) -> Result<(), Failure> {
        let refused = |what: &str, value: &str| {
            let article = if what == "endpoint" { "an" } else { "a" };
            let reason = format!("'{}' can't be the name of {article} {what}", value.escape_debug());
            Failure::new(ErrorKind::Settings, reason).hint(format!("check repoN-s3-{what}"))
        };
        let is_region = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        if self.region.is_empty() || !self.region.bytes().all(is_region) {
            return Err(refused("region", &self.region));
        }
        // In a path a bucket may also be named with its tenant: `tenant:bucket`.
        let is_bucket = |byte: u8| is_region(byte) || (byte == b':' && self.style == UriStyle::Path);
        if self.bucket.is_empty() || !self.bucket.bytes().all(is_bucket) {
            return Err(refused("bucket", &self.bucket));
        }
        let path = self.path.trim_matches('/');
        if let (false, Err(error)) = (path.is_empty(), Key::parse(path)) {
            let reason = format!("objects can't have names that begin with the path: {error}");
            return Err(Failure::new(ErrorKind::Settings, reason).hint("check repoN-path"));
        }
        // A name that is none once its international letters are decoded, or an address.
        if Url::parse(&self.bucket_url()).is_ok() {
            return Ok(());
        }
        let refused = refused("endpoint", &self.bucket_url());
        Err(match self.style {
            UriStyle::Host => refused.hint("an address can't have the bucket before it: set repoN-s3-uri-style=path"),
            UriStyle::Path => refused,
        })
    }

    /// The address of the bucket.
    pub(super) fn bucket_url(&self) -> String {
        let endpoint = Endpoint { scheme: self.reached().scheme, ..self.endpoint.clone() };
        match self.style {
            UriStyle::Host => endpoint.below(&self.bucket).to_string(),
            UriStyle::Path => format!("{endpoint}/{}", self.bucket),
        }
    }

    /// What connections are made to.
    fn reached(&self) -> &Endpoint {
        self.proxy.as_ref().unwrap_or(&self.endpoint)
    }

    pub(super) fn route(&self) -> Route {
        let trust = (self.reached().scheme == Scheme::Https).then(|| self.trust.clone());
        Route { proxy: self.proxy.clone(), trust, io_timeout: self.io_timeout, pacer: self.pacer.clone() }
    }

    pub(crate) fn describe(&self) -> String {
        format!("bucket '{}' path '{}' at {}", self.bucket, self.path, self.endpoint)
    }
}
