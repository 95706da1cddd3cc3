//! `pgark backup`

use std::collections::BTreeMap;
use std::path::PathBuf;

use pgark_config::{Configuration, option};
use pgark_engine::backup::{self, BackupSettings};
use pgark_engine::progress::Board;
use pgark_engine::stanza::RepositorySettings;
use pgark_repository::manifest::{DamagedFile, ManifestDocument, PageRange, Unexplained};
use pgark_repository::{Label, LabelKind};

use crate::commands::HeldLock;
use crate::failure::{Failure, Result};
use crate::progress::while_shown;
use crate::run::PROGRAM;
use crate::settings;
use pgark_engine::size::human_size;

/// Takes a backup into the first repository, or into the one that `--repo` names. Gives what is locked still.
pub(crate) fn run(configuration: &Configuration) -> Result<HeldLock> {
    let repository = choose_repository(configuration)?.open()?;
    let report = while_shown(configuration, |board| {
        let settings = backup_settings(configuration, repository.key, board)?;
        Ok::<_, Failure>(backup::run(&settings, &repository)?)
    })?;
    tell(&report.document);
    Ok(HeldLock { repository: repository.key, lock: report.lock })
}

fn backup_settings(configuration: &Configuration, repository: u32, board: &Board) -> Result<BackupSettings> {
    let is_online = configuration.boolean(&option::ONLINE);
    let write = settings::write_options(configuration);
    Ok(BackupSettings {
        stanza: settings::stanza(configuration)?,
        kind: kind(configuration),
        delta: configuration.boolean(&option::BACKUP_DELTA),
        reuse: configuration.boolean(&option::REUSE),
        resume: configuration.boolean(&option::RESUME),
        force: configuration.boolean(&option::BACKUP_FORCE),
        data_directory: settings::data_directory(configuration),
        connection: is_online.then(|| settings::connect(configuration)).transpose()?,
        start_fast: configuration.boolean(&option::START_FAST),
        archive_check: configuration.boolean(&option::ARCHIVE_CHECK),
        archive_mode_check: configuration.boolean(&option::ARCHIVE_MODE_CHECK),
        archive_timeout: configuration.duration(&option::ARCHIVE_TIMEOUT),
        checksum_page: configuration.optional_boolean(&option::CHECKSUM_PAGE),
        exclude: configuration.list(&option::EXCLUDE).iter().map(PathBuf::from).collect(),
        sidecars: settings::sidecars_for(configuration, repository),
        repository_directories: settings::repository_directories(configuration),
        annotations: annotations(configuration)?,
        workers: settings::workers(configuration),
        pacer: settings::disk_pacer(configuration),
        write,
        compression: settings::compression_text(write.compression),
        locks: settings::locks(configuration),
        board: board.clone(),
        host: settings::host(),
        program: PROGRAM.to_owned(),
    })
}

fn kind(configuration: &Configuration) -> LabelKind {
    match configuration.text(&option::BACKUP_TYPE) {
        "full" => LabelKind::Full,
        "diff" => LabelKind::Diff,
        _ => LabelKind::Incr,
    }
}

/// A text that is empty says nothing: there is nothing yet that it could take away.
fn annotations(configuration: &Configuration) -> Result<BTreeMap<String, String>> {
    let mut annotations = settings::annotations(configuration)?;
    annotations.retain(|_, text| !text.is_empty());
    Ok(annotations)
}

fn choose_repository(configuration: &Configuration) -> Result<RepositorySettings> {
    let repositories = settings::repositories(configuration)?;
    let is_choice = repositories.len() > 1;
    let Some(first) = repositories.into_iter().next() else {
        return Err(Failure::option_required("backup command requires option: repo1-path"));
    };
    if is_choice {
        tracing::info!("repo option not specified, defaulting to repo{}", first.key);
    }
    Ok(first)
}

fn tell(document: &ManifestDocument) {
    for file in &document.damaged_files {
        tracing::warn!("{}", damage(file));
    }
    if let Some(unexplained) = &document.unexplained {
        tell_unexplained(document, unexplained);
    }
    let (kind, totals) = (document.kind, document.totals);
    for sidecar in &document.sidecars {
        let (name, files) = (&sidecar.name, sidecar.files);
        tracing::info!("sidecar '{name}' size = {}, file total = {files}", human_size(sidecar.size));
    }
    tracing::info!("new backup label = {}", document.label);
    tracing::info!("{kind} backup size = {}, file total = {}", human_size(totals.read), totals.files);
}

/// Tells of pages that have changed although no WAL says so.
fn tell_unexplained(document: &ManifestDocument, unexplained: &Unexplained) {
    for file in &unexplained.files {
        tracing::warn!("page(s) of file {} have changed although no WAL names them: {}", file.path, pages(file));
    }
    let prior = document.prior.as_ref().map_or("the backup before", Label::as_str);
    tracing::warn!(
        "{} page(s) have changed since {prior} although no WAL names them\nHINT: does the disk hold what was written to \
         it? pg_amcheck tells whether tables and indexes are sound",
        unexplained.pages
    );
}

fn pages(file: &DamagedFile) -> String {
    file.pages.iter().copied().map(page_range).collect::<Vec<_>>().join(", ")
}

fn damage(file: &DamagedFile) -> String {
    let plural = match &file.pages[..] {
        [PageRange { count: 1, .. }] => "",
        _ => "s",
    };
    format!("invalid page checksum{plural} found in file {} at page{plural} {}", file.path, pages(file))
}

fn page_range(range: PageRange) -> String {
    match range.count {
        1 => range.first.to_string(),
        count => format!("{}-{}", range.first, u64::from(range.first) + u64::from(count) - 1),
    }
}
