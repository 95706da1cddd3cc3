//! pgBackRest's TLS server.

use super::definition::{integer, map, path, text};
use super::options;
use crate::command::Command::{Server, ServerPing};

options! {
    [Server]

    TLS_SERVER_ADDRESS, "tls-server-address", "the address the server listens on",
        "* is every address."
        => text().default("localhost").of(&[Server, ServerPing]).later();

    TLS_SERVER_PORT, "tls-server-port", "the port the server listens on",
        "server-ping asks at the same port."
        => integer(1, 65535).default("8432").of(&[Server, ServerPing]).later();

    TLS_SERVER_AUTH, "tls-server-auth", "which client may use which stanzas",
        "A pair client=stanzas: the common name of a certificate, and stanzas parted by commas, or * for all."
        => map().required().of(&[Server]).later();

    TLS_SERVER_CA_FILE, "tls-server-ca-file", "the authorities that client certificates may be of",
        "Clients with other certificates are refused."
        => path().required().of(&[Server]).later();

    TLS_SERVER_CERT_FILE, "tls-server-cert-file", "the certificate of the server",
        "Shown to clients."
        => path().required().of(&[Server]).later();

    TLS_SERVER_KEY_FILE, "tls-server-key-file", "the key of the server's certificate",
        "It must be readable by its owner only."
        => path().required().of(&[Server]).later();
}
