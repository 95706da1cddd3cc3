//! What an expire does, step by step, before it does anything.

use std::collections::BTreeSet;
use std::fmt;

use pgark_postgres::wal::name::{SegmentName, WalFileName};
use pgark_repository::wal::Archive;
use pgark_repository::{ArchiveId, Label, LabelKind};

use super::archive::{ArchiveRule, Need, Stay};
use super::retention::{Backup, FullRetention, Retention, dependents};
use crate::error::Result;

/// One step. Its text is the line that is logged when it is taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Packs that were marked by an earlier run are deleted.
    Sweep {
        /// How many.
        packs: usize,
        /// Their bytes.
        bytes: u64,
    },
    /// Backups go, for one reason. It only says so: each is removed by a step of its own.
    Expire {
        /// Why, in pgBackRest's words.
        reason: &'static str,
        /// Which, oldest first.
        labels: Vec<Label>,
    },
    /// A backup is removed: first its manifest, then the notes on it.
    RemoveBackup(Label),
    /// The WAL that stays for a backup. Nothing is done.
    Retain {
        /// The archive.
        archive: ArchiveId,
        /// What stays.
        need: Need,
    },
    /// WAL is removed.
    RemoveWal(WalRun),
    /// There is no WAL to remove.
    NoWal(ArchiveId),
    /// The history of a timeline is removed.
    RemoveHistory {
        /// The archive.
        archive: ArchiveId,
        /// The file.
        file: String,
    },
    /// A whole archive is removed.
    RemoveArchive(ArchiveId),
    /// Packs that nothing needs any more are marked, for a later run to delete them.
    Mark {
        /// How many.
        packs: usize,
        /// Their bytes.
        bytes: u64,
    },
}

/// Files of an archive between which none stays.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WalRun {
    /// The archive.
    pub archive: ArchiveId,
    /// The first segment that goes, or the directory that goes as a whole.
    pub start: String,
    /// The last one.
    pub stop: String,
    /// Directories that go as a whole.
    pub directories: Vec<String>,
    /// Files that go.
    pub files: Vec<String>,
}

impl fmt::Display for Step {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sweep { packs, bytes } => {
                write!(formatter, "remove {packs} packs that no backup needs, {bytes} bytes")
            }
            Self::Expire { reason, labels } => {
                let set = if labels.len() > 1 { "set " } else { "" };
                let labels: Vec<_> = labels.iter().map(Label::as_str).collect();
                write!(formatter, "expire {reason} backup {set}{}", labels.join(", "))
            }
            Self::RemoveBackup(label) => write!(formatter, "remove expired backup {label}"),
            Self::Retain { archive, need: Need { backup, first, last } } => {
                match backup {
                    Some(label) => write!(formatter, "{archive} archive retention on backup {label}, start = {first}")?,
                    None => write!(formatter, "{archive} archive retention by archive-expire-before, start = {first}")?,
                }
                last.map_or(Ok(()), |last| write!(formatter, ", stop = {last}"))
            }
            Self::RemoveWal(WalRun { archive, start, stop, .. }) => {
                write!(formatter, "{archive} remove archive, start = {start}, stop = {stop}")
            }
            Self::NoWal(archive) => write!(formatter, "{archive} no archive to remove"),
            Self::RemoveHistory { archive, file } => write!(formatter, "{archive} remove history file {file}"),
            Self::RemoveArchive(archive) => write!(formatter, "remove archive path {archive}"),
            Self::Mark { packs, bytes } => {
                write!(
                    formatter,
                    "mark {packs} packs that no backup needs, {bytes} bytes, to be removed by a later run"
                )
            }
        }
    }
}

/// The steps by which backups go: all but those that stay.
pub(super) fn backup_steps(
    backups: &[Backup],
    kept: &BTreeSet<Label>,
    retention: &Retention,
    adhoc: Option<&Label>,
) -> Vec<Step> {
    let gone: Vec<&Label> = backups.iter().map(|backup| &backup.label).filter(|label| !kept.contains(label)).collect();
    let mut steps = Vec::new();
    let mut said: BTreeSet<&Label> = BTreeSet::new();
    for head in &gone {
        if said.contains(head) {
            continue;
        }
        let labels: Vec<&Label> = match adhoc {
            Some(_) => gone.clone(),
            None => dependents(&gone, head),
        };
        said.extend(labels.iter().copied());
        let labels = labels.into_iter().cloned().collect();
        steps.push(Step::Expire { reason: reason(head, retention, adhoc), labels });
    }
    // The newest first, so that what is left after a kill is as if it had always been so.
    steps.extend(gone.into_iter().rev().cloned().map(Step::RemoveBackup));
    steps
}

