//! Choosing the backup set, and refusing a target that can't be reached.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use pgark_postgres::Lsn;
use pgark_postgres::recovery::TargetTimeline;
use pgark_postgres::wal::name::{SegmentSize, Timeline};
use pgark_repository::Label;
use pgark_repository::manifest::{Manifest, ManifestDocument};

use super::branch::{self, Branch};
use super::reach::{Reach, WindowEnd};
use super::{RestoreSettings, RestoreTarget};
use crate::error::{Error, ErrorKind, Result};
use crate::stanza::{OpenRepository, Stanza};

/// The backup set that is to be restored.
#[derive(Debug)]
pub(super) struct Choice<'repository> {
    pub(super) stanza: Stanza<'repository>,
    pub(super) label: Label,
}

/// Chooses the backup set, from the first repository that has one which serves.
///
/// # Errors
/// [`ErrorKind::BackupSetInvalid`] where there is none, with what can be reached; or the storage's error.
pub(super) fn choose<'repository>(
    settings: &RestoreSettings,
    repositories: &'repository [OpenRepository],
) -> Result<Choice<'repository>> {
    let mut first_error = None;
    for repository in repositories {
        match choose_in(settings, repository) {
            Ok(choice) => return Ok(choice),
            Err(error) => {
                if repositories.len() > 1 {
                    tracing::warn!("repo{}: {}", repository.key, error.full_message());
                }
                first_error.get_or_insert(error);
            }
        }
    }
    Err(first_error.unwrap_or_else(|| Error::new(ErrorKind::RepositoryInvalid, "no repository can be used")))
}

fn choose_in<'repository>(
    settings: &RestoreSettings,
    repository: &'repository OpenRepository,
) -> Result<Choice<'repository>> {
    let stanza = Stanza::open(repository, &settings.stanza)?;
    let backups = documents(settings, &stanza)?;
    let mut refusals = Vec::new();
    for backup in &backups {
        match judge(settings, &stanza, backup)? {
            Verdict::Serves => {
                warn_of_branch(settings, &stanza, backup);
                return Ok(Choice { stanza, label: backup.label.clone() });
            }
            // An older backup that lies on the way there must not take the place of one that does not, unless the user
            // knows of the timeline: it may be that of a copy, and the cluster has gone on without it.
            Verdict::Refused(Refusal::OffTimeline(error)) if settings.timeline.is_none() => return Err(error),
            Verdict::Refused(refusal) => refusals.push(refusal),
        }
    }
    Err(refused(settings, &stanza, &backups, refusals))
}

/// The backups in question, newest first: the one that the user names, or all.
fn documents(settings: &RestoreSettings, stanza: &Stanza<'_>) -> Result<Vec<ManifestDocument>> {
    let open = |label: &Label| Manifest::open(stanza.repository(), stanza.name(), label);
    if let Some(label) = &settings.set {
        return match open(label) {
            Ok(manifest) => Ok(vec![manifest.document().clone()]),
            Err(error) if error.is_not_found() => {
                Err(Error::new(ErrorKind::BackupSetInvalid, format!("backup set {label} is not valid"))
                    .hint("run info to see the backup sets that there are"))
            }
            Err(error) => Err(error.into()),
        };
    }
    let labels = stanza.repository().backups(stanza.name())?;
    let mut documents: Vec<ManifestDocument> =
        labels.iter().map(|label| Ok(open(label)?.document().clone())).collect::<Result<_>>()?;
    documents.sort_by_key(|document| std::cmp::Reverse(document.stop.time));
    Ok(documents)
}

/// Whether a backup leads to the target.
enum Verdict {
    Serves,
    Refused(Refusal),
}

/// Why a backup does not lead to the target.
#[derive(Debug)]
enum Refusal {
    /// The target lies before it is consistent.
    TooLate,
    /// The WAL to the target is not in the archive.
    NotReached,
    /// It does not lie on the way to the timeline; the error that says so.
    OffTimeline(Error),
}

