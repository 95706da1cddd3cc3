use super::*;
use crate::MemoryStorage;

fn key(text: &str) -> Key {
    Key::parse(text).unwrap()
}

fn storages() -> (Arc<MemoryStorage>, FaultyStorage) {
    let inner = Arc::new(MemoryStorage::new());
    let outer = FaultyStorage::new(Arc::clone(&inner) as Arc<dyn Storage>);
    (inner, outer)
}

#[test]
fn without_faults_it_is_the_storage_it_wraps() {
    crate::conformance::run(|| Box::new(FaultyStorage::new(Arc::new(MemoryStorage::new()))));
}

#[test]
fn a_fault_meets_the_operation_it_was_written_for() {
    let (_, storage) = storages();
    storage.inject(Fault::new(Effect::Fail(ErrorKind::NoSpace)).on(Operation::Put).key_containing("pack").skipping(1));
    storage.put(&key("manifest"), b"x", PutMode::Create).unwrap();
    storage.put(&key("pack/1"), b"x", PutMode::Create).unwrap();
    storage.get(&key("pack/1"), 9).unwrap();
    assert_eq!(storage.put(&key("pack/2"), b"x", PutMode::Create).unwrap_err().kind(), ErrorKind::NoSpace);
    assert!(storage.head(&key("pack/2")).unwrap().is_none());
    storage.put(&key("pack/2"), b"x", PutMode::Create).unwrap();
    assert_eq!(storage.fired(), 1);
    assert_eq!(storage.count(Operation::Put), 4);
}

#[test]
fn a_lost_answer_leaves_the_object() {
    let (inner, storage) = storages();
    storage.inject(Fault::new(Effect::FailAfterwards(ErrorKind::Unavailable)).on(Operation::Put));
    assert!(storage.put(&key("a"), b"x", PutMode::Create).unwrap_err().is_temporary());
    assert_eq!(inner.get(&key("a"), 9).unwrap(), b"x");
}

#[test]
fn a_torn_object_keeps_its_beginning() {
    let (inner, storage) = storages();
    storage.inject(Fault::new(Effect::Tear { length: 2, kind: ErrorKind::Io }).repeatedly());
    assert_eq!(storage.put(&key("a"), b"12345", PutMode::Create).unwrap_err().kind(), ErrorKind::Io);
    let mut writer = storage.create(&key("b")).unwrap();
    writer.write(b"12345").unwrap();
    assert_eq!(writer.finish().unwrap_err().operation(), Operation::Finish);
    assert_eq!(inner.get(&key("a"), 9).unwrap(), b"12");
    assert_eq!(inner.get(&key("b"), 9).unwrap(), b"12");
}

#[test]
fn reads_are_damaged_and_the_object_is_not() {
    let (inner, storage) = storages();
    inner.put(&key("a"), &[0, 1, 2, 3], PutMode::Create).unwrap();
    storage.inject(Fault::new(Effect::FlipByte { offset: 5 }).on(Operation::Get));
    storage.inject(Fault::new(Effect::Truncate { length: 1 }).on(Operation::GetRange));
    storage.inject(Fault::new(Effect::FlipByte { offset: 0 }).on(Operation::GetTail));
    assert_eq!(storage.get(&key("a"), 9).unwrap(), [0, 0xfe, 2, 3]);
    assert_eq!(storage.get_range(&key("a"), 1, 3).unwrap(), [1]);
    assert_eq!(storage.get_tail(&key("a"), 2).unwrap(), Tail { bytes: vec![0xfd, 3], size: 4 });
    assert_eq!(storage.get(&key("a"), 9).unwrap(), [0, 1, 2, 3]);
}

#[test]
fn after_a_crash_nothing_works_and_nothing_more_appears() {
    let (inner, storage) = storages();
    storage.inject(Fault::new(Effect::Crash).skipping(3));
    storage.put(&key("a"), b"", PutMode::Create).unwrap();
    let mut writer = storage.create(&key("b")).unwrap();
    writer.write(b"x").unwrap();
    assert!(writer.finish().is_err());
    assert!(storage.head(&key("a")).is_err());
    assert!(storage.delete(&key("a")).is_err());
    assert!(inner.head(&key("a")).unwrap().is_some());
    assert!(inner.head(&key("b")).unwrap().is_none());
}

#[test]
fn another_program_can_step_in_between() {
    let (_, storage) = storages();
    let rival = Effect::Interleave(Arc::new(|inner| inner.put(&key("a"), b"rival", PutMode::Create).unwrap()));
    storage.inject(Fault::new(rival).on(Operation::Put));
    assert!(storage.put(&key("a"), b"mine", PutMode::Create).unwrap_err().is_already_exists());
    assert_eq!(storage.get(&key("a"), 9).unwrap(), b"rival");
}

#[test]
fn conditions_can_be_ignored() {
    let (inner, storage) = storages();
    storage.inject(Fault::new(Effect::IgnoreCondition).repeatedly());
    storage.put(&key("a"), b"first", PutMode::Create).unwrap();
    storage.put(&key("a"), b"second", PutMode::Create).unwrap();
    assert_eq!(inner.get(&key("a"), 9).unwrap(), b"second");
    let mut writer = storage.create(&key("a")).unwrap();
    writer.write(b"third").unwrap();
    writer.finish().unwrap();
    assert_eq!(inner.get(&key("a"), 9).unwrap(), b"third");
}

#[test]
fn the_log_tells_what_was_done_in_order() {
    let (_, storage) = storages();
    storage.put(&key("a"), b"", PutMode::Create).unwrap();
    storage.put(&key("a"), b"", PutMode::Create).unwrap_err();
    storage.list_directory(None).unwrap();
    storage.delete_all(&[key("a"), key("b")]).unwrap();
    let entry = |operation, key: Option<Key>, error| LogEntry { operation, key, error };
    assert_eq!(
        storage.log(),
        [
            entry(Operation::Put, Some(key("a")), None),
            entry(Operation::Put, Some(key("a")), Some(ErrorKind::AlreadyExists)),
            entry(Operation::ListDirectory, None, None),
            entry(Operation::Delete, Some(key("a")), None),
            entry(Operation::Delete, Some(key("b")), None),
        ]
    );
}
