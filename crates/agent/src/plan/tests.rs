use std::time::Duration;

use jiff::tz::TimeZone;

use super::*;
use crate::job::Run;
use crate::late::{Late, verdicts};

fn at(text: &str) -> Timestamp {
    format!("2026-11-{text}:00Z").parse().unwrap()
}

fn schedules(of: &[(Kind, &str)]) -> Schedules {
    let parse = |text| Schedule::parse(text, TimeZone::UTC, Duration::ZERO, "demo", at("01T00:00")).unwrap();
    of.iter().map(|(kind, text)| (*kind, parse(text))).collect()
}

fn usual() -> (Schedules, Memory) {
    let schedules = schedules(&[(Kind::Full, "0 2 * * 0"), (Kind::Incr, "0 * * * *"), (Kind::Verify, "0 4 * * *")]);
    let mut memory = Memory::default();
    memory.adopt(schedules.keys().copied(), at("21T23:30"));
    (schedules, memory)
}

fn run(due: &str, started: &str, ended: &str, code: i32) -> Run {
    Run { due: at(due), started: at(started), ended: at(ended), code: Some(code), lines: Vec::new() }
}

fn started(plan: &Plan) -> Vec<(Kind, Reason)> {
    plan.start.iter().map(|pending| (pending.kind, pending.reason)).collect()
}

fn once(kind: Kind) -> (Kind, Reason) {
    (kind, Reason::Due { times: 1 })
}

const NOTHING: BTreeSet<Kind> = BTreeSet::new();

#[test]
fn what_is_new_in_the_schedule_waits_for_its_time() {
    let (schedules, memory) = usual();
    let planned = plan(at("21T23:59"), &schedules, &memory, &NOTHING);
    assert_eq!((started(&planned), planned.wake), (Vec::new(), Some(at("22T00:00"))));
    assert_eq!(planned.next[&Kind::Full], at("22T02:00"));
    let planned = plan(at("22T00:00"), &schedules, &memory, &NOTHING);
    assert_eq!(started(&planned), [once(Kind::Incr)]);
    assert_eq!(planned.start[0].due, at("22T00:00"));
}

#[test]
fn missed_times_are_caught_up_once() {
    let (schedules, mut memory) = usual();
    memory.note(Kind::Incr, run("22T00:00", "22T00:00", "22T00:05", 0));
    // The machine was off from one to half past six.
    let now = at("22T06:30");
    let planned = plan(now, &schedules, &memory, &NOTHING);
    assert_eq!(started(&planned), [once(Kind::Full), once(Kind::Verify)]);
    assert_eq!(planned.waiting, [Pending { kind: Kind::Incr, due: at("22T06:00"), reason: Reason::Due { times: 6 } }]);
    // The full does the work of the incrementals that have waited for it.
    memory.note(Kind::Full, run("22T02:00", "22T06:30", "22T06:50", 0));
    memory.note(Kind::Verify, run("22T04:00", "22T06:30", "22T06:40", 0));
    let planned = plan(at("22T06:50"), &schedules, &memory, &NOTHING);
    assert_eq!((started(&planned), planned.wake), (Vec::new(), Some(at("22T07:00"))));
}

#[test]
fn a_full_that_fails_does_nobodys_work() {
    let (schedules, mut memory) = usual();
    memory.note(Kind::Incr, run("22T01:00", "22T01:00", "22T01:05", 0));
    memory.note(Kind::Full, run("22T02:00", "22T02:00", "22T02:10", 56));
    let planned = plan(at("22T02:10"), &schedules, &memory, &NOTHING);
    assert_eq!(started(&planned), [once(Kind::Incr)]);
}

