//! Documents: small objects whose content is JSON, in a container of one block.

use pgark_storage::{Key, PutMode, Storage};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::codec::Compression;
use crate::container::{self, BlockKind, Container, ContainerWriter, ObjectKind, WriteOptions};
use crate::error::{Malformed, Result};
use crate::vault::{RepositoryId, Vault};

/// The stored form of a document under the name `name`.
pub(crate) fn encode<T: Serialize>(vault: &Vault, kind: ObjectKind, name: &Key, document: &T) -> Result<Vec<u8>> {
    let json = to_json(name, document)?;
    // Not compressed, so that a person can read it where it is not encrypted.
    let options = WriteOptions { compression: Compression::None, verify: true };
    let mut writer = ContainerWriter::new(vault, kind, name.clone(), options, Vec::new())?;
    writer.append(BlockKind::Document, &json)?;
    let (bytes, ..) = writer.finish()?;
    Ok(bytes)
}

/// Writes a document durably.
pub(crate) fn write<T: Serialize>(
    storage: &dyn Storage,
    vault: &Vault,
    kind: ObjectKind,
    name: &Key,
    document: &T,
    mode: PutMode,
) -> Result<()> {
    Ok(storage.put(name, &encode(vault, kind, name, document)?, mode)?)
}

/// Reads a document.
pub(crate) fn read<T: DeserializeOwned>(
    storage: &dyn Storage,
    vault: &Vault,
    kind: ObjectKind,
    name: &Key,
) -> Result<T> {
    let container = Container::open(storage, vault, kind, name)?;
    container.check_header(storage)?;
    read_in(storage, &container)
}

/// Reads a document that is never encrypted, of a repository that is not known yet; gives the repository's id too.
pub(crate) fn read_plain<T: DeserializeOwned>(
    storage: &dyn Storage,
    kind: ObjectKind,
    name: &Key,
) -> Result<(RepositoryId, T)> {
    let tail = Container::fetch_tail(storage, name)?;
    let id = container::owner(name, &tail)?;
    let vault = Vault::plain(id);
    let container = Container::with_tail(storage, &vault, kind, name, tail)?;
    container.check_header(storage)?;
    Ok((id, read_in(storage, &container)?))
}

/// Reads the document of an open container.
pub(crate) fn read_in<T: DeserializeOwned>(storage: &dyn Storage, container: &Container<'_>) -> Result<T> {
    let json = container.block(storage, container.only(BlockKind::Document)?)?;
    serde_json::from_slice(&json).map_err(|error| container.damaged(format!("its document can't be read: {error}")))
}

/// The JSON of a document.
pub(crate) fn to_json<T: Serialize>(name: &Key, document: &T) -> Result<Vec<u8>> {
    serde_json::to_vec(document).map_err(|error| Malformed::new(format!("no JSON: {error}")).in_object(name))
}
