//! Connections, and what goes wrong on them.

use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body_util::BodyExt;
use http_body_util::combinators::BoxBody;
use hyper::body::{Body as HttpBody, Frame, Incoming};
use hyper::http::request::Parts;
use hyper::{HeaderMap, StatusCode, header};
use hyper_util::rt::TokioIo;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use pgark_system::clock;
use s3s::service::{S3Service, S3ServiceBuilder};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use super::call::{Call, Target};
use super::fault::{Effect, Refusal};
use super::service::{Inject, Service};
use super::state::{Request, State};

type Answer = hyper::Response<BoxBody<Bytes, io::Error>>;

/// How far a client's clock may be off, in seconds, as S3 has it.
const TOLERATED_SKEW: i64 = 15 * 60;

/// Takes connections until the runtime ends.
pub(crate) async fn serve(state: Arc<State>, listener: TcpListener, tls: Option<TlsAcceptor>) {
    let service = Service(Arc::clone(&state));
    let mut builder = S3ServiceBuilder::new(service.clone());
    builder.set_auth(service.clone());
    builder.set_access(service.clone());
    builder.set_host(service);
    let door = Door { state, service: builder.build() };
    loop {
        // What fails here is a client that is gone again.
        let Ok((stream, _)) = listener.accept().await else { continue };
        tokio::spawn(door.clone().welcome(stream, tls.clone()));
    }
}

/// Where requests come in.
#[derive(Clone)]
struct Door {
    state: Arc<State>,
    service: S3Service,
}

/// The connection is to be closed without an answer.
fn broken() -> io::Error {
    io::Error::other("closed by an injected fault")
}

impl Door {
    async fn welcome(self, stream: TcpStream, tls: Option<TlsAcceptor>) {
        // Small answers must not wait for more to come.
        let _only_slower = stream.set_nodelay(true);
        match tls {
            None => self.converse(stream).await,
            // A client that does not believe the certificate ends the conversation here.
            Some(tls) => {
                if let Ok(stream) = tls.accept(stream).await {
                    self.converse(stream).await;
                }
            }
        }
    }

    async fn converse(self, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) {
        let answer = hyper::service::service_fn(move |request| {
            let door = self.clone();
            async move { door.answer(request).await }
        });
        // That the connection ended in the middle is often what the test is about.
        let _ended = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), answer).await;
    }

    async fn answer(&self, request: hyper::Request<Incoming>) -> io::Result<Answer> {
        let (parts, body) = request.into_parts();
        let target = Target::of(&parts.method, &parts.uri, &parts.headers, &self.state.settings.domain);
        let number = self.note(&parts, &target);
        let has_condition = parts.headers.contains_key("if-match") || parts.headers.contains_key("if-none-match");
        let effect = self.state.script().next_effect(&target, has_condition);
        let mut answer = self.respond(parts, body, target.call, effect).await?;
        answer.headers_mut().insert("x-amz-request-id", "TESTREQUEST00001".parse().expect("letters and digits"));
        if let Some(request) = self.state.requests().get_mut(number) {
            request.status = Some(answer.status().as_u16());
        }
        Ok(answer)
    }

    /// Notes the request; gives its number.
    fn note(&self, parts: &Parts, target: &Target) -> usize {
        let text = |value: &header::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
        let headers = parts.headers.iter().map(|(name, value)| (name.as_str().to_owned(), text(value)));
        let mut requests = self.state.requests();
        requests.push(Request {
            call: target.call,
            key: target.key.clone(),
            uri: parts.uri.to_string(),
            headers: headers.collect(),
            status: None,
        });
        requests.len() - 1
    }

    async fn respond(&self, parts: Parts, body: Incoming, call: Call, effect: Option<Effect>) -> io::Result<Answer> {
        let is_head = parts.method == hyper::Method::HEAD;
        match effect {
            Some(Effect::RefuseEarly(refusal)) => {
                let mut answer = refuse(refusal, is_head);
                answer.headers_mut().insert(header::CONNECTION, header::HeaderValue::from_static("close"));
                return Ok(answer);
            }
            Some(Effect::CutRequest(bytes)) => return cut(body, bytes).await,
            _ => {}
        }
        let mut content = body.collect().await.map_err(io::Error::other)?.to_bytes();
        match &effect {
            Some(Effect::DamageRequest) => content = flip_byte(&content, 0),
            Some(Effect::Refuse(refusal) | Effect::RefuseConditions(refusal)) => return Ok(refuse(*refusal, is_head)),
            Some(Effect::Delay(time)) => tokio::time::sleep(*time).await,
            _ => {}
        }
        if let Some(refusal) = self.objection(&parts.headers) {
            return Ok(self.refuse_with_clock(refusal, is_head));
        }
        if needs_sum(call) && !has_sum(&parts.headers) {
            return Ok(refuse(Refusal { status: 400, code: "InvalidRequest" }, is_head));
        }
        let mut request = hyper::Request::from_parts(parts, s3s::Body::from(content));
        if let Some(effect) = effect.clone() {
            request.extensions_mut().insert(Inject(effect));
        }
        let answer = self.service.call(request).await.map_err(|error| io::Error::other(format!("{error:?}")))?;
        spoil(answer, effect, is_head).await
    }

    /// Why the request is refused before anybody looks at its signature.
    fn objection(&self, headers: &HeaderMap) -> Option<Refusal> {
        let text = |name: &str| headers.get(name)?.to_str().ok();
        if let Some(sent) = text("x-amz-date").and_then(parse_time) {
            let off = self.now().duration_since(sent).abs();
            if off > SignedDuration::from_secs(TOLERATED_SKEW) {
                return Some(Refusal::TOO_SKEWED);
            }
        }
        let credential = text("authorization")?.split_once("Credential=")?.1;
        let scope: Vec<&str> = credential.split([',', ' ']).next()?.split('/').collect();
        let [access_key, _day, region, ..] = scope[..] else { return None };
        if region != self.state.settings.region {
            return Some(Refusal::WRONG_REGION);
        }
        let token = text("x-amz-security-token");
        let known = self.state.credentials(access_key)?;
        (known.token.as_deref() != token).then_some(Refusal::EXPIRED_TOKEN)
    }

    fn now(&self) -> Timestamp {
        clock::now() + SignedDuration::from_secs(self.state.clock_ahead_seconds())
    }

    /// A refusal that says what time it is, and which region this is, as S3 does.
    fn refuse_with_clock(&self, refusal: Refusal, is_head: bool) -> Answer {
        let mut answer = refuse(refusal, is_head);
        let date = self.now().strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
        answer.headers_mut().insert(header::DATE, date.parse().expect("letters and digits"));
        if refusal == Refusal::WRONG_REGION {
            let region = self.state.settings.region.parse().expect("letters and digits");
            answer.headers_mut().insert("x-amz-bucket-region", region);
        }
        answer
    }
}

