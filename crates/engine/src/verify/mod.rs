//! Proving that what is in a repository can be restored and recovered.
//!
//! The work is cut into units: manifests with their maps, packs, rows of WAL segments. Each worker checks one at a time,
//! so that memory does not grow with what there is. What is found is judged in the end: who else is at work may have
//! removed a backup and all it needed meanwhile, which is no finding.

mod affected;
mod backup;
mod finding;
mod inventory;
mod report;
mod tables;
mod verdict;
mod wal;
mod work;

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use pgark_repository::checked::{self, Checked, wal_row};
use pgark_repository::pack::Pack;
use pgark_repository::{Label, PackId, StanzaName, inventory as objects, names};
use pgark_system::{clock, termination};

use self::affected::FlawedPack;
use self::backup::{ManifestCheck, ManifestChecks};
pub use self::finding::{AffectedFiles, Counts, Finding, FindingKind};
use self::finding::{Flaw, Part, flaw_or_error};
use self::inventory::{About, Inventory, Subject};
pub use self::report::{
    ArchiveReport, BackupReport, BackupStatus, Depth, MissingWal, Orphans, Progress, RepositoryReport, VerifyReport,
};
use self::wal::{RowCheck, WalChecks};
use self::work::{Pace, Unit};
use crate::error::{Error, ErrorKind, Result};
use crate::lock::{self, Following, Lock, Locks};
use crate::parallel;
use crate::progress::{self, Board, Unit as Measure};
use crate::stanza::{RepositorySettings, Stanza};

/// Bytes of pack tables that are kept for checking maps, and so many more for each worker.
const TABLE_BYTES: usize = 8 << 20;
const TABLE_BYTES_PER_WORKER: usize = 4 << 20;

/// What is to be verified.
#[derive(Debug)]
pub struct VerifySettings {
    /// The stanza.
    pub stanza: StanzaName,
    /// The repositories, each of which is verified.
    pub repositories: Vec<RepositorySettings>,
    /// The backup; all of them and the whole archive if none.
    pub set: Option<Label>,
    /// Whether only to see what there is, and how long it is.
    pub quick: bool,
    /// How long it may take; what was not looked at for the longest time comes first.
    pub max_duration: Option<Duration>,
    /// Where it is shown how far it is.
    pub board: Board,
    /// Where lock files are, one of which tells the same to other processes.
    pub lock_path: PathBuf,
    /// How many objects are looked at at once.
    pub workers: usize,
    /// The program, as what it writes is marked with.
    pub program: &'static str,
}

impl VerifySettings {
    fn depth(&self) -> Depth {
        match (self.quick, self.max_duration) {
            (true, _) => Depth::Listings,
            (false, Some(_)) => Depth::Bounded,
            (false, None) => Depth::Whole,
        }
    }
}

/// Verifies a stanza in each repository. What is wrong is in the report.
///
/// # Errors
/// Where the set is in no repository, or the process was asked to end. What keeps one repository from being verified is
/// in the report.
pub fn run(settings: &VerifySettings) -> Result<VerifyReport> {
    let pace = Pace::new(settings.max_duration);
    let mut repositories = Vec::new();
    for repository in &settings.repositories {
        let verified = verify(settings, repository, &pace);
        termination::check()?;
        repositories.push((repository.key, verified));
    }
    if settings.set.is_some() {
        repositories = without_set_left_out(repositories)?;
    }
    Ok(VerifyReport { stanza: settings.stanza.clone(), depth: settings.depth(), repositories })
}

/// Leaves out the repositories that do not have the set, if one has it.
fn without_set_left_out(found: Vec<(u32, Result<RepositoryReport>)>) -> Result<Vec<(u32, Result<RepositoryReport>)>> {
    let (lacking, others): (Vec<_>, Vec<_>) = found
        .into_iter()
        .partition(|(_, found)| matches!(found, Err(error) if error.kind() == ErrorKind::BackupSetInvalid));
    match lacking.into_iter().find_map(|(_, found)| found.err()) {
        Some(error) if others.is_empty() => Err(error),
        _ => Ok(others),
    }
}

