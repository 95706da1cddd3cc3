//! The machine that a run is on.

use std::io;
use std::thread;

use fs_err as fs;
use serde::{Deserialize, Serialize};

/// What bears on how fast things are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Machine {
    pub(crate) processor: String,
    pub(crate) processors: usize,
    pub(crate) memory_bytes: u64,
    pub(crate) kernel: String,
}

impl Machine {
    pub(crate) fn at_hand() -> io::Result<Self> {
        let kib = value_of(&fs::read_to_string("/proc/meminfo")?, "MemTotal");
        Ok(Self {
            processor: value_of(&fs::read_to_string("/proc/cpuinfo")?, "model name"),
            processors: thread::available_parallelism()?.get(),
            memory_bytes: kib.trim_end_matches(" kB").parse().unwrap_or(0) * 1024,
            kernel: fs::read_to_string("/proc/sys/kernel/osrelease")?.trim().to_owned(),
        })
    }
}

/// The value of the first line `key : value`.
fn value_of(text: &str, key: &str) -> String {
    let mut pairs = text.lines().filter_map(|line| line.split_once(':'));
    pairs.find(|(name, _)| name.trim() == key).map_or_else(String::new, |(_, value)| value.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_at_hand_has_memory_and_processors() {
        let machine = Machine::at_hand().unwrap();
        assert!(machine.memory_bytes > 1 << 20 && machine.processors > 0, "{machine:?}");
        assert_eq!(value_of("a: 1\nmodel name\t: Fast 3000: two\n", "model name"), "Fast 3000: two");
    }
}
