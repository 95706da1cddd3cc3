//! Other timelines that a target may lie on. A recovery follows the newest timeline unless it is told otherwise, and what
//! its user remembers may have happened on one that was left: after a restore to an earlier time, or where a copy was
//! promoted.

use pgark_postgres::Lsn;
use pgark_postgres::wal::name::Timeline;

use super::reach::Reach;
use super::settings::RestoreTarget;
use crate::error::Result;

/// A timeline beside the one that is followed, which has what the target is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Branch {
    /// The timeline.
    pub(super) timeline: Timeline,
    /// Where it and the one that is followed part.
    pub(super) parts: Lsn,
}

/// The newest other timeline on which a recovery from a backup, consistent at `consistent` of `start`, would come by
/// something that it does not come by on the way to `target` along `followed`: transactions up to a time, or the position,
/// transaction or restore point itself.
///
/// # Errors
/// Damage, or the storage's error.
pub(super) fn find(
    target: &RestoreTarget,
    followed: &mut Reach<'_>,
    start: Timeline,
    consistent: Lsn,
) -> Result<Option<Branch>> {
    for (mut branch, parts) in followed.branches(start, consistent)?.into_iter().rev() {
        let from = parts.max(consistent);
        let has_it = match target {
            RestoreTarget::Time { time, .. } => {
                let ended = |reach: &mut Reach<'_>| -> Result<bool> {
                    Ok(reach.first_end(from)?.is_some_and(|first| first.time <= *time))
                };
                ended(&mut branch)? && !ended(followed)?
            }
            RestoreTarget::Lsn(lsn) => *lsn > from && branch.end(from)?.is_some_and(|end| end.lsn >= *lsn),
            RestoreTarget::Transaction(xid) => branch.ends_of_transaction(from, *xid)?.iter().any(|lsn| *lsn >= from),
            RestoreTarget::Name(name) => branch.restore_points(from, name)?.iter().any(|lsn| *lsn >= from),
            RestoreTarget::Unspecified
            | RestoreTarget::Default
            | RestoreTarget::Standby
            | RestoreTarget::Immediate
            | RestoreTarget::Preserve
            | RestoreTarget::None => false,
        };
        if has_it {
            return Ok(Some(Branch { timeline: branch.timeline(), parts }));
        }
    }
    Ok(None)
}
