//! Jobs as processes: each is a run of this program, as from cron.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::thread;

use rustix::process::{Pid, Signal, kill_process};

/// How many of the last lines of a job are kept, and how many bytes of each.
const LINES: usize = 20;
const LINE_BYTES: usize = 2000;

/// How a process has ended.
#[derive(Debug)]
pub(crate) struct Ended {
    /// Its exit code, if no signal ended it.
    pub(crate) code: Option<i32>,
    /// The last lines that it wrote.
    pub(crate) lines: Vec<String>,
}

/// Begins a process. `on_end` is called on a thread of its own when it has ended. Gives its id.
pub(crate) fn spawn(
    program: &Path,
    arguments: &[OsString],
    on_end: impl FnOnce(Ended) + Send + 'static,
) -> io::Result<u32> {
    let (reader, writer) = io::pipe()?;
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(writer.try_clone()?).stderr(writer);
    let mut child = command.spawn()?;
    // It holds the writing end of the pipe, which would never end.
    drop(command);
    let process = child.id();
    thread::Builder::new().name(format!("job {process}")).spawn(move || {
        let lines = last_lines(reader);
        let code = child.wait().ok().as_ref().and_then(ExitStatus::code);
        on_end(Ended { code, lines });
    })?;
    Ok(process)
}

/// Asks a process to end.
pub(crate) fn terminate(process: u32) {
    let Some(pid) = i32::try_from(process).ok().and_then(Pid::from_raw) else { return };
    if let Err(error) = kill_process(pid, Signal::TERM) {
        tracing::debug!("unable to send term signal to process {process}: {error}");
    }
}

/// The last lines until the end, none of them too long. What can't be read ends it, too.
fn last_lines(from: impl Read) -> Vec<String> {
    let mut reader = BufReader::new(from);
    let mut lines = VecDeque::new();
    loop {
        let mut line = Vec::new();
        match (&mut reader).take(LINE_BYTES as u64).read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => return lines.into(),
            Ok(_) => {
                if lines.len() == LINES {
                    lines.pop_front();
                }
                lines.push_back(String::from_utf8_lossy(&line).trim_end().to_owned());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    #[test]
    fn a_job_is_known_by_its_exit_code_and_its_last_lines() {
        let (sender, ended) = channel();
        let script = "for i in $(seq 100); do echo line $i; done; echo last >&2; exit 50";
        let arguments = ["-c", script].map(OsString::from);
        spawn(Path::new("/bin/sh"), &arguments, move |ended| sender.send(ended).unwrap()).unwrap();
        let ended = ended.recv().unwrap();
        assert_eq!((ended.code, ended.lines.len()), (Some(50), LINES));
        assert_eq!((ended.lines[0].as_str(), ended.lines[LINES - 1].as_str()), ("line 82", "last"));
    }

    #[test]
    fn a_job_that_is_asked_to_end_ends() {
        let (sender, ended) = channel();
        let process =
            spawn(Path::new("/bin/sleep"), &[OsString::from("600")], move |ended| sender.send(ended).unwrap());
        terminate(process.unwrap());
        assert_eq!(ended.recv().unwrap().code, None);
    }

    #[test]
    fn a_line_without_end_takes_no_memory() {
        let lines = last_lines(io::repeat(b'x').take(1 << 20));
        assert_eq!((lines.len(), lines[0].len()), (LINES, LINE_BYTES));
    }
}
