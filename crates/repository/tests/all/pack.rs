//! Packs: what was put into frames comes out again, and is known by its hashes.

use std::sync::Arc;

use pgark_repository::codec::{Compression, Decoder};
use pgark_repository::container::{BlockKind, WriteOptions};
use pgark_repository::pack::{FramePages, Pack, PackFrame, PackWriter, WrittenPack};
use pgark_repository::{Encryption, Error, PAGE_SIZE, PackId, Repository};
use pgark_storage::fault::FaultyStorage;
use pgark_storage::{LocalStorage, MemoryStorage, Operation};
use ulid::Ulid;

use crate::room::{Room, create};
use crate::sample::stanza;

const COMPRESSIONS: [Compression; 4] =
    [Compression::None, Compression::Lz4, Compression::Zstd(3), Compression::Zstd(-7)];

fn id(number: u32) -> PackId {
    PackId { session: Ulid::from_bytes([1; 16]), number }
}

fn options(compression: Compression, verify: bool) -> WriteOptions {
    WriteOptions { compression, verify }
}

struct Frame {
    path: &'static [u8],
    pages: FramePages,
    plain: Vec<u8>,
}

/// Every form that a frame can have.
fn frames() -> Vec<Frame> {
    let bytes = |seed: u8, length: usize| {
        let mut bytes = vec![seed; length];
        blake3::Hasher::new().update(&[seed]).finalize_xof().fill(&mut bytes[..length / 2]);
        bytes
    };
    let contiguous = |first, count| FramePages::Contiguous { first, count };
    vec![
        Frame { path: b"base/5/1259", pages: contiguous(0, 1), plain: bytes(1, 1) },
        Frame { path: b"base/5/1259", pages: contiguous(1, 64), plain: bytes(2, 64 * PAGE_SIZE) },
        Frame { path: b"base/5/2", pages: contiguous(131_071, 3), plain: bytes(3, 2 * PAGE_SIZE + 17) },
        Frame { path: b"odd \xFF", pages: FramePages::Scattered(vec![9]), plain: bytes(4, PAGE_SIZE) },
        Frame {
            path: b"base/5/1259",
            pages: FramePages::Scattered((0..64).map(|page| page * page + 70).collect()),
            plain: bytes(5, 64 * PAGE_SIZE - 1),
        },
        Frame { path: b"base/5/2", pages: FramePages::Scattered(vec![0, 1, u32::MAX]), plain: vec![0; 3 * PAGE_SIZE] },
    ]
}

fn page_hashes(repository: &Repository, plain: &[u8]) -> Vec<[u8; 16]> {
    plain.chunks(PAGE_SIZE).map(|page| repository.vault().page_hash(page)).collect()
}

fn append(pack: &mut PackWriter<'_>, repository: &Repository, frame: &Frame) -> (u32, u32) {
    let page_hashes = page_hashes(repository, &frame.plain);
    pack.append_frame(PackFrame {
        path: frame.path,
        pages: &frame.pages,
        plain: &frame.plain,
        page_hashes: &page_hashes,
    })
    .unwrap()
}

fn write(repository: &Repository, number: u32, options: WriteOptions) -> WrittenPack {
    let mut pack = PackWriter::new(repository, &stanza(), id(number), options).unwrap();
    for (index, frame) in frames().iter().enumerate() {
        assert_eq!(pack.next_block() as usize, index + index.div_ceil(2));
        append(&mut pack, repository, frame);
        // Blocks of maps lie among the frames.
        if index % 2 == 0 {
            pack.append_maps(&[&[u8::try_from(index).unwrap(); 10]], 1).unwrap();
        }
    }
    pack.finish().unwrap()
}

#[test]
fn frames_come_out_as_they_were_put_in() {
    for room in Room::all() {
        let repository = &room.repository;
        for (number, compression) in (0..).zip(COMPRESSIONS) {
            let written = write(repository, number, options(compression, number % 2 == 0));
            let pack = Pack::open(repository, &stanza(), id(number), Some(written.written.root)).unwrap();
            assert_eq!(pack.container().length(), written.written.length);
            let files = pack.files().unwrap();
            assert_eq!(files, [&b"base/5/1259"[..], b"base/5/2", b"odd \xFF"]);
            let found = pack.frames_with_hashes().unwrap();
            assert_eq!(found.len(), frames().len());
            for ((entry, hashes), frame) in found.iter().zip(frames()) {
                assert_eq!(files[entry.file as usize], frame.path);
                assert_eq!(entry.pages, frame.pages);
                assert_eq!(*hashes, page_hashes(repository, &frame.plain));
                let plain = pack.container().block(&*room.storage, entry.block).unwrap();
                assert!(plain == frame.plain, "{compression:?}, block {}, {}", entry.block, room.name);
            }
            let maps: Vec<_> = pack.container().blocks_of(BlockKind::Maps).collect();
            assert_eq!(maps, [1, 4, 7]);
            assert_eq!(pack.container().block(&*room.storage, 4).unwrap(), [2; 10]);
        }
    }
}

