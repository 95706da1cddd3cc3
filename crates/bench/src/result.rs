//! What was found, as it is kept in a file, and the figures drawn from it.

use std::io;
use std::path::Path;

use fs_err as fs;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::files::{ChangedPages, Extent};
use crate::group::{Group, Peer, Task};
use crate::limits::Limits;
use crate::machine::Machine;
use crate::measure::Cost;

/// The result of one group.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct GroupResult {
    pub(crate) group: Group,
    pub(crate) conditions: Conditions,
    pub(crate) series: Vec<Series>,
    /// What the machine can do with the same data, once for each repetition.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) limits: Vec<Limits>,
    /// How many pages had changed, each time that the cluster was changed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) changed: Vec<ChangedPages>,
}

/// Under what conditions a group was measured.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Conditions {
    pub(crate) measured_at: Timestamp,
    pub(crate) machine: Machine,
    pub(crate) postgres: String,
    pub(crate) pgark: String,
    pub(crate) pgbackrest: Option<String>,
    pub(crate) garage: Option<String>,
    /// By how much the object store was held up at each request.
    #[serde(default)]
    pub(crate) latency_milliseconds: u64,
    /// All relations, or all segments of WAL.
    pub(crate) data: Extent,
}

/// All runs of one task by one program.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Series {
    pub(crate) task: Task,
    pub(crate) peer: Peer,
    pub(crate) runs: Vec<Cost>,
    /// What the repository held afterwards.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) stored: Option<Extent>,
}

impl Series {
    /// How long the runs took.
    pub(crate) fn seconds(&self) -> Spread {
        Spread::of(self.runs.iter().map(|run| run.seconds).collect())
    }

    pub(crate) fn median_seconds(&self) -> f64 {
        self.seconds().median
    }

    /// The mean, since the kernel counts hundredths of a second, which is a lot for a short command.
    #[expect(clippy::cast_precision_loss, reason = "there are few runs")]
    pub(crate) fn mean_cpu_seconds(&self) -> f64 {
        self.runs.iter().map(|run| run.cpu_seconds).sum::<f64>() / self.runs.len() as f64
    }

    /// How many requests a run makes: the median.
    pub(crate) fn requests(&self) -> Option<u64> {
        let mut requests: Vec<u64> = self.runs.iter().filter_map(|run| Some(run.traffic?.requests)).collect();
        requests.sort_unstable();
        requests.get(requests.len() / 2).copied()
    }

    /// The most memory any run held.
    pub(crate) fn peak_memory_bytes(&self) -> u64 {
        self.runs.iter().map(|run| run.memory_bytes).max().unwrap_or_default()
    }
}

impl GroupResult {
    /// Adds a run to the series of `task` and `peer`.
    pub(crate) fn add(&mut self, task: Task, peer: Peer, cost: Cost) {
        self.series_mut(task, peer).runs.push(cost);
    }

    /// Notes what a repository holds after `task`.
    pub(crate) fn note_stored(&mut self, task: Task, peer: Peer, stored: Extent) {
        self.series_mut(task, peer).stored = Some(stored);
    }

    /// All series, those of a task together, and the programs in their order.
    pub(crate) fn series_by_task(&self) -> Vec<&Series> {
        let tasks = Task::ALL.iter().flat_map(|&task| Peer::ALL.map(|peer| (task, peer)));
        tasks.filter_map(|(task, peer)| self.series(task, peer)).collect()
    }

    pub(crate) fn series(&self, task: Task, peer: Peer) -> Option<&Series> {
        self.series.iter().find(|series| series.task == task && series.peer == peer)
    }

    fn series_mut(&mut self, task: Task, peer: Peer) -> &mut Series {
        let found = self.series.iter().position(|series| series.task == task && series.peer == peer);
        let index = found.unwrap_or_else(|| {
            self.series.push(Series { task, peer, runs: Vec::new(), stored: None });
            self.series.len() - 1
        });
        &mut self.series[index]
    }
}

/// The least, the median and the greatest of some figures.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Spread {
    pub(crate) least: f64,
    pub(crate) median: f64,
    pub(crate) greatest: f64,
}

impl Spread {
    /// Of no figures at all everything is NaN.
    pub(crate) fn of(mut figures: Vec<f64>) -> Self {
        figures.sort_by(f64::total_cmp);
        let at = |index: usize| figures.get(index).copied().unwrap_or(f64::NAN);
        let last = figures.len().saturating_sub(1);
        Self { least: at(0), median: f64::midpoint(at(last / 2), at(last.div_ceil(2))), greatest: at(last) }
    }
}

/// Reads what is kept of all groups in `directory`, in their order. Groups that were not measured are left out.
pub(crate) fn read_all(directory: &Path) -> io::Result<Vec<GroupResult>> {
    let mut results = Vec::new();
    for group in Group::all() {
        match fs::read(path_of(directory, group)) {
            Ok(bytes) => results.push(serde_json::from_slice(&bytes)?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(results)
}

/// Keeps the result of a group in `directory`.
pub(crate) fn write(directory: &Path, result: &GroupResult) -> io::Result<()> {
    fs::create_dir_all(directory)?;
    fs::write(path_of(directory, result.group), serde_json::to_string_pretty(result)? + "\n")
}

fn path_of(directory: &Path, group: Group) -> std::path::PathBuf {
    directory.join(format!("{}.json", group.name()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_or_between_the_two_middle_ones() {
        assert_eq!(Spread::of(vec![3.0, 1.0, 2.0]), Spread { least: 1.0, median: 2.0, greatest: 3.0 });
        assert_eq!(Spread::of(vec![3.0, 1.0, 2.0, 2.0]), Spread { least: 1.0, median: 2.0, greatest: 3.0 });
        assert_eq!(Spread::of(vec![7.0]), Spread { least: 7.0, median: 7.0, greatest: 7.0 });
        assert!(Spread::of(Vec::new()).median.is_nan());
    }
}
