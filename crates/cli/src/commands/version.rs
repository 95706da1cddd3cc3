//! `pgark version`

use pgark_config::VersionFormat;

use crate::failure::Result;
use crate::output;

/// Shows the version.
pub(crate) fn run(format: VersionFormat) -> Result<()> {
    output::print(&pgark_config::version(format))
}
