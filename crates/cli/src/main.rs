//! The `pgark` program: from a command line to typed settings, from reports to output, from errors to exit codes.

mod commands;
mod exit;
mod failure;
mod logging;
mod output;
mod progress;
mod run;
mod settings;
mod terminal;

use std::panic;
use std::process::ExitCode;

use crate::run::Program;

fn main() -> ExitCode {
    let program = Program::of_process();
    let code = panic::catch_unwind(|| program.run());
    ExitCode::from(code.unwrap_or_else(|_| program.without_understanding(exit::PANIC)))
}
