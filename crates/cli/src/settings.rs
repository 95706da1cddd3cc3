//! What several commands take from the configuration, as the types that the engine wants.

mod storage;

use std::collections::BTreeMap;
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};

use pgark_config::{Compression as ConfiguredCompression, Configuration, Role, SidecarName, option};
use pgark_engine::asynchronous::AsyncSettings;
use pgark_engine::control::ControlSettings;
use pgark_engine::lock::Locks;
use pgark_engine::sidecar::SidecarSettings;
use pgark_engine::stanza::RepositorySettings;
use pgark_postgres::client::ConnectSettings;
use pgark_repository::codec::Compression;
use pgark_repository::container::WriteOptions;
use pgark_repository::{Encryption, StanzaName};
use pgark_system::pace::Pacer;
use zeroize::Zeroizing;

use crate::failure::{Failure, Result};
use crate::logging;

/// The cluster that commands work on.
const CLUSTER: u32 = 1;

/// The stanza.
pub(crate) fn stanza(configuration: &Configuration) -> Result<StanzaName> {
    stanza_name(configuration.text(&option::STANZA))
}

/// The stanza, if one is named.
pub(crate) fn optional_stanza(configuration: &Configuration) -> Result<Option<StanzaName>> {
    configuration.optional_text(&option::STANZA).map(stanza_name).transpose()
}

fn stanza_name(text: &str) -> Result<StanzaName> {
    text.parse().map_err(|error: pgark_repository::Error| Failure::option_value(error.to_string()))
}

/// The repositories, in the order of their keys: all of them, or the one that `--repo` names.
pub(crate) fn repositories(configuration: &Configuration) -> Result<Vec<RepositorySettings>> {
    let pacer = pacer(configuration, &option::NETWORK_LIMIT);
    let chosen = configuration.takes(&option::REPO).then(|| configuration.optional_integer(&option::REPO)).flatten();
    configuration
        .repository_keys()
        .iter()
        .filter(|key| chosen.is_none_or(|chosen| chosen == i64::from(**key)))
        .map(|key| repository(configuration, *key, &pacer))
        .collect()
}

/// The repository that `--repo` names, or the first.
pub(crate) fn first_repository(configuration: &Configuration) -> Result<RepositorySettings> {
    let first = repositories(configuration)?.into_iter().next();
    first.ok_or_else(|| {
        Failure::option_required(format!("{} command requires option: repo1-path", configuration.command().name()))
    })
}

/// The directories of repositories that lie on this host, or are mounted here.
pub(crate) fn repository_directories(configuration: &Configuration) -> Vec<PathBuf> {
    let keys = configuration.repository_keys().iter().copied();
    let local = keys.filter(|key| configuration.text(option::REPO_TYPE.at(*key)) == "posix");
    local.map(|key| repository_path(configuration, key).to_owned()).collect()
}

/// The sidecars, ascending by name.
pub(crate) fn sidecars(configuration: &Configuration) -> Vec<SidecarSettings> {
    let sidecar = |name: &SidecarName| SidecarSettings {
        name: name.to_string(),
        path: configuration.path(option::SIDECAR_PATH.of_sidecar(*name)).to_owned(),
    };
    configuration.sidecar_names().iter().map(sidecar).collect()
}

/// The sidecars that go into a repository.
pub(crate) fn sidecars_for(configuration: &Configuration, repository: u32) -> Vec<SidecarSettings> {
    let names = configuration.sidecar_names().iter();
    let goes = names.map(|name| {
        let key = configuration.optional_integer(option::SIDECAR_REPO.of_sidecar(*name));
        key.is_none_or(|key| key == i64::from(repository))
    });
    sidecars(configuration).into_iter().zip(goes).filter_map(|(sidecar, goes)| goes.then_some(sidecar)).collect()
}

/// Where a repository lies: a directory, or a prefix in a bucket.
pub(crate) fn repository_path(configuration: &Configuration, key: u32) -> &Path {
    configuration.path(option::REPO_PATH.at(key))
}

/// What the user writes on a backup. Every text needs a name.
pub(crate) fn annotations(configuration: &Configuration) -> Result<BTreeMap<String, String>> {
    let pairs = configuration.map(&option::ANNOTATION);
    match pairs.iter().find(|(name, _)| name.is_empty()) {
        Some((_, text)) => Err(Failure::option_value(format!("annotation '={text}' has no name"))),
        None => Ok(pairs.iter().cloned().collect()),
    }
}

