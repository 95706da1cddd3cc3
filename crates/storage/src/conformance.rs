//! What every driver must do: a suite that each one runs in its own tests.

#![expect(clippy::unwrap_used, reason = "a test suite: a failure is a panic")]

use std::ops::ControlFlow;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use pgark_system::direct::Buffer;

use crate::error::{ErrorKind, Result};
use crate::key::Key;
use crate::{Capabilities, Entry, EntryKind, PutMode, Storage, Tail, probe};

/// How large the object is that is written as a stream: several parts of a multipart upload, and not a round number.
const LARGE: usize = 20 * 1024 * 1024 + 12_345;

const RACING_WRITERS: usize = 8;
const RACES: usize = 10;

type Check = fn(&dyn Storage);

/// What every storage promises.
const CHECKS: [Check; 15] = [
    what_was_put_is_read,
    absent_objects_are_not_found,
    a_limit_is_kept,
    ranges_are_exact,
    tails_are_exact,
    create_fails_where_the_name_is_taken,
    replace_takes_the_place,
    replacing_is_atomic,
    a_stream_appears_when_finished,
    an_abandoned_stream_leaves_nothing,
    large_streams_are_whole,
    unusual_names_work,
    listings_are_complete_and_in_order,
    directories_are_listed_one_level_deep,
    deleting_is_idempotent,
];

/// What a storage promises besides that has conditional writes.
const CHECKS_OF_CONDITIONS: [Check; 2] = [creating_has_one_winner, finishing_has_one_winner];

/// Runs every check, each on a storage that `make` gives and that must be empty.
///
/// # Panics
/// When the driver does not do what [`Storage`] promises.
pub fn run(make: impl Fn() -> Box<dyn Storage>) {
    for check in CHECKS.iter().chain(&CHECKS_OF_CONDITIONS) {
        check(&*make());
    }
    assert_eq!(probe(&*make()).unwrap(), Capabilities { conditional_create: true });
}

/// Runs every check but those that it takes conditional writes for, which the storage must be found not to have.
///
/// # Panics
/// As [`run`].
pub fn run_without_conditions(make: impl Fn() -> Box<dyn Storage>) {
    let found = probe(&*make()).unwrap();
    assert_eq!(found, Capabilities { conditional_create: false });
    for check in CHECKS {
        let storage = make();
        storage.adopt(found);
        check(&*storage);
    }
}

fn key(text: &str) -> Key {
    Key::parse(text).unwrap()
}

fn put(storage: &dyn Storage, name: &str, bytes: &[u8]) {
    storage.put(&key(name), bytes, PutMode::Create).unwrap();
}

/// The kind of the error, which must name the object and the storage.
#[track_caller]
/// A range, got in both ways, of which neither may depend on what was got before.
fn range(storage: &dyn Storage, key: &Key, offset: u64, length: usize) -> Result<Vec<u8>> {
    let mut buffer = Buffer::from(b"something else".to_vec());
    let into = storage.get_range_into(key, offset, length, &mut buffer);
    let range = storage.get_range(key, offset, length);
    match (&range, &into) {
        (Ok(bytes), Ok(())) => assert_eq!(**bytes, *buffer),
        (Err(one), Err(other)) => assert_eq!(one.to_string(), other.to_string()),
        _ => panic!("{range:?} but {into:?}"),
    }
    range
}

fn failure<T: std::fmt::Debug>(storage: &dyn Storage, name: &str, result: Result<T>) -> ErrorKind {
    let error = result.unwrap_err();
    assert_eq!(error.key(), Some(&key(name)));
    let message = error.to_string();
    assert!(message.contains(name) && message.contains(&storage.describe()), "not named in: {message}");
    error.kind()
}

fn names_below(storage: &dyn Storage, prefix: Option<&str>) -> Vec<String> {
    let mut names = Vec::new();
    storage
        .list(prefix.map(key).as_ref(), &mut |object| {
            names.push(object.key.to_string());
            ControlFlow::Continue(())
        })
        .unwrap();
    names
}

/// Bytes without a period that a wrong order of parts could hide in.
fn pattern(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_u32;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state.to_le_bytes()[0]
    };
    (0..length).map(|_| next()).collect()
}

fn what_was_put_is_read(storage: &dyn Storage) {
    for (name, length) in [("empty", 0), ("a/one", 1), ("a/b/c/d/some", 100_000)] {
        let bytes = pattern(length);
        put(storage, name, &bytes);
        assert_eq!(storage.get(&key(name), length as u64).unwrap(), bytes);
        let info = storage.head(&key(name)).unwrap().unwrap();
        assert_eq!((info.key, info.size), (key(name), length as u64));
    }
    let times = ["empty", "a/one"].map(|name| storage.head(&key(name)).unwrap().unwrap().modified);
    assert!(times[0] <= times[1], "the storage's clock goes backwards");
}

