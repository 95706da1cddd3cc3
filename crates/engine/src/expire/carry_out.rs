//! Taking the steps of a plan. Each may be broken off anywhere and taken again by the next run.

use std::collections::BTreeSet;
use std::time::Duration;

use pgark_repository::garbage::{self, EntryKind, NewEntry, Survey};
use pgark_repository::session::{DEAD_AFTER, Session};
use pgark_repository::{PackId, names, removal};
use pgark_storage::Key;
use pgark_system::clock::Stopwatch;
use pgark_system::termination;

use super::plan::{Step, WalRun};
use super::{Plan, tell};
use crate::error::{Error, Result};
use crate::progress::Progress;
use crate::stanza::Stanza;

/// How often the session says that it is alive.
const RENEW_INTERVAL: Duration = Duration::from_secs(60);

/// Files that are deleted at once: as many as an object store takes in one request.
const BATCH: usize = 1000;

/// Carries out a plan.
pub(super) struct Worker<'worker, 'session> {
    stanza: &'worker Stanza<'worker>,
    survey: Survey,
    session: &'worker mut Session<'session>,
    progress: &'worker Progress,
    program: &'worker str,
    renewed: Stopwatch,
}

impl<'worker, 'session> Worker<'worker, 'session> {
    pub(super) fn new(
        stanza: &'worker Stanza<'worker>,
        survey: Survey,
        session: &'worker mut Session<'session>,
        progress: &'worker Progress,
        program: &'worker str,
    ) -> Self {
        Self { stanza, survey, session, progress, program, renewed: Stopwatch::start() }
    }

    pub(super) fn carry_out(mut self, plan: &Plan) -> Result<()> {
        for step in &plan.steps {
            self.go_on()?;
            tell(self.stanza.key(), step);
            self.take(step, plan)?;
            self.progress.advance(1);
        }
        self.progress.note("tidying up");
        self.tidy_up()
    }

    /// Asks whether to go on, and says that the session is alive when it is time to.
    fn go_on(&mut self) -> Result<()> {
        termination::check()?;
        if self.renewed.elapsed() >= RENEW_INTERVAL {
            self.session.renew()?;
            self.renewed = Stopwatch::start();
        }
        Ok(())
    }

    fn take(&mut self, step: &Step, plan: &Plan) -> Result<()> {
        let (repository, stanza) = (self.stanza.repository(), self.stanza.name());
        match step {
            Step::Expire { .. } | Step::Retain { .. } | Step::NoWal(_) => Ok(()),
            Step::Sweep { .. } => self.sweep(plan),
            Step::RemoveBackup(label) => Ok(removal::remove_backup(repository, stanza, label)?),
            Step::RemoveWal(run) => self.remove_wal(run),
            Step::RemoveHistory { archive, file } => {
                Ok(repository.storage().delete(&names::wal_file(stanza, archive, file)?)?)
            }
            Step::RemoveArchive(archive) => self.remove_below(&names::archive(stanza, archive)?),
            Step::Mark { .. } => self.append(EntryKind::Mark, &plan.marked),
        }
    }

    fn append(&mut self, kind: EntryKind, packs: &BTreeSet<PackId>) -> Result<()> {
        let entry = NewEntry { kind, session: self.session.id(), program: self.program, packs };
        Ok(self.survey.log.append(self.stanza.repository(), self.stanza.name(), entry)?)
    }

    fn sweep(&mut self, plan: &Plan) -> Result<()> {
        let (repository, stanza) = (self.stanza.repository(), self.stanza.name());
        let before: BTreeSet<_> = self.survey.packs.keys().map(|pack| pack.session).collect();
        let mut survey = self.survey.clone();
        let swept = survey.sweep(repository, stanza, &plan.labels, &plan.needed, &mut || self.go_on());
        self.survey = survey;
        swept?;
        // On a file system a session's directory is left when its packs are gone.
        let left: BTreeSet<_> = self.survey.packs.keys().map(|pack| pack.session).collect();
        let claimed = self.survey.sessions.claimed();
        for session in before.difference(&left).filter(|session| !claimed.contains(session)) {
            repository.storage().sweep(&names::packs_of(stanza, *session)?)?;
        }
        Ok(())
    }

    fn remove_wal(&mut self, run: &WalRun) -> Result<()> {
        let stanza = self.stanza.name();
        for directory in &run.directories {
            self.remove_below(&names::wal_directory(stanza, &run.archive, directory)?)?;
        }
        let keys: Vec<Key> =
            run.files.iter().map(|file| names::wal_file(stanza, &run.archive, file)).collect::<Result<_, _>>()?;
        for batch in keys.chunks(BATCH) {
            self.go_on()?;
            self.stanza.repository().storage().delete_all(batch)?;
        }
        Ok(())
    }

    fn remove_below(&mut self, prefix: &Key) -> Result<()> {
        removal::remove_below::<Error>(self.stanza.repository(), prefix, &mut || self.go_on())
    }

    /// Removes what nobody needs of the entries of the log, of sessions that are dead, and of backups that were removed by
    /// a run that was broken off.
    fn tidy_up(&mut self) -> Result<()> {
        self.go_on()?;
        let (repository, stanza) = (self.stanza.repository(), self.stanza.name());
        let packs = self.survey.packs.keys().copied().collect();
        let done = garbage::done(&self.survey.log, &packs, &self.survey.sessions);
        self.survey.log.remove(repository, stanza, &done)?;
        for session in &self.survey.sessions.dead {
            tracing::info!(
                "repo{}: session of process {} on host '{}' is taken for dead, it was last renewed at {}",
                self.stanza.key(),
                session.process,
                session.host,
                session.renewed
            );
            repository.storage().sweep(&names::packs_of(stanza, session.id)?)?;
            repository.storage().delete(&names::session(stanza, session.id)?)?;
        }
        for label in removal::removed_backups(repository, stanza)? {
            removal::remove_notes(repository, stanza, &label)?;
        }
        self.remove_unfinished()
    }

    /// Removes what killed writers have left unfinished on a file system. Who has not written to a file for as long as it
    /// takes to be taken for dead is not at work on it any more; that sessions which are alive have their packs left alone
    /// is one more belt.
    fn remove_unfinished(&mut self) -> Result<()> {
        let (repository, stanza) = (self.stanza.repository(), self.stanza.name());
        let storage = repository.storage();
        self.session.renew()?;
        let Some(own) = storage.head(&names::session(stanza, self.session.id())?)? else { return Ok(()) };
        let before = own.modified - DEAD_AFTER;
        let (above, packs) = (names::stanza(stanza)?, names::packs(stanza)?);
        let claimed = self.survey.sessions.claimed();
        let mut removed = 0;
        for part in storage.list_directory(Some(&above))? {
            let Ok(prefix) = above.join(&part.name) else { continue };
            if prefix != packs {
                removed += storage.remove_unfinished(&prefix, before)?;
            }
        }
        for part in storage.list_directory(Some(&packs))? {
            let Ok(prefix) = packs.join(&part.name) else { continue };
            if !claimed.iter().any(|session| session.to_string() == part.name) {
                removed += storage.remove_unfinished(&prefix, before)?;
            }
        }
        if removed > 0 {
            tracing::info!(
                "repo{}: remove {removed} unfinished file(s) of processes that have ended",
                self.stanza.key()
            );
        }
        Ok(())
    }
}
