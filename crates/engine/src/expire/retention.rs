//! Which backups stay: a pure function of what there is, of the rules and of the time.
//!
//! Each rule says which backups it wants. What no rule wants goes.

use std::collections::{BTreeMap, BTreeSet};

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use pgark_postgres::wal::name::SegmentName;
use pgark_repository::{ArchiveId, Label, LabelKind};

/// What a repository is to keep. `None` and 0 stand for what is not set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Retention {
    /// Which full backups stay, with all that belongs to them.
    pub full: Option<FullRetention>,
    /// How many differential backups stay, full ones counted in.
    pub diff: Option<u32>,
    /// Of which backups all WAL stays.
    pub archive: ArchiveRetention,
    /// How far back every point in time stays reachable.
    pub window: Option<SignedDuration>,
    /// How many days, weeks, months and years keep their last backup.
    pub keep: Keep,
}

/// Which full backups stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FullRetention {
    /// The newest, so many.
    Count(u32),
    /// Those of so many days, and the newest that is older.
    Days(u32),
}

/// From which backup on all WAL stays: counted are the newest backups of a kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ArchiveRetention {
    /// How many; it follows from the other rules where it is not set.
    pub count: Option<u32>,
    /// Which are counted: full ones; differential ones too; all.
    pub kind: LabelKind,
}

impl Default for ArchiveRetention {
    fn default() -> Self {
        Self { count: None, kind: LabelKind::Full }
    }
}

/// How many days, weeks, months and years keep their last backup.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Keep {
    /// Days that have a backup.
    pub daily: u32,
    /// Weeks that have one, from Monday on.
    pub weekly: u32,
    /// Months that have one.
    pub monthly: u32,
    /// Years that have one.
    pub yearly: u32,
}

/// What retention has to know of a backup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backup {
    /// Its label.
    pub label: Label,
    /// When it was complete.
    pub stop: Timestamp,
    /// The archive that it recovers from.
    pub archive: ArchiveId,
    /// The WAL that makes it consistent; none for an offline backup.
    pub wal: Option<(SegmentName, SegmentName)>,
    /// The segment from which it can be recovered further.
    pub from: SegmentName,
    /// Whether all packs that it needs are there. One that lacks some never counts as a backup, and goes when it would
    /// have gone anyway.
    pub is_whole: bool,
}

/// Now, and where days begin.
#[derive(Clone, Debug)]
pub struct Now {
    /// The time.
    pub time: Timestamp,
    /// The time zone of this host.
    pub zone: TimeZone,
}

impl Retention {
    /// Whether any rule says which backups stay. Without one they all do.
    pub fn is_set(&self) -> bool {
        self.has_counts() || self.has_own_rules()
    }

    /// Whether one of pgBackRest's rules is set.
    fn has_counts(&self) -> bool {
        self.full.is_some() || self.diff.is_some()
    }

    /// Whether a rule is set that pgBackRest does not have.
    pub fn has_own_rules(&self) -> bool {
        self.window.is_some() || self.keep != Keep::default()
    }

    /// The labels that stay of these backups, which come in the order of their labels.
    pub fn kept(&self, backups: &[Backup], now: &Now) -> BTreeSet<Label> {
        let all = || backups.iter().map(|backup| backup.label.clone()).collect();
        let whole: Vec<&Backup> = backups.iter().filter(|backup| backup.is_whole).collect();
        // Where nothing seems whole, it is the storage that is not well.
        let Some(newest) = whole.last().filter(|_| self.is_set()) else { return all() };
        let mut kept = BTreeSet::from([newest.label.clone()]);
        // The next incremental backup counts on it.
        kept.extend(whole.iter().rev().find(|backup| is_full(&backup.label)).map(|backup| backup.label.clone()));
        if self.has_counts() {
            kept.extend(self.kept_by_counts(backups, now));
        }
        if let Some(window) = self.window {
            let base = window_base(&whole, window, now).map(|base| base.stop);
            let wanted = |backup: &&Backup| base.is_none_or(|base| backup.stop >= base);
            kept.extend(backups.iter().filter(wanted).map(|backup| backup.label.clone()));
        }
        let of_all: Vec<&Backup> = backups.iter().collect();
        let by_period = self.keep.kept(&whole, &now.zone);
        let if_whole = self.keep.kept(&of_all, &now.zone);
        kept.extend(by_period);
        kept.extend(
            backups
                .iter()
                .filter(|backup| !backup.is_whole)
                .map(|backup| backup.label.clone())
                .filter(|label| if_whole.contains(label)),
        );
        kept
    }

