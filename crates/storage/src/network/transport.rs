//! Requests and answers over HTTP.
//!
//! Answers are read whole, with a limit on their size and on the time without progress, and an answer that is no success
//! becomes an error with what the service says in it. So whoever asks has to do with whole answers or one kind of error.

use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::header::RANGE;
use http::{HeaderMap, Method, StatusCode, Uri};
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Incoming};
use hyper_rustls::{FixedServerNameResolver, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector as StoreConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpResponseBody,
    HttpService,
};
use pgark_system::clock::Stopwatch;
use pgark_system::pace::Pacer;
use pgark_system::termination::Terminated;
use rustls::pki_types::ServerName;
use tower_service::Service;

use super::endpoint::Endpoint;
use super::failure::{Failure, Retry};
use super::pace::{Pace, PacedBody};
use super::tls::{self, Trust};
use super::traffic;
use crate::error::{ErrorKind, Origin};

/// The longest time to make a connection, of which several may be tried within the io-timeout.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// A request with a body may take longer than the io-timeout to be answered, by this many bytes a second.
const SLOWEST_UPLOAD: usize = 128 * 1024;
/// How long an unused connection is kept; services close theirs after some 20 seconds at the earliest.
const IDLE: Duration = Duration::from_secs(15);
/// The largest answer to a request that says nothing of its size: a page of a listing, or an error.
const ANSWER_LIMIT: u64 = 16 << 20;
/// How much is allocated for an answer before any of it has come.
const FIRST_ALLOCATION: u64 = 8 << 20;

/// The most bytes that the answer to a request may have; an extension of the request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AnswerLimit(pub(crate) u64);

/// How to reach a service.
#[derive(Clone, Debug)]
pub(crate) struct Route {
    /// Where to connect to in place of what requests name.
    pub(crate) proxy: Option<Endpoint>,
    /// Whose certificates are trusted; `None` where there is no TLS.
    pub(crate) trust: Option<Trust>,
    /// How long a connection may make no progress.
    pub(crate) io_timeout: Duration,
    /// At what pace bodies are sent and received.
    pub(crate) pacer: Pacer,
}

/// A service's answer that is no success.
#[derive(Debug)]
pub(crate) struct Rejection {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl fmt::Display for Rejection {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "the answer was {}", self.status)
    }
}

impl StdError for Rejection {}

/// Sends requests, over connections that it keeps.
#[derive(Clone, Debug)]
pub(crate) struct Transport {
    client: Client<HttpsConnector<Connector>, PacedBody>,
    io_timeout: Duration,
    pacer: Pacer,
}

impl Transport {
    pub(crate) fn new(route: &Route) -> Result<Self, Failure> {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(CONNECT_TIMEOUT.min(route.io_timeout)));
        tcp.set_keepalive(Some(route.io_timeout));
        tcp.set_tcp_user_timeout(Some(route.io_timeout));
        let connector = Connector { tcp, proxy: route.proxy.clone() };
        let trusted = tls::configure(route.trust.as_ref())?;
        let builder = HttpsConnectorBuilder::new().with_tls_config(trusted).https_or_http();
        let builder = match &route.proxy {
            Some(proxy) => builder.with_server_name_resolver(FixedServerNameResolver::new(server_name(proxy)?)),
            None => builder,
        };
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .build(builder.enable_http1().wrap_connector(connector));
        Ok(Self { client, io_timeout: route.io_timeout, pacer: route.pacer.clone() })
    }

    /// Sends one request and reads its answer, whatever it is.
    async fn exchange(&self, request: HttpRequest) -> Result<(http::response::Parts, Bytes), HttpError> {
        let limit = request.extensions().get().map_or(ANSWER_LIMIT, |AnswerLimit(limit)| *limit);
        let length = request.body().content_length();
        traffic::count_request(length);
        let upload = Duration::from_secs((length / SLOWEST_UPLOAD) as u64);
        let pace = Pace::new(&self.pacer);
        let answer = self.client.request(request.map(|body| PacedBody::new(body, pace.clone())));
        let answer = pace.timeout(self.io_timeout + upload, answer).await.ok_or_else(stalled)?;
        let (head, body) = answer.map_err(|error| unsent(&error))?.into_parts();
        let body = self.read(body, &head, limit, &pace).await?;
        traffic::count_received(body.len());
        Ok((head, body))
    }

    async fn read(
        &self,
        mut body: Incoming,
        head: &http::response::Parts,
        limit: u64,
        pace: &Pace,
    ) -> Result<Bytes, HttpError> {
        let limit = if head.status.is_success() { limit } else { ANSWER_LIMIT };
        let announced = body.size_hint().lower();
        if announced > limit {
            return Err(too_large(announced, limit));
        }
        let mut bytes = Vec::with_capacity(usize::try_from(announced.min(FIRST_ALLOCATION)).unwrap_or(0));
        while let Some(frame) = tokio::time::timeout(self.io_timeout, body.frame()).await.map_err(|_| stalled())? {
            let Ok(data) = frame.map_err(|error| cut(&error))?.into_data() else { continue };
            if bytes.len() as u64 + data.len() as u64 > limit {
                return Err(too_large(bytes.len() as u64 + data.len() as u64, limit));
            }
            bytes.extend_from_slice(&data);
            // While nobody reads the other side can't send more than fits into the buffers on the way.
            pace.hold(data.len()).await.map_err(|terminated| ended(terminated).into_error())?;
        }
        Ok(Bytes::from(bytes))
    }
}

