//! The status as metrics, in the text format of Prometheus.
//!
//! Moments are told as they are, not as ages: `time() - pgark_backup_last_end_timestamp_seconds` is an age whenever it is
//! asked for. What is not known has no sample.

mod exposition;

use std::collections::BTreeSet;

use jiff::Timestamp;

use self::exposition::{Exposition, Kind, Labels};
use crate::digest::{BackupDigest, RepositoryDigest, digest};
use crate::health::{Grade, health};
use crate::job;
use crate::late::Late;
use crate::status::{JobState, JobStatus, StanzaStatus, Status};

/// What the text is.
pub(crate) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The types of backups.
const TYPES: [&str; 3] = ["full", "diff", "incr"];

/// A stanza, and what its repositories have.
struct Known<'status> {
    stanza: &'status StanzaStatus,
    repositories: Vec<RepositoryDigest>,
}

/// Renders all that is known.
pub fn render(status: &Status, now: Timestamp) -> String {
    let known: Vec<_> = status
        .stanzas
        .iter()
        .map(|stanza| {
            let repositories = stanza.repositories.info.as_deref().map(digest).unwrap_or_default();
            Known { stanza, repositories }
        })
        .collect();
    let mut text = Exposition::default();
    of_agent(&mut text, status);
    of_stanzas(&mut text, &known, now);
    of_repositories(&mut text, &known);
    of_dropped(&mut text, &known);
    of_backups(&mut text, &known);
    of_jobs(&mut text, &known);
    text.finish()
}

fn of_agent(text: &mut Exposition, status: &Status) {
    let version = status.program.rsplit(' ').next().unwrap_or_default();
    let info = Labels::of(&[("version", version), ("host", &status.host)]);
    text.family(Kind::Gauge, "pgark_agent_info", "The agent; always 1.", [(info, Some(1.0))]);
    let mut moment = |name, help, time| text.family(Kind::Gauge, name, help, [(Labels::of(&[]), Some(seconds(time)))]);
    moment("pgark_agent_start_timestamp_seconds", "When the agent began.", status.started);
    moment("pgark_agent_config_timestamp_seconds", "When the configuration was read last.", status.configured);
    moment("pgark_agent_update_timestamp_seconds", "When the agent has looked around last.", status.updated);
}

