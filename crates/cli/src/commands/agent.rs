//! `pgark agent`

mod printed;
mod serving;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use jiff::tz::TimeZone;
use pgark_agent::{Agent, AgentSettings, Board, Event, Hook, Hooks, Kind, Schedule, StanzaSettings};
use pgark_config::{Address, Command, Configuration, Source, option};
use pgark_engine::{Error, ErrorKind};
use pgark_system::clock;

use crate::failure::{Failure, Result};
use crate::output;
use crate::run::{PROGRAM, Program};
use crate::settings;

/// The options of the schedule, by kind of job.
pub(super) const SCHEDULES: [(Kind, &option::Definition); 5] = [
    (Kind::Full, &option::SCHEDULE_FULL),
    (Kind::Diff, &option::SCHEDULE_DIFF),
    (Kind::Incr, &option::SCHEDULE_INCR),
    (Kind::Expire, &option::SCHEDULE_EXPIRE),
    (Kind::Verify, &option::SCHEDULE_VERIFY),
];

/// What makes a text of the settings.
type Print = fn(&AgentSettings, &Configuration) -> String;

/// What the agent prints instead of keeping the schedule, where it is asked to.
const PRINTED: [(&option::Definition, Print); 3] = [
    (&option::PRINT_UNIT, printed::unit),
    (&option::PRINT_TIMER, printed::timer),
    (&option::PRINT_CRON, printed::cron),
];

/// Whether the agent is called for what it prints.
pub(crate) fn prints(configuration: &Configuration) -> bool {
    PRINTED.iter().any(|(option, _)| configuration.boolean(*option))
}

/// Keeps the schedule.
pub(crate) fn run(program: &Program, configuration: &Configuration) -> Result<()> {
    let settings = agent_settings(program, configuration)?;
    if prints(configuration) {
        let wanted = PRINTED.iter().filter(|(option, _)| configuration.boolean(*option));
        let texts: Vec<_> = wanted.map(|(_, print)| print(&settings, configuration)).collect();
        return output::print(&texts.join("\n"));
    }
    let board = Board::new(PROGRAM, &settings.host, clock::now());
    if configuration.boolean(&option::ONCE) {
        return Ok(Agent::new(settings, board, "agent --once")?.run_once()?);
    }
    let mut agent = Agent::new(settings, board, "agent")?;
    agent.run(&|| reload(program));
    Ok(())
}

/// Reads the configuration again.
fn reload(program: &Program) -> Result<AgentSettings, Error> {
    let settings = program.load_configuration().and_then(|configuration| agent_settings(program, &configuration));
    settings.map_err(|failure| {
        let error = Error::new(ErrorKind::OptionInvalid, failure.message);
        failure.hints.into_iter().fold(error, Error::hint)
    })
}

/// What the agent of a configuration is to do.
pub(super) fn agent_settings(program: &Program, configuration: &Configuration) -> Result<AgentSettings> {
    let mut found = Vec::new();
    if configuration.optional_text(&option::STANZA).is_some() {
        found.push(stanza_settings(configuration)?);
    } else {
        for stanza in configuration.stanzas() {
            let its_own = program.load_for_stanza(stanza)?;
            warn_of_passed_over(configuration, &its_own);
            found.push(stanza_settings(&its_own).map_err(|failure| failure.of(&format!("stanza '{stanza}'")))?);
        }
    }
    found.retain(|stanza| !stanza.schedules.is_empty());
    if found.is_empty() {
        return Err(Failure::option_required(format!(
            "{} command requires option: schedule-full, or another of schedule-diff, -incr, -expire, -verify",
            configuration.command().name()
        ))
        .hint("set it in [global], or in the section of a stanza"));
    }
    let look_interval = configuration.takes(&option::AGENT_LOOK_INTERVAL);
    Ok(AgentSettings {
        program: std::env::current_exe().map_err(Error::from)?,
        version: PROGRAM.to_owned(),
        host: settings::host(),
        state_directory: state_directory(configuration),
        look_interval: if look_interval {
            configuration.duration(&option::AGENT_LOOK_INTERVAL)
        } else {
            Duration::ZERO
        },
        serve: serving::settings(configuration)?,
        stanzas: found,
    })
}

/// Options that are the agent's, not those of a stanza that it looks after.
const OF_AGENT: [&option::Definition; 5] = [
    &option::AGENT_LISTEN,
    &option::AGENT_TLS_CERT_FILE,
    &option::AGENT_TLS_KEY_FILE,
    &option::AGENT_TOKEN_FILE,
    &option::AGENT_LOOK_INTERVAL,
];

/// Warns of options that hold for the whole agent, where a stanza's section has them and the agent is of all stanzas.
fn warn_of_passed_over(configuration: &Configuration, of_stanza: &Configuration) {
    for option in OF_AGENT.into_iter().filter(|option| configuration.takes(*option)) {
        match of_stanza.source(option) {
            Source::File { section, .. } if of_stanza.source(option) != configuration.source(option) => {
                tracing::warn!(
                    "option '{}' in section [{section}] is passed over: one agent looks after all stanzas\n\
                     HINT: set it in [global], or run the agent with --stanza={section}",
                    Address::from(option)
                );
            }
            _ => {}
        }
    }
}