#[async_trait]
impl HttpService for Transport {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        let of_range = request.headers().contains_key(RANGE);
        let stopwatch = Stopwatch::start();
        let result = self.exchange(request).await;
        let milliseconds = stopwatch.elapsed().as_millis();
        match &result {
            Ok((head, body)) => {
                tracing::trace!("{method} {path}: {} with {} bytes in {milliseconds} ms", head.status, body.len());
            }
            Err(error) => tracing::trace!("{method} {path}: {error} in {milliseconds} ms"),
        }
        let (head, body) = result?;
        let status = match head.status {
            // An empty object has no ranges. Some services answer with the whole of it instead of saying so.
            StatusCode::OK if of_range && body.is_empty() => StatusCode::RANGE_NOT_SATISFIABLE,
            status => status,
        };
        if !status.is_success() || (method == Method::POST && is_error_document(&body)) {
            let rejection = Rejection { status, headers: head.headers, body };
            return Err(HttpError::new(HttpErrorKind::Unknown, rejection));
        }
        let body = Full::new(body).map_err(|never| match never {});
        Ok(HttpResponse::from_parts(head, HttpResponseBody::new(body)))
    }
}

/// Whether an answer is an error although its status says that it is none: a service that works long on a request begins
/// to answer before it knows.
fn is_error_document(body: &[u8]) -> bool {
    let start = &body[..body.len().min(512)];
    let text = String::from_utf8_lossy(start);
    let root = text.trim_start_matches('\u{feff}').trim_start();
    let root = match root.strip_prefix("<?") {
        Some(declaration) => declaration.split_once("?>").map_or("", |(_, rest)| rest.trim_start()),
        None => root,
    };
    root.starts_with("<Error>") || root.starts_with("<Error ")
}

impl StoreConnector for Transport {
    fn connect(&self, _options: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(self.clone()))
    }
}

/// Makes connections to what a request names, or to what stands in for it.
#[derive(Clone, Debug)]
struct Connector {
    tcp: HttpConnector,
    proxy: Option<Endpoint>,
}

impl Service<Uri> for Connector {
    type Response = <HttpConnector as Service<Uri>>::Response;
    type Error = <HttpConnector as Service<Uri>>::Error;
    type Future = <HttpConnector as Service<Uri>>::Future;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.tcp.poll_ready(context)
    }

    fn call(&mut self, named: Uri) -> Self::Future {
        let stand_in = self
            .proxy
            .as_ref()
            .and_then(|proxy| format!("{}://{}:{}/", proxy.scheme, proxy.host, proxy.port()).parse().ok());
        self.tcp.call(stand_in.unwrap_or(named))
    }
}

fn server_name(endpoint: &Endpoint) -> Result<ServerName<'static>, Failure> {
    let host = endpoint.host.trim_start_matches('[').trim_end_matches(']');
    ServerName::try_from(host.to_owned())
        .map_err(|_| Failure::new(ErrorKind::Settings, format!("'{host}' can't be the name in a certificate")))
}