fn absent_objects_are_not_found(storage: &dyn Storage) {
    put(storage, "a/b", b"x");
    for name in ["c", "a/c", "c/d/e", "a/b/c"] {
        assert!(storage.head(&key(name)).unwrap().is_none());
        assert_eq!(failure(storage, name, storage.get(&key(name), 9)), ErrorKind::NotFound);
        assert_eq!(failure(storage, name, range(storage, &key(name), 0, 1)), ErrorKind::NotFound);
        assert_eq!(failure(storage, name, range(storage, &key(name), 0, 0)), ErrorKind::NotFound);
        assert_eq!(failure(storage, name, storage.get_tail(&key(name), 1)), ErrorKind::NotFound);
        assert_eq!(failure(storage, name, storage.get_tail(&key(name), 0)), ErrorKind::NotFound);
    }
}

fn a_limit_is_kept(storage: &dyn Storage) {
    put(storage, "a", b"12345");
    assert_eq!(storage.get(&key("a"), 5).unwrap(), b"12345");
    assert_eq!(storage.get(&key("a"), u64::MAX).unwrap(), b"12345");
    assert_eq!(failure(storage, "a", storage.get(&key("a"), 4)), ErrorKind::TooLarge);
    assert_eq!(failure(storage, "a", storage.get(&key("a"), 0)), ErrorKind::TooLarge);
}

fn ranges_are_exact(storage: &dyn Storage) {
    put(storage, "a", b"0123456789");
    put(storage, "empty", b"");
    for (offset, length, expected) in
        [(0, 10, "0123456789"), (0, 1, "0"), (9, 1, "9"), (3, 4, "3456"), (0, 0, ""), (5, 0, ""), (10, 0, "")]
    {
        assert_eq!(range(storage, &key("a"), offset, length).unwrap(), expected.as_bytes());
    }
    assert_eq!(range(storage, &key("empty"), 0, 0).unwrap(), b"");
    for (offset, length) in [(0, 11), (9, 2), (10, 1), (11, 0), (u64::MAX, 1), (1, usize::MAX), (u64::MAX, usize::MAX)]
    {
        assert_eq!(failure(storage, "a", range(storage, &key("a"), offset, length)), ErrorKind::TooShort);
    }
    assert_eq!(failure(storage, "empty", range(storage, &key("empty"), 0, 1)), ErrorKind::TooShort);
}

fn tails_are_exact(storage: &dyn Storage) {
    put(storage, "a", b"0123456789");
    put(storage, "empty", b"");
    for (length, expected) in
        [(0, ""), (1, "9"), (4, "6789"), (10, "0123456789"), (11, "0123456789"), (usize::MAX, "0123456789")]
    {
        let tail = storage.get_tail(&key("a"), length).unwrap();
        assert_eq!(tail, Tail { bytes: expected.into(), size: 10 });
    }
    for length in [0, 1, usize::MAX] {
        assert_eq!(storage.get_tail(&key("empty"), length).unwrap(), Tail { bytes: Vec::new(), size: 0 });
    }
}

fn create_fails_where_the_name_is_taken(storage: &dyn Storage) {
    put(storage, "a/b", b"first");
    let second = storage.put(&key("a/b"), b"second", PutMode::Create);
    assert_eq!(failure(storage, "a/b", second), ErrorKind::AlreadyExists);
    let streamed = storage.create(&key("a/b")).and_then(|mut writer| {
        writer.write(b"third")?;
        writer.finish()
    });
    assert_eq!(failure(storage, "a/b", streamed), ErrorKind::AlreadyExists);
    assert_eq!(storage.get(&key("a/b"), 99).unwrap(), b"first");
    assert_eq!(names_below(storage, None), ["a/b"]);
}

fn replace_takes_the_place(storage: &dyn Storage) {
    storage.put(&key("a/b"), b"the first", PutMode::Replace).unwrap();
    storage.put(&key("a/b"), b"second", PutMode::Replace).unwrap();
    assert_eq!(storage.get(&key("a/b"), 99).unwrap(), b"second");
    assert_eq!(storage.head(&key("a/b")).unwrap().unwrap().size, 6);
    assert_eq!(names_below(storage, None), ["a/b"]);
}

