//! Where a service is.

use std::fmt;

/// How to speak to a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// Without encryption on the way.
    Http,
    /// Inside TLS.
    Https,
}

impl fmt::Display for Scheme {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Http => "http",
            Self::Https => "https",
        })
    }
}

/// Where a service is: `https://s3.eu-central-1.amazonaws.com`, `http://127.0.0.1:9000`, or only a host, which means
/// https.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// How to speak to it.
    pub scheme: Scheme,
    /// Its name or address; one of IP version 6 in brackets.
    pub host: String,
    /// Its port, where it is not the usual one.
    pub port: Option<u16>,
}

/// A text that names no endpoint.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{text}' is no endpoint: {reason}")]
pub struct EndpointError {
    text: String,
    reason: &'static str,
}

impl Endpoint {
    /// Reads a host, with `http://` or `https://` before it and a port after it where they are not the usual ones.
    ///
    /// # Errors
    /// Where it is something else, such as an address with a path.
    pub fn parse(text: &str) -> Result<Self, EndpointError> {
        // What is before the host may be a password.
        let shown = || text.rsplit_once('@').map_or(text, |(_, rest)| rest).to_owned();
        parse(text).map_err(|reason| EndpointError { text: shown(), reason })
    }

    /// Its port, usual or not.
    pub fn port(&self) -> u16 {
        self.port.unwrap_or(match self.scheme {
            Scheme::Http => 80,
            Scheme::Https => 443,
        })
    }

    /// The same endpoint at another port.
    #[must_use]
    pub fn with_port(&self, port: Option<u16>) -> Self {
        let usual = Self { port: None, ..self.clone() };
        Self { port: port.filter(|port| *port != usual.port()), ..usual }
    }

    /// The endpoint `label.host` of the same service.
    #[must_use]
    pub fn below(&self, label: &str) -> Self {
        Self { host: format!("{label}.{}", self.host), ..self.clone() }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}://{}", self.scheme, self.host)?;
        self.port.map_or(Ok(()), |port| write!(formatter, ":{port}"))
    }
}

fn parse(text: &str) -> Result<Endpoint, &'static str> {
    let (scheme, rest) = match text.split_once("://") {
        None => (Scheme::Https, text),
        Some((name, rest)) if name.eq_ignore_ascii_case("https") => (Scheme::Https, rest),
        Some((name, rest)) if name.eq_ignore_ascii_case("http") => (Scheme::Http, rest),
        Some(_) => return Err("only http and https are known"),
    };
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    if rest.contains(['/', '@', '?', '#']) {
        return Err("nothing but a port may follow the host, and only http:// or https:// may be before it");
    }
    let (host, port) = split_port(rest)?;
    if host.is_empty() {
        return Err("it has no host");
    }
    let address = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let allowed = |letter: char| letter.is_ascii_alphanumeric() || "-._".contains(letter);
    let fits = match address {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => host.chars().all(allowed),
    };
    if !fits {
        return Err("a host has letters, digits, dots and dashes");
    }
    let port = match port {
        None => None,
        Some(port) => {
            Some(port.parse().ok().filter(|port| *port > 0).ok_or("its port is not a number from 1 to 65535")?)
        }
    };
    Ok(Endpoint { scheme, host: host.to_ascii_lowercase(), port: None }.with_port(port))
}

/// Host and port; the colons within brackets belong to the host.
fn split_port(text: &str) -> Result<(&str, Option<&str>), &'static str> {
    let end_of_host = if text.starts_with('[') { text.find(']').ok_or("a bracket is not closed")? + 1 } else { 0 };
    match text[end_of_host..].split_once(':') {
        None => Ok((text, None)),
        Some((between, port)) => Ok((&text[..end_of_host + between.len()], Some(port))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_alone_is_https_on_its_usual_port() {
        for (text, read) in [
            ("s3.eu-central-1.amazonaws.com", "https://s3.eu-central-1.amazonaws.com"),
            ("https://minio.example:9000", "https://minio.example:9000"),
            ("HTTP://MinIO.example:80/", "http://minio.example"),
            ("127.0.0.1:9000", "https://127.0.0.1:9000"),
            ("http://[::1]:9000", "http://[::1]:9000"),
            ("[fd00:ec2::254]", "https://[fd00:ec2::254]"),
            ("https://x:443", "https://x"),
            ("under_score", "https://under_score"),
        ] {
            assert_eq!(Endpoint::parse(text).unwrap().to_string(), read, "{text}");
        }
    }

    #[test]
    fn what_is_no_endpoint_is_refused() {
        let error = Endpoint::parse("https://user:hunter2@host").unwrap_err();
        assert!(!format!("{error} {error:?}").contains("hunter2"), "{error}");
        for text in [
            "",
            "http://",
            "ftp://x",
            "x/y",
            "https://x/bucket",
            "x:",
            "x:0",
            "x:65536",
            "x:y",
            "user@x",
            "x y",
            "[::1",
            "[x]",
            "[::1]x",
            "::1",
            "x?y",
        ] {
            assert!(Endpoint::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_bucket_is_a_label_before_the_host() {
        let endpoint = Endpoint::parse("http://s3.example:9000").unwrap();
        assert_eq!(endpoint.below("backups").to_string(), "http://backups.s3.example:9000");
    }
}
