//! `pgark repo-get <path>`

use pgark_config::{Configuration, option};
use pgark_engine::ErrorKind;
use pgark_engine::objects;

use crate::exit;
use crate::failure::{Failure, Result};
use crate::output::Output;
use crate::settings;

/// Writes an object to standard output. With `--ignore-missing` one that is missing is no error, but the exit code tells.
pub(crate) fn run(configuration: &Configuration) -> Result<u8> {
    let [path] = configuration.parameters() else {
        unreachable!("the configuration counts the parameters of repo-get");
    };
    let repository = settings::first_repository(configuration)?;
    let place = objects::place(path, settings::repository_path(configuration, repository.key))?;
    let Some(key) = place else {
        return Err(Failure::parameter(format!("'{path}' is the repository, not a file in it")));
    };
    if let Some(stanza) = configuration.optional_text(&option::STANZA)
        && matches!(key.segments().collect::<Vec<_>>()[..], ["stanza", other, ..] if other != stanza)
    {
        let message = format!("stanza name '{stanza}' given in option doesn't match the given path");
        return Err(Failure::option_value(message));
    }
    let mut output = Output::new();
    match objects::get(&repository, &key, configuration.boolean(&option::RAW), &mut output) {
        Err(error) if error.kind() == ErrorKind::FileMissing && configuration.boolean(&option::IGNORE_MISSING) => {
            Ok(exit::ABSENT)
        }
        got => {
            output.unless_closed(got)?;
            output.finish()?;
            Ok(exit::SUCCESS)
        }
    }
}
