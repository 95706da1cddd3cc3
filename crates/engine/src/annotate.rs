//! Adding annotations to a backup that was taken.

use std::collections::BTreeMap;

use pgark_repository::{Label, StanzaName, note};

use crate::error::{Error, ErrorKind, Result};
use crate::stanza::{RepositorySettings, Stanza};

/// What is to be annotated, and how.
#[derive(Debug)]
pub struct AnnotateSettings {
    /// The stanza.
    pub stanza: StanzaName,
    /// The backup.
    pub label: Label,
    /// Names and texts. An empty text takes the name away.
    pub annotations: BTreeMap<String, String>,
    /// The repositories.
    pub repositories: Vec<RepositorySettings>,
    /// This program and its version.
    pub program: String,
}

/// Annotates the backup in every repository that has it.
///
/// # Errors
/// [`ErrorKind::BackupSetInvalid`] where none has it; [`ErrorKind::Command`] where something is wrong with a repository,
/// which keeps none of the others from being annotated.
pub fn run(settings: &AnnotateSettings) -> Result<()> {
    let mut found = false;
    let mut failed = Vec::new();
    for repository in &settings.repositories {
        match annotate(settings, repository) {
            Ok(has_it) => found |= has_it,
            Err(error) => failed.push((repository.key, error)),
        }
    }
    match (found, failed.len()) {
        (false, 0) => Err(Error::new(ErrorKind::BackupSetInvalid, "no backup set to annotate found")
            .hint("run info to see the backup sets that there are")),
        (true, 0) => Ok(()),
        (_, count) => {
            Err(Error::of_repositories(&format!("annotate command encountered {count} error(s):\n"), &failed))
        }
    }
}

/// Whether the repository has the backup, which is annotated then.
fn annotate(settings: &AnnotateSettings, repository: &RepositorySettings) -> Result<bool> {
    let open = repository.open()?;
    let stanza = Stanza::open(&open, &settings.stanza)?;
    let label = &settings.label;
    if !stanza.repository().backups(stanza.name())?.contains(label) {
        return Ok(false);
    }
    tracing::info!("backup set '{label}' to annotate found in repo{}", repository.key);
    note::annotate(stanza.repository(), stanza.name(), label, settings.annotations.clone(), &settings.program)?;
    Ok(true)
}
