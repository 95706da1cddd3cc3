//! `pgark stanza-create`

use pgark_config::{Configuration, option};
use pgark_engine::stanza_create::{self, StanzaCreateSettings};

use crate::failure::Result;
use crate::run::PROGRAM;
use crate::settings;

/// Creates the stanza in every repository.
pub(crate) fn run(configuration: &Configuration) -> Result<()> {
    let is_online = configuration.boolean(&option::ONLINE);
    let settings = StanzaCreateSettings {
        stanza: settings::stanza(configuration)?,
        data_directory: settings::data_directory(configuration),
        connection: is_online.then(|| settings::connect(configuration)).transpose()?,
        repositories: settings::repositories(configuration)?,
        locks: settings::locks(configuration),
        program: PROGRAM.to_owned(),
    };
    Ok(stanza_create::run(&settings)?)
}