/// A restore fetches neighbouring frames with one request, and decodes each from its part of the answer.
#[test]
fn neighbouring_frames_can_be_fetched_at_once() {
    for room in Room::all() {
        write(&room.repository, 0, options(Compression::Zstd(3), true));
        let pack = Pack::open(&room.repository, &stanza(), id(0), None).unwrap();
        let container = pack.container();
        let (start, end) = (container.range(0).unwrap().start, container.range(8).unwrap().end);
        let mut fetched = room.storage.get_range(pack.name(), start, usize::try_from(end - start).unwrap()).unwrap();
        let (mut decoder, mut plain) = (Decoder::default(), Vec::new());
        for (entry, frame) in pack.frames().unwrap().iter().zip(frames()) {
            let range = container.range(entry.block).unwrap();
            let part = usize::try_from(range.start - start).unwrap()..usize::try_from(range.end - start).unwrap();
            container.decode(entry.block, &mut fetched[part], &mut decoder, &mut plain).unwrap();
            assert!(plain == frame.plain, "block {}, {}", entry.block, room.name);
        }
    }
}

#[test]
fn a_frame_is_not_taken_for_another() {
    for room in [Room::plain(), Room::encrypted()] {
        write(&room.repository, 0, options(Compression::None, true));
        let pack = Pack::open(&room.repository, &stanza(), id(0), None).unwrap();
        let container = pack.container();
        let stored = |block: u32| {
            let range = container.range(block).unwrap();
            room.storage.get_range(pack.name(), range.start, usize::try_from(range.end - range.start).unwrap()).unwrap()
        };
        let mut plain = Vec::new();
        // Blocks 1, 4 and 7 are of the same length.
        for (block, other) in [(1, 4), (4, 7), (0, 2)] {
            let error = container.decode(block, &mut stored(other), &mut Decoder::default(), &mut plain).unwrap_err();
            assert!(matches!(error, Error::Damaged { .. }), "{error}");
        }
        let error = container.block(&*room.storage, 99).unwrap_err();
        assert!(error.to_string().contains("it has no block 99"), "{error}");
    }
}

#[test]
fn an_empty_pack_has_all_its_tables() {
    let room = Room::encrypted();
    let pack = PackWriter::new(&room.repository, &stanza(), id(0), options(Compression::Zstd(3), true)).unwrap();
    pack.finish().unwrap();
    let pack = Pack::open(&room.repository, &stanza(), id(0), None).unwrap();
    assert!(pack.files().unwrap().is_empty() && pack.frames_with_hashes().unwrap().is_empty());
}

#[test]
fn another_pack_than_the_manifests_is_refused() {
    let room = Room::plain();
    let first = write(&room.repository, 0, options(Compression::None, true));
    room.storage.delete(Pack::open(&room.repository, &stanza(), id(0), None).unwrap().name()).unwrap();
    let second = write(&room.repository, 0, options(Compression::None, true));
    assert_ne!(first.written.root, second.written.root, "the salt makes each object one of its own");
    Pack::open(&room.repository, &stanza(), id(0), Some(second.written.root)).unwrap();
    let error = Pack::open(&room.repository, &stanza(), id(0), Some(first.written.root)).unwrap_err();
    assert!(error.to_string().contains("another pack than the one that the manifest names"), "{error}");
}

#[test]
fn a_pack_is_created_only_where_there_is_none() {
    for room in Room::all() {
        let first = write(&room.repository, 0, options(Compression::None, true));
        let mut pack = PackWriter::new(&room.repository, &stanza(), id(0), options(Compression::None, true)).unwrap();
        append(&mut pack, &room.repository, &frames()[0]);
        let error = pack.finish().unwrap_err();
        assert!(matches!(&error, Error::Storage(error) if error.is_already_exists()), "{error}");
        Pack::open(&room.repository, &stanza(), id(0), Some(first.written.root)).unwrap();
    }
}

#[test]
fn nothing_is_seen_of_a_pack_that_was_not_finished() {
    for room in Room::all() {
        let before = room.objects();
        let mut pack = PackWriter::new(&room.repository, &stanza(), id(0), options(Compression::None, true)).unwrap();
        append(&mut pack, &room.repository, &frames()[1]);
        drop(pack);
        assert_eq!(room.objects(), before, "{}", room.name);
    }
}