#[test]
fn one_that_would_overrun_waits_and_two_that_wait_become_one() {
    let (schedules, memory) = usual();
    let full = BTreeSet::from([Kind::Full]);
    let planned = plan(at("22T03:30"), &schedules, &memory, &full);
    assert_eq!(started(&planned), []);
    assert_eq!(planned.waiting, [Pending { kind: Kind::Incr, due: at("22T03:00"), reason: Reason::Due { times: 4 } }]);
    // Verify reads only: it need not wait.
    let planned = plan(at("22T04:00"), &schedules, &memory, &full);
    assert_eq!(started(&planned), [once(Kind::Verify)]);
    // What comes while its like is running comes once, afterwards.
    let incr = BTreeSet::from([Kind::Incr]);
    let planned = plan(at("22T01:59"), &schedules, &memory, &incr);
    assert_eq!((started(&planned), planned.waiting.len()), (Vec::new(), 0));
    let mut after = memory;
    after.note(Kind::Incr, run("22T00:00", "22T00:00", "22T01:59", 0));
    assert_eq!(started(&plan(at("22T01:59"), &schedules, &after, &NOTHING)), [once(Kind::Incr)]);
}

#[test]
fn what_has_failed_is_tried_again_a_few_times() {
    let schedules = schedules(&[(Kind::Full, "0 2 * * *")]);
    let mut memory = Memory::default();
    memory.adopt([Kind::Full], at("22T00:00"));
    let mut tries = Vec::new();
    let mut now = at("22T02:00");
    while now < at("23T02:00") {
        let planned = plan(now, &schedules, &memory, &NOTHING);
        if let Some(pending) = planned.start.first() {
            tries.push(now);
            let run = Run { due: pending.due, started: now, ended: now, code: Some(49), lines: Vec::new() };
            memory.note(Kind::Full, run);
        } else {
            now = planned.wake.unwrap();
        }
    }
    assert_eq!(tries, ["22T02:00", "22T02:01", "22T02:06", "22T02:21", "22T02:51"].map(at));
    assert_eq!((memory.jobs[&Kind::Full].failures, memory.jobs[&Kind::Full].failures_total), (5, 5));
    // The next day begins with its own time, and success forgets.
    memory.note(Kind::Full, run("23T02:00", "23T02:00", "23T02:10", 0));
    assert_eq!(memory.jobs[&Kind::Full].failures, 0);
    assert_eq!(started(&plan(at("23T03:00"), &schedules, &memory, &NOTHING)), []);
}

#[test]
fn a_clock_that_was_in_the_future_does_not_stop_the_schedule() {
    let (schedules, mut memory) = usual();
    memory.note(
        Kind::Incr,
        Run { due: "2038-01-19T03:00:00Z".parse().unwrap(), ..run("22T00:00", "22T00:00", "22T00:01", 0) },
    );
    assert_eq!(started(&plan(at("22T01:00"), &schedules, &memory, &NOTHING)), []);
    let mended = mend(at("22T01:00"), &mut memory);
    assert_eq!(mended.iter().map(|(kind, _)| *kind).collect::<Vec<_>>(), [Kind::Incr]);
    assert_eq!(plan(at("22T01:00"), &schedules, &memory, &NOTHING).wake, Some(at("22T02:00")));
    // A clock that is set back by a little does not bring back what was done.
    memory.note(Kind::Incr, run("22T02:00", "22T02:00", "22T02:01", 0));
    assert_eq!(mend(at("22T01:59"), &mut memory), []);
    assert_eq!(started(&plan(at("22T02:01"), &schedules, &memory, &NOTHING)), [once(Kind::Full)]);
}

#[test]
fn a_jump_is_what_no_stopwatch_has_seen() {
    let minutes = SignedDuration::from_mins;
    assert_eq!(clock_jump(minutes(10), minutes(10)), None);
    assert_eq!(clock_jump(minutes(70), minutes(10)), Some(minutes(60)));
    assert_eq!(clock_jump(minutes(-50), minutes(10)), Some(minutes(-60)));
}

