//! `pgark check`

use pgark_config::{Configuration, option};
use pgark_engine::check::{self, CheckSettings};

use crate::exit;
use crate::failure::{Failure, Result};
use crate::run::Program;
use crate::settings;

/// Checks the stanza, or every stanza of the configuration files where none is named.
pub(crate) fn run(program: &Program, configuration: &Configuration) -> Result<()> {
    if configuration.optional_text(&option::STANZA).is_some() {
        return check_stanza(configuration);
    }
    let stanzas = configuration.stanzas();
    if stanzas.is_empty() {
        return Err(Failure::option_required("check command requires option: stanza")
            .hint("no configuration file has a section for a stanza"));
    }
    let mut failed = Vec::new();
    for stanza in stanzas {
        tracing::info!("check stanza '{stanza}'");
        let checked = program.load_for_stanza(stanza).and_then(|configuration| check_stanza(&configuration));
        if let Err(failure) = checked {
            tracing::error!("{}", failure.of(&format!("stanza '{stanza}'")).log_message());
            failed.push(stanza.as_str());
        }
    }
    match &failed[..] {
        [] => Ok(()),
        failed => Err(Failure {
            code: exit::COMMAND,
            message: format!("check failed for {} of {} stanzas: {}", failed.len(), stanzas.len(), failed.join(", ")),
            hints: Vec::new(),
        }),
    }
}

fn check_stanza(configuration: &Configuration) -> Result<()> {
    let settings = CheckSettings {
        stanza: settings::stanza(configuration)?,
        data_directory: settings::data_directory(configuration),
        connection: settings::connect(configuration)?,
        repositories: settings::repositories(configuration)?,
        sidecars: settings::sidecars(configuration),
        archive_check: configuration.boolean(&option::ARCHIVE_CHECK),
        archive_mode_check: configuration.boolean(&option::ARCHIVE_MODE_CHECK),
        archive_timeout: configuration.duration(&option::ARCHIVE_TIMEOUT),
    };
    check::run(&settings)?;
    Ok(())
}
