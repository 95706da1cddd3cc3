//! A restore brings every page to its place, whatever was there before, and does not wait for one request at a time.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::sync::{Condvar, Mutex};
use std::time::Duration;

use fs_err as fs;
use fs_err::os::unix::fs::FileExt;
use pgark_repository::codec::Compression;
use pgark_repository::container::WriteOptions;
use pgark_repository::manifest::Attributes;
use pgark_repository::map::Run;
use pgark_repository::pack::{FramePages, PackFrame, PackWriter};
use pgark_repository::{Encryption, PAGE_SIZE};
use pgark_storage::fault::{Effect, Fault, FaultyStorage};
use pgark_storage::{Capabilities, MemoryStorage, Operation};
use pgark_system::pace::Pacer;
use ulid::Ulid;

use super::*;
use crate::progress::{Board, Unit};
use crate::restore::place::{Place, Root};
use crate::restore::target::Present;

const FRAME_PAGES: u16 = 16;
const FRAME_BYTES: usize = FRAME_PAGES as usize * PAGE_SIZE;

/// Far longer than anything takes, even on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// A repository with one pack, whose frames hold the pages of one file.
struct Stored {
    storage: FaultyStorage,
    repository: Repository,
    stanza: StanzaName,
    packs: BTreeMap<PackId, PackUse>,
    content: Vec<u8>,
    pack: PackId,
}

impl Stored {
    fn new(frames: u32, requests_ahead: usize) -> Self {
        let storage = FaultyStorage::new(Arc::new(MemoryStorage::new().with_requests_ahead(requests_ahead)));
        let capabilities = Capabilities { conditional_create: true };
        let repository =
            Repository::create(Arc::new(storage.clone()), &Encryption::None, capabilities, "test").unwrap();
        let stanza: StanzaName = "demo".parse().unwrap();
        let content = noise(frames as usize * FRAME_BYTES);
        let pack = PackId { session: Ulid::from_bytes([1; 16]), number: 0 };
        let options = WriteOptions { compression: Compression::None, verify: false };
        let mut writer = PackWriter::new(&repository, &stanza, pack, options).unwrap();
        for (first, plain) in (0..).step_by(usize::from(FRAME_PAGES)).zip(content.chunks(FRAME_BYTES)) {
            let hashes: Vec<_> = plain.chunks(PAGE_SIZE).map(|page| repository.vault().page_hash(page)).collect();
            let pages = FramePages::Contiguous { first, count: FRAME_PAGES };
            let frame = PackFrame { path: b"base/5/1", pages: &pages, plain, page_hashes: &hashes };
            writer.append_frame(frame).unwrap();
        }
        let written = writer.finish().unwrap().written;
        let packs = [(pack, PackUse { length: written.length, used: 0, references: 0, root: written.root })].into();
        Self { storage, repository, stanza, packs, content, pack }
    }

    /// The map of a file that has every second frame, and zeros between them.
    fn every_second(&self) -> PageMap {
        let mut map = PageMap::default();
        for block in (0..u32::try_from(self.content.len() / FRAME_BYTES).unwrap()).step_by(2) {
            let source = Source::Frames { pack: self.pack, block, slot: 0, stride: FRAME_PAGES };
            map.push(Run { pages: FRAME_PAGES.into(), source });
            map.push(Run { pages: FRAME_PAGES.into(), source: Source::Zeros });
        }
        map
    }

    /// What a file with that map holds.
    fn every_second_content(&self) -> Vec<u8> {
        let mut content = self.content.clone();
        content.chunks_mut(FRAME_BYTES).skip(1).step_by(2).for_each(|frame| frame.fill(0));
        content
    }

    /// The map of a file that has all frames, in this order of those that lie one after the other in the pack.
    fn all(&self) -> PageMap {
        let mut map = PageMap::default();
        let pages = u32::try_from(self.content.len() / PAGE_SIZE).unwrap();
        map.push(Run { pages, source: Source::Frames { pack: self.pack, block: 0, slot: 0, stride: FRAME_PAGES } });
        map
    }

