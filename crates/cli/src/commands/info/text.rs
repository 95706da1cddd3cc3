//! The report for people, as pgBackRest writes it.

use jiff::tz::TimeZone;
use pgark_engine::info::{
    BackupReport, ClusterReport, MissingWal, RepositoryReport, RepositoryStatus, StanzaReport, StanzaStatus, Window,
};
use pgark_engine::lock::{Held, percentage};
use pgark_postgres::wal::name::SegmentName;
use pgark_repository::manifest::{ManifestDocument, PageRange, Sidecar};

use super::{TEMPLATE_DATABASES, View, common_cipher, name, progress, repository_status, stanza_status};
use crate::commands::local_time::local_time;
use pgark_engine::size::human_size;

/// All stanzas, each with its clusters, archives and backups.
pub(super) fn render(stanzas: &[StanzaReport], view: View) -> String {
    if stanzas.is_empty() {
        return "No stanzas exist in the repository.\n".to_owned();
    }
    let zone = TimeZone::system();
    let texts: Vec<_> = stanzas.iter().map(|stanza| lines_of_stanza(stanza, view, &zone).join("\n") + "\n").collect();
    texts.join("\n")
}

fn lines_of_stanza(stanza: &StanzaReport, view: View, zone: &TimeZone) -> Vec<String> {
    let status = stanza.status();
    let mut lines = vec![format!("stanza: {}", name(stanza)), format!("    status: {}", status_line(stanza, view))];
    lines.extend(progress_lines(stanza));
    if view.progress_only {
        return lines;
    }
    if matches!(status, StanzaStatus::Mixed | StanzaStatus::ClusterMismatch | StanzaStatus::Other) {
        lines.extend(repository_statuses(&stanza.repositories));
    }
    if status != StanzaStatus::MissingStanzaPath {
        lines.extend(ciphers(&stanza.repositories));
    }
    let (current, prior): (Vec<_>, Vec<_>) =
        clusters(stanza, view).into_iter().partition(|cluster| stanza.current() == Some(cluster.identity));
    for cluster in prior.iter().filter(|cluster| cluster.segments.is_some() || !cluster.backups.is_empty()) {
        lines.extend(cluster.lines("db (prior)", view, zone));
    }
    for cluster in &current {
        lines.extend(cluster.lines("db (current)", view, zone));
    }
    lines
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
    let running = [("backup/expire", stanza.running_backups()), ("restore", stanza.running_restores())];
    let running: Vec<_> = running.iter().filter_map(|(what, held)| running_remark(what, held)).collect();
    remarks.extend(running.iter().map(String::as_str));
    if remarks.is_empty() { word.to_owned() } else { format!("{word} ({})", remarks.join(", ")) }
}

/// `backup/expire running - 45.67% complete`, of all repositories together.
fn running_remark(what: &str, held: &[(u32, &Held)]) -> Option<String> {
    if held.is_empty() {
        return None;
    }
    let complete = progress(held).map(|(size, done)| format!(" - {} complete", percentage(size, done)));
    Some(format!("{what} running{}", complete.unwrap_or_default()))
}

/// How far each backup is, where there are several.
fn progress_lines(stanza: &StanzaReport) -> Vec<String> {
    let held = stanza.running_backups();
    if held.len() < 2 {
        return Vec::new();
    }
    let line = |(key, held): &(u32, &Held)| {
        let complete = held.holder.as_ref()?.percentage()?;
        Some(format!("        repo{key} backup: {complete} complete"))
    };
    held.iter().filter_map(line).collect()
}

fn repository_statuses(repositories: &[RepositoryReport]) -> Vec<String> {
    let is_one = repositories.len() == 1;
    let indent = if is_one { "            " } else { "               " };
    let mut lines = Vec::new();
    for report in repositories {
        let (_, message) = repository_status(&report.status);
        let short = match &report.status {
            RepositoryStatus::Ok => "ok".to_owned(),
            RepositoryStatus::Other(_) => "error (other)".to_owned(),
            _ => format!("error ({message})"),
        };
        if !is_one {
            lines.push(format!("        repo{}: {short}", report.key));
        }
        if let RepositoryStatus::Other(_) = &report.status {
            lines.extend(message.lines().map(|line| format!("{indent}{line}")));
        }
    }
    lines
}

fn ciphers(repositories: &[RepositoryReport]) -> Vec<String> {
    let common = common_cipher(repositories);
    let mut lines = vec![format!("    cipher: {common}")];
    if common == "mixed" {
        lines.extend(repositories.iter().map(|report| format!("        repo{}: {}", report.key, report.cipher)));
    }
    lines
}

