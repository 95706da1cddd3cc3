//! Choosing the backup set, and refusing a target that can't be reached.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use pgark_postgres::Lsn;
use pgark_postgres::recovery::TargetTimeline;
use pgark_postgres::wal::name::{SegmentSize, Timeline};
use pgark_repository::Label;
use pgark_repository::manifest::{Manifest, ManifestDocument};

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
            Verdict::Serves => return Ok(Choice { stanza, label: backup.label.clone() }),
            Verdict::Refused(refusal) => refusals.push(refusal),
        }
    }
    Err(refused(settings, &stanza, &backups, &refusals))
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
    /// It does not lie on the way to the timeline.
    OffTimeline(Timeline),
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
        return Ok(Verdict::Refused(Refusal::OffTimeline(reach.timeline())));
    }
    let is_reached = match target {
        RestoreTarget::Time { time, .. } => reach.has_end_after(consistent, *time, settings.exclusive)?,
        RestoreTarget::Lsn(lsn) => reach.end(consistent)?.is_some_and(|end| end.lsn >= *lsn),
        RestoreTarget::Name(name) => reach.restore_points(consistent, name)?.iter().any(|lsn| *lsn >= consistent),
        RestoreTarget::Transaction(xid) => {
            reach.ends_of_transaction(consistent, *xid)?.iter().any(|lsn| *lsn >= consistent)
        }
        RestoreTarget::Default
        | RestoreTarget::Standby
        | RestoreTarget::Immediate
        | RestoreTarget::Preserve
        | RestoreTarget::None => true,
    };
    if is_reached { Ok(Verdict::Serves) } else { Ok(Verdict::Refused(Refusal::NotReached)) }
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
    let cluster = stanza.clusters().iter().find(|cluster| cluster.id == backup.cluster.id).unwrap_or(stanza.current());
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
    refusals: &[Refusal],
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
    if refusals.iter().any(|refusal| matches!(refusal, Refusal::NotReached)) {
        return invalid(format!("{target} can't be reached with the WAL in the archive of repo{}", stanza.key()))
            .hint(window(settings, stanza, oldest))
            .hint("use --type=default to recover to the end of the archive");
    }
    let off_timeline = refusals.iter().find_map(|refusal| match refusal {
        Refusal::OffTimeline(timeline) => Some(timeline.0),
        _ => None,
    });
    if let Some(timeline) = off_timeline {
        return invalid(format!("no backup set lies on the way to {target} on timeline {timeline}"))
            .hint("use --target-timeline=current to stay on the timeline of the backup");
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
        RestoreTarget::Default | RestoreTarget::Standby => "the end of the archive".to_owned(),
        RestoreTarget::Immediate => "the point of consistency".to_owned(),
        RestoreTarget::Time { text, .. } => format!("target time '{text}'"),
        RestoreTarget::Transaction(xid) => format!("target transaction {xid}"),
        RestoreTarget::Lsn(lsn) => format!("target lsn {lsn}"),
        RestoreTarget::Name(name) => format!("target name '{name}'"),
        RestoreTarget::Preserve | RestoreTarget::None => "no target".to_owned(),
    }
}
