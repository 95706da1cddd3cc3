//! `pgark schedule`

use jiff::Timestamp;
use jiff::tz::TimeZone;
use pgark_agent::{JobState, JobStatus, Run, StanzaStatus, preview};
use pgark_config::{Configuration, option};

use crate::commands::agent;
use crate::failure::Result;
use crate::output;
use crate::run::Program;

/// Tells what ran and what is next.
pub(crate) fn run(program: &Program, configuration: &Configuration) -> Result<()> {
    let stanzas = preview(&agent::agent_settings(program, configuration)?);
    if configuration.text(&option::SCHEDULE_OUTPUT) == "json" {
        let text = serde_json::to_string(&stanzas).map_err(std::io::Error::from).map_err(pgark_engine::Error::from)?;
        return output::print(&format!("{text}\n"));
    }
    let zone = TimeZone::system();
    let texts: Vec<_> = stanzas.iter().map(|stanza| render(stanza, &zone)).collect();
    output::print(&texts.join("\n"))
}

fn render(stanza: &StanzaStatus, zone: &TimeZone) -> String {
    let mut lines = vec![format!("stanza: {}", stanza.name)];
    if stanza.stopped {
        lines.push("    stopped: jobs wait until 'pgark start'".to_owned());
    }
    if stanza.standby {
        lines.push("    standby: backups are passed over, and taken where the primary is".to_owned());
    }
    for job in &stanza.jobs {
        lines.extend(lines_of(job, zone));
    }
    lines.extend(stanza.late.iter().map(|late| format!("    late: {}", late.message)));
    lines.extend(stanza.repositories.error.iter().map(|error| format!("    {error}")));
    lines.join("\n") + "\n"
}

fn lines_of(job: &JobStatus, zone: &TimeZone) -> Vec<String> {
    let time = |time: Timestamp| time.to_zoned(zone.clone()).strftime("%Y-%m-%d %H:%M:%S%:::z").to_string();
    let mut lines = vec![format!("    {}: {} ({})", job.kind, job.schedule, job.time_zone)];
    let last = job.last.as_ref().map_or_else(|| "none".to_owned(), |run| outcome(run, &time(run.started)));
    lines.push(format!("        last run: {last}"));
    if let Some(good) = job.last_good.as_ref().filter(|_| job.failures > 0) {
        lines.push(format!("        last good run: {}; failed since: {}", time(good.started), job.failures));
    }
    lines.extend(job.passed_over.map(|due| format!("        last passed over: due at {}", time(due))));
    match &job.state {
        JobState::Idle => {}
        JobState::Waiting { due } => lines.push(format!("        due: since {}", time(*due))),
        JobState::Running { started, process, .. } => {
            lines.push(format!("        running: since {} (process {process})", time(*started)));
        }
    }
    lines.push(format!("        next run: {}", job.next.map_or_else(|| "none".to_owned(), time)));
    lines
}

fn outcome(run: &Run, started: &str) -> String {
    let how = match run.code {
        Some(0) => "ok".to_owned(),
        Some(code) => format!("failed with exit code {code}"),
        None => "ended by a signal".to_owned(),
    };
    format!("{started}, {how}, {:.1} s", run.duration().as_secs_f64())
}
