//! `pgark stanza-upgrade`

use pgark_config::{Configuration, option};
use pgark_engine::stanza_upgrade::{self, StanzaUpgradeSettings};

use crate::failure::Result;
use crate::settings;

/// Makes the cluster of the data directory the stanza's current one, in every repository.
pub(crate) fn run(configuration: &Configuration) -> Result<()> {
    let is_online = configuration.boolean(&option::ONLINE);
    let settings = StanzaUpgradeSettings {
        stanza: settings::stanza(configuration)?,
        data_directory: settings::data_directory(configuration),
        connection: is_online.then(|| settings::connect(configuration)).transpose()?,
        repositories: settings::repositories(configuration)?,
        locks: settings::locks(configuration),
    };
    Ok(stanza_upgrade::run(&settings)?)
}