fn judge(settings: &RestoreSettings, stanza: &Stanza<'_>, backup: &ManifestDocument) -> Result<Verdict> {
    let target = &settings.target;
    let consistent = consistent_at(backup)?;
    match target {
        RestoreTarget::None | RestoreTarget::Immediate | RestoreTarget::Preserve => return Ok(Verdict::Serves),
        RestoreTarget::Time { time, .. } if *time < backup.stop.time => return Ok(Verdict::Refused(Refusal::TooLate)),
        RestoreTarget::Lsn(lsn) if *lsn < consistent => return Ok(Verdict::Refused(Refusal::TooLate)),
        _ => {}
    }
    let mut reach = reach(settings, stanza, backup)?;
    let timeline = Timeline(backup.stop.timeline);
    if !reach.contains(timeline, consistent) {
        return Ok(Verdict::Refused(Refusal::OffTimeline(off_timeline(&reach, backup, consistent))));
    }
    let is_reached = match target {
        RestoreTarget::Time { time, .. } => reach.has_end_after(consistent, *time, settings.exclusive)?,
        RestoreTarget::Lsn(lsn) => reach.end(consistent)?.is_some_and(|end| end.lsn >= *lsn),
        RestoreTarget::Name(name) => reach.restore_points(consistent, name)?.iter().any(|lsn| *lsn >= consistent),
        RestoreTarget::Transaction(xid) => {
            reach.ends_of_transaction(consistent, *xid)?.iter().any(|lsn| *lsn >= consistent)
        }
        RestoreTarget::Unspecified
        | RestoreTarget::Default
        | RestoreTarget::Standby
        | RestoreTarget::Immediate
        | RestoreTarget::Preserve
        | RestoreTarget::None => true,
    };
    if is_reached { Ok(Verdict::Serves) } else { Ok(Verdict::Refused(Refusal::NotReached)) }
}

/// The error that a backup does not lie on the way to the timeline that recovery would follow.
fn off_timeline(reach: &Reach<'_>, backup: &ManifestDocument, consistent: Lsn) -> Error {
    let (target, own, label) = (reach.timeline(), backup.stop.timeline, &backup.label);
    let message = match reach.leaves(Timeline(own)) {
        Some(fork) => {
            format!(
                "target timeline {target} left timeline {own} at {fork}, before backup set {label} ended at {consistent}"
            )
        }
        None => format!("timeline {own} of backup set {label} is not in the history of target timeline {target}"),
    };
    Error::new(ErrorKind::DatabaseMismatch, message)
        .hint("was the target timeline begun by a standby promoted by mistake, or by a copy restored without --archive-mode=off?")
        .hint("use --target-timeline=current to recover along the timeline of the backup")
        .hint(format!("use --target-timeline=latest to recover along timeline {target}, from the newest backup set on the way there"))
}

/// Another timeline on which the target may have been meant, if the user has not said which one to follow.
fn branch(settings: &RestoreSettings, stanza: &Stanza<'_>, backup: &ManifestDocument) -> Result<Option<Branch>> {
    use RestoreTarget::{Lsn, Name, Time, Transaction};
    let is_a_point = matches!(settings.target, Time { .. } | Lsn(_) | Transaction(_) | Name(_));
    if settings.timeline.is_some() || !is_a_point {
        return Ok(None);
    }
    let mut followed = reach(settings, stanza, backup)?;
    branch::find(&settings.target, &mut followed, Timeline(backup.stop.timeline), consistent_at(backup)?)
}

/// Says that the newest timeline is followed, where another one has what the user may have in mind.
fn warn_of_branch(settings: &RestoreSettings, stanza: &Stanza<'_>, backup: &ManifestDocument) {
    match branch(settings, stanza, backup) {
        Ok(None) => {}
        Ok(Some(Branch { timeline, parts })) => tracing::warn!(
            "{} lies also on timeline {timeline}, and what that has after {parts} is not recovered: the newest timeline is followed\nHINT: use --target-timeline={timeline} to recover along timeline {timeline}, or --target-timeline=latest if this is what you intended",
            describe(&settings.target)
        ),
        Err(error) => {
            tracing::warn!("unable to look for the target on other timelines: {}", error.full_message());
        }
    }
}

/// Where the backup is consistent.
fn consistent_at(backup: &ManifestDocument) -> Result<Lsn> {
    let lsn = backup.stop.lsn.as_deref().and_then(|lsn| lsn.parse().ok());
    lsn.ok_or_else(|| Error::new(ErrorKind::Format, format!("backup set {} does not say where it ends", backup.label)))
}

