//! A certificate authority of the test's own.

use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::PrivatePkcs8KeyDer;

/// What a server shows, and whom a client must trust to believe it.
pub struct Certificate {
    pub(crate) acceptor: TlsAcceptor,
    /// The server's certificate in PEM.
    pub chain: String,
    /// Its key in PEM.
    pub key: String,
    /// The authority's certificate in PEM.
    pub authority: String,
}

impl std::fmt::Debug for Certificate {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Certificate").finish_non_exhaustive()
    }
}

/// Makes an authority and a certificate of it for these names. Panics where one is no name.
pub fn make(names: &[String]) -> Certificate {
    let mut authority = CertificateParams::new(Vec::new()).expect("no name is a name that is not valid");
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    // With the name that both get otherwise the server's certificate would look as if it had signed itself.
    authority.distinguished_name.push(DnType::CommonName, "authority of the tests");
    let key = KeyPair::generate().expect("a key can be made");
    let authority = CertifiedIssuer::self_signed(authority, key).expect("a certificate can be made");

    let key = KeyPair::generate().expect("a key can be made");
    let params = CertificateParams::new(names).expect("the names are valid");
    let certificate = params.signed_by(&key, &authority).expect("a certificate can be made");
    let private = PrivatePkcs8KeyDer::from(key.serialize_der());
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("ring has the usual ciphers")
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], private.into())
        .expect("the key is the certificate's");
    let acceptor = TlsAcceptor::from(Arc::new(config));
    Certificate { acceptor, chain: certificate.pem(), key: key.serialize_pem(), authority: authority.pem() }
}