fn of_stanzas(text: &mut Exposition, known: &[Known<'_>], now: Timestamp) {
    let mut gauge = |name, help, value: &dyn Fn(&Known<'_>) -> Option<f64>| {
        let samples = known.iter().map(|known| (Labels::of(&[("stanza", &known.stanza.name)]), value(known)));
        text.family(Kind::Gauge, name, help, samples);
    };
    gauge(
        "pgark_stanza_health",
        "How the stanza is, as the page says it in words: 0 well, 1 not known yet, 2 warnings, 3 problems.",
        &|known| {
            Some(match health(known.stanza, &known.repositories, now).grade {
                Grade::Ok => 0.0,
                Grade::Unknown => 1.0,
                Grade::Warning => 2.0,
                Grade::Error => 3.0,
            })
        },
    );
    gauge("pgark_stanza_stopped", "Whether a stop file keeps jobs from running.", &|known| {
        Some(truth(known.stanza.stopped))
    });
    gauge(
        "pgark_stanza_standby",
        "Whether the cluster here is a standby, whose backups another host takes.",
        &|known| Some(truth(known.stanza.standby)),
    );
    gauge(
        "pgark_look_timestamp_seconds",
        "When the agent has looked at the repositories last, whether or not it could.",
        &|known| known.stanza.repositories.asked.map(seconds),
    );
    gauge("pgark_look_success", "Whether the last look at the repositories has told something.", &|known| {
        known.stanza.repositories.asked.map(|_| truth(known.stanza.repositories.error.is_none()))
    });
    gauge("pgark_wal_waiting_segments", "WAL segments in pg_wal that wait to be archived.", &|known| {
        known.stanza.wal.map(|waiting| count(waiting.segments))
    });
    gauge(
        "pgark_wal_waiting_since_timestamp_seconds",
        "Since when the first of the WAL segments waits that wait to be archived.",
        &|known| known.stanza.wal.and_then(|waiting| waiting.oldest).map(seconds),
    );
}

fn of_repositories(text: &mut Exposition, known: &[Known<'_>]) {
    let mut gauge = |name, help, value: &dyn Fn(&RepositoryDigest) -> Option<f64>| {
        let samples = known.iter().flat_map(|known| {
            known
                .repositories
                .iter()
                .map(move |repository| (repository_labels(known, repository, &[]), value(repository)))
        });
        text.family(Kind::Gauge, name, help, samples);
    };
    gauge(
        "pgark_repository_status",
        "How the stanza is in the repository, by the codes of the info command: 0 is well.",
        &|repository| Some(f64::from(repository.code)),
    );
    gauge(
        "pgark_repository_size_bytes",
        "Bytes of the packs that the backups in the repository need. WAL is not counted.",
        &|repository| repository.pack_bytes.map(count),
    );
    gauge(
        "pgark_recovery_window_start_timestamp_seconds",
        "The first moment that can be reached in one piece with the last one.",
        &|repository| repository.newest_window().map(|window| seconds(window.start)),
    );
    gauge(
        "pgark_recovery_window_end_timestamp_seconds",
        "When the last transaction ended that can be reached.",
        &|repository| repository.newest_window().map(|window| seconds(window.stop.unwrap_or(window.start))),
    );
    let if_known = |repository: &RepositoryDigest, value| repository.is_well().then_some(value);
    gauge(
        "pgark_wal_gaps",
        "Gaps in the WAL of the archive that no recovery gets past, those that retention has made aside.",
        &|repository| if_known(repository, amount(repository.gaps().count())),
    );
    gauge("pgark_wal_missing_segments", "WAL segments that are missing in these gaps.", &|repository| {
        if_known(repository, count(repository.gaps().map(|gap| gap.count).sum()))
    });
}

fn of_dropped(text: &mut Exposition, known: &[Known<'_>]) {
    let mut samples = Vec::new();
    for known in known {
        let files = |key| known.stanza.dropped.iter().filter(move |found| found.repository == key);
        let keys: BTreeSet<_> = known.repositories.iter().map(|repository| repository.key).collect();
        let keys = keys.into_iter().chain(known.stanza.dropped.iter().map(|found| found.repository));
        for key in keys.collect::<BTreeSet<_>>() {
            let labels = Labels::of(&[("stanza", known.stanza.name.as_str()), ("repo", &key.to_string())]);
            samples.push((labels, Some(count(files(key).map(|found| found.dropped.files).sum()))));
        }
    }
    text.family(
        Kind::Gauge,
        "pgark_wal_dropped_files",
        "WAL files that were dropped here because too many waited, and that no backup makes up for yet.",
        samples,
    );
}

fn of_backups(text: &mut Exposition, known: &[Known<'_>]) {
    let each = |value: &dyn Fn(&RepositoryDigest, &str) -> Option<f64>| {
        let mut samples = Vec::new();
        for known in known {
            for (repository, kind) in known.repositories.iter().flat_map(|found| TYPES.map(|kind| (found, kind))) {
                samples.push((repository_labels(known, repository, &[("type", kind)]), value(repository, kind)));
            }
        }
        samples
    };
    let number = each(&|repository, kind| {
        let backups = repository.backups.iter().filter(|backup| backup.kind == kind).count();
        repository.is_well().then_some(amount(backups))
    });
    text.family(Kind::Gauge, "pgark_backups", "Backups in the repository.", number);
    let mut last = |name, help, value: &dyn Fn(&BackupDigest) -> f64| {
        text.family(Kind::Gauge, name, help, each(&|repository, kind| repository.newest(Some(kind)).map(value)));
    };
    last("pgark_backup_last_end_timestamp_seconds", "When the last backup of this type ended.", &|backup| {
        seconds(backup.ended)
    });
    last("pgark_backup_last_duration_seconds", "How long the last backup of this type took.", &|backup| {
        seconds(backup.ended) - seconds(backup.started)
    });
    last("pgark_backup_last_size_bytes", "Bytes of the cluster at the last backup of this type.", &|backup| {
        count(backup.size)
    });
    last(
        "pgark_backup_last_read_bytes",
        "Bytes of the cluster that the last backup of this type has read.",
        &|backup| count(backup.read),
    );
    last(
        "pgark_backup_last_added_bytes",
        "Bytes that the last backup of this type has added to the repository.",
        &|backup| count(backup.added),
    );
    last(
        "pgark_backup_last_stored_bytes",
        "Bytes of the repository that the last backup of this type needs.",
        &|backup| count(backup.stored),
    );
    last(
        "pgark_backup_last_damaged",
        "Whether pages of the cluster were damaged at the last backup of this type.",
        &|backup| truth(backup.damaged),
    );
}

fn of_jobs(text: &mut Exposition, known: &[Known<'_>]) {
    let mut family = |kind, name, help, value: &dyn Fn(&StanzaStatus, &JobStatus) -> Option<f64>| {
        let samples = known.iter().flat_map(|known| {
            known.stanza.jobs.iter().map(move |job| {
                let labels = Labels::of(&[("stanza", &known.stanza.name), ("kind", job.kind.name())]);
                (labels, value(known.stanza, job))
            })
        });
        text.family(kind, name, help, samples);
    };
    family(Kind::Counter, "pgark_job_runs_total", "Runs that have ended, good or not.", &|_, job| {
        Some(count(job.runs_total))
    });
    family(Kind::Counter, "pgark_job_failures_total", "Runs that have failed.", &|_, job| {
        Some(count(job.failures_total))
    });
    let mut gauge = |name, help, value: &dyn Fn(&StanzaStatus, &JobStatus) -> Option<f64>| {
        family(Kind::Gauge, name, help, value);
    };
    gauge("pgark_job_consecutive_failures", "Runs that have failed since the last good one.", &|_, job| {
        Some(f64::from(job.failures))
    });
    let last = |job: &JobStatus, value: fn(&job::Run) -> f64| job.last.as_ref().map(value);
    gauge(
        "pgark_job_last_success",
        "Whether the last run was good. That of verify is what verify has found.",
        &|_, job| last(job, |run| truth(run.is_good())),
    );
    gauge("pgark_job_last_exit_code", "The exit code of the last run; -1 where a signal has ended it.", &|_, job| {
        last(job, |run| run.code.map_or(-1.0, f64::from))
    });
    gauge("pgark_job_last_end_timestamp_seconds", "When the last run ended.", &|_, job| {
        last(job, |run| seconds(run.ended))
    });
    gauge("pgark_job_last_duration_seconds", "How long the last run took.", &|_, job| {
        last(job, |run| run.duration().as_secs_f64())
    });
    gauge("pgark_job_last_success_timestamp_seconds", "When the last good run ended.", &|_, job| {
        job.last_good.as_ref().map(|run| seconds(run.ended))
    });
    gauge("pgark_job_next_timestamp_seconds", "When the job comes next.", &|_, job| job.next.map(seconds));
    gauge("pgark_job_running", "Whether the job is at work.", &|_, job| {
        Some(truth(matches!(job.state, JobState::Running { .. })))
    });
    gauge("pgark_job_progress_ratio", "How much of its work the job has done, from 0 to 1.", &|_, job| {
        let JobState::Running { size: Some(size), size_complete: Some(done), .. } = job.state else { return None };
        (size > 0).then(|| count(done) / count(size))
    });
    let is_late = |stanza: &StanzaStatus, job: &JobStatus, which: fn(&Late) -> bool| {
        stanza.late.iter().any(|late| late.late.kind() == job.kind && which(&late.late))
    };
    gauge(
        "pgark_schedule_kept",
        "Whether the schedule of the job is kept: the last good run is young enough, and none takes longer than its interval.",
        &|stanza, job| Some(truth(!is_late(stanza, job, |_| true))),
    );
    gauge("pgark_schedule_overrun", "Whether a run took or takes longer than its interval.", &|stanza, job| {
        Some(truth(is_late(stanza, job, |late| matches!(late, Late::Overrun { .. }))))
    });
}

fn repository_labels(known: &Known<'_>, repository: &RepositoryDigest, more: &[(&str, &str)]) -> Labels {
    let key = repository.key.to_string();
    Labels::of(&[&[("stanza", known.stanza.name.as_str()), ("repo", &key)], more].concat())
}

fn seconds(time: Timestamp) -> f64 {
    time.as_duration().as_secs_f64()
}

/// Prometheus knows only doubles, which are exact up to 8 PiB.
#[expect(clippy::cast_precision_loss, reason = "samples are doubles")]
fn count(number: u64) -> f64 {
    number as f64
}

fn amount(number: usize) -> f64 {
    count(u64::try_from(number).unwrap_or(u64::MAX))
}

fn truth(is_so: bool) -> f64 {
    f64::from(u8::from(is_so))
}

#[cfg(test)]
mod tests;
