//! Tasks of pgark's developers that need code: `cargo run -p xtask -- <task>`.
//!
//! - `reference` writes `docs/reference.md` from the table of options; `reference --check` fails if it differs.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use fs_err as fs;

const USAGE: &str = "usage: cargo run -p xtask -- reference [--check]";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let result = match arguments[..] {
        ["reference"] => write_reference(),
        ["reference", "--check"] => check_reference(),
        _ => Err(io::Error::other(USAGE)),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nothing can be done about a standard error that is closed.
            let _written = writeln!(io::stderr(), "{error}");
            ExitCode::FAILURE
        }
    }
}

/// Where the reference is kept.
fn reference_path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/reference.md")
}

fn write_reference() -> io::Result<()> {
    fs::write(reference_path(), pgark_config::reference_markdown())
}

fn check_reference() -> io::Result<()> {
    if fs::read_to_string(reference_path())? == pgark_config::reference_markdown() {
        return Ok(());
    }
    Err(io::Error::other("docs/reference.md is not up to date; run 'cargo run -p xtask -- reference'"))
}