fn verify(settings: &VerifySettings, repository: &RepositorySettings, pace: &Pace) -> Result<RepositoryReport> {
    let open = repository.open()?;
    let stanza = Stanza::open(&open, &settings.stanza)?;
    let began = clock::now();
    let progress = settings.board.begin("verify", repository.key, Measure::Bytes);
    progress.note("listing what there is");
    let _following = follow(settings, repository.key, &progress);
    let mut inventory = inventory::take(&stanza, settings.set.as_ref())?;
    if let Some(set) = settings.set.as_ref().filter(|_| inventory.backups.is_empty()) {
        return Err(Error::new(ErrorKind::BackupSetInvalid, format!("backup set {set} is not valid"))
            .hint("the info command shows the backup sets there are"));
    }
    let (known, records) = if settings.quick { (Checked::default(), Vec::new()) } else { read_records(&stanza)? };
    let units = work::units(&inventory, &known);
    tracing::info!(
        "repo{}: {} backups need {} packs; pieces of work: {}",
        repository.key,
        inventory.backups.len(),
        inventory.packs.len(),
        units.len()
    );
    let mut found = Found::new(began, known, std::mem::take(&mut inventory.findings));
    if !settings.quick {
        let began = AtomicBool::new(false);
        progress.expect(inventory.bytes(&units));
        progress.note("");
        let work = Work { settings, stanza: &stanza, inventory: &inventory, pace, progress: &progress, began };
        work.carry_out(&units, &mut found)?;
        termination::check()?;
    }
    progress.note("judging what was found");
    let report = verdict::judge(settings, &stanza, &mut inventory, &mut found, &units)?;
    if !settings.quick {
        write_record(settings, &stanza, &inventory, found.known, &records);
    }
    Ok(report)
}

/// Has a lock file tell that it is at work, and how far. It keeps nobody off: whoever finds the file held, by another verify, or
/// can't write it goes on without.
fn follow(settings: &VerifySettings, key: u32, progress: &progress::Work) -> Option<(Following, Lock)> {
    let locks = Locks { directory: settings.lock_path.clone(), wait: Duration::ZERO };
    match lock::acquire(&locks, &settings.stanza, "verify", key, "verify") {
        Ok(lock) => Some((lock.follow(progress.progress()), lock)),
        Err(error) => {
            tracing::debug!("no lock file tells how far it is: {}", error.full_message());
            None
        }
    }
}

fn read_records(stanza: &Stanza<'_>) -> Result<(Checked, Vec<ulid::Ulid>)> {
    Ok(checked::read(stanza.repository(), stanza.name())?)
}

/// Keeps what was checked when. Nothing depends on it, so that it is no failure where that can't be done.
fn write_record(
    settings: &VerifySettings,
    stanza: &Stanza<'_>,
    inventory: &Inventory<'_>,
    mut known: Checked,
    records: &[ulid::Ulid],
) {
    if !inventory.is_one_set {
        work::keep_present(&mut known, inventory);
    }
    let written = checked::replace(stanza.repository(), stanza.name(), known, records, settings.program);
    if let Err(error) = written {
        tracing::info!("repo{}: what was verified when is not kept: {error}", stanza.key());
    }
}

/// What the work has found.
#[derive(Debug)]
struct Found {
    /// When the work began, which counts as the time when everything was checked.
    began: Timestamp,
    /// What was checked when, in this run and before.
    known: Checked,
    subjects: Vec<Subject>,
    packs: BTreeMap<PackId, FlawedPack>,
    /// The regular files of each manifest that was checked, and those with whose maps something is wrong.
    files: BTreeMap<Label, (u64, u64)>,
    /// Segments that were looked at in each archive.
    segments: BTreeMap<usize, u64>,
    checked: u64,
    bytes: u64,
}

/// What comes of a unit of work.
enum Done {
    /// There was no time for it.
    BrokenOff,
    Object(Option<Flaw>),
    Backup(Option<ManifestCheck>),
    Pack(u64, Option<FlawedPack>),
    Row(RowCheck),
}

impl Done {
    /// Whether something seems to be wrong that was not looked at twice already.
    fn is_flawed(&self) -> bool {
        match self {
            Self::Object(flaw) => flaw.is_some(),
            Self::Backup(check) => check.as_ref().is_some_and(ManifestCheck::is_flawed),
            Self::Pack(_, flawed) => flawed.is_some(),
            Self::BrokenOff | Self::Row(_) => false,
        }
    }
}

/// The work on one stanza of a repository.
struct Work<'verify> {
    settings: &'verify VerifySettings,
    stanza: &'verify Stanza<'verify>,
    inventory: &'verify Inventory<'verify>,
    pace: &'verify Pace,
    progress: &'verify progress::Progress,
    /// Whether work on more than small objects has begun.
    began: AtomicBool,
}

