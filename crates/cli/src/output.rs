//! Writing to standard output and standard error.

use std::io::{self, BufWriter, ErrorKind as IoErrorKind, StdoutLock, Write};

use pgark_engine::{Error, ErrorKind};

use crate::failure::Result;

/// Writes what the user has asked for to standard output. If nobody reads it any more, as in `pgark info | head`, that
/// is no error.
pub(crate) fn print(text: &str) -> Result<()> {
    let mut standard_output = io::stdout().lock();
    match standard_output.write_all(text.as_bytes()).and_then(|()| standard_output.flush()) {
        Err(error) if error.kind() != IoErrorKind::BrokenPipe => Err(failed(error).into()),
        _ => Ok(()),
    }
}

/// Standard output, for what comes in many pieces.
#[derive(Debug)]
pub(crate) struct Output {
    stream: BufWriter<StdoutLock<'static>>,
    /// Whether nobody reads any more.
    is_closed: bool,
}

impl Output {
    /// Takes standard output. The log can't be written to it as long as this lives.
    pub(crate) fn new() -> Self {
        Self { stream: BufWriter::new(io::stdout().lock()), is_closed: false }
    }

    /// Writes text.
    pub(crate) fn put(&mut self, text: &str) -> Result<(), Error> {
        self.write_all(text.as_bytes()).map_err(failed)
    }

    /// `result`, or success where it failed because nobody reads any more.
    pub(crate) fn unless_closed(&self, result: Result<(), Error>) -> Result<()> {
        if self.is_closed { Ok(()) } else { Ok(result?) }
    }

    /// Makes sure that all is written.
    pub(crate) fn finish(mut self) -> Result<()> {
        let flushed = self.flush().map_err(failed);
        self.unless_closed(flushed)
    }

    fn note<T>(&mut self, result: io::Result<T>) -> io::Result<T> {
        self.is_closed |= result.as_ref().is_err_and(|error| error.kind() == IoErrorKind::BrokenPipe);
        result
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.stream.write(bytes);
        self.note(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        let flushed = self.stream.flush();
        self.note(flushed)
    }
}

fn failed(error: io::Error) -> Error {
    Error::new(ErrorKind::FileWrite, "failed to write to standard output").source(error)
}

/// Writes to standard error. There is nobody to tell if that fails.
pub(crate) fn complain(text: &str) {
    let _nobody_listens = io::stderr().lock().write_all(text.as_bytes());
}
