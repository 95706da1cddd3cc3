//! Starting the processes of asynchronous archiving.

use std::io;
use std::process::{Child, Command, Stdio};

use pgark_config::{Configuration, Role};

/// What a background shows nobody: PostgreSQL's log is that of the foreground.
const QUIET: [&str; 2] = ["log-level-console", "log-level-stderr"];

/// Starts the background of the command, with the same configuration and the parameter it begins with.
pub(crate) fn start(configuration: &Configuration, parameter: &str) -> io::Result<Child> {
    let command = configuration.command();
    let is_shown = |option: &String| QUIET.iter().any(|quiet| option.contains(quiet));
    let mut options = configuration.command_line_options(command);
    options.retain(|option| !is_shown(option));
    Command::new(std::env::current_exe()?)
        .args(options)
        .args(QUIET.map(|quiet| format!("--{quiet}=off")))
        .args([&command.name_in_role(Role::Async), parameter])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
}

/// Takes the process away from the one that has started it, which PostgreSQL may end with all that belongs to it.
pub(crate) fn detach() -> io::Result<()> {
    rustix::process::setsid()?;
    Ok(())
}