/// S3 wants a checksum of the body with these.
fn needs_sum(call: Call) -> bool {
    call == Call::DeleteObjects
}

fn has_sum(headers: &HeaderMap) -> bool {
    headers.keys().any(|name| name == "content-md5" || name.as_str().starts_with("x-amz-checksum-"))
}

/// `20261122T182124Z`
fn parse_time(text: &str) -> Option<Timestamp> {
    let time = DateTime::strptime("%Y%m%dT%H%M%SZ", text).ok()?;
    Some(time.to_zoned(TimeZone::UTC).ok()?.timestamp())
}

/// Reads so many bytes of the body, and gives up the connection.
async fn cut(mut body: Incoming, bytes: usize) -> io::Result<Answer> {
    let mut read = 0;
    while read < bytes {
        let Some(Ok(frame)) = body.frame().await else { break };
        read += frame.data_ref().map_or(0, Bytes::len);
    }
    Err(broken())
}

fn refuse(refusal: Refusal, is_head: bool) -> Answer {
    let Refusal { status, code } = refusal;
    let (kind, text) = match code {
        "" => ("text/html", "<html><body><h1>The server is having a bad day</h1></body></html>".to_owned()),
        _ => ("application/xml", error_document(code)),
    };
    let body = if is_head { Bytes::new() } else { Bytes::from(text) };
    hyper::Response::builder()
        .status(status)
        .header(header::CONTENT_TYPE, kind)
        .body(whole(body))
        .expect("status and header are valid")
}

fn error_document(code: &str) -> String {
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{code}</Code><Message>as the test \
         says</Message><RequestId>TESTREQUEST00001</RequestId></Error>"
    )
}

fn whole(bytes: Bytes) -> BoxBody<Bytes, io::Error> {
    http_body_util::Full::new(bytes).map_err(|never: Infallible| match never {}).boxed()
}

/// The same with one byte changed, if there is any.
fn flip_byte(content: &[u8], offset: usize) -> Bytes {
    let mut bytes = content.to_vec();
    if !bytes.is_empty() {
        let position = offset % bytes.len();
        bytes[position] ^= 0xff;
    }
    bytes.into()
}

/// What becomes of an answer under `effect`.
async fn spoil(answer: s3s::HttpResponse, effect: Option<Effect>, is_head: bool) -> io::Result<Answer> {
    let (mut parts, body) = answer.into_parts();
    let mut content = body.collect().await.map_err(|error| io::Error::other(error.to_string()))?.to_bytes();
    let succeeded = parts.status.is_success();
    match effect {
        Some(Effect::LoseAnswer) => return Err(broken()),
        Some(Effect::Hang) => std::future::pending().await,
        Some(Effect::RefuseAfterwards(refusal)) if succeeded => return Ok(refuse(refusal, is_head)),
        Some(Effect::RefuseInside(refusal)) if succeeded => {
            parts.status = StatusCode::OK;
            parts.headers.remove(header::CONTENT_LENGTH);
            content = error_document(refusal.code).into();
        }
        Some(Effect::FlipByte(offset)) => content = flip_byte(&content, offset),
        Some(Effect::CutAnswer(bytes) | Effect::StallAnswer(bytes)) => {
            parts.headers.insert(header::CONTENT_LENGTH, content.len().into());
            let begun = content.slice(..bytes.min(content.len()));
            let stalls = matches!(effect, Some(Effect::StallAnswer(_)));
            return Ok(hyper::Response::from_parts(
                parts,
                Interrupted { begun: Some(begun), flushed: false, stalls }.boxed(),
            ));
        }
        _ => {}
    }
    Ok(hyper::Response::from_parts(parts, whole(content)))
}

/// A body that begins and does not end.
struct Interrupted {
    begun: Option<Bytes>,
    flushed: bool,
    stalls: bool,
}

impl HttpBody for Interrupted {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        if let Some(begun) = self.begun.take().filter(|begun| !begun.is_empty()) {
            return Poll::Ready(Some(Ok(Frame::data(begun))));
        }
        if self.stalls {
            return Poll::Pending;
        }
        // What was given is sent when nothing more is to be had, so there must be such a moment before the end.
        if !self.flushed {
            self.flushed = true;
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(Some(Err(broken())))
    }
}
