//! Writing to standard output and standard error.

use std::io::{self, ErrorKind as IoErrorKind, Write};

use pgark_engine::{Error, ErrorKind};

use crate::failure::Result;

/// Writes what the user has asked for to standard output. If nobody reads it any more, as in `pgark info | head`, that
/// is no error.
pub(crate) fn print(text: &str) -> Result<()> {
    let mut standard_output = io::stdout().lock();
    match standard_output.write_all(text.as_bytes()).and_then(|()| standard_output.flush()) {
        Err(error) if error.kind() != IoErrorKind::BrokenPipe => {
            Err(Error::new(ErrorKind::FileWrite, "failed to write to standard output").source(error).into())
        }
        _ => Ok(()),
    }
}

/// Writes to standard error. There is nobody to tell if that fails.
pub(crate) fn complain(text: &str) {
    let _nobody_listens = io::stderr().lock().write_all(text.as_bytes());
}
