//! Retention and the WAL that stays, as pure functions.

use std::collections::BTreeSet;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use pgark_postgres::wal::name::{SegmentName, Timeline};
use pgark_repository::{ArchiveId, Label, LabelKind};
use proptest::prelude::*;

use super::archive::{ArchiveRule, NoRemoval, Stay, rules};
use super::plan::{Step, backup_steps, gone_with};
use super::retention::{ArchiveRetention, Backup, FullRetention, Keep, Now, Retention};

fn label(text: &str) -> Label {
    text.parse().unwrap()
}

fn time(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn now(text: &str) -> Now {
    Now { time: time(text), zone: TimeZone::UTC }
}

fn archive(number: u32) -> ArchiveId {
    ArchiveId { version: "17".to_owned(), number }
}

fn segment(timeline: u32, number: u32) -> SegmentName {
    format!("{timeline:08X}{:08X}{:08X}", number >> 8, number & 0xFF).parse().unwrap()
}

/// Backups on the days of a month, one a letter: `F1 I2 D4 I5`. Each is complete at noon, and its WAL is the three
/// segments from ten times the day on.
fn backups(text: &str) -> Vec<Backup> {
    let mut full = String::new();
    let backup = |word: &str| {
        let (kind, day) = word.split_at(1);
        let day: u32 = day.parse().unwrap();
        let at = format!("202611{day:02}-120000");
        let text = match kind {
            "F" => {
                full = format!("{at}F");
                full.clone()
            }
            kind => format!("{full}_{at}{kind}"),
        };
        Backup {
            label: label(&text),
            stop: time(&format!("2026-11-{day:02}T12:00:00Z")),
            archive: archive(1),
            wal: Some((segment(1, day * 10), segment(1, day * 10 + 2))),
            from: segment(1, day * 10),
            is_whole: true,
        }
    };
    text.split_whitespace().map(backup).collect()
}

/// The words that [`backups`] makes these backups of.
fn words<'labels>(labels: impl IntoIterator<Item = &'labels Label>) -> String {
    let word = |label: &Label| {
        let text = label.as_str();
        let end = &text[text.len() - 16..];
        let day: u32 = end[6..8].parse().unwrap();
        format!("{}{day}", &end[15..])
    };
    labels.into_iter().map(word).collect::<Vec<_>>().join(" ")
}

fn kept(retention: &Retention, text: &str) -> String {
    words(&retention.kept(&backups(text), &now("2026-11-30T12:00:00Z")))
}

fn count(full: u32) -> Retention {
    Retention { full: Some(FullRetention::Count(full)), ..Retention::default() }
}

fn days(days: u32) -> Retention {
    Retention { full: Some(FullRetention::Days(days)), ..Retention::default() }
}

#[test]
fn without_rules_everything_stays() {
    assert_eq!(kept(&Retention::default(), "F1 I2 F3"), "F1 I2 F3");
    let only_archive =
        Retention { archive: ArchiveRetention { count: Some(1), kind: LabelKind::Full }, ..Retention::default() };
    assert_eq!(kept(&only_archive, "F1 I2 F3"), "F1 I2 F3");
    assert!(!only_archive.is_set());
}

/// What pgBackRest 2.59 does with the same backups.
#[test]
fn counts_and_days_have_pgbackrests_meaning() {
    for (retention, before, after) in [
        (count(2), "F1 I2 D3 I4 F5 I6 F7 D8", "F5 I6 F7 D8"),
        (count(3), "F1 I2 F5 F7", "F1 I2 F5 F7"),
        (count(1), "F1 D2 I3", "F1 D2 I3"),
        // Full backups count as differential ones.
        (Retention { diff: Some(2), ..count(2) }, "F1 D2 D3 F4", "F1 D3 F4"),
        (Retention { diff: Some(1), ..Retention::default() }, "F1 I2 D3 I4 D5 I6", "F1 I2 D5 I6"),
        (Retention { diff: Some(2), ..Retention::default() }, "F1 D2 D3 F4", "F1 D3 F4"),
        // 30 November less 10 days is the 20th: a backup of the 19th is old enough for all before it to go.
        (days(10), "F1 I2 F10 F19 I20 F25", "F19 I20 F25"),
        (days(10), "F1 F25", "F1 F25"),
        (days(10), "F21 F25", "F21 F25"),
        // Exactly as old as the limit is not older.
        (days(10), "F1 F20", "F1 F20"),
        (Retention { diff: Some(1), ..days(5) }, "F1 D2 F10 D11 D26", "F10 D26"),
    ] {
        assert_eq!(kept(&retention, before), after, "{before}: {retention:?}");
    }
}