    /// What stays by pgBackRest's rules.
    fn kept_by_counts(&self, backups: &[Backup], now: &Now) -> Vec<Label> {
        let oldest_set = self.oldest_full(backups, now).map(set).unwrap_or_default();
        let in_sets = |label: &&Label| set(label) >= oldest_set;
        let labels: Vec<&Label> = backups.iter().map(|backup| &backup.label).filter(in_sets).collect();
        let oldest_diff = self.diff.and_then(|count| {
            let counted = backups.iter().filter(|backup| backup.is_whole && backup.label.kind() != LabelKind::Incr);
            let counted: Vec<&Label> = counted.map(|backup| &backup.label).filter(in_sets).collect();
            counted.iter().rev().nth(count.saturating_sub(1) as usize).copied()
        });
        let gone: BTreeSet<&Label> = labels
            .iter()
            .filter(|label| label.kind() == LabelKind::Diff && oldest_diff.is_some_and(|oldest| **label < oldest))
            .flat_map(|diff| dependents(&labels, diff))
            .collect();
        labels.into_iter().filter(|label| !gone.contains(label)).cloned().collect()
    }

    /// The oldest full backup that stays; `None` where all do.
    pub(super) fn oldest_full<'backups>(&self, backups: &'backups [Backup], now: &Now) -> Option<&'backups Label> {
        let mut newest_first = backups.iter().rev().filter(|backup| backup.is_whole && is_full(&backup.label));
        match self.full? {
            FullRetention::Count(count) => newest_first.nth(count.saturating_sub(1) as usize),
            FullRetention::Days(days) => {
                let limit = before(now.time, SignedDuration::from_hours(24 * i64::from(days)));
                newest_first.find(|backup| backup.stop < limit)
            }
        }
        .map(|backup| &backup.label)
    }

    /// For `expire --oldest`: the rules by which the oldest full backup goes, and nothing else that stays otherwise;
    /// `None` where there is no other.
    pub fn without_oldest(&self, backups: &[Backup]) -> Option<Self> {
        let fulls = backups.iter().filter(|backup| backup.is_whole && is_full(&backup.label)).count();
        let count = u32::try_from(fulls.checked_sub(1)?).ok().filter(|count| *count > 0)?;
        Some(Self {
            full: Some(FullRetention::Count(count)),
            diff: self.diff,
            archive: ArchiveRetention { count: Some(count), kind: LabelKind::Full },
            window: None,
            keep: Keep::default(),
        })
    }
}

/// The newest backup from which every point of the window can be reached; `None` where all backups are younger.
pub(super) fn window_base<'backups>(
    whole: &[&'backups Backup],
    window: SignedDuration,
    now: &Now,
) -> Option<&'backups Backup> {
    let start = before(now.time, window);
    whole.iter().filter(|backup| backup.stop <= start).max_by_key(|backup| backup.stop).copied()
}

/// A time before another; the earliest there is, where that would lie before it.
fn before(time: Timestamp, duration: SignedDuration) -> Timestamp {
    time.checked_sub(duration).unwrap_or(Timestamp::MIN)
}

pub(super) fn is_full(label: &Label) -> bool {
    label.kind() == LabelKind::Full
}

/// The full backup that a label begins with, which is pgBackRest's backup set.
pub(super) fn set(label: &Label) -> &str {
    label.as_str().split('_').next().unwrap_or_default()
}

/// A backup, and those that go with it: with a full one its differential and incremental ones, with a differential one
/// the incremental ones up to the next. With an incremental one goes none, since nothing depends on it.
pub(super) fn dependents<'labels>(labels: &[&'labels Label], head: &Label) -> Vec<&'labels Label> {
    let after = labels.iter().copied().skip_while(|label| *label < head).filter(|label| set(label) == set(head));
    match head.kind() {
        LabelKind::Full => after.collect(),
        LabelKind::Diff => after.take_while(|label| *label == head || label.kind() == LabelKind::Incr).collect(),
        LabelKind::Incr => after.take(1).filter(|label| *label == head).collect(),
    }
}

impl Keep {
    /// The last backup of each period that keeps one. Periods without a backup don't count.
    fn kept(self, backups: &[&Backup], zone: &TimeZone) -> BTreeSet<Label> {
        let week = |date: Date| {
            let week = date.iso_week_date();
            (i32::from(week.year()), i32::from(week.week()))
        };
        let of = |count: u32, period: &dyn Fn(Date) -> (i32, i32)| {
            let mut last = BTreeMap::new();
            for backup in backups {
                let date = backup.stop.to_zoned(zone.clone()).date();
                let best = last.entry(period(date)).or_insert(*backup);
                if backup.stop >= best.stop {
                    *best = backup;
                }
            }
            last.into_values().rev().take(count as usize).map(|backup| backup.label.clone()).collect::<Vec<_>>()
        };
        let mut kept = BTreeSet::new();
        kept.extend(of(self.daily, &|date| (i32::from(date.year()), i32::from(date.day_of_year()))));
        kept.extend(of(self.weekly, &week));
        kept.extend(of(self.monthly, &|date| (i32::from(date.year()), i32::from(date.month()))));
        kept.extend(of(self.yearly, &|date| (i32::from(date.year()), 0)));
        kept
    }
}