#[test]
fn late_is_what_has_come_due_twice_without_a_good_run() {
    let (schedules, mut memory) = usual();
    let running = BTreeMap::new();
    let late = |now: &str, memory: &Memory| verdicts(at(now), &schedules, memory, &running);
    memory.note(Kind::Incr, run("22T00:00", "22T00:00", "22T00:05", 0));
    assert_eq!(late("22T01:30", &memory), []);
    let too_old =
        Late::TooOld { kind: Kind::Incr, last_good: Some(at("22T00:00")), due: at("22T01:00"), second: at("22T02:00") };
    assert_eq!(late("22T02:00", &memory), [too_old]);
    assert_eq!(
        too_old.to_string(),
        "the last good incr began at 2026-11-22T00:00:00Z: two more have come due, the first at 2026-11-22T01:00:00Z"
    );
    // One that is at work on another host is waited for until the next time has come.
    memory.at_work = Some(at("22T01:30"));
    assert_eq!(late("22T02:30", &memory), []);
    assert!(!late("22T03:00", &memory).is_empty());
    memory.at_work = None;
    // A failed run changes nothing; a good full does.
    memory.note(Kind::Incr, run("22T01:00", "22T01:00", "22T01:05", 56));
    assert_eq!(late("22T02:00", &memory), [too_old]);
    memory.note(Kind::Full, run("22T02:00", "22T02:00", "22T02:20", 0));
    assert_eq!(late("22T02:30", &memory), []);
}

#[test]
fn late_is_what_takes_longer_than_its_interval() {
    let (schedules, mut memory) = usual();
    let running = BTreeMap::from([(Kind::Incr, at("22T00:00"))]);
    assert_eq!(verdicts(at("22T00:59"), &schedules, &memory, &running), []);
    let found = verdicts(at("22T01:30"), &schedules, &memory, &running);
    assert_eq!(found, [Late::Overrun { kind: Kind::Incr, seconds: 5400, interval_seconds: 3600, running: true }]);
    assert_eq!(found[0].to_string(), "incr runs already for 1h 30m, but is to run every 1h");
    memory.note(Kind::Incr, run("22T00:00", "22T00:00", "22T01:30", 0));
    let found = verdicts(at("22T01:40"), &schedules, &memory, &BTreeMap::new());
    assert_eq!(found[0].to_string(), "incr took 1h 30m, but is to run every 1h");
}

#[test]
fn what_was_passed_over_is_due_again_after_a_promotion_unless_another_host_has_done_it() {
    let (schedules, mut memory) = usual();
    memory.note(Kind::Incr, run("22T00:00", "22T00:00", "22T00:05", 56));
    memory.pass_over(Kind::Full, at("22T02:00"));
    memory.pass_over(Kind::Incr, at("22T03:00"));
    // Not even the failure is tried again.
    assert_eq!(started(&plan(at("22T03:30"), &schedules, &memory, &NOTHING)), []);
    let mut done = memory.clone();
    done.in_repositories = BTreeMap::from([(Kind::Full, at("22T02:00")), (Kind::Incr, at("22T02:59"))]);
    assert_eq!(done.take_over(), [Kind::Incr]);
    let planned = plan(at("22T03:30"), &schedules, &done, &NOTHING);
    assert_eq!((started(&planned), planned.start[0].due), (vec![once(Kind::Incr)], at("22T03:00")));
    assert!(!done.has_passed_over() && done.take_over().is_empty());
    // A full does the work of the incremental.
    done.in_repositories.insert(Kind::Full, at("22T03:10"));
    done.pass_over(Kind::Incr, at("22T03:00"));
    assert_eq!(done.take_over(), []);
    assert_eq!(memory.take_over(), [Kind::Full, Kind::Incr]);
    let planned = plan(at("22T03:30"), &schedules, &memory, &NOTHING);
    assert_eq!(started(&planned), [once(Kind::Full)]);
}

#[test]
fn how_long_a_run_took_here_says_nothing_where_another_host_takes_the_backups() {
    let (schedules, mut memory) = usual();
    memory.note(Kind::Incr, run("22T00:00", "22T00:00", "22T01:30", 0));
    let lates = |memory: &Memory| verdicts(at("22T01:40"), &schedules, memory, &BTreeMap::new()).len();
    assert_eq!(lates(&memory), 1);
    memory.pass_over(Kind::Incr, at("22T01:00"));
    assert_eq!(lates(&memory), 0);
}
