//! The agent itself: one thread that decides, and beside it one for each job that is at work.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use jiff::SignedDuration;
use pgark_engine::{Error, ErrorKind, lock};
use pgark_system::clock::{self, Stopwatch};
use pgark_system::termination;

use crate::job::Kind;
use crate::memory::MemoryFile;
use crate::serve::Server;
use crate::settings::{AgentSettings, StanzaSettings};
use crate::stanza::{News, Stanza};
use crate::status::{Board, JobState, JobStatus, LateStatus, Level, RepositoriesStatus, StanzaStatus};
use crate::systemd::Notifier;
use crate::{late, plan, stanza};

/// How often the agent looks around, if nothing happens before.
const TICK: Duration = Duration::from_secs(1);

/// How long jobs may take to end when they are asked to.
const PATIENCE: Duration = Duration::from_secs(15);

/// An agent.
#[derive(Debug)]
pub struct Agent {
    settings: AgentSettings,
    stanzas: Vec<Stanza>,
    board: Board,
    sender: Sender<News>,
    news: Receiver<News>,
    notifier: Notifier,
    server: Option<Server>,
}

impl Agent {
    /// An agent that looks after the stanzas of its settings. `command` is what its locks say of it.
    ///
    /// # Errors
    /// [`ErrorKind::LockAcquire`] where another agent on this host looks after one of them; or where it can't be written
    /// down what ran.
    pub fn new(settings: AgentSettings, board: Board, command: &str) -> Result<Self, Error> {
        let wanted = settings.stanzas.clone();
        let stanzas = wanted.into_iter().map(|stanza| Stanza::new(&settings, stanza, &board, command));
        let stanzas = stanzas.collect::<Result<_, _>>()?;
        let (sender, news) = channel();
        Ok(Self { settings, stanzas, board, sender, news, notifier: Notifier::from_environment(), server: None })
    }

    /// Keeps the schedule until the process is asked to end; then has the jobs that are at work end, too. When it is asked
    /// to, it goes on with the settings that `reload` gives.
    pub fn run(&mut self, reload: &dyn Fn() -> Result<AgentSettings, Error>) {
        self.notifier.ready(&self.summary());
        self.serve();
        self.tell_begin();
        let (mut looked, mut since_look) = (clock::now(), Stopwatch::start());
        let tick = self.notifier.watchdog_interval().map_or(TICK, |interval| TICK.min(interval / 3));
        while termination::requested().is_none() {
            let now = clock::now();
            let stopwatch = SignedDuration::try_from(since_look.elapsed()).unwrap_or_default();
            if let Some(jump) = plan::clock_jump(now.duration_since(looked), stopwatch) {
                let text = format!("the clock was set by {jump:#}: what came due meanwhile is caught up once");
                self.board.tell(now, Level::Warning, None, &text);
                self.stanzas.iter_mut().for_each(|stanza| stanza.clock_was_set(now));
            }
            (looked, since_look) = (now, Stopwatch::start());
            if termination::take_reload_request() {
                self.reload(reload);
            }
            for stanza in &mut self.stanzas {
                stanza.advance(&self.settings, now, &self.sender, |_| true);
                stanza.observe(&self.settings, &self.sender);
                stanza.judge(&self.settings, now);
                stanza.heed_dropped(&self.settings);
            }
            self.publish();
            self.notifier.alive();
            self.wait(tick, false);
        }
        self.end();
    }

    /// Runs what is due now, each kind once, and ends.
    ///
    /// # Errors
    /// [`ErrorKind::Command`] where a job has failed; [`ErrorKind::Terminated`]
    pub fn run_once(&mut self) -> Result<(), Error> {
        let mut tried = vec![BTreeSet::new(); self.stanzas.len()];
        loop {
            let now = clock::now();
            for (stanza, tried) in self.stanzas.iter_mut().zip(&mut tried) {
                let begun = stanza.advance(&self.settings, now, &self.sender, |kind| !tried.contains(&kind));
                tried.extend(begun);
                stanza.judge(&self.settings, now);
                stanza.heed_dropped(&self.settings);
                stanza.observe_once(&self.settings, now, &self.sender);
            }
            if !self.stanzas.iter().any(|stanza| stanza.is_working() || stanza.is_observing()) {
                break;
            }
            self.publish();
            self.wait(TICK, false);
            if termination::requested().is_some() {
                self.end();
                termination::check()?;
            }
        }
        self.publish();
        self.stanzas.iter_mut().for_each(Stanza::finish_calls);
        self.outcome(&tried)
    }

