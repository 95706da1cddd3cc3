//! An S3 server in the test's own process.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

use super::call::Call;
use super::certificate;
use super::fault::Fault;
use super::objects::{Bucket, Condition, Generated, Object};
use super::policy::Policy;
use super::state::{Credentials, Request, Settings, State};
use super::wire;
use crate::Scratch;

/// The name that a server has beside its address. It can't be looked up: clients must be told where to connect to.
const DOMAIN: &str = "s3.test";

const REGION: &str = "eu-test-1";

/// An S3 server that checks signatures, keeps conditions as one step, and fails as told. It ends with this value.
#[derive(Debug)]
pub struct S3Server {
    state: Arc<State>,
    credentials: Credentials,
    port: u16,
    authority: Option<PathBuf>,
    runtime: Option<Runtime>,
    _scratch: Scratch,
}

/// What a server is to be like.
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct S3ServerBuilder {
    https: bool,
    object_lock: bool,
    names: Vec<String>,
}

impl S3ServerBuilder {
    /// With TLS, and a certificate of an authority of its own for its domain, whatever is below it, and its address.
    pub fn https(self) -> Self {
        let names = [DOMAIN.to_owned(), format!("*.{DOMAIN}"), "localhost".to_owned(), "127.0.0.1".to_owned()];
        Self { https: true, names: names.into(), ..self }
    }

    /// With TLS, and a certificate for another name.
    pub fn https_for(self, name: &str) -> Self {
        Self { https: true, names: vec![name.to_owned()], ..self }
    }

    /// With buckets that have Object Lock on, which take nothing without a checksum.
    pub fn object_lock(self) -> Self {
        Self { object_lock: true, ..self }
    }

    /// Starts it with one empty bucket.
    pub fn start(self) -> S3Server {
        let scratch = Scratch::new();
        let credentials = Credentials::new("Test");
        let settings = Settings { domain: DOMAIN.to_owned(), region: REGION.to_owned(), object_lock: self.object_lock };
        let state = Arc::new(State::new(settings));
        state.set_credentials(vec![credentials.clone()]);
        let certificate = self.https.then(|| certificate::make(&self.names));
        let authority = certificate.as_ref().map(|made| scratch.write("ca.crt", &made.authority));
        let acceptor = certificate.map(|made| made.acceptor);

        let mut builder = tokio::runtime::Builder::new_multi_thread();
        let runtime = builder.worker_threads(2).enable_all().build().expect("threads can be started");
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).expect("there is a free port");
        let port = listener.local_addr().expect("it listens").port();
        runtime.spawn(wire::serve(Arc::clone(&state), listener, acceptor));
        let server = S3Server { state, credentials, port, authority, runtime: Some(runtime), _scratch: scratch };
        server.create_bucket(S3Server::BUCKET);
        server
    }
}

impl S3Server {
    /// The bucket that is there from the beginning.
    pub const BUCKET: &str = "bucket";

    /// What a server is to be like, beginning with one over plain HTTP.
    pub fn builder() -> S3ServerBuilder {
        S3ServerBuilder::default()
    }

    /// Starts a server over plain HTTP.
    pub fn start() -> Self {
        Self::builder().start()
    }

    /// The port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// `http://127.0.0.1:port` or `https://127.0.0.1:port`
    pub fn url(&self) -> String {
        let scheme = if self.authority.is_some() { "https" } else { "http" };
        format!("{scheme}://127.0.0.1:{}", self.port)
    }

    /// The name it has: `s3.test`. A bucket may also be addressed as `bucket.s3.test`.
    pub fn domain(&self) -> &str {
        &self.state.settings.domain
    }

    /// The region it is in.
    pub fn region(&self) -> &str {
        &self.state.settings.region
    }

    /// The certificate of its authority, in a file that the test user can read. Panics where it has none.
    #[track_caller]
    pub fn authority(&self) -> &Path {
        self.authority.as_deref().expect("the server has TLS")
    }

    /// The credentials that are good from the beginning.
    pub fn credentials(&self) -> &Credentials {
        &self.credentials
    }

    /// From now on these credentials are good, and no others.
    pub fn set_credentials(&self, all: &[Credentials]) {
        self.state.set_credentials(all.to_vec());
    }

    /// From now on only what the policy allows is allowed.
    pub fn set_policy(&self, policy: Policy) {
        self.state.set_policy(Some(policy));
    }

    /// From now on everything is allowed, as at the beginning.
    pub fn clear_policy(&self) {
        self.state.set_policy(None);
    }

    /// From now on a page of a listing has so many names at most.
    pub fn set_page_size(&self, keys: usize) {
        self.state.set_page_size(keys);
    }

    /// From now on the server's clock is ahead of the client's.
    pub fn set_clock_ahead(&self, ahead: Duration) {
        self.state.set_clock_ahead_seconds(i64::try_from(ahead.as_secs()).expect("not that far"));
    }

    /// Creates a bucket, which must not exist.
    #[track_caller]
    pub fn create_bucket(&self, name: &str) {
        let before = self.state.buckets().insert(name.to_owned(), Bucket::default());
        assert!(before.is_none(), "there is a bucket '{name}'");
    }

    /// Adds a fault to the script. Where several meet one request, the first added has its effect.
    pub fn inject(&self, fault: Fault) {
        self.state.script().faults.push(fault);
    }

    /// Forgets all faults.
    pub fn heal(&self) {
        self.state.script().faults.clear();
    }

    /// How often faults had their effect. A test that injects one asserts that it did.
    pub fn fired(&self) -> usize {
        self.state.script().fired
    }

    /// The requests so far, in the order in which they came.
    pub fn requests(&self) -> Vec<Request> {
        self.state.requests().clone()
    }

    /// Forgets the requests so far.
    pub fn forget_requests(&self) {
        self.state.requests().clear();
    }

    /// How many requests of one kind there were so far.
    pub fn count(&self, call: Call) -> usize {
        self.state.requests().iter().filter(|request| request.call == call).count()
    }

    /// The names of all objects of [`Self::BUCKET`], ascending.
    pub fn keys(&self) -> Vec<String> {
        self.with_bucket(|bucket| bucket.keys())
    }

    /// An object's content.
    pub fn object(&self, key: &str) -> Option<Bytes> {
        self.with_bucket(|bucket| Some(bucket.get(key)?.content))
    }

    /// Stores an object, whatever the faults.
    pub fn put(&self, key: &str, content: impl Into<Bytes>) {
        let stored = self.with_bucket(|bucket| bucket.put(key, Object::new(content.into()), &Condition::default()));
        stored.expect("there is no condition");
    }

    /// Removes an object, whatever the faults.
    pub fn remove(&self, key: &str) {
        self.with_bucket(|bucket| bucket.remove(key));
    }

    /// Makes up empty objects in the bucket beside those it has.
    pub fn generate(&self, generated: Generated) {
        self.with_bucket(|bucket| bucket.generated = Some(generated));
    }

    /// How many uploads were begun and neither completed nor aborted.
    pub fn unfinished_uploads(&self) -> usize {
        self.with_bucket(|bucket| bucket.uploads.len())
    }

    fn with_bucket<T>(&self, act: impl FnOnce(&mut Bucket) -> T) -> T {
        act(self.state.buckets().get_mut(Self::BUCKET).expect("it is there from the beginning"))
    }
}

impl Drop for S3Server {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // A connection may be held open by a fault: nobody waits for it.
            runtime.shutdown_background();
        }
    }
}