/// A cluster, with what all repositories have of it.
struct ClusterView<'report> {
    identity: (&'report str, &'report str),
    segments: Option<(SegmentName, SegmentName)>,
    /// What can be reached with each repository, and what is missing of its WAL.
    recovery: Vec<(u32, &'report ClusterReport)>,
    backups: Vec<(u32, &'report BackupReport)>,
}

/// The clusters of a stanza, oldest first; if one backup was asked for, only those that it is of.
fn clusters(stanza: &StanzaReport, view: View) -> Vec<ClusterView<'_>> {
    let mut views: Vec<ClusterView<'_>> = Vec::new();
    let found = stanza.repositories.iter().flat_map(|report| report.clusters.iter().map(|found| (report.key, found)));
    for (key, found) in found {
        let identity = (found.cluster.version.as_str(), found.cluster.system_id.as_str());
        let place = views.iter().position(|view| view.identity == identity).unwrap_or_else(|| {
            let (segments, recovery, backups) = (None, Vec::new(), Vec::new());
            views.push(ClusterView { identity, segments, recovery, backups });
            views.len() - 1
        });
        let view = &mut views[place];
        view.segments = widest(view.segments, found.segments);
        view.recovery.push((key, found));
    }
    for (key, backup) in stanza.backups() {
        let cluster = &backup.document.cluster;
        let identity = (cluster.version.as_str(), cluster.system_id.as_str());
        if let Some(view) = views.iter_mut().find(|view| view.identity == identity) {
            view.backups.push((key, backup));
        }
    }
    if view.one_backup && views.iter().any(|cluster| !cluster.backups.is_empty()) {
        views.retain(|cluster| !cluster.backups.is_empty());
    }
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
    fn lines(&self, title: &str, view: View, zone: &TimeZone) -> Vec<String> {
        let (version, _) = self.identity;
        let segments = match self.segments {
            Some((first, last)) => format!("{first}/{last}"),
            None => "none present".to_owned(),
        };
        let mut lines = vec![String::new(), format!("    {title}")];
        lines.push(format!("        wal archive min/max ({version}): {segments}"));
        for (key, found) in &self.recovery {
            lines.extend(recovery(*key, found, zone));
        }
        for (key, backup) in &self.backups {
            let document = &backup.document;
            lines.extend([String::new(), format!("        {} backup: {}", document.kind, document.label)]);
            lines.extend(
                lines_of_backup(*key, backup, view, zone).into_iter().map(|line| format!("            {line}")),
            );
        }
        lines
    }
}

/// What can be reached with a repository, and what is missing.
fn recovery(key: u32, found: &ClusterReport, zone: &TimeZone) -> Vec<String> {
    let mut lines = Vec::new();
    let is_one_timeline = found.windows.iter().all(|window| window.timeline.0 == 1);
    for Window { timeline, start: (start, began), stop: (stop, ended), .. } in &found.windows {
        let on = if is_one_timeline { String::new() } else { format!(", timeline {}", timeline.0) };
        let ended = ended.map_or("no transaction".to_owned(), |time| local_time(time, zone));
        let began = local_time(*began, zone);
        lines.push(format!("        repo{key}: recovery window{on}: {began} / {ended}, lsn {start} / {stop}"));
    }
    for MissingWal { first, last, count, by_retention } in &found.missing {
        let what = if *by_retention { "wal removed by retention" } else { "wal missing" };
        lines.push(format!("        repo{key}: {what}: {first}/{last} ({})", segments(*count)));
    }
    lines
}

/// `1 segment`, `2 segments`
pub(crate) fn segments(count: u64) -> String {
    format!("{count} segment{}", if count == 1 { "" } else { "s" })
}

