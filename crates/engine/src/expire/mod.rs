//! Removing what retention does not ask for: backups, WAL, and the packs that nothing needs any more.
//!
//! [`retention`] says which backups stay and [`archive`] which WAL: pure functions. What is done is a list of steps
//! ([`plan`]) that is complete before the first of them is taken. How packs go without harm to those who are at work on
//! other hosts is told in [`pgark_repository::garbage`].

pub mod archive;
mod carry_out;
mod inventory;
pub mod plan;
pub mod retention;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use jiff::tz::TimeZone;
use pgark_postgres::wal::name::SegmentName;
use pgark_repository::garbage::{self, Survey};
use pgark_repository::session::{Session, SessionDocument, SessionKind};
use pgark_repository::wal::Archive;
use pgark_repository::{Label, PackId, StanzaName};
use pgark_system::clock;

use self::carry_out::Worker;
use self::inventory::Inventory;
use self::plan::Step;
use self::retention::{Now, Retention, is_full, set};
use crate::error::{Error, ErrorKind, Result};
use crate::lock::{self, Locks};
use crate::progress::{Board, Progress, Unit};
use crate::stanza::{RepositorySettings, Stanza};
use crate::turn;

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// What the rules say.
    Rules,
    /// One backup, whatever the rules say, with what belongs to it.
    Set(Label),
    /// The oldest full backup, with what belongs to it.
    Oldest,
}

/// What is to be expired, and how.
#[derive(Debug)]
pub struct ExpireSettings {
    /// The stanza.
    pub stanza: StanzaName,
    /// What is asked for.
    pub request: Request,
    /// No WAL is removed from this segment on.
    pub archive_before: Option<SegmentName>,
    /// Whether to only say what would be done.
    pub dry_run: bool,
    /// Where lock files are.
    pub locks: Locks,
    /// Where it is shown how far it is.
    pub board: Board,
    /// This host.
    pub host: String,
    /// This program and its version.
    pub program: String,
}

/// A repository, and what it is to keep.
#[derive(Debug)]
pub struct ExpireRepository {
    /// The repository.
    pub settings: RepositorySettings,
    /// What it is to keep.
    pub retention: Retention,
    /// Whether this process holds the lock on it already, as after a backup.
    pub is_locked: bool,
}

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was carried out.
    Done,
    /// The backup that was to be expired is not in this repository. Nothing was done.
    SetMissing,
}

/// Expires in one repository.
///
/// # Errors
/// [`ErrorKind::LockAcquire`] where another command is at work; [`ErrorKind::BackupSetInvalid`] where the backup that is
/// to be expired is the last one; damage; or the storage's error. Where what there is can't be read, nothing is removed.
pub fn run(settings: &ExpireSettings, repository: &ExpireRepository) -> Result<Outcome> {
    let key = repository.settings.key;
    let acquire = || lock::acquire(&settings.locks, &settings.stanza, "backup", key, "expire");
    let _lock = (!repository.is_locked).then(acquire).transpose()?;
    let work = settings.board.begin("expire", key, Unit::Steps);
    work.note("reading what there is");
    let open = repository.settings.open()?;
    open.repository.check_removable()?;
    let stanza = Stanza::open(&open, &settings.stanza)?;
    if let Request::Set(label) = &settings.request
        && !garbage::manifests(stanza.repository(), stanza.name())?.contains_key(label)
    {
        return Ok(Outcome::SetMissing);
    }
    if settings.dry_run {
        let survey = Survey::take(stanza.repository(), stanza.name(), None)?;
        let plan = Expire { settings, stanza: &stanza, retention: &repository.retention }.plan(&survey)?;
        plan.steps.iter().for_each(|step| tell(key, step));
        return Ok(Outcome::Done);
    }
    let (host, wait) = (&settings.host, settings.locks.wait);
    let mut session = turn::begin(&open.repository, &settings.stanza, SessionKind::Expire, host, wait)?;
    let result = expire(settings, repository, &stanza, &mut session, &work);
    // A session that can't be ended is harmless: it is no longer renewed.
    let ended = session.end();
    result?;
    if let Err(error) = ended {
        tracing::warn!("repo{key}: unable to end the session: {error}");
    }
    Ok(Outcome::Done)
}

fn expire(
    settings: &ExpireSettings,
    repository: &ExpireRepository,
    stanza: &Stanza<'_>,
    session: &mut Session<'_>,
    progress: &Progress,
) -> Result<()> {
    let mut survey = Survey::take(stanza.repository(), stanza.name(), Some(session.id()))?;
    survey.announce(stanza.repository(), stanza.name(), session.id(), &settings.program)?;
    // From here on the manifests are read: what they need is spared.
    let plan = Expire { settings, stanza, retention: &repository.retention }.plan(&survey)?;
    progress.expect(plan.steps.len() as u64);
    progress.note("");
    Worker::new(stanza, survey, session, progress, &settings.program).carry_out(&plan)
}

