//! Putting one WAL file into every repository.
//!
//! [`asynchronous`](crate::asynchronous) puts many files there with the same functions.

use std::collections::BTreeSet;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::thread;

use fs_err as fs;
use pgark_postgres::wal::name::{SegmentName, WalFileName};
use pgark_postgres::wal::reader::{SegmentHeader, SegmentReader, WalEnd};
use pgark_postgres::wal::segment::{SegmentAnalysis, analyse};
use pgark_repository::StanzaName;
use pgark_repository::container::{BlockEncoder, WriteOptions};
use pgark_repository::wal::{SentSegment, Stored, WalDocument};
use pgark_system::{clock, memory, termination};

use crate::dropped;
use crate::error::{Error, ErrorKind, Result};
use crate::size::human_size;
use crate::stanza::{Identity, OpenRepository, RepositorySettings, Stanza};
use crate::wal_path::wal_path;

/// The directory in `pg_wal` in which PostgreSQL notes what is to be archived, and how the names of such notes end.
const STATUS_DIRECTORY: &str = "archive_status";
const READY_SUFFIX: &str = ".ready";

/// The largest size of a segment that a server can be told to have, `initdb --wal-segsize`.
const SEGMENT_BYTES_MAX: usize = 1 << 30;

/// What is to be pushed.
#[derive(Debug)]
pub struct ArchivePushSettings {
    /// The WAL file, as PostgreSQL gives it: `%p`.
    pub file: PathBuf,
    /// The data directory, to which `file` may be relative; `file` counts from the working directory if `None`.
    pub data_directory: Option<PathBuf>,
    /// Bytes of WAL that may wait before it is dropped; it never is if `None`.
    pub queue_max: Option<u64>,
    /// Where word is left of WAL that is dropped.
    pub lock_path: PathBuf,
    /// How it is pushed, and where.
    pub push: PushSettings,
}

/// How WAL files are pushed, and where.
#[derive(Debug)]
pub struct PushSettings {
    /// The stanza.
    pub stanza: StanzaName,
    /// The repositories.
    pub repositories: Vec<RepositorySettings>,
    /// Whether the segment's header is checked against the stanza.
    pub header_check: bool,
    /// How the WAL object is written.
    pub write: WriteOptions,
    /// How many workers compress.
    pub workers: usize,
}

/// A WAL file as it was read.
pub(crate) struct WalFile {
    name: WalFileName,
    bytes: Vec<u8>,
    /// What its first page says, if it is a segment.
    header: Option<SegmentHeader>,
    analysis: OnceLock<Vec<u8>>,
}

impl WalFile {
    /// What the records of a segment say, as it is stored; nothing for another file. Whoever asks first reads them, and
    /// who asks meanwhile waits.
    pub(crate) fn analysis(&self) -> &[u8] {
        self.analysis.get_or_init(|| {
            let Some(analysis) = self.header.and_then(|_| analyse(&self.bytes).ok()) else { return Vec::new() };
            if let WalFileName::Segment(segment) = self.name {
                warn_of_damage(segment, &analysis);
            }
            analysis.encode()
        })
    }

    /// The memory that the file was read into.
    pub(crate) fn into_buffer(self) -> Vec<u8> {
        self.bytes
    }
}

/// Pushes the file to every repository. Each gets it whatever becomes of the others, and all must have it for success.
///
/// # Errors
/// [`ErrorKind::ArchiveDuplicate`] where other content has the name; [`ErrorKind::ArchiveMismatch`] where the file is
/// another cluster's; or what the file system or a storage says.
pub fn run(settings: &ArchivePushSettings) -> Result<()> {
    let path = match &settings.data_directory {
        Some(directory) => wal_path(&settings.file, directory)?,
        None => settings.file.clone(),
    };
    if let Some(queue_max) = settings.queue_max
        && waiting_bytes(&path)? > queue_max
    {
        let name = name_of(&path)?;
        tracing::warn!("{}", drop_warning(name, queue_max, ""));
        let keys = settings.push.repositories.iter().map(|repository| repository.key).collect();
        dropped::note(&settings.lock_path, &settings.push.stanza, name, &keys, clock::now());
        return Ok(());
    }
    let settings = &settings.push;
    let mut errors = Vec::new();
    thread::scope(|scope| -> Result<()> {
        // Repositories are opened while the file is read, and its records are read while it is compressed.
        let opening = settings.repositories.iter().map(|to| (to.key, scope.spawn(|| to.open_for(&settings.stanza))));
        let opening: Vec<_> = opening.collect();
        let file = Arc::new(read(&path, settings.header_check, Vec::new())?);
        let same_file = Arc::clone(&file);
        scope.spawn(move || same_file.analysis().len());
        for (key, opening) in opening {
            termination::check()?;
            let opened = opening.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            let pushed = opened.and_then(|repository| push(settings, &file, &repository, settings.workers));
            if let Err(error) = pushed {
                errors.push((key, error));
            }
        }
        Ok(())
    })?;
    combine(errors)
}

