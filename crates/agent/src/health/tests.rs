use std::collections::BTreeMap;

use super::*;
use crate::digest::{digest, tests::info};
use crate::job::{Kind, Run};
use crate::late::Late;
use crate::status::{JobState, LateStatus, RepositoriesStatus};
use crate::wal::WaitingWal;

/// Some minutes after the newest moment of the repositories in the tests.
pub(crate) fn now() -> Timestamp {
    Timestamp::from_second(1_795_320_300).unwrap()
}

/// A job that ran an hour ago.
pub(crate) fn job(kind: Kind, code: i32, failures: u32) -> JobStatus {
    let hours_ago = |hours| now() - SignedDuration::from_hours(hours);
    let lines = vec!["P00   INFO: begin".to_owned(), "P00  ERROR: [056]: no server".to_owned()];
    let run = Run { due: hours_ago(1), started: hours_ago(1), ended: hours_ago(1), code: Some(code), lines };
    JobStatus {
        kind,
        schedule: "0 * * * *".to_owned(),
        time_zone: "UTC".to_owned(),
        jitter_seconds: 0.0,
        state: JobState::Idle,
        next: Some(now()),
        last_good: (code == 0).then(|| run.clone()),
        last: Some(run),
        failures,
        runs_total: 10,
        failures_total: u64::from(failures),
        passed_over: None,
    }
}

/// A stanza of which all is well, and what its only repository has.
pub(crate) fn well() -> (StanzaStatus, Vec<RepositoryDigest>) {
    let mut info = info();
    info["repo"].as_array_mut().unwrap().truncate(1);
    info["backup"][0]["error"] = false.into();
    info["archive"][0]["pgark"]["missing"].as_array_mut().unwrap().truncate(1);
    let digests = digest(&info);
    let repositories = RepositoriesStatus {
        asked: Some(now()),
        info: Some(std::sync::Arc::new(info)),
        ..RepositoriesStatus::default()
    };
    let stanza = StanzaStatus {
        name: "main".to_owned(),
        stopped: false,
        standby: false,
        jobs: vec![job(Kind::Incr, 0, 0)],
        late: Vec::new(),
        wal: Some(WaitingWal::default()),
        dropped: Vec::new(),
        repositories,
    };
    (stanza, digests)
}

fn texts(health: &Health) -> BTreeMap<Grade, Vec<&str>> {
    let mut texts: BTreeMap<Grade, Vec<&str>> = BTreeMap::new();
    for finding in &health.findings {
        texts.entry(finding.grade).or_default().push(&finding.text);
    }
    texts
}

#[test]
fn a_stanza_that_is_well_says_what_it_has() {
    let (stanza, digests) = well();
    let health = health(&stanza, &digests, now());
    assert_eq!((health.grade, health.summary.as_str()), (Grade::Ok, "All is well"));
    assert_eq!(
        texts(&health)[&Grade::Ok],
        [
            "repo1: the last backup (incr) ended 1 h 4 min ago",
            "repo1: every moment can be reached from 1 h 31 min ago to the last transaction, 5 min ago",
        ]
    );
}

#[test]
fn what_is_wrong_comes_first_and_in_words() {
    let (mut stanza, _) = well();
    let digests = digest(&info());
    stanza.stopped = true;
    stanza.jobs = vec![job(Kind::Incr, 56, 3), job(Kind::Verify, 122, 1)];
    let late = Late::TooOld { kind: Kind::Incr, last_good: None, due: now(), second: now() };
    stanza.late = vec![LateStatus { late, message: late.to_string(), since: now() }];
    stanza.wal = Some(WaitingWal { segments: 7, oldest: Some(now() - SignedDuration::from_mins(6)) });
    let health = health(&stanza, &digests, now());
    assert_eq!((health.grade, health.summary.as_str()), (Grade::Error, "Something is wrong: 3 problems"));
    let texts = texts(&health);
    assert_eq!(
        texts[&Grade::Error],
        [
            "repo2: other: no such host",
            "incr has failed 3 times in a row, last with exit code 56: P00  ERROR: [056]: no server",
            "verify has failed once, last with exit code 122: P00  ERROR: [056]: no server",
        ]
    );
    let warnings = &texts[&Grade::Warning];
    for part in
        ["were damaged", "later backups do not need it", "7 WAL segment(s) wait", "two have come due", "is stopped"]
    {
        assert!(warnings.iter().any(|text| text.contains(part)), "{part}: {warnings:?}");
    }
    assert!(health.findings.is_sorted_by(|one, other| one.grade >= other.grade));
}

#[test]
fn a_gap_after_the_last_backup_is_an_error() {
    let (stanza, mut digests) = well();
    digests[0].missing[0].by_retention = false;
    digests[0].missing[0].last = "000000010000000000000009".to_owned();
    let found = health(&stanza, &digests, now());
    assert_eq!(found.grade, Grade::Error);
    assert!(found.findings[0].text.ends_with("no recovery gets past it; take a backup now"));
    digests[0].missing.clear();
    digests[0].windows.clear();
    let found = health(&stanza, &digests, now());
    assert_eq!(found.findings[0].text, "repo1: no backup can be recovered with the WAL there is");
}

#[test]
fn what_was_not_looked_at_is_not_well() {
    let (mut stanza, _) = well();
    stanza.repositories = RepositoriesStatus::default();
    assert_eq!(health(&stanza, &[], now()).grade, Grade::Unknown);
    stanza.repositories.error = Some("info ended with exit status: 103".to_owned());
    let health = health(&stanza, &[], now());
    assert_eq!(health.findings[0].text, "the repositories can't be looked at: info ended with exit status: 103");
}

#[test]
fn wal_that_waits_for_hours_is_an_error() {
    let (mut stanza, digests) = well();
    let mut grade = |minutes| {
        stanza.wal = Some(WaitingWal { segments: 1, oldest: Some(now() - SignedDuration::from_mins(minutes)) });
        health(&stanza, &digests, now()).grade
    };
    assert_eq!([grade(1), grade(5), grade(60)], [Grade::Ok, Grade::Warning, Grade::Error]);
}

#[test]
fn ages_are_told_in_two_units() {
    let told = [-5, 59, 61, 3599, 3600, 86_399, 86_400, 200_000].map(|seconds| age(SignedDuration::from_secs(seconds)));
    assert_eq!(told, ["0 s", "59 s", "1 min", "59 min", "1 h 0 min", "23 h 59 min", "1 d 0 h", "2 d 7 h"]);
}
