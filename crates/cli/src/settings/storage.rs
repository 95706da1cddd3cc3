//! Where repositories are.

use std::path::{Path, PathBuf};

use pgark_config::{Configuration, Secret as ConfiguredSecret, option};
use pgark_storage::s3::{CredentialSettings, KeySource, ServerEncryption, UriStyle};
use pgark_storage::{Endpoint, S3Settings, Secret, StorageSettings, Trust};
use pgark_system::pace::Pacer;

use crate::failure::{Failure, Result};

/// Where the agent of a container of ECS is, which is named without a host:
/// <https://docs.aws.amazon.com/AmazonECS/latest/developerguide/task-iam-roles.html>.
const CONTAINER_AGENT: &str = "http://169.254.170.2";

/// Where the metadata service of the instance is, if not at its usual address, as AWS's own programs call it:
/// <https://docs.aws.amazon.com/sdkref/latest/guide/feature-imds-credentials.html>.
const METADATA_ENDPOINT: &str = "AWS_EC2_METADATA_SERVICE_ENDPOINT";

/// The storage of a repository. What it sends and receives over the network keeps to the pace.
pub(super) fn of_repository(configuration: &Configuration, key: u32, pacer: &Pacer) -> Result<StorageSettings> {
    let path = configuration.path(option::REPO_PATH.at(key));
    Ok(match configuration.text(option::REPO_TYPE.at(key)) {
        "s3" => StorageSettings::S3(Box::new(s3(configuration, key, path, pacer.clone())?)),
        _ => StorageSettings::Local(path.to_owned()),
    })
}

fn s3(configuration: &Configuration, key: u32, path: &Path, pacer: Pacer) -> Result<S3Settings> {
    let (endpoint, proxy) = endpoints(configuration, key)?;
    let part_size = configuration.size(option::REPO_STORAGE_UPLOAD_CHUNK_SIZE.at(key));
    Ok(S3Settings {
        endpoint,
        region: configuration.text(option::REPO_S3_REGION.at(key)).to_owned(),
        bucket: configuration.text(option::REPO_S3_BUCKET.at(key)).to_owned(),
        style: match configuration.text(option::REPO_S3_URI_STYLE.at(key)) {
            "path" => UriStyle::Path,
            _ => UriStyle::Host,
        },
        path: path.display().to_string(),
        proxy,
        trust: trust(configuration, key),
        credentials: credentials(configuration, key)?,
        encryption: server_encryption(configuration, key)?,
        tags: configuration.map(option::REPO_STORAGE_TAG.at(key)).to_vec(),
        requester_pays: configuration.boolean(option::REPO_S3_REQUESTER_PAYS.at(key)),
        part_size: usize::try_from(part_size).unwrap_or(usize::MAX),
        io_timeout: configuration.duration(&option::IO_TIMEOUT),
        pacer,
    })
}

/// The service, and what to connect to in its place.
fn endpoints(configuration: &Configuration, key: u32) -> Result<(Endpoint, Option<Endpoint>)> {
    let mut service =
        endpoint(&format!("repo{key}-s3-endpoint"), configuration.text(option::REPO_S3_ENDPOINT.at(key)))?;
    let proxy = configuration.optional_text(option::REPO_STORAGE_HOST.at(key));
    let mut proxy = proxy.map(|host| endpoint(&format!("repo{key}-storage-host"), host)).transpose()?;
    if configuration.is_set(option::REPO_STORAGE_PORT.at(key)) {
        let port = u16::try_from(configuration.integer(option::REPO_STORAGE_PORT.at(key))).ok();
        let of = proxy.as_mut().unwrap_or(&mut service);
        *of = of.with_port(port);
    }
    Ok((service, proxy))
}

fn endpoint(name: &str, text: &str) -> Result<Endpoint> {
    Endpoint::parse(text).map_err(|error| Failure::option_value(format!("option '{name}': {error}")))
}

fn trust(configuration: &Configuration, key: u32) -> Trust {
    let file = configuration.optional_text(option::REPO_STORAGE_CA_FILE.at(key)).map(PathBuf::from);
    let directory = configuration.optional_path(option::REPO_STORAGE_CA_PATH.at(key)).map(Path::to_owned);
    if !configuration.boolean(option::REPO_STORAGE_VERIFY_TLS.at(key)) {
        Trust::Anyone
    } else if file.is_none() && directory.is_none() {
        Trust::System
    } else {
        Trust::Authorities { file, directory }
    }
}

