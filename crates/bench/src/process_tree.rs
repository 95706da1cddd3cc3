//! What a process and all it has started have used, from `/proc` (proc(5)).

use std::io;

use fs_err as fs;

/// How many ticks `/proc` counts in a second: `USER_HZ`, the same on every machine Linux runs on today.
const TICKS_PER_SECOND: f64 = 100.0;

/// CPU seconds, user and system, of everything this process has started so far, ended or not, except the processes
/// `bystanders` and what they started.
///
/// A process that ended without anybody waiting for it counts too, if it comes to this process as its reaper.
pub(crate) fn cpu_seconds_of_descendants(bystanders: &[u32]) -> io::Result<f64> {
    let itself = std::process::id();
    let ended = stat_times(&fs::read_to_string(format!("/proc/{itself}/stat"))?).map_or(0, |times| times.of_ended);
    let running: u64 = children(itself)
        .into_iter()
        .filter(|child| !bystanders.contains(child))
        .flat_map(with_descendants)
        .filter_map(times_of)
        .map(|times| times.own + times.of_ended)
        .sum();
    Ok(seconds(ended + running))
}

/// Looks again and again at the memory of a process and of everything it has started.
#[derive(Debug)]
pub(crate) struct MemorySampler {
    pid: u32,
    /// What ran when it was last looked.
    seen: Vec<u32>,
}

impl MemorySampler {
    /// One for the process `pid`.
    pub(crate) fn of(pid: u32) -> Self {
        Self { pid, seen: Vec::new() }
    }

    /// The memory in bytes of all that still runs: the sum of what each process holds alone and its share of what it
    /// holds with others (PSS).
    ///
    /// A process counts from the second look on. Who waits for the end of one that is being looked at is busy until the
    /// look is over, so that a look at each of hundreds that end at once would add to what they are measured to cost.
    pub(crate) fn bytes(&mut self) -> u64 {
        let running = with_descendants(self.pid);
        let known = running.iter().filter(|pid| self.seen.contains(pid));
        let bytes = known.map(|pid| memory_bytes(*pid)).sum();
        self.seen = running;
        bytes
    }
}

fn memory_bytes(pid: u32) -> u64 {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok();
    rollup.and_then(|text| proportional_bytes(&text)).unwrap_or_default()
}

#[expect(clippy::cast_precision_loss, reason = "no process runs for so long")]
fn seconds(ticks: u64) -> f64 {
    ticks as f64 / TICKS_PER_SECOND
}

/// CPU time in ticks.
#[derive(Debug, PartialEq, Eq)]
struct Times {
    own: u64,
    /// Of children that ended and were waited for, and theirs.
    of_ended: u64,
}

fn times_of(pid: u32) -> Option<Times> {
    stat_times(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// Takes the times from the text of `/proc/<pid>/stat`. The second field, the name, may contain anything; the fields
/// after it are numbered from 3.
fn stat_times(stat: &str) -> Option<Times> {
    let (_, rest) = stat.rsplit_once(") ")?;
    let fields: Vec<&str> = rest.split(' ').collect();
    let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
    Some(Times { own: field(14)? + field(15)?, of_ended: field(16)? + field(17)? })
}

fn proportional_bytes(rollup: &str) -> Option<u64> {
    let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:"))?;
    let kib: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kib * 1024)
}

fn with_descendants(pid: u32) -> Vec<u32> {
    let mut found = vec![pid];
    let mut next = 0;
    while let Some(&parent) = found.get(next) {
        found.extend(children(parent));
        next += 1;
    }
    found
}

/// The children of all threads of a process. A process that has ended has none.
fn children(pid: u32) -> Vec<u32> {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else { return Vec::new() };
    let lists = threads.flatten().filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok());
    lists.flat_map(|list| list.split_whitespace().filter_map(|child| child.parse().ok()).collect::<Vec<_>>()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_found_behind_any_name() {
        let stat = "12 (a) b) S 1 12 12 0 -1 4194560 1 2 3 4 50 6 700 8 20 0 1 0 100 200 300";
        assert_eq!(stat_times(stat), Some(Times { own: 56, of_ended: 708 }));
        assert_eq!(stat_times("12 (a) S 1"), None);
    }

    #[test]
    fn memory_is_the_proportional_share() {
        assert_eq!(proportional_bytes("0-1 ---p [rollup]\nRss:    900 kB\nPss:    120 kB\n"), Some(120 * 1024));
        let mut sampler = MemorySampler::of(std::process::id());
        assert_eq!(sampler.bytes(), 0);
        assert!(sampler.bytes() > 0);
    }
}
