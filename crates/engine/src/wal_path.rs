//! Where the WAL files lie that PostgreSQL names.

use std::path::{Path, PathBuf};

use fs_err as fs;

use crate::error::{Error, ErrorKind, Result};

/// The file that PostgreSQL means by `file` (`%p`), which may be relative to its working directory: its data directory.
///
/// Another cluster of this host, perhaps one that was restored beside this one, has files of the same names. So a
/// relative path is only taken from a server that works in `data_directory`.
///
/// # Errors
/// [`ErrorKind::OptionInvalidValue`] if the working directory is another one; or what the file system says.
pub(crate) fn wal_path(file: &Path, data_directory: &Path) -> Result<PathBuf> {
    if file.is_absolute() {
        return Ok(file.to_owned());
    }
    let working_directory = std::env::current_dir()?;
    if working_directory == fs::canonicalize(data_directory)? {
        return Ok(data_directory.join(file));
    }
    let message = format!(
        "PostgreSQL working directory '{}' is not the same as option pg1-path '{}'",
        working_directory.display(),
        data_directory.display()
    );
    Err(Error::new(ErrorKind::OptionInvalidValue, message)
        .hint("is the PostgreSQL data_directory configured the same as the pg1-path option?"))
}
