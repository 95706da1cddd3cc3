//! `pgark annotate`

use pgark_config::{Configuration, option};
use pgark_engine::annotate::{self, AnnotateSettings};
use pgark_repository::Label;

use crate::failure::{Failure, Result};
use crate::run::PROGRAM;
use crate::settings;

/// Annotates a backup in every repository that has it, or in the one that `--repo` names.
pub(crate) fn run(configuration: &Configuration) -> Result<()> {
    let set = configuration.text(&option::ANNOTATE_SET);
    let label: Label =
        set.parse().map_err(|_| Failure::option_value(format!("'{set}' is not a valid backup label format")))?;
    let settings = AnnotateSettings {
        stanza: settings::stanza(configuration)?,
        label,
        annotations: settings::annotations(configuration)?,
        repositories: settings::repositories(configuration)?,
        program: PROGRAM.to_owned(),
    };
    Ok(annotate::run(&settings)?)
}
