//! What a backup builds on: the backups before it, what has changed since, and what the repository has of that.

use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use pgark_postgres::client::{Connection, StartedBackup};
use pgark_postgres::wal::summary::BlockSummary;
use pgark_repository::garbage;
use pgark_repository::manifest::Manifest;
use pgark_repository::{Label, LabelKind};
use pgark_system::{clock, termination};

use super::adoption::Adoption;
use super::changes::{self, Between, Changes, History, read_history};
use super::reference::{self, Emptied, Reference, newest_session};
use super::stock::Stock;
use super::tables::TableCache;
use super::{Backup, label};
use crate::error::Result;

impl<'backup> Backup<'backup, '_> {
    /// Reads the log of garbage. From here on packs that others mark as such stay as long as the session lives.
    pub(super) fn heed_garbage(&mut self) -> Result<()> {
        let log = garbage::Log::read(self.stanza.repository(), self.stanza.name())?;
        self.seen = log.last();
        self.condemned = log.condemned();
        Ok(self.session.change(|session| session.note_seen(self.seen))?)
    }

    /// The type that the backup has in the end, and the newest full backup of the cluster, to whose set it belongs.
    /// Without one, it is a full backup itself.
    pub(super) fn kind(&self, existing: &[Label]) -> Result<(LabelKind, Option<Label>)> {
        let kind = self.settings.kind;
        if kind == LabelKind::Full {
            return Ok((kind, None));
        }
        let mut full: Vec<&Label> = existing.iter().filter(|label| label.kind() == LabelKind::Full).collect();
        full.sort_by_key(|label| std::cmp::Reverse(label.time()));
        for label in full {
            if self.is_of_this_cluster(label)? {
                return Ok((kind, Some(label.clone())));
            }
        }
        tracing::warn!("no prior backup exists, {kind} backup has been changed to full");
        Ok((LabelKind::Full, None))
    }

    /// Of a backup that is damaged nobody knows; that it is passed over is told where one to compare with is chosen.
    fn is_of_this_cluster(&self, label: &Label) -> Result<bool> {
        match Manifest::open(self.stanza.repository(), self.stanza.name(), label) {
            Ok(manifest) => Ok(manifest.document().cluster.id == self.cluster.id),
            Err(error) if error.is_not_found() || matches!(error, pgark_repository::Error::Damaged { .. }) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// The timelines that the cluster came by.
    pub(super) fn history(&self, connection: &mut Option<Connection>) -> Result<History> {
        let timeline = match connection {
            Some(connection) => connection.timeline()?,
            None => self.control.checkpoint.timeline,
        };
        read_history(&self.stanza.archive(&self.cluster), &self.settings.data_directory, timeline)
    }

    /// The backup whose pages this one points at. From here on nobody removes it.
    pub(super) fn reference(
        &mut self,
        existing: &[Label],
        history: &History,
        kind: LabelKind,
    ) -> Result<Option<Reference<'backup>>> {
        if !self.settings.reuse {
            return Ok(None);
        }
        let stanza = self.stanza;
        let (repository, name) = (stanza.repository(), stanza.name());
        let Some(reference) = reference::choose(repository, name, existing, self.cluster.id, history)? else {
            return Ok(None);
        };
        let document = reference.manifest.document();
        self.session.change(|session| session.rely_on(vec![document.label.clone()]))?;
        let version = document.program.rsplit(' ').next().unwrap_or_default();
        if kind == LabelKind::Full {
            tracing::debug!("pages are compared with those of backup set {}, version = {version}", document.label);
        } else {
            tracing::info!("last backup label = {}, version = {version}", document.label);
        }
        Ok(Some(reference))
    }

    /// What has changed since the reference, if the WAL says so.
    pub(super) fn changes(
        &self,
        reference: &Reference<'_>,
        history: &History,
        started: Option<&StartedBackup>,
        kind: LabelKind,
    ) -> Result<Option<BlockSummary>> {
        let changes = match (&reference.doubt, history) {
            (Some(reason), _) | (None, History::Unknown { reason }) => Changes::Unknown { reason: reason.clone() },
            (None, History::Known(history)) => {
                let between = Between {
                    data_directory: &self.settings.data_directory,
                    control: &self.control,
                    history,
                    reference: reference.manifest.document(),
                    start: started.map_or(self.control.checkpoint.location, |started| started.lsn),
                };
                changes::changes(&self.stanza.archive(&self.cluster), &between)?
            }
        };
        match changes {
            Changes::Known(changes) => Ok(Some(changes)),
            Changes::Unknown { reason } if kind == LabelKind::Full || self.settings.delta => {
                tracing::debug!("what has changed is not known: {reason}");
                Ok(None)
            }
            Changes::Unknown { reason } => {
                tracing::info!("all files are read, since it is not known what has changed: {reason}");
                Ok(None)
            }
        }
    }

    /// What the repository has that can be pointed at.
    pub(super) fn stock(&mut self, reference: Option<&Reference<'_>>, existing: &[Label]) -> Result<Stock<'backup>> {
        let stanza = self.stanza;
        let (repository, name) = (stanza.repository(), stanza.name());
        let tables = TableCache::new(repository, name, self.workers());
        let packs = reference.map(|reference| reference.packs.clone()).unwrap_or_default();
        if !self.settings.reuse {
            return Ok(Stock::empty(tables));
        }
        let newest = newest_session(repository, name, &packs, existing)?;
        let stored = garbage::packs(repository, name)?;
        let survey = reference::survey(&packs, &stored, &self.condemned, newest, self.session.id());
        let lost = survey.unusable.difference(&self.condemned).count();
        if lost > 0 {
            tracing::warn!("{lost} pack(s) are missing or damaged, what lies in them is stored anew");
        }
        let emptied = Emptied::among(&packs, &survey.unusable, &tables)?;
        let mut adoption = Adoption::default();
        if self.settings.resume {
            adoption = Adoption::of(&survey.left_over, &tables, self.workers())?;
        }
        if !adoption.is_empty() {
            tracing::info!("{} pack(s) of an interrupted backup are taken over", adoption.len());
            let adopted = adoption.sessions().into_iter().collect();
            self.session.change(|session| session.adopt(adopted))?;
        }
        Ok(Stock { tables, packs, unusable: survey.unusable, emptied, adoption })
    }
}

/// The label of a backup that begins now, and the time.
///
/// # Errors
/// Where the clock makes no sense.
pub(super) fn choose_label(kind: LabelKind, full: Option<&Label>, existing: &[Label]) -> Result<(Label, Timestamp)> {
    loop {
        termination::check()?;
        let now = clock::now();
        if let Some(label) = label::new_label(kind, full, now, &TimeZone::system(), existing)? {
            return Ok((label, now));
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}