#[test]
fn every_point_of_the_window_can_be_reached() {
    let window = |days: i64| Retention { window: Some(SignedDuration::from_hours(24 * days)), ..Retention::default() };
    assert_eq!(kept(&window(5), "F1 F20 I24 I25 I26 F28"), "I25 I26 F28");
    assert_eq!(kept(&window(5), "F26 F28"), "F26 F28");
    // What the counts want is added.
    assert_eq!(
        kept(&Retention { full: Some(FullRetention::Count(2)), ..window(5) }, "F1 F10 I11 F20 I24"),
        "F10 I11 F20 I24"
    );
    assert_eq!(kept(&Retention { full: Some(FullRetention::Count(1)), ..window(15) }, "F1 I2 F10 I11 F20"), "I11 F20");
}

#[test]
fn the_last_backup_of_each_period_stays() {
    let keep = |daily, weekly, monthly, yearly| Retention {
        keep: Keep { daily, weekly, monthly, yearly },
        ..Retention::default()
    };
    // 22 November is a Sunday.
    // The newest full backup stays too, for the next incremental one.
    assert_eq!(kept(&keep(3, 0, 0, 0), "F1 F20 I21 I22 I28"), "F20 I21 I22 I28");
    assert_eq!(kept(&keep(0, 2, 0, 0), "F1 F15 F16 F22 F23 F24"), "F22 F24");
    assert_eq!(kept(&keep(0, 0, 5, 0), "F1 F15 F30"), "F30");
    let mut many = backups("F1 F2 F3");
    for (backup, stop) in many.iter_mut().zip(["2024-12-30T12:00:00Z", "2024-12-31T23:59:00Z", "2025-01-01T00:30:00Z"])
    {
        backup.stop = time(stop);
    }
    let at = |retention: Retention, zone: &str| {
        let now = Now { time: time("2026-01-01T00:00:00Z"), zone: TimeZone::get(zone).unwrap() };
        words(&retention.kept(&many, &now))
    };
    assert_eq!(at(keep(0, 0, 0, 2), "UTC"), "F2 F3");
    // In Berlin the year has begun for the second of them.
    assert_eq!(at(keep(0, 0, 0, 2), "Europe/Berlin"), "F1 F3");
    // All three are in the first week of 2025.
    assert_eq!(at(keep(0, 9, 0, 0), "UTC"), "F3");
}

#[test]
fn a_backup_that_lacks_packs_takes_no_place_and_goes_no_sooner() {
    let damaged = |text: &str, which: &[usize]| {
        let mut backups = backups(text);
        for index in which {
            backups[*index].is_whole = false;
        }
        backups
    };
    let at = now("2026-11-30T12:00:00Z");
    let kept = |retention: &Retention, backups: &[Backup]| words(&retention.kept(backups, &at));
    assert_eq!(kept(&count(2), &damaged("F1 F2 F3 F4", &[3])), "F2 F3 F4");
    assert_eq!(kept(&count(2), &damaged("F1 F2 F3 F4", &[0])), "F3 F4");
    assert_eq!(kept(&count(1), &damaged("F1 I2 F3 I4", &[2])), "F1 I2 F3 I4");
    let daily = Retention { keep: Keep { daily: 1, ..Keep::default() }, ..Retention::default() };
    assert_eq!(kept(&daily, &damaged("F1 F2 F3", &[2])), "F2 F3");
    // Where nothing is whole, nothing goes.
    assert_eq!(kept(&count(1), &damaged("F1 F2", &[0, 1])), "F1 F2");
}

#[test]
fn the_oldest_full_backup_goes_by_request() {
    let oldest = |text: &str| {
        let backups = backups(text);
        let retention = Retention { window: Some(SignedDuration::from_hours(9999)), ..days(99) };
        retention.without_oldest(&backups).map(|rules| words(&rules.kept(&backups, &now("2026-11-30T12:00:00Z"))))
    };
    assert_eq!(oldest("F1 I2 F3 F4").as_deref(), Some("F3 F4"));
    assert_eq!(oldest("F1 I2"), None);
    assert_eq!(oldest(""), None);
}