impl Work<'_> {
    fn carry_out(&self, units: &[(Option<i64>, Unit)], found: &mut Found) -> Result<()> {
        let (repository, name) = (self.stanza.repository(), self.stanza.name());
        let workers = self.settings.workers.max(1);
        let manifests = ManifestChecks::new(repository, name, TABLE_BYTES + workers * TABLE_BYTES_PER_WORKER);
        let check = |unit: &Unit| self.check(&manifests, unit);
        let small = self.small_units()?;
        parallel::for_each(&small, workers, check, |unit, done| found.take(self, unit, done?))?;
        let check = |(_, unit): &(Option<i64>, Unit)| check(unit);
        parallel::for_each(units, workers, check, |(_, unit), done| {
            let (bytes, flaws) = (found.bytes, found.flaws());
            found.take(self, unit, done?)?;
            self.progress.advance(found.bytes - bytes);
            if found.flaws() > flaws {
                self.progress.note(format!("found to be wrong: {}", found.flaws()));
            }
            Ok(())
        })
    }

    /// What is so small that it is looked at every time.
    fn small_units(&self) -> Result<Vec<Unit>> {
        let small = objects::small_objects(self.stanza.repository(), self.stanza.name())?;
        let mut units: Vec<Unit> = small.into_iter().map(|(kind, name)| Unit::Small(kind, name)).collect();
        for (place, archive) in self.inventory.archives.iter().enumerate() {
            units.extend(archive.files.iter().map(|file| Unit::File(place, file.clone())));
        }
        Ok(units)
    }

    /// Checks a piece of work, and once more where something seems to be wrong: the fault may have been that of the way from
    /// the storage, and not of what is stored.
    fn check(&self, manifests: &ManifestChecks<'_>, unit: &Unit) -> Result<Done> {
        let done = self.look(manifests, unit)?;
        if !done.is_flawed() {
            return Ok(done);
        }
        Ok(match self.look(manifests, unit)? {
            Done::BrokenOff => done,
            again => {
                if !again.is_flawed() {
                    tracing::info!("repo{}: {unit} is whole when it is read again", self.stanza.key());
                }
                again
            }
        })
    }

    fn look(&self, manifests: &ManifestChecks<'_>, unit: &Unit) -> Result<Done> {
        // However little time there is: something is done, or a row of short runs would never come to an end.
        let is_first = !matches!(unit, Unit::Small(..) | Unit::File(..)) && !self.began.swap(true, Ordering::Relaxed);
        let go_on = || if is_first { termination::requested().is_none() } else { self.pace.goes_on() };
        if !go_on() {
            return Ok(Done::BrokenOff);
        }
        let repository = self.stanza.repository();
        Ok(match unit {
            Unit::Small(kind, name) => {
                let checked = objects::check_small(repository, self.stanza.name(), *kind, name);
                Done::Object(flaw_or_error(checked)?.err())
            }
            Unit::File(place, file) => match self.wal(*place) {
                Some(checks) => Done::Object(checks.check_file(file, &go_on)?),
                None => Done::Object(None),
            },
            Unit::Backup(label) => Done::Backup(manifests.check(label, &go_on)?),
            Unit::Pack(id) => self.check_pack(*id, &go_on)?,
            Unit::Row(place, row) => match self.wal(*place) {
                Some(checks) => Done::Row(checks.check(row, &go_on)?),
                None => Done::BrokenOff,
            },
        })
    }

    fn wal(&self, place: usize) -> Option<WalChecks<'_>> {
        let archive = self.inventory.archives.get(place)?;
        let coverage = archive.coverage.as_ref()?;
        Some(WalChecks { archive: &archive.archive, cluster: &archive.cluster, coverage })
    }

    fn check_pack(&self, id: PackId, go_on: &dyn Fn() -> bool) -> Result<Done> {
        let needed = self.inventory.packs.get(&id);
        let mut flawed: Option<FlawedPack> = None;
        let mut failed = Ok(());
        let mut note = |block, error| match Flaw::of(error) {
            Ok(flaw) => {
                let flaw = FlawedPack::new(block, flaw);
                match &mut flawed {
                    Some(known) => known.add(flaw),
                    None => flawed = Some(flaw),
                }
            }
            Err(error) => failed = Err(error),
        };
        let root = needed.map(|needed| needed.root);
        let (length, checked) = match Pack::open(self.stanza.repository(), self.stanza.name(), id, root) {
            Ok(pack) => (pack.container().length(), pack.check(&mut note, go_on)),
            Err(error) => (0, Err(error)),
        };
        let swept = checked.unwrap_or_else(|error| {
            note(None, error);
            ControlFlow::Continue(())
        });
        failed?;
        match (swept, flawed) {
            (ControlFlow::Break(()), None) => Ok(Done::BrokenOff),
            (_, flawed) => Ok(Done::Pack(length, flawed)),
        }
    }
}