fn lines_of_backup(key: u32, backup: &BackupReport, view: View, zone: &TimeZone) -> Vec<String> {
    let document = &backup.document;
    let (start, stop, totals) = (&document.start, &document.stop, document.totals);
    let segments = start.wal_segment.as_deref().zip(stop.wal_segment.as_deref());
    let segments = segments.map_or("n/a".to_owned(), |(start, stop)| format!("{start} / {stop}"));
    let mut lines = vec![
        format!("timestamp start/stop: {} / {}", local_time(start.time, zone), local_time(stop.time, zone)),
        format!("wal start/stop: {segments}"),
    ];
    if let Some((start, stop)) =
        start.lsn.as_deref().zip(stop.lsn.as_deref()).filter(|_| view.one_backup && start.wal_segment.is_some())
    {
        lines.push(format!("lsn start/stop: {start} / {stop}"));
    }
    let (size, read) = (human_size(totals.size), human_size(totals.read));
    lines.push(format!("database size: {size}, database backup size: {read}"));
    let (stored, added) = (human_size(totals.stored), human_size(totals.added));
    let alone =
        backup.exclusive.map_or(String::new(), |bytes| format!(", of this backup alone: {}", human_size(bytes)));
    lines.push(format!("repo{key}: backup set size: {stored}, backup size: {added}{alone}"));
    if view.one_backup {
        lines.extend(details(backup));
    } else if !document.damaged_files.is_empty() {
        lines.push("error(s) detected during backup".to_owned());
    }
    lines
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
    let sidecars = document.sidecars.iter().map(|Sidecar { name, path, files, size }| {
        format!("{name} => {path}, size: {}, files: {files}", human_size(*size))
    });
    listed(&mut lines, "sidecars:", sidecars.collect());
    if !document.damaged_files.is_empty() {
        let files: Vec<_> = document.damaged_files.iter().map(|file| file.path.as_str()).collect();
        lines.push(format!("error list: {}", files.join(", ")));
    }
    let damaged = document.damaged_files.iter();
    let damaged = damaged.map(|file| format!("{}: {}", file.path, pages(&file.pages)));
    listed(&mut lines, "damaged pages:", damaged.collect());
    let annotations = backup.annotations.iter().map(|(key, value)| format!("{key}: {value}"));
    listed(&mut lines, "annotation(s)", annotations.collect());
    lines
}

/// `2, 5-7`
fn pages(ranges: &[PageRange]) -> String {
    let text = ranges.iter().map(|range| match range.count {
        1 => range.first.to_string(),
        count => format!("{}-{}", range.first, u64::from(range.first) + u64::from(count) - 1),
    });
    text.collect::<Vec<_>>().join(", ")
}

fn database_list(document: &ManifestDocument) -> String {
    let databases = document.databases.iter().filter(|database| !TEMPLATE_DATABASES.contains(&database.name.as_str()));
    let listed: Vec<_> = databases.map(|database| format!("{} ({})", database.name, database.oid)).collect();
    if listed.is_empty() { "none".to_owned() } else { listed.join(", ") }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use pgark_repository::repository::Cluster;

    use super::*;

    const VIEW: View = View { progress_only: false, one_backup: false };

    fn cluster(id: u32, version: &str, segments: Option<(&str, &str)>) -> ClusterReport {
        let cluster = Cluster {
            id,
            version: version.to_owned(),
            system_id: format!("70000000000000000{version}"),
            control_version: 1300,
            catalog_version: 202_209_061,
            created: Timestamp::UNIX_EPOCH,
            archive_of: None,
        };
        let parse = |name: &str| name.parse().unwrap();
        ClusterReport {
            cluster,
            segments: segments.map(|(first, last)| (parse(first), parse(last))),
            windows: Vec::new(),
            missing: Vec::new(),
        }
    }

    fn repository(key: u32, clusters: Vec<ClusterReport>) -> RepositoryReport {
        let (status, backups) = (RepositoryStatus::NoBackups, Vec::new());
        RepositoryReport {
            key,
            cipher: "none",
            status,
            clusters,
            backups,
            pack_bytes: None,
            sessions: Vec::new(),
            backup: None,
            restore: None,
        }
    }

    #[test]
    fn earlier_clusters_come_first_and_those_without_anything_not_at_all() {
        let first = vec![
            cluster(1, "13", None),
            cluster(2, "15", Some(("000000010000000000000003", "000000010000000000000005"))),
            cluster(3, "17", None),
        ];
        let second = vec![
            cluster(1, "15", Some(("000000010000000000000002", "000000010000000000000004"))),
            cluster(2, "17", Some(("000000010000000000000001", "000000010000000000000001"))),
        ];
        let name = "demo".parse().ok();
        let report = StanzaReport { name, repositories: vec![repository(1, first), repository(2, second)] };
        assert_eq!(
            render(&[report], VIEW),
            "stanza: demo\n    status: error (no valid backups)\n    cipher: none\n\n    db (prior)\n        wal archive \
             min/max (15): 000000010000000000000002/000000010000000000000005\n\n    db (current)\n        wal archive \
             min/max (17): 000000010000000000000001/000000010000000000000001\n"
        );
    }
}