    /// Restores a file with holes into a directory, and an empty one. Gives the bytes that were fetched.
    fn restore(&self, directory: &Path, present: Present, workers: usize) -> Result<u64> {
        let size = self.content.len() as u64;
        let files = [("file", size, self.every_second()), ("empty", 0, PageMap::default())];
        self.restore_files(directory, &files, present, workers)
    }

    /// Restores files of so many bytes into a directory. Gives the bytes that were fetched.
    fn restore_files(
        &self,
        directory: &Path,
        files: &[(&str, u64, PageMap)],
        present: Present,
        workers: usize,
    ) -> Result<u64> {
        let root = Arc::new(Root::open(directory).unwrap());
        let owners = Owners::new(&[], &[], directory);
        let progress = Board::default().begin("restore", 1, Unit::Bytes);
        progress.expect(u64::MAX);
        let from = From {
            repository: &self.repository,
            stanza: &self.stanza,
            packs: &self.packs,
            owners: &owners,
            pacer: &Pacer::unlimited(),
            progress: &progress,
            telling: &Telling::new(),
        };
        let attributes = Attributes { mode: 0o640, modified: 1_000_000_000, ..Attributes::default() };
        let fetched = fetch(from, workers, |dispatcher| {
            files.iter().try_for_each(|(name, size, map)| {
                dispatcher.add(TargetFile::new(Place::new(&root, (*name).into()), *size, attributes, present), map)
            })
        })?;
        let bytes: u64 = files.iter().map(|(_, size, _)| size).sum();
        assert_eq!(progress.sample().done, bytes, "not each byte was counted once");
        Ok(fetched)
    }

    fn check(&self, directory: &Path) {
        assert!(fs::read(directory.join("file")).unwrap() == self.every_second_content(), "pages are wrong");
        assert!(fs::read(directory.join("empty")).unwrap().is_empty());
        for name in ["file", "empty"] {
            let metadata = fs::metadata(directory.join(name)).unwrap();
            assert_eq!(metadata.permissions().mode() & 0o7777, 0o640, "{name}");
            let modified = metadata.modified().unwrap().duration_since(std::time::UNIX_EPOCH).unwrap();
            assert_eq!(modified, Duration::from_secs(1_000_000_000), "{name}");
        }
    }
}

fn noise(length: usize) -> Vec<u8> {
    let mut state = 1_u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state.to_be_bytes()[0]
    };
    (0..length).map(|_| next()).collect()
}

#[test]
fn a_file_is_as_it_was_whatever_was_there() {
    for (requests_ahead, workers) in [(0, 1), (0, 3), (1, 1), (3, 2)] {
        let stored = Stored::new(40, requests_ahead);
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        let fetched = stored.restore(path, Present::Discarded, workers).unwrap();
        assert_eq!(fetched, stored.content.len() as u64 / 2);
        stored.check(path);

        assert_eq!(stored.restore(path, Present::Reused, workers).unwrap(), 0, "nothing differs");
        stored.check(path);

        // One page of a frame, one that is to be zero, and a tail that does not belong.
        let mut damaged = stored.every_second_content();
        damaged[5 * PAGE_SIZE] ^= 1;
        damaged[FRAME_BYTES + 100] = 1;
        damaged.extend_from_slice(b"tail");
        fs::write(path.join("file"), &damaged).unwrap();
        fs::write(path.join("empty"), "not empty").unwrap();
        assert_eq!(stored.restore(path, Present::Reused, workers).unwrap(), FRAME_BYTES as u64, "one frame differs");
        stored.check(path);

        fs::write(path.join("file"), "short").unwrap();
        stored.restore(path, Present::Reused, workers).unwrap();
        stored.check(path);

        fs::write(path.join("file"), &damaged).unwrap();
        stored.restore(path, Present::Discarded, workers).unwrap();
        stored.check(path);
    }
}

