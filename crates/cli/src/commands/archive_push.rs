//! `pgark archive-push <path>`

use std::path::PathBuf;

use pgark_config::{Configuration, option};
use pgark_engine::archive_push::{self, ArchivePushSettings};

use crate::failure::Result;
use crate::settings;

/// Pushes one WAL file to every repository.
pub(crate) fn run(configuration: &Configuration) -> Result<()> {
    let [file] = configuration.parameters() else {
        unreachable!("the configuration counts the parameters of archive-push");
    };
    let settings = ArchivePushSettings {
        stanza: settings::stanza(configuration)?,
        file: PathBuf::from(file),
        data_directory: settings::optional_data_directory(configuration),
        repositories: settings::repositories(configuration)?,
        header_check: configuration.boolean(&option::ARCHIVE_HEADER_CHECK),
        write: settings::write_options(configuration),
        workers: settings::workers(configuration),
    };
    Ok(archive_push::run(&settings)?)
}