fn replacing_is_atomic(storage: &dyn Storage) {
    let states = [vec![1; 70_000], vec![2; 50_000]];
    let finished = AtomicBool::new(false);
    put(storage, "a", &states[0]);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !finished.load(Ordering::Relaxed) {
                    let read = storage.get(&key("a"), 100_000).unwrap();
                    assert!(states.contains(&read), "a reader saw a mixture of {} bytes", read.len());
                    let tail = storage.get_tail(&key("a"), 10).unwrap();
                    let size = if tail.bytes[0] == 1 { 70_000 } else { 50_000 };
                    assert_eq!(tail.size, size, "a reader saw the end of one state and the size of another");
                }
            });
        }
        for round in 0..100 {
            storage.put(&key("a"), &states[round % 2], PutMode::Replace).unwrap();
        }
        finished.store(true, Ordering::Relaxed);
    });
}

/// Lets writers race for one name and checks that exactly one wins.
fn race(storage: &dyn Storage, write: fn(&dyn Storage, &Key, &[u8]) -> Result<()>) {
    for round in 0..RACES {
        let contested = key(&format!("race-{round}/object"));
        let start = Barrier::new(RACING_WRITERS);
        let results: Vec<_> = thread::scope(|scope| {
            let writers: Vec<_> = (0..RACING_WRITERS)
                .map(|writer| {
                    let (start, contested) = (&start, &contested);
                    scope.spawn(move || {
                        start.wait();
                        write(storage, contested, &content_of(writer))
                    })
                })
                .collect();
            writers.into_iter().map(|writer| writer.join().unwrap()).collect()
        });
        let winners: Vec<_> = (0..RACING_WRITERS).filter(|&writer| results[writer].is_ok()).collect();
        assert_eq!(winners.len(), 1, "there must be one winner: {results:?}");
        assert_eq!(storage.get(&contested, 1_000_000).unwrap(), content_of(winners[0]));
        for error in results.into_iter().filter_map(Result::err) {
            assert_eq!(error.kind(), ErrorKind::AlreadyExists, "{error}");
        }
    }
}

fn content_of(writer: usize) -> Vec<u8> {
    format!("writer {writer}").repeat(1000 + writer).into_bytes()
}

fn creating_has_one_winner(storage: &dyn Storage) {
    race(storage, |storage, key, bytes| storage.put(key, bytes, PutMode::Create));
}

fn finishing_has_one_winner(storage: &dyn Storage) {
    race(storage, |storage, key, bytes| {
        let mut writer = storage.create(key)?;
        writer.write(bytes)?;
        writer.finish()
    });
}

fn a_stream_appears_when_finished(storage: &dyn Storage) {
    let mut writer = storage.create(&key("a/b")).unwrap();
    for part in ["123", "", "45"] {
        writer.write(part.as_bytes()).unwrap();
        assert!(storage.head(&key("a/b")).unwrap().is_none());
        assert!(storage.get(&key("a/b"), 9).unwrap_err().is_not_found());
        assert!(names_below(storage, None).is_empty());
        assert!(storage.list_directory(Some(&key("a"))).unwrap().is_empty());
    }
    writer.finish().unwrap();
    assert_eq!(storage.get(&key("a/b"), 9).unwrap(), b"12345");
    storage.create(&key("empty")).unwrap().finish().unwrap();
    assert_eq!(storage.get(&key("empty"), 9).unwrap(), b"");
}

fn an_abandoned_stream_leaves_nothing(storage: &dyn Storage) {
    let mut writer = storage.create(&key("a/b")).unwrap();
    writer.write(&pattern(1_000_000)).unwrap();
    drop(writer);
    assert!(storage.head(&key("a/b")).unwrap().is_none());
    assert!(names_below(storage, None).is_empty());
    put(storage, "a/b", b"x");
}

fn large_streams_are_whole(storage: &dyn Storage) {
    let bytes = pattern(LARGE);
    let mut writer = storage.create(&key("large")).unwrap();
    // Parts from one byte to more than any buffer.
    let (mut start, mut length) = (0, 1);
    while start < LARGE {
        let end = LARGE.min(start + length);
        writer.write(&bytes[start..end]).unwrap();
        (start, length) = (end, if length > 6_000_000 { 1 } else { length * 3 });
    }
    writer.finish().unwrap();
    assert!(storage.get(&key("large"), LARGE as u64).unwrap() == bytes, "the object differs from what was written");
    let range = range(storage, &key("large"), 8_388_600, 20).unwrap();
    assert_eq!(range, bytes[8_388_600..8_388_620]);
    let tail = storage.get_tail(&key("large"), 100).unwrap();
    assert_eq!((tail.bytes.as_slice(), tail.size), (&bytes[LARGE - 100..], LARGE as u64));
}