fn reason(head: &Label, retention: &Retention, adhoc: Option<&Label>) -> &'static str {
    match (adhoc, head.kind(), retention.full) {
        (Some(_), _, _) => "adhoc",
        (None, LabelKind::Full, Some(FullRetention::Days(_))) => "time-based",
        (None, LabelKind::Full, _) => "full",
        (None, LabelKind::Diff, _) => "diff",
        (None, LabelKind::Incr, _) => "incr",
    }
}

/// What goes if a backup is expired by its label: itself, and what belongs to it as far as no rule wants it.
pub(super) fn gone_with(backups: &[Backup], label: &Label, wanted: &BTreeSet<Label>) -> BTreeSet<Label> {
    let labels: Vec<&Label> = backups.iter().map(|backup| &backup.label).collect();
    let with = dependents(&labels, label).into_iter().filter(|other| *other == label || !wanted.contains(other));
    with.cloned().collect()
}

/// The steps by which WAL of an archive goes.
///
/// # Errors
/// The storage's error.
pub(super) fn archive_steps(archive: &Archive<'_>, rule: &ArchiveRule) -> Result<Vec<Step>> {
    let id = archive.id().clone();
    let ArchiveRule::Needs(needs) = rule else {
        let is_there =
            *rule == ArchiveRule::Nothing && (!archive.directories()?.is_empty() || !archive.histories()?.is_empty());
        return Ok(if is_there { vec![Step::RemoveArchive(id)] } else { Vec::new() });
    };
    let retain = |need: &Need| Step::Retain { archive: id.clone(), need: need.clone() };
    let mut steps: Vec<Step> = needs.iter().map(retain).collect();
    let runs = wal_runs(archive, rule)?;
    if runs.is_empty() {
        steps.push(Step::NoWal(id.clone()));
    }
    steps.extend(runs.into_iter().map(Step::RemoveWal));
    for file in archive.histories()? {
        if let Ok(WalFileName::History(timeline)) = file.parse()
            && !rule.keeps_history(timeline)
        {
            steps.push(Step::RemoveHistory { archive: id.clone(), file });
        }
    }
    Ok(steps)
}

fn wal_runs(archive: &Archive<'_>, rule: &ArchiveRule) -> Result<Vec<WalRun>> {
    let mut runs = Runs { archive: archive.id(), done: Vec::new(), open: None };
    for directory in archive.directories()? {
        let Some((first, last)) = bounds(&directory) else { continue };
        match rule.stay(first, last) {
            Stay::All => runs.end(),
            Stay::None => runs.open(&directory).directories.push(directory),
            Stay::Some => {
                for file in archive.files(&directory)? {
                    match segment_of(&file) {
                        Some(segment) if !rule.keeps(segment) => {
                            runs.open(&segment.to_string()).files.push(file);
                        }
                        _ => runs.end(),
                    }
                }
            }
        }
    }
    runs.end();
    Ok(runs.done)
}

/// The first and the last segment that can lie in a directory of an archive.
fn bounds(directory: &str) -> Option<(SegmentName, SegmentName)> {
    Some((format!("{directory}00000000").parse().ok()?, format!("{directory}FFFFFFFF").parse().ok()?))
}

/// The segment that a file of the archive is, or is named after.
fn segment_of(file: &str) -> Option<SegmentName> {
    match file.parse().ok()? {
        WalFileName::Segment(segment) | WalFileName::Partial(segment) | WalFileName::BackupHistory { segment, .. } => {
            Some(segment)
        }
        WalFileName::History(_) => None,
    }
}

/// Gathers what goes between two files that stay.
struct Runs<'archive> {
    archive: &'archive ArchiveId,
    done: Vec<WalRun>,
    open: Option<WalRun>,
}

impl Runs<'_> {
    /// The run that goes on with this name.
    fn open(&mut self, name: &str) -> &mut WalRun {
        let run = self.open.get_or_insert_with(|| WalRun {
            archive: self.archive.clone(),
            start: name.to_owned(),
            stop: String::new(),
            directories: Vec::new(),
            files: Vec::new(),
        });
        name.clone_into(&mut run.stop);
        run
    }

    fn end(&mut self) {
        self.done.extend(self.open.take());
    }
}