fn state_directory(configuration: &Configuration) -> PathBuf {
    configuration.path(&option::SPOOL_PATH_OF_AGENT).join("agent")
}

fn stanza_settings(configuration: &Configuration) -> Result<StanzaSettings> {
    let stanza = settings::stanza(configuration)?;
    let schedules = schedules(configuration, stanza.as_str())?;
    let commands = schedules.keys().map(|kind| (*kind, command(configuration, stanza.as_str(), *kind))).collect();
    Ok(StanzaSettings {
        data_directory: data_directory(configuration),
        lock_path: settings::lock_path(configuration),
        commands,
        info_command: info_command(configuration, stanza.as_str()),
        hooks: hooks(configuration),
        schedules,
        stanza,
    })
}

/// The data directory of the cluster, if it is on this host and the command asks.
fn data_directory(configuration: &Configuration) -> Option<PathBuf> {
    configuration.takes(option::PG_PATH.at(1)).then(|| settings::optional_data_directory(configuration)).flatten()
}

fn schedules(configuration: &Configuration, stanza: &str) -> Result<BTreeMap<Kind, Schedule>> {
    let zone = time_zone(configuration)?;
    let jitter = configuration.duration(&option::SCHEDULE_JITTER);
    let now = clock::now();
    let mut schedules = BTreeMap::new();
    for (kind, option) in SCHEDULES {
        let Some(text) = configuration.optional_text(option) else { continue };
        let seed = format!("{stanza} {kind}");
        let schedule = Schedule::parse(text, zone.clone(), jitter, &seed, now).map_err(|error| {
            Failure::option_value(format!("option 'schedule-{kind}': {error}")).hint(
                "five fields: minute, hour, day of month, month, day of week, as '30 2 * * 0' for Sundays at 2:30",
            )
        })?;
        schedules.insert(kind, schedule);
    }
    Ok(schedules)
}

fn time_zone(configuration: &Configuration) -> Result<TimeZone> {
    let Some(name) = configuration.optional_text(&option::SCHEDULE_TIME_ZONE) else { return Ok(TimeZone::system()) };
    TimeZone::get(name).map_err(|_| {
        Failure::option_value(format!("option 'schedule-time-zone': '{name}' is not a time zone"))
            .hint("it is a name of the time zone database, as Europe/Berlin or UTC")
    })
}

/// The arguments of a job: what the agent's command line has given, as far as the command takes it, and what makes it this
/// job.
fn command(configuration: &Configuration, stanza: &str, kind: Kind) -> Vec<OsString> {
    let (command, own): (_, &[&str]) = match kind {
        Kind::Full => (Command::Backup, &["--type=full"]),
        Kind::Diff => (Command::Backup, &["--type=diff"]),
        Kind::Incr => (Command::Backup, &["--type=incr"]),
        Kind::Expire => (Command::Expire, &[]),
        Kind::Verify => (Command::Verify, &[]),
    };
    let mut arguments = arguments_of(configuration, command, stanza);
    arguments.extend(own.iter().map(|argument| (*argument).to_owned()));
    if kind != Kind::Verify && configuration.takes(&option::LOCK_WAIT_OF_JOBS) {
        arguments.retain(|argument| !argument.starts_with("--lock-wait="));
        arguments.push(format!("--lock-wait={}ms", configuration.duration(&option::LOCK_WAIT_OF_JOBS).as_millis()));
    }
    arguments.push(command.name().to_owned());
    arguments.into_iter().map(OsString::from).collect()
}

fn info_command(configuration: &Configuration, stanza: &str) -> Vec<OsString> {
    let mut arguments = arguments_of(configuration, Command::Info, stanza);
    arguments.retain(|argument| !argument.starts_with("--log-level"));
    arguments.extend(["--log-level-console=off", "--output=json", "info"].map(ToOwned::to_owned));
    arguments.into_iter().map(OsString::from).collect()
}

fn arguments_of(configuration: &Configuration, command: Command, stanza: &str) -> Vec<String> {
    let mut arguments = configuration.command_line_options(command);
    arguments.retain(|argument| !argument.starts_with("--stanza="));
    arguments.insert(0, format!("--stanza={stanza}"));
    arguments
}

fn hooks(configuration: &Configuration) -> Hooks {
    let of = [
        (Event::Success, &option::HOOK_SUCCESS),
        (Event::Failure, &option::HOOK_FAILURE),
        (Event::Late, &option::HOOK_LATE),
        (Event::WalGap, &option::HOOK_WAL_GAP),
    ];
    if !configuration.takes(&option::HOOK_TIMEOUT) {
        return Hooks { hooks: Vec::new(), timeout: Duration::ZERO };
    }
    let set = of
        .iter()
        .filter_map(|(event, option)| Some((*event, Hook::parse(configuration.optional_secret(*option)?.expose()))));
    Hooks { hooks: set.collect(), timeout: configuration.duration(&option::HOOK_TIMEOUT) }
}
