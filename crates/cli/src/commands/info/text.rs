//! The report for people, as pgBackRest writes it.

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
    let texts: Vec<_> = stanzas.iter().map(|stanza| lines_of_stanza(stanza, view, &zone).join("\n") + "\n").collect();
    texts.join("\n")
}

fn lines_of_stanza(stanza: &StanzaReport, view: View, zone: &TimeZone) -> Vec<String> {
    let status = stanza.status();
    let mut lines = vec![format!("stanza: {}", name(stanza)), format!("    status: {}", status_line(stanza, view))];
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
    remarks.extend(stanza.backup_runs().then_some("backup/expire running"));
    remarks.extend(stanza.restore_runs().then_some("restore running"));
    if remarks.is_empty() { word.to_owned() } else { format!("{word} ({})", remarks.join(", ")) }
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
    lines.push(format!("repo{key}: backup set size: {stored}, backup size: {added}"));
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
    if !document.damaged_files.is_empty() {
        let files: Vec<_> = document.damaged_files.iter().map(|file| file.path.as_str()).collect();
        lines.push(format!("error list: {}", files.join(", ")));
    }
    let annotations = backup.annotations.iter().map(|(key, value)| format!("{key}: {value}"));
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

#[cfg(test)]
mod tests {
    use pgark_engine::info::ClusterReport;
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
        ClusterReport { cluster, segments: segments.map(|(first, last)| (parse(first), parse(last))) }
    }

    fn repository(key: u32, clusters: Vec<ClusterReport>) -> RepositoryReport {
        let (status, backups) = (RepositoryStatus::NoBackups, Vec::new());
        RepositoryReport { key, cipher: "none", status, clusters, backups, backup_runs: false, restore_runs: false }
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

    #[test]
    fn offsets_have_minutes_only_where_it_matters() {
        let time = Timestamp::UNIX_EPOCH;
        for (zone, text) in [
            ("UTC", "1970-01-01 00:00:00+00"),
            ("America/New_York", "1969-12-31 19:00:00-05"),
            ("Asia/Kolkata", "1970-01-01 05:30:00+05:30"),
        ] {
            assert_eq!(local_time(time, &TimeZone::get(zone).unwrap()), text);
        }
    }
}
