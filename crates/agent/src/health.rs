//! How a stanza is, in words.

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use crate::digest::RepositoryDigest;
use crate::status::{JobStatus, StanzaStatus};

/// After how long WAL that waits to be archived is worth a word, and when it is an error.
const WAITING_LONG: SignedDuration = SignedDuration::from_mins(5);
const WAITING_TOO_LONG: SignedDuration = SignedDuration::from_hours(1);

/// How well something is. The greater, the worse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Grade {
    /// As it should be.
    Ok,
    /// Not known yet.
    Unknown,
    /// Somebody should look, soon.
    Warning,
    /// Something can't be restored, or will soon be so.
    Error,
}

/// Something found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How well that is.
    pub grade: Grade,
    /// A sentence.
    pub text: String,
}

/// How a stanza is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Health {
    /// How well the worst of it is.
    pub grade: Grade,
    /// In a few words.
    pub summary: String,
    /// What there is to say, the worst first.
    pub findings: Vec<Finding>,
}

/// Judges a stanza by what is known of it.
pub(crate) fn health(stanza: &StanzaStatus, repositories: &[RepositoryDigest], now: Timestamp) -> Health {
    let mut findings = Vec::new();
    findings.extend(look(stanza, repositories));
    findings.extend(repositories.iter().flat_map(|repository| of_repository(repository, now)));
    findings.extend(waiting(stanza, now));
    findings.extend(stanza.dropped.iter().map(|dropped| finding(Grade::Error, dropped.to_string())));
    findings.extend(stanza.jobs.iter().filter_map(failing));
    findings.extend(stanza.late.iter().map(|late| finding(Grade::Warning, late.message.clone())));
    if stanza.standby {
        let text = "the cluster here is a standby: scheduled backups are passed over, and taken where its primary is";
        findings.push(finding(Grade::Ok, text.to_owned()));
    }
    if stanza.stopped {
        let text = "the stanza is stopped: no job begins until 'pgark start'";
        findings.push(finding(Grade::Warning, text.to_owned()));
    }
    // A stable sort: what belongs together stays together.
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.grade));
    let grade = findings.first().map_or(Grade::Unknown, |worst| worst.grade);
    let wrong = findings.iter().filter(|finding| finding.grade == grade).count();
    let summary = match (grade, wrong) {
        (Grade::Ok, _) => "All is well".to_owned(),
        (Grade::Unknown, _) => "Not known yet".to_owned(),
        (Grade::Warning, 1) => "Somebody should look: 1 warning".to_owned(),
        (Grade::Warning, count) => format!("Somebody should look: {count} warnings"),
        (Grade::Error, 1) => "Something is wrong: 1 problem".to_owned(),
        (Grade::Error, count) => format!("Something is wrong: {count} problems"),
    };
    Health { grade, summary, findings }
}

fn finding(grade: Grade, text: String) -> Finding {
    Finding { grade, text }
}

/// Whether the repositories could be looked at.
fn look(stanza: &StanzaStatus, repositories: &[RepositoryDigest]) -> Option<Finding> {
    match (&stanza.repositories.error, stanza.repositories.asked) {
        (Some(error), _) => Some(finding(Grade::Error, format!("the repositories can't be looked at: {error}"))),
        (None, None) => Some(finding(Grade::Unknown, "the repositories were not looked at yet".to_owned())),
        (None, Some(_)) if repositories.is_empty() => {
            Some(finding(Grade::Unknown, "no repository is known".to_owned()))
        }
        (None, Some(_)) => None,
    }
}

fn of_repository(repository: &RepositoryDigest, now: Timestamp) -> Vec<Finding> {
    let key = repository.key;
    if !repository.is_well() {
        return vec![finding(Grade::Error, format!("repo{key}: {}", repository.message))];
    }
    let mut findings = Vec::new();
    let newest = repository.newest(None);
    if let Some(backup) = newest {
        let ago = age(now.duration_since(backup.ended));
        findings.push(finding(Grade::Ok, format!("repo{key}: the last backup ({}) ended {ago} ago", backup.kind)));
        if backup.damaged {
            let text = format!("repo{key}: pages of the cluster were damaged when backup {} was taken", backup.label);
            findings.push(finding(Grade::Warning, text));
        }
    }
    match repository.newest_window() {
        Some(window) => {
            let (since, until) =
                (age(now.duration_since(window.start)), window.stop.map(|stop| now.duration_since(stop)));
            let until =
                until.map_or_else(|| "the end of the last backup".to_owned(), |until| format!("{} ago", age(until)));
            let text =
                format!("repo{key}: every moment can be reached from {since} ago to the last transaction, {until}");
            findings.push(finding(Grade::Ok, text));
        }
        None if newest.is_some() => {
            findings
                .push(finding(Grade::Error, format!("repo{key}: no backup can be recovered with the WAL there is")));
        }
        None => {}
    }
    findings.extend(repository.gaps().map(|gap| {
        let what = if gap.first == gap.last {
            format!("repo{key}: WAL segment {} is missing", gap.first)
        } else {
            format!("repo{key}: WAL segments {} to {} are missing", gap.first, gap.last)
        };
        // Names of segments have the order of their timelines and of their numbers.
        let is_passed = newest.and_then(|backup| backup.first_segment.as_ref()).is_some_and(|first| gap.last < *first);
        if is_passed {
            finding(Grade::Warning, format!("{what}: no recovery gets past it, but later backups do not need it"))
        } else {
            finding(Grade::Error, format!("{what}: no recovery gets past it; take a backup now"))
        }
    }));
    findings
}

/// WAL that is not in the archive yet.
fn waiting(stanza: &StanzaStatus, now: Timestamp) -> Option<Finding> {
    let waiting = stanza.wal.as_ref()?;
    let oldest = now.duration_since(waiting.oldest?);
    let grade = match oldest {
        long if long >= WAITING_TOO_LONG => Grade::Error,
        long if long >= WAITING_LONG => Grade::Warning,
        _ => return None,
    };
    let text = format!(
        "{} WAL segment(s) wait to be archived, the first since {}: look into the log of archive-push",
        waiting.segments,
        age(oldest)
    );
    Some(finding(grade, text))
}

fn failing(job: &JobStatus) -> Option<Finding> {
    let last = job.last.as_ref().filter(|_| job.failures > 0)?;
    let how = last.code.map_or_else(|| "by a signal".to_owned(), |code| format!("with exit code {code}"));
    let line = last.complaint().map(|line| format!(": {line}")).unwrap_or_default();
    let times = if job.failures == 1 { "once".to_owned() } else { format!("{} times in a row", job.failures) };
    Some(finding(Grade::Error, format!("{} has failed {times}, last {how}{line}", job.kind)))
}

/// A duration in the two greatest of its units.
fn age(duration: SignedDuration) -> String {
    let seconds = duration.as_secs().max(0);
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, minutes) => format!("{minutes} min"),
        (0, hours, minutes) => format!("{hours} h {minutes} min"),
        (days, hours, _) => format!("{days} d {hours} h"),
    }
}

#[cfg(test)]
pub(crate) mod tests;
