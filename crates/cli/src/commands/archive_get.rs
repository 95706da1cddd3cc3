//! `pgark archive-get <file> <destination>`

use std::path::PathBuf;

use pgark_config::{Configuration, Role, option};
use pgark_engine::archive_get::{self, ArchiveGetSettings, Gotten};
use pgark_engine::asynchronous::get::{self, BackgroundSettings};

use crate::commands::background;
use crate::exit;
use crate::failure::Result;
use crate::settings;

/// Gets one WAL file; gives [`exit::ABSENT`] only where it is proven that no repository has it. In the background it
/// fetches ahead.
pub(crate) fn run(configuration: &Configuration) -> Result<u8> {
    if configuration.role() == Role::Async {
        fetch_ahead(configuration)?;
        return Ok(exit::SUCCESS);
    }
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
    let gotten = if configuration.boolean(&option::ARCHIVE_ASYNC) {
        let shared = settings::asynchronous(configuration);
        let queue_max = configuration.size(&option::ARCHIVE_GET_QUEUE_MAX);
        get::run(&settings, &shared, queue_max, &mut |first| background::start(configuration, first))?
    } else {
        archive_get::run(&settings)?
    };
    match gotten {
        Gotten::From(_) | Gotten::FromSpool => Ok(exit::SUCCESS),
        Gotten::Absent => Ok(exit::ABSENT),
    }
}

fn fetch_ahead(configuration: &Configuration) -> Result<()> {
    let [first] = configuration.parameters() else {
        unreachable!("the configuration counts the parameters of archive-get:async");
    };
    let settings = BackgroundSettings {
        stanza: settings::stanza(configuration)?,
        first: first.clone(),
        data_directory: settings::data_directory(configuration),
        repositories: settings::repositories(configuration)?,
        workers: settings::workers(configuration),
        queue_max: configuration.size(&option::ARCHIVE_GET_QUEUE_MAX),
        shared: settings::asynchronous(configuration),
    };
    Ok(get::background(&settings)?)
}