fn unusual_names_work(storage: &dyn Storage) {
    let long = ["x".repeat(200), "y".repeat(255)].join("/");
    let names = [
        "a b",
        "a+b",
        "a%2fb",
        "%",
        "a&b=c",
        "a?b#c",
        "\u{e4}\u{20ac}/\u{1f418}",
        "..a/b..",
        "-",
        "~",
        "a\\b",
        "'\"",
        "a:b",
        "<x>",
        &long,
    ];
    for (index, name) in names.iter().enumerate() {
        put(storage, name, &[u8::try_from(index).unwrap()]);
    }
    for (index, name) in names.iter().enumerate() {
        assert_eq!(storage.get(&key(name), 9).unwrap(), [u8::try_from(index).unwrap()], "{name}");
    }
    let mut sorted = names.map(String::from);
    sorted.sort();
    assert_eq!(names_below(storage, None), sorted);
    for name in names {
        storage.delete(&key(name)).unwrap();
        assert!(storage.head(&key(name)).unwrap().is_none(), "{name}");
    }
}

fn listings_are_complete_and_in_order(storage: &dyn Storage) {
    let mut names: Vec<_> = ["a/b/1", "a/b/2/x", "a/b-c", "a/bc", "a/b0", "a-b/c", "a0", "z"].map(String::from).into();
    names.extend((0..1100).map(|number| format!("many/{number}")));
    thread::scope(|scope| {
        for share in names.chunks(100) {
            scope.spawn(move || share.iter().for_each(|name| put(storage, name, name.as_bytes())));
        }
    });
    names.sort();
    assert_eq!(names_below(storage, None), names);
    assert_eq!(names_below(storage, Some("a/b")), ["a/b/1", "a/b/2/x"]);
    assert_eq!(names_below(storage, Some("a")), ["a/b-c", "a/b/1", "a/b/2/x", "a/b0", "a/bc"]);
    for empty in ["a/bc", "a/b/3", "b", "x/y/z"] {
        assert!(names_below(storage, Some(empty)).is_empty(), "{empty}");
    }
    let mut seen = Vec::new();
    storage
        .list(Some(&key("a")), &mut |object| {
            assert_eq!(Some(&object), storage.head(&object.key).unwrap().as_ref());
            seen.push(object.key.to_string());
            if seen.len() == 3 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })
        .unwrap();
    assert_eq!(seen, ["a/b-c", "a/b/1", "a/b/2/x"], "the visitor broke off after three");
}

fn directories_are_listed_one_level_deep(storage: &dyn Storage) {
    for name in ["a/b/1", "a/b/2/x", "a/b-c", "a/c", "d"] {
        put(storage, name, name.as_bytes());
    }
    let list = |prefix: Option<&str>| storage.list_directory(prefix.map(key).as_ref()).unwrap();
    let directory = |name: &str| Entry { name: name.to_owned(), kind: EntryKind::Directory };
    let object = |name: &str| {
        let info = storage.head(&key(name)).unwrap().unwrap();
        Entry { name: info.key.name().to_owned(), kind: EntryKind::Object(info) }
    };
    assert_eq!(list(None), [directory("a"), object("d")]);
    assert_eq!(list(Some("a")), [directory("b"), object("a/b-c"), object("a/c")]);
    assert_eq!(list(Some("a/b")), [object("a/b/1"), directory("2")]);
    assert!(list(Some("a/x")).is_empty());
    assert!(list(Some("d")).is_empty());
}

fn deleting_is_idempotent(storage: &dyn Storage) {
    for name in ["a/b/c", "a/b/d", "a/e", "f"] {
        put(storage, name, b"x");
    }
    storage.delete(&key("a/b/c")).unwrap();
    storage.delete(&key("a/b/c")).unwrap();
    storage.delete(&key("never/was/there")).unwrap();
    assert_eq!(names_below(storage, None), ["a/b/d", "a/e", "f"]);
    storage.delete_all(&[]).unwrap();
    storage.delete_all(&[key("a/b/d"), key("a/b/c"), key("f"), key("a/b/d")]).unwrap();
    assert_eq!(names_below(storage, None), ["a/e"]);
    put(storage, "a/b/c", b"again");
    assert_eq!(storage.get(&key("a/b/c"), 9).unwrap(), b"again");
    storage.delete_all(&[key("a/b/c"), key("a/e")]).unwrap();
    assert!(names_below(storage, None).is_empty());
    assert!(storage.list_directory(None).unwrap().is_empty(), "an empty directory was left");
}
