//! `pgark archive-get <file> <destination>`

use std::path::PathBuf;

use pgark_config::Configuration;
use pgark_engine::archive_get::{self, ArchiveGetSettings, Gotten};

use crate::exit;
use crate::failure::Result;
use crate::settings;

/// Gets one WAL file; gives [`exit::ABSENT`] only where it is proven that no repository has it.
pub(crate) fn run(configuration: &Configuration) -> Result<u8> {
    let [file, destination] = configuration.parameters() else {
        unreachable!("the configuration counts the parameters of archive-get");
    };
    let settings = ArchiveGetSettings {
        stanza: settings::stanza(configuration)?,
        file: file.clone(),
        destination: PathBuf::from(destination),
        data_directory: settings::data_directory(configuration),
        repositories: settings::repositories(configuration)?,
    };
    match archive_get::run(&settings)? {
        Gotten::From(_) => Ok(exit::SUCCESS),
        Gotten::Absent => Ok(exit::ABSENT),
    }
}