/// The name of the WAL file that lies at `path`.
///
/// # Errors
/// [`ErrorKind::ParameterInvalid`] where it is none of a WAL file.
pub(crate) fn name_of(path: &Path) -> Result<WalFileName> {
    path.file_name().and_then(|name| name.to_str()).unwrap_or_default().parse().map_err(|error| {
        Error::new(ErrorKind::ParameterInvalid, format!("'{}' can't be archived", path.display()))
            .hint("pass the path of a WAL file: archive-push %p")
            .source(error)
    })
}

/// The WAL files in `directory` that PostgreSQL waits to be archived.
///
/// # Errors
/// What the file system says.
pub(crate) fn ready_files(directory: &Path) -> Result<BTreeSet<WalFileName>> {
    let mut ready = BTreeSet::new();
    for entry in fs::read_dir(directory.join(STATUS_DIRECTORY))? {
        let name = entry?.file_name();
        let file = name.to_str().and_then(|name| name.strip_suffix(READY_SUFFIX));
        ready.extend(file.and_then(|file| file.parse::<WalFileName>().ok()));
    }
    Ok(ready)
}

/// Whether PostgreSQL waits for the file at `path` to be archived.
pub(crate) fn is_ready(path: &Path, name: WalFileName) -> bool {
    path.with_file_name(STATUS_DIRECTORY).join(format!("{name}{READY_SUFFIX}")).exists()
}

/// Bytes of the WAL that waits to be archived beside the file at `path`.
fn waiting_bytes(path: &Path) -> Result<u64> {
    let Some(directory) = path.parent().filter(|directory| directory.join(STATUS_DIRECTORY).is_dir()) else {
        return Ok(0);
    };
    let size = |name: WalFileName| fs::metadata(directory.join(name.to_string())).map_or(0, |metadata| metadata.len());
    Ok(ready_files(directory)?.into_iter().map(size).sum())
}

/// What is said of a file that is dropped. `whose` names the repositories that do not get it, where others do.
pub(crate) fn drop_warning(name: WalFileName, queue_max: u64, whose: &str) -> String {
    let limit = human_size(queue_max);
    format!(
        "dropped WAL file '{name}'{whose} because archive queue exceeded {limit}\nHINT: recovery can't get past this point: when archiving works again, take a backup"
    )
}

/// Reads a WAL file, into `buffer` if it is large enough, and checks with `header_check` that it looks like one.
///
/// # Errors
/// [`ErrorKind::FileInvalid`]; or what the file system says.
pub(crate) fn read(path: &Path, header_check: bool, buffer: Vec<u8>) -> Result<WalFile> {
    let name = name_of(path)?;
    let bytes = read_all(path, buffer)?;
    let is_segment = matches!(name, WalFileName::Segment(_) | WalFileName::Partial(_));
    let header = match SegmentReader::new(&bytes) {
        _ if !is_segment => None,
        Ok(reader) => Some(*reader.header()),
        Err(_) if !header_check => None,
        Err(error) => {
            let message = format!("WAL file '{}' can't be archived: {error}", path.display());
            return Err(Error::new(ErrorKind::FileInvalid, message)
                .hint("is this file a WAL segment of this cluster? --no-archive-header-check stores it as it is")
                .source(error));
        }
    };
    Ok(WalFile { name, bytes, header, analysis: OnceLock::new() })
}

fn read_all(path: &Path, mut buffer: Vec<u8>) -> Result<Vec<u8>> {
    let mut file = fs::File::open(path)?;
    let length = usize::try_from(file.metadata()?.len()).unwrap_or(usize::MAX);
    // As much as a segment can have at most; a file that says it is longer is read all the same.
    let capacity = length.min(SEGMENT_BYTES_MAX);
    buffer.clear();
    if buffer.capacity() < capacity {
        buffer = memory::buffer(capacity);
    }
    file.read_to_end(&mut buffer)?;
    Ok(buffer)
}

