//! The report for people, as pgBackRest writes it.

use std::fmt::Write as _;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use pgark_engine::info::{BackupReport, RepositoryReport, RepositoryStatus, StanzaReport, StanzaStatus};
use pgark_postgres::wal::name::SegmentName;
use pgark_repository::manifest::ManifestDocument;

use super::{TEMPLATE_DATABASES, View, common_cipher, name, repository_status, stanza_status};
use crate::commands::size::human_size;

/// All stanzas, each with its clusters, archives and backups.
pub(super) fn render(stanzas: &[StanzaReport], view: View) -> String {
    if stanzas.is_empty() {
        return "No stanzas exist in the repository.\n".to_owned();
    }
    let zone = TimeZone::system();
    stanzas.iter().map(|stanza| render_stanza(stanza, view, &zone)).collect::<Vec<_>>().join("\n")
}

fn render_stanza(stanza: &StanzaReport, view: View, zone: &TimeZone) -> String {
    let status = stanza.status();
    let mut text = format!("stanza: {}\n    status: {}\n", name(stanza), status_line(stanza, view));
    if view.progress_only {
        return text;
    }
    if matches!(status, StanzaStatus::Mixed | StanzaStatus::ClusterMismatch | StanzaStatus::Other) {
        text += &repository_statuses(&stanza.repositories);
    }
    if status != StanzaStatus::MissingStanzaPath {
        text += &ciphers(&stanza.repositories);
    }
    let (current, prior): (Vec<_>, Vec<_>) =
        clusters(stanza, view).into_iter().partition(|cluster| stanza.current() == Some(cluster.identity));
    for cluster in prior.iter().filter(|cluster| cluster.segments.is_some() || !cluster.backups.is_empty()) {
        text += &format!("\n    db (prior){}", cluster.render(view, zone));
    }
    for cluster in &current {
        text += &format!("\n    db (current){}", cluster.render(view, zone));
    }
    text
}

/// `ok`, `mixed` or `error (no valid backups)`, with what is running.
fn status_line(stanza: &StanzaReport, view: View) -> String {
    let status = stanza.status();
    let mut remarks = Vec::new();
    let word = match status {
        StanzaStatus::Ok => "ok",
        StanzaStatus::Mixed if !view.progress_only => "mixed",
        _ => {
            remarks.push(stanza_status(status).1);
            "error"
        }
    };
    remarks.extend(stanza.backup_runs().then_some("backup/expire running"));
    remarks.extend(stanza.restore_runs().then_some("restore running"));
    if remarks.is_empty() { word.to_owned() } else { format!("{word} ({})", remarks.join(", ")) }
}

fn repository_statuses(repositories: &[RepositoryReport]) -> String {
    let is_one = repositories.len() == 1;
    let indent = if is_one { "            " } else { "               " };
    let mut text = String::new();
    for report in repositories {
        let (_, message) = repository_status(&report.status);
        if !is_one {
            text += &format!("        repo{}: ", report.key);
        }
        match &report.status {
            RepositoryStatus::Ok => text += "ok\n",
            RepositoryStatus::Other(_) => {
                text += if is_one { "" } else { "error (other)\n" };
                text += &message.lines().map(|line| format!("{indent}{line}\n")).collect::<String>();
            }
            _ => text += &format!("error ({message})\n"),
        }
    }
    text
}

fn ciphers(repositories: &[RepositoryReport]) -> String {
    let common = common_cipher(repositories);
    let mut text = format!("    cipher: {common}\n");
    if common == "mixed" {
        for report in repositories {
            text += &format!("        repo{}: {}\n", report.key, report.cipher);
        }
    }
    text
}

/// A cluster, with what all repositories have of it.
struct ClusterView<'report> {
    identity: (&'report str, &'report str),
    segments: Option<(SegmentName, SegmentName)>,
    backups: Vec<(u32, &'report BackupReport)>,
}

/// The clusters of a stanza, oldest first; if one backup was asked for, only those that it is of.
fn clusters(stanza: &StanzaReport, view: View) -> Vec<ClusterView<'_>> {
    let mut views: Vec<ClusterView<'_>> = Vec::new();
    for found in stanza.repositories.iter().flat_map(|report| &report.clusters) {
        let identity = (found.cluster.version.as_str(), found.cluster.system_id.as_str());
        match views.iter_mut().find(|view| view.identity == identity) {
            Some(view) => view.segments = widest(view.segments, found.segments),
            None => views.push(ClusterView { identity, segments: found.segments, backups: Vec::new() }),
        }
    }
    for (key, backup) in stanza.backups() {
        let cluster = &backup.document.cluster;
        let identity = (cluster.version.as_str(), cluster.system_id.as_str());
        if let Some(view) = views.iter_mut().find(|view| view.identity == identity) {
            view.backups.push((key, backup));
        }
    }
    let any_backup = views.iter().any(|cluster| !cluster.backups.is_empty());
    views.retain(|cluster| !(view.one_backup && any_backup) || !cluster.backups.is_empty());
    views
}

