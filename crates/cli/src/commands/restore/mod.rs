//! `pgark restore`

mod command;
mod time;

use std::collections::BTreeSet;

use pgark_config::{Address, Configuration, Source, option};
use pgark_engine::progress::Board;
use pgark_engine::restore::{self, DatabaseChoice, Relocation, RestoreSettings, RestoreTarget, SidecarChoice};
use pgark_engine::{Error, ErrorKind};
use pgark_postgres::recovery::{TargetAction, TargetTimeline};
use pgark_repository::Label;

use self::command::restore_command;
use self::time::TargetTime;
use crate::failure::{Failure, Result};
use crate::progress::while_shown;
use crate::settings;
use pgark_engine::size::human_size;

/// The longest name of a restore point in bytes: `MAXFNAMELEN` less one, PostgreSQL `src/include/access/xlog_internal.h`.
const MAXIMUM_NAME_BYTES: usize = 63;

/// Restores a cluster.
pub(crate) fn run(configuration: &Configuration) -> Result<()> {
    let report =
        while_shown(configuration, |board| Ok::<_, Failure>(restore::run(restore_settings(configuration, board)?)?))?;
    let (size, fetched) = (human_size(report.size), human_size(report.fetched));
    tracing::info!("restore size = {size}, file total = {}, fetched = {fetched}", report.files);
    Ok(())
}

fn restore_settings(configuration: &Configuration, board: &Board) -> Result<RestoreSettings> {
    Ok(RestoreSettings {
        stanza: settings::stanza(configuration)?,
        data_directory: settings::data_directory(configuration),
        repositories: settings::repositories(configuration)?,
        set: set(configuration.text(&option::RESTORE_SET))?,
        target: target(configuration)?,
        exclusive: configuration.boolean(&option::TARGET_EXCLUSIVE),
        timeline: timeline(configuration)?,
        action: action(configuration),
        recovery_options: configuration.map(&option::RECOVERY_OPTION).to_vec(),
        archive_off: configuration.text(&option::ARCHIVE_MODE) == "off",
        restore_command: restore_command(configuration)?,
        relocation: relocation(configuration),
        databases: DatabaseChoice {
            include: configuration.list(&option::DB_INCLUDE).to_vec(),
            exclude: configuration.list(&option::DB_EXCLUDE).to_vec(),
        },
        sidecars: sidecar_choice(configuration)?,
        sidecar_places: settings::sidecars(configuration),
        sidecars_replaced: sidecars_replaced(configuration),
        delta: configuration.boolean(&option::DELTA),
        force: configuration.boolean(&option::RESTORE_FORCE),
        workers: settings::workers(configuration),
        pacer: settings::disk_pacer(configuration),
        locks: settings::locks(configuration),
        board: board.clone(),
        host: settings::host(),
    })
}

/// The backup set that is named; none if the target chooses it.
fn set(text: &str) -> Result<Option<Label>> {
    if text == "latest" {
        return Ok(None);
    }
    let label = text.parse().map_err(|_| {
        Error::new(ErrorKind::BackupSetInvalid, format!("backup set {text} is not valid"))
            .hint("the info command shows the backup sets there are")
    })?;
    Ok(Some(label))
}

fn target(configuration: &Configuration) -> Result<RestoreTarget> {
    let kind = configuration.text(&option::RESTORE_TYPE);
    match kind {
        "immediate" => return Ok(RestoreTarget::Immediate),
        "none" => return Ok(RestoreTarget::None),
        "preserve" => return Ok(RestoreTarget::Preserve),
        "default" if !configuration.is_set(&option::RESTORE_TYPE) => return Ok(RestoreTarget::Unspecified),
        "standby" => return Ok(RestoreTarget::Standby),
        _ => {}
    }
    // The configuration makes sure that it is there where it is needed, and only there.
    let Some(text) = configuration.optional_text(&option::TARGET) else { return Ok(RestoreTarget::Default) };
    target_of(kind, text)
}

