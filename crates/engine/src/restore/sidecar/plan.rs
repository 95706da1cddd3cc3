//! Which sidecars are restored, and to where: decided before anything is touched.

use std::io;
use std::path::{Path, PathBuf};

use pgark_repository::manifest::{Attributes, Manifest, Sidecar};
use pgark_system::directory::Directory;

use super::super::destination::Mode;
use super::super::layout::Layout;
use super::super::layout::overlap::without_links;
use super::super::settings::{RestoreSettings, SidecarChoice};
use super::entries;
use super::tree::Tree;
use crate::error::{Error, ErrorKind, Result};
use crate::sidecar::{Neighbour, SidecarSettings, overlap};

/// A sidecar that is to be restored.
#[derive(Debug)]
pub(in crate::restore) struct Planned {
    /// What the backup says of it.
    pub(super) sidecar: Sidecar,
    /// Where it goes, without links.
    pub(super) directory: PathBuf,
    /// What is to become of files that are there.
    pub(super) mode: Mode,
    /// The attributes of its directory.
    pub(super) attributes: Attributes,
}

/// What no sidecar may share anything with, when a cluster is restored with this layout.
///
/// # Errors
/// What the file system says.
pub(in crate::restore) fn neighbours_of(layout: &Layout) -> Result<Vec<Neighbour>> {
    let own = Neighbour { what: "the data directory".to_owned(), path: without_links(layout.data_directory())? };
    let linked = layout.links().map(|link| Neighbour {
        what: format!("what link '{}' leads to,", link.path.display()),
        path: link.place.clone(),
    });
    Ok(std::iter::once(own).chain(linked).collect())
}

/// Decides which sidecars of a backup are restored, and to where. None may share anything with `neighbours`.
///
/// # Errors
/// Where one is asked for that the backup does not have, where it can't go to its place, or its entries make no tree.
pub(in crate::restore) fn plan(
    settings: &RestoreSettings,
    manifest: &Manifest<'_>,
    neighbours: &[Neighbour],
) -> Result<Vec<Planned>> {
    let document = manifest.document();
    let chosen = choose(&settings.sidecars, &document.sidecars).map_err(|what| {
        let names: Vec<_> = document.sidecars.iter().map(|sidecar| sidecar.name.as_str()).collect();
        let hint = match &names[..] {
            [] => "it has none; --set names another backup set".to_owned(),
            names => format!("it has {}; --set names another backup set", names.join(", ")),
        };
        Error::new(ErrorKind::OptionInvalidValue, format!("backup set {} has no sidecar '{what}'", document.label))
            .hint(hint)
    })?;
    if settings.sidecars == SidecarChoice::All {
        let has = |name: &str| document.sidecars.iter().any(|sidecar| sidecar.name == name);
        for place in settings.sidecar_places.iter().filter(|place| !has(&place.name)) {
            tracing::warn!("backup set {} has no sidecar '{}'", document.label, place.name);
        }
    }
    if !chosen.is_empty() {
        Tree::check(document, manifest.sidecar_entries())?;
    }
    let mut neighbours = neighbours.to_vec();
    let mut planned = Vec::new();
    for sidecar in chosen {
        let next = plan_one(settings, manifest, sidecar, &neighbours)?;
        neighbours.push(Neighbour { what: format!("sidecar '{}'", sidecar.name), path: next.directory.clone() });
        planned.push(next);
    }
    Ok(planned)
}

/// The sidecars that are restored; the name that is not among them, where there is none of it.
fn choose<'sidecars>(
    choice: &SidecarChoice,
    sidecars: &'sidecars [Sidecar],
) -> Result<Vec<&'sidecars Sidecar>, String> {
    match choice {
        SidecarChoice::All => Ok(sidecars.iter().collect()),
        SidecarChoice::None => {
            for sidecar in sidecars {
                tracing::info!("sidecar '{}' of the backup is not restored", sidecar.name);
            }
            Ok(Vec::new())
        }
        SidecarChoice::Only(name) => match sidecars.iter().find(|sidecar| sidecar.name == *name) {
            Some(sidecar) => Ok(vec![sidecar]),
            None => Err(name.clone()),
        },
    }
}

fn plan_one(
    settings: &RestoreSettings,
    manifest: &Manifest<'_>,
    sidecar: &Sidecar,
    neighbours: &[Neighbour],
) -> Result<Planned> {
    let name = &sidecar.name;
    let configured = settings.sidecar_places.iter().find(|place| place.name == *name);
    let path = configured.map_or_else(|| PathBuf::from(&sidecar.path), |place| place.path.clone());
    let wanted = SidecarSettings { name: name.clone(), path };
    let elsewhere = format!("set sidecar-{name}-path to another directory, or restore with --no-sidecar");
    if !wanted.path.is_absolute() {
        return Err(wanted.error(ErrorKind::OptionInvalidValue, "does not begin with /").hint(elsewhere));
    }
    let directory = without_links(&wanted.path).map_err(|error| {
        wanted.error(ErrorKind::LinkDestination, "can't be followed").hint(elsewhere.clone()).source(error)
    })?;
    if let Some(other) = overlap(&directory, neighbours) {
        let message = format!("shares files with {} '{}'", other.what, other.path.display());
        return Err(wanted.error(ErrorKind::OptionInvalidValue, message).hint(elsewhere));
    }
    let may_replace = settings.sidecars_replaced.as_ref().is_none_or(|names| names.contains(name));
    let mode = match (settings.delta, settings.force) {
        (true, _) if may_replace => Mode::Delta,
        (false, true) if may_replace => Mode::Replace,
        _ => Mode::Empty,
    };
    if mode == Mode::Empty && !is_free(&directory)? {
        let message =
            format!("unable to restore sidecar '{name}' to path '{}' because it contains files", directory.display());
        let error = Error::new(ErrorKind::PathNotEmpty, message);
        let error = if may_replace {
            error.hint("try using --delta if this is what you intended")
        } else {
            error.hint(format!(
                "with --pg1-path a copy may be restored, whose original has its sidecar there: give \
                 --sidecar-{name}-path, too, if this is what you intended"
            ))
        };
        return Err(error.hint(elsewhere));
    }
    let attributes = entries(manifest, name).next().transpose()?.map(|entry| entry.attributes).unwrap_or_default();
    Ok(Planned { sidecar: sidecar.clone(), directory, mode, attributes })
}

/// Whether nothing is there but perhaps an empty directory.
fn is_free(directory: &Path) -> Result<bool> {
    match Directory::open(directory) {
        Ok(open) => Ok(open.names()?.is_empty()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_are_chosen_or_one_or_none() {
        let sidecar = |name: &str| Sidecar { name: name.to_owned(), path: "/x".to_owned(), files: 1, size: 2 };
        let sidecars = ["fonts", "models"].map(sidecar);
        let chosen = |choice| {
            let chosen: Result<Vec<_>, _> = choose(&choice, &sidecars);
            chosen.map(|chosen| chosen.iter().map(|sidecar| sidecar.name.as_str()).collect::<Vec<_>>())
        };
        assert_eq!(chosen(SidecarChoice::All).unwrap(), ["fonts", "models"]);
        assert_eq!(chosen(SidecarChoice::None).unwrap(), [""; 0]);
        assert_eq!(chosen(SidecarChoice::Only("models".to_owned())).unwrap(), ["models"]);
        assert_eq!(chosen(SidecarChoice::Only("model".to_owned())).unwrap_err(), "model");
    }
}
