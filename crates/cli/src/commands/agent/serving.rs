//! Where the agent shows what it knows.

use std::net::SocketAddr;
use std::path::Path;

use fs_err as fs;
use pgark_agent::{ServeSettings, TlsSettings, Token};
use pgark_config::{Configuration, option};
use pgark_engine::Error;
use zeroize::Zeroizing;

use crate::failure::{Failure, Result};

/// Where to listen, and who may ask. `None` where nothing is shown.
pub(super) fn settings(configuration: &Configuration) -> Result<Option<ServeSettings>> {
    let listens = configuration.takes(&option::AGENT_LISTEN) && configuration.text(&option::AGENT_LISTEN) != "none";
    if !listens {
        return Ok(None);
    }
    let text = configuration.text(&option::AGENT_LISTEN);
    let address: SocketAddr = text.parse().map_err(|_| {
        Failure::option_value(format!("option 'agent-listen': '{text}' is not an address with a port"))
            .hint("as 127.0.0.1:7433, [::1]:7433, or none")
    })?;
    let token = configuration.optional_path(&option::AGENT_TOKEN_FILE);
    let token = token.map(|path| {
        let text = Zeroizing::new(fs::read_to_string(path).map_err(Error::from)?);
        Token::parse(&text)
            .map_err(|error| Failure::from(error).of(&format!("option 'agent-token-file': {}", path.display())))
    });
    let settings = ServeSettings { address, tls: tls(configuration)?, token: token.transpose()? };
    settings.check()?;
    Ok(Some(settings))
}

fn tls(configuration: &Configuration) -> Result<Option<TlsSettings>> {
    let certificate = configuration.optional_path(&option::AGENT_TLS_CERT_FILE);
    let key = configuration.optional_path(&option::AGENT_TLS_KEY_FILE);
    let read = |path: &Path| fs::read(path).map_err(Error::from);
    match (certificate, key) {
        (Some(certificate), Some(key)) => {
            Ok(Some(TlsSettings { certificates: read(certificate)?, key: Zeroizing::new(read(key)?) }))
        }
        (None, None) => Ok(None),
        (Some(_), None) => Err(Failure::option_required("agent-tls-cert-file needs agent-tls-key-file".to_owned())),
        (None, Some(_)) => Err(Failure::option_required("agent-tls-key-file needs agent-tls-cert-file".to_owned())),
    }
}
