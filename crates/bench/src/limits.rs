//! What the machine itself can do with the data of a cluster, against which programs are judged.

use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use fs_err as fs;
use pgark_system::clock::Stopwatch;
use serde::{Deserialize, Serialize};

use crate::files::{self, regular_files};
use crate::random::Random;
use crate::tool::{COMPRESSION_LEVEL, WORKERS};

/// Seconds to do a part of a backup's or a restore's work and nothing else, with as many workers as the programs get.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Limits {
    /// Reading all files once, from the disk.
    pub(crate) read: f64,
    /// Compressing all that is in them.
    pub(crate) compress: f64,
    /// Writing as many bytes, with a sync at the end.
    pub(crate) write: f64,
}

/// What is compressed at once.
const FRAME_BYTES: usize = 128 * 1024;
const READ_BYTES: usize = 1024 * 1024;

/// Measures the machine on the files below `directory`; what is written goes into `scratch`.
pub(crate) fn measure(directory: &Path, scratch: &Path) -> io::Result<Limits> {
    files::chill(directory)?;
    let read = seconds_of(|| for_all_pieces(directory, |_| Ok(Duration::ZERO)))?;
    let compress = for_all_pieces(directory, |piece| {
        let stopwatch = Stopwatch::start();
        for frame in piece.chunks(FRAME_BYTES) {
            zstd::bulk::compress(frame, COMPRESSION_LEVEL)?;
        }
        Ok(stopwatch.elapsed())
    })?;
    let bytes = files::extent(directory)?.bytes;
    let written = scratch.join("written");
    fs::create_dir(&written)?;
    let write = seconds_of(|| write_all(&written, bytes))?;
    files::remove(&written)?;
    Ok(Limits { read, compress: compress.as_secs_f64(), write })
}

fn seconds_of<T>(work: impl FnOnce() -> io::Result<T>) -> io::Result<f64> {
    let stopwatch = Stopwatch::start();
    work()?;
    Ok(stopwatch.elapsed().as_secs_f64())
}

/// Hands all that the files contain to `work`, in pieces, on all workers; gives the longest time that the work of one
/// worker took by its own account.
fn for_all_pieces(directory: &Path, work: impl Fn(&[u8]) -> io::Result<Duration> + Sync) -> io::Result<Duration> {
    let files = regular_files(directory)?;
    let next = AtomicUsize::new(0);
    let times = on_all_workers(|| {
        let mut time = Duration::ZERO;
        let mut buffer = vec![0; READ_BYTES];
        while let Some(path) = files.get(next.fetch_add(1, Ordering::Relaxed)) {
            time += for_pieces_of(path, &mut buffer, &work)?;
        }
        Ok(time)
    })?;
    Ok(times.into_iter().max().unwrap_or_default())
}

fn for_pieces_of(
    path: &PathBuf,
    buffer: &mut [u8],
    work: &impl Fn(&[u8]) -> io::Result<Duration>,
) -> io::Result<Duration> {
    let mut file = fs::File::open(path)?;
    let mut time = Duration::ZERO;
    loop {
        let length = file.read(buffer)?;
        if length == 0 {
            return Ok(time);
        }
        time += work(&buffer[..length])?;
    }
}

/// Writes `bytes` bytes that do not compress, a file for each worker.
fn write_all(directory: &Path, bytes: u64) -> io::Result<()> {
    let mut piece = vec![0; READ_BYTES];
    Random::new(1).fill(&mut piece);
    let left = AtomicU64::new(bytes.div_ceil(READ_BYTES as u64));
    let number = AtomicUsize::new(0);
    on_all_workers(|| {
        let name = number.fetch_add(1, Ordering::Relaxed).to_string();
        let mut file = fs::File::create(directory.join(name))?;
        while left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok() {
            file.write_all(&piece)?;
        }
        file.sync_all()
    })?;
    Ok(())
}

fn on_all_workers<T: Send>(work: impl Fn() -> io::Result<T> + Sync) -> io::Result<Vec<T>> {
    thread::scope(|scope| {
        let workers: Vec<_> = (0..WORKERS).map(|_| scope.spawn(&work)).collect();
        workers
            .into_iter()
            .map(|worker| worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect()
    })
}