impl Found {
    fn new(began: Timestamp, known: Checked, subjects: Vec<Subject>) -> Self {
        Self {
            began,
            known,
            subjects,
            packs: BTreeMap::new(),
            files: BTreeMap::new(),
            segments: BTreeMap::new(),
            checked: 0,
            bytes: 0,
        }
    }

    /// How many things seem to be wrong.
    fn flaws(&self) -> usize {
        self.subjects.len() + self.packs.len()
    }

    fn take(&mut self, work: &Work<'_>, unit: &Unit, done: Done) -> Result<()> {
        match (unit, done) {
            // A session, a note or a history file may have gone since it was listed.
            (_, Done::Object(Some(Flaw { kind: FindingKind::Missing, .. }))) => {}
            (Unit::Small(_, name), Done::Object(Some(flaw))) => {
                self.subjects.push(Subject { finding: flaw.at(Part::Other, name.as_str()), about: About::Other });
            }
            (Unit::File(place, file), Done::Object(Some(flaw))) => {
                self.subjects.push(work.inventory.archives[*place].about_file(file, flaw)?);
            }
            (Unit::Backup(label), Done::Backup(Some(check))) => self.take_backup(work.stanza.name(), label, check)?,
            (Unit::Pack(id), Done::Pack(bytes, flawed)) => {
                self.checked += 1;
                self.bytes += bytes;
                match flawed {
                    None => self.known.note_pack(*id, self.began.as_second()),
                    Some(flawed) => self.add_pack(*id, flawed),
                }
            }
            (Unit::Row(place, row), Done::Row(check)) => self.take_row(work.inventory, *place, *row, check)?,
            _ => {}
        }
        Ok(())
    }

    fn add_pack(&mut self, id: PackId, flawed: FlawedPack) {
        // What was known of it does not hold any more.
        if let Some(times) = self.known.packs.get_mut(&id.session) {
            times.forget(u64::from(id.number));
        }
        match self.packs.get_mut(&id) {
            Some(known) => known.add(flawed),
            None => {
                self.packs.insert(id, flawed);
            }
        }
    }

    fn take_backup(&mut self, stanza: &StanzaName, label: &Label, check: ManifestCheck) -> Result<()> {
        self.checked += 1;
        let manifest = names::manifest(stanza, label)?;
        let about = About::Backup(label.clone());
        if check.flaw.is_none() && check.map_flaw.is_none() {
            self.known.note_backup(label, self.began.as_second());
        } else {
            self.known.backups.remove(label);
        }
        if let Some(flaw) = check.flaw {
            self.subjects.push(Subject { finding: flaw.at(Part::Manifest, manifest.as_str()), about: about.clone() });
        }
        if let Some(flaw) = check.map_flaw {
            let finding = Finding { files: check.flawed_files.clone(), ..flaw.at(Part::Manifest, manifest.as_str()) };
            self.subjects.push(Subject { finding, about });
        }
        self.files.insert(label.clone(), (check.files, check.flawed_files.count));
        for (pack, what, kind) in check.flawed_packs {
            self.add_pack(pack, FlawedPack::new(None, Flaw { kind, what }));
        }
        Ok(())
    }

    fn take_row(&mut self, inventory: &Inventory<'_>, place: usize, row: wal::Row, check: RowCheck) -> Result<()> {
        let archive = &inventory.archives[place];
        self.checked += check.checked;
        self.bytes += check.bytes;
        *self.segments.entry(place).or_default() += check.checked;
        let times = self.known.wal.entry(wal_row(archive.archive.id(), row.timeline.0)).or_default();
        if let Some(last) = check.checked.checked_sub(1) {
            times.note(row.first..=row.first + last, self.began.as_second());
        }
        for (segment, flaw) in check.flaws {
            if let Some(number) = archive.coverage.as_ref().and_then(|coverage| segment.number(coverage.size())) {
                times.forget(number);
            }
            let object = archive.archive.object_name(&segment.to_string())?;
            let about = About::Segment(place, segment);
            self.subjects.push(Subject { finding: flaw.at(Part::Wal, object.as_str()), about });
        }
        Ok(())
    }
}
