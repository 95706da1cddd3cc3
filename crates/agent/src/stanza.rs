//! One stanza of the agent: its schedule, its memory, and the jobs that are at work.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::mpsc::Sender;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use jiff::Timestamp;
use pgark_engine::dropped;
use pgark_engine::lock::{self, Holder, Lock, Locks};
use pgark_engine::{Error, ErrorKind};
use pgark_system::clock::{self, Stopwatch};

use crate::child;
use crate::dropped::{DroppedStatus, still_lacking};
use crate::hook::{Event, Notice};
use crate::job::{Kind, Memory, Run, ToldLate, Working};
use crate::late::{self, Late};
use crate::memory::MemoryFile;
use crate::observe;
use crate::plan::{self, Pending, Plan, Reason};
use crate::settings::{AgentSettings, StanzaSettings};
use crate::status::{Board, JobState, JobStatus, LateStatus, Level, RepositoriesStatus, StanzaStatus};
use crate::wal::WalWatch;

/// What the threads of the agent tell its main one.
#[derive(Debug)]
pub(crate) enum News {
    /// A job has ended.
    Ended { stanza: String, kind: Kind, ended: child::Ended },
    /// The repositories were looked at.
    Observed { stanza: String, repositories: Box<RepositoriesStatus> },
}

/// A stanza that is looked after.
#[derive(Debug)]
pub(crate) struct Stanza {
    pub(crate) settings: StanzaSettings,
    file: MemoryFile,
    memory: Memory,
    late: Vec<LateStatus>,
    dropped: Vec<DroppedStatus>,
    repositories: RepositoriesStatus,
    observed: Option<Stopwatch>,
    is_observing: bool,
    wants_look: bool,
    is_stopped: bool,
    is_standby: bool,
    plan: Plan,
    calls: Vec<JoinHandle<()>>,
    wal: Option<WalWatch>,
    board: Board,
    _lock: Lock,
}

impl Stanza {
    /// Looks after a stanza from now on. No other agent on this host does.
    ///
    /// # Errors
    /// [`ErrorKind::LockAcquire`] where another does; or where it can't be written down what ran.
    pub(crate) fn new(
        agent: &AgentSettings,
        settings: StanzaSettings,
        board: &Board,
        command: &str,
    ) -> Result<Self, Error> {
        let locks = Locks { directory: settings.lock_path.clone(), wait: Duration::ZERO };
        let lock = lock::acquire(&locks, &settings.stanza, lock::AGENT, 1, command).map_err(|error| {
            if error.kind() != ErrorKind::LockAcquire {
                return error;
            }
            let message = format!("another agent looks after stanza '{}': {}", settings.stanza, error.full_message());
            Error::new(ErrorKind::LockAcquire, message)
                .hint("one agent is enough for all stanzas of a configuration: end the other, or name other stanzas")
        })?;
        let file = MemoryFile::new(&agent.state_directory, &settings.stanza);
        let (mut memory, problem) = file.read();
        // Those of an agent before this one are nobody's now.
        memory.working.clear();
        let mut stanza = Self {
            settings,
            file,
            memory,
            late: Vec::new(),
            dropped: Vec::new(),
            repositories: RepositoriesStatus::default(),
            observed: None,
            is_observing: false,
            wants_look: false,
            is_stopped: false,
            is_standby: false,
            plan: Plan { start: Vec::new(), waiting: Vec::new(), next: BTreeMap::new(), wake: None },
            calls: Vec::new(),
            wal: None,
            board: board.clone(),
            _lock: lock,
        };
        if let Some(problem) = problem {
            stanza.tell(Level::Warning, &format!("{problem}: what was missed meanwhile is not caught up"));
        }
        stanza.wal = stanza.settings.data_directory.as_deref().map(WalWatch::begin);
        stanza.adopt(clock::now());
        stanza.file.write(&stanza.memory)?;
        Ok(stanza)
    }

    /// Goes on with other settings.
    pub(crate) fn configure(&mut self, settings: StanzaSettings) {
        if self.settings.data_directory != settings.data_directory {
            self.wal = settings.data_directory.as_deref().map(WalWatch::begin);
        }
        self.settings = settings;
        self.adopt(clock::now());
        self.remember();
    }

    fn adopt(&mut self, now: Timestamp) {
        for (kind, ahead) in plan::mend(now, &mut self.memory) {
            self.tell(
                Level::Warning,
                &format!(
                    "{kind} is said to have run {ahead:#} from now: the clock was wrong then, or is now; its \
                          schedule goes on from now"
                ),
            );
        }
        self.memory.adopt(self.settings.schedules.keys().copied(), now);
    }

    /// Notes that the clock was set.
    pub(crate) fn clock_was_set(&mut self, now: Timestamp) {
        self.adopt(now);
    }

    fn name(&self) -> &str {
        self.settings.stanza.as_str()
    }