#[test]
fn what_belongs_to_an_expired_backup_goes_with_it_unless_a_rule_wants_it() {
    let all = backups("F1 I2 D3 I4 D5 I6 F7 I8");
    let gone = |index: usize, wanted: &[usize]| {
        let wanted: BTreeSet<Label> = wanted.iter().map(|index| all[*index].label.clone()).collect();
        words(&gone_with(&all, &all[index].label, &wanted))
    };
    assert_eq!(gone(0, &[]), "F1 I2 D3 I4 D5 I6");
    assert_eq!(gone(0, &[0, 5]), "F1 I2 D3 I4 D5");
    assert_eq!(gone(2, &[]), "D3 I4");
    assert_eq!(gone(1, &[]), "I2");
}

#[test]
fn the_steps_say_in_pgbackrests_words_what_goes() {
    let steps = |text: &str, retention: &Retention| {
        let all = backups(text);
        let kept = retention.kept(&all, &now("2026-11-30T12:00:00Z"));
        backup_steps(&all, &kept, retention, None).iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(
        steps("F1 I2 F3 F4", &count(1)),
        [
            "expire full backup set 20261101-120000F, 20261101-120000F_20261102-120000I",
            "expire full backup 20261103-120000F",
            "remove expired backup 20261103-120000F",
            "remove expired backup 20261101-120000F_20261102-120000I",
            "remove expired backup 20261101-120000F",
        ]
    );
    assert_eq!(steps("F1 F19", &days(10))[0], "expire time-based backup 20261101-120000F");
    let diff = Retention { diff: Some(1), ..Retention::default() };
    assert_eq!(
        steps("F1 D2 I3 D4", &diff)[0],
        "expire diff backup set 20261101-120000F_20261102-120000D, 20261101-120000F_20261103-120000I"
    );
    assert!(steps("F1", &count(1)).is_empty());
    let wal = Step::NoWal(archive(1));
    assert_eq!(wal.to_string(), "17-1 no archive to remove");
}

/// Which of the segments 0 to 399 of timeline 1 stay, as ranges.
fn stays(text: &str, retention: &Retention) -> Result<String, NoRemoval> {
    let at = now("2026-11-30T12:00:00Z");
    let all = backups(text);
    let kept = retention.kept(&all, &at);
    let left: Vec<Backup> = all.into_iter().filter(|backup| kept.contains(&backup.label)).collect();
    let rules = rules(&[archive(1)], &archive(1), &left, retention, None, &at)?;
    let mut ranges: Vec<(u32, u32)> = Vec::new();
    for number in (0..400).filter(|number| rules[0].1.keeps(segment(1, *number))) {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == number => *last = number,
            _ => ranges.push((number, number)),
        }
    }
    Ok(ranges.iter().map(|(first, last)| format!("{first}-{last}")).collect::<Vec<_>>().join(" "))
}

#[test]
fn wal_stays_as_pgbackrest_lets_it_stay() {
    let archive = |count, kind, retention: Retention| Retention {
        archive: ArchiveRetention { count: Some(count), kind },
        ..retention
    };
    for (retention, before, after) in [
        (count(2), "F1 F3 I4 F5", Ok("30-399")),
        (archive(1, LabelKind::Full, count(3)), "F1 F3 I4 F5", Ok("10-12 30-32 40-42 50-399")),
        (archive(2, LabelKind::Incr, count(2)), "F1 I2 I3 I4", Ok("10-12 20-22 30-399")),
        (archive(1, LabelKind::Diff, count(2)), "F1 I2 D3 I4", Ok("10-12 20-22 30-399")),
        (archive(1, LabelKind::Full, Retention::default()), "F1 F3", Ok("10-12 30-399")),
        (count(3), "F1 F3", Err(NoRemoval::TooSoon)),
        (days(10), "F1 F5 F19 F25", Ok("190-399")),
        (days(10), "F21 F25", Err(NoRemoval::TimeNotMet)),
        (Retention::default(), "F1 F3", Err(NoRemoval::NotSet)),
        (Retention { diff: Some(1), ..Retention::default() }, "F1 D2", Err(NoRemoval::NotSet)),
    ] {
        assert_eq!(stays(before, &retention).as_deref(), after.as_ref().map(|text| *text), "{before}: {retention:?}");
    }
}

