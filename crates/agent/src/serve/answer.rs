//! What is answered to a request.

use std::net::IpAddr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::http::uri::Authority;
use hyper::{Method, Request, Response, StatusCode};
use pgark_system::clock;

use super::settings::Token;
use crate::status::Board;
use crate::{api, metrics, page};

/// Where requests are answered.
#[derive(Debug)]
pub(super) struct Desk {
    board: Board,
    own_address: IpAddr,
    token: Option<Token>,
    policy: String,
}

/// The text of an answer, and of which type it is.
type Content = (&'static str, Bytes);

const JSON: &str = "application/json";

impl Desk {
    pub(super) fn new(board: Board, own_address: IpAddr, token: Option<Token>) -> Self {
        Self { board, own_address, token, policy: page::content_security_policy() }
    }

    /// Answers a request. Nothing of its body is read.
    pub(super) fn answer<B>(&self, request: &Request<B>) -> Response<Full<Bytes>> {
        let (status, (kind, body)) = match self.decide(request) {
            Ok(content) => (StatusCode::OK, content),
            Err((status, reason)) => (status, error(reason)),
        };
        // hyper leaves the body out where the request is HEAD, but tells its length.
        let mut response = Response::new(Full::new(body));
        *response.status_mut() = status;
        let fixed: [(HeaderName, &str); 8] = [
            (header::CONTENT_TYPE, kind),
            (header::CACHE_CONTROL, "no-store"),
            (header::CONTENT_SECURITY_POLICY, &self.policy),
            (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
            (header::X_FRAME_OPTIONS, "DENY"),
            (header::REFERRER_POLICY, "no-referrer"),
            (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
            (header::ALLOW, "GET, HEAD"),
        ];
        for (name, value) in fixed {
            if let Ok(value) = HeaderValue::from_str(value) {
                response.headers_mut().insert(name, value);
            }
        }
        if status == StatusCode::UNAUTHORIZED {
            // Browsers ask for a user and a password then; the password is the token.
            let ask = HeaderValue::from_static("Basic realm=\"pgark agent\", charset=\"UTF-8\"");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, ask);
        }
        response
    }

    fn decide<B>(&self, request: &Request<B>) -> Result<Content, (StatusCode, &'static str)> {
        let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
        if self.own_address.is_loopback() && !host.is_some_and(|host| self.is_own_name(host)) {
            return Err((StatusCode::MISDIRECTED_REQUEST, "ask by the name localhost, or by the address"));
        }
        let said = request.headers().get(header::AUTHORIZATION).map(HeaderValue::as_bytes);
        if self.token.as_ref().is_some_and(|token| !said.and_then(token_in).is_some_and(|said| token.is(&said))) {
            return Err((StatusCode::UNAUTHORIZED, "a token is needed, as bearer token or as password"));
        }
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            return Err((StatusCode::METHOD_NOT_ALLOWED, "this only shows: GET and HEAD"));
        }
        match request.uri().path() {
            "/" => Ok(("text/html; charset=utf-8", Bytes::from_static(page::HTML.as_bytes()))),
            "/metrics" => Ok((metrics::CONTENT_TYPE, metrics::render(&self.board.read(), clock::now()).into())),
            "/api/status" => {
                let document = serde_json::to_vec(&api::document(self.board.read(), clock::now()));
                let failed = (StatusCode::INTERNAL_SERVER_ERROR, "the status can't be written as JSON");
                Ok((JSON, document.map_err(|_| failed)?.into()))
            }
            "/api/openapi.json" => Ok((JSON, Bytes::from_static(api::OPENAPI.as_bytes()))),
            _ => Err((StatusCode::NOT_FOUND, "there are /, /metrics, /api/status and /api/openapi.json")),
        }
    }

    /// Whether a request means this host by its `Host`. A page of somebody else whose name was made to lead here has its
    /// own name in there.
    fn is_own_name(&self, host: &str) -> bool {
        let Ok(authority) = host.parse::<Authority>() else { return false };
        let name = authority.host().trim_start_matches('[').trim_end_matches(']');
        name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>() == Ok(self.own_address)
    }
}

fn error(reason: &str) -> Content {
    (JSON, serde_json::json!({ "error": reason }).to_string().into())
}

/// The token that an `Authorization` carries: as it is, or as the password of any user.
fn token_in(authorization: &[u8]) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(authorization).ok()?;
    let (scheme, rest) = text.split_once(' ')?;
    let rest = rest.trim();
    if scheme.eq_ignore_ascii_case("bearer") {
        return Some(rest.as_bytes().to_vec());
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let pair = BASE64.decode(rest).ok()?;
    let colon = pair.iter().position(|byte| *byte == b':')?;
    Some(pair[colon + 1..].to_vec())
}

#[cfg(test)]
mod tests;
