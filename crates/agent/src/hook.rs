//! Hooks: what is called when something has happened. One that fails is told of, and changes nothing else.

use std::io::Write;
use std::process::{Child, Command, Stdio};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use jiff::Timestamp;
use pgark_system::clock;
use serde::Serialize;

use crate::status::{Board, Level};

/// How often a command is looked at that runs.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// What may be called for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Event {
    /// A job has done what it was to do.
    Success,
    /// A job has failed.
    Failure,
    /// The schedule is not kept.
    Late,
    /// WAL is missing in the archive.
    WalGap,
}

impl Event {
    /// Its name, as in the options.
    pub fn name(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Failure => "failure",
            Self::Late => "late",
            Self::WalGap => "wal-gap",
        }
    }
}

/// What a hook is told.
#[derive(Clone, Debug, Serialize)]
pub struct Notice {
    /// What has happened.
    pub event: Event,
    /// When.
    pub time: Timestamp,
    /// On which host.
    pub host: String,
    /// Of which stanza.
    pub stanza: String,
    /// Of which kind of job, if of one.
    pub job: Option<&'static str>,
    /// The exit code of the job, if it has ended with one.
    pub code: Option<i32>,
    /// What has happened, in words.
    pub message: String,
}

/// What is called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hook {
    /// A command, as a shell understands it.
    Command(String),
    /// A URL that the notice is posted to.
    Webhook(String),
}

impl Hook {
    /// Reads what is called: a URL, or else a command.
    pub fn parse(text: &str) -> Self {
        if text.starts_with("http://") || text.starts_with("https://") {
            Self::Webhook(text.to_owned())
        } else {
            Self::Command(text.to_owned())
        }
    }
}

/// What is called for each event.
#[derive(Clone, Debug, Default)]
pub struct Hooks {
    /// By event.
    pub hooks: Vec<(Event, Hook)>,
    /// How long each may take.
    pub timeout: Duration,
}

impl Hooks {
    /// Calls what is to be called, without waiting for it. Gives the threads that do.
    pub(crate) fn call(&self, notice: &Notice, board: &Board) -> Vec<JoinHandle<()>> {
        let mut calls = Vec::new();
        for (_, hook) in self.hooks.iter().filter(|(event, _)| *event == notice.event) {
            let (hook, told, timeout, its_board) = (hook.clone(), notice.clone(), self.timeout, board.clone());
            let call = move || {
                if let Err(reason) = call(&hook, &told, timeout) {
                    let text = format!("hook-{} failed: {reason}", told.event.name());
                    its_board.tell(clock::now(), Level::Warning, Some(&told.stanza), &text);
                }
            };
            match thread::Builder::new().name("hook".to_owned()).spawn(call) {
                Ok(thread) => calls.push(thread),
                Err(error) => {
                    let text = format!("hook-{} failed: {error}", notice.event.name());
                    board.tell(clock::now(), Level::Warning, Some(&notice.stanza), &text);
                }
            }
        }
        calls
    }
}

fn call(hook: &Hook, notice: &Notice, timeout: Duration) -> Result<(), String> {
    let body = serde_json::to_vec(notice).map_err(|error| error.to_string())?;
    match hook {
        Hook::Command(command) => run(command, notice, &body, timeout),
        Hook::Webhook(url) => pgark_storage::post_json(url, body, timeout),
    }
}

/// Runs a command. It finds the notice in its environment, and as JSON on its standard input.
fn run(command: &str, notice: &Notice, body: &[u8], timeout: Duration) -> Result<(), String> {
    let mut shell = Command::new("/bin/sh");
    shell.arg("-c").arg(command).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    shell.env("PGARK_HOOK_EVENT", notice.event.name());
    shell.env("PGARK_HOOK_STANZA", &notice.stanza);
    shell.env("PGARK_HOOK_JOB", notice.job.unwrap_or_default());
    shell.env("PGARK_HOOK_CODE", notice.code.map(|code| code.to_string()).unwrap_or_default());
    shell.env("PGARK_HOOK_MESSAGE", &notice.message);
    let mut child = shell.spawn().map_err(|error| format!("'{command}' can't be run: {error}"))?;
    if let Some(mut input) = child.stdin.take() {
        // A command need not read it. It fits into a pipe, so that nobody waits here.
        let _unread = input.write_all(body);
    }
    let status = clock::wait_for(timeout, LOOK_INTERVAL, || child.try_wait()).map_err(|error| error.to_string())?;
    match status {
        Some(status) if status.success() => Ok(()),
        Some(status) => Err(format!("'{command}' ended with {status}")),
        None => {
            end(&mut child);
            Err(format!("'{command}' has not ended within {timeout:?}"))
        }
    }
}

fn end(child: &mut Child) {
    // If it has ended just now, that is as good.
    let _gone = child.kill();
    let _gone = child.wait();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn notice() -> Notice {
        Notice {
            event: Event::Failure,
            time: "2026-11-26T00:00:00Z".parse().unwrap(),
            host: "db1".to_owned(),
            stanza: "demo".to_owned(),
            job: Some("incr"),
            code: Some(56),
            message: "incr failed with exit code 56".to_owned(),
        }
    }

    #[test]
    fn a_command_is_told_what_has_happened() {
        let directory = tempfile::tempdir().unwrap();
        let told = directory.path().join("told");
        let command = format!(
            "echo $PGARK_HOOK_EVENT $PGARK_HOOK_STANZA $PGARK_HOOK_JOB $PGARK_HOOK_CODE > {0}; cat >> {0}",
            told.display()
        );
        call(&Hook::parse(&command), &notice(), Duration::from_secs(20)).unwrap();
        let told = fs_err::read_to_string(told).unwrap();
        let (line, json) = told.split_once('\n').unwrap();
        assert_eq!(line, "failure demo incr 56");
        let json: serde_json::Value = serde_json::from_str(json).unwrap();
        assert_eq!((&json["event"], &json["code"]), (&"failure".into(), &56.into()));
    }

    #[test]
    fn a_command_that_fails_or_hangs_is_told_of() {
        let call = |command: &str| call(&Hook::parse(command), &notice(), Duration::from_millis(300)).unwrap_err();
        assert_eq!(call("exit 3"), "'exit 3' ended with exit status: 3");
        assert_eq!(call("exec sleep 600"), "'exec sleep 600' has not ended within 300ms");
    }
}
