//! `pgark start` and `pgark stop`

use pgark_config::{Configuration, option};
use pgark_engine::control;

use crate::failure::Result;
use crate::settings;

/// Allows commands to run again.
pub(crate) fn start(configuration: &Configuration) -> Result<()> {
    Ok(control::start(&settings::control(configuration)?)?)
}

/// Keeps commands from running.
pub(crate) fn stop(configuration: &Configuration) -> Result<()> {
    Ok(control::stop(&settings::control(configuration)?, configuration.boolean(&option::STOP_FORCE))?)
}
