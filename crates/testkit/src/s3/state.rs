//! What a server knows.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::call::Call;
use super::fault::Script;
use super::objects::Bucket;
use super::policy::Policy;

/// What a client signs with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credentials {
    /// The name of the key.
    pub access_key: String,
    /// The key.
    pub secret: String,
    /// What must be sent along, where the credentials are temporary.
    pub token: Option<String>,
}

impl Credentials {
    /// Credentials that begin with `prefix`, so that they can be found in whatever should not have them.
    pub fn new(prefix: &str) -> Self {
        Self {
            access_key: format!("{prefix}AccessKey"),
            secret: format!("{prefix}Secret/Key+=0123456789"),
            token: None,
        }
    }

    /// The same, with a token.
    #[must_use]
    pub fn with_token(self) -> Self {
        let token = self.access_key.replace("AccessKey", "Session/Token+==");
        Self { token: Some(token), ..self }
    }

    /// As services and programs write them in JSON. `token` is what they call the token.
    pub fn in_json(&self, token: &str, expiration: &str) -> String {
        let Self { access_key, secret, token: value } = self;
        let value = value.as_deref().unwrap_or_default();
        format!(
            r#"{{"Version":1,"AccessKeyId":"{access_key}","SecretAccessKey":"{secret}","{token}":"{value}","Expiration":"{expiration}"}}"#
        )
    }

    /// As the token service gives them for a web identity.
    pub fn in_xml(&self, expiration: &str) -> String {
        let Self { access_key, secret, token } = self;
        let token = token.as_deref().unwrap_or_default();
        format!(
            "<AssumeRoleWithWebIdentityResponse><AssumeRoleWithWebIdentityResult><Credentials>\
             <AccessKeyId>{access_key}</AccessKeyId><SecretAccessKey>{secret}</SecretAccessKey>\
             <SessionToken>{token}</SessionToken><Expiration>{expiration}</Expiration>\
             </Credentials></AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>"
        )
    }
}

/// A request that came in.
#[derive(Clone, Debug)]
pub struct Request {
    /// What it asked for.
    pub call: Call,
    /// The object, or the prefix of a listing.
    pub key: String,
    /// Path and query, as they were sent.
    pub uri: String,
    /// The headers, with their names in lower case.
    pub headers: Vec<(String, String)>,
    /// The status of the answer; `None` while there is none, or where there never was one.
    pub status: Option<u16>,
}

impl Request {
    /// A header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }
}

/// What does not change while a server runs.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) domain: String,
    pub(crate) region: String,
    pub(crate) object_lock: bool,
}

/// What a server knows: its buckets, whom it lets in, and what is to go wrong.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) settings: Settings,
    buckets: Mutex<BTreeMap<String, Bucket>>,
    script: Mutex<Script>,
    requests: Mutex<Vec<Request>>,
    credentials: Mutex<Vec<Credentials>>,
    policy: Mutex<Option<Policy>>,
    page_size: AtomicUsize,
    clock_ahead_seconds: AtomicI64,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl State {
    pub(crate) fn new(settings: Settings) -> Self {
        Self {
            settings,
            buckets: Mutex::default(),
            script: Mutex::default(),
            requests: Mutex::default(),
            credentials: Mutex::default(),
            policy: Mutex::default(),
            page_size: AtomicUsize::new(1000),
            clock_ahead_seconds: AtomicI64::new(0),
        }
    }

    pub(crate) fn buckets(&self) -> MutexGuard<'_, BTreeMap<String, Bucket>> {
        lock(&self.buckets)
    }

    pub(crate) fn script(&self) -> MutexGuard<'_, Script> {
        lock(&self.script)
    }

    pub(crate) fn requests(&self) -> MutexGuard<'_, Vec<Request>> {
        lock(&self.requests)
    }

    pub(crate) fn set_credentials(&self, all: Vec<Credentials>) {
        *lock(&self.credentials) = all;
    }

    /// The credentials with this name, if they are good.
    pub(crate) fn credentials(&self, access_key: &str) -> Option<Credentials> {
        lock(&self.credentials).iter().find(|known| known.access_key == access_key).cloned()
    }

    pub(crate) fn set_policy(&self, policy: Option<Policy>) {
        *lock(&self.policy) = policy;
    }

    /// Whether `action` is allowed on an object, or on the bucket itself where `key` is empty.
    pub(crate) fn allows(&self, action: &str, bucket: &str, key: &str) -> bool {
        let slash = if key.is_empty() { "" } else { "/" };
        let resource = format!("arn:aws:s3:::{bucket}{slash}{key}");
        lock(&self.policy).as_ref().is_none_or(|policy| policy.allows(action, &resource))
    }

    pub(crate) fn page_size(&self) -> usize {
        self.page_size.load(Ordering::Relaxed)
    }

    pub(crate) fn set_page_size(&self, keys: usize) {
        self.page_size.store(keys, Ordering::Relaxed);
    }

    pub(crate) fn clock_ahead_seconds(&self) -> i64 {
        self.clock_ahead_seconds.load(Ordering::Relaxed)
    }

    pub(crate) fn set_clock_ahead_seconds(&self, seconds: i64) {
        self.clock_ahead_seconds.store(seconds, Ordering::Relaxed);
    }
}
