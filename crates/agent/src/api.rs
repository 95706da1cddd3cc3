//! The status as JSON. `api/openapi.json` describes it.

use std::collections::VecDeque;

use jiff::Timestamp;
use serde::Serialize;

use crate::digest::{RepositoryDigest, digest};
use crate::dropped::DroppedStatus;
use crate::health::{Health, health};
use crate::status::{JobStatus, LateStatus, Message, StanzaStatus, Status};
use crate::wal::WaitingWal;

/// The description.
pub(crate) const OPENAPI: &str = include_str!("api/openapi.json");

/// All that is known.
#[derive(Debug, Serialize)]
pub struct Document {
    program: String,
    host: String,
    process: u32,
    started: Timestamp,
    configured: Timestamp,
    updated: Timestamp,
    now: Timestamp,
    stanzas: Vec<Stanza>,
    messages: VecDeque<Message>,
}

#[derive(Debug, Serialize)]
struct Stanza {
    name: String,
    health: Health,
    stopped: bool,
    standby: bool,
    jobs: Vec<JobStatus>,
    late: Vec<LateStatus>,
    wal: Option<WaitingWal>,
    dropped: Vec<DroppedStatus>,
    looked: Option<Timestamp>,
    error: Option<String>,
    repositories: Vec<RepositoryDigest>,
}

/// The document of a status.
pub fn document(status: Status, now: Timestamp) -> Document {
    let Status { program, host, process, started, configured, updated, stanzas, messages } = status;
    let stanzas = stanzas.into_iter().map(|known| stanza(known, now)).collect();
    Document { program, host, process, started, configured, updated, now, stanzas, messages }
}

fn stanza(stanza: StanzaStatus, now: Timestamp) -> Stanza {
    let digests = stanza.repositories.info.as_deref().map(digest).unwrap_or_default();
    let health = health(&stanza, &digests, now);
    let StanzaStatus { name, stopped, standby, jobs, late, wal, dropped, repositories } = stanza;
    let (looked, error) = (repositories.asked, repositories.error);
    Stanza { name, health, stopped, standby, jobs, late, wal, dropped, looked, error, repositories: digests }
}

#[cfg(test)]
mod tests;