#[test]
fn frames_that_no_reader_would_take_are_not_written() {
    let room = Room::plain();
    let mut pack = PackWriter::new(&room.repository, &stanza(), id(0), options(Compression::None, true)).unwrap();
    let contiguous = |first, count| FramePages::Contiguous { first, count };
    for (pages, length) in [
        (contiguous(0, 0), 0),
        (contiguous(0, 65), 65 * PAGE_SIZE),
        (contiguous(0, 2), PAGE_SIZE),
        (contiguous(0, 1), 0),
        (contiguous(0, 1), PAGE_SIZE + 1),
        (contiguous(u32::MAX, 2), 2 * PAGE_SIZE),
        (FramePages::Scattered(Vec::new()), 0),
        (FramePages::Scattered((0..65).collect()), 65 * PAGE_SIZE),
        (FramePages::Scattered(vec![2, 1]), 2 * PAGE_SIZE),
        (FramePages::Scattered(vec![1, 1]), 2 * PAGE_SIZE),
    ] {
        let page_hashes = vec![[0; 16]; pages.count()];
        let frame = PackFrame { path: b"a", pages: &pages, plain: &vec![7; length], page_hashes: &page_hashes };
        let error = pack.append_frame(frame).unwrap_err();
        assert!(matches!(error, Error::Limit { .. }), "{pages:?}: {error}");
    }
    assert_eq!(pack.next_block(), 0);
}

/// Opening a pack costs one request; a cold restore from an object store pays for each.
#[test]
fn a_small_pack_is_read_with_one_request() {
    let storage = FaultyStorage::new(Arc::new(MemoryStorage::new()));
    let repository = create(Arc::new(storage.clone()), &Encryption::None).unwrap();
    let mut pack = PackWriter::new(&repository, &stanza(), id(0), options(Compression::None, true)).unwrap();
    append(&mut pack, &repository, &frames()[0]);
    pack.finish().unwrap();
    let before = storage.log().len();
    let pack = Pack::open(&repository, &stanza(), id(0), None).unwrap();
    pack.frames_with_hashes().unwrap();
    let log = storage.log();
    let operations: Vec<_> = log[before..].iter().map(|entry| entry.operation).collect();
    assert_eq!(operations, [Operation::GetTail]);
}

/// How many frames fit before the pack is full.
fn frames_until_full(compression: Compression, mut frame: impl FnMut(u32) -> Frame) -> u32 {
    let directory = tempfile::tempdir().unwrap();
    let storage = Arc::new(LocalStorage::open(directory.path()).unwrap());
    let repository = create(storage, &Encryption::None).unwrap();
    let mut pack = PackWriter::new(&repository, &stanza(), id(0), options(compression, false)).unwrap();
    for number in 0.. {
        if pack.is_full() {
            return number;
        }
        let Frame { path, pages, plain } = frame(number);
        let page_hashes = vec![[0; 16]; pages.count()];
        pack.append_frame(PackFrame { path, pages: &pages, plain: &plain, page_hashes: &page_hashes }).unwrap();
    }
    unreachable!("a pack is full at some time")
}

fn of_pages(first: u32, count: u16, byte: u8) -> Frame {
    let plain = vec![byte; usize::from(count) * PAGE_SIZE];
    Frame { path: b"base/5/1259", pages: FramePages::Contiguous { first, count }, plain }
}

#[test]
fn a_pack_is_full_at_128_mib() {
    let frames = frames_until_full(Compression::None, |number| of_pages(number * 64, 64, 1));
    assert_eq!(frames, 256);
}

#[test]
fn a_pack_is_full_at_32768_blocks() {
    let frames = frames_until_full(Compression::Lz4, |number| Frame { plain: vec![1; 20], ..of_pages(number, 1, 1) });
    assert_eq!(frames, 32_768);
}

#[test]
fn a_pack_is_full_at_262144_pages() {
    let frames = frames_until_full(Compression::Zstd(-7), |number| of_pages(number * 64, 64, 1));
    assert_eq!(frames, 4096);
}

#[test]
fn a_pack_is_full_at_1_mib_of_paths() {
    let frames = frames_until_full(Compression::None, |number| Frame {
        path: format!("{number:01000}").into_bytes().leak(),
        plain: vec![1; 20],
        ..of_pages(0, 1, 1)
    });
    assert_eq!(frames, (1 << 20) / 1000 + 1);
}
