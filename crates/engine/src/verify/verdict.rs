//! What all that was found comes to: whom each finding concerns, and what is left of it now.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use pgark_postgres::wal::name::SegmentName;
use pgark_repository::checked::wal_row;
use pgark_repository::{Label, names};

use super::affected;
use super::finding::{Counts, Finding, FindingKind, Flaw, Part};
use super::inventory::{About, ArchiveInventory, Inventory, Subject};
use super::report::{ArchiveReport, BackupReport, BackupStatus, Depth, MissingWal, Progress, RepositoryReport};
use super::work::Unit;
use super::{Found, VerifySettings};
use crate::coverage::{Gap, Runs};
use crate::error::Result;
use crate::stanza::Stanza;

/// Judges what was found. What has vanished meanwhile together with the backups that needed it is no finding.
///
/// # Errors
/// Where the storage does not answer.
pub(super) fn judge(
    settings: &VerifySettings,
    stanza: &Stanza<'_>,
    inventory: &mut Inventory<'_>,
    found: &mut Found,
    units: &[(Option<i64>, Unit)],
) -> Result<RepositoryReport> {
    let mut subjects = std::mem::take(&mut found.subjects);
    look_again(stanza, inventory, &mut subjects)?;
    let mut judge = Judge {
        stanza,
        inventory,
        findings: Vec::new(),
        archive_counts: BTreeMap::new(),
        flawed_files: BTreeMap::new(),
    };
    judge.packs(found, &mut subjects)?;
    for subject in subjects {
        judge.subject(subject);
    }
    let gaps = judge.gaps()?;
    judge.histories()?;
    let Judge { mut findings, archive_counts, flawed_files, .. } = judge;
    let mut seen = BTreeSet::new();
    findings.retain(|finding| seen.insert((finding.object.clone(), finding.kind, finding.what.clone())));
    let progress = progress(inventory, found, units);
    let backups = backups(settings, inventory, found, &findings, &flawed_files, progress.never == 0);
    Ok(RepositoryReport {
        archives: archives(inventory, found, archive_counts, gaps),
        backups,
        orphans: inventory.orphans,
        progress,
        findings,
    })
}

/// Lists anew what others may have changed meanwhile: archives if something seems to be missing of them, and after that
/// backups, for whoever removes a backup begins with its manifest.
fn look_again(stanza: &Stanza<'_>, inventory: &mut Inventory<'_>, subjects: &mut Vec<Subject>) -> Result<()> {
    for archive in &mut inventory.archives {
        let has_gaps = archive.coverage.as_ref().is_some_and(|coverage| {
            !coverage.gaps(&archive.spans).is_empty() || !coverage.unknown_histories(&archive.spans).is_empty()
        });
        if has_gaps {
            archive.list_again()?;
        }
    }
    let present: BTreeSet<Label> = stanza.repository().backups(stanza.name())?.into_iter().collect();
    inventory.backups.retain(|label| present.contains(label));
    for archive in &mut inventory.archives {
        archive.spans.retain(|span| present.contains(&span.label));
    }
    subjects.retain(|subject| match &subject.about {
        About::Backup(label) => present.contains(label),
        _ => true,
    });
    Ok(())
}

struct Judge<'judge> {
    stanza: &'judge Stanza<'judge>,
    inventory: &'judge Inventory<'judge>,
    findings: Vec<Finding>,
    archive_counts: BTreeMap<usize, Counts>,
    flawed_files: BTreeMap<Label, u64>,
}

