//! Segments of WAL, as a server under load writes them.

use std::io;
use std::path::{Path, PathBuf};

use fs_err as fs;
use pgark_testkit::{Cluster, give_to_test_user};

use crate::files;
use crate::group::Data;

/// How many segments are archived one by one.
const SEGMENTS: usize = 16;
/// How many wait to be archived: 3 GiB of them.
const WAITING_SEGMENTS: usize = 192;

/// How many small ones wait to be archived: 4 GB of them.
const SMALL_SEGMENTS: usize = 4000;

/// The size of the segments, in MiB. Thousands of them take too much room unless they are small.
pub(super) fn segment_size_mib(data: Data) -> u32 {
    if data == Data::WalMany { 1 } else { 16 }
}

/// How many segments there are to be.
pub(super) fn count(data: Data, quick: bool) -> usize {
    match (data, quick) {
        (Data::WalMany, false) => SMALL_SEGMENTS,
        (Data::WalMany, true) => SMALL_SEGMENTS / 10,
        (Data::WalQueue, false) => WAITING_SEGMENTS,
        (Data::WalQueue, true) => WAITING_SEGMENTS / 10,
        _ => SEGMENTS,
    }
}

/// Has a server write segments of pgbench's tables, which are archived as they are.
pub(super) fn load(cluster: &mut Cluster, directory: &Path, data: Data, quick: bool) -> io::Result<()> {
    let target = segment_directory(directory);
    fs::create_dir(&target)?;
    give_to_test_user(&target);
    cluster.pgbench_init(20);
    cluster.configure("wal_level", "replica");
    cluster.configure("archive_mode", "on");
    cluster.configure("archive_command", &format!("cp %p {}/%f", target.display()));
    cluster.restart();
    let count = count(data, quick);
    for round in 0.. {
        if segments(directory, count)?.len() == count {
            break;
        }
        if data == Data::WalMany {
            // Many rows at once: transactions of a row each would take an hour for as much.
            cluster.sql(&format!(
                "update pgbench_accounts set abalance = abalance + aid % 1000 where aid % 9 = {}",
                round % 9
            ));
        } else {
            cluster.pgbench_run(2, 5000);
        }
        cluster.wait_for_archived(&cluster.switch_wal());
    }
    Ok(())
}

/// The segments, in their order.
pub(super) fn segments(directory: &Path, count: usize) -> io::Result<Vec<PathBuf>> {
    let mut segments = files::regular_files(&segment_directory(directory))?;
    segments.sort();
    segments.truncate(count);
    Ok(segments)
}

fn segment_directory(directory: &Path) -> PathBuf {
    directory.join("segments")
}
