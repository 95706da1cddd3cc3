//! The report for programs. Members are declared in the order of the alphabet, as `info` has them.

use jiff::Timestamp;
use pgark_engine::verify::{
    ArchiveReport, BackupReport, Counts, Depth, Finding, FindingKind, MissingWal, Orphans, Progress, RepositoryReport,
    VerifyReport,
};
use pgark_engine::{Error, ErrorKind};
use pgark_repository::Label;
use serde::Serialize;

use super::{message, status};
use crate::exit::Code;
use crate::failure::Result;

/// The report in one line, without a line feed.
pub(super) fn render(report: &VerifyReport) -> Result<String> {
    serde_json::to_string(&[Stanza::of(report)])
        .map_err(|error| Error::new(ErrorKind::Runtime, "failed to write JSON").source(error).into())
}

#[derive(Serialize)]
struct Stanza<'report> {
    depth: &'static str,
    name: &'report str,
    repo: Vec<Repository<'report>>,
    status: &'static str,
}

#[derive(Serialize)]
struct Repository<'report> {
    archive: Vec<Archive<'report>>,
    backup: Vec<Backup<'report>>,
    coverage: Option<Coverage>,
    error: Option<Failed>,
    finding: Vec<Wrong<'report>>,
    key: u32,
    orphan: Option<Orphan>,
    status: &'static str,
}

/// What kept a repository from being verified.
#[derive(Serialize)]
struct Failed {
    code: u8,
    message: String,
}

#[derive(Serialize)]
struct Archive<'report> {
    checked: u64,
    error: Errors,
    gap: Vec<Gap>,
    id: &'report str,
    total: u64,
    valid: u64,
}

#[derive(Serialize)]
struct Gap {
    #[serde(rename = "by-retention")]
    by_retention: bool,
    count: u64,
    first: String,
    last: String,
}

#[derive(Serialize)]
struct Backup<'report> {
    error: Errors,
    file: Option<Files>,
    label: &'report str,
    status: &'static str,
}

#[derive(Serialize)]
struct Files {
    total: u64,
    valid: u64,
}

/// How many things of each kind are wrong.
#[derive(Serialize)]
struct Errors {
    damaged: u64,
    inconsistent: u64,
    missing: u64,
    size: u64,
    unreadable: u64,
    unsupported: u64,
}

#[derive(Serialize)]
struct Coverage {
    bytes: u64,
    checked: u64,
    never: u64,
    oldest: Option<i64>,
    total: u64,
}

#[derive(Serialize)]
struct Orphan {
    bytes: u64,
    pack: u64,
    #[serde(rename = "pack-of-session")]
    of_sessions: u64,
}

#[derive(Serialize)]
struct Wrong<'report> {
    /// The backups that can't be restored, or not wholly.
    backup: Vec<&'report str>,
    /// The backups that can't be recovered past it.
    #[serde(rename = "cut-short")]
    cut_short: Vec<&'report str>,
    file: Affected<'report>,
    hint: &'report str,
    kind: &'static str,
    message: String,
    object: &'report str,
}

#[derive(Serialize)]
struct Affected<'report> {
    first: &'report [String],
    total: u64,
}

fn word(is_ok: bool) -> &'static str {
    if is_ok { "ok" } else { "error" }
}

impl<'report> Stanza<'report> {
    fn of(report: &'report VerifyReport) -> Self {
        let repo: Vec<_> = report.repositories.iter().map(|(key, found)| Repository::of(*key, found)).collect();
        Self {
            depth: match report.depth {
                Depth::Listings => "quick",
                Depth::Whole => "full",
                Depth::Bounded => "bounded",
            },
            name: report.stanza.as_str(),
            status: word(repo.iter().all(|repository| repository.status == word(true))),
            repo,
        }
    }
}

impl<'report> Repository<'report> {
    fn of(key: u32, found: &'report Result<RepositoryReport, Error>) -> Self {
        let found = match found {
            Ok(found) => found,
            Err(error) => {
                let error = Failed { code: Code::from(error.kind()).number, message: error.full_message() };
                let (archive, backup, finding) = (Vec::new(), Vec::new(), Vec::new());
                let (coverage, orphan) = (None, None);
                return Self {
                    archive,
                    backup,
                    coverage,
                    error: Some(error),
                    finding,
                    key,
                    orphan,
                    status: word(false),
                };
            }
        };
        let Progress { objects, checked, bytes, never, oldest } = found.progress;
        let Orphans { packs, bytes: orphaned, of_sessions } = found.orphans;
        let oldest = oldest.map(Timestamp::as_second);
        Self {
            archive: found.archives.iter().map(Archive::of).collect(),
            backup: found.backups.iter().map(Backup::of).collect(),
            coverage: Some(Coverage { bytes, checked, never, oldest, total: objects }),
            error: None,
            finding: found.findings.iter().map(Wrong::of).collect(),
            key,
            orphan: Some(Orphan { bytes: orphaned, pack: packs, of_sessions }),
            status: word(found.findings.is_empty()),
        }
    }
}

impl<'report> Archive<'report> {
    fn of(archive: &'report ArchiveReport) -> Self {
        let gap = |gap: &MissingWal| Gap {
            count: gap.count,
            by_retention: gap.by_retention,
            first: gap.first.to_string(),
            last: gap.last.to_string(),
        };
        Self {
            checked: archive.checked,
            error: Errors::of(&archive.counts),
            gap: archive.gaps.iter().map(gap).collect(),
            id: &archive.id,
            total: archive.segments,
            valid: archive.valid(),
        }
    }
}

impl<'report> Backup<'report> {
    fn of(backup: &'report BackupReport) -> Self {
        let files = |total: u64| Files { total, valid: total.saturating_sub(backup.flawed_files) };
        Self {
            error: Errors::of(&backup.counts),
            file: backup.files.map(files),
            label: backup.label.as_str(),
            status: status(backup.status),
        }
    }
}

impl Errors {
    fn of(counts: &Counts) -> Self {
        Self {
            damaged: counts.of(FindingKind::Damaged),
            inconsistent: counts.of(FindingKind::Inconsistent),
            missing: counts.of(FindingKind::Missing),
            size: counts.of(FindingKind::Size),
            unreadable: counts.of(FindingKind::Unreadable),
            unsupported: counts.of(FindingKind::Unsupported),
        }
    }
}

impl<'report> Wrong<'report> {
    fn of(finding: &'report Finding) -> Self {
        let labels = |labels: &'report [Label]| labels.iter().map(Label::as_str).collect();
        Self {
            backup: labels(&finding.backups),
            cut_short: labels(&finding.cut_short),
            file: Affected { first: &finding.files.first, total: finding.files.count },
            hint: &finding.hint,
            kind: match finding.kind {
                FindingKind::Missing => "missing",
                FindingKind::Damaged => "damaged",
                FindingKind::Size => "size",
                FindingKind::Unreadable => "unreadable",
                FindingKind::Unsupported => "unsupported",
                FindingKind::Inconsistent => "inconsistent",
            },
            message: message(finding),
            object: &finding.object,
        }
    }
}