fn target_of(kind: &str, text: &str) -> Result<RestoreTarget> {
    let invalid =
        |reason: String| Failure::option_value(format!("'{text}' is not valid for 'target' option: {reason}"));
    match kind {
        "time" => {
            let TargetTime { time, text } = text.parse().map_err(|error: time::InvalidTime| {
                invalid(error.to_string()).hint("write it as 2026-11-22 14:32:07+00")
            })?;
            Ok(RestoreTarget::Time { time, text })
        }
        "xid" => match text.parse() {
            // PostgreSQL's own first transaction ids are 1 and 2; no other transaction is replayed under them.
            Ok(id @ 1..) => Ok(RestoreTarget::Transaction(id)),
            _ => Err(invalid("a transaction id is a number from 1 to 4294967295".to_owned())),
        },
        "lsn" => {
            let lsn = text.parse().map_err(|error: pgark_postgres::lsn::InvalidLsn| invalid(error.to_string()))?;
            Ok(RestoreTarget::Lsn(lsn))
        }
        _ if text.len() > MAXIMUM_NAME_BYTES => {
            Err(invalid(format!("the name of a restore point has at most {MAXIMUM_NAME_BYTES} bytes")))
        }
        _ => Ok(RestoreTarget::Name(text.to_owned())),
    }
}

fn relocation(configuration: &Configuration) -> Relocation {
    let paths = |pairs: &[(String, String)]| pairs.iter().map(|(key, path)| (key.clone(), path.into())).collect();
    Relocation {
        link_all: configuration.boolean(&option::LINK_ALL),
        links: paths(configuration.map(&option::LINK_MAP)),
        tablespaces: paths(configuration.map(&option::TABLESPACE_MAP)),
        all_tablespaces: configuration.optional_text(&option::TABLESPACE_MAP_ALL).map(Into::into),
    }
}

/// Which sidecars are restored: what the command line says of one goes before what a file says of all.
fn sidecar_choice(configuration: &Configuration) -> Result<SidecarChoice> {
    let are_wanted = configuration.boolean(&option::SIDECAR);
    match configuration.optional_text(&option::SIDECAR_ONLY) {
        Some(_) if !are_wanted && *configuration.source(&option::SIDECAR) == Source::CommandLine => {
            Err(Error::new(ErrorKind::OptionInvalid, "option 'sidecar-only' not valid with option 'no-sidecar'")
                .hint("--sidecar-only restores one sidecar, --no-sidecar restores the cluster without any")
                .into())
        }
        Some(name) => Ok(SidecarChoice::Only(name.to_owned())),
        None if are_wanted => Ok(SidecarChoice::All),
        None => Ok(SidecarChoice::None),
    }
}

/// The sidecars that may be restored over what is there. Where the command line says where the cluster goes, it has to say so of
/// them, too: it may be a copy beside the cluster that uses them.
fn sidecars_replaced(configuration: &Configuration) -> Option<BTreeSet<String>> {
    let is_given = |option: Address| *configuration.source(option) == Source::CommandLine;
    let is_copy = is_given(option::PG_PATH.at(1)) && configuration.optional_text(&option::SIDECAR_ONLY).is_none();
    is_copy.then(|| {
        let names = configuration.sidecar_names().iter();
        names.filter(|name| is_given(option::SIDECAR_PATH.of_sidecar(**name))).map(ToString::to_string).collect()
    })
}

fn timeline(configuration: &Configuration) -> Result<Option<TargetTimeline>> {
    let parse = |text: &str| {
        text.parse().map_err(|error: pgark_postgres::recovery::InvalidTargetTimeline| {
            Failure::option_value(format!("'{text}' is not valid for 'target-timeline' option: {error}"))
        })
    };
    configuration.optional_text(&option::TARGET_TIMELINE).map(parse).transpose()
}

fn action(configuration: &Configuration) -> TargetAction {
    match configuration.optional_text(&option::TARGET_ACTION) {
        Some("promote") => TargetAction::Promote,
        Some("shutdown") => TargetAction::Shutdown,
        _ => TargetAction::Pause,
    }
}
