//! `pgark verify`

mod json;
mod text;

use pgark_config::{Configuration, option};
use pgark_engine::progress::Board;
use pgark_engine::verify::{self, BackupStatus, Finding, FindingKind, VerifyReport, VerifySettings};
use pgark_engine::{Error, ErrorKind};
use pgark_repository::Label;

use crate::exit::{self, Code};
use crate::failure::{Failure, Result};
use crate::output;
use crate::progress::while_shown;
use crate::run::PROGRAM;
use crate::settings;

/// Verifies a stanza; gives the exit code where the report has said what there is to say.
pub(crate) fn run(configuration: &Configuration) -> Result<u8> {
    let report =
        while_shown(configuration, |board| Ok::<_, Failure>(verify::run(&verify_settings(configuration, board)?)?))?;
    let is_verbose = configuration.boolean(&option::VERBOSE);
    let shown = match configuration.text(&option::VERIFY_OUTPUT) {
        "json" => Some(json::render(&report)?),
        "text" => Some(text::render(&report, is_verbose)),
        _ => None,
    };
    if let Some(shown) = shown {
        output::print(&shown)?;
        tell(&report, |message| tracing::info!("{message}"));
        return Ok(code(&report));
    }
    tell(&report, |message| tracing::warn!("{message}"));
    outcome(report)
}

fn verify_settings(configuration: &Configuration, board: &Board) -> Result<VerifySettings> {
    let settings = VerifySettings {
        stanza: settings::stanza(configuration)?,
        repositories: settings::repositories(configuration)?,
        set: configuration.optional_text(&option::VERIFY_SET).map(set).transpose()?,
        quick: configuration.boolean(&option::QUICK),
        max_duration: configuration.optional_duration(&option::MAX_DURATION),
        board: board.clone(),
        lock_path: settings::lock_path(configuration),
        workers: settings::workers(configuration),
        program: PROGRAM,
    };
    if settings.quick && settings.max_duration.is_some() {
        return Err(Failure {
            code: exit::OPTION_INVALID,
            message: "option 'max-duration' cannot be used with option 'quick'".to_owned(),
            hints: Vec::new(),
        });
    }
    Ok(settings)
}

fn set(text: &str) -> Result<Label> {
    let label = text.parse().map_err(|_| {
        Error::new(ErrorKind::BackupSetInvalid, format!("backup set {text} is not valid"))
            .hint("the info command shows the backup sets there are")
    })?;
    Ok(label)
}

/// Logs everything that is wrong.
fn tell(report: &VerifyReport, log: impl Fn(String)) {
    for (key, found) in &report.repositories {
        match found {
            Ok(found) => {
                for finding in &found.findings {
                    log(format!("repo{key}: {}\nHINT: {}", line(finding), finding.hint));
                }
            }
            Err(error) => log(format!("repo{key}: unable to verify: {}", error.full_message())),
        }
    }
}

/// The exit code: what keeps a repository from being verified weighs more than what is wrong with another.
fn code(report: &VerifyReport) -> u8 {
    let failed = report.repositories.iter().find_map(|(_, found)| found.as_ref().err());
    match failed {
        Some(error) => Code::from(error.kind()).number,
        None if report.findings() > 0 => exit::FINDINGS,
        None => exit::SUCCESS,
    }
}

fn outcome(report: VerifyReport) -> Result<u8> {
    let (count, stanza) = (report.findings(), report.stanza.clone());
    if let Some(error) = report.repositories.into_iter().find_map(|(_, found)| found.err()) {
        return Err(error.into());
    }
    if count == 0 {
        return Ok(exit::SUCCESS);
    }
    let message = format!("verify has found {count} things wrong with stanza '{stanza}'");
    Err(Error::new(ErrorKind::Checksum, message).hint("--output=text shows them with the backups they concern").into())
}

/// A finding in one line.
fn line(finding: &Finding) -> String {
    let Finding { object, backups, cut_short, files, .. } = finding;
    let labels = |labels: &[Label]| match labels {
        [] => None,
        [only] => Some(only.to_string()),
        [first, .., last] => Some(format!("{} backups from {first} to {last}", labels.len())),
    };
    let broken = labels(backups).map(|labels| format!("can't be restored: {labels}"));
    let cut_short = labels(cut_short).map(|labels| format!("can't be recovered past it: {labels}"));
    let files = (files.count > 0).then(|| format!("files: {} ({})", files.count, files.first.join(", ")));
    let what = Some(format!("object '{object}' {}", message(finding)));
    [what, broken, cut_short, files].into_iter().flatten().collect::<Vec<_>>().join("; ")
}

/// What is wrong with an object.
fn message(finding: &Finding) -> String {
    let verb = match finding.kind {
        FindingKind::Missing => "is missing",
        FindingKind::Damaged => "is damaged",
        FindingKind::Size => "has the wrong size",
        FindingKind::Unreadable => "can't be read",
        FindingKind::Unsupported => "is of a newer program",
        FindingKind::Inconsistent => "makes no sense",
    };
    if finding.what.is_empty() { verb.to_owned() } else { format!("{verb}: {}", finding.what) }
}

/// The status of a backup in a word or two.
fn status(status: BackupStatus) -> &'static str {
    match status {
        BackupStatus::Valid => "valid",
        BackupStatus::Invalid => "invalid",
        BackupStatus::CutShort => "cut short",
        BackupStatus::Present => "present",
        BackupStatus::Partly => "partly verified",
    }
}
