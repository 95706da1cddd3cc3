use super::*;
use crate::digest::tests::info;
use crate::dropped::tests::dropped;
use crate::health::tests::{job, now, well};
use crate::status::{Board, LateStatus};

/// The samples of a status of two stanzas: one is well, the other is not.
fn samples() -> String {
    let board = Board::new("pgark 1.2.3", "db\"1", now());
    let (stanza, _) = well();
    let (mut other, _) = well();
    other.name = "other".to_owned();
    other.wal = None;
    other.repositories.info = Some(std::sync::Arc::new(info()));
    other.jobs = vec![job(job::Kind::Incr, 56, 3), job(job::Kind::Verify, 0, 0)];
    other.jobs[1].state =
        JobState::Running { due: now(), started: now(), process: 7, size: Some(200), size_complete: Some(50) };
    let late = Late::Overrun { kind: job::Kind::Verify, seconds: 100, interval_seconds: 60, running: true };
    other.late = vec![LateStatus { late, message: late.to_string(), since: now() }];
    other.dropped = vec![dropped()];
    board.change(|status| status.stanzas = vec![stanza, other]);
    render(&board.read(), now())
}

#[test]
fn all_that_is_known_is_there() {
    let text = samples();
    for line in [
        "pgark_agent_info{version=\"1.2.3\",host=\"db\\\"1\"} 1",
        "pgark_stanza_health{stanza=\"main\"} 0",
        "pgark_stanza_health{stanza=\"other\"} 3",
        "pgark_look_success{stanza=\"main\"} 1",
        "pgark_wal_waiting_segments{stanza=\"main\"} 0",
        "pgark_repository_status{stanza=\"other\",repo=\"1\"} 0",
        "pgark_repository_status{stanza=\"other\",repo=\"2\"} 99",
        "pgark_repository_size_bytes{stanza=\"main\",repo=\"1\"} 52224",
        "pgark_recovery_window_start_timestamp_seconds{stanza=\"main\",repo=\"1\"} 1795314800",
        "pgark_recovery_window_end_timestamp_seconds{stanza=\"main\",repo=\"1\"} 1795320000",
        "pgark_wal_gaps{stanza=\"main\",repo=\"1\"} 0",
        "pgark_wal_missing_segments{stanza=\"other\",repo=\"1\"} 2",
        "pgark_wal_dropped_files{stanza=\"main\",repo=\"1\"} 0",
        "pgark_wal_dropped_files{stanza=\"other\",repo=\"2\"} 3",
        "pgark_backups{stanza=\"main\",repo=\"1\",type=\"diff\"} 0",
        "pgark_backup_last_end_timestamp_seconds{stanza=\"main\",repo=\"1\",type=\"full\"} 1795314800",
        "pgark_backup_last_duration_seconds{stanza=\"main\",repo=\"1\",type=\"incr\"} 10",
        "pgark_backup_last_added_bytes{stanza=\"main\",repo=\"1\",type=\"incr\"} 1024",
        "pgark_backup_last_damaged{stanza=\"other\",repo=\"1\",type=\"incr\"} 1",
        "pgark_job_runs_total{stanza=\"other\",kind=\"incr\"} 10",
        "pgark_job_failures_total{stanza=\"other\",kind=\"incr\"} 3",
        "pgark_job_last_success{stanza=\"other\",kind=\"incr\"} 0",
        "pgark_job_last_exit_code{stanza=\"other\",kind=\"incr\"} 56",
        "pgark_job_running{stanza=\"other\",kind=\"verify\"} 1",
        "pgark_job_progress_ratio{stanza=\"other\",kind=\"verify\"} 0.25",
        "pgark_schedule_kept{stanza=\"main\",kind=\"incr\"} 1",
        "pgark_schedule_kept{stanza=\"other\",kind=\"verify\"} 0",
        "pgark_schedule_overrun{stanza=\"other\",kind=\"verify\"} 1",
    ] {
        assert!(text.lines().any(|found| found == line), "no {line} in\n{text}");
    }
}

#[test]
fn what_is_not_known_has_no_sample() {
    let text = samples();
    for part in [
        "pgark_wal_waiting_segments{stanza=\"other\"}",
        "pgark_wal_waiting_since_timestamp_seconds",
        "pgark_backup_last_end_timestamp_seconds{stanza=\"main\",repo=\"1\",type=\"diff\"}",
        "pgark_wal_gaps{stanza=\"other\",repo=\"2\"}",
        "pgark_job_progress_ratio{stanza=\"main\"",
    ] {
        assert!(!text.contains(part), "{part} in\n{text}");
    }
}

#[test]
fn names_keep_to_the_conventions() {
    for line in samples().lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
        let (name, kind) = line.split_once(' ').unwrap();
        assert!(name.starts_with("pgark_"), "{name}");
        assert_eq!(name.ends_with("_total"), kind == "counter", "{name}");
    }
}