fn credentials(configuration: &Configuration, key: u32) -> Result<CredentialSettings> {
    let source = match configuration.text(option::REPO_S3_KEY_TYPE.at(key)) {
        "auto" => automatic(configuration, key)?,
        "web-id" => web_identity(configuration, key)?,
        "pod-id" => KeySource::Container {
            url: variable(key, "AWS_CONTAINER_CREDENTIALS_FULL_URI")?,
            token_file: Some(variable(key, "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE")?.into()),
        },
        "process" => KeySource::Process { command: configuration.list(option::REPO_S3_PROCESS_CMD.at(key)).to_vec() },
        _ => return shared(configuration, key),
    };
    Ok(CredentialSettings::From(source))
}

/// The keys of the configuration; where it has none, those of the environment.
fn shared(configuration: &Configuration, key: u32) -> Result<CredentialSettings> {
    let configured = |option| configuration.optional_secret(option).map(secret);
    let id = configured(option::REPO_S3_KEY.at(key));
    let its_secret = configured(option::REPO_S3_KEY_SECRET.at(key));
    let missing = |name: &str| {
        Failure::option_required(format!(
            "option 'repo{key}-s3-key-type' is 'shared' but option 'repo{key}-{name}' is not set"
        ))
    };
    match (id, its_secret) {
        (Some(id), Some(its_secret)) => {
            let token = configured(option::REPO_S3_TOKEN.at(key));
            Ok(CredentialSettings::Keys { key: id, secret: its_secret, token })
        }
        (Some(_), None) => Err(missing("s3-key-secret")),
        (None, Some(_)) => Err(missing("s3-key")),
        (None, None) => {
            let of_environment = |name| environment(name).map(Secret::new);
            match (of_environment("AWS_ACCESS_KEY_ID"), of_environment("AWS_SECRET_ACCESS_KEY")) {
                (Some(id), Some(its_secret)) => {
                    let token = of_environment("AWS_SESSION_TOKEN");
                    Ok(CredentialSettings::Keys { key: id, secret: its_secret, token })
                }
                _ => Err(missing("s3-key").hint(
                    "set it and the secret, or the environment variables AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
                )),
            }
        }
    }
}

/// The agent of a container where there is one; else the instance.
fn automatic(configuration: &Configuration, key: u32) -> Result<KeySource> {
    if let Some(path) = environment("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI") {
        return Ok(KeySource::Container { url: format!("{CONTAINER_AGENT}{path}"), token_file: None });
    }
    let service = environment(METADATA_ENDPOINT).unwrap_or_else(|| KeySource::METADATA.to_owned());
    let service = Endpoint::parse(&service)
        .map_err(|error| Failure::option_value(format!("environment variable {METADATA_ENDPOINT}: {error}")))?;
    let role = configuration.optional_text(option::REPO_S3_ROLE.at(key)).map(ToOwned::to_owned);
    Ok(KeySource::Instance { service, role })
}

fn web_identity(configuration: &Configuration, key: u32) -> Result<KeySource> {
    let service = configuration.text(option::REPO_S3_STS_HOST.at(key));
    Ok(KeySource::WebIdentity {
        service: endpoint(&format!("repo{key}-s3-sts-host"), service)?,
        role: variable(key, "AWS_ROLE_ARN")?,
        token_file: variable(key, "AWS_WEB_IDENTITY_TOKEN_FILE")?.into(),
    })
}

fn server_encryption(configuration: &Configuration, key: u32) -> Result<ServerEncryption> {
    let managed = configuration.optional_text(option::REPO_S3_KMS_KEY_ID.at(key));
    let customer = configuration.optional_secret(option::REPO_S3_SSE_CUSTOMER_KEY.at(key));
    match (managed, customer) {
        (None, None) => Ok(ServerEncryption::Default),
        (Some(id), None) => Ok(ServerEncryption::ManagedKey(id.to_owned())),
        (None, Some(key)) => Ok(ServerEncryption::CustomerKey(secret(key))),
        (Some(_), Some(_)) => Err(Failure::option_value(format!(
            "options 'repo{key}-s3-kms-key-id' and 'repo{key}-s3-sse-customer-key' can't both be set"
        ))),
    }
}

fn secret(configured: &ConfiguredSecret) -> Secret {
    Secret::new(configured.expose())
}

/// A variable of the environment that is not empty.
fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

fn variable(key: u32, name: &str) -> Result<String> {
    environment(name).ok_or_else(|| {
        let message = format!("option 'repo{key}-s3-key-type' wants environment variable {name}, which is not set");
        Failure::option_required(message)
    })
}