    fn outcome(&self, tried: &[BTreeSet<Kind>]) -> Result<(), Error> {
        let mut failed = Vec::new();
        for (stanza, tried) in self.stanzas.iter().zip(tried) {
            let status = stanza.status();
            let jobs = status.jobs.iter().filter(|job| tried.contains(&job.kind) && job.failures > 0);
            failed.extend(jobs.map(|job| format!("{} of stanza '{}'", job.kind, status.name)));
        }
        let count: usize = tried.iter().map(BTreeSet::len).sum();
        match (&failed[..], count) {
            ([], 0) => {
                let next = self.stanzas.iter().filter_map(Stanza::wake).min();
                let next = next.map(|next| format!(": the next job is due at {next}")).unwrap_or_default();
                self.board.tell(clock::now(), Level::Info, None, &format!("nothing is due{next}"));
                Ok(())
            }
            ([], _) => Ok(()),
            (failed, _) => {
                let message = format!("{} of {count} jobs failed: {}", failed.len(), failed.join(", "));
                Err(Error::new(ErrorKind::Command, message).hint("the messages above, and the log of each, tell why"))
            }
        }
    }

    /// Shows what is known, from now on. Where that can't be done, the schedule is kept all the same.
    fn serve(&mut self) {
        // The one before gives its address free.
        self.server = None;
        let Some(settings) = &self.settings.serve else { return };
        match Server::start(settings, self.board.clone()) {
            Ok(server) => {
                let scheme = if settings.tls.is_some() { "https" } else { "http" };
                let text = format!("listen on {scheme}://{}/", server.address());
                self.board.tell(clock::now(), Level::Info, None, &text);
                self.server = Some(server);
            }
            Err(error) => self.board.tell(clock::now(), Level::Error, None, &full(&error)),
        }
    }

    /// The status, for whoever shows it.
    pub fn board(&self) -> &Board {
        &self.board
    }

    fn tell_begin(&self) {
        for stanza in &self.stanzas {
            let jobs: Vec<_> =
                stanza.settings.schedules.iter().map(|(kind, schedule)| format!("{kind} at '{schedule}'")).collect();
            let text = format!("look after the schedule: {}", jobs.join(", "));
            self.board.tell(clock::now(), Level::Info, Some(stanza.settings.stanza.as_str()), &text);
        }
    }

    fn summary(&self) -> String {
        let jobs: usize = self.stanzas.iter().map(|stanza| stanza.settings.schedules.len()).sum();
        format!("{} stanza(s), {jobs} job(s) in the schedule", self.stanzas.len())
    }

    fn publish(&self) {
        let stanzas: Vec<_> = self.stanzas.iter().map(Stanza::status).collect();
        let now = clock::now();
        self.board.change(|status| {
            status.stanzas = stanzas;
            status.updated = now;
        });
    }

    /// Waits for news for so long at most, and takes them in.
    fn wait(&mut self, timeout: Duration, is_ending: bool) {
        let Ok(first) = self.news.recv_timeout(timeout) else { return };
        let rest: Vec<_> = self.news.try_iter().collect();
        for news in std::iter::once(first).chain(rest) {
            let (News::Ended { stanza: name, .. } | News::Observed { stanza: name, .. }) = &news;
            let found = self.stanzas.iter_mut().find(|stanza| stanza.settings.stanza.as_str() == name);
            let Some(stanza) = found else { continue };
            match news {
                News::Ended { kind, ended, .. } => {
                    let is_ending = is_ending || termination::requested().is_some();
                    stanza.ended(&self.settings, kind, ended, is_ending);
                }
                News::Observed { repositories, .. } => stanza.observed(&self.settings, *repositories),
            }
        }
    }

    fn reload(&mut self, reload: &dyn Fn() -> Result<AgentSettings, Error>) {
        self.notifier.reloading();
        match reload() {
            Ok(settings) => self.configure(settings),
            Err(error) => {
                let text = format!("unable to read the configuration again, it stays as it was: {}", full(&error));
                self.board.tell(clock::now(), Level::Error, None, &text);
            }
        }
        self.notifier.ready(&self.summary());
    }