fn repository(configuration: &Configuration, key: u32, pacer: &Pacer) -> Result<RepositorySettings> {
    let storage = storage::of_repository(configuration, key, pacer)?;
    Ok(RepositorySettings { key, storage, encryption: encryption(configuration, key)? })
}

fn encryption(configuration: &Configuration, key: u32) -> Result<Encryption> {
    if configuration.text(option::REPO_CIPHER_TYPE.at(key)) == "none" {
        return Ok(Encryption::None);
    }
    let passphrase = configuration
        .repository_passphrase(key)
        .ok_or_else(|| Failure::option_required(format!("option 'repo{key}-cipher-pass' is required")))?;
    Ok(Encryption::Passphrase(Zeroizing::new(passphrase.expose().to_owned())))
}

/// The data directory of the cluster.
pub(crate) fn data_directory(configuration: &Configuration) -> PathBuf {
    configuration.path(option::PG_PATH.at(CLUSTER)).to_owned()
}

/// The data directory of the cluster, if it is configured.
pub(crate) fn optional_data_directory(configuration: &Configuration) -> Option<PathBuf> {
    configuration.optional_path(option::PG_PATH.at(CLUSTER)).map(Path::to_owned)
}

/// How to connect to the cluster.
pub(crate) fn connect(configuration: &Configuration) -> Result<ConnectSettings> {
    let port = configuration.integer(option::PG_PORT.at(CLUSTER));
    Ok(ConnectSettings {
        socket_path: configuration.optional_text(option::PG_SOCKET_PATH.at(CLUSTER)).map(PathBuf::from),
        port: port.try_into().map_err(|_| Failure::option_value(format!("'{port}' is not a port")))?,
        user: configuration.optional_text(option::PG_USER.at(CLUSTER)).map(ToOwned::to_owned),
        database: configuration.text(option::PG_DATABASE.at(CLUSTER)).to_owned(),
        statement_timeout: configuration.duration(&option::DB_TIMEOUT),
        command: configuration.command().name().to_owned(),
    })
}

/// The directory of lock files.
pub(crate) fn lock_path(configuration: &Configuration) -> PathBuf {
    configuration.path(&option::LOCK_PATH).to_owned()
}

/// Where lock files are, and for how long they are waited for.
pub(crate) fn locks(configuration: &Configuration) -> Locks {
    Locks { directory: lock_path(configuration), wait: configuration.duration(&option::LOCK_WAIT) }
}

/// How the processes of asynchronous archiving find each other.
pub(crate) fn asynchronous(configuration: &Configuration) -> AsyncSettings {
    AsyncSettings {
        spool_path: configuration.path(&option::SPOOL_PATH).to_owned(),
        lock_path: lock_path(configuration),
        timeout: configuration.duration(&option::ARCHIVE_TIMEOUT),
        log_file: logging::file_path(configuration, Role::Async),
    }
}

/// Which stop file is meant.
pub(crate) fn control(configuration: &Configuration) -> Result<ControlSettings> {
    Ok(ControlSettings { stanza: optional_stanza(configuration)?, lock_path: lock_path(configuration) })
}

/// How many workers there are to be.
pub(crate) fn workers(configuration: &Configuration) -> usize {
    usize::try_from(configuration.integer(&option::PROCESS_MAX)).unwrap_or(1)
}

/// At what pace the cluster's disk is read and written.
pub(crate) fn disk_pacer(configuration: &Configuration) -> Pacer {
    pacer(configuration, &option::IO_LIMIT)
}

/// The pace that a limit in bytes a second asks for, if the command takes it and it is set.
fn pacer(configuration: &Configuration, limit: &'static option::Definition) -> Pacer {
    let limit = configuration.takes(limit).then(|| configuration.optional_size(limit)).flatten();
    limit.and_then(NonZeroU64::new).map_or_else(Pacer::unlimited, Pacer::limited)
}

/// How new objects are written.
pub(crate) fn write_options(configuration: &Configuration) -> WriteOptions {
    let compression = match configuration.compression() {
        ConfiguredCompression::None => Compression::None,
        ConfiguredCompression::Lz4 => Compression::Lz4,
        ConfiguredCompression::Zstd { level } => Compression::Zstd(level),
    };
    WriteOptions { compression, verify: configuration.boolean(&option::VERIFY_WRITE) }
}

/// The compression as a manifest tells it: `zst:3`.
pub(crate) fn compression_text(compression: Compression) -> String {
    match compression {
        Compression::None => "none".to_owned(),
        Compression::Lz4 => "lz4".to_owned(),
        Compression::Zstd(level) => format!("zst:{level}"),
    }
}

/// The name of this host.
pub(crate) fn host() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}