#[test]
fn wal_stays_for_the_window_and_what_else_is_kept_stays_consistent() {
    let window = Some(SignedDuration::from_hours(24 * 5));
    let keep = Keep { monthly: 1, daily: 3, ..Keep::default() };
    assert_eq!(stays("F1 F20 I24 I25 I26 F28", &Retention { window, ..Retention::default() }).unwrap(), "250-399");
    assert_eq!(stays("F26 F28", &Retention { window, ..Retention::default() }).unwrap(), "260-399");
    let both = Retention { window, keep, ..Retention::default() };
    assert_eq!(stays("F1 F20 I24 I25 F28", &both).unwrap(), "240-242 250-399");
    assert_eq!(
        stays("F1 F20 I24 I25 F28", &Retention { keep, ..Retention::default() }).unwrap(),
        "240-242 250-252 280-399"
    );
    // The counts want their WAL too.
    assert_eq!(stays("F1 F20 I24 I25 F28", &Retention { window, ..count(2) }).unwrap(), "200-399");
}

fn with_timelines() -> ArchiveRule {
    let mut all = backups("F1 F5");
    // The second one was taken on timeline 3.
    all[1].wal = Some((segment(3, 50), segment(3, 52)));
    all[1].from = segment(3, 50);
    let at = now("2026-11-30T12:00:00Z");
    let retention = Retention { archive: ArchiveRetention { count: Some(1), kind: LabelKind::Full }, ..count(2) };
    rules(&[archive(1)], &archive(1), &all, &retention, None, &at).unwrap().remove(0).1
}

#[test]
fn wal_of_other_timelines_stays_where_it_can_be_reached() {
    let rule = with_timelines();
    for (timeline, number, stays) in [
        (1, 10, true),
        (1, 13, false),
        (1, 60, false),
        (2, 11, false),
        (3, 49, false),
        (3, 50, true),
        (4, 49, false),
        (4, 77, true),
    ] {
        assert_eq!(rule.keeps(segment(timeline, number)), stays, "{number} on {timeline}");
    }
    // The backup on timeline 1 can still follow the way of those after it.
    assert!(rule.keeps_history(Timeline(2)) && rule.keeps_history(Timeline(1)));
    let mut all = backups("F1 F5");
    all[1].from = segment(3, 50);
    let rule = rules(&[archive(1)], &archive(1), &all[1..], &count(1), None, &now("2026-11-30T12:00:00Z"))
        .unwrap()
        .remove(0)
        .1;
    assert!(!rule.keeps_history(Timeline(2)) && rule.keeps_history(Timeline(3)));
}

#[test]
fn archives_of_clusters_that_are_gone_go_and_that_of_the_present_one_stays() {
    let at = now("2026-11-30T12:00:00Z");
    let archives = [archive(1), archive(2), archive(3)];
    let mut all = backups("F1 F5");
    all[0].archive = archive(1);
    all[1].archive = archive(3);
    let rules_of = |kept: &[Backup], before| {
        rules(&archives, &archive(3), kept, &count(1), before, &at)
            .unwrap()
            .into_iter()
            .map(|(_, rule)| rule)
            .collect::<Vec<_>>()
    };
    let [one, two, three] = &rules_of(&all, None)[..] else { panic!("three archives") };
    // The newest backup of each archive can be recovered to the end of it.
    assert!(one.keeps(segment(1, 399)) && !one.keeps(segment(1, 9)) && *two == ArchiveRule::Nothing);
    assert!(three.keeps(segment(1, 50)) && !three.keeps(segment(1, 49)));
    let [one, _, three] = &rules_of(&all[..1], None)[..] else { panic!("three archives") };
    assert!(one.keeps(segment(1, 10)) && *three == ArchiveRule::Everything);
    let [.., three] = &rules_of(&all[..1], Some(segment(1, 30)))[..] else { panic!("three archives") };
    assert!(three.keeps(segment(1, 30)) && !three.keeps(segment(1, 29)) && three.keeps_history(Timeline(1)));
}

#[test]
fn nothing_goes_from_a_named_segment_on() {
    let at = now("2026-11-30T12:00:00Z");
    let rule = |retention: &Retention, before: u32| {
        rules(&[archive(1)], &archive(1), &backups("F1 F5"), retention, Some(segment(1, before)), &at)
            .unwrap()
            .remove(0)
            .1
    };
    let keeps = |rule: &ArchiveRule, numbers: [u32; 3]| numbers.map(|number| rule.keeps(segment(1, number)));
    let archive = ArchiveRetention { count: Some(1), kind: LabelKind::Full };
    assert_eq!(keeps(&rule(&Retention { archive, ..count(2) }, 20), [13, 20, 49]), [false, true, true]);
    assert_eq!(keeps(&rule(&Retention { archive, ..count(2) }, 399), [13, 20, 49]), [false, false, false]);
    // What no rule lets go may go if a backup does not need it.
    assert_eq!(keeps(&rule(&Retention::default(), 399), [9, 10, 49]), [false, true, true]);
}

