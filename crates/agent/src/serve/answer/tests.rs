use hyper::header::{AUTHORIZATION, HOST};

use super::*;
use crate::health::tests::{now, well};

fn desk(address: &str, token: Option<&str>) -> Desk {
    let board = Board::new("pgark 1.2.3", "db1", now());
    board.change(|status| status.stanzas = vec![well().0]);
    Desk::new(board, address.parse().unwrap(), token.map(|token| Token::parse(token).unwrap()))
}

fn request(method: &str, path: &str, headers: &[(HeaderName, &str)]) -> Request<()> {
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(name, *value);
    }
    request.body(()).unwrap()
}

fn status(desk: &Desk, method: &str, path: &str, headers: &[(HeaderName, &str)]) -> u16 {
    desk.answer(&request(method, path, headers)).status().as_u16()
}

fn local() -> (HeaderName, &'static str) {
    (HOST, "localhost:7433")
}

#[test]
fn there_are_a_page_metrics_and_an_api() {
    let desk = desk("127.0.0.1", None);
    for (path, kind) in [
        ("/", "text/html; charset=utf-8"),
        ("/metrics", "text/plain; version=0.0.4; charset=utf-8"),
        ("/metrics?x=1", "text/plain; version=0.0.4; charset=utf-8"),
        ("/api/status", "application/json"),
        ("/api/openapi.json", "application/json"),
    ] {
        let answer = desk.answer(&request("GET", path, &[local()]));
        assert_eq!(
            (answer.status().as_u16(), &answer.headers()[header::CONTENT_TYPE]),
            (200, &HeaderValue::from_static(kind))
        );
        let policy = answer.headers()[header::CONTENT_SECURITY_POLICY].to_str().unwrap();
        assert!(policy.starts_with("default-src 'none'; script-src 'sha256-"));
    }
    assert_eq!(status(&desk, "GET", "/etc/passwd", &[local()]), 404);
    assert_eq!(status(&desk, "HEAD", "/metrics", &[local()]), 200);
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "TRACE"] {
        assert_eq!(status(&desk, method, "/", &[local()]), 405, "{method}");
    }
}

#[test]
fn a_page_of_somebody_else_can_not_ask_by_a_name_that_leads_here() {
    let four = desk("127.0.0.1", None);
    for host in ["localhost", "LocalHost:80", "127.0.0.1", "127.0.0.1:7433"] {
        assert_eq!(status(&four, "GET", "/metrics", &[(HOST, host)]), 200, "{host}");
    }
    for host in ["evil.example", "localhost.evil.example:7433", "127.0.0.1.evil.example", "127.0.0.2", "", "a b"] {
        assert_eq!(status(&four, "GET", "/metrics", &[(HOST, host)]), 421, "{host}");
    }
    assert_eq!(status(&four, "GET", "/metrics", &[]), 421);
    assert_eq!(status(&desk("::1", None), "GET", "/metrics", &[(HOST, "[::1]:7433")]), 200);
    // Elsewhere it is the token that keeps others out.
    assert_eq!(status(&desk("0.0.0.0", None), "GET", "/metrics", &[(HOST, "db1.example")]), 200);
}

#[test]
fn a_token_is_asked_for_wherever_there_is_one() {
    let desk = desk("192.0.2.1", Some("0123456789abcdef"));
    let basic = |pair: &str| format!("Basic {}", BASE64.encode(pair));
    for path in ["/", "/metrics", "/api/status", "/api/openapi.json", "/nothing"] {
        let refused = |value: &str| {
            let answer = desk.answer(&request("GET", path, &[(AUTHORIZATION, value)]));
            answer.status() == 401 && answer.headers().contains_key(header::WWW_AUTHENTICATE)
        };
        assert_eq!(status(&desk, "GET", path, &[]), 401);
        for value in ["", "Bearer", "Bearer ", "Bearer 0123456789abcdee", "0123456789abcdef", "Basic ?", "Digest x"] {
            assert!(refused(value), "{value}");
        }
        assert!(refused(&basic("0123456789abcdef:")) && refused(&basic("0123456789abcdef")));
        let found = if path == "/nothing" { 404 } else { 200 };
        for value in ["Bearer 0123456789abcdef", "bearer 0123456789abcdef", &basic("any:0123456789abcdef")] {
            assert_eq!(status(&desk, "GET", path, &[(AUTHORIZATION, value)]), found, "{value}");
        }
    }
}
