//! `pgark backup`

use std::collections::BTreeMap;
use std::path::PathBuf;

use pgark_config::{Configuration, option};
use pgark_engine::Error;
use pgark_engine::backup::{self, BackupSettings};
use pgark_engine::stanza::{OpenRepository, RepositorySettings, Stanza};
use pgark_repository::manifest::{DamagedFile, ManifestDocument, PageRange};

use crate::commands::HeldLock;
use crate::commands::size::human_size;
use crate::failure::{Failure, Result};
use crate::run::PROGRAM;
use crate::settings;

/// Takes a backup into the first repository, or into the one that `--repo` names. Gives what is locked still.
pub(crate) fn run(configuration: &Configuration) -> Result<HeldLock> {
    let settings = backup_settings(configuration)?;
    let repository = choose_repository(configuration)?.open()?;
    if !configuration.is_set(&option::BACKUP_TYPE) {
        say_type(&settings, &repository)?;
    }
    let report = backup::run(&settings, &repository)?;
    tell(&report.document);
    Ok(HeldLock { repository: repository.key, _lock: report.lock })
}

fn backup_settings(configuration: &Configuration) -> Result<BackupSettings> {
    let is_online = configuration.boolean(&option::ONLINE);
    let write = settings::write_options(configuration);
    Ok(BackupSettings {
        stanza: settings::stanza(configuration)?,
        data_directory: settings::data_directory(configuration),
        connection: is_online.then(|| settings::connect(configuration)).transpose()?,
        start_fast: configuration.boolean(&option::START_FAST),
        archive_check: configuration.boolean(&option::ARCHIVE_CHECK),
        archive_mode_check: configuration.boolean(&option::ARCHIVE_MODE_CHECK),
        archive_timeout: configuration.duration(&option::ARCHIVE_TIMEOUT),
        checksum_page: configuration.optional_boolean(&option::CHECKSUM_PAGE),
        exclude: configuration.list(&option::EXCLUDE).iter().map(PathBuf::from).collect(),
        annotations: annotations(configuration)?,
        workers: settings::workers(configuration),
        pacer: settings::disk_pacer(configuration),
        write,
        compression: settings::compression_text(write.compression),
        lock_path: settings::lock_path(configuration),
        host: settings::host(),
        program: PROGRAM.to_owned(),
    })
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

/// pgBackRest's default is an incremental backup. Whoever relies on it is told what the backup is.
fn say_type(settings: &BackupSettings, repository: &OpenRepository) -> Result<()> {
    let stanza = Stanza::open(repository, &settings.stanza)?;
    let backups = stanza.repository().backups(stanza.name()).map_err(Error::from)?;
    let reason =
        if backups.is_empty() { "no prior backup exists" } else { "incremental backups are not available yet" };
    tracing::warn!("{reason}, incr backup has been changed to full");
    Ok(())
}

fn tell(document: &ManifestDocument) {
    for file in &document.damaged_files {
        tracing::warn!("{}", damage(file));
    }
    let (kind, totals) = (document.kind, document.totals);
    tracing::info!("new backup label = {}", document.label);
    tracing::info!("{kind} backup size = {}, file total = {}", human_size(totals.size), totals.files);
}

fn damage(file: &DamagedFile) -> String {
    let plural = match &file.pages[..] {
        [PageRange { count: 1, .. }] => "",
        _ => "s",
    };
    let pages: Vec<_> = file.pages.iter().copied().map(page_range).collect();
    format!("invalid page checksum{plural} found in file {} at page{plural} {}", file.path, pages.join(", "))
}

fn page_range(range: PageRange) -> String {
    match range.count {
        1 => range.first.to_string(),
        count => format!("{}-{}", range.first, u64::from(range.first) + u64::from(count) - 1),
    }
}