fn any_retention() -> impl Strategy<Value = Retention> {
    let full = prop_oneof![
        Just(None),
        (1_u32..6).prop_map(|count| Some(FullRetention::Count(count))),
        (1_u32..30).prop_map(|days| Some(FullRetention::Days(days))),
    ];
    let optional = |limit: u32| prop_oneof![Just(None), (1..limit).prop_map(Some)];
    let kind = prop_oneof![Just(LabelKind::Full), Just(LabelKind::Diff), Just(LabelKind::Incr)];
    let keep = (0_u32..4, 0_u32..3, 0_u32..2, 0_u32..2).prop_map(|(daily, weekly, monthly, yearly)| Keep {
        daily,
        weekly,
        monthly,
        yearly,
    });
    (full, optional(5), optional(5), kind, optional(30), keep).prop_map(|(full, diff, archive, kind, window, keep)| {
        Retention {
            full,
            diff,
            archive: ArchiveRetention { count: archive, kind },
            window: window.map(|days| SignedDuration::from_hours(24 * i64::from(days))),
            keep,
        }
    })
}

fn any_backups() -> impl Strategy<Value = Vec<Backup>> {
    let kind = prop_oneof![Just('F'), Just('D'), Just('I')];
    proptest::collection::btree_map(1_u32..30, (kind, proptest::bool::weighted(0.9)), 0..12).prop_map(|map| {
        let kinds = std::iter::once('F').chain(map.values().skip(1).map(|(kind, _)| *kind));
        let text: Vec<String> = map.keys().zip(kinds).map(|(day, kind)| format!("{kind}{day}")).collect();
        let mut all = backups(&text.join(" "));
        all.iter_mut().zip(map.values()).for_each(|(backup, (_, is_whole))| backup.is_whole = *is_whole);
        all
    })
}

proptest! {
    #[test]
    fn whatever_the_rules_are_the_newest_backup_stays_with_its_wal_and_a_second_run_changes_nothing(
        retention in any_retention(),
        all in any_backups(),
    ) {
        let at = now("2026-11-30T12:00:00Z");
        let kept = retention.kept(&all, &at);
        if let Some(newest) = all.iter().rfind(|backup| backup.is_whole) {
            prop_assert!(kept.contains(&newest.label));
        } else {
            prop_assert_eq!(kept.len(), all.len());
        }
        let left: Vec<Backup> = all.iter().filter(|backup| kept.contains(&backup.label)).cloned().collect();
        prop_assert_eq!(&retention.kept(&left, &at), &kept);
        let Ok(rules) = rules(&[archive(1)], &archive(1), &left, &retention, None, &at) else { return Ok(()) };
        let rule = &rules[0].1;
        for backup in &left {
            let (first, last) = backup.wal.unwrap();
            prop_assert!(rule.keeps(first) && rule.keeps(last));
        }
        if let Some(newest) = left.iter().rfind(|backup| backup.is_whole) {
            prop_assert!(rule.keeps(newest.from) && rule.keeps(segment(9, 400)));
        }
        if let Some(window) = retention.window {
            // Every time of the window lies after a backup from which all WAL is there.
            let start = at.time - window;
            if let Some(base) = left.iter().rfind(|backup| backup.is_whole && backup.stop <= start) {
                let (high, low) = base.from.place();
                let from = (high << 8 | low..400).all(|number| rule.keeps(segment(1, number)));
                prop_assert!(from);
            }
        }
        // What is said of a directory holds for all that is in it.
        for high in 0..2_u32 {
            let (first, last) = (segment(1, high << 8), format!("00000001{high:08X}FFFFFFFF").parse().unwrap());
            let within: Vec<bool> = (0..256).map(|low| rule.keeps(segment(1, high << 8 | low))).collect();
            match rule.stay(first, last) {
                Stay::All => prop_assert!(within.iter().all(|stays| *stays)),
                Stay::None => prop_assert!(within.iter().all(|stays| !stays)),
                Stay::Some => {}
            }
        }
    }
}
