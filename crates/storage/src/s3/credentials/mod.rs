//! Who we are to S3.
//!
//! Keys that expire are fetched where they come from, kept, and fetched anew five minutes before they expire. Where that
//! fails, what is kept serves as long as it holds.

mod document;
mod fetch;
mod process;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use object_store::aws::{AwsCredential, AwsCredentialProvider};
use object_store::{CredentialProvider, StaticCredentialProvider};
use pgark_system::clock;
use pgark_system::pace::Pacer;
use tokio::sync::Mutex;

use crate::error::ErrorKind;
use crate::network::{Endpoint, Failure, Route, Transport, Trust};
use crate::secret::Secret;

use self::fetch::Fetcher;

/// How long before they expire keys are fetched anew.
const RENEWAL: SignedDuration = SignedDuration::from_mins(5);

/// Where the keys come from that requests are signed with.
#[derive(Clone, Debug)]
pub enum CredentialSettings {
    /// They are known.
    Keys {
        /// The id of the access key.
        key: Secret,
        /// The secret access key.
        secret: Secret,
        /// The session token that belongs to temporary keys.
        token: Option<Secret>,
    },
    /// They are fetched, and expire.
    From(KeySource),
}

/// Where keys are fetched that expire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeySource {
    /// The metadata service of an EC2 instance gives them.
    Instance {
        /// The metadata service; [`Self::METADATA`] unless told otherwise.
        service: Endpoint,
        /// The role whose keys are asked for; by default the one of the instance.
        role: Option<String>,
    },
    /// The agent of a container gives them, at this address: ECS and EKS.
    Container {
        /// The address.
        url: String,
        /// The file of the token by which the agent knows us.
        token_file: Option<PathBuf>,
    },
    /// The token service gives them for a web identity.
    WebIdentity {
        /// The token service.
        service: Endpoint,
        /// The role, by its ARN.
        role: String,
        /// The file of the token that proves the identity.
        token_file: PathBuf,
    },
    /// A program gives them as JSON, as `credential_process` of AWS's own programs does.
    Process {
        /// The program, and its arguments.
        command: Vec<String>,
    },
}

impl KeySource {
    /// Where an EC2 instance finds its metadata service:
    /// <https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/instancedata-data-retrieval.html>.
    pub const METADATA: &str = "http://169.254.169.254";
}

/// What signs the requests of a storage.
pub(super) fn provider(
    settings: &CredentialSettings,
    trust: &Trust,
    io_timeout: Duration,
) -> Result<AwsCredentialProvider, Failure> {
    let source = match settings {
        CredentialSettings::Keys { key, secret, token } => {
            let credential = AwsCredential {
                key_id: key.expose().to_owned(),
                secret_key: secret.expose().to_owned(),
                token: token.as_ref().map(|token| token.expose().to_owned()),
            };
            if let Some(what) = unsendable(&credential) {
                return Err(Failure::new(ErrorKind::Settings, format!("{what} has characters that no key has"))
                    .hint("look for what was copied along with repoN-s3-key, repoN-s3-key-secret or repoN-s3-token"));
            }
            return Ok(Arc::new(StaticCredentialProvider::new(credential)));
        }
        CredentialSettings::From(source) => source.clone(),
    };
    // Only the token service is asked over TLS; the others are on the machine or beside it.
    let trust = matches!(source, KeySource::WebIdentity { .. }).then(|| trust.clone());
    let (io_timeout_of_source, pacer) = (source.timeout(io_timeout), Pacer::unlimited());
    let transport = Transport::new(&Route { proxy: None, trust, io_timeout: io_timeout_of_source, pacer })?;
    let fetcher = Fetcher { source, transport, io_timeout };
    Ok(Arc::new(Renewed { fetcher, kept: Mutex::new(None) }))
}

/// Which part of a key can't be sent, if any: they are all printable ASCII.
fn unsendable(credential: &AwsCredential) -> Option<&'static str> {
    let fits = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic());
    let AwsCredential { key_id, secret_key, token } = credential;
    match token {
        _ if !fits(key_id) => Some("the id of the access key"),
        _ if !fits(secret_key) => Some("the secret access key"),
        Some(token) if !fits(token) => Some("the session token"),
        _ => None,
    }
}

/// Keys as they were fetched.
struct Fetched {
    credential: Arc<AwsCredential>,
    /// `None` for keys that hold until they are withdrawn.
    expires: Option<Timestamp>,
}

impl Fetched {
    fn holds_for(&self, duration: SignedDuration) -> bool {
        self.expires.is_none_or(|expires| clock::now().duration_until(expires) > duration)
    }
}

/// Keys that are fetched anew before they expire.
#[derive(Debug)]
struct Renewed {
    fetcher: Fetcher,
    kept: Mutex<Option<Fetched>>,
}

impl std::fmt::Debug for Fetched {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Fetched").field("expires", &self.expires).finish_non_exhaustive()
    }
}

#[async_trait]
impl CredentialProvider for Renewed {
    type Credential = AwsCredential;

    async fn get_credential(&self) -> object_store::Result<Arc<AwsCredential>> {
        // While one fetches, the others wait for what it gets.
        let mut kept = self.kept.lock().await;
        if let Some(kept) = kept.as_ref().filter(|kept| kept.holds_for(RENEWAL)) {
            return Ok(Arc::clone(&kept.credential));
        }
        match (self.fetcher.fetch().await, kept.as_ref()) {
            (Ok(fetched), _) => Ok(Arc::clone(&kept.insert(fetched).credential)),
            (Err(failure), Some(kept)) if kept.holds_for(SignedDuration::ZERO) => {
                tracing::debug!("the keys can't be renewed, the ones at hand serve on: {failure}");
                Ok(Arc::clone(&kept.credential))
            }
            (Err(failure), _) => Err(object_store::Error::Generic { store: "S3", source: Box::new(failure) }),
        }
    }
}
