use pgark_postgres::wal::history::TimelineHistory;

use super::*;

/// One segment is 1 MiB: segment `n` begins at `n` MiB.
fn size() -> SegmentSize {
    SegmentSize::new(1 << 20).unwrap()
}

fn at(segment: u64, offset: u64) -> Lsn {
    Lsn((segment << 20) + offset)
}

/// An archive: each timeline with its ranges of segments, and the history files of some.
fn archive(segments: &[(u32, &[RangeInclusive<u64>])], histories: &[(u32, &[(u32, Lsn)])]) -> Coverage {
    let mut coverage = Coverage::new(size());
    for (timeline, runs) in segments {
        for number in runs.iter().cloned().flatten() {
            coverage.add_segment(SegmentName::new(Timeline(*timeline), number, size()).unwrap());
        }
    }
    for (timeline, switches) in histories {
        let lines = switches.iter().map(|(left, lsn)| format!("{left}\t{lsn}\tno reason\n"));
        coverage.add_history(TimelineHistory::parse(Timeline(*timeline), &lines.collect::<String>()).unwrap());
    }
    coverage
}

/// The backup of this number on a timeline, from one segment to another.
fn backup(number: u32, timeline: u32, first: u64, last: u64) -> BackupSpan {
    BackupSpan {
        label: label(number),
        timeline: Timeline(timeline),
        consistent: at(last, 0x100),
        first,
        last: Some(last),
    }
}

fn label(number: u32) -> Label {
    format!("20261122-1200{number:02}F").parse().unwrap()
}

fn labels(numbers: &[u32]) -> Vec<Label> {
    numbers.iter().map(|number| label(*number)).collect()
}

type FoundGap = (u32, RangeInclusive<u64>, Vec<Label>, Vec<Label>, bool);

/// The gaps with the numbers of the backups that can't be made consistent, and that can't be recovered past them.
fn gaps(coverage: &Coverage, backups: &[BackupSpan]) -> Vec<FoundGap> {
    let gaps = coverage.gaps(backups).into_iter();
    gaps.map(|gap| (gap.timeline.0, gap.numbers, gap.broken, gap.cut_short, gap.is_thinned)).collect()
}

#[test]
fn wal_without_a_gap_is_whole() {
    let backups = [backup(1, 1, 3, 4), backup(2, 1, 7, 7)];
    assert_eq!(gaps(&archive(&[(1, &[2..=9])], &[]), &backups), []);
    // What is missing before the first backup nobody misses.
    assert_eq!(gaps(&archive(&[(1, &[0..=0, 3..=9])], &[]), &backups), []);
    assert_eq!(gaps(&archive(&[(1, &[0..=3])], &[]), &[]), []);
}

#[test]
fn a_gap_concerns_those_who_come_by_it() {
    let backups = [backup(1, 1, 3, 4), backup(2, 1, 7, 9)];
    let with = |runs: &[RangeInclusive<u64>]| gaps(&archive(&[(1, runs)], &[]), &backups);
    assert_eq!(with(&[3..=7, 9..=12]), [(1, 8..=8, labels(&[2]), labels(&[1]), false)]);
    assert_eq!(with(&[4..=12]), [(1, 3..=3, labels(&[1]), vec![], false)]);
    assert_eq!(with(&[3..=10, 12..=12]), [(1, 11..=11, vec![], labels(&[1, 2]), false)]);
    // The end of a backup is needed even if nothing comes after it.
    assert_eq!(with(&[3..=8]), [(1, 9..=9, labels(&[2]), labels(&[1]), false)]);
    assert_eq!(with(&[]), [(1, 3..=9, labels(&[1, 2]), vec![], false)]);
}