/// A server archives a segment when it is full or was switched. One whose WAL ends early was damaged on its way to us: it
/// is stored as it is, since nobody has a better one, but recovery will not get past it.
fn warn_of_damage(segment: SegmentName, analysis: &SegmentAnalysis) {
    let why = match analysis.end {
        WalEnd::Full | WalEnd::Switch => return,
        WalEnd::Unwritten => "nothing was written there".to_owned(),
        WalEnd::Recycled => "what follows is of an older segment".to_owned(),
        WalEnd::Invalid(problem) => problem.to_string(),
    };
    tracing::warn!(
        "the WAL in segment '{segment}' ends early, at {}: {why}\nHINT: recovery can't get past this point: take a backup now, and check the disk that pg_wal is on",
        analysis.end_lsn()
    );
}

/// Pushes a file to one repository, with so many workers that compress.
///
/// # Errors
/// As [`run`].
pub(crate) fn push(settings: &PushSettings, file: &WalFile, repository: &OpenRepository, workers: usize) -> Result<()> {
    send(settings, file, repository, &mut BlockEncoder::of_wal(settings.write), workers)?.finish()
}

/// A WAL file that a repository was handed.
pub(crate) struct Sent<'repository> {
    name: WalFileName,
    /// Which of the repositories it is.
    key: u32,
    progress: Progress<'repository>,
}

enum Progress<'repository> {
    UnderWay(SentSegment<'repository>),
    Ended(pgark_repository::Result<Stored>),
}

impl Sent<'_> {
    /// Waits until the repository has the file: it is durable there on return.
    ///
    /// # Errors
    /// As [`run`].
    pub(crate) fn finish(self) -> Result<()> {
        let (name, key) = (self.name, self.key);
        let stored = match self.progress {
            Progress::UnderWay(segment) => segment.finish(),
            Progress::Ended(stored) => stored,
        };
        match stored {
            Ok(Stored::New) => tracing::info!("pushed WAL file '{name}' to the repo{key} archive"),
            Ok(Stored::Already) => tracing::warn!(
                "WAL file '{name}' already exists in the repo{key} archive with the same checksum\nHINT: this is valid in some recovery scenarios but may also indicate a problem"
            ),
            Err(pgark_repository::Error::Conflict { .. }) => {
                let message =
                    format!("WAL file '{name}' already exists in the repo{key} archive with a different checksum");
                return Err(Error::new(ErrorKind::ArchiveDuplicate, message)
                    .hint("check that no other cluster archives to the same stanza"));
            }
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }
}

/// Hands a file to one repository, compressed by `encoder` with so many workers. What is left is to wait for it, without the file:
/// [`Sent::finish`].
///
/// # Errors
/// As [`run`].
pub(crate) fn send<'repository>(
    settings: &PushSettings,
    file: &WalFile,
    repository: &'repository OpenRepository,
    encoder: &mut BlockEncoder,
    workers: usize,
) -> Result<Sent<'repository>> {
    let stanza = Stanza::open(repository, &settings.stanza)?;
    let cluster = match &file.header {
        Some(header) => {
            let identity = Identity { version: header.version, system_id: header.system_id };
            let what = format!("WAL file '{}'", file.name);
            stanza.expect_current(identity, ErrorKind::ArchiveMismatch, &what)?
        }
        None => stanza.current(),
    };
    let archive = stanza.archive(cluster);
    let name = file.name.to_string();
    let progress = match file.name {
        WalFileName::Segment(segment) | WalFileName::Partial(segment) => {
            let document = WalDocument {
                version: cluster.version.clone(),
                system_id: cluster.system_id.clone(),
                timeline: segment.timeline.0,
                segment: name,
                size: file.bytes.len() as u64,
                hash: String::new(),
            };
            let analysis = || file.analysis().to_vec();
            Progress::UnderWay(archive.send_segment(&document, &file.bytes, analysis, encoder, workers)?)
        }
        WalFileName::History(_) | WalFileName::BackupHistory { .. } => {
            Progress::Ended(archive.store_history(&name, &file.bytes))
        }
    };
    Ok(Sent { name: file.name, key: repository.key, progress })
}

/// One error that stands for those of several repositories.
pub(crate) fn combine(mut errors: Vec<(u32, Error)>) -> Result<()> {
    match errors.len() {
        0 => Ok(()),
        1 => Err(errors.remove(0).1),
        _ => Err(Error::of_repositories("", &errors)),
    }
}