    fn tell(&self, level: Level, text: &str) {
        self.board.tell(clock::now(), level, Some(self.name()), text);
    }

    fn remember(&self) {
        if let Err(error) = self.file.write(&self.memory) {
            self.tell(Level::Error, &format!("unable to write down what ran: {}", error.full_message()));
        }
    }

    /// Whether jobs are at work.
    pub(crate) fn is_working(&self) -> bool {
        !self.memory.working.is_empty()
    }

    /// Whether the repositories are being looked at.
    pub(crate) fn is_observing(&self) -> bool {
        self.is_observing
    }

    /// When there is something to do next.
    pub(crate) fn wake(&self) -> Option<Timestamp> {
        self.plan.wake
    }

    /// Begins what is to begin now. `only` says which kinds may.
    pub(crate) fn advance(
        &mut self,
        agent: &AgentSettings,
        now: Timestamp,
        news: &Sender<News>,
        only: impl Fn(Kind) -> bool,
    ) -> Vec<Kind> {
        self.heed_role();
        self.make_plan(now);
        if self.is_standby && self.pass_over() {
            self.make_plan(now);
        }
        let mut begun = Vec::new();
        if self.plan.start.is_empty() || self.heed_stop() {
            return begun;
        }
        for pending in self.plan.start.clone() {
            if only(pending.kind) {
                self.begin(agent, pending, news);
                begun.push(pending.kind);
            }
        }
        begun
    }

    fn make_plan(&mut self, now: Timestamp) {
        let running: BTreeSet<_> = self.memory.working.keys().copied().collect();
        self.plan = plan::plan(now, &self.settings.schedules, &self.memory, &running);
    }

    /// Finds out whether the cluster is a standby. What was passed over on one comes due when it is one no more, unless the
    /// repositories have it by now: they are looked at first.
    fn heed_role(&mut self) {
        let is_standby = self.settings.is_standby();
        if is_standby != self.is_standby {
            self.is_standby = is_standby;
            self.tell(
                Level::Info,
                if is_standby {
                    "the cluster here is a standby: its backups are taken where its primary is, and passed over here"
                } else {
                    "the cluster here is a standby no more: its backups are taken here from now on"
                },
            );
        }
        self.wants_look |= !is_standby && self.memory.has_passed_over();
    }

    /// Passes over the backups that are to begin or wait; says whether there were some.
    fn pass_over(&mut self) -> bool {
        let due: Vec<_> =
            self.plan.start.iter().chain(&self.plan.waiting).filter(|due| due.kind.is_backup()).copied().collect();
        for Pending { kind, due, .. } in &due {
            self.tell(Level::Info, &format!("{kind}, due at {due}, is passed over: the cluster here is a standby"));
            self.memory.pass_over(*kind, *due);
        }
        if !due.is_empty() {
            self.remember();
        }
        !due.is_empty()
    }

    /// Whether a stop file keeps jobs from running. What comes due meanwhile is caught up afterwards.
    fn heed_stop(&mut self) -> bool {
        let stopped = self.settings.stopped();
        if let Some(error) = stopped.as_ref().filter(|_| !self.is_stopped) {
            self.tell(Level::Warning, &format!("{}: jobs wait until it is started", error.full_message()));
        }
        self.is_stopped = stopped.is_some();
        self.is_stopped
    }

    fn begin(&mut self, agent: &AgentSettings, pending: Pending, news: &Sender<News>) {
        let kind = pending.kind;
        let arguments = self.settings.commands.get(&kind).cloned().unwrap_or_default();
        let (stanza, sender) = (self.name().to_owned(), news.clone());
        let spawned = child::spawn(&agent.program, &arguments, move |ended| {
            // Who does not listen any more does not want to know.
            let _unheard = sender.send(News::Ended { stanza, kind, ended });
        });
        let started = clock::now();
        let what = match pending.reason {
            Reason::Due { times: 1 } => format!("begin {kind}, due at {}", pending.due),
            Reason::Due { times } => {
                format!("begin {kind}, due at {}: it stands for {times} times that have come", pending.due)
            }
            Reason::Retry { failures } => format!("begin {kind} again, which has failed {failures} time(s) in a row"),
        };
        match spawned {
            Ok(process) => {
                self.tell(Level::Info, &format!("{what} (process {process})"));
                self.memory.working.insert(kind, Working { due: pending.due, started, process });
                self.remember();
            }
            Err(error) => {
                let lines = vec![format!("unable to run '{}': {error}", agent.program.display())];
                self.note(agent, kind, Run { due: pending.due, started, ended: started, code: Some(-1), lines });
            }
        }
    }

