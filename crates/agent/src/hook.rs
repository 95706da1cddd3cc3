//! Hooks: what is called when something has happened. One that fails is told of, and changes nothing else.

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use jiff::Timestamp;
use pgark_system::clock;
use rustix::process::{Pid, Signal, kill_process_group};
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

/// Runs a command. It finds the notice in its environment, and as JSON on its standard input. Errors do not repeat it, since
/// it may have a token in it.
fn run(command: &str, notice: &Notice, body: &[u8], timeout: Duration) -> Result<(), String> {
    let mut shell = Command::new("/bin/sh");
    shell.arg("-c").arg(command).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    // What the shell has begun ends with it.
    shell.process_group(0);
    shell.env("PGARK_HOOK_EVENT", notice.event.name());
    shell.env("PGARK_HOOK_STANZA", &notice.stanza);
    shell.env("PGARK_HOOK_JOB", notice.job.unwrap_or_default());
    shell.env("PGARK_HOOK_CODE", notice.code.map(|code| code.to_string()).unwrap_or_default());
    shell.env("PGARK_HOOK_MESSAGE", &notice.message);
    let mut child = shell.spawn().map_err(|error| format!("the command can't be run: {error}"))?;
    if let Some(mut input) = child.stdin.take() {
        // A command need not read it. It fits into a pipe, so that nobody waits here.
        let _unread = input.write_all(body);
    }
    let status = clock::wait_for(timeout, LOOK_INTERVAL, || child.try_wait()).map_err(|error| error.to_string())?;
    match status {
        Some(status) if status.success() => Ok(()),
        Some(status) => Err(format!("the command ended with {status}")),
        None => {
            end(&mut child);
            Err(format!("the command has not ended within {timeout:?}"))
        }
    }
}

fn end(child: &mut Child) {
    // If it has ended just now, that is as good.
    let _gone = kill_process_group(Pid::from_child(child), Signal::KILL);
    let _gone = child.wait();
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::net::TcpListener;

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
        assert_eq!(call("exit 3"), "the command ended with exit status: 3");
        let directory = tempfile::tempdir().unwrap();
        let child = directory.path().join("child");
        let command = format!("sleep 600 & echo $! > {}; wait", child.display());
        assert_eq!(call(&command), "the command has not ended within 300ms");
        let child = fs_err::read_to_string(child).unwrap();
        let state = || fs_err::read_to_string(format!("/proc/{}/stat", child.trim())).unwrap_or_default();
        // Whoever is to look after orphans here may let it lie as a zombie.
        let has_ended = || Ok::<_, ()>((state().is_empty() || state().contains(") Z ")).then_some(()));
        assert_eq!(clock::wait_for(Duration::from_secs(20), LOOK_INTERVAL, has_ended), Ok(Some(())));
    }

    /// Answers one request after so long; gives the URL, with a token in it, and the request.
    fn listener(answer: &'static str, delay: Duration) -> (String, JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/hooks/a-token", listener.local_addr().unwrap());
        let served = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let (mut asked, mut part) = (Vec::new(), [0; 4096]);
            while !asked.ends_with(b"}") {
                let read = stream.read(&mut part).unwrap();
                assert!(read > 0, "the request has an end");
                asked.extend_from_slice(&part[..read]);
            }
            thread::sleep(delay);
            let _gone = stream.write_all(answer.as_bytes());
            String::from_utf8(asked).unwrap()
        });
        (url, served)
    }

    #[test]
    fn a_url_is_told_what_has_happened() {
        let (url, served) = listener("HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n", Duration::ZERO);
        call(&Hook::parse(&url), &notice(), Duration::from_secs(20)).unwrap();
        let asked = served.join().unwrap();
        let (head, body) = asked.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("POST /hooks/a-token HTTP/1.1\r\n"), "{head}");
        assert!(head.to_ascii_lowercase().contains("content-type: application/json"), "{head}");
        assert_eq!(body.as_bytes(), serde_json::to_vec(&notice()).unwrap());
    }

    #[test]
    fn a_url_that_fails_is_told_of_without_its_token() {
        let refuses = "HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n";
        let (refusing, _served) = listener(refuses, Duration::ZERO);
        let (silent, _served) = listener("", Duration::from_secs(2));
        let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let cases = [
            (refusing, "500"),
            (silent, "not answer"),
            (format!("http://{nobody}/hooks/a-token"), "refused"),
            ("http://[oops/hooks/a-token".to_owned(), "is no URL"),
        ];
        for (url, expected) in cases {
            let error = call(&Hook::parse(&url), &notice(), Duration::from_millis(500)).unwrap_err();
            assert!(error.contains(expected) && !error.contains("a-token"), "{error}");
        }
    }
}
