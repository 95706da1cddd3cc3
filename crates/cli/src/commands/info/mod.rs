//! `pgark info`

mod json;
pub(crate) mod text;

use pgark_config::{Configuration, option};
use pgark_engine::info::{self, InfoSettings, RepositoryReport, RepositoryStatus, StanzaReport, StanzaStatus};
use pgark_engine::lock::Held;
use pgark_repository::LabelKind;

use crate::exit::{self, Code};
use crate::failure::{Failure, Result};
use crate::output;
use crate::settings;

/// What stands for the name of the stanza where none could be found out.
const NO_NAME: &str = "[invalid]";

/// Databases that every cluster has and nobody keeps anything in.
const TEMPLATE_DATABASES: [&str; 2] = ["template0", "template1"];

/// What of a report is shown.
#[derive(Clone, Copy, Debug)]
struct View {
    /// Only what is running.
    progress_only: bool,
    /// All there is to tell of one backup.
    one_backup: bool,
}

/// Shows stanzas, backups and WAL of the repositories.
pub(crate) fn run(configuration: &Configuration) -> Result<()> {
    let settings = info_settings(configuration)?;
    let view = View { progress_only: settings.progress_only, one_backup: settings.set.is_some() };
    if view.progress_only && view.one_backup {
        return Err(Failure {
            code: exit::OPTION_INVALID,
            message: "option 'set' cannot be used with option 'detail-level' = 'progress'".to_owned(),
            hints: Vec::new(),
        });
    }
    let stanzas = info::run(&settings);
    output::print(&match configuration.text(&option::INFO_OUTPUT) {
        "json" => json::render(&stanzas, view)?,
        _ => text::render(&stanzas, view),
    })
}

fn info_settings(configuration: &Configuration) -> Result<InfoSettings> {
    let kind = configuration.optional_text(&option::INFO_TYPE).map(|kind| match kind {
        "full" => LabelKind::Full,
        "diff" => LabelKind::Diff,
        _ => LabelKind::Incr,
    });
    Ok(InfoSettings {
        stanza: settings::optional_stanza(configuration)?,
        repositories: settings::repositories(configuration)?,
        kind,
        set: configuration.optional_text(&option::INFO_SET).map(ToOwned::to_owned),
        progress_only: configuration.text(&option::DETAIL_LEVEL) == "progress",
        lock_path: settings::lock_path(configuration),
    })
}

/// pgBackRest's number and words for the status of a stanza.
fn stanza_status(status: StanzaStatus) -> (u8, &'static str) {
    match status {
        StanzaStatus::Ok => (0, "ok"),
        StanzaStatus::MissingStanzaPath => (1, "missing stanza path"),
        StanzaStatus::NoBackups => (2, "no valid backups"),
        StanzaStatus::MissingStanzaData => (3, "missing stanza data"),
        StanzaStatus::Mixed => (4, "different across repos"),
        StanzaStatus::ClusterMismatch => (5, "database mismatch across repos"),
        StanzaStatus::SetMissing => (6, "requested backup not found"),
        StanzaStatus::Other => (99, "other"),
    }
}

/// The same of a stanza in one repository, with the error where there is one: `[CryptoError] the pass phrase ...`.
fn repository_status(status: &RepositoryStatus) -> (u8, String) {
    if let RepositoryStatus::Other(error) = status {
        let mut message = format!("[{}] {}", Code::from(error.kind()).name, error.full_message());
        for hint in error.hints() {
            message.push_str("\nHINT: ");
            message.push_str(hint);
        }
        return (99, message);
    }
    let (code, message) = stanza_status(status.of_stanza());
    (code, message.to_owned())
}

fn name(stanza: &StanzaReport) -> &str {
    stanza.name.as_ref().map_or(NO_NAME, |name| name.as_str())
}

/// How many bytes commands that run have to deal with, and how many of them they have dealt with, all together; `None`
/// where that is not known of all.
fn progress(held: &[(u32, &Held)]) -> Option<(u64, u64)> {
    let of_all: Option<Vec<_>> = held.iter().map(|(_, held)| held.progress()).collect();
    let (sizes, done): (Vec<_>, Vec<_>) = of_all.filter(|all| !all.is_empty())?.into_iter().unzip();
    Some((sizes.iter().sum(), done.iter().sum()))
}

/// How the repositories are encrypted, if they agree on it.
fn common_cipher(repositories: &[RepositoryReport]) -> &'static str {
    let mut ciphers = repositories.iter().map(|report| report.cipher);
    let first = ciphers.next().unwrap_or("none");
    if ciphers.all(|cipher| cipher == first) { first } else { "mixed" }
}