    /// Notes that a job has ended. One that was asked to end, because the agent ends, counts as not run.
    pub(crate) fn ended(&mut self, agent: &AgentSettings, kind: Kind, ended: child::Ended, is_ending: bool) -> bool {
        let Some(working) = self.memory.working.remove(&kind) else { return false };
        let child::Ended { code, lines } = ended;
        let run = Run { due: working.due, started: working.started, ended: clock::now(), code, lines };
        if is_ending && !run.is_good() {
            self.tell(Level::Warning, &format!("{kind} was broken off, and is due again"));
            self.remember();
            return false;
        }
        let is_good = run.is_good();
        self.note(agent, kind, run);
        is_good
    }

    fn note(&mut self, agent: &AgentSettings, kind: Kind, run: Run) {
        let duration = run.duration().as_secs_f64();
        let (level, event, text) = match run.code {
            Some(0) => (Level::Info, Event::Success, format!("{kind} completed in {duration:.1} s")),
            Some(code) => (Level::Error, Event::Failure, failed(kind, &format!("failed with exit code {code}"), &run)),
            None => (Level::Error, Event::Failure, failed(kind, "was ended by a signal", &run)),
        };
        self.tell(level, &text);
        self.call(agent, event, Some(kind), run.code, text);
        self.memory.note(kind, run);
        self.observed = None;
        self.memory.looked = None;
        self.remember();
    }

    fn call(&mut self, agent: &AgentSettings, event: Event, job: Option<Kind>, code: Option<i32>, message: String) {
        let notice = Notice {
            event,
            time: clock::now(),
            host: agent.host.clone(),
            stanza: self.name().to_owned(),
            job: job.map(Kind::name),
            code,
            message,
        };
        self.calls.retain(|call| !call.is_finished());
        self.calls.extend(self.settings.hooks.call(&notice, &self.board));
    }

    /// Waits until all that was called has ended, each of which has its timeout.
    pub(crate) fn finish_calls(&mut self) {
        for call in self.calls.drain(..) {
            // One that has panicked has said so.
            let _ended = call.join();
        }
    }

    /// Asks jobs that are at work to end.
    pub(crate) fn terminate(&self) {
        self.memory.working.values().for_each(|working| child::terminate(working.process));
    }

    /// Looks at the repositories if it is time to.
    pub(crate) fn observe(&mut self, agent: &AgentSettings, news: &Sender<News>) {
        let is_due = self.observed.is_none_or(|observed| observed.elapsed() >= agent.look_interval);
        if is_due || self.wants_look {
            self.look(agent, news);
        }
    }

    /// Looks at the repositories if it is time to since the last look of whichever agent.
    pub(crate) fn observe_once(&mut self, agent: &AgentSettings, now: Timestamp, news: &Sender<News>) {
        // The clock may have been set back since.
        let age = self.memory.looked.and_then(|looked| Duration::try_from(now.duration_since(looked)).ok());
        if age.is_none_or(|age| age >= agent.look_interval) || self.wants_look {
            self.look(agent, news);
        }
    }

    /// Looks at the repositories, on a thread of its own.
    fn look(&mut self, agent: &AgentSettings, news: &Sender<News>) {
        if self.is_observing {
            return;
        }
        self.wants_look = false;
        let (program, arguments) = (agent.program.clone(), self.settings.info_command.clone());
        let (stanza, sender) = (self.name().to_owned(), news.clone());
        let ask = move || {
            let repositories = Box::new(observe::ask(&program, &arguments));
            let _unheard = sender.send(News::Observed { stanza, repositories });
        };
        self.observed = Some(Stopwatch::start());
        match thread::Builder::new().name("info".to_owned()).spawn(ask) {
            Ok(_) => self.is_observing = true,
            Err(error) => self.repositories.error = Some(error.to_string()),
        }
    }

    /// Notes what the repositories have.
    pub(crate) fn observed(&mut self, agent: &AgentSettings, repositories: RepositoriesStatus) {
        self.is_observing = false;
        self.memory.looked = repositories.asked;
        for gap in &repositories.wal_gaps {
            if !self.memory.wal_gaps.contains(gap) {
                self.tell(Level::Warning, gap);
                self.call(agent, Event::WalGap, None, None, gap.clone());
            }
        }
        if let Some(info) = &repositories.info {
            self.memory.at_work = observe::last_at_work(info);
            self.memory.in_repositories = observe::newest_backups(info);
            self.memory.wal_gaps.clone_from(&repositories.wal_gaps);
        }
        self.take_over();
        self.remember();
        if repositories.info.is_some() {
            self.repositories = repositories;
        } else {
            // What was known before stays known where it can't be asked.
            self.repositories.asked = repositories.asked;
            self.repositories.error = repositories.error;
        }
    }

    /// Takes on what was passed over, where the cluster is a standby no more.
    fn take_over(&mut self) {
        if self.is_standby || !self.memory.has_passed_over() {
            return;
        }
        for kind in self.memory.take_over() {
            self.tell(Level::Info, &format!("{kind} was passed over last, and no host has done it: it is due again"));
        }
        self.wants_look = false;
    }

