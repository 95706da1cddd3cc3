//! What TLS trusts.

use std::path::PathBuf;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_native_certs::CertificateResult;

use super::failure::Failure;
use crate::error::ErrorKind;

/// Whose certificates are trusted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Trust {
    /// Those of the authorities that the system trusts.
    #[default]
    System,
    /// Those of other authorities.
    Authorities {
        /// A file of certificates.
        file: Option<PathBuf>,
        /// A directory of files of certificates.
        directory: Option<PathBuf>,
    },
    /// Any: nothing proves who answers.
    Anyone,
}

/// Settings of TLS; without trust there is no certificate that will do.
///
/// # Errors
/// Where the certificates of the authorities can't be read, or there are none.
pub(super) fn configure(trust: Option<&Trust>) -> Result<ClientConfig, Failure> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let algorithms = provider.signature_verification_algorithms;
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| Failure::new(ErrorKind::Io, format!("TLS can't be set up: {error}")))?;
    let Some(trust) = trust else {
        return Ok(builder.with_root_certificates(RootCertStore::empty()).with_no_client_auth());
    };
    let found = match trust {
        Trust::System => rustls_native_certs::load_native_certs(),
        Trust::Authorities { file, directory } => {
            rustls_native_certs::load_certs_from_paths(file.as_deref(), directory.as_deref())
        }
        Trust::Anyone => {
            let verifier = Arc::new(AnyCertificate(algorithms));
            return Ok(builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth());
        }
    };
    Ok(builder.with_root_certificates(authorities(trust, found)?).with_no_client_auth())
}

fn authorities(trust: &Trust, found: CertificateResult) -> Result<RootCertStore, Failure> {
    let mut authorities = RootCertStore::empty();
    let (added, unusable) = authorities.add_parsable_certificates(found.certs);
    // Of the system's certificates some may be unreadable as long as there are others; what was named must be right.
    if added > 0 && (*trust == Trust::System || found.errors.is_empty()) {
        return Ok(authorities);
    }
    let reason = match found.errors.first() {
        Some(error) => format!("the certificates of the authorities can't be read: {error}"),
        None if unusable > 0 => "none of the certificates of the authorities can be used".to_owned(),
        None => "there are no certificates of authorities".to_owned(),
    };
    let hint = match trust {
        Trust::System => {
            "install the system's certificates (package ca-certificates), or name some by repoN-storage-ca-file"
        }
        _ => "check repoN-storage-ca-file and repoN-storage-ca-path: they must name certificates in PEM form",
    };
    Err(Failure::new(ErrorKind::Settings, reason).hint(hint))
}

/// Accepts every certificate.
#[derive(Debug)]
struct AnyCertificate(WebPkiSupportedAlgorithms);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _certificate: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.0)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}
