//! Runs commands and keeps what they cost.

use std::io;
use std::process::Command;

use crate::files::{ChangedPages, Extent};
use crate::group::{Data, Group, Peer, Task};
use crate::limits::Limits;
use crate::measure::{Cost, measure};
use crate::place::Place;
use crate::progress;
use crate::result::{Conditions, GroupResult};

/// The result of a group, as it comes to be.
#[derive(Debug)]
pub(crate) struct Recorder {
    result: GroupResult,
}

impl Recorder {
    pub(crate) fn new(group: Group, conditions: Conditions) -> Self {
        Self { result: GroupResult { group, conditions, series: Vec::new(), limits: Vec::new(), changed: Vec::new() } }
    }

    /// Runs `command`, which is how `peer` does `task` with a repository at `place`, and keeps what it cost.
    pub(crate) fn measure_at(
        &mut self,
        place: &Place,
        task: Task,
        peer: Peer,
        command: &mut Command,
    ) -> io::Result<()> {
        let before = place.traffic()?;
        let mut cost = measure(command, &place.processes())?;
        let after = place.traffic()?;
        cost.traffic = before.zip(after).map(|(before, after)| after.since(before));
        self.add(task, peer, cost);
        Ok(())
    }

    /// Runs `command`, which is how `peer` does `task` without a repository, and keeps what it cost.
    pub(crate) fn measure(&mut self, task: Task, peer: Peer, command: &mut Command) -> io::Result<()> {
        let cost = measure(command, &[])?;
        self.add(task, peer, cost);
        Ok(())
    }

    fn add(&mut self, task: Task, peer: Peer, cost: Cost) {
        // Segments are too many to tell of each.
        if self.result.group.data != Data::Wal {
            progress::tell(&format!(
                "{} {}: {} {:.2} s, CPU {:.2} s, {} MiB",
                self.result.group.name(),
                task.title(),
                peer.name(),
                cost.seconds,
                cost.cpu_seconds,
                cost.memory_bytes >> 20,
            ));
        }
        self.result.add(task, peer, cost);
    }

    /// Notes what the repository of `peer` holds after a task.
    pub(crate) fn note_stored(&mut self, task: Task, peer: Peer, stored: Extent) {
        self.result.note_stored(task, peer, stored);
    }

    /// Notes how many pages of the cluster have changed before a backup.
    pub(crate) fn note_changed(&mut self, changed: ChangedPages) {
        self.result.changed.push(changed);
    }

    pub(crate) fn note_limits(&mut self, limits: Limits) {
        let Limits { read, compress, write } = limits;
        progress::tell(&format!(
            "{} limits: reading {read:.2} s, compressing {compress:.2} s, writing {write:.2} s",
            self.result.group.name(),
        ));
        self.result.limits.push(limits);
    }

    pub(crate) fn finish(self) -> GroupResult {
        self.result
    }
}
