//! `pgark archive-push <path>`

use std::path::PathBuf;

use pgark_config::{Configuration, Role, option};
use pgark_engine::archive_push::{self, ArchivePushSettings, PushSettings};
use pgark_engine::asynchronous::push::{self, BackgroundSettings};

use crate::commands::background;
use crate::failure::Result;
use crate::settings;

/// Pushes one WAL file to every repository, or all that are ready in the background.
pub(crate) fn run(configuration: &Configuration) -> Result<()> {
    let [file] = configuration.parameters() else {
        unreachable!("the configuration counts the parameters of archive-push");
    };
    let push = PushSettings {
        stanza: settings::stanza(configuration)?,
        repositories: settings::repositories(configuration)?,
        header_check: configuration.boolean(&option::ARCHIVE_HEADER_CHECK),
        write: settings::write_options(configuration),
        workers: settings::workers(configuration),
    };
    let queue_max = configuration.optional_size(&option::ARCHIVE_PUSH_QUEUE_MAX);
    if configuration.role() == Role::Async {
        let settings = BackgroundSettings {
            wal_directory: PathBuf::from(file),
            push,
            queue_max,
            batch_size: configuration.size(&option::ARCHIVE_PUSH_BATCH_SIZE),
            shared: settings::asynchronous(configuration),
        };
        return Ok(push::background(&settings)?);
    }
    let settings = ArchivePushSettings {
        file: PathBuf::from(file),
        data_directory: settings::optional_data_directory(configuration),
        queue_max,
        lock_path: settings::lock_path(configuration),
        push,
    };
    if !configuration.boolean(&option::ARCHIVE_ASYNC) {
        return Ok(archive_push::run(&settings)?);
    }
    let shared = settings::asynchronous(configuration);
    Ok(push::run(&settings, &shared, &mut |directory| background::start(configuration, directory))?)
}
