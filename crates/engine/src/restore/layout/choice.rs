//! Which links a restored cluster has, and where they lead: by what the backup says and what the user wishes.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

use pgark_postgres::data_directory::tablespace_oid;
use pgark_repository::manifest::Tablespace;

use super::{Link, LinkKind};
use crate::error::{Error, ErrorKind, Result};
use crate::restore::contents::{Contents, Named};
use crate::restore::settings::Relocation;

/// What the choice is made by.
pub(super) struct Choices<'choices> {
    pub(super) contents: &'choices Contents,
    pub(super) tablespaces: &'choices [Tablespace],
    pub(super) relocation: &'choices Relocation,
}

impl Choices<'_> {
    /// The links, in the order of their paths; where they lead is not resolved yet.
    ///
    /// # Errors
    /// [`ErrorKind::TablespaceMap`], [`ErrorKind::LinkMap`], [`ErrorKind::OptionInvalidValue`].
    pub(super) fn links(&self) -> Result<Vec<Link>> {
        self.check_tablespaces()?;
        self.check_links()?;
        let mut links = Vec::new();
        for (path, named) in &self.contents.named {
            let chosen = match tablespace_oid(path) {
                Some(oid) if named.is_directory => {
                    self.tablespace(oid, named)?.map(|text| (LinkKind::Tablespace(oid), text))
                }
                _ => self.link(path, named)?.map(|text| (kind(named), text)),
            };
            if let Some((kind, text)) = chosen {
                links.push(Link { path: path.clone(), place: PathBuf::new(), text, kind });
            }
        }
        Ok(links)
    }

    /// Where a tablespace goes; nowhere else, if it lies in the data directory.
    fn tablespace(&self, oid: u32, named: &Named) -> Result<Option<PathBuf>> {
        let Some(original) = &named.target else { return Ok(None) };
        let name = self.tablespace_name(oid);
        let wished = |wanted: &str| self.relocation.tablespaces.iter().find(|(key, _)| key == wanted);
        let by_name = name.and_then(wished).map(|(_, place)| place);
        let by_oid = wished(&oid.to_string()).map(|(_, place)| place);
        if let (Some(one), Some(other)) = (by_name, by_oid)
            && one != other
        {
            let message =
                format!("tablespace remapped by name '{}' and id {oid} with different paths", name.unwrap_or_default());
            return Err(Error::new(ErrorKind::TablespaceMap, message));
        }
        let text = match (by_name.or(by_oid), &self.relocation.all_tablespaces) {
            (Some(place), _) => place.clone(),
            (None, Some(all)) => all.join(directory_name(oid, name)?),
            (None, None) => return Ok(Some(original.clone())),
        };
        tracing::info!("map tablespace 'pg_tblspc/{oid}' to '{}'", text.display());
        Ok(Some(text))
    }

    fn tablespace_name(&self, oid: u32) -> Option<&str> {
        self.tablespaces.iter().find(|known| known.oid == oid).map(|known| known.name.as_str())
    }

    /// Makes sure that every tablespace that is named can be moved, and to where it can lie.
    fn check_tablespaces(&self) -> Result<()> {
        if let Some(place) = &self.relocation.all_tablespaces {
            ensure_absolute("tablespace-map-all", place)?;
        }
        let linked = |path: &PathBuf| tablespace_oid(path).filter(|_| self.contents.named[path].target.is_some());
        let linked: BTreeSet<u32> = self.contents.named.keys().filter_map(linked).collect();
        for (key, place) in &self.relocation.tablespaces {
            ensure_absolute("tablespace-map", place)?;
            let by_name = self.tablespaces.iter().find(|known| known.name == *key).map(|known| known.oid);
            let by_oid = key.parse().ok();
            let is_any = |set: &BTreeSet<u32>| [by_name, by_oid].into_iter().flatten().any(|oid| set.contains(&oid));
            if is_any(&linked) {
                continue;
            }
            let error = Error::new(ErrorKind::TablespaceMap, format!("unable to remap invalid tablespace '{key}'"));
            return Err(if is_any(&self.contents.tablespaces_in_place) {
                error.hint("the tablespace lies in the data directory, and stays there")
            } else {
                error.hint("does the backup have a tablespace of this name or oid?")
            });
        }
        Ok(())
    }

    /// Where another link leads; none if what it led to is restored in its place.
    fn link(&self, path: &Path, named: &Named) -> Result<Option<PathBuf>> {
        let wished = self.relocation.links.iter().find(|(key, _)| Path::new(key) == path).map(|(_, place)| place);
        let text = match (wished, &named.target) {
            (Some(wished), original) => {
                let verb = if original.is_some() { "map link" } else { "link" };
                tracing::info!("{verb} '{}' to '{}'", path.display(), wished.display());
                wished
            }
            (None, Some(original)) if self.relocation.link_all => original,
            (None, original) => {
                if original.is_some() {
                    warn_of_lost_link(path, named);
                }
                return Ok(None);
            }
        };
        let is_long_enough =
            text.parent().is_some_and(|parent| !parent.as_os_str().is_empty()) && text.file_name().is_some();
        if !named.is_directory && !is_long_enough {
            let (text, link) = (text.display(), path.display());
            let message = format!("'{text}' is not long enough to be the destination for file link '{link}'");
            return Err(Error::new(ErrorKind::LinkMap, message));
        }
        Ok(Some(text.clone()))
    }

    /// Makes sure that every link that is named can be made.
    fn check_links(&self) -> Result<()> {
        for (key, _) in &self.relocation.links {
            let path = Path::new(key);
            if tablespace_oid(path).is_some() {
                return Err(Error::new(ErrorKind::LinkMap, format!("unable to remap tablespace '{key}'"))
                    .hint("use 'tablespace-map' option to remap tablespaces"));
            }
            // Two paths that are written differently may be the same: `pg_wal` and `pg_wal/`.
            let is_exact = self.contents.named.keys().any(|known| known.as_os_str() == path.as_os_str());
            if key.is_empty() || !is_exact {
                return Err(Error::new(ErrorKind::LinkMap, format!("unable to map link '{key}'"))
                    .hint("does the link reference a valid backup path or file?"));
            }
        }
        Ok(())
    }
}

fn kind(named: &Named) -> LinkKind {
    if named.is_directory { LinkKind::Directory } else { LinkKind::File }
}

fn warn_of_lost_link(path: &Path, named: &Named) {
    let path = path.display();
    if named.is_directory {
        tracing::warn!("contents of directory link '{path}' will be restored in a directory at the same location");
    } else {
        tracing::warn!("file link '{path}' will be restored as a file at the same location");
    }
}

fn ensure_absolute(option: &str, place: &Path) -> Result<()> {
    if place.is_absolute() {
        return Ok(());
    }
    let message = format!("'{}' must begin with / for '{option}' option", place.display());
    Err(Error::new(ErrorKind::OptionInvalidValue, message))
}

/// The directory that a tablespace gets below that of all. An offline backup does not know names.
fn directory_name(oid: u32, name: Option<&str>) -> Result<String> {
    let Some(name) = name else { return Ok(format!("ts{oid}")) };
    let mut parts = Path::new(name).components();
    match (parts.next(), parts.next()) {
        (Some(Component::Normal(part)), None) if part == name => Ok(name.to_owned()),
        _ => {
            Err(Error::new(ErrorKind::TablespaceMap, format!("tablespace '{name}' can't have a directory of its name"))
                .hint(format!("say where it goes by --tablespace-map={oid}=/path")))
        }
    }
}
