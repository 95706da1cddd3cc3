//! Which WAL stays: a pure function of the backups that stay and of the rules.

use std::collections::BTreeSet;

use pgark_postgres::wal::name::{SegmentName, Timeline};
use pgark_repository::{ArchiveId, Label, LabelKind};

use super::retention::{Backup, FullRetention, Now, Retention, window_base};

/// Why WAL stays.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Need {
    /// The backup that needs it; `None` where `--archive-expire-before` keeps it.
    pub backup: Option<Label>,
    /// The first segment.
    pub first: SegmentName,
    /// The last segment, of the same timeline; `None` where all that follows stays, on this timeline and on those that
    /// began later.
    pub last: Option<SegmentName>,
}

impl Need {
    /// Whether a segment is needed. A timeline has a greater number than the one that it branched off from, and it
    /// branched off after the first segment.
    fn holds(&self, segment: SegmentName) -> bool {
        match self.last {
            None => segment.timeline >= self.first.timeline && segment.place() >= self.first.place(),
            Some(last) => (self.first..=last).contains(&segment),
        }
    }
}

/// What stays of one archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ArchiveRule {
    /// All of it.
    Everything,
    /// What is needed.
    Needs(Vec<Need>),
    /// Nothing: it is that of a cluster which the stanza has no more and of which no backup is left.
    Nothing,
}

/// Why no WAL is removed at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoRemoval {
    /// No rule says that any may go.
    NotSet,
    /// No full backup is old enough yet.
    TimeNotMet,
    /// There are not as many backups yet as retention counts.
    TooSoon,
}

/// From where on all WAL stays, by pgBackRest's rules.
enum Wish {
    /// They want nothing.
    Nothing,
    /// No WAL goes.
    Everything(NoRemoval),
    /// All WAL stays from the oldest of these on.
    From(BTreeSet<Label>),
}

/// What `--archive-expire-before` names: no WAL goes from this segment on.
pub type Before = Option<SegmentName>;

/// What is to be done with the archives of a stanza, whose backups that stay are these. `current` is the archive of its
/// cluster.
///
/// # Errors
/// Why no WAL is removed.
pub fn rules(
    archives: &[ArchiveId],
    current: &ArchiveId,
    kept: &[Backup],
    retention: &Retention,
    before: Before,
    now: &Now,
) -> Result<Vec<(ArchiveId, ArchiveRule)>, NoRemoval> {
    let wish = match (wish(kept, retention, now), before) {
        (Wish::Everything(_), Some(_)) => Wish::From(kept.iter().map(|backup| backup.label.clone()).collect()),
        (Wish::Everything(why), None) => return Err(why),
        (wish, _) => wish,
    };
    let of_archive = |archive: &ArchiveId| {
        let own: Vec<&Backup> = kept.iter().filter(|backup| backup.archive == *archive).collect();
        if own.is_empty() {
            return match before {
                Some(before) if archive == current => ArchiveRule::Needs(vec![Need::from(None, before)]),
                _ if archive == current => ArchiveRule::Everything,
                _ => ArchiveRule::Nothing,
            };
        }
        ArchiveRule::Needs(needs(&own, &wish, retention, before, now))
    };
    Ok(archives.iter().map(|archive| (archive.clone(), of_archive(archive))).collect())
}

/// What pgBackRest's rules want.
fn wish(kept: &[Backup], retention: &Retention, now: &Now) -> Wish {
    let counts = |label: &Label| match retention.archive.kind {
        LabelKind::Full => label.kind() == LabelKind::Full,
        LabelKind::Diff => label.kind() != LabelKind::Incr,
        LabelKind::Incr => true,
    };
    let counted = kept.iter().rev().filter(|backup| backup.is_whole && counts(&backup.label));
    let count = match (retention.archive.count, retention.archive.kind, retention.full) {
        (Some(count), _, _) | (None, LabelKind::Full, Some(FullRetention::Count(count))) => count,
        (None, LabelKind::Full, Some(FullRetention::Days(_))) => {
            let Some(oldest) = retention.oldest_full(kept, now) else { return Wish::Everything(NoRemoval::TimeNotMet) };
            return Wish::From(counted.map(|backup| backup.label.clone()).filter(|label| label >= oldest).collect());
        }
        (None, LabelKind::Diff, _) if retention.diff.is_some() => retention.diff.unwrap_or_default(),
        _ if retention.has_own_rules() => return Wish::Nothing,
        _ => return Wish::Everything(NoRemoval::NotSet),
    };
    let newest: BTreeSet<Label> = counted.take(count as usize).map(|backup| backup.label.clone()).collect();
    if newest.len() < count as usize { Wish::Everything(NoRemoval::TooSoon) } else { Wish::From(newest) }
}

