//! `pgark stanza-delete`

use pgark_config::{Configuration, option};
use pgark_engine::stanza_delete::{self, StanzaDeleteSettings};

use crate::failure::{Failure, Result};
use crate::settings;

/// Deletes the stanza from the repository that `--repo` names, or from the only one there is.
pub(crate) fn run(configuration: &Configuration) -> Result<()> {
    let is_certain = configuration.is_set(&option::REPO) || configuration.repository_keys() == [1];
    let mut repositories = settings::repositories(configuration)?;
    let (true, Some(repository)) = (is_certain, repositories.pop()) else {
        return Err(Failure::option_required("stanza-delete command requires option: repo")
            .hint("this command requires a specific repository to operate on"));
    };
    let settings = StanzaDeleteSettings {
        stanza: settings::stanza(configuration)?,
        data_directory: settings::data_directory(configuration),
        repository,
        force: configuration.boolean(&option::STANZA_DELETE_FORCE),
        locks: settings::locks(configuration),
        host: settings::host(),
    };
    Ok(stanza_delete::run(&settings)?)
}