impl Judge<'_> {
    /// Those of the backups that are to be checked.
    fn wanted(&self, labels: Vec<Label>) -> Vec<Label> {
        labels.into_iter().filter(|label| self.inventory.backups.binary_search(label).is_ok()).collect()
    }

    /// Findings about packs: what was seen in listings and what was found by reading, together.
    fn packs(&mut self, found: &mut Found, subjects: &mut Vec<Subject>) -> Result<()> {
        for subject in subjects.extract_if(.., |subject| matches!(subject.about, About::Pack(_))) {
            if let About::Pack(id) = subject.about {
                let flaw = Flaw { kind: subject.finding.kind, what: subject.finding.what };
                // A map that leads to a missing pack says only that it is missing.
                found.packs.insert(id, affected::FlawedPack::new(None, flaw));
            }
        }
        if found.packs.is_empty() {
            return Ok(());
        }
        let (repository, name) = (self.stanza.repository(), self.stanza.name());
        let mut findings = BTreeMap::new();
        for (id, flawed) in &found.packs {
            let flaw = Flaw { kind: flawed.kind, what: flawed.words() };
            findings.insert(*id, flaw.at(Part::Pack, names::pack(name, *id)?.as_str()));
        }
        for label in &self.inventory.backups {
            let Some((affected, files)) = affected::of_backup(repository, name, label, &found.packs)? else { continue };
            for (id, files) in affected {
                if let Some(finding) = findings.get_mut(&id) {
                    finding.backups.push(label.clone());
                    finding.files.merge(files);
                }
            }
            if files > 0 {
                self.flawed_files.insert(label.clone(), files);
            }
        }
        // A pack that no backup needs any more is no matter.
        self.findings.extend(findings.into_values().filter(|finding| !finding.backups.is_empty()));
        Ok(())
    }

    /// A finding about anything but a pack.
    fn subject(&mut self, subject: Subject) {
        let Subject { mut finding, about } = subject;
        match about {
            About::Backup(label) => finding.backups = vec![label],
            About::Segment(place, segment) => {
                let archive = &self.inventory.archives[place];
                if let Some(coverage) = &archive.coverage
                    && let Some(number) = segment.number(coverage.size())
                {
                    let (broken, cut_short) = coverage.concerned(segment.timeline, number, &archive.spans);
                    (finding.backups, finding.cut_short) = (self.wanted(broken), self.wanted(cut_short));
                }
                let concerns_nobody = finding.backups.is_empty() && finding.cut_short.is_empty();
                let is_damage =
                    matches!(finding.kind, FindingKind::Damaged | FindingKind::Size | FindingKind::Unreadable);
                if concerns_nobody && !is_damage {
                    return;
                }
                self.archive_counts.entry(place).or_default().add(finding.kind, 1);
            }
            About::Pack(_) | About::Other => {}
        }
        self.findings.push(finding);
    }

    /// WAL that is missing.
    fn gaps(&mut self) -> Result<BTreeMap<usize, Vec<MissingWal>>> {
        let mut all = BTreeMap::new();
        for (place, archive) in self.inventory.archives.iter().enumerate() {
            let Some(coverage) = &archive.coverage else { continue };
            let mut missing = Vec::new();
            for mut gap in coverage.gaps(&archive.spans) {
                (gap.broken, gap.cut_short) = (self.wanted(gap.broken), self.wanted(gap.cut_short));
                if gap.broken.is_empty() && gap.cut_short.is_empty() {
                    continue;
                }
                let (first, last) = (*gap.numbers.start(), *gap.numbers.end());
                let name = |number| SegmentName::new(gap.timeline, number, coverage.size());
                let Some((first_name, last_name)) = name(first).zip(name(last)) else { continue };
                let count = last - first + 1;
                missing.push(MissingWal { first: first_name, last: last_name, count, by_retention: gap.is_thinned });
                if !gap.is_thinned {
                    self.archive_counts.entry(place).or_default().add(FindingKind::Missing, count);
                    self.findings.push(of_gap(archive, gap, first_name, last_name, count)?);
                }
            }
            all.insert(place, missing);
        }
        Ok(all)
    }

    /// Timelines of which it is not known how they came about.
    fn histories(&mut self) -> Result<()> {
        for archive in &self.inventory.archives {
            let Some(coverage) = &archive.coverage else { continue };
            for (timeline, earlier) in coverage.unknown_histories(&archive.spans) {
                let file = timeline.history_file_name();
                let earlier = self.wanted(earlier);
                // One that is there and can't be read is a finding already.
                if !archive.files.contains(&file) && !earlier.is_empty() {
                    let object = archive.archive.object_name(&file)?;
                    let hint = format!("copy {file} from pg_wal of the server and push it with archive-push");
                    self.findings.push(Finding {
                        cut_short: earlier,
                        hint,
                        ..Flaw::missing().at(Part::Other, object.as_str())
                    });
                }
            }
        }
        Ok(())
    }
}