#[test]
fn of_many_small_files_only_what_is_wrong_is_brought() {
    const FILES: u32 = 100;
    let stored = Stored::new(FILES, 0);
    let names: Vec<String> = (0..FILES).map(|number| format!("file-{number:02}")).collect();
    // Short looks, and a long one now and then.
    let sizes: Vec<usize> = (0..FILES as usize).map(|number| (number % 11 + 1) * PAGE_SIZE).collect();
    let files = (0..).zip(names.iter().zip(&sizes)).map(|(block, (name, size))| {
        let mut map = PageMap::default();
        let source = Source::Frames { pack: stored.pack, block, slot: 0, stride: FRAME_PAGES };
        map.push(Run { pages: u32::try_from(size.div_ceil(PAGE_SIZE)).unwrap(), source });
        (name.as_str(), *size as u64, map)
    });
    let files: Vec<_> = files.collect();
    for workers in [1, 3] {
        let directory = tempfile::tempdir().unwrap();
        let contents = || stored.content.chunks(FRAME_BYTES).zip(&sizes).map(|(frame, size)| &frame[..*size]);
        let check = |what: &str| {
            for (name, content) in names.iter().zip(contents()) {
                let path = directory.path().join(name);
                assert!(fs::read(&path).unwrap() == content, "{what}: {name} is wrong");
                let metadata = fs::metadata(&path).unwrap();
                let modified = metadata.modified().unwrap().duration_since(std::time::UNIX_EPOCH).unwrap();
                assert_eq!(
                    (metadata.permissions().mode() & 0o7777, modified.as_secs()),
                    (0o640, 1_000_000_000),
                    "{name}"
                );
            }
        };
        stored.restore_files(directory.path(), &files, Present::Discarded, workers).unwrap();
        check("new");
        let mut wrong = 0;
        for (number, (name, content)) in names.iter().zip(contents()).enumerate() {
            let path = directory.path().join(name);
            let (is_wrong, found) = match number % 10 {
                0 => (true, [&[content[0] ^ 1], &content[1..]].concat()),
                1 => (true, content[..content.len() / 2].to_vec()),
                2 => (true, Vec::new()),
                3 => (true, content.to_vec()),
                4 => (false, [content, b"tail"].concat()),
                5 | 6 => (false, content.to_vec()),
                _ => continue,
            };
            wrong += u64::from(is_wrong);
            fs::write(&path, found).unwrap();
            match number % 10 {
                3 => fs::remove_file(&path).unwrap(),
                6 => fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap(),
                _ => {}
            }
        }
        let fetched = stored.restore_files(directory.path(), &files, Present::Reused, workers).unwrap();
        check("changed");
        assert_eq!(fetched, wrong * FRAME_BYTES as u64);
        assert_eq!(stored.restore_files(directory.path(), &files, Present::Reused, workers).unwrap(), 0);
        check("unchanged");
    }
}

#[test]
fn requests_are_under_way_while_others_wait_for_their_answers() {
    const WORKERS: usize = 2;
    const AHEAD: usize = 3;
    let stored = Stored::new(40, AHEAD);
    let gate = Arc::new((Mutex::new(0), Condvar::new()));
    let inside = Arc::clone(&gate);
    // The first answers come only once so many requests were sent.
    let wait = move |_: &dyn pgark_storage::Storage| {
        let (sent, changed) = &*inside;
        let mut sent = sent.lock().unwrap();
        *sent += 1;
        changed.notify_all();
        let (sent, _) = changed.wait_timeout_while(sent, PATIENCE, |sent| *sent < WORKERS * (AHEAD + 1)).unwrap();
        assert!(*sent >= WORKERS * (AHEAD + 1), "only {} requests are under way at once", *sent);
    };
    let gated = Fault::new(Effect::Interleave(Arc::new(wait))).on(Operation::GetRange).key_containing("/pack/");
    stored.storage.inject(gated.repeatedly());
    let directory = tempfile::tempdir().unwrap();
    stored.restore(directory.path(), Present::Discarded, WORKERS).unwrap();
    stored.check(directory.path());
}

