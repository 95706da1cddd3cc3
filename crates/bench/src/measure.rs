//! One run of a command, and what it cost.

use std::io;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use pgark_system::clock::Stopwatch;
use serde::{Deserialize, Serialize};

use crate::process_tree::{self, MemorySampler};

/// What one run cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Cost {
    /// From its start to its end.
    pub(crate) seconds: f64,
    /// User and system time of the program, everything it started, and the database server meanwhile.
    pub(crate) cpu_seconds: f64,
    /// The most memory that the program and everything it started held at once (PSS, sampled).
    pub(crate) memory_bytes: u64,
    /// What reached the object store meanwhile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) traffic: Option<Traffic>,
}

/// What reached an object store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Traffic {
    pub(crate) requests: u64,
    pub(crate) bytes_sent: u64,
    pub(crate) bytes_received: u64,
}

impl std::iter::Sum for Traffic {
    fn sum<I: Iterator<Item = Self>>(parts: I) -> Self {
        parts.fold(Self::default(), |sum, part| Self {
            requests: sum.requests + part.requests,
            bytes_sent: sum.bytes_sent + part.bytes_sent,
            bytes_received: sum.bytes_received + part.bytes_received,
        })
    }
}

impl Traffic {
    /// What came after `before`.
    pub(crate) fn since(self, before: Self) -> Self {
        Self {
            requests: self.requests - before.requests,
            bytes_sent: self.bytes_sent - before.bytes_sent,
            bytes_received: self.bytes_received - before.bytes_received,
        }
    }
}

/// Makes the CPU time of every process that is started from now on visible here, also of one whose parent does not
/// wait for it.
pub(crate) fn adopt_orphans() -> io::Result<()> {
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
    Ok(())
}

/// Runs `command` to its end, which must be a success. CPU time of the processes `bystanders` does not count.
pub(crate) fn measure(command: &mut Command, bystanders: &[u32]) -> io::Result<Cost> {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let cpu_before = process_tree::cpu_seconds_of_descendants(bystanders)?;
    let stopwatch = Stopwatch::start();
    let child = command.spawn()?;
    let (output, memory_bytes, seconds) = watch(child, stopwatch);
    let cpu_after = process_tree::cpu_seconds_of_descendants(bystanders)?;
    expect_success(command, &output?)?;
    Ok(Cost { seconds, cpu_seconds: cpu_after - cpu_before, memory_bytes, traffic: None })
}

fn watch(child: Child, stopwatch: Stopwatch) -> (io::Result<Output>, u64, f64) {
    let pid = child.id();
    let (ended, ends) = mpsc::channel::<()>();
    thread::scope(|scope| {
        let sampler = scope.spawn(move || peak_memory_bytes(pid, &ends));
        let output = child.wait_with_output();
        let seconds = stopwatch.elapsed().as_secs_f64();
        drop(ended);
        (output, sampler.join().unwrap_or_default(), seconds)
    })
}

/// Samples often at first, for commands that are over soon, then ever more rarely up to ten times a second: reading
/// the memory of a process holds it up a little.
fn peak_memory_bytes(pid: u32, ends: &mpsc::Receiver<()>) -> u64 {
    let stopwatch = Stopwatch::start();
    let mut sampler = MemorySampler::of(pid);
    let mut peak = 0;
    loop {
        peak = peak.max(sampler.bytes());
        let interval = (stopwatch.elapsed() / 10).clamp(Duration::from_millis(2), Duration::from_millis(100));
        if ends.recv_timeout(interval) != Err(RecvTimeoutError::Timeout) {
            return peak;
        }
    }
}

fn expect_success(command: &Command, output: &Output) -> io::Result<()> {
    if output.status.success() {
        return Ok(());
    }
    let [stdout, stderr] = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes));
    Err(io::Error::other(format!("{} from {command:?}\n{stdout}{stderr}", output.status)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_grandchild_uses_counts_even_if_nobody_waits_for_it() {
        adopt_orphans().unwrap();
        // The inner shell is busy for a while and holds a string of 40 MB; the outer one is gone before it ends.
        let script = "sh -c 'x=$(head -c 40000000 /dev/zero | tr \"\\0\" x); i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done' & exit 0";
        let cost = measure(Command::new("sh").args(["-c", script]), &[]).unwrap();
        assert!(cost.cpu_seconds > 0.05, "{cost:?}");
        let script = script.replace("& exit 0", "; true");
        let cost = measure(Command::new("sh").args(["-c", &script]), &[]).unwrap();
        assert!(cost.memory_bytes > 40_000_000, "{cost:?}");
    }

    #[test]
    fn a_command_that_fails_is_no_measurement() {
        let error = measure(Command::new("sh").args(["-c", "echo lost >&2; exit 3"]), &[]).unwrap_err();
        assert!(error.to_string().contains("lost"), "{error}");
    }
}
