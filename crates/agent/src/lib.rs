//! The long-running service: keeps the schedule, and says where it is not kept.
//!
//! What to do is decided by [`plan`](mod@plan) and [`late`] from values: schedules, what ran, and the time. [`Agent`]
//! does it: each job is a process of its own, a run of the same program as from cron, so that nothing it does can harm the
//! agent. What is known is kept as a [`Status`] on a [`Board`], and shown by a server: as metrics, as
//! JSON, and as a page.

mod agent;
pub mod api;
mod child;
mod digest;
mod dropped;
mod health;
mod hook;
mod job;
pub mod late;
mod memory;
pub mod metrics;
mod observe;
mod page;
pub mod plan;
mod schedule;
mod serve;
mod settings;
mod stanza;
mod status;
mod systemd;
mod wal;

pub use self::agent::{Agent, preview};
pub use self::digest::{BackupDigest, MissingDigest, RepositoryDigest, WindowDigest};
pub use self::health::{Finding, Grade, Health};
pub use self::hook::{Event, Hook, Hooks, Notice};
pub use self::job::{Job, Kind, Memory, Run};
pub use self::late::Late;
pub use self::schedule::{Schedule, ScheduleError};
pub use self::serve::{ServeSettings, TlsSettings, Token};
pub use self::settings::{AgentSettings, StanzaSettings};
pub use self::status::{
    Board, JobState, JobStatus, LateStatus, Level, Message, RepositoriesStatus, StanzaStatus, Status,
};
pub use self::systemd::Notifier;
pub use self::wal::WaitingWal;
