//! Processes, each told from every other one: by more than an id, which is given out again.

use fs_err as fs;
use serde::{Deserialize, Serialize};

/// Where a process runs: enough to find out on the same machine, and only there, whether it still does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// The kernel's id of the time since it was started.
    pub boot: String,
    /// The namespace that process ids are counted in: containers of one machine have their own.
    pub namespace: String,
    /// When the process began, in ticks since the machine was started.
    pub process_started: u64,
}

/// Whether a process still runs, as far as can be told from here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// It does, on this machine.
    Runs,
    /// It did on this machine, and does not any more.
    Gone,
    /// It is on another machine, or in another container of this one, of whose processes nothing is seen from here.
    Elsewhere,
}

impl Machine {
    /// Where this process runs; `None` where the kernel does not tell.
    pub fn of_this_process() -> Option<Self> {
        let (boot, namespace) = here()?;
        Some(Self { boot, namespace, process_started: started(std::process::id())? })
    }

    /// Whether the process `id` still runs.
    pub fn presence_of(&self, id: u32) -> Presence {
        match here() {
            Some((boot, namespace)) if boot == self.boot && namespace == self.namespace => {
                if started(id) == Some(self.process_started) { Presence::Runs } else { Presence::Gone }
            }
            _ => Presence::Elsewhere,
        }
    }
}

/// The kernel's id of the time since the machine was started; `None` where it does not tell.
pub fn boot_id() -> Option<String> {
    Some(fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?.trim().to_owned())
}

/// The boot and the namespace of this process.
fn here() -> Option<(String, String)> {
    let namespace = fs::read_link("/proc/self/ns/pid").ok()?;
    Some((boot_id()?, namespace.to_str()?.to_owned()))
}

/// When a process began that runs; `None` where there is none, or only what is left of one that has ended.
fn started(id: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    // The program's name, in parentheses, may have blanks and parentheses in it.
    let (_, fields) = status.rsplit_once(") ")?;
    let mut fields = fields.split(' ');
    let state = fields.next()?;
    let has_ended = matches!(state, "Z" | "X" | "x");
    fields.nth(18)?.parse().ok().filter(|_| !has_ended)
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_process_is_known_by_when_it_began() {
        let machine = Machine::of_this_process().unwrap();
        assert_eq!(machine.presence_of(std::process::id()), Presence::Runs);
        let another = Machine { process_started: machine.process_started + 1, ..machine.clone() };
        assert_eq!(another.presence_of(std::process::id()), Presence::Gone);
        for elsewhere in [
            Machine { boot: "7e1f".to_owned(), ..machine.clone() },
            Machine { namespace: "pid:[1]".to_owned(), ..machine },
        ] {
            assert_eq!(elsewhere.presence_of(std::process::id()), Presence::Elsewhere);
        }
    }

    #[test]
    fn a_process_that_has_ended_is_gone_even_before_its_parent_knows() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let (boot, namespace) = here().unwrap();
        let machine = Machine { boot, namespace, process_started: started(child.id()).unwrap() };
        assert_eq!(machine.presence_of(child.id()), Presence::Runs);
        child.kill().unwrap();
        while machine.presence_of(child.id()) == Presence::Runs {
            std::thread::yield_now();
        }
        child.wait().unwrap();
        assert_eq!(machine.presence_of(child.id()), Presence::Gone);
    }
}
