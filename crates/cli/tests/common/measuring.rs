//! What a run of the program takes.

use std::io::Read;
use std::process::{Command, Stdio};
use std::time::Duration;

use fs_err as fs;
use pgark_system::clock::Stopwatch;

use super::Site;

/// What a command has taken.
pub(crate) struct Taken {
    pub(crate) elapsed: Duration,
    pub(crate) memory_kib: u64,
    pub(crate) code: Option<i32>,
    pub(crate) output: String,
}

/// Runs the program, and watches how much memory it holds at most.
pub(crate) fn measure(site: &Site, arguments: &[&str]) -> Taken {
    let mut command: Command = site.command(arguments);
    command.args(["--stanza=demo"]).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let stopwatch = Stopwatch::start();
    let mut child = command.spawn().expect("the program can be started");
    let (mut stdout, mut stderr) =
        (child.stdout.take().expect("it is piped"), child.stderr.take().expect("it is piped"));
    let status = format!("/proc/{}/status", child.id());
    let peak = |text: String| -> Option<u64> {
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
        line.trim().strip_suffix(" kB")?.parse().ok()
    };
    std::thread::scope(|scope| {
        let output = scope.spawn(move || {
            let mut text = String::new();
            stdout.read_to_string(&mut text).expect("the output is text");
            text
        });
        let errors = scope.spawn(move || {
            let mut text = String::new();
            stderr.read_to_string(&mut text).expect("the output is text");
            text
        });
        let mut memory_kib = 0;
        let code = loop {
            // The kernel keeps the peak, so that only what comes after the last look can be missed.
            memory_kib = fs::read_to_string(&status).ok().and_then(peak).unwrap_or_default().max(memory_kib);
            if let Some(status) = child.try_wait().expect("the program can be waited for") {
                break status.code();
            }
            std::thread::sleep(Duration::from_millis(2));
        };
        let elapsed = stopwatch.elapsed();
        let output = output.join().expect("it was read") + &errors.join().expect("it was read");
        Taken { elapsed, memory_kib, code, output }
    })
}