/// What the backups of one archive need, which come in the order of their labels.
fn needs(own: &[&Backup], wish: &Wish, retention: &Retention, before: Before, now: &Now) -> Vec<Need> {
    let whole: Vec<&Backup> = own.iter().filter(|backup| backup.is_whole).copied().collect();
    // From the newest on everything stays, so that nobody ever loses the way to the present.
    let newest = whole.last().or(own.last()).copied();
    let wished = match wish {
        Wish::From(labels) => own.iter().find(|backup| labels.contains(&backup.label)).copied(),
        _ => None,
    };
    let window = retention.window.and_then(|window| window_base(&whole, window, now).or(whole.first().copied()));
    let open = [newest, wished, window];
    let mut needs: Vec<Need> = Vec::new();
    for backup in own {
        if open.iter().flatten().any(|start| start.label == backup.label) {
            needs.push(Need::from(Some(backup.label.clone()), backup.from));
        } else if let Some((first, last)) = backup.wal {
            needs.push(Need { backup: Some(backup.label.clone()), first, last: Some(last) });
        }
    }
    if let Some(before) = before {
        needs.push(Need::from(None, before));
    }
    needs
}

impl Need {
    fn from(backup: Option<Label>, first: SegmentName) -> Self {
        Self { backup, first, last: None }
    }
}

impl ArchiveRule {
    /// Whether a segment stays, with all files that are named after it.
    pub fn keeps(&self, segment: SegmentName) -> bool {
        match self {
            Self::Everything => true,
            Self::Needs(needs) => needs.iter().any(|need| match need {
                // By name, as pgBackRest does.
                Need { backup: None, first, .. } => segment >= *first,
                need => need.holds(segment),
            }),
            Self::Nothing => false,
        }
    }

    /// Whether the history of a timeline stays: those do that are not older than all that is needed. Between them none
    /// may be missing, for PostgreSQL looks for the newest timeline by asking for one history after the other.
    pub fn keeps_history(&self, timeline: Timeline) -> bool {
        match self {
            Self::Everything => true,
            Self::Needs(needs) => needs
                .iter()
                .filter(|need| need.backup.is_some())
                .map(|need| need.first.timeline)
                .min()
                .is_none_or(|oldest| timeline >= oldest),
            Self::Nothing => false,
        }
    }
}

/// What stays of the segments that lie in one directory of an archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stay {
    /// All that can be there.
    All,
    /// Some, perhaps.
    Some,
    /// None that can be there.
    None,
}

impl ArchiveRule {
    /// What stays of a directory, by its name alone. `first` and `last` are the first and the last name that a segment in
    /// it can have.
    pub fn stay(&self, first: SegmentName, last: SegmentName) -> Stay {
        let Self::Needs(needs) = self else {
            return if *self == Self::Everything { Stay::All } else { Stay::None };
        };
        // A need is an interval of the places of a timeline: what holds both ends holds all between them.
        let holds_all =
            |need: &Need| Self::Needs(vec![need.clone()]).keeps(first) && Self::Needs(vec![need.clone()]).keeps(last);
        if needs.iter().any(holds_all) {
            return Stay::All;
        }
        let overlaps = |need: &Need| match (&need.backup, need.last) {
            (None, _) => last >= need.first,
            (_, None) => need.holds(last),
            (_, Some(end)) => first <= end && need.first <= last,
        };
        if needs.iter().any(overlaps) { Stay::Some } else { Stay::None }
    }
}