fn of_gap(
    archive: &ArchiveInventory<'_>,
    gap: Gap,
    first: SegmentName,
    last: SegmentName,
    count: u64,
) -> Result<Finding> {
    let mut flaw = Flaw::missing();
    if count > 1 {
        flaw.what = format!("and so are {} more segments, to {last}", count - 1);
    }
    let hint = "if pg_wal of a server still has it, push it with archive-push; take a new backup now".to_owned();
    let finding = flaw.at(Part::Wal, archive.archive.object_name(&first.to_string())?.as_str());
    Ok(Finding { backups: gap.broken, cut_short: gap.cut_short, hint, ..finding })
}

fn progress(inventory: &Inventory<'_>, found: &Found, units: &[(Option<i64>, Unit)]) -> Progress {
    let mut progress = Progress { checked: found.checked, bytes: found.bytes, ..Progress::default() };
    let mut oldest = None;
    let mut note = |time: Option<i64>, count: u64| {
        progress.objects += count;
        match time {
            Some(time) => oldest = Some(oldest.map_or(time, |oldest: i64| oldest.min(time))),
            None => progress.never += count,
        }
    };
    for (_, unit) in units {
        match unit {
            Unit::Backup(label) => note(found.known.backups.get(label).copied(), 1),
            Unit::Pack(id) => note(found.known.of_pack(*id), 1),
            Unit::Row(place, row) => {
                let id = inventory.archives[*place].archive.id();
                let times = found.known.wal.get(&wal_row(id, row.timeline.0));
                let times = times.map(|times| times.within(row.first..=row.last)).unwrap_or_default();
                let count = row.last - row.first + 1;
                let known: u64 = times.iter().map(|(first, last, _)| last - first + 1).sum();
                for (first, last, time) in times {
                    note(Some(time), last - first + 1);
                }
                if known < count {
                    note(None, count - known);
                }
            }
            Unit::Small(..) | Unit::File(..) => {}
        }
    }
    progress.oldest = oldest.and_then(|oldest| Timestamp::from_second(oldest).ok());
    progress
}

fn archives(
    inventory: &Inventory<'_>,
    found: &Found,
    mut counts: BTreeMap<usize, Counts>,
    mut gaps: BTreeMap<usize, Vec<MissingWal>>,
) -> Vec<ArchiveReport> {
    let of = |(place, archive): (usize, &ArchiveInventory<'_>)| ArchiveReport {
        id: archive.archive.id().to_string(),
        segments: archive.coverage.as_ref().map_or(0, |all| all.segments().values().map(Runs::count).sum()),
        checked: found.segments.get(&place).copied().unwrap_or_default(),
        counts: counts.remove(&place).unwrap_or_default(),
        gaps: gaps.remove(&place).unwrap_or_default(),
    };
    inventory.archives.iter().enumerate().map(of).collect()
}

fn backups(
    settings: &VerifySettings,
    inventory: &Inventory<'_>,
    found: &Found,
    findings: &[Finding],
    flawed_files: &BTreeMap<Label, u64>,
    is_all_known: bool,
) -> Vec<BackupReport> {
    let mut counts: BTreeMap<&Label, (Counts, bool)> = BTreeMap::new();
    for finding in findings {
        for (label, is_broken) in finding
            .backups
            .iter()
            .map(|label| (label, true))
            .chain(finding.cut_short.iter().map(|label| (label, false)))
        {
            let (counts, broken) = counts.entry(label).or_default();
            counts.add(finding.kind, 1);
            *broken |= is_broken;
        }
    }
    let of = |label: &Label| {
        let (counts, is_broken) = counts.remove(label).unwrap_or_default();
        let status = match (settings.depth(), counts.total()) {
            _ if is_broken => BackupStatus::Invalid,
            (_, 1..) => BackupStatus::CutShort,
            (Depth::Listings, 0) => BackupStatus::Present,
            (Depth::Bounded, 0) if !is_all_known => BackupStatus::Partly,
            _ => BackupStatus::Valid,
        };
        let (files, by_maps) = match found.files.get(label) {
            Some((files, flawed)) => (Some(*files), *flawed),
            None => (None, 0),
        };
        let flawed_files = by_maps + flawed_files.get(label).copied().unwrap_or_default();
        BackupReport { label: label.clone(), status, files, flawed_files, counts }
    };
    inventory.backups.iter().map(of).collect()
}