#[test]
fn packs_are_opened_several_at_once_and_each_once() {
    const AHEAD: usize = 2;
    let mut stored = Stored::new(1, AHEAD);
    let options = WriteOptions { compression: Compression::None, verify: false };
    for number in 1..5 {
        let pack = PackId { number, ..stored.pack };
        let written =
            PackWriter::new(&stored.repository, &stored.stanza, pack, options).unwrap().finish().unwrap().written;
        stored.packs.insert(pack, PackUse { length: written.length, used: 0, references: 0, root: written.root });
    }
    let opened = Arc::new((Mutex::new(0), Condvar::new()));
    let inside = Arc::clone(&opened);
    // The first three are not there before all of them were asked for.
    let wait = move |_: &dyn pgark_storage::Storage| {
        let (count, changed) = &*inside;
        let mut count = count.lock().unwrap();
        *count += 1;
        changed.notify_all();
        let (count, _) = changed.wait_timeout_while(count, PATIENCE, |count| *count < AHEAD + 1).unwrap();
        assert!(*count > AHEAD, "only {} packs are opened at once", *count);
    };
    let gated = Fault::new(Effect::Interleave(Arc::new(wait))).on(Operation::GetTail).key_containing("/pack/");
    stored.storage.inject(gated.repeatedly());
    let ids: Vec<PackId> = stored.packs.keys().copied().collect();
    let mut packs = Packs::new(&stored.repository, &stored.stanza, &stored.packs);
    for _again in 0..2 {
        packs.announce(ids.iter().copied());
        for id in &ids {
            assert!(packs.get(*id).unwrap().pack.name().as_str().ends_with(&format!("{:08x}", id.number)));
        }
    }
    assert_eq!(*opened.0.lock().unwrap(), ids.len());
    let unknown = PackId { number: 9, ..stored.pack };
    assert_eq!(packs.get(unknown).unwrap_err().kind(), ErrorKind::Checksum, "it is not in the manifest's list");
}

#[test]
fn the_first_failure_ends_the_restore_and_is_told() {
    for requests_ahead in [0, 3] {
        let stored = Stored::new(40, requests_ahead);
        let damage = Fault::new(Effect::FlipByte { offset: 1000 }).on(Operation::GetRange).key_containing("/pack/");
        stored.storage.inject(damage.skipping(3));
        let directory = tempfile::tempdir().unwrap();
        let error = stored.restore(directory.path(), Present::Discarded, 2).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Checksum, "{error}");
        assert_eq!(stored.storage.fired(), 1);
    }
}

/// Restores files of sizes that no disk likes into a directory, whatever can be done there.
fn check_odd_sizes(directory: &Path) {
    let stored = Stored::new(40, 0);
    let whole = stored.content.len();
    let sizes = [whole, whole - 1, whole - PAGE_SIZE + 513, (1 << 20) + PAGE_SIZE, (1 << 20) - 1, 300_000, 1];
    let names: Vec<String> = sizes.iter().map(|size| format!("file-{size}")).collect();
    let files: Vec<_> = names
        .iter()
        .zip(sizes)
        .map(|(name, size)| {
            let mut map = PageMap::default();
            for run in stored.all().runs() {
                map.push(Run { pages: u32::try_from(size.div_ceil(PAGE_SIZE)).unwrap(), ..run });
            }
            (name.as_str(), size as u64, map)
        })
        .collect();
    let check = || {
        for (name, size) in names.iter().zip(sizes) {
            assert!(fs::read(directory.join(name)).unwrap() == stored.content[..size], "{name} is wrong");
            let modified = fs::metadata(directory.join(name)).unwrap().modified().unwrap();
            assert_eq!(modified.duration_since(std::time::UNIX_EPOCH).unwrap(), Duration::from_secs(1_000_000_000));
        }
    };
    for workers in [1, 3] {
        stored.restore_files(directory, &files, Present::Discarded, workers).unwrap();
        check();
        // What was killed while it wrote leaves files that have room and not yet content.
        for (name, size) in names.iter().zip(sizes) {
            fs::write(directory.join(name), vec![0; size]).unwrap();
        }
        stored.restore_files(directory, &files, Present::Reused, workers).unwrap();
        check();
        for name in &names {
            fs::remove_file(directory.join(name)).unwrap();
        }
    }
}

#[test]
fn files_of_odd_sizes_are_whole_on_a_disk_and_in_memory() {
    // Beside this program, which is on a disk: /tmp may be in memory.
    let program = std::env::current_exe().unwrap();
    for parent in [program.parent().unwrap(), Path::new("/dev/shm")] {
        check_odd_sizes(tempfile::tempdir_in(parent).unwrap().path());
    }
}

