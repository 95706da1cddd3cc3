//! Running a command to its end.

use std::io::Write;
use std::process::{Command, ExitStatus, Stdio};
use std::thread;
use std::time::Duration;

use pgark_system::clock::Stopwatch;

/// A command that has ended.
#[derive(Clone, Debug)]
pub struct Finished {
    command: String,
    /// How it ended.
    pub status: ExitStatus,
    /// What it wrote to standard output, as it is.
    pub stdout_bytes: Vec<u8>,
    /// What it wrote to standard output, as text.
    pub stdout: String,
    /// What it wrote to standard error.
    pub stderr: String,
    /// How long it took.
    pub elapsed: Duration,
}

#[expect(clippy::return_self_not_must_use, reason = "what was expected is often all a test wants to know")]
impl Finished {
    /// The exit code; `None` when a signal ended the command.
    pub fn code(&self) -> Option<i32> {
        self.status.code()
    }

    /// Panics, showing what the command wrote, unless it ended with exit code 0.
    #[track_caller]
    pub fn expect_success(self) -> Self {
        self.expect_code(0)
    }

    /// Panics, showing what the command wrote, unless it ended with exit code `code`.
    #[track_caller]
    pub fn expect_code(self, code: i32) -> Self {
        assert!(self.code() == Some(code), "expected exit code {code}, got {}", self.report());
        self
    }

    /// The command, how it ended and what it wrote, for a message.
    pub fn report(&self) -> String {
        let Self { command, status, stdout, stderr, .. } = self;
        format!("{status} from\n  {command}\n--- stdout\n{stdout}\n--- stderr\n{stderr}\n---")
    }
}

/// Runs `command` to its end, with an empty standard input.
#[track_caller]
pub fn run(command: &mut Command) -> Finished {
    run_with_input(command, b"")
}

/// Runs `command` to its end with `input` on its standard input.
#[track_caller]
pub fn run_with_input(command: &mut Command, input: &[u8]) -> Finished {
    let stopwatch = Stopwatch::start();
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let shown = format!("{command:?}");
    let mut child = command.spawn().unwrap_or_else(|error| panic!("failed to start {shown}: {error}"));
    let mut stdin = child.stdin.take().expect("standard input is piped");
    let output = thread::scope(|scope| {
        scope.spawn(move || {
            // A command may end without reading what it was given; its output tells the rest.
            let _closed_early = stdin.write_all(input);
        });
        child.wait_with_output()
    });
    let output = output.unwrap_or_else(|error| panic!("failed to wait for {shown}: {error}"));
    Finished {
        command: shown,
        status: output.status,
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stdout_bytes: output.stdout,
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        elapsed: stopwatch.elapsed(),
    }
}
