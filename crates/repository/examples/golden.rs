//! Writes the golden files of the format: `golden <directory>` fills it with a plain and an encrypted repository and,
//! beside each, with what is read from it. `tests/golden/README.md` says when to run it.

#![expect(clippy::unwrap_used, reason = "a tool of the tests, of which it shares some modules")]

#[path = "../tests/all/arranged.rs"]
mod arranged;
#[path = "../tests/all/backups.rs"]
mod backups;
#[path = "../tests/all/dump.rs"]
mod dump;
#[path = "../tests/all/restore.rs"]
mod restore;
#[path = "../tests/all/sample.rs"]
mod sample;
#[path = "../tests/all/sidecar.rs"]
mod sidecar;

use std::error::Error;
use std::path::Path;
use std::sync::Arc;

use fs_err as fs;
use pgark_repository::{Encryption, Repository};
use pgark_storage::{LocalStorage, probe};
use zeroize::Zeroizing;

const PASSPHRASE: &str = "correct horse battery staple";

fn main() -> Result<(), Box<dyn Error>> {
    let directory = std::env::args_os().nth(1).ok_or("usage: golden <directory>")?;
    let directory = Path::new(&directory);
    let passphrase = Encryption::Passphrase(Zeroizing::new(PASSPHRASE.to_owned()));
    let samples = [
        ("", sample::write as Sample),
        ("-garbage", sample::write_garbage),
        ("-sidecar", sidecar::write),
        ("-arranged", arranged::write),
    ];
    for (suffix, sample) in samples {
        write(directory, &format!("plain{suffix}"), &Encryption::None, sample)?;
        write(directory, &format!("encrypted{suffix}"), &passphrase, sample)?;
    }
    Ok(())
}

/// What fills a repository.
type Sample = fn(&Repository) -> pgark_repository::Result<()>;

fn write(directory: &Path, name: &str, encryption: &Encryption, sample: Sample) -> Result<(), Box<dyn Error>> {
    let path = directory.join(name);
    fs::create_dir_all(directory)?;
    // What is there already stays: golden files are never changed.
    if path.exists() {
        return Ok(());
    }
    fs::create_dir(&path)?;
    let storage = Arc::new(LocalStorage::open(&path)?);
    let capabilities = probe(&*storage)?;
    let repository = Repository::create(storage, encryption, capabilities, "pgark 0.0.0")?;
    sample(&repository)?;
    fs::write(directory.join(format!("{name}.txt")), dump::repository(&repository)?)?;
    Ok(())
}
