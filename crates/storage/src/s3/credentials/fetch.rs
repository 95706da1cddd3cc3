//! Fetching keys.

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use fs_err as fs;
use http::{Method, Request};
use http_body_util::BodyExt;
use object_store::client::{HttpRequestBody, HttpService};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use zeroize::Zeroizing;

use super::{Fetched, KeySource, document, process};
use crate::error::ErrorKind;
use crate::network::{Endpoint, Failure, Retry, Transport};
use crate::s3::failure;

/// How long the metadata service may take. Where there is none, nothing answers at its address.
const METADATA_TIMEOUT: Duration = Duration::from_secs(2);
/// How long the token is to be good that the metadata service wants to see, in seconds.
const METADATA_TOKEN_SECONDS: &str = "60";
/// How this program calls itself to the token service.
const SESSION_NAME: &str = "pgark";

impl KeySource {
    /// How long it may take to answer.
    pub(super) fn timeout(&self, io_timeout: Duration) -> Duration {
        match self {
            Self::Instance { .. } => METADATA_TIMEOUT.min(io_timeout),
            _ => io_timeout,
        }
    }
}

/// Fetches keys, each time anew.
#[derive(Debug)]
pub(super) struct Fetcher {
    pub(super) source: KeySource,
    pub(super) transport: Transport,
    pub(super) io_timeout: Duration,
}

impl Fetcher {
    pub(super) async fn fetch(&self) -> Result<Fetched, Failure> {
        match &self.source {
            KeySource::Instance { service, role } => self.ask_instance(service, role.as_deref()).await,
            KeySource::Container { url, token_file } => {
                let what = "the agent of the container";
                let token = token_file.as_deref().map(read_token).transpose()?;
                let header = token.as_ref().map(|token| ("authorization", token.as_str()));
                document::from_json(&self.ask(what, Method::GET, url, header).await?, what)
            }
            KeySource::WebIdentity { service, role, token_file } => {
                self.ask_token_service(service, role, &read_token(token_file)?).await
            }
            KeySource::Process { command } => {
                let output = process::run(command, self.io_timeout).await?;
                document::from_json(&output, "the program of repoN-s3-process-cmd")
            }
        }
    }

    async fn ask_instance(&self, service: &Endpoint, role: Option<&str>) -> Result<Fetched, Failure> {
        let what = "the metadata service of the instance";
        let url = |path: &str| format!("{service}/latest/{path}");
        let lifetime = ("x-aws-ec2-metadata-token-ttl-seconds", METADATA_TOKEN_SECONDS);
        let token = text(&self.ask(what, Method::PUT, &url("api/token"), Some(lifetime)).await?);
        let known = Some(("x-aws-ec2-metadata-token", token.as_str()));
        let roles = url("meta-data/iam/security-credentials/");
        let role = match role {
            Some(role) => role.to_owned(),
            None => {
                text(&self.ask(what, Method::GET, &roles, known).await?).lines().next().unwrap_or_default().to_owned()
            }
        };
        let keys = self.ask(what, Method::GET, &format!("{roles}{}", encoded(&role)), known).await?;
        document::from_json(&keys, what)
    }

    /// Exchanges a web identity for keys:
    /// <https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRoleWithWebIdentity.html>.
    async fn ask_token_service(&self, service: &Endpoint, role: &str, token: &str) -> Result<Fetched, Failure> {
        let what = "the token service";
        let url = Zeroizing::new(format!(
            "{service}/?Action=AssumeRoleWithWebIdentity&Version=2011-06-15&RoleArn={}&RoleSessionName={SESSION_NAME}&WebIdentityToken={}",
            encoded(role),
            encoded(token)
        ));
        document::from_xml(&self.ask(what, Method::POST, &url, None).await?, what)
    }

    async fn ask(&self, what: &str, method: Method, url: &str, header: Option<(&str, &str)>) -> Result<Bytes, Failure> {
        let mut request = Request::builder().method(method).uri(url);
        if let Some((name, value)) = header {
            request = request.header(name, value);
        }
        let request = request.body(HttpRequestBody::empty()).map_err(|_| {
            // The address or the header may be a secret.
            Failure::new(ErrorKind::Settings, format!("the address or the token of {what} makes no sense"))
        })?;
        let failed = |error| no_keys(what, &self.source, &failure::of_http(&error));
        let answer = self.transport.call(request).await.map_err(failed)?;
        Ok(answer.into_body().collect().await.map_err(failed)?.to_bytes())
    }
}

/// The failure of a service that gives keys, said so that it is not taken for one of S3.
fn no_keys(what: &str, source: &KeySource, failure: &Failure) -> Failure {
    let hint = match source {
        KeySource::Instance { .. } => {
            "repoN-s3-key-type=auto asks the metadata service of an EC2 instance: is this one, with a role, and may it be asked from here?"
        }
        KeySource::Container { .. } => "check the variables AWS_CONTAINER_* that the container was started with",
        KeySource::WebIdentity { .. } => {
            "check AWS_ROLE_ARN, AWS_WEB_IDENTITY_TOKEN_FILE and repoN-s3-sts-host, and that the role trusts the identity"
        }
        KeySource::Process { .. } => "check repoN-s3-process-cmd",
    };
    let kind = if failure.retry == Retry::Never { ErrorKind::Denied } else { ErrorKind::Unavailable };
    let reason = format!("{what} gives no keys: {failure}");
    Failure::new(kind, reason).origin(failure.origin).retry(unreached(failure.retry)).hint(hint)
}

/// Nothing was asked of S3 yet.
fn unreached(retry: Retry) -> Retry {
    if retry == Retry::Never { Retry::Never } else { Retry::Unreached }
}

fn read_token(file: &Path) -> Result<Zeroizing<String>, Failure> {
    let token = fs::read_to_string(file).map(Zeroizing::new);
    let token = token.map_err(|error| {
        Failure::new(ErrorKind::Settings, format!("the token that gives keys can't be read: {error}"))
            .hint("check the variable that names the file: AWS_WEB_IDENTITY_TOKEN_FILE or AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE")
    })?;
    Ok(Zeroizing::new(token.trim().to_owned()))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).trim().to_owned()
}

fn encoded(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}
