//! Where everything goes: the data directory, and what the links of the restored cluster lead to.
//!
//! A layout is made before anything is touched. It refuses what would write a place twice, or into what belongs to
//! somebody else.

mod choice;
pub(super) mod overlap;

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use pgark_postgres::label::{MappedTablespace, TablespaceMap};
use pgark_repository::manifest::Tablespace;

use self::choice::Choices;
use super::contents::Contents;
use super::settings::Relocation;
use crate::error::Result;

/// Where everything goes.
#[derive(Debug)]
pub(super) struct Layout {
    data_directory: PathBuf,
    links: BTreeMap<PathBuf, Link>,
    /// Whether a tablespace goes where it was not.
    moves_tablespaces: bool,
}

/// A symbolic link of the restored cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Link {
    /// Its path in the data directory.
    pub(super) path: PathBuf,
    /// Its text.
    pub(super) text: PathBuf,
    /// Where it leads, as an absolute path without links.
    pub(super) place: PathBuf,
    /// What it leads to.
    pub(super) kind: LinkKind,
}

/// What a link leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LinkKind {
    /// The directory of a tablespace, which may have directories of other clusters in it too.
    Tablespace(u32),
    /// A directory that belongs to the cluster as a whole.
    Directory,
    /// A file.
    File,
}

/// Where something lies: below the data directory, or below what a link leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Location<'layout> {
    /// The link.
    pub(super) link: Option<&'layout Link>,
    /// The path below.
    pub(super) below: PathBuf,
}

impl Layout {
    /// Decides where everything goes. `tablespaces` are the backup's, with their names; `version_directory` is what a
    /// cluster of its version has in each.
    ///
    /// # Errors
    /// Where the user's wishes or the backup's links don't make sense: see [`choice`] and [`overlap`].
    pub(super) fn new(
        data_directory: &Path,
        contents: &Contents,
        tablespaces: &[Tablespace],
        relocation: &Relocation,
        version_directory: &str,
    ) -> Result<Self> {
        let chosen = Choices { contents, tablespaces, relocation }.links()?;
        let mut layout =
            Self { data_directory: data_directory.to_owned(), links: BTreeMap::new(), moves_tablespaces: false };
        for link in chosen {
            // Links that lead here come before those that lie behind them.
            let leads_to = layout.parent_of(&link.path).join(&link.text);
            let place = match (link.kind, leads_to.parent(), leads_to.file_name()) {
                // A file of this name is replaced, whatever it is now.
                (LinkKind::File, Some(directory), Some(name)) => overlap::without_links(directory)?.join(name),
                _ => overlap::without_links(&leads_to)?,
            };
            // What is made is the place. By a way through a directory that is not there nobody would get to it.
            let text = if goes_back(&link.text) { place.clone() } else { link.text };
            let original = contents.named.get(&link.path).and_then(|named| named.target.as_ref());
            layout.moves_tablespaces |= matches!(link.kind, LinkKind::Tablespace(_)) && original != Some(&text);
            layout.links.insert(link.path.clone(), Link { text, place, ..link });
        }
        overlap::check(&layout, version_directory)?;
        Ok(layout)
    }

    /// The data directory.
    pub(super) fn data_directory(&self) -> &Path {
        &self.data_directory
    }

    /// The links, each before those behind it.
    pub(super) fn links(&self) -> impl Iterator<Item = &Link> {
        self.links.values()
    }

    /// The link of this path, if it is one.
    pub(super) fn link(&self, path: &Path) -> Option<&Link> {
        self.links.get(path)
    }

    /// Where what this path leads to lies.
    pub(super) fn content(&self, path: &Path) -> Location<'_> {
        match self.link(path) {
            Some(link) if link.kind == LinkKind::File => {
                Location { link: Some(link), below: link.place.file_name().unwrap_or_default().into() }
            }
            Some(link) => Location { link: Some(link), below: PathBuf::new() },
            None => self.name(path),
        }
    }

    /// Where the name of this path lies: of a link, the link itself.
    pub(super) fn name(&self, path: &Path) -> Location<'_> {
        for above in path.ancestors().skip(1) {
            if let Some(link) = self.link(above) {
                let below = path.strip_prefix(above).unwrap_or(path).to_owned();
                return Location { link: Some(link), below };
            }
        }
        Location { link: None, below: path.to_owned() }
    }

    /// The path by which the name of a link is found.
    pub(super) fn name_path(&self, path: &Path) -> PathBuf {
        self.parent_of(path).join(path.file_name().unwrap_or_default())
    }

    /// The directory that the name of this path lies in.
    fn parent_of(&self, path: &Path) -> PathBuf {
        let Location { link, below } = self.name(path);
        let directory = link.map_or(&self.data_directory, |link| &link.place);
        below.parent().map_or_else(|| directory.clone(), |parent| directory.join(parent))
    }

    /// The tablespace map of the restored cluster, if the backup's does not hold any more: the server would make the
    /// links again as they were.
    pub(super) fn tablespace_map(&self) -> Option<Vec<u8>> {
        let tablespaces = self.links().filter_map(|link| match link.kind {
            LinkKind::Tablespace(oid) => Some(MappedTablespace { oid, path: link.text.clone() }),
            LinkKind::Directory | LinkKind::File => None,
        });
        self.moves_tablespaces.then(|| TablespaceMap(tablespaces.collect()).render())
    }
}

/// Whether a path leads into a directory and out of it again.
fn goes_back(path: &Path) -> bool {
    path.components().skip_while(|part| !matches!(part, Component::Normal(_))).any(|part| part == Component::ParentDir)
}

impl Link {
    /// The directory that files are restored below by this link.
    pub(super) fn root(&self) -> &Path {
        match self.kind {
            LinkKind::File => self.place.parent().unwrap_or(&self.place),
            LinkKind::Tablespace(_) | LinkKind::Directory => &self.place,
        }
    }

    /// What belongs to the cluster of what it leads to.
    pub(super) fn own_part(&self, version_directory: &str) -> PathBuf {
        match self.kind {
            LinkKind::Tablespace(_) => self.place.join(version_directory),
            LinkKind::Directory | LinkKind::File => self.place.clone(),
        }
    }
}

#[cfg(test)]
mod tests;
