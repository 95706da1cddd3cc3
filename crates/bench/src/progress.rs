//! What happens, told while it happens.

use std::io::{self, Write};

/// Writes a line to standard error.
pub(crate) fn tell(line: &str) {
    // Nothing can be done about a standard error that is closed.
    let _written = writeln!(io::stderr(), "{line}");
}