#[test]
fn what_retention_removes_lies_between_two_backups() {
    let backups = [backup(1, 1, 3, 4), backup(2, 1, 9, 9), backup(3, 1, 12, 12)];
    let with = |runs: &[RangeInclusive<u64>]| gaps(&archive(&[(1, runs)], &[]), &backups);
    assert_eq!(with(&[3..=4, 9..=14]), [(1, 5..=8, vec![], labels(&[1]), true)]);
    assert_eq!(with(&[3..=4, 8..=14]), [(1, 5..=7, vec![], labels(&[1]), false)]);
    assert_eq!(with(&[3..=5, 9..=14]), [(1, 6..=8, vec![], labels(&[1]), false)]);
    let removed = with(&[3..=4, 9..=9, 12..=14]);
    assert_eq!(removed, [(1, 5..=8, vec![], labels(&[1]), true), (1, 10..=11, vec![], labels(&[1, 2]), true)]);
}

#[test]
fn a_recovery_goes_along_timelines() {
    // Timeline 2 left timeline 1 in segment 6, and timeline 3 left timeline 1 in segment 8.
    let histories: &[(u32, &[(u32, Lsn)])] = &[(2, &[(1, at(6, 0x500))]), (3, &[(1, at(8, 0x500))])];
    let backups = [backup(1, 1, 3, 4), backup(2, 2, 7, 7), backup(3, 1, 7, 7)];
    let whole = archive(&[(1, &[3..=9]), (2, &[6..=9]), (3, &[8..=9])], histories);
    assert_eq!(gaps(&whole, &backups), []);
    let lacking = archive(&[(1, &[3..=4, 6..=9]), (2, &[6..=6, 8..=9]), (3, &[8..=9])], histories);
    let found = gaps(&lacking, &backups);
    assert_eq!(found, [(1, 5..=5, vec![], labels(&[1]), false), (2, 7..=7, labels(&[2]), labels(&[1]), false)]);
    // The segment of the promotion is that of the new timeline; the old one need not have it.
    assert_eq!(gaps(&archive(&[(1, &[3..=5]), (2, &[6..=9])], histories), &backups[..2]), []);
    // The third backup lies after the second timeline has left the first.
    let starts: Vec<_> = whole.starts(Timeline(2), &backups).iter().map(|backup| backup.label.clone()).collect();
    assert_eq!(starts, labels(&[1, 2]));
    let concerned = |timeline: u32, number: u64| whole.concerned(Timeline(timeline), number, &backups);
    assert_eq!(concerned(1, 5), (vec![], labels(&[1])));
    assert_eq!(concerned(1, 7), (labels(&[3]), labels(&[1])));
    assert_eq!(concerned(2, 8), (vec![], labels(&[1, 2])));
    assert_eq!(concerned(3, 9), (vec![], labels(&[1, 3])));
    let needed = whole.needed(&backups[1..2]);
    let ranges: Vec<_> = needed.iter().map(|(timeline, runs)| (timeline.0, runs.ranges().to_vec())).collect();
    assert_eq!(ranges, [(2, vec![7..=9])]);
}

#[test]
fn a_timeline_that_came_from_nowhere_is_known_as_such() {
    let backups = [backup(1, 1, 3, 4), backup(2, 3, 9, 9)];
    let coverage = archive(&[(1, &[3..=5]), (2, &[6..=8]), (3, &[9..=9])], &[(3, &[(1, at(6, 0)), (2, at(9, 0))])]);
    assert_eq!(coverage.unknown_histories(&backups), [(Timeline(2), labels(&[1]))]);
    // An archive may begin with a later timeline.
    assert_eq!(coverage.unknown_histories(&backups[1..]), []);
    assert_eq!(gaps(&coverage, &backups), []);
}

#[test]
fn an_offline_backup_needs_no_wal_to_be_consistent() {
    let offline = BackupSpan { last: None, ..backup(1, 1, 4, 4) };
    assert_eq!(gaps(&archive(&[], &[]), std::slice::from_ref(&offline)), []);
    let found = gaps(&archive(&[(1, &[4..=4, 6..=6])], &[]), &[offline]);
    assert_eq!(found, [(1, 5..=5, vec![], labels(&[1]), false)]);
}