fn widest(
    one: Option<(SegmentName, SegmentName)>,
    other: Option<(SegmentName, SegmentName)>,
) -> Option<(SegmentName, SegmentName)> {
    match (one, other) {
        (Some((first, last)), Some((other_first, other_last))) => Some((first.min(other_first), last.max(other_last))),
        (one, other) => one.or(other),
    }
}

impl ClusterView<'_> {
    fn render(&self, view: View, zone: &TimeZone) -> String {
        let (version, _) = self.identity;
        let segments = match self.segments {
            Some((first, last)) => format!("{first}/{last}"),
            None => "none present".to_owned(),
        };
        let mut text = format!("\n        wal archive min/max ({version}): {segments}\n");
        for (key, backup) in &self.backups {
            text += &render_backup(*key, backup, view, zone);
        }
        text
    }
}

fn render_backup(key: u32, backup: &BackupReport, view: View, zone: &TimeZone) -> String {
    let document = &backup.document;
    let (start, stop, totals) = (&document.start, &document.stop, document.totals);
    let segments = start.wal_segment.as_deref().zip(stop.wal_segment.as_deref());
    let segments = segments.map_or("n/a".to_owned(), |(start, stop)| format!("{start} / {stop}"));
    let mut lines = vec![
        format!("timestamp start/stop: {} / {}", local_time(start.time, zone), local_time(stop.time, zone)),
        format!("wal start/stop: {segments}"),
    ];
    if let Some((start, stop)) = start.lsn.as_deref().zip(stop.lsn.as_deref()).filter(|_| view.one_backup) {
        lines.push(format!("lsn start/stop: {start} / {stop}"));
    }
    let (size, read) = (human_size(totals.size), human_size(totals.read));
    lines.push(format!("database size: {size}, database backup size: {read}"));
    let (stored, added) = (human_size(totals.stored), human_size(totals.added));
    lines.push(format!("repo{key}: backup set size: {stored}, backup size: {added}"));
    if view.one_backup {
        lines.extend(details(backup));
    } else if !document.damaged_files.is_empty() {
        lines.push("error(s) detected during backup".to_owned());
    }
    let heading = format!("\n        {} backup: {}\n", document.kind, document.label);
    lines.iter().fold(heading, |mut text, line| {
        let _infallible = writeln!(text, "            {line}");
        text
    })
}

/// What is told only of a backup that was asked for by its label.
fn details(backup: &BackupReport) -> Vec<String> {
    let document = &backup.document;
    let mut lines = vec![format!("database list: {}", database_list(document))];
    let listed = |lines: &mut Vec<String>, title: &str, items: Vec<String>| {
        if !items.is_empty() {
            lines.push(title.to_owned());
            lines.extend(items.into_iter().map(|item| format!("    {item}")));
        }
    };
    listed(&mut lines, "symlinks:", backup.links.iter().map(|(name, target)| format!("{name} => {target}")).collect());
    let tablespaces = document.tablespaces.iter();
    let tablespaces = tablespaces.map(|found| format!("{} ({}) => {}", found.name, found.oid, found.path));
    listed(&mut lines, "tablespaces:", tablespaces.collect());
    if !document.damaged_files.is_empty() {
        let files: Vec<_> = document.damaged_files.iter().map(|file| file.path.as_str()).collect();
        lines.push(format!("error list: {}", files.join(", ")));
    }
    let annotations = document.annotations.iter().map(|(key, value)| format!("{key}: {value}"));
    listed(&mut lines, "annotation(s)", annotations.collect());
    lines
}

fn database_list(document: &ManifestDocument) -> String {
    let databases = document.databases.iter().filter(|database| !TEMPLATE_DATABASES.contains(&database.name.as_str()));
    let listed: Vec<_> = databases.map(|database| format!("{} ({})", database.name, database.oid)).collect();
    if listed.is_empty() { "none".to_owned() } else { listed.join(", ") }
}

/// `2026-11-22 12:19:37+00`, with minutes in the offset only where it has some.
fn local_time(time: Timestamp, zone: &TimeZone) -> String {
    let zoned = time.to_zoned(zone.clone());
    let text = zoned.strftime("%Y-%m-%d %H:%M:%S%:z").to_string();
    text.strip_suffix(":00").unwrap_or(&text).to_owned()
}
