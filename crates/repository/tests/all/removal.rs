//! Removing a stanza: wherever it is broken off, what is left never looks like a backup, and can be removed.

use std::ops::ControlFlow;
use std::sync::Arc;

use pgark_repository::{Encryption, Error, Repository, Result, names, removal};
use pgark_storage::fault::{Effect, Fault, FaultyStorage};
use pgark_storage::{Key, LocalStorage, MemoryStorage, Operation, PutMode, Storage};

use crate::crash;
use crate::sample::stanza;

/// Two backups, WAL and a session in a stanza.
fn fill(storage: &Arc<dyn Storage>) {
    crash::work(Arc::clone(storage), &Encryption::None).unwrap();
    storage.put(&names::stanza(&stanza()).unwrap().join("gc/1").unwrap(), b"", PutMode::Create).unwrap();
}

fn remove(storage: Arc<dyn Storage>) -> Result<u64> {
    removal::remove_stanza::<Error>(&Repository::open(storage, &Encryption::None)?, &stanza(), &mut || Ok(()))
}

fn names_below(storage: &Arc<dyn Storage>, prefix: Option<&Key>) -> Vec<String> {
    let mut names = Vec::new();
    let visit = &mut |object: pgark_storage::ObjectInfo| {
        names.push(object.key.to_string());
        ControlFlow::Continue(())
    };
    storage.list(prefix, visit).unwrap();
    names
}

#[test]
fn what_is_left_by_an_interrupted_removal_is_no_backup_and_can_be_removed() {
    let stanza_key = names::stanza(&stanza()).unwrap();
    let whole: Arc<dyn Storage> = Arc::new(MemoryStorage::new());
    fill(&whole);
    let all = names_below(&whole, Some(&stanza_key));
    let is_data = |name: &&String| ["/pack/", "/wal/", "/gc/"].iter().any(|part| name.contains(part));
    let data = all.iter().filter(is_data).count();
    let mut step = 0;
    loop {
        let inner: Arc<dyn Storage> = Arc::new(MemoryStorage::new());
        fill(&inner);
        let faulty = FaultyStorage::new(Arc::clone(&inner));
        faulty.inject(Fault::new(Effect::Crash).skipping(step));
        let removed = remove(Arc::new(faulty));
        let left = names_below(&inner, Some(&stanza_key));
        let repository = Repository::open(Arc::clone(&inner), &Encryption::None).unwrap();
        if let Ok(removed) = removed {
            assert_eq!((removed, left.len()), (all.len() as u64, 0));
            break;
        }
        if left.iter().filter(is_data).count() < data {
            assert!(repository.backups(&stanza()).unwrap().is_empty(), "step {step}: a backup has lost data: {left:?}");
        }
        // Whatever is listed as a backup is whole.
        crash::check(&inner, &Encryption::None).unwrap();
        let is_orphaned = left.iter().any(|name| is_data(&name)) && repository.clusters(&stanza()).unwrap().is_empty();
        assert!(!is_orphaned, "step {step}: data of a stanza that is gone: {left:?}");
        remove(Arc::clone(&inner)).unwrap();
        assert!(!removal::has_objects(&repository, &stanza()).unwrap(), "step {step}");
        step += 1;
    }
    assert!(step > all.len(), "{step}");
}

#[test]
fn on_a_disk_no_directory_is_left_and_nothing_of_others_is_touched() {
    let directory = tempfile::tempdir().unwrap();
    let storage: Arc<dyn Storage> = Arc::new(LocalStorage::open(directory.path()).unwrap());
    crash::work(Arc::clone(&storage), &Encryption::None).unwrap();
    let ours = directory.path().join("stanza").join(stanza().as_str());
    let file = |name: &str| fs_err::write(ours.join(name), b"").unwrap();
    file("backup/.pgark-tmp-01JDXYZ0000000000000000000");
    fs_err::create_dir_all(ours.join("pack/01JDXYZ0000000000000000000")).unwrap();
    remove(Arc::clone(&storage)).unwrap();
    assert!(!directory.path().join("stanza").exists());
    assert_eq!(names_below(&storage, None), ["pgark.repo"]);

    crash::work(Arc::clone(&storage), &Encryption::None).unwrap();
    let other = directory.path().join("stanza/another/cluster/1");
    fs_err::create_dir_all(other.parent().unwrap()).unwrap();
    fs_err::write(&other, b"").unwrap();
    file("backup/somebody's notes\\");
    fs_err::os::unix::fs::symlink("/etc", ours.join("backup/.pgark-tmp-link")).unwrap();
    remove(Arc::clone(&storage)).unwrap();
    assert!(other.exists() && !ours.exists());
}

/// A storage that says that it has deleted an object and lists it again must not keep a program at it forever.
#[test]
fn an_object_that_can_not_be_deleted_is_named() {
    let storage: Arc<dyn Storage> = Arc::new(MemoryStorage::new());
    fill(&storage);
    let stubborn = names::stanza(&stanza()).unwrap().join("backup/20261122-120531F/manifest").unwrap();
    let come_back = move |storage: &dyn Storage| storage.put(&stubborn, b"", PutMode::Replace).unwrap();
    let faulty = FaultyStorage::new(storage);
    faulty.inject(Fault::new(Effect::Interleave(Arc::new(come_back))).on(Operation::List).repeatedly());
    let error = remove(Arc::new(faulty)).unwrap_err();
    assert!(error.to_string().starts_with("failed to delete object 'stanza/demo/backup/"), "{error}");
}