/// A request or an answer that did not get through.
#[derive(Debug)]
pub(crate) struct Broken {
    reason: String,
    kind: ErrorKind,
    origin: Origin,
    retry: Retry,
    hint: Option<&'static str>,
}

impl fmt::Display for Broken {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.reason)
    }
}

impl StdError for Broken {}

impl Broken {
    fn new(reason: impl Into<String>, retry: Retry) -> Self {
        Self { reason: reason.into(), kind: ErrorKind::Unavailable, origin: Origin::Here, retry, hint: None }
    }

    fn into_error(self) -> HttpError {
        HttpError::new(HttpErrorKind::Unknown, self)
    }

    pub(crate) fn to_failure(&self) -> Failure {
        let failure = Failure::new(self.kind, self.reason.clone()).origin(self.origin).retry(self.retry);
        match self.hint {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    }
}

fn stalled() -> HttpError {
    Broken::new("it does not answer", Retry::Later).into_error()
}

fn cut(error: &hyper::Error) -> HttpError {
    Broken::new(format!("the answer broke off: {}", innermost(error)), Retry::Later).into_error()
}

/// What was held back when the process was asked to end.
fn ended(terminated: Terminated) -> Broken {
    Broken::new(terminated.to_string(), Retry::Never)
}

fn too_large(size: u64, limit: u64) -> HttpError {
    let broken = Broken::new(format!("it has {size} bytes or more, the limit is {limit}"), Retry::Never);
    Broken { kind: ErrorKind::TooLarge, ..broken }.into_error()
}

/// The error of a request that got no answer.
fn unsent(error: &hyper_util::client::legacy::Error) -> HttpError {
    if let Some(error) = find::<rustls::Error>(error) {
        return untrusted(error).into_error();
    }
    if let Some(terminated) = find::<Terminated>(error) {
        return ended(*terminated).into_error();
    }
    let reason = innermost(error);
    if !error.is_connect() {
        return Broken::new(format!("the connection broke off: {reason}"), Retry::Later).into_error();
    }
    let is_lookup = chain(error).any(|error| error.to_string().starts_with("dns error"));
    let broken = if is_lookup {
        let hint = "check the name in repoN-s3-endpoint or repoN-storage-host, and that this machine can look names up";
        Broken { hint: Some(hint), ..Broken::new(format!("the host is not found: {reason}"), Retry::Unreached) }
    } else {
        Broken::new(format!("no connection: {reason}"), Retry::Unreached)
    };
    Broken { origin: Origin::NoConnection, ..broken }.into_error()
}

/// The error of a connection whose other end is not trusted, or speaks no TLS.
fn untrusted(error: &rustls::Error) -> Broken {
    let (origin, reason, hint) = match error {
        rustls::Error::InvalidCertificate(flaw) => (
            Origin::Certificate,
            format!("its certificate is not trusted: {flaw}"),
            "name the authority that issued it by repoN-storage-ca-file, and make sure that the endpoint's name is the certificate's",
        ),
        rustls::Error::InvalidMessage(_) => (
            Origin::Here,
            format!("it does not speak TLS: {error}"),
            "an endpoint without TLS is written http://host:port",
        ),
        _ => (
            Origin::Here,
            format!("no TLS connection: {error}"),
            "check that the endpoint is the right one and speaks TLS 1.2 or 1.3",
        ),
    };
    Broken { origin, hint: Some(hint), ..Broken::new(reason, Retry::Never) }
}

/// The errors that `error` is made of, outermost first.
pub(crate) fn chain<'a>(error: &'a (dyn StdError + 'static)) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |error| {
        let error: &'a (dyn StdError + 'static) = *error;
        // The source of such an error is its inner error's source; the inner error itself is got at only so.
        match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(inner) => Some(inner as &(dyn StdError + 'static)),
            None => error.source(),
        }
    })
}

/// The first error of a type that `error` is made of.
pub(crate) fn find<'a, T: StdError + 'static>(error: &'a (dyn StdError + 'static)) -> Option<&'a T> {
    chain(error).find_map(|error| error.downcast_ref())
}

fn innermost(error: &(dyn StdError + 'static)) -> String {
    chain(error).last().map_or_else(|| error.to_string(), ToString::to_string)
}