/// What is to be done.
#[derive(Debug)]
struct Plan {
    steps: Vec<Step>,
    /// All packs that manifests need which are there now.
    needed: BTreeSet<PackId>,
    /// The labels of these manifests.
    labels: BTreeSet<Label>,
    /// The packs that are to be marked.
    marked: BTreeSet<PackId>,
}

/// An expire in one repository.
struct Expire<'expire> {
    settings: &'expire ExpireSettings,
    stanza: &'expire Stanza<'expire>,
    retention: &'expire Retention,
}

impl Expire<'_> {
    /// Reads the manifests and makes the plan.
    fn plan(&self, survey: &Survey) -> Result<Plan> {
        let adhoc = match &self.settings.request {
            Request::Set(label) => Some(label),
            Request::Rules | Request::Oldest => None,
        };
        let inventory = Inventory::read(self.stanza, &survey.packs, adhoc)?;
        let retention = self.retention_of_this_run(&inventory);
        let now = Now { time: clock::now(), zone: TimeZone::system() };
        let kept = self.kept(&inventory, &retention, &now, survey)?;
        let needed = inventory.needed(&inventory.labels);
        let mut steps = Vec::new();
        let swept: BTreeSet<PackId> = survey.sweepable.difference(&needed).copied().collect();
        if !swept.is_empty() {
            steps.push(Step::Sweep { packs: swept.len(), bytes: bytes(survey, &swept) });
        }
        steps.extend(plan::backup_steps(&inventory.backups, &kept, &retention, adhoc));
        if let Some(unreadable) = adhoc.filter(|label| !inventory.backups.iter().any(|backup| backup.label == **label))
        {
            steps.push(Step::Expire { reason: "adhoc", labels: vec![unreadable.clone()] });
            steps.push(Step::RemoveBackup(unreadable.clone()));
        }
        steps.extend(self.archive_steps(&inventory, &kept, &retention, &now)?);
        let still_needed = inventory.needed(&kept);
        let mut packs = survey.packs.clone();
        packs.retain(|pack, _| !swept.contains(pack));
        let marked =
            garbage::unreferenced(&packs, &still_needed, &survey.log, &survey.sessions, inventory.newest_manifest);
        if !marked.is_empty() {
            steps.push(Step::Mark { packs: marked.len(), bytes: bytes(survey, &marked) });
        }
        Ok(Plan { steps, needed, labels: inventory.labels, marked })
    }

    fn retention_of_this_run(&self, inventory: &Inventory) -> Retention {
        let key = self.stanza.key();
        if self.settings.request != Request::Oldest {
            return self.retention.clone();
        }
        self.retention.without_oldest(&inventory.backups).unwrap_or_else(|| {
            tracing::warn!("repo{key}: expire oldest requested but no eligible full backup to expire");
            self.retention.clone()
        })
    }

    /// The labels of the backups that stay.
    fn kept(
        &self,
        inventory: &Inventory,
        retention: &Retention,
        now: &Now,
        survey: &Survey,
    ) -> Result<BTreeSet<Label>> {
        let wanted = retention.kept(&inventory.backups, now);
        let mut kept = match &self.settings.request {
            Request::Rules | Request::Oldest => wanted,
            Request::Set(label) => {
                self.ensure_not_last(inventory, label)?;
                kept_without(inventory, retention, now, label)
            }
        };
        for session in &survey.sessions.live {
            for label in &session.relies_on {
                if inventory.labels.contains(label) && !kept.contains(label) {
                    self.ensure_not_requested(label, session)?;
                    kept.insert(label.clone());
                }
            }
        }
        Ok(kept)
    }

    /// The last backup is never expired.
    fn ensure_not_last(&self, inventory: &Inventory, label: &Label) -> Result<()> {
        let whole = inventory.backups.iter().filter(|backup| backup.is_whole && backup.label != *label);
        let others: Vec<_> = whole.filter(|backup| !is_full(label) || set(&backup.label) != set(label)).collect();
        let archive = self.stanza.current().archive();
        let of_label = inventory.backups.iter().find(|backup| backup.label == *label);
        // Where it is of an older cluster, or nobody knows of which, the one that counts is that of the stanza.
        let is_current = of_label.is_none_or(|backup| backup.archive == archive);
        let remains = |needs_full: bool| {
            others
                .iter()
                .any(|backup| (!is_current || backup.archive == archive) && (!needs_full || is_full(&backup.label)))
        };
        let is_last_full = is_full(label) && !remains(true);
        if is_last_full || !remains(false) {
            let kind = label.kind();
            let message = format!(
                "{kind} backup {label} cannot be expired until another {} backup has been created on this repo",
                if is_full(label) { "full" } else { "good" }
            );
            return Err(Error::new(ErrorKind::BackupSetInvalid, message));
        }
        let newest = inventory.labels.last();
        if newest.is_some_and(|newest| newest == label || is_full(label) && set(newest) == set(label)) {
            tracing::warn!(
                "repo{key}: expiring latest backup {} - the ability to perform point-in-time-recovery (PITR) may be \
                 affected\nHINT: non-default settings for 'repo{key}-retention-archive'/'repo{key}-retention-archive-type' \
                 (even in prior expires) can cause gaps in the WAL.",
                newest.map(Label::as_str).unwrap_or_default(),
                key = self.stanza.key(),
            );
        }
        Ok(())
    }

    /// A backup that somebody relies on is not expired.
    fn ensure_not_requested(&self, label: &Label, session: &SessionDocument) -> Result<()> {
        let (process, host) = (session.process, &session.host);
        if self.settings.request == Request::Set(label.clone()) {
            let message = format!("backup {label} is in use by process {process} on host '{host}'");
            return Err(Error::new(ErrorKind::LockAcquire, message).hint("expire it when that has ended"));
        }
        tracing::info!(
            "repo{}: backup {label} stays until process {process} on host '{host}' has ended",
            self.stanza.key()
        );
        Ok(())
    }

    fn archive_steps(
        &self,
        inventory: &Inventory,
        kept: &BTreeSet<Label>,
        retention: &Retention,
        now: &Now,
    ) -> Result<Vec<Step>> {
        // A cluster may go on with the archive of an earlier one.
        let mut archives = Vec::new();
        for cluster in self.stanza.clusters()?.iter() {
            if !archives.contains(&cluster.archive()) {
                archives.push(cluster.archive());
            }
        }
        let backups: Vec<_> = inventory.backups.iter().filter(|backup| kept.contains(&backup.label)).cloned().collect();
        let current = self.stanza.current().archive();
        let before = self.settings.archive_before;
        let rules = match archive::rules(&archives, &current, &backups, retention, before, now) {
            Ok(rules) => rules,
            Err(why) => {
                tell_why_no_wal_goes(self.stanza.key(), why);
                return Ok(Vec::new());
            }
        };
        let mut steps = Vec::new();
        for (archive, rule) in rules {
            let archive = Archive::new(self.stanza.repository(), self.stanza.name().clone(), archive);
            steps.extend(plan::archive_steps(&archive, &rule)?);
        }
        Ok(steps)
    }
}

