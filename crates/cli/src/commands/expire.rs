//! `pgark expire`

use jiff::SignedDuration;
use pgark_config::{Command, Configuration, option};
use pgark_engine::expire::retention::{ArchiveRetention, FullRetention, Keep, Retention};
use pgark_engine::expire::{self, ExpireRepository, ExpireSettings, Outcome, Request};
use pgark_engine::progress::Board;
use pgark_engine::{Error, ErrorKind};
use pgark_repository::LabelKind;

use crate::commands::HeldLock;
use crate::exit;
use crate::failure::{Failure, Result};
use crate::progress::while_shown;
use crate::run::PROGRAM;
use crate::settings;

/// Expires in every repository, or in the one that `--repo` names.
pub(crate) fn run(configuration: &Configuration) -> Result<()> {
    let archive_before = configuration
        .optional_text(&option::ARCHIVE_EXPIRE_BEFORE)
        .map(|text| {
            text.parse().map_err(|_| {
                Failure::option_value(format!(
                    "'{text}' is not a valid WAL segment name for option '--archive-expire-before'"
                ))
            })
        })
        .transpose()?;
    let dry_run = configuration.boolean(&option::DRY_RUN);
    let request = request(configuration)?;
    while_shown(configuration, |board| {
        let settings = ExpireSettings { request, archive_before, dry_run, ..settings_of(configuration, board)? };
        expire_all(configuration, &settings, None)
    })
}

/// Expires by the rules after a backup, which has its repository locked still.
pub(crate) fn run_after_backup(configuration: &Configuration, held: &HeldLock) -> Result<()> {
    held.lock.pass_to("expire");
    while_shown(configuration, |board| {
        expire_all(configuration, &settings_of(configuration, board)?, Some(held.repository))
    })
}

fn settings_of(configuration: &Configuration, board: &Board) -> Result<ExpireSettings> {
    Ok(ExpireSettings {
        stanza: settings::stanza(configuration)?,
        request: Request::Rules,
        archive_before: None,
        dry_run: false,
        locks: settings::locks(configuration),
        board: board.clone(),
        host: settings::host(),
        program: PROGRAM.to_owned(),
    })
}

fn request(configuration: &Configuration) -> Result<Request> {
    let set = configuration.optional_text(&option::EXPIRE_SET);
    match (set, configuration.boolean(&option::OLDEST)) {
        (None, false) => Ok(Request::Rules),
        (None, true) => Ok(Request::Oldest),
        (Some(_), true) => {
            Err(Error::new(ErrorKind::OptionInvalid, "--oldest and --set cannot be used together").into())
        }
        (Some(set), false) => match set.parse() {
            Ok(label) => Ok(Request::Set(label)),
            Err(_) => Err(Failure::option_value(format!("'{set}' is not a valid backup label format"))),
        },
    }
}

/// Expires in each repository. One that fails does not keep the others from it.
fn expire_all(configuration: &Configuration, settings: &ExpireSettings, locked: Option<u32>) -> Result<()> {
    let (mut errors, mut found) = (0, false);
    for repository in settings::repositories(configuration)? {
        let key = repository.key;
        let retention = retention(configuration, key);
        let repository = ExpireRepository { settings: repository, retention, is_locked: locked == Some(key) };
        match expire::run(settings, &repository) {
            Ok(outcome) => found |= outcome == Outcome::Done,
            // Whoever is at work there expires when it is done.
            Err(error) if locked.is_some() && error.kind() == ErrorKind::LockAcquire => {
                tracing::warn!("repo{key}: nothing is expired: {}", error.full_message());
            }
            Err(error) => {
                pgark_system::termination::check().map_err(Error::from)?;
                tracing::error!("{}", Failure::from(error).of(&format!("repo{key}")).log_message());
                errors += 1;
            }
        }
    }
    match &settings.request {
        _ if errors > 0 => {
            let name = Command::Expire.name();
            let message = format!("{name} command encountered {errors} error(s), check the log file for details");
            Err(Failure { code: exit::COMMAND, message, hints: Vec::new() })
        }
        Request::Set(label) if !found => {
            let error = Error::new(ErrorKind::BackupSetInvalid, format!("backup {label} does not exist"));
            Err(error.hint("run the info command and confirm the backup is listed").into())
        }
        _ => Ok(()),
    }
}

/// What a repository is to keep.
fn retention(configuration: &Configuration, key: u32) -> Retention {
    let count = |option: &'static option::Definition| {
        configuration.optional_integer(option.at(key)).and_then(|count| u32::try_from(count).ok())
    };
    let full_type = configuration.text(option::REPO_RETENTION_FULL_TYPE.at(key));
    let full = |count| if full_type == "time" { FullRetention::Days(count) } else { FullRetention::Count(count) };
    let retention = Retention {
        full: count(&option::REPO_RETENTION_FULL).map(full),
        diff: count(&option::REPO_RETENTION_DIFF),
        archive: ArchiveRetention {
            count: count(&option::REPO_RETENTION_ARCHIVE),
            kind: match configuration.text(option::REPO_RETENTION_ARCHIVE_TYPE.at(key)) {
                "diff" => LabelKind::Diff,
                "incr" => LabelKind::Incr,
                _ => LabelKind::Full,
            },
        },
        window: configuration
            .optional_duration(option::REPO_RETENTION_WINDOW.at(key))
            .and_then(|window| SignedDuration::try_from(window).ok()),
        keep: Keep {
            daily: count(&option::REPO_KEEP_DAILY).unwrap_or_default(),
            weekly: count(&option::REPO_KEEP_WEEKLY).unwrap_or_default(),
            monthly: count(&option::REPO_KEEP_MONTHLY).unwrap_or_default(),
            yearly: count(&option::REPO_KEEP_YEARLY).unwrap_or_default(),
        },
    };
    warn_of_gaps(&retention, key, full_type);
    warn_of_history(configuration, key);
    retention
}

/// Warns where something is to be kept of backups that go: nothing is.
fn warn_of_history(configuration: &Configuration, key: u32) {
    let days = configuration.optional_integer(option::REPO_RETENTION_HISTORY.at(key));
    if days.is_some_and(|days| days > 0) {
        tracing::warn!(
            "option 'repo{key}-retention-history' is set, but no history is kept of backups that are removed\n\
             HINT: set it to 0, or take it out of the configuration, where pgBackRest does not read it too."
        );
    }
}

/// Warns where nothing says what may go.
fn warn_of_gaps(retention: &Retention, key: u32, full_type: &str) {
    let full = format!("repo{key}-retention-full");
    let archive = format!("repo{key}-retention-archive");
    if retention.full.is_none() && !retention.has_own_rules() {
        tracing::warn!(
            "option '{full}' is not set for '{full}-type={full_type}', the repository may run out of space\n\
             HINT: to retain full backups indefinitely (without warning), set option '{full}' to the maximum."
        );
    }
    if retention.archive.count.is_some() || retention.has_own_rules() {
        return;
    }
    let off = "WAL segments will not be expired: option";
    match retention.archive.kind {
        LabelKind::Diff if retention.diff.is_none() => tracing::warn!(
            "{off} '{archive}-type=diff' but neither option '{archive}' nor option 'repo{key}-retention-diff' is set"
        ),
        LabelKind::Incr => tracing::warn!("{off} '{archive}-type=incr' but option '{archive}' is not set"),
        _ => {}
    }
}
