//! Whatever is killed or fails at whichever step: what the next program finds is nothing or the whole.

use std::sync::Arc;

use pgark_repository::codec::Compression;
use pgark_repository::container::{BlockEncoder, ObjectKind, WriteOptions};
use pgark_repository::manifest::Manifest;
use pgark_repository::session::{Session, SessionKind, sessions};
use pgark_repository::wal::Archive;
use pgark_repository::{Encryption, Error, Repository, Result};
use pgark_storage::fault::{Effect, Fault, FaultyStorage, LogEntry};
use pgark_storage::{ErrorKind, LocalStorage, MemoryStorage, Operation, Storage};
use tempfile::TempDir;

use crate::backups::{Backup, Item, Taken, cluster};
use crate::restore;
use crate::room::{PASSPHRASE, create, objects, passphrase};
use crate::sample::{ANALYSIS, FULL, INCREMENTAL, PARTIAL, label, stanza, wal_bytes, wal_document};

const LABELS: [&str; 2] = [FULL, INCREMENTAL];

fn items(text: &str) -> Vec<Item> {
    vec![
        Item::directory(""),
        Item { map_in_pack: true, ..Item::file("base/5/1259", text.repeat(1000).into_bytes()) },
        Item::file("base/5/1260", b"always the same".repeat(99)),
        Item { late: true, ..Item::file("global/pg_control", text.as_bytes().to_vec()) },
    ]
}

/// All that is done from `stanza-create` to the second backup, each step only where it is not done yet.
pub(crate) fn work(storage: Arc<dyn Storage>, encryption: &Encryption) -> Result<()> {
    let repository = &create(storage, encryption)?;
    if repository.clusters(&stanza())?.is_empty() {
        repository.add_cluster(&stanza(), &cluster())?;
    }
    let archive = Archive::new(repository, stanza(), cluster().archive());
    let options = WriteOptions { compression: Compression::Zstd(1), verify: true };
    archive
        .send_segment(
            &wal_document(PARTIAL),
            &wal_bytes(PARTIAL),
            || ANALYSIS.to_vec(),
            &mut BlockEncoder::of_wal(options),
            1,
        )?
        .finish()?;
    archive.store_history("00000002.history", b"history")?;
    let mut prior = Taken::default();
    for text in LABELS {
        if repository.backups(&stanza())?.contains(&label(text)) {
            continue;
        }
        let mut session = Session::begin(repository, &stanza(), SessionKind::Backup, "db1".into(), Vec::new())?;
        let stanza = &stanza();
        let compression = Compression::Zstd(1);
        let backup = Backup { repository, stanza, label: label(text), session: session.id(), compression };
        prior = backup.take(&items(text), &prior)?;
        session.renew()?;
        session.end()?;
    }
    Ok(())
}

/// What a fresh program finds: whatever is listed is whole.
pub(crate) fn check(storage: &Arc<dyn Storage>, encryption: &Encryption) -> Result<usize> {
    let repository = match Repository::open(Arc::clone(storage), encryption) {
        Err(Error::NoRepository { .. }) => return Ok(0),
        opened => opened?,
    };
    let stanza = stanza();
    let clusters = repository.clusters(&stanza)?;
    assert!(clusters.is_empty() || clusters == [cluster()]);
    sessions(&repository, &stanza)?;
    let archive = Archive::new(&repository, stanza.clone(), cluster().archive());
    if archive.contains(PARTIAL)? {
        let data = archive.segment(PARTIAL)?.data().collect::<Result<Vec<_>>>()?;
        assert_eq!(data.concat(), wal_bytes(PARTIAL));
    }
    for file in archive.histories()? {
        assert_eq!(archive.history(&file)?, b"history");
    }
    let backups = repository.backups(&stanza)?;
    for label in &backups {
        let expected = items(label.as_str()).into_iter().filter_map(|item| Some((item.path, item.content?)));
        assert_eq!(restore::files(&repository, &stanza, label)?, expected.collect());
        assert_eq!(Manifest::open(&repository, &stanza, label)?.document().label, *label);
    }
    Ok(backups.len())
}

struct Trial {
    storage: FaultyStorage,
    inner: Arc<dyn Storage>,
    encryption: Encryption,
    _directory: Option<TempDir>,
}

impl Trial {
    fn in_memory(encryption: Encryption) -> Self {
        Self::new(Arc::new(MemoryStorage::new()), encryption, None)
    }

    fn on_disk(encryption: Encryption) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let storage = Arc::new(LocalStorage::open(directory.path()).unwrap());
        Self::new(storage, encryption, Some(directory))
    }

    fn new(inner: Arc<dyn Storage>, encryption: Encryption, directory: Option<TempDir>) -> Self {
        let storage = FaultyStorage::new(Arc::clone(&inner));
        Self { storage, inner, encryption, _directory: directory }
    }

    fn work(&self) -> Result<()> {
        work(Arc::new(self.storage.clone()), &self.encryption)
    }

    /// The work can be done again, and then all is there.
    fn finish(&self, step: &str) {
        work(Arc::clone(&self.inner), &self.encryption).unwrap_or_else(|error| panic!("{step}: {error}"));
        assert_eq!(check(&self.inner, &self.encryption).unwrap(), 2, "{step}");
    }
}

