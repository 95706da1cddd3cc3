//! The log file.

use std::io::{self, Write};
use std::path::Path;

use fs_err as fs;
use fs_err::os::unix::fs::OpenOptionsExt;
use pgark_system::durable;

const BANNER: &str = "-------------------PROCESS START-------------------\n";

/// A log file, which is only ever appended to.
#[derive(Debug)]
pub(super) struct LogFile {
    file: fs::File,
    /// Whether a banner is still to be written.
    wants_banner: bool,
}

impl LogFile {
    /// Opens the file, and creates it and its directory where they are missing.
    /// Before the first line comes a banner, if it is wanted.
    pub(super) fn open(path: &Path, wants_banner: bool) -> io::Result<Self> {
        if let Some(directory) = path.parent() {
            durable::create_directory_all(directory, 0o750)?;
        }
        let file = fs::OpenOptions::new().append(true).create(true).mode(0o640).open(path)?;
        Ok(Self { file, wants_banner })
    }

    /// Appends a line. A log that can't be written keeps nobody from working.
    pub(super) fn write(&mut self, line: &str) {
        let text = if self.wants_banner { format!("{}{line}", self.banner()) } else { line.to_owned() };
        self.wants_banner = false;
        let _lost = self.file.write_all(text.as_bytes());
    }

    fn banner(&self) -> String {
        let is_empty = self.file.metadata().is_ok_and(|metadata| metadata.len() == 0);
        format!("{}{BANNER}", if is_empty { "" } else { "\n" })
    }
}
