//! What a repository in S3 is configured by.

use std::time::Duration;

use pgark_system::pace::Pacer;

use super::credentials::CredentialSettings;
use crate::network::{Endpoint, Route, Scheme, Trust};
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

impl S3Settings {
    /// The size of parts where none is configured.
    pub const PART_SIZE: usize = 8 << 20;
    /// The least size of a part that S3 takes.
    pub const PART_SIZE_MIN: usize = 5 << 20;

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

    pub(super) fn describe(&self) -> String {
        format!("bucket '{}' path '{}' at {}", self.bucket, self.path, self.endpoint)
    }
}