    fn configure(&mut self, settings: AgentSettings) {
        // An upgrade may have replaced the program, which the system says is deleted then. Where it was, the new one is.
        let settings = AgentSettings { program: self.settings.program.clone(), ..settings };
        let mut known = std::mem::take(&mut self.stanzas);
        for wanted in settings.stanzas.clone() {
            let place = known.iter().position(|stanza| stanza.settings.stanza == wanted.stanza);
            let configured = match place.map(|place| known.swap_remove(place)) {
                Some(mut stanza) => {
                    stanza.configure(wanted);
                    Ok(stanza)
                }
                None => Stanza::new(&settings, wanted, &self.board, "agent"),
            };
            match configured {
                Ok(stanza) => self.stanzas.push(stanza),
                Err(error) => self.board.tell(clock::now(), Level::Error, None, &full(&error)),
            }
        }
        let is_shown_as_before = self.settings.serve == settings.serve && self.server.is_some();
        self.settings = settings;
        if !is_shown_as_before {
            self.serve();
        }
        for gone in known {
            gone.terminate();
            let text = "is not in the schedule any more";
            self.board.tell(clock::now(), Level::Info, Some(gone.settings.stanza.as_str()), text);
        }
        self.board.tell(clock::now(), Level::Info, None, "the configuration was read again");
        self.board.change(|status| status.configured = clock::now());
        self.tell_begin();
    }

    fn end(&mut self) {
        self.notifier.stopping();
        self.stanzas.iter().for_each(Stanza::terminate);
        let stopwatch = Stopwatch::start();
        while self.stanzas.iter().any(Stanza::is_working) && stopwatch.elapsed() < PATIENCE {
            self.wait(TICK, true);
            self.notifier.alive();
        }
        self.publish();
    }
}

fn full(error: &Error) -> String {
    let lines: Vec<_> = std::iter::once(error.full_message()).chain(error.hints().iter().cloned()).collect();
    lines.join("\nHINT: ")
}

/// What an agent with these settings would know of what ran and what is next, without being one.
pub fn preview(settings: &AgentSettings) -> Vec<StanzaStatus> {
    let now = clock::now();
    let of = |stanza: &StanzaSettings| {
        let (mut memory, problem) = MemoryFile::new(&settings.state_directory, &stanza.stanza).read();
        memory.adopt(stanza.schedules.keys().copied(), now);
        // A job whose agent was killed may have ended since.
        let holders: BTreeMap<_, _> = memory
            .working
            .iter()
            .filter_map(|(kind, working)| Some((*kind, lock::of_process(&stanza.lock_path, working.process)?)))
            .collect();
        let running = |kind: &Kind| Some(stanza::running(memory.working.get(kind)?, Some(holders.get(kind)?)));
        let plan = plan::plan(now, &stanza.schedules, &memory, &holders.keys().copied().collect());
        let since = holders.keys().filter_map(|kind| Some((*kind, memory.working.get(kind)?.started))).collect();
        let late = late::verdicts(now, &stanza.schedules, &memory, &since);
        let late = late.into_iter().map(|late| LateStatus { late, message: late.to_string(), since: now });
        let jobs = stanza.schedules.iter().filter_map(|(kind, schedule)| {
            let job = memory.jobs.get(kind)?;
            let pending = plan.start.iter().chain(&plan.waiting).find(|pending| pending.kind == *kind);
            Some(JobStatus {
                kind: *kind,
                schedule: schedule.to_string(),
                time_zone: schedule.zone().iana_name().unwrap_or("local").to_owned(),
                jitter_seconds: schedule.jitter().as_secs_f64(),
                state: running(kind).unwrap_or_else(|| {
                    pending.map_or(JobState::Idle, |pending| JobState::Waiting { due: pending.due })
                }),
                next: plan.next.get(kind).copied(),
                last: job.last.clone(),
                last_good: job.last_good.clone(),
                failures: job.failures,
                runs_total: job.runs_total,
                failures_total: job.failures_total,
                passed_over: job.passed_over,
            })
        });
        StanzaStatus {
            name: stanza.stanza.to_string(),
            stopped: stanza.stopped().is_some(),
            standby: stanza.is_standby(),
            jobs: jobs.collect(),
            late: late.collect(),
            wal: None,
            dropped: Vec::new(),
            repositories: RepositoriesStatus { error: problem, ..RepositoriesStatus::default() },
        }
    };
    settings.stanzas.iter().map(of).collect()
}