    /// Finds where the schedule is not kept, and tells of what is new. Nobody is told that a backup is missing before the
    /// repositories were looked at: another host may have taken it.
    pub(crate) fn judge(&mut self, agent: &AgentSettings, now: Timestamp) {
        let running = self.memory.working.iter().map(|(kind, working)| (*kind, working.started)).collect();
        let mut verdicts = late::verdicts(now, &self.settings.schedules, &self.memory, &running);
        let known = self.memory.late.clone();
        let same = |known: &ToldLate, late: &Late| (known.kind, known.reason.as_str()) == late.key();
        let is_known = |late: &Late| known.iter().any(|known| same(known, late));
        let looked = self.repositories.asked;
        verdicts.retain(|late| match late.is_seen_since() {
            Some(since) if !is_known(late) && looked.is_none_or(|looked| looked < since) => {
                self.wants_look = true;
                false
            }
            _ => true,
        });
        self.late.clear();
        for late in &verdicts {
            let before = known.iter().find(|known| same(known, late));
            let message = late.to_string();
            if before.is_none() {
                self.tell(Level::Warning, &message);
                self.call(agent, Event::Late, Some(late.kind()), None, message.clone());
            }
            self.late.push(LateStatus { late: *late, message, since: before.map_or(now, |before| before.since) });
        }
        for gone in known.iter().filter(|known| !verdicts.iter().any(|late| same(known, late))) {
            self.tell(Level::Info, &format!("the schedule of {} is kept again", gone.kind));
        }
        self.memory.late = self.late.iter().map(LateStatus::told).collect();
        if self.memory.late != known {
            self.remember();
        }
    }

    /// Finds WAL that was dropped here and tells of it, as long as no backup was begun after that.
    pub(crate) fn heed_dropped(&mut self, agent: &AgentSettings) {
        let known = dropped::read(&self.settings.lock_path, &self.settings.stanza);
        self.dropped = still_lacking(known, self.repositories.info.as_deref());
        for found in self.dropped.clone() {
            let told = (found.repository, found.dropped.since);
            if !self.memory.dropped.contains(&told) {
                self.memory.dropped.retain(|(repository, _)| *repository != found.repository);
                self.memory.dropped.push(told);
                let message = found.to_string();
                self.tell(Level::Error, &message);
                self.call(agent, Event::WalGap, None, None, message);
                self.remember();
            }
        }
    }

    /// What is known of the stanza.
    pub(crate) fn status(&self) -> StanzaStatus {
        StanzaStatus {
            name: self.name().to_owned(),
            stopped: self.is_stopped,
            standby: self.is_standby,
            jobs: self.settings.schedules.keys().filter_map(|kind| self.job_status(*kind)).collect(),
            late: self.late.clone(),
            wal: self.wal.as_ref().and_then(WalWatch::read),
            dropped: self.dropped.clone(),
            repositories: self.repositories.clone(),
        }
    }

    fn job_status(&self, kind: Kind) -> Option<JobStatus> {
        let (schedule, job) = (self.settings.schedules.get(&kind)?, self.memory.jobs.get(&kind)?);
        let waiting = self.plan.waiting.iter().chain(self.plan.start.iter().filter(|_| self.is_stopped));
        let state = match (self.memory.working.get(&kind), waiting.into_iter().find(|pending| pending.kind == kind)) {
            (Some(working), _) => self.running(working),
            (None, Some(pending)) => JobState::Waiting { due: pending.due },
            (None, None) => JobState::Idle,
        };
        Some(JobStatus {
            kind,
            schedule: schedule.to_string(),
            time_zone: schedule.zone().iana_name().unwrap_or("local").to_owned(),
            jitter_seconds: schedule.jitter().as_secs_f64(),
            state,
            next: self.plan.next.get(&kind).copied(),
            last: job.last.clone(),
            last_good: job.last_good.clone(),
            failures: job.failures,
            runs_total: job.runs_total,
            failures_total: job.failures_total,
            passed_over: job.passed_over,
        })
    }

    /// How far a job is, which its lock file tells.
    fn running(&self, working: &Working) -> JobState {
        running(working, lock::of_process(&self.settings.lock_path, working.process).as_ref())
    }
}

/// What a job is doing that is at work, and holds a lock perhaps.
pub(crate) fn running(working: &Working, holder: Option<&Holder>) -> JobState {
    let (size, size_complete) = holder.and_then(Holder::progress).unzip();
    let Working { due, started, process } = *working;
    JobState::Running { due, started, process, size, size_complete }
}

fn failed(kind: Kind, how: &str, run: &Run) -> String {
    run.complaint().map_or_else(|| format!("{kind} {how}"), |line| format!("{kind} {how}: {line}"))
}
