//! Where to listen, and who may ask.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use pgark_engine::{Error, ErrorKind};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use zeroize::Zeroizing;

/// How many characters a token has at least.
const TOKEN_LENGTH: usize = 16;

/// Where to listen, and who may ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServeSettings {
    /// The address.
    pub address: SocketAddr,
    /// The certificate; plain HTTP without.
    pub tls: Option<TlsSettings>,
    /// What clients must know, if anything.
    pub token: Option<Token>,
}

impl ServeSettings {
    /// Refuses to show to others what is not protected, and a certificate that is none: rather before an agent begins, or
    /// goes on with other settings, than when it has given up what it had.
    ///
    /// # Errors
    /// [`ErrorKind::OptionInvalid`], [`ErrorKind::Crypto`]
    pub fn check(&self) -> Result<(), Error> {
        self.tls.as_ref().map(TlsSettings::acceptor).transpose()?;
        let missing = match (self.tls.is_some(), self.token.is_some()) {
            _ if self.address.ip().is_loopback() => return Ok(()),
            (true, true) => return Ok(()),
            (false, true) => "agent-tls-cert-file and agent-tls-key-file",
            (true, false) => "agent-token-file",
            (false, false) => "agent-tls-cert-file, agent-tls-key-file and agent-token-file",
        };
        let message = format!("agent-listen={} can be reached by other hosts, and needs {missing}", self.address);
        Err(Error::new(ErrorKind::OptionInvalid, message)
            .hint("without them listen on 127.0.0.1 or [::1], and put a proxy in front that has them"))
    }
}

/// A certificate and its key.
#[derive(Clone, PartialEq, Eq)]
pub struct TlsSettings {
    /// The certificate, with those between it and an authority, in PEM.
    pub certificates: Vec<u8>,
    /// Its key, in PEM.
    pub key: Zeroizing<Vec<u8>>,
}

impl fmt::Debug for TlsSettings {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("TlsSettings").finish_non_exhaustive()
    }
}

impl TlsSettings {
    /// What makes TLS of a connection.
    ///
    /// # Errors
    /// [`ErrorKind::Crypto`] where the two are not what they should be.
    pub(crate) fn acceptor(&self) -> Result<TlsAcceptor, Error> {
        let cannot = |what: &str, reason: &dyn fmt::Display| {
            Error::new(ErrorKind::Crypto, format!("unable to use {what}: {reason}"))
                .hint("both files are PEM: the certificate with those between it and its authority, and its key")
        };
        let certificates = CertificateDer::pem_slice_iter(&self.certificates).collect::<Result<Vec<_>, _>>();
        let certificates = certificates.map_err(|error| cannot("agent-tls-cert-file", &error))?;
        let key = PrivateKeyDer::from_pem_slice(&self.key).map_err(|error| cannot("agent-tls-key-file", &error))?;
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .and_then(|builder| builder.with_no_client_auth().with_single_cert(certificates, key))
            .map_err(|error| cannot("agent-tls-cert-file with agent-tls-key-file", &error))?;
        Ok(TlsAcceptor::from(Arc::new(config)))
    }
}

/// What clients must know. Only its hash is kept.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(blake3::Hash);

impl Token {
    /// Takes a token from the text of its file, without the white space around it.
    ///
    /// # Errors
    /// [`ErrorKind::OptionInvalidValue`] where it can be guessed.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let token = text.trim();
        if token.len() < TOKEN_LENGTH || token.contains(char::is_whitespace) {
            let message = format!("a token is at least {TOKEN_LENGTH} characters without white space");
            return Err(Error::new(ErrorKind::OptionInvalidValue, message)
                .hint("`openssl rand -hex 32` makes one that nobody guesses"));
        }
        Ok(Self(blake3::hash(token.as_bytes())))
    }

    /// Whether a client knows it. How long that takes tells nothing of it: hashes are compared in constant time.
    pub(crate) fn is(&self, said: &[u8]) -> bool {
        self.0 == blake3::hash(said)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Token")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(address: &str, tls: bool, token: bool) -> ServeSettings {
        let tls = tls.then(|| {
            let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
            let key = Zeroizing::new(made.signing_key.serialize_pem().into_bytes());
            TlsSettings { certificates: made.cert.pem().into_bytes(), key }
        });
        let token = token.then(|| Token::parse("0123456789abcdef").unwrap());
        ServeSettings { address: address.parse().unwrap(), tls, token }
    }

    #[test]
    fn other_hosts_see_nothing_without_tls_and_a_token() {
        for address in ["127.0.0.1:7433", "127.8.9.1:1", "[::1]:7433"] {
            settings(address, false, false).check().unwrap();
        }
        for address in ["0.0.0.0:7433", "[::]:7433", "192.0.2.1:7433", "[::ffff:127.0.0.1]:7433"] {
            let refused = |tls, token| settings(address, tls, token).check().unwrap_err().full_message();
            assert!(
                refused(false, false).ends_with("needs agent-tls-cert-file, agent-tls-key-file and agent-token-file")
            );
            assert!(refused(true, false).ends_with("needs agent-token-file"));
            assert!(refused(false, true).ends_with("needs agent-tls-cert-file and agent-tls-key-file"));
            settings(address, true, true).check().unwrap();
        }
    }

    #[test]
    fn a_token_is_long_and_is_known_or_not() {
        let token = Token::parse(" 0123456789abcdef\n").unwrap();
        assert!(token.is(b"0123456789abcdef"));
        assert!(!token.is(b"0123456789abcdeg") && !token.is(b"") && !token.is(b"0123456789abcdef0"));
        for text in ["", "\n", "0123456789abcde", "0123456789 abcdef"] {
            assert!(Token::parse(text).is_err(), "{text}");
        }
        assert_eq!(format!("{token:?}"), "Token");
    }
}
