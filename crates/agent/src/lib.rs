//! The long-running service: keeps the schedule, and says where it is not kept.
//!
//! What to do is decided by [`plan`](mod@plan) and [`late`] from values: schedules, what ran, and the time. [`Agent`]
//! does it: each job is a process of its own, a run of the same program as from cron, so that nothing it does can harm the
//! agent. What is known is kept as a [`Status`] on a [`Board`], for whoever shows it.

mod agent;
mod child;
mod hook;
mod job;
pub mod late;
mod memory;
mod observe;
pub mod plan;
mod schedule;
mod settings;
mod stanza;
mod status;
mod systemd;

pub use self::agent::{Agent, preview};
pub use self::hook::{Event, Hook, Hooks, Notice};
pub use self::job::{Job, Kind, Memory, Run};
pub use self::late::Late;
pub use self::schedule::{Schedule, ScheduleError};
pub use self::settings::{AgentSettings, StanzaSettings};
pub use self::status::{
    Board, JobState, JobStatus, LateStatus, Level, Message, RepositoriesStatus, StanzaStatus, Status,
};
pub use self::systemd::Notifier;
