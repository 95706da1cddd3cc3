//! `pgark help`

use pgark_config::HelpTopic;

use crate::failure::Result;
use crate::output;

/// Shows help on a topic.
pub(crate) fn run(topic: HelpTopic) -> Result<()> {
    output::print(&pgark_config::help(topic))
}