/// What stays without one backup, and without what belongs to it as far as no rule wants it.
fn kept_without(inventory: &Inventory, retention: &Retention, now: &Now, label: &Label) -> BTreeSet<Label> {
    let others: Vec<_> = inventory.backups.iter().filter(|backup| backup.label != *label).cloned().collect();
    let own_rules = Retention { full: None, diff: None, ..retention.clone() };
    let wanted = if own_rules.is_set() { own_rules.kept(&others, now) } else { BTreeSet::new() };
    let gone = plan::gone_with(&inventory.backups, label, &wanted);
    others.into_iter().map(|backup| backup.label).filter(|label| !gone.contains(label)).collect()
}

fn tell_why_no_wal_goes(key: u32, why: archive::NoRemoval) {
    match why {
        archive::NoRemoval::NotSet => {
            tracing::info!("option 'repo{key}-retention-archive' is not set - archive logs will not be expired");
        }
        archive::NoRemoval::TimeNotMet => {
            tracing::info!("repo{key}: time-based archive retention not met - archive logs will not be expired");
        }
        archive::NoRemoval::TooSoon => {
            tracing::debug!(
                "repo{key}: fewer backups than archive retention counts - archive logs will not be expired"
            );
        }
    }
}

/// Says what a step does.
fn tell(key: u32, step: &Step) {
    if matches!(step, Step::Retain { .. }) {
        tracing::debug!("repo{key}: {step}");
    } else {
        tracing::info!("repo{key}: {step}");
    }
}

fn bytes<'packs>(survey: &Survey, packs: impl IntoIterator<Item = &'packs PackId>) -> u64 {
    packs.into_iter().filter_map(|pack| survey.packs.get(pack)).map(|pack| pack.length).sum()
}