type Make = fn(Encryption) -> Trial;

/// Carries out `trial` for every operation that the work has, in a plain repository and in an encrypted one. In that
/// one the first steps are others: those up to the stanza's first cluster.
fn for_each_step(makes: &[Make], mut trial: impl FnMut(usize, Operation, Trial)) {
    let plain = makes.iter().map(|make| (make, None));
    for (make, text) in plain.chain([(&(Trial::in_memory as Make), Some(PASSPHRASE))]) {
        let encryption = || text.map_or(Encryption::None, passphrase);
        let whole = make(encryption());
        whole.work().unwrap();
        assert_eq!(check(&whole.inner, &whole.encryption).unwrap(), 2);
        let log = whole.storage.log();
        let is_cluster = |entry: &LogEntry| entry.key.as_ref().is_some_and(|key| key.as_str().contains("/cluster/"));
        let end = text.and_then(|_| log.iter().position(is_cluster)).map_or(log.len(), |position| position + 1);
        for (number, entry) in log[..end].iter().enumerate() {
            trial(number, entry.operation, make(encryption()));
        }
    }
}

#[test]
fn after_a_crash_at_any_step_there_is_nothing_or_the_whole() {
    let mut backups_seen = [0; 3];
    for_each_step(&[Trial::in_memory, Trial::on_disk], |number, operation, trial| {
        let step = format!("crash at operation {number}, {operation:?}");
        trial.storage.inject(Fault::new(Effect::Crash).skipping(number));
        trial.work().expect_err(&step);
        let backups = check(&trial.inner, &trial.encryption).unwrap_or_else(|error| panic!("{step}: {error}"));
        backups_seen[backups] += 1;
        trial.finish(&step);
    });
    assert!(backups_seen.iter().all(|seen| *seen > 0), "{backups_seen:?}");
}

/// A request fails, or its answer is lost; the program ends with an error, and the next one goes on.
#[test]
fn after_a_failure_at_any_step_there_is_nothing_or_the_whole() {
    for effect in [Effect::Fail(ErrorKind::NoSpace), Effect::FailAfterwards(ErrorKind::Unavailable)] {
        for_each_step(&[Trial::in_memory], |number, operation, trial| {
            let step = format!("{effect:?} at operation {number}, {operation:?}");
            trial.storage.inject(Fault::new(effect.clone()).skipping(number));
            let result = trial.work();
            assert_eq!(trial.storage.fired(), 1, "{step}");
            let backups = check(&trial.inner, &trial.encryption).unwrap_or_else(|error| panic!("{step}: {error}"));
            // What is not there fails anyhow, so that the fault made no difference.
            assert!(result.is_err() || backups == 2, "{step}");
            trial.finish(&step);
        });
    }
}

/// A storage that is not atomic left a part of an object. That is more than a repository can heal, but it is found, and
/// nothing is read that was not written.
#[test]
fn a_torn_object_is_found() {
    for text in [None, Some(PASSPHRASE)] {
        let trial = || Trial::in_memory(text.map_or(Encryption::None, passphrase));
        let whole = trial();
        whole.work().unwrap();
        let writes = whole.storage.count(Operation::Put) + whole.storage.count(Operation::Finish);
        let mut found = 0;
        for (number, length) in (0..writes).flat_map(|number| [0, 100, 300].map(|length| (number, length))) {
            let trial = trial();
            trial.storage.inject(Fault::new(Effect::Tear { length, kind: ErrorKind::Io }).skipping(number));
            trial.work().unwrap_err();
            match check(&trial.inner, &trial.encryption) {
                // A pack that no manifest names, or an object that is shorter than what is left of it.
                Ok(_) => {}
                Err(Error::Damaged { object, .. }) => {
                    assert!(objects(&*trial.inner).iter().any(|(name, _)| name.as_str() == object));
                    found += 1;
                }
                Err(error) => panic!("write {number} torn at {length}: {error}"),
            }
        }
        assert!(found > writes, "{found} found of {writes} objects torn thrice");
    }
}

/// The order of section 9: whoever reads from the last object that was written finds all that it names.
#[test]
fn objects_are_written_in_the_order_that_the_page_says() {
    let trial = Trial::in_memory(passphrase(PASSPHRASE));
    trial.work().unwrap();
    let mut order = Vec::new();
    for entry in trial.storage.log() {
        let name = entry.key.as_ref().map(ToString::to_string).unwrap_or_default();
        let part = ["key/", "pgark.repo", "cluster/", "wal/", "session/", "pack/", "backup/"]
            .into_iter()
            .find(|part| name.contains(part))
            .unwrap_or_default();
        match entry.operation {
            Operation::Put | Operation::Finish => order.push(part),
            Operation::Delete => order.push("delete"),
            _ => {}
        }
    }
    let backup = ["session/", "pack/", "backup/", "session/", "delete"];
    let expected = [&["key/", "pgark.repo", "cluster/", "wal/", "wal/"][..], &backup, &backup].concat();
    assert_eq!(order, expected);
    assert!(!objects(&*trial.inner).iter().any(|(_, kind)| *kind == ObjectKind::Session));
}