fn reach<'repository>(
    settings: &RestoreSettings,
    stanza: &Stanza<'repository>,
    backup: &ManifestDocument,
) -> Result<Reach<'repository>> {
    let clusters = stanza.clusters()?;
    let cluster = clusters.iter().find(|cluster| cluster.id == backup.cluster.id).unwrap_or(stanza.current());
    let size = SegmentSize::new(u64::from(backup.cluster.wal_segment_size))
        .map_err(|error| Error::new(ErrorKind::Format, error.to_string()))?;
    // A standby that is recovered and the end of the archive follow the newest timeline, which is PostgreSQL's default.
    let wish = settings.timeline.or(Some(TargetTimeline::Latest));
    Reach::new(stanza.archive(cluster), size, Timeline(backup.stop.timeline), wish)
}

/// The error that no backup serves, with the window that can be reached.
fn refused(
    settings: &RestoreSettings,
    stanza: &Stanza<'_>,
    backups: &[ManifestDocument],
    refusals: Vec<Refusal>,
) -> Error {
    let invalid = |message: String| Error::new(ErrorKind::BackupSetInvalid, message);
    let Some(oldest) = backups.last() else {
        return invalid(format!(
            "no backup set found to restore in stanza '{}' on repo{}",
            stanza.name(),
            stanza.key()
        ))
        .hint("run a backup first, and info to see the backup sets that there are");
    };
    let target = describe(&settings.target);
    if let Some(backup) = refusals.iter().zip(backups).find_map(|(refusal, backup)| match refusal {
        Refusal::NotReached => Some(backup),
        Refusal::TooLate | Refusal::OffTimeline(_) => None,
    }) {
        let error = invalid(format!("{target} can't be reached with the WAL in the archive of repo{}", stanza.key()))
            .hint(window(settings, stanza, oldest));
        return match branch(settings, stanza, backup) {
            Ok(Some(branch)) => error.hint(format!(
                "timeline {0}, which is not followed, has it: use --target-timeline={0} to recover along that one",
                branch.timeline
            )),
            // What can't be found out must not hide what is wrong.
            Ok(None) | Err(_) => error.hint("use --type=default to recover to the end of the archive"),
        };
    }
    for refusal in refusals {
        if let Refusal::OffTimeline(error) = refusal {
            return error;
        }
    }
    let which = if settings.set.is_some() { "backup set" } else { "the oldest backup set," };
    invalid(format!("{target} lies before the end of {which} {}", oldest.label)).hint(window(settings, stanza, oldest))
}

/// What can be reached from a backup on, in the forms that `--target` takes.
fn window(settings: &RestoreSettings, stanza: &Stanza<'_>, oldest: &ManifestDocument) -> String {
    let start = format!("{} ({})", local(oldest.stop.time), oldest.stop.lsn.as_deref().unwrap_or("-"));
    let end = consistent_at(oldest).and_then(|lsn| reach(settings, stanza, oldest)?.end(lsn));
    match end {
        Ok(Some(WindowEnd { lsn, time: Some(time) })) => {
            format!(
                "the window that can be reached goes from {start} to the last transaction at {} ({lsn})",
                local(time)
            )
        }
        Ok(Some(WindowEnd { lsn, time: None })) => {
            format!("the window that can be reached goes from {start} to {lsn}, without any transaction")
        }
        // What can't be found out must not hide what is wrong.
        Ok(None) | Err(_) => format!("the window that can be reached begins at {start}"),
    }
}

fn local(time: Timestamp) -> String {
    time.to_zoned(TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S%.6f%:z").to_string()
}

fn describe(target: &RestoreTarget) -> String {
    match target {
        RestoreTarget::Unspecified | RestoreTarget::Default | RestoreTarget::Standby => {
            "the end of the archive".to_owned()
        }
        RestoreTarget::Immediate => "the point of consistency".to_owned(),
        RestoreTarget::Time { text, .. } => format!("target time '{text}'"),
        RestoreTarget::Transaction(xid) => format!("target transaction {xid}"),
        RestoreTarget::Lsn(lsn) => format!("target lsn {lsn}"),
        RestoreTarget::Name(name) => format!("target name '{name}'"),
        RestoreTarget::Preserve | RestoreTarget::None => "no target".to_owned(),
    }
}
