//! The report for people, in the form of pgBackRest's, with what is wrong below it.

use jiff::tz::TimeZone;
use pgark_engine::verify::{
    ArchiveReport, BackupReport, Counts, Depth, Finding, FindingKind, Orphans, Progress, RepositoryReport, VerifyReport,
};

use pgark_repository::Label;

use super::{message, status};
use crate::commands::info::text::segments;
use crate::commands::local_time::local_time;
use pgark_engine::size::human_size;

/// The report. Counts that are zero are shown only if `is_verbose`.
pub(super) fn render(report: &VerifyReport, is_verbose: bool) -> String {
    let is_ok =
        report.repositories.iter().all(|(_, found)| found.as_ref().is_ok_and(|found| found.findings.is_empty()));
    let mut lines =
        vec![format!("stanza: {}", report.stanza), format!("status: {}", if is_ok { "ok" } else { "error" })];
    let is_one = report.repositories.len() == 1;
    for (key, found) in &report.repositories {
        let of_it = match found {
            Ok(found) => of_repository(found, report.depth, is_verbose),
            Err(error) => {
                let hints = error.hints().iter().map(|hint| format!("    HINT: {hint}"));
                std::iter::once(format!("  unable to verify: {}", error.full_message())).chain(hints).collect()
            }
        };
        if is_one {
            lines.extend(of_it);
        } else {
            lines.push(format!("  repo{key}:"));
            lines.extend(of_it.into_iter().map(|line| format!("  {line}")));
        }
    }
    lines.join("\n") + "\n"
}

fn of_repository(found: &RepositoryReport, depth: Depth, is_verbose: bool) -> Vec<String> {
    let mut lines = Vec::new();
    for archive in &found.archives {
        lines.extend(of_archive(archive, depth, is_verbose));
    }
    for backup in &found.backups {
        lines.extend(of_backup(backup, is_verbose));
    }
    lines.extend(coverage(&found.progress, depth));
    lines.extend(of_orphans(&found.orphans, is_verbose));
    for finding in &found.findings {
        lines.extend(of_finding(finding));
    }
    lines
}

fn of_archive(archive: &ArchiveReport, depth: Depth, is_verbose: bool) -> Vec<String> {
    let (checked, valid) = match depth {
        Depth::Listings => (archive.segments, archive.segments),
        Depth::Whole | Depth::Bounded => (archive.checked, archive.valid()),
    };
    let word = if depth == Depth::Listings { "present" } else { "valid" };
    let mut lines =
        vec![format!("  archiveId: {}, total WAL checked: {checked}, total {word} WAL: {valid}", archive.id)];
    lines.extend(counts(&archive.counts, is_verbose));
    for gap in &archive.gaps {
        let what = if gap.by_retention { "wal removed by retention" } else { "wal missing" };
        lines.push(format!("    {what}: {}/{} ({})", gap.first, gap.last, segments(gap.count)));
    }
    lines
}

fn of_backup(backup: &BackupReport, is_verbose: bool) -> Vec<String> {
    let files = backup.files.map_or(String::new(), |files| {
        let valid = files.saturating_sub(backup.flawed_files);
        format!(", total files checked: {files}, total valid files: {valid}")
    });
    let line = format!("  backup: {}, status: {}{files}", backup.label, status(backup.status));
    let mut lines = vec![line];
    lines.extend(counts(&backup.counts, is_verbose));
    lines
}

/// `missing: 0, checksum invalid: 1, size invalid: 0, other: 0`
fn counts(counts: &Counts, is_verbose: bool) -> Option<String> {
    let named = [
        ("missing", counts.of(FindingKind::Missing)),
        ("checksum invalid", counts.of(FindingKind::Damaged)),
        ("size invalid", counts.of(FindingKind::Size)),
    ];
    let others = counts.total() - named.iter().map(|(_, count)| count).sum::<u64>();
    let shown: Vec<_> = named
        .into_iter()
        .chain([("other", others)])
        .filter(|(_, count)| is_verbose || *count > 0)
        .map(|(name, count)| format!("{name}: {count}"))
        .collect();
    (!shown.is_empty()).then(|| format!("    {}", shown.join(", ")))
}

fn coverage(progress: &Progress, depth: Depth) -> Option<String> {
    let Progress { objects, checked, bytes, never, oldest } = *progress;
    let size = human_size(bytes);
    match (depth, oldest) {
        (Depth::Listings, _) => None,
        (_, None) => Some(format!("  verified now: {checked} of {objects} objects, {size}; never verified: {never}")),
        (_, Some(oldest)) => Some(format!(
            "  verified now: {checked} of {objects} objects, {size}; never verified: {never}; the others since {}",
            local_time(oldest, &TimeZone::system())
        )),
    }
}

fn of_orphans(orphans: &Orphans, is_verbose: bool) -> Option<String> {
    let Orphans { packs, bytes, of_sessions } = *orphans;
    let is_shown = is_verbose || packs > 0;
    let size = human_size(bytes);
    is_shown.then(|| format!("  packs that no backup needs: {packs}, {size}; of running sessions: {of_sessions}"))
}

fn of_finding(finding: &Finding) -> Vec<String> {
    let mut lines = vec![format!("  object '{}' {}", finding.object, message(finding))];
    let labels = |labels: &[Label]| labels.iter().map(Label::as_str).collect::<Vec<_>>().join(", ");
    if !finding.backups.is_empty() {
        lines.push(format!("    can't be restored: {}", labels(&finding.backups)));
    }
    if !finding.cut_short.is_empty() {
        lines.push(format!("    can't be recovered past it: {}", labels(&finding.cut_short)));
    }
    if finding.files.count > 0 {
        let more = if finding.files.count > finding.files.first.len() as u64 { ", ..." } else { "" };
        lines.push(format!("    files: {} ({}{more})", finding.files.count, finding.files.first.join(", ")));
    }
    lines.push(format!("    HINT: {}", finding.hint));
    lines
}
