use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};

use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned, crypto::ring};
use zeroize::Zeroizing;

use super::*;
use crate::health::tests::now;

const TOKEN: &str = "0123456789abcdef";

fn board() -> Board {
    Board::new("pgark 1.2.3", "db1", now())
}

fn plain() -> ServeSettings {
    ServeSettings { address: SocketAddr::from(([127, 0, 0, 1], 0)), tls: None, token: None }
}

/// Asks for the metrics, with more lines in the head; gives the whole answer.
fn ask(mut stream: impl Read + Write, more: &str) -> io::Result<String> {
    write!(stream, "GET /metrics HTTP/1.1\r\nHost: localhost\r\n{more}\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

fn connect(server: &Server) -> TcpStream {
    let stream = TcpStream::connect(server.address()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    stream
}

#[test]
fn one_request_is_answered_on_each_connection() {
    let server = Server::start(&plain(), board()).unwrap();
    let answer = ask(connect(&server), "").unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.contains("pgark_agent_info{"), "{answer}");
    assert!(answer.contains("connection: close"), "{answer}");
}

#[test]
fn clients_that_say_nothing_are_in_nobodys_way_for_long() {
    let server = Server::start(&plain(), board()).unwrap();
    let silent: Vec<_> = (0..CONNECTIONS).map(|_| connect(&server)).collect();
    // All places are taken; they are free again when the time for a request is over.
    let answer = ask(connect(&server), "").unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    drop(silent);
}

#[test]
fn a_request_that_is_too_large_is_refused() {
    let server = Server::start(&plain(), board()).unwrap();
    let large = format!("X: {}\r\n", "x".repeat(2 * REQUEST_BYTES));
    // The connection may be closed before all of it was sent.
    if let Ok(answer) = ask(connect(&server), &large) {
        assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
    }
    assert!(ask(connect(&server), "").unwrap().starts_with("HTTP/1.1 200 OK\r\n"));
}

#[test]
fn an_address_is_taken_and_free_again() {
    let server = Server::start(&plain(), board()).unwrap();
    let same = ServeSettings { address: server.address(), ..plain() };
    let refused = Server::start(&same, board()).unwrap_err().full_message();
    assert!(refused.starts_with("unable to listen on 127.0.0.1:"), "{refused}");
    drop(server);
    Server::start(&same, board()).unwrap();
}

#[test]
fn with_a_certificate_only_tls_is_spoken_and_only_to_who_knows_the_token() {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let (certificates, key) = (made.cert.pem().into_bytes(), made.signing_key.serialize_pem().into_bytes());
    let tls = Some(TlsSettings { certificates: certificates.clone(), key: Zeroizing::new(key) });
    let token = Token::parse(TOKEN).ok();
    let server = Server::start(&ServeSettings { tls, token, ..plain() }, board()).unwrap();

    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(&certificates).unwrap()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let config = Arc::new(config);
    let secure = |more: &str| {
        let client = ClientConnection::new(Arc::clone(&config), "localhost".try_into().unwrap()).unwrap();
        ask(StreamOwned::new(client, connect(&server)), more).unwrap()
    };
    assert!(secure("").starts_with("HTTP/1.1 401 "));
    assert!(secure("Authorization: Bearer 0123456789abcdee\r\n").starts_with("HTTP/1.1 401 "));
    let answer = secure(&format!("Authorization: Bearer {TOKEN}\r\n"));
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.contains("pgark_agent_info{"), "{answer}");
    let without = ask(connect(&server), &format!("Authorization: Bearer {TOKEN}\r\n"));
    assert!(!without.is_ok_and(|answer| answer.contains("pgark_agent_info")), "it answers without TLS");
}

#[test]
fn a_certificate_that_is_none_is_refused() {
    let tls = Some(TlsSettings { certificates: b"nothing".to_vec(), key: Zeroizing::new(b"nothing".to_vec()) });
    let refused = Server::start(&ServeSettings { tls, ..plain() }, board()).unwrap_err().full_message();
    assert!(refused.starts_with("unable to use agent-tls-"), "{refused}");
}