#[test]
fn files_of_odd_sizes_are_whole_where_there_is_no_way_past_the_page_cache() {
    let name = "files_of_odd_sizes_are_whole_where_there_is_no_way_past_the_page_cache";
    with_mount(name, &["-t", "ramfs", "ramfs"], |directory| {
        let file = fs::File::create(directory.join("file")).unwrap();
        assert!(!pgark_system::direct::set(&file, true).unwrap(), "ramfs has a way past the page cache");
        check_odd_sizes(directory);
    });
}

/// Restores a file into a directory where it finds no room, and expects to be told.
fn check_full(directory: &Path) {
    // More than all buffers hold.
    let stored = Stored::new(400, 0);
    for workers in [1, 3] {
        let files = [("file", stored.content.len() as u64, stored.all())];
        let error = stored.restore_files(directory, &files, Present::Discarded, workers).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::FileWrite, "{error}");
        let message = error.full_message();
        assert!(message.contains("/file") && message.contains("No space left"), "{message}");
    }
}

#[test]
fn a_full_disk_ends_the_restore_and_the_file_is_named() {
    let name = "a_full_disk_ends_the_restore_and_the_file_is_named";
    with_mount(name, &["-t", "tmpfs", "-o", "size=9m", "tmpfs"], check_full);
}

#[test]
fn a_full_disk_is_told_past_the_page_cache_too() {
    // Beside this program, which is on a disk: /tmp may be in memory.
    let program = std::env::current_exe().unwrap();
    let image = tempfile::NamedTempFile::new_in(program.parent().unwrap()).unwrap();
    image.as_file().set_len(24 << 20).unwrap();
    if !has_loop_devices(image.path()) {
        eprintln!("NOT TRIED: there is nobody here who may make a disk of a file, or no device for it");
        return;
    }
    let mut make = Command::new("mkfs.ext4");
    make.args(["-q", "-b", "4096", "-m", "0", "-O", "^has_journal"]).arg(image.path());
    assert!(make.status().unwrap().success(), "there is no file system to fill");
    let name = "a_full_disk_is_told_past_the_page_cache_too";
    with_mount(name, &["-t", "ext4", "-o", "loop", image.path().to_str().unwrap()], |directory| {
        let file = fs::File::create(directory.join("direct")).unwrap();
        let mut block = pgark_system::direct::Buffer::default();
        block.make_room(pgark_system::direct::ALIGNMENT);
        assert!(pgark_system::direct::set(&file, true).unwrap(), "ext4 has no way past the page cache");
        file.write_all_at(&block, 0).unwrap();
        check_full(directory);
        fs::remove_file(directory.join("file")).unwrap();
        check_odd_sizes(directory);
    });
}

/// Whether a file can be made a disk, which takes root, and which containers often do not allow even root.
fn has_loop_devices(image: &Path) -> bool {
    let attached = Command::new("losetup").args(["--find", "--show"]).arg(image).output();
    let Some(attached) = attached.ok().filter(|attached| attached.status.success()) else { return false };
    let device = String::from_utf8(attached.stdout).unwrap();
    assert!(Command::new("losetup").args(["--detach", device.trim()]).status().unwrap().success());
    true
}

/// Runs the test `name` of this room again in a mount namespace of its own, where `check` gets a directory in which such a
/// file system is mounted.
fn with_mount(name: &str, mount: &[&str], check: impl FnOnce(&Path)) {
    const ROLE: &str = "PGARK_TEST_DIRECTORY";
    if let Some(directory) = std::env::var_os(ROLE) {
        let mounted = Command::new("mount").args(mount).arg(&directory).status().unwrap();
        assert!(mounted.success(), "mount failed: {mounted}");
        return check(Path::new(&directory));
    }
    let directory = tempfile::tempdir().unwrap();
    let mut again = Command::new("unshare");
    if !rustix::process::geteuid().is_root() {
        again.args(["--user", "--map-root-user"]);
    }
    again.arg("--mount").arg(std::env::current_exe().unwrap());
    again.args(["--exact", &format!("restore::fetch::tests::{name}"), "--nocapture"]).env(ROLE, directory.path());
    let finished = again.output().unwrap();
    let output = String::from_utf8_lossy(&finished.stdout);
    assert!(output.contains("1 passed"), "{output}{}", String::from_utf8_lossy(&finished.stderr));
}
